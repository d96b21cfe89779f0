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

use crate::bytes::Reader;
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

/// Adds the proof of one batch to the proofs before it: its length in four bytes, then its bytes.
pub(crate) fn append_batch(proofs: &mut Vec<u8>, proof: &[u8]) {
    proofs.extend((proof.len() as u32).to_le_bytes());
    proofs.extend(proof);
}

/// The proofs of `count` batches.
///
/// # Errors
/// The number of the first batch that is not all there, or `count` if bytes follow the last.
pub(crate) fn split_batches(bytes: &[u8], count: usize) -> Result<Vec<&[u8]>, usize> {
    let mut reader = Reader::new(bytes);
    let mut batch = || {
        let len = reader.u32()? as usize;
        reader.take(len)
    };
    let batches: Vec<_> = (0..count).map(|index| batch().map_err(|_| index)).collect::<Result<_, _>>()?;
    reader.end().map_err(|_| count)?;
    Ok(batches)
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

/// Whether `bytes` is a proof of these instances and nothing more.
pub(crate) fn verify(
    key: &CommitmentKey,
    verifying_key: &VerifyingKey<EqAffine>,
    instances: &[Vec<&[Fp]>],
    prefix: Fp,
    mut bytes: &[u8],
) -> bool {
    let instances: Vec<_> = instances.iter().map(Vec::as_slice).collect();
    let mut transcript = Blake2bRead::<_, EqAffine, Challenge255<_>>::init(&mut bytes);
    transcript.common_scalar(prefix).is_ok()
        && verify_proof(&key.params, verifying_key, SingleVerifier::new(&key.params), &instances, &mut transcript)
            .is_ok()
        && bytes.is_empty()
}

#[cfg(test)]
mod tests {
    use halo2_proofs::circuit::{Layouter, SimpleFloorPlanner, Value};
    use halo2_proofs::plonk::{Advice, Column};
    use halo2_proofs::poly::Rotation;
    use halo2_proofs::poly::commitment::Blind;
    use rand_core::SeedableRng;

    use super::*;

    const ADVICE: usize = 3;

    /// Three columns of one constant, in an order of columns that is visible in the commitments.
    #[derive(Clone)]
    struct Constants(u64);

    impl Circuit<Fp> for Constants {
        type Config = [Column<Advice>; ADVICE];
        type FloorPlanner = SimpleFloorPlanner;

        fn without_witnesses(&self) -> Self {
            self.clone()
        }

        fn configure(meta: &mut ConstraintSystem<Fp>) -> Self::Config {
            let columns = std::array::from_fn(|_| meta.advice_column());
            meta.create_gate("cubes differ by themselves", |meta| {
                let cells = columns.map(|column| meta.query_advice(column, Rotation::cur()));
                [cells[0].clone()
                    * cells[1].clone()
                    * cells[2].clone()
                    * meta.query_advice(columns[0], Rotation::cur())
                    - cells[0].clone() * cells[1].clone() * cells[2].clone() * cells[0].clone()]
            });
            columns
        }

        fn synthesize(&self, columns: Self::Config, mut layouter: impl Layouter<Fp>) -> Result<(), Error> {
            layouter.assign_region(
                || "constants",
                |mut region| {
                    for (column, value) in columns.iter().zip(self.0..) {
                        region.assign_advice(|| "constant", *column, 1, || Value::known(Fp::from(value)))?;
                    }
                    Ok(())
                },
            )
        }
    }

    /// The assumption of the whole link; it fails when a release of halo2 draws randomness in another order.
    #[test]
    fn halo2_draws_unusable_rows_then_blinds_circuit_by_circuit() {
        let key = CommitmentKey::generate(6).unwrap();
        let columns = Columns { advice: ADVICE, linked: ADVICE };
        let circuits = [Constants(10), Constants(20)];
        let proving_key = proving_key(&key, &circuits[0]).unwrap();
        let generator = ChaCha20Rng::seed_from_u64(5);
        let instances = [Vec::new(), Vec::new()];
        let (proof, randomness) =
            prove(&key, &proving_key, &circuits, &instances, columns, Fp::from(9), generator).unwrap();
        let points = linked_points(&proof, circuits.len(), columns).unwrap();
        assert_eq!(points.len(), randomness.len());
        for (index, (point, drawn)) in points.iter().zip(&randomness).enumerate() {
            let mut values = vec![Fp::ZERO; 1 << 6];
            values[1] = Fp::from(circuits[index / ADVICE].0 + (index % ADVICE) as u64);
            values[(1 << 6) - UNUSABLE..].copy_from_slice(&drawn.unusable);
            let expected = key.params.commit_lagrange(&key.domain.lagrange_from_vec(values), Blind(drawn.blind));
            assert_eq!(EqAffine::from(expected), *point, "column {index}");
        }
        let verifies = |prefix, bytes: &[u8]| verify(&key, proving_key.get_vk(), &instances, Fp::from(prefix), bytes);
        assert!(verifies(9, &proof));
        assert!(!verifies(8, &proof), "prefix");
        assert!(!verifies(9, &[&proof[..], &[0]].concat()), "halo2 itself accepts bytes after the end");
    }
}
