//! From what a command came to, and what became of its words, to the exit code.
//!
//! 1. What a command came to has its code whatever became of the words: no is 1, an error or what cannot be told is 2,
//!    and training that was asked to stop ends with 128 and the number of the signal.
//! 2. Where it did what was asked, or the answer is yes, the words have to have arrived, too: 0 if all of standard output
//!    was written, or if its reader closed the pipe, having all that it wanted; 2 if output was lost, as on a full disk.
//! 3. What cannot be written to standard error changes nothing: whoever closes it has said not to care.

use std::io;

use crate::commands::Outcome;

/// The code; `lost` is the first failure to write to standard output.
pub(super) fn code(came_to: &anyhow::Result<Outcome>, lost: Option<&io::Error>) -> u8 {
    match came_to {
        Ok(Outcome::No) => 1,
        Ok(Outcome::Undecided) | Err(_) => 2,
        Ok(Outcome::Stopped(code)) => *code,
        Ok(Outcome::Done) => match lost {
            Some(error) if !is_closed(error) => 2,
            _ => 0,
        },
    }
}

/// Whether the reader went away, rather than that words were lost on their way.
pub(super) fn is_closed(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::BrokenPipe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_outlives_its_words_and_a_yes_needs_them() {
        let closed = io::Error::from(io::ErrorKind::BrokenPipe);
        let full = io::Error::from(io::ErrorKind::StorageFull);
        let codes =
            |came_to: anyhow::Result<Outcome>| [None, Some(&closed), Some(&full)].map(|lost| code(&came_to, lost));
        assert_eq!(codes(Ok(Outcome::Done)), [0, 0, 2]);
        assert_eq!(codes(Ok(Outcome::No)), [1, 1, 1]);
        assert_eq!(codes(Ok(Outcome::Undecided)), [2, 2, 2]);
        assert_eq!(codes(Ok(Outcome::Stopped(143))), [143, 143, 143]);
        assert_eq!(codes(Err(anyhow::anyhow!("no"))), [2, 2, 2]);
    }
}
