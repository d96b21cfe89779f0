//! What statements are about: a base of tokens, or one of graphs.

use std::path::{Path, PathBuf};

use candle_core::Device;
use ftk_adapters::weights::values;
use ftk_bases::{BaseModel, ModelError, Tokenizer, graphs};
use ftk_networks::graphs::End;
use ftk_networks::graphs::pairs::takes_pairs;
use ftk_proofs::head::{GraphBase, Tensors};
use ftk_proofs::{FixedModel, Net};

use super::fixed::WeightsError;
use super::model::{self, FixedModelError};

/// A base, all but the weights of one that is large.
#[derive(Debug)]
pub enum ProvedBase {
    /// Of tokens.
    Tokens(Box<BaseModel>),
    /// Of graphs.
    Graph {
        /// Its folder.
        path: PathBuf,
        /// What is in it.
        base: GraphBase,
    },
}

/// Why there is no such base.
#[derive(Debug, thiserror::Error)]
pub enum SubjectError {
    /// It cannot be read.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// Its weights cannot be brought to memory.
    #[error(transparent)]
    Weights(#[from] ftk_adapters::Error),
    /// Nothing is proved about it.
    #[error("{}: scores pairs of nodes by what the whole graph says of them, which no part of it can be opened for", .0.display())]
    Pairs(PathBuf),
}

impl ProvedBase {
    /// Opens a base by its path or name.
    ///
    /// # Errors
    /// As [`BaseModel::open`]; a base of graphs that cannot be read, or that scores pairs by other things than a stream.
    pub fn open(path: &Path) -> Result<Self, SubjectError> {
        if !graphs::is_one(path) {
            return Ok(Self::Tokens(Box::new(BaseModel::open(path)?)));
        }
        let (network, weights) = graphs::load(path, &Device::Cpu)?;
        if matches!(network.head, End::Pair { .. }) && !takes_pairs(&network) {
            return Err(SubjectError::Pairs(path.to_owned()));
        }
        let mut tensors = Tensors::new();
        for name in network.shapes().into_keys() {
            let tensor = weights.get(&name)?;
            let entries = values(&tensor, <[f32]>::to_vec).map_err(ftk_adapters::Error::from)?;
            tensors.insert(name, (tensor.dims().to_vec(), entries));
        }
        Ok(Self::Graph { path: path.to_owned(), base: GraphBase::new(network, tensors) })
    }

    /// The tokenizer, where there is one.
    pub fn tokenizer(&self) -> Option<&Tokenizer> {
        match self {
            Self::Tokens(source) => source.tokenizer().ok(),
            Self::Graph { .. } => None,
        }
    }

    /// The network.
    pub fn net(&self) -> Net {
        match self {
            Self::Tokens(source) => Net::Tokens(source.network().clone()),
            Self::Graph { base, .. } => Net::Graph(base.network().clone()),
        }
    }

    /// The integer form, weights read one after another.
    ///
    /// # Errors
    /// As [`model::read`].
    pub fn fixed(&self) -> Result<FixedModel, FixedModelError> {
        match self {
            Self::Tokens(source) => model::read(source),
            Self::Graph { base, .. } => Ok(base.fixed().map_err(WeightsError::from)?),
        }
    }

    /// The name an adapter refers to it by.
    pub fn name(&self) -> String {
        match self {
            Self::Tokens(source) => source.name(),
            Self::Graph { path, .. } => path.display().to_string(),
        }
    }
}
