//! Sums of products of tensors, all proved by one sumcheck whose messages are committed to.
//!
//! A sum runs over rows and features, each padded to a power of two by zeros. All sums go through the same rounds, the
//! features' first: a sum of fewer features or rows waits for the last rounds of each kind, as if it did not depend on
//! the bits before them. So all end at one point, of which each takes the last coordinates.

use std::collections::BTreeMap;
use std::sync::Arc;

use ff::{Field, PrimeField};
use pasta_curves::{EqAffine, Fp};
use rayon::prelude::*;

use crate::conduct::{Draw, Sent};
use crate::fractions::{Form, LinearIdentity, equality};
use crate::messages::{FiatShamir, Sender};

/// Scalars of the message of a round: as many as the highest degree.
pub(crate) const DEGREE: usize = 4;

/// Weights that everybody knows.
#[derive(Clone, Debug)]
pub(crate) enum PublicWeights {
    /// One of rows times one of features.
    Outer(Vec<Fp>, Vec<Fp>),
    /// One of each pair, row by row.
    Dense(Vec<Fp>),
    /// One of rows times one of heads times one of keys, as far as a row sees a key, where features are heads of keys with
    /// room for a power of two of them.
    Pairs { rows: Vec<Fp>, heads: Vec<Fp>, keys: Vec<Fp>, sees: Option<Arc<[bool]>> },
    /// Of some pairs: row, feature, weight.
    Sparse(Vec<(usize, usize, Fp)>),
}

/// A coefficient times a public weight times up to three factors.
#[derive(Clone, Debug)]
pub(crate) struct Product {
    pub(crate) coefficient: Fp,
    pub(crate) public: usize,
    pub(crate) factors: Vec<usize>,
}

/// `sum_t sum_j sum_products coefficient public_tj factor_tj ..`
#[derive(Clone, Debug)]
pub(crate) struct Sum<F> {
    pub(crate) rows: usize,
    pub(crate) width: usize,
    pub(crate) publics: Vec<PublicWeights>,
    pub(crate) factors: Vec<F>,
    pub(crate) products: Vec<Product>,
}

fn bits(count: usize) -> usize {
    count.next_power_of_two().ilog2() as usize
}

impl<F> Sum<F> {
    fn row_bits(&self) -> usize {
        bits(self.rows)
    }

    fn width_bits(&self) -> usize {
        bits(self.width)
    }

    /// Values of a public weight, padded.
    fn public(&self, public: &PublicWeights) -> Vec<Fp> {
        let width = 1 << self.width_bits();
        let mut values = vec![Fp::ZERO; width << self.row_bits()];
        match public {
            PublicWeights::Outer(rows, features) => {
                for (row, values) in rows.iter().zip(values.chunks_exact_mut(width)) {
                    features.iter().zip(values).for_each(|(feature, value)| *value = *row * feature);
                }
            }
            PublicWeights::Dense(all) => {
                for (row, values) in all.chunks_exact(self.width).zip(values.chunks_exact_mut(width)) {
                    values[..self.width].copy_from_slice(row);
                }
            }
            PublicWeights::Pairs { rows, heads, keys, sees } => {
                let room = keys.len().next_power_of_two();
                for (row, (weight, values)) in rows.iter().zip(values.chunks_exact_mut(width)).enumerate() {
                    for (head, values) in heads.iter().zip(values.chunks_exact_mut(room)) {
                        for (key, (of_key, value)) in keys.iter().zip(values).enumerate() {
                            if sees.as_ref().is_none_or(|sees| sees[row * keys.len() + key]) {
                                *value = *weight * head * of_key;
                            }
                        }
                    }
                }
            }
            PublicWeights::Sparse(some) => {
                some.iter().for_each(|(row, feature, value)| values[row * width + feature] += value)
            }
        }
        values
    }

