//! One run of a task in its run folder: the files it begins with, its steps, and what comes out.
//!
//! The order is the same for every task: recipe and manifest are written, what is computed once is computed, the host's
//! loop ([`train::run`]) makes the steps, and the result is exported. Whoever looks at steps attaches where `Observer` is
//! made: `see` is told of every step behind its checkpoint, `save` just before one, `stop` is asked after every step.
//! What a person or a program is told of a step is in `steps`.

pub(super) mod done;
mod keep;
pub(super) mod manifest;
mod steps;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result};
use blake3::Hash;
use candle_core::Device;
use ftk_adapters::hint::Hint;
use ftk_adapters::staged::{PREFIX, sweep};
use ftk_adapters::{atomic, foreign, notes, peft};
use ftk_recipes::{Metrics, Recipe, TaskError};
use serde_json::{Value, json};

pub use self::manifest::MANIFEST;
use self::steps::Steps;
use super::Advice;
use super::card::{self, Card};
use super::task::{OpenedRun, Trainer};
use crate::cli::printer::Printer;
use crate::train::{self, DIVERGED, Lock, Observer, Ranks, RunEnd, Start, TrainError, Why, Worker};

/// Folder inside the run folder for a base trained in full.
pub(super) const BASE: &str = "base";
/// The recipe as the run understood it.
pub(super) const RECIPE: &str = "recipe.toml";

/// Entry of the metadata of an adapter's file that holds the root of its run's transcript.
pub(super) const NOTE: &str = "ftk_transcript";

/// What ends a run early, and who shares it.
#[derive(Clone, Copy)]
pub(super) struct RunControl<'a> {
    /// Whether the run is to end after a step.
    pub(super) stop: &'a dyn Fn() -> bool,
    /// Processes that share its batches, of which this one is the first.
    pub(super) ranks: Option<&'a Ranks>,
    /// Which of several workers this one is, who train apart and meet.
    pub(super) worker: Option<Worker<'a>>,
}

impl RunControl<'_> {
    /// Nothing ends it early, and nobody shares it.
    pub(super) const NONE: Self = Self { stop: &|| false, ranks: None, worker: None };
}

/// How a run came back.
pub(super) struct Ran {
    pub(super) ended: RunEnd,
    /// Figures on what the task kept for testing, of a run that was not stopped.
    pub(super) test: Option<Metrics>,
}

/// Trains as a recipe of a task says, in its run folder.
///
/// # Errors
/// Recipe, rows, model: whatever is wrong with them, before any training; see also [`train::TrainError`].
pub(super) fn run(
    trainer: &dyn Trainer,
    recipe: &Recipe,
    start: Start,
    control: RunControl<'_>,
    device: &Device,
    printer: &Printer,
) -> Result<Ran> {
    refuse_to_replace(recipe, start)?;
    let plan = trainer.plan(recipe)?;
    let reading = printer.working("reading the base");
    let mut opened = plan.open(device)?;
    drop(reading);
    in_folder(recipe, &mut *opened, start, control, printer)
}

/// [`run`] of what is open already.
///
/// # Errors
/// As [`run`].
pub(super) fn in_folder(
    recipe: &Recipe,
    opened: &mut dyn OpenedRun,
    start: Start,
    RunControl { stop, ranks, worker }: RunControl<'_>,
    printer: &Printer,
) -> Result<Ran> {
    let inputs = opened.inputs().clone();
    let inputs = match worker {
        Some(worker) => inputs.of_worker(worker.worker, worker.workers),
        None => inputs,
    };
    let out = &recipe.run.out;
    let _lock = Lock::take(out)?;
    // Files that a killed process had begun.
    sweep(out, PREFIX);
    // A run that goes on has them; one that is refused must not replace them.
    if !train::holds_run(out) {
        let text = toml::to_string(&recipe.portable().resolved()).context("cannot write the recipe down")?;
        let path = out.join(RECIPE);
        atomic::write(&path, text.as_bytes()).with_context(|| format!("cannot write {}", path.display()))?;
        inputs.write(out, &opened.counts(), &[], None)?;
    }
    opened.announce(printer);
    // A run that is refused must not change the folder.
    train::belongs(out, &inputs.identity).map_err(|error| named(error, recipe))?;
    opened.begin(out, printer)?;
    if let Some(ranks) = ranks {
        ranks.release()?;
        ranks.gather(&opened.inputs().identity)?;
    }

    let opened: &dyn OpenedRun = opened;
    let steps = Steps::new(opened, out, printer);
    let observer = Observer {
        stop: &|| stop() || steps.diverged(),
        save: &|step| {
            let export = |folder: &Path| carded(opened.export(folder)?, folder, recipe, Vec::new());
            keep::keep(&recipe.run, step, export).map_err(TaskError::from)
        },
        see: &mut |step| steps.see(step),
        ranks,
        worker,
    };
    let identity = &opened.inputs().identity;
    let ended = train::run(opened.session(), &recipe.optim, &recipe.run, identity, start, observer)?;
    let diverged = steps.end();
    train::draw(out)?;
    if let Some(message) = diverged {
        return Err(Advice::new(message, format!("the run has diverged: {DIVERGED}")).into());
    }
    if ended.why == Why::Stopped {
        return Ok(Ran { ended, test: None });
    }
    let result = exported(opened, out, ended.transcript.as_ref())?;
    let test = opened.test()?;
    let mut figures = card::figures(out, ended.best.map_or(ended.step, |(step, _)| step))?;
    figures.extend(test.iter().flatten().map(|(name, figure)| (format!("test_{name}"), format!("{figure:.4}"))));
    carded(result.clone(), out, recipe, figures)?;
    if let Some(test) = &test {
        printer.object(&json!({ "test": manifest::figures(test) }));
    }
    inputs.write(out, &opened.counts(), &result, Some((&ended, test.as_ref())))?;
    Ok(Ran { ended, test })
}

