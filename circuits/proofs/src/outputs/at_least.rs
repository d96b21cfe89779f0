//! Whether an id is at least so likely at the last position.

use ftk_circuits::fixed::log_prob::LOG_PROB_BITS;
#[cfg(test)]
use ftk_circuits::{EncodingError, Reader};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::output_kind::OutputKind;
use crate::bounds::CaseError;
#[cfg(test)]
use crate::encoding::take_i64;
use crate::read::{LogitsRow, RowError};
use crate::words::{Words, nat};

/// Whether an id is at least so likely.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AtLeast {
    /// The id.
    pub id: u32,
    /// The log-probability it is compared with, at `2^-24` nat.
    pub bound: i64,
    /// Whether its own is not below that.
    pub holds: bool,
}

impl AtLeast {
    /// The claim that an id has at least this probability, above 0 and at most 1. The bound is its logarithm, rounded,
    /// the same on every machine.
    pub fn likely(id: u32, probability: f64) -> Self {
        let unit = f64::from(1u32 << LOG_PROB_BITS);
        Self { id, bound: (libm::log(probability) * unit).round() as i64, holds: true }
    }

    fn said(&self) -> String {
        let (is, log_prob) = (if self.holds { "at least" } else { "less than" }, nat(self.bound.into()));
        format!("log-probability of {is} {log_prob:.6} (probability {:.6})", log_prob.exp())
    }
}

impl OutputKind for AtLeast {
    const NAME: &'static str = "at-least";
    const KINDS: &'static [u8] = &[6];

    fn put(&self, bytes: &mut Vec<u8>) {
        bytes.push(Self::KINDS[0]);
        bytes.extend(self.id.to_le_bytes());
        bytes.extend(self.bound.to_le_bytes());
        bytes.push(u8::from(self.holds));
    }

    #[cfg(test)]
    fn take(_: u8, reader: &mut Reader<'_>) -> Result<Self, EncodingError> {
        let (id, bound) = (reader.u32()?, take_i64(reader)?);
        match reader.u8()? {
            holds @ 0..=1 => Ok(Self { id, bound, holds: holds == 1 }),
            value => Err(EncodingError::Bounds { what: "yes or no", value: value.into() }),
        }
    }

    fn check(&self) -> Result<(), CaseError> {
        Ok(())
    }

    fn question(&self) -> Self {
        Self { holds: false, ..self.clone() }
    }

    fn read(&mut self, _: usize, _: usize, row: LogitsRow<'_>) -> Result<(), RowError> {
        self.holds = row.log_prob(self.id)? >= self.bound;
        Ok(())
    }

    // Who says how likely it is to be is told so, and not only the truth.
    fn is_yes(&self) -> bool {
        self.holds
    }

    fn is_ids(&self) -> bool {
        true
    }

    fn difference(&self, yields: &Self) -> String {
        let is = if yields.holds { "at least" } else { "below" };
        format!("the log-probability is {is} the bound")
    }

    fn claim(&self, input: &str, words: &Words<'_>) -> String {
        format!("gives {} after {input} a {}", words.words(&[self.id]), self.said())
    }

    fn node_claim(&self, node: &str) -> String {
        format!("gives node {node} class {} with a {}", self.id, self.said())
    }

    fn json(&self, _: &Words<'_>) -> Value {
        let Self { id, bound, holds } = self;
        let probability = nat((*bound).into()).exp();
        json!({ "kind": Self::NAME, "id": id, "probability": probability, "bound_24": bound, "holds": holds })
    }
}
