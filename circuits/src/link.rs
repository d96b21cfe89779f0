//! The link: a Schnorr proof that a halo2 proof is about the committed columns (`STATEMENT.md`, section 5).

pub(crate) mod halo2;

use ff::{Field, PrimeField};
use group::{Curve, GroupEncoding};
use halo2_proofs::arithmetic::best_multiexp;
use halo2_proofs::poly::commitment::MSM;
use pasta_curves::{Eq, EqAffine, Fp};
use rand_chacha::ChaCha20Rng;

use crate::columns::Committed;
use crate::error::ProveError;
use crate::field::powers;
use crate::hash::{Absorb, Digest, Tag};
use crate::key::{CommitmentKey, LINK_GENERATORS, UNUSABLE, point_from_bytes, scalar_from_bytes};

/// Bytes of a link: the nonce point and one response per generator.
pub const LINK_BYTES: usize = 32 * (1 + LINK_GENERATORS);

/// What is linked: the byte of its kind and the digest of what it is about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LinkSubject {
    pub(crate) kind: u8,
    pub(crate) anchor: Digest,
    pub(crate) adapter: Digest,
}

impl LinkSubject {
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

/// That `sum factor * column` vanishes in all rows but the last; columns are points to the verifier and
/// [`Committed`] to the prover.
#[derive(Clone, Debug)]
pub(crate) struct Equation<T> {
    pub(crate) terms: Vec<(Fp, T)>,
}

impl<T> Equation<T> {
    /// That two columns are equal.
    pub(crate) fn equal(left: T, right: T) -> Self {
        Self { terms: vec![(Fp::ONE, left), (-Fp::ONE, right)] }
    }

    /// `sum_i chi^i` times the equations.
    fn sum(chi: Fp, equations: Vec<Self>) -> Self {
        let mut sum = Self { terms: Vec::new() };
        for (weight, equation) in powers(chi, equations.len()).into_iter().zip(equations) {
            sum.terms.extend(equation.terms.into_iter().map(|(factor, column)| (weight * factor, column)));
        }
        sum
    }
}

impl Equation<Committed> {
    /// The point that must lie in the span of the link generators.
    fn point(&self) -> Eq {
        let (scalars, bases): (Vec<Fp>, Vec<EqAffine>) =
            self.terms.iter().map(|(factor, column)| (factor, column.point)).unzip();
        best_multiexp(&scalars, &bases)
    }

    /// That point's coordinates on the link generators.
    fn coordinates(&self) -> [Fp; LINK_GENERATORS] {
        let mut sums = [Fp::ZERO; LINK_GENERATORS];
        for (factor, Committed { randomness, .. }) in &self.terms {
            for (sum, value) in sums.iter_mut().zip(&randomness.unusable) {
                *sum += *factor * value;
            }
            sums[UNUSABLE] += *factor * randomness.blind;
        }
        sums
    }

    /// Whether the columns satisfy it, as far as their prover knows.
    #[cfg(test)]
    pub(crate) fn holds(key: &CommitmentKey, chi: Fp, equations: Vec<Self>) -> bool {
        let sum = Self::sum(chi, equations);
        combine(key, &sum.coordinates()) == sum.point()
    }
}

pub(crate) fn combine(key: &CommitmentKey, scalars: &[Fp; LINK_GENERATORS]) -> Eq {
    key.link.iter().zip(scalars).map(|(generator, scalar)| *generator * scalar).sum()
}

/// Makes the link of a proof.
///
/// # Errors
/// With `check`, [`ProveError::Opening`] if the randomness does not explain the points: then the opening is
/// another commitment's, or halo2 drew its randomness in another order. Only forgers in tests go without.
pub(crate) fn prove(
    key: &CommitmentKey,
    subject: &LinkSubject,
    proof: &[u8],
    equations: Vec<Equation<Committed>>,
    random: &mut ChaCha20Rng,
    check: bool,
) -> Result<Vec<u8>, ProveError> {
    let bound = subject.bind(proof);
    let chi = weight(&bound);
    let sum = Equation::sum(chi, equations);
    let secrets = sum.coordinates();
    if check && combine(key, &secrets) != sum.point() {
        return Err(ProveError::Opening);
    }
    let nonces: [Fp; LINK_GENERATORS] = std::array::from_fn(|_| Fp::random(&mut *random));
    let nonce_point = combine(key, &nonces).to_affine().to_bytes();
    let e = challenge(&bound, chi, &nonce_point);
    let mut bytes = nonce_point.to_vec();
    for (nonce, secret) in nonces.iter().zip(secrets) {
        bytes.extend((*nonce + e * secret).to_repr());
    }
    Ok(bytes)
}

/// The nonce point and the responses of a link; `None` for bytes that are no link.
fn parts(link: &[u8]) -> Option<(&[u8; 32], EqAffine, Vec<Fp>)> {
    let (chunks, rest) = link.as_chunks::<32>();
    let (nonce_bytes, response_bytes) = chunks.split_first()?;
    let nonce_point = point_from_bytes(nonce_bytes)?;
    let responses: Vec<Fp> = response_bytes.iter().map(scalar_from_bytes).collect::<Option<_>>()?;
    (rest.is_empty() && responses.len() == LINK_GENERATORS).then_some((nonce_bytes, nonce_point, responses))
}

/// Whether bytes have the form of a link, whatever it is of.
pub(crate) fn is_link(link: &[u8]) -> bool {
    parts(link).is_some()
}

/// The sum that is the identity if the link of a proof is right; `None` for bytes that are no link.
pub(crate) fn verify<'k>(
    key: &'k CommitmentKey,
    subject: &LinkSubject,
    proof: &[u8],
    equations: Vec<Equation<EqAffine>>,
    link: &[u8],
) -> Option<LinkSum<'k>> {
    let (nonce_bytes, nonce_point, responses) = parts(link)?;
    let bound = subject.bind(proof);
    let chi = weight(&bound);
    let e = challenge(&bound, chi, nonce_bytes);
    let Equation { terms } = Equation::sum(chi, equations);
    let mut sum = key.params.empty_msm();
    for (response, generator) in responses.iter().zip(&key.link) {
        sum.append_term(-*response, generator.to_affine());
    }
    sum.append_term(Fp::ONE, nonce_point);
    for (factor, point) in terms {
        sum.append_term(e * factor, point);
    }
    let seed = Absorb::new(Tag::Batch).digest(&bound).bytes(link).finish();
    Some(LinkSum { sum, seed })
}

/// What a link leaves to be checked.
#[derive(Debug)]
pub(crate) struct LinkSum<'k> {
    /// The identity if the link is right.
    pub(crate) sum: MSM<'k, EqAffine>,
    /// Depends on every byte of proof and link, and on what they are about.
    pub(crate) seed: Digest,
}
