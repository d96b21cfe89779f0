//! `ftk batch`: runs of a plan are made once each, whatever happens to the batch meanwhile.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;

use crate::run::{ftk, stderr, succeed};

/// Two runs of few steps, and what follows them.
const PLAN: &str = "recipes = [\"sft\"]\nout = \"runs\"\n\
                    [set]\n\"run.steps\" = 4\n\"run.save_every\" = 1\n\
                    [grid]\n\"optim.lr\" = [1e-3, 1e-4]\n";
const PROOFS: &str = "[then]\neval = true\ncommit = true\nprove = { prompt = \"Hello\", max_tokens = 2 }\n\
                      sample = { prompt = \"Good day\", max_tokens = 2 }\n";
/// A row to train on.
const ROW: &str = "{\"messages\": [{\"role\": \"user\", \"content\": \"Hello\"}, \
                   {\"role\": \"assistant\", \"content\": \"Good day.\"}]}\n";

fn plan(folder: &Path, text: &str) {
    std::fs::write(folder.join("plan.toml"), text).unwrap();
}

fn batch(folder: &Path, more: &[&str]) -> std::process::Command {
    let mut command = ftk(&["--json", "batch", "plan.toml"]);
    command.args(more).current_dir(folder);
    command
}

/// The last object: every run by its name.
fn runs(stdout: &str) -> BTreeMap<String, Value> {
    let last: Value = serde_json::from_str(stdout.lines().last().unwrap()).unwrap();
    let runs = last["runs"].as_array().unwrap().iter();
    runs.map(|run| (run["run"].as_str().unwrap().to_owned(), run.clone())).collect()
}

/// The adapter of every run.
fn adapters(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(folder.join("runs")).unwrap().map(|entry| entry.unwrap());
    let adapter = |entry: std::fs::DirEntry| {
        let name = entry.file_name().into_string().unwrap();
        Some((name, std::fs::read(entry.path().join("adapter_model.safetensors")).ok()?))
    };
    entries.filter_map(adapter).collect()
}

