//! `ftk train`: from a recipe to an adapter, or to a base trained in full.

mod graph;
mod keep;
mod manifest;
mod plan;
mod stop;

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, anyhow};
use candle_core::{DType, Device, Tensor, Var};
use ftk_adapters::lora::Adapter;
use ftk_adapters::train::{LoraTensors, normal_values};
use ftk_adapters::weights::Weights;
use ftk_adapters::{atomic, peft};
use ftk_recipes::{Format, Recipe, Reference, SaveDtype, Task, TaskError};
use serde_json::json;

pub(super) use self::graph::train as on_graph;
use self::manifest::Inputs;
pub use self::manifest::MANIFEST;
use self::plan::Plan;
pub(super) use self::plan::begin;
use self::stop::Stop;
use super::{Advice, Outcome, pull};
use crate::arithmetic;
use crate::cli::printer::Printer;
use crate::models::{Precision, Source, save_folder};
use crate::text::health::Watch;
use crate::text::references::{self, Found, References};
use crate::text::session::{DpoSettings, Rows, TextSession, Trained};
use crate::train::{self, Ended, Lock, Observer, Start, Step, Why};

/// Largest magnitude of a value on the 16-bit grid.
const GRID: f32 = ftk_kernels::grid::MAX_16 as f32;

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
    if recipe.task == Task::Gnn {
        return graph::run(&recipe, start, settings.dry_run, printer);
    }
    pull::recipe(&mut recipe, settings.offline, printer)?;
    let source = super::open(&recipe.base)?;
    if settings.dry_run {
        refuse_to_replace(&recipe, start)?;
        Plan::new(&recipe, &source)?.counts.show(&recipe, printer)?;
        return Ok(Outcome::Done);
    }
    let stop = Stop::listen().context("cannot listen for signals")?;
    let ended = train(&recipe, &source, start, &|| stop.asked(printer), &settings.device, printer)?;
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

