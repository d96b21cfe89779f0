//! Recipes that come with the command, what it says about recipes, and what it counts before it trains.

use std::path::Path;
use std::process::{Command, Output};

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
    let dpo = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes/text/dpo.toml")).unwrap();
    let listed = succeed(&mut ftk(&["recipes", "ls"]));
    assert!(listed.starts_with("dpo\tDirect preference optimisation"), "{listed}");
    let plan = listed.lines().find(|line| line.starts_with("defi/quoter\t")).expect("plans are listed, too");
    assert!(plan.ends_with("For ftk defi backtest."), "{plan}");
    let plan = listed.lines().find(|line| line.starts_with("defi/btc\t")).expect("those without their market, too");
    assert!(plan.ends_with("For ftk defi backtest, which needs btc.market."), "{plan}");
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
    let (graphs, texts): (Vec<_>, Vec<_>) = ftk_recipes::BUILTIN.iter().partition(|file| file.name.contains('/'));
    let known: Vec<&str> = texts.into_iter().chain(graphs).chain(ftk_defi::PLANS).map(|builtin| builtin.name).collect();
    let known = format!("there are: {}", known.join(", "));
    for name in ["defi/quoter", "quoter"] {
        let checked = succeed(&mut ftk(&["--json", "recipes", "check", name, "--set", "walk.windows=9"]));
        let checked: Value = serde_json::from_str(&checked).unwrap();
        assert_eq!((&checked["file"], &checked["plan"]["walk"]["windows"]), (&name.into(), &9.into()));
        assert_eq!(succeed(&mut ftk(&["recipes", "show", name])), quoter);
    }
    for name in ["gnn/guilds", "guilds"] {
        let checked = succeed(ftk(&["--json", "recipes", "check", name]).env("FTK_CACHE", folder.path().join("cache")));
        let checked: Value = serde_json::from_str(&checked).unwrap();
        assert_eq!(checked["recipe"]["task"], "gnn", "{name}");
    }
    let misspelt = ["defi", "backtest", "quotr", "--out", "run"];
    let says = stderr(&ftk(&misspelt).current_dir(folder.path()).output().unwrap());
    assert!(
        says.starts_with("error: quotr: cannot read the plan: ") && says.contains("did you mean defi/quoter?"),
        "{says}"
    );
    let misspelt = ftk(&["recipes", "cp", "quotr", "other.toml"]).current_dir(folder.path()).output().unwrap();
    refused(&misspelt, "no recipe has this name: quotr", &format!("did you mean defi/quoter? {known}"));
    let typo = ftk(&["recipes", "check", plan, "--set", "walk.window=9"]).output().unwrap();
    refused(&typo, "--set walk.window: unknown key: window", "did you mean windows?");

    let unknown = ftk(&["recipes", "show", "ppo"]).output().unwrap();
    refused(&unknown, "no recipe has this name: ppo", &format!("did you mean dpo? {known}"));
    let typo = ftk(&["recipes", "check", file, "--set", "run.bach=3"]).output().unwrap();
    refused(&typo, "--set run.bach: unknown key: bach", "did you mean batch?");
}

/// The command in a folder, with a cache of its own beside what is in there.
fn within(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = ftk(arguments);
    command.current_dir(folder.join("here")).env("FTK_CACHE", folder.join("cache"));
    command
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_recipe_runs_by_its_name_in_an_empty_folder() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    std::fs::create_dir(folder.join("here")).unwrap();
    let run = |arguments: &[&str]| within(folder, arguments).output().unwrap();
    succeed(&mut within(folder, &["train", "kto", "--set", "run.steps=1"]));
    assert_eq!(
        (names(&folder.join("here")), names(folder)),
        (vec!["runs".to_owned()], ["cache", "here"].map(str::to_owned).into())
    );
    assert!(folder.join("here/runs/kto/adapter_model.safetensors").is_file());
    // What a run says of itself is a recipe that runs.
    let again = folder.join("here/runs/kto/recipe.toml");
    succeed(&mut within(folder, &["train", "--dry-run", again.to_str().unwrap(), "--out", "runs/again"]));
    // Rows in the cache that are not those that ship are made anew.
    let digest = names(&folder.join("cache/rows")).remove(0);
    let rows = folder.join("cache/rows").join(digest).join("village/kto.jsonl");
    let whole = std::fs::read(&rows).unwrap();
    std::fs::write(&rows, b"{}").unwrap();
    succeed(&mut within(folder, &["train", "--dry-run", "kto", "--out", "again"]));
    assert!(std::fs::read(&rows).unwrap() == whole);
    // Graphs are folders of rows, and every verb that takes a recipe takes a name.
    succeed(&mut within(folder, &["train", "--dry-run", "gnn/guilds"]));
    succeed(&mut within(folder, &["data", "preview", "orpo", "--rows", "1"]));
    succeed(&mut within(folder, &["estimate", "sft"]));
    succeed(&mut within(folder, &["eval", "sft"]));
    succeed(&mut within(folder, &["recipes", "check", "simpo"]));
    // Rows that the user brings are looked for here.
    let output = run(&["train", "--dry-run", "smollm2-dpo", "--set", "base.model=village"]);
    assert!(stderr(&output).starts_with("error: pairs.jsonl: "), "{}", stderr(&output));
    // Held-out rows go with the rows they were held out of.
    let held_out = |settings: &[&str]| {
        let mut command = within(folder, &["train", "--dry-run", "--json", "sft", "--out", "again"]);
        command.args(settings.iter().flat_map(|setting| ["--set", setting]));
        serde_json::from_str::<Value>(&succeed(&mut command)).unwrap()["recipe"]["data"]["held_out"].clone()
    };
    std::fs::write(folder.join("here/own.jsonl"), &whole).unwrap();
    assert!(held_out(&[]).as_str().is_some_and(|path| path.ends_with("village/heldout-sft.jsonl")));
    let own = ["data.train=own.jsonl", "data.columns=[\"prompt\", \"completion\"]"];
    assert_eq!(held_out(&own), Value::Null);
    assert_eq!(held_out(&[own[0], own[1], "data.held_out=own.jsonl"]), "own.jsonl");
    // A file comes before a name.
    std::fs::write(folder.join("here/dpo"), "task = 1").unwrap();
    assert!(stderr(&run(&["train", "dpo"])).starts_with("error: dpo:1: "), "{}", stderr(&run(&["train", "dpo"])));
    let hint = "hint: give the path of a recipe file (TOML), or a name from `ftk recipes ls`; did you mean orpo?\n";
    assert!(stderr(&run(&["train", "orp"])).ends_with(hint), "{}", stderr(&run(&["train", "orp"])));
    // Without a place for them there are no rows.
    let mut command = within(folder, &["train", "--dry-run", "kto", "--out", "again"]);
    let output = command.env("FTK_CACHE", folder.join("here/dpo")).output().unwrap();
    assert!(stderr(&output).contains("village/kto.jsonl: cannot write the recipe's rows: "), "{}", stderr(&output));
    assert!(stderr(&output).contains("\nhint: name a folder for them in FTK_CACHE"), "{}", stderr(&output));
}

