//! Sealed proofs: that an adapter, committed to and secret, gives stated outputs with a public base, and nothing else
//! (`STATEMENT.md`, section 11).
//!
//! All activations are the prover's secret: integers in committed columns, a limb a cell. What a network does with them
//! is written down once, by a [`Builder`], and read twice: to fill the cells, and to say what must hold of them.

mod arrangement;
mod builder;
mod cells;
mod claims;
mod equations;
mod lookups;
mod operations;
mod plan;
mod prove;
mod said;
mod sums;
mod tables;
mod verify;
mod work;

#[cfg(test)]
mod tests;

pub use arrangement::{Space, Tensor};
pub use builder::Builder;
pub use operations::log_prob::{Bound, LogProbs, Ranking, TotalLogProb};
pub use plan::SealedPlan;
pub use prove::{SealError, seal};
pub(crate) use verify::begin;
pub use verify::verify_sealed;
pub use work::Work;
