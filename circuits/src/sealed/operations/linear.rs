//! Linear operations: public weights, a bias, what the adapter adds, and one rounding.

use std::borrow::Cow;
use std::sync::Arc;

use ff::Field;
use ftk_kernels::matmul::{product, product_64};
use pasta_curves::Fp;

use crate::commitment::SiteFactors;
use crate::field::{LimbWeights, signed};
use crate::fixed::linear::Matrix;
use crate::fixed::{ACTIVATION_BITS, BIAS_BITS, FixedError, WORD_BITS, words};
use crate::layout::SiteShape;
use crate::sealed::arrangement::{CellSpan, LIMB, Tensor, WORD_LIMBS, limbs};
use crate::sealed::cells::Cells;
use crate::sealed::equations::{Added, Forms, SealedOperation, Sink, SumFactor, outer, power_of_two, total};

/// Fractional bits of a bias beyond those of an activation.
const BIAS_SHIFT: u32 = BIAS_BITS - ACTIVATION_BITS;

/// `W x`, plus bias and adapter, before it is rounded: at `2^shift` times the result.
pub(crate) struct LinearOperation {
    pub(crate) site: String,
    pub(crate) matrix: Arc<Matrix>,
    pub(crate) input: Tensor,
    /// Number and shape, where the site has an adapter.
    pub(crate) adapter: Option<(usize, SiteShape)>,
    /// Which of the site's outputs these are, if not all.
    pub(crate) listed: Option<Arc<[usize]>>,
    pub(crate) shift: u32,
}

impl LinearOperation {
    /// The least shift that no part of any sum is finer than.
    pub(crate) fn least_shift(matrix: &Matrix, adapter: Option<&SiteShape>) -> u32 {
        let adapter = adapter.map(|shape| u32::from(shape.shift_a) + u32::from(shape.shift_b));
        let bias = matrix.bias().map(|_| BIAS_SHIFT);
        let rows = matrix.shifts().iter().map(|shift| u32::from(*shift));
        rows.chain(adapter).chain(bias).fold(1, u32::max)
    }

    pub(crate) fn width(&self) -> usize {
        self.matrix.d_out()
    }

    /// Exact sums, row by row.
    pub(crate) fn accumulators(&self, cells: &Cells<'_>, adapter: &[SiteFactors]) -> Vec<i128> {
        // Entries that are no 32-bit integers are refused by `check`.
        let input: Vec<i32> = cells.integers(&self.input).into_iter().map(|x| x as i32).collect();
        let sums = product(self.matrix.weights(), &input, self.matrix.d_in());
        let deltas = self.adapter.as_ref().map(|(number, shape)| {
            let SiteFactors { a, b, .. } = &adapter[*number];
            let rank = shape.rank as usize;
            let b: Cow<'_, [i16]> = match &self.listed {
                None => b.into(),
                Some(listed) => listed.iter().flat_map(|output| &b[output * rank..][..rank]).copied().collect(),
            };
            let shift = self.shift - u32::from(shape.shift_a) - u32::from(shape.shift_b);
            (product_64(&b, &product(a, &input, self.matrix.d_in()), rank), shift)
        });
        let entry = |(at, sum): (usize, i64)| {
            let o = at % self.width();
            let base = i128::from(sum) << (self.shift - u32::from(self.matrix.shifts()[o]));
            let bias = self.matrix.bias().map_or(0, |bias| i128::from(bias[o]) << (self.shift - BIAS_SHIFT));
            base + bias + deltas.as_ref().map_or(0, |(deltas, shift)| deltas[at] << shift)
        };
        sums.into_iter().enumerate().map(entry).collect()
    }

    /// Refuses an input whose entries are no words.
    pub(crate) fn check(&self, cells: &Cells<'_>) -> Result<(), FixedError> {
        words(&self.site, &cells.integers(&self.input)).map(|_| ())
    }

    /// Adds its accumulators, weighed, to a form.
    pub(crate) fn state(&self, weight: Fp, rows: &[Fp], features: Vec<Fp>, forms: &mut Forms<'_>) {
        let shifts = self.matrix.shifts();
        let scale = |(feature, shift): (&Fp, &u8)| *feature * power_of_two(self.shift - u32::from(*shift));
        let back = if forms.weigh {
            let scaled: Vec<Fp> = features.iter().zip(shifts).map(scale).collect();
            LimbWeights::new(&scaled).combine_weights(self.matrix.weights(), self.matrix.d_in())
        } else {
            vec![Fp::ONE; self.matrix.d_in()]
        };
        forms.tensor(weight, &self.input, rows, &back);
        if let Some(bias) = self.matrix.bias() {
            let sum: Fp = features.iter().zip(bias).map(|(feature, bias)| *feature * signed((*bias).into())).sum();
            forms.constant(weight * power_of_two(self.shift - BIAS_SHIFT) * sum * total(rows));
        }
        if let Some((site, shape)) = &self.adapter {
            let shift = self.shift - u32::from(shape.shift_a) - u32::from(shape.shift_b);
            let (input, rows) = (self.input.clone(), rows.to_vec());
            let (listed, weight) = (self.listed.clone(), weight * power_of_two(shift));
            forms.added.push(Added { site: *site, input, rows, features, listed, weight });
        }
    }
}

