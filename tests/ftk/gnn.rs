//! Graphs from outside: import, train, score, compare, on the graph that ships with ftk.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::run::{ftk, stderr, succeed};

fn recipe(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes/gnn").join(name)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Trains the recipe of the guilds into a folder.
fn train(out: &Path, settings: &[&str]) -> String {
    let mut command = ftk(&["train", "--quiet", "--recipe", text(&recipe("guilds.toml")), "--out", text(out)]);
    succeed(with(&mut command, settings))
}

/// A command with settings laid over its recipe.
fn with<'a>(command: &'a mut Command, settings: &[&str]) -> &'a mut Command {
    for setting in settings {
        command.args(["--set", *setting]);
    }
    command
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn an_import_says_what_it_found_and_one_graph_has_one_digest() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("g.graph");
    let guilds = recipe("guilds");
    let first = succeed(&mut ftk(&["gnn", "import", text(&guilds), "--out", text(&out)]));
    assert!(
        first.contains("nodes\t240\n") && first.contains("features\t8\n") && first.contains("classes\t4\n"),
        "{first}"
    );
    assert_eq!(succeed(&mut ftk(&["gnn", "import", text(&out)])), first);
    let tables = [guilds.join("nodes.csv"), guilds.join("edges.csv")];
    let [nodes, edges] = tables.each_ref().map(|path| text(path));
    assert_eq!(succeed(&mut ftk(&["gnn", "import", "--nodes", nodes, "--edges", edges])), first);
    // The rows of edges in another order, and the other way round, are the same graph.
    let rows = std::fs::read_to_string(edges).unwrap();
    let mut rows: Vec<String> =
        rows.lines().skip(1).map(|row| row.split(',').rev().collect::<Vec<_>>().join(",")).collect();
    rows.reverse();
    let other = folder.path().join("e.csv");
    std::fs::write(&other, format!("src,dst\n{}\n", rows.join("\n"))).unwrap();
    assert_eq!(succeed(&mut ftk(&["gnn", "import", "--nodes", nodes, "--edges", text(&other)])), first);
    let broken = folder.path().join("b.csv");
    std::fs::write(&broken, "src,dst\nann-0,nobody\n").unwrap();
    let output = ftk(&["gnn", "import", "--nodes", nodes, "--edges", text(&broken)]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("b.csv:2:dst: names no node: nobody\nhint: every end"), "{}", stderr(&output));
}

