//! What a verifier does everywhere: it asks whether to go on, and ends in sums of points that must be the identity.

use halo2_proofs::poly::commitment::MSM;
use pasta_curves::{EqAffine, Fp};

use crate::error::CheckFailed;
use crate::hash::{Absorb, Digest, Tag};

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

    pub(crate) fn first_failure(self, stop: &Stop<'_>) -> Result<(), CheckFailed> {
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
pub(crate) fn hold(all: &[&Checks<'_>]) -> bool {
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
