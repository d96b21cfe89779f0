//! A merged model is base and adapter in one.

use std::path::Path;

use serde_json::{Value, json};

use crate::resume::recipe;
use crate::run::{fixture, ftk, stderr, succeed};

/// An adapter that has learnt something, and one with a part on the head.
fn adapter(folder: &Path, targets: &str) {
    recipe(folder, "");
    let mut train = ftk(&["--quiet", "train", "--set", "run.steps=12", "--set", targets, "--recipe"]);
    succeed(train.arg(folder.join("recipe.toml")));
}

fn merge(folder: &Path, more: &[&str]) -> std::process::Output {
    let mut command = ftk(&["--json", "merge", "--base"]);
    command.arg(fixture("micro-llama/base")).arg("--adapter").arg(folder.join("out"));
    command.arg("--out").arg(folder.join("merged")).args(more).output().unwrap()
}

fn loss(folder: &Path, base: &Path, adapter: bool) -> f64 {
    let mut command = ftk(&["--json", "eval", "--base"]);
    command.arg(base).arg("--data").arg(folder.join("rows.jsonl"));
    if adapter {
        command.arg("--adapter").arg(folder.join("out"));
    }
    let object: Value = serde_json::from_str(&succeed(&mut command)).unwrap();
    object["figures"]["loss"].as_f64().unwrap()
}

#[test]
fn the_merged_model_answers_as_base_and_adapter_do() {
    // The head of this base is its embedding table: with a part of its own it must be written apart.
    for targets in ["lora.targets=all-linear", "lora.targets=[\"lm_head\", \"q_proj\"]"] {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        adapter(folder, targets);
        let output = merge(folder, &[]);
        assert!(output.status.success(), "{}", stderr(&output));
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!((&report["weight_error"], &report["change_error"]), (&json!(0.0), &json!(0.0)));
        assert!(report["logit_error"].as_f64().unwrap() < 1e-2, "{report}");
        let (base, merged) = (fixture("micro-llama/base"), folder.join("merged"));
        let (with, without) = (loss(folder, &base, true), loss(folder, &base, false));
        assert!((loss(folder, &merged, false) - with).abs() < 1e-5);
        assert!((with - without).abs() > 1e-3, "the adapter does nothing");
        assert!(merged.join("config.json").exists() && merged.join("generation_config.json").exists());
        // Never replaced.
        let again = merge(folder, &[]);
        assert_eq!(again.status.code(), Some(2));
        let path = merged.display();
        assert_eq!(
            stderr(&again),
            format!("error: {path}: is there already\nhint: choose another folder with --out\n")
        );
    }
}

#[test]
fn what_rounding_costs_is_reported_and_refused_beyond_the_tolerance() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    adapter(folder, "lora.targets=all-linear");
    let refused = merge(folder, &["--dtype", "bf16", "--tolerance", "1e-9"]);
    assert_eq!(refused.status.code(), Some(2));
    let expected = "error: the merged model differs from base and adapter beyond 0.000000001: ";
    assert!(stderr(&refused).starts_with(expected), "{}", stderr(&refused));
    assert!(stderr(&refused).contains("\nhint: write --dtype f32"), "{}", stderr(&refused));
    assert!(!folder.join("merged").exists());
    let output = merge(folder, &["--dtype", "bf16", "--tolerance", "1"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    // bf16 has eight bits.
    let error = report["weight_error"].as_f64().unwrap();
    assert!(error > 0.0 && error <= 1.0 / 256.0, "{report}");
    assert!(report["change_error"].as_f64().unwrap() > 0.0);
    let text = succeed(ftk(&["inspect"]).arg(folder.join("merged")));
    assert!(text.contains("tensors\tBF16"), "{text}");
}

#[test]
fn an_adapter_beside_another_base_than_it_was_trained_on_is_told_of() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let train = |out: &str, base: &str, more: &[&str]| {
        let run = ["train", "sft", "--set", "run.steps=2", "--set"];
        let (base, out) = (format!("base.model={base:?}"), format!("run.out={out:?}"));
        let mut command = ftk(&run);
        let output = command.args([&base, "--set", &out]).args(more).current_dir(folder).output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        stderr(&output)
    };
    train("out", "village", &[]);
    succeed(ftk(&["merge", "--base", "village", "--adapter", "out", "--out", "merged"]).current_dir(folder));
    let rows = r#"{"prompt": "What does Elsa sell?", "completion": "Bread."}"#;
    std::fs::write(folder.join("rows.jsonl"), rows).unwrap();
    std::fs::copy(fixture("micro-llama/logits.safetensors"), folder.join("ids.safetensors")).unwrap();
    let told = "out: was trained on another base, or on this one in another number format or with another tokenizer, \
                chat template or stop tokens: manifest.json names ";
    let verbs: [&[&str]; 6] = [
        &["generate", "--prompt", "Who are you?", "--max-tokens", "2"],
        &["generate", "--prompt", "Who are you?", "--max-tokens", "2", "--precision", "bf16"],
        &["eval", "--data", "rows.jsonl"],
        &["logits", "--ids", "ids.safetensors", "--out", "OUT"],
        &["merge", "--out", "OUT"],
        &["commit", "--out", "OUT"],
    ];
    for (base, another) in [("village", false), ("merged", true)] {
        for verb in verbs {
            let out = format!("{}-{base}", verb[0]);
            let verb = verb.iter().map(|&word| if word == "OUT" { out.as_str() } else { word });
            let mut command = ftk(&verb.collect::<Vec<_>>());
            let output = command.args(["--base", base, "--adapter", "out"]).current_dir(folder).output().unwrap();
            assert!(output.status.success(), "{}", stderr(&output));
            assert_eq!(stderr(&output).contains(told), another, "{out}: {}", stderr(&output));
        }
        let begun = train(&format!("begun-{base}"), base, &["--set", "lora.start=\"out\""]);
        assert_eq!(begun.contains(told), another, "{begun}");
        // Held against it only where it is asked for: all weights are read.
        for (digest, wrong) in [(None, false), (Some("--digest"), another)] {
            let output = ftk(&["inspect", "out", "--base", base]).args(digest).current_dir(folder).output().unwrap();
            assert_eq!(output.status.code(), Some(i32::from(wrong)), "{}", stderr(&output));
            assert_eq!(String::from_utf8_lossy(&output.stdout).contains("was trained on another"), wrong);
        }
    }
    // The adapter that a recipe starts from is part of what is measured.
    let set = ["lora.start=\"out\"", "base.model=\"merged\"", "data.loss=\"completion\""];
    let mut eval = ftk(&["eval", "sft", "--data", "rows.jsonl"]);
    eval.args(set.into_iter().flat_map(|set| ["--set", set]));
    let output = eval.current_dir(folder).output().unwrap();
    assert!(output.status.success() && stderr(&output).contains(told), "{}", stderr(&output));
    // What others write says nothing of a digest.
    let manifest = folder.join("out/manifest.json");
    for text in [Some(r#"{"base": "merged"}"#), Some("{"), None] {
        match text {
            Some(text) => std::fs::write(&manifest, text).unwrap(),
            None => std::fs::remove_file(&manifest).unwrap(),
        }
        let ask = ["generate", "--base", "merged", "--adapter", "out", "--prompt", "Who are you?", "--max-tokens", "2"];
        let output = ftk(&ask).current_dir(folder).output().unwrap();
        assert!(output.status.success() && !stderr(&output).contains("was trained on"), "{}", stderr(&output));
    }
}
