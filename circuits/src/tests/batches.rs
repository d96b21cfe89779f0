//! Forgeries across the batches of one registration: parts exchanged, left out, given twice, or of another adapter.

use ff::{Field, PrimeField};
use pasta_curves::Fp;

use super::support::{Case, *};
use crate::conduct::{Conduct, HONEST, Label};
use crate::*;

const FORGER: Conduct<'static> = Conduct { check: false, ..HONEST };
/// Columns of commitment and batch, and rows of a column, that [`case`] comes to.
const COLUMNS: usize = 256;
const WIDTH: usize = 129;
const ROWS_OF_COLUMN: usize = 224;

/// An adapter of two batches, the second of which is filled up.
fn case(seed: u64) -> Case {
    let shapes = [shape("q", 128, 200, 200)];
    assert_eq!(required_k(&shapes).unwrap(), 8);
    let case = Case::with(factors(seed, &shapes));
    assert_eq!(case.commitment.points.len(), COLUMNS);
    case
}

/// The parts of a registration.
#[derive(Clone)]
struct Parts {
    link: Vec<u8>,
    multiplicities: Vec<u8>,
    batches: Vec<Vec<u8>>,
    fold: Vec<u8>,
}

impl Parts {
    fn of(bytes: &[u8]) -> Self {
        let (link, rest) = bytes.split_at(LINK_BYTES);
        let (multiplicities, mut rest) = rest.split_at(32 * (1usize << 16).div_ceil(ROWS_OF_COLUMN));
        let mut batches = Vec::new();
        for _ in 0..COLUMNS.div_ceil(WIDTH) {
            let (len, tail) = rest.split_first_chunk().unwrap();
            let (batch, tail) = tail.split_at(u32::from_le_bytes(*len) as usize);
            batches.push(batch.to_vec());
            rest = tail;
        }
        Self { link: link.into(), multiplicities: multiplicities.into(), batches, fold: rest.into() }
    }

    fn join(&self) -> Vec<u8> {
        let mut bytes = [self.link.as_slice(), &self.multiplicities].concat();
        for batch in &self.batches {
            bytes.extend((batch.len() as u32).to_le_bytes());
            bytes.extend(batch);
        }
        bytes.extend(&self.fold);
        bytes
    }
}

fn check(case: &Case, bytes: &[u8]) -> Result<(), CheckFailed> {
    verify_registration(case.key, &case.commitment, bytes)
}

/// What was proved, put together otherwise: each proof is bound to its number, to the multiplicities and to the adapter.
#[test]
fn proofs_of_batches_cannot_be_moved() {
    let (ours, theirs) = (case(1), case(2));
    let honest = Parts::of(&ours.register());
    assert_eq!(check(&ours, &honest.join()), Ok(()));
    let [again, other] = [ours.register(), theirs.register()].map(|bytes| Parts::of(&bytes));
    let changed = |change: &dyn Fn(&mut Parts)| {
        let mut parts = honest.clone();
        change(&mut parts);
        check(&ours, &parts.join())
    };
    let refused = |batch| Err(CheckFailed::RegistrationProof(batch));
    assert_eq!(changed(&|parts| parts.batches.swap(0, 1)), refused(0), "exchanged");
    assert_eq!(changed(&|parts| parts.batches[1] = parts.batches[0].clone()), refused(1), "twice");
    assert_eq!(changed(&|parts| drop(parts.batches.pop())), refused(1), "left out");
    assert_eq!(changed(&|parts| drop(parts.batches.remove(0))), refused(1), "the first left out");
    let one_more = |parts: &mut Parts| parts.batches.push(parts.batches[1].clone());
    assert_eq!(changed(&one_more), Err(CheckFailed::RegistrationSums), "one more");
    for batch in 0..2 {
        let swapped = |from: &Parts| changed(&|parts| parts.batches[batch] = from.batches[batch].clone());
        assert_eq!(swapped(&again), refused(batch), "of another registration of the same adapter");
        assert_eq!(swapped(&other), refused(batch), "of another adapter");
    }
    assert_eq!(changed(&|parts| parts.multiplicities = again.multiplicities.clone()), refused(0));
    let exchanged = |parts: &mut Parts| parts.multiplicities.rotate_left(32);
    assert_eq!(changed(&exchanged), refused(0), "multiplicities exchanged");
    assert_eq!(changed(&|parts| parts.fold = again.fold.clone()), Err(CheckFailed::RegistrationSums));
    assert_eq!(changed(&|parts| parts.link = again.link.clone()), Err(CheckFailed::RegistrationLink));
    assert_eq!(check(&theirs, &honest.join()), refused(0), "under another adapter");
}

