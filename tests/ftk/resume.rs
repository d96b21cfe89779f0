//! A run that is killed and resumed equals one that never was.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::run::{fixture, ftk, stderr, succeed};

pub const STEPS: usize = 60;

/// Many short steps of four batches each, with a checkpoint after every one.
pub fn recipe(folder: &Path, extra: &str) {
    let ids = |row: usize, length: usize| (0..length).map(|i| (i * 37 + row * 101 + i * i) % 512).collect::<Vec<_>>();
    let rows: Vec<String> = (0..50).map(|row| json!({ "input_ids": ids(row, 12 + row % 5) }).to_string()).collect();
    std::fs::write(folder.join("rows.jsonl"), rows.join("\n")).unwrap();
    let recipe = format!(
        "task = \"sft\"\n[base]\nmodel = {:?}\n[data]\ntrain = \"rows.jsonl\"\n[lora]\nrank = 4\n\
         [optim]\nlr = 1e-3\nschedule = \"cosine\"\nwarmup_steps = 5\nweight_decay = 0.01\n\
         [run]\nout = \"out\"\nbatch = 2\naccumulate = 4\nsteps = {STEPS}\nsave_every = 1\n{extra}",
        fixture("micro-llama/base")
    );
    std::fs::write(folder.join("recipe.toml"), recipe).unwrap();
}

pub fn files(out: &Path) -> Vec<(&'static str, Vec<u8>)> {
    let names = [
        "adapter_model.safetensors",
        "adapter_config.json",
        "metrics.jsonl",
        "checkpoint.safetensors",
        "manifest.json",
        "curves.svg",
    ];
    names.into_iter().map(|name| (name, std::fs::read(out.join(name)).unwrap())).collect()
}

pub fn lines(path: &Path) -> usize {
    std::fs::read_to_string(path).map_or(0, |text| text.lines().count())
}

/// Starts the run of [`STEPS`] steps in `out` and kills it as soon as its metrics have so many lines.
pub fn kill_after(folder: &Path, out: &Path, steps: usize) {
    let mut command = ftk(&["--quiet", "train", "--resume", "--recipe"]);
    command.arg(folder.join("recipe.toml")).arg("--out").arg(out).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let patience = Instant::now() + Duration::from_secs(60);
    while lines(&out.join("metrics.jsonl")) < steps {
        assert!(Instant::now() < patience, "no step {steps} within a minute");
        assert!(child.try_wait().unwrap().is_none(), "the run ended before it could be killed");
        std::thread::sleep(Duration::from_micros(200));
    }
    child.kill().unwrap();
    assert!(!child.wait().unwrap().success());
    assert!(lines(&out.join("metrics.jsonl")) < STEPS, "the run had ended");
    assert!(!out.join("adapter_model.safetensors").exists());
}

#[test]
fn a_killed_run_resumed_equals_one_never_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    recipe(folder, "");
    // What is dropped at a step is the same after a stop.
    let text = std::fs::read_to_string(folder.join("recipe.toml")).unwrap();
    std::fs::write(folder.join("recipe.toml"), text.replace("rank = 4\n", "rank = 4\ndropout = 0.1\n")).unwrap();
    let train = |out: &str, resume: bool| {
        let mut command = ftk(&["--quiet", "train", "--recipe"]);
        command.arg(folder.join("recipe.toml")).arg("--out").arg(folder.join(out)).args(resume.then_some("--resume"));
        command
    };
    succeed(&mut train("whole", false));
    let whole = files(&folder.join("whole"));
    assert_eq!(lines(&folder.join("whole/metrics.jsonl")), STEPS);

    // Killed twice on the way, wherever inside a step that falls.
    for steps in [7, 21] {
        kill_after(folder, &folder.join("killed"), steps);
    }
    succeed(&mut train("killed", true));
    for ((name, ours), (_, killed)) in whole.iter().zip(files(&folder.join("killed"))) {
        assert!(*ours == killed, "{name} differs between a killed and a whole run");
    }
    // Resumed at its end, it stays what it is.
    succeed(&mut train("killed", true));
    assert!(files(&folder.join("killed")) == whole);

    // Without --resume the folder is refused and left alone.
    let output = train("killed", false).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("holds a run"), "{}", stderr(&output));
    assert!(stderr(&output).contains("\nhint: continue it with --resume"), "{}", stderr(&output));
    assert!(files(&folder.join("killed")) == whole);
}

