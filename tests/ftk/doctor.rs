//! What `ftk doctor` finds, and that each problem has its remedy.

use serde_json::Value;

use crate::run::{ftk, stderr};

/// The code and the findings, by what was looked at, where the environment has these values.
fn findings(environment: &[(&str, &str)]) -> (i32, Value) {
    let folder = tempfile::tempdir().unwrap();
    let mut command = ftk(&["doctor", "--json", "--offline"]);
    for name in ["FTK_CACHE", "HF_HOME"] {
        command.env(name, folder.path().join(name));
    }
    command.env("TMPDIR", folder.path()).env_remove("HF_HUB_CACHE").envs(environment.iter().copied());
    let output = command.output().unwrap();
    assert_eq!(stderr(&output), "");
    (output.status.code().unwrap(), serde_json::from_slice(&output.stdout).unwrap())
}

fn finding<'a>(all: &'a Value, what: &str) -> &'a Value {
    let of = |finding: &&Value| finding["what"] == what;
    all["findings"].as_array().unwrap().iter().find(of).unwrap_or_else(|| panic!("{what} is looked at: {all}"))
}

#[test]
fn nothing_is_wrong_with_a_machine_that_runs_tests_and_nothing_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("deep/cache");
    let (code, all) = findings(&[("FTK_CACHE", cache.to_str().unwrap())]);
    assert_eq!((code, &all["problem_count"]), (0, &Value::from(0)), "{all}");
    for what in ["ftk", "processor", "memory", "devices", "temporary", "own cache"] {
        finding(&all, what);
    }
    assert!(finding(&all, "ftk")["says"].as_str().unwrap().contains("ftk-f32-1 and ftk-bf16-2"), "{all}");
    let says = finding(&all, "own cache")["says"].as_str().unwrap();
    assert!(says.starts_with(&format!("{}, made when it is needed", cache.display())), "{says}");
    assert!(!folder.path().join("deep").exists(), "it only looks");
    #[cfg(feature = "hub")]
    assert!(finding(&all, "hub")["says"].as_str().unwrap().ends_with(", not asked: offline"), "{all}");
}

#[test]
fn a_folder_that_cannot_be_written_to_is_a_problem_with_a_remedy() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let below = file.path().join("below");
    let below = below.to_str().unwrap();
    for (variable, what) in [("TMPDIR", "temporary"), ("FTK_CACHE", "own cache"), ("HF_HUB_CACHE", "hub cache")] {
        if what == "hub cache" && !cfg!(feature = "hub") {
            continue;
        }
        let (code, all) = findings(&[(variable, below)]);
        let found = finding(&all, what);
        assert_eq!((code, &found["state"]), (1, &Value::from("problem")), "{all}");
        assert!(found["remedy"].as_str().unwrap().contains(variable), "{found}");
        assert_eq!(all["problem_count"], 1, "{all}");
    }
    let told = ftk(&["doctor", "--offline"]).env("TMPDIR", below).output().unwrap();
    let told = String::from_utf8(told.stdout).unwrap();
    assert!(
        told.contains("problem: ") && told.contains("remedy: name a folder that can be written to in TMPDIR"),
        "{told}"
    );
    assert!(told.trim_end().ends_with("one problem was found"), "{told}");
}
