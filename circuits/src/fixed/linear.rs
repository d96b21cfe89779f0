//! Matrix products with an optional low-rank delta: one rounding for base and adapter together.
//!
//! Output row `o` of a matrix has its own shift `s_o`, adapter factors have shifts `s_A` and `s_B`. With
//! `delta = B (A x)` exact and `b = max(s_o, s_A + s_B, 1)`,
//!
//! ```text
//! y_o = round(((W x)_o * 2^(b - s_o) + delta_o * 2^(b - s_A - s_B)) / 2^b)
//! ```
//!
//! and a matrix with a bias `c` at scale `2^-32` has `b = max(s_o, s_A + s_B, 16)` and `c_o * 2^(b - 16)` in the sum.
//! Any larger `b` gives the same value, so a circuit may use one `b` for a whole class of sites.
//! Bounds: `|W x| < 2^62`, `|delta| < 2^87`, `|c| < 2^47`, `b <= 60`, hence every accumulator is below `2^123`.

use ftk_kernels::matmul::{MAX_INPUTS, product, product_64};
use rayon::prelude::*;

use super::rope::{ROTATION_BITS, Rotations};
use super::{ACTIVATION_BITS, BIAS_BITS, FixedError, WORD_BITS, check_bias, round_shift, round_shift_64, times, word};

/// Largest shift of 16-bit weights.
pub const MAX_SHIFT: u32 = ftk_kernels::grid::MAX_SHIFT;
/// Entries that outweigh handing them to another thread.
const CHUNK: usize = 1 << 14;
/// Largest rank of an adapter.
pub const MAX_RANK: usize = 1 << 10;

/// 16-bit base weights `(d_out, d_in)` with a power-of-two scale per output row, and a bias where the site has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matrix {
    d_out: usize,
    d_in: usize,
    weights: Vec<i16>,
    shifts: Vec<u8>,
    bias: Option<Vec<i64>>,
}

impl Matrix {
    /// Row `o` stands for `weights[o][..] * 2^-shifts[o]`. `site` only names the matrix in errors.
    ///
    /// # Errors
    /// [`FixedError::Shape`] unless there are `shifts.len() * d_in` weights and `0 < d_in <= 2^16`,
    /// [`FixedError::Parameter`] for a shift above [`MAX_SHIFT`].
    pub fn new(site: &str, d_in: usize, weights: Vec<i16>, shifts: Vec<u8>) -> Result<Self, FixedError> {
        let d_out = shifts.len();
        let fits = (1..=MAX_INPUTS).contains(&d_in) && d_out.checked_mul(d_in) == Some(weights.len());
        FixedError::require(fits, "weight", site)?;
        if shifts.iter().any(|&shift| u32::from(shift) > MAX_SHIFT) {
            return Err(FixedError::parameter("weight shift", site));
        }
        Ok(Self { d_out, d_in, weights, shifts, bias: None })
    }

    /// The same matrix with a bias `(d_out)` at scale `2^-32`.
    ///
    /// # Errors
    /// [`FixedError::Shape`], [`FixedError::Overflow`] at an entry that reaches `2^47`.
    pub fn with_bias(self, site: &str, bias: Vec<i64>) -> Result<Self, FixedError> {
        check_bias(site, &bias, self.d_out)?;
        Ok(Self { bias: Some(bias), ..self })
    }

    /// Some of the outputs, in this order; `None` if there are not so many.
    pub fn select(&self, outputs: &[u32]) -> Option<Self> {
        let outputs: Vec<usize> = outputs.iter().map(|output| *output as usize).collect();
        let shifts = outputs.iter().map(|output| self.shifts.get(*output).copied()).collect::<Option<Vec<u8>>>()?;
        let row = |output: &usize| &self.weights[output * self.d_in..][..self.d_in];
        let weights = outputs.iter().flat_map(row).copied().collect();
        let bias = self.bias.as_ref().map(|bias| outputs.iter().map(|output| bias[*output]).collect());
        Some(Self { d_out: outputs.len(), d_in: self.d_in, weights, shifts, bias })
    }

