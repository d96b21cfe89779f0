//! Log-probabilities: how far each output of a row is below the largest, the sum of their exponentials by two tables,
//! and its logarithm, bracketed. No logit is stated.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use ff::{Field, PrimeField};
use pasta_curves::Fp;

use super::choice::unsigned_class;
use super::linear::LinearOperation;
use crate::commitment::SiteFactors;
use crate::field::signed;
use crate::fixed::log_prob::{
    BRACKET_SHIFT, COARSE, COARSE_SHIFT, FINE_BITS, LOG_PROB_BITS, PART_BITS, PART_ONE, coarse, fine, logarithm, place,
    sum_of_exponentials,
};
use crate::fixed::{ACTIVATION_BITS, FixedError, WORD_BITS};
use crate::sealed::arrangement::{CellSpan, Class, LIMB, LookupLeaf, PlanePattern, Tensor, WORD_LIMBS, limbs};
use crate::sealed::cells::Cells;
use crate::sealed::equations::{Map, SealedOperation, Sink, entries, mapped, power_of_two, product, total};
use crate::sealed::sums::{PublicWeights, Sum};
use crate::sealed::tables::{COARSE_PART, LookupTable};

/// Planes of a number that both tables have had their share of: fine steps and their exponential, less that of none;
const FINE: usize = 0;
const FINE_VALUE: usize = 1;
/// how far its coarse steps are from the last, and their exponential in two parts.
const COARSE_LEFT: usize = 2;
const HIGH: usize = 3;
const LOW: usize = 4;
/// Of an output: coarse steps beyond the last, a mark, one at an output that is the largest, and what rounding left over.
const BEYOND: usize = 5;
pub(crate) const MARK: usize = 6;
const REST: usize = 7;
/// Of a bracket: what both tables leave; the product of their values, of which nothing is looked up; by how much the sum
/// is beyond the bracket.
const PART: usize = 5;
const PRODUCT: (usize, usize) = (6, 3);
const GAP: (usize, usize) = (9, 11);
/// Limbs of the gap below those that a pattern of planes cannot weigh.
const GAP_LOWER: usize = 7;
/// Of a row: the largest output, the logarithm, the sum, of which nothing is looked up.
const LARGEST: usize = 0;
const LOGARITHM: usize = WORD_LIMBS;
const SUM: (usize, usize) = (2 * WORD_LIMBS, 4);
/// Bits of each part of a number that is not looked up.
const PART_OF_ANY: u32 = 30;

/// What a log-probability is finer than a logit.
const FINER: u32 = LOG_PROB_BITS - ACTIVATION_BITS;

fn by_tables() -> [LookupLeaf; 2] {
    let single = |plane: usize| vec![(plane, 1)];
    [
        LookupLeaf { table: LookupTable::Fine, entry: vec![single(FINE), single(FINE_VALUE)] },
        LookupLeaf { table: LookupTable::Coarse, entry: vec![single(COARSE_LEFT), single(HIGH), single(LOW)] },
    ]
}

/// Cells of an output.
pub(crate) fn output_class(shift: u32) -> Class {
    let rest = (shift / LIMB) as usize;
    let own =
        LookupLeaf::limbs(LookupTable::Unsigned, REST, rest).chain([LookupLeaf::of(LookupTable::Unsigned, BEYOND)]);
    Class { planes: REST + rest, leaves: by_tables().into_iter().chain(own).collect() }
}

/// Cells of a row.
pub(crate) fn row_class() -> Class {
    Class { planes: SUM.0 + SUM.1, leaves: LookupLeaf::limbs(LookupTable::Signed, 0, SUM.0).collect() }
}

/// Cells of a bracket.
pub(crate) fn bracket_class() -> Class {
    let own = LookupLeaf::limbs(LookupTable::Unsigned, GAP.0, GAP.1).chain([LookupLeaf::of(LookupTable::Bits9, PART)]);
    Class { planes: GAP.0 + GAP.1, leaves: by_tables().into_iter().chain(own).collect() }
}

