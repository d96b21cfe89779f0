//! What a sealed proof says, as prover and verifier derive it from points that were sent: challenges, sums of two
//! stages, identities in scalars, and the one equation that all of it comes to (`STATEMENT.md`, section 11).

use ff::Field;
use ff::PrimeField;
use pasta_curves::{EqAffine, Fp};

use super::arrangement::{Arrangement, Tensor};
use super::claims::Claims;
use super::equations::{Added, EquationPoint, Factor, Forms, Map, ScoreProduct, back};
use super::lookups::{Fingerprint, Lookups};
use super::plan::SealedPlan;
use super::sums::{DEGREE, Point, Product, PublicWeights, Sum, SumBatch};
use crate::commitment::AdapterCommitment;
use crate::conduct::Draw;
use crate::error::CheckFailed;
use crate::field::powers;
use crate::folding::{Folding, Spread, Strip};
use crate::fractions::{self, Draws, Form, LinearIdentity};
use crate::hash::{Absorb, Digest, Tag};
use crate::key::{CommitmentKey, MESSAGE_ROWS};
use crate::layout::useful_rows;
use crate::link::LinkSubject;
use crate::messages::FiatShamir;
use crate::statement::StatementBytes;

pub(crate) const KIND: u8 = 2;

/// A factor of a sum of the second stage, which has one row.
#[derive(Clone)]
pub(crate) enum Combined {
    /// Rows of a tensor, weighed and added up.
    Rows { tensor: Tensor, rows: Vec<Fp>, map: Option<Map> },
    /// Lanes of A of a site, weighed and added up.
    Lanes { site: usize },
}

/// That key, statement, commitment and plan belong together.
///
/// # Errors
/// The first of them that does not.
pub(crate) fn fits(
    key: &CommitmentKey,
    statement: &StatementBytes,
    commitment: &AdapterCommitment,
    plan: &SealedPlan,
) -> Result<(), CheckFailed> {
    if key.k() != plan.k() {
        return Err(CheckFailed::Key(plan.k()));
    }
    if statement.adapter != commitment.digest() {
        return Err(CheckFailed::Adapter(commitment.digest()));
    }
    if statement.base != commitment.base() {
        return Err(CheckFailed::Base(commitment.base()));
    }
    if plan.arrangement.adapter.shapes != commitment.shapes() {
        return Err(CheckFailed::Coverage("the plan is for other sites, shapes or scales".into()));
    }
    Ok(())
}

/// What the first challenges follow from.
pub(crate) fn anchor(statement: &StatementBytes, commitment: &AdapterCommitment, plan: &SealedPlan) -> Digest {
    let anchor =
        Absorb::new(Tag::SealedAnchor).digest(&statement.digest()).digest(&commitment.digest()).digest(&plan.digest);
    anchor.u32(plan.k()).u32(plan.columns() as u32).finish()
}

/// Challenges after cells and counts.
pub(crate) struct OpeningChallenges {
    pub(crate) bound: Digest,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) first: EquationPoint,
}

impl OpeningChallenges {
    pub(crate) fn draw(anchor: &Digest, points: &[EqAffine], early: Option<Draw>) -> Self {
        let before = || Absorb::new(Tag::SealedCells).digest(anchor);
        let after = || before().points(points);
        let drawn = |draw: Draw| -> [Fp; 67] { if draw.is_early(early) { before() } else { after() }.challenges() };
        let ([point, base, ..], [_, _, gamma, ..]) = (drawn(Draw::Table), drawn(Draw::Equations));
        let coordinates = drawn(Draw::Coordinates);
        let first = EquationPoint {
            gamma,
            rows: std::array::from_fn(|i| coordinates[3 + i]),
            features: std::array::from_fn(|i| coordinates[27 + i]),
            heads: std::array::from_fn(|i| coordinates[51 + i]),
        };
        let fingerprint = Fingerprint { point, base };
        Self { bound: after().finish(), fingerprint, first }
    }
}