    /// A public weight's extension at a point.
    fn public_at(&self, public: &PublicWeights, [of_rows, of_features]: &[Vec<Fp>; 2]) -> Fp {
        let dot = |a: &[Fp], b: &[Fp]| -> Fp { a.iter().zip(b).map(|(a, b)| *a * b).sum() };
        match public {
            PublicWeights::Outer(rows, features) => dot(rows, of_rows) * dot(features, of_features),
            PublicWeights::Dense(all) => {
                let rows = all.par_chunks_exact(self.width).zip(of_rows.par_iter());
                rows.map(|(row, weight)| *weight * dot(row, of_features)).reduce(|| Fp::ZERO, |a, b| a + b)
            }
            PublicWeights::Pairs { rows, heads, keys, sees } => {
                let room = keys.len().next_power_of_two();
                let of_key = |(key, weight): (usize, &Fp)| -> Fp {
                    let heads = heads.iter().zip(of_features.chunks(room));
                    *weight * heads.map(|(head, features)| *head * features[key]).sum::<Fp>()
                };
                let of_keys: Vec<Fp> = keys.iter().enumerate().map(of_key).collect();
                let all: Fp = of_keys.iter().sum();
                let row = |(row, (weight, of_row)): (usize, (&Fp, &Fp))| {
                    let seen = sees.as_ref().map_or(all, |sees| {
                        let seen = of_keys.iter().zip(&sees[row * keys.len()..]).filter(|(_, sees)| **sees);
                        seen.map(|(weight, _)| weight).sum()
                    });
                    *weight * of_row * seen
                };
                rows.par_iter().zip(of_rows).enumerate().map(row).reduce(|| Fp::ZERO, |a, b| a + b)
            }
            PublicWeights::Sparse(some) => {
                some.iter().map(|(row, feature, value)| of_rows[*row] * of_features[*feature] * value).sum()
            }
        }
    }

    /// Pairs whose product is a scalar of its own, as products of three need it.
    fn pairs(&self) -> Vec<[usize; 2]> {
        let mut pairs: Vec<[usize; 2]> = Vec::new();
        for product in self.products.iter().filter(|product| product.factors.len() == 3) {
            let pair = [product.factors[0], product.factors[1]];
            if !pairs.contains(&pair) {
                pairs.push(pair);
            }
        }
        pairs
    }

    /// Bytes that a prover takes for it.
    pub(crate) fn bytes(&self) -> u64 {
        let arrays = (self.publics.len() + self.factors.len()) as u64;
        (size_of::<Fp>() as u64 * arrays) << (self.row_bits() + self.width_bits())
    }

    /// Products of field elements that its rounds take a prover: of each pair of entries the values of the round's
    /// polynomial, and one for each array to fix a bit.
    pub(crate) fn multiplications(&self) -> u64 {
        let entries = 1u64 << (self.row_bits() + self.width_bits());
        let arrays = self.publics.len() + self.factors.len();
        let values: usize = self.products.iter().map(|product| (DEGREE + 1) * (product.factors.len() + 1)).sum();
        entries * (values + arrays) as u64
    }

    /// Scalars that are committed to once its rounds are over.
    pub(crate) fn scalars(&self) -> usize {
        self.factors.len() + self.pairs().len()
    }
}

/// Where the rounds of all sums end.
#[derive(Clone, Debug)]
pub(crate) struct Point {
    /// Challenges of the features' rounds, then of the rows'.
    challenges: Vec<Fp>,
    widths: usize,
}

impl Point {
    /// Weights of the rows and features of a sum.
    pub(crate) fn weights<F>(&self, sum: &Sum<F>) -> [Vec<Fp>; 2] {
        let (widths, rows) = self.challenges.split_at(self.widths);
        let last = |challenges: &[Fp], bits: usize, count: usize| {
            let point: Vec<Fp> = challenges[challenges.len() - bits..].iter().rev().copied().collect();
            let mut weights = equality(&point);
            weights.truncate(count);
            weights
        };
        [last(rows, sum.row_bits(), sum.rows), last(widths, sum.width_bits(), sum.width)]
    }
}

