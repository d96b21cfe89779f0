//! What is stated of logits: which is the largest, or what they are. No logit is committed to but those that are stated.

use super::linear::LinearOperation;
use crate::commitment::SiteFactors;
use crate::field::signed;
use crate::fixed::FixedError;
use crate::sealed::arrangement::{CellSpan, Class, LIMB, LookupLeaf, WORD_LIMBS, limbs};
use crate::sealed::cells::Cells;
use crate::sealed::equations::{SealedOperation, Sink, entries, power_of_two, product, total};
use crate::sealed::sums::{PublicWeights, Sum};
use crate::sealed::tables::LookupTable;
use ff::Field;
use pasta_curves::Fp;

/// Cells of a number without a sign in so many limbs.
pub(crate) fn unsigned_class(limbs: usize) -> Class {
    Class { planes: limbs, leaves: LookupLeaf::limbs(LookupTable::Unsigned, 0, limbs).collect() }
}

/// Cells of a word.
pub(crate) fn word_class() -> Class {
    Class { planes: WORD_LIMBS, leaves: LookupLeaf::limbs(LookupTable::Signed, 0, WORD_LIMBS).collect() }
}

/// The number of the largest output of each row; of equal ones the lowest.
///
/// With z the stated output, rounded, `(z + c_j) 2^shift - 1 - 2^(shift - 1) - acc_j` is not below zero for any j, where
/// c_j is zero before the stated number and else one; and at the stated number it is below `2^shift`.
pub(crate) struct Largest {
    pub(crate) linear: LinearOperation,
    /// Of each row.
    pub(crate) stated: Vec<usize>,
    /// z
    pub(crate) word: CellSpan,
    /// By how much each output is below.
    pub(crate) below: CellSpan,
}

impl Largest {
    /// Limbs of what an output may be below the largest.
    pub(crate) fn limbs(shift: u32) -> usize {
        WORD_LIMBS + (shift / LIMB) as usize
    }

    fn ones(&self, row: usize, output: usize) -> bool {
        output >= self.stated[row]
    }
}

impl SealedOperation for Largest {
    fn fill(&self, cells: &mut Cells<'_>, adapter: &[SiteFactors]) -> Result<(), FixedError> {
        let shift = self.linear.shift;
        self.linear.check(cells)?;
        let sums = self.linear.accumulators(cells, adapter);
        for (row, sums) in sums.chunks_exact(self.linear.width()).enumerate() {
            let rounded = |sum: i128| (sum + (1 << (shift - 1))) >> shift;
            let most = rounded(sums[self.stated[row]]);
            cells.set_word(&self.word, row, 0, most as i64);
            for (output, sum) in sums.iter().enumerate() {
                let next = most + i128::from(self.ones(row, output));
                let below = (next << shift) - 1 - (1 << (shift - 1)) - sum;
                if below < 0 || below >> (LIMB as usize * Self::limbs(shift)) != 0 {
                    let (site, entry) = (self.linear.site.clone(), row * sums.len() + output);
                    return Err(FixedError::Overflow { what: "logit", site, entry, bits: crate::fixed::WORD_BITS });
                }
                cells.set_unsigned(&self.below, (0, Self::limbs(shift)), row, output, below as u128);
            }
        }
        Ok(())
    }

    fn state(&self, sink: &mut Sink<'_>) {
        let [difference, own] = std::array::from_fn(|_| sink.weight());
        let shift = self.linear.shift;
        let unit = power_of_two(shift);
        let count = Self::limbs(shift);
        let (rows, outputs) = (sink.rows(self.word.space), sink.features(self.linear.width()));
        let word = self.word.tensor(limbs(0, WORD_LIMBS));
        sink.forms.tensor(difference, &self.below.tensor(limbs(0, count)), &rows, &outputs);
        sink.forms.tensor(-difference * unit * total(&outputs), &word, &rows, &[Fp::ONE]);
        let from: Vec<Fp> = self.stated.iter().map(|stated| total(&outputs[*stated..])).collect();
        let ones: Fp = rows.iter().zip(&from).map(|(row, from)| *row * from).sum();
        let half = Fp::ONE + power_of_two(shift - 1);
        sink.forms.constant(difference * (half * total(&rows) * total(&outputs) - unit * ones));
        self.linear.state(difference, &rows, outputs, &mut sink.forms);
        let public = self.stated.iter().zip(&rows).enumerate().map(|(row, (stated, weight))| (row, *stated, *weight));
        let high = (shift / LIMB) as usize;
        sink.sums.push(Sum {
            rows: rows.len(),
            width: self.linear.width(),
            publics: vec![PublicWeights::Sparse(public.collect())],
            factors: vec![entries(&self.below.tensor(limbs(high, count - high)))],
            products: vec![product(own, 0, &[0])],
        });
    }
}

/// Outputs that are stated, rounded.
pub(crate) struct KnownOutputs {
    pub(crate) linear: LinearOperation,
    /// Row by row.
    pub(crate) outputs: Vec<i64>,
    /// What rounding left over.
    pub(crate) rest: CellSpan,
}

impl SealedOperation for KnownOutputs {
    fn fill(&self, cells: &mut Cells<'_>, adapter: &[SiteFactors]) -> Result<(), FixedError> {
        let shift = self.linear.shift;
        self.linear.check(cells)?;
        let sums = self.linear.accumulators(cells, adapter);
        for (entry, (sum, output)) in sums.iter().zip(&self.outputs).enumerate() {
            let rest = sum + (1 << (shift - 1)) - (i128::from(*output) << shift);
            let (row, feature) = (entry / self.linear.width(), entry % self.linear.width());
            if !(0..1 << shift).contains(&rest) {
                return Err(FixedError::Shape { what: "stated output", site: self.linear.site.clone() });
            }
            cells.set_unsigned(&self.rest, (0, (shift / LIMB) as usize), row, feature, rest as u128);
        }
        Ok(())
    }

    fn state(&self, sink: &mut Sink<'_>) {
        let weight = sink.weight();
        let shift = self.linear.shift;
        let (rows, features) = (sink.rows(self.rest.space), sink.features(self.linear.width()));
        sink.forms.tensor(weight, &self.rest.tensor(limbs(0, (shift / LIMB) as usize)), &rows, &features);
        let row = |(weight, outputs): (&Fp, &[i64])| {
            let sum: Fp =
                outputs.iter().zip(&features).map(|(output, weight)| *weight * signed((*output).into())).sum();
            *weight * sum
        };
        let stated: Fp = rows.iter().zip(self.outputs.chunks_exact(features.len())).map(row).sum();
        let half = power_of_two(shift - 1) * total(&rows) * total(&features);
        sink.forms.constant(weight * (power_of_two(shift) * stated - half));
        self.linear.state(-weight, &rows, features, &mut sink.forms);
    }
}
