//! Root-mean-square normalisation (Zhang and Sennrich 2019): one integer square root per row, one
//! rounding per entry.

use rayon::prelude::*;

use super::{ACTIVATION_BITS, FixedError, RESIDUAL_BITS, round_shift, word};

/// Fractional bits of `eps`: those of a squared activation.
pub const EPS_BITS: u32 = 2 * ACTIVATION_BITS;
/// Fractional bits of the reciprocal root, `K` below.
pub const ROOT_BITS: u32 = 56;
/// Most features of a row: `n * 2^(2 K)` fits 128 bits below `2^16`.
pub const MAX_FEATURES: usize = (1 << 16) - 1;
/// Largest shift of norm weights.
const MAX_SHIFT: u32 = 30;

/// Norm weights `weights * 2^-shift`, one for each feature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Norm {
    weights: Vec<i32>,
    shift: u32,
}

impl Norm {
    /// Weights of `1..=MAX_FEATURES` features, with `shift <= 30`.
    ///
    /// # Errors
    /// [`FixedError::Shape`] and [`FixedError::Parameter`].
    pub fn new(site: &str, weights: Vec<i32>, shift: u32) -> Result<Self, FixedError> {
        FixedError::require((1..=MAX_FEATURES).contains(&weights.len()), "norm weight", site)?;
        if shift > MAX_SHIFT {
            return Err(FixedError::parameter("norm shift", site));
        }
        Ok(Self { weights, shift })
    }

    /// Entries.
    pub fn weights(&self) -> &[i32] {
        &self.weights
    }

    /// Fractional bits.
    pub fn shift(&self) -> u32 {
        self.shift
    }
}

/// `x / sqrt(mean(x^2) + eps) * w` for each row of `n` features, `eps` at scale `2^-32`:
///
/// ```text
/// D = sum x^2 + n eps,  R = isqrt(floor(n 2^(2K) / D)),  y = round(x R w / 2^(K - 16 + shift))
/// ```
///
/// # Errors
/// [`FixedError::Overflow`] at an input that reaches `2^40` or an output that reaches `2^31`,
/// [`FixedError::Parameter`] unless `0 < eps < 2^63`, [`FixedError::Shape`].
pub fn rms_norm(site: &str, norm: &Norm, eps: i64, x: &[i64]) -> Result<Vec<i64>, FixedError> {
    let n = norm.weights.len();
    FixedError::require(x.len().is_multiple_of(n), "input", site)?;
    if eps <= 0 {
        return Err(FixedError::parameter("norm eps", site));
    }
    let normalise = |(row, x): (usize, &[i64])| {
        let mut sum = n as u128 * u128::from(eps.unsigned_abs());
        for (feature, &x) in x.iter().enumerate() {
            if x.unsigned_abs() >> RESIDUAL_BITS != 0 {
                return Err(FixedError::overflow("input", site, row * n + feature, RESIDUAL_BITS));
            }
            sum += u128::from(x.unsigned_abs()).pow(2);
        }
        // At most 2^56, since D >= n; and |x| R <= sqrt(n) 2^56, so the products below fit 2^95.
        let root = (((n as u128) << (2 * ROOT_BITS)) / sum).isqrt() as i128;
        let entry = |(feature, (&x, &w)): (usize, (&i64, &i32))| {
            let product = i128::from(x) * root * i128::from(w);
            word(round_shift(product, ROOT_BITS - ACTIVATION_BITS + norm.shift), site, row * n + feature)
        };
        x.iter().zip(&norm.weights).enumerate().map(entry).collect::<Result<Vec<i64>, _>>()
    };
    let rows: Vec<_> = x.par_chunks_exact(n).enumerate().map(normalise).collect();
    Ok(rows.into_iter().collect::<Result<Vec<_>, _>>()?.concat())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const UNIT: f64 = 65536.0;

    proptest! {
        #[test]
        fn agrees_with_floats(x in prop::collection::vec(-(1i64 << 31)..1 << 31, 10), w in prop::collection::vec(-(1i32 << 24)..1 << 24, 5), down in 0u32..30) {
            let x: Vec<i64> = x.into_iter().map(|x| x >> down).collect();
            let norm = Norm::new("s", w.clone(), 22).unwrap();
            let got = rms_norm("s", &norm, 42950, &x).unwrap();
            for (entry, &y) in got.iter().enumerate() {
                let row = &x[entry / 5 * 5..][..5];
                let mean = row.iter().map(|&x| (x as f64 / UNIT).powi(2)).sum::<f64>() / 5.0 + 42950.0 / 2f64.powi(32);
                let exact = x[entry] as f64 / mean.sqrt() * f64::from(w[entry % 5]) / 2f64.powi(22);
                // R is at least 2^24 here and too small by less than one.
                prop_assert!((y as f64 - exact).abs() <= 0.5 + exact.abs() * 2f64.powi(-23), "{y} against {exact}");
            }
        }
    }

    #[test]
    fn limits_are_exact() {
        let norm = Norm::new("s", vec![i32::MAX], 0).unwrap();
        let limit = 1i64 << RESIDUAL_BITS;
        let small = Norm::new("s", vec![1], 0).unwrap();
        assert_eq!(rms_norm("s", &small, 1, &[limit - 1]), Ok(vec![1 << 16]));
        assert_eq!(rms_norm("s", &small, 1, &[0, limit]), Err(FixedError::overflow("input", "s", 1, 40)));
        assert_eq!(rms_norm("s", &small, 1, &[i64::MIN]), Err(FixedError::overflow("input", "s", 0, 40)));
        assert_eq!(rms_norm("s", &norm, 1, &[limit - 1]), Err(FixedError::overflow("output", "s", 0, 31)));
        // The largest weight whose output, w * 2^16, is still below 2^31.
        let largest = Norm::new("s", vec![(1 << 15) - 1], 0).unwrap();
        assert_eq!(rms_norm("s", &largest, 1, &[limit - 1]), Ok(vec![((1 << 15) - 1) << 16]));
        let over = Norm::new("s", vec![1 << 15], 0).unwrap();
        assert_eq!(rms_norm("s", &over, 1, &[limit - 1]), Err(FixedError::overflow("output", "s", 0, 31)));
    }

    #[test]
    fn a_zero_row_stays_zero_and_eps_must_be_on_the_grid() {
        let norm = Norm::new("s", vec![1 << 24; 3], 24).unwrap();
        assert_eq!(rms_norm("s", &norm, 1, &[0; 3]), Ok(vec![0; 3]));
        assert_eq!(rms_norm("s", &norm, 0, &[0; 3]), Err(FixedError::parameter("norm eps", "s")));
        assert_eq!(rms_norm("s", &norm, 1, &[0; 2]), Err(FixedError::shape("input", "s")));
    }
}
