//! Causal softmax attention: exact scores, their distances to the largest, exponentials by table, and one rounding of
//! the weighed mean.
//!
//! Everything about a pair of a query and a key has cells, also where the query does not see the key; there, nothing
//! that is claimed depends on them.

use std::sync::Arc;

use ff::Field;
use ftk_kernels::matmul::product_32;
use pasta_curves::Fp;

use super::linear::Rounded;
use crate::commitment::SiteFactors;
use crate::field::signed;
use crate::fixed::attention::{EXPONENT_SHIFT, HeadCounts, INTERVALS, RECIPROCAL_BITS, STEP_BITS, exp, inverse_root};
use crate::fixed::{FixedError, round_shift, words};
use crate::sealed::arrangement::{CellSpan, Class, LIMB, LookupLeaf, PlanePattern, Tensor, limbs};
use crate::sealed::cells::Cells;
use crate::sealed::equations::{
    Factor, Forms, Map, ScoreProduct, SealedOperation, Sink, SumFactor, entries, entrywise, mapped, outer,
    power_of_two, product, total,
};
use crate::sealed::sums::{PublicWeights, Sum};
use crate::sealed::tables::{LookupTable, exponential};

/// The factors of weights that are products of one of heads and one of `2^bits` keys, of which some are used. Weights of
/// keys add up to one over all `2^bits`.
fn split(features: &[Fp], heads: usize, bits: u32, keys: usize) -> (Vec<Fp>, Vec<Fp>) {
    let of_heads: Vec<Fp> = features.chunks(1 << bits).take(heads).map(total).collect();
    let all: Fp = total(&of_heads);
    // The sum over heads that are none is one less this; if it is zero, which nobody draws, keys are taken from the first.
    let mut of_keys = vec![Fp::ZERO; keys];
    for head in features.chunks(1 << bits).take(heads) {
        of_keys.iter_mut().zip(head).for_each(|(sum, weight)| *sum += weight);
    }
    let inverse = all.invert().unwrap_or(Fp::ONE);
    of_keys.iter_mut().for_each(|weight| *weight *= inverse);
    (of_heads, of_keys)
}

/// Planes of a pair: the distance of its score from the largest, in limbs;
const DISTANCE: (usize, usize) = (0, 5);
/// its exponent, as the part of an interval, the interval, and what is beyond the last one;
const PART: usize = 5;
const INTERVAL: usize = 6;
const BEYOND: (usize, usize) = (7, 3);
/// what rounding the exponent left over;
const EXPONENT_REST: (usize, usize) = (10, 3);
/// value and fall of the exponential in the interval, less those of interval zero;
const VALUE: usize = 13;
const FALL: usize = 14;
/// the exponential, and what rounding it left over;
const WEIGHT: (usize, usize) = (15, 2);
const WEIGHT_REST: usize = 17;
/// and a mark, one at a key of largest score.
pub(crate) const MARK: usize = 18;

/// Cells of a pair.
pub(crate) fn pair_class() -> Class {
    let whole = |planes: (usize, usize)| LookupLeaf::limbs(LookupTable::Unsigned, planes.0, planes.1);
    let single = |plane: usize| vec![(plane, 1)];
    let interval = LookupLeaf { table: LookupTable::Exp, entry: vec![single(INTERVAL), single(VALUE), single(FALL)] };
    let leaves = whole(DISTANCE)
        .chain([LookupLeaf::of(LookupTable::Bits9, PART), interval])
        .chain(whole(BEYOND))
        .chain(whole(EXPONENT_REST))
        .chain(whole(WEIGHT))
        .chain([LookupLeaf::of(LookupTable::Bits9, WEIGHT_REST)]);
    Class { planes: 19, leaves: leaves.collect() }
}

/// Planes of a query's head: the largest score, of which nothing is looked up;
const LARGEST: (usize, usize) = (0, 3);
/// Bits of each of its parts.
const LARGEST_BITS: u32 = 30;
/// the sum of exponentials, its reciprocal, what the division left over, and what is missing to one more.
const SUM: (usize, usize) = (3, 3);
const RECIPROCAL: (usize, usize) = (6, 3);
const LEFT: (usize, usize) = (9, 3);
const MISSING: (usize, usize) = (12, 3);

