//! What verbs print with `--json` is what their schemas say.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;
use std::process::Stdio;

use serde_json::{Map, Value, json};

use crate::run::{ftk, succeed};

/// The only pattern there is: a digest.
const DIGEST: &str = "^[0-9a-f]{64}$";

/// The schemas of all verbs.
fn outputs() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cli/outputs.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Whether a value is of a type of JSON Schema.
fn is(name: &str, value: &Value) -> bool {
    match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("no type: {other}"),
    }
}

/// Whether a value is what a schema says, by the keywords that there are here.
fn fits(schema: &Value, value: &Value, defs: &Value) -> bool {
    let none = Map::new();
    let keywords = schema.as_object().unwrap();
    keywords.iter().all(|(keyword, says)| match keyword.as_str() {
        "description" => true,
        "$ref" => fits(&defs[says.as_str().unwrap().strip_prefix("#/$defs/").unwrap()], value, defs),
        "anyOf" => says.as_array().unwrap().iter().any(|schema| fits(schema, value, defs)),
        "enum" => says.as_array().unwrap().contains(value),
        "type" => match says {
            Value::String(name) => is(name, value),
            names => names.as_array().unwrap().iter().any(|name| is(name.as_str().unwrap(), value)),
        },
        "pattern" => {
            assert_eq!(says, DIGEST);
            let hex = |text: &str| text.len() == 64 && text.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'));
            value.as_str().is_none_or(hex)
        }
        "items" => value.as_array().into_iter().flatten().all(|item| fits(says, item, defs)),
        "required" => {
            let has = |key: &Value| value.get(key.as_str().unwrap()).is_some();
            !value.is_object() || says.as_array().unwrap().iter().all(has)
        }
        "properties" => {
            let says = says.as_object().unwrap();
            value
                .as_object()
                .unwrap_or(&none)
                .iter()
                .all(|(key, it)| says.get(key).is_none_or(|says| fits(says, it, defs)))
        }
        "additionalProperties" => {
            let known = |key: &str| keywords.get("properties").is_some_and(|properties| properties.get(key).is_some());
            value.as_object().unwrap_or(&none).iter().filter(|(key, _)| !known(key)).all(|(_, it)| match says {
                Value::Bool(may) => *may,
                says => fits(says, it, defs),
            })
        }
        other => panic!("no keyword: {other}"),
    })
}

/// The schemas of the objects of a verb, and of errors.
fn kinds(all: &Value, verb: &str) -> Vec<Value> {
    let kinds = all["verbs"][verb].as_array().unwrap_or_else(|| panic!("no verb: {verb}"));
    [kinds.as_slice(), &[json!({ "$ref": "#/$defs/error" })]].concat()
}

/// That an object which a command with these arguments printed is one of those that its schema has, and only one.
pub fn check(arguments: &[&str], object: &Value) {
    let all = outputs();
    let two = arguments.iter().take(2).copied().collect::<Vec<_>>().join(" ");
    let verb = if all["verbs"].get(&two).is_some() { &two } else { arguments[0] };
    let fitting = kinds(&all, verb).iter().filter(|kind| fits(kind, object, &all["$defs"])).count();
    assert_eq!(fitting, 1, "{arguments:?}: {object}");
}

/// The objects that a command prints, each checked.
fn said(folder: &Path, arguments: &[&str]) -> Vec<Value> {
    let output = ftk(&["--json", "--quiet"]).args(arguments).current_dir(folder).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let objects: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(!objects.is_empty(), "{arguments:?}");
    objects.iter().for_each(|object| check(arguments, object));
    objects
}

#[test]
fn verbs_print_what_their_schemas_say() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    let steps = said(folder, &["train", "dpo", "--set", "run.steps=2", "--set", "run.eval_every=1", "--out", "a"]);
    let last = steps.last().unwrap();
    assert_eq!(
        (&last["ended"], &last["step"], &last["steps"], &last["out"]),
        (&json!("done"), &json!(2), &json!(2), &json!("a"))
    );
    let plan = "recipes = [\"sft\"]\nout = \"batch\"\n[set]\nrun.steps = 1\n[then]\neval = true\n\
                sample = { prompt = \"Hi\", max_tokens = 2 }\ncommit = true\n";
    std::fs::write(folder.join("runs.toml"), plan).unwrap();
    for arguments in [
        &["batch", "runs.toml"][..],
        &["batch", "runs.toml", "--gather"],
        &["eval", "dpo", "--adapter", "a"],
        &["estimate", "--base", "village"],
        &["inspect", "a"],
        &["inspect", "village"],
        &["average", "a", "a", "--method", "factors", "--out", "f"],
        &["completions", "bash"],
        &["man", "--out", "man1"],
        &["doctor", "--offline"],
        &["schema"],
        &["schema", "defi"],
        &["pull", "nobody/nothing", "--offline"],
        &["verify", "nowhere", "--base", "village"],
    ] {
        said(folder, arguments);
    }
    // Keys are words without spaces.
    let found = said(folder, &["inspect", "a"]).remove(0);
    assert_eq!(found["last_step"]["step"], 2);
    let mut chat = ftk(&["--json", "--quiet", "chat", "--base", "village", "--adapter", "a", "--max-tokens", "2"]);
    let mut chat = chat.current_dir(folder).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    chat.stdin.take().unwrap().write_all(b"Hello\n").unwrap();
    let text = String::from_utf8(chat.wait_with_output().unwrap().stdout).unwrap();
    assert!(text.contains("\"adapted\":true"), "{text}");
    text.lines().for_each(|line| check(&["chat"], &serde_json::from_str(line).unwrap()));
}

