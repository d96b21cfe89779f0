//! What is said of cells, without a proof.

use ff::Field;
use pasta_curves::Fp;

use crate::commitment::SiteFactors;
use crate::field::signed;
use crate::folding::Strip;
use crate::hash::Digest;
use crate::sealed::cells::Cells;
use crate::sealed::equations::{EquationPoint, Factor, Sink};
use crate::sealed::plan::SealedPlan;
use crate::sealed::said::OpeningChallenges;
use crate::sealed::sums::{Sum, come_to};

/// What must hold of cells, at one point: everything that is linear in them, and everything that is a product.
pub(super) struct Plain<'p> {
    sink: Sink<'p>,
    strips: Vec<Strip>,
}

impl<'p> Plain<'p> {
    pub(super) fn new(plan: &'p SealedPlan, first: &EquationPoint) -> Self {
        let sink = plan.said(first);
        let strips = sink.forms.claims.strips(&plan.arrangement, 0);
        Self { sink, strips }
    }

    pub(super) fn holds(&self, cells: &Cells<'_>, factors: &[SiteFactors]) -> bool {
        self.off_by(cells, factors) == Fp::ZERO
    }

    /// What everything that must be zero comes to.
    fn off_by(&self, cells: &Cells<'_>, factors: &[SiteFactors]) -> Fp {
        let Self { sink, strips } = self;
        let mut all = sink.forms.claims.constant;
        for strip in strips {
            for (column, weight) in cells.columns[strip.first..].iter().zip(&strip.weights) {
                let nonzero = column.iter().zip(&strip.coefficients).filter(|(value, _)| **value != 0);
                let dot: Fp = nonzero.map(|(value, factor)| signed((*value).into()) * factor).sum();
                all += dot * weight;
            }
        }
        for added in &sink.forms.added {
            let SiteFactors { shape, a, b } = &factors[added.site];
            let (rank, d_in) = (shape.rank as usize, shape.d_in as usize);
            let input = cells.combine(&added.input, &added.rows);
            for lane in 0..rank {
                let v: Fp =
                    added.outputs().map(|(output, weight)| *weight * signed(b[output * rank + lane].into())).sum();
                let h: Fp = input.iter().zip(&a[lane * d_in..]).map(|(x, a)| *x * signed((*a).into())).sum();
                all += added.weight * v * h;
            }
        }
        for sum in &sink.sums {
            let value = |sum: &Sum<Factor>, factor: &Factor| factor.values(cells, factors, [sum.rows, sum.width]);
            all += come_to(sum, &value);
        }
        all
    }
}

/// Whether cells satisfy all that, at a point; for tests of operations by themselves.
pub(super) fn holds_at(plan: &SealedPlan, cells: &Cells<'_>, factors: &[SiteFactors], first: &EquationPoint) -> bool {
    Plain::new(plan, first).holds(cells, factors)
}

/// What everything that must be zero at a point comes to.
pub(super) fn off_by(plan: &SealedPlan, cells: &Cells<'_>, factors: &[SiteFactors], first: &EquationPoint) -> Fp {
    Plain::new(plan, first).off_by(cells, factors)
}

/// A point of an equation's weights, at random.
pub(super) fn first_of(seed: u64) -> EquationPoint {
    let digest = Digest([seed as u8; 32]);
    OpeningChallenges::draw(&digest, &[], None).first
}
