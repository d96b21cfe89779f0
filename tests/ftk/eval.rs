//! Figures on rows, against those of training itself.

use std::path::Path;

use serde_json::{Value, json};

use crate::resume::recipe;
use crate::run::{fixture, ftk, stderr, succeed};

/// Trains one step with evaluation and gives the last record.
fn trained(folder: &Path, settings: &[&str]) -> Value {
    let mut train = ftk(&["--json", "train", "--recipe"]);
    let held_out = format!("data.held_out={}", folder.join("held_out.jsonl").display());
    train.arg(folder.join("recipe.toml")).args(["--set", "run.steps=1", "--set", &held_out]);
    succeed(train.args(settings.iter().flat_map(|setting| ["--set", setting])));
    let metrics = std::fs::read_to_string(folder.join("out/metrics.jsonl")).unwrap();
    serde_json::from_str(metrics.lines().last().unwrap()).unwrap()
}

fn figures(text: &str) -> Value {
    serde_json::from_str::<Value>(text).unwrap()["figures"].clone()
}

fn near(a: &Value, b: &Value) {
    let (a, b) = (a.as_f64().unwrap(), b.as_f64().unwrap());
    assert!((a - b).abs() < 1e-5 * (1.0 + a.abs()), "{a} {b}");
}

#[test]
fn rows_are_measured_as_training_measures_them() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    recipe(folder, "");
    let rows = std::fs::read_to_string(folder.join("rows.jsonl")).unwrap();
    std::fs::write(folder.join("held_out.jsonl"), rows.lines().take(7).collect::<Vec<_>>().join("\n")).unwrap();
    let record = trained(folder, &["optim.warmup_steps=0"]);
    let (base, data) = (fixture("micro-llama/base"), folder.join("held_out.jsonl"));
    let eval = |more: &[&str]| {
        let mut command = ftk(&["--json", "eval", "--adapter"]);
        succeed(command.arg(folder.join("out")).args(more))
    };
    // In batches of the recipe's size: sums are rounded alike.
    let by_name = eval(&["--base", base.to_str().unwrap(), "--data", data.to_str().unwrap(), "--set", "run.batch=2"]);
    let found = figures(&by_name);
    near(&found["loss"], &record["eval_loss"]);
    near(&found["perplexity"], &json!(record["eval_loss"].as_f64().unwrap().exp()));
    near(&found["mean_token_accuracy"], &record["eval_mean_token_accuracy"]);
    // The recipe names the same.
    let by_recipe = eval(&["--recipe", folder.join("recipe.toml").to_str().unwrap(), "--data", data.to_str().unwrap()]);
    assert_eq!(figures(&by_recipe), found);
    // Without the adapter it is another model.
    let bare = succeed(ftk(&["--json", "eval", "--base"]).arg(&base).arg("--data").arg(&data));
    assert_ne!(figures(&bare)["loss"], found["loss"]);
}

/// Bits of all scored tokens over the bytes of what was scored: one answer, of which the bytes are counted here.
#[test]
fn the_loss_is_told_by_the_byte_of_text_too() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("rows.jsonl");
    let answer = "Good day, I sell milk.";
    let row =
        json!({ "messages": [{ "role": "user", "content": "Hello" }, { "role": "assistant", "content": answer }] });
    std::fs::write(&data, row.to_string()).unwrap();
    let scored = |loss: &str| {
        let mut command =
            ftk(&["--json", "eval", "--base", "village", "--set", &format!("data.loss={loss}"), "--data"]);
        let said: Value = serde_json::from_str(&succeed(command.arg(&data))).unwrap();
        let figure = |name: &str| said["figures"][name].as_f64().unwrap();
        (figure("loss"), figure("bits_per_byte"))
    };
    let (loss, bits) = scored("assistant");
    let tokenizer = ftk_bases::BaseModel::open("village".as_ref()).unwrap();
    let ids = tokenizer.tokenizer().unwrap().encode(answer, false).unwrap().len();
    // Beside the answer's own ids some end the turn, which are no text.
    let total = bits * answer.len() as f64 * std::f64::consts::LN_2;
    let scored = total / loss;
    assert!((scored - scored.round()).abs() < 1e-6, "{scored}");
    assert!((ids as f64..=ids as f64 + 2.0).contains(&scored.round()), "{scored} of {ids}");
}

#[test]
fn pairs_are_measured_against_the_base() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    recipe(folder, "");
    let row = |row: usize| {
        json!({ "prompt_ids": [1, 2 + row], "chosen_ids": [30 + row, 9, 8], "rejected_ids": [60 + row, 7] }).to_string()
    };
    let rows: Vec<String> = (0..5).map(row).collect();
    std::fs::write(folder.join("held_out.jsonl"), rows.join("\n")).unwrap();
    let pairs: Vec<String> = (0..50).map(row).collect();
    std::fs::write(folder.join("rows.jsonl"), pairs.join("\n")).unwrap();
    let record = trained(folder, &["task=dpo", "optim.warmup_steps=0"]);
    let data = folder.join("held_out.jsonl");
    let eval = |adapter: bool| {
        let mut command = ftk(&["--json", "eval", "--task", "dpo", "--set", "run.batch=2", "--base"]);
        command.arg(fixture("micro-llama/base")).arg("--data").arg(&data);
        if adapter {
            command.arg("--adapter").arg(folder.join("out"));
        }
        figures(&succeed(&mut command))
    };
    let found = eval(true);
    near(&found["loss"], &record["eval_loss"]);
    near(&found["rewards/margins"], &record["eval_rewards/margins"]);
    near(&found["rewards/accuracies"], &record["eval_rewards/accuracies"]);
    assert!(found["rewards/margins"].as_f64().unwrap() != 0.0);
    // The base prefers nothing over itself.
    let bare = eval(false);
    assert_eq!((&bare["rewards/margins"], &bare["rewards/accuracies"]), (&json!(0.0), &json!(0.0)));
    near(&bare["loss"], &json!(2f64.ln()));
}

#[test]
fn what_is_not_said_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    recipe(folder.path(), "");
    let output = ftk(&["eval", "--recipe"]).arg(folder.path().join("recipe.toml")).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(
        stderr(&output),
        "error: there are no rows to evaluate on\nhint: name them with --data or data.held_out\n"
    );
    let output = ftk(&["eval", "--base", "village"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("--recipe"), "{}", stderr(&output));
}
