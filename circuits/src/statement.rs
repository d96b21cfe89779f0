//! The public statement of one proof: which base, which adapter, which input, which output.

use thiserror::Error;

use crate::bytes::{EncodingError, Reader, header};
use crate::hash::{Absorb, Digest, Tag};

const TAG: &[u8] = b"ftk statement\0";
const COMPLETION: u8 = 0;

/// Most token ids in an input or a completion.
pub const MAX_TOKENS: u32 = 1 << 20;
/// Most bytes of context.
pub const MAX_CONTEXT: u32 = 1 << 16;
/// Most stop ids.
pub const MAX_STOP_IDS: u32 = 1 << 10;

/// What is claimed to come out; the first byte of its encoding is its kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Greedy continuation of the input; ties go to the lowest id.
    Completion {
        /// The generated ids, a final stop id included.
        ids: Vec<u32>,
        /// Generation ends after this many ids.
        max_tokens: u32,
        /// Generation ends after one of these; strictly ascending.
        stop_ids: Vec<u32>,
    },
}

/// Everything public that a proof is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// Digest of the base model, its config and tokenizer.
    pub base: Digest,
    /// `C_adapter`, the digest of the commitment's encoding.
    pub adapter: Digest,
    /// Bytes the application binds the proof to, such as a nonce of the verifier.
    pub context: Vec<u8>,
    /// Token ids of the input.
    pub input: Vec<u32>,
    /// What comes out.
    pub output: Output,
}

/// Why a decoded statement states nothing.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum StatementError {
    /// The input has no token.
    #[error("input is empty")]
    EmptyInput,
    /// The completion has no token.
    #[error("completion is empty")]
    EmptyCompletion,
    /// More tokens than the stop rule allows.
    #[error("completion is longer than max_tokens: {0}")]
    TooLong(usize),
    /// A stop id stands before the end.
    #[error("generation went on after a stop id: position {0}")]
    AfterStop(usize),
    /// Shorter than max_tokens without a stop id at the end.
    #[error("completion ends without a reason: length {0}")]
    EndsEarly(usize),
    /// A list is longer than the encoding allows.
    #[error("{what} too long: {len}")]
    Length {
        /// The list.
        what: &'static str,
        /// Its length.
        len: usize,
    },
    /// Stop ids must ascend strictly.
    #[error("stop ids are not strictly ascending")]
    StopOrder,
}

impl Statement {
    /// Rows of every site: one per token of input and completion but the last.
    pub fn rows(&self) -> usize {
        let Output::Completion { ids, .. } = &self.output;
        (self.input.len() + ids.len()).saturating_sub(1)
    }

    /// Checks that lengths are within bounds and that the stop rule explains where the output ends.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn check(&self) -> Result<(), StatementError> {
        let Output::Completion { ids, max_tokens, stop_ids } = &self.output;
        for (what, len, max) in [
            ("context", self.context.len(), MAX_CONTEXT),
            ("input", self.input.len(), MAX_TOKENS),
            ("completion", ids.len(), MAX_TOKENS),
            ("stop ids", stop_ids.len(), MAX_STOP_IDS),
        ] {
            if len > max as usize {
                return Err(StatementError::Length { what, len });
            }
        }
        if self.input.is_empty() {
            return Err(StatementError::EmptyInput);
        }
        if !stop_ids.is_sorted_by(|a, b| a < b) {
            return Err(StatementError::StopOrder);
        }
        let Some((last, before)) = ids.split_last() else { return Err(StatementError::EmptyCompletion) };
        if ids.len() > *max_tokens as usize {
            return Err(StatementError::TooLong(ids.len()));
        }
        if let Some(position) = before.iter().position(|id| stop_ids.binary_search(id).is_ok()) {
            return Err(StatementError::AfterStop(position));
        }
        if ids.len() < *max_tokens as usize && stop_ids.binary_search(last).is_err() {
            return Err(StatementError::EndsEarly(ids.len()));
        }
        Ok(())
    }

    /// The canonical bytes, as in `STATEMENT.md`, section 7.
    pub fn encode(&self) -> Vec<u8> {
        fn ids(bytes: &mut Vec<u8>, ids: &[u32]) {
            bytes.extend((ids.len() as u32).to_le_bytes());
            bytes.extend(ids.iter().flat_map(|id| id.to_le_bytes()));
        }
        let mut bytes = header(TAG);
        bytes.extend(self.base.0);
        bytes.extend(self.adapter.0);
        bytes.extend((self.context.len() as u32).to_le_bytes());
        bytes.extend(&self.context);
        ids(&mut bytes, &self.input);
        match &self.output {
            Output::Completion { ids: completion, max_tokens, stop_ids } => {
                bytes.push(COMPLETION);
                ids(&mut bytes, completion);
                bytes.extend(max_tokens.to_le_bytes());
                ids(&mut bytes, stop_ids);
            }
        }
        bytes
    }

    /// Reads [`Statement::encode`]'s bytes; call [`Statement::check`] before believing them.
    ///
    /// # Errors
    /// Anything that is not the canonical encoding of some statement.
    pub fn decode(bytes: &[u8]) -> Result<Self, EncodingError> {
        fn ids(reader: &mut Reader<'_>, what: &'static str, max: u32) -> Result<Vec<u32>, EncodingError> {
            let count = reader.count(what, max, 4)?;
            (0..count).map(|_| reader.u32()).collect()
        }
        let mut reader = Reader::new(bytes);
        reader.header(TAG)?;
        let base = Digest(reader.array()?);
        let adapter = Digest(reader.array()?);
        let context_len = reader.count("context", MAX_CONTEXT, 1)?;
        let context = reader.take(context_len)?.to_vec();
        let input = ids(&mut reader, "input", MAX_TOKENS)?;
        let output = match reader.u8()? {
            COMPLETION => Output::Completion {
                ids: ids(&mut reader, "completion", MAX_TOKENS)?,
                max_tokens: reader.u32()?,
                stop_ids: ids(&mut reader, "stop ids", MAX_STOP_IDS)?,
            },
            other => return Err(EncodingError::Kind(other)),
        };
        reader.end()?;
        let Output::Completion { stop_ids, .. } = &output;
        if !stop_ids.is_sorted_by(|a, b| a < b) {
            return Err(EncodingError::Order);
        }
        Ok(Self { base, adapter, context, input, output })
    }

    /// `D_stmt`, which every challenge of a proof of this statement depends on.
    pub fn digest(&self) -> Digest {
        Absorb::new(Tag::Statement).bytes(&self.encode()).finish()
    }
}
