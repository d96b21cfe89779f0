//! One forgery per check of the verifier; the forger recomputes every public digest and challenge.

use ff::{Field, PrimeField};
use pasta_curves::Fp;

use super::encodings::changed_statements;
use super::support::{Case, *};
use crate::conduct::{Conduct, HONEST};
use crate::link::Equation;
use crate::*;

const FORGER: Conduct<'static> = Conduct { check: false, ..HONEST };

#[test]
fn a_changed_delta_is_refused_and_not_proved_by_accident() {
    let mut case = Case::small();
    for (site, entry) in [(0, 0), (0, 14), (1, 98)] {
        let honest = case.sites[site].deltas[entry];
        case.sites[site].deltas[entry] += 1;
        assert_eq!(case.verify(&case.forge(&case.columns())), Err(CheckFailed::DeltaProof));
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
    assert_eq!(case.verify(&case.forge(&case.columns())), Err(CheckFailed::Link));
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
        other.commitment.points[column] = (other.commitment.points[column] + case.key.params.get_g()[0]).into();
        other.statement.adapter = other.commitment.digest();
        assert_eq!(other.verify(&other.forge(&other.columns())), Err(CheckFailed::Link), "{column}");
    }
    case.opening = commit(case.key, BASE, &case.factors).unwrap().1;
    assert_eq!(case.verify(&case.forge(&case.columns())), Err(CheckFailed::Link));
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
            _ => CheckFailed::DeltaProof,
        };
        assert_eq!(case.verify(&proof), Err(expected), "{what}");
    }
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
        assert_eq!(other.verify(&proof), Err(CheckFailed::DeltaProof), "{at}");
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
    for counted in [ROWS - 1, ROWS + 1, 0] {
        coverage(vec![SiteRows { rows: counted, ..q.clone() }, v.clone()]);
        coverage(vec![q.clone(), SiteRows { rows: counted, ..v.clone() }]);
    }
    coverage(vec![SiteRows { rows: 0, inputs: Vec::new(), deltas: Vec::new() }, v.clone()]);
    coverage(vec![SiteRows { inputs: Vec::new(), ..q.clone() }, v.clone()]);
    for sites in [vec![v.clone(), q.clone()], vec![q.clone(), q.clone()]] {
        let swapped = Case { sites, ..case.clone() };
        assert_eq!(swapped.verify(&proof), Err(CheckFailed::DeltaProof));
        assert_eq!(swapped.verify(&swapped.forge(&case.columns())), Err(CheckFailed::DeltaProof));
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
    assert_eq!(at_bound.verify(&proof), Err(CheckFailed::DeltaProof));
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
    assert_eq!(with(&[&proof.proof[..], &[0]].concat(), &proof.link), Err(CheckFailed::DeltaProof));
    for cut in [0, 31, 32 * 40, proof.proof.len() - 1] {
        assert_eq!(with(&proof.proof[..cut], &proof.link), Err(CheckFailed::DeltaProof), "{cut}");
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
        assert_eq!(with(&changed, &proof.link), Err(CheckFailed::DeltaProof), "{at}");
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
    assert_eq!(check(&Case::small().register()), Err(CheckFailed::RegistrationProof));
    assert_eq!(check(&[&first[..], &[0]].concat()), Err(CheckFailed::RegistrationProof));
    let truncated = CheckFailed::RegistrationEncoding(EncodingError::Truncated);
    assert_eq!(check(&first[..LINK_BYTES - 1]), Err(truncated));
    for cut in [LINK_BYTES, LINK_BYTES + 31, LINK_BYTES + 32 * 300, first.len() - 200, first.len() - 1] {
        assert_eq!(check(&first[..cut]), Err(CheckFailed::RegistrationProof), "{cut}");
    }
    for changed in (LINK_BYTES..first.len()).step_by(331) {
        let mut bytes = first.clone();
        bytes[changed] ^= 1;
        assert_eq!(check(&bytes), Err(CheckFailed::RegistrationProof), "{changed}");
    }

    // Registering factors that are in range, but not the committed ones.
    let mut forged = case.clone();
    forged.factors[0].b[1] ^= 1;
    assert_eq!(check(&case.register_as(&forged.columns(), FORGER)), Err(CheckFailed::RegistrationLink));
}

/// A field element that is no 16-bit integer can be committed, and even be proved with; registration refuses it.
#[test]
fn entries_that_are_no_sixteen_bit_integers_cannot_be_registered() {
    let factors = vec![SiteFactors { shape: shape("q", 1, 1, 1), a: vec![6], b: vec![4] }];
    let case = Case::with(factors);
    let entries = [
        (Fp::from(1 << 15), false),
        (-Fp::from((1 << 15) + 1), false),
        (Fp::TWO_INV, false),
        (-Fp::from(1 << 15), true),
        (Fp::from((1 << 15) - 1), true),
    ];
    for (entry, in_range) in entries {
        let mut columns = case.columns();
        columns[0][1] = entry;
        let mut other = case.committed_to(&columns);
        let bytes = other.register_as(&columns, FORGER);
        let expected = if in_range { Ok(()) } else { Err(CheckFailed::RegistrationProof) };
        assert_eq!(verify_registration(other.key, &other.commitment, &bytes), expected, "{entry:?}");
        if entry == Fp::TWO_INV {
            other.sites[0].deltas = other.sites[0].inputs.iter().map(|x| 3 * i128::from(*x)).collect();
            assert_eq!(other.verify(&other.forge(&columns)), Ok(()), "without registration 1/2 is an entry");
        }
    }
}

/// Lanes past a site's rank and rows past the last site change nothing: no adapter of higher rank hides there.
#[test]
fn values_in_unused_cells_have_no_effect() {
    let case = Case::small();
    let layout = &case.commitment.layout;
    let mut columns = case.columns();
    // Site v has rank 1 and begins at entry 25 of two lanes; the last ends with entry 65.
    assert_eq!((layout.starts[1], layout.lanes, layout.strips), (25, 2, 1));
    for (lane, row) in [(1, 25), (1, 26), (1, 32), (0, 70), (1, 223)] {
        columns[lane][row] += Fp::from(5);
    }
    let mut other = case.committed_to(&columns);
    assert_eq!(other.verify(&other.forge(&columns)), Ok(()));
    assert_eq!(verify_registration(other.key, &other.commitment, &other.register_as(&columns, FORGER)), Ok(()));
    let refused = opens(other.key, &other.commitment, &other.opening, &other.factors);
    assert!(matches!(refused, Err(CheckFailed::Opening(_))));

    // The deltas of rank two that a circuit without masks would accept.
    let wide = SiteFactors {
        shape: shape("v", 1, 7, 33),
        a: [5, 5].into_iter().chain([0; 5]).collect(),
        b: [5].into_iter().chain([0; 32]).collect(),
    };
    for (delta, more) in other.sites[1].deltas.iter_mut().zip(deltas(&wide, &case.sites[1].inputs)) {
        *delta += more;
    }
    assert_eq!(other.verify(&other.forge(&columns)), Err(CheckFailed::DeltaProof));
}

/// Two changes that cancel under a chi known in advance: the reason why chi hashes the whole proof.
#[test]
fn a_chi_known_before_the_proof_would_be_forgeable() {
    let case = Case::small();
    let early = Fp::from(987_654_321);
    let [honest, also] = [case.columns()[0].clone(), case.columns()[1].clone()];
    let (mut first, mut second) = (honest.clone(), also.clone());
    first[7] += early;
    second[7] -= Fp::ONE;
    let commit = |columns: &[Vec<Fp>]| {
        crate::columns::commit_columns(case.key, columns, &mut crate::entropy::fresh_generator().unwrap())
    };
    let (left, right) = (commit(&[honest, also]), commit(&[first, second]));
    let equations = || left.iter().zip(&right).map(|(left, right)| Equation::equal(*left, *right)).collect();
    assert!(Equation::holds(case.key, early, equations()));
    assert!(!Equation::holds(case.key, Fp::from(3), equations()));
}

/// Commitments to negatives of each other: the sum is registered, its terms need not be.
#[test]
fn sums_of_unregistered_commitments_say_nothing_about_their_terms() {
    let factors = vec![SiteFactors { shape: shape("q", 1, 1, 1), a: vec![6], b: vec![4] }];
    let case = Case::with(factors);
    let (mut rogue, mut partner) = (case.columns(), case.columns());
    rogue[0][1] = Fp::TWO_INV;
    partner[0][1] = Fp::from(4) - Fp::TWO_INV;
    let (rogue_case, partner_case) = (case.committed_to(&rogue), case.committed_to(&partner));
    let mut sum = case.clone();
    for (at, point) in sum.commitment.points.iter_mut().enumerate() {
        *point = (rogue_case.commitment.points[at] + partner_case.commitment.points[at]).into();
        sum.opening.blinds[at] = rogue_case.opening.blinds[at] + partner_case.opening.blinds[at];
    }
    let summed: Vec<Vec<Fp>> =
        rogue.iter().zip(&partner).map(|(a, b)| a.iter().zip(b).map(|(a, b)| *a + b).collect()).collect();
    let verify = |case: &Case, columns: &[Vec<Fp>]| {
        verify_registration(case.key, &case.commitment, &case.register_as(columns, FORGER))
    };
    assert_eq!(verify(&sum, &summed), Ok(()));
    assert_eq!(verify(&rogue_case, &rogue), Err(CheckFailed::RegistrationProof));
    assert_eq!(verify(&partner_case, &partner), Err(CheckFailed::RegistrationProof));
}

/// Integer deltas that no integer adapter has: registration is what refuses them. (A field adapter of rank r cannot
/// have integer deltas of rank r + 1 while minors of their bound stay below p, as they do up to r = 2.)
#[test]
fn a_field_adapter_can_have_integer_deltas_of_no_integer_adapter() {
    // A = (1, 1/2), B = (1, 3/2). The deltas are (2, 3) times 4, -5, 9, so A would have to be (1/2, 1/4) or its half,
    // third, ..: the inputs determine it up to a factor, and the deltas have no common divisor left for B.
    let case = Case::with(vec![SiteFactors { shape: shape("q", 1, 2, 2), a: vec![2, 1], b: vec![1, 2] }]);
    let mut columns = case.columns();
    columns[0][0] = Fp::ONE;
    columns[0][1] = Fp::TWO_INV;
    columns[0][2] = Fp::ONE;
    columns[0][3] = Fp::from(3) * Fp::TWO_INV;
    let mut other = case.committed_to(&columns);
    other.sites[0].inputs = vec![4, 8, -12, 4, 8, 20];
    other.sites[0].deltas = vec![8, 12, -10, -15, 18, 27];
    assert_eq!(other.verify(&other.forge(&columns)), Ok(()), "without registration these are deltas");
    let registered = verify_registration(other.key, &other.commitment, &other.register_as(&columns, FORGER));
    assert_eq!(registered, Err(CheckFailed::RegistrationProof));
}

#[test]
fn nothing_random_is_used_twice() {
    let case = Case::small();
    let (again, _) = commit(case.key, BASE, &case.factors).unwrap();
    assert!(again.points.iter().zip(&case.commitment.points).all(|(a, b)| a != b));
    let (first, second) = (case.prove(), case.prove());
    // P, Q, and all advice commitments: 2 * 2 lanes + 1, then w, u, v, c, a.
    let points = |proof: &DeltaProof| -> Vec<[u8; 32]> { proof.proof.as_chunks().0[..5 + 7].to_vec() };
    let all: std::collections::HashSet<[u8; 32]> = points(&first).into_iter().chain(points(&second)).collect();
    assert_eq!(all.len(), 2 * (5 + 7));
    assert_ne!(first.link[..32], second.link[..32], "nonces");
    let (first, second) = (case.register(), case.register());
    let points = |bytes: &[u8]| -> std::collections::HashSet<[u8; 32]> {
        bytes[LINK_BYTES..].as_chunks().0[..293 + 154 + 4 + 1 + 5].iter().copied().collect()
    };
    assert!(points(&first).is_disjoint(&points(&second)), "counts, messages, M, U, V, Q, and what halo2 commits to");
}

#[test]
fn a_key_of_another_size_or_content_is_refused() {
    let case = Case::small();
    let proof = case.prove();
    let refused = verify(key(9), &case.statement, &case.commitment, &case.sites, &proof);
    assert_eq!(refused, Err(CheckFailed::Key(8)));
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

/// From r + 2 rows of inputs that are nothing special, B comes out exactly: what open mode discloses.
#[test]
fn a_few_rows_of_deltas_give_b_away() {
    let case = Case::with(factors(9, &[shape("q", 2, 12, 8)]));
    let inputs: Vec<i64> = rows(5, &case.factors, 4)[0].inputs.iter().map(|x| x >> 14).collect();
    let mut vectors: Vec<Vec<i128>> = deltas(&case.factors[0], &inputs).chunks(8).map(<[i128]>::to_vec).collect();
    let dot = |a: &[i128], b: &[i128]| -> i128 { a.iter().zip(b).map(|(a, b)| a * b).sum() };
    // Lagrange's reduction of every pair until none gets shorter; the lattice has rank two.
    let count = vectors.len();
    loop {
        let mut shorter = false;
        for (i, j) in (0..count).flat_map(|i| (0..count).map(move |j| (i, j))) {
            let norm = dot(&vectors[j], &vectors[j]);
            if i == j || norm == 0 {
                continue;
            }
            let factor = (2 * dot(&vectors[i], &vectors[j]) + norm).div_euclid(2 * norm);
            let reduced: Vec<i128> = vectors[i].iter().zip(&vectors[j]).map(|(a, b)| a - factor * b).collect();
            if dot(&reduced, &reduced) < dot(&vectors[i], &vectors[i]) {
                vectors[i] = reduced;
                shorter = true;
            }
        }
        if !shorter {
            break;
        }
    }
    vectors.retain(|vector| vector.iter().any(|value| *value != 0));
    assert_eq!(vectors.len(), 2);
    for lane in 0..2 {
        let column: Vec<i128> = case.factors[0].b.iter().skip(lane).step_by(2).map(|b| i128::from(*b)).collect();
        let found = vectors.iter().any(|v| *v == column || v.iter().zip(&column).all(|(v, b)| *v == -*b));
        assert!(found, "column {lane} of B is not among {vectors:?}");
    }
}
