//! The logits at the last position of an input, or of a node, at `2^-16`.

use ftk_circuits::{Digest, logits_digest};
use ftk_networks::graphs::stream::SCALE;
#[cfg(test)]
use ftk_circuits::{EncodingError, Reader};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::output_kind::OutputKind;
use crate::bounds::{CaseError, MAX_LOGITS, bounded};
#[cfg(test)]
use crate::encoding::take_i64;
use crate::hex;
use crate::read::{LogitsRow, RowError};
use crate::words::Words;

const VALUES: u8 = 1;
const DIGEST: u8 = 2;
/// What a logit is divided by.
const ONE: f64 = 65_536.0;

/// Logits at `2^-16`, one for each id of the vocabulary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Logits {
    /// All of them, at most [`MAX_LOGITS`].
    Values(Vec<i64>),
    /// [`Logits::digest_of`] them.
    Digest(#[serde(with = "hex::digest")] Digest),
}

impl Logits {
    /// What is stated of these logits: the values where they are few, else their digest.
    pub fn of(values: &[i64]) -> Self {
        if values.len() <= MAX_LOGITS as usize {
            Self::Values(values.to_vec())
        } else {
            Self::Digest(Self::digest_of(values))
        }
    }

    /// Digest of logits, as in `STATEMENT.md`, section 7.
    pub fn digest_of(values: &[i64]) -> Digest {
        logits_digest(values)
    }

    /// The question.
    pub fn asked() -> Self {
        Self::Values(Vec::new())
    }

    /// Of a pair: its rating, and the log of the odds that it is positive.
    pub(super) fn of_pair(&self) -> Option<[f64; 2]> {
        let Self::Values(values) = self else { return None };
        let [rating, log_odds] = values.as_slice() else { return None };
        Some([*rating as f64 / ONE * SCALE, *log_odds as f64 / ONE])
    }

    pub(super) fn pair_claim(&self, source: &str, target: &str) -> String {
        let said = self.of_pair().map_or_else(String::new, |[rating, log_odds]| {
            format!("{rating:.4}, and positively with log-odds of {log_odds:.4}: ")
        });
        format!("has {source:?} rate {target:?} with {said}{}", self.said())
    }

    /// As words behind an article.
    fn said(&self) -> String {
        match self {
            Self::Values(values) => format!("the logits {values:?} / 2^16"),
            Self::Digest(digest) => format!("logits of digest {digest}"),
        }
    }
}

impl OutputKind for Logits {
    const NAME: &'static str = "logits";
    const KINDS: &'static [u8] = &[VALUES, DIGEST];

    fn put(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Values(values) => {
                bytes.push(VALUES);
                bytes.extend((values.len() as u32).to_le_bytes());
                bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
            }
            Self::Digest(digest) => {
                bytes.push(DIGEST);
                bytes.extend(digest.0);
            }
        }
    }

    #[cfg(test)]
    fn take(kind: u8, reader: &mut Reader<'_>) -> Result<Self, EncodingError> {
        if kind == DIGEST {
            return Ok(Self::Digest(Digest(reader.array()?)));
        }
        let count = reader.count("logits", MAX_LOGITS, 8)?;
        Ok(Self::Values((0..count).map(|_| take_i64(reader)).collect::<Result<_, _>>()?))
    }

    fn check(&self) -> Result<(), CaseError> {
        match self {
            Self::Values(values) if values.is_empty() => Err(CaseError::Empty("logits")),
            Self::Values(values) => bounded("logits", values.len(), MAX_LOGITS),
            Self::Digest(_) => Ok(()),
        }
    }

    fn question(&self) -> Self {
        Self::asked()
    }

    fn asks_more(&self) -> bool {
        false
    }

    fn read(&mut self, _: usize, _: usize, row: LogitsRow<'_>) -> Result<(), RowError> {
        *self = Self::of(row.logits);
        Ok(())
    }

    fn supposed(self, _: usize, outputs: usize) -> Self {
        Self::of(&vec![0; outputs])
    }

    fn difference(&self, _: &Self) -> String {
        "the logits are others".to_owned()
    }

    fn claim(&self, input: &str, _: &Words<'_>) -> String {
        format!("gives after {input} {}", self.said())
    }

    fn node_claim(&self, node: &str) -> String {
        format!("gives node {node} {}", self.said())
    }

    fn json(&self, _: &Words<'_>) -> Value {
        match self {
            Self::Values(values) => json!({ "kind": Self::NAME, "values_16": values }),
            Self::Digest(digest) => json!({ "kind": Self::NAME, "digest": digest.to_string() }),
        }
    }
}
