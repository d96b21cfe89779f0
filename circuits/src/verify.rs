//! Many claims at once: the sums that all verifications end in, weighed and added (`STATEMENT.md`, section 8).

use rayon::prelude::*;

use crate::check::{Checks, Stop, go_on, hold};
use crate::commitment::AdapterCommitment;
use crate::conduct::HONEST;
use crate::delta::rows::SiteRows;
use crate::delta::{self, DeltaProof};
use crate::error::CheckFailed;
use crate::key::CommitmentKey;
use crate::sealed::{self, SealedPlan};
use crate::stack;
use crate::statement::StatementBytes;

/// One thing to verify among many.
#[derive(Clone, Copy, Debug)]
pub enum DeferredClaim<'a> {
    /// As [`crate::verify`] takes it.
    Deltas {
        /// The key of the commitment's size.
        key: &'a CommitmentKey,
        /// What is stated.
        statement: &'a StatementBytes,
        /// The adapter's commitment.
        commitment: &'a AdapterCommitment,
        /// Inputs and deltas, from the verifier's replay.
        sites: &'a [SiteRows],
        /// The proof.
        proof: &'a DeltaProof,
    },
    /// As [`crate::sealed::verify_sealed`] takes it.
    Sealed {
        /// The key of the plan's size.
        key: &'a CommitmentKey,
        /// What is stated.
        statement: &'a StatementBytes,
        /// The adapter's commitment.
        commitment: &'a AdapterCommitment,
        /// What the statement says, as operations.
        plan: &'a SealedPlan,
        /// The proof.
        proof: &'a [u8],
    },
    /// As [`crate::verify_registration`] takes it.
    Registration {
        /// The key of the commitment's size.
        key: &'a CommitmentKey,
        /// The adapter's commitment.
        commitment: &'a AdapterCommitment,
        /// The registration.
        registration: &'a [u8],
    },
}

impl<'a> DeferredClaim<'a> {
    pub(crate) fn begin(self, stop: &Stop<'_>) -> Result<Checks<'a>, CheckFailed> {
        let checks = match self {
            DeferredClaim::Deltas { key, statement, commitment, sites, proof } => {
                delta::begin(key, statement, commitment, sites, proof, stop)
            }
            DeferredClaim::Sealed { key, statement, commitment, plan, proof } => {
                sealed::begin(key, statement, commitment, plan, proof, stop, HONEST)
            }
            DeferredClaim::Registration { key, commitment, registration } => {
                stack::begin(key, commitment, registration, stop)
            }
        }?;
        go_on(stop)?;
        Ok(checks)
    }

    fn k(&self) -> u32 {
        match self {
            DeferredClaim::Deltas { key, .. }
            | DeferredClaim::Sealed { key, .. }
            | DeferredClaim::Registration { key, .. } => key.k(),
        }
    }
}

/// Verifies many claims, one verdict each in their order, with one multiplication for all that share a key.
///
/// Only if that fails are their sums looked at one by one. `stop` is asked with a claim's number before each of its
/// parts (the rows of a site, a halo2 proof, a sum) whether to leave it, which is [`CheckFailed::Stopped`].
pub fn verify_all(claims: &[DeferredClaim<'_>], stop: &(dyn Fn(usize) -> bool + Sync)) -> Vec<Result<(), CheckFailed>> {
    let begun: Vec<Result<Checks<'_>, CheckFailed>> =
        claims.par_iter().enumerate().map(|(number, claim)| claim.begin(&|| stop(number))).collect();
    let mut sizes: Vec<u32> = claims.iter().map(DeferredClaim::k).collect();
    sizes.sort_unstable();
    sizes.dedup();
    let sound: Vec<u32> = sizes
        .into_iter()
        .filter(|size| {
            let of_size = claims.iter().zip(&begun).filter(|(claim, _)| claim.k() == *size);
            hold(&of_size.filter_map(|(_, checks)| checks.as_ref().ok()).collect::<Vec<_>>())
        })
        .collect();
    let verdict =
        |(number, (claim, checks)): (usize, (&DeferredClaim<'_>, Result<Checks<'_>, CheckFailed>))| match checks {
            Ok(_) if sound.contains(&claim.k()) => Ok(()),
            checks => checks?.first_failure(&|| stop(number)),
        };
    claims.iter().zip(begun).enumerate().map(verdict).collect()
}
