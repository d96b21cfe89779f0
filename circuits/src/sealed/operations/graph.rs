//! Messages between nodes of a graph, and the rectifier.

use std::sync::Arc;

use ff::Field;
use pasta_curves::Fp;

use super::linear::Rounded;
use crate::commitment::SiteFactors;
use crate::fixed::graph::COEFFICIENT_BITS;
use crate::fixed::{FixedError, words};
use crate::sealed::arrangement::{CellSpan, Class, LookupLeaf, Tensor, limbs};
use crate::sealed::cells::Cells;
use crate::sealed::equations::{SealedOperation, Sink, entries, entrywise, power_of_two};
use crate::sealed::tables::LookupTable;

/// Who sends to whom, with coefficients at `2^-30`: for each receiver, sender and coefficient.
#[derive(Clone, Debug)]
pub(crate) struct Messages {
    pub(crate) starts: Vec<usize>,
    pub(crate) senders: Vec<u32>,
    pub(crate) coefficients: Vec<u32>,
}

/// Weighed sums of rows, rounded.
pub(crate) struct Aggregate {
    pub(crate) site: String,
    pub(crate) input: Tensor,
    pub(crate) messages: Arc<Messages>,
    pub(crate) rounded: Rounded,
}

impl SealedOperation for Aggregate {
    fn fill(&self, cells: &mut Cells<'_>, _: &[SiteFactors]) -> Result<(), FixedError> {
        let x = cells.integers(&self.input);
        words(&self.site, &x)?;
        let width = self.input.width;
        let Messages { starts, senders, coefficients } = &*self.messages;
        let mut sums = Vec::new();
        for ends in starts.windows(2) {
            for feature in 0..width {
                let message =
                    |at: usize| i128::from(coefficients[at]) * i128::from(x[senders[at] as usize * width + feature]);
                let sum: i128 = (ends[0]..ends[1]).map(message).sum();
                sums.push(sum);
            }
        }
        self.rounded.fill(&self.site, cells, self.rounded.shift - COEFFICIENT_BITS, sums)
    }

    fn state(&self, sink: &mut Sink<'_>) {
        let weight = sink.weight();
        let (rows, features) = (sink.rows(self.rounded.span.space), sink.features(self.input.width));
        let (out, rest) = (self.rounded.out(), self.rounded.rest());
        sink.rounded(weight, &out, &rest, self.rounded.shift, [&rows, &features]);
        let Messages { starts, senders, coefficients } = &*self.messages;
        let mut of_senders = vec![Fp::ZERO; sink.forms.arrangement.rows(self.input.space)];
        for (ends, row) in starts.windows(2).zip(&rows) {
            for at in ends[0]..ends[1] {
                of_senders[senders[at] as usize] += *row * Fp::from(u64::from(coefficients[at]));
            }
        }
        let scale = power_of_two(self.rounded.shift - COEFFICIENT_BITS);
        sink.forms.tensor(-weight * scale, &self.input, &of_senders, &features);
    }
}

/// Planes: what is above zero, and what is below.
const ABOVE: (usize, usize) = (0, 2);
const BELOW: (usize, usize) = (2, 2);

/// Cells of a rectified word.
pub(crate) fn rectified_class() -> Class {
    Class { planes: 4, leaves: LookupLeaf::limbs(LookupTable::Unsigned, 0, 4).collect() }
}

/// `max(x, 0)`
pub(crate) struct Rectify {
    pub(crate) input: Tensor,
    pub(crate) span: CellSpan,
}

impl Rectify {
    pub(crate) fn out(&self) -> Tensor {
        self.span.tensor(limbs(ABOVE.0, ABOVE.1))
    }
}

impl SealedOperation for Rectify {
    fn fill(&self, cells: &mut Cells<'_>, _: &[SiteFactors]) -> Result<(), FixedError> {
        let x = cells.integers(&self.input);
        words("rectifier", &x)?;
        for (entry, x) in x.into_iter().enumerate() {
            let (row, feature) = (entry / self.span.width, entry % self.span.width);
            cells.set_unsigned(&self.span, ABOVE, row, feature, x.max(0) as u128);
            cells.set_unsigned(&self.span, BELOW, row, feature, (-x).max(0) as u128);
        }
        Ok(())
    }

    fn state(&self, sink: &mut Sink<'_>) {
        let [split, apart] = std::array::from_fn(|_| sink.weight());
        let (rows, features) = (sink.rows(self.input.space), sink.features(self.input.width));
        let (above, below) = (self.out(), self.span.tensor(limbs(BELOW.0, BELOW.1)));
        sink.forms.tensor(split, &above, &rows, &features);
        sink.forms.tensor(-split, &below, &rows, &features);
        sink.forms.tensor(-split, &self.input, &rows, &features);
        let factors = [&above, &below].map(entries).to_vec();
        sink.sums.push(entrywise([rows, features], factors, &[(apart, &[0, 1])]));
    }
}