    /// The bias, if there is one.
    pub fn bias(&self) -> Option<&[i64]> {
        self.bias.as_deref()
    }

    /// Output features.
    pub fn d_out(&self) -> usize {
        self.d_out
    }

    /// Input features.
    pub fn d_in(&self) -> usize {
        self.d_in
    }

    /// Entries, row-major `(d_out, d_in)`.
    pub fn weights(&self) -> &[i16] {
        &self.weights
    }

    /// Fractional bits of each output row.
    pub fn shifts(&self) -> &[u8] {
        &self.shifts
    }
}

/// The factors of one adapted site as 16-bit integers with one power-of-two scale per tensor. `Debug` shows none of
/// them: an adapter may be secret.
#[derive(Clone, PartialEq, Eq)]
pub struct FixedFactors {
    rank: usize,
    d_in: usize,
    d_out: usize,
    a: Vec<i16>,
    b: Vec<i16>,
    shifts: [u8; 2],
}

impl std::fmt::Debug for FixedFactors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { rank, d_in, d_out, .. } = self;
        write!(f, "Factors of rank {rank}, {d_in} to {d_out}")
    }
}

impl FixedFactors {
    /// `A` is `a * 2^-shifts[0]`, `(rank, d_in)`; `B` is `b * 2^-shifts[1]`, `(d_out, rank)`.
    ///
    /// # Errors
    /// [`FixedError::Shape`] unless the entries fill the shapes and `0 < d_in <= 2^16`,
    /// [`FixedError::Parameter`] for a rank outside `1..=MAX_RANK` or a shift above [`MAX_SHIFT`].
    pub fn new(
        site: &str,
        rank: usize,
        [d_in, d_out]: [usize; 2],
        a: Vec<i16>,
        b: Vec<i16>,
        shifts: [u8; 2],
    ) -> Result<Self, FixedError> {
        if !(1..=MAX_RANK).contains(&rank) {
            return Err(FixedError::parameter("adapter rank", site));
        }
        if shifts.iter().any(|&shift| u32::from(shift) > MAX_SHIFT) {
            return Err(FixedError::parameter("adapter shift", site));
        }
        let fits_a = (1..=MAX_INPUTS).contains(&d_in) && rank.checked_mul(d_in) == Some(a.len());
        FixedError::require(fits_a, "adapter factor A", site)?;
        FixedError::require(d_out.checked_mul(rank) == Some(b.len()), "adapter factor B", site)?;
        Ok(Self { rank, d_in, d_out, a, b, shifts })
    }

    /// Rank `r`.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// Input features.
    pub fn d_in(&self) -> usize {
        self.d_in
    }

    /// Output features.
    pub fn d_out(&self) -> usize {
        self.d_out
    }

    /// Entries of `A`, row-major `(rank, d_in)`.
    pub fn a(&self) -> &[i16] {
        &self.a
    }

    /// Entries of `B`, row-major `(d_out, rank)`.
    pub fn b(&self) -> &[i16] {
        &self.b
    }

    /// Fractional bits of `A` and of `B`.
    pub fn shifts(&self) -> [u8; 2] {
        self.shifts
    }

    /// Fractional bits of `B A`.
    pub fn shift(&self) -> u32 {
        self.shifts.iter().copied().map(u32::from).sum()
    }

    /// `B (A x)` for each row, exactly: `(rows, d_out)`.
    ///
    /// # Errors
    /// [`FixedError::Shape`] unless the inputs are whole rows of `d_in`.
    pub fn delta(&self, site: &str, inputs: &[i32]) -> Result<Vec<i128>, FixedError> {
        FixedError::require(inputs.len().is_multiple_of(self.d_in), "input", site)?;
        Ok(product_64(&self.b, &product(&self.a, inputs, self.d_in), self.rank))
    }
}

