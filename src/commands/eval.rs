//! `ftk eval`: how a base, with or without an adapter, does on what it is not trained on.

use std::path::PathBuf;

use anyhow::Result;

pub use super::task::Evaluation;
use super::{Outcome, recipe, tasks};
use crate::cli::printer::Printer;

/// What is needed.
pub struct Settings {
    /// Recipe that names what is not named here.
    pub recipe: Option<PathBuf>,
    /// Settings laid over the recipe, `key=value`.
    pub set: Vec<String>,
    /// Base model.
    pub base: Option<PathBuf>,
    /// What the task is told beside the recipe.
    pub evaluation: Evaluation,
}

/// Evaluates and prints one figure a line.
///
/// # Errors
/// Recipe, data, model or adapter: whatever is wrong with them.
pub fn run(settings: &Settings, printer: &Printer) -> Result<Outcome> {
    let recipe = recipe(settings.recipe.as_deref(), &settings.set, settings.base.as_deref())?;
    tasks::of(recipe.task).eval(recipe, &settings.evaluation, printer)
}