/// The folders of so many runs, as soon as each has made a step.
fn stepped(folder: &Path, count: usize) -> Vec<PathBuf> {
    for _ in 0..1200 {
        let runs = std::fs::read_dir(folder.join("runs")).into_iter().flatten().flatten().map(|run| run.path());
        let has = |run: &PathBuf| run.join("metrics.jsonl").metadata().is_ok_and(|file| file.len() > 0);
        let stepped: Vec<PathBuf> = runs.filter(has).collect();
        if stepped.len() == count {
            return stepped;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("{count} runs have not begun");
}

#[test]
fn a_batch_does_what_is_missing_or_has_changed_and_nothing_else() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    plan(folder, &format!("{PLAN}{PROOFS}"));
    let shown = succeed(&mut batch(folder, &["--dry-run"]));
    assert!(runs(&shown).values().all(|run| run["stages"] == serde_json::json!({})) && !folder.join("runs").exists());

    let stages = |stdout: &str| -> Vec<String> {
        let objects = stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        objects.filter_map(|object| object["stage"].as_str().map(str::to_owned)).collect()
    };
    let said = succeed(&mut batch(folder, &[]));
    let first = runs(&said);
    assert_eq!(stages(&said).len(), 2 * 7, "{said}");
    for (name, run) in &first {
        assert!(name.starts_with("sft-") && run["error"].is_null(), "{run}");
        assert!(run["set"]["optim.lr"].is_string());
        assert!(run["stages"]["train"]["figures"]["loss"].is_f64(), "{run}");
        assert!(run["stages"]["eval"]["figures"]["loss"].is_f64(), "{run}");
        assert_eq!(run["stages"]["verify"]["verdict"], "valid");
        assert!(["before", "after"].iter().all(|when| run["stages"][when]["text"].is_string()), "{run}");
        assert_eq!(run["stages"]["commit"]["adapter"], run["stages"]["prove"]["adapter"]);
    }
    let page = std::fs::read_to_string(folder.join("runs/report.html")).unwrap();
    assert!(first.keys().all(|name| page.contains(name)) && page.contains("<td>valid</td>"), "{page}");
    assert!(page.contains("<h2>Samples</h2>"), "{page}");
    // Again: nothing.
    let again = succeed(&mut batch(folder, &[]));
    assert_eq!((stages(&again).len(), runs(&again)), (0, first.clone()));
    // Another question: proofs alone.
    plan(folder, &format!("{PLAN}{}", PROOFS.replace("Hello", "- Who lives here?")));
    let other = succeed(&mut batch(folder, &[]));
    assert_eq!(stages(&other), ["prove", "verify", "prove", "verify"]);
    assert_eq!(runs(&other).keys().collect::<Vec<_>>(), first.keys().collect::<Vec<_>>());
    // A file that is gone is made again.
    let one = first.keys().next().unwrap();
    std::fs::remove_dir_all(folder.join("runs").join(one).join("bundle")).unwrap();
    assert_eq!(stages(&succeed(&mut batch(folder, &[]))), ["prove"]);
    // Other rows make other runs.
    let rows = ROW;
    std::fs::write(folder.join("rows.jsonl"), rows).unwrap();
    let with = format!("{PLAN}[zip]\n\"data.train\" = [\"rows.jsonl\"]\n");
    plan(folder, &with);
    let mine = runs(&succeed(&mut batch(folder, &[])));
    assert!(mine.keys().all(|name| !first.contains_key(name)));
    std::fs::write(folder.join("rows.jsonl"), rows.replace("day", "morning")).unwrap();
    let changed = runs(&succeed(&mut batch(folder, &["--dry-run"])));
    assert!(changed.keys().all(|name| !mine.contains_key(name)));
}

#[test]
fn a_run_that_fails_stops_no_other() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    std::fs::write(folder.join("good.jsonl"), ROW).unwrap();
    std::fs::write(folder.join("bad.jsonl"), &ROW[..20]).unwrap();
    plan(folder, &format!("{PLAN}[zip]\n\"data.train\" = [\"bad.jsonl\", \"good.jsonl\"]\n"));
    let failing = |more: &[&str]| {
        let output = batch(folder, more).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
        let runs = runs(&String::from_utf8(output.stdout.clone()).unwrap());
        let failed: Vec<&str> = runs.values().filter_map(|run| run["error"].as_str()).collect();
        assert_eq!((runs.len(), failed.len()), (4, 2));
        assert!(failed.iter().all(|error| error.starts_with("train: ") && error.contains("bad.jsonl")), "{failed:?}");
        output
    };
    // Known before anything is trained.
    failing(&["--dry-run"]);
    assert!(!folder.join("runs").exists());
    let output = failing(&["--jobs", "2"]);
    assert_eq!(adapters(folder).len(), 2);
    assert!(stderr(&output).contains("2 of 4 runs failed"), "{}", stderr(&output));
}

#[test]
fn two_batches_of_one_plan_share_its_runs() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    plan(folder, &format!("{PLAN}{PROOFS}"));
    let start = || batch(folder, &[]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let ended = [start(), start()].map(|batch| batch.wait_with_output().unwrap());
    let mut made = 0;
    for output in &ended {
        assert_eq!(output.status.code(), Some(0), "{}", stderr(output));
        let said = String::from_utf8(output.stdout.clone()).unwrap();
        assert!(runs(&said).values().all(|run| run["stages"].as_object().unwrap().len() == 7), "{said}");
        made += said.lines().filter(|line| line.starts_with("{\"run\"")).count();
    }
    // Each stage by one of them.
    assert_eq!(made, 2 * 7);
}