/// Exact deltas to add at a site, however they were come by.
#[derive(Clone, Copy, Debug)]
pub struct Delta<'a> {
    /// `(rows, d_out)` at scale `2^-(16 + shift)`.
    pub values: &'a [i128],
    /// Rank of the adapter they are claimed for; bounds their magnitude.
    pub rank: usize,
    /// Fractional bits of the adapter's `B A`.
    pub shift: u32,
}

impl Delta<'_> {
    /// Whether the deltas are some an adapter of this rank could produce: `|delta| <= rank * d_in * 2^61`.
    fn check(&self, site: &str, d_in: usize, entries: usize) -> Result<(), FixedError> {
        if !(1..=MAX_RANK).contains(&self.rank) {
            return Err(FixedError::parameter("adapter rank", site));
        }
        if self.shift > 2 * MAX_SHIFT {
            return Err(FixedError::parameter("adapter shift", site));
        }
        FixedError::require(self.values.len() == entries, "delta", site)?;
        let limit = (self.rank as u128 * d_in as u128) << 61;
        let beyond = |value: &i128| value.unsigned_abs() > limit;
        match self.values.par_iter().with_min_len(CHUNK).position_first(beyond) {
            Some(entry) => Err(FixedError::Delta { site: site.to_owned(), entry }),
            None => Ok(()),
        }
    }
}

/// The linear site of the module's equation: `(rows, d_in)` to `(rows, d_out)`.
///
/// # Errors
/// [`FixedError::Overflow`] at an output that reaches `2^31`, [`FixedError::Delta`] and
/// [`FixedError::Parameter`] for impossible deltas, [`FixedError::Shape`].
pub fn linear(site: &str, matrix: &Matrix, inputs: &[i32], delta: Option<Delta>) -> Result<Vec<i64>, FixedError> {
    let sums = accumulate(site, matrix, inputs, delta)?;
    let mut outputs = vec![0; sums.len()];
    let bits: Vec<u32> = (0..matrix.d_out).map(|o| common_shift(matrix, delta, &[o])).collect();
    for_rows(matrix.d_out, &mut outputs, |row, outputs| {
        for (o, output) in outputs.iter_mut().enumerate() {
            let entry = row * matrix.d_out + o;
            let (shift, bits) = (u32::from(matrix.shifts[o]), bits[o]);
            let small = delta.filter(|delta| delta.shift == bits).and_then(|delta| narrow(delta.values[entry]));
            let rounded = match (delta, &matrix.bias, small) {
                // The value does not depend on b, and without a delta and a bias 64 bits hold everything.
                (None, None, _) => i128::from(round_shift_64(sums[entry], shift)),
                (_, None, Some(delta)) => i128::from(round_64((sums[entry], shift), (delta, bits))),
                _ => round_shift(at_shift(matrix, &sums, delta, (row, o), bits), bits),
            };
            *output = word(rounded, site, entry)?;
        }
        Ok(())
    })?;
    Ok(outputs)
}

/// A delta that [`round_64`] takes, as nearly all are.
fn narrow(delta: i128) -> Option<i64> {
    i64::try_from(delta).ok().filter(|delta| delta.unsigned_abs() <= 1 << 61)
}

/// `round((sum 2^(b - s) + delta) / 2^b)` for `s <= b`, where `b` is at least 1. Multiples of `2^s` in the sum are whole
/// without rounding. What is left is below `2^60`, a delta at most `2^61`, and a half at most `2^59`.
fn round_64((sum, s): (i64, u32), (delta, b): (i64, u32)) -> i64 {
    let left = sum & ((1 << s) - 1);
    (sum >> s) + (((left << (b - s)) + delta + (1 << (b - 1))) >> b)
}

