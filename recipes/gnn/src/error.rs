//! What can be wrong with a graph or with what is asked of it.

use std::path::{Path, PathBuf};

use ftk_adapters::foreign;
use ftk_adapters::hint::Hint;
use ftk_bases::ModelError;

/// Error of the graph plugin.
#[derive(Debug, thiserror::Error)]
pub enum GraphError {
    /// The file system refused.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The refusal.
        error: std::io::Error,
    },
    /// A file does not hold what it must.
    #[error("{}{place}: {message}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// `:line`, `:line:column` or `:array`, or nothing.
        place: String,
        /// What is wrong.
        message: String,
        /// What to do.
        hint: Option<&'static str>,
    },
    /// A graph that is in order, but not one for this.
    #[error("{message}")]
    Unfit {
        /// What is wrong.
        message: String,
        /// What to do.
        hint: &'static str,
    },
    /// The base.
    #[error(transparent)]
    Base(#[from] ModelError),
    /// Tensors.
    #[error(transparent)]
    Adapters(#[from] ftk_adapters::Error),
    /// Tensors.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
    /// Adapter files.
    #[error(transparent)]
    Peft(#[from] ftk_adapters::peft::PeftError),
}

impl Hint for GraphError {
    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Malformed { hint, .. } => *hint,
            Self::Unfit { hint, .. } => Some(*hint),
            Self::Base(error) => return error.hint(),
            Self::Peft(error) => return error.hint(),
            Self::Io { error, .. } if error.kind() == std::io::ErrorKind::UnexpectedEof => Some(foreign::CUT_OFF),
            Self::Io { .. } | Self::Adapters(_) | Self::Candle(_) => None,
        };
        hint.map(str::to_owned)
    }
}

impl GraphError {
    pub(super) fn io(path: &Path, error: std::io::Error) -> Self {
        Self::Io { path: path.to_owned(), error }
    }

    pub(super) fn malformed(path: &Path, message: impl Into<String>) -> Self {
        Self::at(path, "", message)
    }

    pub(super) fn at(path: &Path, place: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Malformed { path: path.to_owned(), place: place.into(), message: message.into(), hint: None }
    }

    pub(super) fn hinted(self, hint: &'static str) -> Self {
        match self {
            Self::Malformed { path, place, message, .. } => Self::Malformed { path, place, message, hint: Some(hint) },
            other => other,
        }
    }

    pub(super) fn unfit(message: impl Into<String>, hint: &'static str) -> Self {
        Self::Unfit { message: message.into(), hint }
    }
}
