//! What a run leaves in its folder: one run at a time, in good order whatever ends it.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::resume::{STEPS, files, lines, recipe};
use crate::run::{ftk, stderr, succeed};

fn train(folder: &Path, out: &str) -> Command {
    let mut command = ftk(&["train", "--resume", "--recipe"]);
    command.arg(folder.join("recipe.toml")).arg("--out").arg(folder.join(out));
    command
}

/// Changes the recipe.
fn change(folder: &Path, from: &str, to: &str) {
    let text = std::fs::read_to_string(folder.join("recipe.toml")).unwrap();
    assert!(text.contains(from), "{from}");
    std::fs::write(folder.join("recipe.toml"), text.replace(from, to)).unwrap();
}

/// Starts a run and waits until its metrics have so many lines.
fn started(folder: &Path, out: &str, steps: usize) -> Child {
    let mut child = train(folder, out).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let patience = Instant::now() + Duration::from_secs(60);
    while lines(&folder.join(out).join("metrics.jsonl")) < steps {
        assert!(Instant::now() < patience, "no step {steps} within a minute");
        assert!(child.try_wait().unwrap().is_none(), "the run ended early");
        std::thread::sleep(Duration::from_micros(200));
    }
    child
}

/// Sends a signal by the system's own command.
#[cfg(unix)]
fn signal(child: &Child, name: &str) {
    assert!(Command::new("kill").args(["-s", name, &child.id().to_string()]).status().unwrap().success());
}

#[cfg(unix)]
#[test]
fn a_run_that_is_asked_to_end_does_so_in_good_order_and_goes_on_as_if_it_had_not() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    // Under nohup runs would not hear SIGHUP: whoever handles a signal starts others that do not ignore it.
    let heard = std::sync::Arc::<std::sync::atomic::AtomicBool>::default();
    signal_hook::flag::register(signal_hook::consts::SIGHUP, heard).unwrap();
    // No checkpoints but those of the signals.
    recipe(folder, "");
    change(folder, "save_every = 1", "save_every = 0");
    // Long enough that a signal finds it running.
    const LONG: usize = 300;
    change(folder, &format!("steps = {STEPS}"), &format!("steps = {LONG}"));
    succeed(&mut train(folder, "whole"));
    for (name, code, steps) in [("TERM", 143, 5), ("INT", 130, 20), ("USR1", 138, 35), ("HUP", 129, 50)] {
        let child = started(folder, "asked", steps);
        signal(&child, name);
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{}", stderr(&output));
        let done = lines(&folder.join("asked/metrics.jsonl"));
        assert!((steps..LONG).contains(&done));
        let note = format!("stopped after step {done} of {LONG}; go on with the same command and --resume\n");
        assert!(stderr(&output).ends_with(&note), "{}", stderr(&output));
        assert!(folder.join("asked/checkpoint.safetensors").exists());
        assert!(!folder.join("asked/adapter_model.safetensors").exists());
    }
    succeed(&mut train(folder, "asked"));
    for ((name, whole), (_, asked)) in files(&folder.join("whole")).iter().zip(files(&folder.join("asked"))) {
        assert!(*whole == asked, "{name} differs");
    }
}

/// As under nohup.
#[cfg(unix)]
#[test]
fn a_run_that_is_to_outlive_its_terminal_does() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    recipe(folder, "");
    change(folder, &format!("steps = {STEPS}"), "steps = 1000000");
    let train = train(folder, "out");
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' HUP; exec \"$0\" \"$@\""]).arg(train.get_program()).args(train.get_args());
    let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let metrics = folder.join("out/metrics.jsonl");
    let steps_come = |more: usize| {
        let (patience, already) = (Instant::now() + Duration::from_secs(60), lines(&metrics));
        while lines(&metrics) < already + more {
            assert!(Instant::now() < patience, "no step within a minute");
            std::thread::sleep(Duration::from_millis(1));
        }
    };
    steps_come(2);
    signal(&child, "HUP");
    steps_come(5);
    signal(&child, "TERM");
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(143), "{}", stderr(&output));
}

