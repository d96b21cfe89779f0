//! Statements in words and as JSON.

use ftk_circuits::{Case, Input, Logits, Output, Scored, Statement};
use ftk_recipes::gnn::neighbourhood::Neighbourhood;
use serde_json::{Value, json};

use crate::models::Tokenizer;
use crate::prove::figures::{Preferences, margin, nat};

/// Ids as text where the text gives them back, and nodes by name: the statement is about numbers.
pub struct Shown<'a> {
    tokenizer: Option<&'a Tokenizer>,
    graph: Option<&'a Neighbourhood>,
}

impl<'a> Shown<'a> {
    /// With what there is of either.
    pub fn of(tokenizer: Option<&'a Tokenizer>, graph: Option<&'a Neighbourhood>) -> Self {
        Self { tokenizer, graph }
    }

    /// An answer as it is read, without what only marks its end.
    pub fn answer(&self, ids: &[u32]) -> String {
        let text = self.tokenizer.and_then(|tokenizer| tokenizer.decode(ids, true).ok());
        text.unwrap_or_else(|| format!("{ids:?}"))
    }

    /// The text, if it stands for the ids.
    pub fn text(&self, ids: &[u32]) -> Option<String> {
        let text = self.tokenizer?.decode(ids, false).ok()?;
        (self.tokenizer?.encode(&text, false).ok()? == ids).then_some(text)
    }

    fn node(&self, node: u32) -> String {
        self.graph.and_then(|graph| graph.name(node)).map_or_else(|| node.to_string(), |name| format!("{name:?}"))
    }

    fn words(&self, ids: &[u32]) -> String {
        self.text(ids).map_or_else(|| format!("{ids:?}"), |text| format!("{text:?}"))
    }

    /// What a case says, as the end of the sentence "the adapter, applied to the base, ...".
    pub fn claim(&self, case: &Case) -> String {
        let input = match &case.input {
            Input::Tokens(input) => self.words(input),
            Input::Node { node, .. } => return self.node_claim(*node, &case.output),
        };
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
            Output::AtLeast { id, bound, holds } => {
                format!("gives {} after {input} a {}", self.words(&[*id]), bounded(*bound, *holds))
            }
        }
    }

    /// The same of a node.
    fn node_claim(&self, node: u32, output: &Output) -> String {
        let node = self.node(node);
        match output {
            Output::Logits(Logits::Values(values)) => format!("gives node {node} the logits {values:?} / 2^16"),
            Output::Choice { among, chosen } => format!("puts node {node} into class {chosen} of {among:?}"),
            Output::AtLeast { id, bound, holds } => {
                format!("gives node {node} class {id} with a {}", bounded(*bound, *holds))
            }
            Output::Logits(Logits::Digest(digest)) => format!("gives node {node} logits of digest {digest}"),
            Output::Completion { .. } | Output::LogProb { .. } | Output::Preference { .. } => {
                format!("continues node {node}, which has no continuation")
            }
        }
    }

    /// A case as JSON: ids, exact integers, and what they are in nat.
    pub fn json(&self, case: &Case) -> Value {
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
            Output::AtLeast { id, bound, holds } => json!({
                "kind": "at-least", "id": id, "probability": nat((*bound).into()).exp(), "bound_24": bound,
                "holds": holds,
            }),
        };
        let input = match &case.input {
            Input::Tokens(input) => json!({ "kind": "tokens", "ids": input, "text": self.text(input) }),
            Input::Node { graph, node } => json!({
                "kind": "node", "graph": graph.to_string(), "node": node,
                "name": self.graph.and_then(|graph| graph.name(*node)),
            }),
        };
        json!({ "input": input, "output": output })
    }
}

fn bounded(bound: i64, holds: bool) -> String {
    let (is, log_prob) = (if holds { "at least" } else { "less than" }, nat(bound.into()));
    format!("log-probability of {is} {log_prob:.6} (probability {:.6})", log_prob.exp())
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
