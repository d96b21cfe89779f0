//! What MLPs are not linear by: the gates SwiGLU and GeGLU (Shazeer 2020) and the tanh form of GELU (Hendrycks and
//! Gimpel 2016).
//! Both functions by table and exact linear interpolation, one rounding.

use std::sync::LazyLock;

use rayon::prelude::*;

use super::elementary::{ONE, SCALE, exp_neg, mul};
use super::{ACTIVATION_BITS, FixedError, round_shift, round_shift_64, word};

/// Table entries have this many fractional bits.
pub const VALUE_BITS: u32 = 24;
/// An interval is `2^9` activations wide, that is `2^-7`.
const STEP_BITS: u32 = 9;
/// The table spans `[-16, 16)`: half its range in activations.
const REACH: i64 = 16 << super::ACTIVATION_BITS;
/// Intervals of the table.
const INTERVALS: usize = 1 << 12;

/// `round(silu(-16 + i 2^-7) * 2^24)` for `0 <= i <= 4096`.
static SILU: LazyLock<Vec<i32>> = LazyLock::new(|| {
    let entry = |i: usize| {
        let x = (i as i128 - INTERVALS as i128 / 2) * (ONE >> 7);
        let decay = exp_neg(x.abs());
        let numerator = if x < 0 { x * decay } else { x << SCALE };
        round_shift(numerator / (ONE + decay), SCALE - VALUE_BITS) as i32
    };
    (0..=INTERVALS).map(entry).collect()
});

/// An interval of the table of [`gelu`] is `2^8` activations wide, that is `2^-8`: its second derivative is larger.
const GELU_STEP_BITS: u32 = 8;
/// That table spans `[-8, 8)`.
const GELU_REACH: i64 = 8 << super::ACTIVATION_BITS;
/// `floor(2^60 * 2 sqrt(2 / pi))`.
const SLOPE: i128 = 1_839_796_536_686_825_613;
/// `floor(2^60 * 0.044715)`.
const CUBIC: i128 = 51_552_885_078_495_162;

/// `round(gelu(-8 + i 2^-8) * 2^24)` for `0 <= i <= 4096`, from `gelu(x) = x / (1 + exp(-z))` with
/// `z = 2 sqrt(2 / pi) (x + 0.044715 x^3)`.
static GELU: LazyLock<Vec<i32>> = LazyLock::new(|| {
    let entry = |i: usize| {
        let x = (i as i128 - INTERVALS as i128 / 2) * (ONE >> GELU_STEP_BITS);
        // |x| <= 2^63 and |z| < 2^66, so that no product reaches 2^127.
        let z = mul(x + mul(mul(x, CUBIC), mul(x, x)), SLOPE);
        let decay = exp_neg(z.abs());
        let numerator = if x < 0 { x * decay } else { x << SCALE };
        round_shift(numerator / (ONE + decay), SCALE - VALUE_BITS) as i32
    };
    (0..=INTERVALS).map(entry).collect()
});

/// A function by table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GateFunction {
    /// `x / (1 + exp(-x))`
    Silu,
    /// [`gelu`]
    Gelu,
}

/// The table of silu spans so many high limbs, of 16 bits, on either side of zero.
pub(crate) const SILU_LIMBS: i64 = REACH >> ACTIVATION_BITS;
/// The same of gelu.
pub(crate) const GELU_LIMBS: i64 = GELU_REACH >> ACTIVATION_BITS;

impl GateFunction {
    pub(crate) fn limbs(self) -> i64 {
        match self {
            GateFunction::Silu => SILU_LIMBS,
            GateFunction::Gelu => GELU_LIMBS,
        }
    }

    /// An interval is so many activations wide, as a power of two.
    pub(crate) fn step_bits(self) -> u32 {
        match self {
            GateFunction::Silu => STEP_BITS,
            GateFunction::Gelu => GELU_STEP_BITS,
        }
    }

    /// Value at the left end of an interval of the table and the rise to its right end, at `2^-24`.
    pub(crate) fn interval(self, interval: usize) -> [i64; 2] {
        let table = match self {
            GateFunction::Silu => &SILU,
            GateFunction::Gelu => &GELU,
        };
        let (left, right) = (i64::from(table[interval]), i64::from(table[interval + 1]));
        [left, right - left]
    }
}

/// `silu(g)` at scale `2^-33`: interpolated exactly inside the table, zero below it, `g` above it. `g` is an activation.
pub(crate) fn silu(g: i64) -> i64 {
    if g < -REACH {
        return 0;
    }
    if g >= REACH {
        return g << (VALUE_BITS + STEP_BITS - ACTIVATION_BITS);
    }
    let from_start = g + REACH;
    let interval = (from_start >> STEP_BITS) as usize;
    let part = from_start & ((1 << STEP_BITS) - 1);
    let (left, right) = (i64::from(SILU[interval]), i64::from(SILU[interval + 1]));
    (left << STEP_BITS) + (right - left) * part
}

/// `gelu(x)` at scale `2^-32`: interpolated exactly inside the table, zero below it, `x` above it. It is within `2^-19` of
/// the real function.
pub(crate) fn gelu_exact(x: i64) -> i64 {
    if x < -GELU_REACH {
        return 0;
    }
    if x >= GELU_REACH {
        return x << (VALUE_BITS + GELU_STEP_BITS - ACTIVATION_BITS);
    }
    let from_start = x + GELU_REACH;
    let interval = (from_start >> GELU_STEP_BITS) as usize;
    let part = from_start & ((1 << GELU_STEP_BITS) - 1);
    let (left, right) = (i64::from(GELU[interval]), i64::from(GELU[interval + 1]));
    (left << GELU_STEP_BITS) + (right - left) * part
}

