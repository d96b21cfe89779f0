//! Where a row stands in its file.

use std::fmt;

/// Where a row stands in its file, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RowPlace {
    /// The line it begins in.
    Line(usize),
    /// Its number, where a file has no lines.
    Row(usize),
}

impl fmt::Display for RowPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(line) => write!(f, "{line}"),
            Self::Row(row) => write!(f, "row {row}"),
        }
    }
}
