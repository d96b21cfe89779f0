//! What is expected of a bundle, as it is typed into the page. An empty field expects nothing.

use std::collections::BTreeMap;

use ftk_networks::graphs::name::spelt;
use ftk_networks::graphs::opened::GraphQuestion;
use ftk_proofs::bundle::PackedBundle;
use ftk_proofs::circuits::Digest;
use ftk_proofs::hex::parse_digest;
use ftk_proofs::verdict::{Expectations, ExpectedInput};
use ftk_proofs::{Case, Input, Kind, Output, Statement};
use serde::Deserialize;

/// The fields of the page.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct TypedExpectations {
    /// Digest of the adapter.
    adapter: String,
    /// Any input will do.
    any_input: bool,
    /// A line for each case: ids, or the name of a node, or both names of a pair with a tab or a comma between them.
    input: String,
    /// What is asked of the inputs is what was to be asked: somebody has compared it.
    as_asked: bool,
    /// A line for each case: the ids of an answer.
    answer: String,
    /// What was asked of the input.
    task: String,
    /// Most tokens of an answer.
    max_tokens: String,
    /// The context.
    context: String,
    /// Root of the training transcript.
    transcript: String,
    /// Root of the graph.
    graph: String,
}

impl TypedExpectations {
    /// The same in the terms of a bundle.
    ///
    /// # Errors
    /// A field that cannot be read, by its name on the page.
    pub(crate) fn expectations(&self, bundle: &PackedBundle) -> Result<Expectations, String> {
        let digest = |name: &str, text: &str| match text.trim() {
            "" => Ok(None),
            text => parse_digest(text).map(Some).ok_or_else(|| format!("{name}: not a digest of 64 digits: {text}")),
        };
        let graph = digest("graph", &self.graph)?;
        let lines: Vec<&str> = self.input.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let input = match (self.any_input, lines.is_empty()) {
            (true, false) => return Err("input: one was given, and that any will do".to_owned()),
            (true, true) => ExpectedInput::Any,
            (false, true) => ExpectedInput::Unknown,
            (false, false) => {
                let inputs: Vec<Input> = match bundle.statement.graph() {
                    None => lines
                        .iter()
                        .map(|line| Ok(Input::Tokens(ids("input", line)?)))
                        .collect::<Result<_, String>>()?,
                    Some(root) => match bundle.statement.asked() {
                        Some(GraphQuestion::Pairs(_)) => {
                            let pair = |line: &&str| pair(line, graph.unwrap_or(root));
                            lines.iter().map(pair).collect::<Result<_, String>>()?
                        }
                        _ => nodes(bundle, &lines, graph.unwrap_or(root)),
                    },
                };
                let cases = &bundle.statement.cases;
                let question =
                    |(input, case): (&Input, &Case)| Case { input: input.clone(), output: case.output.question() };
                // Another number of inputs is refused as such.
                match self.as_asked && inputs.len() == cases.len() {
                    true => ExpectedInput::Questions(inputs.iter().zip(cases).map(question).collect()),
                    false => ExpectedInput::Inputs(inputs),
                }
            }
        };
        let task = match self.task.trim() {
            "" => None,
            name => Some(Kind::named(name).ok_or_else(|| format!("task: there is none of this name: {name}"))?),
        };
        let max_tokens = match self.max_tokens.trim() {
            "" => None,
            text => Some(text.parse().map_err(|_| format!("max tokens: not a number: {text}"))?),
        };
        Ok(Expectations {
            adapter: digest("adapter", &self.adapter)?,
            transcript: digest("transcript", &self.transcript)?,
            graph,
            input,
            task,
            max_tokens,
            context: (!self.context.is_empty()).then(|| self.context.clone().into_bytes()),
        })
    }

