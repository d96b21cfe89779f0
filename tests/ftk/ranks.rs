//! `mpirun ftk train`: however many processes share a run, it has the bytes of one.
//!
//! What needs no MPI (who computes which batch, the order of sums, lost ranks) is tested in `src/train/ranks`. Here are
//! Open MPI and whole runs, in tests that are ignored by name with what they need. With that installed,
//! `cargo test --release --features mpi --test ftk ranks -- --ignored` runs them.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::run::{ftk, stderr, succeed};

/// Arguments of a run of few steps of three batches.
fn run(recipe: &str) -> Vec<String> {
    let settings = ["run.steps=4", "run.batch=2", "run.accumulate=3", "run.save_every=0", "run.eval_every=2"];
    let settings = settings.iter().flat_map(|setting| ["--set", setting]);
    ["--quiet", "train", recipe, "--out", "out"].into_iter().chain(settings).map(str::to_owned).collect()
}

/// `mpirun` with so many ranks of one command.
fn ranks(count: usize, folder: &Path, arguments: &[String]) -> Command {
    if cfg!(not(feature = "mpi")) {
        panic!("this ftk is built without MPI: add --features mpi");
    }
    let mut command = mpirun(folder);
    command.args(["-n", &count.to_string(), env!("CARGO_BIN_EXE_ftk")]).args(arguments);
    command
}

fn mpirun(folder: &Path) -> Command {
    let mut command = Command::new("mpirun");
    command.arg("--oversubscribe").current_dir(folder);
    command.env("OMPI_ALLOW_RUN_AS_ROOT", "1").env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
    command
}

fn folder(place: &Path, name: impl ToString) -> PathBuf {
    let folder = place.join(name.to_string());
    std::fs::create_dir(&folder).unwrap();
    folder
}

/// All files of a run, by name.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let out = folder.join("out");
    let (mut folders, mut files) = (vec![out.clone()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(&out).unwrap().to_str().unwrap().to_owned();
                files.push((name, std::fs::read(path).unwrap()));
            }
        }
    }
    // What workers bring to their last meeting over a folder.
    files.retain(|(name, _)| !name.starts_with("exchange/"));
    assert!(files.iter().any(|(name, _)| name.ends_with("manifest.json")));
    files
}

/// Names of files that are not the same.
fn differences(one: &Path, other: &Path) -> Vec<String> {
    let (one, other) = (files(one), files(other));
    let missing = |(name, bytes): &(String, Vec<u8>)| {
        (!other.iter().any(|(theirs, same)| name == theirs && bytes == same)).then(|| name.clone())
    };
    assert_eq!(one.len(), other.len());
    one.iter().filter_map(missing).collect()
}

fn alone(place: &Path, arguments: &[String]) -> PathBuf {
    let folder = folder(place, "alone");
    succeed(ftk(&arguments.iter().map(String::as_str).collect::<Vec<_>>()).current_dir(&folder));
    folder
}

fn refused(mut command: Command) -> String {
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    said(&output)
}

/// What ftk says, without the launcher's words.
fn said(output: &Output) -> String {
    let text = stderr(output);
    let ours = text.lines().filter(|line| line.starts_with("error: ") || line.starts_with("hint: "));
    ours.collect::<Vec<_>>().join("\n")
}

#[test]
#[ignore = "needs Open MPI: apt install openmpi-bin libopenmpi-dev libclang-dev, and a build with --features mpi"]
fn one_two_and_three_ranks_give_the_bytes_of_one_process() {
    for (recipe, more) in
        [("sft", "lora.dropout=0.1"), ("dpo", "run.seed=7"), ("kto", "dpo.cache=false"), ("gnn/guilds", "run.seed=7")]
    {
        let place = tempfile::tempdir().unwrap();
        let arguments = [run(recipe), vec!["--set".to_owned(), more.to_owned()]].concat();
        let whole = alone(place.path(), &arguments);
        for count in 1..=3 {
            let folder = folder(place.path(), count);
            succeed(&mut ranks(count, &folder, &arguments));
            assert_eq!(differences(&whole, &folder), [""; 0], "{recipe} on {count}");
        }
    }
}

#[test]
#[ignore = "needs Open MPI: apt install openmpi-bin libopenmpi-dev libclang-dev, and a build with --features mpi"]
fn a_rank_that_is_killed_leaves_a_checkpoint_for_any_number_of_ranks() {
    let place = tempfile::tempdir().unwrap();
    let arguments = [run("sft"), ["--set", "run.steps=80", "--resume"].map(str::to_owned).to_vec()].concat();
    let whole = alone(place.path(), &arguments);
    for count in 1..=3 {
        let folder = folder(place.path(), count);
        let mut command = ranks(3, &folder, &arguments);
        let launcher = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = || std::fs::read_to_string(folder.join("out/metrics.jsonl")).map_or(0, |text| text.lines().count());
        let begun = Instant::now();
        while lines() < 5 {
            assert!(begun.elapsed() < Duration::from_secs(60), "no five steps within a minute");
            std::thread::sleep(Duration::from_millis(1));
        }
        // Its children are the ranks, in their order.
        let children = format!("/proc/{0}/task/{0}/children", launcher.id());
        let children = std::fs::read_to_string(children).unwrap();
        let victim = children.split_whitespace().nth(1).unwrap();
        assert!(Command::new("kill").args(["-KILL", victim]).status().unwrap().success());
        let output = launcher.wait_with_output().unwrap();
        assert!(!output.status.success());
        let expected = format!(
            "error: rank 1 is lost: its process {victim} has ended\n\
             hint: go on with the same command and --resume; without run.sync_every, on any number of ranks"
        );
        assert_eq!(said(&output), expected, "{}", stderr(&output));
        assert!(folder.join("out/checkpoint.safetensors").exists() && lines() < 80);
        if count == 1 {
            succeed(ftk(&arguments.iter().map(String::as_str).collect::<Vec<_>>()).current_dir(&folder));
        } else {
            succeed(&mut ranks(count, &folder, &arguments));
        }
        assert_eq!(differences(&whole, &folder), [""; 0], "gone on with {count}");
    }
}