#[test]
fn a_base_is_trained_adapted_and_asked() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    let said = train(&place("base"), &["gnn.head=linear"]);
    let accuracy: f64 = said.lines().find_map(|line| line.strip_prefix("test_accuracy\t")?.parse().ok()).unwrap();
    assert!(accuracy > 0.6, "a quarter is found by guessing: {accuracy}");
    let base = place("base/base");
    // Asked again, the base does as well as it did; random weights are not asked.
    let guilds = recipe("guilds.toml");
    let eval = |more: &[&str]| ftk(&["eval", "--recipe", text(&guilds)]).args(more).output().unwrap();
    let measured = String::from_utf8(eval(&["--base", text(&base)]).stdout).unwrap();
    let again = measured.lines().find_map(|line| line.strip_prefix("test_accuracy\t")?.parse::<f64>().ok()).unwrap();
    assert!((again - accuracy).abs() < 1e-4, "{again} {accuracy}");
    assert!(measured.contains("validation_macro_f1\t"), "{measured}");
    let refused = stderr(&eval(&[]));
    assert!(refused.contains("the recipe's base is random weights") && refused.contains("--base"), "{refused}");
    let model = format!("base.model={}", base.display());
    let adapter = [
        "base.train=false",
        &model,
        "lora.rank=2",
        "gnn.l2=0",
        "gnn.train_head=true",
        "run.steps=3",
        "run.eval_every=1",
    ];
    train(&place("adapter"), &adapter);
    let mut dry = ftk(&["train", "--dry-run", "--recipe", text(&guilds)]);
    with(&mut dry, &adapter.map(|setting| if setting == "lora.rank=2" { "lora.rank=200" } else { setting }));
    let dry = stderr(&dry.output().unwrap());
    assert!(
        dry.contains("no commitment can be made to this adapter, and nothing be proved of it: rank out of bounds: 200"),
        "{dry}"
    );
    let manifest = json(&place("adapter/manifest.json"));
    // Two convolutions and the head.
    let trained = 2 * (8 + 16) + 2 * (16 + 16) + 4 * 16 + 4;
    assert_eq!(manifest["counts"]["trained_parameters"], trained);
    assert!(manifest["result"]["adapter_model.safetensors"].is_string() && manifest["data"]["root"].is_string());

    let graph = recipe("guilds");
    let score = |adapter: Option<&Path>| {
        let mut command = ftk(&["gnn", "score", "--base", text(&base), "--graph", text(&graph)]);
        if let Some(adapter) = adapter {
            command.args(["--adapter", text(adapter)]);
        }
        succeed(&mut command)
    };
    let measured = eval(&["--base", text(&base), "--adapter", text(&place("adapter"))]);
    let test = &manifest["ended"]["test"]["accuracy"];
    let measured = String::from_utf8(measured.stdout).unwrap();
    assert!(measured.contains(&format!("test_accuracy\t{:.6}", test.as_f64().unwrap())), "{measured} {test}");
    let (plain, adapted) = (score(None), score(Some(&place("adapter"))));
    assert_eq!((plain.lines().count(), adapted.lines().count()), (241, 241));
    assert_ne!(plain, adapted);
    assert!(plain.starts_with("node,class,") && plain.lines().nth(1).unwrap().starts_with("ann-0,"), "{plain}");
    let asked = place("asked.csv");
    std::fs::write(&asked, "node\ncy-3\n").unwrap();
    let one =
        succeed(&mut ftk(&["gnn", "score", "--base", text(&base), "--graph", text(&graph), "--nodes", text(&asked)]));
    let one = one.lines().nth(1).unwrap();
    assert!(plain.contains(one) && one.starts_with("cy-3,"), "{one}");
    let output = ftk(&["gnn", "score", "--base", text(&base), "--graph", text(&graph), "--pairs", text(&asked)])
        .output()
        .unwrap();
    assert!(stderr(&output).contains("the base does not score pairs\nhint: give --nodes"), "{}", stderr(&output));
}

#[test]
fn a_run_gives_the_same_bytes_at_every_number_of_threads_and_after_a_stop() {
    let folder = tempfile::tempdir().unwrap();
    let run = |name: &str, threads: &str| {
        let out = folder.path().join(name);
        let mut command = ftk(&["train", "--quiet", "--recipe", text(&recipe("guilds.toml")), "--out", text(&out)]);
        succeed(command.args(["--set", "run.steps=8", "--set", "gnn.network=sage"]).env("RAYON_NUM_THREADS", threads));
        ["base/model.safetensors", "metrics.jsonl", "manifest.json"].map(|file| std::fs::read(out.join(file)).unwrap())
    };
    assert_eq!(run("one", "1"), run("three", "3"));
}

