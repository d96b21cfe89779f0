//! Why something could not be proved, and which check refused a proof.

use thiserror::Error;

use crate::bytes::EncodingError;
use crate::hash::Digest;
use crate::key::KeyError;

/// Why a commitment or a proof could not be made.
#[derive(Debug, Error)]
pub enum ProveError {
    /// The operating system gave no randomness.
    #[error("no randomness from the operating system: {0}")]
    Entropy(getrandom::Error),
    /// A site's name, dimensions or scales are out of bounds.
    #[error("adapter cannot be committed: {0}")]
    Shape(#[from] EncodingError),
    /// A factor does not have the entries its shape says.
    #[error("factors do not have the shape of their site: {0}")]
    Factors(String),
    /// No site, or too many.
    #[error("number of sites out of bounds: {0}")]
    Sites(usize),
    /// What is to be proved would be refused by the verifier's checks of the public values.
    #[error("nothing to prove: {0}")]
    Public(#[source] CheckFailed),
    /// A delta is not the product of the factors and the inputs.
    #[error("deltas are not those of the adapter: {0}")]
    Delta(String),
    /// The opening does not belong to the commitment.
    #[error("opening does not belong to the commitment")]
    Opening,
    /// halo2 refused.
    #[error("halo2: {0}")]
    Halo2(#[from] halo2_proofs::plonk::Error),
}

/// The check that refused; every refusal of this crate's verifiers is one of these.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CheckFailed {
    /// The caller did not want to go on.
    #[error("stopped by the caller")]
    Stopped,
    /// The commitment's bytes are not canonical.
    #[error("commitment encoding: {0}")]
    CommitmentEncoding(EncodingError),
    /// The commitment was made for another base model.
    #[error("base: the commitment is for {0}")]
    Base(Digest),
    /// The statement names another adapter.
    #[error("adapter: the commitment is {0}")]
    Adapter(Digest),
    /// The commitment key is not the one the commitment needs.
    #[error("commitment key: needs k = {0}")]
    Key(u32),
    /// The commitment key is not the pinned one.
    #[error("commitment key: {0}")]
    KeyBytes(KeyError),
    /// Sites, rows or dimensions are not those of commitment and statement.
    #[error("coverage: {0}")]
    Coverage(String),
    /// The bytes of a sealed proof are too few to be one.
    #[error("sealed encoding: {0}")]
    SealedEncoding(EncodingError),
    /// The sealed proof does not hold.
    #[error("sealed proof")]
    SealedProof,
    /// The sealed proof is not about the committed adapter.
    #[error("sealed link")]
    SealedLink,
    /// The bytes of `deltas.bin` are not canonical.
    #[error("deltas encoding: {0}")]
    DeltasEncoding(EncodingError),
    /// An input is outside the 32-bit grid.
    #[error("input bound: site {site}, entry {entry}")]
    InputBound {
        /// Position of the site.
        site: usize,
        /// Position in the site's inputs.
        entry: usize,
    },
    /// A delta is larger than any product of 16-bit factors with 32-bit inputs.
    #[error("delta bound: site {site}, entry {entry}")]
    DeltaBound {
        /// Position of the site.
        site: usize,
        /// Position in the site's deltas.
        entry: usize,
    },
    /// The proof of the deltas does not verify, or bytes follow it.
    #[error("delta proof: the deltas are not proved")]
    DeltaProof,
    /// The delta proof is about other factors than the committed ones.
    #[error("link: the proof is not about the committed adapter")]
    Link,
    /// The proof that all entries are 16-bit integers does not verify, or bytes follow it.
    #[error("registration proof: an entry is not a 16-bit integer")]
    RegistrationProof,
    /// The registration is about other factors than the committed ones.
    #[error("registration link: the registration is not about the committed adapter")]
    RegistrationLink,
    /// The registration's bytes have no link.
    #[error("registration encoding: {0}")]
    RegistrationEncoding(EncodingError),
    /// A commitment is no stack of the parts that it names.
    #[error("stack: {0}")]
    Stack(String),
    /// The products of parts of a stack are divided by powers that do not meet.
    #[error("stack: {0}")]
    StackScales(String),
    /// The opening's bytes are not canonical.
    #[error("opening encoding: {0}")]
    OpeningEncoding(EncodingError),
    /// The factors are not what the commitment commits to.
    #[error("opening: column {0}")]
    Opening(usize),
}

impl CheckFailed {
    /// The name of the check, with which the message begins.
    pub fn check(&self) -> &'static str {
        match self {
            Self::Stopped => "stopped by the caller",
            Self::CommitmentEncoding(_) => "commitment encoding",
            Self::Base(_) => "base",
            Self::Adapter(_) => "adapter",
            Self::Key(_) | Self::KeyBytes(_) => "commitment key",
            Self::Coverage(_) => "coverage",
            Self::DeltasEncoding(_) => "deltas encoding",
            Self::InputBound { .. } => "input bound",
            Self::DeltaBound { .. } => "delta bound",
            Self::DeltaProof => "delta proof",
            Self::Link => "link",
            Self::RegistrationProof => "registration proof",
            Self::RegistrationLink => "registration link",
            Self::RegistrationEncoding(_) => "registration encoding",
            Self::SealedEncoding(_) => "sealed encoding",
            Self::SealedProof => "sealed proof",
            Self::SealedLink => "sealed link",
            Self::Stack(_) | Self::StackScales(_) => "stack",
            Self::OpeningEncoding(_) => "opening encoding",
            Self::Opening(_) => "opening",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_begins_with_the_name_of_its_check() {
        use CheckFailed::*;
        let (encoding, digest) = (EncodingError::Truncated, Digest([0; 32]));
        for failed in [
            Stopped,
            CommitmentEncoding(encoding.clone()),
            Base(digest),
            Adapter(digest),
            Key(9),
            KeyBytes(KeyError::Size(9)),
            Coverage("site".to_owned()),
            DeltasEncoding(encoding.clone()),
            InputBound { site: 0, entry: 0 },
            DeltaBound { site: 0, entry: 0 },
            DeltaProof,
            Link,
            RegistrationProof,
            RegistrationLink,
            RegistrationEncoding(encoding.clone()),
            SealedEncoding(encoding.clone()),
            SealedProof,
            SealedLink,
            Stack("weights".to_owned()),
            StackScales("scales".to_owned()),
            OpeningEncoding(encoding),
            Opening(0),
        ] {
            let message = failed.to_string();
            assert_eq!(message.split(": ").next(), Some(failed.check()), "{message}");
        }
    }
}