/// Accumulators of a linear operation, of which heads are added up with weights: rows of the features of a head.
pub(crate) struct HeadAccumulators {
    pub(crate) linear: Arc<LinearOperation>,
    pub(crate) heads: Vec<Fp>,
}

impl SumFactor for HeadAccumulators {
    fn values(&self, cells: &Cells<'_>, adapter: &[SiteFactors], [_, dim]: [usize; 2]) -> Vec<Fp> {
        let row = |row: &[i128]| {
            let mut sum = vec![Fp::ZERO; dim];
            for (head, weight) in row.chunks_exact(dim).zip(&self.heads) {
                sum.iter_mut().zip(head).for_each(|(sum, value)| *sum += *weight * signed(*value));
            }
            sum
        };
        let sums = self.linear.accumulators(cells, adapter);
        sums.chunks_exact(dim * self.heads.len()).flat_map(row).collect()
    }

    fn state(&self, weight: Fp, [rows, features]: [&[Fp]; 2], forms: &mut Forms<'_>) {
        self.linear.state(weight, rows, outer(&self.heads, features), forms);
    }
}

/// A word and what rounding left over: two limbs with a sign, then some without.
#[derive(Clone, Debug)]
pub(crate) struct Rounded {
    pub(crate) span: CellSpan,
    /// A multiple of a limb.
    pub(crate) shift: u32,
}

impl Rounded {
    pub(crate) fn out(&self) -> Tensor {
        self.span.tensor(limbs(0, WORD_LIMBS))
    }

    pub(crate) fn rest(&self) -> Tensor {
        self.span.tensor(limbs(WORD_LIMBS, self.limbs()))
    }

    fn limbs(&self) -> usize {
        (self.shift / LIMB) as usize
    }

    /// Rounds exact sums, row by row, which are `2^scale` times less than they should be.
    pub(crate) fn fill(
        &self,
        site: &str,
        cells: &mut Cells<'_>,
        scale: u32,
        sums: impl IntoIterator<Item = i128>,
    ) -> Result<(), FixedError> {
        let (width, least) = (self.span.width, self.shift - scale);
        for (entry, sum) in sums.into_iter().enumerate() {
            // In two steps, as the sum and a half may not fit.
            let word = ((sum >> (least - 1)) + 1) >> 1;
            // Exact although its parts may not be: it is below 2^least, and so below 2^shift once it is scaled.
            let rest = sum.wrapping_add(1 << (least - 1)).wrapping_sub(word << least) << scale;
            // Both limbs have a sign: the largest word is 2^15 less than that of 32 bits.
            if !(-(1 << WORD_BITS) + 1..(1 << WORD_BITS) - (1 << (LIMB - 1))).contains(&word) {
                let site = site.to_owned();
                return Err(FixedError::Overflow { what: "output", site, entry, bits: WORD_BITS });
            }
            let (row, feature) = (entry / width, entry % width);
            cells.set_word(&self.span, row, feature, word as i64);
            cells.set_unsigned(&self.span, (WORD_LIMBS, self.limbs()), row, feature, rest as u128);
        }
        Ok(())
    }
}

/// A linear operation.
pub(crate) struct Project {
    pub(crate) linear: LinearOperation,
    pub(crate) rounded: Rounded,
}

impl SealedOperation for Project {
    fn fill(&self, cells: &mut Cells<'_>, adapter: &[SiteFactors]) -> Result<(), FixedError> {
        self.linear.check(cells)?;
        let sums = self.linear.accumulators(cells, adapter);
        self.rounded.fill(&self.linear.site, cells, 0, sums)
    }

    fn state(&self, sink: &mut Sink<'_>) {
        let weight = sink.weight();
        let (rows, features) = (sink.rows(self.linear.input.space), sink.features(self.linear.width()));
        let (out, rest) = (self.rounded.out(), self.rounded.rest());
        sink.rounded(weight, &out, &rest, self.rounded.shift, [&rows, &features]);
        self.linear.state(-weight, &rows, features, &mut sink.forms);
    }
}
