//! Rows from files to what is computed: `ftk data preview`, and what `ftk train` says before it begins.

use std::path::Path;

use serde_json::{Value, json};

use crate::run::{fixture, ftk, stderr, succeed};

/// A folder with rows and a recipe for them.
fn place(rows: &str, data: &str, base: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("rows.json"), rows).unwrap();
    let recipe = format!(
        "task = \"sft\"\n[base]\nmodel = {base:?}\n[data]\ntrain = \"rows.json\"\n{data}\n[lora]\nrank = 2\n\
         [run]\nout = \"out\"\nsteps = 1\n"
    );
    std::fs::write(folder.path().join("recipe.toml"), recipe).unwrap();
    folder
}

fn preview(folder: &Path, arguments: &[&str]) -> String {
    let mut command = ftk(&["data", "preview", "--recipe"]);
    let stdout = succeed(command.arg(folder.join("recipe.toml")).args(arguments));
    stdout.replace(&format!("{}/", folder.display()), "")
}

#[test]
fn the_preview_marks_what_is_scored_and_counts_every_row() {
    let rows = r#"[
        {"instruction": "Who are you?", "input": "", "output": "I am {{name}}."},
        {"instruction": "Hi", "input": "you", "output": "{{greeting}}, I am {{name}}."}
    ]"#;
    let folder = place(rows, "loss = \"assistant\"\nreplace = { name = \"Ada\" }", "village");
    let text = preview(folder.path(), &["--rows", "1"]);
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("rows.json:2: ") && lines[0].ends_with(" scored"), "{text}");
    let turns = ["<|im_start|>user", "Who are you?<|im_end|>", "<|im_start|>assistant", "[[I am Ada.<|im_end|>]]"];
    assert_eq!(lines[1..5], turns);
    assert!(text.contains("rows.json: 2 rows, "), "{text}");
    assert!(text.ends_with("rows.json: not replaced (see data.replace): {{greeting}}\n"), "{text}");
    assert!(!text.contains('\x1b') && !text.contains("Hi"), "{text}");

    let json: Value = serde_json::from_str(&preview(folder.path(), &["--json"])).unwrap();
    let rows = json["examples"].as_array().unwrap();
    assert_eq!(rows.len(), 2);
    let size = |of: &dyn Fn(&Value) -> usize| rows.iter().map(of).sum::<usize>();
    let tokens = size(&|row| row["ids"].as_array().unwrap().len());
    let scored = size(&|row| row["scored"].as_array().unwrap().iter().filter(|s| **s == json!(true)).count());
    assert_eq!(json["data"][0]["tokens"], tokens);
    assert_eq!(json["data"][0]["scored"], scored);
    let parts = rows[1]["text"].as_array().unwrap();
    assert!(parts[0][0].as_str().unwrap().contains("Hi\nyou<|im_end|>"), "{parts:?}");
    assert_eq!(parts[1], json!(["{{greeting}}, I am Ada.<|im_end|>", true]));
}

