//! `ftk train`: from a recipe to an adapter, or to a base trained in full.

use std::path::PathBuf;

use anyhow::{Context, Result};
use candle_core::Device;
use ftk_recipes::Recipe;

use super::run::{self, Ran, refuse_to_replace};
use super::stop::StopSignal;
use super::{Outcome, tasks};
use crate::cli::printer::Printer;
use crate::train::{RunEnd, Start, Why};

/// What is needed.
pub struct Settings {
    /// Recipe file.
    pub recipe: PathBuf,
    /// Settings laid over the recipe, `key=value`.
    pub set: Vec<String>,
    /// Run folder, instead of the recipe's.
    pub out: Option<PathBuf>,
    /// Go on from a checkpoint.
    pub resume: bool,
    /// Check and count, but do not train.
    pub dry_run: bool,
    /// Where it is computed.
    pub device: Device,
    /// Fetch nothing that the recipe names on the hub.
    pub offline: bool,
}

/// Trains and exports. SIGINT, SIGTERM and a standard output that cannot be written to end the run after the step at
/// hand, with a checkpoint.
///
/// # Errors
/// Recipe, rows, model: whatever is wrong with them, before any training; see also [`crate::train::TrainError`].
pub fn run(settings: &Settings, printer: &Printer) -> Result<Outcome> {
    let mut recipe = Recipe::load_with(&settings.recipe, &settings.set)?;
    if let Some(out) = &settings.out {
        recipe.run.out.clone_from(out);
    }
    let start = if settings.resume { Start::Resume } else { Start::Fresh };
    let trainer = tasks::of(recipe.task);
    // Before anything is fetched, which may take hours.
    refuse_to_replace(&recipe, start)?;
    trainer.fetch(&mut recipe, settings.offline, printer)?;
    if settings.dry_run {
        trainer.plan(&recipe)?.show(printer)?;
        return Ok(Outcome::Done);
    }
    let stop = StopSignal::listen().context("cannot listen for signals")?;
    let Ran { ended, test } = run::run(trainer, &recipe, start, &|| stop.asked(printer), &settings.device, printer)?;
    for (name, value) in test.iter().flatten() {
        printer.line(&format!("test_{name}\t{value:.4}"));
    }
    Ok(close(&recipe, &ended, &stop, printer))
}

/// Says how a run came back.
fn close(recipe: &Recipe, ended: &RunEnd, stop: &StopSignal, printer: &Printer) -> Outcome {
    let RunEnd { step, steps, why, best, transcript } = *ended;
    match why {
        Why::Stopped => {
            if let Some(error) = printer.lost() {
                printer.note(&format!("nobody reads what is written to standard output: {error}"));
            }
            printer.note(&format!("stopped after step {step} of {steps}; go on with the same command and --resume"));
            return Outcome::Stopped(stop.code());
        }
        Why::Patience => {
            printer.note(&format!("ended after step {step} of {steps}: nothing better within run.patience"))
        }
        Why::Done => {}
    }
    if let Some((step, figure)) = best {
        printer.note(&format!("the result is the state after step {step}, the best evaluation: {figure:.4}"));
    }
    printer.note(&format!("wrote {}", recipe.run.out.display()));
    if let Some(root) = transcript {
        printer.note(&format!("transcript {}", root.to_hex()));
    }
    Outcome::Done
}
