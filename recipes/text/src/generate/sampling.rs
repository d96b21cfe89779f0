//! How a token is drawn. Probabilities are computed in binary64 by `libm`, in a fixed order, and what is drawn is a
//! function of seed and place: equal logits give equal tokens on every processor.

use std::cmp::Ordering;

use rayon::prelude::*;

/// How tokens are drawn. What is left out is left out in this order, as transformers does it: by `top_k`, then by `top_p`
/// of what is left, then by `min_p`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    temperature: f64,
    top_k: usize,
    top_p: f64,
    min_p: f64,
    seed: u64,
}

/// A number that says nothing.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum SamplingError {
    /// Logits are divided by it.
    #[error("the temperature must be above 0: {0}")]
    Temperature(f64),
    /// A share of all probability.
    #[error("top_p must be above 0 and at most 1: {0}")]
    TopP(f64),
    /// A share of the largest probability.
    #[error("min_p must be at least 0 and below 1: {0}")]
    MinP(f64),
}

/// The token of an answer that is to be drawn. Each has randomness of its own, whatever else is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenPlace {
    /// Number of the prompt.
    pub prompt: usize,
    /// Number of the answer to it.
    pub sample: usize,
    /// Number of the token in the answer.
    pub token: usize,
}

impl Sampling {
    /// Draws from all tokens, with logits divided by the temperature.
    ///
    /// # Errors
    /// [`SamplingError::Temperature`].
    pub fn new(temperature: f64, seed: u64) -> Result<Self, SamplingError> {
        if !(temperature > 0.0 && temperature.is_finite()) {
            return Err(SamplingError::Temperature(temperature));
        }
        Ok(Self { temperature, top_k: usize::MAX, top_p: 1.0, min_p: 0.0, seed })
    }

    /// Draws from so many of the most likely tokens (Fan et al. 2018), one at least.
    #[must_use]
    pub fn top_k(self, top_k: usize) -> Self {
        Self { top_k: top_k.max(1), ..self }
    }

    /// Draws from the fewest of the most likely tokens that have this share of the probability together (Holtzman et
    /// al. 2020).
    ///
    /// # Errors
    /// [`SamplingError::TopP`].
    pub fn top_p(self, top_p: f64) -> Result<Self, SamplingError> {
        let valid = top_p > 0.0 && top_p <= 1.0;
        if valid { Ok(Self { top_p, ..self }) } else { Err(SamplingError::TopP(top_p)) }
    }

    /// Draws from the tokens that have at least this share of the largest probability (Nguyen et al. 2024).
    ///
    /// # Errors
    /// [`SamplingError::MinP`].
    pub fn min_p(self, min_p: f64) -> Result<Self, SamplingError> {
        let valid = (0.0..1.0).contains(&min_p);
        if valid { Ok(Self { min_p, ..self }) } else { Err(SamplingError::MinP(min_p)) }
    }

    /// The token at a place, given the logits of all.
    pub fn token(&self, logits: &[f32], place: TokenPlace) -> u32 {
        self.at(logits, self.share(place))
    }

    /// A number in [0, 1): 53 bits of BLAKE3 of seed and place.
    fn share(&self, TokenPlace { prompt, sample, token }: TokenPlace) -> f64 {
        let mut hash = blake3::Hasher::new_derive_key("ftk drawn token");
        for part in [self.seed, prompt as u64, sample as u64, token as u64] {
            hash.update(&part.to_le_bytes());
        }
        let bits = hash.finalize().as_bytes().first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        (bits >> 11) as f64 / (1u64 << 53) as f64
    }

