//! `ftk estimate`: what a run needs of memory, and what commitment and proofs need of everything, by arithmetic,
//! before anything is read.

use std::path::PathBuf;

use anyhow::Result;

pub use super::task::Estimation;
use super::{Outcome, recipe, tasks};
use crate::cli::printer::Printer;

/// What is needed.
pub struct Settings {
    /// Recipe that names what is not named here.
    pub recipe: Option<PathBuf>,
    /// Settings laid over the recipe, `key=value`.
    pub set: Vec<String>,
    /// Base model; its configuration is enough.
    pub base: Option<PathBuf>,
    /// What the task is told beside the recipe.
    pub estimation: Estimation,
}

/// Prints what a run needs.
///
/// # Errors
/// Recipe or base configuration: whatever is wrong with them.
pub fn run(settings: &Settings, printer: &Printer) -> Result<Outcome> {
    let recipe = recipe(settings.recipe.as_deref(), &settings.set, settings.base.as_deref())?;
    tasks::of(recipe.task).estimate(recipe, &settings.estimation, printer)
}