#[test]
#[ignore = "needs Open MPI: apt install openmpi-bin libopenmpi-dev libclang-dev, and a build with --features mpi"]
fn ranks_that_cannot_share_a_run_are_refused_by_name() {
    let place = tempfile::tempdir().unwrap();
    let few = [run("sft"), vec!["--set".to_owned(), "run.accumulate=2".to_owned()]].concat();
    let said = refused(ranks(3, place.path(), &few));
    assert!(said.starts_with("error: run.accumulate: a step has 2 batches, which 3 ranks cannot share\n"), "{said}");
    // The second rank is of another command.
    for (setting, message) in [
        ("run.seed=43", "error: rank 1: has other rows, another base or another arithmetic than rank 0"),
        ("data.train=missing.jsonl", "error: rank 1: missing.jsonl: No such file or directory"),
    ] {
        let mut command = mpirun(place.path());
        let one = ["-n", "1", env!("CARGO_BIN_EXE_ftk")];
        command.args(one).args(run("sft")).arg(":").args(one).args(run("sft")).args(["--set", setting]);
        let said = refused(command);
        assert!(said.starts_with(message), "{setting}: {said}");
    }
}

/// Arguments of workers that meet after two steps and after three.
fn meeting() -> Vec<String> {
    let more = ["run.steps=3", "run.transcript=false", "run.sync_every=2"].map(|setting| ["--set", setting]);
    [run("sft"), more.concat().into_iter().map(str::to_owned).collect()].concat()
}

/// Two workers that meet in a folder.
fn two_workers(folder: &Path) {
    let workers = ["1/2", "2/2"].map(|worker| {
        let mut command = ftk(&meeting().iter().map(String::as_str).chain(["--worker", worker]).collect::<Vec<_>>());
        command.current_dir(folder).stderr(Stdio::piped()).spawn().unwrap()
    });
    for worker in workers {
        let output = worker.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
    }
}

#[test]
fn workers_that_train_apart_end_in_one_place() {
    let place = tempfile::tempdir().unwrap();
    two_workers(place.path());
    let read = |worker: &str, file: &str| std::fs::read(place.path().join("out").join(worker).join(file)).unwrap();
    let both = |file: &str| ["worker-1", "worker-2"].map(|worker| read(worker, file));
    let [one, other] = both("adapter_model.safetensors");
    assert!(one == other);
    let [one, other] = both("metrics.jsonl");
    assert!(one != other, "each learns from rows of its own");
    let [one, other] = both("manifest.json").map(|text| serde_json::from_slice::<serde_json::Value>(&text).unwrap());
    assert_eq!([&one["worker"], &other["worker"]], ["1/2", "2/2"]);
    assert_ne!(one["run"], other["run"]);
    let refused = |more: &[&str]| {
        let mut arguments = run("sft");
        arguments.extend(more.iter().map(|&more| more.to_owned()));
        let mut command = ftk(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
        command.current_dir(place.path());
        refused(command)
    };
    let said = refused(&["--worker", "1/2"]);
    assert!(said.starts_with("error: --worker: needs run.sync_every\n"), "{said}");
    let said = refused(&["--set=run.transcript=false", "--set=run.sync_every=2", "--worker=0/2"]);
    assert!(said.starts_with("error: --worker: workers of 2 are 1 to 2\n"), "{said}");
}

#[test]
#[ignore = "needs Open MPI: apt install openmpi-bin libopenmpi-dev libclang-dev, and a build with --features mpi"]
fn ranks_that_train_apart_are_the_workers_of_a_folder() {
    let place = tempfile::tempdir().unwrap();
    let [apart, together] = ["apart", "together"].map(|name| folder(place.path(), name));
    two_workers(&apart);
    succeed(&mut ranks(2, &together, &meeting()));
    assert_eq!(differences(&apart, &together), [""; 0]);
}

/// Copies of one run, each unaware of the others, are no run on several processes.
#[test]
#[cfg(not(feature = "mpi"))]
fn a_build_without_mpi_refuses_to_be_one_of_several_processes() {
    let place = tempfile::tempdir().unwrap();
    for name in ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE"] {
        let arguments = run("sft");
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let mut command = ftk(&arguments);
        command.env(name, "2").current_dir(place.path());
        let said = refused(command);
        assert_eq!(
            said,
            "error: was started as 2 processes by mpirun or its like, and this ftk is built without MPI\n\
             hint: build it with --features mpi, or start one process; runs of a batch are split by ftk batch --shard"
        );
        assert!(!place.path().join("out").exists());
    }
}
