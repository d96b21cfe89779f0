//! What can be wrong with a base model.

use std::path::{Path, PathBuf};

use ftk_adapters::hint::Hint;
use ftk_networks::Network;
use ftk_networks::config::ConfigError;

/// What [`ModelError::Malformed`] calls the configuration of a base of graphs.
pub(crate) const GRAPH_CONFIG: &str = "configuration of a network of graphs";

/// Error of [`crate`]. [`ModelError::hint`] says what to do.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// Nothing at that path.
    #[error("{}: no such file or folder", path.display())]
    NotFound {
        /// What was asked for.
        path: PathBuf,
    },
    /// A folder without a required file.
    #[error("{}: no such file in this folder: {file}", path.display())]
    MissingFile {
        /// The folder.
        path: PathBuf,
        /// The file's name.
        file: &'static str,
    },
    /// A file cannot be read.
    #[error("{}: cannot read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file cannot be written.
    #[error("{}: cannot write: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The destination of a write is already there.
    #[error("{}: already exists", path.display())]
    Exists {
        /// The destination.
        path: PathBuf,
    },
    /// A file does not follow its format.
    #[error("{}: malformed {format}: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Name of the format.
        format: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// What the model says of its network.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A file that Git LFS left a pointer in the place of.
    #[error("{}: a Git LFS pointer, not the file it stands for", path.display())]
    Pointer {
        /// The file.
        path: PathBuf,
    },
    /// The network needs a tensor that is not there.
    #[error("{}: missing tensor: {tensor}", path.display())]
    MissingTensor {
        /// The file or folder.
        path: PathBuf,
        /// The tensor's name in that file.
        tensor: String,
    },
    /// None of the tensors of a folder has a name that the network needs.
    #[error("{}: no tensor has a name that the network needs, such as: {tensor}", path.display())]
    OtherNames {
        /// The folder.
        path: PathBuf,
        /// A name that is needed.
        tensor: String,
    },
    /// A tensor stands among those of the network, and the network does not have it.
    #[error("{}: the network that the configuration describes has no such tensor: {tensor}", path.display())]
    ExtraTensor {
        /// The file or folder.
        path: PathBuf,
        /// The tensor's name in that file.
        tensor: String,
    },
    /// A tensor is not of the shape the network needs.
    #[error("{}: tensor {tensor} has shape {found:?}, the network needs {expected:?}", path.display())]
    Shape {
        /// The file.
        path: PathBuf,
        /// The tensor's name in that file.
        tensor: String,
        /// Shape in the file.
        found: Vec<usize>,
        /// Shape the configuration implies.
        expected: Vec<usize>,
    },
    /// A tensor's number format is not supported.
    #[error("{}: tensor {tensor} has an unsupported type: {found}", path.display())]
    TensorType {
        /// The file.
        path: PathBuf,
        /// The tensor's name in that file.
        tensor: String,
        /// The type's name.
        found: String,
    },
    /// A tensor has a NaN or infinite entry.
    #[error("{}: tensor {tensor} has an entry that is not finite: {value} at index {index}", path.display())]
    NotFinite {
        /// The file.
        path: PathBuf,
        /// The tensor's name in that file.
        tensor: String,
        /// Row-major position of the first such entry.
        index: usize,
        /// The entry.
        value: f32,
    },
    /// The model has no tokenizer and text was given or asked for.
    #[error("{}: this model has no tokenizer", path.display())]
    NoTokenizer {
        /// The model.
        path: PathBuf,
    },
    /// The model has no chat template and messages were given.
    #[error("{}: this model has no chat template", path.display())]
    NoChatTemplate {
        /// The model.
        path: PathBuf,
    },
    /// The chat template does not compile, or not on these messages.
    #[error("chat template: {reason}")]
    Template {
        /// What the template engine says.
        reason: String,
    },
    /// The tokenizer failed on a text or on ids.
    #[error("tokenizer: {reason}")]
    Tokenizer {
        /// What the tokenizer says.
        reason: String,
    },
    /// The tokenizer knows a token for which the network has no embedding.
    #[error("token {token:?} has no embedding in a vocabulary of {vocab}: {id}")]
    TokenId {
        /// The token's text.
        token: String,
        /// Its id.
        id: u32,
        /// Rows of the embedding table.
        vocab: usize,
    },
    /// A weight is missing from those given.
    #[error(transparent)]
    Weight(#[from] ftk_adapters::Error),
    /// Tensor arithmetic.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

impl Hint for ModelError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NotFound { .. } => {
                "give a Hugging Face folder (config.json, model.safetensors), a .gguf file, ORG/NAME on the hub, or \
                 \"village\", which ships with ftk"
                    .to_owned()
            }
            Self::MissingFile { file: "config.json", path } if path.join("adapter_config.json").exists() => {
                "this folder holds an adapter; give the base model it was trained on".to_owned()
            }
            Self::MissingFile { file: "config.json", .. } => "a model folder has a config.json".to_owned(),
            Self::MissingFile { file: "model.safetensors", path } if path.join("pytorch_model.bin").exists() => {
                "pickled weights are not read; save the model again with safe_serialization=True".to_owned()
            }
            Self::Malformed { format: "GGUF", path, .. } if is_shard(path) => {
                "give the folder that the file lies in, with its config.json".to_owned()
            }
            Self::Malformed { format: GRAPH_CONFIG, .. } => {
                "task \"gnn\" takes the folder base/ of a run that trained a network of graphs, or \"fresh\"".to_owned()
            }
            Self::Exists { .. } => "choose another folder or remove this one".to_owned(),
            Self::Config(ConfigError::Architecture { .. }) => format!("supported: {}", Network::names().join(", ")),
            Self::MissingTensor { tensor, .. } if tensor == "lm_head.weight" => {
                "a model whose head is its embedding table says \"tie_word_embeddings\": true in config.json".to_owned()
            }
            Self::ExtraTensor { .. } => "with it the model is another one: give the configuration that belongs to these \
                                         weights, or save the model again"
                .to_owned(),
            Self::Read { path, source } if source.kind() == std::io::ErrorKind::NotFound && is_shard(path) => {
                "the index names this file; was everything fetched?".to_owned()
            }
            Self::Write { path, .. } if *path == std::env::temp_dir() => {
                "what ships with ftk is unpacked there: set TMPDIR to a folder that can be written to".to_owned()
            }
            Self::Pointer { .. } => "fetch the file: git lfs pull in its folder, or ftk pull".to_owned(),
            Self::TensorType { path, .. } if path.extension().is_some_and(|extension| extension == "gguf") => {
                "read are F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0 and Q2_K to Q6_K; quantise the model again from its \
                 full weights"
                    .to_owned()
            }
            Self::Config(ConfigError::Key { key, .. }) if key == "tie_word_embeddings" => {
                "say \"tie_word_embeddings\": false in config.json if the head in the file is meant, or take it out".to_owned()
            }
            Self::TensorType { .. } => "supported: F32, F16, BF16".to_owned(),
            Self::NoTokenizer { .. } => "add the model's tokenizer.json, or give token ids".to_owned(),
            Self::NoChatTemplate { .. } => {
                "give plain prompts and completions, or add a chat_template.jinja to the model's folder".to_owned()
            }
            Self::Template { reason } if reason.contains("strftime_now") => {
                "the template writes the day, which is part of what is trained, asked and proved: say which in base.date = \
                 \"2025-07-06\" of the recipe or with --date"
                    .to_owned()
            }
            Self::Template { .. } => {
                "mend or replace the model's chat template, or give plain prompts and completions".to_owned()
            }
            _ => return None,
        })
    }
}

/// Whether a file is part of the weights.
fn is_shard(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "safetensors")
}
