//! The public statement of one proof: which base, which adapter, and what comes out for which inputs.
//!
//! What the network is run on for a case, and how many rows that makes, is defined here; the bytes of a
//! statement in `encoding`. That the outputs are the network's is shown by replay, outside this crate.

mod encoding;

use std::ops::Range;

use thiserror::Error;

use crate::hash::{Absorb, Digest, Tag};

/// Most cases of a statement.
pub const MAX_CASES: u32 = 1 << 16;
/// Most token ids in an input or a continuation.
pub const MAX_TOKENS: u32 = 1 << 20;
/// Most rows of all cases together.
pub const MAX_ROWS: u32 = 1 << 21;
/// Most bytes of context.
pub const MAX_CONTEXT: u32 = 1 << 16;
/// Most stop ids.
pub const MAX_STOP_IDS: u32 = 1 << 10;
/// Most ids to choose among.
pub const MAX_CHOICES: u32 = 1 << 10;
/// Most logits that are stated one by one; of more, their digest is stated.
pub const MAX_LOGITS: u32 = 1 << 8;

/// Everything public that a proof is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// Digest of the base model, its config and tokenizer.
    pub base: Digest,
    /// `C_adapter`, the digest of the commitment's encoding.
    pub adapter: Digest,
    /// Bytes the application binds the proof to, such as a nonce of the verifier.
    pub context: Vec<u8>,
    /// Inputs with what comes out for each.
    pub cases: Vec<Case>,
}

/// One input and what comes out for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// What goes in.
    pub input: Input,
    /// What comes out.
    pub output: Output,
}

/// What goes into the network; the first byte of its encoding is its kind.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    /// The logits at the last position.
    Logits(Logits),
    /// How likely a continuation is.
    LogProb {
        /// The continuation.
        ids: Vec<u32>,
        /// Its log-probability at `2^-24` nat ([`crate::fixed::log_prob`]), summed over its ids.
        log_prob: i64,
    },
    /// How likely each of two continuations is, with the adapter and without it.
    Preference {
        /// The one that is meant to be preferred.
        chosen: Scored,
        /// The other.
        rejected: Scored,
    },
    /// The id with the largest logit at the last position, of those listed; ties go to the lowest id.
    Choice {
        /// What there is to choose from; strictly ascending.
        among: Vec<u32>,
        /// The best of them.
        chosen: u32,
    },
    /// Whether an id is at least so likely at the last position.
    AtLeast {
        /// The id.
        id: u32,
        /// The log-probability it is compared with, at `2^-24` nat.
        bound: i64,
        /// Whether its own is not below that.
        holds: bool,
    },
}

/// Logits at `2^-16`, one for each id of the vocabulary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Logits {
    /// All of them, at most [`MAX_LOGITS`].
    Values(Vec<i64>),
    /// [`Logits::digest_of`] them.
    Digest(Digest),
}

/// A continuation with its log-probabilities at `2^-24` nat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scored {
    /// The continuation.
    pub ids: Vec<u32>,
    /// Of the base with the adapter.
    pub log_prob: i64,
    /// Of the base alone.
    pub base_log_prob: i64,
}

/// Tokens that the network runs on, and the positions whose logits matter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sequence {
    /// The tokens, at least one.
    pub ids: Vec<u32>,
    /// Positions in it.
    pub read: Range<usize>,
}

/// Why a decoded statement states nothing.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum StatementError {
    /// No case, or too many.
    #[error("number of cases out of bounds: {0}")]
    Cases(usize),
    /// More rows than a statement may have.
    #[error("too many rows: {0}")]
    Rows(usize),
    /// More context than the encoding allows.
    #[error("context too long: {0}")]
    Context(usize),
    /// A case about another graph than the first, or about a graph where the first is about tokens.
    #[error("cases are not about one graph, or none: case {0}")]
    Graphs(usize),
    /// A case that states nothing.
    #[error("case {case}: {error}")]
    Case {
        /// Position of the case.
        case: usize,
        /// What is wrong with it.
        error: CaseError,
    },
}

