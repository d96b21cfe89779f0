//! Log-probabilities of tokens, from logits.

use std::sync::LazyLock;

use super::elementary::{ONE, SCALE, exp_neg, ln, mul};
use super::{ACTIVATION_BITS, FixedError, round_shift};

/// Fractional bits of a log-probability, in nat: finer than logits, and coarse enough that a sum over `2^20` tokens
/// stays within 64 bits.
pub const LOG_PROB_BITS: u32 = 24;

/// Most logits of a row; keeps the sum of exponentials below `2^80`.
pub const MAX_VOCABULARY: usize = 1 << 20;

/// Bits of a distance that the fine table takes.
const FINE_BITS: u32 = 10;
/// Entries of the coarse table, of step `2^(FINE_BITS - 16)`: it spans `[0, 64)`, and `exp(-64)` is below `2^-92`.
const COARSE: usize = 1 << 12;

/// `exp(-i 2^-6)` at scale `2^-60`.
static COARSE_EXP: LazyLock<Vec<i128>> = LazyLock::new(|| table(COARSE, ONE >> (ACTIVATION_BITS - FINE_BITS)));
/// `exp(-i 2^-16)` at scale `2^-60`.
static FINE_EXP: LazyLock<Vec<i128>> = LazyLock::new(|| table(1 << FINE_BITS, ONE >> ACTIVATION_BITS));

fn table(entries: usize, step: i128) -> Vec<i128> {
    (0..entries as i128).map(|i| exp_neg(i * step)).collect()
}

/// `exp(-t)` at scale `2^-60` for `t >= 0` at scale `2^-16`; zero from 64 on.
fn exp(t: u64) -> i128 {
    match COARSE_EXP.get((t >> FINE_BITS) as usize) {
        Some(&coarse) => mul(coarse, FINE_EXP[t as usize & ((1 << FINE_BITS) - 1)]),
        None => 0,
    }
}

/// Log-probability of `id` at `2^-24` nat, where `logits` at `2^-16` are one position's. With `m` the largest of them,
///
/// ```text
/// (z_id - m) 2^8 - round(ln(sum_j exp(z_j - m)) / 2^36)
/// ```
///
/// where the sum and its logarithm are at `2^-60`. It is within `0.51 * 2^-24` of the logarithm of the softmax.
///
/// # Errors
/// [`FixedError::Shape`] if there is no such id or there are more than `2^20` logits, [`FixedError::Overflow`] if one
/// of them reaches `2^31`.
pub fn log_prob(site: &str, logits: &[i64], id: u32) -> Result<i64, FixedError> {
    FixedError::require(logits.len() <= MAX_VOCABULARY, "vocabulary", site)?;
    let own = *logits.get(id as usize).ok_or_else(|| FixedError::shape("token id", site))?;
    if let Some(entry) = logits.iter().position(|logit| logit.unsigned_abs() >> super::WORD_BITS != 0) {
        return Err(FixedError::overflow("logit", site, entry, super::WORD_BITS));
    }
    let largest = logits.iter().copied().max().unwrap_or(own);
    let sum: i128 = logits.iter().map(|logit| exp(largest.abs_diff(*logit))).sum();
    // The largest logit's exponential is one, so the sum is at least one.
    let normaliser = round_shift(ln(sum), SCALE - LOG_PROB_BITS) as i64;
    Ok(((own - largest) << (LOG_PROB_BITS - ACTIVATION_BITS)) - normaliser)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Logarithm of the softmax in doubles, whose error is far below `2^-24`.
    fn reference(logits: &[i64], id: usize) -> f64 {
        let real = |logit: i64| logit as f64 / f64::from(1 << ACTIVATION_BITS);
        let largest = real(*logits.iter().max().unwrap());
        let sum: f64 = logits.iter().map(|&logit| (real(logit) - largest).exp()).sum();
        real(logits[id]) - largest - sum.ln()
    }

    fn close(logits: &[i64], id: usize) {
        let unit = f64::from(1 << LOG_PROB_BITS);
        let got = log_prob("head", logits, id as u32).unwrap();
        let exact = reference(logits, id) * unit;
        // A double holds numbers of this size to about 2^-53 of them.
        assert!((got as f64 - exact).abs() <= 0.51 + exact.abs() * 1e-15, "{got} instead of {exact}");
    }

    proptest! {
        #[test]
        fn log_probabilities_agree_with_doubles(
            bits in 1u32..31, logits in prop::collection::vec(-(1i64 << 31) + 1..1i64 << 31, 1..300), pick: prop::sample::Index,
        ) {
            let logits: Vec<i64> = logits.into_iter().map(|logit| logit >> (31 - bits)).collect();
            close(&logits, pick.index(logits.len()));
        }
    }

    #[test]
    fn the_bound_holds_for_a_large_vocabulary() {
        // Distances over the whole range of the tables, each many times, and all alike.
        let spread: Vec<i64> = (0..MAX_VOCABULARY as i64).map(|i| -(i * 2_654_435_761 % (70 << 16))).collect();
        close(&spread, 1);
        let alike = vec![-5 << 16; MAX_VOCABULARY];
        close(&alike, 77);
        let largest = (1i64 << 31) - 1;
        close(&[largest, -largest], 1);
    }

    #[test]
    fn one_logit_is_certain_and_equal_ones_share() {
        assert_eq!(log_prob("head", &[-7], 0), Ok(0));
        let half = log_prob("head", &[3, 3], 1).unwrap();
        assert_eq!(half, -(2f64.ln() * f64::from(1 << LOG_PROB_BITS)).round() as i64);
    }

    #[test]
    fn exponentials_are_pinned() {
        let bytes: Vec<u8> = (0..1u64 << 16).flat_map(|t| exp(t * 67).to_le_bytes()).collect();
        let expected = "4565ef7110c0470449d364989d8e621502e82ea85887293d3254d8ab3a4583a4";
        assert_eq!(blake3::hash(&bytes).to_hex().as_str(), expected);
    }

    #[test]
    fn logits_outside_their_range_are_refused() {
        assert_eq!(log_prob("head", &[0, 1 << 31], 0), Err(FixedError::overflow("logit", "head", 1, 31)));
        assert_eq!(log_prob("head", &[0, i64::MIN], 0), Err(FixedError::overflow("logit", "head", 1, 31)));
        assert_eq!(log_prob("head", &[0, 1], 2), Err(FixedError::shape("token id", "head")));
        assert_eq!(log_prob("head", &[], 0), Err(FixedError::shape("token id", "head")));
        let many = vec![0; MAX_VOCABULARY + 1];
        assert_eq!(log_prob("head", &many, 0), Err(FixedError::shape("vocabulary", "head")));
    }
}
