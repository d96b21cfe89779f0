//! The canonical bytes of a statement, as in `STATEMENT.md`, section 7.

use super::{
    Case, Input, Logits, MAX_CASES, MAX_CHOICES, MAX_CONTEXT, MAX_LOGITS, MAX_STOP_IDS, MAX_TOKENS, Output, Scored,
    Statement,
};
use crate::bytes::{EncodingError, Reader, header};
use crate::hash::Digest;

const TAG: &[u8] = b"ftk statement\0";

/// Kinds of inputs.
const TOKENS: u8 = 0;
const NODE: u8 = 1;

/// Kinds of outputs.
const COMPLETION: u8 = 0;
const LOGITS: u8 = 1;
const LOGITS_DIGEST: u8 = 2;
const LOG_PROB: u8 = 3;
const PREFERENCE: u8 = 4;
const CHOICE: u8 = 5;
const AT_LEAST: u8 = 6;

/// Least bytes of a case: two kinds, and the length of an input.
const MIN_CASE_BYTES: usize = 6;

impl Statement {
    /// The canonical bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = header(TAG);
        bytes.extend(self.base.0);
        bytes.extend(self.adapter.0);
        bytes.extend((self.context.len() as u32).to_le_bytes());
        bytes.extend(&self.context);
        bytes.extend((self.cases.len() as u32).to_le_bytes());
        for case in &self.cases {
            match &case.input {
                Input::Tokens(input) => {
                    bytes.push(TOKENS);
                    put_ids(&mut bytes, input);
                }
                Input::Node { graph, node } => {
                    bytes.push(NODE);
                    bytes.extend(graph.0);
                    bytes.extend(node.to_le_bytes());
                }
            }
            put_output(&mut bytes, &case.output);
        }
        bytes
    }

    /// Reads [`Statement::encode`]'s bytes; call [`Statement::check`] before believing them.
    ///
    /// # Errors
    /// Anything that is not the canonical encoding of some statement.
    pub fn decode(bytes: &[u8]) -> Result<Self, EncodingError> {
        let mut reader = Reader::new(bytes);
        reader.header(TAG)?;
        let base = Digest(reader.array()?);
        let adapter = Digest(reader.array()?);
        let context_len = reader.count("context", MAX_CONTEXT, 1)?;
        let context = reader.take(context_len)?.to_vec();
        let count = reader.count("cases", MAX_CASES, MIN_CASE_BYTES)?;
        let cases = (0..count).map(|_| take_case(&mut reader)).collect::<Result<_, _>>()?;
        reader.end()?;
        Ok(Self { base, adapter, context, cases })
    }
}

fn put_ids(bytes: &mut Vec<u8>, ids: &[u32]) {
    bytes.extend((ids.len() as u32).to_le_bytes());
    bytes.extend(ids.iter().flat_map(|id| id.to_le_bytes()));
}

fn put_output(bytes: &mut Vec<u8>, output: &Output) {
    match output {
        Output::Completion { ids, max_tokens, stop_ids } => {
            bytes.push(COMPLETION);
            put_ids(bytes, ids);
            bytes.extend(max_tokens.to_le_bytes());
            put_ids(bytes, stop_ids);
        }
        Output::Logits(Logits::Values(values)) => {
            bytes.push(LOGITS);
            bytes.extend((values.len() as u32).to_le_bytes());
            bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        }
        Output::Logits(Logits::Digest(digest)) => {
            bytes.push(LOGITS_DIGEST);
            bytes.extend(digest.0);
        }
        Output::LogProb { ids, log_prob } => {
            bytes.push(LOG_PROB);
            put_ids(bytes, ids);
            bytes.extend(log_prob.to_le_bytes());
        }
        Output::Preference { chosen, rejected } => {
            bytes.push(PREFERENCE);
            for Scored { ids, log_prob, base_log_prob } in [chosen, rejected] {
                put_ids(bytes, ids);
                bytes.extend(log_prob.to_le_bytes());
                bytes.extend(base_log_prob.to_le_bytes());
            }
        }
        Output::Choice { among, chosen } => {
            bytes.push(CHOICE);
            put_ids(bytes, among);
            bytes.extend(chosen.to_le_bytes());
        }
        Output::AtLeast { id, bound, holds } => {
            bytes.push(AT_LEAST);
            bytes.extend(id.to_le_bytes());
            bytes.extend(bound.to_le_bytes());
            bytes.push(u8::from(*holds));
        }
    }
}

fn take_case(reader: &mut Reader<'_>) -> Result<Case, EncodingError> {
    let input = match reader.u8()? {
        TOKENS => Input::Tokens(take_ids(reader, "input", MAX_TOKENS)?),
        NODE => Input::Node { graph: Digest(reader.array()?), node: reader.u32()? },
        other => return Err(EncodingError::InputKind(other)),
    };
    let output = match reader.u8()? {
        COMPLETION => Output::Completion {
            ids: take_ids(reader, "completion", MAX_TOKENS)?,
            max_tokens: reader.u32()?,
            stop_ids: take_ascending(reader, "stop ids", MAX_STOP_IDS)?,
        },
        LOGITS => {
            let count = reader.count("logits", MAX_LOGITS, 8)?;
            Output::Logits(Logits::Values((0..count).map(|_| take_i64(reader)).collect::<Result<_, _>>()?))
        }
        LOGITS_DIGEST => Output::Logits(Logits::Digest(Digest(reader.array()?))),
        LOG_PROB => Output::LogProb { ids: take_ids(reader, "continuation", MAX_TOKENS)?, log_prob: take_i64(reader)? },
        PREFERENCE => Output::Preference {
            chosen: take_scored(reader, "chosen continuation")?,
            rejected: take_scored(reader, "rejected continuation")?,
        },
        CHOICE => {
            Output::Choice { among: take_ascending(reader, "ids to choose from", MAX_CHOICES)?, chosen: reader.u32()? }
        }
        AT_LEAST => Output::AtLeast {
            id: reader.u32()?,
            bound: take_i64(reader)?,
            holds: match reader.u8()? {
                0 => false,
                1 => true,
                value => return Err(EncodingError::Bounds { what: "yes or no", value: value.into() }),
            },
        },
        other => return Err(EncodingError::Kind(other)),
    };
    Ok(Case { input, output })
}

fn take_ids(reader: &mut Reader<'_>, what: &'static str, max: u32) -> Result<Vec<u32>, EncodingError> {
    let count = reader.count(what, max, 4)?;
    (0..count).map(|_| reader.u32()).collect()
}

fn take_ascending(reader: &mut Reader<'_>, what: &'static str, max: u32) -> Result<Vec<u32>, EncodingError> {
    let ids = take_ids(reader, what, max)?;
    if ids.is_sorted_by(|a, b| a < b) { Ok(ids) } else { Err(EncodingError::Order(what)) }
}

fn take_i64(reader: &mut Reader<'_>) -> Result<i64, EncodingError> {
    reader.array().map(i64::from_le_bytes)
}

fn take_scored(reader: &mut Reader<'_>, what: &'static str) -> Result<Scored, EncodingError> {
    let ids = take_ids(reader, what, MAX_TOKENS)?;
    Ok(Scored { ids, log_prob: take_i64(reader)?, base_log_prob: take_i64(reader)? })
}
