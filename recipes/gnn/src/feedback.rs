//! Preferences about a graph, and what one costs by a loss of [`ftk_recipes::preference`].
//!
//! Candidates of one preference share the softmax they are drawn from, so that its denominator cancels: the log-ratio of
//! two classes of a node, or of two targets of a source, is the difference of their scores, exactly.

use std::collections::BTreeMap;
use std::path::Path;

use ftk_adapters::foreign;
use serde::Deserialize;

use super::error::GraphError;
use super::graph::Graph;
use super::settings::Gnn;
use ftk_networks::graphs::name::spelt;
use ftk_recipes::preference::{Loss, PreferenceRow, ScoredCompletion};

/// One thing preferred over another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FeedbackChoice {
    /// The node that is classified, or the source that chooses.
    pub subject: usize,
    /// The class, or the target, that is preferred.
    pub chosen: u32,
    /// The one that is not.
    pub rejected: u32,
    /// When, where that is known.
    pub time: Option<f64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FeedbackLine {
    node: Option<serde_json::Value>,
    src: Option<serde_json::Value>,
    chosen: serde_json::Value,
    rejected: serde_json::Value,
    #[serde(default)]
    ts: Option<f64>,
    /// Who said so; not looked at.
    #[serde(default, rename = "by")]
    _by: Option<serde_json::Value>,
}

/// Preferences between classes of nodes.
///
/// # Errors
/// A file that cannot be read or is malformed, or names what the graph does not have.
pub fn nodes(gnn: &Gnn, graph: &Graph) -> Result<Vec<FeedbackChoice>, GraphError> {
    let Some(path) = &gnn.feedback else {
        return Err(GraphError::unfit("there is no feedback about nodes", "name a file of JSON lines in gnn.feedback"));
    };
    let classes: BTreeMap<String, u32> =
        graph.classes.iter().enumerate().map(|(at, name)| (name.clone(), at as u32)).collect();
    read(path, &graph.numbers(), |line| line.node.as_ref(), "node", &classes, "a class")
}

/// Preferences of sources between targets.
///
/// # Errors
/// As [`nodes`].
pub fn targets(path: &Path, graph: &Graph) -> Result<Vec<FeedbackChoice>, GraphError> {
    let numbers = graph.numbers();
    read(path, &numbers, |line| line.src.as_ref(), "src", &numbers, "a node")
}

fn read(
    path: &Path,
    subjects: &BTreeMap<String, u32>,
    subject: fn(&FeedbackLine) -> Option<&serde_json::Value>,
    key: &str,
    candidates: &BTreeMap<String, u32>,
    what: &str,
) -> Result<Vec<FeedbackChoice>, GraphError> {
    let text = foreign::read_text(path, foreign::DATA).map_err(|error| GraphError::io(path, error))?;
    let mut choices = Vec::new();
    for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let wrong = |message: String| GraphError::at(path, format!(":{}", at + 1), message);
        let line: FeedbackLine =
            serde_json::from_str(line).map_err(|error| wrong(format!("not a preference: {error}")))?;
        let name = |value: &serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let find = |known: &BTreeMap<String, u32>, value: &serde_json::Value, what: &str| {
            let name = name(value);
            known.get(&*spelt(&name)).copied().ok_or_else(|| wrong(format!("is not {what} of the graph: {name}")))
        };
        let value = subject(&line).ok_or_else(|| wrong(format!("has no key: {key}")))?;
        let subject = find(subjects, value, "a node")? as usize;
        let (chosen, rejected) = (find(candidates, &line.chosen, what)?, find(candidates, &line.rejected, what)?);
        if chosen == rejected {
            return Err(wrong(format!("prefers to itself: {}", name(&line.chosen))));
        }
        choices.push(FeedbackChoice { subject, chosen, rejected, time: line.ts });
    }
    Ok(choices)
}

/// What a preference costs whose chosen candidate lies by this margin above the rejected one, and by that under the
/// reference; and the derivatives by the score of either. Scores count as log-probabilities of one token.
pub fn cost(loss: &dyn Loss, margin: f64, reference: f64) -> (f64, [f64; 2]) {
    let chosen = ScoredCompletion { policy: margin, reference, tokens: 1 };
    let rejected = ScoredCompletion { policy: 0.0, reference: 0.0, tokens: 1 };
    let verdict = loss.judge(PreferenceRow::chosen(&[chosen, rejected]));
    (verdict.loss, [verdict.slopes[0], verdict.slopes[1]])
}

/// `-log sigmoid(x)` and its derivative.
pub fn logistic(x: f64) -> (f64, f64) {
    let tail = libm::exp(-x.abs());
    let loss = libm::log1p(tail) + (-x).max(0.0);
    let share = if x >= 0.0 { tail / (1.0 + tail) } else { 1.0 / (1.0 + tail) };
    (loss, -share)
}

#[cfg(test)]
mod tests {
    use super::super::import::{Origin, import};
    use super::*;

    fn with(lines: &str) -> Result<Vec<FeedbackChoice>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("n.csv"), "id,y\nann,1\nbob,0\n7,1\n").unwrap();
        std::fs::write(path("e.csv"), "src,dst\nann,bob\n").unwrap();
        std::fs::write(path("f.jsonl"), lines).unwrap();
        let origin = Origin::Tables { nodes: Some(path("n.csv")), edges: path("e.csv"), directed: false };
        let (graph, _) = import(&origin).unwrap();
        let gnn = Gnn { feedback: Some(path("f.jsonl")), ..Gnn::default() };
        let found = if lines.contains("src") { targets(&path("f.jsonl"), &graph) } else { nodes(&gnn, &graph) };
        found.map_err(|error| error.to_string().replace(folder.path().to_str().unwrap(), "."))
    }

    #[test]
    fn preferences_are_read_by_name_and_refused_by_line() {
        let choice = |subject, chosen, rejected, time| FeedbackChoice { subject, chosen, rejected, time };
        let line = r#"{"node": "bob", "chosen": 1, "rejected": "0", "ts": 5, "by": "x"}"#;
        assert_eq!(with(line).unwrap(), [choice(1, 1, 0, Some(5.0))]);
        assert_eq!(with(r#"{"src": 7, "chosen": "ann", "rejected": "bob"}"#).unwrap(), [choice(2, 0, 1, None)]);
        let refused = |line: &str| with(line).unwrap_err();
        assert_eq!(refused(&line.replace("bob", "dan")), "./f.jsonl:1: is not a node of the graph: dan");
        assert_eq!(refused(&line.replace("\"0\"", "2")), "./f.jsonl:1: is not a class of the graph: 2");
        assert_eq!(refused(&line.replace("\"0\"", "1")), "./f.jsonl:1: prefers to itself: 1");
        assert_eq!(refused(r#"{"chosen": 1, "rejected": 0}"#), "./f.jsonl:1: has no key: node");
        assert!(refused(&line.replace("by", "why")).starts_with("./f.jsonl:1: not a preference: unknown field `why`"));
    }

    #[test]
    fn the_loss_of_a_preference_and_its_slope_hold_at_the_ends() {
        assert!((logistic(0.0).0 - 2.0f64.ln()).abs() < 1e-15 && logistic(0.0).1 == -0.5);
        assert!(logistic(800.0).0 < 1e-300 && (logistic(-800.0).0 - 800.0).abs() < 1e-9 && logistic(-800.0).1 == -1.0);
        for x in [-3.0, -0.2, 0.4, 5.0] {
            let slope = (logistic(x + 1e-5).0 - logistic(x - 1e-5).0) / 2e-5;
            assert!((slope - logistic(x).1).abs() < 1e-9, "{x}");
        }
    }
}