fn parts((first, count): (usize, usize)) -> PlanePattern {
    (0..count).map(|part| (first + part, 1i128 << (PART_OF_ANY as usize * part))).collect()
}

fn set_parts(cells: &mut Cells<'_>, span: &CellSpan, (first, count): (usize, usize), at: [usize; 2], value: u128) {
    for part in 0..count {
        let value = (value >> (PART_OF_ANY as usize * part)) & ((1 << PART_OF_ANY) - 1);
        cells.set(span, first + part, at[0], at[1], value as i64);
    }
}

/// `exp` of both shares.
fn values(span: &CellSpan) -> [Tensor; 2] {
    let high = [(HIGH, 1i128 << COARSE_PART), (LOW, 1)];
    [span.tensor(high.into()), span.tensor_from([(FINE_VALUE, 1)].into(), fine(0).into())]
}

/// Sets what the tables say of so many fine steps.
fn set_by_tables(cells: &mut Cells<'_>, span: &CellSpan, [row, feature]: [usize; 2], steps: u64) {
    let (steps, of_fine) = ((steps >> FINE_BITS) as usize, steps as usize & ((1 << FINE_BITS) - 1));
    let value = coarse(steps) as i64;
    let mut set = |plane: usize, value: i64| cells.set(span, plane, row, feature, value);
    set(FINE, of_fine as i64);
    set(FINE_VALUE, fine(of_fine) as i64 - fine(0) as i64);
    set(COARSE_LEFT, COARSE.saturating_sub(steps) as i64);
    set(HIGH, value >> COARSE_PART);
    set(LOW, value & ((1 << COARSE_PART) - 1));
}

/// The logarithm of the sum of the exponentials of a linear operation's outputs.
pub(crate) struct LogSumExp {
    pub(crate) linear: LinearOperation,
    pub(crate) outputs: CellSpan,
    pub(crate) rows: CellSpan,
    /// Two positions a row.
    pub(crate) brackets: CellSpan,
}

/// By how much each output of a row is below the largest, at `2^-16`, and the logarithm of their sum, at `2^-24`.
#[derive(Clone, Debug)]
pub struct LogProbs {
    pub(crate) distance: Tensor,
    pub(crate) logarithm: Tensor,
}

impl LogProbs {
    /// What an output's log-probability is.
    fn of(&self, cells: &Cells<'_>, row: usize, output: usize) -> i64 {
        -(cells.integer(&self.distance, row, output) << FINER) - cells.integer(&self.logarithm, row, 0)
    }
}

impl LogSumExp {
    pub(crate) fn log_probs(&self) -> LogProbs {
        LogProbs { distance: self.distance(), logarithm: self.rows.tensor(limbs(LOGARITHM, WORD_LIMBS)) }
    }

    fn distance(&self) -> Tensor {
        let step = 1i128 << FINE_BITS;
        let pattern = [(FINE, 1), (COARSE_LEFT, -step), (BEYOND, step)];
        self.outputs.tensor_from(pattern.into(), step * COARSE as i128)
    }

    fn overflow(&self, what: &'static str, entry: usize, bits: u32) -> FixedError {
        FixedError::Overflow { what, site: self.linear.site.clone(), entry, bits }
    }

    /// Fills what is above or below the sum's logarithm.
    fn fill_bracket(&self, cells: &mut Cells<'_>, at: [usize; 2], logarithm: i64, sum: u128) {
        let place = (place(logarithm) + 2 * at[1] as i64) as u64;
        let steps = place >> PART_BITS;
        set_by_tables(cells, &self.brackets, at, steps);
        let part = place as i64 & ((1 << PART_BITS) - 1);
        cells.set(&self.brackets, PART, at[0], at[1], part);
        let of_fine = fine(steps as usize & ((1 << FINE_BITS) - 1));
        let both = u128::from(coarse((steps >> FINE_BITS) as usize)) * u128::from(of_fine);
        set_parts(cells, &self.brackets, PRODUCT, at, both);
        let reached = signed(sum as i128) * signed(both as i128) * signed((PART_ONE - part).into()) - bound();
        let gap = if at[1] == 0 { reached } else { -reached - Fp::ONE };
        for (limb, bytes) in gap.to_repr().as_ref().chunks_exact(2).take(GAP.1).enumerate() {
            let value = i64::from(bytes[0]) | i64::from(bytes[1]) << 8;
            cells.set(&self.brackets, GAP.0 + limb, at[0], at[1], value);
        }
    }
}