/// All sums of a stage.
#[derive(Clone, Debug)]
pub(crate) struct SumBatch<F> {
    pub(crate) sums: Vec<Sum<F>>,
}

impl<F: Sync + Send> SumBatch<F> {
    fn widths(&self) -> usize {
        self.sums.iter().map(Sum::width_bits).max().unwrap_or(0)
    }

    pub(crate) fn rounds(&self) -> usize {
        self.widths() + self.sums.iter().map(Sum::row_bits).max().unwrap_or(0)
    }

    /// Whether a sum has a bit that is fixed in a round.
    fn takes_part(&self, sum: &Sum<F>, round: usize) -> bool {
        let widths = self.widths();
        match round.checked_sub(widths) {
            None => round >= widths - sum.width_bits(),
            Some(row) => row >= self.rounds() - widths - sum.row_bits(),
        }
    }

    /// Numbers of the first scalar of each sum, and of all.
    pub(crate) fn starts(&self) -> (Vec<usize>, usize) {
        let mut next = 0;
        let start = |sum: &Sum<F>| {
            next += sum.scalars();
            next - sum.scalars()
        };
        let starts = self.sums.iter().map(start).collect();
        (starts, next)
    }

    /// Draws the challenges that follow from the commitments to all messages.
    pub(crate) fn follow(&self, transcript: &mut FiatShamir, points: &[EqAffine]) -> Point {
        let challenge = |point: &EqAffine| {
            let [r] = transcript.draw(point, [Draw::Sum]);
            r
        };
        Point { challenges: points.iter().map(challenge).collect(), widths: self.widths() }
    }

    /// Proves them. `value` gives the entries of a factor of a sum, unpadded. The result is the scalars that the rounds
    /// end in.
    pub(crate) fn prove(
        &self,
        stage: usize,
        value: &(dyn Fn(&Sum<F>, &F) -> Vec<Fp> + Sync),
        sender: &mut Sender<'_>,
    ) -> (Point, Vec<Fp>) {
        let mut states: Vec<BoundSum> = self.sums.par_iter().map(|sum| BoundSum::new(sum, value)).collect();
        let mut challenges = Vec::with_capacity(self.rounds());
        let matrix = interpolation();
        for round in 0..self.rounds() {
            let values = states
                .par_iter_mut()
                .zip(&self.sums)
                .map(|(state, sum)| state.round(sum, self.takes_part(sum, round)))
                .reduce(|| [Fp::ZERO; DEGREE + 1], add);
            let coefficients: [Fp; DEGREE] = std::array::from_fn(|power| {
                matrix[power + 1].iter().zip(&values).map(|(factor, value)| *factor * value).sum()
            });
            let (_, [r]) = sender.send(Sent::Sum { stage, round }, coefficients, [Draw::Sum]);
            states
                .par_iter_mut()
                .zip(&self.sums)
                .for_each(|(state, sum)| state.bind(r, self.takes_part(sum, round), &matrix));
            challenges.push(r);
        }
        let scalars = states.iter().zip(&self.sums).flat_map(|(state, sum)| {
            let ends: Vec<Fp> = state.arrays[sum.publics.len()..].iter().map(|array| array[0]).collect();
            let pairs: Vec<Fp> = sum.pairs().iter().map(|[a, b]| ends[*a] * ends[*b]).collect();
            ends.into_iter().chain(pairs)
        });
        (Point { challenges, widths: self.widths() }, scalars.collect())
    }

