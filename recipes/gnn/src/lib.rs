//! The graph plugin: graphs from files, networks of graphs written over [`ftk_networks::ops::Ops`], their tasks and
//! measures. The loop that trains them is the host's; proofs are not known here. `recipes/gnn/README.md` is its manual.

mod archives;
pub mod baselines;
pub mod canonical;
pub mod contrast;
pub mod edges;
mod error;
pub mod feedback;
pub mod graph;
pub mod import;
pub mod info_nce;
pub mod initial;
pub mod inputs;
pub mod labels;
pub mod learner;
pub mod links;
pub mod measures;
pub mod model;
mod node_link;
pub mod nodes;
mod npz;
mod ogb;
pub mod online;
mod opened;
mod pickle;
pub mod profile;
pub mod rule;
pub mod sample;
pub mod score;
pub mod split;
mod streaming;
pub mod structure;
mod table;
#[cfg(test)]
mod tests;
mod trees;

use ftk_adapters::hint;

pub use error::GraphError;
pub use ftk_recipes::gnn as settings;
pub use opened::{OpenedTask, of};

/// Errors of this crate that may know what to do about them.
pub const HINTS: &[hint::HintOf] = &[hint::of::<GraphError>];
