//! Folding all rows of a site into one equation with the challenges rho and tau (`STATEMENT.md`, section 4).

use pasta_curves::Fp;
use rayon::prelude::*;

use crate::check::{Stop, go_on};
use crate::delta::rows::SiteRows;
use crate::error::CheckFailed;
use crate::field::{LimbWeights, powers};
use crate::layout::SiteShape;

/// One site after folding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FoldedSite {
    /// `xbar = sum_t rho^t x_t`
    pub(crate) inputs: Vec<Fp>,
    /// `S = sum_t sum_j rho^t tau^j delta_t[j]`
    pub(crate) result: Fp,
}

/// Folds every site.
///
/// # Errors
/// [`CheckFailed::Stopped`], asked for before each site.
pub(crate) fn fold(
    shapes: &[SiteShape],
    sites: &[SiteRows],
    [rho, tau]: [Fp; 2],
    stop: &Stop<'_>,
) -> Result<Vec<FoldedSite>, CheckFailed> {
    let most = sites.iter().map(|site| site.rows).max().unwrap_or(0);
    let longest = shapes.iter().map(|shape| shape.d_out as usize).max().unwrap_or(0);
    let rhos = powers(rho, most);
    let (by_row, by_output) = (LimbWeights::new(&rhos), LimbWeights::new(&powers(tau, longest)));
    let site = |(shape, rows): (&SiteShape, &SiteRows)| {
        go_on(stop)?;
        let deltas = rows.deltas.chunks_exact(shape.d_out as usize);
        let sums = deltas.map(|row| by_output.dot(row.iter().copied()));
        Ok(FoldedSite {
            inputs: by_row.combine_rows(&rows.inputs, shape.d_in as usize),
            result: rhos.iter().zip(sums).map(|(rho, sum)| *rho * sum).sum(),
        })
    };
    shapes.par_iter().zip(sites).map(site).collect()
}

#[cfg(test)]
mod tests {
    use ff::Field;

    use super::*;
    use crate::field::signed;

    #[test]
    fn folding_is_the_double_sum() {
        let shape = SiteShape { name: "s".into(), rank: 1, d_in: 2, d_out: 3, shift_a: 0, shift_b: 0 };
        let rows = SiteRows { rows: 2, inputs: vec![3, -4, 5, 6], deltas: vec![1, -2, 3, -(1 << 80), 5, i128::MAX] };
        let (rho, tau) = (Fp::from(7), Fp::from(11));
        let folded = &fold(&[shape], std::slice::from_ref(&rows), [rho, tau], &|| false).unwrap()[0];
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