/// What products of sums and exponentials are compared with.
fn bound() -> Fp {
    power_of_two(BRACKET_SHIFT) * Fp::from(coarse(1))
}

impl SealedOperation for LogSumExp {
    fn fill(&self, cells: &mut Cells<'_>, adapter: &[SiteFactors]) -> Result<(), FixedError> {
        let (shift, width) = (self.linear.shift, self.linear.width());
        self.linear.check(cells)?;
        let sums = self.linear.accumulators(cells, adapter);
        for (row, sums) in sums.chunks_exact(width).enumerate() {
            let half = 1i128 << (shift - 1);
            let words: Vec<i128> = sums.iter().map(|sum| (sum + half) >> shift).collect();
            let (at, largest) = words
                .iter()
                .enumerate()
                .fold((0, i128::MIN), |most, (output, word)| if *word > most.1 { (output, *word) } else { most });
            if !(-(1 << WORD_BITS) + 1..(1 << WORD_BITS) - (1 << (LIMB - 1))).contains(&largest) {
                return Err(self.overflow("logit", row * width + at, WORD_BITS));
            }
            cells.set_word(&self.rows, row, 0, largest as i64);
            cells.set(&self.outputs, MARK, row, at, 1);
            for (output, (word, sum)) in words.iter().zip(sums).enumerate() {
                let entry = row * width + output;
                let far = || self.overflow("distance of a logit", entry, LIMB + FINE_BITS);
                let distance = u64::try_from(largest - word).map_err(|_| far())?;
                let steps = (distance >> FINE_BITS) as usize;
                let beyond = steps.saturating_sub(COARSE);
                if beyond >> LIMB != 0 {
                    return Err(far());
                }
                set_by_tables(cells, &self.outputs, [row, output], distance);
                cells.set(&self.outputs, BEYOND, row, output, beyond as i64);
                let rest = (sum + half - (word << shift)) as u128;
                cells.set_unsigned(&self.outputs, (REST, (shift / LIMB) as usize), row, output, rest);
            }
            let sum = sum_of_exponentials(largest as i64, words.iter().map(|word| *word as i64));
            let logarithm = logarithm(sum);
            set_parts(cells, &self.rows, SUM, [row, 0], sum);
            let low = i64::from(logarithm as i16);
            cells.set(&self.rows, LOGARITHM, row, 0, low);
            cells.set(&self.rows, LOGARITHM + 1, row, 0, (logarithm - low) >> LIMB);
            for side in 0..2 {
                self.fill_bracket(cells, [row, side], logarithm, sum);
            }
        }
        Ok(())
    }

