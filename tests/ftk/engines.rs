//! `ftk batch --emit`: whichever engine does the work of a plan, the runs and their page are those of one `ftk batch`.
//!
//! make is everywhere. The others are tests of their own, ignored by name with what installs them; with it installed they
//! are run by `cargo test --release --test ftk engines -- --ignored`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::run::{ftk, stderr, succeed};

/// Four runs of few steps.
const PLAN: &str = "recipes = [\"sft\"]\nout = \"runs\"\n\
                    [set]\n\"run.steps\" = 3\n\"run.save_every\" = 1\n\"run.transcript\" = true\n\
                    [grid]\n\"optim.lr\" = [1e-3, 1e-4]\nlora.rank = [2, 4]\n\
                    [then]\neval = true\n";

fn here(folder: &Path, name: &str) -> PathBuf {
    // A space and a quote, which engines' files must bear.
    let folder = folder.join(format!("it's {name}"));
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("plan.toml"), PLAN).unwrap();
    folder
}

/// Runs of the folder with the bytes of their adapters, and the page.
fn result(folder: &Path) -> (BTreeMap<String, Vec<u8>>, String) {
    let runs = std::fs::read_dir(folder.join("runs")).unwrap().map(|entry| entry.unwrap());
    let adapters = runs.filter_map(|run| {
        let adapter = std::fs::read(run.path().join("adapter_model.safetensors")).ok()?;
        Some((run.file_name().into_string().unwrap(), adapter))
    });
    (adapters.collect(), std::fs::read_to_string(folder.join("runs/report.html")).unwrap())
}

/// The same from one `ftk batch`.
fn expected(place: &Path) -> (BTreeMap<String, Vec<u8>>, String) {
    let folder = here(place, "whole");
    succeed(ftk(&["--quiet", "batch", "plan.toml"]).current_dir(&folder));
    let expected = result(&folder);
    assert_eq!(expected.0.len(), 4);
    expected
}

fn emit(folder: &Path, engine: &str, more: &[&str]) -> Value {
    let mut command = ftk(&["--json", "batch", "plan.toml", "--cpus", "1", "--to", "jobs", "--emit", engine]);
    let said = succeed(command.args(more).current_dir(folder));
    assert!(!folder.join("runs").exists(), "nothing is done yet");
    serde_json::from_str(&said).unwrap()
}

/// A command that finds this ftk.
fn with_ftk(program: &str) -> Command {
    let ours = Path::new(env!("CARGO_BIN_EXE_ftk")).parent().unwrap().to_owned();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let all = std::iter::once(ours).chain(std::env::split_paths(&path));
    let mut command = Command::new(program);
    command.env("PATH", std::env::join_paths(all).unwrap());
    command
}

fn ended(mut command: Command) -> Output {
    let output = command.output().unwrap();
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{command:?}\n{out}\n{}", stderr(&output));
    output
}

#[test]
fn make_comes_to_the_same_runs_and_page() {
    let place = tempfile::tempdir().unwrap();
    let expected = expected(place.path());
    let folder = here(place.path(), "make $HOME");
    let said = emit(&folder, "make", &[]);
    assert_eq!(said["run_count"], 4);
    assert!(said["memory"].as_u64().unwrap() > 100 << 20, "{said}");
    let mut make = with_ftk("make");
    make.args(["-f", "jobs/Makefile", "-j", "2"]).current_dir(&folder);
    ended(make);
    assert!(result(&folder) == expected);
    // Never over what is there.
    let again = ftk(&["batch", "plan.toml", "--emit", "make", "--to", "jobs"]).current_dir(&folder).output().unwrap();
    assert!(stderr(&again).starts_with("error: jobs/Makefile: is there already\n"), "{}", stderr(&again));
}