#[test]
fn another_recipe_cannot_resume_a_run() {
    let folder = tempfile::tempdir().unwrap();
    let (folder, out) = (folder.path(), folder.path().join("out"));
    recipe(folder, "");
    let text = std::fs::read_to_string(folder.join("recipe.toml")).unwrap();
    let short = text.replace(&format!("steps = {STEPS}"), "steps = 2");
    std::fs::write(folder.join("recipe.toml"), &short).unwrap();
    let run = || ftk(&["train", "--resume", "--recipe"]).arg(folder.join("recipe.toml")).output().unwrap();
    assert!(run().status.success());
    let contents = || {
        let mut files: Vec<_> = std::fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files.into_iter().map(|path| (std::fs::read(&path).unwrap(), path)).collect::<Vec<_>>()
    };
    let before = contents();

    let refused = |says: &str| {
        let output = run();
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
        let path = out.join("checkpoint.safetensors");
        let expected = format!("error: {}: was made {says}\n", path.display());
        assert!(stderr(&output).contains(&expected), "{}", stderr(&output));
        assert!(stderr(&output).contains("\nhint: choose another folder with --out"));
        assert!(contents() == before, "the run's folder was touched");
    };
    std::fs::write(folder.join("recipe.toml"), short.replace("lr = 1e-3", "lr = 2e-3")).unwrap();
    refused("by a different recipe: optim.lr was 0.001 and is 0.002");
    std::fs::write(folder.join("recipe.toml"), &short).unwrap();
    let rows = std::fs::read_to_string(folder.join("rows.jsonl")).unwrap();
    std::fs::write(folder.join("rows.jsonl"), rows.replacen("101", "102", 1)).unwrap();
    refused("of the same recipe, but of other rows, another base or another start");
    // How often it is saved is no part of what a run computes.
    std::fs::write(folder.join("rows.jsonl"), rows).unwrap();
    std::fs::write(folder.join("recipe.toml"), short.replace("save_every = 1", "save_every = 0")).unwrap();
    assert!(run().status.success());
}

#[test]
fn a_start_adapter_with_another_alpha_is_another_run_and_one_in_another_place_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    recipe(folder, "");
    let text = std::fs::read_to_string(folder.join("recipe.toml")).unwrap();
    let adapter = |name: &str, alpha: usize| {
        let (from, to) = (fixture("micro-llama/adapter_init"), folder.join(name));
        std::fs::create_dir(&to).unwrap();
        std::fs::copy(from.join("adapter_model.safetensors"), to.join("adapter_model.safetensors")).unwrap();
        let config = std::fs::read(from.join("adapter_config.json")).unwrap();
        let mut config: serde_json::Value = serde_json::from_slice(&config).unwrap();
        config["lora_alpha"] = json!(alpha);
        std::fs::write(to.join("adapter_config.json"), config.to_string()).unwrap();
    };
    let run = |start: &str| {
        let text = text.replace(&format!("steps = {STEPS}"), "steps = 1");
        let text = text.replace("rank = 4", &format!("start = {start:?}"));
        std::fs::write(folder.join("recipe.toml"), text).unwrap();
        ftk(&["train", "--resume", "--recipe"]).arg(folder.join("recipe.toml")).output().unwrap()
    };
    adapter("first", 8);
    adapter("moved", 8);
    adapter("louder", 16);
    assert!(run("first").status.success());
    let louder = run("louder");
    assert_eq!(louder.status.code(), Some(2));
    assert!(stderr(&louder).contains("another base or another start"), "{}", stderr(&louder));
    let moved = run("moved");
    assert!(moved.status.success(), "{}", stderr(&moved));
}
