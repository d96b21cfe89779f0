//! How likely each of two continuations is, with the adapter and without it.

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

/// How likely each of two continuations is, with the adapter and without it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preference {
    /// The one that is meant to be preferred.
    pub chosen: ScoredContinuation,
    /// The other.
    pub rejected: ScoredContinuation,
}

/// A continuation with its log-probabilities at `2^-24` nat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScoredContinuation {
    /// The continuation.
    pub ids: Vec<u32>,
    /// Of the base with the adapter.
    pub log_prob: i64,
    /// Of the base alone.
    pub base_log_prob: i64,
}

impl Preference {
    /// The question which of these is preferred.
    pub fn between(chosen: Vec<u32>, rejected: Vec<u32>) -> Self {
        let [chosen, rejected] = [chosen, rejected].map(|ids| ScoredContinuation { ids, log_prob: 0, base_log_prob: 0 });
        Self { chosen, rejected }
    }

    /// By how much the adapter favours the chosen continuation more than the base does, at `2^-24` nat: DPO's reward
    /// margin divided by beta.
    pub fn margin(&self) -> i128 {
        self.chosen.raised() - self.rejected.raised()
    }
}

impl ScoredContinuation {
    /// By how much the adapter raises the log-probability, at `2^-24` nat: what DPO multiplies with beta.
    pub fn raised(&self) -> i128 {
        i128::from(self.log_prob) - i128::from(self.base_log_prob)
    }

    fn put(&self, bytes: &mut Vec<u8>) {
        put_ids(bytes, &self.ids);
        bytes.extend(self.log_prob.to_le_bytes());
        bytes.extend(self.base_log_prob.to_le_bytes());
    }

    #[cfg(test)]
    fn take(reader: &mut Reader<'_>, what: &'static str) -> Result<Self, EncodingError> {
        let ids = take_ids(reader, what, crate::bounds::MAX_TOKENS)?;
        Ok(Self { ids, log_prob: take_i64(reader)?, base_log_prob: take_i64(reader)? })
    }

    fn difference(&self, what: &str, yields: &Self) -> Option<String> {
        let what = format!("log-probability of the {what}");
        log_prob_differs(&what, self.log_prob, yields.log_prob).or_else(|| {
            log_prob_differs(&format!("{what} under the base alone"), self.base_log_prob, yields.base_log_prob)
        })
    }

    fn claim(&self, words: &Words<'_>) -> String {
        let (with, alone) = (nat(self.log_prob.into()), nat(self.base_log_prob.into()));
        format!("{} with log-probability {with:.6} (the base alone: {alone:.6})", words.words(&self.ids))
    }

    fn json(&self, words: &Words<'_>) -> Value {
        json!({
            "ids": self.ids,
            "text": words.text(&self.ids),
            "log_prob": nat(self.log_prob.into()),
            "log_prob_24": self.log_prob,
            "base_log_prob": nat(self.base_log_prob.into()),
            "base_log_prob_24": self.base_log_prob,
        })
    }
}

impl OutputKind for Preference {
    const NAME: &'static str = "preference";
    const KINDS: &'static [u8] = &[4];

    fn put(&self, bytes: &mut Vec<u8>) {
        bytes.push(Self::KINDS[0]);
        self.chosen.put(bytes);
        self.rejected.put(bytes);
    }

    #[cfg(test)]
    fn take(_: u8, reader: &mut Reader<'_>) -> Result<Self, EncodingError> {
        let chosen = ScoredContinuation::take(reader, "chosen continuation")?;
        Ok(Self { chosen, rejected: ScoredContinuation::take(reader, "rejected continuation")? })
    }

    fn check(&self) -> Result<(), CaseError> {
        continuation("chosen continuation", &self.chosen.ids)?;
        continuation("rejected continuation", &self.rejected.ids)
    }

    fn continuations(&self) -> Vec<&[u32]> {
        vec![&self.chosen.ids, &self.rejected.ids]
    }

    fn question(&self) -> Self {
        Self::between(self.chosen.ids.clone(), self.rejected.ids.clone())
    }

    fn read(&mut self, sequence: usize, step: usize, row: LogitsRow<'_>) -> Result<(), RowError> {
        let scored = if sequence == 0 { &mut self.chosen } else { &mut self.rejected };
        let id = *scored.ids.get(step).ok_or(RowError::Empty)?;
        add_step(&mut scored.log_prob, step, row.log_prob(id)?);
        Ok(())
    }

    fn is_compared(&self) -> bool {
        true
    }

    fn compare(&mut self, alone: &Self) {
        self.chosen.base_log_prob = alone.chosen.log_prob;
        self.rejected.base_log_prob = alone.rejected.log_prob;
    }

    fn difference(&self, yields: &Self) -> String {
        let chosen = self.chosen.difference("chosen", &yields.chosen);
        let other = chosen.or_else(|| self.rejected.difference("rejected", &yields.rejected));
        other.unwrap_or_else(another)
    }

    fn claim(&self, input: &str, words: &Words<'_>) -> String {
        let (chosen, rejected) = (self.chosen.claim(words), self.rejected.claim(words));
        let margin = nat(self.margin());
        format!("continues {input} with the chosen {chosen}, and with the rejected {rejected}: margin {margin:.6}")
    }

    fn json(&self, words: &Words<'_>) -> Value {
        json!({
            "kind": Self::NAME, "chosen": self.chosen.json(words), "rejected": self.rejected.json(words),
            "margin": nat(self.margin()),
        })
    }
}

/// What preferences amount to together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Preferences {
    /// Pairs.
    pub pairs: usize,
    /// Pairs whose margin is positive: together with `pairs` the reward accuracy.
    pub accurate: usize,
    /// Mean margin in nat; the mean reward margin is beta times this.
    pub mean_margin: f64,
}

impl Preferences {
    /// `None` where there are none.
    pub fn of<'a>(preferences: impl Iterator<Item = &'a Preference>) -> Option<Self> {
        let margins: Vec<i128> = preferences.map(Preference::margin).collect();
        let pairs = margins.len();
        let accurate = margins.iter().filter(|margin| **margin > 0).count();
        let sum: i128 = margins.iter().sum();
        (pairs > 0).then(|| Self { pairs, accurate, mean_margin: nat(sum) / pairs as f64 })
    }

    /// Share of pairs whose margin is positive.
    pub fn accuracy(&self) -> f64 {
        self.accurate as f64 / self.pairs as f64
    }

    /// In words.
    pub fn summary(&self) -> String {
        let Self { pairs, accurate, mean_margin } = self;
        format!("reward accuracy {:.4} ({accurate} of {pairs}), mean margin {mean_margin:.6} nat", self.accuracy())
    }

    /// As JSON.
    pub fn json(&self) -> Value {
        json!({ "pairs": self.pairs, "reward_accuracy": self.accuracy(), "mean_margin": self.mean_margin })
    }
}