#[cfg(unix)]
#[test]
fn a_second_signal_ends_the_run_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    recipe(folder, "");
    // One step over so many rows that it takes seconds.
    let rows = std::fs::read_to_string(folder.join("rows.jsonl")).unwrap() + "\n";
    std::fs::write(folder.join("rows.jsonl"), rows.repeat(400)).unwrap();
    change(folder, "accumulate = 4", "accumulate = 10000");
    let mut command = train(folder, "out");
    let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let patience = Instant::now() + Duration::from_secs(60);
    while !folder.join("out/metrics.jsonl").exists() {
        assert!(Instant::now() < patience, "no step within a minute");
        std::thread::sleep(Duration::from_millis(1));
    }
    // Two kinds: of one, a second that finds the first still waiting is lost.
    signal(&child, "INT");
    signal(&child, "TERM");
    let output = child.wait_with_output().unwrap();
    assert!(matches!(output.status.code(), Some(130 | 143)), "{}", stderr(&output));
    assert_eq!(lines(&folder.join("out/metrics.jsonl")), 0);
    assert!(!folder.join("out/checkpoint.safetensors").exists());
}

#[test]
fn a_folder_has_one_run_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    recipe(folder, "");
    // Never at its end in this test.
    change(folder, &format!("steps = {STEPS}"), "steps = 1000000");
    let mut first = started(folder, "out", 2);
    let second = train(folder, "out").output().unwrap();
    first.kill().unwrap();
    first.wait().unwrap();
    assert_eq!(second.status.code(), Some(2));
    let out = folder.join("out");
    assert_eq!(
        stderr(&second),
        format!(
            "error: another run is writing to this folder: {}\n\
             hint: wait for that run or stop it, or choose another folder with --out\n",
            out.display()
        )
    );
    // The killed run has left no lock behind: the folder is looked into again.
    change(folder, "steps = 1000000", "steps = 3");
    let third = train(folder, "out").output().unwrap();
    assert!(
        stderr(&third).contains(": was made by a different recipe: run.steps was 1000000 and is 3\n"),
        "{}",
        stderr(&third)
    );
}

#[cfg(unix)]
#[test]
fn a_disk_that_takes_no_more_leaves_the_checkpoint_before() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    recipe(folder, "");
    succeed(&mut train(folder, "whole"));
    let mut child = started(folder, "full", 7);
    child.kill().unwrap();
    child.wait().unwrap();
    let path = folder.join("full/checkpoint.safetensors");
    let before = std::fs::read(&path).unwrap();
    // Files of at most eight blocks, for the price of no root and no disk; the signal that comes with it is ignored.
    let mut limited = Command::new("sh");
    limited.args(["-c", "trap '' XFSZ; ulimit -f 8; exec \"$0\" \"$@\""]);
    let train_again = train(folder, "full");
    limited.arg(train_again.get_program()).args(train_again.get_args());
    let output = limited.output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert!(stderr(&output).contains("error: ") && stderr(&output).contains("File too large"), "{}", stderr(&output));
    assert!(std::fs::read(&path).unwrap() == before, "the checkpoint was touched");
    succeed(&mut train(folder, "full"));
    for ((name, whole), (_, full)) in files(&folder.join("whole")).iter().zip(files(&folder.join("full"))) {
        assert!(*whole == full, "{name} differs");
    }
}

#[test]
fn a_folder_that_cannot_be_made_is_refused_by_its_path() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    recipe(folder, "");
    let output = train(folder, "rows.jsonl/out").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let expected = format!("error: cannot write to {}: ", folder.join("rows.jsonl/out").display());
    assert!(stderr(&output).contains(&expected), "{}", stderr(&output));
}

