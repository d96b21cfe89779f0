//! Logarithm, exponential, sine and cosine by series on integers at scale `2^-60`: for tables, and for
//! one logarithm a row.
//!
//! Every step is an integer operation, so tables are the same on every machine. Errors of a few
//! units of `2^-60` remain; they are part of the definition.

/// Fractional bits of the numbers in this module.
pub const SCALE: u32 = 60;
/// One.
pub const ONE: i128 = 1 << SCALE;
/// `floor(2^60 pi / 2)`.
const HALF_PI: i128 = 1_811_004_864_519_280_710;
/// `floor(2^60 ln 2)`.
const LN_2: i128 = 799_144_290_325_165_978;

/// A number given exactly as `mantissa * 2^exponent`, as floats are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Dyadic {
    /// Signed integer.
    pub mantissa: i64,
    /// Power of two.
    pub exponent: i32,
}

impl Dyadic {
    /// `floor(self * 2^60)` if `0 < self < 2^63`.
    pub fn scaled(self) -> Option<i128> {
        let shift = self.exponent.checked_add(SCALE as i32)?;
        let value = match shift {
            0..=63 => i128::from(self.mantissa) << shift,
            -63..=-1 => i128::from(self.mantissa) >> -shift,
            _ => return None,
        };
        (value > 0 && value >> (SCALE + 63) == 0).then_some(value)
    }
}

/// Product of two numbers, rounded down; `|a * b|` must be below `2^127`.
pub(super) fn mul(a: i128, b: i128) -> i128 {
    (a * b) >> SCALE
}

/// Natural logarithm of `x >= 1`, from `ln x = k ln 2 + 2 artanh((m - 1) / (m + 1))` with `1 <= m < 2`.
pub(super) fn ln(x: i128) -> i128 {
    let doublings = x.ilog2() - SCALE;
    let m = x >> doublings;
    let z = ((m - ONE) << SCALE) / (m + ONE);
    let square = mul(z, z);
    let (mut power, mut sum, mut divisor) = (z, 0, 1);
    while power != 0 {
        sum += power / divisor;
        power = mul(power, square);
        divisor += 2;
    }
    i128::from(doublings) * LN_2 + 2 * sum
}

/// `exp(-x)` for `0 <= x < 2^63`.
pub(super) fn exp_neg(x: i128) -> i128 {
    let (halvings, x) = (x / LN_2, x % LN_2);
    let (mut term, mut sum, mut n) = (ONE, 0, 0);
    while term != 0 {
        sum += if n % 2 == 0 { term } else { -term };
        n += 1;
        term = mul(term, x) / n;
    }
    sum >> halvings.min(i128::from(i128::BITS) - 1)
}

/// `(cos x, sin x)` for `0 <= x < 2^63`.
pub(super) fn cos_sin(x: i128) -> (i128, i128) {
    let (quadrant, x) = (x / HALF_PI % 4, x % HALF_PI);
    let (mut cos, mut sin) = (0, 0);
    let (mut term, mut n) = (ONE, 0);
    while term != 0 {
        let part = if n % 2 == 0 { &mut cos } else { &mut sin };
        *part += if n % 4 < 2 { term } else { -term };
        n += 1;
        term = mul(term, x) / n;
    }
    match quadrant {
        0 => (cos, sin),
        1 => (-sin, cos),
        2 => (-cos, -sin),
        _ => (sin, -cos),
    }
}

/// `2 pi`.
pub(super) const TWO_PI: i128 = 4 * HALF_PI;

#[cfg(test)]
mod tests {
    use super::*;

    fn float(x: i128) -> f64 {
        x as f64 / ONE as f64
    }

    #[test]
    fn series_agree_with_floats() {
        assert!((float(TWO_PI) - std::f64::consts::TAU).abs() < 1e-15);
        for step in 0..2000 {
            let x = step * ONE / 37;
            let real = float(x);
            assert!((float(exp_neg(x)) - (-real).exp()).abs() < 1e-15, "exp(-{real})");
            assert!((float(ln(x + ONE)) - real.ln_1p()).abs() < 1e-15 * (1.0 + real.ln_1p()), "ln(1 + {real})");
            let (cos, sin) = cos_sin(x);
            assert!((float(cos) - real.cos()).abs() < 3e-14, "cos({real})");
            assert!((float(sin) - real.sin()).abs() < 3e-14, "sin({real})");
        }
        assert_eq!(exp_neg(0), ONE);
        assert_eq!(cos_sin(0), (ONE, 0));
        assert_eq!(exp_neg(100 * ONE), 0);
    }

    #[test]
    fn dyadics_scale_exactly_or_not_at_all() {
        assert_eq!(Dyadic { mantissa: 3, exponent: -1 }.scaled(), Some(3 * ONE / 2));
        assert_eq!(Dyadic { mantissa: -3, exponent: 0 }.scaled(), None);
        assert_eq!(Dyadic { mantissa: 0, exponent: 0 }.scaled(), None);
        assert_eq!(Dyadic { mantissa: 1, exponent: 63 }.scaled(), None);
        assert_eq!(Dyadic { mantissa: i64::MAX, exponent: 0 }.scaled(), Some(i128::from(i64::MAX) << SCALE));
        assert_eq!(Dyadic { mantissa: i64::MAX, exponent: 1 }.scaled(), None);
        assert_eq!(Dyadic { mantissa: 1, exponent: i32::MAX }.scaled(), None);
    }
}
