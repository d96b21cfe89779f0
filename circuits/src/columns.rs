//! Pedersen commitments to columns of field elements, and points as they are sent (`STATEMENT.md`, section 3).

use ff::{Field, PrimeField};
use group::GroupEncoding;
use halo2_proofs::poly::commitment::Blind;
use pasta_curves::{EqAffine, Fp};
use rand_chacha::ChaCha20Rng;
use rayon::prelude::*;

use crate::bytes::Reader;
use crate::key::{CommitmentKey, UNUSABLE, point_from_bytes};
use crate::points::{Buckets, affine};

/// What is added to the values of one committed column: zeros and a blind by us, more by halo2. Nothing may print it.
#[derive(Clone, Copy)]
pub(crate) struct Randomness {
    pub(crate) unusable: [Fp; UNUSABLE],
    pub(crate) blind: Fp,
}

/// A committed column and what its prover knows of it beyond the rows of meaning, which nothing may print.
#[derive(Clone, Copy)]
pub(crate) struct Committed {
    pub(crate) point: EqAffine,
    pub(crate) randomness: Randomness,
}

/// Integers up to this in absolute value are added by buckets: entries of an adapter, counts.
const SMALL: i64 = 1 << 31;

/// The integers that field elements are, if they are small.
fn integers(values: &[Fp]) -> Option<Vec<i64>> {
    let integer = |value: &Fp| {
        let small = |value: &Fp| {
            let repr = value.to_repr();
            let (low, high) = repr.split_first_chunk()?;
            let low = u64::from_le_bytes(*low);
            (high.iter().all(|byte| *byte == 0) && low <= SMALL as u64).then_some(low as i64)
        };
        small(value).or_else(|| small(&-value).map(|negative| -negative))
    };
    values.iter().map(integer).collect()
}

/// `C_c` of each column, whose rows past its end are zero.
pub(crate) fn column_points(key: &CommitmentKey, columns: &[Vec<Fp>], blinds: &[Fp]) -> Vec<EqAffine> {
    let bases = key.bases();
    let point = |buckets: &mut Buckets, (column, blind): (&Vec<Fp>, &Fp)| {
        let sum = match integers(column) {
            Some(integers) => buckets.sum(&bases.rows, &integers),
            None => {
                let mut values = column.clone();
                values.resize(1 << key.k(), Fp::ZERO);
                key.params.commit_lagrange(&key.domain.lagrange_from_vec(values), Blind(Fp::ZERO))
            }
        };
        sum + bases.blind.times(blind)
    };
    affine(&columns.par_iter().zip(blinds).map_init(Buckets::default, point).collect::<Vec<_>>())
}

/// The same of columns of small integers, with fresh blinds.
pub(crate) fn commit_integers(key: &CommitmentKey, columns: &[Vec<i32>], random: &mut ChaCha20Rng) -> Vec<Committed> {
    let bases = key.bases();
    let blinds: Vec<Fp> = columns.iter().map(|_| Fp::random(&mut *random)).collect();
    let point = |(buckets, values): &mut (Buckets, Vec<i64>), (column, blind): (&Vec<i32>, &Fp)| {
        values.clear();
        values.extend(column.iter().map(|value| i64::from(*value)));
        buckets.sum(&bases.rows, values) + bases.blind.times(blind)
    };
    let points = columns.par_iter().zip(&blinds).map_init(Default::default, point).collect::<Vec<_>>();
    let committed = affine(&points)
        .into_iter()
        .zip(blinds)
        .map(|(point, blind)| Committed { point, randomness: Randomness { unusable: [Fp::ZERO; UNUSABLE], blind } });
    committed.collect()
}

/// Commits to columns with fresh blinds and zeros in the last rows.
pub(crate) fn commit_columns(key: &CommitmentKey, columns: &[Vec<Fp>], random: &mut ChaCha20Rng) -> Vec<Committed> {
    let blinds: Vec<Fp> = columns.iter().map(|_| Fp::random(&mut *random)).collect();
    let committed = column_points(key, columns, &blinds)
        .into_iter()
        .zip(blinds)
        .map(|(point, blind)| Committed { point, randomness: Randomness { unusable: [Fp::ZERO; UNUSABLE], blind } });
    committed.collect()
}

pub(crate) fn append_points(bytes: &mut Vec<u8>, points: &[EqAffine]) {
    bytes.extend(points.iter().flat_map(|point| point.to_bytes()));
}

/// `count` points; `None` if there are fewer, or they are none.
pub(crate) fn read_points(reader: &mut Reader<'_>, count: usize) -> Option<Vec<EqAffine>> {
    let bytes = reader.take(count.checked_mul(32)?).ok()?;
    let (chunks, _) = bytes.as_chunks::<32>();
    chunks.iter().map(point_from_bytes).collect()
}

#[cfg(test)]
mod tests {
    use rand_core::SeedableRng;

    use super::*;

    /// Small columns, and one that is not, by buckets and by halo2.
    #[test]
    fn columns_are_committed_to_as_halo2_does() {
        let key = CommitmentKey::generate(6).unwrap();
        let mut generator = ChaCha20Rng::seed_from_u64(9);
        let small = |values: &[i64]| values.iter().map(|value| crate::field::signed((*value).into())).collect();
        let mut columns: Vec<Vec<Fp>> = vec![
            Vec::new(),
            vec![Fp::ZERO; 32],
            small(&[i64::from(i16::MIN), i64::from(i16::MAX), -1, 0, 1]),
            small(&[SMALL, -SMALL, 3]),
            small(&[SMALL + 1, 3]),
            small(&[-SMALL - 1, 3]),
            vec![Fp::TWO_INV, Fp::ONE],
            small(&[i64::from(i16::MIN); 32]),
        ];
        columns.push((0..32).map(|_| Fp::random(&mut generator)).collect());
        let blinds: Vec<Fp> = columns.iter().map(|_| Fp::random(&mut generator)).collect();
        let points = column_points(&key, &columns, &blinds);
        for ((column, blind), point) in columns.iter().zip(blinds).zip(points) {
            let mut values = column.clone();
            values.resize(1 << key.k(), Fp::ZERO);
            let expected = key.params.commit_lagrange(&key.domain.lagrange_from_vec(values), Blind(blind));
            assert_eq!(EqAffine::from(expected), point, "{column:?}");
        }
    }
}
