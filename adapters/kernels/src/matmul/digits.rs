//! Products of 16-bit weights by instructions that multiply integers of 16 bits and add up two products at a time in 32.
//! An input is written as two or three digits small enough that many such sums fit; the sums of each digit are widened to
//! 64 bits before they might not, and put together by shifts. Weights are taken as they lie.
//!
//! With digits of `b` bits, from `-(2^(b-1) - 1)` to `2^(b-1)`, a product with a weight is at least `-2^(14+b)` (`-2^15`
//! times `2^(b-1)`) and less than `2^(14+b)`: the largest are `-2^15` times `-(2^(b-1) - 1)` and `2^15 - 1` times
//! `2^(b-1)`. A lane of 32 bits gets two of them a step, so that after `2^(16-b)` steps it holds at least `-2^31` and less
//! than `2^31`, whatever weights and inputs are. What a lane holds in between, inside an instruction, does not matter:
//! additions modulo `2^32` end at the right number where that is in range. So do those modulo `2^64` of the whole sum,
//! which is at most `2^62` (`MAX_INPUTS`).

mod avx2;
mod plane;
#[cfg(test)]
mod tests;
mod vnni;

use rayon::prelude::*;

use self::plane::{DigitKernel, DigitPlanes, OUTPUTS, ROWS, WIDTH};
use super::block::{block, transpose};

/// Rows of weights for which the same digits are read from the nearest cache.
const TASK: usize = 32;
/// Terms from which on writing digits is worth it.
pub(super) const WORTH: usize = WIDTH;

/// The fastest kernel this processor runs, if it has any of these instructions.
fn kernel() -> Option<DigitKernel> {
    vnni::kernel().or_else(avx2::kernel)
}

/// As [`super::product`], where this processor has such instructions and sums are long enough.
pub(super) fn product(weights: &[i16], inputs: &[i32], d_in: usize) -> Option<Vec<i64>> {
    Some(multiply(kernel().filter(|_| d_in >= WORTH)?, weights, inputs, d_in))
}

fn multiply(kernel: DigitKernel, weights: &[i16], inputs: &[i32], d_in: usize) -> Vec<i64> {
    assert!(d_in > 0, "a sum needs inputs");
    assert!(weights.len().is_multiple_of(d_in) && inputs.len().is_multiple_of(d_in), "rows must fill their matrices");
    let (d_out, rows) = (weights.len() / d_in, inputs.len() / d_in);
    if d_out == 0 || rows == 0 {
        return Vec::new();
    }
    let tiles: Vec<DigitPlanes> = inputs.par_chunks(ROWS * d_in).map(|rows| DigitPlanes::new(rows, d_in)).collect();
    // A few rows of weights are shared out, too.
    let task = if d_out < 4 * TASK { OUTPUTS } else { TASK };
    // Each task owns whole output rows, so sums are first laid out as (d_out, rows).
    let mut sums = vec![0; d_out * rows];
    sums.par_chunks_mut(task * rows).zip(weights.par_chunks(task * d_in)).for_each(|(sums, weights)| {
        for (tile, digits) in tiles.iter().enumerate() {
            let blocks = weights.chunks(OUTPUTS * d_in).zip(sums.chunks_mut(OUTPUTS * rows));
            for (weights, sums) in blocks {
                let found = kernel(block(weights, d_in), digits);
                for (sums, found) in sums.chunks_exact_mut(rows).zip(found) {
                    sums[tile * ROWS..].iter_mut().zip(found).for_each(|(sum, value)| *sum = value);
                }
            }
        }
    });
    transpose(&sums, d_out, rows)
}
