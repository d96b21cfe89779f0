//! Exact numbers in the units people use, and ids in words.

use ftk_circuits::fixed::log_prob::LOG_PROB_BITS;

/// A log-probability in nat.
pub fn nat(log_prob: i128) -> f64 {
    log_prob as f64 / f64::from(1u32 << LOG_PROB_BITS)
}

/// How ids are shown: a statement is about numbers, and what text they stand for is no matter of a proof.
pub struct Words<'a> {
    text: &'a dyn Fn(&[u32]) -> Option<String>,
}

impl<'a> Words<'a> {
    /// With the text of ids, where it gives them back.
    pub fn new(text: &'a dyn Fn(&[u32]) -> Option<String>) -> Self {
        Self { text }
    }

    /// The text, if it stands for the ids.
    pub fn text(&self, ids: &[u32]) -> Option<String> {
        (self.text)(ids)
    }

    /// The text in quotes, or the ids.
    pub fn words(&self, ids: &[u32]) -> String {
        self.text(ids).map_or_else(|| format!("{ids:?}"), |text| format!("{text:?}"))
    }
}
