//! Field elements and small integers.
//!
//! A product of field elements takes a reduction; in a sum of field elements times integers, of which folding the rows
//! consists, one is made per sum.

use ff::{Field, FromUniformBytes, PrimeField};
use pasta_curves::Fp;
use rayon::prelude::*;

/// A field element as an integer below p, least significant limb first.
type Limbs = [u64; 4];

/// The field element of a signed integer.
pub(crate) fn signed(value: i128) -> Fp {
    let magnitude = Fp::from_u128(value.unsigned_abs());
    if value < 0 { -magnitude } else { magnitude }
}

/// `base^0 .. base^(count-1)`
pub(crate) fn powers(base: Fp, count: usize) -> Vec<Fp> {
    std::iter::successors(Some(Fp::ONE), |power| Some(*power * base)).take(count).collect()
}

/// Field elements by which integers are weighed.
#[derive(Clone, Debug)]
pub(crate) struct LimbWeights(Vec<Limbs>);

impl LimbWeights {
    pub(crate) fn new(weights: &[Fp]) -> Self {
        let limbs = |weight: &Fp| {
            let repr = weight.to_repr();
            let (limbs, _) = repr.as_chunks::<8>();
            std::array::from_fn(|i| u64::from_le_bytes(limbs[i]))
        };
        Self(weights.iter().map(limbs).collect())
    }

    /// `sum_i weight_i value_i` for at most as many values as weights, and fewer than 2^64.
    pub(crate) fn dot(&self, values: impl Iterator<Item = i128>) -> Fp {
        let mut sums = [WideSum::default(); 2];
        for (weight, value) in self.0.iter().zip(values) {
            sums[usize::from(value < 0)].add(weight, value.unsigned_abs());
        }
        sums[0].reduce() - sums[1].reduce()
    }

    /// [`LimbWeights::dot`] of each column of a matrix with one row per weight.
    pub(crate) fn combine_rows(&self, rows: &[i64], width: usize) -> Vec<Fp> {
        let mut sums = vec![[WideSum::default(); 2]; width];
        for (weight, row) in self.0.iter().zip(rows.chunks_exact(width)) {
            for (sum, value) in sums.iter_mut().zip(row) {
                sum[usize::from(*value < 0)].add_word(weight, value.unsigned_abs());
            }
        }
        sums.iter().map(|[plus, minus]| plus.reduce() - minus.reduce()).collect()
    }
}

impl LimbWeights {
    /// The same of a matrix of weights, on all cores.
    pub(crate) fn combine_weights(&self, rows: &[i16], width: usize) -> Vec<Fp> {
        const BLOCK: usize = 128;
        let block = |first: usize| {
            let columns = first..width.min(first + BLOCK);
            let mut sums = vec![[WideSum::default(); 2]; columns.len()];
            for (weight, row) in self.0.iter().zip(rows.chunks_exact(width)) {
                for (sum, value) in sums.iter_mut().zip(&row[columns.clone()]) {
                    sum[usize::from(*value < 0)].add_word(weight, value.unsigned_abs().into());
                }
            }
            sums.into_iter().map(|[plus, minus]| plus.reduce() - minus.reduce()).collect::<Vec<Fp>>()
        };
        (0..width.div_ceil(BLOCK)).into_par_iter().flat_map_iter(|at| block(at * BLOCK)).collect()
    }
}

/// Sums of columns of small integers, each with a weight.
#[derive(Clone, Debug, Default)]
pub(crate) struct SmallSums(Vec<[WideSum; 2]>);

impl SmallSums {
    /// Adds a column times its weight; fewer than 2^64 of them.
    pub(crate) fn add(&mut self, weight: &Fp, column: &[i32]) {
        let LimbWeights(limbs) = LimbWeights::new(std::slice::from_ref(weight));
        self.0.resize(self.0.len().max(column.len()), Default::default());
        for (sum, value) in self.0.iter_mut().zip(column) {
            if *value != 0 {
                sum[usize::from(*value < 0)].add_word(&limbs[0], value.unsigned_abs().into());
            }
        }
    }

    pub(crate) fn finish(self) -> Vec<Fp> {
        self.0.into_iter().map(|[plus, minus]| plus.reduce() - minus.reduce()).collect()
    }
}

/// A sum below 2^512 of products.
#[derive(Clone, Copy, Debug, Default)]
struct WideSum([u64; 8]);

impl WideSum {
    fn add_word(&mut self, weight: &Limbs, value: u64) {
        self.add_at(0, weight, value);
    }

    fn add(&mut self, weight: &Limbs, value: u128) {
        self.add_at(0, weight, value as u64);
        let high = (value >> 64) as u64;
        if high != 0 {
            self.add_at(1, weight, high);
        }
    }

    /// Adds `weight * value * 2^(64 at)`.
    fn add_at(&mut self, at: usize, weight: &Limbs, value: u64) {
        let mut carry = 0;
        for (limb, weight) in self.0[at..].iter_mut().zip(weight) {
            // (2^64 - 1)^2 + 2 (2^64 - 1) = 2^128 - 1
            let sum = u128::from(*weight) * u128::from(value) + u128::from(*limb) + carry;
            *limb = sum as u64;
            carry = sum >> 64;
        }
        for limb in &mut self.0[at + 4..] {
            if carry == 0 {
                break;
            }
            let sum = u128::from(*limb) + carry;
            *limb = sum as u64;
            carry = sum >> 64;
        }
    }

    fn reduce(&self) -> Fp {
        let mut bytes = [0; 64];
        for (chunk, limb) in bytes.chunks_exact_mut(8).zip(self.0) {
            chunk.copy_from_slice(&limb.to_le_bytes());
        }
        Fp::from_uniform_bytes(&bytes)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng;

    use super::*;

    proptest! {
        #[test]
        fn sums_are_those_of_the_field(seed in any::<u64>(), values in prop::collection::vec(any::<i128>(), 0..20)) {
            let mut generator = ChaCha20Rng::seed_from_u64(seed);
            let mut weights: Vec<Fp> = values.iter().map(|_| Fp::random(&mut generator)).collect();
            if let Some(first) = weights.first_mut() {
                *first = -Fp::ONE;
            }
            let expected: Fp = weights.iter().zip(&values).map(|(weight, value)| *weight * signed(*value)).sum();
            let weighed = LimbWeights::new(&weights);
            prop_assert_eq!(weighed.dot(values.iter().copied()), expected);
            let words: Vec<i64> = values.iter().flat_map(|value| [*value as i64, (*value >> 36) as i64]).collect();
            let column = |at: usize| -> Fp {
                let column = words.iter().skip(at).step_by(2);
                weights.iter().zip(column).map(|(weight, value)| *weight * signed((*value).into())).sum()
            };
            prop_assert_eq!(weighed.combine_rows(&words, 2), [column(0), column(1)]);
            let small: Vec<i16> = words.iter().map(|word| *word as i16).collect();
            let words: Vec<i64> = small.iter().copied().map(i64::from).collect();
            prop_assert_eq!(weighed.combine_weights(&small, 2), weighed.combine_rows(&words, 2));
        }
    }
}