    /// What the statement answers instead of what was expected, if that is something else: the case, and both. A stop id at
    /// the end of an answer may be left out.
    ///
    /// # Errors
    /// As [`TypedExpectations::expectations`].
    pub(crate) fn other_answer(&self, statement: &Statement) -> Result<Option<String>, String> {
        let lines: Vec<&str> = self.answer.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        if lines.is_empty() {
            return Ok(None);
        }
        if lines.len() != statement.cases.len() {
            return Ok(Some(format!("{} cases instead of {}", statement.cases.len(), lines.len())));
        }
        for (index, (line, case)) in lines.iter().zip(&statement.cases).enumerate() {
            let (expected, stated) = (ids("answer", line)?, answered(&case.output));
            let Some((stated, stops)) = stated else {
                return Ok(Some(format!("case {index} answers with no ids")));
            };
            let ended = stated.split_last().filter(|(last, _)| stops.contains(last)).map(|(_, bare)| bare);
            if stated != expected && ended != Some(expected.as_slice()) {
                return Ok(Some(format!("case {index} answers {stated:?} instead of {expected:?}")));
            }
        }
        Ok(None)
    }
}

/// The ids that an output answers with, and those that end it.
fn answered(output: &Output) -> Option<(&[u32], &[u32])> {
    match output {
        Output::Completion(completion) => Some((&completion.ids, &completion.stop_ids)),
        Output::Choice(choice) => Some((std::slice::from_ref(&choice.chosen), &[])),
        _ => None,
    }
}

/// Ids between commas, spaces or brackets.
fn ids(field: &str, line: &str) -> Result<Vec<u32>, String> {
    let words = line.split(|c: char| c.is_whitespace() || ",;[]".contains(c)).filter(|word| !word.is_empty());
    words.map(|word| word.parse().map_err(|_| format!("{field}: not a token id: {word}"))).collect()
}

/// A pair by its names.
fn pair(line: &str, state: Digest) -> Result<Input, String> {
    // A comma may be part of a name, where a tab stands between the two.
    let between = if line.contains('\t') { '\t' } else { ',' };
    let ends = line.split_once(between).filter(|(_, target)| !target.contains(between));
    let wrong = || format!("input: not two names with a tab or a comma between them: {line}");
    let (source, target) = ends.ok_or_else(wrong)?;
    Ok(Input::Pair { state, source: spelt(source.trim()).into_owned(), target: spelt(target.trim()).into_owned() })
}

/// Nodes by the names that the bundle's part of the graph gives them, which its root binds.
fn nodes(bundle: &PackedBundle, names: &[&str], root: Digest) -> Vec<Input> {
    let mut known: BTreeMap<&str, Option<u32>> = BTreeMap::new();
    for (name, node) in bundle.graph.iter().flat_map(|graph| graph.names()) {
        // A name of two nodes is none.
        known.entry(name).and_modify(|other| *other = None).or_insert(Some(node));
    }
    // A node that nothing is opened of is in no case.
    let number = |name: &&str| known.get(*name).copied().flatten().unwrap_or(u32::MAX);
    names.iter().map(|name| Input::Node { graph: root, node: number(name) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_is_two_names_with_one_tab_or_comma_between_them() {
        let names = |line: &str| match pair(line, Digest([1; 32])) {
            Ok(Input::Pair { source, target, .. }) => Ok([source, target]),
            Ok(other) => panic!("no pair: {other:?}"),
            Err(wrong) => Err(wrong),
        };
        let named = |source: &str, target: &str| Ok([source.to_owned(), target.to_owned()]);
        assert_eq!(names("ada, bea"), named("ada", "bea"));
        assert_eq!(names("late, later\tada"), named("late, later", "ada"));
        // As states name users.
        let address = format!("0x{}", "Ab".repeat(20));
        assert_eq!(names(&format!("ada,{address}")), named("ada", &address.to_lowercase()));
        for wrong in ["ada", "ada bea", "ada,bea,cat", "ada\tbea\tcat"] {
            assert!(names(wrong).unwrap_err().starts_with("input: not two names"), "{wrong}");
        }
    }
}
