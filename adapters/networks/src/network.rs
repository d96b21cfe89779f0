//! The networks ftk knows, as one type: each is written once over [`Ops`], in three parts (embedding, block, head),
//! so that an interpretation may keep or forget what lies between two blocks.

use crate::ops::{Ops, Tokens};

use super::{Gpt2, Llama};

/// A decoder: an embedding, blocks that follow each other, a head.
#[derive(Clone, Debug, PartialEq)]
pub enum Network {
    /// The Llama family.
    Llama(Llama),
    /// GPT-2.
    Gpt2(Gpt2),
}

impl From<Llama> for Network {
    fn from(network: Llama) -> Self {
        Self::Llama(network)
    }
}

impl From<Gpt2> for Network {
    fn from(network: Gpt2) -> Self {
        Self::Gpt2(network)
    }
}

impl Network {
    /// The family, by the name that configurations call it (`model_type`).
    pub fn family(&self) -> &'static str {
        match self {
            Self::Llama(network) => network.family.name(),
            Self::Gpt2(_) => "gpt2",
        }
    }

    /// The same network with a head of its own, where the embedding table was its head.
    pub fn untied(self) -> Self {
        match self {
            Self::Llama(network) => Self::Llama(Llama { tied: false, ..network }),
            Self::Gpt2(network) => Self::Gpt2(Gpt2 { tied: false, ..network }),
        }
    }

    /// Rows of the embedding table.
    pub fn vocab(&self) -> usize {
        match self {
            Self::Llama(network) => network.vocab,
            Self::Gpt2(network) => network.vocab,
        }
    }

    /// Positions the network was made for.
    pub fn context(&self) -> usize {
        match self {
            Self::Llama(network) => network.context,
            Self::Gpt2(network) => network.context,
        }
    }

    /// Positions the network cannot go beyond, because it has a row for each; `None` if it can.
    pub fn learned_positions(&self) -> Option<usize> {
        match self {
            Self::Llama(_) => None,
            Self::Gpt2(network) => Some(network.context),
        }
    }

    /// Whether files hold its linear weights as `(d_in, d_out)`, which PEFT calls `fan_in_fan_out`.
    pub fn fan_in_fan_out(&self) -> bool {
        matches!(self, Self::Gpt2(_))
    }

    /// Whether files hold the tensor of this name as `(d_in, d_out)`.
    pub fn stored_transposed(&self, name: &str) -> bool {
        matches!(self, Self::Gpt2(_)) && Gpt2::stored_transposed(name)
    }

    /// Number of blocks.
    pub fn blocks(&self) -> usize {
        match self {
            Self::Llama(network) => network.layers,
            Self::Gpt2(network) => network.layers,
        }
    }

    /// What the first block takes, `(tokens, hidden)`.
    ///
    /// # Errors
    /// Those of the interpretation.
    pub fn embed<O: Ops>(&self, ops: &mut O, tokens: &Tokens) -> Result<O::Value, O::Error> {
        match self {
            Self::Llama(network) => network.embed(ops, tokens),
            Self::Gpt2(network) => network.embed(ops, tokens),
        }
    }

    /// Block `index`, from 0: `(tokens, hidden)` to the same shape.
    ///
    /// # Errors
    /// Those of the interpretation.
    pub fn block<O: Ops>(&self, ops: &mut O, index: usize, x: &O::Value) -> Result<O::Value, O::Error> {
        match self {
            Self::Llama(network) => network.block(ops, index, x),
            Self::Gpt2(network) => network.block(ops, index, x),
        }
    }

    /// Logits `(rows.len(), vocab)` at the given rows of what the last block gave.
    ///
    /// # Errors
    /// Those of the interpretation.
    pub fn head<O: Ops>(&self, ops: &mut O, x: &O::Value, rows: &[usize]) -> Result<O::Value, O::Error> {
        match self {
            Self::Llama(network) => network.head(ops, x, rows),
            Self::Gpt2(network) => network.head(ops, x, rows),
        }
    }

    /// The whole network: logits `(rows.len(), vocab)` at the given rows.
    ///
    /// # Errors
    /// Those of the interpretation.
    pub fn forward<O: Ops>(&self, ops: &mut O, tokens: &Tokens, rows: &[usize]) -> Result<O::Value, O::Error> {
        let mut x = self.embed(ops, tokens)?;
        for index in 0..self.blocks() {
            x = self.block(ops, index, &x)?;
        }
        self.head(ops, &x, rows)
    }
}
