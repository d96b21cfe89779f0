//! `manifest.json`: what a run was made of and what came out, by digest. It holds no time and no place, so that two
//! runs of one recipe have the same.

use std::path::Path;

use anyhow::{Context, Result};
use ftk_adapters::{atomic, foreign};
use ftk_recipes::Metrics;
use serde_json::{Map, Value, json};

use crate::train::{RunEnd, RunIdentity, Why};

/// File name in the run folder.
pub const MANIFEST: &str = "manifest.json";

/// The digest of the base that a run trained on, if there is a manifest in its folder.
pub(in crate::commands) fn trained_on(folder: &Path) -> Option<blake3::Hash> {
    let text = foreign::read_text(&folder.join(MANIFEST), foreign::DOCUMENT).ok()?;
    blake3::Hash::from_hex(serde_json::from_str::<Value>(&text).ok()?["base"].as_str()?).ok()
}

/// What goes into a run, by digest.
#[derive(Clone)]
pub(in crate::commands) struct RunInputs {
    /// The recipe, but for the places it names.
    recipe: Value,
    /// Everything else, as manifests say it.
    said: Map<String, Value>,
    /// Of everything, and of the first adapter's numbers.
    pub(in crate::commands) identity: RunIdentity,
}

impl RunInputs {
    /// Of a recipe, with what else goes in; `identity` has a digest of all that.
    pub(in crate::commands) fn new(recipe: Value, said: Map<String, Value>, identity: RunIdentity) -> Self {
        Self { recipe, said, identity }
    }

    /// The part of one of several workers, counted from 0.
    pub(super) fn of_worker(mut self, worker: usize, workers: usize) -> Self {
        self.identity = self.identity.of_worker(worker, workers);
        self.said.insert("worker".to_owned(), json!(format!("{}/{workers}", worker + 1)));
        self
    }

    /// What is known of a run before it begins.
    pub(in crate::commands) fn manifest(&self, counts: &Value) -> Map<String, Value> {
        let mut manifest = Map::new();
        let mut say = |name: &str, value: Value| manifest.insert(name.to_owned(), value);
        say("ftk", json!(env!("CARGO_PKG_VERSION")));
        say("arithmetic", json!(self.identity.arithmetic));
        say("run", json!(hex(&self.identity.digest.into())));
        say("recipe", json!(hex(&blake3::hash(self.recipe.to_string().as_bytes()))));
        self.said.iter().for_each(|(name, value)| drop(say(name, value.clone())));
        say("counts", counts.clone());
        manifest
    }

    /// Writes the manifest of a run that begins or, with `ended` and figures on what was kept for testing, of one that
    /// came back.
    ///
    /// # Errors
    /// Files of the result that cannot be read, a folder that cannot be written to.
    pub(super) fn write(
        &self,
        out: &Path,
        counts: &Value,
        result: &[&str],
        ended: Option<(&RunEnd, Option<&Metrics>)>,
    ) -> Result<()> {
        let mut files = Map::new();
        for name in result {
            files.insert((*name).to_owned(), json!(hex(&of_file(&out.join(name))?)));
        }
        let mut manifest = self.manifest(counts);
        let mut say = |name: &str, value: Value| manifest.insert(name.to_owned(), value);
        let root = ended.and_then(|(ended, _)| ended.transcript.as_ref().map(hex));
        let ended = ended.map(|(ended, test)| {
            let mut ended = json!({
                "step": ended.step,
                "early": ended.why == Why::Patience,
                "best": ended.best.map(|(step, figure)| json!({ "step": step, "figure": figure })),
            });
            if let Some(test) = test {
                ended["test"] = figures(test);
            }
            ended
        });
        say("ended", json!(ended));
        say("transcript", json!(root));
        say("result", Value::Object(files));
        let text = serde_json::to_string_pretty(&manifest)? + "\n";
        let path = out.join(MANIFEST);
        atomic::write(&path, text.as_bytes()).with_context(|| format!("cannot write {}", path.display()))
    }
}

/// A digest as manifests have it.
pub(in crate::commands) fn hex(hash: &blake3::Hash) -> String {
    hash.to_hex().to_string()
}

/// Figures by name.
pub(in crate::commands) fn figures(figures: &Metrics) -> Value {
    Value::Object(figures.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect())
}

/// The digest of a file.
///
/// # Errors
/// A file that cannot be read.
pub(in crate::commands) fn of_file(path: &Path) -> Result<blake3::Hash> {
    let mut hasher = blake3::Hasher::new();
    let file = foreign::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    hasher.update_reader(file).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(hasher.finalize())
}
