//! Root-mean-square normalisation (Zhang and Sennrich 2019), of whole rows or of heads that are then rotated, and
//! layer normalisation (Ba et al. 2016): one integer square root per normalised vector, one rounding per entry.

use rayon::prelude::*;

use super::rope::{ROTATION_BITS, Rotations};
use super::{ACTIVATION_BITS, BIAS_BITS, FixedError, RESIDUAL_BITS, check_bias, round_shift, times, word};

/// Fractional bits of `eps`: those of a squared activation.
pub const EPS_BITS: u32 = 2 * ACTIVATION_BITS;
/// Fractional bits of the reciprocal root, `K` below.
pub const ROOT_BITS: u32 = 56;
/// Fractional bits of the reciprocal root of a layer norm, whose radicand is larger by the features squared.
pub const LAYER_ROOT_BITS: u32 = 63;
/// Most features of a row: `n * 2^(2 K)` fits 128 bits below `2^16`.
pub const MAX_FEATURES: usize = (1 << 16) - 1;
/// Largest shift of norm weights.
const MAX_SHIFT: u32 = 30;

/// Norm weights `weights * 2^-shift`, one for each feature, and biases where the norm has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Norm {
    weights: Vec<i32>,
    shift: u32,
    bias: Option<Vec<i64>>,
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
        Ok(Self { weights, shift, bias: None })
    }

    /// The same norm with a bias for each feature, at scale `2^-32`.
    ///
    /// # Errors
    /// [`FixedError::Shape`], [`FixedError::Overflow`] at an entry that reaches `2^47`.
    pub fn with_bias(self, site: &str, bias: Vec<i64>) -> Result<Self, FixedError> {
        check_bias(site, &bias, self.weights.len())?;
        Ok(Self { bias: Some(bias), ..self })
    }

    /// Features it takes at once.
    pub fn features(&self) -> usize {
        self.weights.len()
    }

    /// Entries.
    pub fn weights(&self) -> &[i32] {
        &self.weights
    }

    /// The biases, if there are any.
    pub fn bias(&self) -> Option<&[i64]> {
        self.bias.as_deref()
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
    by_vector(site, norm, eps, x, |index, x| {
        let root = root(eps, x);
        let entry = |(feature, (&x, &w)): (usize, (&i64, &i32))| {
            let product = times(i128::from(x) * i128::from(root), w.into());
            word(
                round_shift(product, ROOT_BITS - ACTIVATION_BITS + norm.shift),
                site,
                index * norm.features() + feature,
            )
        };
        x.iter().zip(&norm.weights).enumerate().map(entry).collect()
    })
}

/// [`rms_norm`] of each of the `heads` heads of a row with one `norm` for all, each then rotated by its row's position
/// before the one rounding. With `a`, `c` the products `x R w` of features `i` and `i + n / 2`, the outputs are
/// `round((a cos - c sin) / 2^(K - 16 + shift + 30))` and `round((c cos + a sin) / 2^(K - 16 + shift + 30))`.
///
/// # Errors
/// Those of [`rms_norm`]; [`FixedError::Shape`] if the table has fewer positions than rows, or rotates vectors of
/// another width than the norm's.
pub fn norm_rope(
    site: &str,
    norm: &Norm,
    eps: i64,
    x: &[i64],
    heads: usize,
    rotations: &Rotations,
) -> Result<Vec<i64>, FixedError> {
    let (dim, half) = (norm.features(), rotations.dim / 2);
    FixedError::require(rotations.dim == dim, "head width", site)?;
    FixedError::require(heads > 0 && x.len().is_multiple_of(heads * dim), "input", site)?;
    FixedError::require(x.len() / (heads * dim) <= rotations.positions(), "rotation table", site)?;
    by_vector(site, norm, eps, x, |index, x| {
        let root = root(eps, x);
        let angles = index / heads * half..(index / heads + 1) * half;
        let (cos, sin) = (&rotations.cos[angles.clone()], &rotations.sin[angles]);
        let mut outputs = vec![0; dim];
        for i in 0..half {
            // |x| R <= sqrt(n) 2^56 with n <= 2^12 and |w| < 2^31: below 2^93 each, below 2^124 rotated.
            let part = |feature: usize| times(i128::from(x[feature]) * i128::from(root), norm.weights[feature].into());
            let (a, c) = (part(i), part(i + half));
            let (cos, sin) = (i64::from(cos[i]), i64::from(sin[i]));
            let shift = ROOT_BITS - ACTIVATION_BITS + norm.shift + ROTATION_BITS;
            let rounded = |sum: i128, feature| word(round_shift(sum, shift), site, index * dim + feature);
            outputs[i] = rounded(times(a, cos) - times(c, sin), i)?;
            outputs[i + half] = rounded(times(c, cos) + times(a, sin), i + half)?;
        }
        Ok(outputs)
    })
}

