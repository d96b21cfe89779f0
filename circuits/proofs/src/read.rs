//! What outputs take from a row of logits.

use ftk_circuits::fixed::{self, FixedError};
use thiserror::Error;

/// Why a row of logits says nothing of what is wanted.
#[derive(Debug, Error)]
pub enum RowError {
    /// Logits that are out of range.
    #[error(transparent)]
    Fixed(#[from] FixedError),
    /// An id that is in no vocabulary.
    #[error("token id beyond the vocabulary: {0}")]
    Token(u32),
    /// More ids than there are.
    #[error("the vocabulary has {vocabulary} ids, fewer than the likeliest that are asked for: {wanted}")]
    Few {
        /// Ids there are.
        vocabulary: usize,
        /// Ids asked for.
        wanted: usize,
    },
    /// No logits to take anything from.
    #[error("no such row: 0")]
    Empty,
}

/// One row of logits at `2^-16`.
#[derive(Clone, Copy, Debug)]
pub struct LogitsRow<'a> {
    /// The site they come from, for errors.
    pub site: &'a str,
    /// One for each id of the vocabulary.
    pub logits: &'a [i64],
}

impl LogitsRow<'_> {
    /// The most likely id; ties go to the lowest.
    pub(crate) fn greedy(self) -> Result<u32, RowError> {
        fixed::greedy(self.logits).ok_or(RowError::Empty)
    }

    /// The logit of an id.
    pub(crate) fn logit(self, id: u32) -> Result<i64, RowError> {
        self.logits.get(id as usize).copied().ok_or(RowError::Token(id))
    }

    /// The log-probability of an id at `2^-24` nat.
    pub(crate) fn log_prob(self, id: u32) -> Result<i64, RowError> {
        self.logit(id)?;
        Ok(fixed::log_prob::log_prob(self.site, self.logits, id)?)
    }
}
