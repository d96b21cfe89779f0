//! Products of f32 matrices.

use gemm::{Parallelism, gemm};

/// A matrix in a slice, possibly seen transposed or as a range of columns.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> Matrix<'a> {
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

    /// Its columns.
    pub fn width(self) -> usize {
        self.columns
    }

    /// Whether the last entry lies inside the slice.
    fn fits(&self) -> bool {
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

/// `scale a b`, or that added to what stands in `result`, whose rows are `row_stride` entries apart.
///
/// # Panics
/// If the shapes do not agree.
pub fn product(
    (result, row_stride): (&mut [f32], usize),
    onto: Onto,
    scale: f32,
    (a, b): (Matrix<'_>, Matrix<'_>),
    threads: Threads,
) {
    let (m, k, n) = (a.rows, a.columns, b.columns);
    assert_eq!(k, b.rows, "columns of the left and rows of the right factor must agree");
    assert!(a.fits() && b.fits(), "the factors must lie in their slices");
    if m == 0 || n == 0 {
        return;
    }
    assert!(n <= row_stride && (m - 1) * row_stride + n <= result.len(), "the result must lie in its slice");
    let parallelism = match threads {
        Threads::One => Parallelism::None,
        Threads::All => Parallelism::Rayon(rayon::current_num_threads()),
    };
    // SAFETY: every index the product touches was shown above to lie in its slice, and `result` is
    // borrowed mutably, so it overlaps neither factor.
    unsafe {
        gemm(
            m,
            n,
            k,
            result.as_mut_ptr(),
            1,
            row_stride as isize,
            onto == Onto::Present,
            a.values.as_ptr(),
            a.column_stride as isize,
            a.row_stride as isize,
            b.values.as_ptr(),
            b.column_stride as isize,
            b.row_stride as isize,
            1.0,
            scale,
            false,
            false,
            false,
            parallelism,
        );
    }
}

/// `scale a b` as rows of a new matrix.
///
/// # Panics
/// As [`product`].
pub fn new_product(scale: f32, a: Matrix<'_>, b: Matrix<'_>) -> Vec<f32> {
    let mut result = vec![0.0; a.rows * b.columns];
    product((&mut result, b.columns), Onto::Nothing, scale, (a, b), Threads::All);
    result
}