    /// What the sum of all of them must be, times the result's factor, is a linear form minus products: the number of the
    /// first scalar of the messages and of the ends are given.
    pub(crate) fn identities(&self, point: &Point, messages: usize, ends: usize) -> (Fp, Vec<LinearIdentity>) {
        // claim' = claim / 2 + sum_k c_k (r^k - 1 / 2)
        let mut factor = Fp::ONE;
        let mut whole = LinearIdentity { linear: Form::new(), products: Vec::new() };
        for (round, r) in point.challenges.iter().enumerate().rev() {
            let mut power = *r;
            for k in 0..DEGREE {
                whole.linear.push((messages + DEGREE * round + k, factor * (power - Fp::TWO_INV)));
                power *= r;
            }
            factor *= Fp::TWO_INV;
        }
        let mut others = Vec::new();
        let (starts, _) = self.starts();
        for (sum, start) in self.sums.iter().zip(starts) {
            let start = ends + start;
            let waiting = self.rounds() - sum.row_bits() - sum.width_bits();
            let scale = Fp::TWO_INV.pow_vartime([waiting as u64]);
            let weights = point.weights(sum);
            let publics: Vec<Fp> = sum.publics.iter().map(|public| scale * sum.public_at(public, &weights)).collect();
            let pairs = sum.pairs();
            let mut products: BTreeMap<[usize; 2], Fp> = BTreeMap::new();
            for product in &sum.products {
                let coefficient = product.coefficient * publics[product.public];
                match product.factors[..] {
                    [] => unreachable!("a product has factors"),
                    [single] => whole.linear.push((start + single, -coefficient)),
                    [a, b] => *products.entry([start + a, start + b]).or_default() += coefficient,
                    [a, b, c, ..] => {
                        let pair = pairs.iter().position(|pair| *pair == [a, b]).expect("pairs are those of products");
                        *products.entry([start + sum.factors.len() + pair, start + c]).or_default() += coefficient;
                    }
                }
            }
            let product = |([a, b], coefficient): ([usize; 2], Fp)| [vec![(a, coefficient)], vec![(b, Fp::ONE)]];
            whole.products.extend(products.into_iter().map(product));
            others.extend(pairs.iter().enumerate().map(|(pair, [a, b])| LinearIdentity {
                linear: vec![(start + sum.factors.len() + pair, Fp::ONE)],
                products: vec![[vec![(start + a, Fp::ONE)], vec![(start + b, Fp::ONE)]]],
            }));
        }
        others.insert(0, whole);
        (factor, others)
    }
}

fn add(a: [Fp; DEGREE + 1], b: [Fp; DEGREE + 1]) -> [Fp; DEGREE + 1] {
    std::array::from_fn(|i| a[i] + b[i])
}

/// From values at 0, 1, .. to coefficients.
fn interpolation() -> [[Fp; DEGREE + 1]; DEGREE + 1] {
    let mut matrix = [[Fp::ZERO; DEGREE + 1]; DEGREE + 1];
    for at in 0..=DEGREE {
        // The polynomial that is one at `at` and zero at the others.
        let mut polynomial = vec![Fp::ONE];
        let mut divisor = Fp::ONE;
        for other in (0..=DEGREE).filter(|other| *other != at) {
            let root = Fp::from(other as u64);
            divisor *= Fp::from(at as u64) - root;
            let mut next = vec![Fp::ZERO; polynomial.len() + 1];
            for (power, coefficient) in polynomial.iter().enumerate() {
                next[power + 1] += coefficient;
                next[power] -= root * coefficient;
            }
            polynomial = next;
        }
        let inverse = divisor.invert().unwrap_or(Fp::ZERO);
        for (power, coefficient) in polynomial.into_iter().enumerate() {
            matrix[power][at] = coefficient * inverse;
        }
    }
    matrix
}

/// A sum whose first bits are fixed.
struct BoundSum {
    /// Publics, then factors.
    arrays: Vec<Vec<Fp>>,
    /// Coefficient and arrays of each product.
    products: Vec<(Fp, Vec<usize>)>,
    /// What it comes to, once the rounds it waited for have halved it.
    claim: Fp,
    scale: Fp,
    values: [Fp; DEGREE + 1],
}

