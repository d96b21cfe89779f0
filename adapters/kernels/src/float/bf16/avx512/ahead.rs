//! Weights that are put together next are brought to the second cache meanwhile: their rows lie apart, which processors
//! do not foresee.

use half::bf16;

use super::super::super::product::prefetch;
use super::super::matrix::{Bf16Matrix, Bf16Side};

/// Numbers of a line of the caches.
const LINE: usize = 64 / size_of::<bf16>();

/// Fetches a share of a matrix whenever it is called: all of it in so many times.
pub(super) fn fetching(matrix: Bf16Matrix<'_>, times: usize) -> impl FnMut() {
    let (rows, columns) = matrix.sides(Bf16Side::Outputs);
    let share = (rows * columns.div_ceil(LINE)).div_ceil(times);
    let mut lines = lines(matrix);
    move || {
        lines.by_ref().take(share).for_each(|line| prefetch(line.as_ptr(), 1));
    }
}

/// What lies in each line of the caches, if rows begin lines.
fn lines(matrix: Bf16Matrix<'_>) -> impl Iterator<Item = &[bf16]> {
    let (rows, _) = matrix.sides(Bf16Side::Outputs);
    (0..rows).flat_map(move |row| matrix.row(row).chunks(LINE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_there_is_of_a_part_is_fetched() {
        let (d_out, d_in) = (7, 100);
        let values: Vec<bf16> = (0u16..700).map(bf16::from_bits).collect();
        let weight = Bf16Matrix::new(&values, d_in);
        for (rows, columns) in [(0..7, 0..100), (2..5, 32..64), (5..9, 64..128), (7..8, 0..32), (0..3, 100..132)] {
            let expected = rows.clone().flat_map(|row| columns.clone().map(move |column| (row, column)));
            let expected = expected.filter(|&(row, column)| row < d_out && column < d_in);
            let expected: Vec<bf16> = expected.map(|(row, column)| values[row * d_in + column]).collect();
            let by_inputs = weight.part(Bf16Side::Inputs, columns.clone(), rows.clone());
            let by_outputs = weight.part(Bf16Side::Outputs, rows, columns);
            for part in [by_inputs, by_outputs] {
                assert_eq!(lines(part).flatten().copied().collect::<Vec<_>>(), expected);
                assert!(lines(part).all(|line| line.len() <= LINE));
            }
        }
    }
}