/// `(x - mean(x)) / sqrt(variance(x) + eps) * w + b` for each row of `n` features, `eps` and `b` at scale `2^-32`:
///
/// ```text
/// S = sum x,  D = n sum x^2 - S^2 + n^2 eps,  R = isqrt(floor(2^(2K) / D)),  K = 63
/// y = round(((n x - S) R w + b 2^(K - 32 + shift)) / 2^(K - 16 + shift))
/// ```
///
/// # Errors
/// As [`rms_norm`]; [`FixedError::Shape`] if the norm has no bias.
pub fn layer_norm(site: &str, norm: &Norm, eps: i64, x: &[i64]) -> Result<Vec<i64>, FixedError> {
    let bias = norm.bias.as_deref().ok_or_else(|| FixedError::shape("bias", site))?;
    let n = norm.features() as i128;
    by_vector(site, norm, eps, x, |index, x| {
        let sum: i128 = x.iter().map(|&x| i128::from(x)).sum();
        let squares: i128 = x.iter().map(|&x| i128::from(x).pow(2)).sum();
        // n sum x^2 is below 2^112, n^2 eps below 2^95.
        let radicand = n * squares - sum * sum + n * n * i128::from(eps);
        let root = ((1 << (2 * LAYER_ROOT_BITS)) / radicand.unsigned_abs()).isqrt() as i128;
        let entry = |(feature, (&x, (&w, &b))): (usize, (&i64, (&i32, &i64)))| {
            // |n x - S| R <= sqrt(n) 2^63, so the product is below 2^102 and the bias below 2^108.
            let product = (n * i128::from(x) - sum) * root * i128::from(w);
            let bias = i128::from(b) << (LAYER_ROOT_BITS - BIAS_BITS + norm.shift);
            let rounded = round_shift(product + bias, LAYER_ROOT_BITS - ACTIVATION_BITS + norm.shift);
            word(rounded, site, index * norm.features() + feature)
        };
        x.iter().zip(norm.weights.iter().zip(bias)).enumerate().map(entry).collect()
    })
}

/// Applies `normalise` to each vector of the norm's width, with its index, after checking inputs and `eps`.
fn by_vector(
    site: &str,
    norm: &Norm,
    eps: i64,
    x: &[i64],
    normalise: impl Fn(usize, &[i64]) -> Result<Vec<i64>, FixedError> + Sync,
) -> Result<Vec<i64>, FixedError> {
    let n = norm.features();
    FixedError::require(x.len().is_multiple_of(n), "input", site)?;
    if eps <= 0 {
        return Err(FixedError::parameter("norm eps", site));
    }
    let checked = |(index, x): (usize, &[i64])| match x.iter().position(|x| x.unsigned_abs() >> RESIDUAL_BITS != 0) {
        Some(feature) => Err(FixedError::overflow("input", site, index * n + feature, RESIDUAL_BITS)),
        None => normalise(index, x),
    };
    let vectors: Vec<_> = x.par_chunks_exact(n).enumerate().map(checked).collect();
    Ok(vectors.into_iter().collect::<Result<Vec<_>, _>>()?.concat())
}

