//! What must be accepted.

use super::support::{Case, *};
use crate::*;

#[test]
fn an_honest_run_is_accepted_on_every_shape() {
    let cases: [&[SiteShape]; 5] = [
        &[shape("one", 1, 1, 1)],
        &[shape("q", 4, 64, 64)],
        &[shape("q", 2, 20, 5), shape("k", 1, 7, 33), shape("v", 3, 16, 17)],
        &[shape("q", 4, 64, 64), shape("k", 4, 64, 64), shape("v", 4, 64, 64), shape("o", 4, 64, 64)],
        &[shape("wide", 2, 1700, 300)],
    ];
    for shapes in cases {
        let case = Case::new(shapes);
        let proof = case.prove();
        assert_eq!(case.verify(&proof), Ok(()), "{shapes:?}");
        let registration = case.register();
        assert_eq!(verify_registration(case.key, &case.commitment, &registration), Ok(()), "{shapes:?}");
        assert_eq!(AdapterCommitment::decode(&case.commitment.encode()).as_ref(), Ok(&case.commitment));
        assert_eq!(opens(case.key, &case.commitment, &case.opening, &case.factors), Ok(()));
    }
}

/// More columns than one range proof takes, and more sites than one column has rows.
#[test]
fn large_adapters_take_several_batches_and_strips() {
    let shapes: Vec<_> = (0..70).map(|i| shape(&format!("s{i}"), 1 + i % 16, 20 + i, 9)).collect();
    let case = Case::new(&shapes);
    assert_eq!((case.commitment.k(), case.commitment.layout.columns()), (8, 16 * 20));
    let proof = case.prove();
    assert_eq!(case.verify(&proof), Ok(()));
    let mut calls = Vec::new();
    let registration = register(case.key, &case.commitment, &case.opening, &case.factors, &mut |done, all| {
        calls.push((done, all));
    });
    assert_eq!(calls, [(0, 2), (1, 2), (2, 2)]);
    assert_eq!(verify_registration(case.key, &case.commitment, &registration.unwrap()), Ok(()));

    let many: Vec<_> = (0..300).map(|i| shape(&format!("s{i}"), 1 + i % 2, 1, 1)).collect();
    let mut case = Case::new(&many);
    assert!(many.len() > layout::useful_rows(case.commitment.k()));
    assert_eq!(case.verify(&case.prove()), Ok(()));
    case.sites[299].deltas[2] += 1;
    assert_eq!(case.verify(&case.forge(&case.columns())), Err(CheckFailed::DeltaProof));
}

/// Sites of a graph's network have as many rows as their layer has nodes.
#[test]
fn sites_may_have_rows_of_their_own_number() {
    let mut case = Case::small();
    case.sites = vec![rows(2, &case.factors, 5).remove(0), rows(3, &case.factors, 2).remove(1)];
    assert_eq!(case.verify(&case.prove()), Ok(()));
}

#[test]
fn many_claims_are_judged_at_once_and_the_bad_ones_named() {
    let small = Case::small();
    let wide = Case::new(&[shape("wide", 64, 3100, 3100)]);
    assert_ne!(small.commitment.k(), wide.commitment.k());
    let (proof, other, far) = (small.prove(), small.prove(), wide.prove());
    let registration = small.register();
    let crossed = DeltaProof { proof: proof.proof.clone(), link: other.link.clone() };
    fn deltas<'a>(case: &'a Case, proof: &'a DeltaProof) -> Claim<'a> {
        let Case { key, statement, commitment, sites, .. } = case;
        Claim::Deltas { key, statement, commitment, sites, proof }
    }
    let registered = Claim::Registration { key: small.key, commitment: &small.commitment, registration: &registration };
    let good = [deltas(&small, &proof), registered, deltas(&wide, &far), deltas(&small, &other)];
    assert_eq!(verify_all(&good), vec![Ok(()); 4]);
    assert_eq!(verify_all(&[]), []);
    let mut mixed = good.to_vec();
    mixed.insert(1, deltas(&small, &crossed));
    mixed.push(Claim::Registration { key: small.key, commitment: &small.commitment, registration: &registration[1..] });
    let refused = [Err(CheckFailed::Link), Err(CheckFailed::RegistrationProof(0))];
    assert_eq!(verify_all(&mixed), [Ok(()), refused[0].clone(), Ok(()), Ok(()), Ok(()), refused[1].clone()]);
}

#[test]
fn commitment_keys_are_the_pinned_ones() {
    let regenerate = std::env::var_os("FTK_PRINT_KEY_DIGESTS").is_some();
    let largest = if regenerate { MAX_K } else { 9 };
    for k in MIN_K..=largest {
        let digest = commitment_key_digest(&halo2_proofs::poly::commitment::Params::new(k));
        if regenerate {
            println!("{:?}, // k = {k}", digest.0);
            continue;
        }
        let key = key(k);
        assert_eq!(key.digest(), digest);
        assert_eq!(CommitmentKey::from_bytes(&key.to_bytes()).unwrap().k(), k);
    }
}
