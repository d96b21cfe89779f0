//! Log-probabilities of tokens, from logits.

use std::sync::LazyLock;

use super::elementary::{ONE, SCALE, exp_neg, ln};
use super::{ACTIVATION_BITS, FixedError};

/// Fractional bits of a log-probability, in nat: finer than logits, and coarse enough that a sum over `2^20` tokens
/// stays within 64 bits.
pub const LOG_PROB_BITS: u32 = 24;

/// Most logits of a row; keeps the sum of exponentials at most `2^102`.
pub const MAX_VOCABULARY: usize = 1 << 20;

/// Bits of a distance that the fine table takes.
pub(crate) const FINE_BITS: u32 = 10;
/// Entries of the coarse table, of step `2^(FINE_BITS - 16)`: it spans `[0, 64)`, and `exp(-64)` is below `2^-92`.
pub(crate) const COARSE: usize = 1 << 12;
/// Fractional bits of the coarse table's entries, of which the smallest matter as much as a large vocabulary has them.
const COARSE_SCALE: u32 = 52;
/// Fractional bits of the fine table's entries.
const FINE_SCALE: u32 = 30;
/// Bits of what is left of a logarithm at `2^-25` when both tables have had their share.
pub(crate) const PART_BITS: u32 = 9;
/// One, at the scale of parts.
pub(crate) const PART_ONE: i64 = 1 << (LOG_PROB_BITS + 1);
/// Bits that the coarse table's share of a logarithm is shifted by.
pub(crate) const COARSE_SHIFT: u32 = FINE_BITS + PART_BITS;

/// `round(2^52 exp(-i 2^-6))`
static COARSE_EXP: LazyLock<Vec<u64>> =
    LazyLock::new(|| table(COARSE, ONE >> (ACTIVATION_BITS - FINE_BITS), COARSE_SCALE));
/// `round(2^30 exp(-j 2^-16))`
static FINE_EXP: LazyLock<Vec<u64>> = LazyLock::new(|| table(1 << FINE_BITS, ONE >> ACTIVATION_BITS, FINE_SCALE));

fn table(entries: usize, step: i128, scale: u32) -> Vec<u64> {
    let entry = |i: i128| super::round_shift(exp_neg(i * step), SCALE - scale) as u64;
    (0..entries as i128).map(entry).collect()
}

/// The coarse table's entry; zero past its end.
pub(crate) fn coarse(i: usize) -> u64 {
    COARSE_EXP.get(i).copied().unwrap_or(0)
}

/// The fine table's entry, of a number below `2^10`.
pub(crate) fn fine(j: usize) -> u64 {
    FINE_EXP[j]
}

/// `exp(-t)` at scale `2^-82` for `t >= 0` at scale `2^-16`; zero from 64 on.
fn exp(t: u64) -> u128 {
    u128::from(coarse((t >> FINE_BITS) as usize)) * u128::from(fine(t as usize & ((1 << FINE_BITS) - 1)))
}

/// `exp(-u)` for u at `2^-25`, at scale `2^-107`: by the tables, and linear in what is left, which is off by `2^-33`.
fn falling(u: i64) -> u128 {
    let part = u & ((1 << PART_BITS) - 1);
    exp((u >> PART_BITS) as u64) * (PART_ONE - part) as u128
}

/// Products of a sum and [`falling`] are compared with this power of two times `c_1`, the coarse table's second entry:
/// with one at their scales, a step of the coarse table on.
pub(crate) const BRACKET_SHIFT: u32 = COARSE_SCALE + 2 * FINE_SCALE + LOG_PROB_BITS + 1;

/// The same in two halves.
fn bracket() -> [u128; 2] {
    [u128::from(coarse(1)) << (BRACKET_SHIFT - 128), 0]
}

/// The larger half of a product of two numbers and the smaller.
fn widening(a: u128, b: u128) -> [u128; 2] {
    let low = |x: u128| x & u128::from(u64::MAX);
    let (a, b) = ([low(a), a >> 64], [low(b), b >> 64]);
    let middle = a[0] * b[1] + ((a[0] * b[0]) >> 64);
    let sum = low(middle) + a[1] * b[0];
    [a[1] * b[1] + (middle >> 64) + (sum >> 64), low(a[0] * b[0]) | (sum << 64)]
}

