//! From floats to integers times a power of two, by exact bit arithmetic: no float operation is
//! used whose result could depend on a machine or a compiler.
//!
//! There is one rounding rule, half up: `round(x) = floor(x + 1/2)`.

use rayon::prelude::*;

/// Largest power of two a grid may scale by. Entries below `2^-15` lose bits; an all-zero tensor gets this shift.
pub const MAX_SHIFT: u32 = 30;

/// Largest magnitude of a 16-bit entry: the range is symmetric, so that `-q` is an entry if `q` is.
pub const MAX_16: i64 = i16::MAX as i64;

/// Largest magnitude of a norm weight's integer: the 24 significant bits of an `f32`.
pub const MAX_24: i64 = (1 << 24) - 1;

/// A number that has no place on the grid asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GridError {
    /// NaN or an infinity.
    #[error("not a finite number at index: {0}")]
    NotFinite(usize),
    /// Larger than the largest integer even at the coarsest scale.
    #[error("too large for the grid at index: {0}")]
    TooLarge(usize),
}

/// A finite float as `mantissa * 2^exponent`, exactly.
///
/// Returns `None` for NaN and infinities.
pub fn decompose(value: f64) -> Option<(i64, i32)> {
    const FRACTION_BITS: u32 = 52;
    let bits = value.to_bits();
    let fraction = (bits & ((1 << FRACTION_BITS) - 1)) as i64;
    let exponent = ((bits >> FRACTION_BITS) & 0x7ff) as i32;
    // Subnormals have no implicit leading bit and the exponent of the smallest normal number.
    let (magnitude, exponent) = match exponent {
        0x7ff => return None,
        0 => (fraction, 1),
        normal => (fraction | (1 << FRACTION_BITS), normal),
    };
    let signed = if bits >> 63 == 1 { -magnitude } else { magnitude };
    Some((signed, exponent - 1075))
}

/// `round(value * 2^shift)` if its magnitude is at most `limit`.
///
/// # Errors
/// [`GridError`] with index 0.
pub fn round(value: f64, shift: u32, limit: i64) -> Result<i64, GridError> {
    let (mantissa, exponent) = decompose(value).ok_or(GridError::NotFinite(0))?;
    let exponent = exponent + shift as i32;
    let rounded = match exponent {
        _ if mantissa == 0 => 0,
        // A mantissa has 53 bits: with 64 more no 64-bit limit can hold it, with 64 fewer it rounds to zero.
        64.. => return Err(GridError::TooLarge(0)),
        0..=63 => i128::from(mantissa) << exponent,
        -63..=-1 => (i128::from(mantissa) + (1 << (-exponent - 1))) >> -exponent,
        _ => 0,
    };
    if rounded.unsigned_abs() > limit.unsigned_abs().into() {
        return Err(GridError::TooLarge(0));
    }
    i64::try_from(rounded).map_err(|_| GridError::TooLarge(0))
}

/// Largest shift in `0..=MAX_SHIFT` at which every `round(value * 2^shift)` is at most `limit` in magnitude.
///
/// # Errors
/// [`GridError`] with the first offending index, if shift 0 does not fit.
pub fn shift_within(values: &[f32], limit: i64) -> Result<u32, GridError> {
    if let Some(index) = values.iter().position(|value| !value.is_finite()) {
        return Err(GridError::NotFinite(index));
    }
    // Rounding is monotone: what fits the extremes fits all.
    let index = |better: fn(f32, f32) -> bool| {
        (0..values.len()).reduce(|best, next| if better(values[next], values[best]) { next } else { best })
    };
    let mut shift = MAX_SHIFT;
    for index in [index(|a, b| a > b), index(|a, b| a < b)].into_iter().flatten() {
        while round(values[index].into(), shift, limit).is_err() {
            shift = shift.checked_sub(1).ok_or(GridError::TooLarge(index))?;
        }
    }
    Ok(shift)
}

