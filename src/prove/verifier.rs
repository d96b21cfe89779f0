//! A verifier of a base in files.

use ftk_circuits::{CommitmentKey, KeyError};
use ftk_proofs::limits::Limits;
use ftk_proofs::verifier::Verifier;

use super::fixed::WeightsError;
use super::model::{self, FixedModelError};
use super::subject::ProvedBase;

/// Reads a base of either kind, with keys from [`super::keys::commitment_key`]'s cache or made anew.
///
/// # Errors
/// Weights that cannot be read or do not fit their grid.
pub fn of(
    subject: &ProvedBase,
    limits: Limits,
    derive: fn(u32) -> Result<CommitmentKey, KeyError>,
) -> Result<Verifier, FixedModelError> {
    let verifier = match subject {
        ProvedBase::Tokens(source) => Verifier::new(model::read(source)?, limits),
        ProvedBase::Graph { base, .. } => Verifier::of_graphs(base.clone(), limits).map_err(WeightsError::from)?,
    };
    Ok(verifier.with_keys(derive))
}
