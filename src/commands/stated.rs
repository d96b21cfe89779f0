//! Statements in words and as JSON.

use ftk_bases::Tokenizer;
use ftk_networks::graphs::opened::OpenedPart;
use ftk_proofs::{Case, Input, Statement, Words};
use serde_json::{Value, json};

/// Ids as text where the text gives them back, and nodes by name: the statement is about numbers.
pub struct StatedText<'a> {
    tokenizer: Option<&'a Tokenizer>,
    graph: Option<&'a OpenedPart>,
}

impl<'a> StatedText<'a> {
    /// With what there is of either.
    pub fn of(tokenizer: Option<&'a Tokenizer>, graph: Option<&'a OpenedPart>) -> Self {
        Self { tokenizer, graph }
    }

    /// An answer as it is read, without what only marks its end.
    pub fn answer(&self, ids: &[u32]) -> String {
        let text = self.tokenizer.and_then(|tokenizer| tokenizer.decode(ids, true).ok());
        text.unwrap_or_else(|| format!("{ids:?}"))
    }

    /// The text, if it stands for the ids.
    fn text(&self, ids: &[u32]) -> Option<String> {
        let text = self.tokenizer?.decode(ids, false).ok()?;
        (self.tokenizer?.encode(&text, false).ok()? == ids).then_some(text)
    }

    fn node(&self, node: u32) -> String {
        self.graph.and_then(|graph| graph.name(node)).map_or_else(|| node.to_string(), |name| format!("{name:?}"))
    }

    fn strangers<'b>(&self, source: &'b str, target: &'b str) -> Vec<&'b str> {
        self.graph.map_or_else(Vec::new, |graph| graph.strangers([source, target]))
    }

    /// What a case says, as the end of the sentence "the adapter, applied to the base, ...".
    pub fn claim(&self, Case { input, output }: &Case) -> String {
        let text = |ids: &[u32]| self.text(ids);
        let words = Words::new(&text);
        match input {
            Input::Tokens(input) => output.claim(&words.words(input), &words),
            Input::Node { node, .. } => output.node_claim(&self.node(*node)),
            Input::Pair { source, target, .. } => output.pair_claim(source, target, &self.strangers(source, target)),
        }
    }

    /// A case as JSON: ids, exact integers, and what they are in nat.
    pub fn json(&self, Case { input, output }: &Case) -> Value {
        let input = match input {
            Input::Tokens(input) => json!({ "kind": "tokens", "ids": input, "text": self.text(input) }),
            Input::Node { graph, node } => json!({
                "kind": "node", "graph": graph.to_string(), "node": node,
                "name": self.graph.and_then(|graph| graph.name(*node)),
            }),
            Input::Pair { state, source, target } => json!({
                "kind": "pair", "state": state.to_string(), "source": source, "target": target,
                "strangers": self.strangers(source, target),
            }),
        };
        let words = |ids: &[u32]| self.text(ids);
        let words = Words::new(&words);
        let is_pair = input["kind"] == "pair";
        json!({ "input": input, "output": if is_pair { output.pair_json(&words) } else { output.json(&words) } })
    }
}

/// What the preferences of a statement amount to, in words.
pub fn summary(statement: &Statement) -> Option<String> {
    statement.preferences().map(|found| found.summary())
}

/// The same as JSON.
pub fn summary_json(statement: &Statement) -> Value {
    statement.preferences().map_or(Value::Null, |found| found.json())
}
