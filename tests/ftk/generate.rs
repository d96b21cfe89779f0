//! Answers that are drawn, and conversations, through the command.

use std::io::Write;
use std::path::Path;
use std::process::{Output, Stdio};

use serde_json::Value;

use crate::run::{fixture, ftk, stderr, succeed};
use crate::seller::adapter;

fn objects(stdout: &str) -> Vec<Value> {
    stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Answers of the village, with a random adapter that makes them vary.
fn answers(folder: &Path, more: &[&str]) -> Vec<Value> {
    let mut command = ftk(&["generate", "--base", "village", "--max-tokens", "12", "--json", "--adapter"]);
    objects(&succeed(command.arg(folder.join("adapter")).args(more)))
}

fn place() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    adapter(&folder.path().join("adapter"), 4);
    let row = |prompt| serde_json::json!({ "prompt": [{ "role": "user", "content": prompt }] }).to_string() + "\n";
    let rows = ["What does Elsa sell?", "Who bakes bread?", "Hi"].map(row);
    std::fs::write(folder.path().join("rows.jsonl"), rows.concat()).unwrap();
    folder
}

#[test]
fn a_seed_draws_the_same_answers_whatever_is_computed_beside_them() {
    let place = place();
    let rows = place.path().join("rows.jsonl");
    let drawn = |seed: &str, more: &[&str]| {
        let drawn = ["--rows", rows.to_str().unwrap(), "--temperature", "1.5", "--samples", "3", "--seed", seed];
        answers(place.path(), &[&drawn, more].concat())
    };
    let first = drawn("1", &[]);
    let numbers: Vec<_> =
        first.iter().map(|it| (it["prompt"].as_u64().unwrap(), it["sample"].as_u64().unwrap())).collect();
    assert_eq!(numbers, [(1, 1), (1, 2), (1, 3), (2, 1), (2, 2), (2, 3), (3, 1), (3, 2), (3, 3)]);
    for batch in ["1", "2", "9"] {
        assert_eq!(drawn("1", &["--batch", batch]), first, "{batch} at a time");
    }
    let mut one_thread = ftk(&["generate", "--base", "village", "--max-tokens", "12", "--json", "--adapter"]);
    one_thread.arg(place.path().join("adapter")).arg("--rows").arg(&rows).env("RAYON_NUM_THREADS", "1");
    one_thread.args(["--temperature", "1.5", "--samples", "3", "--seed", "1"]);
    assert_eq!(objects(&succeed(&mut one_thread)), first);
    let ids = |all: &[Value]| all.iter().map(|answer| answer["completion_ids"].clone()).collect::<Vec<_>>();
    assert_ne!(ids(&first), ids(&drawn("2", &[])));
    assert!(ids(&first).chunks(3).any(|of_prompt| of_prompt[0] != of_prompt[1] || of_prompt[1] != of_prompt[2]));
    // The first prompt by itself.
    let typed = ["--prompt", "What does Elsa sell?", "--temperature", "1.5", "--seed", "1"];
    assert_eq!(answers(place.path(), &typed), first[..1]);
    for answer in &first {
        let each: Vec<f64> = answer["log_probs"].as_array().unwrap().iter().map(|it| it.as_f64().unwrap()).collect();
        assert_eq!(each.len(), answer["completion_ids"].as_array().unwrap().len());
        assert!((each.iter().sum::<f64>() - answer["log_prob"].as_f64().unwrap()).abs() < 1e-9);
    }
}

#[test]
fn answers_of_the_most_likely_tokens_are_the_default() {
    let place = place();
    let rows = place.path().join("rows.jsonl");
    let all = answers(place.path(), &["--rows", rows.to_str().unwrap()]);
    let [typed] = answers(place.path(), &["--prompt", "What does Elsa sell?"]).try_into().unwrap();
    assert_eq!(typed, all[0]);
    // Of the least share, the most likely tokens are drawn.
    let least = ["--prompt", "What does Elsa sell?", "--temperature", "3", "--top-p", "1e-9"];
    assert_eq!(answers(place.path(), &least)[0]["completion_ids"], typed["completion_ids"]);
    let one = ["--prompt", "What does Elsa sell?", "--temperature", "3", "--top-k", "1"];
    assert_eq!(answers(place.path(), &one)[0]["completion_ids"], typed["completion_ids"]);
    // For a person: each answer under its number.
    let mut command = ftk(&["generate", "--base", "village", "--max-tokens", "3", "--rows"]);
    let said = succeed(command.arg(&rows));
    assert!(said.starts_with("prompt 1, sample 1:\n") && said.contains("\nprompt 3, sample 1:\n"), "{said}");
}

#[test]
fn products_in_bf16_are_asked_for_by_name_and_give_other_figures() {
    let place = place();
    let of = |more: &[&str]| answers(place.path(), &[&["--prompt", "What does Elsa sell?"], more].concat()).remove(0);
    let (f32, bf16) = (of(&["--precision", "f32"]), of(&["--precision", "bf16"]));
    assert_eq!(f32, of(&[]));
    assert_ne!(f32["log_probs"], bf16["log_probs"]);
    let first = |answer: &Value| answer["log_probs"][0].as_f64().unwrap();
    assert!((first(&f32) - first(&bf16)).abs() < 0.1, "{f32}\n{bf16}");
}

