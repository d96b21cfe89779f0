//! The last step of every verification: sums of points that must be the identity, many proofs' at once.

use halo2_proofs::poly::commitment::MSM;
use pasta_curves::{EqAffine, Fp};
use rayon::prelude::*;

use crate::commitment::AdapterCommitment;
use crate::delta::rows::SiteRows;
use crate::delta::{self, DeltaProof};
use crate::error::CheckFailed;
use crate::hash::{Absorb, Digest, Tag};
use crate::key::CommitmentKey;
use crate::registration;
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
        if hold(&[&self]) { Ok(()) } else { self.first_failure(&never) }
    }

    fn first_failure(self, stop: &Stop<'_>) -> Result<(), CheckFailed> {
        self.checks.into_iter().try_for_each(|check| {
            go_on(stop)?;
            if check.sum.eval() { Ok(()) } else { Err(check.otherwise) }
        })
    }
}

/// Asked before each part of some work whether to leave it.
pub(crate) type Stop<'a> = dyn Fn() -> bool + Sync + 'a;

/// For work that is done to its end.
pub(crate) fn never() -> bool {
    false
}

/// # Errors
/// [`CheckFailed::Stopped`].
pub(crate) fn go_on(stop: &Stop<'_>) -> Result<(), CheckFailed> {
    if stop() { Err(CheckFailed::Stopped) } else { Ok(()) }
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
    pub(crate) fn begin(self, stop: &Stop<'_>) -> Result<Checks<'a>, CheckFailed> {
        let checks = match self {
            Claim::Deltas { key, statement, commitment, sites, proof } => {
                delta::begin(key, statement, commitment, sites, proof, stop)
            }
            Claim::Registration { key, commitment, registration } => {
                registration::begin(key, commitment, registration, stop)
            }
        }?;
        go_on(stop)?;
        Ok(checks)
    }

    fn k(&self) -> u32 {
        match self {
            Claim::Deltas { key, .. } | Claim::Registration { key, .. } => key.k(),
        }
    }
}

/// Verifies many claims, one verdict each in their order, with one multiplication for all that share a key.
///
/// Only if that fails are their sums looked at one by one. `stop` is asked with a claim's number before each of its
/// parts (the rows of a site, a halo2 proof, a sum) whether to leave it, which is [`CheckFailed::Stopped`].
pub fn verify_all(claims: &[Claim<'_>], stop: &(dyn Fn(usize) -> bool + Sync)) -> Vec<Result<(), CheckFailed>> {
    let begun: Vec<Result<Checks<'_>, CheckFailed>> =
        claims.par_iter().enumerate().map(|(number, claim)| claim.begin(&|| stop(number))).collect();
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
    let verdict = |(number, (claim, checks)): (usize, (&Claim<'_>, Result<Checks<'_>, CheckFailed>))| match checks {
        Ok(_) if sound.contains(&claim.k()) => Ok(()),
        checks => checks?.first_failure(&|| stop(number)),
    };
    claims.iter().zip(begun).enumerate().map(verdict).collect()
}
