//! Lines of a transcript as they stand in its file.

use blake3::Hash;
use serde::{Deserialize, Serialize};

use super::content::{StepRecord, Transcript, TranscriptHead};
use super::tree::Roots;
use crate::train::error::RunIdentity;

/// The version of the format, which is in the context of every digest too.
pub(super) const VERSION: u32 = 1;

/// A line as it stands in the file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub(super) enum Line {
    Head(HeadLine),
    Step(StepLine),
    End(EndLine),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HeadLine {
    pub(super) transcript: u32,
    pub(super) arithmetic: String,
    pub(super) run: Hex,
    pub(super) seed: u64,
    pub(super) steps: u64,
    pub(super) data: Hex,
    pub(super) values: Hex,
    pub(super) chain: Hex,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StepLine {
    pub(super) step: u64,
    pub(super) rows: Hex,
    pub(super) rate: HexBits,
    pub(super) figures: Hex,
    pub(super) gradients: Hex,
    pub(super) values: Hex,
    pub(super) first: Hex,
    pub(super) second: Hex,
    pub(super) chain: Hex,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EndLine {
    pub(super) ended: u64,
    pub(super) result: u64,
    pub(super) chain: Hex,
}

/// A digest in lower-case hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Hex(pub Hash);

impl From<Hex> for String {
    fn from(Hex(hash): Hex) -> Self {
        hash.to_hex().to_string()
    }
}

impl TryFrom<String> for Hex {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let hash = Hash::from_hex(&text).ok().filter(|hash| hash.to_hex().as_str() == text);
        hash.map(Self).ok_or_else(|| format!("is no digest of 64 lower-case hexadecimal digits: {text}"))
    }
}

/// The bits of a binary64 in lower-case hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(super) struct HexBits(u64);

impl From<HexBits> for String {
    fn from(HexBits(bits): HexBits) -> Self {
        format!("{bits:016x}")
    }
}

impl TryFrom<String> for HexBits {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let bits = u64::from_str_radix(&text, 16).ok().filter(|&bits| String::from(Self(bits)) == text);
        bits.map(Self).ok_or_else(|| format!("are no 16 lower-case hexadecimal digits: {text}"))
    }
}

impl TranscriptHead {
    pub(super) fn line(&self, chain: Hash) -> HeadLine {
        HeadLine {
            transcript: VERSION,
            arithmetic: self.identity.arithmetic.clone(),
            run: Hex(self.identity.digest.into()),
            seed: self.seed,
            steps: self.steps,
            data: Hex(self.data),
            values: Hex(self.values),
            chain: Hex(chain),
        }
    }
}

impl From<&HeadLine> for TranscriptHead {
    fn from(line: &HeadLine) -> Self {
        let identity = RunIdentity { digest: *line.run.0.as_bytes(), arithmetic: line.arithmetic.clone() };
        Self { identity, seed: line.seed, steps: line.steps, data: line.data.0, values: line.values.0 }
    }
}

impl StepRecord {
    pub(super) fn line(&self, chain: Hash) -> StepLine {
        let Self { step, rows, rate, figures, gradients, after: Roots { values, first, second } } = *self;
        StepLine {
            step,
            rows: Hex(rows),
            rate: HexBits(rate),
            figures: Hex(figures),
            gradients: Hex(gradients),
            values: Hex(values),
            first: Hex(first),
            second: Hex(second),
            chain: Hex(chain),
        }
    }
}

impl From<&StepLine> for StepRecord {
    fn from(line: &StepLine) -> Self {
        Self {
            step: line.step,
            rows: line.rows.0,
            rate: line.rate.0,
            figures: line.figures.0,
            gradients: line.gradients.0,
            after: Roots { values: line.values.0, first: line.first.0, second: line.second.0 },
        }
    }
}

/// A step's line between the one before it and what that one follows from: as much of a transcript as shows that the
/// step leads from one state to another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Around {
    /// The chain that the line before follows from; none before the head.
    chain: Option<Hex>,
    before: Line,
    step: StepLine,
}

/// Roots over a state; no moments before the first step, where all are zero.
pub struct Before {
    pub values: Hash,
    pub first: Option<Hash>,
    pub second: Option<Hash>,
}

impl Around {
    /// Of a step, counted from 1, that a transcript has.
    pub fn of(transcript: &Transcript, step: u64) -> Self {
        let at = step as usize;
        let line = |at: usize| transcript.steps[at - 1].line(transcript.chain[at]);
        match at.checked_sub(2) {
            None => {
                let before = Line::Head(transcript.head.line(transcript.chain[0]));
                Self { chain: None, before, step: line(at) }
            }
            Some(chain) => {
                Self { chain: Some(Hex(transcript.chain[chain])), before: Line::Step(line(at - 1)), step: line(at) }
            }
        }
    }

    /// Its number.
    pub fn number(&self) -> u64 {
        self.step.step
    }

    /// The chain of its line.
    pub fn link(&self) -> Hash {
        self.step.chain.0
    }

    /// Whether another one has the same before it.
    pub fn same_before(&self, other: &Self) -> bool {
        (self.chain, &self.before) == (other.chain, &other.before)
    }

    /// The state before, and what is said of the step, if the lines follow from each other.
    pub fn follows(&self) -> Option<(Before, StepRecord)> {
        let (before, number, chain) = match (&self.before, &self.chain) {
            (Line::Head(line), None) => {
                let head = TranscriptHead::from(line);
                let holds = line.transcript == VERSION && head.chain() == line.chain.0;
                let before = Before { values: head.values, first: None, second: None };
                (holds.then_some(before)?, 0, line.chain.0)
            }
            (Line::Step(line), Some(chain)) => {
                let record = StepRecord::from(line);
                let Roots { values, first, second } = record.after;
                let holds = record.chain(&chain.0) == line.chain.0;
                let before = Before { values, first: Some(first), second: Some(second) };
                (holds.then_some(before)?, record.step, line.chain.0)
            }
            _ => return None,
        };
        let record = StepRecord::from(&self.step);
        let holds = number.checked_add(1) == Some(record.step) && record.chain(&chain) == self.step.chain.0;
        holds.then_some((before, record))
    }
}
