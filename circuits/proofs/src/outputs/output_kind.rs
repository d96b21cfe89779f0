//! What each kind of output says of itself.

#[cfg(test)]
use ftk_circuits::{EncodingError, Reader};
use serde_json::Value;

use crate::bounds::CaseError;
use crate::read::{LogitsRow, RowError};
use crate::words::Words;

/// A kind of output: what it asks, which positions it reads, what it answers, its bytes, its words and its JSON.
pub(crate) trait OutputKind: Clone {
    /// Its name in commands and in their JSON.
    const NAME: &'static str;
    /// First bytes of its encodings.
    const KINDS: &'static [u8];

    /// Its encoding, kind included.
    fn put(&self, bytes: &mut Vec<u8>);

    /// Reads what follows a kind. Only tests do: they show that no two statements have the same bytes.
    #[cfg(test)]
    fn take(kind: u8, reader: &mut Reader<'_>) -> Result<Self, EncodingError>;

    /// Checks that it does not contradict itself.
    fn check(&self) -> Result<(), CaseError>;

    /// What follows the input; nothing where it is about the input's last position alone.
    fn continuations(&self) -> Vec<&[u32]> {
        Vec::new()
    }

    /// The same without what the network and the stop rule have to say.
    fn question(&self) -> Self;

    /// Whether it asks more than its kind says.
    fn asks_more(&self) -> bool {
        true
    }

    /// Puts what a row yields in the place of what is stated: the row at a step of one of its sequences. Rows come in
    /// the order of sequences and steps.
    fn read(&mut self, sequence: usize, step: usize, row: LogitsRow<'_>) -> Result<(), RowError>;

    /// Whether it states what the base alone yields, too.
    fn is_compared(&self) -> bool {
        false
    }

    /// Puts in what the base alone yields.
    fn compare(&mut self, _alone: &Self) {}

    /// Whether what was asked for holds, where that is asked.
    fn is_yes(&self) -> bool {
        true
    }

    /// The same question with some answer, of at most so many ids where their number is open, by a network with so many
    /// outputs: which answer it is does not matter to what a proof takes.
    fn supposed(self, _ids: usize, _outputs: usize) -> Self {
        self
    }

    /// Whether it answers with ids alone: an id tells a few bits, a logit an equation.
    fn is_ids(&self) -> bool {
        false
    }

    /// Where the network yields something else than is stated; the two are not equal.
    fn difference(&self, yields: &Self) -> String;

    /// The end of the sentence "the adapter, applied to the base, ...".
    fn claim(&self, input: &str, words: &Words<'_>) -> String;

    /// The same of a node.
    fn node_claim(&self, node: &str) -> String {
        format!("continues node {node}, which has no continuation")
    }

    /// Ids, exact integers, and what they are in nat.
    fn json(&self, words: &Words<'_>) -> Value;
}

/// How two outputs of one kind differ that answer the same.
pub(crate) fn another() -> String {
    "it is an answer to another question".to_owned()
}

/// How a log-probability differs from the stated one, if it does.
pub(crate) fn log_prob_differs(what: &str, stated: i64, yields: i64) -> Option<String> {
    (stated != yields).then(|| format!("{what} is {yields} / 2^24, not {stated} / 2^24"))
}

/// Adds what a step yields to what the steps before it did.
pub(crate) fn add_step(sum: &mut i64, step: usize, more: i64) {
    // At most 2^20 log-probabilities below 2^42.
    *sum = if step == 0 { more } else { *sum + more };
}