/// Cells of a query's head.
pub(crate) fn head_class() -> Class {
    Class { planes: 15, leaves: LookupLeaf::limbs(LookupTable::Unsigned, SUM.0, 12).collect() }
}

fn largest() -> PlanePattern {
    (0..LARGEST.1).map(|part| (LARGEST.0 + part, 1i128 << (LARGEST_BITS as usize * part))).collect()
}

/// Bits that are rounded away of exponents and of means.
const EXPONENT_REST_BITS: u32 = 3 * LIMB;
const MEAN_REST_BITS: u32 = 4 * LIMB;

/// Scores of all queries and keys, `(rows, heads, keys)`.
pub(crate) fn scores(cells: &Cells<'_>, query: &Tensor, key: &Tensor, heads: HeadCounts) -> Vec<i128> {
    let word = |values: Vec<i64>| -> Vec<i32> { values.into_iter().map(|value| value as i32).collect() };
    let (queries, keys) = (word(cells.integers(query)), word(cells.integers(key)));
    let rows = queries.len() / query.width;
    let mut scores = vec![0; rows * heads.query * rows];
    for head in 0..heads.query {
        let of = |values: &[i32], width: usize, head: usize| -> Vec<i32> {
            values.chunks_exact(width).flat_map(|row| &row[head * heads.dim..][..heads.dim]).copied().collect()
        };
        let products =
            product_32(&of(&keys, key.width, heads.shared(head)), &of(&queries, query.width, head), heads.dim);
        for (row, products) in products.chunks_exact(rows).enumerate() {
            scores[(row * heads.query + head) * rows..][..rows].copy_from_slice(products);
        }
    }
    scores
}

/// `(rows, heads, keys)` with room for `2^bits` keys.
pub(crate) fn padded<T>(values: &[T], rows: usize, heads: usize, bits: u32, field: impl Fn(&T) -> Fp) -> Vec<Fp> {
    let keys = values.len() / (rows * heads);
    let mut all = vec![Fp::ZERO; (rows * heads) << bits];
    for (own, values) in all.chunks_exact_mut(1 << bits).zip(values.chunks_exact(keys)) {
        own.iter_mut().zip(values).for_each(|(own, value)| *own = field(value));
    }
    all
}

/// Products of queries and keys: rows of heads of `2^bits` keys.
struct QueryKeyScores {
    query: Tensor,
    key: Tensor,
    heads: HeadCounts,
    bits: u32,
}

impl SumFactor for QueryKeyScores {
    fn values(&self, cells: &Cells<'_>, _: &[SiteFactors], [rows, _]: [usize; 2]) -> Vec<Fp> {
        let scores = scores(cells, &self.query, &self.key, self.heads);
        padded(&scores, rows, self.heads.query, self.bits, |score| signed(*score))
    }

    fn state(&self, _: Fp, _: [&[Fp]; 2], _: &mut Forms<'_>) {}

    fn product(&self, [rows, pairs]: [&[Fp]; 2]) -> Option<ScoreProduct> {
        let HeadCounts { query: heads, dim, .. } = self.heads;
        let (of_heads, keys) = split(pairs, heads, self.bits, rows.len());
        let shared = |at: usize| Some(self.heads.shared(at / dim) * dim + at % dim);
        Some(ScoreProduct {
            query: self.query.clone(),
            key: self.key.clone(),
            rows: rows.to_vec(),
            keys,
            features: of_heads.iter().flat_map(|weight| std::iter::repeat_n(*weight, dim)).collect(),
            shared: (0..heads * dim).map(shared).collect(),
        })
    }
}

/// Weighed sums of the features of values: the same in all rows, for heads of `2^bits` keys.
struct Turned {
    value: Tensor,
    weights: Vec<Fp>,
    heads: HeadCounts,
    bits: u32,
}

impl SumFactor for Turned {
    fn values(&self, cells: &Cells<'_>, _: &[SiteFactors], [rows, _]: [usize; 2]) -> Vec<Fp> {
        let values = cells.integers(&self.value);
        let HeadCounts { query: heads, dim, .. } = self.heads;
        let mut row = vec![Fp::ZERO; heads << self.bits];
        for (j, values) in values.chunks_exact(self.value.width).enumerate() {
            for head in 0..heads {
                let values = &values[self.heads.shared(head) * dim..][..dim];
                let terms = values.iter().zip(&self.weights).map(|(value, weight)| *weight * signed((*value).into()));
                row[(head << self.bits) + j] = terms.sum();
            }
        }
        row.repeat(rows)
    }

