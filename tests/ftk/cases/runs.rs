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
    assert!(error.starts_with("error: step 1: ") && error.contains("lora_"), "{told}");
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

/// The most frequent slips of a verifier are none of the bundle's maker.
#[test]
fn what_a_verifier_has_otherwise_is_shown_beside_what_was_expected() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path();
    crate::seller::adapter_of_rank(&place.join("adapter"), 86, 24);
    let run = |command: &[&str]| ftk(command).current_dir(place).output().unwrap();
    let commit = ["commit", "--base", "village", "--adapter", "adapter", "--out", "commitment"];
    assert!(run(&commit).status.success());
    let prove = [
        "prove",
        "--base",
        "village",
        "--adapter",
        "adapter",
        "--commitment",
        "commitment",
        "--prompt",
        "Who bakes?",
        "--max-tokens",
        "2",
        "--open",
        "--out",
        "bundle",
    ];
    let made = run(&prove);
    assert!(made.status.success(), "{}", stderr(&made));
    let said = |base: &str, bundle: &str, input: &str| {
        let output = run(&["verify", "--base", base, bundle, "--expect-input", input]);
        String::from_utf8(output.stdout).unwrap().lines().next().unwrap_or_default().to_owned()
    };
    let spaced = said("village", "bundle", "Who bakes?\n");
    assert!(
        spaced.starts_with("invalid: expected input: case 0 is about another: \"")
            && spaced.ends_with("white space alone"),
        "{spaced}"
    );
    let other = said("village", "bundle", "Who sells?");
    assert!(other.contains("Who bakes?") && other.contains(" instead of ") && other.contains("Who sells?"), "{other}");
    assert!(!other.contains("white space"), "{other}");
    base(place, CHATML);
    let wrong = said("base", "bundle", "Who bakes?");
    assert!(
        wrong.starts_with("invalid: base: the statement is about ") && wrong.contains(", and the base here is "),
        "{wrong}"
    );
    std::fs::write(place.join("bundle.zip"), "PK").unwrap();
    for file in ["bundle.zip", "bundle/statement.json"] {
        assert!(
            said("village", file, "Who bakes?")
                .ends_with("; a bundle is a folder, or a file of its own (.ftk): name its folder and not a file in it, and unpack another archive")
        );
    }
    std::fs::remove_file(place.join("commitment/opening.bin")).unwrap();
    let gone = stderr(&run(&prove));
    assert!(gone.contains("opening.bin: is not there\nhint: ") && gone.contains("commit anew"), "{gone}");
}

#[test]
fn errors_name_what_the_user_knows() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path();
    std::fs::write(place.join("file"), "").unwrap();
    std::fs::write(place.join("model.safetensors"), "").unwrap();
    std::fs::write(place.join("pairs.jsonl"), "{\"prompt\": \"q\", \"chosen\": \"a\", \"rejected\": \"b\"}\n").unwrap();
    let said = |command: &[&str]| stderr(&ftk(command).current_dir(place).output().unwrap());
    let out = said(&["train", "sft", "--set", "run.steps=1", "--out", "file"]);
    assert!(out.starts_with("error: cannot write to file: ") && !out.contains(".ftk-"), "{out}");
    let weights = said(&["generate", "--base", "model.safetensors", "--prompt", "a"]);
    assert!(weights.contains("hint: give the folder that the file lies in"), "{weights}");
    let base = said(&["generate", "--base", "vilage", "--prompt", "a"]);
    assert!(base.contains("ORG/NAME on the hub, or \"village\""), "{base}");
    let pairs = said(&["data", "preview", "--base", "village", "--data", "pairs.jsonl"]);
    assert!(
        pairs.contains(":1:chosen: needs a completion, and there is a pair of them") && pairs.contains("ftk train dpo"),
        "{pairs}"
    );
    let high = ["train", "dpo", "--set", "optim.lr=1000", "--set", "run.steps=40", "--out", "run"];
    let output = ftk(&high).current_dir(place).output().unwrap();
    let told = stderr(&output);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        told.contains(": the loss has risen to ") && told.contains("hint: the run has diverged: lower optim.lr"),
        "{told}"
    );
    assert!(!told.contains("raise optim.lr"), "{told}");
}
