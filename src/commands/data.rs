//! `ftk data preview`: what a run learns from, as a model will see it, before any weight is read.

use std::path::PathBuf;

use anyhow::Result;
use ftk_recipes::Recipe;

pub use super::task::PreviewOptions;
use super::{Outcome, day, recipe, tasks};
use crate::cli::printer::Printer;

/// What is looked at.
pub enum Previewed {
    /// The rows of a recipe, as its run would take them.
    Recipe {
        /// The recipe.
        file: PathBuf,
        /// Settings laid over it, `key=value`.
        set: Vec<String>,
    },
    /// A file of rows, for a base, with the recipe's defaults.
    File {
        /// Base model.
        base: PathBuf,
        /// The file.
        data: PathBuf,
        /// Settings of a recipe, `key=value`, its task among them.
        set: Vec<String>,
        /// The day that the chat template writes.
        date: Option<String>,
    },
}

/// What is needed.
pub struct Settings {
    /// The rows.
    pub subject: Previewed,
    /// What the task is told beside the recipe.
    pub preview: PreviewOptions,
}

/// Shows the first rows and counts all.
///
/// # Errors
/// Whatever a training run would refuse about recipe, base and rows.
pub fn preview(settings: &Settings, printer: &Printer) -> Result<Outcome> {
    let recipe = match &settings.subject {
        Previewed::Recipe { file, set } => Recipe::load_with(file, set)?,
        Previewed::File { base, data, set, date } => {
            let mut recipe = recipe(None, set, Some(base))?;
            recipe.data.train.clone_from(data);
            date.as_deref().map(|date| day(date, "--date")).transpose()?;
            recipe.base.date.clone_from(date);
            recipe
        }
    };
    tasks::of(recipe.task).preview(recipe, &settings.preview, printer)
}
