//! The graph plugin: graphs from files, networks of graphs written over [`ftk_adapters::ops::Ops`], their tasks and
//! measures. The loop that trains them is the host's; proofs are not known here. `recipes/gnn/README.md` is its manual.

pub mod canonical;
mod error;
pub mod graph;
pub mod import;
mod npz;
mod table;

pub use error::GraphError;
