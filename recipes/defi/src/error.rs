//! What can go wrong between a market file and a decision.

use std::path::PathBuf;

use ftk_adapters::foreign;
use ftk_adapters::hint::Hint;

use ftk_recipes::RecipeError;

/// A market that cannot be read, simulated or quoted.
#[derive(Debug, thiserror::Error)]
pub enum DefiError {
    /// The file system's.
    #[error("cannot read or write {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What happened.
        source: std::io::Error,
    },
    /// A row that is not what its format says.
    #[error("{}:{line}:{column}: {message}", path.display())]
    Row {
        /// The file.
        path: PathBuf,
        /// Its line, from 1.
        line: usize,
        /// The column's name.
        column: String,
        /// What is wrong.
        message: String,
    },
    /// A file whose format cannot be told.
    #[error("{}: {message}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What it looks like.
        message: String,
    },
    /// A file that holds what is not read, under whatever format.
    #[error("{}: {message}", path.display())]
    Contents {
        /// The file.
        path: PathBuf,
        /// What it holds.
        message: String,
    },
    /// A table whose columns are not those it needs.
    #[error("{}: {message}", path.display())]
    Table {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// A canonical file that is not as it was written.
    #[error("{}: is not a canonical market file: {message}", path.display())]
    Canonical {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// A plan's market that is not there.
    #[error("{}: the plan's market is not there", path.display())]
    NoMarket {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// A market of another kind than is needed.
    #[error("{}: holds {found}, needed are {needed}", path.display())]
    Kind {
        /// The file.
        path: PathBuf,
        /// What it holds.
        found: &'static str,
        /// What is needed.
        needed: &'static str,
    },
    /// Exact integers that left their range.
    #[error("an amount leaves its range: {0}")]
    Overflow(&'static str),
    /// An operation on a pool that the pool does not allow.
    #[error("the pool refuses: {0}")]
    Pool(&'static str),
    /// Settings of a plan, state or log that do not hold together.
    #[error("{place}: {message}")]
    Setting {
        /// Which.
        place: String,
        /// What is wrong.
        message: String,
    },
    /// A plan that cannot be read as one.
    #[error(transparent)]
    Plan(RecipeError),
    /// A decision log that does not check; the name of the check is first.
    #[error("{check}: {message}")]
    Log {
        /// The check that failed.
        check: &'static str,
        /// How.
        message: String,
    },
    /// The policy's.
    #[error("the policy cannot answer: {0}")]
    Policy(String),
}

impl Hint for DefiError {
    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Plan(error) => return error.hint.clone(),
            Self::Io { source, .. } if source.kind() == std::io::ErrorKind::UnexpectedEof => Some(foreign::CUT_OFF),
            Self::Format { .. } => Some("name the format with --format"),
            Self::Table { .. } => Some(
                "a table of positions has the columns tick_lower, tick_upper, liquidity and opened, and perhaps id, \
                 closed, fees0 and fees1",
            ),
            Self::NoMarket { .. } => Some(
                "make it with `ftk defi import FILES --out` under that name (the manual, recipes/defi/README.md, says of \
                 which data), or copy the plan with `ftk recipes cp` and set its market; the plans quoter and provider \
                 need no file",
            ),
            Self::Canonical { .. } | Self::Kind { .. } => Some("make the file with `ftk defi import`"),
            _ => None,
        };
        hint.map(str::to_owned)
    }
}

impl DefiError {
    pub(super) fn setting(place: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Setting { place: place.into(), message: message.into() }
    }
}
