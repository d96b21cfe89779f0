//! The delta proof of open mode: the stated deltas are those of the committed adapter (`STATEMENT.md`, section 4).

use std::ops::Range;

use ff::Field;
use pasta_curves::Fp;
use rayon::prelude::*;

use crate::circuit::delta::{DeltaCircuit, Label, Schedule, Trace, with_lanes};
use crate::commitment::{AdapterCommitment, Opening, SiteFactors, arrange, shapes_of};
use crate::entropy::fresh_generator;
use crate::error::{CheckFailed, ProveError};
use crate::fold::{FoldedSite, fold, powers};
use crate::hash::{Absorb, Digest, Tag};
use crate::key::CommitmentKey;
use crate::link::{self, Sides, Subject};
use crate::linked::{self, Columns};
use crate::rows::{SiteRows, check_rows, rows_digest};
use crate::statement::Statement;

const KIND: u8 = 0;
/// Committed cells of one proof; a cell takes about 200 bytes while it is proved.
const BATCH_CELLS: usize = 1 << 20;
/// A committed entry is one advice column's.
const RADIX: [Fp; 1] = [Fp::ONE];

/// What `proof.bin` and `link.bin` hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeltaProof {
    /// The halo2 proofs of all batches of panels, one after the other.
    pub proof: Vec<u8>,
    /// The link of all of them to the commitment, [`crate::LINK_BYTES`] bytes.
    pub link: Vec<u8>,
}

/// Everything prover and verifier derive from the public values.
struct Public {
    statement: Digest,
    rows: Digest,
    folded: Vec<FoldedSite>,
    taus: Vec<Fp>,
    ranks: Vec<usize>,
    batches: Vec<Range<usize>>,
    columns: Columns,
}

impl Public {
    fn derive(statement: &Statement, commitment: &AdapterCommitment, sites: &[SiteRows]) -> Self {
        let (shapes, layout) = (commitment.shapes(), &commitment.layout);
        let (statement, rows) = (statement.digest(), rows_digest(shapes, statement.rows(), sites));
        let challenges = Absorb::new(Tag::Fold).digest(&statement).digest(&rows).challenges();
        let longest = shapes.iter().map(|shape| shape.d_out as usize).max().unwrap_or(0);
        Self {
            statement,
            rows,
            folded: fold(shapes, sites, challenges),
            taus: powers(challenges[1], longest),
            ranks: shapes.iter().map(|shape| shape.rank as usize).collect(),
            batches: layout.batches(BATCH_CELLS),
            columns: Columns {
                advice: layout.columns_per_panel() + 2 * layout.lanes,
                linked: layout.columns_per_panel(),
            },
        }
    }

    fn schedules(&self, commitment: &AdapterCommitment, batch: &Range<usize>) -> Vec<Schedule> {
        let schedule = |panel| Schedule::new(&commitment.layout, panel, &self.ranks, &self.folded, &self.taus);
        batch.clone().into_par_iter().map(schedule).collect()
    }

    /// What the transcript of a batch begins with.
    fn prefix(&self, batch: usize) -> Fp {
        let [prefix] = Absorb::new(Tag::DeltaProof)
            .digest(&self.statement)
            .digest(&self.rows)
            .u32(batch as u32)
            .u32(self.batches.len() as u32)
            .challenges();
        prefix
    }

    fn subject(&self, commitment: &AdapterCommitment) -> Subject {
        let anchor = Absorb::new(Tag::DeltaAnchor).digest(&self.statement).digest(&self.rows).finish();
        Subject { kind: KIND, anchor, adapter: commitment.digest() }
    }
}

/// The checks of public values that need no proof.
fn check_public(
    key: &CommitmentKey,
    statement: &Statement,
    commitment: &AdapterCommitment,
    sites: &[SiteRows],
) -> Result<(), CheckFailed> {
    statement.check()?;
    if statement.base != commitment.base() {
        return Err(CheckFailed::Base(commitment.base()));
    }
    let digest = commitment.digest();
    if statement.adapter != digest {
        return Err(CheckFailed::Adapter(digest));
    }
    commitment.check_key(key)?;
    check_rows(commitment.shapes(), statement.rows(), sites)
}

/// Proves that `sites` holds the committed adapter's deltas on its inputs, one entry per site in canonical order.
///
/// `progress` is called with (batches done, batches) before the first and after each.
///
/// # Errors
/// If the public values would be refused, the factors or the opening are not the commitment's, or a delta is wrong.
pub fn prove(
    key: &CommitmentKey,
    statement: &Statement,
    commitment: &AdapterCommitment,
    opening: &Opening,
    factors: &[SiteFactors],
    sites: &[SiteRows],
    progress: &mut dyn FnMut(usize, usize),
) -> Result<DeltaProof, ProveError> {
    check_public(key, statement, commitment, sites).map_err(ProveError::Public)?;
    if shapes_of(factors)? != commitment.shapes() {
        return Err(ProveError::Opening);
    }
    let weights = arrange(&commitment.layout, factors);
    let honest = |_, _, _, _, value| value;
    prove_columns(key, statement, commitment, opening, &weights, sites, progress, &honest, true)
}

