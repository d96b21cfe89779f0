//! The last step of every verification: sums of points that must be the identity, many proofs' at once.

use halo2_proofs::poly::commitment::MSM;
use pasta_curves::{EqAffine, Fp};
use rayon::prelude::*;

use crate::commitment::AdapterCommitment;
use crate::delta::{self, DeltaProof};
use crate::error::CheckFailed;
use crate::hash::{Absorb, Digest, Tag};
use crate::key::CommitmentKey;
use crate::registration;
use crate::rows::SiteRows;
use crate::statement::Statement;

/// A sum that must be the identity, and what fails if it is not.
#[derive(Debug)]
pub(crate) struct Check<'k> {
    pub(crate) sum: MSM<'k, EqAffine>,
    pub(crate) otherwise: CheckFailed,
}

/// What is left to check of one proof.
#[derive(Debug)]
pub(crate) struct Checks<'k> {
    /// Depends on all that the sums depend on.
    pub(crate) seed: Digest,
    pub(crate) checks: Vec<Check<'k>>,
}

impl Checks<'_> {
    /// Decides over one proof.
    pub(crate) fn settle(self) -> Result<(), CheckFailed> {
        if hold(&[&self]) { Ok(()) } else { self.first_failure() }
    }

    fn first_failure(self) -> Result<(), CheckFailed> {
        self.checks.into_iter().try_for_each(|check| if check.sum.eval() { Ok(()) } else { Err(check.otherwise) })
    }
}

/// Whether all sums are the identity: they are, or else a combination with weights that depend on all of them is not.
fn hold(all: &[&Checks<'_>]) -> bool {
    let seeds = all.iter().fold(Absorb::new(Tag::BatchWeights), |hash, checks| hash.digest(&checks.seed));
    let [base]: [Fp; 1] = seeds.challenges();
    let mut sums = all.iter().flat_map(|checks| &checks.checks).map(|check| &check.sum);
    let Some(mut total) = sums.next().cloned() else { return true };
    for sum in sums {
        total.scale(base);
        total.add_msm(sum);
    }
    total.eval()
}

/// One thing to verify among many.
#[derive(Clone, Copy, Debug)]
pub enum Claim<'a> {
    /// As [`crate::verify`] takes it.
    Deltas {
        /// The key of the commitment's size.
        key: &'a CommitmentKey,
        /// What is stated.
        statement: &'a Statement,
        /// The adapter's commitment.
        commitment: &'a AdapterCommitment,
        /// Inputs and deltas, from the verifier's replay.
        sites: &'a [SiteRows],
        /// The proof.
        proof: &'a DeltaProof,
    },
    /// As [`crate::verify_registration`] takes it.
    Registration {
        /// The key of the commitment's size.
        key: &'a CommitmentKey,
        /// The adapter's commitment.
        commitment: &'a AdapterCommitment,
        /// The range proof.
        registration: &'a [u8],
    },
}

impl<'a> Claim<'a> {
    fn begin(self) -> Result<Checks<'a>, CheckFailed> {
        match self {
            Claim::Deltas { key, statement, commitment, sites, proof } => {
                delta::begin(key, statement, commitment, sites, proof)
            }
            Claim::Registration { key, commitment, registration } => registration::begin(key, commitment, registration),
        }
    }

    fn k(&self) -> u32 {
        match self {
            Claim::Deltas { key, .. } | Claim::Registration { key, .. } => key.k(),
        }
    }
}

/// Verifies many claims, one verdict each in their order, with one multiplication for all that share a key.
///
/// Only if that fails are their sums looked at one by one.
pub fn verify_all(claims: &[Claim<'_>]) -> Vec<Result<(), CheckFailed>> {
    let mut begun: Vec<Result<Checks<'_>, CheckFailed>> = claims.par_iter().map(|claim| claim.begin()).collect();
    let mut sizes: Vec<u32> = claims.iter().map(Claim::k).collect();
    sizes.sort_unstable();
    sizes.dedup();
    let sound: Vec<u32> = sizes
        .into_iter()
        .filter(|size| {
            let of_size = claims.iter().zip(&begun).filter(|(claim, _)| claim.k() == *size);
            hold(&of_size.filter_map(|(_, checks)| checks.as_ref().ok()).collect::<Vec<_>>())
        })
        .collect();
    let verdict = |(claim, checks): (&Claim<'_>, Result<Checks<'_>, CheckFailed>)| match checks {
        Ok(_) if sound.contains(&claim.k()) => Ok(()),
        checks => checks?.first_failure(),
    };
    claims.iter().zip(begun.drain(..)).map(verdict).collect()
}
