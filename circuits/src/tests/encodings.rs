//! Foreign bytes, and that every public field reaches every challenge.

use std::collections::HashSet;

use group::GroupEncoding;

use super::support::{Case, *};
use crate::delta::rows::rows_digest;
use crate::delta::{anchor, fold_challenges, product_challenges};
use crate::link::{LinkSubject, challenge, weight};
use crate::*;

/// Offset of the first site's name length.
const SITES: usize = 12 + 4 + 32 + 4;

#[test]
fn a_protocol_version_names_its_arithmetic() {
    assert_eq!((PROTOCOL_VERSION, fixed::SEMANTICS), (3, "ftk-fixed-1"), "new arithmetic is a new protocol version");
}

#[test]
fn commitments_that_are_not_canonical_are_refused_with_their_reason() {
    use EncodingError::*;
    let case = Case::small();
    let bytes = case.commitment.encode();
    let points = bytes.len() - 32 * case.commitment.points.len();
    let edit = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut edited = bytes.clone();
        change(&mut edited);
        match AdapterCommitment::decode(&edited) {
            Err(CheckFailed::CommitmentEncoding(reason)) => reason,
            other => panic!("{other:?}"),
        }
    };
    let put = |at: usize, with: &[u8]| edit(&|bytes| bytes[at..at + with.len()].copy_from_slice(with));

    assert_eq!(put(0, b"F"), Tag);
    assert_eq!(put(12, &[2]), Version(2));
    assert_eq!(put(48, &[0; 4]), Bounds { what: "sites", value: 0 });
    assert_eq!(put(48, &5000u32.to_le_bytes()), Bounds { what: "sites", value: 5000 });
    assert_eq!(put(48, &4000u32.to_le_bytes()), Truncated);
    assert_eq!(put(SITES, &300u16.to_le_bytes()), Name);
    assert_eq!(put(SITES + 2, b"/"), Name);
    assert_eq!(put(SITES + 2, b"v"), RepeatedSite("v".into()));
    for (at, what) in [(3, "rank"), (7, "d_in"), (11, "d_out")] {
        assert_eq!(put(SITES + at, &[0; 4]), Bounds { what, value: 0 });
        assert_eq!(put(SITES + at, &[255; 4]), Bounds { what, value: u32::MAX.into() });
    }
    for (at, what) in [(15, "shift_a"), (16, "shift_b")] {
        assert_eq!(put(SITES + at, &[64]), Bounds { what, value: 64 });
    }
    assert_eq!(put(SITES + 3, &3u32.to_le_bytes()), Truncated, "a higher rank needs more points");
    assert_eq!(put(points, &[0; 32]), IdentityPoint(0));
    assert_eq!(put(points + 32, &[255; 32]), Point(1));
    let first = bytes[points..points + 32].to_vec();
    assert_eq!(put(points + 32, &first), RepeatedPoint);
    assert_eq!(edit(&|bytes| bytes.push(0)), TrailingBytes(1));
    for cut in 0..bytes.len() {
        let reason = edit(&|bytes| bytes.truncate(cut));
        assert_eq!(reason, Truncated, "{cut}");
    }
}

#[test]
fn a_commitment_that_names_a_transcript_is_another_with_the_same_points() {
    let case = Case::small();
    let root = Digest([7; 32]);
    let plain = case.commitment.encode();
    let trained = case.commitment.clone().of_transcript(root);
    let bytes = trained.encode();
    assert_eq!((case.commitment.transcript(), trained.transcript()), (None, Some(root)));
    assert_eq!(bytes.len(), plain.len() + 32);
    assert_eq!((&bytes[12..48], &bytes[48..80], &bytes[80..]), (&plain[12..48], &[7; 32][..], &plain[48..]));
    assert_eq!(AdapterCommitment::decode(&bytes), Ok(trained.clone()));
    let digests = [case.commitment.digest(), trained.digest(), trained.of_transcript(Digest([8; 32])).digest()];
    assert_eq!(digests.iter().collect::<HashSet<_>>().len(), 3);
    // Neither passes for the other: a root cannot be put in, or taken away, by the first bytes.
    let reason = |bytes: Vec<u8>| match AdapterCommitment::decode(&bytes) {
        Err(CheckFailed::CommitmentEncoding(reason)) => reason,
        other => panic!("{other:?}"),
    };
    let as_plain = [&plain[..12], &bytes[12..]].concat();
    assert!(matches!(reason(as_plain), EncodingError::Bounds { what: "sites", .. }));
    let as_trained = [&bytes[..12], &plain[12..]].concat();
    assert!(matches!(reason(as_trained), EncodingError::Bounds { .. } | EncodingError::Truncated));
    assert_eq!(reason([b"ftk trainee\0", &bytes[12..]].concat()), EncodingError::Tag);
    for cut in 0..bytes.len() {
        assert_eq!(reason(bytes[..cut].to_vec()), EncodingError::Truncated, "{cut}");
    }
    // The opening is the same, and a registration of the one is none of the other.
    assert_eq!(opens(case.key, &case.commitment.clone().of_transcript(root), &case.opening, &case.factors), Ok(()));
}

