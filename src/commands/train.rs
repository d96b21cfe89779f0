//! `ftk train`: from a recipe to an adapter, or to a base trained in full.

mod keep;
pub(super) mod manifest;
mod stop;

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use candle_core::Device;
use ftk_adapters::{atomic, peft};
use ftk_recipes::{Recipe, TaskError};
use serde_json::{Value, json};

pub use self::manifest::MANIFEST;
use self::stop::Stop;
use super::tasks::{self, Opened, Telling};
use super::{Advice, Outcome};
use crate::cli::printer::Printer;
use crate::train::{self, Ended, Lock, Observer, Start, Step, Why};

/// Steps of a run whose every state is looked at.
const YOUNG: usize = 16;

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

/// Folder inside the run folder for a base trained in full.
pub const BASE: &str = "base";
/// The recipe as the run understood it.
pub const RECIPE: &str = "recipe.toml";

/// Trains and exports. SIGINT, SIGTERM and a standard output that cannot be written to end the run after the step at
/// hand, with a checkpoint.
///
/// # Errors
/// Recipe, rows, model: whatever is wrong with them, before any training; see also [`train::TrainError`].
pub fn run(settings: &Settings, printer: &Printer) -> Result<Outcome> {
    let mut recipe = Recipe::load_with(&settings.recipe, &settings.set)?;
    if let Some(out) = &settings.out {
        recipe.run.out.clone_from(out);
    }
    let start = if settings.resume { Start::Resume } else { Start::Fresh };
    let trainer = tasks::of(recipe.task);
    trainer.fetch(&mut recipe, settings.offline, printer)?;
    if settings.dry_run {
        refuse_to_replace(&recipe, start)?;
        trainer.plan(&recipe)?.show(printer)?;
        return Ok(Outcome::Done);
    }
    let stop = Stop::listen().context("cannot listen for signals")?;
    refuse_to_replace(&recipe, start)?;
    let mut opened = trainer.plan(&recipe)?.open(&settings.device)?;
    let ended = in_folder(&recipe, &mut *opened, start, &|| stop.asked(printer), printer)?;
    if ended.why != Why::Stopped {
        for (name, value) in opened.test()?.iter().flatten() {
            printer.line(&format!("test_{name}\t{value:.4}"));
        }
    }
    Ok(close(&recipe, &ended, &stop, printer))
}

/// Says how a run came back.
fn close(recipe: &Recipe, ended: &Ended, stop: &Stop, printer: &Printer) -> Outcome {
    let Ended { step, steps, why, best } = *ended;
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
    Outcome::Done
}

/// Trains what is open in the run folder of its recipe, and exports to there, unless `stop` says after a step that the
/// run is to end there.
pub(super) fn in_folder(
    recipe: &Recipe,
    opened: &mut dyn Opened,
    start: Start,
    stop: &dyn Fn() -> bool,
    printer: &Printer,
) -> Result<Ended> {
    let out = &recipe.run.out;
    let _lock = Lock::take(out)?;
    // A run that goes on has them; one that is refused must not replace them.
    if !train::holds_run(out) {
        let text = toml::to_string(&recipe.portable().resolved()).context("cannot write the recipe down")?;
        let path = out.join(RECIPE);
        atomic::write(&path, text.as_bytes()).with_context(|| format!("cannot write {}", path.display()))?;
        opened.inputs().write(out, &opened.counts(), &[], None)?;
    }
    opened.announce(printer);
    // A run that is refused must not change the folder.
    train::belongs(out, &opened.inputs().identity)?;
    opened.begin(out, printer)?;

    let opened: &dyn Opened = opened;
    let Telling { rate, figures, mut signs } = opened.telling(out);
    let diverged: RefCell<Option<String>> = RefCell::default();
    let bar = printer.bar(0, "training");
    let began = Instant::now();
    let (mut tokens, mut first) = (0, true);
    let mut report = |step: &Step| {
        bar.set_length(step.steps as u64);
        bar.set_position(step.step as u64);
        tokens += step.tokens;
        let mut said = format!("loss {:.4}", step.loss);
        if rate {
            said += &format!(", {:.0} tokens/s", tokens as f64 / began.elapsed().as_secs_f64());
        }
        for name in figures {
            let figure = step.record.get(*name).and_then(Value::as_f64);
            said += &figure.map_or_else(String::new, |figure| format!(", {name} {figure:.4}"));
        }
        // Without a terminal, a line every tenth of the way.
        let tenth = step.step * 10 / step.steps != (step.step - 1) * 10 / step.steps;
        if bar.is_hidden() && (first || tenth) {
            printer.note(&format!("step {}/{}: {said}", step.step, step.steps));
        }
        bar.set_message(said);
        first = false;
        let signs = signs(step, tenth);
        let mut record = step.record.clone();
        if !signs.is_empty() {
            record.insert("hint".to_owned(), json!(signs));
        }
        // Every value is looked at while a run is young, which is when rates that are too high show, and then with the
        // lines.
        if tenth || step.step <= YOUNG {
            *diverged.borrow_mut() = opened.beyond().map(|what| format!("step {}: {what}", step.step));
        }
        bar.suspend(|| signs.iter().for_each(|sign| printer.note(&format!("hint: {sign}"))));
        printer.object(&Value::Object(record));
    };
    let result = |folder: &Path| opened.export(folder).map(drop);
    let save = |step: usize| keep::keep(&recipe.run, step, result).map_err(TaskError::from);
    let stop = || stop() || diverged.borrow().is_some();
    let observer = Observer { stop: &stop, save: &save, see: &mut report };
    let identity = &opened.inputs().identity;
    let ended = train::run(opened.session(), &recipe.optim, &recipe.run, identity, start, observer)?;
    bar.finish_and_clear();
    train::draw(out)?;
    if let Some(message) = diverged.take() {
        return Err(Advice::new(message, "the run has diverged: lower optim.lr, or set optim.max_grad_norm").into());
    }
    if ended.why != Why::Stopped {
        let result = opened.export(out)?;
        let test = opened.test()?;
        if let Some(test) = &test {
            printer.object(&json!({ "test": manifest::figures(test) }));
        }
        opened.inputs().write(out, &opened.counts(), &result, Some((&ended, test.as_ref())))?;
    }
    Ok(ended)
}

/// Refuses a run folder in which the run would replace what it has not made itself.
pub(super) fn refuse_to_replace(recipe: &Recipe, start: Start) -> Result<()> {
    let out = &recipe.run.out;
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