/// The transcript of the sums of a stage.
pub(crate) fn stage_transcript(bound: &Digest, stage: u32, early: Option<Draw>) -> FiatShamir {
    FiatShamir { digest: Absorb::new(Tag::SealedSums).digest(bound).u32(stage).finish(), early }
}

/// What is said once the first sums have ended.
pub(crate) struct SumsEnd<'p> {
    batch: SumBatch<Factor>,
    point: Point,
    /// What the sums together come to, without the adapter's part.
    pub(crate) whole: Forms<'p>,
    /// For each factor, in order: what its end is.
    pub(crate) factors: Vec<Forms<'p>>,
    /// Products of queries and keys: the number of the end among all scalars of the stage, and what it is.
    pub(crate) scores: Vec<(usize, Sum<Combined>)>,
}

impl<'p> SumsEnd<'p> {
    pub(crate) fn new(arrangement: &'p Arrangement, whole: Forms<'p>, batch: SumBatch<Factor>, point: Point) -> Self {
        let (starts, _) = batch.starts();
        let mut scores = Vec::new();
        let mut factors = Vec::new();
        for (sum, start) in batch.sums.iter().zip(starts) {
            let [rows, features] = point.weights(sum);
            for (number, factor) in sum.factors.iter().enumerate() {
                let mut forms = Forms { weigh: whole.weigh, ..Forms::new(arrangement) };
                factor.state(Fp::ONE, [&rows, &features], &mut forms);
                factors.push(forms);
                if let Some(product) = factor.product([&rows, &features]) {
                    scores.push((start + number, score(product)));
                }
            }
        }
        Self { batch, point, whole, factors, scores }
    }

    /// The sums of the first stage.
    pub(crate) fn sums(&self) -> &[Sum<Factor>] {
        &self.batch.sums
    }

    /// All that adapters add, by sites, and of one site in the order of operations: with the number of the identity it
    /// occurs in; zero is that of the whole, and those of factors follow.
    pub(crate) fn added(&self) -> Vec<(usize, &Added)> {
        let all = std::iter::once(&self.whole).chain(&self.factors).enumerate();
        let mut added: Vec<(usize, &Added)> =
            all.flat_map(|(identity, forms)| forms.added.iter().map(move |added| (identity, added))).collect();
        added.sort_by_key(|(_, added)| added.site);
        added
    }
}

/// A product of queries and keys as a sum: over heads and features.
pub(crate) fn score(ScoreProduct { query, key, rows, keys, features, shared }: ScoreProduct) -> Sum<Combined> {
    Sum {
        rows: 1,
        width: features.len(),
        publics: vec![PublicWeights::Outer(vec![Fp::ONE], features)],
        factors: vec![
            Combined::Rows { tensor: query, rows, map: None },
            Combined::Rows { tensor: key, rows: keys, map: Some(shared) },
        ],
        products: vec![Product { coefficient: Fp::ONE, public: 0, factors: vec![0, 1] }],
    }
}

/// The second stage: products of queries and keys, and of A and inputs.
pub(crate) struct Second {
    pub(crate) lambda: Fp,
    pub(crate) gamma: Fp,
    pub(crate) batch: SumBatch<Combined>,
}

impl Second {
    /// The digests are those before v and h, and after them.
    pub(crate) fn new(
        ended: &SumsEnd<'_>,
        added: &[(usize, &Added)],
        [before, after]: [&Digest; 2],
        early: Option<Draw>,
    ) -> Self {
        let drawn = |draw: Draw| -> [Fp; 2] {
            Absorb::new(Tag::SealedAdapter).digest(if draw.is_early(early) { before } else { after }).challenges()
        };
        let ([lambda, _], [_, gamma]) = (drawn(Draw::Lanes), drawn(Draw::SecondSums));
        let of_sites = added.iter().map(|(_, added)| Sum {
            rows: 1,
            width: added.input.width,
            publics: vec![PublicWeights::Outer(vec![Fp::ONE], vec![Fp::ONE; added.input.width])],
            factors: vec![
                Combined::Rows { tensor: added.input.clone(), rows: added.rows.clone(), map: None },
                Combined::Lanes { site: added.site },
            ],
            products: vec![Product { coefficient: Fp::ONE, public: 0, factors: vec![0, 1] }],
        });
        let mut sums: Vec<Sum<Combined>> = ended.scores.iter().map(|(_, sum)| sum.clone()).chain(of_sites).collect();
        for (sum, weight) in sums.iter_mut().zip(powers(gamma, ended.scores.len() + added.len())) {
            sum.products.iter_mut().for_each(|product| product.coefficient *= weight);
        }
        Self { lambda, gamma, batch: SumBatch { sums } }
    }
}

