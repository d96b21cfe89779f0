//! Fixed-point semantics, commitments and halo2 circuits: integers and field elements only.
//!
//! `circuits/STATEMENT.md` says what is proved and why it holds. No file is read or written here.

// Ground: what every section stands on.
mod bytes;
mod check;
mod conduct;
mod entropy;
mod error;
mod field;
mod hash;

// Sections 1 and 7: what is stated.
mod statement;

// Sections 2 and 3.
mod columns;
mod commitment;
mod key;
mod layout;
mod points;

// Section 4: deltas, and the equation that they come to.
mod delta;
mod folding;

// Section 5.
mod link;

// Section 6.
mod fractions;
mod messages;
mod registration;

// Section 12.
mod stack;

// Section 9: the operations; section 10 stands on them and on no file of its own here.
pub mod fixed;

// Section 11.
pub mod sealed;

// Section 8.
mod verify;

pub use bytes::{EncodingError, Reader};
pub use commitment::{AdapterCommitment, ModelSite, Opening, SiteFactors, commit, opens};
pub use delta::encoding::{decode_deltas, deltas_limit, encode_deltas};
pub use delta::rows::{INPUT_BOUND, SiteRows};
pub use delta::{DeltaProof, prove, verify};
pub use error::{CheckFailed, ProveError};
pub use hash::{Digest, PROTOCOL_VERSION};
pub use key::{CommitmentKey, KeyError, commitment_key_digest};
pub use layout::{
    MAX_DIM, MAX_K, MAX_NAME, MAX_RANK, MAX_SHIFT, MAX_SITES, MIN_K, RESERVED_ROWS, SiteShape, required_columns,
    required_k,
};
pub use link::LINK_BYTES;
pub use registration::register;
pub use stack::{StackPart, stack, stack_factors, stack_opening, stack_parts, stack_registration, verify_registration};
pub use statement::{StatementBytes, logits_digest};
pub use verify::{DeferredClaim, verify_all};

#[cfg(test)]
mod tests;
