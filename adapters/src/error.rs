//! What can go wrong with adapters and weights.

/// Error of `ftk-adapters`.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A weight the network uses is not among those loaded.
    #[error("no such weight: {0}")]
    MissingWeight(String),
    /// More positions than the network has rows for.
    #[error("more positions than the {rows} of {site}: {positions}")]
    Positions {
        /// The table of positions.
        site: String,
        /// Its rows.
        rows: usize,
        /// Positions of the pass, with those before it.
        positions: usize,
    },
    /// Tensor arithmetic or files.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}