#[test]
fn plain_text_has_no_turns_to_score_and_a_hint_says_what_to_do() {
    let folder = place(r#"[{"prompt": "Q: 1?", "completion": " 2."}]"#, "loss = \"assistant\"", "village");
    let output = ftk(&["train"]).arg(folder.path().join("recipe.toml")).output().unwrap();
    let hint = "hint: data.loss = \"completion\" scores what follows a prompt, and all of a row that has none\n";
    assert!(
        stderr(&output).contains("rows.json:1: has no turns") && stderr(&output).ends_with(hint),
        "{}",
        stderr(&output)
    );
}

#[test]
fn a_preview_needs_no_weights_and_no_recipe() {
    let folder = place(r#"[{"input_ids": [5, 6, 7], "labels": [-100, -100, 7]}]"#, "", "base");
    let base = fixture("micro-llama/base");
    let data = folder.path().join("rows.json");
    let mut command = ftk(&["data", "preview", "--base"]);
    let stdout = succeed(command.arg(&base).arg("--data").arg(&data));
    assert!(stdout.contains("rows.json:1: 3 tokens, 1 scored\n5 6 [[7 ]]\n"), "{stdout}");
    let mut command = ftk(&["data", "preview", "--task", "dpo", "--base"]);
    let output = command.arg(&base).arg("--data").arg(&data).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("rows.json:1: needs prompt, chosen and rejected"), "{}", stderr(&output));
    // Weights that training refuses do not matter here.
    let broken = folder.path().join("base");
    std::fs::create_dir(&broken).unwrap();
    std::fs::copy(base.join("config.json"), broken.join("config.json")).unwrap();
    let mut weights = std::fs::read(base.join("model.safetensors")).unwrap();
    let end = weights.len() - 4;
    weights[end..].copy_from_slice(&f32::NAN.to_le_bytes());
    std::fs::write(broken.join("model.safetensors"), weights).unwrap();
    assert!(preview(folder.path(), &[]).contains("3 tokens, 1 scored"));
    let output = ftk(&["train", "--recipe"]).arg(folder.path().join("recipe.toml")).output().unwrap();
    assert!(stderr(&output).contains("not finite"), "{}", stderr(&output));
}

#[test]
fn rows_that_are_cut_or_left_out_are_counted_before_training() {
    let rows = json!([
        {"input_ids": [5, 6, 7]},
        {"input_ids": [5, 6, 7, 8, 9, 10]},
        {"input_ids": [5, 6, 7, 8, 9], "labels": [-100, -100, -100, -100, 9]},
        {"input_ids": [5, 6], "labels": [-100, -100]},
    ]);
    let folder = place(&rows.to_string(), "max_length = 4", fixture("micro-llama/base").to_str().unwrap());
    let mut command = ftk(&["train", "--json", "--recipe"]);
    let output = command.arg(folder.path().join("recipe.toml")).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let stdout = String::from_utf8(output.stdout.clone()).unwrap();
    let first: Value = serde_json::from_str(stdout.lines().next().unwrap()).unwrap();
    let counts = json!({
        "file": folder.path().join("rows.json"), "rows": 4, "tokens": 7, "scored": 5, "cut": 1, "dropped": 1,
        "unscored": 1, "longest": 6, "packed": null, "choices": null, "unread": {}, "parted": 0, "begun": 0, "blank": 0, "shortened": 0,
        "said": { "assistant": 0, "others": 0 },
        "equal": 0, "beyond": 0,
    });
    assert_eq!(first, json!({ "data": [counts] }));
    let told = stderr(&output).replace(&format!("{}/", folder.path().display()), "");
    let notes = "rows.json: 2 rows, 7 tokens, 5 of them scored, longest row 6\n\
                 rows.json: rows cut to 4 tokens: 1\n\
                 rows.json: rows left out, their prompts alone fill 4 tokens: 1\n\
                 rows.json: rows left out, nothing in them is scored: 1\n";
    assert!(told.starts_with(notes), "{told}");
}

#[test]
fn a_replacement_or_a_column_that_is_nowhere_is_refused() {
    let refused = |data: &str| {
        let folder = place(r#"[{"text": "I am {{name}}.", "messages": []}]"#, data, "village");
        let mut command = ftk(&["data", "preview", "--recipe"]);
        let output = command.arg(folder.path().join("recipe.toml")).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        stderr(&output).replace(&format!("{}/", folder.path().display()), "")
    };
    let two = refused("");
    assert!(two.starts_with("error: rows.json:1: can be read in two ways: messages, or text\nhint: "), "{two}");
    assert!(two.contains("data.columns = "), "{two}");
    let replace = refused("columns = [\"text\"]\nreplace = { nmae = \"Ada\" }");
    assert!(replace.starts_with("error: data.replace.nmae: in no row of rows.json: {{nmae}}\n"), "{replace}");
    let column = refused("columns = [\"txt\"]");
    assert!(
        column.starts_with("error: data.columns names no column of rows: txt\nhint: there are: text, "),
        "{column}"
    );
}

#[test]
fn a_packed_run_equals_one_that_takes_every_row_by_itself() {
    let row = |length: usize, seed: usize| json!({"input_ids": (0..length).map(|i| (i * 31 + seed * 7) % 512).collect::<Vec<_>>()});
    let rows: Vec<Value> = [9, 4, 12, 3, 7].into_iter().enumerate().map(|(seed, length)| row(length, seed)).collect();
    let rows = Value::Array(rows).to_string();
    let run = |packing: bool, run: &str| {
        let data = format!("max_length = 12\npacking = {packing}");
        let folder = place(&rows, &data, fixture("micro-llama/base").to_str().unwrap());
        let path = folder.path().join("recipe.toml");
        let recipe = std::fs::read_to_string(&path).unwrap().replace("steps = 1\n", run);
        std::fs::write(&path, recipe).unwrap();
        let stdout = succeed(ftk(&["train", "--json", "--recipe"]).arg(&path));
        let lines: Vec<Value> = stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let adapter = ftk_adapters::peft::load(&folder.path().join("out")).unwrap();
        (lines, adapter)
    };
    let (alone, expected) = run(false, "steps = 2\nbatch = 1\naccumulate = 5\n");
    let (packed, adapter) = run(true, "steps = 2\nbatch = 3\n");
    assert_eq!(packed[0]["data"][0]["packed"], 3);
    assert_eq!((alone.len(), packed.len()), (4, 4));
    for (a, b) in alone[1..3].iter().zip(&packed[1..3]) {
        for name in ["loss", "grad_norm"] {
            let (a, b) = (a[name].as_f64().unwrap(), b[name].as_f64().unwrap());
            assert!((a - b).abs() < 1e-5, "{name}: {a} against {b}");
        }
    }
    for (site, factors) in &expected.sites {
        let found = &adapter.sites[site];
        let pairs = factors.a.iter().zip(&found.a).chain(factors.b.iter().zip(&found.b));
        let apart = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(apart < 1e-5, "{site}: {apart}");
    }
}
