//! The factors of a product, and how its result is to be made.

/// Numbers in a line of the caches.
pub(in super::super) const LINE: usize = 16;
/// Most terms of one chain: `gemm` cuts none of this length, whatever the size of the first cache.
pub(super) const CUT: usize = 512;

/// A matrix in a slice, possibly seen transposed or as a range of columns.
#[derive(Clone, Copy, Debug)]
pub struct MatrixView<'a> {
    pub(in super::super) values: &'a [f32],
    pub(in super::super) rows: usize,
    pub(in super::super) columns: usize,
    pub(in super::super) row_stride: usize,
    pub(in super::super) column_stride: usize,
}

impl<'a> MatrixView<'a> {
    /// All of `values` as rows of `columns` entries.
    ///
    /// # Panics
    /// If they are not whole rows.
    pub fn new(values: &'a [f32], columns: usize) -> Self {
        assert!(columns > 0 && values.len().is_multiple_of(columns), "a matrix needs whole rows");
        Self { values, rows: values.len() / columns, columns, row_stride: columns, column_stride: 1 }
    }

    /// The rows with the columns exchanged.
    pub fn t(self) -> Self {
        let Self { values, rows, columns, row_stride, column_stride } = self;
        Self { values, rows: columns, columns: rows, row_stride: column_stride, column_stride: row_stride }
    }

    /// `count` rows from row `first` on.
    ///
    /// # Panics
    /// If there are fewer.
    pub fn rows(self, first: usize, count: usize) -> Self {
        assert!(first + count <= self.rows, "rows must lie in the matrix");
        let values = &self.values[(first * self.row_stride).min(self.values.len())..];
        Self { values, rows: count, ..self }
    }

    /// `count` columns from column `first` on.
    ///
    /// # Panics
    /// If there are fewer.
    pub fn columns(self, first: usize, count: usize) -> Self {
        self.t().rows(first, count).t()
    }

    /// One entry.
    pub(in super::super) fn at(&self, row: usize, column: usize) -> f32 {
        self.values[row * self.row_stride + column * self.column_stride]
    }

    /// Its columns.
    pub fn width(self) -> usize {
        self.columns
    }

    /// Whether the last entry lies inside the slice.
    pub(in super::super) fn fits(&self) -> bool {
        self.rows == 0
            || self.columns == 0
            || (self.rows - 1) * self.row_stride + (self.columns - 1) * self.column_stride < self.values.len()
    }
}

/// What a product's result is written over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Onto {
    /// Whatever stands there is replaced.
    Nothing,
    /// The product is added to what stands there.
    Present,
}

/// How many threads a product uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Threads {
    /// The caller's own: for products inside a parallel loop.
    One,
    /// All.
    All,
}
