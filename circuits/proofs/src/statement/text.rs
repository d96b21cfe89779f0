//! `statement.json`: the statement as canonical JSON, for people and programs to read.

use ftk_circuits::PROTOCOL_VERSION;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{Case, Statement};
use crate::hex::{self, parse_digest};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StatementJson {
    protocol: u32,
    base: String,
    adapter: String,
    context: String,
    cases: Vec<Case>,
}

/// Why there is no statement in some bytes.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum StatementTextError {
    /// Another version of the protocol.
    #[error("protocol version: {0}")]
    Protocol(u32),
    /// Not the canonical text of any.
    #[error("{0}")]
    Malformed(String),
}

/// The canonical text of a statement.
pub fn text(statement: &Statement) -> String {
    let json = StatementJson {
        protocol: PROTOCOL_VERSION,
        base: statement.base.to_string(),
        adapter: statement.adapter.to_string(),
        context: hex::encode(&statement.context),
        cases: statement.cases.clone(),
    };
    serde_json::to_string_pretty(&json).expect("numbers and text serialise") + "\n"
}

/// Reads [`text`]'s bytes and refuses all others.
///
/// # Errors
/// [`StatementTextError`].
pub fn parse(bytes: &[u8]) -> Result<Statement, StatementTextError> {
    let malformed = |error: serde_json::Error| StatementTextError::Malformed(error.to_string());
    // The version first: another one's statement has other fields.
    let version: Version = serde_json::from_slice(bytes).map_err(malformed)?;
    if version.protocol != PROTOCOL_VERSION {
        return Err(StatementTextError::Protocol(version.protocol));
    }
    let json: StatementJson = serde_json::from_slice(bytes).map_err(malformed)?;
    let digest =
        |text: &str| parse_digest(text).ok_or_else(|| StatementTextError::Malformed(format!("not a digest: {text}")));
    let statement = Statement {
        base: digest(&json.base)?,
        adapter: digest(&json.adapter)?,
        context: hex::decode(&json.context)
            .ok_or_else(|| StatementTextError::Malformed("context is not hexadecimal".to_owned()))?,
        cases: json.cases,
    };
    if text(&statement).as_bytes() == bytes {
        Ok(statement)
    } else {
        Err(StatementTextError::Malformed("not the canonical text of what it says".to_owned()))
    }
}

#[derive(Deserialize)]
struct Version {
    protocol: u32,
}