    fn state(&self, sink: &mut Sink<'_>) {
        let [rounding, beyond, marked, mark, summed, placed, both, gap] = std::array::from_fn(|_| sink.weight());
        let (shift, width) = (self.linear.shift, self.linear.width());
        let (unit, limb_count) = (power_of_two(shift), (shift / LIMB) as usize);
        let (rows, outputs) = (sink.rows(self.rows.space), sink.features(width));
        let sides = sink.features(2);
        let distance = self.distance();
        let LogProbs { logarithm, .. } = self.log_probs();
        let marks = self.outputs.plane(MARK);
        let [high, value] = values(&self.outputs);
        let form = &mut sink.forms;

        // (largest - distance) 2^shift + rest = sum + 2^(shift - 1)
        let largest = self.rows.tensor(limbs(LARGEST, WORD_LIMBS));
        form.tensor(rounding * unit * total(&outputs), &largest, &rows, &[Fp::ONE]);
        form.tensor(-rounding * unit, &distance, &rows, &outputs);
        form.tensor(rounding, &self.outputs.tensor(limbs(REST, limb_count)), &rows, &outputs);
        form.constant(-rounding * power_of_two(shift - 1) * total(&rows) * total(&outputs));
        self.linear.state(-rounding, &rows, outputs.clone(), form);
        // Marks of a row add up to one.
        let ones = vec![Fp::ONE; width];
        form.tensor(marked, &marks, &rows, &ones);
        form.constant(-marked * total(&rows));
        // The sum is that of the exponentials.
        form.tensor(-summed, &self.rows.tensor(parts(SUM)), &rows, &[Fp::ONE]);
        // 2^19 (COARSE - coarse) + 2^9 fine + part = 2^19 + 2 logarithm - 1 + 2 side
        let steps = self.brackets.tensor_from(
            [(COARSE_LEFT, -(1i128 << COARSE_SHIFT)), (FINE, 1 << PART_BITS), (PART, 1)].into(),
            (COARSE as i128 - 1) * (1 << COARSE_SHIFT) + 1,
        );
        form.tensor(placed, &steps, &rows, &sides);
        form.tensor(-placed.double() * total(&sides), &logarithm, &rows, &[Fp::ONE]);
        form.constant(-placed.double() * total(&rows) * sides[1]);
        // The product of both exponentials, and how far the sum times it and what is left of one is from the bound.
        form.tensor(-both, &self.brackets.tensor(parts(PRODUCT)), &rows, &sides);
        let (lower, higher) = (limbs(GAP.0, GAP_LOWER), limbs(GAP.0 + GAP_LOWER, GAP.1 - GAP_LOWER));
        form.tensor(-gap, &self.brackets.tensor(lower), &rows, &sides);
        let above = power_of_two(LIMB * GAP_LOWER as u32);
        form.tensor(-gap * above, &self.brackets.tensor(higher), &rows, &sides);
        let signs = [sides[0], -sides[1]];
        form.constant(-gap * total(&rows) * (bound() * total(&signs) + sides[1]));

        let factors = vec![entries(&self.outputs.plane(BEYOND)), entries(&self.outputs.plane(COARSE_LEFT))];
        let (past, left, marks_at, far, highs, fines) = (0, 1, 2, 3, 4, 5);
        let factors = factors.into_iter().chain([&marks, &distance, &high, &value].map(entries)).collect();
        sink.sums.push(Sum {
            rows: rows.len(),
            width,
            publics: vec![PublicWeights::Outer(rows.clone(), outputs), PublicWeights::Outer(rows.clone(), ones)],
            factors,
            products: vec![
                product(beyond, 0, &[past, left]),
                product(mark, 0, &[marks_at, far]),
                product(summed, 1, &[highs, fines]),
            ],
        });
        let of_row: Map = [Some(0), Some(0)].into();
        let [high, value] = values(&self.brackets);
        let left = self.brackets.tensor_from([(PART, -1)].into(), PART_ONE.into());
        sink.sums.push(Sum {
            rows: rows.len(),
            width: 2,
            publics: vec![PublicWeights::Outer(rows.clone(), sides), PublicWeights::Outer(rows, signs.to_vec())],
            factors: vec![
                entries(&high),
                entries(&value),
                mapped(self.rows.tensor(parts(SUM)), &of_row),
                entries(&self.brackets.tensor(parts(PRODUCT))),
                entries(&left),
            ],
            products: vec![product(both, 0, &[0, 1]), product(gap, 1, &[2, 3, 4])],
        });
    }
}

/// Outputs whose log-probabilities add up to a stated number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TotalLogProb {
    /// Row and output of each.
    pub of: Vec<(usize, usize)>,
    /// At `2^-24`.
    pub log_prob: i64,
}

/// Log-probabilities that are stated.
pub(crate) struct TotalLogProbs {
    pub(crate) site: String,
    pub(crate) log_probs: LogProbs,
    pub(crate) sums: Vec<TotalLogProb>,
}

/// Adds what stands at some places, weighed.
fn at_places(tensor: &Tensor, places: Vec<(usize, usize, Fp)>, weight: Fp, sink: &mut Sink<'_>) {
    sink.sums.push(Sum {
        rows: sink.forms.arrangement.rows(tensor.space),
        width: tensor.width,
        publics: vec![PublicWeights::Sparse(places)],
        factors: vec![entries(tensor)],
        products: vec![product(weight, 0, &[0])],
    });
}

