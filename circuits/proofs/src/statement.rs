//! The public statement of one proof: which base, which adapter, and what comes out for which inputs.
//!
//! What the network is run on for a case, how many rows that makes, and the bytes of a statement are defined here. That
//! the outputs are the network's is shown by replay.

pub mod text;

use std::ops::Range;

use ftk_circuits::{Digest, StatementBytes};
use ftk_networks::graphs::opened::GraphQuestion;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::bounds::{CaseError, MAX_CASES, MAX_CONTEXT, MAX_ROWS};
use crate::inputs::Input;
use crate::outputs::{Kind, Output, Preferences};

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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// What goes in.
    pub input: Input,
    /// What comes out.
    pub output: Output,
}

/// Tokens that the network runs on, and the positions whose logits matter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatementSequence {
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
    /// A case about another graph or state than the first, or about something of another kind.
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

impl Case {
    /// What a network of tokens is run on: the input, with each continuation but for its last token. Those of a
    /// preference share the computation of the tokens that both begin with.
    pub fn sequences(&self) -> Vec<StatementSequence> {
        let Input::Tokens(input) = &self.input else { return Vec::new() };
        let last = input.len().saturating_sub(1);
        let continuations = self.output.continuations();
        if continuations.is_empty() {
            return vec![StatementSequence { ids: input.clone(), read: last..input.len() }];
        }
        let continued = |continuation: &&[u32]| {
            let seen = &continuation[..continuation.len().saturating_sub(1)];
            let ids = [input, seen].concat();
            StatementSequence { read: last..ids.len(), ids }
        };
        continuations.iter().map(continued).collect()
    }

    /// Rows of every site but the head, of a case of tokens: tokens the network is run on, those that two sequences
    /// begin with counted once. Each sequence keeps at least its last token to itself.
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

    /// The case without what the network and the stop rule have to say about it.
    #[must_use]
    pub fn question(&self) -> Self {
        Self { input: self.input.clone(), output: self.output.question() }
    }

    /// Checks that lists are within bounds, and that the output does not contradict itself.
    fn check(&self) -> Result<(), CaseError> {
        self.input.check(!self.output.continuations().is_empty())?;
        if matches!(self.input, Input::Pair { .. }) && self.output.kind() != Kind::Logits {
            return Err(CaseError::OfPair);
        }
        self.output.check()
    }
}

/// What cases ask about, if all are about nodes, or all about pairs.
pub fn asked(cases: &[Case]) -> Option<GraphQuestion> {
    let node = |case: &Case| if let Input::Node { node, .. } = case.input { Some(node) } else { None };
    let pair = |case: &Case| match &case.input {
        Input::Pair { source, target, .. } => Some([source.clone(), target.clone()]),
        _ => None,
    };
    match cases.first()?.input {
        Input::Tokens(_) => None,
        Input::Node { .. } => cases.iter().map(node).collect::<Option<_>>().map(GraphQuestion::Nodes),
        Input::Pair { .. } => cases.iter().map(pair).collect::<Option<_>>().map(GraphQuestion::Pairs),
    }
}

impl Statement {
    /// What its preferences amount to together, if it has any.
    pub fn preferences(&self) -> Option<Preferences> {
        Preferences::of(self.cases.iter().filter_map(|case| match &case.output {
            Output::Preference(preference) => Some(preference),
            _ => None,
        }))
    }

    /// The root of the graph that its nodes are of, or of the state that its pairs are of.
    pub fn graph(&self) -> Option<Digest> {
        self.cases.first().and_then(|case| case.input.graph())
    }

    /// The nodes or pairs it is about, one for each case.
    pub fn asked(&self) -> Option<GraphQuestion> {
        asked(&self.cases)
    }

    /// Rows of every site but the head, of all cases in their order; of a statement about nodes or pairs, none is
    /// known here.
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
        if let Some(case) = self.cases.iter().position(|case| !case.input.is_beside(&self.cases[0].input)) {
            return Err(StatementError::Graphs(case));
        }
        match self.rows() {
            rows if rows > MAX_ROWS as usize => Err(StatementError::Rows(rows)),
            _ => Ok(()),
        }
    }

    /// The canonical bytes, as in `STATEMENT.md`, section 7, which every challenge of a proof depends on.
    pub fn bytes(&self) -> StatementBytes {
        let mut said = (self.context.len() as u32).to_le_bytes().to_vec();
        said.extend(&self.context);
        said.extend((self.cases.len() as u32).to_le_bytes());
        for case in &self.cases {
            case.input.put(&mut said);
            case.output.put(&mut said);
        }
        StatementBytes { base: self.base, adapter: self.adapter, said }
    }
}

#[cfg(test)]
mod tests;