/// `R` of [`rms_norm`] for one vector: at most `2^56`, since `D >= n`; and `|x| R <= sqrt(n) 2^56`, so that `x R w`
/// is below `2^95`.
fn root(eps: i64, x: &[i64]) -> i64 {
    let n = x.len() as u128;
    let sum = n * u128::from(eps.unsigned_abs()) + x.iter().map(|x| u128::from(x.unsigned_abs()).pow(2)).sum::<u128>();
    ((n << (2 * ROOT_BITS)) / sum).isqrt() as i64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::elementary::Dyadic;
    use super::super::rope::FixedRope;
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

    /// `x` normalised in floats, before weights.
    fn normal(row: &[i64], centre: bool, eps: f64) -> Vec<f64> {
        let n = row.len() as f64;
        let mean = if centre { row.iter().map(|&x| x as f64 / UNIT).sum::<f64>() / n } else { 0.0 };
        let power = row.iter().map(|&x| (x as f64 / UNIT - mean).powi(2)).sum::<f64>() / n + eps;
        row.iter().map(|&x| (x as f64 / UNIT - mean) / power.sqrt()).collect()
    }

    proptest! {
        #[test]
        fn layer_norms_agree_with_floats(
            x in prop::collection::vec(-(1i64 << 31)..1 << 31, 10),
            w in prop::collection::vec(-(1i32 << 24)..1 << 24, 5),
            b in prop::collection::vec(-(1i64 << 40)..1 << 40, 5),
            down in 0u32..30,
        ) {
            let x: Vec<i64> = x.into_iter().map(|x| x >> down).collect();
            let norm = Norm::new("s", w.clone(), 22).unwrap().with_bias("s", b.clone()).unwrap();
            let got = layer_norm("s", &norm, 42950, &x).unwrap();
            for (row, got) in x.chunks_exact(5).zip(got.chunks_exact(5)) {
                let normal = normal(row, true, 42950.0 / 2f64.powi(32));
                for (i, &y) in got.iter().enumerate() {
                    let scaled = normal[i] * f64::from(w[i]) / 2f64.powi(22 - 16);
                    let exact = scaled + b[i] as f64 / UNIT;
                    // R is at least 2^28 here and too small by less than one.
                    prop_assert!((y as f64 - exact).abs() <= 0.51 + scaled.abs() * 2f64.powi(-27), "{y} against {exact}");
                }
            }
        }

        #[test]
        fn heads_are_normalised_and_rotated(
            x in prop::collection::vec(-(1i64 << 24)..1 << 24, 24),
            w in prop::collection::vec(-(1i32 << 24)..1 << 24, 4),
        ) {
            // Three rows of two heads.
            let rope = FixedRope { dim: 4, theta: Dyadic { mantissa: 10_000, exponent: 0 }, scaling: None };
            let rotations = Rotations::new("s", &rope, 3).unwrap();
            let norm = Norm::new("s", w.clone(), 22).unwrap();
            let got = norm_rope("s", &norm, 4295, &x, 2, &rotations).unwrap();
            for (index, (head, got)) in x.chunks_exact(4).zip(got.chunks_exact(4)).enumerate() {
                let normal = normal(head, false, 4295.0 / 2f64.powi(32));
                let scaled: Vec<f64> = (0..4).map(|i| normal[i] * f64::from(w[i]) / 2f64.powi(22 - 16)).collect();
                for i in 0..2 {
                    let (sin, cos) = ((index / 2) as f64 * 0.01f64.powi(i as i32)).sin_cos();
                    let (a, c) = (scaled[i], scaled[i + 2]);
                    let bound = 0.51 + (a.abs() + c.abs()) * 2f64.powi(-27);
                    prop_assert!((got[i] as f64 - (a * cos - c * sin)).abs() <= bound);
                    prop_assert!((got[i + 2] as f64 - (c * cos + a * sin)).abs() <= bound);
                }
            }
        }
    }

    #[test]
    fn layer_norms_are_pinned_at_their_limits() {
        let limit = (1i64 << RESIDUAL_BITS) - 1;
        let norm = |w: i32, b: i64| Norm::new("s", vec![w; 2], 0).unwrap().with_bias("s", vec![b; 2]).unwrap();
        // The deviations of two values are one and minus one.
        assert_eq!(layer_norm("s", &norm(3, 0), 1, &[limit, -limit]), Ok(vec![3 << 16, -3 << 16]));
        // A constant row is its bias, whatever the constant.
        assert_eq!(layer_norm("s", &norm(3, 5 << 16), 1, &[limit, limit]), Ok(vec![5, 5]));
        assert_eq!(layer_norm("s", &norm(1, 0), 1, &[0, limit + 1]), Err(FixedError::overflow("input", "s", 1, 40)));
        assert_eq!(layer_norm("s", &norm(1, 0), 0, &[0, 0]), Err(FixedError::parameter("norm eps", "s")));
        let plain = Norm::new("s", vec![1; 2], 0).unwrap();
        assert_eq!(layer_norm("s", &plain, 1, &[0, 0]), Err(FixedError::shape("bias", "s")));
        let wide = Norm::new("s", vec![i32::MAX; MAX_FEATURES], 30).unwrap();
        let wide = wide.with_bias("s", vec![(1 << 47) - 1; MAX_FEATURES]).unwrap();
        let row: Vec<i64> = (0..MAX_FEATURES).map(|i| if i % 2 == 0 { limit } else { -limit }).collect();
        assert_eq!(layer_norm("s", &wide, i64::MAX, &row), Err(FixedError::overflow("output", "s", 0, 31)));
    }

    #[test]
    fn heads_must_fit_the_rotations() {
        let rope = FixedRope { dim: 4, theta: Dyadic { mantissa: 10_000, exponent: 0 }, scaling: None };
        let rotations = Rotations::new("s", &rope, 1).unwrap();
        let run = |dim, heads, x: usize| {
            norm_rope("s", &Norm::new("s", vec![1; dim], 0).unwrap(), 1, &vec![0; x], heads, &rotations)
        };
        assert_eq!(run(4, 2, 8), Ok(vec![0; 8]));
        assert_eq!(run(2, 2, 8), Err(FixedError::shape("head width", "s")));
        assert_eq!(run(4, 2, 12), Err(FixedError::shape("input", "s")));
        assert_eq!(run(4, 0, 8), Err(FixedError::shape("input", "s")));
        assert_eq!(run(4, 1, 8), Err(FixedError::shape("rotation table", "s")));
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