/// Trains as the recipe says on a base that is open already, and exports to the run folder, unless `stop` says
/// after a step that the run is to end there.
pub(super) fn train(
    recipe: &Recipe,
    source: &Source,
    start: Start,
    stop: &dyn Fn() -> bool,
    device: &Device,
    printer: &Printer,
) -> Result<Ended> {
    let out = &recipe.run.out;
    refuse_to_replace(recipe, start)?;
    let Plan { rows, held_out, begin, counts } = Plan::new(recipe, source)?;
    let weights = match recipe.base.init_std {
        Some(std) => random_weights(source, std, recipe.run.seed, device)?,
        None => source.weights_held(device, recipe.base.hold)?,
    };
    let arithmetic = arithmetic::name(device, products(recipe));
    let inputs = Inputs::new(recipe, source.digest(&weights)?, begin.as_ref(), arithmetic)?;
    let (weights, trained) = match &begin {
        None => (variables(&weights)?, Trained::Base),
        Some(begin) => (weights, Trained::Adapter(LoraTensors::trained(begin, device)?)),
    };
    let mut session = open(recipe, source, (weights, trained), begin.as_ref(), (rows, held_out), device)?;

    let _lock = Lock::take(out)?;
    // A run that goes on has them; one that is refused must not replace them.
    if !train::holds_run(out) {
        let text = toml::to_string(&recipe.portable().resolved()).context("cannot write the recipe down")?;
        let path = out.join(RECIPE);
        atomic::write(&path, text.as_bytes()).with_context(|| format!("cannot write {}", path.display()))?;
        inputs.write(out, &counts, &[], None)?;
    }

    counts.notes().iter().for_each(|note| printer.note(note));
    printer.object(&json!({ "data": counts.data() }));
    if recipe.task == Task::Dpo && recipe.dpo.cache && recipe.dpo.cost().has_reference() {
        // A run that is refused must not change the folder.
        train::belongs(out, &inputs.identity)?;
        let adapter = begin.as_ref().filter(|_| recipe.dpo.reference == Reference::Start);
        let model = references::model(&inputs.base.0, adapter, &inputs.identity.arithmetic);
        refer(&mut session, &out.join(references::FILE), model, printer)?;
    }

    let beta = recipe.dpo.cost().has_reference().then_some(recipe.dpo.beta);
    let mut watch = Watch::new(&out.join(train::METRICS), beta);
    let diverged: RefCell<Option<String>> = RefCell::default();
    let bar = printer.bar(0, "training");
    let began = Instant::now();
    let (mut tokens, mut first) = (0, true);
    let mut report = |step: &Step| {
        bar.set_length(step.steps as u64);
        bar.set_position(step.step as u64);
        tokens += step.tokens;
        let rate = tokens as f64 / began.elapsed().as_secs_f64();
        bar.set_message(format!("loss {:.4}, {rate:.0} tokens/s", step.loss));
        let mut record = step.record.clone();
        // Without a terminal, a line every tenth of the way.
        let tenth = step.step * 10 / step.steps != (step.step - 1) * 10 / step.steps;
        if bar.is_hidden() && (first || tenth) {
            printer.note(&format!("step {}/{}: loss {:.4}, {rate:.0} tokens/s", step.step, step.steps, step.loss));
        }
        first = false;
        watch.see(&step.record);
        let signs = if tenth { watch.news(step.steps) } else { Vec::new() };
        if !signs.is_empty() {
            record.insert("hint".to_owned(), json!(signs.iter().map(ToString::to_string).collect::<Vec<_>>()));
        }
        // Every value is looked at while a run is young, which is when rates that are too high show, and then with the
        // lines.
        if tenth || step.step <= YOUNG {
            *diverged.borrow_mut() =
                session.adapter().and_then(beyond).map(|what| format!("step {}: {what}", step.step));
        }
        bar.suspend(|| signs.iter().for_each(|sign| printer.note(&format!("hint: {sign}"))));
        printer.object(&serde_json::Value::Object(record));
    };
    let result = |folder: &Path| export(recipe, source, &session, folder).map(drop);
    let save = |step: usize| keep::keep(&recipe.run, step, result).map_err(TaskError::from);
    let stop = || stop() || diverged.borrow().is_some();
    let observer = Observer { stop: &stop, save: &save, see: &mut report };
    let ended = train::run(&session, &recipe.optim, &recipe.run, &inputs.identity, start, observer)?;
    bar.finish_and_clear();
    train::draw(out)?;
    if let Some(message) = diverged.take() {
        return Err(Advice::new(message, "the run has diverged: lower optim.lr, or set optim.max_grad_norm").into());
    }
    if ended.why != Why::Stopped {
        let result = export(recipe, source, &session, out)?;
        inputs.write(out, &counts, result, Some(&ended))?;
    }
    Ok(ended)
}

/// The first factor with a value that cannot be written: on the 16-bit grid, at its coarsest scale, there is no room for
/// it, and no run that learns comes near.
fn beyond(adapter: &LoraTensors) -> Option<String> {
    let adapter = adapter.to_adapter().ok()?;
    let large = |values: &[f32], scale: f32| values.iter().any(|value| (value * scale).abs() > GRID);
    adapter.sites.iter().find_map(|(site, factors)| {
        let half =
            if large(&factors.a, 1.0) { "lora_A" } else { large(&factors.b, factors.scale).then_some("lora_B")? };
        Some(format!("{site}.{half} has a value beyond what an adapter can hold: {GRID}"))
    })
}

