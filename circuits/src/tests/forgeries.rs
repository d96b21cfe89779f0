//! One forgery per check of the verifier; the forger recomputes every public digest and challenge.

use ff::{Field, PrimeField};
use group::GroupEncoding;
use halo2_proofs::poly::commitment::Blind;
use pasta_curves::{EqAffine, Fp};

use super::encodings::changed_statements;
use super::support::{Case, *};
use crate::commitment::{arrange, commit_columns};
use crate::delta::Prover;
use crate::key::UNUSABLE;
use crate::layout::OFFSET;
use crate::link::{combine, coordinates, difference};
use crate::linked::Randomness;
use crate::registration::register_columns;
use crate::*;

const FORGER: Prover<'_> = Prover { assign: &|_, _, _, _, value| value, check: false };

/// Proves whatever the case says, true or not.
fn forge(case: &Case, weights: &[Vec<Fp>]) -> DeltaProof {
    FORGER
        .prove(case.key, &case.statement, &case.commitment, &case.opening, weights, &case.sites, &mut |_, _| {})
        .unwrap()
}

fn weights(case: &Case) -> Vec<Vec<Fp>> {
    arrange(&case.commitment.layout, &case.factors)
}

#[test]
fn a_changed_delta_is_refused_and_not_proved_by_accident() {
    let mut case = Case::small();
    for (site, entry) in [(0, 0), (0, 14), (1, 98)] {
        let honest = case.sites[site].deltas[entry];
        case.sites[site].deltas[entry] += 1;
        assert_eq!(case.verify(&forge(&case, &weights(&case))), Err(CheckFailed::DeltaProof(0)));
        case.sites[site].deltas[entry] = honest;
    }
    case.sites[1].deltas[3] -= 1;
    let refused =
        prove(case.key, &case.statement, &case.commitment, &case.opening, &case.factors, &case.sites, &mut |_, _| {});
    assert!(matches!(refused, Err(ProveError::Delta(name)) if name == "v"));
}

#[test]
fn a_proof_about_other_factors_is_refused_by_the_link() {
    let mut case = Case::small();
    let committed = case.factors.clone();
    case.factors[0].a[3] ^= 1;
    case.sites = rows(2, &case.factors, ROWS);
    assert_eq!(case.verify(&forge(&case, &weights(&case))), Err(CheckFailed::Link));
    let refused =
        prove(case.key, &case.statement, &case.commitment, &case.opening, &case.factors, &case.sites, &mut |_, _| {});
    assert!(matches!(refused, Err(ProveError::Opening)));
    assert!(matches!(opens(case.key, &case.commitment, &case.opening, &case.factors), Err(CheckFailed::Opening(_))));
    assert_eq!(opens(case.key, &case.commitment, &case.opening, &committed), Ok(()));
}

#[test]
fn a_changed_commitment_is_refused_by_the_link() {
    let mut case = Case::small();
    for column in [0, case.commitment.points.len() - 1] {
        let mut other = case.clone();
        other.commitment.points[column] = (other.commitment.points[column] + case.key.sum).into();
        other.statement.adapter = other.commitment.digest();
        assert_eq!(other.verify(&forge(&other, &weights(&other))), Err(CheckFailed::Link), "{column}");
    }
    case.opening = commit(case.key, BASE, &case.factors).unwrap().1;
    assert_eq!(case.verify(&forge(&case, &weights(&case))), Err(CheckFailed::Link));
}

#[test]
fn a_proof_of_another_statement_is_refused() {
    let mut case = Case::small();
    let proof = case.prove();
    let honest = case.statement.clone();
    for (what, statement) in changed_statements(&honest) {
        case.statement = statement;
        let expected = match what {
            "base" => CheckFailed::Base(BASE),
            "adapter" => CheckFailed::Adapter(case.commitment.digest()),
            _ => CheckFailed::DeltaProof(0),
        };
        assert_eq!(case.verify(&proof), Err(expected), "{what}");
    }
    case.statement = Statement { cases: Vec::new(), ..honest };
    assert_eq!(case.verify(&proof), Err(CheckFailed::Statement(StatementError::Cases(0))));
}

#[test]
fn relabelled_shapes_and_scales_are_refused() {
    let case = Case::small();
    let proof = case.prove();
    let bytes = case.commitment.encode();
    let name = 12 + 4 + 32 + 4 + 2;
    // Name, d_in 20 to 21, d_out 5 to 4, both shifts; the layout stays the same.
    for (at, value) in [(name, b'w'), (name + 5, 21), (name + 9, 4), (name + 13, 13), (name + 14, 15)] {
        let mut edited = bytes.clone();
        edited[at] = value;
        let commitment = AdapterCommitment::decode(&edited).unwrap();
        let mut other = Case { commitment, ..case.clone() };
        assert_eq!(other.verify(&proof), Err(CheckFailed::Adapter(other.commitment.digest())));
        other.statement.adapter = other.commitment.digest();
        for (site, shape) in other.sites.iter_mut().zip(other.commitment.shapes()) {
            site.inputs.resize(ROWS * shape.d_in as usize, 0);
            site.deltas.resize(ROWS * shape.d_out as usize, 0);
        }
        assert_eq!(other.verify(&proof), Err(CheckFailed::DeltaProof(0)), "{at}");
    }
}

