//! Statements in words and as JSON.

use ftk_circuits::{Case, Input, Logits, Output, Scored, Statement};
use serde_json::{Value, json};

use crate::models::Tokenizer;
use crate::prove::figures::{Preferences, margin, nat};

/// Ids as text where the text gives them back: the statement is about ids.
pub struct Shown<'a>(pub Option<&'a Tokenizer>);

impl Shown<'_> {
    /// The text, if it stands for the ids.
    pub fn text(&self, ids: &[u32]) -> Option<String> {
        let text = self.0?.decode(ids, false).ok()?;
        (self.0?.encode(&text, false).ok()? == ids).then_some(text)
    }

    fn words(&self, ids: &[u32]) -> String {
        self.text(ids).map_or_else(|| format!("{ids:?}"), |text| format!("{text:?}"))
    }

    /// What a case says, as the end of the sentence "the adapter, applied to the base, ...".
    pub fn claim(&self, case: &Case) -> String {
        let Input::Tokens(input) = &case.input;
        let input = self.words(input);
        let per = |scored: &Scored| {
            let (with, alone) = (nat(scored.log_prob.into()), nat(scored.base_log_prob.into()));
            format!("{} with log-probability {with:.6} (the base alone: {alone:.6})", self.words(&scored.ids))
        };
        match &case.output {
            Output::Completion { ids, max_tokens, .. } => {
                format!("continues {input} greedily with {} (at most {max_tokens} tokens)", self.words(ids))
            }
            Output::Logits(Logits::Values(values)) => format!("gives after {input} the logits {values:?} / 2^16"),
            Output::Logits(Logits::Digest(digest)) => format!("gives after {input} logits of digest {digest}"),
            Output::LogProb { ids, log_prob } => {
                let log_prob = nat((*log_prob).into());
                format!("continues {input} with {} with log-probability {log_prob:.6}", self.words(ids))
            }
            Output::Preference { chosen, rejected } => format!(
                "continues {input} with the chosen {}, and with the rejected {}: margin {:.6}",
                per(chosen),
                per(rejected),
                nat(margin(chosen, rejected))
            ),
            Output::Choice { among, chosen } => {
                format!("chooses after {input} {} among {among:?}", self.words(&[*chosen]))
            }
        }
    }

    /// A case as JSON: ids, exact integers, and what they are in nat.
    pub fn json(&self, case: &Case) -> Value {
        let Input::Tokens(input) = &case.input;
        let scored = |scored: &Scored| {
            json!({
                "ids": scored.ids,
                "text": self.text(&scored.ids),
                "log_prob": nat(scored.log_prob.into()),
                "log_prob_24": scored.log_prob,
                "base_log_prob": nat(scored.base_log_prob.into()),
                "base_log_prob_24": scored.base_log_prob,
            })
        };
        let output = match &case.output {
            Output::Completion { ids, max_tokens, stop_ids } => json!({
                "kind": "completion", "ids": ids, "text": self.text(ids), "max_tokens": max_tokens,
                "stop_ids": stop_ids,
            }),
            Output::Logits(Logits::Values(values)) => json!({ "kind": "logits", "values_16": values }),
            Output::Logits(Logits::Digest(digest)) => json!({ "kind": "logits", "digest": digest.to_string() }),
            Output::LogProb { ids, log_prob } => json!({
                "kind": "logprob", "ids": ids, "text": self.text(ids), "log_prob": nat((*log_prob).into()),
                "log_prob_24": log_prob,
            }),
            Output::Preference { chosen, rejected } => json!({
                "kind": "preference", "chosen": scored(chosen), "rejected": scored(rejected),
                "margin": nat(margin(chosen, rejected)),
            }),
            Output::Choice { among, chosen } => json!({ "kind": "choice", "among": among, "id": chosen }),
        };
        json!({ "input": { "kind": "tokens", "ids": input, "text": self.text(input) }, "output": output })
    }
}

/// What the preferences of a statement amount to, in words.
pub fn summary(statement: &Statement) -> Option<String> {
    let found = Preferences::of(statement)?;
    let Preferences { pairs, accurate, mean_margin } = found;
    let accuracy = found.accuracy();
    Some(format!("reward accuracy {accuracy:.4} ({accurate} of {pairs}), mean margin {mean_margin:.6} nat"))
}

/// The same as JSON.
pub fn summary_json(statement: &Statement) -> Value {
    Preferences::of(statement).map_or(
        Value::Null,
        |found| json!({ "pairs": found.pairs, "reward_accuracy": found.accuracy(), "mean_margin": found.mean_margin }),
    )
}
