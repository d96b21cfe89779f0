//! `ftk train`: from a recipe to an adapter, or to a base trained in full.

use std::cell::OnceCell;
use std::path::PathBuf;
use std::rc::Rc;

use anyhow::{Context, Result};
use candle_core::Device;
use ftk_recipes::Recipe;

use super::run::{self, Ran, refuse_to_replace};
use super::stop::StopSignal;
use super::{Outcome, tasks};
use crate::cli::printer::Printer;
use crate::train::{self, Ranks, RunEnd, Start, Why};

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

/// Trains and exports, alone or as one of the ranks that a launcher of MPI has started. SIGINT, SIGTERM and a standard output that cannot be written to end the run after the step at
/// hand, with a checkpoint.
///
/// # Errors
/// Recipe, rows, model: whatever is wrong with them, before any training; see also [`crate::train::TrainError`].
pub fn run(settings: &Settings, printer: &Printer) -> Result<Outcome> {
    let stop = Rc::new(OnceCell::new());
    let asked = Rc::clone(&stop);
    let ranks = train::join(move || asked.get().is_some_and(StopSignal::came))?;
    let outcome = match &ranks {
        // Rank 0 speaks for all.
        Some(ranks) if ranks.rank() > 0 => help(settings, ranks, &stop).unwrap_or(Outcome::Undecided),
        ranks => lead(settings, ranks.as_ref(), &stop, printer)?,
    };
    if let Some(ranks) = ranks.filter(|_| outcome != Outcome::Undecided) {
        train::leave(&ranks);
    }
    Ok(outcome)
}

fn recipe(settings: &Settings) -> Result<Recipe> {
    let mut recipe = Recipe::load_with(&settings.recipe, &settings.set)?;
    if let Some(out) = &settings.out {
        recipe.run.out.clone_from(out);
    }
    Ok(recipe)
}

fn listen() -> Result<StopSignal> {
    StopSignal::listen().context("cannot listen for signals")
}

/// What a process does that is alone, or the first of several.
fn lead(
    settings: &Settings,
    ranks: Option<&Ranks>,
    heard: &OnceCell<StopSignal>,
    printer: &Printer,
) -> Result<Outcome> {
    let mut recipe = recipe(settings)?;
    ranks.map_or(Ok(()), |ranks| ranks.check(&recipe.run))?;
    let start = if settings.resume { Start::Resume } else { Start::Fresh };
    let trainer = tasks::of(recipe.task);
    // Before anything is fetched, which may take hours.
    refuse_to_replace(&recipe, start)?;
    trainer.fetch(&mut recipe, settings.offline, printer)?;
    if settings.dry_run {
        trainer.plan(&recipe)?.show(printer)?;
        return Ok(Outcome::Done);
    }
    let signals = listen()?;
    let stop = heard.get_or_init(|| signals);
    ranks.map_or(Ok(()), Ranks::release)?;
    let asked = || stop.asked(printer);
    let Ran { ended, test } = run::run(trainer, &recipe, start, (&asked, ranks), &settings.device, printer)?;
    for (name, value) in test.iter().flatten() {
        printer.line(&format!("test_{name}\t{value:.4}"));
    }
    Ok(close(&recipe, &ended, stop, printer))
}

/// What another process than the first does: it opens the same run and computes what it is told, without a word. It has no
/// run folder, but may read there what the first one has computed.
fn help(settings: &Settings, ranks: &Ranks, heard: &OnceCell<StopSignal>) -> Result<Outcome> {
    if settings.dry_run {
        return Ok(Outcome::Done);
    }
    let signals = listen()?;
    let stop = heard.get_or_init(|| signals);
    let quiet = Printer::new(false, true);
    // What is fetched is fetched by the first one alone where all have one cache.
    ranks.wait()?;
    let open = || {
        let mut recipe = recipe(settings)?;
        let trainer = tasks::of(recipe.task);
        trainer.fetch(&mut recipe, settings.offline, &quiet)?;
        let mut opened = trainer.plan(&recipe)?.open(&settings.device)?;
        ranks.wait()?;
        let out = &recipe.run.out;
        std::fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
        opened.begin(out, &quiet)?;
        anyhow::Ok((recipe, opened))
    };
    let (recipe, opened) = open().map_err(|error| ranks.fail(&format!("{error:#}")))?;
    ranks.help(opened.session(), &recipe.run, &opened.inputs().identity, &|| stop.came())?;
    Ok(Outcome::Done)
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
