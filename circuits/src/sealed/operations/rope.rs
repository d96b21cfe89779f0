//! Rotations: of accumulators before they are rounded, and of words.

use std::sync::Arc;

use pasta_curves::Fp;

use super::linear::{HeadAccumulators, LinearOperation, Rounded};
use crate::commitment::SiteFactors;
use crate::field::signed;
use crate::fixed::FixedError;
use crate::fixed::rope::{ROTATION_BITS, Rotations};
use crate::sealed::arrangement::Tensor;
use crate::sealed::cells::Cells;
use crate::sealed::equations::{SealedOperation, Sink, entries, outer, product};
use crate::sealed::sums::{PublicWeights, Sum};

/// Weights of what is rotated, from those of the result: row by row, of the features of a head.
pub(crate) fn weights_before(rotations: &Rotations, rows: &[Fp], features: &[Fp]) -> Vec<Fp> {
    let half = rotations.dim / 2;
    let mut weights = Vec::with_capacity(rows.len() * rotations.dim);
    for (row, weight) in rows.iter().enumerate() {
        let angles = row * half..(row + 1) * half;
        let (cos, sin) = (&rotations.cos[angles.clone()], &rotations.sin[angles]);
        let angle = |value: i32| signed(value.into());
        let pairs = || cos.iter().zip(sin).zip(features.iter().zip(&features[half..]));
        // The results are a cos - c sin and c cos + a sin.
        weights.extend(
            pairs().map(|((cos, sin), (first, second))| *weight * (*first * angle(*cos) + *second * angle(*sin))),
        );
        weights.extend(
            pairs().map(|((cos, sin), (first, second))| *weight * (*second * angle(*cos) - *first * angle(*sin))),
        );
    }
    weights
}

/// Rotates each head of a row in place.
pub(crate) fn rotate(rotations: &Rotations, row: usize, values: &mut [i128]) {
    let half = rotations.dim / 2;
    for head in values.chunks_exact_mut(rotations.dim) {
        for i in 0..half {
            let (a, c) = (head[i], head[i + half]);
            let (cos, sin) = (i128::from(rotations.cos[row * half + i]), i128::from(rotations.sin[row * half + i]));
            head[i] = a * cos - c * sin;
            head[i + half] = c * cos + a * sin;
        }
    }
}

/// A linear operation whose heads are rotated before they are rounded.
pub(crate) struct ProjectRotated {
    pub(crate) linear: Arc<LinearOperation>,
    pub(crate) rotations: Arc<Rotations>,
    pub(crate) rounded: Rounded,
}

impl SealedOperation for ProjectRotated {
    fn fill(&self, cells: &mut Cells<'_>, adapter: &[SiteFactors]) -> Result<(), FixedError> {
        self.linear.check(cells)?;
        let mut sums = self.linear.accumulators(cells, adapter);
        for (row, sums) in sums.chunks_exact_mut(self.linear.width()).enumerate() {
            rotate(&self.rotations, row, sums);
        }
        self.rounded.fill(&self.linear.site, cells, 0, sums)
    }

    fn state(&self, sink: &mut Sink<'_>) {
        let weight = sink.weight();
        let dim = self.rotations.dim;
        let rows = sink.rows(self.linear.input.space);
        let (heads, features) = (sink.heads(self.linear.width() / dim), sink.features(dim));
        let (out, rest) = (self.rounded.out(), self.rounded.rest());
        sink.rounded(weight, &out, &rest, self.rounded.shift, [&rows, &outer(&heads, &features)]);
        // The linear operation is at 2^(shift - 30): its rotation at 2^shift.
        debug_assert_eq!(self.linear.shift + ROTATION_BITS, self.rounded.shift);
        sink.sums.push(Sum {
            rows: rows.len(),
            width: dim,
            publics: vec![PublicWeights::Dense(weights_before(&self.rotations, &rows, &features))],
            factors: vec![Arc::new(HeadAccumulators { linear: self.linear.clone(), heads })],
            products: vec![product(-weight, 0, &[0])],
        });
    }
}

/// Words whose heads are rotated, and rounded once more.
pub(crate) struct Rotate {
    pub(crate) site: String,
    pub(crate) input: Tensor,
    pub(crate) rotations: Arc<Rotations>,
    pub(crate) rounded: Rounded,
}

impl SealedOperation for Rotate {
    fn fill(&self, cells: &mut Cells<'_>, _: &[SiteFactors]) -> Result<(), FixedError> {
        let mut sums: Vec<i128> = cells.integers(&self.input).into_iter().map(i128::from).collect();
        for (row, sums) in sums.chunks_exact_mut(self.input.width).enumerate() {
            rotate(&self.rotations, row, sums);
        }
        self.rounded.fill(&self.site, cells, self.rounded.shift - ROTATION_BITS, sums)
    }

    fn state(&self, sink: &mut Sink<'_>) {
        let weight = sink.weight();
        let dim = self.rotations.dim;
        let rows = sink.rows(self.input.space);
        let (heads, features) = (sink.heads(self.input.width / dim), sink.features(dim));
        let (out, rest) = (self.rounded.out(), self.rounded.rest());
        sink.rounded(weight, &out, &rest, self.rounded.shift, [&rows, &outer(&heads, &features)]);
        let before = weights_before(&self.rotations, &rows, &features);
        let all = before.chunks_exact(dim).flat_map(|row| outer(&heads, row)).collect();
        let scale = Fp::from(1 << (self.rounded.shift - ROTATION_BITS));
        sink.sums.push(Sum {
            rows: rows.len(),
            width: self.input.width,
            publics: vec![PublicWeights::Dense(all)],
            factors: vec![entries(&self.input)],
            products: vec![product(-weight * scale, 0, &[0])],
        });
    }
}
