//! Secret randomness: blinds, nonces and the seeds of halo2's generators.

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

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

/// A generator for a part of the work, so that parts do not depend on each other's order.
pub(crate) fn fork(random: &mut ChaCha20Rng) -> ChaCha20Rng {
    let mut seed = [0; 32];
    random.fill_bytes(&mut seed);
    ChaCha20Rng::from_seed(seed)
}