#[test]
fn openings_that_are_not_canonical_are_refused_with_their_reason() {
    let opening = Case::small().opening;
    let bytes = opening.encode();
    assert_eq!(Opening::decode(&bytes), Ok(opening));
    let mut large = bytes.clone();
    large[20..52].fill(255);
    assert_eq!(Opening::decode(&large), Err(CheckFailed::OpeningEncoding(EncodingError::Scalar(0))));
    let longer = [&bytes[..], &[0]].concat();
    assert_eq!(Opening::decode(&longer), Err(CheckFailed::OpeningEncoding(EncodingError::TrailingBytes(1))));
    let shorter = &bytes[..bytes.len() - 1];
    assert_eq!(Opening::decode(shorter), Err(CheckFailed::OpeningEncoding(EncodingError::Truncated)));
}

/// Statements that differ in one field each from one another.
pub(super) fn changed_statements(statement: &StatementBytes) -> Vec<(&'static str, StatementBytes)> {
    let with = |said: &[u8]| StatementBytes { said: said.to_vec(), ..statement.clone() };
    vec![
        ("base", StatementBytes { base: Digest([8; 32]), ..statement.clone() }),
        ("adapter", StatementBytes { adapter: Digest([8; 32]), ..statement.clone() }),
        ("first byte", with(b"Five six, eight nine")),
        ("last byte", with(b"five six, eight ninE")),
        ("longer", with(b"five six, eight nine\0")),
        ("shorter", with(b"five six, eight nin")),
        ("nothing", with(b"")),
    ]
}

#[test]
fn statements_round_trip_and_other_headers_are_refused() {
    let statement = statement(BASE);
    for (what, changed) in changed_statements(&statement) {
        assert_eq!(StatementBytes::decode(&changed.encode()), Ok(changed), "{what}");
    }
    let bytes = statement.encode();
    for cut in 0..14 + 4 + 64 {
        assert_eq!(StatementBytes::decode(&bytes[..cut]), Err(EncodingError::Truncated), "{cut}");
    }
    let put = |at: usize, with: u8| {
        let mut edited = bytes.clone();
        edited[at] = with;
        StatementBytes::decode(&edited).unwrap_err()
    };
    assert_eq!((put(0, b'F'), put(14, 1)), (EncodingError::Tag, EncodingError::Version(1)));
}

/// rho, tau, those of the products, chi and e of one run.
fn challenges(case: &Case) -> [[u8; 32]; 8] {
    use ff::PrimeField;
    let statement = case.statement.digest();
    let rows = rows_digest(case.commitment.shapes(), &case.sites, &|| false).unwrap();
    let [rho, tau] = fold_challenges(&statement, &rows);
    let anchor = anchor(&statement, &rows);
    let [gamma, phi, lambda, theta] = product_challenges(&anchor, &[]);
    let bound = LinkSubject { kind: 0, anchor, adapter: case.commitment.digest() }.bind(b"proof");
    let chi = weight(&bound);
    let e = challenge(&bound, chi, &[1; 32]);
    [rho, tau, gamma, phi, lambda, theta, chi, e].map(|challenge| challenge.to_repr())
}

#[test]
fn every_public_field_changes_every_challenge() {
    let case = Case::small();
    let mut all = vec![("honest".to_owned(), case.clone())];
    for (what, statement) in changed_statements(&case.statement) {
        all.push((what.into(), Case { statement, ..case.clone() }));
    }
    for site in 0..2 {
        let mut delta = case.clone();
        *delta.sites[site].deltas.last_mut().unwrap() += 1;
        all.push((format!("delta {site}"), delta));
        let mut input = case.clone();
        input.sites[site].inputs[0] -= 1;
        all.push((format!("input {site}"), input));
        let mut count = case.clone();
        count.sites[site].rows += 1;
        all.push((format!("rows {site}"), count));
    }
    // Every byte of the commitment's encoding that can change while it stays an encoding.
    let bytes = case.commitment.encode();
    for at in [16, 47, SITES + 2, SITES + 7, SITES + 11, SITES + 15, SITES + 16] {
        let mut edited = bytes.clone();
        edited[at] ^= 1;
        let commitment = AdapterCommitment::decode(&edited).unwrap();
        let statement = StatementBytes { adapter: commitment.digest(), ..case.statement.clone() };
        all.push((format!("commitment byte {at}"), Case { commitment, statement, ..case.clone() }));
    }
    for column in 0..case.commitment.points.len() {
        let mut other = case.clone();
        other.commitment.points[column] = (other.commitment.points[column] + case.key.params.get_g()[0]).into();
        other.statement.adapter = other.commitment.digest();
        assert_ne!(other.commitment.points[column].to_bytes(), case.commitment.points[column].to_bytes());
        all.push((format!("point {column}"), other));
    }
    for index in 0..8 {
        let mut seen = HashSet::new();
        for (what, case) in &all {
            assert!(seen.insert(challenges(case)[index]), "{what} does not change challenge {index}");
        }
    }
    let subject = LinkSubject { kind: 0, anchor: BASE, adapter: BASE };
    let others = [
        LinkSubject { kind: 1, ..subject }.bind(b"proof"),
        LinkSubject { anchor: Digest([1; 32]), ..subject }.bind(b"proof"),
        LinkSubject { adapter: Digest([1; 32]), ..subject }.bind(b"proof"),
        subject.bind(b"prooF"),
        subject.bind(b"proof\0"),
    ];
    for other in others {
        assert_ne!(weight(&other), weight(&subject.bind(b"proof")));
    }
}
