//! How long the lists of a case may be, and why a case states nothing.

use thiserror::Error;

/// Most cases of a statement.
pub const MAX_CASES: u32 = 1 << 16;
/// Most token ids in an input or a continuation.
pub const MAX_TOKENS: u32 = 1 << 20;
/// Most rows of all cases together.
pub const MAX_ROWS: u32 = 1 << 21;
/// Most bytes of context.
pub const MAX_CONTEXT: u32 = 1 << 16;
/// Most bytes of the name of a user.
pub const MAX_NAME: u32 = 1 << 16;
/// Most stop ids.
pub const MAX_STOP_IDS: u32 = 1 << 10;
/// Most ids to choose among.
pub const MAX_CHOICES: u32 = 1 << 10;
/// Most logits that are stated one by one; of more, their digest is stated.
pub const MAX_LOGITS: u32 = 1 << 8;

/// Why a case states nothing.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CaseError {
    /// The input has no token.
    #[error("input is empty")]
    EmptyInput,
    /// A continuation has no token.
    #[error("{0} is empty")]
    Empty(&'static str),
    /// More tokens than the stop rule allows.
    #[error("completion is longer than max_tokens: {0}")]
    TooLong(usize),
    /// A stop id stands before the end.
    #[error("generation went on after a stop id: position {0}")]
    AfterStop(usize),
    /// Shorter than max_tokens without a stop id at the end.
    #[error("completion ends without a reason: length {0}")]
    EndsEarly(usize),
    /// A list is longer than the encoding allows.
    #[error("{what} too long: {len}")]
    Length {
        /// The list.
        what: &'static str,
        /// Its length.
        len: usize,
    },
    /// Ids that must ascend strictly.
    #[error("{0} are not strictly ascending")]
    Order(&'static str),
    /// A node has logits, and nothing that follows them.
    #[error("a node has no continuation")]
    Continued,
    /// A pair has logits, and nothing else is stated of it.
    #[error("of a pair nothing is stated but its logits")]
    OfPair,
    /// A name as no state has it: there would be nobody of that name, whatever is known of whom it means.
    #[error("an address is named in small letters, and this is none: {0}")]
    Spelling(String),
    /// The chosen id is none of those to choose from.
    #[error("choice is not among its ids: {0}")]
    Choice(u32),
    /// Likeliest ids that are not in the order of log-probabilities, equal ones in that of ids.
    #[error("likeliest ids are not in order")]
    Likelihood,
}

/// Refuses a list that is too long.
pub(crate) fn bounded(what: &'static str, len: usize, max: u32) -> Result<(), CaseError> {
    if len > max as usize { Err(CaseError::Length { what, len }) } else { Ok(()) }
}

/// Refuses a continuation that is empty or too long.
pub(crate) fn continuation(what: &'static str, ids: &[u32]) -> Result<(), CaseError> {
    bounded(what, ids.len(), MAX_TOKENS)?;
    if ids.is_empty() { Err(CaseError::Empty(what)) } else { Ok(()) }
}

/// Refuses ids that do not ascend strictly, or are too many.
pub(crate) fn ascending(what: &'static str, ids: &[u32], max: u32) -> Result<(), CaseError> {
    bounded(what, ids.len(), max)?;
    if ids.is_sorted_by(|a, b| a < b) { Ok(()) } else { Err(CaseError::Order(what)) }
}