/// `round(value * 2^shift)` of every value.
///
/// # Errors
/// [`GridError`] with the first offending index.
fn round_all<T: TryFrom<i64>>(values: &[f32], shift: u32, limit: i64) -> Result<Vec<T>, GridError> {
    // Exact in f64: scaling by a power of two moves the exponent only, and next to 1/2 the 24 bits of an f32 either
    // fit the 53 of the sum or are too small to reach an integer.
    let scale = f64::from(1u32 << shift);
    let entry = |(index, &value): (usize, &f32)| {
        let rounded = (f64::from(value) * scale + 0.5).floor();
        if !rounded.is_finite() {
            return Err(GridError::NotFinite(index));
        }
        if rounded.abs() > limit as f64 {
            return Err(GridError::TooLarge(index));
        }
        T::try_from(rounded as i64).map_err(|_| GridError::TooLarge(index))
    };
    values.iter().enumerate().map(entry).collect()
}

/// 16-bit entries and their shift: `values[i]` is nearest to `entries[i] * 2^-shift`.
///
/// # Errors
/// [`GridError`] with the first offending index.
pub fn quantise_16(values: &[f32]) -> Result<(Vec<i16>, u32), GridError> {
    let shift = shift_within(values, MAX_16)?;
    Ok((round_all(values, shift, MAX_16)?, shift))
}

/// [`quantise_16`] of each row of `(rows, width)`, each with its own shift.
///
/// # Errors
/// [`GridError`] with the first offending index of the whole tensor.
///
/// # Panics
/// If `width` is zero or does not divide the number of values.
pub fn quantise_16_rows(values: &[f32], width: usize) -> Result<(Vec<i16>, Vec<u8>), GridError> {
    assert!(width > 0 && values.len().is_multiple_of(width), "rows must fill the tensor");
    let row = |(row, values): (usize, &[f32])| {
        let (entries, shift) = quantise_16(values).map_err(|error| match error {
            GridError::NotFinite(column) => GridError::NotFinite(row * width + column),
            GridError::TooLarge(column) => GridError::TooLarge(row * width + column),
        })?;
        Ok((entries, shift as u8))
    };
    let rows = values.par_chunks_exact(width).enumerate().map(row).collect::<Result<Vec<_>, _>>()?;
    let shifts = rows.iter().map(|&(_, shift)| shift).collect();
    Ok((rows.into_iter().flat_map(|(entries, _)| entries).collect(), shifts))
}

/// Entries of up to 24 bits and their shift, for norm weights: the largest weight keeps all its bits.
///
/// # Errors
/// [`GridError`] with the first offending index.
pub fn quantise_24(values: &[f32]) -> Result<(Vec<i32>, u32), GridError> {
    let shift = shift_within(values, MAX_24)?;
    Ok((round_all(values, shift, MAX_24)?, shift))
}

/// `round(value * 2^shift)` as 32-bit integers, for activations and embedding tables.
///
/// # Errors
/// [`GridError`] with the first offending index.
pub fn fixed_32(values: &[f32], shift: u32) -> Result<Vec<i32>, GridError> {
    round_all(values, shift, i32::MAX.into())
}

/// `round(value * 2^shift)` as 64-bit integers of magnitude at most `limit`, for biases.
///
/// # Errors
/// [`GridError`] with the first offending index.
pub fn fixed_64(values: &[f32], shift: u32, limit: i64) -> Result<Vec<i64>, GridError> {
    let entry = |(index, &value): (usize, &f32)| {
        round(value.into(), shift, limit).map_err(|error| match error {
            GridError::NotFinite(_) => GridError::NotFinite(index),
            GridError::TooLarge(_) => GridError::TooLarge(index),
        })
    };
    values.iter().enumerate().map(entry).collect()
}

/// `entry * 2^-shift`, exactly: 15 bits fit the mantissa and `shift <= MAX_SHIFT` the exponent of an `f32`.
///
/// # Panics
/// If `shift` exceeds [`MAX_SHIFT`].
pub fn value_16(entry: i16, shift: u32) -> f32 {
    const EXPONENT_BIAS: u32 = 127;
    assert!(shift <= MAX_SHIFT, "a grid has at most MAX_SHIFT fractional bits");
    // Both factors and the product are representable, so this multiplication does not round.
    f32::from(entry) * f32::from_bits((EXPONENT_BIAS - shift) << 23)
}