/// A cell's panel, label, lane, row and value; what it returns is assigned.
type Assign<'a> = &'a (dyn Fn(usize, Label, usize, usize, Fp) -> Fp + Sync);

/// Proves with columns as [`arrange`] makes them; tests pass others, and cells that are not computed.
#[allow(clippy::too_many_arguments)]
pub(crate) fn prove_columns(
    key: &CommitmentKey,
    statement: &Statement,
    commitment: &AdapterCommitment,
    opening: &Opening,
    weights: &[Vec<Fp>],
    sites: &[SiteRows],
    progress: &mut dyn FnMut(usize, usize),
    assign: Assign<'_>,
    check_results: bool,
) -> Result<DeltaProof, ProveError> {
    let public = Public::derive(statement, commitment, sites);
    let layout = &commitment.layout;
    let k = layout.k;
    let (mut proof, mut primes, mut randomness) = (Vec::new(), Vec::new(), Vec::new());
    let empty = DeltaCircuit { k, witness: None };
    let proving_key = with_lanes(layout.lanes, || linked::proving_key(key, &empty))?;
    progress(0, public.batches.len());
    for (index, batch) in public.batches.iter().enumerate() {
        let schedules = public.schedules(commitment, batch);
        let circuits: Vec<_> = batch
            .clone()
            .into_par_iter()
            .zip(&schedules)
            .map(|(panel, schedule)| {
                let columns = &weights[panel * public.columns.linked..(panel + 1) * public.columns.linked];
                let trace = Trace::new(k, layout.lanes, columns, schedule, |label, lane, row, value| {
                    assign(panel, label, lane, row, value)
                });
                DeltaCircuit { k, witness: Some((columns, trace)) }
            })
            .collect();
        if check_results {
            for ((panel, circuit), schedule) in batch.clone().zip(&circuits).zip(&schedules) {
                let Some((_, trace)) = &circuit.witness else { continue };
                let wrong = layout
                    .sites_of(panel)
                    .find(|(site, place)| trace.result(schedule, place.end()) != public.folded[*site].result);
                if let Some((site, _)) = wrong {
                    return Err(ProveError::Delta(commitment.shapes()[site].name.clone()));
                }
            }
        }
        let instances: Vec<_> = schedules.iter().map(Schedule::columns).collect();
        let (bytes, drawn) = with_lanes(layout.lanes, || {
            let generator = fresh_generator()?;
            let prefix = public.prefix(index);
            linked::prove(key, &proving_key, &circuits, &instances, public.columns, prefix, generator)
                .map_err(ProveError::from)
        })?;
        primes.extend(linked::linked_points(&bytes, batch.len(), public.columns).ok_or(ProveError::Opening)?);
        randomness.extend(drawn);
        proof.extend(bytes);
        progress(index + 1, public.batches.len());
    }
    let sides = Sides { radix: &RADIX, primes: &primes, points: &commitment.points };
    let link = link::prove(key, &public.subject(commitment), &proof, &sides, &randomness, &opening.blinds)?;
    Ok(DeltaProof { proof, link })
}

/// Checks that the deltas in `sites` are those of the committed adapter on the inputs in `sites`.
///
/// The inputs must come from the verifier's own replay. The verdict is about field elements until
/// [`crate::verify_registration`] has accepted the commitment too.
///
/// # Errors
/// The first check that fails.
pub fn verify(
    key: &CommitmentKey,
    statement: &Statement,
    commitment: &AdapterCommitment,
    sites: &[SiteRows],
    proof: &DeltaProof,
) -> Result<(), CheckFailed> {
    check_public(key, statement, commitment, sites)?;
    let public = Public::derive(statement, commitment, sites);
    let empty = DeltaCircuit { k: commitment.layout.k, witness: None };
    let verifying_key = with_lanes(commitment.layout.lanes, || linked::verifying_key(key, &empty))
        .map_err(|_| CheckFailed::Key(commitment.layout.k))?;
    let mut rest = proof.proof.as_slice();
    let mut primes = Vec::with_capacity(commitment.points.len());
    for (index, batch) in public.batches.iter().enumerate() {
        let refused = CheckFailed::DeltaProof(index);
        let schedules = public.schedules(commitment, batch);
        let instances: Vec<_> = schedules.iter().map(Schedule::columns).collect();
        let points = linked::linked_points(rest, batch.len(), public.columns).ok_or(refused.clone())?;
        if !linked::verify(key, &verifying_key, &instances, public.prefix(index), &mut rest) {
            return Err(refused);
        }
        primes.extend(points);
    }
    if !rest.is_empty() {
        return Err(CheckFailed::DeltaProof(public.batches.len()));
    }
    let sides = Sides { radix: &RADIX, primes: &primes, points: &commitment.points };
    if link::verify(key, &public.subject(commitment), &proof.proof, &sides, &proof.link) {
        Ok(())
    } else {
        Err(CheckFailed::Link)
    }
}
