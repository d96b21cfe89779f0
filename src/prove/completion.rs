//! Greedy completion in exact integers, and its proof.

use std::collections::BTreeSet;

use ftk_adapters::ops::Tokens;
use ftk_circuits::{
    AdapterCommitment, CheckFailed, CommitmentKey, DeltaProof, Opening, Output, ProveError, SiteFactors, SiteRows,
    Statement,
};

use super::FixedModel;
use super::fixed::{self, Adaptation, Fixed, FixedAdapter, Record};

/// Why a completion could not be computed or proved.
#[derive(Debug, thiserror::Error)]
pub enum CompletionError {
    /// Exact arithmetic.
    #[error(transparent)]
    Fixed(#[from] fixed::Error),
    /// The proof.
    #[error(transparent)]
    Prove(#[from] ProveError),
    /// The commitment is not for this base.
    #[error(transparent)]
    Commitment(#[from] CheckFailed),
    /// More positions than the base was made for.
    #[error("prompt and completion need {needed} positions, the base has {context}")]
    Context {
        /// Positions needed.
        needed: usize,
        /// Positions of the base.
        context: usize,
    },
    /// The proposer failed.
    #[error("{0}")]
    Propose(ftk_adapters::Error),
}

/// When generation ends.
#[derive(Clone, Copy, Debug)]
pub struct StopRule<'a> {
    /// After one of these ids.
    pub ids: &'a BTreeSet<u32>,
    /// After this many.
    pub max_tokens: usize,
}

/// A completion in exact integers with what every adapted site saw and added.
#[derive(Debug)]
pub struct Completion {
    /// The generated ids.
    pub ids: Vec<u32>,
    /// In canonical order of sites.
    pub records: Vec<Record>,
}

/// One pass over prompt and completion, teacher-forced: the greedy choice at every position that
/// generated a token, and the records.
pub(super) fn replay(
    model: &FixedModel,
    adaptation: Adaptation<'_>,
    prompt: &[u32],
    completion: &[u32],
) -> Result<(Vec<u32>, Vec<Record>), fixed::Error> {
    let (_, seen) = completion.split_last().unwrap_or((&0, &[]));
    let ids = [prompt, seen].concat();
    let rows: Vec<usize> = (prompt.len() - 1..ids.len()).collect();
    let mut ops = Fixed::new(model.base(), adaptation);
    let logits = model.network().forward(&mut ops, &Tokens::sequence(ids), &rows)?;
    Ok((logits.greedy(), ops.into_records()?))
}

/// The greedy completion in exact integers. `propose` continues ids cheaply (in floating point);
/// its proposal is kept as far as exact arithmetic agrees, so the result does not depend on it.
///
/// # Errors
/// See [`CompletionError`].
pub fn complete(
    model: &FixedModel,
    adapter: &FixedAdapter,
    prompt: &[u32],
    stop: StopRule<'_>,
    mut propose: impl FnMut(&[u32], usize) -> Result<Vec<u32>, ftk_adapters::Error>,
) -> Result<Completion, CompletionError> {
    let (needed, context) = (prompt.len() + stop.max_tokens, model.network().context());
    if needed > context {
        return Err(CompletionError::Context { needed, context });
    }
    let mut ids: Vec<u32> = Vec::new();
    loop {
        let ended = ids.len() == stop.max_tokens || ids.last().is_some_and(|id| stop.ids.contains(id));
        if !ended {
            let so_far = [prompt, &ids].concat();
            ids.extend(propose(&so_far, stop.max_tokens - ids.len()).map_err(CompletionError::Propose)?);
        }
        let (exact, records) = replay(model, Adaptation::Factors(adapter), prompt, &ids)?;
        let Some(first) = exact.iter().zip(&ids).position(|(exact, proposed)| exact != proposed) else {
            return Ok(Completion { ids, records });
        };
        ids.truncate(first);
        ids.push(exact[first]);
    }
}

/// Whether some site would disclose more distinct rows than its rank: a little beyond that, lattice
/// reduction recovers its `B` (`circuits/STATEMENT.md`, section 1).
pub fn discloses_adapter(factors: &[SiteFactors], completion: &Completion) -> bool {
    factors.iter().zip(&completion.records).any(|(site, record)| {
        let distinct: BTreeSet<&[i32]> = record.inputs.chunks(site.shape.d_in as usize).collect();
        distinct.len() > site.shape.rank as usize
    })
}

/// The statement of a completion.
pub fn statement(
    model: &FixedModel,
    commitment: &AdapterCommitment,
    context: &[u8],
    prompt: &[u32],
    stop: StopRule<'_>,
    completion: &Completion,
) -> Statement {
    Statement {
        base: model.digest(),
        adapter: commitment.digest(),
        context: context.to_vec(),
        input: prompt.to_vec(),
        output: Output::Completion {
            ids: completion.ids.clone(),
            max_tokens: stop.max_tokens as u32,
            stop_ids: stop.ids.iter().copied().collect(),
        },
    }
}

/// Proves a statement made by [`statement`]. Returns the exact deltas, which become public, and the proof.
///
/// # Errors
/// See [`CompletionError`].
pub fn prove(
    key: &CommitmentKey,
    statement: &Statement,
    (commitment, opening, factors): (&AdapterCommitment, &Opening, &[SiteFactors]),
    completion: Completion,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<(Vec<Vec<i128>>, DeltaProof), CompletionError> {
    let rows: Vec<SiteRows> = factors.iter().zip(completion.records).map(site_rows).collect();
    let proof = ftk_circuits::prove(key, statement, commitment, opening, factors, &rows, progress)?;
    Ok((rows.into_iter().map(|rows| rows.deltas).collect(), proof))
}

fn site_rows((site, record): (&SiteFactors, Record)) -> SiteRows {
    let rows = record.inputs.len() / site.shape.d_in as usize;
    SiteRows { rows, inputs: record.inputs.into_iter().map(i64::from).collect(), deltas: record.deltas }
}