/// Why a case states nothing.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CaseError {
    /// The input has no token.
    #[error("input is empty")]
    EmptyInput,
    /// A continuation has no token.
    #[error("{0} is empty")]
    Empty(&'static str),
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
    /// Ids that must ascend strictly.
    #[error("{0} are not strictly ascending")]
    Order(&'static str),
    /// A node has logits, and nothing that follows them.
    #[error("a node has no continuation")]
    Continued,
    /// The chosen id is none of those to choose from.
    #[error("choice is not among its ids: {0}")]
    Choice(u32),
}

impl Input {
    /// The graph of a node.
    pub fn graph(&self) -> Option<Digest> {
        match self {
            Self::Tokens(_) => None,
            Self::Node { graph, .. } => Some(*graph),
        }
    }
}

impl Logits {
    /// What is stated of these logits: the values where they are few, else their digest.
    pub fn of(values: &[i64]) -> Self {
        if values.len() <= MAX_LOGITS as usize {
            Self::Values(values.to_vec())
        } else {
            Self::Digest(Self::digest_of(values))
        }
    }

    /// Digest of logits, as in `STATEMENT.md`, section 7.
    pub fn digest_of(values: &[i64]) -> Digest {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Absorb::new(Tag::Logits).u32(values.len() as u32).bytes(&bytes).finish()
    }
}

impl Case {
    /// What a network of tokens is run on: the input, with each continuation but for its last token. Those of a
    /// preference share the computation of the tokens that both begin with.
    pub fn sequences(&self) -> Vec<Sequence> {
        let Input::Tokens(input) = &self.input else { return Vec::new() };
        let alone = input.len().saturating_sub(1)..input.len();
        let continued = |continuation: &[u32]| {
            let seen = &continuation[..continuation.len().saturating_sub(1)];
            let ids = [input, seen].concat();
            Sequence { read: alone.start..ids.len(), ids }
        };
        match &self.output {
            Output::Completion { ids, .. } | Output::LogProb { ids, .. } => vec![continued(ids)],
            Output::Preference { chosen, rejected } => vec![continued(&chosen.ids), continued(&rejected.ids)],
            Output::Logits(_) | Output::Choice { .. } | Output::AtLeast { .. } => {
                vec![Sequence { ids: input.clone(), read: alone }]
            }
        }
    }

    /// Rows of every site but the head, of a case of tokens: tokens the network is run on, those that two sequences begin with counted
    /// once. Each sequence keeps at least its last token to itself.
    pub fn rows(&self) -> usize {
        match self.sequences().as_slice() {
            [first, second] => {
                let room = first.ids.len().min(second.ids.len()).saturating_sub(1);
                let alike = first.ids.iter().zip(&second.ids).take(room).take_while(|(a, b)| a == b).count();
                first.ids.len() + second.ids.len() - alike
            }
            sequences => sequences.iter().map(|sequence| sequence.ids.len()).sum(),
        }
    }

    /// Checks that lists are within bounds, and that the stop rule explains where a completion ends.
    fn check(&self) -> Result<(), CaseError> {
        let bounded = |what, list: &[u32], max: u32| match list.len() {
            len if len > max as usize => Err(CaseError::Length { what, len }),
            _ => Ok(()),
        };
        let ids = |what, ids: &[u32]| {
            bounded(what, ids, MAX_TOKENS)?;
            if ids.is_empty() { Err(CaseError::Empty(what)) } else { Ok(()) }
        };
        let ascending = |what, list: &[u32], max| {
            bounded(what, list, max)?;
            if list.is_sorted_by(|a, b| a < b) { Ok(()) } else { Err(CaseError::Order(what)) }
        };
        match &self.input {
            Input::Tokens(input) if input.is_empty() => return Err(CaseError::EmptyInput),
            Input::Tokens(input) => bounded("input", input, MAX_TOKENS)?,
            Input::Node { .. } if self.output.continues() => return Err(CaseError::Continued),
            Input::Node { .. } => {}
        }
        match &self.output {
            Output::Completion { ids: completion, max_tokens, stop_ids } => {
                ascending("stop ids", stop_ids, MAX_STOP_IDS)?;
                ids("completion", completion)?;
                if completion.len() > *max_tokens as usize {
                    return Err(CaseError::TooLong(completion.len()));
                }
                let stops = |id: &u32| stop_ids.binary_search(id).is_ok();
                match completion.iter().position(stops) {
                    Some(position) if position + 1 < completion.len() => Err(CaseError::AfterStop(position)),
                    None if completion.len() < *max_tokens as usize => Err(CaseError::EndsEarly(completion.len())),
                    _ => Ok(()),
                }
            }
            Output::Logits(Logits::Values(values)) if values.is_empty() => Err(CaseError::Empty("logits")),
            Output::Logits(Logits::Values(values)) if values.len() > MAX_LOGITS as usize => {
                Err(CaseError::Length { what: "logits", len: values.len() })
            }
            Output::Logits(_) | Output::AtLeast { .. } => Ok(()),
            Output::LogProb { ids: continuation, .. } => ids("continuation", continuation),
            Output::Preference { chosen, rejected } => {
                ids("chosen continuation", &chosen.ids)?;
                ids("rejected continuation", &rejected.ids)
            }
            Output::Choice { among, chosen } => {
                ascending("ids to choose from", among, MAX_CHOICES)?;
                among.binary_search(chosen).map(|_| ()).map_err(|_| CaseError::Choice(*chosen))
            }
        }
    }
}

impl Output {
    /// Whether it is about ids that follow the input.
    fn continues(&self) -> bool {
        matches!(self, Self::Completion { .. } | Self::LogProb { .. } | Self::Preference { .. })
    }
}

impl Scored {
    /// By how much the adapter raises the log-probability, at `2^-24` nat: what DPO multiplies with beta.
    pub fn raised(&self) -> i128 {
        i128::from(self.log_prob) - i128::from(self.base_log_prob)
    }
}

impl Statement {
    /// The graph that its nodes are of, if it is about nodes.
    pub fn graph(&self) -> Option<Digest> {
        self.cases.first().and_then(|case| case.input.graph())
    }

    /// The nodes it is about, one for each case.
    pub fn nodes(&self) -> Vec<u32> {
        let node = |case: &Case| match case.input {
            Input::Tokens(_) => None,
            Input::Node { node, .. } => Some(node),
        };
        self.cases.iter().filter_map(node).collect()
    }

    /// Rows of every site but the head, of all cases in their order; of a statement about nodes, none is known here.
    pub fn rows(&self) -> usize {
        self.cases.iter().map(Case::rows).sum()
    }

    /// Rows of the head, which sees the positions alone whose logits matter.
    pub fn head_rows(&self) -> usize {
        self.cases.iter().flat_map(Case::sequences).map(|sequence| sequence.read.len()).sum()
    }

    /// Checks that every list is within bounds and that no case contradicts itself.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn check(&self) -> Result<(), StatementError> {
        if self.context.len() > MAX_CONTEXT as usize {
            return Err(StatementError::Context(self.context.len()));
        }
        if self.cases.is_empty() || self.cases.len() > MAX_CASES as usize {
            return Err(StatementError::Cases(self.cases.len()));
        }
        for (case, content) in self.cases.iter().enumerate() {
            content.check().map_err(|error| StatementError::Case { case, error })?;
        }
        if let Some(case) = self.cases.iter().position(|case| case.input.graph() != self.graph()) {
            return Err(StatementError::Graphs(case));
        }
        match self.rows() {
            rows if rows > MAX_ROWS as usize => Err(StatementError::Rows(rows)),
            _ => Ok(()),
        }
    }

    /// `D_stmt`, which every challenge of a proof of this statement depends on.
    pub fn digest(&self) -> Digest {
        Absorb::new(Tag::Statement).bytes(&self.encode()).finish()
    }
}
