//! Products of f32 matrices with weights in bf16, sums in f32, the same on every processor. Both factors are rounded to
//! bf16. Each entry is made of chains of at most 512 terms, two terms at a time and the second of each two first, which
//! is what `vdpbf16ps` computes: `c = fma(a1, b1, c)`, `c = fma(a0, b0, c)`, where numbers below the least normal one
//! are zero, going in and coming out. The chains are added to the result in their order.
//!
//! Processors with AVX512-BF16 compute that by the instruction. Others widen the factors, exchange the terms of each
//! two, and multiply in f32, which gives the same bits where no sum can come below the least normal number; where one
//! could, numbers are computed one by one.

#[cfg(target_arch = "x86_64")]
mod avx512;
mod matrix;
mod portable;
#[cfg(test)]
mod tests;

use half::bf16;
use rayon::prelude::*;

pub use self::matrix::{Bf16Matrix, Bf16Side};
use self::matrix::{rounded, without_subnormal};
use super::product::{MatrixView, new_product};
use super::rows_a_chunk;
use crate::vectors::vectorised;

/// Name of the numbers that a step computes whose products with frozen weights are these, which `ARITHMETIC.md` defines.
pub const ARITHMETIC: &str = "ftk-bf16-1";

/// The product of every row of `x` with the weights: `(rows, d_out)`, or `(rows, d_in)` on the way back.
///
/// # Panics
/// If `x` is not whole rows of what is summed up.
pub fn product(x: &[f32], weight: Bf16Matrix<'_>, side: Bf16Side) -> Vec<f32> {
    let (terms, entries) = weight.sides(side);
    // Of no terms, no rows but none are whole.
    assert!(x.len().is_multiple_of(terms), "a product needs whole rows");
    if terms == 0 || entries == 0 {
        return Vec::new();
    }
    #[cfg(target_arch = "x86_64")]
    if let Some(unit) = avx512::Avx512Bf16::detect() {
        return unit.product(x, weight, side);
    }
    widened(x, weight, side)
}

/// As [`product`], by products of f32 where these give the same.
fn widened(x: &[f32], weight: Bf16Matrix<'_>, side: Bf16Side) -> Vec<f32> {
    let (terms, entries) = weight.sides(side);
    // Terms to whole pairs.
    let even = terms.next_multiple_of(2);
    let mut left = vec![0.0f32; x.len() / terms * even];
    let chunk = rows_a_chunk(even);
    left.par_chunks_mut(even * chunk).zip(x.par_chunks(terms * chunk)).for_each(|(left, x)| {
        for (left, x) in left.chunks_exact_mut(even).zip(x.chunks_exact(terms)) {
            vectorised(
                #[inline(always)]
                || left.iter_mut().zip(x).for_each(|(left, &x)| *left = f32::from_bits(u32::from(rounded(x)) << 16)),
            );
            left.as_chunks_mut::<2>().0.iter_mut().for_each(|pair| pair.reverse());
        }
    });
    // As the weights lie: the terms of a sum are columns on the way forward, rows on the way back.
    let wide = |value: bf16| f32::from_bits(u32::from(without_subnormal(value.to_bits())) << 16);
    let right: Vec<f32> = match side {
        Bf16Side::Inputs => {
            let mut right = vec![0.0; entries * even];
            right.par_chunks_mut(even).zip(weight.values.par_chunks(terms)).for_each(|(right, row)| {
                for (right, row) in right.chunks_exact_mut(2).zip(row.chunks(2)) {
                    right[1] = wide(row[0]);
                    right[0] = row.get(1).map_or(0.0, |&value| wide(value));
                }
            });
            right
        }
        Bf16Side::Outputs => {
            let mut right = vec![0.0; entries * even];
            right.par_chunks_mut(2 * entries).zip(weight.values.par_chunks(2 * entries)).for_each(|(right, rows)| {
                for (at, row) in rows.chunks_exact(entries).enumerate() {
                    right[(1 - at) * entries..][..entries].iter_mut().zip(row).for_each(|(to, &from)| *to = wide(from));
                }
            });
            right
        }
    };
    if unit(&left) + unit(&right) < LEAST_UNIT {
        return portable::product(x, weight, side);
    }
    let left = MatrixView::new(&left, even);
    let right =
        if side == Bf16Side::Inputs { MatrixView::new(&right, even).t() } else { MatrixView::new(&right, entries) };
    new_product(1.0, left, right)
}

/// Exponent of the least normal number: a sum of multiples of it is such a multiple, or zero, after rounding, too.
const LEAST_UNIT: i32 = -126;

/// Exponent of a power of two that all numbers, rounded to bf16, are multiples of.
fn unit(values: &[f32]) -> i32 {
    // Seven bits follow the first one.
    let least = values.par_chunks(super::CHUNK).map(|values| {
        values.iter().map(|value| value.to_bits() >> 23 & 0xff).map(|e| if e == 0 { 255 } else { e }).min()
    });
    least.flatten().min().map_or(0, |exponent| exponent.cast_signed() - 127 - 7)
}
