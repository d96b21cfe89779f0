//! What can go wrong with adapters and weights.

/// Error of `ftk-adapters`.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A weight the network uses is not among those loaded.
    #[error("no such weight: {0}")]
    MissingWeight(String),
    /// Each cache is of one sequence, whose next tokens stand together.
    #[error("there are {caches} sequences in caches, and stretches of tokens that follow them: {segments}")]
    CachedSequences {
        /// Sequences in caches.
        caches: usize,
        /// Stretches of tokens.
        segments: usize,
    },
    /// An operation that needs positions came before any tokens.
    #[error("positions are needed before any token was embedded")]
    NoTokens,
    /// More positions than the network has rows for.
    #[error("the {rows} positions of {site} are not enough for: {positions}")]
    Positions {
        /// The table of positions.
        site: String,
        /// Its rows.
        rows: usize,
        /// Positions of the longest sequence.
        positions: usize,
    },
    /// A sequence that is longer than the window of attention.
    #[error("attention at {site} sees a window of {window} positions, which are not enough for: {positions}")]
    Window {
        /// The layer.
        site: String,
        /// Positions it sees.
        window: usize,
        /// Positions of the longest sequence.
        positions: usize,
    },
    /// Tensor arithmetic or files.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}