/// Numbers of scalars: of messages and of sums of trees first, then those of ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ScalarCounts {
    /// Of the first stage's messages, of the second's.
    pub(crate) stages: [usize; 2],
    /// Scalars that are committed to twice.
    pub(crate) messages: usize,
    /// Ends of the first stage, v and h of all that adapters add, ends of the second: first numbers, and the first after
    /// them.
    pub(crate) ends: [usize; 4],
}

impl ScalarCounts {
    /// Ranges of scalars that have columns of their own: messages, then ends.
    fn parts(&self) -> [std::ops::Range<usize>; 4] {
        let [first, of_adapter, second, end] = self.ends;
        [0..self.messages, first..of_adapter, of_adapter..second, second..end]
    }
}

/// Everything that the equation is made of.
pub(crate) struct Said<'a> {
    pub(crate) plan: &'a SealedPlan,
    pub(crate) commitment: &'a AdapterCommitment,
    pub(crate) lookups: &'a Lookups,
    pub(crate) opened: &'a OpeningChallenges,
    pub(crate) trees: &'a [Draws],
    pub(crate) ended: &'a SumsEnd<'a>,
    pub(crate) second: (&'a Second, &'a Point),
}

impl Said<'_> {
    pub(crate) fn numbers(&self) -> ScalarCounts {
        let (second, _) = self.second;
        let stage = self.lookups.scalars();
        let next = stage + DEGREE * self.ended.batch.rounds();
        let messages = next + DEGREE * second.batch.rounds();
        let ranks = self.ended.added().into_iter().map(|(_, added)| self.commitment.shapes()[added.site].rank as usize);
        let lanes = messages + self.ended.batch.starts().1;
        let last = lanes + 2 * ranks.sum::<usize>();
        ScalarCounts { stages: [stage, next], messages, ends: [messages, lanes, last, last + second.batch.starts().1] }
    }

    /// Identities in scalars, and the numbers of those that the forms of the first stage belong to: of the whole, and of
    /// the first factor.
    pub(crate) fn identities(&self) -> Identities {
        let numbers = self.numbers();
        let mut all = self.lookups.identities(self.trees);
        let SumsEnd { batch, point, .. } = self.ended;
        let whole = all.len();
        let (factor, mut own) = batch.identities(point, numbers.stages[0], numbers.ends[0]);
        // The sums come to minus what is linear in cells and what the adapter adds.
        let mut lane = numbers.ends[1];
        let added = self.ended.added();
        let (starts, _) = batch.starts();
        let mut ends = Vec::new();
        for (sum, start) in batch.sums.iter().zip(starts) {
            ends.extend((0..sum.factors.len()).map(|number| numbers.ends[0] + start + number));
        }
        let is_score = |end: &usize| self.ended.scores.iter().any(|(own, _)| numbers.ends[0] + own == *end);
        let mut factors: Vec<LinearIdentity> =
            ends.iter().map(|end| LinearIdentity { linear: vec![(*end, Fp::ONE)], products: Vec::new() }).collect();
        for (identity, added) in &added {
            let rank = self.commitment.shapes()[added.site].rank as usize;
            let products = (lane..).step_by(2).take(rank).map(|v| {
                let weight = if *identity == 0 { factor * added.weight } else { added.weight };
                [vec![(v, weight)], vec![(v + 1, Fp::ONE)]]
            });
            match identity {
                0 => own[0].products.extend(products),
                number => factors[number - 1].products.extend(products),
            }
            lane += 2 * rank;
        }
        all.extend(own);
        let of_factors = all.len();
        // An end of products of queries and keys is left to the second stage.
        for (identity, end) in factors.iter_mut().zip(&ends) {
            if is_score(end) {
                identity.linear.clear();
            }
        }
        all.extend(factors);

        let (second, point) = self.second;
        let (factor, mut own) = second.batch.identities(point, numbers.stages[1], numbers.ends[2]);
        let mut weights = powers(second.gamma, second.batch.sums.len()).into_iter();
        for ((end, _), weight) in self.ended.scores.iter().zip(&mut weights) {
            own[0].linear.push((numbers.ends[0] + end, factor * weight));
        }
        let mut lane = numbers.ends[1];
        for ((_, added), weight) in added.iter().zip(weights) {
            for of_lane in powers(second.lambda, self.commitment.shapes()[added.site].rank as usize) {
                own[0].linear.push((lane + 1, factor * weight * of_lane));
                lane += 2;
            }
        }
        all.extend(own);
        let of_ends = all.len();
        let last = numbers.ends[2]..numbers.ends[3];
        all.extend(last.map(|end| LinearIdentity { linear: vec![(end, Fp::ONE)], products: Vec::new() }));
        let of_sites = all.len();
        let mut lane = numbers.ends[1];
        for (_, added) in &added {
            let mut linear = Form::new();
            for of_lane in powers(second.lambda, self.commitment.shapes()[added.site].rank as usize) {
                linear.push((lane, of_lane));
                lane += 2;
            }
            all.push(LinearIdentity { linear, products: Vec::new() });
        }
        Identities { all, whole, factor: self.whole_factor(), of_factors, of_ends, of_sites }
    }

    fn whole_factor(&self) -> Fp {
        Fp::TWO_INV.pow_vartime([self.ended.batch.rounds() as u64])
    }

    /// What identities say of cells and of the adapter's lanes, where each has its weight.
    fn forms(&self, identities: &Identities, weights: &[Fp]) -> (Claims, Vec<Fp>) {
        let mut claims = Claims::default();
        claims.merge(-identities.factor * weights[identities.whole], &self.ended.whole.claims);
        for (forms, weight) in self.ended.factors.iter().zip(&weights[identities.of_factors..]) {
            claims.merge(-*weight, &forms.claims);
        }
        let layout = &self.plan.arrangement.adapter.layout;
        let shapes = self.commitment.shapes();
        let length = shapes.iter().map(|shape| (shape.d_in + shape.d_out) as usize).sum();
        let mut lanes = vec![Fp::ZERO; length];
        let (second, point) = self.second;
        let mut weights_of_ends = weights[identities.of_ends..].iter();
        for sum in &second.batch.sums {
            let [_, features] = point.weights(sum);
            for factor in &sum.factors {
                let weight = -*weights_of_ends.next().expect("an identity for each end");
                match factor {
                    Combined::Rows { tensor, rows, map } => {
                        let own = match map {
                            None => features.clone(),
                            Some(map) => back(map, &features, tensor.width),
                        };
                        claims.add(&self.plan.arrangement, weight, tensor, rows, &own);
                    }
                    Combined::Lanes { site } => {
                        let own = &mut lanes[layout.starts[*site]..];
                        own.iter_mut().zip(&features).for_each(|(own, feature)| *own += weight * feature);
                    }
                }
            }
        }
        for ((_, added), weight) in self.ended.added().iter().zip(&weights[identities.of_sites..]) {
            let own = &mut lanes[layout.starts[added.site] + shapes[added.site].d_in as usize..];
            added.outputs().for_each(|(output, feature)| own[output] -= *weight * feature);
        }
        (claims, lanes)
    }

    /// Columns of scalars, by parts.
    fn scalar_columns(&self) -> [usize; 4] {
        self.numbers().parts().map(|part| part.len().div_ceil(useful_rows(self.plan.k())))
    }

    /// Numbers of first columns: of cells, counts, messages of trees and the first stage, ends, the second stage's
    /// messages, ends, M.
    fn columns(&self) -> Places {
        let [messages, first, of_adapter, second] = self.scalar_columns();
        let cells = self.commitment.points.len();
        let counts = cells + self.plan.columns();
        let early = counts + self.lookups.counts();
        let ends = early + self.lookups.messages() + self.ended.batch.rounds();
        let late = ends + first + of_adapter;
        let last = late + self.second.0.batch.rounds();
        let m = last + second;
        Places { cells, counts, early, ends: [ends, ends + first, last], late, m, factors: m + messages }
    }

    /// The equation that all of it comes to, once everything is committed to.
    pub(crate) fn folding(
        &self,
        identities: &Identities,
        held: &[EqAffine],
        bound: &Digest,
        early: Option<Draw>,
    ) -> Folding {
        let rows = useful_rows(self.plan.k());
        let places = self.columns();
        let after = || Absorb::new(Tag::SealedEquation).digest(bound).points(held);
        let challenges: [Fp; 4] = after().challenges();
        let [xi, eta, kappa, zeta] = std::array::from_fn(|i| match Draw::SUMS[i].is_early(early) {
            true => self.known(bound)[i],
            false => challenges[i],
        });
        let weights = powers(kappa, identities.all.len() + 2 * self.lookups.trees.len());

        let mut scalars = vec![Fp::ZERO; self.numbers().ends[3]];
        let (products, factors) =
            fractions::weigh(identities.all.iter().zip(weights.iter().copied()), zeta, &mut scalars);
        let mut add = |form: &Form, weight: Fp| form.iter().for_each(|(at, factor)| scalars[*at] += weight * factor);
        let mut of_leaves = weights[identities.all.len()..].iter();
        let mut claim = |form: &Form| {
            let weight = *of_leaves.next().expect("two for each tree");
            add(form, weight);
            weight
        };
        let (mut strips, mut start) =
            self.lookups.strips(self.trees, self.opened.fingerprint, (places.cells, places.counts), &mut claim);
        let (claims, lanes) = self.forms(identities, &weights);
        start += claims.constant;
        strips.extend(claims.strips(&self.plan.arrangement, places.cells));
        strips.extend(self.lanes(&lanes));

        // The messages hold what M holds.
        let of_row: Vec<Fp> = powers(eta, MESSAGE_ROWS).iter().map(|power| eta * power).collect();
        let messages = self.message_scalars();
        let of_message = powers(xi, messages.len());
        for (scalars_of, weight) in messages.iter().zip(&of_message) {
            for (at, of_row) in scalars_of.clone().zip(&of_row) {
                scalars[at] -= *weight * of_row;
            }
        }
        let (early_messages, late_messages) = of_message.split_at(messages.len() - self.second.0.batch.rounds());
        for (first, weights) in [(places.early, early_messages), (places.late, late_messages)] {
            strips.push(Strip { first, weights: weights.to_vec(), coefficients: of_row.clone() });
        }
        // Nothing is claimed of it: whoever proves knows what is in each of these columns.
        let opened = powers(xi, places.m - places.cells);
        strips.push(Strip { first: places.cells, weights: opened, coefficients: Vec::new() });
        let [m, first, of_adapter, last] = self.numbers().parts();
        let mut single = |first: usize, values: &[Fp]| {
            for (column, coefficients) in values.chunks(rows).enumerate() {
                strips.push(Strip {
                    first: first + column,
                    weights: vec![Fp::ONE],
                    coefficients: coefficients.to_vec(),
                });
            }
        };
        for (part, place) in [first, of_adapter, last].into_iter().zip(places.ends) {
            single(place, &scalars[part]);
        }
        single(places.m, &scalars[m]);
        let pairs = products.len().div_ceil(rows);
        single(places.factors, &factors[0]);
        single(places.factors + pairs, &factors[1]);
        let products = products.chunks(rows).map(<[Fp]>::to_vec).collect();
        let bits = self.plan.k() - self.plan.arrangement.adapter.layout.k;
        let spread = Spread { columns: places.cells, bits };
        Folding { k: self.plan.k(), strips, products, start, spread, bound: after().finish(), early }
    }

    /// xi, eta, kappa and zeta as a forger in a test knows them who did not commit to anything that they should wait
    /// for: kappa weighs what messages and ends say, and is known before them.
    pub(crate) fn known(&self, bound: &Digest) -> [Fp; 4] {
        let drawn = |digest: &Digest| Absorb::new(Tag::SealedEquation).digest(digest).challenges();
        let ([xi, eta, _, zeta], [_, _, kappa, _]) = (drawn(bound), drawn(&self.opened.bound));
        [xi, eta, kappa, zeta]
    }

    /// Strips of the adapter's lanes.
    fn lanes(&self, coefficients: &[Fp]) -> Vec<Strip> {
        let layout = &self.plan.arrangement.adapter.layout;
        let stride = 1 << (self.plan.k() - layout.k);
        let weights = powers(self.second.0.lambda, layout.lanes);
        let strip = |(number, coefficients): (usize, &[Fp])| {
            let mut spread = vec![Fp::ZERO; coefficients.len() * stride];
            spread.iter_mut().step_by(stride).zip(coefficients).for_each(|(at, value)| *at = *value);
            Strip { first: number * layout.lanes, weights: weights.clone(), coefficients: spread }
        };
        coefficients.chunks(useful_rows(layout.k)).enumerate().map(strip).collect()
    }

    /// Which scalars each message has.
    fn message_scalars(&self) -> Vec<std::ops::Range<usize>> {
        let mut at = 0;
        let sizes = self.lookups.trees.iter().flat_map(fractions::FractionTree::sizes);
        let mut all: Vec<std::ops::Range<usize>> = sizes
            .map(|size| {
                at += size;
                at - size..at
            })
            .collect();
        let rounds = [self.ended.batch.rounds(), self.second.0.batch.rounds()];
        for (first, rounds) in self.numbers().stages.into_iter().zip(rounds) {
            all.extend((0..rounds).map(|round| first + DEGREE * round..first + DEGREE * (round + 1)));
        }
        all
    }
}

