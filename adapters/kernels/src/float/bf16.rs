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
mod portable;
#[cfg(test)]
mod tests;

use half::bf16;
use rayon::prelude::*;

use super::product::{Matrix, new_product};
use super::rows_a_chunk;
use crate::vectors::vectorised;

/// Name of the numbers that a step computes whose products with frozen weights are these, which `ARITHMETIC.md` defines.
pub const ARITHMETIC: &str = "ftk-bf16-1";

/// Most terms of one chain.
const CUT: usize = 512;

/// Weights `(d_out, d_in)`, row-major.
#[derive(Clone, Copy, Debug)]
pub struct Weight<'a> {
    values: &'a [bf16],
    d_in: usize,
}

/// Along which side of the weights a product sums up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// `x W^T`, from `(rows, d_in)` to `(rows, d_out)`.
    Forward,
    /// `g W`, from `(rows, d_out)` to `(rows, d_in)`.
    Back,
}

impl<'a> Weight<'a> {
    /// All of `values` as rows of `d_in` entries.
    ///
    /// # Panics
    /// If they are not whole rows.
    pub fn new(values: &'a [bf16], d_in: usize) -> Self {
        assert!(d_in > 0 && values.len().is_multiple_of(d_in), "a weight needs whole rows");
        Self { values, d_in }
    }

    /// Terms of a sum and entries of a row of the result.
    fn sides(self, way: Way) -> (usize, usize) {
        let d_out = self.values.len() / self.d_in;
        if way == Way::Forward { (self.d_in, d_out) } else { (d_out, self.d_in) }
    }

    /// The entry that a term is multiplied by for an entry of the result.
    #[inline(always)]
    fn at(self, way: Way, term: usize, entry: usize) -> bf16 {
        let (row, column) = if way == Way::Forward { (entry, term) } else { (term, entry) };
        self.values[row * self.d_in + column]
    }
}

/// The product of every row of `x` with the weights: `(rows, d_out)`, or `(rows, d_in)` on the way back.
///
/// # Panics
/// If `x` is not whole rows of what is summed up.
pub fn product(x: &[f32], weight: Weight<'_>, way: Way) -> Vec<f32> {
    let (terms, entries) = weight.sides(way);
    if terms == 0 || entries == 0 {
        assert!(terms == 0 && x.is_empty(), "a product needs whole rows");
        return Vec::new();
    }
    assert!(x.len().is_multiple_of(terms), "a product needs whole rows");
    #[cfg(target_arch = "x86_64")]
    if let Some(unit) = avx512::Unit::detect() {
        return unit.product(x, weight, way);
    }
    widened(x, weight, way)
}

/// As [`product`], by products of f32 where these give the same.
fn widened(x: &[f32], weight: Weight<'_>, way: Way) -> Vec<f32> {
    let (terms, entries) = weight.sides(way);
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
    let right: Vec<f32> = match way {
        Way::Forward => {
            let mut right = vec![0.0; entries * even];
            right.par_chunks_mut(even).zip(weight.values.par_chunks(terms)).for_each(|(right, row)| {
                for (right, row) in right.chunks_exact_mut(2).zip(row.chunks(2)) {
                    right[1] = wide(row[0]);
                    right[0] = row.get(1).map_or(0.0, |&value| wide(value));
                }
            });
            right
        }
        Way::Back => {
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
        return portable::product(x, weight, way);
    }
    let left = Matrix::new(&left, even);
    let right = if way == Way::Forward { Matrix::new(&right, even).t() } else { Matrix::new(&right, entries) };
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

/// The nearest number in bf16, of two equally near ones the even one; zero for what is below the least normal number.
#[inline(always)]
fn rounded(x: f32) -> u16 {
    let bits = x.to_bits();
    let magnitude = bits & 0x7fff_ffff;
    let sign = bits & 0x8000_0000;
    let up = bits.wrapping_add(0x7fff).wrapping_add(bits >> 16 & 1);
    let nearest = if magnitude > 0x7f80_0000 { bits | 0x0040_0000 } else { up };
    (if magnitude < 0x0080_0000 { sign >> 16 } else { nearest >> 16 }) as u16
}

/// A number in bf16, zero for what is below the least normal number.
#[inline(always)]
fn without_subnormal(bits: u16) -> u16 {
    if bits & 0x7f80 == 0 { bits & 0x8000 } else { bits }
}
