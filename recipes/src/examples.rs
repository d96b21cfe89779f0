//! The example recipes of text, and the copy of one in the manual, kept true.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::{Recipe, Selector, Task};

/// Keys only a base trained in full has; the examples train adapters.
const FULL_TRAINING: [&str; 3] = ["base.train", "base.init_std", "base.save_dtype"];
/// Keys only supervised fine-tuning has, shown in its example.
const SFT: [&str; 2] = ["data.loss", "data.packing"];
/// Keys that stand in for others, shown in comments.
const ALTERNATIVES: [&str; 7] = [
    "base.name",
    "lora.alpha_pattern.v_proj",
    "lora.exclude",
    "lora.layers",
    "lora.rank_pattern.v_proj",
    "lora.start",
    "run.steps",
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("text")
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Dotted names of the values in a document.
fn keys(document: &str) -> BTreeSet<String> {
    fn walk(prefix: &str, table: &toml::Table, keys: &mut BTreeSet<String>) {
        for (name, value) in table {
            match value {
                toml::Value::Table(inner) => walk(&format!("{prefix}{name}."), inner, keys),
                _ => {
                    keys.insert(format!("{prefix}{name}"));
                }
            }
        }
    }
    let mut keys = BTreeSet::new();
    walk("", &document.parse().unwrap(), &mut keys);
    keys
}

#[test]
fn the_examples_are_recipes_whose_rows_exist() {
    for (name, task) in [("sft.toml", Task::Sft), ("dpo.toml", Task::Dpo)] {
        let recipe = Recipe::load(&folder().join(name)).unwrap();
        assert_eq!(recipe.task, task, "{name}");
        let rows: Vec<PathBuf> = std::iter::once(recipe.data.train).chain(recipe.data.held_out).collect();
        rows.iter().for_each(|path| assert!(path.is_file(), "{name}: {}", path.display()));
    }
}

#[test]
fn the_preference_example_shows_every_key() {
    let path = folder().join("dpo.toml");
    let mut recipe = Recipe::load(&path).unwrap();
    // What is absent is not written, so every optional value is set.
    recipe.base.init_std = Some(0.02);
    recipe.base.name = Some("org/name".to_owned());
    recipe.run.steps = Some(1);
    let lora = recipe.lora.as_mut().unwrap();
    lora.start = Some(PathBuf::from("adapter"));
    lora.exclude = Some(Selector::Names(vec!["down_proj".to_owned()]));
    lora.layers = Some(vec![4]);
    lora.rank_pattern = [("v_proj".to_owned(), 16)].into();
    lora.alpha_pattern = [("v_proj".to_owned(), 32.0)].into();
    let mut known = keys(&toml::to_string(&recipe).unwrap());
    let shown = keys(&text(&folder().join("sft.toml")));
    SFT.iter().for_each(|key| assert!(shown.contains(*key), "not in sft.toml: {key}"));
    for key in FULL_TRAINING.iter().chain(&ALTERNATIVES).chain(&SFT) {
        assert!(known.remove(*key), "no such key: {key}");
    }
    assert_eq!(keys(&text(&path)), known);
}

#[test]
fn the_manual_shows_the_preference_example() {
    let shown = format!("```toml\n{}```\n", text(&folder().join("dpo.toml")));
    assert!(text(&folder().join("README.md")).contains(&shown), "README.md: differs from recipes/text/dpo.toml");
}