/// The types that a schema gives a value, nothing left out.
fn types(schema: &Value, defs: &Value) -> BTreeSet<String> {
    if let Some(name) = schema["$ref"].as_str() {
        return types(&defs[name.strip_prefix("#/$defs/").unwrap()], defs);
    }
    if let Some(any) = schema["anyOf"].as_array() {
        return any.iter().flat_map(|schema| types(schema, defs)).collect();
    }
    if schema.get("enum").is_some() {
        return BTreeSet::from(["string".to_owned()]);
    }
    let name = |name: &Value| match name.as_str().unwrap() {
        "array" => format!("array of {:?}", types(&schema["items"], defs)),
        name => name.to_owned(),
    };
    let names = match &schema["type"] {
        Value::Array(names) => names.iter().map(name).collect(),
        Value::Null => BTreeSet::new(),
        one => BTreeSet::from([name(one)]),
    };
    names.into_iter().filter(|name| name != "null").collect()
}

/// Every key of a schema, however deep, with its types.
fn keys(schema: &Value, defs: &Value, found: &mut BTreeMap<String, BTreeSet<String>>) {
    for (key, value) in schema["properties"].as_object().into_iter().flatten() {
        found.entry(key.clone()).or_default().extend(types(value, defs));
    }
    match schema {
        Value::Array(all) => all.iter().for_each(|schema| keys(schema, defs, found)),
        Value::Object(all) => all.values().for_each(|schema| keys(schema, defs, found)),
        _ => {}
    }
}

/// Whoever reads one verb's objects reads another's.
#[test]
fn a_key_has_one_type_whichever_verb_prints_it() {
    let all = outputs();
    let mut found = BTreeMap::new();
    keys(&all, &all["$defs"], &mut found);
    assert!(found.len() > 150);
    let two: Vec<_> = found.iter().filter(|(_, types)| types.len() > 1).collect();
    assert!(two.is_empty(), "{two:?}");
}

#[test]
fn wrong_usage_is_an_object_too() {
    let place = tempfile::tempdir().unwrap();
    let told = said(place.path(), &["train", "dpo", "--stepz"]);
    assert_eq!(told[0]["error"], "unexpected argument '--stepz' found");
    let told = said(place.path(), &["verify", "b"]);
    assert!(told[0]["error"].as_str().unwrap().contains("--base"), "{}", told[0]);
    // Help is none, and neither is anything without --json.
    for arguments in [&["--json", "train", "--help"][..], &["train", "--stepz"]] {
        let output = ftk(arguments).output().unwrap();
        assert!(!String::from_utf8(output.stdout).unwrap().starts_with('{'));
    }
}

#[test]
fn the_schema_of_a_verb_can_be_asked_for() {
    let all = outputs();
    for verb in [&["verify"][..], &["recipes", "ls"]] {
        let printed = succeed(ftk(&["--json", "schema", "--output"]).args(verb));
        let schema: Value = serde_json::from_str(&printed).unwrap();
        assert_eq!(schema["anyOf"], json!(kinds(&all, &verb.join(" "))));
        assert_eq!(schema["$defs"], all["$defs"]);
    }
    let output = ftk(&["schema", "--output", "verifi"]).output().unwrap();
    let told = crate::run::stderr(&output);
    assert!(
        told.starts_with("error: no verb of this name prints objects: verifi\nhint: did you mean verify? "),
        "{told}"
    );
}

#[test]
fn what_a_schema_does_not_say_is_found() {
    let all = outputs();
    let fits = |object: Value| kinds(&all, "open").iter().any(|kind| fits(kind, &object, &all["$defs"]));
    let adapter = "0".repeat(64);
    let honest = json!({ "opens": true, "adapter": adapter, "transcript": null, "difference": null });
    assert!(fits(honest.clone()));
    for (key, other) in [("opens", json!(1)), ("adapter", json!("0")), ("transcript", json!("x")), ("more", json!(1))] {
        let mut object = honest.clone();
        object[key] = other;
        assert!(!fits(object), "{key}");
    }
    let mut object = honest;
    object.as_object_mut().unwrap().remove("difference");
    assert!(!fits(object));
    // An error is a text in every object that has one at its top.
    let mut named = BTreeSet::new();
    for kinds in all["verbs"].as_object().unwrap().values() {
        for kind in kinds.as_array().unwrap() {
            named.extend(kind["properties"].get("error").map(|schema| schema["type"].to_string()));
        }
    }
    assert_eq!(named, BTreeSet::from(["\"string\"".to_owned()]));
}
