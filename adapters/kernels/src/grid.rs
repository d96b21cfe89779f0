//! From floats to integers times a power of two, by exact bit arithmetic: no float operation is
//! used whose result could depend on a machine or a compiler.
//!
//! There is one rounding rule, half up: `round(x) = floor(x + 1/2)`.

use rayon::prelude::*;

use crate::vectors::vectorised;

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
    // Rounding is monotone: what fits the extremes fits all.
    let (least, largest) = extremes(values);
    if !(least.is_finite() && largest.is_finite()) {
        let index = values.iter().position(|value| !value.is_finite()).expect("an extreme is one of the values");
        return Err(GridError::NotFinite(index));
    }
    let mut shift = MAX_SHIFT;
    for extreme in [largest, least] {
        // A magnitude of 2^exponent or more, shifted to 2^(ilog2(limit) + 1) or more, is beyond the limit.
        let room = limit.ilog2() as i32 - exponent(extreme);
        shift = shift.min(room.clamp(0, MAX_SHIFT as i32) as u32);
        while round(extreme.into(), shift, limit).is_err() {
            let first = || values.iter().position(|&value| value == extreme).unwrap_or_default();
            shift = shift.checked_sub(1).ok_or_else(|| GridError::TooLarge(first()))?;
        }
    }
    Ok(shift)
}

/// The `e` of `2^e <= |value| < 2^(e + 1)`; that of the smallest normal number or less for what is smaller.
fn exponent(value: f32) -> i32 {
    ((value.to_bits() >> 23) & 0xff) as i32 - 127
}

/// The least and the largest of the values and zero; NaN where one is NaN.
fn extremes(values: &[f32]) -> (f32, f32) {
    // Floats compare as their bits do if those of negative ones are turned round; and comparisons of integers,
    // unlike those of floats, may be done in any order.
    let turned = |bits: i32| bits ^ (((bits >> 31) as u32) >> 1) as i32;
    let (least, largest) = vectorised(
        #[inline(always)]
        || {
            values.iter().fold((0, 0), |(least, largest): (i32, i32), value| {
                let key = turned(value.to_bits() as i32);
                (least.min(key), largest.max(key))
            })
        },
    );
    (f32::from_bits(turned(least) as u32), f32::from_bits(turned(largest) as u32))
}

/// `round(value * 2^shift)` of every value, into `entries`.
///
/// # Errors
/// [`GridError`] with the first offending index.
fn round_into<T: GridInteger>(values: &[f32], shift: u32, limit: i64, entries: &mut [T]) -> Result<(), GridError> {
    // Exact in f64: scaling by a power of two moves the exponent only, and next to 1/2 the 24 bits of an f32 either
    // fit the 53 of the sum or are too small to reach an integer.
    let scale = f64::from(1u32 << shift);
    let rounded = |value: f32| (f64::from(value) * scale + 0.5).floor();
    let fits = |rounded: f64| rounded.abs() <= limit as f64;
    let all_fit = vectorised(
        #[inline(always)]
        || {
            entries.iter_mut().zip(values).fold(true, |all, (entry, &value)| {
                let rounded = rounded(value);
                *entry = T::narrow(rounded as i32);
                all & fits(rounded)
            })
        },
    );
    if all_fit {
        return Ok(());
    }
    let first = values.iter().position(|&value| !fits(rounded(value))).expect("one of them did not fit");
    Err(if values[first].is_finite() { GridError::TooLarge(first) } else { GridError::NotFinite(first) })
}

/// An integer that entries are held in; limits see to it that they fit.
trait GridInteger: Copy + Default {
    fn narrow(value: i32) -> Self;
}

impl GridInteger for i16 {
    fn narrow(value: i32) -> Self {
        value as i16
    }
}

impl GridInteger for i32 {
    fn narrow(value: i32) -> Self {
        value
    }
}

/// `round(value * 2^shift)` of every value.
///
/// # Errors
/// [`GridError`] with the first offending index.
fn round_all<T: GridInteger>(values: &[f32], shift: u32, limit: i64) -> Result<Vec<T>, GridError> {
    let mut entries = vec![T::default(); values.len()];
    round_into(values, shift, limit, &mut entries)?;
    Ok(entries)
}

impl GridError {
    /// The same, of values that begin at `start`.
    fn after(self, start: usize) -> Self {
        match self {
            Self::NotFinite(index) => Self::NotFinite(start + index),
            Self::TooLarge(index) => Self::TooLarge(start + index),
        }
    }

    fn index(&self) -> usize {
        let (Self::NotFinite(index) | Self::TooLarge(index)) = self;
        *index
    }
}

/// The first of several errors, on every machine.
fn first_error(errors: impl ParallelIterator<Item = GridError>) -> Result<(), GridError> {
    errors.min_by_key(GridError::index).map_or(Ok(()), Err)
}

