//! What goes into the network.

use ftk_circuits::Digest;
#[cfg(test)]
use ftk_circuits::{EncodingError, Reader};
use ftk_networks::graphs::name::spelt;
use serde::{Deserialize, Serialize};

use crate::bounds::{CaseError, MAX_NAME, MAX_TOKENS, bounded};
use crate::encoding::{put_ids, put_name};
#[cfg(test)]
use crate::encoding::{take_ids, take_name};
use crate::hex;

const TOKENS: u8 = 0;
const NODE: u8 = 1;
const PAIR: u8 = 2;

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
    /// A user who rates another, by what is known in a state.
    Pair {
        /// The root of the state.
        state: Digest,
        /// Name of who rates.
        source: String,
        /// Name of who is rated.
        target: String,
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
    Pair {
        #[serde(with = "hex::digest")]
        state: Digest,
        source: String,
        target: String,
    },
}

impl From<InputJson> for Input {
    fn from(json: InputJson) -> Self {
        match json {
            InputJson::Tokens { ids } => Self::Tokens(ids),
            InputJson::Node { graph, node } => Self::Node { graph, node },
            InputJson::Pair { state, source, target } => Self::Pair { state, source, target },
        }
    }
}

impl From<Input> for InputJson {
    fn from(input: Input) -> Self {
        match input {
            Input::Tokens(ids) => Self::Tokens { ids },
            Input::Node { graph, node } => Self::Node { graph, node },
            Input::Pair { state, source, target } => Self::Pair { state, source, target },
        }
    }
}

impl Input {
    /// The root of the graph of a node, or of the state of a pair.
    pub fn graph(&self) -> Option<Digest> {
        match self {
            Self::Tokens(_) => None,
            Self::Node { graph, .. } => Some(*graph),
            Self::Pair { state, .. } => Some(*state),
        }
    }

    /// Whether both are tokens, or nodes of one graph, or pairs of one state.
    pub(crate) fn is_beside(&self, other: &Self) -> bool {
        self.kind() == other.kind() && self.graph() == other.graph()
    }

    /// Tokens; none of a node or pair.
    pub fn tokens(&self) -> &[u32] {
        match self {
            Self::Tokens(ids) => ids,
            Self::Node { .. } | Self::Pair { .. } => &[],
        }
    }

    fn kind(&self) -> u8 {
        match self {
            Self::Tokens(_) => TOKENS,
            Self::Node { .. } => NODE,
            Self::Pair { .. } => PAIR,
        }
    }

    /// Checks that it is one; `continued` where something is to follow it.
    pub(crate) fn check(&self, continued: bool) -> Result<(), CaseError> {
        match self {
            Self::Tokens(ids) if ids.is_empty() => Err(CaseError::EmptyInput),
            Self::Tokens(ids) => bounded("input", ids.len(), MAX_TOKENS),
            Self::Node { .. } | Self::Pair { .. } if continued => Err(CaseError::Continued),
            Self::Node { .. } => Ok(()),
            Self::Pair { source, target, .. } => [source, target].into_iter().try_for_each(|name| {
                bounded("name", name.len(), MAX_NAME)?;
                match spelt(name) == *name {
                    true => Ok(()),
                    false => Err(CaseError::Spelling(name.clone())),
                }
            }),
        }
    }

    pub(crate) fn put(&self, bytes: &mut Vec<u8>) {
        bytes.push(self.kind());
        match self {
            Self::Tokens(input) => put_ids(bytes, input),
            Self::Node { graph, node } => {
                bytes.extend(graph.0);
                bytes.extend(node.to_le_bytes());
            }
            Self::Pair { state, source, target } => {
                bytes.extend(state.0);
                [source, target].into_iter().for_each(|name| put_name(bytes, name));
            }
        }
    }

    #[cfg(test)]
    pub(crate) fn take(reader: &mut Reader<'_>) -> Result<Self, EncodingError> {
        match reader.u8()? {
            TOKENS => Ok(Self::Tokens(take_ids(reader, "input", MAX_TOKENS)?)),
            NODE => Ok(Self::Node { graph: Digest(reader.array()?), node: reader.u32()? }),
            PAIR => {
                let state = Digest(reader.array()?);
                Ok(Self::Pair { state, source: take_name(reader)?, target: take_name(reader)? })
            }
            other => Err(EncodingError::Bounds { what: "kind of input", value: other.into() }),
        }
    }
}
