//! What the command says of files it is shown.

use std::path::Path;
use std::process::Output;

use serde_json::{Value, json};

use crate::resume::recipe;
use crate::run::{fixture, ftk, stderr, succeed};

fn inspect(path: &Path, more: &[&str]) -> (Output, Value) {
    let output = ftk(&["--json", "inspect"]).arg(path).args(more).output().unwrap();
    let object = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    (output, object)
}

#[test]
fn a_base_says_what_it_is_made_of() {
    let (output, found) = inspect(&fixture("micro-llama/base"), &[]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(found["kind"], "base");
    assert_eq!(found["digest"], Value::Null);
    let text = succeed(&mut ftk(&["inspect", "village", "--digest"]));
    for line in ["architecture\tllama", "parameters\t476544", "tensors\tBF16 20", "stop tokens\t<|im_end|> (2)"] {
        assert!(text.lines().any(|it| it == line), "{line}: {text}");
    }
    let digest = text.lines().find_map(|line| line.strip_prefix("digest\t")).unwrap();
    assert_eq!(digest.len(), 64);
    let output = ftk(&["inspect", "no/such"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).starts_with("error: no/such: no such file or folder\nhint: "), "{}", stderr(&output));
}

#[test]
fn an_adapter_is_held_against_a_base_and_what_is_wrong_is_named() {
    let adapter = fixture("micro-llama/adapter_init");
    let base = fixture("micro-llama/base");
    let (output, found) = inspect(&adapter, &["--base", base.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!((&found["kind"], &found["type"], &found["problems"]), (&json!("adapter"), &json!("LORA"), &json!([])));
    let scale = found["alpha"].as_f64().unwrap() / found["ranks"][0].as_f64().unwrap();
    assert_eq!(found["scale"], json!(scale));

    let (output, found) = inspect(&adapter, &["--base", "village"]);
    assert_eq!(output.status.code(), Some(1));
    let problems: Vec<&str> = found["problems"].as_array().unwrap().iter().map(|it| it.as_str().unwrap()).collect();
    assert!(problems.iter().any(|it| it.starts_with("the base has another shape, ")), "{problems:?}");

    let folder = tempfile::tempdir().unwrap();
    for name in ["adapter_model.safetensors", "adapter_config.json"] {
        std::fs::copy(adapter.join(name), folder.path().join(name)).unwrap();
    }
    let path = folder.path().join("adapter_config.json");
    let mut config: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    config["use_dora"] = json!(true);
    std::fs::write(&path, config.to_string()).unwrap();
    let (output, found) = inspect(folder.path(), &[]);
    assert_eq!(output.status.code(), Some(1));
    let problem = found["problems"][0].as_str().unwrap();
    assert!(problem.starts_with("cannot be used: ") && problem.contains("use_dora"), "{problem}");
}

#[test]
fn a_run_says_what_went_in_and_how_far_it_came() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    recipe(folder, "");
    succeed(ftk(&["train", "--set", "run.steps=2", "--recipe"]).arg(folder.join("recipe.toml")));
    let (output, found) = inspect(&folder.join("out"), &[]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!((&found["kind"], &found["last_step"]["step"], &found["ranks"]), (&json!("run"), &json!(2), &json!([4])));
    let data = blake3::hash(&std::fs::read(folder.join("rows.jsonl")).unwrap()).to_hex().to_string();
    assert_eq!(found["manifest"]["data"]["train"], data);
}
