//! What a transcript says, apart from how its lines are written: the head, the steps, the end, and the chain over them.

use blake3::{Hash, Hasher};

use super::tree::{Roots, text};
use crate::train::error::RunIdentity;

const HEAD: &str = "ftk transcript 1 head";
const STEP: &str = "ftk transcript 1 step";
const END: &str = "ftk transcript 1 end";

/// What a difference of the first values is called.
pub const START: &str = "start";

/// What a transcript begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TranscriptHead {
    /// The run.
    pub identity: RunIdentity,
    /// The recipe's seed.
    pub seed: u64,
    /// Steps of the whole run.
    pub steps: u64,
    /// Root over the rows.
    pub data: Hash,
    /// Root over the first values.
    pub values: Hash,
}

/// What a step was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepRecord {
    /// Its number, from 1.
    pub step: u64,
    /// The rows it learnt from, by batches.
    pub rows: Hash,
    /// The learning rate, as the bits of its binary64.
    pub rate: u64,
    /// The line of the metrics file.
    pub figures: Hash,
    /// Root over the gradients.
    pub gradients: Hash,
    /// Roots over the state after it.
    pub after: Roots,
}

/// What a transcript ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TranscriptEnd {
    /// The last step.
    pub ended: u64,
    /// The step whose state is the result.
    pub result: u64,
}

impl TranscriptHead {
    /// What of another one is different, by name.
    pub fn differences(&self, other: &Self) -> Vec<&'static str> {
        named([
            ("arithmetic", self.identity.arithmetic == other.identity.arithmetic),
            ("run", self.identity.digest == other.identity.digest),
            ("seed", self.seed == other.seed),
            ("length", self.steps == other.steps),
            ("data", self.data == other.data),
            (START, self.values == other.values),
        ])
    }

    pub(super) fn chain(&self) -> Hash {
        let mut hash = Hasher::new_derive_key(HEAD);
        text(&mut hash, &self.identity.arithmetic);
        hash.update(&self.identity.digest).update(&self.seed.to_le_bytes()).update(&self.steps.to_le_bytes());
        hash.update(self.data.as_bytes()).update(self.values.as_bytes()).finalize()
    }
}

/// Names of what is not the same.
fn named<const N: usize>(same: [(&'static str, bool); N]) -> Vec<&'static str> {
    same.into_iter().filter(|(_, same)| !same).map(|(name, _)| name).collect()
}

impl StepRecord {
    /// What of another one is different, by name.
    pub fn differences(&self, other: &Self) -> Vec<&'static str> {
        named([
            ("rows", self.rows == other.rows),
            ("rate", self.rate == other.rate),
            ("gradients", self.gradients == other.gradients),
            ("first", self.after.first == other.after.first),
            ("second", self.after.second == other.after.second),
            ("values", self.after.values == other.after.values),
            ("figures", self.figures == other.figures),
        ])
    }

    pub(super) fn chain(&self, before: &Hash) -> Hash {
        let Self { step, rows, rate, figures, gradients, after: Roots { values, first, second } } = self;
        let mut hash = Hasher::new_derive_key(STEP);
        hash.update(before.as_bytes()).update(&step.to_le_bytes()).update(rows.as_bytes());
        hash.update(&rate.to_le_bytes());
        for digest in [figures, gradients, values, first, second] {
            hash.update(digest.as_bytes());
        }
        hash.finalize()
    }
}

impl TranscriptEnd {
    pub(super) fn chain(&self, before: &Hash) -> Hash {
        let mut hash = Hasher::new_derive_key(END);
        hash.update(before.as_bytes()).update(&self.ended.to_le_bytes()).update(&self.result.to_le_bytes()).finalize()
    }
}

/// A whole transcript, whose chain holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transcript {
    /// What it begins with.
    pub head: TranscriptHead,
    /// Its steps.
    pub steps: Vec<StepRecord>,
    /// What it ends with; `None` of a run that has not ended.
    pub end: Option<TranscriptEnd>,
    /// The chain of the head, of each step and, where there is one, of the end.
    pub chain: Vec<Hash>,
}

impl Transcript {
    /// The root; `None` of a run that has not ended.
    pub fn root(&self) -> Option<Hash> {
        self.end.and(self.chain.last().copied())
    }
}
