//! Norms: a reciprocal root for each vector, shown by the two inequalities that it is the largest integer for.

use std::sync::Arc;

use ff::{Field, PrimeField};
use pasta_curves::Fp;

use super::linear::Rounded;
use super::rope;
use crate::commitment::SiteFactors;
use crate::field::signed;
use crate::fixed::norm::{LAYER_ROOT_BITS, Norm, ROOT_BITS};
use crate::fixed::rope::{ROTATION_BITS, Rotations};
use crate::fixed::{ACTIVATION_BITS, BIAS_BITS, FixedError};
use crate::sealed::arrangement::{CellSpan, Class, LIMB, LookupLeaf, Tensor, limbs};
use crate::sealed::cells::Cells;
use crate::sealed::equations::{
    Map, SealedOperation, Sink, entries, entrywise, mapped, outer, power_of_two, product, total, weighed,
};
use crate::sealed::sums::{PublicWeights, Sum};
use crate::sealed::tables::LookupTable;

/// Planes of the root R, of what it is the root of, D, and of what is left below and above.
const ROOT: (usize, usize) = (0, 4);
const RADICAND: (usize, usize) = (4, 7);
const BELOW: (usize, usize) = (11, 8);
const ABOVE: (usize, usize) = (19, 8);

/// Cells of a root: `R = isqrt(floor(N / D))`, of one vector a feature.
pub(crate) fn root_class() -> Class {
    Class { planes: 27, leaves: LookupLeaf::limbs(LookupTable::Unsigned, 0, 27).collect() }
}

/// What is normalised.
pub(crate) enum Normalised {
    /// Whole rows.
    Rows,
    /// Whole rows, less their mean, and with a bias.
    Layer,
    /// Heads, which are then rotated.
    Heads(Arc<Rotations>),
}

/// `round(x R w / 2^..)`
pub(crate) struct Normalise {
    pub(crate) site: String,
    pub(crate) kind: Normalised,
    pub(crate) norm: Arc<Norm>,
    pub(crate) eps: i64,
    pub(crate) input: Tensor,
    pub(crate) root: CellSpan,
    pub(crate) rounded: Rounded,
}

impl Normalise {
    fn n(&self) -> usize {
        self.norm.features()
    }

    fn heads(&self) -> usize {
        self.input.width / self.n()
    }

    /// What the square of the root times the radicand must not exceed.
    fn numerator(&self) -> u128 {
        match self.kind {
            Normalised::Layer => 1 << (2 * LAYER_ROOT_BITS),
            Normalised::Rows | Normalised::Heads(_) => (self.n() as u128) << (2 * ROOT_BITS),
        }
    }

    /// Bits that are rounded away.
    pub(crate) fn least_shift(norm: &Norm, kind: &Normalised) -> u32 {
        match kind {
            Normalised::Rows => ROOT_BITS - ACTIVATION_BITS + norm.shift(),
            Normalised::Layer => LAYER_ROOT_BITS - ACTIVATION_BITS + norm.shift(),
            Normalised::Heads(_) => ROOT_BITS - ACTIVATION_BITS + norm.shift() + ROTATION_BITS,
        }
    }

    /// By what sums are multiplied so that whole limbs are rounded away.
    fn scale(&self) -> u32 {
        self.rounded.shift - Self::least_shift(&self.norm, &self.kind)
    }

    fn weights(&self) -> impl Iterator<Item = Fp> {
        self.norm.weights().iter().map(|weight| signed((*weight).into()))
    }

    fn tensor(&self, (first, count): (usize, usize)) -> Tensor {
        self.root.tensor(limbs(first, count))
    }

    /// `D` of a vector, and what its entries are multiplied with besides root and weight.
    fn vector(&self, x: &[i64]) -> (u128, Vec<i128>) {
        let n = x.len() as i128;
        let squares: i128 = x.iter().map(|x| i128::from(*x) * i128::from(*x)).sum();
        match self.kind {
            Normalised::Rows | Normalised::Heads(_) => {
                ((squares + n * i128::from(self.eps)) as u128, x.iter().map(|x| i128::from(*x)).collect())
            }
            Normalised::Layer => {
                let sum: i128 = x.iter().map(|x| i128::from(*x)).sum();
                let radicand = n * squares - sum * sum + n * n * i128::from(self.eps);
                (radicand as u128, x.iter().map(|x| n * i128::from(*x) - sum).collect())
            }
        }
    }
}

impl SealedOperation for Normalise {
    fn fill(&self, cells: &mut Cells<'_>, _: &[SiteFactors]) -> Result<(), FixedError> {
        let (n, heads, scale) = (self.n(), self.heads(), self.scale());
        let x = cells.integers(&self.input);
        let mut sums = Vec::with_capacity(x.len());
        for (index, x) in x.chunks_exact(n).enumerate() {
            let (row, head) = (index / heads, index % heads);
            let (radicand, parts) = self.vector(x);
            let numerator = self.numerator();
            let root = (numerator / radicand).isqrt();
            let below = numerator - root * root * radicand;
            // Above first, as the square of the next root times the radicand may not fit.
            let above = (2 * root + 1) * radicand - 1 - below;
            for (planes, value) in [(ROOT, root), (RADICAND, radicand), (BELOW, below), (ABOVE, above)] {
                cells.set_unsigned(&self.root, planes, row, head, value);
            }
            let bias = |feature: usize| {
                let bias = self.norm.bias().map_or(0, |bias| i128::from(bias[feature]));
                bias << (LAYER_ROOT_BITS - BIAS_BITS + self.norm.shift())
            };
            let product = |(feature, (part, weight)): (usize, (&i128, &i32))| {
                part * root as i128 * i128::from(*weight) + bias(feature)
            };
            sums.extend(parts.iter().zip(self.norm.weights()).enumerate().map(product));
        }
        if let Normalised::Heads(rotations) = &self.kind {
            for (row, sums) in sums.chunks_exact_mut(self.input.width).enumerate() {
                rope::rotate(rotations, row, sums);
            }
        }
        self.rounded.fill(&self.site, cells, scale, sums)
    }