#[test]
fn a_copied_recipe_has_its_rows_beside_it_and_runs_there() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    std::fs::create_dir(folder.join("here")).unwrap();
    let copy = |name: &str, file: &str| within(folder, &["recipes", "cp", name, file]).output().unwrap();
    let copied: Value =
        serde_json::from_str(&succeed(&mut within(folder, &["--json", "recipes", "cp", "dpo", "a/mine.toml"])))
            .unwrap();
    let rows = ["a/village/dpo.jsonl", "a/village/heldout.jsonl"];
    assert_eq!(copied, serde_json::json!({ "file": "a/mine.toml", "row_files": rows }));
    succeed(&mut within(folder, &["train", "a/mine.toml", "--set", "run.steps=1"]));
    assert!(folder.join("here/a/runs/dpo/adapter_model.safetensors").is_file());
    assert_eq!((names(folder), names(&folder.join("here"))), (vec!["here".to_owned()], vec!["a".to_owned()]));
    // The folder of rows is no base, though it has the name of one.
    assert!(succeed(&mut within(folder, &["recipes", "cp", "kto", "kto.toml", "--quiet"])).is_empty());
    assert!(folder.join("here/village").is_dir());
    succeed(&mut within(folder, &["train", "--dry-run", "kto.toml"]));
    std::fs::remove_dir_all(folder.join("here/village")).unwrap();
    std::fs::remove_file(folder.join("here/kto.toml")).unwrap();
    // Rows that are the same serve both; others are not written over, and then nothing is written.
    let output = copy("orpo", "a/other.toml");
    assert!(output.status.success(), "{}", stderr(&output));
    std::fs::write(folder.join("here/a/village/heldout.jsonl"), "{}").unwrap();
    refused(&copy("simpo", "a/third.toml"), "a/village/heldout.jsonl: is there already", "choose another file");
    assert!(!folder.join("here/a/third.toml").exists());
    let output = copy("gnn/guilds", "town.toml");
    assert!(
        stderr(&output).starts_with("wrote town.toml, guilds/edges.csv, guilds/nodes.csv; "),
        "{}",
        stderr(&output)
    );
    succeed(&mut within(folder, &["train", "--dry-run", "town.toml"]));
}

#[test]
fn what_is_typed_is_relative_to_where_it_is_typed() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    std::fs::create_dir(folder.join("here")).unwrap();
    succeed(&mut within(folder, &["recipes", "cp", "sft", "../there/mine.toml"]));
    std::fs::copy(folder.join("there/village/sft.jsonl"), folder.join("here/own.jsonl")).unwrap();
    let shown = |settings: &[&str]| -> Value {
        let mut command = within(folder, &["train", "--dry-run", "--json", "../there/mine.toml"]);
        command.args(settings.iter().flat_map(|setting| ["--set", setting]));
        serde_json::from_str::<Value>(&succeed(&mut command)).unwrap()["recipe"].clone()
    };
    let recipe = shown(&["data.train=own.jsonl", "run.out=runs/own"]);
    assert_eq!(recipe["data"]["train"], "own.jsonl");
    assert_eq!(recipe["data"]["held_out"], "../there/village/heldout-sft.jsonl");
    assert_eq!(recipe["run"]["out"], "runs/own");
    assert_eq!(shown(&["run.seed=1"])["run"]["out"], "../there/runs/sft");
    // A whole table of the recipe, laid over it, was typed, too.
    let recipe = shown(&["data={ train = \"own.jsonl\" }"]);
    assert_eq!(
        (&recipe["data"]["train"], &recipe["data"]["held_out"]),
        (&"own.jsonl".into(), &"../there/village/heldout-sft.jsonl".into())
    );
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