    fn state(&self, weight: Fp, [rows, features]: [&[Fp]; 2], forms: &mut Forms<'_>) {
        let HeadCounts { query: heads, key_value, dim } = self.heads;
        // Features are heads of keys, whose weights are products.
        let keys = forms.arrangement.rows(self.value.space);
        let (of_heads, of_keys) = split(features, heads, self.bits, keys);
        let mut own = vec![Fp::ZERO; key_value * dim];
        for (head, of_head) in of_heads.iter().enumerate() {
            let own = &mut own[self.heads.shared(head) * dim..][..dim];
            own.iter_mut().zip(&self.weights).for_each(|(own, weight)| *own += *of_head * weight);
        }
        forms.tensor(weight * total(rows), &self.value, &of_keys, &own);
    }
}

/// Attention of rows to each other.
pub(crate) struct Attend {
    pub(crate) site: String,
    pub(crate) heads: HeadCounts,
    /// Whether a row sees another, row by row.
    pub(crate) sees: Arc<[bool]>,
    pub(crate) query: Tensor,
    pub(crate) key: Tensor,
    pub(crate) value: Tensor,
    pub(crate) pairs: CellSpan,
    pub(crate) of_heads: CellSpan,
    pub(crate) rounded: Rounded,
}

impl Attend {
    fn pair(&self, (first, count): (usize, usize)) -> Tensor {
        self.pairs.tensor(limbs(first, count))
    }

    fn head(&self, (first, count): (usize, usize)) -> Tensor {
        self.of_heads.tensor(limbs(first, count))
    }