/// 16-bit entries and their shift: `values[i]` is nearest to `entries[i] * 2^-shift`.
///
/// # Errors
/// [`GridError`] with the first offending index.
pub fn quantise_16(values: &[f32]) -> Result<(Vec<i16>, u32), GridError> {
    let shift = shift_within(values, MAX_16)?;
    Ok((round_all(values, shift, MAX_16)?, shift))
}

/// 16-bit entries at a shift that somebody has chosen, at most [`MAX_SHIFT`].
///
/// # Errors
/// [`GridError`] with the first offending index.
pub fn quantise_16_at(values: &[f32], shift: u32) -> Result<Vec<i16>, GridError> {
    round_all(values, shift, MAX_16)
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
    let mut entries = vec![0; values.len()];
    let mut shifts = vec![0; values.len() / width];
    let rows = entries.par_chunks_exact_mut(width).zip(values.par_chunks_exact(width)).zip(&mut shifts);
    first_error(rows.enumerate().filter_map(|(row, ((entries, values), place))| {
        let quantised = shift_within(values, MAX_16).and_then(|shift| {
            *place = shift as u8;
            round_into(values, shift, MAX_16, entries)
        });
        quantised.err().map(|error| error.after(row * width))
    }))?;
    Ok((entries, shifts))
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
    const CHUNK: usize = 1 << 14;
    let mut entries = vec![0; values.len()];
    let chunks = entries.par_chunks_mut(CHUNK).zip(values.par_chunks(CHUNK)).enumerate();
    first_error(chunks.filter_map(|(chunk, (entries, values))| {
        let rounded = round_into(values, shift, i32::MAX.into(), entries);
        rounded.err().map(|error| error.after(chunk * CHUNK))
    }))?;
    Ok(entries)
}

/// `round(value * 2^shift)` as 64-bit integers of magnitude at most `limit`, for biases.
///
/// # Errors
/// [`GridError`] with the first offending index.
pub fn fixed_64(values: &[f32], shift: u32, limit: i64) -> Result<Vec<i64>, GridError> {
    let entry = |(index, &value): (usize, &f32)| round(value.into(), shift, limit).map_err(|error| error.after(index));
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

    /// Values of every magnitude, by their bits; more than one register of them.
    fn anything() -> impl Strategy<Value = Vec<f32>> {
        prop::collection::vec(any::<u32>().prop_map(f32::from_bits), 1..80)
    }

    proptest! {
        /// What the vectorised loops give is what single values give, errors and their order included.
        #[test]
        fn vectors_of_values_are_their_values(mut values in anything(), keep in 0usize..80, shift in 0u32..=MAX_SHIFT) {
            // Mostly values that have a place, then whatever the bits say.
            values.iter_mut().take(keep).for_each(|value| *value = if value.is_finite() { value.fract() * 100.0 } else { 0.5 });
            let one_by_one = |limit: i64| values.iter().enumerate().map(|(index, &value)| {
                round(value.into(), shift, limit).map_err(|error| error.after(index))
            }).collect::<Result<Vec<i64>, _>>();
            let wide = round_all::<i32>(&values, shift, i32::MAX.into());
            prop_assert_eq!(wide.map(|entries| entries.into_iter().map(i64::from).collect()), one_by_one(i32::MAX.into()));
            let narrow = round_all::<i16>(&values, shift, MAX_16);
            prop_assert_eq!(narrow.map(|entries| entries.into_iter().map(i64::from).collect()), one_by_one(MAX_16));

            let fits = |shift: u32| values.iter().all(|&value| round(value.into(), shift, MAX_16).is_ok());
            match shift_within(&values, MAX_16) {
                Ok(shift) => prop_assert!(fits(shift) && (shift == MAX_SHIFT || !fits(shift + 1))),
                Err(GridError::NotFinite(index)) => {
                    prop_assert_eq!(Some(index), values.iter().position(|value| !value.is_finite()));
                }
                Err(GridError::TooLarge(index)) => prop_assert!(round(values[index].into(), 0, MAX_16).is_err()),
            }
        }
    }

    #[test]
    fn of_several_errors_the_first_is_named() {
        let mut values = vec![0.25; 100_000];
        for index in [70_001, 40_003, 90_000] {
            values[index] = f32::NAN;
        }
        values[60_000] = 1e9;
        assert_eq!(fixed_32(&values, 16), Err(GridError::NotFinite(40_003)));
        assert_eq!(quantise_16_rows(&values, 10), Err(GridError::NotFinite(40_003)));
        values[40_003] = 0.0;
        assert_eq!(fixed_32(&values, 16), Err(GridError::TooLarge(60_000)));
        assert_eq!(quantise_16_rows(&values, 10), Err(GridError::TooLarge(60_000)));
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
