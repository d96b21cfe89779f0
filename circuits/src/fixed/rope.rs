//! Cosines and sines of the rotary embedding (Su et al. 2021), with Llama 3's stretching of long wavelengths.

use super::elementary::{Dyadic, ONE, SCALE, TWO_PI, cos_sin, exp_neg, ln, mul};
use super::{FixedError, round_shift, word};

/// Fractional bits of cosines and sines.
pub const ROTATION_BITS: u32 = 30;

/// Most positions a table may have; keeps every angle below `2^63`.
pub const MAX_POSITIONS: usize = 1 << 20;

/// What the angles depend on, exactly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FixedRope {
    /// Features of a head; even.
    pub dim: usize,
    /// Base of the wavelengths, `1 <= theta < 2^63`.
    pub theta: Dyadic,
    /// Llama 3's scaling, if any.
    pub scaling: Option<FrequencyScaling>,
}

/// Llama 3's frequency scaling; `factor` lies in `1..=64`, and `low < high` in `1..=16`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrequencyScaling {
    /// By how much the lowest frequencies are divided.
    pub factor: Dyadic,
    /// Turns within the original context up to which a frequency is divided by `factor`.
    pub low: Dyadic,
    /// Turns within the original context from which a frequency is left alone.
    pub high: Dyadic,
    /// Positions the model was first trained on.
    pub original_context: usize,
}

/// `cos` and `sin` at scale `2^-30`, `(positions, dim / 2)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotations {
    /// Features of a head.
    pub(crate) dim: usize,
    pub(crate) cos: Vec<i32>,
    pub(crate) sin: Vec<i32>,
}

impl Rotations {
    /// Angles `position * theta^(-2i / dim)`, scaled if the model scales them, for positions from 0.
    ///
    /// # Errors
    /// [`FixedError::Parameter`] for a constant outside its range.
    pub fn new(site: &str, rope: &FixedRope, positions: usize) -> Result<Self, FixedError> {
        if positions > MAX_POSITIONS {
            return Err(FixedError::parameter("number of positions", site));
        }
        let frequencies = frequencies(site, rope)?;
        let entries = positions * frequencies.len();
        let (mut cos, mut sin) = (Vec::with_capacity(entries), Vec::with_capacity(entries));
        for position in 0..positions as i128 {
            for &frequency in &frequencies {
                let (c, s) = cos_sin(position * frequency);
                // At most 2^30 in magnitude after rounding.
                cos.push(round_shift(c, SCALE - ROTATION_BITS) as i32);
                sin.push(round_shift(s, SCALE - ROTATION_BITS) as i32);
            }
        }
        Ok(Self { dim: rope.dim, cos, sin })
    }

    /// The rows of these positions, in this order; positions beyond the table are left out.
    pub fn at(&self, positions: &[u32]) -> Self {
        let half = self.dim / 2;
        let pick = |values: &[i32]| {
            let row = |position: &u32| values.get(*position as usize * half..)?.get(..half);
            positions.iter().filter_map(row).flatten().copied().collect()
        };
        Self { dim: self.dim, cos: pick(&self.cos), sin: pick(&self.sin) }
    }

    /// Positions the table has.
    pub fn positions(&self) -> usize {
        self.cos.len() / (self.dim / 2)
    }
}

/// Each head of a row of `width` features rotated by its row's position, `x` at activation scale: with `a`, `c` features `i`
/// and `i + dim / 2`, the outputs are `round((a cos - c sin) / 2^30)` and `round((c cos + a sin) / 2^30)`.
///
/// # Errors
/// [`FixedError::Overflow`] at an output that reaches `2^31`; [`FixedError::Shape`] if the table has fewer positions than
/// rows or heads do not fill a row.
pub fn rotate(site: &str, width: usize, x: &[i32], rotations: &Rotations) -> Result<Vec<i64>, FixedError> {
    let (dim, half) = (rotations.dim, rotations.dim / 2);
    FixedError::require(width > 0 && width.is_multiple_of(dim), "head width", site)?;
    FixedError::require(x.len().is_multiple_of(width), "input", site)?;
    FixedError::require(x.len() / width <= rotations.positions(), "rotation table", site)?;
    let mut outputs = vec![0; x.len()];
    for first in (0..x.len()).step_by(dim) {
        let angles = first / width * half;
        for i in 0..half {
            let (cos, sin) = (i64::from(rotations.cos[angles + i]), i64::from(rotations.sin[angles + i]));
            // Below 2^61 each.
            let (a, c) = (i64::from(x[first + i]), i64::from(x[first + i + half]));
            let rounded = |sum: i64, entry| word(round_shift(sum.into(), ROTATION_BITS), site, entry);
            outputs[first + i] = rounded(a * cos - c * sin, first + i)?;
            outputs[first + i + half] = rounded(c * cos + a * sin, first + i + half)?;
        }
    }
    Ok(outputs)
}

