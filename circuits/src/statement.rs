//! The public statement of one proof, as far as proofs look into it: which base and which adapter it is about, and all
//! that it says of them, in bytes (`STATEMENT.md`, section 7).
//!
//! What those bytes mean is for the crate of proofs, which reads and replays them.

use crate::bytes::{EncodingError, Reader, header};
use crate::hash::{Absorb, Digest, Tag};

const TAG: &[u8] = b"ftk statement\0";

/// A statement in its canonical bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatementBytes {
    /// Digest of the base model, its config and tokenizer.
    pub base: Digest,
    /// `C_adapter`, the digest of the commitment's encoding.
    pub adapter: Digest,
    /// Context and cases.
    pub said: Vec<u8>,
}

impl StatementBytes {
    /// The canonical bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = header(TAG);
        bytes.extend(self.base.0);
        bytes.extend(self.adapter.0);
        bytes.extend(&self.said);
        bytes
    }

    /// Reads [`StatementBytes::encode`]'s bytes, whatever they say.
    ///
    /// # Errors
    /// Another tag or version, too few bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, EncodingError> {
        let mut reader = Reader::new(bytes);
        reader.header(TAG)?;
        let (base, adapter) = (Digest(reader.array()?), Digest(reader.array()?));
        Ok(Self { base, adapter, said: reader.rest().to_vec() })
    }

    /// `D_stmt`, which every challenge of a proof of this statement depends on.
    pub fn digest(&self) -> Digest {
        Absorb::new(Tag::Statement).bytes(&self.encode()).finish()
    }
}

/// Digest of logits at `2^-16`, which is stated where they are many.
pub fn logits_digest(values: &[i64]) -> Digest {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    Absorb::new(Tag::Logits).u32(values.len() as u32).bytes(&bytes).finish()
}
