//! A run's folder, by content: what it is called, and what is done in it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};
use blake3::{Hash, Hasher};
use ftk_adapters::{atomic, foreign};
use ftk_bases::SHIPPED;
use ftk_networks::texts::TOOL_TEMPLATE;
use ftk_recipes::Recipe;
use serde_json::{Map, Value, json};

use super::super::run::done::STAGES;
use super::super::run::manifest::{hex, of_file};
use super::stage::RunStage;
use crate::train::{Lock, TrainError};

/// File name of the lock of the batch that makes a run's stages; its commands hold it, too, and may outlive it.
const BATCH_LOCK: &str = ".batch.lock";

/// Endings of the files of a base that are read.
const OF_A_BASE: [&str; 6] = ["safetensors", "json", "jinja", "gguf", "graph", "txt"];

/// Digests of files by path, each computed once.
pub(super) type Digests = BTreeMap<PathBuf, Hash>;

/// The digest of a recipe and of all that it names: places do not count. What lies in the hub's cache counts by its name
/// at its commit.
///
/// # Errors
/// Files that cannot be read.
pub(super) fn content(recipe: &Recipe, known: &mut Digests) -> Result<Hash> {
    let mut hasher = Hasher::new_derive_key("ftk run of a batch");
    let mut add = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_le_bytes()).update(bytes);
    };
    add(env!("CARGO_PKG_VERSION").as_bytes());
    add(recipe.without_places().to_string().as_bytes());
    let portable = recipe.portable();
    let model = &recipe.base.model;
    if portable.base.model != *model || SHIPPED.iter().any(|name| model == Path::new(name)) || !model.exists() {
        add(portable.base.model.to_string_lossy().as_bytes());
    } else {
        // Of folders inside, that of the template for tools.
        let read = |path: &Path| match path.is_dir() {
            true => path.file_name() == Path::new(TOOL_TEMPLATE).parent().and_then(Path::file_name),
            false => path.extension().is_some_and(|end| OF_A_BASE.iter().any(|known| end == *known)),
        };
        add(of(model, known, &read)?.as_bytes());
    }
    let mut rows = portable;
    let rows = rows.rows_mut().map(|(_, path)| path.clone()).collect::<Vec<_>>();
    let start = recipe.lora.iter().filter_map(|lora| lora.start.clone());
    let feedback = recipe.gnn.iter().filter_map(|gnn| gnn.feedback.clone());
    for path in rows.into_iter().chain(start).chain(feedback) {
        if path.exists() {
            add(of(&path, known, &|path| path.is_file() || path.is_dir() && !path.is_symlink())?.as_bytes());
        } else {
            add(path.to_string_lossy().as_bytes());
        }
    }
    Ok(hasher.finalize())
}

/// The digest of a file, or of the files and folders in a folder that are read.
fn of(path: &Path, known: &mut Digests, read: &dyn Fn(&Path) -> bool) -> Result<Hash> {
    if let Some(digest) = known.get(path) {
        return Ok(*digest);
    }
    let digest = if path.is_dir() {
        let entries = std::fs::read_dir(path).with_context(|| format!("cannot read {}", path.display()))?;
        let mut inside = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<PathBuf>>>()?;
        inside.retain(|inner| read(inner));
        inside.sort();
        let mut hasher = Hasher::new();
        for inner in inside {
            hasher.update(inner.file_name().unwrap_or_default().as_encoded_bytes()).update(&[0]);
            hasher.update(of(&inner, known, read)?.as_bytes());
        }
        hasher.finalize()
    } else {
        of_file(path)?
    };
    known.insert(path.to_owned(), digest);
    Ok(digest)
}

/// What a folder's record says.
fn recorded(folder: &Path) -> Result<Map<String, Value>> {
    let record = folder.join(STAGES);
    match foreign::read_text(&record, foreign::DOCUMENT) {
        Ok(text) => serde_json::from_str(&text).with_context(|| format!("cannot read {}", record.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Map::new()),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", record.display())),
    }
}

/// A run's folder.
pub(super) struct RunFolder {
    path: PathBuf,
    /// By stage: what was asked, by digest, and what came out.
    done: Mutex<Map<String, Value>>,
}

impl RunFolder {
    /// Of a run that may have been here before.
    ///
    /// # Errors
    /// A record that cannot be read.
    pub(super) fn open(path: PathBuf) -> Result<Self> {
        let done = recorded(&path)?;
        Ok(Self { path, done: Mutex::new(done) })
    }

    /// The right to make stages here, which one batch has at a time, with what others have made meanwhile; none while
    /// another one has it.
    ///
    /// # Errors
    /// The file system's; a record that cannot be read.
    pub(super) fn own(&self) -> Result<Option<Lock>> {
        match Lock::named(&self.path, BATCH_LOCK) {
            Ok(lock) => {
                *self.done.lock().unwrap_or_else(PoisonError::into_inner) = recorded(&self.path)?;
                Ok(Some(lock))
            }
            Err(TrainError::Locked(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What came of a stage, if it was done of what the plan asks, and the files it makes are there.
    pub(super) fn result(&self, stage: &RunStage) -> Option<Value> {
        let done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = done.get(stage.name)?;
        let there = stage.makes.iter().all(|file| self.path.join(file).exists());
        (there && entry["asked"] == json!(hex(&stage.asked))).then(|| entry["result"].clone())
    }

    /// Whether a stage is done.
    pub(super) fn has(&self, stage: &RunStage) -> bool {
        self.result(stage).is_some()
    }

    /// Writes down that a stage is done.
    ///
    /// # Errors
    /// The file system's.
    pub(super) fn record(&self, stage: &RunStage, result: &Value) -> Result<()> {
        let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        done.insert(stage.name.to_owned(), json!({ "asked": hex(&stage.asked), "result": result }));
        let path = self.path.join(STAGES);
        let text = serde_json::to_string_pretty(&*done)? + "\n";
        atomic::write(&path, text.as_bytes()).with_context(|| format!("cannot write {}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_in_folders_of_a_folder_count() {
        let digest = |file: &str, text: &str| {
            let folder = tempfile::tempdir().unwrap();
            std::fs::create_dir(folder.path().join("raw")).unwrap();
            std::fs::write(folder.path().join("raw").join(file), text).unwrap();
            of(folder.path(), &mut Digests::new(), &|_| true).unwrap()
        };
        assert_eq!(digest("a", "x"), digest("a", "x"));
        assert!(digest("a", "x") != digest("a", "y") && digest("a", "x") != digest("b", "x"));
    }
}
