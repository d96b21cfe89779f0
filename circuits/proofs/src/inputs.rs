//! What goes into the network.

use ftk_circuits::Digest;
#[cfg(test)]
use ftk_circuits::{EncodingError, Reader};
use serde::{Deserialize, Serialize};

use crate::bounds::{CaseError, MAX_TOKENS, bounded};
use crate::encoding::put_ids;
#[cfg(test)]
use crate::encoding::take_ids;
use crate::hex;

const TOKENS: u8 = 0;
const NODE: u8 = 1;

/// What goes into the network; the first byte of its encoding is its kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "InputJson", into = "InputJson")]
pub enum Input {
    /// Token ids.
    Tokens(Vec<u32>),
    /// A node of a graph.
    Node {
        /// The root that the graph's nodes hang from.
        graph: Digest,
        /// Number of the node.
        node: u32,
    },
}

/// As it stands in `statement.json`.
#[derive(Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
enum InputJson {
    Tokens {
        ids: Vec<u32>,
    },
    Node {
        #[serde(with = "hex::digest")]
        graph: Digest,
        node: u32,
    },
}

impl From<InputJson> for Input {
    fn from(json: InputJson) -> Self {
        match json {
            InputJson::Tokens { ids } => Self::Tokens(ids),
            InputJson::Node { graph, node } => Self::Node { graph, node },
        }
    }
}

impl From<Input> for InputJson {
    fn from(input: Input) -> Self {
        match input {
            Input::Tokens(ids) => Self::Tokens { ids },
            Input::Node { graph, node } => Self::Node { graph, node },
        }
    }
}

impl Input {
    /// The graph of a node.
    pub fn graph(&self) -> Option<Digest> {
        match self {
            Self::Tokens(_) => None,
            Self::Node { graph, .. } => Some(*graph),
        }
    }

    /// Tokens; none of a node.
    pub fn tokens(&self) -> &[u32] {
        match self {
            Self::Tokens(ids) => ids,
            Self::Node { .. } => &[],
        }
    }

    /// Checks that it is one; `continued` where something is to follow it.
    pub(crate) fn check(&self, continued: bool) -> Result<(), CaseError> {
        match self {
            Self::Tokens(ids) if ids.is_empty() => Err(CaseError::EmptyInput),
            Self::Tokens(ids) => bounded("input", ids.len(), MAX_TOKENS),
            Self::Node { .. } if continued => Err(CaseError::Continued),
            Self::Node { .. } => Ok(()),
        }
    }

    pub(crate) fn put(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Tokens(input) => {
                bytes.push(TOKENS);
                put_ids(bytes, input);
            }
            Self::Node { graph, node } => {
                bytes.push(NODE);
                bytes.extend(graph.0);
                bytes.extend(node.to_le_bytes());
            }
        }
    }

    #[cfg(test)]
    pub(crate) fn take(reader: &mut Reader<'_>) -> Result<Self, EncodingError> {
        match reader.u8()? {
            TOKENS => Ok(Self::Tokens(take_ids(reader, "input", MAX_TOKENS)?)),
            NODE => Ok(Self::Node { graph: Digest(reader.array()?), node: reader.u32()? }),
            other => Err(EncodingError::Bounds { what: "kind of input", value: other.into() }),
        }
    }
}
