//! Blocks of rows that a kernel works on at once, and where their sums go.

use rayon::prelude::*;

/// Rows of weights, and rows of inputs, that one kernel call works on: so many sums fit the registers.
pub(super) const BLOCK: usize = 4;

/// Sums of [`BLOCK`] rows of weights, each with [`BLOCK`] rows of inputs.
pub(super) type BlockSums = [[i64; BLOCK]; BLOCK];

/// `sums[o][t] = sum_i weights[o][i] * inputs[t][i]`; all rows are of one length.
pub(super) type BlockKernel<W> = fn([&[W]; BLOCK], [&[i32]; BLOCK]) -> BlockSums;

/// An entry of a matrix of weights, of 16 or 32 bits.
pub(super) trait WeightEntry: Copy + Into<i32> + Sync {}

impl<W: Copy + Into<i32> + Sync> WeightEntry for W {}

/// At most [`BLOCK`] rows, the last of them again where there are fewer.
pub(super) fn block<T>(rows: &[T], width: usize) -> [&[T]; BLOCK] {
    let last = rows.len() / width - 1;
    std::array::from_fn(|row| &rows[row.min(last) * width..][..width])
}

/// `(height, width)` to `(width, height)`.
pub(super) fn transpose(values: &[i64], height: usize, width: usize) -> Vec<i64> {
    const BLOCK: usize = 16;
    if width == 1 {
        return values.to_vec();
    }
    let mut turned = vec![0; values.len()];
    turned.par_chunks_mut(BLOCK * height).enumerate().for_each(|(block, turned)| {
        for from in 0..height {
            for (to, &value) in values[from * width..][..width][block * BLOCK..].iter().take(BLOCK).enumerate() {
                turned[to * height + from] = value;
            }
        }
    });
    turned
}

/// Callers bound every partial sum below 2^63; without the check the loop vectorises.
pub(super) fn dot<W: WeightEntry>(weights: &[W], inputs: &[i32]) -> i64 {
    weights.iter().zip(inputs).fold(0, |sum: i64, (&w, &x)| sum.wrapping_add(i64::from(w.into()) * i64::from(x)))
}
