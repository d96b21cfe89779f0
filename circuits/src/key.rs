//! The commitment key: halo2's public generators for one k, hashed to the curve by halo2 and pinned here by digest.
//!
//! Whoever chooses generators can open a commitment to anything, so bytes from a cache are only taken if their digest
//! is the compiled-in one.

use std::fmt;
use std::sync::OnceLock;

use ff::{Field, PrimeField};
use halo2_proofs::poly::EvaluationDomain;
use halo2_proofs::poly::commitment::{Blind, Params};
use pasta_curves::{Eq, EqAffine, Fp};
use rayon::prelude::*;
use thiserror::Error;

use crate::hash::{Absorb, Digest, Tag};
use crate::layout::{MAX_K, MIN_K};
use crate::points::{Affine, Multiples, coordinates};

/// Rows at the end of an advice column which halo2 fills at random (`blinding_factors + 1` for our circuits).
pub(crate) const UNUSABLE: usize = 6;

/// Generators of a [`crate::link`] proof: the Lagrange generators of the unusable rows, and W.
pub(crate) const LINK_GENERATORS: usize = UNUSABLE + 1;

/// Digests of the keys for k = 6 to 14; `commitment_keys_are_the_pinned_ones` regenerates them.
const PINNED: [[u8; 32]; (MAX_K - MIN_K + 1) as usize] = include!("key_digests.in");

/// Why there is no commitment key.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum KeyError {
    /// No key of this size is pinned.
    #[error("no commitment key for k: {0}")]
    Size(u32),
    /// Bytes of another length than a key of their k has.
    #[error("commitment key has a wrong length: {0}")]
    Length(usize),
    /// Not the generators this protocol uses.
    #[error("commitment key has a wrong digest: {0}")]
    Digest(Digest),
}

/// Generators for columns of `2^k` rows.
pub struct CommitmentKey {
    pub(crate) params: Params<EqAffine>,
    pub(crate) domain: EvaluationDomain<Fp>,
    /// `L_i` of the unusable rows, then W
    pub(crate) link: [Eq; LINK_GENERATORS],
    bases: OnceLock<Bases>,
}

/// Most scalars of a message; they stand in the first rows of its column.
pub(crate) const MESSAGE_ROWS: usize = 4;

/// Generators in the forms in which provers add them up.
pub(crate) struct Bases {
    /// `L_i` of all rows.
    pub(crate) rows: Vec<Affine>,
    /// `L_i` of the first rows, in which messages stand.
    pub(crate) first: [Multiples; MESSAGE_ROWS],
    /// W
    pub(crate) blind: Multiples,
}

impl fmt::Debug for CommitmentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CommitmentKey").field("k", &self.k()).finish_non_exhaustive()
    }
}

impl CommitmentKey {
    /// Derives the key, which takes about a second at k = 11 and twice that for each step of k.
    ///
    /// # Errors
    /// If k is not in [`MIN_K`]..=[`MAX_K`] or the result is not the pinned one.
    pub fn generate(k: u32) -> Result<Self, KeyError> {
        pinned_digest(k)?;
        Self::checked(Params::new(k))
    }

    /// Reads what [`CommitmentKey::to_bytes`] wrote and compares its digest with the pinned one.
    ///
    /// # Errors
    /// Any other bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, KeyError> {
        let k = bytes.first_chunk().map(|head| u32::from_le_bytes(*head)).ok_or(KeyError::Length(bytes.len()))?;
        let expected = pinned_digest(k)?;
        if bytes.len() != 4 + 32 * (2 * (1 << k) + 2) {
            return Err(KeyError::Length(bytes.len()));
        }
        let digest = Absorb::new(Tag::Key).bytes(bytes).finish();
        if digest != expected {
            return Err(KeyError::Digest(digest));
        }
        let params = Params::read(&mut &*bytes).map_err(|_| KeyError::Digest(digest))?;
        Ok(Self::derive(params))
    }

    /// The key as halo2 writes it; `2^(k+6) + 68` bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        params_bytes(&self.params)
    }

    /// log2 of the rows of a column.
    pub fn k(&self) -> u32 {
        self.params.k()
    }

    /// The pinned digest of this key.
    pub fn digest(&self) -> Digest {
        Digest(PINNED[(self.k() - MIN_K) as usize])
    }

    fn checked(params: Params<EqAffine>) -> Result<Self, KeyError> {
        let digest = commitment_key_digest(&params);
        if digest != pinned_digest(params.k())? {
            return Err(KeyError::Digest(digest));
        }
        Ok(Self::derive(params))
    }

    fn derive(params: Params<EqAffine>) -> Self {
        let domain = EvaluationDomain::new(1, params.k());
        let n = 1usize << params.k();
        let commit = |row: Option<usize>| {
            let mut values = vec![Fp::ZERO; n];
            let blind = match row {
                Some(row) => {
                    values[row] = Fp::ONE;
                    Fp::ZERO
                }
                None => Fp::ONE,
            };
            params.commit_lagrange(&domain.lagrange_from_vec(values), Blind(blind))
        };
        let link = std::array::from_fn(|i| commit((i < UNUSABLE).then_some(n - UNUSABLE + i)));
        Self { params, domain, link, bases: OnceLock::new() }
    }

    /// Made when they are asked for: a verifier does without.
    pub(crate) fn bases(&self) -> &Bases {
        self.bases.get_or_init(|| {
            // halo2 gives the generators of rows out in this encoding alone, between k and those of coefficients
            // before them, and two single ones after them.
            let bytes = params_bytes(&self.params);
            let (points, _) = bytes[4..].as_chunks();
            let rows = points[1 << self.k()..].par_iter().take(1 << self.k());
            let rows: Vec<EqAffine> = rows.map(|bytes| point_from_bytes(bytes).expect("halo2 writes points")).collect();
            let first = std::array::from_fn(|row| Multiples::new(rows[row].into()));
            let rows = coordinates(&rows).expect("no generator is the identity");
            Bases { rows, first, blind: Multiples::new(self.link[UNUSABLE]) }
        })
    }
}

fn pinned_digest(k: u32) -> Result<Digest, KeyError> {
    let index = k.checked_sub(MIN_K).ok_or(KeyError::Size(k))?;
    PINNED.get(index as usize).map(|digest| Digest(*digest)).ok_or(KeyError::Size(k))
}

fn params_bytes(params: &Params<EqAffine>) -> Vec<u8> {
    let mut bytes = Vec::new();
    params.write(&mut bytes).expect("writing to memory does not fail");
    bytes
}

/// Digest of a commitment key's bytes.
pub fn commitment_key_digest(params: &Params<EqAffine>) -> Digest {
    Absorb::new(Tag::Key).bytes(&params_bytes(params)).finish()
}

/// Reads a canonical scalar.
pub(crate) fn scalar_from_bytes(bytes: &[u8; 32]) -> Option<Fp> {
    Fp::from_repr(*bytes).into()
}

/// Reads a canonical point of the curve, the identity included.
pub(crate) fn point_from_bytes(bytes: &[u8; 32]) -> Option<EqAffine> {
    use group::GroupEncoding;
    EqAffine::from_bytes(bytes).into()
}
