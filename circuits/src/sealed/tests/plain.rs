//! What is said of cells, without a proof.

use ff::Field;
use pasta_curves::Fp;

use crate::commitment::SiteFactors;
use crate::field::signed;
use crate::hash::Digest;
use crate::sealed::cells::Cells;
use crate::sealed::equations::{EquationPoint, Factor};
use crate::sealed::plan::SealedPlan;
use crate::sealed::said::OpeningChallenges;
use crate::sealed::sums::{Sum, come_to};

/// Whether cells satisfy everything that is linear in them and everything that is a product, at a point; for tests of
/// operations by themselves.
pub(super) fn holds_at(plan: &SealedPlan, cells: &Cells<'_>, factors: &[SiteFactors], first: &EquationPoint) -> bool {
    off_by(plan, cells, factors, first) == Fp::ZERO
}

/// What everything that must be zero at a point comes to.
pub(super) fn off_by(plan: &SealedPlan, cells: &Cells<'_>, factors: &[SiteFactors], first: &EquationPoint) -> Fp {
    let sink = plan.said(first);
    let mut all = sink.forms.claims.constant;
    let values: Vec<Vec<Fp>> =
        cells.columns.iter().map(|column| column.iter().map(|value| signed((*value).into())).collect()).collect();
    let added = sink.forms.added;
    for strip in sink.forms.claims.strips(cells.arrangement, 0) {
        for (column, weight) in values[strip.first..].iter().zip(&strip.weights) {
            let dot: Fp = column.iter().zip(&strip.coefficients).map(|(value, factor)| *value * factor).sum();
            all += dot * weight;
        }
    }
    for added in added {
        let SiteFactors { shape, a, b } = &factors[added.site];
        let (rank, d_in) = (shape.rank as usize, shape.d_in as usize);
        let input = cells.combine(&added.input, &added.rows);
        for lane in 0..rank {
            let v: Fp = added.outputs().map(|(output, weight)| *weight * signed(b[output * rank + lane].into())).sum();
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

/// A point of an equation's weights, at random.
pub(super) fn first_of(seed: u64) -> EquationPoint {
    let digest = Digest([seed as u8; 32]);
    OpeningChallenges::draw(&digest, &[], None).first
}
