//! What each verb prints with `--json`, as JSON Schema (draft 2020-12): `outputs.json`, which a test holds real output
//! against. Another type for a key, or one key less, is another version.

use anyhow::Context;
use ftk_recipes::shipped::near;
use serde_json::{Map, Value, json};

use super::printer::Printer;
use crate::commands::{Advice, Outcome};

const OUTPUTS: &str = include_str!("outputs.json");

/// The schemas of all verbs.
fn outputs() -> Map<String, Value> {
    let all: Value = serde_json::from_str(OUTPUTS).expect("what ships is JSON");
    all.as_object().cloned().expect("what ships is an object")
}

/// Prints the JSON Schema of the objects of a verb, such as `recipes ls`.
///
/// # Errors
/// A name that no verb has.
pub(super) fn print(verb: &[String], printer: &Printer) -> anyhow::Result<Outcome> {
    let (name, mut all) = (verb.join(" "), outputs());
    let verbs = all.remove("verbs").context("what ships has verbs")?;
    let known: Vec<&str> = verbs.as_object().into_iter().flat_map(Map::keys).map(String::as_str).collect();
    let Some(kinds) = verbs.get(&name).and_then(Value::as_array) else {
        let meant = near(&name, &known).map_or(String::new(), |meant| format!("did you mean {meant}? "));
        let hint = format!("{meant}there are: {}", known.join(", "));
        return Err(Advice::new(format!("no verb of this name prints objects: {name}"), hint).into());
    };
    let mut any = kinds.clone();
    any.push(json!({ "$ref": "#/$defs/error" }));
    let schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": format!("ftk --json {name}"),
        "description": format!("An object, which is a line, of version {} of what ftk prints", all["version"]),
        "anyOf": any,
        "$defs": all["$defs"],
    });
    printer.text(&format!("{schema:#}"));
    printer.object(&schema);
    Ok(Outcome::Done)
}

/// What is wrong with what was typed, as an object.
pub(super) fn usage(usage: &clap::Error) -> Value {
    let text = usage.to_string();
    let paragraphs: Vec<String> =
        text.split("\n\n").map(|part| part.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    let said = paragraphs.first().map_or("", |first| first.strip_prefix("error: ").unwrap_or(first));
    let mut object = json!({ "error": said });
    let tips: Vec<&str> = paragraphs.iter().filter_map(|part| part.strip_prefix("tip: ")).collect();
    if !tips.is_empty() {
        object["hint"] = tips.join("; ").into();
    }
    object
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Verbs without verbs behind them.
    fn verbs(command: &clap::Command, before: &str, found: &mut Vec<String>) {
        for verb in command.get_subcommands().filter(|verb| verb.get_name() != "help") {
            let name = format!("{before}{}", verb.get_name());
            match verb.has_subcommands() {
                true => verbs(verb, &format!("{name} "), found),
                false => found.push(name),
            }
        }
    }

    #[test]
    fn every_verb_has_a_schema_and_no_other() {
        let mut typed = Vec::new();
        verbs(&super::super::command(), "", &mut typed);
        let mut known: Vec<String> = outputs()["verbs"].as_object().unwrap().keys().cloned().collect();
        typed.sort();
        known.sort();
        assert_eq!(known, typed);
    }
}