#[test]
fn sites_and_rows_are_covered_exactly() {
    let case = Case::new(&[shape("q", 2, 8, 8), shape("v", 2, 8, 8)]);
    let proof = case.prove();
    let coverage = |sites: Vec<SiteRows>| {
        let refused = Case { sites, ..case.clone() }.verify(&proof);
        assert!(matches!(refused, Err(CheckFailed::Coverage(_))), "{refused:?}");
    };
    let (q, v) = (case.sites[0].clone(), case.sites[1].clone());
    coverage(vec![q.clone()]);
    coverage(vec![q.clone(), v.clone(), v.clone()]);
    for rows_given in [ROWS - 1, ROWS + 1] {
        coverage(rows(2, &case.factors, rows_given));
    }
    coverage(vec![SiteRows { inputs: Vec::new(), ..q.clone() }, v.clone()]);
    for sites in [vec![v.clone(), q.clone()], vec![q.clone(), q.clone()]] {
        let swapped = Case { sites, ..case.clone() };
        assert_eq!(swapped.verify(&proof), Err(CheckFailed::DeltaProof(0)));
        assert_eq!(swapped.verify(&forge(&swapped, &weights(&case))), Err(CheckFailed::DeltaProof(0)));
    }

    let site = |name: &str, d_in| ModelSite { name: name.into(), d_in, d_out: 8 };
    assert_eq!(case.commitment.fits(&[site("q", 8), site("k", 8), site("v", 8)]), Ok(()));
    for model in [vec![site("q", 8)], vec![site("v", 8), site("q", 8)], vec![site("q", 9), site("v", 8)]] {
        assert!(matches!(case.commitment.fits(&model), Err(CheckFailed::Coverage(_))), "{model:?}");
    }
}

#[test]
fn integers_meet_the_field_at_their_limits() {
    let shapes = [shape("q", 2, 3, 2)];
    let site = SiteFactors { shape: shapes[0].clone(), a: vec![i16::MIN; 6], b: vec![i16::MIN; 4] };
    let mut case = Case::with(vec![site]);
    let extreme = i64::from(i32::MAX);
    for sign in [1, -1] {
        case.sites[0].inputs = vec![sign * extreme; ROWS * 3];
        case.sites[0].deltas = deltas(&case.factors[0], &case.sites[0].inputs);
        assert_eq!(case.sites[0].deltas[0], i128::from(sign * extreme) * 6 * (1 << 30));
        assert_eq!(case.verify(&case.prove()), Ok(()));
    }
    let proof = case.prove();
    let bound = shapes[0].delta_bound();
    for delta in [bound + 1, -bound - 1, i128::MIN, i128::MAX] {
        let mut large = case.clone();
        large.sites[0].deltas[5] = delta;
        assert_eq!(large.verify(&proof), Err(CheckFailed::DeltaBound { site: 0, entry: 5 }));
    }
    let mut at_bound = case.clone();
    at_bound.sites[0].deltas[5] = bound;
    assert_eq!(at_bound.verify(&proof), Err(CheckFailed::DeltaProof(0)));
    for input in [extreme + 1, -extreme - 1, i64::MIN] {
        let mut large = case.clone();
        large.sites[0].inputs[4] = input;
        assert_eq!(large.verify(&proof), Err(CheckFailed::InputBound { site: 0, entry: 4 }));
    }
}

