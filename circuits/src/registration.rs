//! Registration: every committed entry is a signed 16-bit integer (`STATEMENT.md`, section 6).

pub(crate) mod circuit;

use ff::{BatchInvert, Field, PrimeField};
use pasta_curves::{EqAffine, Fp};

use crate::bytes::{EncodingError, Reader};
use crate::check::{Check, Checks, Stop, go_on, never};
use crate::columns::{Committed, Randomness, append_points, commit_columns, read_points};
use crate::commitment::{AdapterCommitment, Opening, SiteFactors, arrange, shapes_of};
use crate::conduct::{Conduct, HONEST, Label};
use crate::cores;
use crate::entropy::fresh_generator;
use crate::error::{CheckFailed, ProveError};
use crate::folding::{Folding, Witness};
use crate::hash::{Absorb, Digest, Tag};
use crate::key::{CommitmentKey, UNUSABLE};
use crate::layout::{OFFSET, fold_rows, useful_rows};
use crate::link::halo2::{self, Columns};
use crate::link::{self, Equation, LINK_BYTES, Subject};
use crate::registration::circuit::{RangeCircuit, SHARED, Trace, with_width};

const KIND: u8 = 1;
/// Most columns of one range proof: it takes some 120 MB at k = 10.
const BATCH_COLUMNS: usize = 192;
/// Entries of the table: all 16-bit integers.
const TABLE: usize = 1 << 16;

/// How the columns of a commitment are taken: a function of their number.
#[derive(Clone, Copy, Debug)]
struct Batches {
    k: u32,
    columns: usize,
    /// Columns of one batch.
    width: usize,
}

impl Batches {
    fn new(commitment: &AdapterCommitment) -> Self {
        let columns = commitment.points.len();
        let width = columns.div_ceil(columns.div_ceil(BATCH_COLUMNS)).next_multiple_of(SHARED);
        Self { k: commitment.k(), columns, width }
    }

    fn count(&self) -> usize {
        self.columns.div_ceil(self.width)
    }

    /// Columns of the commitment in a batch.
    fn range(&self, batch: usize) -> std::ops::Range<usize> {
        batch * self.width..((batch + 1) * self.width).min(self.columns)
    }

    /// The columns of the table.
    fn tables(&self) -> usize {
        TABLE.div_ceil(useful_rows(self.k))
    }

    /// Columns of the circuit; the accumulator is the last linked one.
    fn circuit(&self) -> Columns {
        Columns { advice: self.width + 1 + self.width / SHARED, linked: self.width + 1 }
    }
}

/// What follows from the commitments to the multiplicities.
struct Table {
    point: Fp,
    bound: Digest,
}

impl Table {
    fn new(adapter: &Digest, multiplicities: &[EqAffine]) -> Self {
        let hash = || Absorb::new(Tag::RegistrationTable).digest(adapter).points(multiplicities);
        let [point] = hash().challenges();
        Self { point, bound: hash().finish() }
    }

    fn prefix(&self, batch: usize) -> Fp {
        let [prefix] = Absorb::new(Tag::RegistrationProof).digest(&self.bound).u32(batch as u32).challenges();
        prefix
    }

    /// The sums of all batches are those of the table.
    fn folding(&self, batches: &Batches, proofs: &[u8]) -> Folding {
        let rows = useful_rows(batches.k);
        let mut last = vec![Fp::ZERO; fold_rows(batches.k)];
        last[rows] = Fp::ONE;
        // The point is in the table for nobody; where it were, no reciprocal of that entry exists.
        let mut reciprocals: Vec<Fp> = (0..TABLE as u64).map(|entry| Fp::from(entry) - self.point).collect();
        reciprocals.iter_mut().batch_invert();
        let mut coefficients = vec![last; batches.count()];
        coefficients.extend(reciprocals.chunks(rows).map(<[Fp]>::to_vec));
        let bound = Absorb::new(Tag::RegistrationSums).digest(&self.bound).bytes(proofs).finish();
        Folding { k: batches.k, lanes: vec![Fp::ONE], coefficients, products: Vec::new(), start: Fp::ZERO, bound }
    }
}

