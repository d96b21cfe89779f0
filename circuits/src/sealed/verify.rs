//! The verifier of sealed proofs (`STATEMENT.md`, section 11).

use pasta_curves::EqAffine;

use super::lookups::{self, Lookups};
use super::plan::Plan;
use super::said::{Ended, Opened, Said, Second, after, anchor, before_held, stage_transcript, subject};
use super::sums::Batch;
use crate::bytes::{EncodingError, Reader};
use crate::check::{Check, Checks, Stop, go_on, never};
use crate::columns::read_points;
use crate::commitment::AdapterCommitment;
use crate::conduct::Draw;
use crate::error::CheckFailed;
use crate::folding::Folding;
use crate::hash::Digest;
use crate::key::CommitmentKey;
use crate::layout::useful_rows;
use crate::link::{self, LINK_BYTES};
use crate::statement::StatementBytes;

/// Checks a sealed proof, which is of the plan as much as of the statement: the plan must be made from the base, the
/// statement and the commitment's shapes, and from nothing that the prover says. What is proved of the adapter holds for
/// integers of 16 bits, so the commitment must be registered ([`crate::verify_registration`]).
///
/// # Errors
/// The first check that fails.
pub fn verify_sealed(
    key: &CommitmentKey,
    statement: &StatementBytes,
    commitment: &AdapterCommitment,
    plan: &Plan,
    proof: &[u8],
) -> Result<(), CheckFailed> {
    begin(key, statement, commitment, plan, proof, &never, None)?.settle()
}

/// Everything about a sealed proof but its sums.
pub(crate) fn begin<'k>(
    key: &'k CommitmentKey,
    statement: &StatementBytes,
    commitment: &AdapterCommitment,
    plan: &Plan,
    bytes: &[u8],
    stop: &Stop<'_>,
    early: Option<Draw>,
) -> Result<Checks<'k>, CheckFailed> {
    if key.k() != plan.k() {
        return Err(CheckFailed::Key(plan.k()));
    }
    if statement.adapter != commitment.digest() {
        return Err(CheckFailed::Adapter(commitment.digest()));
    }
    if statement.base != commitment.base() {
        return Err(CheckFailed::Base(commitment.base()));
    }
    let (link, proof) =
        bytes.split_at_checked(LINK_BYTES).ok_or(CheckFailed::SealedEncoding(EncodingError::Truncated))?;
    if plan.arrangement.adapter.shapes != commitment.shapes() {
        return Err(CheckFailed::Coverage("the plan is for other sites, shapes or scales".into()));
    }
    // Before anything is laid out that is as large as the proof must be.
    if proof.len() / 32 < plan.columns() {
        return Err(CheckFailed::SealedProof);
    }
    let anchor = anchor(statement, commitment, plan);
    let mut reader = Reader::new(proof);
    let mut read = |count: usize| read_points(&mut reader, count).ok_or(CheckFailed::SealedProof);
    let (folding, all) = equation(&anchor, commitment, plan, &mut read, stop, early)?;
    let (sum, equations) = folding.verify(key, &all, &mut reader).ok_or(CheckFailed::SealedProof)?;
    let link =
        link::verify(key, &subject(anchor, commitment), proof, equations, link).ok_or(CheckFailed::SealedLink)?;
    Ok(Checks {
        seed: link.seed,
        checks: vec![
            Check { sum, otherwise: CheckFailed::SealedProof },
            Check { sum: link.sum, otherwise: CheckFailed::SealedLink },
        ],
    })
}

/// The one equation that a proof comes to, of points as they are read: how many at a time, in their order. With it, the
/// commitments to all its columns.
///
/// # Errors
/// Those of `read`, and of time.
pub(crate) fn equation(
    anchor: &Digest,
    commitment: &AdapterCommitment,
    plan: &Plan,
    read: &mut dyn FnMut(usize) -> Result<Vec<EqAffine>, CheckFailed>,
    stop: &Stop<'_>,
    early: Option<Draw>,
) -> Result<(Folding, Vec<EqAffine>), CheckFailed> {
    let lookups = Lookups::new(&plan.arrangement);
    let rows = useful_rows(plan.k());
    let columns = read(plan.columns() + lookups.counts())?;
    let opened = Opened::draw(anchor, &columns, early);
    go_on(stop)?;
    let messages = read(lookups.messages())?;
    let (trees, digests) = lookups::follow(&lookups, &opened.bound, &messages, early);
    let sink = plan.said(&opened.first);
    go_on(stop)?;
    let batch = Batch { sums: sink.sums };
    let stage_one = read(batch.rounds())?;
    let mut transcript = stage_transcript(&opened.bound, 1, early);
    let point = batch.follow(&mut transcript, &stage_one);
    let (_, ends) = batch.starts();
    let committed_ends = read(ends.div_ceil(rows))?;
    let digest = after(&transcript.digest, &committed_ends);
    let ended = Ended::new(&plan.arrangement, sink.forms, batch, point);
    let added = ended.added();
    go_on(stop)?;
    let lanes: usize = added.iter().map(|(_, added)| commitment.shapes()[added.site].rank as usize).sum();
    let committed_lanes = read((2 * lanes).div_ceil(rows))?;
    let digest = after(&digest, &committed_lanes);
    let second = Second::new(&ended, &added, &digest);
    let stage_two = read(second.batch.rounds())?;
    let mut transcript = stage_transcript(&digest, 2, early);
    let last_point = second.batch.follow(&mut transcript, &stage_two);
    let (_, last) = second.batch.starts();
    let committed_last = read(last.div_ceil(rows))?;
    let bound = before_held(&digests, &transcript.digest, &committed_last);
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
    let products: usize = identities.all.iter().map(|identity| identity.products.len()).sum();
    let held = read(said.numbers().messages.div_ceil(rows) + 2 * products.div_ceil(rows))?;
    let folding = said.folding(&identities, &held, &bound, early);
    go_on(stop)?;
    let all = [
        commitment.points.as_slice(),
        &columns,
        &messages,
        &stage_one,
        &committed_ends,
        &committed_lanes,
        &stage_two,
        &committed_last,
        &held,
    ]
    .concat();
    Ok((folding, all))
}
