//! Matrices in bf16, how numbers become such, and how many terms a group has.

use half::bf16;
use rayon::prelude::*;

use super::super::CHUNK;
use crate::vectors::vectorised;

/// Terms of a group: two chains, of those at even and of those at odd places.
pub(super) const GROUP: usize = 32;
/// Terms of a chain.
pub(super) const CHAIN: usize = GROUP / 2;
/// What a factor is at least, or it is zero: 2^-56. Factors are multiples of 2^-63, their products and all sums of them
/// multiples of 2^-126. So none of those but zero is below the least normal number, which units for bf16 take for zero.
pub(super) const LEAST: f32 = 1.387_778_8e-17;
/// The same in bf16.
pub(super) const LEAST_BITS: u16 = (LEAST.to_bits() >> 16) as u16;

/// A matrix in bf16, the weights `(d_out, d_in)` of a product, possibly as a range of columns of a wider one.
#[derive(Clone, Copy, Debug)]
pub struct Bf16Matrix<'a> {
    values: &'a [bf16],
    d_out: usize,
    d_in: usize,
    stride: usize,
}

/// Along which side of the weights a product sums up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bf16Side {
    /// `x W^T`, from `(rows, d_in)` to `(rows, d_out)`.
    Inputs,
    /// `g W`, from `(rows, d_out)` to `(rows, d_in)`.
    Outputs,
}

impl<'a> Bf16Matrix<'a> {
    /// All of `values` as rows of `d_in` entries.
    ///
    /// # Panics
    /// If they are not whole rows.
    pub fn new(values: &'a [bf16], d_in: usize) -> Self {
        assert!(d_in > 0 && values.len().is_multiple_of(d_in), "a weight needs whole rows");
        Self { values, d_out: values.len() / d_in, d_in, stride: d_in }
    }

    /// `count` rows from row `first` on.
    ///
    /// # Panics
    /// If there are fewer.
    pub fn rows(self, first: usize, count: usize) -> Self {
        assert!(first + count <= self.d_out, "rows must lie in the matrix");
        Self { values: &self.values[(first * self.stride).min(self.values.len())..], d_out: count, ..self }
    }

    /// `count` columns from column `first` on.
    ///
    /// # Panics
    /// If there are fewer.
    pub fn columns(self, first: usize, count: usize) -> Self {
        assert!(first + count <= self.d_in, "columns must lie in the matrix");
        Self { values: &self.values[first.min(self.values.len())..], d_in: count, ..self }
    }

    /// Terms of a sum and entries of a row of the result.
    pub(super) fn sides(self, side: Bf16Side) -> (usize, usize) {
        if side == Bf16Side::Inputs { (self.d_in, self.d_out) } else { (self.d_out, self.d_in) }
    }

    /// One row; none where there are no more.
    #[inline(always)]
    pub(super) fn row(self, row: usize) -> &'a [bf16] {
        if row < self.d_out { &self.values[row * self.stride..][..self.d_in] } else { &[] }
    }

    /// The entry that a term is multiplied by for an entry of the result, in f32.
    #[cfg(test)]
    pub(super) fn at(self, side: Bf16Side, term: usize, entry: usize) -> f32 {
        let (row, column) = if side == Bf16Side::Inputs { (entry, term) } else { (term, entry) };
        widened(self.row(row)[column])
    }
}

/// A factor in f32.
#[inline(always)]
fn widened(x: bf16) -> f32 {
    let bits = x.to_bits();
    f32::from_bits(if bits & 0x7fff < LEAST_BITS { 0 } else { u32::from(bits) << 16 })
}

/// All entries as factors in f32, row after row.
pub(super) fn wide(matrix: Bf16Matrix<'_>) -> Vec<f32> {
    let Bf16Matrix { d_out, d_in, .. } = matrix;
    let mut all = vec![0.0f32; d_out * d_in];
    all.par_chunks_mut(d_in.max(1)).enumerate().for_each(|(row, to)| {
        vectorised(
            #[inline(always)]
            || to.iter_mut().zip(matrix.row(row)).for_each(|(to, &x)| *to = widened(x)),
        );
    });
    all
}

/// The nearest number in bf16, of two equally near ones the even one, in f32; zero for what is less than [`LEAST`].
#[inline(always)]
pub(super) fn rounded(x: f32) -> f32 {
    let bits = x.to_bits();
    let magnitude = bits & 0x7fff_ffff;
    let up = bits.wrapping_add(0x7fff).wrapping_add(bits >> 16 & 1);
    let nearest = if magnitude > 0x7f80_0000 { bits | 0x0040_0000 } else { up };
    f32::from_bits(if magnitude < LEAST.to_bits() { 0 } else { nearest & 0xffff_0000 })
}

/// All numbers as factors of products are.
pub fn rounded_all(values: &[f32]) -> Vec<bf16> {
    let mut all = vec![bf16::ZERO; values.len()];
    all.par_chunks_mut(CHUNK).zip(values.par_chunks(CHUNK)).for_each(|(all, values)| {
        vectorised(
            #[inline(always)]
            || {
                let numbers = all.iter_mut().zip(values);
                numbers.for_each(|(to, &x)| *to = bf16::from_bits((rounded(x).to_bits() >> 16) as u16));
            },
        );
    });
    all
}