fn subject(adapter: Digest) -> Subject {
    Subject { kind: KIND, anchor: adapter, adapter }
}

/// `e - w = 2^15` in every row, for each column of a batch; those past the last of the commitment have w = 0. (Without
/// an equation they would be entries that the prover chooses when it knows the point.)
fn entry_equations<T>(entries: Vec<T>, columns: impl Iterator<Item = T>) -> impl Iterator<Item = Equation<T>> {
    let columns = columns.map(Some).chain(std::iter::repeat_with(|| None));
    entries.into_iter().zip(columns).map(|(entries, column)| {
        let terms = std::iter::once((Fp::ONE, entries)).chain(column.map(|column| (-Fp::ONE, column)));
        Equation { terms: terms.collect(), offset: Fp::from(OFFSET) }
    })
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
    if shapes_of(factors)? != commitment.shapes() || opening.blinds.len() != commitment.points.len() {
        return Err(ProveError::Opening);
    }
    register_columns(key, commitment, opening, &arrange(&commitment.layout, factors), progress, HONEST)
}

/// Registers columns as [`arrange`] makes them; forgers in tests pass others, and conduct themselves otherwise.
pub(crate) fn register_columns(
    key: &CommitmentKey,
    commitment: &AdapterCommitment,
    opening: &Opening,
    columns: &[Vec<Fp>],
    progress: &mut dyn FnMut(usize, usize),
    conduct: Conduct<'_>,
) -> Result<Vec<u8>, ProveError> {
    let batches = Batches::new(commitment);
    let (k, rows) = (batches.k, useful_rows(batches.k));
    let adapter = commitment.digest();

    let mut counts = vec![0; TABLE];
    counts[OFFSET as usize] = ((batches.count() * batches.width - columns.len()) * rows) as u64;
    for value in columns.iter().flatten() {
        if let Some(entry) = table_entry(*value + Fp::from(OFFSET)) {
            counts[entry] += 1;
        }
    }
    let mut multiplicities: Vec<Vec<Fp>> =
        counts.chunks(rows).map(|counts| counts.iter().map(|count| Fp::from(*count)).collect()).collect();
    conduct.pass(Label::Multiplicity, &mut multiplicities);
    let tables = commit_columns(key, &multiplicities)?;
    let points: Vec<EqAffine> = tables.iter().map(|column| column.point).collect();
    let table = Table::new(&adapter, &points);
    let mut proof = Vec::new();
    append_points(&mut proof, &points);

    let proving_key = with_width(batches.width, || halo2::proving_key(key, &RangeCircuit { k, witness: None }))?;
    let point = vec![table.point; rows];
    let prove_batch = |batch: usize| -> Result<_, ProveError> {
        let usable = (1 << k) - UNUSABLE;
        let mut entries = vec![vec![Fp::from(OFFSET); usable]; batches.width];
        for (entries, column) in entries.iter_mut().zip(&columns[batches.range(batch)]) {
            for (entry, value) in entries.iter_mut().zip(column) {
                *entry += value;
            }
        }
        conduct.pass(|column| Label::Entry(batch * batches.width + column), &mut entries);
        let trace = Trace::new(k, batch, table.point, &entries, conduct.assign);
        let circuit = RangeCircuit { k, witness: Some((&entries, &trace)) };
        let generator = fresh_generator()?;
        let (proof, proved) = with_width(batches.width, || {
            halo2::prove(key, &proving_key, circuit, &[&point], batches.circuit(), table.prefix(batch), generator)
        })?;
        Ok((proof, proved, trace.accumulator))
    };
    let start = proof.len();
    let (mut accumulators, mut sums, mut equations) = (Vec::new(), Vec::new(), Vec::new());
    for (batch, result) in cores::map(batches.count(), prove_batch, progress).into_iter().enumerate() {
        let (bytes, mut proved, accumulator) = result?;
        proof.extend((bytes.len() as u32).to_le_bytes());
        proof.extend(bytes);
        accumulators.extend(proved.pop());
        sums.push(accumulator);
        let range = batches.range(batch);
        let committed = commitment.points[range.clone()].iter().zip(&opening.blinds[range]);
        let committed = committed.map(|(point, blind)| {
            let randomness = Randomness { unusable: [Fp::ZERO; UNUSABLE], blind: *blind };
            Committed { point: *point, randomness }
        });
        equations.extend(entry_equations(proved, committed));
    }
    conduct.pass(Label::Total, &mut sums);
    let folding = table.folding(&batches, &proof[start..]);
    let values: Vec<&[Fp]> = sums.iter().chain(&multiplicities).map(Vec::as_slice).collect();
    let committed: Vec<Committed> = accumulators.into_iter().chain(tables).collect();
    let witness = Witness { columns: &values, committed: &committed };
    equations.extend(folding.prove(key, witness, conduct, &mut proof)?);
    let mut bytes = link::prove(key, &subject(adapter), &proof, equations, conduct.check)?;
    bytes.extend(proof);
    Ok(bytes)
}

