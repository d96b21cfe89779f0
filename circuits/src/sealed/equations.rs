//! The operations of a network, as cells and as what holds between them.
//!
//! Each operation says two things: how its cells are filled from those before it, and what must hold of all of them.
//! What must hold is a list of *equations* between entries of tensors. Weighed by random factors of rows and features
//! and added up, the parts of an equation that are linear in cells go into a linear form, and the others become sums of
//! products of tensors.

use std::any::Any;
use std::sync::Arc;

use ff::Field;
use pasta_curves::Fp;

use super::arrangement::{Arrangement, Space, Tensor};
use super::cells::Cells;
use super::claims::Claims;
use super::sums::{Product, PublicWeights, Sum};
use crate::commitment::SiteFactors;
use crate::fixed::FixedError;
use crate::fractions::equality;

/// One operation of a network.
pub(crate) trait SealedOperation: Any + Send + Sync {
    /// Fills its cells from those of operations before it.
    fn fill(&self, cells: &mut Cells<'_>, adapter: &[SiteFactors]) -> Result<(), FixedError>;

    /// Says what must hold of its cells.
    fn state(&self, sink: &mut Sink<'_>);
}

/// Coordinates of the points at which equations are weighed: of rows, of features, and of heads where features are
/// those of heads.
#[derive(Clone, Debug)]
pub(crate) struct EquationPoint {
    pub(crate) rows: [Fp; 24],
    pub(crate) features: [Fp; 24],
    pub(crate) heads: [Fp; 16],
    /// Weighs equations.
    pub(crate) gamma: Fp,
}

/// The extension of an index below `count`, from the last coordinates of a point.
pub(crate) fn extension(point: &[Fp], count: usize) -> Vec<Fp> {
    let bits = count.next_power_of_two().ilog2() as usize;
    let mut weights = equality(&point[point.len() - bits..]);
    weights.truncate(count);
    weights
}

/// `a_i b_j`, row by row.
pub(crate) fn outer(a: &[Fp], b: &[Fp]) -> Vec<Fp> {
    a.iter().flat_map(|a| b.iter().map(move |b| *a * b)).collect()
}

/// What stands at the features of a sum, where they are not a tensor's own: its feature's number, or nothing.
pub(crate) type Map = Arc<[Option<usize>]>;

/// A factor of a sum: rows of features that are made of tensors.
pub(crate) trait SumFactor: Send + Sync {
    /// Its entries in a sum of so many rows and features.
    fn values(&self, cells: &Cells<'_>, adapter: &[SiteFactors], size: [usize; 2]) -> Vec<Fp>;

    /// Adds its extension, where rows and features have these weights, to a form.
    fn state(&self, weight: Fp, weights: [&[Fp]; 2], forms: &mut Forms<'_>);

    /// What its extension is, where that is not linear in cells: nothing is added to a form then.
    fn product(&self, weights: [&[Fp]; 2]) -> Option<ScoreProduct> {
        let _ = weights;
        None
    }
}

/// A factor of a sum.
pub(crate) type Factor = Arc<dyn SumFactor>;

/// `sum_f of_features_f (sum_t rows_t query_tf) (sum_t keys_t key_t,shared(f))`
#[derive(Clone)]
pub(crate) struct ScoreProduct {
    pub(crate) query: Tensor,
    pub(crate) key: Tensor,
    pub(crate) rows: Vec<Fp>,
    pub(crate) keys: Vec<Fp>,
    pub(crate) features: Vec<Fp>,
    pub(crate) shared: Map,
}

/// What an adapter adds to a linear operation, in the form of its weighed outputs.
#[derive(Clone)]
pub(crate) struct Added {
    /// The number of the site.
    pub(crate) site: usize,
    pub(crate) input: Tensor,
    pub(crate) rows: Vec<Fp>,
    pub(crate) features: Vec<Fp>,
    /// Which of the site's outputs the features are, if not all.
    pub(crate) listed: Option<Arc<[usize]>>,
    pub(crate) weight: Fp,
}

impl Added {
    /// Numbers of the site's outputs, with their weights.
    pub(crate) fn outputs(&self) -> impl Iterator<Item = (usize, &Fp)> {
        let number = move |at: usize| self.listed.as_ref().map_or(at, |listed| listed[at]);
        self.features.iter().enumerate().map(move |(at, weight)| (number(at), weight))
    }
}

/// A linear form in cells, and in what the adapter adds.
pub(crate) struct Forms<'p> {
    pub(crate) arrangement: &'p Arrangement,
    pub(crate) claims: Claims,
    pub(crate) added: Vec<Added>,
    /// Whether the base's weights are weighed, or anything stands in the place of what they come to.
    pub(crate) weigh: bool,
}

impl<'p> Forms<'p> {
    pub(crate) fn new(arrangement: &'p Arrangement) -> Self {
        Self { arrangement, claims: Claims::default(), added: Vec::new(), weigh: true }
    }

    pub(crate) fn tensor(&mut self, weight: Fp, tensor: &Tensor, rows: &[Fp], features: &[Fp]) {
        self.claims.add(self.arrangement, weight, tensor, rows, features);
    }

    pub(crate) fn constant(&mut self, value: Fp) {
        self.claims.constant += value;
    }
}

/// Takes equations in: `sum_t sum_j rows_t features_j (..) = 0`, each with a weight of its own.
pub(crate) struct Sink<'p> {
    first: EquationPoint,
    pub(crate) forms: Forms<'p>,
    pub(crate) sums: Vec<Sum<Factor>>,
    power: Fp,
}

impl<'p> Sink<'p> {
    pub(crate) fn new(arrangement: &'p Arrangement, first: &EquationPoint) -> Self {
        Self { first: first.clone(), forms: Forms::new(arrangement), sums: Vec::new(), power: Fp::ONE }
    }

    /// The weight of another equation.
    pub(crate) fn weight(&mut self) -> Fp {
        let weight = self.power;
        self.power *= self.first.gamma;
        weight
    }

    pub(crate) fn rows(&self, space: Space) -> Vec<Fp> {
        extension(&self.first.rows, self.forms.arrangement.rows(space))
    }

    pub(crate) fn features(&self, width: usize) -> Vec<Fp> {
        extension(&self.first.features, width)
    }

    pub(crate) fn heads(&self, heads: usize) -> Vec<Fp> {
        extension(&self.first.heads, heads)
    }

    /// `out 2^shift + rest = .. + 2^(shift - 1)`, without what is rounded.
    pub(crate) fn rounded(
        &mut self,
        weight: Fp,
        out: &Tensor,
        rest: &Tensor,
        shift: u32,
        [rows, features]: [&[Fp]; 2],
    ) {
        self.forms.tensor(weight * power_of_two(shift), out, rows, features);
        self.forms.tensor(weight, rest, rows, features);
        let half = weight * power_of_two(shift - 1);
        self.forms.constant(-half * total(rows) * total(features));
    }
}

pub(crate) fn total(weights: &[Fp]) -> Fp {
    weights.iter().sum()
}

pub(crate) fn power_of_two(exponent: u32) -> Fp {
    Fp::from(2).pow_vartime([u64::from(exponent)])
}

/// A coefficient times a public weight times factors, by number.
pub(crate) fn product(coefficient: Fp, public: usize, factors: &[usize]) -> Product {
    Product { coefficient, public, factors: factors.to_vec() }
}

/// Entries of a tensor: as they are, or where a map says.
struct Entries {
    tensor: Tensor,
    map: Option<Map>,
}

/// Entries of a tensor as they are.
pub(crate) fn entries(tensor: &Tensor) -> Factor {
    Arc::new(Entries { tensor: tensor.clone(), map: None })
}

/// Entries of a tensor at other features.
pub(crate) fn mapped(tensor: Tensor, map: &Map) -> Factor {
    Arc::new(Entries { tensor, map: Some(map.clone()) })
}

/// One number a row: a weighed sum of its features.
struct Weighed {
    tensor: Tensor,
    weights: Vec<Fp>,
}

/// A weighed sum of the features of each row.
pub(crate) fn weighed(tensor: &Tensor, weights: Vec<Fp>) -> Factor {
    Arc::new(Weighed { tensor: tensor.clone(), weights })
}

/// A sum over all entries, with one public weight.
pub(crate) fn entrywise(
    [rows, features]: [Vec<Fp>; 2],
    factors: Vec<Factor>,
    products: &[(Fp, &[usize])],
) -> Sum<Factor> {
    let products = products.iter().map(|(coefficient, factors)| product(*coefficient, 0, factors)).collect();
    Sum {
        rows: rows.len(),
        width: features.len(),
        publics: vec![PublicWeights::Outer(rows, features)],
        factors,
        products,
    }
}

/// Weights of a tensor's features, from those of where a map puts them.
pub(crate) fn back(map: &Map, features: &[Fp], width: usize) -> Vec<Fp> {
    let mut own = vec![Fp::ZERO; width];
    for (at, feature) in map.iter().zip(features) {
        if let Some(at) = at {
            own[*at] += feature;
        }
    }
    own
}

impl SumFactor for Entries {
    fn values(&self, cells: &Cells<'_>, _: &[SiteFactors], [rows, _]: [usize; 2]) -> Vec<Fp> {
        let values = cells.values(&self.tensor);
        let Some(map) = &self.map else { return values };
        let width = self.tensor.width;
        let row = |row: usize| {
            let values = &values[row * width..][..width];
            map.iter().map(|at| at.map_or(Fp::ZERO, |at| values[at])).collect::<Vec<Fp>>()
        };
        (0..rows).flat_map(row).collect()
    }

    fn state(&self, weight: Fp, [rows, features]: [&[Fp]; 2], forms: &mut Forms<'_>) {
        match &self.map {
            None => forms.tensor(weight, &self.tensor, rows, features),
            Some(map) => forms.tensor(weight, &self.tensor, rows, &back(map, features, self.tensor.width)),
        }
    }
}

impl SumFactor for Weighed {
    fn values(&self, cells: &Cells<'_>, _: &[SiteFactors], _: [usize; 2]) -> Vec<Fp> {
        let values = cells.values(&self.tensor);
        let dot = |row: &[Fp]| row.iter().zip(&self.weights).map(|(value, weight)| *value * weight).sum();
        values.chunks_exact(self.tensor.width).map(dot).collect()
    }

    fn state(&self, weight: Fp, [rows, features]: [&[Fp]; 2], forms: &mut Forms<'_>) {
        forms.tensor(weight * total(features), &self.tensor, rows, &self.weights);
    }
}