impl SealedOperation for TotalLogProbs {
    fn fill(&self, cells: &mut Cells<'_>, _: &[SiteFactors]) -> Result<(), FixedError> {
        let holds = |sum: &TotalLogProb| {
            let of = |(row, output): &(usize, usize)| self.log_probs.of(cells, *row, *output);
            sum.of.iter().map(of).sum::<i64>() == sum.log_prob
        };
        FixedError::require(self.sums.iter().all(holds), "stated log-probability", &self.site)
    }

    fn state(&self, sink: &mut Sink<'_>) {
        let LogProbs { distance, logarithm } = &self.log_probs;
        let mut of_rows = vec![Fp::ZERO; sink.forms.arrangement.rows(distance.space)];
        let mut places = Vec::new();
        for TotalLogProb { of, log_prob } in &self.sums {
            let weight = sink.weight();
            for (row, output) in of {
                of_rows[*row] += weight;
                places.push((*row, *output, weight));
            }
            sink.forms.constant(weight * signed((*log_prob).into()));
        }
        sink.forms.tensor(Fp::ONE, logarithm, &of_rows, &[Fp::ONE]);
        at_places(distance, places, power_of_two(FINER), sink);
    }
}

/// Whether an output's log-probability is at least so much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// The number of its row.
    pub row: usize,
    /// Its number.
    pub output: usize,
    /// At `2^-24`.
    pub bound: i64,
    /// Whether it is, or is below.
    pub holds: bool,
}

/// Bounds of log-probabilities.
pub(crate) struct Bounded {
    pub(crate) site: String,
    pub(crate) log_probs: LogProbs,
    pub(crate) bounds: Vec<Bound>,
    /// A row for each bound.
    pub(crate) rest: CellSpan,
}

/// Limbs of how far a log-probability is from its bound.
const BOUND_LIMBS: usize = 3;

/// Cells of a bound.
pub(crate) fn bound_class() -> Class {
    unsigned_class(BOUND_LIMBS)
}

impl SealedOperation for Bounded {
    fn fill(&self, cells: &mut Cells<'_>, _: &[SiteFactors]) -> Result<(), FixedError> {
        for (entry, Bound { row, output, bound, holds }) in self.bounds.iter().enumerate() {
            let above = i128::from(self.log_probs.of(cells, *row, *output)) - i128::from(*bound);
            let rest = if *holds { above } else { -above - 1 };
            FixedError::require(rest >= 0, "stated bound", &self.site)?;
            if rest >> (LIMB as usize * BOUND_LIMBS) != 0 {
                let (site, bits) = (self.site.clone(), LIMB * BOUND_LIMBS as u32);
                return Err(FixedError::Overflow { what: "distance from bound", site, entry, bits });
            }
            cells.set_unsigned(&self.rest, (0, BOUND_LIMBS), entry, 0, rest as u128);
        }
        Ok(())
    }

    // sign (2^8 distance + logarithm + bound) + (holds ? 0 : 1) + rest = 0
    fn state(&self, sink: &mut Sink<'_>) {
        let weight = sink.weight();
        let LogProbs { distance, logarithm } = &self.log_probs;
        let weights = sink.rows(self.rest.space);
        sink.forms.tensor(weight, &self.rest.tensor(limbs(0, BOUND_LIMBS)), &weights, &[Fp::ONE]);
        let mut of_rows = vec![Fp::ZERO; sink.forms.arrangement.rows(distance.space)];
        let mut places = Vec::new();
        for (Bound { row, output, bound, holds }, own) in self.bounds.iter().zip(weights) {
            let (signed_own, below) = if *holds { (own, Fp::ZERO) } else { (-own, own) };
            of_rows[*row] += signed_own;
            places.push((*row, *output, signed_own));
            sink.forms.constant(weight * (signed_own * signed((*bound).into()) + below));
        }
        sink.forms.tensor(weight, logarithm, &of_rows, &[Fp::ONE]);
        at_places(distance, places, weight * power_of_two(FINER), sink);
    }
}