impl BoundSum {
    fn new<F: Sync>(sum: &Sum<F>, value: &(dyn Fn(&Sum<F>, &F) -> Vec<Fp> + Sync)) -> Self {
        let width = 1 << sum.width_bits();
        let pad = |values: Vec<Fp>| {
            if sum.width == width && sum.rows.is_power_of_two() {
                return values;
            }
            let mut padded = vec![Fp::ZERO; width << sum.row_bits()];
            for (row, padded) in values.chunks_exact(sum.width).zip(padded.chunks_exact_mut(width)) {
                padded[..sum.width].copy_from_slice(row);
            }
            padded
        };
        let mut arrays: Vec<Vec<Fp>> = sum.publics.iter().map(|public| sum.public(public)).collect();
        arrays.extend(sum.factors.iter().map(|factor| pad(value(sum, factor))));
        let product = |product: &Product| {
            let factors = product.factors.iter().map(|factor| sum.publics.len() + factor);
            (product.coefficient, std::iter::once(product.public).chain(factors).collect())
        };
        let products: Vec<(Fp, Vec<usize>)> = sum.products.iter().map(product).collect();
        let entry = |at: usize| -> Fp {
            let terms = products.iter().map(|(coefficient, arrays_of)| {
                arrays_of.iter().fold(*coefficient, |product, array| product * arrays[*array][at])
            });
            terms.sum()
        };
        let claim = (0..arrays[0].len()).into_par_iter().map(entry).reduce(|| Fp::ZERO, |a, b| a + b);
        Self { arrays, products, claim, scale: Fp::ONE, values: [Fp::ZERO; DEGREE + 1] }
    }

    /// Values of the round's polynomial at 0, 1, ..
    fn round<F>(&mut self, _: &Sum<F>, takes_part: bool) -> [Fp; DEGREE + 1] {
        if !takes_part {
            self.values = [self.claim * Fp::TWO_INV; DEGREE + 1];
            return self.values;
        }
        const BLOCK: usize = 1 << 10;
        let pairs = self.arrays[0].len() / 2;
        let arrays = &self.arrays;
        let block = |block: usize| {
            let mut sums = [Fp::ZERO; DEGREE + 1];
            let mut lines = vec![[Fp::ZERO; DEGREE + 1]; arrays.len()];
            for at in block * BLOCK..pairs.min((block + 1) * BLOCK) {
                for (line, array) in lines.iter_mut().zip(arrays) {
                    let rise = array[2 * at + 1] - array[2 * at];
                    line[0] = array[2 * at];
                    for i in 1..=DEGREE {
                        line[i] = line[i - 1] + rise;
                    }
                }
                for (coefficient, of) in &self.products {
                    for (i, sum) in sums.iter_mut().enumerate() {
                        let product = of[1..].iter().fold(lines[of[0]][i], |product, array| product * lines[*array][i]);
                        *sum += *coefficient * product;
                    }
                }
            }
            sums
        };
        let sums = (0..pairs.div_ceil(BLOCK)).into_par_iter().map(block).reduce(|| [Fp::ZERO; DEGREE + 1], add);
        self.values = sums.map(|sum| sum * self.scale);
        self.values
    }

    /// Fixes the round's bit.
    fn bind(&mut self, r: Fp, takes_part: bool, matrix: &[[Fp; DEGREE + 1]; DEGREE + 1]) {
        let mut power = Fp::ONE;
        let mut claim = Fp::ZERO;
        for row in matrix {
            claim += power * row.iter().zip(&self.values).map(|(factor, value)| *factor * value).sum::<Fp>();
            power *= r;
        }
        self.claim = claim;
        if !takes_part {
            self.scale *= Fp::TWO_INV;
            return;
        }
        for array in &mut self.arrays {
            let halved = array.par_chunks_exact(2).map(|pair| pair[0] + r * (pair[1] - pair[0])).collect();
            *array = halved;
        }
    }
}

/// What a sum comes to.
#[cfg(test)]
pub(crate) fn come_to<F: Sync>(sum: &Sum<F>, value: &(dyn Fn(&Sum<F>, &F) -> Vec<Fp> + Sync)) -> Fp {
    BoundSum::new(sum, value).claim
}