    fn scale(&self) -> i128 {
        inverse_root(self.heads.dim)
    }
}

impl SealedOperation for Attend {
    fn fill(&self, cells: &mut Cells<'_>, _: &[SiteFactors]) -> Result<(), FixedError> {
        let HeadCounts { query: heads, dim, .. } = self.heads;
        for tensor in [&self.query, &self.key, &self.value] {
            words(&self.site, &cells.integers(tensor))?;
        }
        let scores = scores(cells, &self.query, &self.key, self.heads);
        let rows = self.sees.len().isqrt();
        let values = cells.integers(&self.value);
        let mut sums = vec![0; rows * heads * dim];
        for (at, scores) in scores.chunks_exact(rows).enumerate() {
            let (row, head) = (at / heads, at % heads);
            let sees = &self.sees[row * rows..][..rows];
            let visible = || (0..rows).filter(|key| sees[*key]);
            let most = visible().map(|key| scores[key]).max().unwrap_or_default();
            let mut marked = false;
            let mut weights = vec![0i128; rows];
            for key in 0..rows {
                let distance = if sees[key] { most - scores[key] } else { 0 };
                let exponent = round_shift(distance * self.scale(), EXPONENT_SHIFT);
                let rest = ((distance * self.scale()) << (EXPONENT_REST_BITS - EXPONENT_SHIFT))
                    + (1 << (EXPONENT_REST_BITS - 1))
                    - (exponent << EXPONENT_REST_BITS);
                let intervals = exponent >> STEP_BITS;
                let interval = intervals.min(INTERVALS as i128);
                let part = (exponent & ((1 << STEP_BITS) - 1)) as i64;
                let ([value, fall], zero) = (exponential(interval as usize), exponential(0));
                let weight = i64::from(exp(exponent));
                let weight_rest = (value << STEP_BITS) - fall * part + (1 << (STEP_BITS - 1)) - (weight << STEP_BITS);
                let feature = head * rows + key;
                let bits = LIMB * DISTANCE.1 as u32;
                if distance >> bits != 0 || (intervals - interval) >> (LIMB * BEYOND.1 as u32) != 0 {
                    return Err(FixedError::Overflow {
                        what: "score",
                        site: self.site.clone(),
                        entry: at * rows + key,
                        bits,
                    });
                }
                for (planes, number) in [
                    (DISTANCE, distance),
                    (BEYOND, intervals - interval),
                    (EXPONENT_REST, rest),
                    (WEIGHT, weight.into()),
                ] {
                    cells.set_unsigned(&self.pairs, planes, row, feature, number as u128);
                }
                for (plane, number) in [
                    (PART, part),
                    (INTERVAL, interval as i64),
                    (VALUE, value - zero[0]),
                    (FALL, fall - zero[1]),
                    (WEIGHT_REST, weight_rest),
                ] {
                    cells.set(&self.pairs, plane, row, feature, number);
                }
                if sees[key] && distance == 0 && !marked {
                    marked = true;
                    cells.set(&self.pairs, MARK, row, feature, 1);
                }
                if sees[key] {
                    weights[key] = weight.into();
                }
            }
            let sum: i128 = weights.iter().sum();
            let whole = 1i128 << RECIPROCAL_BITS;
            let reciprocal = whole / sum;
            let left = whole - reciprocal * sum;
            for (planes, number) in [(SUM, sum), (RECIPROCAL, reciprocal), (LEFT, left), (MISSING, sum - 1 - left)] {
                cells.set_unsigned(&self.of_heads, planes, row, head, number as u128);
            }
            let mut rest = most;
            for part in 0..LARGEST.1 {
                let low = if part + 1 < LARGEST.1 { rest & ((1 << LARGEST_BITS) - 1) } else { rest };
                cells.set(&self.of_heads, LARGEST.0 + part, row, head, low as i64);
                rest >>= LARGEST_BITS;
            }
            for (feature, sum) in sums[at * dim..][..dim].iter_mut().enumerate() {
                let column = self.heads.shared(head) * dim + feature;
                let mean: i128 = weights
                    .iter()
                    .enumerate()
                    .map(|(key, weight)| weight * i128::from(values[key * self.value.width + column]))
                    .sum();
                *sum = mean * reciprocal;
            }
        }
        self.rounded.fill(&self.site, cells, MEAN_REST_BITS - RECIPROCAL_BITS, sums)
    }

