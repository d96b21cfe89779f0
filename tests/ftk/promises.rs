//! The recipes that ship with ftk do what their first lines say, on the base that ships with it.

use std::path::{Path, PathBuf};

use candle_core::Device;
use ftk_adapters::peft;
use ftk_adapters::train::LoraTensors;
use ftk_bases::BaseModel;
use ftk_recipes::{Data, Recipe};
use ftk_text::examples::Examples;
use ftk_text::load::{DatasetKind, load};
use ftk_text::preferred::preferred;
use serde_json::Value;

use crate::run::{ftk, stderr, succeed};

fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes/text").join(name)
}

/// To how many of 100 prompts that no recipe of the village learns from the greedy answer is the courteous and true
/// one, token for token: without an adapter, and with each of some.
fn courteous(adapters: &[PathBuf]) -> Vec<usize> {
    let source = BaseModel::open(Path::new("village")).unwrap();
    let file = shipped("village/heldout.jsonl");
    let loaded = load(&source, &Data::new(file.clone()), DatasetKind::Pairs, &file).unwrap();
    let Examples::Dpo(choices) = loaded.rows else { panic!("pairs") };
    let pairs = choices.concat();
    assert_eq!(pairs.len(), 100);
    let weights = source.weights(&Device::Cpu).unwrap();
    let rate = |adapter: Option<&LoraTensors>| {
        preferred(source.network(), &weights, adapter, &pairs, &source.special().stop).unwrap()
    };
    let with = |folder: &PathBuf| rate(Some(&LoraTensors::frozen(&peft::load(folder).unwrap(), &Device::Cpu).unwrap()));
    std::iter::once(rate(None)).chain(adapters.iter().map(with)).collect()
}

#[test]
fn every_recipe_for_the_village_makes_its_answers_courteous() {
    let folder = tempfile::tempdir().unwrap();
    let names = ["sft", "dpo", "orpo", "simpo", "kto"];
    let runs = names.map(|name| {
        let out = folder.path().join(name);
        succeed(ftk(&["--quiet", "train", name, "--out"]).arg(&out));
        // What the recipe names is enough to measure the run.
        if Recipe::load(Path::new(name)).unwrap().data.held_out.is_some() {
            let figures = succeed(ftk(&["eval", "--json", name, "--adapter"]).arg(&out));
            let figures: Value = serde_json::from_str(&figures).unwrap();
            assert!(figures["figures"]["loss"].as_f64().unwrap() < 1.0, "{figures}");
        }
        out
    });
    let rates = courteous(&runs);
    assert_eq!(rates[0], 38, "the base");
    for (name, rate) in names.iter().zip(&rates[1..]) {
        assert!(*rate >= 95, "{name}: {rate} of 100");
    }
}

#[test]
fn conversations_scored_as_a_whole_are_named_where_others_say_most_of_them() {
    let says = |settings: &[&str]| {
        let mut command = ftk(&["train", "--dry-run"]);
        command.arg(shipped("sft.toml")).args(settings.iter().flat_map(|setting| ["--set", setting]));
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    let (hint, file) = ("% of what is said in them is not the assistant's: data.loss = \"assistant\"", "sft.jsonl: ");
    let whole = says(&["data.loss=completion"]);
    let line = whole.lines().find(|line| line.contains(hint)).unwrap_or_else(|| panic!("{whole}"));
    assert!(line.contains(file) && line.contains("53 %"), "{line}");
    for silent in [&[][..], &["data.loss=all"]] {
        let says = says(silent);
        assert!(!says.contains(hint), "{says}");
    }
}

#[test]
fn the_rows_of_recipes_for_bases_on_the_hub_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let rows = folder.path().join("pairs.jsonl");
    std::fs::copy(shipped("village/dpo.jsonl"), &rows).unwrap();
    let own = format!("data.train={}", rows.display());
    for (name, more) in [("smollm2-identity", None), ("smollm2-dpo", Some(&own))] {
        let mut command = ftk(&["train", "--dry-run", "--json", "--set", "base.model=village"]);
        command.arg(shipped(&format!("{name}.toml"))).args(more.iter().flat_map(|setting| ["--set", setting]));
        let shown: Value = serde_json::from_str(&succeed(&mut command)).unwrap();
        let train = &shown["counts"]["train"];
        assert!(train["rows"].as_u64().unwrap() >= 50 && train["dropped"] == 0 && train["cut"] == 0, "{name}: {train}");
    }
}
