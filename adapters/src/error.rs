//! What can go wrong with adapters and weights.

/// Error of `ftk-adapters`.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A weight the network uses is not among those loaded.
    #[error("no such weight: {0}")]
    MissingWeight(String),
    /// Tensor arithmetic or files.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}