/// `y = round(gelu(x) / 2^16)`, entry by entry, with `gelu` at scale `2^-32`.
pub fn gelu(x: &[i32]) -> Vec<i64> {
    let entry = |&x: &i32| round_shift_64(gelu_exact(x.into()), VALUE_BITS + GELU_STEP_BITS - ACTIVATION_BITS);
    x.par_iter().map(entry).collect()
}

/// `y = round(silu(g) * u / 2^33)`, entry by entry.
///
/// # Errors
/// [`FixedError::Overflow`] at an output that reaches `2^31`, [`FixedError::Shape`] if lengths differ.
pub fn swiglu(site: &str, gate: &[i32], up: &[i32]) -> Result<Vec<i64>, FixedError> {
    gated(site, gate, up, |g, u| round_shift(i128::from(silu(g.into())) * i128::from(u), VALUE_BITS + STEP_BITS))
}

/// `y = round(gelu(g) * u / 2^32)`, entry by entry, with `gelu` at scale `2^-32`.
///
/// # Errors
/// Those of [`swiglu`].
pub fn geglu(site: &str, gate: &[i32], up: &[i32]) -> Result<Vec<i64>, FixedError> {
    let entry =
        |g: i32, u: i32| round_shift(i128::from(gelu_exact(g.into())) * i128::from(u), VALUE_BITS + GELU_STEP_BITS);
    gated(site, gate, up, entry)
}

fn gated(
    site: &str,
    gate: &[i32],
    up: &[i32],
    value: impl Fn(i32, i32) -> i128 + Sync,
) -> Result<Vec<i64>, FixedError> {
    FixedError::require(gate.len() == up.len(), "gate", site)?;
    let entry = |(entry, (&g, &u)): (usize, (&i32, &i32))| word(value(g, u), site, entry);
    // Sequential collection keeps the first error the same on every machine.
    const CHUNK: usize = 1 << 12;
    let mut outputs = vec![0; gate.len()];
    let operands = gate.par_chunks(CHUNK).zip(up.par_chunks(CHUNK)).enumerate();
    let filled = outputs.par_chunks_mut(CHUNK).zip(operands).map(|(outputs, (chunk, (gate, up)))| {
        outputs.iter_mut().zip(gate.iter().zip(up)).enumerate().try_for_each(|(i, (output, pair))| {
            *output = entry((chunk * CHUNK + i, pair))?;
            Ok(())
        })
    });
    let filled: Vec<Result<(), FixedError>> = filled.collect();
    filled.into_iter().collect::<Result<(), _>>()?;
    Ok(outputs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_floats() {
        for g in (-20 << 16..20 << 16).step_by(331) {
            let x = f64::from(g) / 65536.0;
            let exact = x / (1.0 + (-x).exp());
            let got = silu(g.into()) as f64 / 2f64.powi(33);
            // Interpolation: step^2 / 8 times the largest second derivative 1/2; table rounding 2^-25.
            assert!((got - exact).abs() < 2f64.powi(-14) / 16.0 + 2f64.powi(-25), "silu({x}): {got} against {exact}");
        }
    }

    #[test]
    fn gelu_agrees_with_floats() {
        let inputs: Vec<i32> = (-20 << 16..20 << 16).step_by(331).collect();
        for (&x, got) in inputs.iter().zip(gelu(&inputs)) {
            let real = f64::from(x) / 65536.0;
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (real + 0.044715 * real.powi(3));
            let exact = 0.5 * real * (1.0 + inner.tanh());
            let error = (got as f64 / 65536.0 - exact).abs();
            assert!(error < 2f64.powi(-17) + 2f64.powi(-19), "gelu({real}): {got} against {exact}");
        }
        assert_eq!(gelu(&[i32::MAX, -i32::MAX, 0]), [i32::MAX.into(), 0, 0]);
    }

    #[test]
    fn the_tables_are_pinned() {
        let digest = |table: &[i32]| {
            let bytes: Vec<u8> = table.iter().flat_map(|value| value.to_le_bytes()).collect();
            blake3::hash(&bytes).to_hex().to_string()
        };
        assert_eq!(digest(&SILU), "28369edba9497c84a52d821c4abe45b95de0fc80f4c61737be0c4bf416525a07");
        assert_eq!(digest(&GELU), "df8bf89e818ab3259235cfae29718add648a78a41c8bae974cc8ad44ffa6e16a");
    }

    #[test]
    fn rounds_once_and_overflows_at_the_limit() {
        let (large, one) = (i32::MAX, 1 << 16);
        assert_eq!(swiglu("s", &[large, -large, 0], &[one, large, large]), Ok(vec![large.into(), 0, 0]));
        assert_eq!(swiglu("s", &[large], &[-one]), Ok(vec![-i64::from(large)]));
        assert_eq!(swiglu("s", &[0, large], &[0, one + 1]), Err(FixedError::overflow("output", "s", 1, 31)));
        assert_eq!(swiglu("s", &[0], &[]), Err(FixedError::shape("gate", "s")));
        assert_eq!(geglu("s", &[large, -large, 0], &[one, large, large]), Ok(vec![large.into(), 0, 0]));
        assert_eq!(geglu("s", &[0, large], &[0, one + 1]), Err(FixedError::overflow("output", "s", 1, 31)));
        assert_eq!(geglu("s", &[0], &[]), Err(FixedError::shape("gate", "s")));
    }
}
