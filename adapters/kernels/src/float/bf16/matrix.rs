//! Matrices in bf16, and how many terms a group has.

#[cfg(target_arch = "x86_64")]
use std::ops::Range;

use half::bf16;
use rayon::prelude::*;

#[cfg(target_arch = "x86_64")]
use super::super::product::prefetch;
use super::numbers::factor;
use crate::vectors::vectorised;

/// Terms of a group: two chains, of those at even and of those at odd places.
pub(super) const GROUP: usize = 32;

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

    /// What some terms are multiplied by for some entries of the result, as far as there are any.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn part(self, side: Bf16Side, terms: Range<usize>, entries: Range<usize>) -> Self {
        let (rows, columns) = if side == Bf16Side::Inputs { (entries, terms) } else { (terms, entries) };
        let [first, last] = [rows.start, rows.end].map(|row| row.min(self.d_out));
        let [from, to] = [columns.start, columns.end].map(|column| column.min(self.d_in));
        self.rows(first, last - first).columns(from, to - from)
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

    /// Prefetches a line of the caches of each of so many rows, from a row and a column on. They need not lie in the matrix.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    pub(super) fn fetch(self, (row, count): (usize, usize), column: usize) {
        for row in row..row + count {
            prefetch(self.values.as_ptr().wrapping_add(row * self.stride + column), 1);
        }
    }

    /// The entry that a term is multiplied by for an entry of the result, in f32.
    #[cfg(test)]
    pub(super) fn at(self, side: Bf16Side, term: usize, entry: usize) -> f32 {
        let (row, column) = if side == Bf16Side::Inputs { (entry, term) } else { (term, entry) };
        factor(self.row(row)[column])
    }
}

/// All entries as factors in f32, row after row.
pub(super) fn wide(matrix: Bf16Matrix<'_>) -> Vec<f32> {
    let Bf16Matrix { d_out, d_in, .. } = matrix;
    let mut all = vec![0.0f32; d_out * d_in];
    all.par_chunks_mut(d_in.max(1)).enumerate().for_each(|(row, to)| {
        vectorised(
            #[inline(always)]
            || to.iter_mut().zip(matrix.row(row)).for_each(|(to, &x)| *to = factor(x)),
        );
    });
    all
}
