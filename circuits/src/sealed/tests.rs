//! Networks of every operation, sealed; and cells, messages and columns that are not what they should be.

mod early;
mod forger;
mod lies;
mod links;
mod log_prob;
mod network;
mod passes;
mod plain;
mod reference;
mod relations;
mod sweep;
