//! The link: a Schnorr proof that a halo2 proof is about the committed columns (`STATEMENT.md`, section 5).

use ff::{Field, PrimeField};
use group::{Curve, CurveAffine, GroupEncoding};
use halo2_proofs::arithmetic::best_multiexp;
use pasta_curves::{Eq, EqAffine, Fp};

use crate::entropy::fresh_generator;
use crate::error::ProveError;
use crate::fold::powers;
use crate::hash::{Absorb, Digest, Tag};
use crate::key::{CommitmentKey, LINK_GENERATORS, UNUSABLE, point_from_bytes, scalar_from_bytes};
use crate::layout::OFFSET;
use crate::linked::Randomness;

/// Bytes of a link: the nonce point and one response per generator.
pub const LINK_BYTES: usize = 32 * (1 + LINK_GENERATORS);

/// What is linked: the byte of its kind and the digest of what it is about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subject {
    pub(crate) kind: u8,
    pub(crate) anchor: Digest,
    pub(crate) adapter: Digest,
}

impl Subject {
    /// Binds subject and proof; every later challenge depends on it.
    pub(crate) fn bind(&self, proof: &[u8]) -> Digest {
        Absorb::new(Tag::Link)
            .bytes(&[self.kind])
            .digest(&self.anchor)
            .digest(&self.adapter)
            .bytes(&(proof.len() as u64).to_le_bytes())
            .bytes(proof)
            .finish()
    }
}

pub(crate) fn weight(bound: &Digest) -> Fp {
    let [chi] = Absorb::new(Tag::LinkWeight).digest(bound).challenges();
    chi
}

pub(crate) fn challenge(bound: &Digest, chi: Fp, nonce_point: &[u8; 32]) -> Fp {
    let [e] = Absorb::new(Tag::LinkChallenge).digest(bound).bytes(&chi.to_repr()).bytes(nonce_point).challenges();
    e
}

/// `sum_c chi^c (sum_i radix_i C'_ci - C_c - 2^15 G_0)`; `primes` holds `radix.len()` points per column.
pub(crate) fn difference(key: &CommitmentKey, chi: Fp, radix: &[Fp], primes: &[EqAffine], points: &[EqAffine]) -> Eq {
    let weights = powers(chi, points.len());
    let mut scalars: Vec<Fp> =
        weights.iter().flat_map(|weight| radix.iter().map(move |factor| *weight * factor)).collect();
    scalars.extend(weights.iter().map(|weight| -*weight));
    scalars.push(-weights.iter().sum::<Fp>() * Fp::from(OFFSET));
    let bases: Vec<EqAffine> = primes.iter().chain(points).copied().chain([key.sum]).collect();
    best_multiexp(&scalars, &bases)
}

/// The coordinates of [`difference`] on the link generators, from the prover's randomness.
pub(crate) fn coordinates(chi: Fp, radix: &[Fp], randomness: &[Randomness], blinds: &[Fp]) -> [Fp; LINK_GENERATORS] {
    let mut sums = [Fp::ZERO; LINK_GENERATORS];
    let offset = Fp::from(OFFSET);
    for ((weight, parts), blind) in
        powers(chi, blinds.len()).into_iter().zip(randomness.chunks_exact(radix.len())).zip(blinds)
    {
        for (row, sum) in sums.iter_mut().enumerate() {
            let added: Fp = match row {
                UNUSABLE => parts.iter().zip(radix).map(|(part, factor)| part.blind * factor).sum(),
                _ => parts.iter().zip(radix).map(|(part, factor)| part.unusable[row] * factor).sum(),
            };
            *sum += weight * (added - if row == UNUSABLE { *blind } else { offset });
        }
    }
    sums
}

pub(crate) fn combine(key: &CommitmentKey, scalars: &[Fp; LINK_GENERATORS]) -> Eq {
    key.link.iter().zip(scalars).map(|(generator, scalar)| *generator * scalar).sum()
}

/// Both sides of a link: the columns of the proof and those of the commitment.
pub(crate) struct Sides<'a> {
    /// A committed entry is this combination of proof columns.
    pub(crate) radix: &'a [Fp],
    /// `C'`, `radix.len()` per column of the commitment.
    pub(crate) primes: &'a [EqAffine],
    /// `C`
    pub(crate) points: &'a [EqAffine],
}

/// Makes the link of a proof.
///
/// # Errors
/// With `check`, [`ProveError::Opening`] if randomness and blinds do not explain the points: then the opening is
/// another commitment's, or halo2 drew its randomness in another order. Only forgers in tests go without.
pub(crate) fn prove(
    key: &CommitmentKey,
    subject: &Subject,
    proof: &[u8],
    sides: &Sides<'_>,
    randomness: &[Randomness],
    blinds: &[Fp],
    check: bool,
) -> Result<Vec<u8>, ProveError> {
    let bound = subject.bind(proof);
    let chi = weight(&bound);
    let secrets = coordinates(chi, sides.radix, randomness, blinds);
    let explained = || combine(key, &secrets) == difference(key, chi, sides.radix, sides.primes, sides.points);
    if check && (blinds.len() != sides.points.len() || !explained()) {
        return Err(ProveError::Opening);
    }
    let mut generator = fresh_generator()?;
    let nonces: [Fp; LINK_GENERATORS] = std::array::from_fn(|_| Fp::random(&mut generator));
    let nonce_point = combine(key, &nonces).to_affine().to_bytes();
    let e = challenge(&bound, chi, &nonce_point);
    let mut bytes = nonce_point.to_vec();
    for (nonce, secret) in nonces.iter().zip(secrets) {
        bytes.extend((*nonce + e * secret).to_repr());
    }
    Ok(bytes)
}

/// Checks the link of a proof; `false` for any bytes but a valid link.
pub(crate) fn verify(key: &CommitmentKey, subject: &Subject, proof: &[u8], sides: &Sides<'_>, link: &[u8]) -> bool {
    let (chunks, rest) = link.as_chunks::<32>();
    let Some((nonce_bytes, response_bytes)) = chunks.split_first() else { return false };
    if !rest.is_empty() || sides.primes.len() != sides.points.len() * sides.radix.len() {
        return false;
    }
    let Some(nonce_point) = point_from_bytes(nonce_bytes) else { return false };
    let responses: Option<Vec<Fp>> = response_bytes.iter().map(scalar_from_bytes).collect();
    let Some(Ok(responses)) = responses.map(<[Fp; LINK_GENERATORS]>::try_from) else { return false };
    let bound = subject.bind(proof);
    let chi = weight(&bound);
    let e = challenge(&bound, chi, nonce_bytes);
    let difference = difference(key, chi, sides.radix, sides.primes, sides.points);
    combine(key, &responses) == nonce_point.to_curve() + difference * e
}
