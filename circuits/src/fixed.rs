//! The meaning of every statement: a network's forward pass on integers, the same on every machine.
//!
//! An activation is an integer `x` standing for `x * 2^-16`. There is one rounding rule,
//! `round(a / 2^s) = (a + 2^(s-1)) >> s` (half up), and each operation says where it rounds. Nothing
//! wraps or saturates: a result that leaves its range is a [`FixedError`] naming the site.
//! Floats, files and the order of operations in a network are not known here.

pub mod attention;
pub mod elementary;
pub mod gate;
pub mod graph;
pub mod linear;
pub mod log_prob;
pub mod norm;
#[cfg(test)]
mod oracle;
pub mod rope;

/// Identifier of these semantics, part of the protocol version: whatever changes one result changes it.
pub const SEMANTICS: &str = "ftk-fixed-1";

/// Fractional bits of an activation.
pub const ACTIVATION_BITS: u32 = 16;

/// Magnitudes of linear, norm, attention and gate results, and of linear inputs, stay below `2^WORD_BITS`.
pub const WORD_BITS: u32 = 31;

/// Magnitudes of the residual stream stay below `2^RESIDUAL_BITS`.
pub const RESIDUAL_BITS: u32 = 40;

/// Fractional bits of biases, enough that rounding one never shows beside the rounding of an output.
pub const BIAS_BITS: u32 = 32;

/// Magnitudes of biases stay below `2^BIAS_LIMIT_BITS`, which is `2^15` before scaling: what an output may be.
pub const BIAS_LIMIT_BITS: u32 = BIAS_BITS + WORD_BITS - ACTIVATION_BITS;

/// Why a forward pass has no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FixedError {
    /// A magnitude reaches a power of two it must stay below.
    #[error("{what} {entry} reaches 2^{bits} at site: {site}")]
    Overflow {
        /// What overflows: `input`, `output`, ...
        what: &'static str,
        /// Where.
        site: String,
        /// Row-major index of the entry.
        entry: usize,
        /// The exponent of the bound.
        bits: u32,
    },
    /// An exact delta larger than any adapter of the stated rank can produce.
    #[error("delta {entry} exceeds rank * d_in * 2^61 at site: {site}")]
    Delta {
        /// Where.
        site: String,
        /// Row-major index of the entry.
        entry: usize,
    },
    /// Slices that do not fill the shapes of the operation.
    #[error("{what} does not fit the shape of site: {site}")]
    Shape {
        /// Which operand.
        what: &'static str,
        /// Where.
        site: String,
    },
    /// A constant of the network outside the range the semantics are defined for.
    #[error("{what} outside the supported range at site: {site}")]
    Parameter {
        /// Which constant.
        what: &'static str,
        /// Where.
        site: String,
    },
}

impl FixedError {
    pub(crate) fn overflow(what: &'static str, site: &str, entry: usize, bits: u32) -> Self {
        Self::Overflow { what, site: site.to_owned(), entry, bits }
    }

    fn shape(what: &'static str, site: &str) -> Self {
        Self::Shape { what, site: site.to_owned() }
    }

    fn parameter(what: &'static str, site: &str) -> Self {
        Self::Parameter { what, site: site.to_owned() }
    }

    pub(crate) fn require(fits: bool, what: &'static str, site: &str) -> Result<(), Self> {
        if fits { Ok(()) } else { Err(Self::shape(what, site)) }
    }
}

/// `round(value / 2^shift)` for `1 <= shift <= 126`; `|value| + 2^(shift-1)` must fit 127 bits.
pub(crate) fn round_shift(value: i128, shift: u32) -> i128 {
    (value + (1 << (shift - 1))) >> shift
}

/// [`round_shift`] in 64 bits, for `0 <= shift <= 30` and `|value| <= 2^62`.
fn round_shift_64(value: i64, shift: u32) -> i64 {
    match shift {
        0 => value,
        _ => (value + (1 << (shift - 1))) >> shift,
    }
}

/// `value * factor`, both of which have a sign and whose product must fit 127 bits. The processor has products of 64 bits:
/// of a wider factor, the check of the compiler would cost more than all the rest.
pub(crate) fn times(value: i128, factor: i64) -> i128 {
    let (high, low) = ((value >> 64) as i64, value as u64);
    ((i128::from(high) * i128::from(factor)) << 64) + i128::from(low) * i128::from(factor)
}

