//! The text task: rows of text or token ids in, supervised or preference loss out; generation.

pub mod encode;
pub mod evaluate;
pub mod generate;
pub mod health;
mod pass;
pub mod preference;
pub mod preferred;
pub mod references;
pub mod rows;
pub mod session;

use std::path::PathBuf;

use crate::models::ModelError;

/// What can be wrong with rows.
#[derive(Debug, thiserror::Error)]
pub enum TextError {
    /// The file system refused.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The refusal.
        error: std::io::Error,
    },
    /// A row that is not what the task needs.
    #[error("{}:{line}{}{key}: {message}", path.display(), if key.is_empty() { "" } else { ":" })]
    Row {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column of the row; empty where the row as a whole is at fault.
        key: String,
        /// What is wrong.
        message: String,
    },
    /// A file without rows.
    #[error("{}: holds no rows", .0.display())]
    NoRows(PathBuf),
    /// Tokenizer or template.
    #[error(transparent)]
    Model(#[from] ModelError),
}

impl TextError {
    /// What to do about it, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Io { .. } => Some("give the path of a file of JSON lines".to_owned()),
            Self::Row { .. } | Self::NoRows(_) => Some(
                "a row is a line with a JSON object: text, messages, prompt and completion, or input_ids for sft; \
                 prompt, chosen and rejected, or prompt_ids, chosen_ids and rejected_ids for dpo"
                    .to_owned(),
            ),
            Self::Model(error) => error.hint(),
        }
    }
}