#[test]
fn what_cannot_be_answered_is_refused() {
    let place = place();
    let long = format!("{{\"prompt\": \"Hi\"}}\n{{\"prompt\": \"{}\"}}\n", "word ".repeat(400));
    let long_rows = place.path().join("long.jsonl");
    std::fs::write(&long_rows, long).unwrap();
    let long_rows = long_rows.to_str().unwrap();
    for (more, expected) in [
        (&["--prompt", "a", "--temperature=-1"][..], "cannot draw tokens: the temperature must be above 0: -1"),
        (&["--prompt", "a", "--temperature", "1", "--top-p", "1.5"], "top_p must be above 0 and at most 1: 1.5"),
        (&["--prompt", "a", "--temperature", "1", "--min-p", "1"], "min_p must be at least 0 and below 1: 1"),
        (&["--prompt", "a", "--samples", "3"], "--samples changes nothing where each token is the most likely one"),
        (&["--prompt", "a", "--seed", "3"], "--seed changes nothing where each token is the most likely one"),
        (&["--prompt", "a", "--temperature", "1", "--samples", "0"], "--samples"),
        (&["--rows", long_rows], "long.jsonl:2: a prompt of"),
    ] {
        let output = ftk(&["generate", "--base", "village"]).args(more).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{more:?}");
        assert!(stderr(&output).contains(expected), "{more:?}: {}", stderr(&output));
    }
}

/// What a conversation says.
fn chat(arguments: &[&str], lines: &str) -> Output {
    let mut command = ftk(&["chat", "--max-tokens", "6"]);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    // A command that refuses its base does not read.
    let _ = input.write_all(lines.as_bytes());
    drop(input);
    child.wait_with_output().unwrap()
}

#[test]
fn a_conversation_goes_on_is_begun_anew_and_asks_base_or_adapter() {
    let place = place();
    let adapter = place.path().join("adapter");
    let adapter = adapter.to_str().unwrap();
    let lines = "What does Elsa sell?\n/adapter both\nAnd Nora?\n/reset\n/adapter off\nWhat does Elsa sell?\n\n/huh\n/quit\nHi\n";
    let output = chat(&["--json", "--base", "village", "--adapter", adapter], lines);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stderr(&output).contains("no such command: /huh"), "{}", stderr(&output));
    let said = objects(&String::from_utf8(output.stdout).unwrap());
    let who: Vec<_> = said.iter().map(|it| (it["turn"].as_u64().unwrap(), it["adapted"].as_bool().unwrap())).collect();
    assert_eq!(who, [(1, true), (2, false), (2, true), (3, false)]);
    // What `generate` says of the same, with the adapter and without.
    let generated = |more: &[&str]| {
        let mut command = ftk(&["generate", "--json", "--base", "village", "--max-tokens", "6"]);
        objects(&succeed(command.args(["--prompt", "What does Elsa sell?"]).args(more))).remove(0)
    };
    assert_eq!(said[0]["completion_ids"], generated(&["--adapter", adapter])["completion_ids"]);
    assert_eq!(said[3]["completion_ids"], generated(&[])["completion_ids"], "nothing is left of what came before");
    // The second turn goes on from the first, as a row of messages does.
    let messages = serde_json::json!({"messages": [
        {"role": "user", "content": "What does Elsa sell?"},
        {"role": "assistant", "content": said[0]["text"]},
        {"role": "user", "content": "And Nora?"},
        {"role": "assistant", "content": "."},
    ]});
    std::fs::write(place.path().join("turns.jsonl"), messages.to_string()).unwrap();
    for (more, answer) in [(&["--adapter", adapter][..], &said[2]), (&[], &said[1])] {
        let mut command = ftk(&["generate", "--json", "--base", "village", "--max-tokens", "6", "--rows"]);
        let expected = objects(&succeed(command.arg(place.path().join("turns.jsonl")).args(more))).remove(0);
        assert_eq!(answer["completion_ids"], expected["completion_ids"]);
    }
    // For a person, both stand below each other.
    let output = chat(&["--base", "village", "--adapter", adapter], "/adapter both\nWhat does Elsa sell?\n");
    let said = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines.len() == 2 && lines[0].starts_with("base: ") && lines[1].starts_with("adapter: "), "{said}");
}

#[test]
fn a_base_that_knows_no_turns_is_not_talked_to() {
    let base = fixture("micro-llama/base");
    let output = chat(&["--base", base.to_str().unwrap()], "Hi\n");
    assert_eq!(output.status.code(), Some(2));
    let said = stderr(&output);
    assert!(
        said.contains("has no chat template, so it knows no turns\nhint: ") && said.contains("ftk generate --raw"),
        "{said}"
    );
    let output = chat(&["--base", "village"], "/adapter on\n");
    assert!(stderr(&output).contains("there is no adapter: name one with --adapter"), "{}", stderr(&output));
}
