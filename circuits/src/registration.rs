//! Registration: every committed entry is a signed 16-bit integer (`STATEMENT.md`, section 6).

use std::ops::Range;

use pasta_curves::Fp;

use crate::bytes::EncodingError;
use crate::circuit::digits::{DIGITS, DigitsCircuit, REGISTERED_COLUMNS, digit_weights};
use crate::commitment::{AdapterCommitment, Opening, SiteFactors, arrange, shapes_of};
use crate::cores;
use crate::entropy::fresh_generator;
use crate::error::{CheckFailed, ProveError};
use crate::hash::{Absorb, Digest, Tag};
use crate::key::CommitmentKey;
use crate::link::{self, LINK_BYTES, Sides, Subject};
use crate::linked::{self, Columns};

const KIND: u8 = 1;
/// Committed entries of one proof; an entry takes about 2 KB while it is proved.
const BATCH_ENTRIES: usize = 1 << 17;
const COLUMNS: Columns = Columns { advice: REGISTERED_COLUMNS * DIGITS, linked: REGISTERED_COLUMNS * DIGITS };

/// Circuits of each proof.
fn batches(commitment: &AdapterCommitment) -> Vec<Range<usize>> {
    let circuits = commitment.points.len() / REGISTERED_COLUMNS;
    let size = (BATCH_ENTRIES / (REGISTERED_COLUMNS << commitment.k())).max(1);
    (0..circuits).step_by(size).map(|first| first..(first + size).min(circuits)).collect()
}

fn prefix(adapter: &Digest, batch: usize, batches: usize) -> Fp {
    let [prefix] =
        Absorb::new(Tag::RegistrationProof).digest(adapter).u32(batch as u32).u32(batches as u32).challenges();
    prefix
}

fn subject(adapter: Digest) -> Subject {
    Subject { kind: KIND, anchor: adapter, adapter }
}

/// Proves that a commitment is to 16-bit entries. The result is the link, then the proofs.
///
/// `progress` is called with (batches done, batches) before the first and after each.
///
/// # Errors
/// If factors or opening are not the commitment's.
pub fn register(
    key: &CommitmentKey,
    commitment: &AdapterCommitment,
    opening: &Opening,
    factors: &[SiteFactors],
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Vec<u8>, ProveError> {
    commitment.check_key(key).map_err(ProveError::Public)?;
    if shapes_of(factors)? != commitment.shapes() {
        return Err(ProveError::Opening);
    }
    register_columns(key, commitment, opening, &arrange(&commitment.layout, factors), progress, true)
}

/// Registers columns as [`arrange`] makes them; forgers in tests pass others and go without `check`.
pub(crate) fn register_columns(
    key: &CommitmentKey,
    commitment: &AdapterCommitment,
    opening: &Opening,
    columns: &[Vec<Fp>],
    progress: &mut dyn FnMut(usize, usize),
    check: bool,
) -> Result<Vec<u8>, ProveError> {
    let k = commitment.k();
    let adapter = commitment.digest();
    let batches = batches(commitment);
    let proving_key = linked::proving_key(key, &DigitsCircuit { k, columns: None })?;
    let prove_batch = |index: usize| -> Result<_, ProveError> {
        let batch = &batches[index];
        let circuits: Vec<_> = columns[batch.start * REGISTERED_COLUMNS..batch.end * REGISTERED_COLUMNS]
            .chunks(REGISTERED_COLUMNS)
            .map(|columns| DigitsCircuit { k, columns: Some(columns) })
            .collect();
        let instances = vec![Vec::new(); circuits.len()];
        let prefix = prefix(&adapter, index, batches.len());
        let generator = fresh_generator()?;
        let (proof, randomness) = linked::prove(key, &proving_key, &circuits, &instances, COLUMNS, prefix, generator)?;
        let primes = linked::linked_points(&proof, batch.len(), COLUMNS).ok_or(ProveError::Opening)?;
        Ok((proof, primes, randomness))
    };
    let (mut proof, mut primes, mut randomness) = (Vec::new(), Vec::new(), Vec::new());
    for result in cores::map(batches.len(), prove_batch, progress) {
        let (bytes, points, drawn) = result?;
        linked::append_batch(&mut proof, &bytes);
        primes.extend(points);
        randomness.extend(drawn);
    }
    let sides = Sides { radix: &digit_weights(), primes: &primes, points: &commitment.points };
    let mut bytes = link::prove(key, &subject(adapter), &proof, &sides, &randomness, &opening.blinds, check)?;
    bytes.extend(proof);
    Ok(bytes)
}

/// Checks a registration; its verdict may be cached by commitment digest, protocol version and key digest.
///
/// # Errors
/// The first check that fails.
pub fn verify_registration(
    key: &CommitmentKey,
    commitment: &AdapterCommitment,
    registration: &[u8],
) -> Result<(), CheckFailed> {
    commitment.check_key(key)?;
    let (link, proof) =
        registration.split_at_checked(LINK_BYTES).ok_or(CheckFailed::RegistrationEncoding(EncodingError::Truncated))?;
    let adapter = commitment.digest();
    let batches = batches(commitment);
    let verifying_key = linked::verifying_key(key, &DigitsCircuit { k: commitment.k(), columns: None })
        .map_err(|_| CheckFailed::Key(commitment.k()))?;
    let proofs = linked::split_batches(proof, batches.len()).map_err(CheckFailed::RegistrationProof)?;
    let check_batch = |index: usize| {
        let circuits = batches[index].len();
        let points = linked::linked_points(proofs[index], circuits, COLUMNS)?;
        let prefix = prefix(&adapter, index, batches.len());
        linked::verify(key, &verifying_key, &vec![Vec::new(); circuits], prefix, proofs[index]).then_some(points)
    };
    let mut primes = Vec::with_capacity(commitment.points.len() * DIGITS);
    for (index, points) in cores::map(proofs.len(), check_batch, &mut |_, _| {}).into_iter().enumerate() {
        primes.extend(points.ok_or(CheckFailed::RegistrationProof(index))?);
    }
    let sides = Sides { radix: &digit_weights(), primes: &primes, points: &commitment.points };
    if link::verify(key, &subject(adapter), proof, &sides, link) { Ok(()) } else { Err(CheckFailed::RegistrationLink) }
}
