//! Values of cells: the prover's witness, which nothing may print.

use ff::Field;
use pasta_curves::Fp;
use rayon::prelude::*;

use super::arrangement::{Arrangement, CellSpan, LIMB, PlaneSums, Tensor, Term};
use super::tables::LookupTable;
use crate::field::signed;
use crate::layout::useful_rows;

/// All columns of cells; rows past their ends are zero.
#[derive(Clone)]
pub(crate) struct Cells<'p> {
    pub(crate) arrangement: &'p Arrangement,
    pub(crate) columns: Vec<Vec<i32>>,
}

impl<'p> Cells<'p> {
    pub(crate) fn new(arrangement: &'p Arrangement) -> Self {
        let rows = useful_rows(arrangement.k);
        let mut columns = Vec::with_capacity(arrangement.columns());
        for group in &arrangement.groups {
            for piece in 0..group.pieces {
                let length = rows.min(group.vector - piece * rows);
                columns.extend((0..group.lanes * group.class.planes).map(|_| vec![0; length]));
            }
        }
        Self { arrangement, columns }
    }

    /// The column of a plane of a group at a row and a position, and the row there.
    fn place(&self, group: usize, plane: usize, row: usize, position: usize) -> (usize, usize) {
        let group = &self.arrangement.groups[group];
        let (lane, at) = group.place(row, position);
        let rows = useful_rows(self.arrangement.k);
        (group.column(at / rows, lane, plane), at % rows)
    }

    pub(crate) fn set(&mut self, span: &CellSpan, plane: usize, row: usize, feature: usize, value: i64) {
        let (column, at) = self.place(span.group, plane, row, span.offset + feature);
        self.columns[column][at] = value as i32;
    }

    /// Writes a number below `2^(16 count)` in limbs without a sign.
    pub(crate) fn set_unsigned(
        &mut self,
        span: &CellSpan,
        (first, count): (usize, usize),
        row: usize,
        feature: usize,
        value: u128,
    ) {
        for limb in 0..count {
            let value = (value >> (LIMB as usize * limb)) & 0xffff;
            self.set(span, first + limb, row, feature, value as i64);
        }
    }

    /// Writes a word in two limbs with a sign.
    pub(crate) fn set_word(&mut self, span: &CellSpan, row: usize, feature: usize, value: i64) {
        let low = i64::from(value as i16);
        self.set(span, 0, row, feature, low);
        self.set(span, 1, row, feature, (value - low) >> LIMB);
    }

    fn cell(&self, term: &Term, plane: usize, row: usize, feature: usize) -> i64 {
        let row = term.rows.as_ref().map_or(row, |rows| rows[row]);
        let (column, at) = self.place(term.group, plane, row, term.offset + feature);
        i64::from(self.columns[column][at])
    }

    /// An entry of a tensor of integers of less than 63 bits.
    pub(crate) fn integer(&self, tensor: &Tensor, row: usize, feature: usize) -> i64 {
        let planes = tensor.terms.iter().flat_map(|term| term.pattern.iter().map(move |plane| (term, plane)));
        let sum: i64 =
            planes.map(|(term, (plane, factor))| self.cell(term, *plane, row, feature) * *factor as i64).sum();
        let public = tensor.public.as_ref().map_or(0, |public| public[row * tensor.width + feature]);
        sum + public + tensor.constant as i64
    }

    /// All of them, row by row.
    pub(crate) fn integers(&self, tensor: &Tensor) -> Vec<i64> {
        let row = |row: usize| (0..tensor.width).map(move |feature| self.integer(tensor, row, feature));
        (0..self.arrangement.rows(tensor.space)).into_par_iter().flat_map_iter(row).collect()
    }

    /// Entries of a tensor, row by row.
    pub(crate) fn values(&self, tensor: &Tensor) -> Vec<Fp> {
        let factors: Vec<(&Term, usize, Fp, i128)> = tensor
            .terms
            .iter()
            .flat_map(|term| term.pattern.iter().map(move |(plane, factor)| (term, *plane, signed(*factor), *factor)))
            .collect();
        let constant = signed(tensor.constant);
        let small = factors.iter().all(|(.., factor)| factor.unsigned_abs() < 1 << 64);
        let entry = |entry: usize| {
            let (row, feature) = (entry / tensor.width, entry % tensor.width);
            let public = tensor.public.as_ref().map_or(0, |public| public[entry]);
            if small {
                let terms = factors
                    .iter()
                    .map(|(term, plane, _, factor)| i128::from(self.cell(term, *plane, row, feature)) * factor);
                return constant + signed(i128::from(public) + terms.sum::<i128>());
            }
            let terms = factors
                .iter()
                .map(|(term, plane, factor, _)| *factor * signed(self.cell(term, *plane, row, feature).into()));
            constant + signed(public.into()) + terms.sum::<Fp>()
        };
        (0..self.arrangement.rows(tensor.space) * tensor.width).into_par_iter().map(entry).collect()
    }

    /// Rows of a tensor, weighed and added up.
    pub(crate) fn combine(&self, tensor: &Tensor, rows: &[Fp]) -> Vec<Fp> {
        let values = self.integers(tensor);
        let mut sum = vec![Fp::ZERO; tensor.width];
        for (row, weight) in values.chunks_exact(tensor.width).zip(rows) {
            sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += *weight * signed((*value).into()));
        }
        sum
    }

    /// What stands in the rows of a leaf, a function of column numbers and row.
    pub(crate) fn entry(&self, leaf: &[Vec<(usize, i64)>], row: usize) -> [i64; 3] {
        let value = |planes: &Vec<(usize, i64)>| {
            let cells = planes.iter().map(|(column, factor)| {
                i64::from(self.columns[*column].get(row).copied().unwrap_or_default()) * factor
            });
            cells.sum()
        };
        std::array::from_fn(|i| leaf.get(i).map_or(0, value))
    }
}

/// Leaves of all columns in the order in which they stand in trees: table, and columns with factors.
pub(crate) fn leaf_columns(arrangement: &Arrangement) -> Vec<(LookupTable, PlaneSums)> {
    let mut all = Vec::new();
    for group in &arrangement.groups {
        for piece in 0..group.pieces {
            for lane in 0..group.lanes {
                for leaf in &group.class.leaves {
                    let columns = |planes: &Vec<(usize, i64)>| {
                        planes.iter().map(|(plane, factor)| (group.column(piece, lane, *plane), *factor)).collect()
                    };
                    all.push((leaf.table, leaf.entry.iter().map(columns).collect()));
                }
            }
        }
    }
    all
}
