//! Causal softmax attention with grouped heads, on exact scores.

use std::sync::LazyLock;

use ftk_kernels::matmul::{MAX_INPUTS, product_32};
use rayon::prelude::*;

use super::elementary::{ONE, SCALE, exp_neg};
use super::{FixedError, WORD_BITS, round_shift, times, word};

/// Fractional bits of exponentials and of `1 / sqrt(dim)`.
pub const VALUE_BITS: u32 = 30;
/// The reciprocal of a row's sum is `floor(2^62 / sum)`.
pub const RECIPROCAL_BITS: u32 = 62;
/// From scores at `2^-32` times `2^-30` to exponents at `2^-16`.
pub(crate) const EXPONENT_SHIFT: u32 = 46;
/// An interval of the table is `2^9` exponents wide, that is `2^-7`.
pub(crate) const STEP_BITS: u32 = 9;
/// Intervals of the table, which spans `[0, 32)`.
pub(crate) const INTERVALS: usize = 1 << 12;
/// Query rows one task works on.
const BLOCK: usize = 64;

/// `round(exp(-i 2^-7) * 2^30)` for `0 <= i <= 4096`.
static EXP: LazyLock<Vec<i32>> = LazyLock::new(|| {
    (0..=INTERVALS as i128).map(|i| round_shift(exp_neg(i * (ONE >> 7)), SCALE - VALUE_BITS) as i32).collect()
});

/// The exponential at the left end of an interval of the table, and by how much it falls to the right one.
pub(crate) fn exp_interval(interval: usize) -> [i32; 2] {
    [EXP[interval], EXP[interval] - EXP[interval + 1]]
}

/// Head counts; `query` is a multiple of `key_value`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadCounts {
    /// Query heads.
    pub query: usize,
    /// Key and value heads.
    pub key_value: usize,
    /// Features of one head.
    pub dim: usize,
}

impl HeadCounts {
    /// # Errors
    /// [`FixedError::Shape`] of numbers of heads that do not go together, or of too many of them or of their features.
    pub(crate) fn check(&self, site: &str) -> Result<(), FixedError> {
        let Self { query, key_value, dim } = *self;
        let grouped = query > 0 && key_value > 0 && query.is_multiple_of(key_value);
        let within = query <= MAX_INPUTS && (1..=MAX_INPUTS).contains(&dim);
        FixedError::require(grouped && within, "number of heads", site)
    }

    /// # Errors
    /// [`FixedError::Shape`] of too many rows that see each other.
    pub(crate) fn check_rows(site: &str, rows: usize) -> Result<(), FixedError> {
        FixedError::require(rows <= MAX_INPUTS, "number of rows", site)
    }

    /// The head of keys that a head of queries looks at.
    pub(crate) fn shared(&self, head: usize) -> usize {
        head / (self.query / self.key_value)
    }
}

/// `exp(-t)` at scale `2^-30` for `t >= 0` at scale `2^-16`: interpolated and rounded, zero from 32 on.
pub(crate) fn exp(t: i128) -> i32 {
    if t >= (INTERVALS as i128) << STEP_BITS {
        return 0;
    }
    let interval = (t >> STEP_BITS) as usize;
    let part = (t & ((1 << STEP_BITS) - 1)) as i64;
    let (left, right) = (i64::from(EXP[interval]), i64::from(EXP[interval + 1]));
    (((left << STEP_BITS) - (left - right) * part + (1 << (STEP_BITS - 1))) >> STEP_BITS) as i32
}

/// `round(2^30 / sqrt(dim))`.
pub(crate) fn inverse_root(dim: usize) -> i128 {
    i128::from(((1u64 << (2 * VALUE_BITS + 2)) / dim as u64).isqrt().div_ceil(2))
}

