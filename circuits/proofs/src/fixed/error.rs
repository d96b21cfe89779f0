//! Why a network has no exact-integer form or no result.

use ftk_circuits::fixed::FixedError;
use ftk_kernels::grid::GridError;

use crate::read::RowError;

/// Why a network has no exact-integer form or no result.
#[derive(Debug, thiserror::Error)]
pub enum PassError {
    /// An operation of the fixed semantics.
    #[error(transparent)]
    Fixed(#[from] FixedError),
    /// Logits that say nothing of what is wanted.
    #[error(transparent)]
    Read(#[from] RowError),
    /// A missing weight.
    #[error("no such weight: {0}")]
    MissingWeight(String),
    /// A weight that is no table, matrix or vector where a site needs one, or has another number of entries than its shape.
    #[error("{name} cannot have this shape: {shape:?}")]
    Shape {
        /// The weight.
        name: String,
        /// Its shape.
        shape: Vec<usize>,
    },
    /// A weight or constant that has no place on the integer grid.
    #[error("{error} of {name}")]
    Grid {
        /// Name of the tensor or constant.
        name: String,
        /// What is wrong with which entry.
        #[source]
        error: GridError,
    },
    /// The base was quantised for other sites than the network visits.
    #[error("no integer weight at site: {0}")]
    MissingSite(String),
    /// A site the network adds a bias at, or adds none at, while the base was quantised the other way.
    #[error("the base and the network differ on whether there is a bias at site: {0}")]
    Bias(String),
    /// A sequence longer than the table of positions.
    #[error("positions beyond the table, which has: {0}")]
    Positions(usize),
    /// A part of features that go beyond those that are there.
    #[error("a part up to feature {end} is not among those of {site}, which has: {features}")]
    Parts {
        /// The site they come from.
        site: String,
        /// Width.
        features: usize,
        /// Where the part ends.
        end: usize,
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
    /// A token id beyond the embedding table.
    #[error("token id beyond the vocabulary: {0}")]
    Token(u32),
    /// Tokens for a network of graphs, or nodes for one of tokens.
    #[error("the base does not take inputs of this kind")]
    Kind,
    /// The deadline has passed.
    #[error("the time is up")]
    Time,
    /// A row to select that does not exist.
    #[error("no such row: {0}")]
    Row(usize),
    /// The adapter's scale was not absorbed at export.
    #[error("adapter scale must be 1 (absorb it into B at export) at site {site}: {scale}")]
    Scale {
        /// Adapted site.
        site: String,
        /// `alpha / r` found.
        scale: f32,
    },
    /// An adapter value between two grid points.
    #[error("adapter factor {factor} is off the 16-bit grid (round it at export) at site {site}, index: {index}")]
    OffGrid {
        /// Adapted site.
        site: String,
        /// `A` or `B`.
        factor: char,
        /// Row-major index of the first such value.
        index: usize,
    },
    /// An adapter for other shapes than the base has.
    #[error("adapter does not fit the base at site: {0}")]
    AdapterShape(String),
    /// An operation that is defined in floating point only.
    #[error("attention over neighbours has no exact-integer form at site: {0}")]
    Neighbours(String),
    /// Another number of rows of logits than the cases state something of.
    #[error("the network gives {rows} rows of logits, and the cases state something of {stated}")]
    Stated {
        /// Rows it gives.
        rows: usize,
        /// Rows that are stated.
        stated: usize,
    },
    /// Logits that are not those whose digest is stated, or none, or so few that they are stated one by one.
    #[error("case {0} states the digest of other logits")]
    LogitsDigest(usize),
    /// An adapted site the network visited twice in one run.
    #[error("adapted site visited twice: {0}")]
    Twice(String),
    /// An adapted site the network never visited.
    #[error("adapted site never visited: {0}")]
    Unvisited(String),
}
