//! Ways of computing the same training: they differ in time and memory, not in what is learnt.

use std::path::Path;

use serde_json::{Value, json};

use crate::run::{fixture, ftk, succeed};

/// Rows of different lengths for the small base of the fixtures.
fn rows(task: &str) -> String {
    let ids = |row: usize, length: usize| (0..length).map(|i| (i * 37 + row * 11 + i * i) % 90 + 3).collect::<Vec<_>>();
    let row = |row: usize| match task {
        "sft" => json!({ "input_ids": ids(row, 6 + row % 5) }),
        _ => json!({
            "prompt_ids": ids(row, 4), "chosen_ids": ids(row + 50, 3 + row % 3), "rejected_ids": ids(row + 70, 5)
        }),
    };
    (0..24).map(|index| format!("{}\n", row(index))).collect()
}

/// Loss and gradient norm of each step, and the bytes of the adapter.
fn train(folder: &Path, task: &str, base: &str, lora: &str, run: &str) -> (Vec<[f64; 2]>, Vec<u8>) {
    train_on("micro-llama", folder, [task, base, lora, run])
}

fn train_on(model: &str, folder: &Path, [task, base, lora, run]: [&str; 4]) -> (Vec<[f64; 2]>, Vec<u8>) {
    std::fs::write(folder.join("rows.jsonl"), rows(task)).unwrap();
    let recipe = format!(
        "task = \"{task}\"\n[base]\nmodel = {:?}\n{base}\n[data]\ntrain = \"rows.jsonl\"\n[lora]\nstart = {:?}\n{lora}\n\
         [optim]\nlr = 1e-3\n[run]\nout = \"out\"\nsteps = 4\n{run}\n",
        fixture(model).join("base"),
        fixture(model).join("adapter"),
    );
    std::fs::write(folder.join("recipe.toml"), recipe).unwrap();
    let stdout = succeed(ftk(&["train", "--json", "--quiet", "--recipe"]).arg(folder.join("recipe.toml")));
    let steps = stdout.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let figures = steps.filter(|step| step["loss"].is_number());
    let figures = figures.map(|step| ["loss", "grad_norm"].map(|key| step[key].as_f64().unwrap())).collect();
    let adapter = std::fs::read(folder.join("out/adapter_model.safetensors")).unwrap();
    std::fs::remove_dir_all(folder.join("out")).unwrap();
    (figures, adapter)
}

fn same(name: &str, ours: &[[f64; 2]], theirs: &[[f64; 2]]) {
    assert_eq!(ours.len(), 4, "{name}");
    for (step, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
        for (ours, theirs) in ours.iter().zip(theirs) {
            assert!(
                (ours - theirs).abs() < 2e-6 * theirs.abs().max(1.0),
                "{name}, step {step}: {ours} is not {theirs}"
            );
        }
    }
}

#[test]
fn a_batch_equals_its_rows_accumulated_and_activations_computed_again() {
    let folder = tempfile::tempdir().unwrap();
    for (task, lora) in [("sft", ""), ("sft", "dropout = 0.2"), ("dpo", "")] {
        let plain = train(folder.path(), task, "", lora, "batch = 8").0;
        for run in ["batch = 1\naccumulate = 8", "batch = 2\naccumulate = 4", "batch = 8\nrecompute = true"] {
            same(&format!("{task} {lora} {run}"), &train(folder.path(), task, "", lora, run).0, &plain);
        }
    }
    // Dropout is one of the things compared, so it must do something.
    let [without, with] = ["", "dropout = 0.2"].map(|lora| train(folder.path(), "sft", "", lora, "batch = 8").0);
    assert!((without[0][0] - with[0][0]).abs() > 1e-4);
}

#[test]
fn activations_of_every_kind_of_network_are_computed_again() {
    let folder = tempfile::tempdir().unwrap();
    for model in ["tiny-gpt2", "tiny-qwen2", "tiny-qwen3"] {
        let [plain, again] = ["batch = 8", "batch = 8\nrecompute = true"]
            .map(|run| train_on(model, folder.path(), ["dpo", "hold = \"stored\"", "", run]).0);
        same(model, &again, &plain);
    }
}

#[test]
fn a_base_held_as_it_is_stored_trains_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    for run in ["batch = 8", "batch = 8\nprecision = \"bf16\""] {
        let [full, stored] = ["", "hold = \"stored\""].map(|base| train(folder.path(), "dpo", base, "", run));
        assert_eq!(full, stored, "{run}");
    }
}

#[test]
fn products_in_bf16_give_nearly_the_same_figures() {
    let folder = tempfile::tempdir().unwrap();
    for task in ["sft", "dpo"] {
        let [full, half] =
            ["", "precision = \"bf16\""].map(|run| train(folder.path(), task, "", "", &format!("batch = 8\n{run}")).0);
        for (full, half) in full.iter().zip(&half) {
            // bf16 has eight bits; that nothing differs would mean that nothing was rounded.
            assert!((full[0] - half[0]).abs() < 0.02 && full[0] != half[0], "{task}: {half:?} is not near {full:?}");
            assert!((full[1] / half[1] - 1.0).abs() < 0.1, "{task}: {half:?} is not near {full:?}");
        }
    }
}

#[test]
fn dropout_is_refused_where_two_models_are_compared() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = "task = \"dpo\"\n[base]\nmodel = \"village\"\n[data]\ntrain = \"rows.jsonl\"\n[lora]\ndropout = 0.1\n\
                  [run]\nout = \"out\"\n";
    std::fs::write(folder.path().join("recipe.toml"), recipe).unwrap();
    let output = ftk(&["train", "--recipe"]).arg(folder.path().join("recipe.toml")).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr.contains("recipe.toml:7:lora.dropout: must be 0 for task \"dpo\""), "{stderr}");
}