/// The value's place in the table.
fn table_entry(value: Fp) -> Option<usize> {
    let repr = value.to_repr();
    let low = usize::from(u16::from_le_bytes([repr[0], repr[1]]));
    repr[2..].iter().all(|byte| *byte == 0).then_some(low)
}

/// Everything about a registration but its sums.
pub(crate) fn begin<'k>(
    key: &'k CommitmentKey,
    commitment: &AdapterCommitment,
    registration: &[u8],
    stop: &Stop<'_>,
) -> Result<Checks<'k>, CheckFailed> {
    commitment.check_key(key)?;
    go_on(stop)?;
    let (link, proof) =
        registration.split_at_checked(LINK_BYTES).ok_or(CheckFailed::RegistrationEncoding(EncodingError::Truncated))?;
    let batches = Batches::new(commitment);
    let adapter = commitment.digest();
    let mut reader = Reader::new(proof);
    let tables = read_points(&mut reader, batches.tables()).ok_or(CheckFailed::RegistrationProof(0))?;
    let table = Table::new(&adapter, &tables);
    let start = proof.len() - reader.remaining();
    let mut proofs = Vec::new();
    for batch in 0..batches.count() {
        let bytes = reader.u32().and_then(|len| reader.take(len as usize));
        proofs.push(bytes.map_err(|_| CheckFailed::RegistrationProof(batch))?);
    }
    let folding = table.folding(&batches, &proof[start..proof.len() - reader.remaining()]);

    let verifying_key =
        with_width(batches.width, || halo2::verifying_key(key, &RangeCircuit { k: batches.k, witness: None }))
            .map_err(|_| CheckFailed::Key(batches.k))?;
    let point = vec![table.point; useful_rows(batches.k)];
    let verify_batch = |batch: usize| {
        go_on(stop)?;
        let bytes = proofs[batch];
        let sum = || {
            let points = halo2::linked_points(bytes, batches.circuit())?;
            Some((halo2::verify(key, &verifying_key, &[&point], table.prefix(batch), bytes)?, points))
        };
        sum().ok_or(CheckFailed::RegistrationProof(batch))
    };
    let (mut checks, mut sums, mut equations) = (Vec::new(), Vec::new(), Vec::new());
    for (batch, result) in cores::map(proofs.len(), verify_batch, &mut |_, _| {}).into_iter().enumerate() {
        let (sum, mut points) = result?;
        checks.push(Check { sum, otherwise: CheckFailed::RegistrationProof(batch) });
        sums.extend(points.pop());
        equations.extend(entry_equations(points, commitment.points[batches.range(batch)].iter().copied()));
    }
    sums.extend(tables);
    go_on(stop)?;
    let (sum, more) = folding.verify(key, &sums, &mut reader).ok_or(CheckFailed::RegistrationSums)?;
    checks.push(Check { sum, otherwise: CheckFailed::RegistrationSums });
    equations.extend(more);
    let link = link::verify(key, &subject(adapter), proof, equations, link).ok_or(CheckFailed::RegistrationLink)?;
    checks.push(Check { sum: link.sum, otherwise: CheckFailed::RegistrationLink });
    Ok(Checks { seed: link.seed, checks })
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
    begin(key, commitment, registration, &never)?.settle()
}
