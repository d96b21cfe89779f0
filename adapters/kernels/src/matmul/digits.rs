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
#[cfg(test)]
mod tests;
mod vnni;

use rayon::prelude::*;

use super::{block, transpose};
use crate::vectors::vectorised;

/// Rows of weights that a kernel takes at once.
const OUTPUTS: usize = 4;
/// Rows of inputs that it takes at once.
const ROWS: usize = 3;
/// Rows of weights for which the same digits are read from the nearest cache.
const TASK: usize = 32;
/// Bits of a digit where there are two. With fewer, sums would be no longer.
const BITS_OF_TWO: std::ops::RangeInclusive<u32> = 8..=12;
/// Bits of a digit where there are three, which hold every 32-bit integer.
const BITS_OF_THREE: u32 = 11;
/// Planes are padded with zeros to whole registers of the widest kernel.
const WIDTH: usize = 32;
/// Terms from which on writing digits is worth it.
pub(super) const WORTH: usize = WIDTH;

/// Sums of [`OUTPUTS`] rows of weights, each with [`ROWS`] rows of inputs.
type TileSums = [[i64; ROWS]; OUTPUTS];
/// Exact sums; rows of weights are of one length, which the digits are of.
type Kernel = fn([&[i16]; OUTPUTS], &Digits) -> TileSums;

/// At most [`ROWS`] rows of inputs as digits: `x = sum_j digit_j 2^(j bits)`. Rows that are missing are zero.
#[derive(Debug)]
struct Digits {
    /// Digits of an input, two or three.
    count: usize,
    bits: u32,
    /// Entries of a plane.
    stride: usize,
    /// A plane for each row and digit, digits of a row one after another, the lowest first.
    planes: Vec<i16>,
}

impl Digits {
    fn new(rows: &[i32], d_in: usize) -> Self {
        let peak = vectorised(
            #[inline(always)]
            || rows.iter().fold(0, |peak: u32, x| peak.max(x.unsigned_abs())),
        );
        // Less the low digit and divided, |x| is at most 2^(b-1) - 1 + 1/2.
        let two = BITS_OF_TWO.into_iter().find(|bits| peak <= (1 << (2 * bits - 1)) - (1 << bits));
        let (count, bits) = two.map_or((3, BITS_OF_THREE), |bits| (2, bits));
        let stride = d_in.next_multiple_of(WIDTH);
        let mut planes = vec![0; ROWS * count * stride];
        for (planes, row) in planes.chunks_exact_mut(count * stride).zip(rows.chunks_exact(d_in)) {
            let (low, upper) = planes.split_at_mut(stride);
            let (middle, high) = upper.split_at_mut(stride);
            if count == 2 {
                vectorised(
                    #[inline(always)]
                    || {
                        for ((low, middle), &x) in low.iter_mut().zip(middle.iter_mut()).zip(row) {
                            let (digit, rest) = lowest(x, bits);
                            (*low, *middle) = (digit, rest as i16);
                        }
                    },
                );
            } else {
                vectorised(
                    #[inline(always)]
                    || {
                        let digits = low.iter_mut().zip(middle.iter_mut()).zip(high.iter_mut());
                        for (((low, middle), high), &x) in digits.zip(row) {
                            let (digit, rest) = lowest(x, bits);
                            let (second, rest) = lowest(rest, bits);
                            (*low, *middle, *high) = (digit, second, rest as i16);
                        }
                    },
                );
            }
        }
        Self { count, bits, stride, planes }
    }

    /// Steps after which sums in 32 bits may be full.
    fn steps(&self) -> usize {
        1 << (16 - self.bits)
    }

    /// Whether the planes are of rows of so many inputs.
    fn holds(&self, d_in: usize) -> bool {
        let whole = self.stride.is_multiple_of(WIDTH) && self.stride == d_in.next_multiple_of(WIDTH);
        whole && self.planes.len() == ROWS * self.count * self.stride
    }
}

/// The lowest digit, from `-(2^(bits-1) - 1)` to `2^(bits-1)`, and what is left, divided by its place.
#[inline(always)]
fn lowest(x: i32, bits: u32) -> (i16, i32) {
    let low = x & (1i32.wrapping_shl(bits)).wrapping_sub(1);
    let carry = i32::from(low > 1i32.wrapping_shl(bits.wrapping_sub(1)));
    (low.wrapping_sub(carry.wrapping_shl(bits)) as i16, x.wrapping_shr(bits).wrapping_add(carry))
}

/// The fastest kernel this processor runs, if it has any of these instructions.
fn kernel() -> Option<Kernel> {
    vnni::kernel().or_else(avx2::kernel)
}

/// As [`super::product`], where this processor has such instructions and sums are long enough.
pub(super) fn product(weights: &[i16], inputs: &[i32], d_in: usize) -> Option<Vec<i64>> {
    Some(multiply(kernel().filter(|_| d_in >= WORTH)?, weights, inputs, d_in))
}

fn multiply(kernel: Kernel, weights: &[i16], inputs: &[i32], d_in: usize) -> Vec<i64> {
    assert!(d_in > 0, "a sum needs inputs");
    assert!(weights.len().is_multiple_of(d_in) && inputs.len().is_multiple_of(d_in), "rows must fill their matrices");
    let (d_out, rows) = (weights.len() / d_in, inputs.len() / d_in);
    if d_out == 0 || rows == 0 {
        return Vec::new();
    }
    let tiles: Vec<Digits> = inputs.par_chunks(ROWS * d_in).map(|rows| Digits::new(rows, d_in)).collect();
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
