//! `ftk train`: from a recipe to an adapter, or to a base trained in full.

use std::cell::OnceCell;
use std::path::PathBuf;
use std::rc::Rc;

use anyhow::{Context, Result};
use candle_core::Device;
use ftk_recipes::{Recipe, Run};
use serde_json::json;

use super::run::{self, Ran, RunControl, refuse_to_replace};
use super::stop::StopSignal;
use super::task::OpenedRun;
use super::{Advice, Outcome, tasks};
use crate::cli::printer::Printer;
use crate::train::{self, ExchangeFolder, Meeting, Ranks, RunEnd, Start, Why, Worker};

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
    /// Train as one of several workers: which one, from 1, of how many.
    pub worker: Option<(usize, usize)>,
    /// Where they meet, instead of a folder in the run folder.
    pub exchange: Option<PathBuf>,
    /// Check and count, but do not train.
    pub dry_run: bool,
    /// Where it is computed.
    pub device: Device,
    /// Fetch nothing that the recipe names on the hub.
    pub offline: bool,
}

impl Settings {
    fn start(&self) -> Start {
        if self.resume { Start::Resume } else { Start::Fresh }
    }
}

/// Trains and exports, alone or as one of the ranks that a launcher of MPI has started. Signals that ask for an end, and a
/// standard output that cannot be written to, end the run after the step at hand, with a checkpoint.
///
/// # Errors
/// Recipe, rows, model: whatever is wrong with them, before any training; see also [`crate::train::TrainError`].
pub fn run(settings: &Settings, printer: &Printer) -> Result<Outcome> {
    let stop = Rc::new(OnceCell::new());
    let asked = Rc::clone(&stop);
    let ranks = train::join(move || asked.get().is_some_and(StopSignal::came))?;
    let outcome = match &ranks {
        Some(ranks) if ranks.rank() > 0 => follow(settings, ranks, &stop)?,
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

/// Signals are heard from here on.
fn listen(heard: &OnceCell<StopSignal>) -> Result<&StopSignal> {
    let signals = StopSignal::listen().context("cannot listen for signals")?;
    Ok(heard.get_or_init(|| signals))
}

/// Which worker of a run this process is, from 0, and where workers meet without MPI.
struct WorkerPlace {
    worker: usize,
    workers: usize,
    exchange: PathBuf,
}

impl WorkerPlace {
    /// That of this process, if workers of the recipe meet and there are several; its run folder is in that of the recipe.
    fn of(settings: &Settings, ranks: Option<&Ranks>, recipe: &mut Recipe) -> Result<Option<Self>> {
        let meets = recipe.run.sync_every.is_some();
        let (worker, workers) = match (settings.worker, ranks) {
            (Some(_), Some(_)) => {
                let hint = "give mpirun the number of workers, and no --worker";
                return Err(Advice::new("--worker: mpirun says already which one this is", hint).into());
            }
            (Some(_), None) if !meets => {
                let hint = "set it to the steps between two meetings of the workers";
                return Err(Advice::new("--worker: needs run.sync_every", hint).into());
            }
            (Some((0, workers)), None) => {
                let message = format!("--worker: workers of {workers} are 1 to {workers}");
                return Err(Advice::new(message, "give the first one as --worker 1/N").into());
            }
            (Some((worker, workers)), None) => (worker - 1, workers),
            (None, Some(ranks)) if meets => (ranks.rank(), ranks.count()),
            (None, _) => return Ok(None),
        };
        let out = &mut recipe.run.out;
        let exchange = settings.exchange.clone().unwrap_or_else(|| out.join("exchange"));
        *out = out.join(format!("worker-{}", worker + 1));
        Ok(Some(Self { worker, workers, exchange }))
    }
}

/// What a process does that is alone, or the first of several.
fn lead(
    settings: &Settings,
    ranks: Option<&Ranks>,
    heard: &OnceCell<StopSignal>,
    printer: &Printer,
) -> Result<Outcome> {
    let mut recipe = recipe(settings)?;
    let place = WorkerPlace::of(settings, ranks, &mut recipe)?;
    if let Some(ranks) = ranks.filter(|_| place.is_none()) {
        ranks.check(&recipe.run)?;
    }
    let trainer = tasks::of(recipe.task);
    // Before anything is fetched, which may take hours.
    refuse_to_replace(&recipe, settings.start())?;
    trainer.fetch(&mut recipe, settings.offline, printer)?;
    if settings.dry_run {
        trainer.plan(&recipe)?.show(printer)?;
        return Ok(Outcome::Done);
    }
    let stop = listen(heard)?;
    ranks.map_or(Ok(()), Ranks::release)?;
    trained(settings, &recipe, (place.as_ref(), ranks), stop, printer)
}

/// Trains what the recipe says, from its place if it has one.
fn trained(
    settings: &Settings,
    recipe: &Recipe,
    (place, ranks): (Option<&WorkerPlace>, Option<&Ranks>),
    stop: &StopSignal,
    printer: &Printer,
) -> Result<Outcome> {
    let asked = || stop.asked(printer);
    let meet = |meeting: &Meeting<'_>| match (ranks, place) {
        (Some(ranks), _) => ranks.meet(meeting),
        (None, place) => {
            let WorkerPlace { worker, workers, ref exchange } = *place.expect("whoever meets others has a place");
            let waiting = |who: &str| printer.note(who);
            ExchangeFolder { folder: exchange.clone(), worker, workers, stop: &asked, waiting: &waiting }.meet(meeting)
        }
    };
    let worker = place.map(|place| Worker { worker: place.worker, workers: place.workers, exchange: &meet });
    let control = RunControl { stop: &asked, ranks: ranks.filter(|_| place.is_none()), worker };
    let trainer = tasks::of(recipe.task);
    let Ran { ended, test } = run::run(trainer, recipe, settings.start(), control, &settings.device, printer)?;
    for (name, value) in test.iter().flatten() {
        printer.line(&format!("test_{name}\t{value:.4}"));
    }
    if let Some(ranks) = ranks.filter(|_| place.is_some() && ended.why == Why::Stopped) {
        // Whoever trains apart stops apart.
        ranks.part();
    }
    Ok(close(recipe, &ended, stop, printer))
}

/// What another process than the first does, without a word: it trains as a worker of its own, or it opens the same run and
/// computes what it is told. Then it has no run folder, but may read there what the first one has computed.
fn follow(settings: &Settings, ranks: &Ranks, heard: &OnceCell<StopSignal>) -> Result<Outcome> {
    if settings.dry_run {
        return Ok(Outcome::Done);
    }
    let (stop, quiet) = (listen(heard)?, Printer::new(false, true));
    // What is fetched is fetched by the first one alone where all have one cache; what is wrong is said by that one.
    if ranks.wait().is_err() {
        return Ok(Outcome::Undecided);
    }
    let fetched = || {
        let mut recipe = recipe(settings)?;
        let place = WorkerPlace::of(settings, Some(ranks), &mut recipe)?;
        tasks::of(recipe.task).fetch(&mut recipe, settings.offline, &quiet)?;
        anyhow::Ok((recipe, place))
    };
    match fetched() {
        Ok((recipe, Some(place))) => trained(settings, &recipe, (Some(&place), Some(ranks)), stop, &quiet),
        fetched => {
            let helped = fetched.and_then(|(recipe, _)| opened(settings, &recipe, ranks, &quiet));
            let helped = match &helped {
                Ok((run, opened)) => ranks.help(opened.session(), run, &opened.inputs().identity, &|| stop.came()),
                Err(error) => Err(ranks.fail(&format!("{error:#}"))),
            };
            Ok(if helped.is_ok() { Outcome::Done } else { Outcome::Undecided })
        }
    }
}

/// Opens a run whose batches this process helps to compute.
fn opened(settings: &Settings, recipe: &Recipe, ranks: &Ranks, printer: &Printer) -> Result<(Run, Box<dyn OpenedRun>)> {
    let mut opened = tasks::of(recipe.task).plan(recipe)?.open(&settings.device)?;
    ranks.wait()?;
    let out = &recipe.run.out;
    std::fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
    opened.begin(out, printer)?;
    Ok((recipe.run.clone(), opened))
}

/// Says how a run came back.
fn close(recipe: &Recipe, ended: &RunEnd, stop: &StopSignal, printer: &Printer) -> Outcome {
    let RunEnd { step, steps, why, best, transcript } = *ended;
    printer.object(&json!({
        "out": recipe.run.out,
        "ended": match why {
            Why::Done => "done",
            Why::Patience => "patience",
            Why::Stopped => "stopped",
        },
        "step": step,
        "steps": steps,
        "best": best.map(|(step, figure)| json!({ "step": step, "figure": figure })),
        "transcript": transcript.map(|root| root.to_hex().to_string()),
    }));
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
