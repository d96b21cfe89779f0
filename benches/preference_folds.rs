//! Does preference training generalise? Five-fold cross-validation of DPO on real pairs: each fold is
//! held out once, and the reward accuracies on the held-out pairs are pooled.
//!
//!     cargo bench --bench preference_folds -- BASE PAIRS.jsonl
//!
//! takes the rows of `PAIRS.jsonl` (`prompt`, `chosen`, `rejected` as messages) of which both
//! conversations have at most 512 tokens, and prints for each fold and for all the share of held-out
//! pairs whose chosen answer has the larger reward, with the probability of as many by chance.

use std::path::{Path, PathBuf};
use std::process::Command;

use ftk_bases::{BaseModel, Message};
use serde_json::Value;

const FOLDS: usize = 5;
const MAX_LENGTH: usize = 512;

fn main() {
    let args: Vec<PathBuf> = std::env::args().skip(1).filter(|arg| arg != "--bench").map(PathBuf::from).collect();
    let [base, rows] = args.as_slice() else {
        println!("nothing to do: give a base model and a file of pairs");
        return;
    };
    let base = std::fs::canonicalize(base).expect("the base is there");
    let text = std::fs::read_to_string(rows).expect("the rows can be read");
    let source = BaseModel::open(&base).expect("a base model");
    let rows: Vec<&str> = text.lines().filter(|row| fits(&source, row)).collect();
    println!("{} pairs of at most {MAX_LENGTH} tokens", rows.len());

    let folder = tempfile::tempdir().expect("a temporary folder");
    let (mut right, mut total) = (0, 0);
    for fold in 0..FOLDS {
        let (held_out, train): (Vec<_>, Vec<_>) = rows.iter().enumerate().partition(|(at, _)| at % FOLDS == fold);
        let [held_out, train] = [held_out, train].map(|rows| rows.into_iter().map(|(_, row)| *row).collect::<Vec<_>>());
        let accuracy = accuracy(folder.path(), &base, &train, &held_out);
        let count = (accuracy * held_out.len() as f64).round() as u64;
        println!("fold {fold}: {count} of {}", held_out.len());
        right += count;
        total += held_out.len() as u64;
    }
    println!("all: {right} of {total}, {:.1} %, p = {:.1e}", 100.0 * right as f64 / total as f64, tail(right, total));
}

/// Whether both conversations of a row are short enough.
fn fits(source: &BaseModel, row: &str) -> bool {
    let row: Value = serde_json::from_str(row).expect("a JSON object a line");
    let messages = |key: &str| serde_json::from_value::<Vec<Message>>(row[key].clone()).expect("messages");
    ["chosen", "rejected"].into_iter().all(|key| {
        let conversation = [messages("prompt"), messages(key)].concat();
        let text =
            source.chat_template().expect("a chat template").render(&conversation, &[], false).expect("it renders");
        let ids = source.tokenizer().expect("a tokenizer").encode(&text, false).expect("it encodes");
        ids.len() <= MAX_LENGTH
    })
}

/// Trains on some rows and gives the reward accuracy on others.
fn accuracy(folder: &Path, base: &Path, train: &[&str], held_out: &[&str]) -> f64 {
    for (name, rows) in [("train.jsonl", train), ("held_out.jsonl", held_out)] {
        std::fs::write(folder.join(name), rows.join("\n")).expect("rows on disk");
    }
    let recipe = format!(
        "task = \"dpo\"\n[base]\nmodel = {base:?}\n[data]\ntrain = \"train.jsonl\"\nheld_out = \"held_out.jsonl\"\n\
         max_length = {MAX_LENGTH}\n[lora]\nrank = 8\n[optim]\nlr = 2e-4\n[run]\nout = \"run\"\nbatch = 4\nepochs = 1.0\n"
    );
    std::fs::write(folder.join("recipe.toml"), recipe).expect("a recipe on disk");
    let mut command = Command::new(env!("CARGO_BIN_EXE_ftk"));
    let output = command.args(["train", "--json", "--quiet", "--recipe"]).arg(folder.join("recipe.toml")).output();
    let output = output.expect("the command starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    std::fs::remove_dir_all(folder.join("run")).expect("the run folder can be removed");
    let stdout = String::from_utf8(output.stdout).expect("JSON lines");
    let figure = |line: &str| serde_json::from_str::<Value>(line).ok()?["eval_rewards/accuracies"].as_f64();
    let last = stdout.lines().rev().find_map(figure);
    last.expect("the last step is evaluated")
}

/// Probability of at least `right` of `total` by coin tosses.
fn tail(right: u64, total: u64) -> f64 {
    // Terms of the binomial, each from the one before it, in logarithms.
    let mut term = total as f64 * 0.5f64.ln();
    let mut sum = 0.0;
    for k in 0..=total {
        if k >= right {
            sum += term.exp();
        }
        term += ((total - k) as f64 / (k + 1) as f64).ln();
    }
    sum
}
