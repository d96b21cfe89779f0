//! What a buyer can state beforehand, and that it is looked at before anything that costs: the seller of these tests
//! proves honestly, and something else than was asked.

use std::path::{Path, PathBuf};

use ftk_circuits::Digest;
use ftk_proofs::Output;
use serde_json::Value;

use crate::run::{ftk, stderr, succeed};
use crate::seller::{Seller, forged, verify};

const PROMPT: &str = "What does Jan sell?";

fn no(check: &str) -> (i32, String) {
    (1, check.to_owned())
}

fn yes() -> (i32, String) {
    (0, "valid".to_owned())
}

/// What the verdict says was not expected.
fn not_expected(bundle: &Path, expectations: &[&str]) -> String {
    let mut command = ftk(&["verify", "--base", "village", "--json", "--quiet"]);
    let said: Value = serde_json::from_str(&succeed(command.arg(bundle).args(expectations))).unwrap();
    said["not_expected"].to_string()
}

#[test]
fn the_length_of_an_answer_is_the_buyers_to_state() {
    let folder = tempfile::tempdir().unwrap();
    let seller = Seller::new(folder.path().join("seller"), 51);
    let asked = ["--expect-adapter", seller.digest.as_str(), "--expect-input", PROMPT];
    let with = |more: &[&'static str]| [&asked[..], more].concat();
    let whole = seller.prove_with("whole", &["--max-tokens", "6", "--prompt", PROMPT]);
    let short = seller.prove_with("short", &["--max-tokens", "2", "--prompt", PROMPT]);
    for bundle in [&whole, &short] {
        assert_eq!(verify(bundle, &asked), yes());
        let said = not_expected(bundle, &asked);
        assert!(said.contains("without --expect-task") && said.contains("without --expect-max-tokens"), "{said}");
        assert_eq!(verify(bundle, &with(&["--expect-task", "completion"])), yes());
        let said = not_expected(bundle, &with(&["--expect-task", "completion"]));
        assert!(!said.contains("--expect-task") && said.contains("without --expect-max-tokens"), "{said}");
    }
    let six = with(&["--expect-max-tokens", "6"]);
    assert_eq!(verify(&whole, &six), yes());
    assert_eq!(not_expected(&whole, &six), "[]");
    // An honest proof of an answer that was to be shorter than was asked, or longer.
    assert_eq!(verify(&short, &six), no("expected max tokens"));
    assert_eq!(verify(&whole, &with(&["--expect-max-tokens", "7"])), no("expected max tokens"));
    assert_eq!(verify(&whole, &with(&["--expect-max-tokens", "5"])), no("expected max tokens"));
    let both = with(&["--expect-task", "completion", "--expect-max-tokens", "6"]);
    assert_eq!(verify(&whole, &both), yes());
    // Two expectations that no bundle meets are a mistake of the buyer's.
    let mut command = ftk(&["verify", "--base", "village", "--expect-task", "logits", "--expect-max-tokens", "6"]);
    let output = command.arg(&whole).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("--expect-max-tokens is about completions"), "{}", stderr(&output));
}

