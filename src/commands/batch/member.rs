//! A run of a batch: its folder, its stages, and what became of them.

use std::sync::{Mutex, PoisonError};

use ftk_recipes::batch::RunVariant;
use serde_json::{Map, Value, json};

use super::super::task::Estimation;
use super::super::tasks;
use super::folder::RunFolder;
use super::stage::RunStage;
use crate::cli::printer::Printer;

/// Bytes of memory of a run whose needs are not known by arithmetic.
pub(super) const UNKNOWN: u64 = 1 << 30;

/// A run of a batch.
pub(super) struct BatchRun {
    pub(super) name: String,
    pub(super) variant: RunVariant,
    pub(super) folder: RunFolder,
    pub(super) stages: Vec<RunStage>,
    /// What went wrong in this batch.
    pub(super) failure: Mutex<Option<String>>,
}

impl BatchRun {
    pub(super) fn failed(&self) -> Option<String> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn fail(&self, message: String) {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(message);
    }

    /// Whether a stage of it is not done.
    pub(super) fn open(&self) -> bool {
        self.stages.iter().any(|stage| !self.folder.has(stage))
    }

    /// Whether a proof of it was made and refused.
    pub(super) fn refused(&self) -> bool {
        let verdict = self.stages.iter().filter_map(|stage| self.folder.result(stage));
        verdict.into_iter().any(|result| result.get("verdict").is_some_and(|verdict| verdict != "valid"))
    }

    /// What `ftk estimate` says of it, and of a proof about so many tokens.
    pub(super) fn estimated(&self, tokens: u64, offline: bool) -> Map<String, Value> {
        let (silent, recipe) = (Printer::new(true, true), self.variant.recipe.clone());
        let asked = Estimation { adapter: None, tokens, offline };
        silent.holding(|| tasks::of(recipe.task).estimate(recipe, &asked, &silent)).1
    }

    /// What a run came to, for a program.
    pub(super) fn summary(&self) -> Value {
        let varied = self.variant.varied.iter().map(|(key, value)| (key.clone(), json!(value)));
        let stages = self.stages.iter().filter_map(|stage| Some((stage.name.to_owned(), self.folder.result(stage)?)));
        json!({
            "run": self.name,
            "folder": self.folder.path(),
            "set": Value::Object(varied.collect()),
            "stages": Value::Object(stages.collect()),
            "error": self.failed(),
        })
    }
}
