//! What must be accepted.

use super::support::*;
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
