//! Products in bf16 as they are defined, number by number.

use super::super::fused::emulated;
use super::matrix::{Bf16Matrix, Bf16Side, GROUP};
use super::numbers::rounded;

/// As [`super::product`].
pub(super) fn product(x: &[f32], weight: Bf16Matrix<'_>, side: Bf16Side) -> Vec<f32> {
    let (terms, entries) = weight.sides(side);
    let sum = |x: &[f32], entry: usize| {
        let groups = (0..terms).step_by(GROUP).map(|first| {
            let chain = |from: usize| {
                let terms = (from..terms.min(first + GROUP)).step_by(2);
                terms.fold(0.0, |sum, term| emulated(rounded(x[term]), weight.at(side, term, entry), sum))
            };
            chain(first) + chain(first + 1)
        });
        groups.fold(0.0, |sum: f32, group| sum + group)
    };
    x.chunks_exact(terms).flat_map(|x| (0..entries).map(move |entry| sum(x, entry))).collect()
}
