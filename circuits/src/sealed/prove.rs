//! The prover of sealed proofs (`STATEMENT.md`, section 11).

use ff::Field;
use pasta_curves::{EqAffine, Fp};
use rand_chacha::ChaCha20Rng;
use rayon::prelude::*;

use super::cells::Cells;
use super::equations::{Added, Factor};
use super::lookups::Lookups;
use super::plan::SealedPlan;
use super::said::{
    Combined, OpeningChallenges, Said, Second, SumsEnd, after, anchor, before_held, fits, stage_transcript, subject,
};
use super::sums::{DEGREE, Sum, SumBatch};
use super::work::{SealProgress, Work};
use crate::columns::{Committed, append_points, commit_columns, commit_integers};
use crate::commitment::{AdapterCommitment, Opening, SiteFactors, arrange};
use crate::conduct::{Conduct, HONEST, Label};
use crate::entropy::{fork, fresh_generator};
use crate::error::ProveError;
use crate::field::{powers, signed};
use crate::fixed::FixedError;
use crate::folding::{Column, Witness};
use crate::fractions::{self, Draws, Form};
use crate::key::CommitmentKey;
use crate::layout::useful_rows;
use crate::link;
use crate::messages::Sender;
use crate::statement::StatementBytes;

/// Why there is no sealed proof.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The pass has no result.
    #[error(transparent)]
    Fixed(#[from] FixedError),
    /// It cannot be proved.
    #[error(transparent)]
    Prove(#[from] ProveError),
}

/// Seals a pass: proves that the plan's operations, with the adapter that is committed to, say what they state.
///
/// The proof is as long for any adapter of the shapes, and tells nothing of it but that.
///
/// `progress` is called with (milliseconds of a core done, of all), by arithmetic, before the first part and after each.
///
/// # Errors
/// [`SealError::Prove`] if key, statement, commitment, plan, factors and opening do not belong together, all but values
/// before anything is computed; [`SealError::Fixed`] where the pass has no result, or not the one that is stated.
pub fn seal(
    key: &CommitmentKey,
    statement: &StatementBytes,
    commitment: &AdapterCommitment,
    opening: &Opening,
    factors: &[SiteFactors],
    plan: &SealedPlan,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Vec<u8>, SealError> {
    fits(key, statement, commitment, plan).map_err(ProveError::Public)?;
    commitment.check_secret(opening, factors)?;
    let cells = plan.fill(factors)?;
    let columns = arrange(&commitment.layout, factors);
    let adapter = Secret { opening, factors, columns: &columns };
    Ok(seal_cells(key, statement, commitment, adapter, (plan, &cells), progress, HONEST, fresh_generator()?)?)
}

/// The adapter, which nothing may print.
#[derive(Clone, Copy)]
pub(crate) struct Secret<'a> {
    pub(crate) opening: &'a Opening,
    pub(crate) factors: &'a [SiteFactors],
    /// As they are committed to.
    pub(crate) columns: &'a [Vec<Fp>],
}

/// Proves what cells say; forgers in tests pass others, and conduct themselves otherwise.
#[expect(clippy::too_many_arguments, reason = "a proof is about all of them")]
pub(crate) fn seal_cells(
    key: &CommitmentKey,
    statement: &StatementBytes,
    commitment: &AdapterCommitment,
    secret: Secret<'_>,
    (plan, cells): (&SealedPlan, &Cells<'_>),
    progress: &mut dyn FnMut(usize, usize),
    conduct: Conduct<'_>,
    mut random: ChaCha20Rng,
) -> Result<Vec<u8>, ProveError> {
    let lookups = Lookups::new(&plan.arrangement, conduct.width);
    let mut told = SealProgress::begin(Work::of(plan, commitment).map_err(ProveError::Public)?, progress);
    let rows = useful_rows(plan.k());
    let anchor = anchor(statement, commitment, plan);
    let points = |committed: &[Committed]| committed.iter().map(|column| column.point).collect::<Vec<EqAffine>>();

    // Cells and counts.
    let mut committed = commit_integers(key, &cells.columns, &mut random);
    let mut counts = lookups.count(cells);
    conduct.pass(Label::Count, &mut counts);
    committed.extend(commit_columns(key, &counts, &mut random));
    let mut sent = points(&committed);
    let opened = OpeningChallenges::draw(&anchor, &sent, conduct.early);
    told.committed();

    // Trees.
    let (mut scalars, mut messages) = (Vec::new(), Vec::new());
    let mut digests = Vec::new();
    let mut trees = Vec::new();
    let denominators = lookups.denominators(opened.fingerprint);
    for tree in &lookups.trees {
        let transcript = lookups.transcript(&opened.bound, tree, conduct.early);
        let mut sender = Sender::new(key, transcript, fork(&mut random), conduct);
        let leaf = lookups.leaf(tree, cells, &counts, (opened.fingerprint, &denominators));
        fractions::prove(tree, &leaf, &mut sender);
        let mut again = lookups.transcript(&opened.bound, tree, conduct.early);
        trees.push(Draws::follow(tree, &mut again, &points(&sender.committed)));
        digests.push(sender.transcript.digest);
        scalars.extend(sender.scalars);
        messages.extend(sender.committed);
        told.tree(tree.active);
    }
    let tree_scalars = scalars.clone();
    lookups.add_sums(&mut scalars);

    // The first stage.
    let sink = plan.said(&opened.first);
    let batch = SumBatch { sums: sink.sums };
    let transcript = stage_transcript(&opened.bound, 1, conduct.early);
    let mut sender = Sender::new(key, transcript, fork(&mut random), conduct);
    let value = |sum: &Sum<Factor>, factor: &Factor| factor.values(cells, secret.factors, [sum.rows, sum.width]);
    let (point, mut ends) = batch.prove(1, &value, &mut sender);
    conduct.pass_one(Label::End(0), &mut ends);
    let stage_one = sender.scalars.clone();
    scalars.extend(sender.scalars);
    messages.extend(sender.committed);
    let of_ends: Vec<Vec<Fp>> = ends.chunks(rows).map(<[Fp]>::to_vec).collect();
    let committed_ends = commit_columns(key, &of_ends, &mut random);
    let before = after(&sender.transcript.digest, &points(&committed_ends));
    let ended = SumsEnd::new(&plan.arrangement, sink.forms, batch, point);
    let added = ended.added();
    told.sums();

    // What the adapter adds.
    let mut lanes: Vec<Fp> =
        added.par_iter().flat_map_iter(|(_, added)| lanes_of(added, cells, secret.factors)).collect();
    conduct.pass_one(Label::End(1), &mut lanes);
    let of_lanes: Vec<Vec<Fp>> = lanes.chunks(rows).map(<[Fp]>::to_vec).collect();
    let committed_lanes = commit_columns(key, &of_lanes, &mut random);
    let digest = after(&before, &points(&committed_lanes));

    // The second stage.
    let second = Second::new(&ended, &added, [&before, &digest], conduct.early);
    let transcript = stage_transcript(&digest, 2, conduct.early);
    let mut sender = Sender::new(key, transcript, fork(&mut random), conduct);
    let value = |_: &Sum<Combined>, factor: &Combined| combined(factor, cells, secret.factors, second.lambda);
    let (last_point, mut last_ends) = second.batch.prove(2, &value, &mut sender);
    conduct.pass_one(Label::End(2), &mut last_ends);
    let stage_two = sender.scalars.clone();
    scalars.extend(sender.scalars);
    let of_last: Vec<Vec<Fp>> = last_ends.chunks(rows).map(<[Fp]>::to_vec).collect();
    let committed_last = commit_columns(key, &of_last, &mut random);
    let bound = before_held(&digests, &sender.transcript.digest, &points(&committed_last));

    // The equation.
    let said = Said {
        plan,
        commitment,
        lookups: &lookups,
        opened: &opened,
        trees: &trees,
        ended: &ended,
        second: (&second, &last_point),
    };
    let identities = said.identities();
    conduct.pass_one(Label::Scalar, &mut scalars);
    let all: Vec<Fp> = scalars.iter().chain(&ends).chain(&lanes).chain(&last_ends).copied().collect();
    let form = |form: &Form| -> Fp { form.iter().map(|(at, factor)| all[*at] * factor).sum() };
    let products = identities.all.iter().flat_map(|identity| &identity.products);
    let mut sides: [Vec<Fp>; 2] = [0, 1].map(|side| products.clone().map(|product| form(&product[side])).collect());
    for (side, factors) in sides.iter_mut().enumerate() {
        conduct.pass_one(Label::Pair(side), factors);
    }
    let held: Vec<Vec<Fp>> =
        std::iter::once(&scalars).chain(&sides).flat_map(|column| column.chunks(rows)).map(<[Fp]>::to_vec).collect();
    let committed_held = commit_columns(key, &held, &mut random);
    let folding = said.folding(&identities, &points(&committed_held), &bound, conduct.early);

    let mut columns: Vec<Column<'_>> = secret.columns.iter().map(|column| Column::Full(column)).collect();
    columns.extend(cells.columns.iter().map(|column| Column::Small(column)));
    columns.extend(counts.iter().map(|column| Column::Full(column)));
    columns.extend(fractions::messages(&lookups.trees, &tree_scalars).into_iter().map(Column::Full));
    columns.extend(stage_one.chunks(DEGREE).map(Column::Full));
    columns.extend(of_ends.iter().chain(&of_lanes).map(|column| Column::Full(column)));
    columns.extend(stage_two.chunks(DEGREE).map(Column::Full));
    columns.extend(of_last.iter().chain(&held).map(|column| Column::Full(column)));
    let late: Vec<Committed> = messages
        .into_iter()
        .chain(committed_ends)
        .chain(committed_lanes)
        .chain(sender.committed)
        .chain(committed_last)
        .chain(committed_held)
        .collect();
    sent.extend(points(&late));
    let committed: Vec<Committed> = commitment.committed(secret.opening).chain(committed).chain(late).collect();
    let mut proof = Vec::new();
    append_points(&mut proof, &sent);
    let witness = Witness { columns: &columns, committed: &committed };
    let equations = folding.prove(key, witness, conduct, &mut random, &mut proof)?;
    let mut bytes = link::prove(key, &subject(anchor, commitment), &proof, equations, &mut random, conduct.check)?;
    bytes.extend(proof);
    told.end();
    Ok(bytes)
}

/// v and h of each lane of a site.
fn lanes_of(added: &Added, cells: &Cells<'_>, factors: &[SiteFactors]) -> Vec<Fp> {
    let SiteFactors { shape, a, b } = &factors[added.site];
    let (rank, d_in) = (shape.rank as usize, shape.d_in as usize);
    let input = cells.combine(&added.input, &added.rows);
    let dot = |lane: usize| {
        let v: Fp = added.outputs().map(|(output, weight)| *weight * signed(b[output * rank + lane].into())).sum();
        let of_a = input.iter().zip(&a[lane * d_in..]);
        let h: Fp = of_a.map(|(x, a)| *x * signed((*a).into())).sum();
        [v, h]
    };
    (0..rank).flat_map(dot).collect()
}

/// Entries of a factor of the second stage.
fn combined(factor: &Combined, cells: &Cells<'_>, factors: &[SiteFactors], lambda: Fp) -> Vec<Fp> {
    match factor {
        Combined::Rows { tensor, rows, map } => {
            let values = cells.combine(tensor, rows);
            match map {
                None => values,
                Some(map) => map.iter().map(|at| at.map_or(Fp::ZERO, |at| values[at])).collect(),
            }
        }
        Combined::Lanes { site } => {
            let SiteFactors { shape, a, .. } = &factors[*site];
            let d_in = shape.d_in as usize;
            let of_lanes = powers(lambda, shape.rank as usize);
            let entry = |i: usize| -> Fp {
                of_lanes.iter().enumerate().map(|(lane, weight)| *weight * signed(a[lane * d_in + i].into())).sum()
            };
            (0..d_in).map(entry).collect()
        }
    }
}