/// [`linear`] with each head rotated by its row's position before the one rounding. With `a`, `c` the
/// accumulators of features `i` and `i + dim / 2` at their common shift `b`, the outputs are
/// `round((a cos - c sin) / 2^(b + 30))` and `round((c cos + a sin) / 2^(b + 30))`.
///
/// # Errors
/// Those of [`linear`]; [`FixedError::Overflow`] also at an accumulator that reaches `2^(b + 32)`, whose
/// rotation could not stay below `2^31`; [`FixedError::Shape`] if the table has fewer positions than rows
/// or heads do not fill the outputs.
pub fn linear_rope(
    site: &str,
    matrix: &Matrix,
    inputs: &[i32],
    delta: Option<Delta>,
    rotations: &Rotations,
) -> Result<Vec<i64>, FixedError> {
    let (dim, half) = (rotations.dim, rotations.dim / 2);
    FixedError::require(matrix.d_out.is_multiple_of(dim), "head width", site)?;
    let sums = accumulate(site, matrix, inputs, delta)?;
    FixedError::require(sums.len() / matrix.d_out.max(1) <= rotations.positions(), "rotation table", site)?;
    let mut outputs = vec![0; sums.len()];
    // By the first of the two features that are rotated together.
    let bits: Vec<u32> = (0..matrix.d_out)
        .map(|o| if o % dim < half { common_shift(matrix, delta, &[o, o + half]) } else { 0 })
        .collect();
    for_rows(matrix.d_out, &mut outputs, |row, outputs| {
        let angles = row * half..(row + 1) * half;
        let (cos, sin) = (&rotations.cos[angles.clone()], &rotations.sin[angles]);
        for head in (0..matrix.d_out).step_by(dim) {
            for i in 0..half {
                let (first, second) = (head + i, head + i + half);
                let bits = bits[first];
                let part = |o: usize| {
                    let sum = at_shift(matrix, &sums, delta, (row, o), bits);
                    if sum.unsigned_abs() >> (bits + WORD_BITS + 1) != 0 {
                        return Err(FixedError::overflow("output", site, row * matrix.d_out + o, WORD_BITS));
                    }
                    Ok(sum)
                };
                let (a, c) = (part(first)?, part(second)?);
                let (cos, sin) = (i64::from(cos[i]), i64::from(sin[i]));
                let rounded = |sum: i128, o| word(round_shift(sum, bits + ROTATION_BITS), site, row * matrix.d_out + o);
                outputs[first] = rounded(times(a, cos) - times(c, sin), first)?;
                outputs[second] = rounded(times(c, cos) + times(a, sin), second)?;
            }
        }
        Ok(())
    })?;
    Ok(outputs)
}

/// `W x`, after checking every operand.
fn accumulate(site: &str, matrix: &Matrix, inputs: &[i32], delta: Option<Delta>) -> Result<Vec<i64>, FixedError> {
    FixedError::require(inputs.len().is_multiple_of(matrix.d_in), "input", site)?;
    // All are looked at, several at a time: there is hardly ever one.
    if inputs.iter().fold(false, |any, &x| any | (x == i32::MIN))
        && let Some(entry) = inputs.iter().position(|&x| x == i32::MIN)
    {
        return Err(FixedError::overflow("input", site, entry, WORD_BITS));
    }
    if let Some(delta) = delta {
        delta.check(site, matrix.d_in, inputs.len() / matrix.d_in * matrix.d_out)?;
    }
    Ok(product(&matrix.weights, inputs, matrix.d_in))
}

/// Fractional bits of a bias beyond those of an activation.
const BIAS_SHIFT: u32 = BIAS_BITS - ACTIVATION_BITS;

/// The least `b >= 1` no smaller than any shift involved in these output rows.
fn common_shift(matrix: &Matrix, delta: Option<Delta>, rows: &[usize]) -> u32 {
    let bias = matrix.bias.as_ref().map(|_| BIAS_SHIFT);
    let rows = rows.iter().map(|&row| u32::from(matrix.shifts[row]));
    rows.chain(delta.map(|delta| delta.shift)).chain(bias).fold(1, u32::max)
}

