//! How likely a continuation is.

#[cfg(test)]
use ftk_circuits::{EncodingError, Reader};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::output_kind::{OutputKind, add_step, another, log_prob_differs};
use crate::bounds::{CaseError, continuation};
use crate::encoding::put_ids;
#[cfg(test)]
use crate::encoding::{take_i64, take_ids};
use crate::read::{LogitsRow, RowError};
use crate::words::{Words, nat};

/// How likely a continuation is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogProb {
    /// The continuation.
    pub ids: Vec<u32>,
    /// Its log-probability at `2^-24` nat ([`ftk_circuits::fixed::log_prob`]), summed over its ids.
    pub log_prob: i64,
}

impl OutputKind for LogProb {
    const NAME: &'static str = "logprob";
    const KINDS: &'static [u8] = &[3];

    fn put(&self, bytes: &mut Vec<u8>) {
        bytes.push(Self::KINDS[0]);
        put_ids(bytes, &self.ids);
        bytes.extend(self.log_prob.to_le_bytes());
    }

    #[cfg(test)]
    fn take(_: u8, reader: &mut Reader<'_>) -> Result<Self, EncodingError> {
        Ok(Self { ids: take_ids(reader, "continuation", crate::bounds::MAX_TOKENS)?, log_prob: take_i64(reader)? })
    }

    fn check(&self) -> Result<(), CaseError> {
        continuation("continuation", &self.ids)
    }

    fn continuations(&self) -> Vec<&[u32]> {
        vec![&self.ids]
    }

    fn question(&self) -> Self {
        Self { ids: self.ids.clone(), log_prob: 0 }
    }

    fn read(&mut self, _: usize, step: usize, row: LogitsRow<'_>) -> Result<(), RowError> {
        let id = *self.ids.get(step).ok_or(RowError::Empty)?;
        add_step(&mut self.log_prob, step, row.log_prob(id)?);
        Ok(())
    }

    fn difference(&self, yields: &Self) -> String {
        log_prob_differs("log-probability", self.log_prob, yields.log_prob).unwrap_or_else(another)
    }

    fn claim(&self, input: &str, words: &Words<'_>) -> String {
        let log_prob = nat(self.log_prob.into());
        format!("continues {input} with {} with log-probability {log_prob:.6}", words.words(&self.ids))
    }

    fn json(&self, words: &Words<'_>) -> Value {
        let Self { ids, log_prob } = self;
        json!({
            "kind": Self::NAME, "ids": ids, "text": words.text(ids), "log_prob": nat((*log_prob).into()),
            "log_prob_24": log_prob,
        })
    }
}