#[test]
fn the_kind_of_answer_is_the_buyers_to_state() {
    let folder = tempfile::tempdir().unwrap();
    let seller = Seller::new(folder.path().join("seller"), 52);
    let rows = folder.path().join("pairs.jsonl");
    let turn = |role: &str, text: &str| format!("[{{\"role\":\"{role}\",\"content\":\"{text}\"}}]");
    let [prompt, chosen] = [turn("user", PROMPT), turn("assistant", "Dear guest, Jan sells plums.")];
    let rejected = turn("assistant", "Eh.");
    let row = format!("{{\"prompt\":{prompt},\"chosen\":{chosen},\"rejected\":{rejected}}}\n");
    std::fs::write(&rows, row).unwrap();
    let rows = rows.to_str().unwrap();
    let asked = ["--expect-adapter", seller.digest.as_str(), "--expect-rows", rows];
    let with = |task: &'static str| [&asked[..], &["--expect-task", task]].concat();
    // Pairs can be asked about in three ways; which one the seller chose is in the statement.
    let bundles: Vec<(&str, PathBuf)> = ["completion", "logits", "preference"]
        .into_iter()
        .map(|task| (task, seller.prove_with(task, &["--task", task, "--max-tokens", "2", "--rows", rows])))
        .collect();
    for (stated, bundle) in &bundles {
        assert_eq!(verify(bundle, &asked), yes(), "{stated}");
        assert!(not_expected(bundle, &asked).contains("without --expect-task"));
        for (expected, _) in &bundles {
            let verdict = if stated == expected { yes() } else { no("expected task") };
            assert_eq!(verify(bundle, &with(expected)), verdict, "{stated} for {expected}");
        }
        assert!(!not_expected(bundle, &with(stated)).contains("--expect-task"));
    }
    let typed = seller.prove_with("choice", &["--task", "choice", "--among", "9,40", "--prompt", PROMPT]);
    let asked = ["--expect-adapter", seller.digest.as_str(), "--any-input", "--expect-task"];
    for (task, verdict) in [("choice", yes()), ("logprob", no("expected task")), ("completion", no("expected task"))] {
        assert_eq!(verify(&typed, &[&asked[..], &[task]].concat()), verdict, "{task}");
    }
    let one = ["--expect-adapter", seller.digest.as_str(), "--any-input", "--expect-max-tokens", "6"];
    assert_eq!(verify(&typed, &one), no("expected task"));
}

/// Deltas are the work of seconds to expand: whatever can be told without them is told first.
#[test]
fn what_needs_no_deltas_is_refused_before_they_are_looked_at() {
    let folder = tempfile::tempdir().unwrap();
    let seller = Seller::new(folder.path().join("seller"), 53);
    let bundle = seller.prove("bundle", PROMPT);
    let all = ["--expect-adapter", &seller.digest, "--expect-input", PROMPT, "--expect-context", "buyer 7"];
    let lax = ["--expect-adapter", &seller.digest, "--any-input"];
    assert_eq!(verify(&bundle, &all), yes());
    let spoilt = |bundle: &Path| std::fs::write(bundle.join("deltas.bin"), b"no deltas").unwrap();
    let forged = |name: &str, forge: &dyn Fn(&mut ftk_proofs::bundle::Bundle)| {
        let bundle = forged(&bundle, name, forge);
        spoilt(&bundle);
        bundle
    };
    let whole = forged("whole", &|_| {});
    assert_eq!(verify(&whole, &all), no("deltas.bin"));
    let other = "0".repeat(64);
    assert_eq!(verify(&whole, &["--expect-adapter", &other]), no("expected adapter"));
    assert_eq!(verify(&whole, &["--expect-input", "Where is Ada?"]), no("expected input"));
    assert_eq!(verify(&whole, &["--expect-context", "buyer 8"]), no("expected context"));
    assert_eq!(verify(&whole, &["--expect-task", "logits"]), no("expected task"));
    assert_eq!(verify(&whole, &["--expect-max-tokens", "5"]), no("expected max tokens"));
    let base = forged("base", &|bundle| bundle.statement.base = Digest([7; 32]));
    assert_eq!(verify(&base, &all), no("base"));
    let adapter = forged("adapter", &|bundle| bundle.statement.adapter = Digest([7; 32]));
    assert_eq!(verify(&adapter, &["--any-input"]), no("adapter"));
    let stop = forged("stop", &|bundle| match &mut bundle.statement.cases[0].output {
        Output::Completion(ftk_proofs::Completion { stop_ids, .. }) => stop_ids.push(900),
        other => panic!("{other:?}"),
    });
    assert_eq!(verify(&stop, &all), no("stop rule"));
    let length = forged("length", &|bundle| {
        let rows = bundle.statement.rows();
        let ftk_proofs::Input::Tokens(ids) = &mut bundle.statement.cases[0].input else { panic!("tokens") };
        *ids = vec![5; 300];
        let more = bundle.statement.rows() - rows;
        for (deltas, shape) in bundle.deltas.iter_mut().zip(bundle.commitment.shapes()) {
            deltas.resize(deltas.len() + more * shape.d_out as usize, 0);
        }
    });
    assert_eq!(verify(&length, &lax), no("length"));
    // A site that the base has not, under the digest of that commitment.
    let site = forged("site", &|bundle| {
        let mut bytes = bundle.commitment.encode();
        let name = bundle.commitment.shapes()[0].name.clone();
        let at = bytes.windows(name.len()).position(|window| window == name.as_bytes()).unwrap();
        bytes[at] = b'x';
        bundle.commitment = ftk_circuits::AdapterCommitment::decode(&bytes).unwrap();
        bundle.statement.adapter = bundle.commitment.digest();
    });
    assert_eq!(verify(&site, &["--any-input"]), no("coverage"));
}

