//! What rows of a head are multiplied by, in the number format of the factors.

use std::borrow::Cow;

#[cfg(feature = "bf16")]
use half::bf16;

#[cfg(feature = "bf16")]
use super::super::bf16::{Bf16Matrix, Bf16Panels, Bf16Side, rounded_all};
use super::super::product::{MatrixView, Onto, Panels, Threads, panel_product, product};

/// Rows from which on it is worth laying out what they are multiplied by.
const WORTH_PANELS: usize = 16;

/// Number format in which the factors of attention's products are multiplied. Everything else is computed in f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FactorFormat {
    /// As they are.
    F32,
    /// Rounded, by the products of [`super::super::bf16`].
    #[cfg(feature = "bf16")]
    Bf16,
}

/// Rows of all heads, in that format.
#[derive(Clone, Debug)]
pub enum HeldRows<'a> {
    /// As they are.
    F32(Cow<'a, [f32]>),
    /// Rounded.
    #[cfg(feature = "bf16")]
    Bf16(Cow<'a, [bf16]>),
}

impl<'a> HeldRows<'a> {
    /// Holds numbers in a format.
    pub fn new(format: FactorFormat, values: impl Into<Cow<'a, [f32]>>) -> Self {
        let values = values.into();
        match format {
            FactorFormat::F32 => Self::F32(values),
            #[cfg(feature = "bf16")]
            FactorFormat::Bf16 => Self::Bf16(rounded_all(&values).into()),
        }
    }

    /// The format.
    pub fn format(&self) -> FactorFormat {
        match self {
            Self::F32(_) => FactorFormat::F32,
            #[cfg(feature = "bf16")]
            Self::Bf16(_) => FactorFormat::Bf16,
        }
    }

    /// How many numbers there are.
    pub fn entries(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            #[cfg(feature = "bf16")]
            Self::Bf16(values) => values.len(),
        }
    }

    /// Adds numbers behind the others.
    pub fn extend(&mut self, more: &[f32]) {
        match self {
            Self::F32(values) => values.to_mut().extend_from_slice(more),
            #[cfg(feature = "bf16")]
            Self::Bf16(values) => values.to_mut().extend(rounded_all(more)),
        }
    }

    /// Lets go of all numbers but the first, so many.
    pub fn truncate(&mut self, entries: usize) {
        match self {
            Self::F32(values) => values.to_mut().truncate(entries),
            #[cfg(feature = "bf16")]
            Self::Bf16(values) => values.to_mut().truncate(entries),
        }
    }

    /// The same, where they lie.
    pub(super) fn borrowed(&self) -> HeldRows<'_> {
        match self {
            Self::F32(values) => HeldRows::F32(Cow::Borrowed(values)),
            #[cfg(feature = "bf16")]
            Self::Bf16(values) => HeldRows::Bf16(Cow::Borrowed(values)),
        }
    }

    /// One head, `dim` columns from `column` on of rows of `width` entries.
    pub(super) fn head(&self, width: usize, column: usize, dim: usize) -> HeadMatrix<'_> {
        match self {
            Self::F32(values) => HeadMatrix::F32(MatrixView::new(values, width).columns(column, dim)),
            #[cfg(feature = "bf16")]
            Self::Bf16(values) => {
                HeadMatrix::Bf16(Bf16Matrix::new(values, width).columns(column, dim), Bf16Side::Outputs)
            }
        }
    }
}

/// A matrix, or its rows as columns.
#[derive(Clone, Copy)]
pub(super) enum HeadMatrix<'a> {
    F32(MatrixView<'a>),
    #[cfg(feature = "bf16")]
    Bf16(Bf16Matrix<'a>, Bf16Side),
}

impl HeadMatrix<'_> {
    /// With rows and columns exchanged, of one that was not.
    pub(super) fn t(self) -> Self {
        match self {
            Self::F32(matrix) => Self::F32(matrix.t()),
            #[cfg(feature = "bf16")]
            Self::Bf16(matrix, _) => Self::Bf16(matrix, Bf16Side::Inputs),
        }
    }

    /// `count` rows from row `first` on.
    pub(super) fn rows(self, first: usize, count: usize) -> Self {
        match self {
            Self::F32(matrix) => Self::F32(matrix.rows(first, count)),
            #[cfg(feature = "bf16")]
            Self::Bf16(matrix, side) => Self::Bf16(matrix.rows(first, count), side),
        }
    }
}

/// A right factor.
pub(super) enum HeadFactor<'a> {
    Laid(Panels),
    AsItLies(MatrixView<'a>),
    #[cfg(feature = "bf16")]
    Bf16(Bf16Panels<'a>),
}

impl<'a> HeadFactor<'a> {
    /// For so many rows.
    pub(super) fn new(matrix: HeadMatrix<'a>, rows: usize) -> Self {
        match matrix {
            HeadMatrix::F32(matrix) if rows < WORTH_PANELS => Self::AsItLies(matrix),
            HeadMatrix::F32(matrix) => Self::Laid(Panels::new(matrix)),
            #[cfg(feature = "bf16")]
            HeadMatrix::Bf16(matrix, side) => Self::Bf16(Bf16Panels::new(matrix, side, rows)),
        }
    }

    /// The product of `a` with its first rows, as many as `a` has columns, and the first columns.
    pub(super) fn product(
        &self,
        result: (&mut [f32], usize),
        onto: Onto,
        scale: f32,
        a: MatrixView<'_>,
        columns: usize,
    ) {
        match self {
            Self::Laid(panels) => panel_product(result, onto, scale, a, (panels, columns)),
            Self::AsItLies(matrix) => {
                let b = matrix.rows(0, a.width()).columns(0, columns);
                product(result, onto, scale, (a, b), Threads::One);
            }
            #[cfg(feature = "bf16")]
            Self::Bf16(panels) => panels.product(result, onto, scale, a, columns),
        }
    }
}
