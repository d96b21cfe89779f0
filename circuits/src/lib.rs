//! Fixed-point semantics, commitments and halo2 circuits: integers and field elements only.
//!
//! `circuits/STATEMENT.md` says what is proved and why it holds. No file is read or written here.

mod bytes;
mod circuit;
mod commitment;
mod cores;
mod delta;
mod entropy;
mod error;
pub mod fixed;
mod fold;
mod hash;
mod key;
mod layout;
mod link;
mod linked;
mod registration;
mod rows;
mod statement;

pub use bytes::EncodingError;
pub use commitment::{AdapterCommitment, ModelSite, Opening, SiteFactors, commit, opens};
pub use delta::{DeltaProof, prove, verify};
pub use error::{CheckFailed, ProveError};
pub use hash::{Digest, PROTOCOL_VERSION};
pub use key::{CommitmentKey, KeyError, commitment_key_digest};
pub use layout::{
    MAX_DIM, MAX_K, MAX_NAME, MAX_RANK, MAX_SHIFT, MAX_SITES, MIN_K, PREFERRED_K, PRODUCTS, RESERVED_ROWS, SiteShape,
    required_columns, required_k,
};
pub use link::LINK_BYTES;
pub use registration::{register, verify_registration};
pub use rows::{INPUT_BOUND, SiteRows, decode_deltas, encode_deltas};
pub use statement::{
    Case, CaseError, Input, Logits, MAX_CASES, MAX_CHOICES, MAX_CONTEXT, MAX_LOGITS, MAX_ROWS, MAX_STOP_IDS,
    MAX_TOKENS, Output, Scored, Sequence, Statement, StatementError,
};

#[cfg(test)]
mod tests;