/// A logarithm's place on the tables, a step of the coarse one on.
pub(crate) fn place(logarithm: i64) -> i64 {
    (1 << COARSE_SHIFT) + 2 * logarithm - 1
}

/// The logarithm at `2^-24` of a sum of exponentials at `2^-82`, which is at least one and at most `2^20`: the largest
/// integer L with `sum g(2^19 + 2 L - 1) >= 2^137 c_1`. Half a step is taken off L, so that it is rounded.
pub(crate) fn logarithm(sum: u128) -> i64 {
    let reaches = |logarithm: i64| widening(sum, falling(place(logarithm))) >= bracket();
    // By series, which is off by little: what counts are the products.
    let near = ln((sum >> (COARSE_SCALE + FINE_SCALE - SCALE)) as i128) >> (SCALE - LOG_PROB_BITS);
    let mut logarithm = (near as i64 - 1).max(0);
    while reaches(logarithm + 1) {
        logarithm += 1;
    }
    logarithm
}

/// The sum of the exponentials of a row's logits, less the largest, at `2^-82`.
pub(crate) fn sum_of_exponentials(largest: i64, logits: impl IntoIterator<Item = i64>) -> u128 {
    logits.into_iter().map(|logit| exp(largest.abs_diff(logit))).sum()
}

/// Log-probability of `id` at `2^-24` nat, where `logits` at `2^-16` are one position's. With `m` the largest of them,
///
/// ```text
/// (z_id - m) 2^8 - L,  L the logarithm of sum_j exp(z_j - m), rounded to 2^-24
/// ```
///
/// by tables (`STATEMENT.md`, section 9). It is within `0.52 * 2^-24` of the logarithm of the softmax.
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
    let logarithm = logarithm(sum_of_exponentials(largest, logits.iter().copied()));
    Ok(((own - largest) << (LOG_PROB_BITS - ACTIVATION_BITS)) - logarithm)
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
        assert!((got as f64 - exact).abs() <= 0.52 + exact.abs() * 1e-15, "{got} instead of {exact}");
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
        let expected = "8ea1ce56d5a89761dcbb6e9bfd5b3cb2282c645690088b9015ba90842f9e5c5a";
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

    /// A sealed proof brackets a sum between two values of g: no other logarithm may lie between them.
    #[test]
    fn what_a_sum_is_bracketed_by_falls_strictly_and_then_stays_below() {
        let steps = 1usize << FINE_BITS;
        let at = |i: usize, j: usize, n: i64| falling((((i << FINE_BITS) + j) << PART_BITS) as i64 + n);
        for i in 0..steps {
            for j in 0..steps {
                let (next, last) = (at(i, j + 1, 0), at(i, j, (1 << PART_BITS) - 1));
                assert!(next < last && last < at(i, j, 0), "{i} {j}");
            }
        }
        // From there on, even the largest sum is below.
        assert!(COARSE_EXP.windows(2).all(|pair| pair[1] <= pair[0]));
        let most = widening((MAX_VOCABULARY as u128) << (COARSE_SCALE + FINE_SCALE), at(steps, 0, 0));
        assert!(most < bracket());
    }

    #[test]
    fn logarithms_are_bracketed() {
        let one = 1u128 << (COARSE_SCALE + FINE_SCALE);
        assert_eq!(logarithm(one), 0);
        for (sum, exact) in [(2 * one, 2f64.ln()), (one << 20, 20.0 * 2f64.ln()), (one + (one >> 20), 1e-6)] {
            let got = logarithm(sum);
            assert!((got as f64 - exact * f64::from(1 << LOG_PROB_BITS)).abs() < 1.0, "{got}");
            assert!(widening(sum, falling(place(got))) >= bracket());
            assert!(widening(sum, falling(place(got + 1))) < bracket());
        }
    }

    proptest! {
        #[test]
        fn products_of_both_halves_are_whole(a: u128, b: u128) {
            let [high, low] = widening(a, b);
            let product = num_bigint::BigUint::from(a) * b;
            prop_assert_eq!((num_bigint::BigUint::from(high) << 128) + low, product);
        }
    }
}