/// All identities, and where those of a kind begin.
pub(crate) struct Identities {
    pub(crate) all: Vec<LinearIdentity>,
    pub(crate) whole: usize,
    /// What the whole of the first stage's sums is multiplied with.
    pub(crate) factor: Fp,
    pub(crate) of_factors: usize,
    pub(crate) of_ends: usize,
    pub(crate) of_sites: usize,
}

/// Numbers of first columns of their kinds.
pub(crate) struct Places {
    pub(crate) cells: usize,
    pub(crate) counts: usize,
    pub(crate) early: usize,
    pub(crate) ends: [usize; 3],
    pub(crate) late: usize,
    pub(crate) m: usize,
    pub(crate) factors: usize,
}

pub(crate) fn subject(anchor: Digest, commitment: &AdapterCommitment) -> LinkSubject {
    LinkSubject { kind: KIND, anchor, adapter: commitment.digest() }
}

/// Hashes ends of sums.
pub(crate) fn after(digest: &Digest, points: &[EqAffine]) -> Digest {
    Absorb::new(Tag::SealedScalars).digest(digest).points(points).finish()
}

/// The last digest before M, U and V.
pub(crate) fn before_held(trees: &[Digest], stage: &Digest, points: &[EqAffine]) -> Digest {
    let hash = trees.iter().fold(Absorb::new(Tag::SealedMessages), |hash, digest| hash.digest(digest));
    hash.digest(stage).points(points).finish()
}
