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

/// Three panels in two proofs; a wrong delta is refused by the proof its site is in.
#[test]
fn an_adapter_of_several_panels_is_proved_in_batches() {
    let site = |name| shape(name, 8, 16_000, 16_000);
    let mut case = Case::new(&[site("q"), site("k"), site("v")]);
    assert_eq!((case.commitment.k(), case.commitment.layout.panels), (PREFERRED_K, 3));
    let mut calls = Vec::new();
    let (commitment, opening) = (&case.commitment, &case.opening);
    let proof = prove(case.key, &case.statement, commitment, opening, &case.factors, &case.sites, &mut |done, all| {
        calls.push((done, all));
    })
    .unwrap();
    assert_eq!(calls, [(0, 2), (1, 2), (2, 2)]);
    assert_eq!(case.verify(&proof), Ok(()));
    let (first, second) = proof.proof.split_at(4 + u32::from_le_bytes(*proof.proof.first_chunk().unwrap()) as usize);
    let swapped = DeltaProof { proof: [second, first].concat(), link: proof.link.clone() };
    assert_eq!(case.verify(&swapped), Err(CheckFailed::DeltaProof(0)));
    let missing = DeltaProof { proof: first.to_vec(), link: proof.link.clone() };
    assert_eq!(case.verify(&missing), Err(CheckFailed::DeltaProof(1)));
    case.sites[2].deltas[0] += 1;
    assert_eq!(case.verify(&proof), Err(CheckFailed::DeltaProof(0)), "all transcripts depend on all deltas");
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
