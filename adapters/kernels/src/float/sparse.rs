//! Products of a sparse matrix with a dense one: what passes messages along edges, and what multiplies
//! features that are mostly zero.

use std::ops::Range;

use rayon::prelude::*;

use crate::vectors::vectorised;

/// A sparse matrix in compressed rows, borrowed: entries of row `i` stand at `starts[i]..starts[i + 1]`.
#[derive(Clone, Copy, Debug)]
pub struct CsrMatrix<'a> {
    starts: &'a [usize],
    columns: &'a [u32],
    values: &'a [f32],
    width: usize,
}

impl<'a> CsrMatrix<'a> {
    /// A matrix of `width` columns.
    ///
    /// # Panics
    /// If starts do not rise from 0 to the number of entries, or a column lies outside.
    pub fn new(starts: &'a [usize], columns: &'a [u32], values: &'a [f32], width: usize) -> Self {
        assert!(starts.first() == Some(&0) && starts.is_sorted(), "rows must follow each other");
        assert_eq!(starts.last(), Some(&columns.len()), "rows must hold all entries");
        assert_eq!(columns.len(), values.len(), "every entry has a value");
        assert!(columns.iter().all(|&column| (column as usize) < width), "columns must lie in the matrix");
        Self { starts, columns, values, width }
    }

    /// Its rows.
    pub fn len(&self) -> usize {
        self.starts.len() - 1
    }

    /// Whether it has no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Ranges of rows that cost about the same each: rows themselves cost something, too.
    fn parts(&self, width: usize) -> Vec<Range<usize>> {
        let limit = (super::CHUNK / width.max(1)).max(1);
        let mut parts = Vec::new();
        let mut first = 0;
        for row in 0..self.len() {
            if row > first && self.starts[row + 1] - self.starts[first] + (row - first) > limit {
                parts.push(first..row);
                first = row;
            }
        }
        parts.push(first..self.len());
        parts
    }
}

/// `s x` for `x` `(s.width, width)`: `(s.len(), width)`. Every row adds up its entries in their order.
///
/// # Panics
/// If `x` is not as many rows as the matrix has columns.
pub fn product(s: CsrMatrix<'_>, x: &[f32], width: usize) -> Vec<f32> {
    assert_eq!(s.width * width, x.len(), "columns of the left and rows of the right factor must agree");
    let mut result = vec![0.0f32; s.len() * width];
    if result.is_empty() {
        return result;
    }
    let mut rest = result.as_mut_slice();
    let mut parts = Vec::new();
    for rows in s.parts(width) {
        let (part, after) = rest.split_at_mut(rows.len() * width);
        rest = after;
        parts.push((rows, part));
    }
    parts.into_par_iter().for_each(|(rows, part)| {
        vectorised(
            #[inline(always)]
            || {
                for (sum, row) in part.chunks_exact_mut(width).zip(rows.clone()) {
                    for entry in s.starts[row]..s.starts[row + 1] {
                        let (value, x) = (s.values[entry], &x[s.columns[entry] as usize * width..][..width]);
                        sum.iter_mut().zip(x).for_each(|(sum, x)| *sum += value * x);
                    }
                }
            },
        );
    });
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_a_dense_product_and_rows_may_be_empty() {
        let (starts, columns, values) = ([0, 2, 2, 5], [3, 0, 1, 1, 2], [0.5, -1.0, 2.0, 0.25, 4.0]);
        for width in [1, 3, 17] {
            let x: Vec<f32> = (0..4 * width).map(|i| ((i * 7 % 11) as f32) / 4.0 - 1.0).collect();
            let mut expected = vec![0.0; 3 * width];
            for row in 0..3 {
                for entry in starts[row]..starts[row + 1] {
                    for i in 0..width {
                        expected[row * width + i] += values[entry] * x[columns[entry] as usize * width + i];
                    }
                }
            }
            assert_eq!(product(CsrMatrix::new(&starts, &columns, &values, 4), &x, width), expected);
        }
    }

    #[test]
    fn the_parts_are_all_rows_once_whatever_they_hold() {
        let starts: Vec<usize> = (0..=5000).map(|row| row * row / 7).collect();
        let (columns, values) = (vec![0; *starts.last().unwrap()], vec![1.0; *starts.last().unwrap()]);
        let rows = CsrMatrix::new(&starts, &columns, &values, 1);
        let parts = rows.parts(64);
        assert!(parts.len() > 100);
        assert_eq!(parts.into_iter().flatten().collect::<Vec<_>>(), (0..5000).collect::<Vec<_>>());
        let sums = product(rows, &[1.0], 1);
        assert!(sums.iter().zip(starts.windows(2)).all(|(sum, pair)| *sum == (pair[1] - pair[0]) as f32));
    }

    #[test]
    #[should_panic(expected = "columns must lie in the matrix")]
    fn a_column_outside_is_refused() {
        CsrMatrix::new(&[0, 1], &[2], &[1.0], 2);
    }
}