/// Writes what is trained, as it stands, into a folder, with the root of the transcript where the files have a place for
/// it; names the files with weights.
///
/// # Errors
/// The file system's; what the format does not hold.
pub(super) fn exported(opened: &dyn OpenedRun, folder: &Path, root: Option<&Hash>) -> Result<Vec<&'static str>> {
    let files = opened.export(folder)?;
    if let Some(root) = root.filter(|_| files.contains(&peft::FACTORS)) {
        notes::note(folder, NOTE, root.to_hex().as_str())?;
    }
    Ok(files)
}

/// Writes the card of an adapter that was exported, if it was one.
fn carded(files: Vec<&str>, folder: &Path, recipe: &Recipe, figures: Vec<(String, String)>) -> Result<()> {
    if !files.contains(&peft::FACTORS) {
        return Ok(());
    }
    Card { recipe: Some(recipe), figures, commitment: None }.write(folder)
}

/// Names the keys in which a run that is to go on differs from the one in its folder.
fn named(error: TrainError, recipe: &Recipe) -> anyhow::Error {
    let TrainError::Different(path) = &error else { return error.into() };
    let path_of_theirs = recipe.run.out.join(RECIPE);
    let theirs = foreign::read_text(&path_of_theirs, foreign::DOCUMENT);
    let (Ok(was), Ok(is)) = (theirs, toml::to_string(&recipe.portable().resolved())) else { return error.into() };
    let keys = |text: &str| {
        let mut keys = BTreeMap::new();
        // What decides what is computed, and nothing else.
        flatten("", &Recipe::parse(&path_of_theirs, text).ok()?.without_places(), &mut keys);
        Some(keys)
    };
    let (Some(was), Some(is)) = (keys(&was), keys(&is)) else { return error.into() };
    let names: BTreeSet<&String> = was.keys().chain(is.keys()).collect();
    let value = |of: &BTreeMap<String, String>, name: &String| of.get(name).cloned().unwrap_or("unset".to_owned());
    let changed: Vec<String> = names
        .into_iter()
        .filter(|name| was.get(*name) != is.get(*name))
        .map(|name| format!("{name} was {} and is {}", value(&was, name), value(&is, name)))
        .collect();
    let message = if changed.is_empty() {
        format!("{}: was made of the same recipe, but of other rows, another base or another start", path.display())
    } else {
        format!("{}: was made by a different recipe: {}", path.display(), changed.join(", "))
    };
    Advice::new(message, error.hint().unwrap_or_default()).into()
}

/// The values of a document by their dotted names.
fn flatten(name: &str, value: &Value, keys: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(inner) => {
            let dot = if name.is_empty() { "" } else { "." };
            inner.iter().for_each(|(key, value)| flatten(&format!("{name}{dot}{key}"), value, keys));
        }
        Value::Null => {}
        _ => drop(keys.insert(name.to_owned(), value.to_string())),
    }
}

/// Refuses a run folder in which the run would replace what it has not made itself.
///
/// # Errors
/// Such a folder.
pub(super) fn refuse_to_replace(recipe: &Recipe, start: Start) -> Result<()> {
    let out = &recipe.run.out;
    super::writable_folder(out)?;
    if train::holds_run(out) {
        return match start {
            Start::Resume => Ok(()),
            Start::Fresh => {
                let message = format!("{}: holds a run already", out.display());
                Err(Advice::new(message, "continue it with --resume, or choose another folder with --out").into())
            }
        };
    }
    let result = out.join(if recipe.lora.is_some() { peft::FACTORS } else { BASE });
    if result.exists() {
        let message = format!("{}: is there already, from no run in this folder", result.display());
        return Err(Advice::new(message, "choose another folder with --out").into());
    }
    Ok(())
}
