//! What to do about an error. One that knows says it itself, through [`Hint`]; each crate lists its kinds of such errors,
//! so that whoever shows an error of unknown kind can ask it.

use std::error::Error;

/// An error that may know what to do about it.
pub trait Hint: Error + 'static {
    /// What to do, where that is known: a sentence without a full stop.
    fn hint(&self) -> Option<String>;
}

/// Asks an error, if it is of one kind.
pub type HintOf = fn(&(dyn Error + 'static)) -> Option<String>;

/// The hint of an error of kind `E`; none of any other.
pub fn of<E: Hint>(error: &(dyn Error + 'static)) -> Option<String> {
    error.downcast_ref::<E>().and_then(Hint::hint)
}