/// Attention over the rows of one sequence: `q` is `(rows, query * dim)`, `k` and `v` `(rows, key_value * dim)`,
/// the result `(rows, query * dim)`. Row `i` sees rows `j <= i`; others are absent. With `c = round(2^30 / sqrt(dim))`,
///
/// ```text
/// t_j = round((max_j (q k_j) - q k_j) c / 2^46),  e_j = exp(-t_j)
/// y   = round(sum_j e_j v_j * floor(2^62 / sum_j e_j) / 2^62)
/// ```
///
/// # Errors
/// [`FixedError::Shape`], also for more than `2^16` rows or features of a head. Outputs are weighted means
/// and cannot overflow.
pub fn attention(site: &str, heads: HeadCounts, q: &[i32], k: &[i32], v: &[i32]) -> Result<Vec<i64>, FixedError> {
    let HeadCounts { query, key_value, dim } = heads;
    heads.check(site)?;
    let (width, narrow) = (query * dim, key_value * dim);
    FixedError::require(q.len().is_multiple_of(width), "query", site)?;
    let rows = q.len() / width;
    HeadCounts::check_rows(site, rows)?;
    FixedError::require(k.len() == rows * narrow, "key", site)?;
    FixedError::require(v.len() == rows * narrow, "value", site)?;
    for values in [q, k, v] {
        if let Some(entry) = values.iter().position(|&value| value == i32::MIN) {
            return Err(FixedError::overflow("input", site, entry, WORD_BITS));
        }
    }

    let c = inverse_root(dim) as i64;
    let tasks: Vec<(usize, usize)> =
        (0..query).flat_map(|head| (0..rows).step_by(BLOCK).map(move |start| (head, start))).collect();
    let blocks: Vec<Result<Vec<i64>, FixedError>> = tasks
        .par_iter()
        .map(|&(head, start)| {
            let shared = head / (query / key_value) * dim;
            let end = rows.min(start + BLOCK);
            let queries: Vec<i32> = (start..end).flat_map(|i| &q[i * width + head * dim..][..dim]).copied().collect();
            let keys: Vec<i32> = (0..end).flat_map(|j| &k[j * narrow + shared..][..dim]).copied().collect();
            // Values as (dim, rows), the orientation of a weight matrix.
            let values: Vec<i32> = (0..dim).flat_map(|d| (0..end).map(move |j| v[j * narrow + shared + d])).collect();

            let scores = product_32(&keys, &queries, dim);
            let mut weights = vec![0; scores.len()];
            let mut reciprocals = Vec::with_capacity(end - start);
            for (i, (scores, weights)) in scores.chunks_exact(end).zip(weights.chunks_exact_mut(end)).enumerate() {
                let visible = &scores[..=start + i];
                let largest = visible.iter().copied().fold(i128::MIN, i128::max);
                // At most 2^16 rows of at most 2^30 each.
                let mut sum = 0i64;
                for (weight, &score) in weights.iter_mut().zip(visible) {
                    *weight = exp(round_shift(times(largest - score, c), EXPONENT_SHIFT));
                    sum += i64::from(*weight);
                }
                // At least 2^30: the largest score's exponential is one.
                reciprocals.push((1i64 << RECIPROCAL_BITS) / sum);
            }
            let sums = product_32(&values, &weights, end);
            let entry = |(i, &sum): (usize, &i128)| {
                let (row, d) = (i / dim, i % dim);
                let at = (start + row) * width + head * dim + d;
                word(round_shift(times(sum, reciprocals[row]), RECIPROCAL_BITS), site, at)
            };
            sums.iter().enumerate().map(entry).collect()
        })
        .collect();

    let mut outputs = vec![0; q.len()];
    for ((head, start), block) in tasks.into_iter().zip(blocks) {
        for (row, values) in block?.chunks_exact(dim).enumerate() {
            outputs[(start + row) * width + head * dim..][..dim].copy_from_slice(values);
        }
    }
    Ok(outputs)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEADS: HeadCounts = HeadCounts { query: 4, key_value: 2, dim: 3 };

    /// The same attention in floats.
    fn reference(heads: HeadCounts, q: &[i32], k: &[i32], v: &[i32]) -> Vec<f64> {
        let HeadCounts { query, key_value, dim } = heads;
        let rows = q.len() / (query * dim);
        let real = |x: i32| f64::from(x) / 65536.0;
        let mut outputs = vec![0.0; q.len()];
        for i in 0..rows {
            for head in 0..query {
                let at = |j: usize, d: usize| (j * key_value + head / (query / key_value)) * dim + d;
                let own = |d: usize| (i * query + head) * dim + d;
                let score =
                    |j| (0..dim).map(|d| real(q[own(d)]) * real(k[at(j, d)])).sum::<f64>() / (dim as f64).sqrt();
                let scores: Vec<f64> = (0..=i).map(score).collect();
                let largest = scores.iter().copied().fold(f64::MIN, f64::max);
                let weights: Vec<f64> = scores.iter().map(|score| (score - largest).exp()).collect();
                let sum: f64 = weights.iter().sum();
                for d in 0..dim {
                    outputs[own(d)] = (0..=i).map(|j| weights[j] / sum * f64::from(v[at(j, d)])).sum();
                }
            }
        }
        outputs
    }

    proptest! {
        #[test]
        fn agrees_with_floats(
            q in prop::collection::vec(-400_000i32..400_000, 12 * 5),
            k in prop::collection::vec(-400_000i32..400_000, 6 * 5),
            v in prop::collection::vec(-400_000i32..400_000, 6 * 5),
        ) {
            let got = attention("s", HEADS, &q, &k, &v).unwrap();
            for (got, exact) in got.iter().zip(reference(HEADS, &q, &k, &v)) {
                // Each weight is off by at most 2^-17 (exponent) + 2^-17 (interpolation) of itself, numerator and
                // denominator alike, plus the final rounding.
                prop_assert!((*got as f64 - exact).abs() <= 0.5 + 400_000.0 * 4.0 * 2f64.powi(-17), "{got} against {exact}");
            }
        }

        #[test]
        fn largest_inputs_neither_wrap_nor_overflow(signs in prop::collection::vec(any::<bool>(), 24 * 5)) {
            let extreme: Vec<i32> = signs.iter().map(|&up| if up { i32::MAX } else { -i32::MAX }).collect();
            let (q, rest) = extreme.split_at(12 * 5);
            let (k, v) = rest.split_at(6 * 5);
            let got = attention("s", HEADS, q, k, v).unwrap();
            for (got, exact) in got.iter().zip(reference(HEADS, q, k, v)) {
                prop_assert!((*got as f64 - exact).abs() <= 4.0, "{got} against {exact}");
            }
        }
    }

    #[test]
    fn blocks_do_not_show() {
        // More rows than one block; a prefix must give the prefix of the result.
        let rows = BLOCK + 9;
        let values = |count: usize, factor: usize| {
            (0..count).map(|i| (i * factor % 700_001) as i32 - 350_000).collect::<Vec<_>>()
        };
        let (q, k, v) = (values(rows * 12, 7919), values(rows * 6, 104_729), values(rows * 6, 1_299_709));
        let all = attention("s", HEADS, &q, &k, &v).unwrap();
        let some = attention("s", HEADS, &q[..12 * 20], &k[..6 * 20], &v[..6 * 20]).unwrap();
        assert_eq!(all[..12 * 20], some);
    }

    #[test]
    fn the_exponential_agrees_with_floats_and_ends() {
        for t in (0..34i32 << 16).step_by(97) {
            let exact = (-f64::from(t) / 65536.0).exp() * 2f64.powi(30);
            let bound = 1.01 + exact * 2f64.powi(-17) + if t >= 32 << 16 { 1.0 } else { 0.0 };
            assert!((f64::from(exp(t.into())) - exact).abs() <= bound, "exp(-{t} / 2^16)");
        }
        assert_eq!(exp(0), 1 << 30);
        assert_eq!(exp(i128::MAX), 0);
    }

    #[test]
    fn the_scale_is_the_nearest_integer() {
        assert_eq!(inverse_root(64), 1 << 27);
        for dim in 1..=256u32 {
            let exact = 2f64.powi(30) / f64::from(dim).sqrt();
            assert!((inverse_root(dim as usize) as f64 - exact).abs() <= 0.5 + 1e-6, "{dim}");
        }
    }

    #[test]
    fn the_table_is_pinned() {
        let bytes: Vec<u8> = EXP.iter().flat_map(|value| value.to_le_bytes()).collect();
        assert_eq!(
            blake3::hash(&bytes).to_hex().as_str(),
            "676a0b7a6ccc9e68e518bda64808fa3e2e72938641b3e65899490d646b9c0e3b"
        );
    }

    #[test]
    fn shapes_are_checked() {
        let run = |q: usize, k: usize, v: usize| attention("s", HEADS, &vec![0; q], &vec![0; k], &vec![0; v]);
        assert_eq!(run(11, 6, 6), Err(FixedError::shape("query", "s")));
        assert_eq!(run(12, 12, 6), Err(FixedError::shape("key", "s")));
        assert_eq!(run(12, 6, 0), Err(FixedError::shape("value", "s")));
        let odd = HeadCounts { query: 3, key_value: 2, dim: 1 };
        assert_eq!(attention("s", odd, &[], &[], &[]), Err(FixedError::shape("number of heads", "s")));
        assert_eq!(
            attention("s", HeadCounts { query: 1, key_value: 1, dim: 1 }, &[0], &[i32::MIN], &[0]),
            Err(FixedError::overflow("input", "s", 0, 31))
        );
    }
}