#[test]
fn preferences_between_classes_move_the_chosen_ones_up() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    train(&place("base"), &["run.steps=3"]);
    let lines: String = (0..8)
        .map(|i| {
            format!(
                "{{\"node\": \"{}-{}\", \"chosen\": \"weavers\", \"rejected\": \"bakers\"}}\n",
                ["ann", "bea"][i % 2],
                i / 2
            )
        })
        .collect();
    std::fs::write(place("f.jsonl"), lines).unwrap();
    let model = format!("base.model={}", place("base/base").display());
    let feedback = format!("gnn.feedback={}", place("f.jsonl").display());
    let settings = [
        "base.train=false",
        &model,
        "lora.rank=4",
        "gnn.l2=0",
        "gnn.objective=feedback",
        &feedback,
        "gnn.dropout=0",
        "run.best=eval_loss",
        "run.steps=20",
        "dpo.beta=1.0",
    ];
    let mut command =
        ftk(&["train", "--json", "--quiet", "--recipe", text(&recipe("guilds.toml")), "--out", text(&place("dpo"))]);
    with(&mut command, &settings);
    let output = command.output().unwrap();
    // No preference is about a node to validate on.
    let refused = stderr(&output);
    assert!(
        refused.contains("run.best chooses by what is validated on, and there is nothing\nhint: give"),
        "{refused}"
    );
    let settings = settings.map(|setting| if setting == "run.best=eval_loss" { "run.eval_every=0" } else { setting });
    drop(std::fs::remove_dir_all(place("dpo")));
    let text_of = std::fs::read_to_string(recipe("guilds.toml")).unwrap().replace("best = \"eval_accuracy\"\n", "");
    let own = place("own.toml");
    std::fs::write(&own, text_of.replace("\"guilds\"", &format!("{:?}", text(&recipe("guilds"))))).unwrap();
    let mut command = ftk(&["train", "--json", "--quiet", "--recipe", text(&own), "--out", text(&place("dpo"))]);
    with(&mut command, &settings);
    let steps: Vec<Value> = succeed(&mut command).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let losses: Vec<f64> = steps.iter().filter_map(|step| step["loss"].as_f64()).collect();
    assert!((losses[0] - 2.0f64.ln()).abs() < 1e-6 && losses[19] < 0.6, "{losses:?}");
}

#[test]
fn what_a_recipe_for_graphs_must_not_say_is_refused_by_key() {
    let refused = |settings: &[&str]| {
        let mut command = ftk(&["train", "--dry-run", "--recipe", text(&recipe("guilds.toml"))]);
        with(&mut command, settings);
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        stderr(&output)
    };
    for (setting, said) in [
        ("gnn.layers=0", "--set gnn.layers: must be from 1 to 8"),
        ("gnn.dropout=1.0", "--set gnn.dropout: must lie in [0, 1)"),
        ("gnn.objektive=classes", "unknown key: objektive\nhint: did you mean objective?"),
        ("gnn.train_head=true", "--set gnn.train_head: is for training beside an adapter"),
        ("base.train=false", "must be true where there is no [lora] section"),
        ("data.held_out=x", "--set data.held_out: is for other tasks; a graph has a split"),
        ("run.best=eval_rewards/margins", "must be \"eval_loss\" or \"eval_accuracy\" for task \"gnn\""),
        ("task=sft", "gnn.objective: is for task \"gnn\""),
        ("run.precision=bf16", "--set run.precision: is for task \"sft\" or task \"dpo\""),
        ("dpo.loss=ipo", "--set dpo.loss: is for objective = \"feedback\""),
    ] {
        let error = refused(&[setting]);
        assert!(error.contains(said), "{setting}: {error}");
    }
    for (command, instead) in
        [(&["estimate"][..], "ftk train --dry-run"), (&["data", "preview"], "ftk gnn import GRAPH")]
    {
        let output = ftk(command).args(["--recipe", text(&recipe("guilds.toml"))]).output().unwrap();
        let said = format!("task \"gnn\" has no rows of text\nhint: {instead}");
        assert!(stderr(&output).contains(&said), "{}", stderr(&output));
    }
}

#[test]
fn the_comparison_has_a_row_for_every_way() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    train(&place("base"), &["gnn.head=linear", "run.steps=10"]);
    let model = format!("base.model={}", place("base/base").display());
    let mut command = ftk(&[
        "gnn",
        "ablate",
        "--quiet",
        "--recipe",
        text(&recipe("guilds.toml")),
        "--seeds",
        "2",
        "--out",
        text(&place("runs")),
    ]);
    let settings = ["base.train=false", &model, "lora.rank=2", "gnn.l2=0", "run.steps=6"];
    with(&mut command, &settings);
    let table = succeed(&mut command);
    let names: Vec<&str> = table.lines().skip(2).map(|line| line.split('|').nth(1).unwrap().trim()).collect();
    let expected = [
        "majority",
        "label propagation",
        "logistic regression",
        "the same, propagated",
        "base as it is",
        "head alone",
        "LoRA",
        "all weights",
        "from scratch",
    ];
    assert_eq!(names, expected, "{table}");
    assert!(table.lines().nth(7).unwrap().contains(" ± "), "{table}");
}