/// The values moved to the nearest point of their 16-bit grid: what is exported is what is committed.
/// Applying it again changes nothing.
///
/// # Errors
/// [`GridError`] with the first offending index.
pub fn to_grid(values: &[f32]) -> Result<Vec<f32>, GridError> {
    let (entries, shift) = quantise_16(values)?;
    Ok(entries.into_iter().map(|entry| value_16(entry, shift)).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rounds_half_up_exactly() {
        let cases = [(0.5, 1), (-0.5, 0), (1.5, 2), (-1.5, -1), (0.499_999_999_999_999_94, 0), (-0.75, -1), (-0.0, 0)];
        for (value, expected) in cases {
            assert_eq!(round(value, 0, MAX_16), Ok(expected), "{value}");
        }
        assert_eq!(round(f64::MIN_POSITIVE / 4.0, 30, MAX_16), Ok(0));
        assert_eq!(round(-f64::MIN_POSITIVE, 30, MAX_16), Ok(0));
        assert_eq!(round(f64::MAX, 0, i64::MAX), Err(GridError::TooLarge(0)));
    }

    proptest! {
        #[test]
        fn whole_tensors_round_like_single_values(bits in any::<u32>(), shift in 0u32..=MAX_SHIFT) {
            let value = f32::from_bits(bits);
            let whole = round_all::<i32>(&[value], shift, i32::MAX.into()).map(|entries| i64::from(entries[0]));
            prop_assert_eq!(whole, round(value.into(), shift, i32::MAX.into()));
        }

        #[test]
        fn next_to_a_half_is_exact(whole in -40_000i32..40_000, ulps in -3i32..=3) {
            let value = f32::from_bits(((whole as f32 + 0.5).to_bits() as i32 + ulps) as u32);
            prop_assert_eq!(round_all::<i32>(&[value], 0, MAX_24).unwrap()[0], round(value.into(), 0, MAX_24).unwrap() as i32);
        }
    }

    #[test]
    fn limits_are_exact() {
        assert_eq!(shift_within(&[32767.0], MAX_16), Ok(0));
        assert_eq!(shift_within(&[32767.25], MAX_16), Ok(0));
        assert_eq!(shift_within(&[0.0, 32767.5], MAX_16), Err(GridError::TooLarge(1)));
        assert_eq!(shift_within(&[-32767.5], MAX_16), Ok(0));
        assert_eq!(shift_within(&[-32767.504], MAX_16), Err(GridError::TooLarge(0)));
        assert_eq!(shift_within(&[16383.5], MAX_16), Ok(1));
        assert_eq!(shift_within(&[0.0; 3], MAX_16), Ok(MAX_SHIFT));
        assert_eq!(fixed_32(&[32767.998], 16), Ok(vec![2_147_483_520]));
        assert_eq!(fixed_32(&[0.0, 32768.0], 16), Err(GridError::TooLarge(1)));
    }

    #[test]
    fn refuses_what_is_not_a_number() {
        assert_eq!(quantise_16(&[1.0, f32::NAN]), Err(GridError::NotFinite(1)));
        assert_eq!(quantise_16_rows(&[1.0, 2.0, 3.0, f32::INFINITY], 2), Err(GridError::NotFinite(3)));
    }

    proptest! {
        #[test]
        fn the_grid_is_nearest_idempotent_and_as_fine_as_fits(values in prop::collection::vec(-40.0f32..40.0, 1..20), down in 0i32..40) {
            let values: Vec<f32> = values.into_iter().map(|value| value * 2f32.powi(-down)).collect();
            let (entries, shift) = quantise_16(&values).unwrap();
            for (&entry, &value) in entries.iter().zip(&values) {
                let expected = (f64::from(value) * f64::from(shift).exp2() + 0.5).floor();
                prop_assert_eq!(f64::from(entry), expected);
            }
            if shift < MAX_SHIFT {
                let finer = |&value: &f32| round(value.into(), shift + 1, MAX_16).is_err();
                prop_assert!(values.iter().any(finer));
            }
            let grid = to_grid(&values).unwrap();
            prop_assert_eq!(to_grid(&grid).unwrap(), grid.clone());
            prop_assert_eq!(quantise_16(&grid).unwrap(), (entries, shift));
        }

        #[test]
        fn floats_decompose_exactly(bits in any::<u64>()) {
            let value = f64::from_bits(bits);
            match decompose(value) {
                None => prop_assert!(!value.is_finite()),
                Some((mantissa, exponent)) => {
                    // Two steps, because 2^-1074 times a power is itself out of range for `powi`.
                    let back = mantissa as f64 * 2f64.powi(exponent / 2) * 2f64.powi(exponent - exponent / 2);
                    prop_assert_eq!(back, value);
                }
            }
        }
    }
}
