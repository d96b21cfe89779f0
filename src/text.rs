//! The text task: rows of text or token ids in, supervised or preference loss out; generation.

pub mod encode;
pub mod generate;
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
