//! Statements in words and as JSON.

use ftk_bases::Tokenizer;
use ftk_circuits::SiteShape;
use ftk_networks::graphs::neighbourhood::Neighbourhood;
use ftk_proofs::bundle::LOGITS;
use ftk_proofs::outputs::Preferences;
use ftk_proofs::{Case, Input, Output, Statement, Words, rows_of};
use serde_json::{Value, json};

/// Ids as text where the text gives them back, and nodes by name: the statement is about numbers.
pub struct StatedText<'a> {
    tokenizer: Option<&'a Tokenizer>,
    graph: Option<&'a Neighbourhood>,
}

impl<'a> StatedText<'a> {
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
    fn text(&self, ids: &[u32]) -> Option<String> {
        let text = self.tokenizer?.decode(ids, false).ok()?;
        (self.tokenizer?.encode(&text, false).ok()? == ids).then_some(text)
    }

    fn node(&self, node: u32) -> String {
        self.graph.and_then(|graph| graph.name(node)).map_or_else(|| node.to_string(), |name| format!("{name:?}"))
    }

    /// What a case says, as the end of the sentence "the adapter, applied to the base, ...".
    pub fn claim(&self, Case { input, output }: &Case) -> String {
        let text = |ids: &[u32]| self.text(ids);
        let words = Words::new(&text);
        match input {
            Input::Tokens(input) => output.claim(&words.words(input), &words),
            Input::Node { node, .. } => output.node_claim(&self.node(*node)),
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
        };
        json!({ "input": input, "output": output.json(&Words::new(&|ids| self.text(ids))) })
    }
}

/// What the preferences of a statement amount to.
fn preferences(statement: &Statement) -> Option<Preferences> {
    Preferences::of(statement.cases.iter().filter_map(|case| match &case.output {
        Output::Preference(preference) => Some(preference),
        _ => None,
    }))
}

/// The same in words.
pub fn summary(statement: &Statement) -> Option<String> {
    preferences(statement).map(|found| found.summary())
}

/// The same as JSON.
pub fn summary_json(statement: &Statement) -> Value {
    preferences(statement).map_or(Value::Null, |found| found.json())
}

/// What every proof in open mode gives away.
pub const DISCLOSURE: &str = "open mode publishes the exact delta of every adapted site on every row (token, or node that \
    receives); from about rank + 2 rows these give away B, and more of them the whole adapter";

/// What a bundle makes public; of a sealed one it is said how many logits came along.
pub fn disclosed(
    statement: &Statement,
    graph: Option<&Neighbourhood>,
    shapes: &[SiteShape],
    sealed: Option<u64>,
) -> String {
    let rows = rows_of(statement, graph, shapes).into_iter().max().unwrap_or(0);
    let ranks = shapes.iter().map(|shape| shape.rank);
    let (least, most) = (ranks.clone().min().unwrap_or(0), ranks.max().unwrap_or(0));
    let ranks = if least == most { format!("rank {most}") } else { format!("ranks {least} to {most}") };
    let most = if graph.is_some() { "up to " } else { "" };
    let sites = shapes.len();
    let Some(logits) = sealed else {
        return format!("open: {most}{rows} rows at each of {sites} sites of {ranks}; {DISCLOSURE}");
    };
    let answers = match statement.cases.len() {
        1 => "1 answer".to_owned(),
        many => format!("{many} answers"),
    };
    let numbers = if statement.cases.iter().all(|case| case.output.is_ids()) { "" } else { ", numbers more than ids" };
    let logits = if logits == 0 { String::new() } else { format!(", and the {logits} logits of {LOGITS}") };
    format!(
        "sealed: of the adapter its digest, {sites} sites of {ranks} with names, shapes and scales, and {answers} over \
         {most}{rows} rows (tokens or nodes){logits}; nothing else, but that enough answers tell what it does{numbers}"
    )
}