#[test]
fn bytes_appended_or_missing_are_refused() {
    let case = Case::small();
    let proof = case.prove();
    let with = |proof: &[u8], link: &[u8]| case.verify(&DeltaProof { proof: proof.to_vec(), link: link.to_vec() });
    assert_eq!(with(&[&proof.proof[..], &[0]].concat(), &proof.link), Err(CheckFailed::DeltaProof(1)));
    let mut inside = [&proof.proof[..], &[0]].concat();
    let length = (proof.proof.len() - 3) as u32;
    inside[..4].copy_from_slice(&length.to_le_bytes());
    assert_eq!(with(&inside, &proof.link), Err(CheckFailed::DeltaProof(0)));
    for cut in [0, 31, 32 * 40, proof.proof.len() - 1] {
        assert_eq!(with(&proof.proof[..cut], &proof.link), Err(CheckFailed::DeltaProof(0)), "{cut}");
    }
    assert_eq!(with(&proof.proof, &[&proof.link[..], &[0]].concat()), Err(CheckFailed::Link));
    assert_eq!(with(&proof.proof, &[&proof.link[..], &[0; 32]].concat()), Err(CheckFailed::Link));
    for cut in (0..LINK_BYTES).step_by(16) {
        assert_eq!(with(&proof.proof, &proof.link[..cut]), Err(CheckFailed::Link), "{cut}");
    }
    for at in (0..LINK_BYTES).step_by(9) {
        let mut link = proof.link.clone();
        link[at] ^= 1;
        assert_eq!(with(&proof.proof, &link), Err(CheckFailed::Link), "{at}");
    }
    for at in (0..proof.proof.len()).step_by(197) {
        let mut changed = proof.proof.clone();
        changed[at] ^= 1;
        assert_eq!(with(&changed, &proof.link), Err(CheckFailed::DeltaProof(0)), "{at}");
    }
    let mut zeros = proof.link.clone();
    zeros.fill(0);
    assert_eq!(with(&proof.proof, &zeros), Err(CheckFailed::Link));
}

#[test]
fn links_and_registrations_serve_one_proof() {
    let case = Case::small();
    let (first, second) = (case.prove(), case.prove());
    assert_ne!(first.link, second.link);
    let crossed = DeltaProof { proof: first.proof.clone(), link: second.link.clone() };
    assert_eq!(case.verify(&crossed), Err(CheckFailed::Link));

    let (first, second) = (case.register(), case.register());
    let check = |bytes: &[u8]| verify_registration(case.key, &case.commitment, bytes);
    assert_eq!(check(&first), Ok(()));
    let crossed = [&first[..LINK_BYTES], &second[LINK_BYTES..]].concat();
    assert_eq!(check(&crossed), Err(CheckFailed::RegistrationLink));
    let other = Case::small().register();
    assert_eq!(check(&other), Err(CheckFailed::RegistrationProof(0)));
    assert_eq!(check(&[&first[..], &[0]].concat()), Err(CheckFailed::RegistrationProof(1)));
    assert_eq!(check(&first[..first.len() - 1]), Err(CheckFailed::RegistrationProof(0)));
    let truncated = CheckFailed::RegistrationEncoding(EncodingError::Truncated);
    assert_eq!(check(&first[..LINK_BYTES - 1]), Err(truncated));

    // Registering factors that are in range, but not the committed ones.
    let mut forged = case.factors.clone();
    forged[0].b[1] ^= 1;
    let columns = arrange(&case.commitment.layout, &forged);
    let bytes = register_columns(case.key, &case.commitment, &case.opening, &columns, &mut |_, _| {}, false).unwrap();
    assert_eq!(check(&bytes), Err(CheckFailed::RegistrationLink));
}

/// A field element that is no 16-bit integer can be committed, and even be proved with; registration refuses it.
#[test]
fn entries_that_are_no_sixteen_bit_integers_cannot_be_registered() {
    let factors = vec![SiteFactors { shape: shape("q", 1, 1, 1), a: vec![6], b: vec![4] }];
    let case = Case::with(factors);
    let place = case.commitment.layout.places[0].clone();
    let offset = Fp::from(OFFSET);
    let entries = [
        (Fp::from(1 << 15), false),
        (-Fp::from((1 << 15) + 1), false),
        (Fp::TWO_INV, false),
        (-Fp::from(1 << 15), true),
        (Fp::from((1 << 15) - 1), true),
    ];
    for (entry, in_range) in entries {
        let mut columns = weights(&case);
        columns[0][place.middle()] = entry + offset;
        let shapes = case.commitment.shapes().to_vec();
        let (commitment, opening) = commit_columns(case.key, BASE, shapes, &columns).unwrap();
        let statement = statement(commitment.digest());
        let mut other = Case { commitment, opening, statement, ..case.clone() };
        let bytes =
            register_columns(other.key, &other.commitment, &other.opening, &columns, &mut |_, _| {}, false).unwrap();
        let expected = if in_range { Ok(()) } else { Err(CheckFailed::RegistrationProof(0)) };
        assert_eq!(verify_registration(other.key, &other.commitment, &bytes), expected, "{entry:?}");
        if entry == Fp::TWO_INV {
            other.sites[0].deltas = other.sites[0].inputs.iter().map(|x| 3 * i128::from(*x)).collect();
            assert_eq!(other.verify(&forge(&other, &columns)), Ok(()), "without registration 1/2 is an entry");
        }
    }
}

