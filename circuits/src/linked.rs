//! halo2 proofs of which the prover knows the randomness, so that their advice commitments can be linked.
//!
//! This module relies on the order in which halo2_proofs 0.4.1 draws randomness (`STATEMENT.md`, section 5).

use ff::Field;
use halo2_proofs::plonk::{
    Circuit, ConstraintSystem, Error, ProvingKey, SingleVerifier, VerifyingKey, create_proof, keygen_pk, keygen_vk,
    verify_proof,
};
use halo2_proofs::transcript::{Blake2bRead, Blake2bWrite, Challenge255, Transcript};
use pasta_curves::{EqAffine, Fp};
use rand_chacha::ChaCha20Rng;
use rayon::prelude::*;

use crate::key::{CommitmentKey, UNUSABLE, point_from_bytes};

/// What halo2 adds to the values of one advice column.
#[derive(Clone, Debug)]
pub(crate) struct Randomness {
    pub(crate) unusable: [Fp; UNUSABLE],
    pub(crate) blind: Fp,
}

/// Columns of a circuit and how many of the first are linked to a commitment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Columns {
    pub(crate) advice: usize,
    pub(crate) linked: usize,
}

/// Keys of a circuit; they depend on its shape alone.
pub(crate) fn verifying_key<C: Circuit<Fp>>(key: &CommitmentKey, empty: &C) -> Result<VerifyingKey<EqAffine>, Error> {
    let mut system = ConstraintSystem::default();
    C::configure(&mut system);
    assert_eq!(system.blinding_factors() + 1, UNUSABLE, "the link covers exactly the rows halo2 fills at random");
    keygen_vk(&key.params, empty)
}

pub(crate) fn proving_key<C: Circuit<Fp>>(key: &CommitmentKey, empty: &C) -> Result<ProvingKey<EqAffine>, Error> {
    keygen_pk(&key.params, verifying_key(key, empty)?, empty)
}

/// One proof of several circuits, with the randomness of their linked columns.
pub(crate) fn prove<C: Circuit<Fp>>(
    key: &CommitmentKey,
    proving_key: &ProvingKey<EqAffine>,
    circuits: &[C],
    instances: &[Vec<&[Fp]>],
    columns: Columns,
    prefix: Fp,
    generator: ChaCha20Rng,
) -> Result<(Vec<u8>, Vec<Randomness>), Error> {
    let randomness = replay(generator.clone(), circuits.len(), columns);
    let instances: Vec<_> = instances.iter().map(Vec::as_slice).collect();
    let mut transcript = Blake2bWrite::<_, EqAffine, Challenge255<_>>::init(Vec::new());
    transcript.common_scalar(prefix)?;
    create_proof(&key.params, proving_key, circuits, &instances, generator, &mut transcript)?;
    Ok((transcript.finalize(), randomness))
}

/// Draws what `create_proof` draws first: per circuit the unusable rows of every column, then every column's blind.
fn replay(mut generator: ChaCha20Rng, circuits: usize, columns: Columns) -> Vec<Randomness> {
    let mut randomness = Vec::with_capacity(circuits * columns.linked);
    for _ in 0..circuits {
        let unusable: Vec<[Fp; UNUSABLE]> =
            (0..columns.advice).map(|_| std::array::from_fn(|_| Fp::random(&mut generator))).collect();
        let blinds: Vec<Fp> = (0..columns.advice).map(|_| Fp::random(&mut generator)).collect();
        let linked = unusable.into_iter().zip(blinds).take(columns.linked);
        randomness.extend(linked.map(|(unusable, blind)| Randomness { unusable, blind }));
    }
    randomness
}

/// The commitments to the linked columns, which a proof begins with; `None` if it is too short or they are no points.
pub(crate) fn linked_points(proof: &[u8], circuits: usize, columns: Columns) -> Option<Vec<EqAffine>> {
    let (chunks, _) = proof.as_chunks::<32>();
    let points = chunks.get(..circuits * columns.advice)?;
    points
        .par_iter()
        .enumerate()
        .filter(|(index, _)| index % columns.advice < columns.linked)
        .map(|(_, bytes)| point_from_bytes(bytes))
        .collect()
}

/// Verifies the proof that `bytes` begins with and leaves what follows it; `false` if it does not verify.
pub(crate) fn verify(
    key: &CommitmentKey,
    verifying_key: &VerifyingKey<EqAffine>,
    instances: &[Vec<&[Fp]>],
    prefix: Fp,
    bytes: &mut &[u8],
) -> bool {
    let instances: Vec<_> = instances.iter().map(Vec::as_slice).collect();
    let mut transcript = Blake2bRead::<_, EqAffine, Challenge255<_>>::init(bytes);
    transcript.common_scalar(prefix).is_ok()
        && verify_proof(&key.params, verifying_key, SingleVerifier::new(&key.params), &instances, &mut transcript)
            .is_ok()
}