/// Thresholds and choices of token ids: what is asked, what is answered, and what is left unsaid are told apart.
#[test]
fn an_id_and_how_likely_it_is_to_be_are_the_buyers_to_state() {
    let folder = tempfile::tempdir().unwrap();
    let seller = Seller::new(folder.path().join("seller"), 54);
    let rows = folder.path().join("prompts.jsonl");
    std::fs::write(&rows, format!("{{\"prompt\":[{{\"role\":\"user\",\"content\":\"{PROMPT}\"}}]}}\n")).unwrap();
    let rows = rows.to_str().unwrap();
    let asked = ["--expect-adapter", seller.digest.as_str(), "--expect-rows", rows];
    let with = |more: &[&'static str]| [&asked[..], more].concat();
    let prove = |name: &str, more: &[&str]| seller.prove_with(name, &[more, &["--rows", rows]].concat());
    let likely = prove("likely", &["--task", "at-least", "--at-least", "9=1e-30"]);
    let unlikely = prove("unlikely", &["--task", "at-least", "--at-least", "9=0.999999"]);
    let choice = prove("choice", &["--task", "choice", "--among", "9,40"]);
    let consistent = (2, "consistent".to_owned());
    assert_eq!(verify(&likely, &with(&["--expect-at-least", "9=1e-30"])), yes());
    assert_eq!(verify(&likely, &with(&["--expect-at-least", "9=2e-30"])), no("expected question"));
    assert_eq!(verify(&likely, &with(&["--expect-at-least", "8=1e-30"])), no("expected question"));
    assert_eq!(verify(&unlikely, &with(&["--expect-at-least", "9=0.999999"])), no("expected answer"));
    // What was not said may be other than was meant, and is not wrong.
    assert_eq!(verify(&likely, &asked), consistent);
    assert_eq!(verify(&choice, &asked), consistent);
    assert_eq!(verify(&choice, &with(&["--expect-among", "9,40"])), yes());
    assert_eq!(verify(&likely, &with(&["--expect-among", "9,40"])), no("expected task"));
    let forge = |name: &str, change: fn(&mut Output)| {
        let bundle = forged(&likely, name, |bundle| change(&mut bundle.statement.cases[0].output));
        verify(&bundle, &["--any-input"])
    };
    let other = |output: &mut Output| {
        let Output::AtLeast(ftk_proofs::AtLeast { holds, .. }) = output else { panic!("a threshold") };
        *holds = !*holds;
    };
    assert_eq!(forge("holds", other), no("output"));
    let beyond = |output: &mut Output| *output = Output::AtLeast(ftk_proofs::AtLeast { id: 9, bound: 1, holds: true });
    assert_eq!(forge("beyond", beyond), no("output"));
    // Another question with a true answer is none that was proved.
    let lower =
        |output: &mut Output| *output = Output::AtLeast(ftk_proofs::AtLeast { id: 9, bound: i64::MIN, holds: true });
    assert_eq!(forge("lower", lower), no("delta proof"));
    // Options that would do nothing are refused.
    for options in [
        &["--expect-at-least", "9=0.5"][..],
        &["--expect-among", "9,40"],
        &["--expect-rows", rows, "--expect-among", "9,40", "--expect-task", "logits"],
        &["--expect-rows", rows, "--expect-at-least", "9=0.5", "--expect-max-tokens", "3"],
    ] {
        let mut command = ftk(&["verify", "--base", "village"]);
        let output = command.arg(&likely).args(options).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        assert!(stderr(&output).contains("hint: "), "{options:?}: {}", stderr(&output));
    }
}

/// A bundle about something that the rows cannot ask is refused by itself, and takes no verdict from others.
#[test]
fn a_bundle_that_nobody_asked_for_keeps_no_other_from_its_verdict() {
    let folder = tempfile::tempdir().unwrap();
    let seller = Seller::new(folder.path().join("seller"), 55);
    let rows = folder.path().join("prompts.jsonl");
    std::fs::write(&rows, format!("{{\"prompt\":[{{\"role\":\"user\",\"content\":\"{PROMPT}\"}}]}}\n")).unwrap();
    let rows = rows.to_str().unwrap();
    let honest = seller.prove_with("honest", &["--max-tokens", "2", "--rows", rows]);
    let other =
        seller.prove_with("other", &["--task", "logprob", "--prompt", PROMPT, "--continuation", "Jan sells plums."]);
    let mut command = ftk(&["verify", "--base", "village", "--expect-adapter", &seller.digest, "--expect-rows", rows]);
    let output = command.args([&honest, &other]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("honest: valid") && said.contains("other: invalid: expected question"), "{said}");
    // A file that is not there is the verifier's own.
    let mut command = ftk(&["verify", "--base", "village", "--expect-rows", "nowhere.jsonl"]);
    assert!(stderr(&command.arg(&other).output().unwrap()).contains("nowhere.jsonl"));
    // What is no file is not waited for.
    std::fs::remove_file(honest.join("link.bin")).unwrap();
    std::fs::create_dir(honest.join("link.bin")).unwrap();
    let output = ftk(&["verify", "--base", "village", "--any-input"]).arg(&honest).output().unwrap();
    assert!(String::from_utf8(output.stdout).unwrap().contains("link.bin: a folder, not a file"));
}

/// A registry judges many bundles in one call, each against what is expected of it.
#[test]
fn a_registry_expects_of_each_bundle_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let seller = Seller::new(folder.path().to_owned(), 71);
    seller.prove_with("one", &["--max-tokens", "2", "--context", "a", "--prompt", PROMPT]);
    seller.prove_with("two", &["--max-tokens", "2", "--context", "b", "--prompt", "Who lives here?"]);
    let line = |bundle: &str, input: &str, context: &str| {
        serde_json::json!({"bundle": bundle, "adapter": seller.digest, "input": input, "task": "completion",
            "max_tokens": 2, "context": context})
        .to_string()
            + "\n"
    };
    let registry = folder.path().join("registry.jsonl");
    let verify = |lines: &[String]| {
        std::fs::write(&registry, lines.concat()).unwrap();
        let mut command = ftk(&["verify", "--base", "village", "--json", "--max-memory", "8G", "--registry"]);
        let output = command.arg(&registry).output().unwrap();
        let verdicts: Vec<String> = String::from_utf8(output.stdout.clone())
            .unwrap()
            .lines()
            .map(|line| {
                let value: serde_json::Value = serde_json::from_str(line).unwrap();
                let said = ["check", "verdict", "error"].iter().find_map(|key| value[key].as_str());
                said.unwrap_or_else(|| panic!("{value}")).to_owned()
            })
            .collect();
        (output.status.code(), verdicts)
    };
    let (one, two) = (line("one", PROMPT, "a"), line("two", "Who lives here?", "b"));
    // Editors put a mark at the beginning.
    let marked = ["\u{feff}".to_owned(), one.clone(), "\n".to_owned(), two.clone()];
    assert_eq!(verify(&marked), (Some(0), vec!["valid".to_owned(); 2]));
    let (code, said) = verify(&[one.clone(), line("two", PROMPT, "b"), line("none", PROMPT, "b")]);
    assert_eq!((code, said[0].as_str(), said[1].as_str()), (Some(1), "valid", "expected input"));
    let (code, said) = verify(&[one, two.replace("context", "contest")]);
    assert!(code == Some(2) && said[0].contains("registry.jsonl:2: unknown field `contest`"), "{said:?}");
    let (_, said) = verify(&[two.replace("completion", "guess")]);
    assert!(said[0].contains("registry.jsonl:1: no such task: guess"), "{said:?}");
    let mixed = ftk(&["verify", "--base", "village", "--registry", "r", "--expect-context", "a"]).output().unwrap();
    assert!(stderr(&mixed).contains("cannot be used with"), "{}", stderr(&mixed));
}
