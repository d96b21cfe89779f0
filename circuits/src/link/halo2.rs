//! halo2 proofs of which the prover knows the randomness, so that their advice commitments can be linked.
//!
//! This module relies on the order in which halo2_proofs 0.4.1 draws randomness (`STATEMENT.md`, section 5).

use ff::Field;
use halo2_proofs::plonk::{
    Circuit, ConstraintSystem, Error, ProvingKey, VerificationStrategy, VerifyingKey, create_proof, keygen_pk,
    keygen_vk, verify_proof,
};
use halo2_proofs::poly::commitment::{Guard, MSM, Params};
use halo2_proofs::transcript::{Blake2bRead, Blake2bWrite, Challenge255, EncodedChallenge, Transcript};
use pasta_curves::{EqAffine, Fp};
use rand_core::Rng;

use crate::columns::{Committed, Randomness};
use crate::key::{CommitmentKey, UNUSABLE, point_from_bytes};

/// Columns of a circuit and how many of the first are linked to a commitment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CircuitColumns {
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

/// A proof of one circuit, and its linked columns.
pub(crate) fn prove<C: Circuit<Fp>, R: Rng + Clone>(
    key: &CommitmentKey,
    proving_key: &ProvingKey<EqAffine>,
    circuit: C,
    instances: &[&[Fp]],
    columns: CircuitColumns,
    prefix: Fp,
    generator: R,
) -> Result<(Vec<u8>, Vec<Committed>), Error> {
    let randomness = replay(generator.clone(), columns);
    let mut transcript = Blake2bWrite::<_, EqAffine, Challenge255<_>>::init(Vec::new());
    transcript.common_scalar(prefix)?;
    create_proof(&key.params, proving_key, &[circuit], &[instances], generator, &mut transcript)?;
    let proof = transcript.finalize();
    let points = linked_points(&proof, columns).expect("a proof begins with its advice commitments");
    let committed = points.into_iter().zip(randomness).map(|(point, randomness)| Committed { point, randomness });
    Ok((proof, committed.collect()))
}

/// Draws what `create_proof` draws first: the unusable rows of every column, then every column's blind.
fn replay(mut generator: impl Rng, columns: CircuitColumns) -> Vec<Randomness> {
    let unusable: Vec<[Fp; UNUSABLE]> =
        (0..columns.advice).map(|_| std::array::from_fn(|_| Fp::random(&mut generator))).collect();
    let blinds = std::iter::repeat_with(|| Fp::random(&mut generator));
    let all = unusable.into_iter().zip(blinds).map(|(unusable, blind)| Randomness { unusable, blind });
    all.take(columns.linked).collect()
}

/// The commitments to the linked columns, which a proof begins with; `None` if it is too short or they are no points.
pub(crate) fn linked_points(proof: &[u8], columns: CircuitColumns) -> Option<Vec<EqAffine>> {
    let (chunks, _) = proof.as_chunks::<32>();
    chunks.get(..columns.linked)?.iter().map(point_from_bytes).collect()
}

/// Leaves the sum that decides over a proof to the caller.
struct Deferred<'k>(&'k Params<EqAffine>);

impl<'k> VerificationStrategy<'k, EqAffine> for Deferred<'k> {
    type Output = MSM<'k, EqAffine>;

    fn process<E: EncodedChallenge<EqAffine>>(
        self,
        f: impl FnOnce(MSM<'k, EqAffine>) -> Result<Guard<'k, EqAffine, E>, Error>,
    ) -> Result<Self::Output, Error> {
        Ok(f(self.0.empty_msm())?.use_challenges())
    }
}

/// The sum that is the identity if `bytes` is a proof of these instances; `None` for what cannot be one.
pub(crate) fn verify<'k>(
    key: &'k CommitmentKey,
    verifying_key: &VerifyingKey<EqAffine>,
    instances: &[&[Fp]],
    prefix: Fp,
    mut bytes: &[u8],
) -> Option<MSM<'k, EqAffine>> {
    let mut transcript = Blake2bRead::<_, EqAffine, Challenge255<_>>::init(&mut bytes);
    transcript.common_scalar(prefix).ok()?;
    let sum = verify_proof(&key.params, verifying_key, Deferred(&key.params), &[instances], &mut transcript).ok()?;
    bytes.is_empty().then_some(sum)
}

#[cfg(test)]
mod tests {
    use halo2_proofs::circuit::{Layouter, SimpleFloorPlanner, Value};
    use halo2_proofs::plonk::{Advice, Column};
    use halo2_proofs::poly::Rotation;
    use halo2_proofs::poly::commitment::Blind;
    use rand_chacha::ChaCha20Rng;
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
    fn halo2_draws_unusable_rows_then_blinds_column_by_column() {
        let key = CommitmentKey::generate(6).unwrap();
        let columns = CircuitColumns { advice: ADVICE, linked: ADVICE };
        let circuit = Constants(10);
        let proving_key = proving_key(&key, &circuit).unwrap();
        let generator = ChaCha20Rng::seed_from_u64(5);
        let (proof, committed) = prove(&key, &proving_key, circuit, &[], columns, Fp::from(9), generator).unwrap();
        assert_eq!(committed.len(), ADVICE);
        for (index, Committed { point, randomness }) in committed.iter().enumerate() {
            let mut values = vec![Fp::ZERO; 1 << 6];
            values[1] = Fp::from(10 + index as u64);
            values[(1 << 6) - UNUSABLE..].copy_from_slice(&randomness.unusable);
            let expected = key.params.commit_lagrange(&key.domain.lagrange_from_vec(values), Blind(randomness.blind));
            assert_eq!(EqAffine::from(expected), *point, "column {index}");
        }
        let verifies = |prefix, bytes: &[u8]| {
            verify(&key, proving_key.get_vk(), &[], Fp::from(prefix), bytes).is_some_and(MSM::eval)
        };
        assert!(verifies(9, &proof));
        assert!(!verifies(8, &proof), "prefix");
        assert!(!verifies(9, &[&proof[..], &[0]].concat()), "halo2 itself accepts bytes after the end");
    }

    /// Queries a column in eight rows: halo2 fills eleven rows at random, of which the link would cover six.
    struct EightRotations;

    impl Circuit<Fp> for EightRotations {
        type Config = ();
        type FloorPlanner = SimpleFloorPlanner;

        fn without_witnesses(&self) -> Self {
            Self
        }

        fn configure(meta: &mut ConstraintSystem<Fp>) {
            let column = meta.advice_column();
            meta.create_gate("the sum of eight rows", |meta| {
                let rows = (0..8).map(|at| meta.query_advice(column, Rotation(at)));
                rows.reduce(|sum, row| sum + row)
            });
        }

        fn synthesize(&self, (): (), _: impl Layouter<Fp>) -> Result<(), Error> {
            Ok(())
        }
    }

    #[test]
    #[should_panic(expected = "the link covers exactly the rows halo2 fills at random")]
    fn a_circuit_with_more_rotations_has_no_key() {
        let _ = verifying_key(&CommitmentKey::generate(6).unwrap(), &EightRotations);
    }
}