/// The likeliest outputs of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ranking {
    /// The number of the row.
    pub row: usize,
    /// The outputs, the likeliest first, those that are equal by their numbers, with log-probabilities at `2^-24`.
    pub likeliest: Vec<(usize, i64)>,
}

impl Ranking {
    pub(crate) fn is_in_order(&self) -> bool {
        let rank = |(output, log_prob): &(usize, i64)| (Reverse(*log_prob), *output);
        !self.likeliest.is_empty() && self.likeliest.is_sorted_by(|one, next| rank(one) < rank(next))
    }

    /// How far the last is from the first, and which it is.
    fn last(&self) -> (i64, usize) {
        let [(_, first), (output, last)] = [0, self.likeliest.len() - 1].map(|at| self.likeliest[at]);
        (first.saturating_sub(last) >> FINER, output)
    }
}

/// That all outputs that rankings do not list are behind the last that they do. What log-probabilities the listed ones
/// have is [`TotalLogProbs`].
pub(crate) struct Ranked {
    pub(crate) site: String,
    pub(crate) rankings: Vec<Ranking>,
    /// A row for each ranking, as `rest` has.
    pub(crate) distance: Tensor,
    pub(crate) rest: CellSpan,
}

/// Limbs of how far an output is behind the last that is listed.
const RANK_LIMBS: usize = 2;

/// Cells of an output that is not among the likeliest.
pub(crate) fn rank_class() -> Class {
    unsigned_class(RANK_LIMBS)
}

impl SealedOperation for Ranked {
    fn fill(&self, cells: &mut Cells<'_>, _: &[SiteFactors]) -> Result<(), FixedError> {
        let mut so = true;
        for (row, ranking) in self.rankings.iter().enumerate() {
            let (far, last) = ranking.last();
            so &= cells.integer(&self.distance, row, ranking.likeliest[0].0) == 0;
            let listed: BTreeSet<usize> = ranking.likeliest.iter().map(|(output, _)| *output).collect();
            for output in (0..self.rest.width).filter(|output| !listed.contains(output)) {
                let rest = cells.integer(&self.distance, row, output) - far - i64::from(output < last);
                so &= rest >= 0;
                cells.set_unsigned(&self.rest, (0, RANK_LIMBS), row, output, rest as u128);
            }
        }
        FixedError::require(so, "stated ranking", &self.site)
    }

    // rest - distance + the last one's + (output < last ? 1 : 0) = 0, where the output is not listed; and the first one's
    // distance is zero, as what the last one's is comes from differences.
    fn state(&self, sink: &mut Sink<'_>) {
        let [weight, of_first] = std::array::from_fn(|_| sink.weight());
        let (rows, outputs) = (sink.rows(self.rest.space), sink.features(self.rest.width));
        let rest = self.rest.tensor(limbs(0, RANK_LIMBS));
        sink.forms.tensor(weight, &rest, &rows, &outputs);
        sink.forms.tensor(-weight, &self.distance, &rows, &outputs);
        let all = total(&outputs);
        let (mut minus, mut plus) = (Vec::new(), Vec::new());
        for ((row, ranking), of_row) in self.rankings.iter().enumerate().zip(&rows) {
            let (far, last) = ranking.last();
            let mut constant = signed(far.into()) * all + total(&outputs[..last]);
            for (output, _) in &ranking.likeliest {
                constant -= outputs[*output] * signed(i128::from(far) + i128::from(*output < last));
                minus.push((row, *output, -*of_row * outputs[*output]));
                plus.push((row, *output, *of_row * outputs[*output]));
            }
            sink.forms.constant(weight * of_row * constant);
        }
        at_places(&rest, minus, weight, sink);
        at_places(&self.distance, plus, weight, sink);
        let firsts = self.rankings.iter().zip(&rows).enumerate();
        let firsts = firsts.map(|(row, (ranking, of_row))| (row, ranking.likeliest[0].0, *of_row)).collect();
        at_places(&self.distance, firsts, of_first, sink);
    }
}
