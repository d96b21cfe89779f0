//! `ftk train` for task `gnn`: the same loop and run folder, with a graph in the place of rows.

use std::path::Path;

use anyhow::{Context, Result};
use candle_core::{DType, Device};
use ftk_adapters::atomic;
use ftk_recipes::gnn::Opened;
use ftk_recipes::gnn::graph::Part;
use ftk_recipes::gnn::measures::Figures;
use ftk_recipes::{Recipe, TaskError};
use serde_json::{Map, Value, json};

use super::manifest::{MANIFEST, of_file, without_places};
use super::{RECIPE, keep, refuse_to_replace};
use crate::arithmetic;
use crate::cli::printer::Printer;
use crate::commands::Outcome;
use crate::commands::train::stop::Stop;
use crate::train::{self, Ended, Identity, Lock, Observer, Start, Step, Why};

/// Trains, exports, and measures on what was kept for testing.
pub(super) fn run(recipe: &Recipe, start: Start, dry_run: bool, printer: &Printer) -> Result<Outcome> {
    refuse_to_replace(recipe, start)?;
    let opened = Opened::new(recipe)?;
    for note in opened.notes() {
        printer.note(&note);
    }
    if dry_run {
        printer.text(&toml::to_string(&recipe.resolved())?);
        for (name, value) in opened.counts() {
            printer.line(&format!("# {name}: {value}"));
        }
        printer.object(&json!({ "recipe": recipe.resolved(), "counts": counts(&opened) }));
        return Ok(Outcome::Done);
    }
    let stop = Stop::listen().context("cannot listen for signals")?;
    let ended = train(recipe, &opened, start, &|| stop.asked(printer), printer)?;
    if ended.why != Why::Stopped {
        for (name, value) in opened.figures(Part::Test)? {
            printer.line(&format!("test_{name}\t{value:.4}"));
        }
    }
    Ok(super::close(recipe, &ended, &stop, printer))
}

/// Trains what is open already, and exports it to the run folder.
pub(in crate::commands) fn train(
    recipe: &Recipe,
    opened: &Opened,
    start: Start,
    stop: &dyn Fn() -> bool,
    printer: &Printer,
) -> Result<Ended> {
    let out = &recipe.run.out;
    let inputs = Inputs::new(recipe, opened)?;
    let _lock = Lock::take(out)?;
    if !train::holds_run(out) {
        let path = out.join(RECIPE);
        let text = toml::to_string(&recipe.resolved()).context("cannot write the recipe down")?;
        atomic::write(&path, text.as_bytes()).with_context(|| format!("cannot write {}", path.display()))?;
        inputs.write(out, opened, &[], None)?;
    }
    printer.object(&json!({ "data": counts(opened) }));
    let bar = printer.bar(0, "training");
    let mut report = |step: &Step| {
        bar.set_length(step.steps as u64);
        bar.set_position(step.step as u64);
        bar.set_message(format!("loss {:.4}", step.loss));
        let tenth = step.step * 10 / step.steps != (step.step - 1) * 10 / step.steps;
        if bar.is_hidden() && tenth {
            let figure = |name: &str| step.record.get(name).and_then(Value::as_f64);
            let held_out =
                figure("eval_accuracy").map_or_else(String::new, |value| format!(", eval_accuracy {value:.4}"));
            printer.note(&format!("step {}/{}: loss {:.4}{held_out}", step.step, step.steps, step.loss));
        }
        printer.object(&Value::Object(step.record.clone()));
    };
    let base = recipe.base.model.to_string_lossy();
    let result = |folder: &Path| -> Result<()> { Ok(opened.export(folder, &base).map(drop)?) };
    let save = |step: usize| keep::keep(&recipe.run, step, result).map_err(TaskError::from);
    let observer = Observer { stop, save: &save, see: &mut report };
    let ended = train::run(opened.session(), &recipe.optim, &recipe.run, &inputs.identity, start, observer)?;
    bar.finish_and_clear();
    train::draw(out)?;
    if ended.why != Why::Stopped {
        let result = opened.export(out, &base)?;
        let test = opened.figures(Part::Test)?;
        printer.object(&json!({ "test": figures(&test) }));
        inputs.write(out, opened, &result, Some((&ended, &test)))?;
    }
    Ok(ended)
}

fn counts(opened: &Opened) -> Value {
    let named = opened.counts().into_iter().map(|(name, value)| (name.to_owned(), json!(value)));
    Value::Object(named.collect::<Map<_, _>>())
}

fn figures(figures: &Figures) -> Value {
    Value::Object(figures.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect())
}

/// What goes into a run, by digest.
struct Inputs {
    recipe: Value,
    feedback: Option<blake3::Hash>,
    identity: Identity,
}

impl Inputs {
    fn new(recipe: &Recipe, opened: &Opened) -> Result<Self> {
        let feedback = recipe.gnn.as_ref().and_then(|gnn| gnn.feedback.as_ref());
        let feedback = feedback.map(|path| of_file(path)).transpose()?;
        let recipe = without_places(recipe);
        let text = recipe.to_string();
        // Graphs are computed on the host.
        let arithmetic = arithmetic::name(&Device::Cpu, DType::F32);
        let mut hash = blake3::Hasher::new_derive_key("ftk training run on a graph");
        hash.update(&(arithmetic.len() as u64).to_le_bytes()).update(arithmetic.as_bytes());
        hash.update(opened.digest.as_bytes()).update(opened.base.as_bytes());
        hash.update(&(text.len() as u64).to_le_bytes()).update(text.as_bytes());
        if let Some(feedback) = &feedback {
            hash.update(feedback.as_bytes());
        }
        let identity = Identity { digest: *hash.finalize().as_bytes(), arithmetic };
        Ok(Self { recipe, feedback, identity })
    }

    fn write(&self, out: &Path, opened: &Opened, result: &[&str], ended: Option<(&Ended, &Figures)>) -> Result<()> {
        let hex = |hash: &blake3::Hash| hash.to_hex().to_string();
        let mut files = Map::new();
        for name in result {
            files.insert((*name).to_owned(), json!(hex(&of_file(&out.join(name))?)));
        }
        let manifest = json!({
            "ftk": env!("CARGO_PKG_VERSION"),
            "arithmetic": self.identity.arithmetic,
            "run": hex(&self.identity.digest.into()),
            "recipe": hex(&blake3::hash(self.recipe.to_string().as_bytes())),
            "base": hex(&opened.base),
            "data": { "graph": hex(&opened.digest), "root": hex(&opened.root), "feedback": self.feedback.as_ref().map(hex) },
            "counts": counts(opened),
            "ended": ended.map(|(ended, test)| json!({
                "step": ended.step,
                "early": ended.why == Why::Patience,
                "best": ended.best.map(|(step, figure)| json!({ "step": step, "figure": figure })),
                "test": figures(test),
            })),
            "result": files,
        });
        let text = serde_json::to_string_pretty(&manifest)? + "\n";
        let path = out.join(MANIFEST);
        atomic::write(&path, text.as_bytes()).with_context(|| format!("cannot write {}", path.display()))
    }
}
