//! The networks ftk knows, as one type: each is written once over [`Ops`], in three parts (embedding, block, head),
//! so that an interpretation may keep or forget what lies between two blocks.

use ftk_adapters::ops::{Ops, Tokens};

use super::Llama;

/// A decoder: an embedding, blocks that follow each other, a head.
#[derive(Clone, Debug, PartialEq)]
pub enum Network {
    /// The Llama family.
    Llama(Llama),
}

impl From<Llama> for Network {
    fn from(network: Llama) -> Self {
        Self::Llama(network)
    }
}

impl Network {
    /// Rows of the embedding table.
    pub fn vocab(&self) -> usize {
        match self {
            Self::Llama(network) => network.vocab,
        }
    }

    /// Positions the network was made for.
    pub fn context(&self) -> usize {
        match self {
            Self::Llama(network) => network.context,
        }
    }

    /// Number of blocks.
    pub fn blocks(&self) -> usize {
        match self {
            Self::Llama(network) => network.layers,
        }
    }

    /// What the first block takes, `(batch, seq, hidden)`.
    ///
    /// # Errors
    /// Those of the interpretation.
    pub fn embed<O: Ops>(&self, ops: &mut O, tokens: &Tokens) -> Result<O::Value, O::Error> {
        match self {
            Self::Llama(network) => network.embed(ops, tokens),
        }
    }

    /// Block `index`, from 0: `(batch, seq, hidden)` to the same shape.
    ///
    /// # Errors
    /// Those of the interpretation.
    pub fn block<O: Ops>(&self, ops: &mut O, index: usize, x: &O::Value) -> Result<O::Value, O::Error> {
        match self {
            Self::Llama(network) => network.block(ops, index, x),
        }
    }

    /// Logits `(1, rows.len(), vocab)` at the given rows of `(batch * seq)` of what the last block gave.
    ///
    /// # Errors
    /// Those of the interpretation.
    pub fn head<O: Ops>(&self, ops: &mut O, x: &O::Value, rows: &[usize]) -> Result<O::Value, O::Error> {
        match self {
            Self::Llama(network) => network.head(ops, x, rows),
        }
    }

    /// The whole network: logits `(1, rows.len(), vocab)` at the given rows of `(batch * seq)`.
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
