//! What must be accepted.

use std::sync::atomic::{AtomicUsize, Ordering};

use ff::{Field, PrimeField};
use pasta_curves::Fp;

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

/// More columns than are usual, and more sites than one column has rows.
#[test]
fn large_adapters_take_several_strips() {
    let shapes: Vec<_> = (0..70).map(|i| shape(&format!("s{i}"), 1 + i % 16, 20 + i, 9)).collect();
    let case = Case::new(&shapes);
    assert_eq!((case.commitment.k(), case.commitment.layout.columns()), (8, 16 * 20));
    let proof = case.prove();
    assert_eq!(case.verify(&proof), Ok(()));
    let mut calls = Vec::new();
    let registration = register(case.key, &case.commitment, &case.opening, &case.factors, &mut |done, all| {
        calls.push((done, all));
    });
    assert_eq!(calls, [(0, 2), (1, 2), (2, 2)], "a tree, and what is left");
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
    fn deltas<'a>(case: &'a Case, proof: &'a DeltaProof) -> DeferredClaim<'a> {
        let Case { key, statement, commitment, sites, .. } = case;
        DeferredClaim::Deltas { key, statement, commitment, sites, proof }
    }
    let registered =
        DeferredClaim::Registration { key: small.key, commitment: &small.commitment, registration: &registration };
    let good = [deltas(&small, &proof), registered, deltas(&wide, &far), deltas(&small, &other)];
    assert_eq!(verify_all(&good, &|_| false), vec![Ok(()); 4]);
    assert_eq!(verify_all(&[], &|_| false), []);
    let mut mixed = good.to_vec();
    mixed.insert(1, deltas(&small, &crossed));
    mixed.push(DeferredClaim::Registration {
        key: small.key,
        commitment: &small.commitment,
        registration: &registration[1..],
    });
    let refused = [Err(CheckFailed::Link), Err(CheckFailed::RegistrationProof)];
    assert_eq!(
        verify_all(&mixed, &|_| false),
        [Ok(()), refused[0].clone(), Ok(()), Ok(()), Ok(()), refused[1].clone()]
    );
}

/// Two false claims whose errors are opposite points: unweighed sums would add up to nothing.
#[test]
fn errors_that_cancel_are_refused_and_the_false_claims_named() {
    let small = Case::small();
    let (first, second, third) = (small.prove(), small.prove(), small.prove());
    let registration = small.register();
    // Moves a response of a link, and with it the sum by that many times a generator.
    let moved = |link: &[u8], response: usize, by: Fp| {
        let mut link = link.to_vec();
        let bytes = &mut link[32 * (1 + response)..][..32];
        let honest = Fp::from_repr(<[u8; 32]>::try_from(&*bytes).unwrap()).unwrap();
        bytes.copy_from_slice(&(honest + by).to_repr());
        link
    };
    fn deltas<'a>(case: &'a Case, proof: &'a DeltaProof) -> DeferredClaim<'a> {
        let Case { key, statement, commitment, sites, .. } = case;
        DeferredClaim::Deltas { key, statement, commitment, sites, proof }
    }
    fn registered<'a>(case: &'a Case, registration: &'a [u8]) -> DeferredClaim<'a> {
        DeferredClaim::Registration { key: case.key, commitment: &case.commitment, registration }
    }
    let unweighed = |claims: &[DeferredClaim<'_>]| {
        let begun: Vec<_> = claims.iter().map(|claim| claim.begin(&|| false).unwrap()).collect();
        let mut sums = begun.iter().flat_map(|checks| &checks.checks).map(|check| &check.sum);
        let mut total = sums.next().unwrap().clone();
        sums.for_each(|sum| total.add_msm(sum));
        total.eval()
    };
    for response in [0, 6] {
        let link = |proof: &DeltaProof, by| {
            let link = moved(&proof.link, response, by);
            DeltaProof { proof: proof.proof.clone(), link }
        };
        let (plus, minus) = (link(&first, Fp::ONE), link(&second, -Fp::ONE));
        let pair = [deltas(&small, &plus), deltas(&small, &minus)];
        assert!(unweighed(&pair), "the errors cancel");
        assert!(!unweighed(&pair[..1]) && !unweighed(&pair[1..]), "and are errors");
        assert_eq!(verify_all(&pair, &|_| false), vec![Err(CheckFailed::Link); 2]);
        // Among others that are right; of one kind and the other; one that is wrong alone.
        let (right, range) = (deltas(&small, &third), registered(&small, &registration));
        let among = verify_all(&[right, pair[0], range, pair[1], right], &|_| false);
        assert_eq!(among, [Ok(()), Err(CheckFailed::Link), Ok(()), Err(CheckFailed::Link), Ok(())]);
        let bytes = [moved(&registration[..LINK_BYTES], response, -Fp::ONE), registration[LINK_BYTES..].to_vec()];
        let bytes = bytes.concat();
        let kinds = [pair[0], registered(&small, &bytes)];
        assert!(unweighed(&kinds));
        assert_eq!(verify_all(&kinds, &|_| false), [Err(CheckFailed::Link), Err(CheckFailed::RegistrationLink)]);
        let alone = verify_all(&[right, range, pair[1], right], &|_| false);
        assert_eq!(alone, [Ok(()), Ok(()), Err(CheckFailed::Link), Ok(())]);
    }
}

/// Whoever verifies is asked for each claim by its number, and has the last word on it.
#[test]
fn a_claim_can_be_left_and_the_others_are_judged() {
    let small = Case::small();
    let (proof, registration) = (small.prove(), small.register());
    let Case { key, statement, commitment, sites, .. } = &small;
    let deltas = DeferredClaim::Deltas { key, statement, commitment, sites, proof: &proof };
    let claims = [deltas, DeferredClaim::Registration { key, commitment, registration: &registration }, deltas];
    for left in 0..3 {
        let verdicts = verify_all(&claims, &|claim| claim == left);
        let expected = |claim| if claim == left { Err(CheckFailed::Stopped) } else { Ok(()) };
        assert_eq!(verdicts, (0..3).map(expected).collect::<Vec<_>>());
    }
    // Asked before every part: whenever the answer is yes for the first time, the claim is left.
    for claim in &claims[..2] {
        let asked = AtomicUsize::new(0);
        let count = |_: usize| {
            asked.fetch_add(1, Ordering::Relaxed);
            false
        };
        assert_eq!(verify_all(std::slice::from_ref(claim), &count), [Ok(())]);
        let times = asked.into_inner();
        assert!(times > 3, "{times}");
        for last in 0..times {
            let asked = AtomicUsize::new(0);
            let stop = |_: usize| asked.fetch_add(1, Ordering::Relaxed) >= last;
            assert_eq!(verify_all(std::slice::from_ref(claim), &stop), [Err(CheckFailed::Stopped)], "{last}");
        }
    }
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
