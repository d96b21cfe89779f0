//! Pedersen commitments to columns of field elements, and points as they are sent (`STATEMENT.md`, section 3).

use ff::Field;
use group::{Curve, CurveAffine, GroupEncoding};
use halo2_proofs::poly::commitment::Blind;
use pasta_curves::{Eq, EqAffine, Fp};
use rand_chacha::ChaCha20Rng;
use rayon::prelude::*;

use crate::bytes::Reader;
use crate::cores;
use crate::entropy::fresh_generator;
use crate::error::ProveError;
use crate::key::{CommitmentKey, UNUSABLE, point_from_bytes};
use crate::layout::OFFSET;

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

/// `C_c` of each column: the commitment to `w + 2^15` in all rows (small scalars), less that to the offset.
pub(crate) fn column_points(key: &CommitmentKey, columns: &[Vec<Fp>], blinds: &[Fp]) -> Vec<EqAffine> {
    let offset = key.offset();
    let point = |column: usize| {
        let mut values: Vec<Fp> = columns[column].iter().map(|value| *value + Fp::from(OFFSET)).collect();
        values.resize(1 << key.k(), Fp::from(OFFSET));
        key.params.commit_lagrange(&key.domain.lagrange_from_vec(values), Blind(blinds[column])) - offset
    };
    affine(&cores::map(columns.len(), point, &mut |_, _| {}))
}

/// Points in the form they are sent in.
pub(crate) fn affine(projective: &[Eq]) -> Vec<EqAffine> {
    let mut points = vec![EqAffine::identity(); projective.len()];
    Eq::batch_normalize(projective, &mut points);
    points
}

/// Commits to columns with fresh blinds and zeros in the last rows.
pub(crate) fn commit_columns(key: &CommitmentKey, columns: &[Vec<Fp>]) -> Result<Vec<Committed>, ProveError> {
    let mut generator: ChaCha20Rng = fresh_generator()?;
    let blinds: Vec<Fp> = columns.iter().map(|_| Fp::random(&mut generator)).collect();
    let commit = |(column, blind): (&Vec<Fp>, &Fp)| {
        // Most of a small adapter's multiplicities are.
        if column.iter().all(|value| bool::from(value.is_zero())) {
            return key.link[UNUSABLE] * blind;
        }
        let mut values = column.clone();
        values.resize(1 << key.k(), Fp::ZERO);
        key.params.commit_lagrange(&key.domain.lagrange_from_vec(values), Blind(*blind))
    };
    let points: Vec<_> = columns.par_iter().zip(&blinds).map(commit).collect();
    let committed = affine(&points)
        .into_iter()
        .zip(blinds)
        .map(|(point, blind)| Committed { point, randomness: Randomness { unusable: [Fp::ZERO; UNUSABLE], blind } });
    Ok(committed.collect())
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