/// One entry of `W x + c + delta` at shift `bits`.
fn at_shift(matrix: &Matrix, sums: &[i64], delta: Option<Delta>, (row, o): (usize, usize), bits: u32) -> i128 {
    let entry = row * matrix.d_out + o;
    let base = i128::from(sums[entry]) << (bits - u32::from(matrix.shifts[o]));
    let bias = matrix.bias.as_ref().map_or(0, |bias| i128::from(bias[o]) << (bits - BIAS_SHIFT));
    base + bias + delta.map_or(0, |delta| delta.values[entry] << (bits - delta.shift))
}

/// Fills rows in parallel; of several errors the one of the first row is returned, on every machine.
fn for_rows(
    width: usize,
    outputs: &mut [i64],
    fill: impl Fn(usize, &mut [i64]) -> Result<(), FixedError> + Sync,
) -> Result<(), FixedError> {
    let filled: Vec<_> =
        outputs.par_chunks_mut(width.max(1)).enumerate().map(|(row, outputs)| fill(row, outputs)).collect();
    filled.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::elementary::Dyadic;
    use super::super::rope::FixedRope;
    use super::*;

    fn matrix(d_in: usize, weights: &[i16], shifts: &[u8]) -> Matrix {
        Matrix::new("s", d_in, weights.to_vec(), shifts.to_vec()).unwrap()
    }

    fn scale(shift: u32) -> f64 {
        f64::from(shift).exp2()
    }

    proptest! {
        #[test]
        fn linear_rounds_the_exact_value_once(
            w in prop::collection::vec(-32767i16..=32767, 6),
            shifts in prop::collection::vec(12u8..=30, 2),
            x in prop::collection::vec(-4_000_000i32..4_000_000, 6),
            a in prop::collection::vec(any::<i16>(), 6),
            b in prop::collection::vec(any::<i16>(), 4),
            adapter_shifts in [14u8..=30, 14u8..=30],
        ) {
            let matrix = matrix(3, &w, &shifts);
            let factors = FixedFactors::new("s", 2, [3, 2], a.clone(), b.clone(), adapter_shifts).unwrap();
            let deltas = factors.delta("s", &x).unwrap();
            let delta = Delta { values: &deltas, rank: 2, shift: factors.shift() };
            let got = linear("s", &matrix, &x, Some(delta)).unwrap();
            for row in 0..2 {
                for o in 0..2 {
                    let dot = |w: &[i16]| -> f64 { w.iter().zip(&x[row * 3..]).map(|(&w, &x)| f64::from(w) * f64::from(x)).sum() };
                    let low_rank: f64 = (0..2).map(|k| f64::from(b[o * 2 + k]) * dot(&a[k * 3..][..3])).sum();
                    let exact = dot(&w[o * 3..][..3]) / scale(shifts[o].into()) + low_rank / scale(factors.shift());
                    prop_assert!((got[row * 2 + o] as f64 - exact).abs() <= 0.5 + 1e-6, "{} against {exact}", got[row * 2 + o]);
                }
            }
        }

        #[test]
        fn rope_rotates_the_exact_value(
            w in prop::collection::vec(-32767i16..=32767, 8),
            shifts in prop::collection::vec(12u8..=30, 4),
            x in prop::collection::vec(-4_000_000i32..4_000_000, 10),
        ) {
            let matrix = matrix(2, &w, &shifts);
            let rope = FixedRope { dim: 4, theta: Dyadic { mantissa: 10_000, exponent: 0 }, scaling: None };
            let got = linear_rope("s", &matrix, &x, None, &Rotations::new("s", &rope, 5).unwrap()).unwrap();
            for row in 0..5 {
                let exact = |o: usize| (0..2).map(|i| f64::from(w[o * 2 + i]) * f64::from(x[row * 2 + i])).sum::<f64>() / scale(shifts[o].into());
                for i in 0..2 {
                    let (sin, cos) = (row as f64 * 0.01f64.powi(i as i32)).sin_cos();
                    let (a, c) = (exact(i), exact(i + 2));
                    // Half a unit of rounding, and 2^-31 of each part from the rounded cosine and sine.
                    let bound = 0.5 + (a.abs() + c.abs()) * 2f64.powi(-30) + 1e-6;
                    prop_assert!((got[row * 4 + i] as f64 - (a * cos - c * sin)).abs() <= bound);
                    prop_assert!((got[row * 4 + i + 2] as f64 - (c * cos + a * sin)).abs() <= bound);
                }
            }
        }
    }

    proptest! {
        #[test]
        fn a_bias_is_rounded_with_the_rest(
            w in prop::collection::vec(-32767i16..=32767, 8),
            shifts in prop::collection::vec(0u8..=30, 4),
            x in prop::collection::vec(-40_000i32..40_000, 6),
            bias in prop::collection::vec(-(1i64 << 40)..1 << 40, 4),
            with_delta in any::<bool>(),
        ) {
            let matrix = matrix(2, &w, &shifts).with_bias("s", bias.clone()).unwrap();
            let values = vec![0; 12];
            let delta = with_delta.then_some(Delta { values: &values, rank: 1, shift: 3 });
            let exact = |row: usize, o: usize| {
                let dot: f64 = (0..2).map(|i| f64::from(w[o * 2 + i]) * f64::from(x[row * 2 + i])).sum();
                dot / scale(shifts[o].into()) + bias[o] as f64 / scale(16)
            };
            let within = (0..3).all(|row| (0..4).all(|o| exact(row, o).abs() < 1e9));
            prop_assume!(within);
            let plain = linear("s", &matrix, &x, delta).unwrap();
            let rope = FixedRope { dim: 4, theta: Dyadic { mantissa: 10_000, exponent: 0 }, scaling: None };
            let rotated = linear_rope("s", &matrix, &x, delta, &Rotations::new("s", &rope, 3).unwrap()).unwrap();
            for row in 0..3 {
                for o in 0..4 {
                    prop_assert!((plain[row * 4 + o] as f64 - exact(row, o)).abs() <= 0.5 + 1e-6);
                }
                for i in 0..2 {
                    let (sin, cos) = (row as f64 * 0.01f64.powi(i as i32)).sin_cos();
                    let (a, c) = (exact(row, i), exact(row, i + 2));
                    let bound = 0.5 + (a.abs() + c.abs()) * 2f64.powi(-30) + 1e-6;
                    prop_assert!((rotated[row * 4 + i] as f64 - (a * cos - c * sin)).abs() <= bound);
                    prop_assert!((rotated[row * 4 + i + 2] as f64 - (c * cos + a * sin)).abs() <= bound);
                }
            }
        }
    }

    #[test]
    fn biases_have_one_entry_an_output_and_a_limit() {
        let one = || matrix(1, &[1, 1], &[1, 1]);
        assert_eq!(one().with_bias("s", vec![0]), Err(FixedError::shape("bias", "s")));
        let limit = 1i64 << 47;
        assert_eq!(one().with_bias("s", vec![0, limit]), Err(FixedError::overflow("bias", "s", 1, 47)));
        assert_eq!(one().with_bias("s", vec![0, i64::MIN]), Err(FixedError::overflow("bias", "s", 1, 47)));
        let largest = one().with_bias("s", vec![1 - limit, 1 << 15]).unwrap();
        // -2^31 + 2^-16 rounds to the limit; with one half more it stays below.
        assert_eq!(linear("s", &largest, &[0], None), Err(FixedError::overflow("output", "s", 0, 31)));
        assert_eq!(linear("s", &largest, &[1], None), Ok(vec![1 - (1 << 31), 1]));
    }

    #[test]
    fn halves_round_up() {
        assert_eq!(linear("s", &matrix(1, &[1, -1, 1], &[1, 1, 0]), &[1], None), Ok(vec![1, 0, 1]));
    }

    #[test]
    fn a_larger_common_shift_changes_nothing() {
        let matrix = matrix(2, &[3, -5, 7, 11], &[3, 5]);
        let x = [1_234_567, -7_654_321];
        let zero = Delta { values: &[0, 0], rank: 1, shift: 60 };
        assert_eq!(linear("s", &matrix, &x, Some(zero)), linear("s", &matrix, &x, None));
    }

    #[test]
    fn outputs_overflow_at_their_limit_and_not_before() {
        let one = matrix(1, &[2, -2], &[1, 1]);
        let limit = i128::from(i32::MAX);
        let run = |x, delta: [i128; 2]| linear("s", &one, &[x], Some(Delta { values: &delta, rank: 1, shift: 0 }));
        assert_eq!(run(i32::MAX, [0, 0]), Ok(vec![i32::MAX.into(), -i64::from(i32::MAX)]));
        assert_eq!(run(i32::MAX, [1, 0]), Err(FixedError::overflow("output", "s", 0, 31)));
        assert_eq!(run(i32::MAX, [0, -1]), Err(FixedError::overflow("output", "s", 1, 31)));
        assert_eq!(run(0, [limit, -limit]), Ok(vec![i32::MAX.into(), -i64::from(i32::MAX)]));
        assert_eq!(run(i32::MIN, [0, 0]), Err(FixedError::overflow("input", "s", 0, 31)));
    }

    #[test]
    fn rotated_outputs_overflow_even_when_the_accumulator_is_huge() {
        let rope = FixedRope { dim: 2, theta: Dyadic { mantissa: 10_000, exponent: 0 }, scaling: None };
        let rotations = Rotations::new("s", &rope, 1).unwrap();
        let one = matrix(1, &[2, -2], &[1, 1]);
        let run = |delta: [i128; 2], shift| {
            linear_rope("s", &one, &[0], Some(Delta { values: &delta, rank: 1, shift }), &rotations)
        };
        let limit = i128::from(i32::MAX);
        assert_eq!(run([limit, -limit], 0), Ok(vec![i32::MAX.into(), -i64::from(i32::MAX)]));
        assert_eq!(run([0, limit + 1], 0), Err(FixedError::overflow("output", "s", 1, 31)));
        assert_eq!(run([1 << 61, 0], 0), Err(FixedError::overflow("output", "s", 0, 31)));
        assert_eq!(run([1 << 60, 0], 30), Ok(vec![1 << 30, 0]));
    }

    #[test]
    fn impossible_deltas_are_refused() {
        let one = matrix(1, &[0], &[0]);
        let run = |value: i128, rank, shift| linear("s", &one, &[0], Some(Delta { values: &[value], rank, shift }));
        assert_eq!(run(1 << 61, 1, 60), Ok(vec![2]));
        assert_eq!(run((1 << 61) + 1, 1, 60), Err(FixedError::Delta { site: "s".into(), entry: 0 }));
        assert_eq!(run(i128::MIN, MAX_RANK, 60), Err(FixedError::Delta { site: "s".into(), entry: 0 }));
        assert_eq!(run(0, 0, 0), Err(FixedError::parameter("adapter rank", "s")));
        assert_eq!(run(0, 1, 61), Err(FixedError::parameter("adapter shift", "s")));
        let short = Delta { values: &[], rank: 1, shift: 0 };
        assert_eq!(linear("s", &one, &[0], Some(short)), Err(FixedError::shape("delta", "s")));
    }

    #[test]
    fn shapes_are_checked() {
        assert_eq!(Matrix::new("s", 0, vec![], vec![]), Err(FixedError::shape("weight", "s")));
        assert_eq!(Matrix::new("s", 2, vec![1], vec![0]), Err(FixedError::shape("weight", "s")));
        assert_eq!(Matrix::new("s", 1, vec![1], vec![31]), Err(FixedError::parameter("weight shift", "s")));
        assert_eq!(linear("s", &matrix(2, &[1, 2], &[0]), &[1], None), Err(FixedError::shape("input", "s")));
        let factors = |a: usize, b: usize| FixedFactors::new("s", 2, [3, 4], vec![0; a], vec![0; b], [0, 0]);
        assert_eq!(factors(5, 8), Err(FixedError::shape("adapter factor A", "s")));
        assert_eq!(factors(6, 9), Err(FixedError::shape("adapter factor B", "s")));
    }
}
