//! `manifest.json`: what a run was made of and what came out, by digest. It holds no time and no place, so that two
//! runs of one recipe have the same.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use ftk_adapters::foreign;
use ftk_adapters::lora::Adapter;
use ftk_adapters::{atomic, peft};
use ftk_networks::digest::BaseDigest;
use ftk_recipes::Recipe;
use serde_json::{Value, json};

use super::plan::Counts;
use crate::train::{Ended, Identity, Why};

/// File name in the run folder.
pub const MANIFEST: &str = "manifest.json";

/// What goes into a run, by digest.
pub(super) struct Inputs {
    recipe: Value,
    pub(super) base: BaseDigest,
    train: blake3::Hash,
    held_out: Option<blake3::Hash>,
    start: Option<blake3::Hash>,
    /// Of everything, and of the first adapter's numbers.
    pub(super) identity: Identity,
}

impl Inputs {
    /// Hashes recipe (but for the places it names), rows, base and first adapter.
    ///
    /// # Errors
    /// Files that cannot be read.
    pub(super) fn new(recipe: &Recipe, base: BaseDigest, begin: Option<&Adapter>, arithmetic: String) -> Result<Self> {
        let train = of_file(&recipe.data.train)?;
        let held_out = recipe.data.held_out.as_deref().map(of_file).transpose()?;
        let start = recipe.lora.as_ref().and_then(|lora| lora.start.as_ref());
        let start = start.map(|folder| of_file(&folder.join(peft::FACTORS))).transpose()?;

        let mut hash = blake3::Hasher::new_derive_key("ftk training run");
        hash.update(&(arithmetic.len() as u64).to_le_bytes()).update(arithmetic.as_bytes());
        hash.update(train.as_bytes());
        if let Some(digest) = &held_out {
            hash.update(digest.as_bytes());
        }
        let recipe = without_places(recipe);
        let text = recipe.to_string();
        hash.update(&(text.len() as u64).to_le_bytes()).update(text.as_bytes()).update(&base.0);
        for (site, factors) in begin.iter().flat_map(|begin| &begin.sites) {
            hash.update(site.as_bytes()).update(&factors.scale.to_le_bytes());
            for value in factors.a.iter().chain(&factors.b) {
                hash.update(&value.to_le_bytes());
            }
        }
        let identity = Identity { digest: *hash.finalize().as_bytes(), arithmetic };
        Ok(Self { recipe, base, train, held_out, start, identity })
    }

    /// Writes the manifest of a run that begins or, with `ended`, of one that came back.
    ///
    /// # Errors
    /// Files of the result that cannot be read, a folder that cannot be written to.
    pub(super) fn write(&self, out: &Path, counts: &Counts, result: &[&str], ended: Option<&Ended>) -> Result<()> {
        let hex = |hash: &blake3::Hash| hash.to_hex().to_string();
        let mut files = serde_json::Map::new();
        for name in result {
            files.insert((*name).to_owned(), json!(hex(&of_file(&out.join(name))?)));
        }
        let manifest = json!({
            "ftk": env!("CARGO_PKG_VERSION"),
            "arithmetic": self.identity.arithmetic,
            "run": hex(&self.identity.digest.into()),
            "recipe": hex(&blake3::hash(self.recipe.to_string().as_bytes())),
            "base": self.base.to_string(),
            "data": { "train": hex(&self.train), "held_out": self.held_out.as_ref().map(hex) },
            "start": self.start.as_ref().map(hex),
            "counts": counts.json(),
            "ended": ended.filter(|ended| ended.why != Why::Stopped).map(|ended| json!({
                "step": ended.step,
                "early": ended.why == Why::Patience,
                "best": ended.best.map(|(step, figure)| json!({ "step": step, "figure": figure })),
            })),
            "result": files,
        });
        let text = serde_json::to_string_pretty(&manifest)? + "\n";
        let path = out.join(MANIFEST);
        atomic::write(&path, text.as_bytes()).with_context(|| format!("cannot write {}", path.display()))
    }
}

pub(super) fn of_file(path: &Path) -> Result<blake3::Hash> {
    let mut hasher = blake3::Hasher::new();
    let file = foreign::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    hasher.update_reader(file).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(hasher.finalize())
}

/// The recipe as far as it decides what is computed: content counts, not where it lies or how often it is saved.
pub(super) fn without_places(recipe: &Recipe) -> Value {
    let mut recipe = recipe.clone();
    recipe.run.out = PathBuf::new();
    recipe.base.model = PathBuf::new();
    recipe.data.train = PathBuf::new();
    recipe.data.held_out = recipe.data.held_out.map(|_| PathBuf::new());
    if let Some(lora) = &mut recipe.lora {
        lora.start = lora.start.as_ref().map(|_| PathBuf::new());
    }
    if let Some(gnn) = &mut recipe.gnn {
        gnn.feedback = gnn.feedback.as_ref().map(|_| PathBuf::new());
    }
    recipe.run.save_every = 0;
    // How it is computed does not matter either.
    (recipe.run.recompute, recipe.base.hold) = Default::default();
    json!(recipe)
}