#[test]
fn the_manifest_names_what_went_in_and_what_came_out() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    recipe(folder, "");
    let short = |out: &str| succeed(train(folder, out).args(["--set", "run.steps=2"]));
    short("one");
    short("other");
    let read = |name: &str| std::fs::read(folder.join(name)).unwrap();
    for name in ["manifest.json", "curves.svg"] {
        assert!(read(&format!("one/{name}")) == read(&format!("other/{name}")), "{name} depends on its place");
    }
    let manifest: Value = serde_json::from_slice(&read("one/manifest.json")).unwrap();
    let digest = |name: &str| blake3::hash(&read(name)).to_hex().to_string();
    assert_eq!(manifest["data"]["train"], digest("rows.jsonl"));
    assert_eq!(manifest["result"]["adapter_model.safetensors"], digest("one/adapter_model.safetensors"));
    assert_eq!(manifest["ftk"], env!("CARGO_PKG_VERSION"));
    assert_eq!(manifest["ended"], serde_json::json!({ "step": 2, "early": false, "best": null }));
    assert_eq!(manifest["counts"]["train"]["rows"], 50);
    assert!(manifest["base"].as_str().is_some_and(|base| base.len() == 64));
    assert_eq!(manifest["start"], Value::Null);
}

#[test]
fn the_best_state_is_the_result_and_patience_ends_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    recipe(folder, "");
    std::fs::copy(folder.join("rows.jsonl"), folder.join("held_out.jsonl")).unwrap();
    // A rate that soon does harm.
    let held_out = format!("data.held_out={}", folder.join("held_out.jsonl").display());
    let settings = ["optim.lr=0.5", &held_out, "run.eval_every=1", "run.best=eval_loss"];
    let run = |out: &str, more: &[&str]| {
        let mut command = train(folder, out);
        command.args(settings.iter().chain(more).flat_map(|setting| ["--set", setting]));
        succeed(&mut command);
        let manifest: Value =
            serde_json::from_slice(&std::fs::read(folder.join(out).join("manifest.json")).unwrap()).unwrap();
        (manifest, std::fs::read(folder.join(out).join("adapter_model.safetensors")).unwrap())
    };
    let (manifest, adapter) = run("patient", &["run.patience=4"]);
    assert_eq!(manifest["ended"]["early"], true);
    let best = manifest["ended"]["best"]["step"].as_u64().unwrap();
    let steps = lines(&folder.join("patient/metrics.jsonl")) as u64;
    assert_eq!(manifest["ended"]["step"], steps);
    assert_eq!(steps, best + 4);
    // A run of the whole length that passes the same state keeps the same, unless it finds a better one.
    let (whole, kept) = run("whole", &[]);
    if whole["ended"]["best"]["step"] == best {
        assert!(kept == adapter);
    }
    assert_eq!(whole["ended"]["step"], STEPS);
    // Resumed at its end, it stays what it is.
    assert!(run("patient", &["run.patience=4"]) == (manifest, adapter));
}

#[test]
fn the_results_of_the_last_checkpoints_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    recipe(folder, "");
    let mut command = train(folder, "kept");
    succeed(command.args(["--set", "run.save_every=7", "--set", "run.keep=2"]));
    let kept = folder.join("kept/steps");
    let mut steps: Vec<usize> =
        kept.read_dir().unwrap().map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap()).collect();
    steps.sort_unstable();
    let before_last = (STEPS - 1) / 7 * 7;
    assert_eq!(steps, [before_last, STEPS]);
    // Its tensors: what has not ended has no transcript to name in its header.
    let adapter = |path: &str| {
        let file = std::fs::read(folder.join("kept").join(path).join("adapter_model.safetensors")).unwrap();
        let (header, rest) = file.split_first_chunk().unwrap();
        rest[u64::from_le_bytes(*header) as usize..].to_vec()
    };
    assert!(adapter(&format!("steps/{STEPS}")) == adapter(""));
    assert!(adapter(&format!("steps/{before_last}")) != adapter(""));
    succeed(ftk(&["inspect"]).arg(kept.join(before_last.to_string())));
}
