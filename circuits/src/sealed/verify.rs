//! The verifier of sealed proofs (`STATEMENT.md`, section 11).

use pasta_curves::EqAffine;

use super::lookups::{self, Lookups};
use super::plan::SealedPlan;
use super::said::{
    OpeningChallenges, Said, Second, SumsEnd, after, anchor, before_held, fits, stage_transcript, subject,
};
use super::sums::{Point, SumBatch};
use crate::bytes::Reader;
use crate::check::{Check, Checks, Stop, go_on, never};
use crate::columns::read_points;
use crate::commitment::AdapterCommitment;
use crate::conduct::{Conduct, HONEST};
use crate::error::CheckFailed;
use crate::folding::Folding;
use crate::fractions::Draws;
use crate::hash::Digest;
use crate::key::CommitmentKey;
use crate::layout::useful_rows;
use crate::link::{self, LINK_BYTES};
use crate::statement::StatementBytes;

/// Checks a sealed proof, which is of the plan as much as of the statement: the plan must be made from the base, the
/// statement and the commitment's shapes, and from nothing that the prover says but the logits whose digests are in the
/// statement, which whoever makes the plan must have compared with these. What is proved of the adapter holds for integers
/// of 16 bits, so the commitment must be registered ([`crate::verify_registration`]).
///
/// # Errors
/// The first check that fails.
pub fn verify_sealed(
    key: &CommitmentKey,
    statement: &StatementBytes,
    commitment: &AdapterCommitment,
    plan: &SealedPlan,
    proof: &[u8],
) -> Result<(), CheckFailed> {
    begin(key, statement, commitment, plan, proof, &never, HONEST)?.settle()
}

/// Everything about a sealed proof but its sums; tests conduct themselves as forgers do.
pub(crate) fn begin<'k>(
    key: &'k CommitmentKey,
    statement: &StatementBytes,
    commitment: &AdapterCommitment,
    plan: &SealedPlan,
    bytes: &[u8],
    stop: &Stop<'_>,
    conduct: Conduct<'_>,
) -> Result<Checks<'k>, CheckFailed> {
    fits(key, statement, commitment, plan)?;
    // Before anything is laid out that is as large as the proof must be.
    plan.may_be_of(bytes)?;
    let (link, proof) = bytes.split_at(LINK_BYTES);
    let anchor = anchor(statement, commitment, plan);
    let mut reader = Reader::new(proof);
    let mut read = |count: usize| read_points(&mut reader, count).ok_or(CheckFailed::SealedProof);
    let (folding, all) = equation(&anchor, commitment, plan, &mut read, stop, conduct)?;
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
    plan: &SealedPlan,
    read: &mut Read<'_>,
    stop: &Stop<'_>,
    conduct: Conduct<'_>,
) -> Result<(Folding, Vec<EqAffine>), CheckFailed> {
    let followed = Followed::read(anchor, commitment, plan, read, stop, conduct)?;
    let (folding, held) = followed.folding(commitment, plan, read, conduct)?;
    go_on(stop)?;
    Ok((folding, [commitment.points.as_slice(), &followed.points, &held].concat()))
}

/// Reads so many points.
type Read<'a> = dyn FnMut(usize) -> Result<Vec<EqAffine>, CheckFailed> + 'a;

/// What the points of a proof say, up to the last ends.
pub(crate) struct Followed<'p> {
    lookups: Lookups,
    pub(crate) opened: OpeningChallenges,
    trees: Vec<Draws>,
    pub(crate) ended: SumsEnd<'p>,
    pub(crate) second: Second,
    last_point: Point,
    /// T4
    pub(crate) bound: Digest,
    /// In the order in which they are sent.
    points: Vec<EqAffine>,
}

impl<'p> Followed<'p> {
    pub(crate) fn read(
        anchor: &Digest,
        commitment: &AdapterCommitment,
        plan: &'p SealedPlan,
        read: &mut Read<'_>,
        stop: &Stop<'_>,
        Conduct { early, width, weigh, .. }: Conduct<'_>,
    ) -> Result<Self, CheckFailed> {
        let lookups = Lookups::new(&plan.arrangement, width);
        let rows = useful_rows(plan.k());
        let mut points: Vec<EqAffine> = Vec::new();
        let mut read = |count: usize| {
            let read = read(count)?;
            points.extend(&read);
            Ok(read)
        };
        let columns = read(plan.columns() + lookups.counts())?;
        let opened = OpeningChallenges::draw(anchor, &columns, early);
        go_on(stop)?;
        let messages = read(lookups.messages())?;
        let (trees, digests) = lookups::follow(&lookups, &opened.bound, &messages, early);
        let sink = plan.said_weighing(&opened.first, weigh);
        go_on(stop)?;
        let batch = SumBatch { sums: sink.sums };
        let stage_one = read(batch.rounds())?;
        let mut transcript = stage_transcript(&opened.bound, 1, early);
        let point = batch.follow(&mut transcript, &stage_one);
        let (_, ends) = batch.starts();
        let before = after(&transcript.digest, &read(ends.div_ceil(rows))?);
        let ended = SumsEnd::new(&plan.arrangement, sink.forms, batch, point);
        let added = ended.added();
        go_on(stop)?;
        let lanes: usize = added.iter().map(|(_, added)| commitment.shapes()[added.site].rank as usize).sum();
        let digest = after(&before, &read((2 * lanes).div_ceil(rows))?);
        let second = Second::new(&ended, &added, [&before, &digest], early);
        let stage_two = read(second.batch.rounds())?;
        let mut transcript = stage_transcript(&digest, 2, early);
        let last_point = second.batch.follow(&mut transcript, &stage_two);
        let (_, last) = second.batch.starts();
        let bound = before_held(&digests, &transcript.digest, &read(last.div_ceil(rows))?);
        Ok(Self { lookups, opened, trees, ended, second, last_point, bound, points })
    }

    /// The equation that it comes to, with M, U and V, which are read.
    ///
    /// # Errors
    /// Those of `read`.
    pub(crate) fn folding(
        &self,
        commitment: &AdapterCommitment,
        plan: &SealedPlan,
        read: &mut Read<'_>,
        conduct: Conduct<'_>,
    ) -> Result<(Folding, Vec<EqAffine>), CheckFailed> {
        let said = self.said(plan, commitment);
        let identities = said.identities();
        let rows = useful_rows(plan.k());
        let products: usize = identities.all.iter().map(|identity| identity.products.len()).sum();
        let held = read(said.numbers().messages.div_ceil(rows) + 2 * products.div_ceil(rows))?;
        Ok((said.folding(&identities, &held, &self.bound, conduct.early), held))
    }

    pub(crate) fn said<'a>(&'a self, plan: &'a SealedPlan, commitment: &'a AdapterCommitment) -> Said<'a> {
        Said {
            plan,
            commitment,
            lookups: &self.lookups,
            opened: &self.opened,
            trees: &self.trees,
            ended: &self.ended,
            second: (&self.second, &self.last_point),
        }
    }
}