/// The task on its rows (to train on, held out); `start` is the adapter that `lora.start` names, if any.
pub(super) fn open(
    recipe: &Recipe,
    source: &Source,
    (weights, trained): (Weights, Trained),
    start: Option<&Adapter>,
    (rows, held_out): (Rows, Option<Rows>),
    device: &Device,
) -> Result<TextSession> {
    let frozen = match (recipe.dpo.reference, start) {
        (Reference::Start, Some(start)) => Some(LoraTensors::frozen(start, device)?),
        _ => None,
    };
    let (cost, sft_weight) = (recipe.dpo.cost(), recipe.dpo.supervised());
    let dpo = DpoSettings { cost, sft_weight, reference: recipe.dpo.reference };
    let rows = (rows, held_out, recipe.run.batch);
    let dropout = recipe.lora.as_ref().map_or(0.0, |lora| lora.dropout);
    Ok(TextSession::new(source.network().clone(), weights, trained, frozen, dpo, rows)
        .recomputing(recipe.run.recompute)
        .multiplying_in(products(recipe))
        .dropping(dropout, recipe.run.seed))
}

/// Number format of products with the base's weights.
fn products(recipe: &Recipe) -> DType {
    match recipe.run.precision {
        Format::F32 => DType::F32,
        Format::Bf16 => DType::BF16,
    }
}

/// Has the session know its reference's figures, those in the file at `path` and otherwise new ones.
fn refer(session: &mut TextSession, path: &Path, model: [u8; 32], printer: &Printer) -> Result<()> {
    let opened = References::open(path, model);
    let (mut known, found) = opened.with_context(|| format!("cannot read {}", path.display()))?;
    if found == Found::Unusable {
        printer.note(&format!("{}: is damaged or of another model, made anew", path.display()));
    }
    let bar = printer.bar(0, "reference");
    let mut told = !bar.is_hidden();
    let progress = |done: usize, of: usize| {
        bar.set_length(of as u64);
        bar.set_position(done as u64);
        if !std::mem::replace(&mut told, true) {
            printer.note(&format!("computing the reference's log-probabilities of {of} pairs"));
        }
    };
    let computed = session.refer(&mut known, progress).map_err(|error| anyhow!(error))?;
    bar.finish_and_clear();
    if found == Found::Whole && computed == 0 {
        printer.note(&format!("the reference's log-probabilities are in {}", path.display()));
    }
    Ok(())
}

/// Refuses a run folder in which the run would replace what it has not made itself.
fn refuse_to_replace(recipe: &Recipe, start: Start) -> Result<()> {
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

/// Writes what is trained, as it stands, into a folder, and names its files with weights.
fn export(recipe: &Recipe, source: &Source, session: &TextSession, out: &Path) -> Result<&'static [&'static str]> {
    match session.adapter() {
        Some(adapter) => {
            let linear = plan::linear_sites(source);
            let fan_in_fan_out = source.network().fan_in_fan_out();
            peft::save(out, &adapter.to_adapter()?, &source.name(), &linear, fan_in_fan_out)?;
            Ok(&[peft::FACTORS])
        }
        None => {
            let folder = out.join(BASE);
            if folder.exists() {
                // A run that was resumed has been here before.
                std::fs::remove_dir_all(&folder).with_context(|| format!("cannot replace {}", folder.display()))?;
            }
            let precision = match recipe.base.save_dtype {
                SaveDtype::F32 => Precision::F32,
                SaveDtype::Bf16 => Precision::Bf16,
            };
            let files = source.text_files()?;
            save_folder(&folder, source.network(), session.weights(), precision, source.special(), &files)?;
            Ok(&["base/model.safetensors"])
        }
    }
}

fn random_weights(source: &Source, std: f64, seed: u64, device: &Device) -> Result<Weights> {
    let make = |(name, shape): (String, Vec<usize>)| {
        let count = shape.iter().product();
        let values = if shape.len() == 1 { vec![1.0; count] } else { normal_values(&name, count, std, seed) };
        Ok((name, Tensor::from_vec(values, shape, device)?))
    };
    source.network().shapes().into_iter().map(make).collect()
}

fn variables(weights: &Weights) -> Result<Weights> {
    let make = |name: &str| Ok((name.to_owned(), Var::from_tensor(&weights.get(name)?)?.into_inner()));
    weights.names().map(make).collect()
}