/// Radians per position of each pair of features, at scale `2^-60`.
fn frequencies(site: &str, rope: &FixedRope) -> Result<Vec<i128>, FixedError> {
    let out_of_range = |what| FixedError::parameter(what, site);
    if rope.dim == 0 || !rope.dim.is_multiple_of(2) || rope.dim > 1 << 12 {
        return Err(out_of_range("rope dimension"));
    }
    let theta = rope.theta.scaled().filter(|&theta| theta >= ONE).ok_or_else(|| out_of_range("rope theta"))?;
    let log = ln(theta);
    let plain = (0..rope.dim / 2).map(|i| exp_neg(log * 2 * i as i128 / rope.dim as i128));
    let Some(scaling) = &rope.scaling else { return Ok(plain.collect()) };

    let bounded = |value: Dyadic, limit| value.scaled().filter(|&value| (ONE..=limit * ONE).contains(&value));
    let factor = bounded(scaling.factor, 64).ok_or_else(|| out_of_range("rope scaling factor"))?;
    let low = bounded(scaling.low, 16).ok_or_else(|| out_of_range("rope scaling low frequency factor"))?;
    let high = bounded(scaling.high, 16)
        .filter(|&high| high > low)
        .ok_or_else(|| out_of_range("rope scaling high frequency factor"))?;
    if scaling.original_context > MAX_POSITIONS {
        return Err(out_of_range("rope scaling context"));
    }
    // 16 turns are below 2^127 at scale 2^-120, which is why factors end there.
    let (low, high) = (mul(low, TWO_PI), mul(high, TWO_PI));
    let scaled = |frequency: i128| {
        let radians = scaling.original_context as i128 * frequency;
        let kept = ((radians.clamp(low, high) - low) << SCALE) / (high - low);
        mul(frequency, kept) + mul((frequency << SCALE) / factor, ONE - kept)
    };
    Ok(plain.map(scaled).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(mantissa: i64) -> Dyadic {
        Dyadic { mantissa, exponent: 0 }
    }

    fn llama3() -> FixedRope {
        let scaling = FrequencyScaling { factor: whole(32), low: whole(1), high: whole(4), original_context: 8192 };
        FixedRope { dim: 64, theta: whole(500_000), scaling: Some(scaling) }
    }

    /// Hugging Face's `_compute_llama3_parameters`, in floats.
    fn reference(rope: &FixedRope) -> Vec<f64> {
        let real = |value: Dyadic| value.mantissa as f64 * 2f64.powi(value.exponent);
        let plain = (0..rope.dim / 2).map(|i| real(rope.theta).powf(-2.0 * i as f64 / rope.dim as f64));
        let Some(scaling) = &rope.scaling else { return plain.collect() };
        let (factor, low, high) = (real(scaling.factor), real(scaling.low), real(scaling.high));
        let stretch = |frequency: f64| {
            let turns = scaling.original_context as f64 * frequency / std::f64::consts::TAU;
            let smooth = ((turns - low) / (high - low)).clamp(0.0, 1.0);
            (1.0 - smooth) * frequency / factor + smooth * frequency
        };
        plain.map(stretch).collect()
    }

    #[test]
    fn rotations_agree_with_floats() {
        let plain = FixedRope { dim: 8, theta: whole(10_000), scaling: None };
        for rope in [plain, llama3()] {
            let table = Rotations::new("s", &rope, 600).unwrap();
            assert_eq!(table.positions(), 600);
            for (entry, (&cos, &sin)) in table.cos.iter().zip(&table.sin).enumerate() {
                let half = rope.dim / 2;
                let angle = (entry / half) as f64 * reference(&rope)[entry % half];
                let unit = f64::from(1 << ROTATION_BITS);
                assert!((f64::from(cos) - angle.cos() * unit).abs() < 0.51, "cos of {angle}");
                assert!((f64::from(sin) - angle.sin() * unit).abs() < 0.51, "sin of {angle}");
            }
        }
    }

    #[test]
    fn positions_are_picked_in_any_order() {
        let table = Rotations::new("s", &llama3(), 9).unwrap();
        assert_eq!(table.at(&(0..9).collect::<Vec<_>>()), table);
        let picked = table.at(&[8, 0, 8, 9]);
        assert_eq!(picked.positions(), 3);
        assert_eq!([&picked.cos[..32], &picked.cos[32..64]], [&table.cos[8 * 32..], &table.cos[..32]]);
        assert_eq!(picked.sin[64..], table.sin[8 * 32..]);
    }

    #[test]
    fn rotations_are_pinned() {
        let table = Rotations::new("s", &llama3(), 256).unwrap();
        let bytes: Vec<u8> = table.cos.iter().chain(&table.sin).flat_map(|value| value.to_le_bytes()).collect();
        let expected = "bf2cf89ffba4d6e82e14175c5e9839a6250184e7758612419969fd38dc9d2f86";
        assert_eq!(blake3::hash(&bytes).to_hex().as_str(), expected);
    }

    #[test]
    fn constants_outside_their_range_are_refused() {
        let error = |change: fn(&mut FixedRope)| {
            let mut rope = llama3();
            change(&mut rope);
            Rotations::new("s", &rope, 1).unwrap_err()
        };
        assert_eq!(error(|rope| rope.dim = 7), FixedError::parameter("rope dimension", "s"));
        assert_eq!(
            error(|rope| rope.theta = Dyadic { mantissa: 1, exponent: -1 }),
            FixedError::parameter("rope theta", "s")
        );
        let scaling = |rope: &mut FixedRope, high| rope.scaling.as_mut().unwrap().high = whole(high);
        assert_eq!(
            Rotations::new(
                "s",
                &{
                    let mut rope = llama3();
                    scaling(&mut rope, 1);
                    rope
                },
                1
            ),
            Err(FixedError::parameter("rope scaling high frequency factor", "s"))
        );
        assert_eq!(
            Rotations::new("s", &llama3(), MAX_POSITIONS + 1),
            Err(FixedError::parameter("number of positions", "s"))
        );
    }
}