/// Lanes past a site's rank and cells past its dimensions change nothing: no adapter of higher rank hides there.
#[test]
fn values_in_unused_cells_have_no_effect() {
    let case = Case::small();
    let layout = &case.commitment.layout;
    let place = &layout.places[1];
    let mut columns = weights(&case);
    // Site v has rank 1 and d_in 7 in a layout of two lanes.
    for (column, row) in [(16, place.start), (17, place.start), (16, place.middle()), (7, place.start)] {
        columns[column][row] += Fp::from(5);
    }
    let (commitment, opening) = commit_columns(case.key, BASE, case.commitment.shapes().to_vec(), &columns).unwrap();
    let statement = statement(commitment.digest());
    let mut other = Case { commitment, opening, statement, ..case.clone() };
    assert_eq!(other.verify(&forge(&other, &columns)), Ok(()));
    assert!(matches!(
        opens(other.key, &other.commitment, &other.opening, &other.factors),
        Err(CheckFailed::Opening(_))
    ));

    // The deltas of rank two that a circuit without masks would accept.
    let wide = SiteFactors {
        shape: shape("v", 1, 7, 33),
        a: [5, 5].into_iter().chain([0; 5]).collect(),
        b: [5].into_iter().chain([0; 32]).collect(),
    };
    for (delta, more) in other.sites[1].deltas.iter_mut().zip(deltas(&wide, &case.sites[1].inputs)) {
        *delta += more;
    }
    assert_eq!(other.verify(&forge(&other, &columns)), Err(CheckFailed::DeltaProof(0)));
}

/// Two changes that cancel under a chi known in advance: the reason why chi hashes the whole proof.
#[test]
fn a_chi_known_before_the_proof_would_be_forgeable() {
    let case = Case::small();
    let honest = weights(&case);
    let early = Fp::from(987_654_321);
    let row = case.commitment.layout.places[1].start;
    let mut columns = honest.clone();
    // Columns 7 and 8 in a row where site v, of d_in 7, does not use them.
    columns[7][row] += early;
    columns[8][row] -= Fp::ONE;
    let proof = forge(&case, &columns);
    assert_eq!(case.verify(&proof), Err(CheckFailed::Link));

    // The same columns committed by hand: under the early chi the link's equation holds, under another it does not.
    let (randomness, primes): (Vec<_>, Vec<_>) = columns
        .iter()
        .enumerate()
        .map(|(index, column)| {
            let drawn = Randomness { unusable: [Fp::from(3); UNUSABLE], blind: Fp::from(index as u64) };
            let values = column.iter().chain(&drawn.unusable).copied().collect();
            let values = case.key.domain.lagrange_from_vec(values);
            let point = EqAffine::from(case.key.params.commit_lagrange(&values, Blind(drawn.blind)));
            (drawn, point)
        })
        .unzip();
    let holds = |chi: Fp| {
        let explained = coordinates(chi, &[Fp::ONE], &randomness, &case.opening.blinds);
        combine(case.key, &explained) == difference(case.key, chi, &[Fp::ONE], &primes, &case.commitment.points)
    };
    assert!(holds(early));
    assert!(!holds(Fp::from(3)));
}

#[test]
fn nothing_random_is_used_twice() {
    let case = Case::small();
    let (again, _) = commit(case.key, BASE, &case.factors).unwrap();
    assert!(again.points.iter().zip(&case.commitment.points).all(|(a, b)| a != b));
    let (first, second) = (case.prove(), case.prove());
    let advice = linked::Columns { advice: 36, linked: 36 };
    let points = |proof: &DeltaProof| linked::linked_points(&proof.proof[4..], 1, advice).unwrap();
    let second: std::collections::HashSet<_> = points(&second).iter().map(EqAffine::to_bytes).collect();
    assert!(points(&first).iter().all(|point| !second.contains(&point.to_bytes())));
    assert_ne!(first.link[..32], case.prove().link[..32], "nonces");
}

#[test]
fn a_key_of_another_size_or_content_is_refused() {
    let case = Case::small();
    let proof = case.prove();
    let refused = verify(key(7), &case.statement, &case.commitment, &case.sites, &proof);
    assert_eq!(refused, Err(CheckFailed::Key(6)));
    let mut bytes = case.key.to_bytes();
    // Two generators exchanged: still points of the curve.
    let first: Vec<u8> = bytes[4..36].to_vec();
    bytes.copy_within(36..68, 4);
    bytes[36..68].copy_from_slice(&first);
    assert!(matches!(CommitmentKey::from_bytes(&bytes), Err(KeyError::Digest(_))));
    assert!(matches!(CommitmentKey::from_bytes(&bytes[..99]), Err(KeyError::Length(99))));
    for k in [0, 5, 15, 40, u32::MAX] {
        assert!(matches!(CommitmentKey::from_bytes(&k.to_le_bytes()), Err(KeyError::Size(found)) if found == k));
    }
}