    fn state(&self, sink: &mut Sink<'_>) {
        let (n, heads) = (self.n(), self.heads());
        let [out, of_square, below, above] = std::array::from_fn(|_| sink.weight());
        let rows = sink.rows(self.input.space);
        let of_heads = sink.heads(heads);
        let scale = power_of_two(self.scale());

        // The radicand: sums of squares of each vector.
        let count = Fp::from(n as u64);
        let eps = signed(self.eps.into());
        let squares = |coefficient: Fp| {
            let ones = vec![Fp::ONE; n];
            let features = outer(&of_heads, &ones);
            entrywise([rows.clone(), features], vec![entries(&self.input)], &[(coefficient, &[0, 0])])
        };
        let weight = of_square * total(&rows) * total(&of_heads);
        sink.forms.tensor(of_square, &self.tensor(RADICAND), &rows, &of_heads);
        let layer = matches!(self.kind, Normalised::Layer);
        sink.sums.push(squares(if layer { -of_square * count } else { -of_square }));
        sink.forms.constant(-weight * eps * if layer { count.square() } else { count });

        // N - R^2 D and (R + 1)^2 D - N - 1, both from zero on.
        let (root, radicand) = (entries(&self.tensor(ROOT)), entries(&self.tensor(RADICAND)));
        let numerator = Fp::from_u128(self.numerator());
        let all = total(&rows) * total(&of_heads);
        sink.forms.tensor(below, &self.tensor(BELOW), &rows, &of_heads);
        sink.forms.tensor(above, &self.tensor(ABOVE), &rows, &of_heads);
        sink.forms.constant((above * (numerator + Fp::ONE) - below * numerator) * all);
        sink.forms.tensor(-above, &self.tensor(RADICAND), &rows, &of_heads);
        let mut factors = vec![root, radicand];
        let mut products: Vec<(Fp, &[usize])> = vec![(below - above, &[0, 0, 1]), (-above.double(), &[0, 1])];

        // The result.
        let (result, rest) = (self.rounded.out(), self.rounded.rest());
        match &self.kind {
            Normalised::Rows | Normalised::Layer => {
                let features = sink.features(n);
                sink.rounded(out, &result, &rest, self.rounded.shift, [&rows, &features]);
                let mut weights: Vec<Fp> = features.iter().zip(self.weights()).map(|(a, b)| *a * b).collect();
                if layer {
                    let mean = total(&weights);
                    weights.iter_mut().for_each(|weight| *weight = *weight * count - mean);
                    let ones = vec![Fp::ONE; n];
                    factors.push(weighed(&self.input, ones));
                    products.push((of_square, &[2, 2]));
                    let bias = self.norm.bias().unwrap_or_default();
                    let bias: Fp = features.iter().zip(bias).map(|(a, b)| *a * signed((*b).into())).sum();
                    let at = power_of_two(LAYER_ROOT_BITS - BIAS_BITS + self.norm.shift());
                    sink.forms.constant(-out * scale * at * bias * total(&rows));
                }
                factors.push(weighed(&self.input, weights));
                products.push((-out * scale, if layer { &[0, 3] } else { &[0, 2] }));
            }
            Normalised::Heads(rotations) => {
                let features = sink.features(n);
                sink.rounded(out, &result, &rest, self.rounded.shift, [&rows, &outer(&of_heads, &features)]);
                let before = rope::weights_before(rotations, &rows, &features);
                let weights: Vec<Fp> = self.weights().collect();
                let row = |row: &[Fp]| -> Vec<Fp> {
                    let row: Vec<Fp> = row.iter().zip(&weights).map(|(a, b)| *a * b).collect();
                    outer(&of_heads, &row)
                };
                let map: Map = (0..heads).flat_map(|head| std::iter::repeat_n(Some(head), n)).collect();
                let of_head = mapped(self.tensor(ROOT), &map);
                sink.sums.push(Sum {
                    rows: rows.len(),
                    width: self.input.width,
                    publics: vec![PublicWeights::Dense(before.chunks_exact(n).flat_map(row).collect())],
                    factors: vec![entries(&self.input), of_head],
                    products: vec![product(-out * scale, 0, &[0, 1])],
                });
            }
        }
        sink.sums.push(entrywise([rows, of_heads], factors, &products));
    }
}

/// Limbs that so many bits take.
pub(crate) fn whole_limbs(bits: u32) -> u32 {
    bits.div_ceil(LIMB) * LIMB
}