#[test]
fn a_run_that_fails_is_tried_again_and_the_last_task_tells() {
    let place = tempfile::tempdir().unwrap();
    let folder = here(place.path(), "failing");
    // The file is there when the plan is read, and has rows only from the second attempt on.
    let plan =
        PLAN.replace("[then]\neval = true\n", "").replace("[grid]", "[grid]\n\"data.train\" = [\"rows.jsonl\"]\n");
    std::fs::write(folder.join("plan.toml"), plan).unwrap();
    std::fs::write(folder.join("rows.jsonl"), "{\"messages\": 1}\n").unwrap();
    emit(&folder, "make", &["--retries", "1"]);
    let make = |folder: &Path| {
        let mut make = with_ftk("make");
        make.args(["-f", "jobs/Makefile"]).current_dir(folder).output().unwrap()
    };
    let failed = make(&folder);
    assert!(!failed.status.success());
    let said = stderr(&failed);
    assert_eq!(said.matches("1 of 1 runs failed").count(), 2 * 4, "each twice: {said}");
    assert!(said.contains("4 of 4 runs are not done"), "{said}");
}

#[test]
fn the_last_task_waits_for_runs_and_does_none() {
    let place = tempfile::tempdir().unwrap();
    let folder = here(place.path(), "gather");
    let gather = |more: &[&str]| {
        let mut command = ftk(&["--json", "batch", "plan.toml", "--gather"]);
        command.args(more).current_dir(&folder).output().unwrap()
    };
    let nothing = gather(&[]);
    assert_eq!(nothing.status.code(), Some(2));
    assert!(stderr(&nothing).contains("4 of 4 runs are not done") && result(&folder).0.is_empty());
    let waiting = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| gather(&["--wait", "600"]));
        for part in 0..4 {
            let shard = format!("{part}/4");
            succeed(ftk(&["--quiet", "batch", "plan.toml", "--from-zero", "--shard", &shard]).current_dir(&folder));
        }
        waiting.join().unwrap()
    });
    assert!(waiting.status.success(), "{}", stderr(&waiting));
    assert!(result(&folder) == expected(place.path()));
}

/// What of the published schema of a Job (Kubernetes 1.31, `batch/v1`, as in kubernetes-json-schema's `job-batch-v1.json`)
/// these files use: keys by their path, with what values are.
#[test]
fn what_an_engine_is_told_nothing_by_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let folder = here(place.path(), "idle");
    for (engine, option, value) in [
        ("make", "--minutes", "5"),
        ("make", "--queue", "long"),
        ("ray", "--image", "image"),
        ("slurm", "--claim", "claim"),
    ] {
        let mut command = ftk(&["batch", "plan.toml", "--emit", engine, "--to", "jobs", option, value]);
        let output = command.current_dir(&folder).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        let told = format!("this engine is told nothing by {option}");
        assert!(stderr(&output).contains(&told) && !folder.join("jobs").exists(), "{}", stderr(&output));
    }
    // Nor what is for a batch that works itself.
    for more in [&["--jobs", "2"][..], &["--max-memory", "8G"], &["--wait", "3"], &["--from-zero"]] {
        let mut command = ftk(&["batch", "plan.toml", "--emit", "make", "--to", "jobs"]);
        let output = command.args(more).current_dir(&folder).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        assert!(stderr(&output).contains("cannot be used with"), "{}", stderr(&output));
    }
}