    /// The token at that share of the probability that is drawn from, the most likely one first, of equally likely ones
    /// that of the lowest id.
    fn at(&self, logits: &[f32], share: f64) -> u32 {
        let mut ranked = RankedIds::new(logits);
        let largest = f64::from(logits[ranked.id(0)]);
        let weight = |id: usize| libm::exp((f64::from(logits[id]) - largest) / self.temperature);
        let mut count = self.top_k.min(logits.len());
        let mut total: f64 = if count < logits.len() {
            (0..count).map(|rank| weight(ranked.id(rank))).sum()
        } else {
            // The order of ids, chunk by chunk: sorting all of them would take longer than everything else.
            let parts = logits.par_chunks(CHUNK).enumerate();
            let sum = |(chunk, part): (usize, &[f32])| (0..part.len()).map(|at| weight(chunk * CHUNK + at)).sum();
            parts.map(sum).collect::<Vec<f64>>().into_iter().sum()
        };
        if self.top_p < 1.0 || self.min_p > 0.0 {
            let (wanted, mut kept, mut rank) = (self.top_p * total, 0.0, 0);
            while rank < count {
                let next = weight(ranked.id(rank));
                // The one that reaches the share is kept, too.
                if (self.top_p < 1.0 && kept >= wanted) || next < self.min_p {
                    break;
                }
                kept += next;
                rank += 1;
            }
            (count, total) = (rank.max(1), kept);
        }
        let (wanted, mut sum, mut drawn) = (share * total, 0.0, 0);
        for rank in 0..count {
            let next = weight(ranked.id(rank));
            // Rounding may leave the sum of all below what is wanted: the last one that can be drawn is.
            if next == 0.0 {
                break;
            }
            drawn = rank;
            sum += next;
            if sum > wanted {
                break;
            }
        }
        ranked.id(drawn) as u32
    }
}

/// Logits whose weights are added up at a time.
const CHUNK: usize = 1 << 13;

/// How many ids are put in order at first; each time more are asked for, eight times as many.
const FIRST: usize = 64;

/// Ids from the likeliest to the least likely, ties by id, put in order as far as they are asked for.
struct RankedIds<'a> {
    logits: &'a [f32],
    ids: Vec<u32>,
    sorted: usize,
}

impl<'a> RankedIds<'a> {
    fn new(logits: &'a [f32]) -> Self {
        assert!(!logits.is_empty(), "there must be a token");
        Self { logits, ids: (0..logits.len() as u32).collect(), sorted: 0 }
    }

