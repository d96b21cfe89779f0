//! Recipes that come with the command, what it says about recipes, and what it counts before it trains.

use std::path::Path;
use std::process::Output;

use serde_json::Value;

use crate::resume::{STEPS, recipe};
use crate::run::{ftk, stderr, succeed};

fn refused(output: &Output, error: &str, hint: &str) {
    assert_eq!(output.status.code(), Some(2), "{}", stderr(output));
    assert_eq!(stderr(output), format!("error: {error}\nhint: {hint}\n"));
}

#[test]
fn a_recipe_is_listed_shown_copied_once_and_checked() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mine.toml");
    let file = file.to_str().unwrap();
    let dpo = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes/dpo.toml")).unwrap();
    let listed = succeed(&mut ftk(&["recipes", "ls"]));
    assert!(listed.starts_with("dpo\tDirect preference optimisation"), "{listed}");
    let plan = listed.lines().find(|line| line.starts_with("defi/quoter\t")).expect("plans are listed, too");
    assert!(plan.ends_with("For ftk defi backtest --plan."), "{plan}");
    let plan = listed.lines().find(|line| line.starts_with("defi/btc\t")).expect("those without their market, too");
    assert!(plan.ends_with("For ftk defi backtest --plan, which needs btc.market."), "{plan}");
    let backtest = ["defi", "backtest", "--plan", "defi/btc", "--out", "run"];
    let output = ftk(&backtest).current_dir(folder.path()).output().unwrap();
    assert!(output.status.code() == Some(2) && !folder.path().join("run").exists(), "{}", stderr(&output));
    let says = stderr(&output);
    assert!(says.starts_with("error: btc.market: the plan's market is not there\nhint: make it with"), "{says}");
    let quoter =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes/defi/quoter.toml")).unwrap();
    assert_eq!(succeed(&mut ftk(&["recipes", "show", "defi/quoter"])), quoter);
    assert_eq!(succeed(&mut ftk(&["recipes", "show", "dpo"])), dpo);
    let shown: Value = serde_json::from_str(&succeed(&mut ftk(&["--json", "recipes", "show", "dpo"]))).unwrap();
    assert_eq!(shown["text"], dpo);

    succeed(&mut ftk(&["recipes", "cp", "dpo", file]));
    assert_eq!(std::fs::read_to_string(file).unwrap(), dpo);
    std::fs::write(file, dpo.replace("seed = 42", "seed = 43")).unwrap();
    let again = ftk(&["recipes", "cp", "dpo", file]).output().unwrap();
    refused(&again, &format!("{file}: is there already"), "choose another file");
    let checked = succeed(&mut ftk(&["--json", "recipes", "check", file, "--set", "run.batch=3"]));
    let checked: Value = serde_json::from_str(&checked).unwrap();
    assert_eq!((&checked["recipe"]["run"]["seed"], &checked["recipe"]["run"]["batch"]), (&43.into(), &3.into()));

    let plan = folder.path().join("plan.toml");
    let plan = plan.to_str().unwrap();
    succeed(&mut ftk(&["recipes", "cp", "defi/quoter", plan]));
    let checked = succeed(&mut ftk(&["--json", "recipes", "check", plan, "--set", "walk.windows=9"]));
    let checked: Value = serde_json::from_str(&checked).unwrap();
    assert_eq!(checked["plan"]["walk"]["windows"], 9);
    let typo = ftk(&["recipes", "check", plan, "--set", "walk.window=9"]).output().unwrap();
    refused(&typo, "--set walk.window: unknown key: window", "did you mean windows?");

    let unknown = ftk(&["recipes", "show", "ppo"]).output().unwrap();
    let known: Vec<&str> = ftk_recipes::BUILTIN.iter().chain(ftk_recipes::PLANS).map(|builtin| builtin.name).collect();
    refused(&unknown, "no recipe has this name: ppo", &format!("there are: {}", known.join(", ")));
    let typo = ftk(&["recipes", "check", file, "--set", "run.bach=3"]).output().unwrap();
    refused(&typo, "--set run.bach: unknown key: bach", "did you mean batch?");
}

#[test]
fn the_schema_is_json() {
    let schema: Value = serde_json::from_str(&succeed(&mut ftk(&["schema"]))).unwrap();
    assert_eq!(schema["title"], "Recipe");
    for (task, title) in [("text", "Recipe"), ("gnn", "Recipe"), ("defi", "Plan")] {
        let schema: Value = serde_json::from_str(&succeed(&mut ftk(&["schema", task]))).unwrap();
        assert_eq!(schema["title"], title);
    }
    let unknown = ftk(&["schema", "ppo"]).output().unwrap();
    refused(&unknown, "no task has this name: ppo", "there are: text, gnn, defi");
    let line: Value = serde_json::from_str(&succeed(&mut ftk(&["--json", "schema"]))).unwrap();
    assert_eq!(line, schema);
}

#[test]
fn a_dry_run_checks_and_counts_and_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    recipe(folder.path(), "");
    let file = folder.path().join("recipe.toml");
    let dry = |settings: &[&str], json: bool| {
        let mut command = ftk(&["train", "--dry-run", "--recipe", file.to_str().unwrap()]);
        command.args(settings.iter().flat_map(|setting| ["--set", setting])).args(json.then_some("--json"));
        command.output().unwrap()
    };
    let output = dry(&["lora.targets=[\"q_proj\"]"], true);
    assert!(output.status.success(), "{}", stderr(&output));
    let object: Value = serde_json::from_slice(&output.stdout).unwrap();
    let counts = &object["counts"];
    assert_eq!(counts["steps"], STEPS);
    // Rows of 12 to 16 ids, of which all but the first are scored.
    for (key, count) in [("rows", 50), ("tokens", 700), ("scored", 650), ("cut", 0), ("unscored", 0), ("longest", 16)] {
        assert_eq!(counts["train"][key], count, "{key}");
    }
    // Rank 4 beside square projections.
    let (sites, hidden) = (counts["adapted_sites"].as_u64().unwrap(), 64);
    assert!(sites > 0);
    assert_eq!(counts["trained_parameters"], sites * 4 * 2 * hidden);
    assert!(counts["memory"].as_u64().unwrap() > 4 * counts["base_parameters"].as_u64().unwrap());

    // For a person: a recipe that can be run, with the counts as comments.
    let output = dry(&["run.seed=5"], false);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains(&format!("# steps: {STEPS}\n")) && text.contains("seed = 5"), "{text}");
    std::fs::write(folder.path().join("resolved.toml"), text).unwrap();
    succeed(ftk(&["recipes", "check"]).arg(folder.path().join("resolved.toml")));

    // What is wrong is found as in a run.
    let output = dry(&["lora.targets=[\"x_proj\"]"], false);
    assert!(stderr(&output).starts_with("error: lora.targets names no linear layer of this base: x_proj\nhint: "));
    let output = dry(&["data.max_length=2", "data.train=no.jsonl"], false);
    assert_eq!(output.status.code(), Some(2));
    assert!(!folder.path().join("out").exists(), "something was written");
}