#[test]
fn parts_jobs_and_kills_come_to_the_same_bytes() {
    let place = tempfile::tempdir().unwrap();
    let here = |name: &str| {
        let folder = place.path().join(name);
        std::fs::create_dir(&folder).unwrap();
        plan(&folder, PLAN);
        folder
    };
    let whole = here("whole");
    succeed(&mut batch(&whole, &[]));
    let expected = adapters(&whole);
    assert_eq!(expected.len(), 2);

    let parts = here("parts");
    for part in ["2/2", "1/2"] {
        succeed(&mut batch(&parts, &["--shard", part]));
    }
    assert!(adapters(&parts) == expected);

    let jobs = here("jobs");
    succeed(&mut batch(&jobs, &["--jobs", "2"]));
    assert!(adapters(&jobs) == expected);

    let killed = here("killed");
    for wait in [10, 60, 150, 300, 500] {
        let mut child = batch(&killed, &[]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(wait));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    succeed(&mut batch(&killed, &[]));
    assert!(adapters(&killed) == expected);
}

#[test]
fn equal_runs_are_of_one_part() {
    let place = tempfile::tempdir().unwrap();
    let here = |name: &str, rows: &str| {
        let folder = place.path().join(name);
        std::fs::create_dir(&folder).unwrap();
        // Two files of the same rows.
        ["a", "b"].iter().for_each(|file| std::fs::write(folder.join(format!("{file}.jsonl")), ROW).unwrap());
        plan(&folder, &format!("{PLAN}[zip]\n\"data.train\" = {rows}\n"));
        folder
    };
    let once = here("once", "[\"a.jsonl\"]");
    succeed(&mut batch(&once, &[]));
    let parts = here("parts", "[\"a.jsonl\", \"b.jsonl\"]");
    let made = ["1/2", "2/2"].map(|part| runs(&succeed(&mut batch(&parts, &["--shard", part]))));
    assert!(made.iter().all(|runs| runs.len() == 1) && made[0].keys().ne(made[1].keys()), "{made:?}");
    assert_eq!(adapters(&once).len(), 2);
    assert!(adapters(&parts) == adapters(&once));
    assert!(runs(&succeed(&mut batch(&parts, &["--shard", "3/3"]))).is_empty());
    // An engine is given as many tasks as there are runs.
    let emitted = succeed(&mut batch(&parts, &["--emit", "make", "--to", "engine"]));
    let emitted: Value = serde_json::from_str(emitted.lines().last().unwrap()).unwrap();
    assert_eq!(emitted["run_count"], 2);
    let makefile = std::fs::read_to_string(parts.join("engine/Makefile")).unwrap();
    assert!(makefile.contains("run-1 run-2") && !makefile.contains("run-3"), "{makefile}");
}

/// How often each of the two is killed: a few times with every run of the tests, as often as somebody asks elsewhere
/// (`FTK_KILL_ROUNDS=100 cargo test --release --test ftk kills_at_random`).
fn rounds() -> usize {
    std::env::var("FTK_KILL_ROUNDS").map_or(4, |rounds| rounds.parse().expect("FTK_KILL_ROUNDS is a number"))
}

/// Kills what `start` begins at random moments, so many times; whenever it comes to its end before that, `ended` looks at
/// the result, clears it away, and it begins anew.
fn kill(start: &dyn Fn() -> std::process::Command, ended: &dyn Fn()) {
    let (mut seed, mut kills) = (0x2545_f491_4f6c_dd1d_u64, 0);
    while kills < rounds() {
        let mut child = start().stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // Marsaglia's xorshift, for moments that are the same each time.
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        std::thread::sleep(Duration::from_millis(seed % 700));
        match child.try_wait().unwrap() {
            Some(status) => {
                assert!(status.success(), "after {kills} kills");
                ended();
            }
            None => {
                child.kill().unwrap();
                child.wait().unwrap();
                kills += 1;
            }
        }
    }
    let mut last = start();
    succeed(&mut last);
    ended();
}

#[test]
fn kills_at_random_moments_lose_nothing_of_a_training() {
    let place = tempfile::tempdir().unwrap();
    let start = |out: &str| {
        let mut train = ftk(&["--quiet", "train", "sft", "--set", "run.steps=12", "--set", "run.save_every=1"]);
        train.args(["--set", "run.transcript=true", "--resume", "--out", out]).current_dir(place.path());
        train
    };
    let files = |out: &str| -> BTreeMap<String, Vec<u8>> {
        let files = std::fs::read_dir(place.path().join(out)).unwrap().map(|entry| entry.unwrap());
        let file =
            |file: std::fs::DirEntry| Some((file.file_name().into_string().unwrap(), std::fs::read(file.path()).ok()?));
        files.filter_map(file).collect()
    };
    succeed(&mut start("whole"));
    let whole = files("whole");
    assert!(whole.len() > 5, "{:?}", whole.keys());
    let differs = || {
        let killed = files("killed");
        assert_eq!(killed.keys().collect::<Vec<_>>(), whole.keys().collect::<Vec<_>>());
        whole.iter().filter(|(name, bytes)| killed[*name] != **bytes).map(|(name, _)| name.clone()).collect::<Vec<_>>()
    };
    kill(&|| start("killed"), &|| {
        // The recipe of a run has its own folder in it, and the card the recipe.
        let differs: Vec<String> =
            differs().into_iter().filter(|name| !["recipe.toml", "README.md"].contains(&name.as_str())).collect();
        assert!(differs.is_empty(), "{differs:?}");
        std::fs::remove_dir_all(place.path().join("killed")).unwrap();
    });
}

#[test]
fn kills_at_random_moments_lose_nothing_of_a_batch() {
    let place = tempfile::tempdir().unwrap();
    let here = |name: &str| {
        let folder = place.path().join(name);
        std::fs::create_dir(&folder).unwrap();
        plan(&folder, &format!("{PLAN}[then]\neval = true\ncommit = true\n"));
        folder
    };
    let (whole, killed) = (here("whole"), here("killed"));
    succeed(&mut batch(&whole, &[]));
    let page = |folder: &Path| std::fs::read_to_string(folder.join("runs/report.html")).unwrap();
    // Digests of commitments have randomness in them.
    let told = |page: String| page.split("<h2>Curves").nth(1).unwrap().to_owned();
    let expected = (adapters(&whole), told(page(&whole)));
    kill(&|| batch(&killed, &["--jobs", "2"]), &|| {
        assert!((adapters(&killed), told(page(&killed))) == expected);
        // No command of a batch that was killed writes there any more.
        std::fs::remove_dir_all(killed.join("runs")).unwrap();
    });
}

/// A command outlives a batch that is killed; until it has ended, no other batch is given the run's folder.
#[cfg(unix)]
#[test]
fn a_folder_is_not_given_away_while_a_command_of_a_killed_batch_is_there() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    plan(folder, &PLAN.replace("\"run.steps\" = 4", "\"run.steps\" = 2000"));
    let mut child = batch(folder, &[]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let run = stepped(folder, 1).remove(0);
    child.kill().unwrap();
    child.wait().unwrap();
    let free = |lock: &str| std::fs::File::options().write(true).open(run.join(lock)).unwrap().try_lock().is_ok();
    while !free(".batch.lock") {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(free(".lock"), "the batch's right to the folder went before its command did");
}

#[cfg(unix)]
#[test]
fn a_batch_that_is_asked_to_end_ends_its_runs_and_goes_on() {
    use rustix::process::{Pid, Signal, kill_process};

    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    plan(folder, &PLAN.replace("\"run.steps\" = 4", "\"run.steps\" = 2000"));
    let child = batch(folder, &["--jobs", "2"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let stepped = stepped(folder, 2);
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(143), "{}", stderr(&output));
    // Each run ended with a checkpoint, and nothing holds its folder.
    for run in stepped {
        let log = std::fs::read_to_string(run.join("log.txt")).unwrap();
        assert!(log.contains("stopped after step"), "{log}");
    }
}
