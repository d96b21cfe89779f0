//! Secret randomness: blinds, nonces and the seeds of halo2's generators.

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use crate::error::ProveError;

/// A generator with a fresh seed of the operating system.
///
/// Blinds are the one thing in ftk that must not be reproducible: two commitments or proofs with equal blinds give
/// their difference away.
pub(crate) fn fresh_generator() -> Result<ChaCha20Rng, ProveError> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(ProveError::Entropy)?;
    Ok(ChaCha20Rng::from_seed(seed))
}