    fn id(&mut self, rank: usize) -> usize {
        while rank >= self.sorted {
            let to = (8 * self.sorted).max(FIRST).min(self.ids.len());
            let count = to - self.sorted;
            let logits = self.logits;
            let order =
                |a: &u32, b: &u32| -> Ordering { logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b)) };
            let rest = &mut self.ids[self.sorted..];
            if count < rest.len() {
                rest.select_nth_unstable_by(count - 1, order);
            }
            rest[..count].sort_unstable_by(order);
            self.sorted = to;
        }
        self.ids[rank] as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Odds of 1, 2, 0 and 5.
    fn logits() -> [f32; 4] {
        [0.0, 2f32.ln(), f32::NEG_INFINITY, 5f32.ln()]
    }

    fn all(temperature: f64) -> Sampling {
        Sampling::new(temperature, 7).unwrap()
    }

    #[test]
    fn tokens_are_drawn_as_often_as_they_are_likely() {
        let mut counts = [0usize; 4];
        for token in 0..80_000 {
            counts[all(1.0).token(&logits(), TokenPlace { prompt: 2, sample: 3, token }) as usize] += 1;
        }
        for (count, expected) in counts.iter().zip([10_000.0, 20_000.0, 0.0, 50_000.0]) {
            assert!((*count as f64 - expected).abs() < 500.0, "{counts:?}");
        }
        // At half the temperature, odds are squared: 25 of 30.
        assert_eq!(all(0.5).at(&logits(), 0.83), 3);
        assert_eq!(all(0.5).at(&logits(), 0.84), 1);
    }

    #[test]
    fn the_least_likely_tokens_are_left_out() {
        // 5 of 8, then 7 of 8.
        for (top_p, last) in [(0.01, 3), (0.62, 3), (0.63, 1), (0.87, 1), (0.88, 0), (1.0, 0)] {
            let sampling = all(1.0).top_p(top_p).unwrap();
            assert_eq!(sampling.at(&logits(), 0.999_999), last, "top_p {top_p}");
            assert_eq!(sampling.at(&logits(), 0.0), 3, "top_p {top_p}");
        }
        for (top_k, last) in [(0, 3), (1, 3), (2, 1), (3, 0), (4, 0), (9, 0)] {
            assert_eq!(all(1.0).top_k(top_k).at(&logits(), 0.999_999), last, "top_k {top_k}");
        }
        for (min_p, last) in [(0.0, 0), (0.19, 0), (0.21, 1), (0.39, 1), (0.41, 3)] {
            assert_eq!(all(1.0).min_p(min_p).unwrap().at(&logits(), 0.999_999), last, "min_p {min_p}");
        }
        // Of the two likeliest, 5 of 7 is 0.71: top_p is a share of what top_k left.
        for (top_p, last) in [(0.71, 3), (0.72, 1)] {
            assert_eq!(all(1.0).top_k(2).top_p(top_p).unwrap().at(&logits(), 0.999_999), last, "{top_p}");
        }
        assert_eq!(all(1.0).top_k(1).at(&[1.0, 1.0], 0.3), 0, "the lowest id first");
    }

    #[test]
    fn sorting_as_far_as_needed_draws_what_sorting_all_does() {
        // Many ties, and more ids than are sorted at first.
        let logits: Vec<f32> = (0..20_000u32).map(|id| (id.wrapping_mul(2_654_435_761) >> 22) as f32 / 100.0).collect();
        let mut order: Vec<u32> = (0..20_000).collect();
        order.sort_by(|&a, &b| logits[b as usize].total_cmp(&logits[a as usize]).then(a.cmp(&b)));
        let largest = f64::from(logits[order[0] as usize]);
        let weights: Vec<f64> =
            order.iter().map(|&id| libm::exp((f64::from(logits[id as usize]) - largest) / 2.0)).collect();
        let total: f64 = weights.iter().sum();
        for share in [0.0, 0.1, 0.5, 0.9, 0.999, 0.999_999] {
            let mut sum = 0.0;
            let rank = weights.iter().position(|weight| {
                sum += weight;
                sum > share * total
            });
            assert_eq!(all(2.0).at(&logits, share), order[rank.unwrap()], "{share}");
        }
    }

    #[test]
    fn every_part_of_a_place_and_the_seed_changes_what_is_drawn() {
        let place = TokenPlace { prompt: 1, sample: 1, token: 1 };
        let others =
            [TokenPlace { prompt: 0, ..place }, TokenPlace { sample: 0, ..place }, TokenPlace { token: 0, ..place }];
        let mut shares: Vec<f64> = others.into_iter().chain([place]).map(|place| all(1.0).share(place)).collect();
        shares.push(Sampling::new(1.0, 8).unwrap().share(place));
        shares.sort_by(f64::total_cmp);
        assert!(
            shares.windows(2).all(|pair| pair[0] != pair[1]) && shares.iter().all(|share| (0.0..1.0).contains(share))
        );
        // What the derivation is, once and for all: answers that were published can be drawn again.
        assert_eq!(all(1.0).share(place), 0.365_034_136_915_897_7);
    }

    #[test]
    fn numbers_that_say_nothing_are_refused() {
        for temperature in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(matches!(Sampling::new(temperature, 0), Err(SamplingError::Temperature(_))), "{temperature}");
        }
        for top_p in [0.0, 1.1, f64::NAN] {
            assert!(matches!(all(1.0).top_p(top_p), Err(SamplingError::TopP(_))), "{top_p}");
        }
        for min_p in [-0.1, 1.0, f64::NAN] {
            assert!(matches!(all(1.0).min_p(min_p), Err(SamplingError::MinP(_))), "{min_p}");
        }
    }
}
