//! The delta proof of open mode: the stated deltas are those of the committed adapter (`STATEMENT.md`, section 4).

use std::ops::Range;

use ff::Field;
use pasta_curves::Fp;

use crate::circuit::delta::{DeltaCircuit, Label, Schedule, Trace, with_lanes};
use crate::commitment::{AdapterCommitment, Opening, SiteFactors, arrange, shapes_of};
use crate::cores;
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
const BATCH_CELLS: usize = 1 << 19;
/// A committed entry is one advice column's.
const RADIX: [Fp; 1] = [Fp::ONE];

/// What `proof.bin` and `link.bin` hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeltaProof {
    /// The halo2 proofs of all batches of panels, each with its length before it.
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
        let challenges = fold_challenges(&statement, &rows);
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
        batch.clone().map(schedule).collect()
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

/// rho and tau.
pub(crate) fn fold_challenges(statement: &Digest, rows: &Digest) -> [Fp; 2] {
    Absorb::new(Tag::Fold).digest(statement).digest(rows).challenges()
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
    let honest = Prover { assign: &|_, _, _, _, value| value, check: true };
    honest.prove(key, statement, commitment, opening, &weights, sites, progress)
}

/// How a prover behaves; there is one honest way, the others are for forgers in tests.
pub(crate) struct Prover<'a> {
    /// From a cell's panel, label, lane, row and right value to the value that is assigned.
    pub(crate) assign: &'a (dyn Fn(usize, Label, usize, usize, Fp) -> Fp + Sync),
    /// Whether to check the result before releasing it.
    pub(crate) check: bool,
}

impl Prover<'_> {
    /// Proves with `weights` as [`arrange`] makes them.
    // Statement, commitment, opening, weights and rows are what a proof is of; a struct of them would be named once.
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn prove(
        &self,
        key: &CommitmentKey,
        statement: &Statement,
        commitment: &AdapterCommitment,
        opening: &Opening,
        weights: &[Vec<Fp>],
        sites: &[SiteRows],
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<DeltaProof, ProveError> {
        let public = Public::derive(statement, commitment, sites);
        let (layout, columns) = (&commitment.layout, public.columns);
        let k = layout.k;
        let empty = DeltaCircuit { k, witness: None };
        let proving_key = with_lanes(layout.lanes, || linked::proving_key(key, &empty))?;
        let prove_batch = |index: usize| -> Result<_, ProveError> {
            let batch = &public.batches[index];
            let schedules = public.schedules(commitment, batch);
            let mut circuits = Vec::with_capacity(batch.len());
            for (panel, schedule) in batch.clone().zip(&schedules) {
                let weights = &weights[panel * columns.linked..(panel + 1) * columns.linked];
                let trace = Trace::new(k, layout.lanes, weights, schedule, |label, lane, row, value| {
                    (self.assign)(panel, label, lane, row, value)
                });
                let wrong = layout
                    .sites_of(panel)
                    .find(|(site, place)| trace.result(schedule, place.end()) != public.folded[*site].result);
                if let (Some((site, _)), true) = (wrong, self.check) {
                    return Err(ProveError::Delta(commitment.shapes()[site].name.clone()));
                }
                circuits.push(DeltaCircuit { k, witness: Some((weights, trace)) });
            }
            let instances: Vec<_> = schedules.iter().map(Schedule::columns).collect();
            let generator = fresh_generator()?;
            let (proof, randomness) = with_lanes(layout.lanes, || {
                linked::prove(key, &proving_key, &circuits, &instances, columns, public.prefix(index), generator)
            })?;
            let primes = linked::linked_points(&proof, batch.len(), columns).ok_or(ProveError::Opening)?;
            Ok((proof, primes, randomness))
        };
        let (mut proof, mut primes, mut randomness) = (Vec::new(), Vec::new(), Vec::new());
        for result in cores::map(public.batches.len(), prove_batch, progress) {
            let (bytes, points, drawn) = result?;
            linked::append_batch(&mut proof, &bytes);
            primes.extend(points);
            randomness.extend(drawn);
        }
        let sides = Sides { radix: &RADIX, primes: &primes, points: &commitment.points };
        let subject = public.subject(commitment);
        let link = link::prove(key, &subject, &proof, &sides, &randomness, &opening.blinds, self.check)?;
        Ok(DeltaProof { proof, link })
    }
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
    let proofs = linked::split_batches(&proof.proof, public.batches.len()).map_err(CheckFailed::DeltaProof)?;
    let check_batch = |index: usize| {
        let batch = &public.batches[index];
        let schedules = public.schedules(commitment, batch);
        let instances: Vec<_> = schedules.iter().map(Schedule::columns).collect();
        let points = linked::linked_points(proofs[index], batch.len(), public.columns)?;
        linked::verify(key, &verifying_key, &instances, public.prefix(index), proofs[index]).then_some(points)
    };
    let mut primes = Vec::with_capacity(commitment.points.len());
    for (index, points) in cores::map(proofs.len(), check_batch, &mut |_, _| {}).into_iter().enumerate() {
        primes.extend(points.ok_or(CheckFailed::DeltaProof(index))?);
    }
    let sides = Sides { radix: &RADIX, primes: &primes, points: &commitment.points };
    if link::verify(key, &public.subject(commitment), &proof.proof, &sides, &proof.link) {
        Ok(())
    } else {
        Err(CheckFailed::Link)
    }
}