/// `value` as an activation below `2^WORD_BITS`.
fn word(value: i128, site: &str, entry: usize) -> Result<i64, FixedError> {
    if value.unsigned_abs() >> WORD_BITS != 0 {
        return Err(FixedError::overflow("output", site, entry, WORD_BITS));
    }
    Ok(value as i64)
}

/// Biases of a site's `features` outputs, at scale `2^-32`.
fn check_bias(site: &str, bias: &[i64], features: usize) -> Result<(), FixedError> {
    FixedError::require(bias.len() == features, "bias", site)?;
    match bias.iter().position(|bias| bias.unsigned_abs() >> BIAS_LIMIT_BITS != 0) {
        Some(entry) => Err(FixedError::overflow("bias", site, entry, BIAS_LIMIT_BITS)),
        None => Ok(()),
    }
}

/// Activations as 32-bit integers: what linear sites and attention take.
///
/// # Errors
/// [`FixedError::Overflow`] at the first magnitude that reaches `2^31`.
pub fn words(site: &str, values: &[i64]) -> Result<Vec<i32>, FixedError> {
    if !within(values, WORD_BITS) {
        let first = values.iter().position(|value| value.unsigned_abs() >> WORD_BITS != 0);
        return Err(FixedError::overflow("input", site, first.expect("one of them is not within"), WORD_BITS));
    }
    Ok(values.iter().map(|&value| value as i32).collect())
}

/// Whether all magnitudes are below a power of two: by a loop that does not stop at the first, and so takes several at a
/// time.
fn within(values: &[i64], bits: u32) -> bool {
    values.iter().fold(0, |all, value| all | value.unsigned_abs()) >> bits == 0
}

/// `x + y`, exactly: the residual stream is never rounded.
///
/// # Errors
/// [`FixedError::Overflow`] at the first sum that reaches `2^40`, [`FixedError::Shape`] if lengths differ.
pub fn add(site: &str, x: &[i64], y: &[i64]) -> Result<Vec<i64>, FixedError> {
    FixedError::require(x.len() == y.len(), "second term", site)?;
    // Two such have a sum within 64 bits.
    const SUMMED: u32 = 62;
    if within(x, SUMMED) && within(y, SUMMED) {
        let sums: Vec<i64> = x.iter().zip(y).map(|(x, y)| x.wrapping_add(*y)).collect();
        if within(&sums, RESIDUAL_BITS) {
            return Ok(sums);
        }
    }
    // One of them is too large: which, and of what.
    let sum = |(entry, (&x, &y)): (usize, (&i64, &i64))| match x.checked_add(y) {
        Some(sum) if sum.unsigned_abs() >> RESIDUAL_BITS == 0 => Ok(sum),
        _ => Err(FixedError::overflow("sum", site, entry, RESIDUAL_BITS)),
    };
    x.iter().zip(y).enumerate().map(sum).collect()
}

/// Index of the largest logit; of equal ones the lowest index. `None` if there are no logits.
pub fn greedy(logits: &[i64]) -> Option<u32> {
    let largest = logits.iter().max()?;
    logits.iter().position(|logit| logit == largest).and_then(|index| u32::try_from(index).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_overflow_at_their_limit_and_not_before() {
        let limit = 1i64 << RESIDUAL_BITS;
        assert_eq!(add("s", &[limit - 2, 2 - limit], &[1, -1]), Ok(vec![limit - 1, 1 - limit]));
        let error = add("s", &[0, limit - 1], &[0, 1]).unwrap_err();
        assert_eq!(error, FixedError::overflow("sum", "s", 1, 40));
        assert_eq!(error.to_string(), "sum 1 reaches 2^40 at site: s");
        assert_eq!(add("s", &[i64::MIN], &[-1]), Err(FixedError::overflow("sum", "s", 0, 40)));
        assert_eq!(add("s", &[0], &[]), Err(FixedError::shape("second term", "s")));
    }

    #[test]
    fn words_overflow_at_their_limit_and_not_before() {
        assert_eq!(words("s", &[i32::MAX.into(), -i64::from(i32::MAX)]), Ok(vec![i32::MAX, -i32::MAX]));
        for value in [1i64 << 31, -(1i64 << 31)] {
            assert_eq!(words("s", &[0, value]), Err(FixedError::overflow("input", "s", 1, 31)));
        }
    }

    #[test]
    fn ties_go_to_the_lowest_index() {
        assert_eq!(greedy(&[-3, 7, 7, 1]), Some(1));
        assert_eq!(greedy(&[]), None);
    }
}
