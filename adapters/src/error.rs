//! What can go wrong with adapters and weights.

/// Error of `ftk-adapters`.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A weight the network uses is not among those loaded.
    #[error("no such weight: {0}")]
    MissingWeight(String),
    /// Cached positions are those of one sequence.
    #[error("cached positions belong to one sequence, not to {0}")]
    OneSequence(usize),
    /// An operation that needs positions came before any tokens.
    #[error("positions are needed before any token was embedded")]
    NoTokens,
    /// Tensor arithmetic or files.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}
