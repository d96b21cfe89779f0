//! Folding all rows of a site into one equation with the challenges rho and tau (`STATEMENT.md`, section 4).

use ff::{Field, PrimeField};
use pasta_curves::Fp;
use rayon::prelude::*;

use crate::layout::SiteShape;
use crate::rows::SiteRows;

/// One site after folding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FoldedSite {
    /// `xbar = sum_t rho^t x_t`
    pub(crate) inputs: Vec<Fp>,
    /// `S = sum_t sum_j rho^t tau^j delta_t[j]`
    pub(crate) result: Fp,
    pub(crate) d_out: usize,
}

fn signed(value: i128) -> Fp {
    let magnitude = Fp::from_u128(value.unsigned_abs());
    if value < 0 { -magnitude } else { magnitude }
}

fn small(value: i64) -> Fp {
    let magnitude = Fp::from(value.unsigned_abs());
    if value < 0 { -magnitude } else { magnitude }
}

/// Folds every site, by Horner's rule from the last row and the last column.
pub(crate) fn fold(shapes: &[SiteShape], sites: &[SiteRows], [rho, tau]: [Fp; 2]) -> Vec<FoldedSite> {
    let site = |(shape, rows): (&SiteShape, &SiteRows)| {
        let (d_in, d_out) = (shape.d_in as usize, shape.d_out as usize);
        let mut inputs = vec![Fp::ZERO; d_in];
        for row in rows.inputs.chunks_exact(d_in).rev() {
            for (sum, x) in inputs.iter_mut().zip(row) {
                *sum = *sum * rho + small(*x);
            }
        }
        let result = rows.deltas.chunks_exact(d_out).rev().fold(Fp::ZERO, |sum, row| {
            sum * rho + row.iter().rev().fold(Fp::ZERO, |sum, delta| sum * tau + signed(*delta))
        });
        FoldedSite { inputs, result, d_out }
    };
    shapes.par_iter().zip(sites).map(site).collect()
}

/// `tau^0 .. tau^(count-1)`
pub(crate) fn powers(base: Fp, count: usize) -> Vec<Fp> {
    std::iter::successors(Some(Fp::ONE), |power| Some(*power * base)).take(count).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folding_is_the_double_sum() {
        let shape = SiteShape { name: "s".into(), rank: 1, d_in: 2, d_out: 3, shift_a: 0, shift_b: 0 };
        let rows = SiteRows { inputs: vec![3, -4, 5, 6], deltas: vec![1, -2, 3, -(1 << 80), 5, i128::MAX] };
        let (rho, tau) = (Fp::from(7), Fp::from(11));
        let folded = &fold(&[shape], std::slice::from_ref(&rows), [rho, tau])[0];
        assert_eq!(folded.inputs, [Fp::from(3 + 7 * 5), Fp::from(7 * 6 - 4)]);
        let mut sum = Fp::ZERO;
        for t in 0..2 {
            for j in 0..3 {
                sum += rho.pow([t as u64]) * tau.pow([j as u64]) * signed(rows.deltas[3 * t + j]);
            }
        }
        assert_eq!(folded.result, sum);
    }
}