    fn state(&self, sink: &mut Sink<'_>) {
        let HeadCounts { query: heads, dim, .. } = self.heads;
        let [score, exponent, weight, beyond, mark, marked, sum, division, missing, mean] =
            std::array::from_fn(|_| sink.weight());
        let rows = sink.rows(self.query.space);
        let count = rows.len();
        let (of_heads, features, keys) = (sink.heads(heads), sink.features(dim), sink.features(count));
        let pairs = outer(&of_heads, &keys);
        let all_pairs = total(&rows) * total(&pairs);
        let all_heads = total(&rows) * total(&of_heads);
        let limb = |bits: u32| power_of_two(bits);

        // Of all pairs: the exponent 2^48 t + rest = 4 c distance + 2^47.
        let form = &mut sink.forms;
        let scaled = signed(self.scale()) * limb(EXPONENT_REST_BITS - EXPONENT_SHIFT);
        let mut pair = |weight: Fp, planes: (usize, usize)| form.tensor(weight, &self.pair(planes), &rows, &pairs);
        let intervals = exponent * limb(EXPONENT_REST_BITS + STEP_BITS);
        pair(exponent * limb(EXPONENT_REST_BITS), (PART, 1));
        pair(intervals, (INTERVAL, 1));
        pair(intervals, BEYOND);
        pair(exponent, EXPONENT_REST);
        pair(-exponent * scaled, DISTANCE);
        // 2^9 e + rest = 2^9 value - fall part + 2^8, where value and fall are those of an interval.
        let zero = exponential(0).map(|value| signed(value.into()));
        pair(weight * limb(STEP_BITS), WEIGHT);
        pair(weight, (WEIGHT_REST, 1));
        pair(-weight * limb(STEP_BITS), (VALUE, 1));
        pair(weight * zero[1], (PART, 1));
        // Nothing is beyond but behind the last interval.
        pair(beyond * Fp::from(INTERVALS as u64), BEYOND);
        let constant =
            exponent * limb(EXPONENT_REST_BITS - 1) + weight * (limb(STEP_BITS) * zero[0] + limb(STEP_BITS - 1));
        form.constant(-constant * all_pairs);

        // Of heads: recip sum + left = 2^62, and left + missing = sum - 1.
        let mut head = |weight: Fp, planes: (usize, usize)| form.tensor(weight, &self.head(planes), &rows, &of_heads);
        head(division - missing, LEFT);
        head(missing + sum, SUM);
        head(-missing, MISSING);
        form.constant(-(division * limb(RECIPROCAL_BITS) + missing + marked) * all_heads);
        let factors = [RECIPROCAL, SUM].map(|planes| entries(&self.head(planes))).to_vec();
        let of_division = entrywise([rows.clone(), of_heads.clone()], factors, &[(division, &[0, 1])]);

        // The mean of values, weighed by head and feature.
        let (out, rest) = (self.rounded.out(), self.rounded.rest());
        sink.rounded(mean, &out, &rest, self.rounded.shift, [&rows, &outer(&of_heads, &features)]);
        let mean = -mean * limb(MEAN_REST_BITS - RECIPROCAL_BITS);

        // Sums over pairs, with room for a power of two of keys.
        let bits = count.next_power_of_two().ilog2();
        let map: Map = (0..heads << bits)
            .map(|at| {
                let (head, key) = (at >> bits, at & ((1 << bits) - 1));
                (key < count).then_some(head * count + key)
            })
            .collect();
        let of_head: Map = (0..heads << bits).map(|at| Some(at >> bits)).collect();
        let pairs = |keys: &[Fp], sees: Option<&Arc<[bool]>>| PublicWeights::Pairs {
            rows: rows.clone(),
            heads: of_heads.clone(),
            keys: keys.to_vec(),
            sees: sees.cloned(),
        };
        let ones = vec![Fp::ONE; count];
        let publics = vec![pairs(&keys, None), pairs(&keys, Some(&self.sees)), pairs(&ones, Some(&self.sees))];
        let (each, seen, seen_together) = (0, 1, 2);
        let factors: Vec<Factor> = vec![
            mapped(self.of_heads.tensor(largest()), &of_head),
            mapped(self.pair(DISTANCE), &map),
            Arc::new(QueryKeyScores { query: self.query.clone(), key: self.key.clone(), heads: self.heads, bits }),
            mapped(self.pair((FALL, 1)), &map),
            mapped(self.pair((PART, 1)), &map),
            mapped(self.pair(BEYOND), &map),
            mapped(self.pair((INTERVAL, 1)), &map),
            mapped(self.pair(WEIGHT), &map),
            mapped(self.pair((MARK, 1)), &map),
            mapped(self.head(RECIPROCAL), &of_head),
            Arc::new(Turned { value: self.value.clone(), weights: features, heads: self.heads, bits }),
        ];
        let (largest, distance, scores, fall, part, past, interval, e, marks, reciprocal, values) =
            (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10);
        let products = vec![
            // The largest score less the distance is the score.
            product(score, seen, &[largest]),
            product(-score, seen, &[distance]),
            product(-score, seen, &[scores]),
            product(weight, each, &[fall, part]),
            product(-beyond, each, &[past, interval]),
            // Marks of a query add up to one, and where there is one there is no distance: so some key has the largest.
            product(marked, seen_together, &[marks]),
            product(mark, seen, &[marks, distance]),
            product(-sum, seen_together, &[e]),
            product(mean, seen_together, &[reciprocal, e, values]),
        ];
        sink.sums.push(of_division);
        sink.sums.push(Sum { rows: count, width: heads << bits, publics, factors, products });
    }
}