/// The same by a forger who proves everything anew: then the proofs are right, and about other columns.
#[test]
fn batches_are_about_the_columns_of_their_place() {
    let (ours, theirs) = (case(1), case(2));
    let honest = ours.columns();
    let forged = |change: &dyn Fn(&mut Vec<Vec<Fp>>)| {
        let mut columns = honest.clone();
        change(&mut columns);
        check(&ours, &ours.register_as(&columns, FORGER))
    };
    let refused = Err(CheckFailed::RegistrationLink);
    assert_eq!(forged(&|_| {}), Ok(()));
    assert_eq!(forged(&|columns| columns[WIDTH..].fill(vec![Fp::ZERO; ROWS_OF_COLUMN])), refused, "left out");
    let twice = |columns: &mut Vec<Vec<Fp>>| {
        let (first, second) = columns.split_at_mut(WIDTH);
        second.clone_from_slice(&first[..COLUMNS - WIDTH]);
    };
    assert_eq!(forged(&twice), refused, "twice");
    assert_eq!(forged(&|columns| columns.swap(3, WIDTH + 3)), refused, "two columns of two batches exchanged");
    let mixed = |columns: &mut Vec<Vec<Fp>>| columns[WIDTH..].clone_from_slice(&theirs.columns()[WIDTH..]);
    assert_eq!(forged(&mixed), refused, "another adapter's");
}

/// The sums of batches that cancel, are exchanged or leave one out; and the entry that such a forger would hide.
#[test]
fn sums_and_multiplicities_belong_to_their_batches() {
    let case = case(1);
    let mut columns = case.columns();
    columns[WIDTH + 7][5] = Fp::from(1 << 15);
    let bad = case.committed_to(&columns);
    let register = |case: &Case, columns: &[Vec<Fp>], assign: &(dyn Fn(Label, usize, Fp) -> Fp + Sync)| {
        check(case, &case.register_as(columns, Conduct { assign, check: false }))
    };
    let honest = case.columns();
    let last = ROWS_OF_COLUMN;
    // Within the proof of either batch: a sum that does not begin at zero, or gains on its way, by opposite amounts.
    for row in [0, 9, last] {
        let shifted = |label, at, value| match label {
            Label::Sum(0) if at == row => value + Fp::ONE,
            Label::Sum(1) if at == row => value - Fp::ONE,
            _ => value,
        };
        assert_eq!(register(&case, &honest, &shifted), Err(CheckFailed::RegistrationProof(0)), "{row}");
        let second = |label, at, value| if (label, at) == (Label::Sum(1), row) { value - Fp::ONE } else { value };
        assert_eq!(register(&case, &honest, &second), Err(CheckFailed::RegistrationProof(1)), "{row}");
    }
    // Where they enter the equation: the sum over all batches stays right, but they are not what was proved.
    let moved = |label, at, value| match label {
        Label::Total(0) if at == last => value + Fp::ONE,
        Label::Total(1) if at == last => value - Fp::ONE,
        _ => value,
    };
    assert_eq!(register(&case, &honest, &moved), Err(CheckFailed::RegistrationLink));
    // Rows of the sums that the equation does not weigh are tied to the proofs all the same.
    let unweighed = |label, at, value| if (label, at) == (Label::Total(1), 3) { value + Fp::ONE } else { value };
    assert_eq!(register(&case, &honest, &unweighed), Err(CheckFailed::RegistrationLink));
    // Counted for one batch alone, with the other's sum left out where it enters: its entries are never looked up.
    let mut counts = vec![0u64; 1 << 16];
    for entry in columns[..WIDTH].iter().flatten() {
        let repr = (*entry + Fp::from(1 << 15)).to_repr();
        counts[usize::from(u16::from_le_bytes([repr[0], repr[1]]))] += 1;
    }
    let first_alone = |label, at, value| match label {
        Label::Multiplicity(column) => counts.get(column * ROWS_OF_COLUMN + at).map_or(value, |count| Fp::from(*count)),
        Label::Total(1) => Fp::ZERO,
        _ => value,
    };
    assert_eq!(register(&bad, &columns, &first_alone), Err(CheckFailed::RegistrationLink));
    // The same without touching the sums.
    let uncounted = |label, at, value| match label {
        Label::Multiplicity(_) => first_alone(label, at, value),
        _ => value,
    };
    assert_eq!(register(&bad, &columns, &uncounted), Err(CheckFailed::RegistrationSums));
    assert_eq!(register(&bad, &columns, HONEST.assign), Err(CheckFailed::RegistrationSums));
    // In the columns that fill up the second batch.
    let filled = |label, at, value| match (label, at) {
        (Label::Entry(column), 3) if column == COLUMNS => Fp::from(7),
        (Label::Multiplicity(0), 7) => value + Fp::ONE,
        (Label::Multiplicity(column), at) if column * ROWS_OF_COLUMN + at == 1 << 15 => value - Fp::ONE,
        _ => value,
    };
    assert_eq!(register(&case, &honest, &filled), Err(CheckFailed::RegistrationLink));
}