#[test]
fn jobs_of_kubernetes_are_those_of_its_schema() {
    let place = tempfile::tempdir().unwrap();
    let folder = here(place.path(), "kubernetes");
    let more = ["--image", "registry.example/ftk:0.1", "--claim", "runs", "--queue", "team", "--minutes", "30"];
    emit(&folder, "kubernetes", &more);
    let jobs: Value = serde_json::from_str(&std::fs::read_to_string(folder.join("jobs/jobs.json")).unwrap()).unwrap();
    let schema: Value = serde_json::from_str(include_str!("../fixtures/kubernetes/job.json")).unwrap();
    let items = jobs["items"].as_array().unwrap();
    assert_eq!(items.len(), 2);
    for item in items {
        fits(item, &schema, "");
    }
    let spec = &items[0]["spec"];
    assert_eq!(
        (&spec["completions"], &spec["completionMode"], &spec["suspend"]),
        (&json!(4), &json!("Indexed"), &json!(true))
    );
    // The check can fail.
    let mut wrong = items[0].clone();
    wrong["spec"]["template"]["spec"]["containers"][0]["argz"] = json!([]);
    assert!(std::panic::catch_unwind(|| fits(&wrong, &schema, "")).is_err());
    wrong = items[0].clone();
    wrong["spec"]["completions"] = json!("4");
    assert!(std::panic::catch_unwind(|| fits(&wrong, &schema, "")).is_err());
    // Arguments are those that ftk takes.
    for item in items {
        let arguments = item["spec"]["template"]["spec"]["containers"][0]["args"].as_array().unwrap();
        let words = arguments.iter().map(|word| word.as_str().unwrap().replace("$(INDEX)", "0"));
        let words: Vec<String> = std::iter::once("ftk".to_owned()).chain(words).collect();
        assert!(ftk::cli::command().try_get_matches_from(&words).is_ok(), "{words:?}");
    }
}

/// JSON Schema as far as that schema goes: types, properties of which no others are, required ones, items, enumerations.
fn fits(value: &Value, schema: &Value, path: &str) {
    if let Some(kinds) = schema.get("type") {
        let kinds: Vec<&str> = kinds.as_array().map_or_else(
            || vec![kinds.as_str().unwrap()],
            |kinds| kinds.iter().map(|kind| kind.as_str().unwrap()).collect(),
        );
        let own = match value {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Number(number) if number.is_i64() => "integer",
            Value::Number(_) => "number",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        };
        assert!(kinds.contains(&own), "{path}: is {own}, and may be {kinds:?}");
    }
    if let Some(among) = schema["enum"].as_array() {
        assert!(among.contains(value), "{path}: is {value}, and may be {among:?}");
    }
    for name in schema["required"].as_array().into_iter().flatten() {
        assert!(value.get(name.as_str().unwrap()).is_some(), "{path}: lacks {name}");
    }
    if let (Some(object), Some(properties)) = (value.as_object(), schema["properties"].as_object()) {
        for (key, value) in object {
            let schema = properties.get(key).unwrap_or_else(|| panic!("{path}: has no {key}"));
            fits(value, schema, &format!("{path}.{key}"));
        }
    } else if let (Some(object), schema @ Value::Object(_)) = (value.as_object(), &schema["additionalProperties"]) {
        object.iter().for_each(|(key, value)| fits(value, schema, &format!("{path}.{key}")));
    }
    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
        fits(item, &schema["items"], &format!("{path}[{index}]"));
    }
}

#[test]
#[ignore = "needs Slurm, and root to start it: apt-get install --no-install-recommends slurm-wlm munge"]
fn slurm_comes_to_the_same_runs_and_page() {
    let place = tempfile::tempdir().unwrap();
    let expected = expected(place.path());
    let folder = here(place.path(), "slurm");
    emit(&folder, "slurm", &["--minutes", "20"]);
    let mut cluster = with_ftk("bash");
    cluster.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/engines/slurm")).arg(folder.join("jobs/submit.sh"));
    ended(cluster);
    assert!(result(&folder) == expected);
}

#[test]
#[ignore = "needs Ray: pip install ray, with FTK_RAY naming the python that has it"]
fn ray_comes_to_the_same_runs_and_page() {
    let place = tempfile::tempdir().unwrap();
    let expected = expected(place.path());
    let folder = here(place.path(), "ray");
    emit(&folder, "ray", &[]);
    let python = std::env::var("FTK_RAY").unwrap_or_else(|_| "python3".to_owned());
    let mut job = with_ftk(&python);
    job.arg("jobs/ray_job.py").current_dir(&folder).env_remove("RAY_ADDRESS");
    ended(job);
    assert!(result(&folder) == expected);
}
