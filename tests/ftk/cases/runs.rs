//! What is said of runs, and of commands that cannot do what they are to.

use serde_json::json;

use super::look::{CHATML, base, recipe};
use crate::run::{ftk, stderr, succeed};

#[test]
fn a_run_that_diverges_says_so_at_the_step_where_it_does() {
    let folder = tempfile::tempdir().unwrap();
    let model = base(folder.path(), CHATML);
    let rows: String = (0..4).map(|n| json!({"text": format!("the old mill {n}")}).to_string() + "\n").collect();
    std::fs::write(folder.path().join("rows.jsonl"), rows).unwrap();
    let recipe = format!(
        "task = \"sft\"\n[base]\nmodel = {model:?}\n[data]\ntrain = \"rows.jsonl\"\n[lora]\nrank = 2\n[optim]\nlr = 1e6\n\
         schedule = \"constant\"\n[run]\nout = \"out\"\nsteps = 40\nbatch = 2\n"
    );
    std::fs::write(folder.path().join("recipe.toml"), recipe).unwrap();
    let output = ftk(&["train", "--recipe"]).arg(folder.path().join("recipe.toml")).output().unwrap();
    let told = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{told}");
    let error = told.lines().find(|line| line.starts_with("error: ")).unwrap();
    assert!(error.starts_with("error: step 2: ") && error.contains("lora_"), "{told}");
    assert!(told.contains("hint: the run has diverged: lower optim.lr"), "{told}");
}

#[test]
fn what_cannot_be_done_is_said_and_not_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path();
    let long = "word ".repeat(400);
    let said = ftk(&["generate", "--base", "village", "--raw", "--prompt", &long]).output().unwrap();
    assert_eq!(said.status.code(), Some(2));
    assert!(
        stderr(&said).contains("tokens fills the base's 256 positions\nhint: give a shorter prompt"),
        "{}",
        stderr(&said)
    );
    crate::seller::adapter(&place.join("adapter"), 82);
    std::fs::write(place.join("rows.jsonl"), "{\"prompt\": \"a\"}\n").unwrap();
    for verb in ["commit", "merge"] {
        let mut command =
            ftk(&[verb, "--base", "village", "--adapter", "adapter", "--text", "rows.jsonl", "--out", "o"]);
        let said = command.current_dir(place).output().unwrap();
        assert!(stderr(&said).starts_with("error: rows.jsonl: holds rows, not text"), "{}", stderr(&said));
    }
    let said = ftk(&["commit", "--base", "village", "--adapter", "adapter", "--out", "o", "--max-memory", "1M"])
        .current_dir(place)
        .output()
        .unwrap();
    assert!(stderr(&said).contains("and there are: 1\n"), "{}", stderr(&said));
    let said = ftk(&["commit", "--base", "village", "--adapter", "adapter", "--out", "o", "--max-memory", "8X"]);
    let said = { said }.current_dir(place).output().unwrap();
    assert!(stderr(&said).contains("has the unit K, M, G or T, or none"), "{}", stderr(&said));
}

#[test]
fn a_finished_run_is_gone_on_with_from_its_result() {
    let folder = tempfile::tempdir().unwrap();
    let path = recipe(folder.path(), "rank = 2", "steps = 2");
    succeed(ftk(&["train"]).arg(&path));
    let more = ftk(&["train", "--resume", "--set", "run.steps=4"]).arg(&path).output().unwrap();
    assert_eq!(more.status.code(), Some(2));
    let told = stderr(&more);
    assert!(told.contains("was made by a different recipe: run.steps was 2 and is 4\nhint: "), "{told}");
    assert!(told.contains("to train on from its result, also with more steps, name it as lora.start"), "{told}");
    // How many states are kept changes no number.
    succeed(ftk(&["train", "--resume", "--set", "run.keep=3", "--set", "run.save_every=1"]).arg(&path));
    let (out, next) = (folder.path().join("out"), folder.path().join("next"));
    let mut command = ftk(&["train", "--set", &format!("lora.start={}", out.display()), "--out"]);
    succeed(command.arg(&next).arg(&path));
    assert_eq!(std::fs::read_to_string(next.join("metrics.jsonl")).unwrap().lines().count(), 2);
}
