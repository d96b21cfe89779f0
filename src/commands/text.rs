//! The task of text at the door of tasks: supervised fine-tuning and preferences on rows.

mod plan;

use std::borrow::Borrow;
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use candle_core::{DType, Device, Tensor, Var};
use ftk_adapters::lora::Adapter;
use ftk_adapters::peft;
use ftk_adapters::train::{LoraTensors, normal_values};
use ftk_adapters::weights::Weights;
use ftk_networks::digest::BaseDigest;
use ftk_recipes::{BUILTIN, Format, Recipe, Reference, SaveDtype, Session};
use serde_json::{Map, Value, json};

pub(super) use self::plan::begin;
use self::plan::{Counts, Plan};
use super::tasks::{self, Opened, Start, Telling, Trainer};
use super::train::manifest::{Inputs, hex, of_file};
use super::train::{BASE, in_folder, refuse_to_replace};
use super::{Outcome, data, estimate, eval, pull};
use crate::arithmetic;
use crate::cli::printer::Printer;
use crate::models::{Precision, Source, save_folder};
use crate::text::health::Watch;
use crate::text::references::{self, Found, References};
use crate::text::session::{DpoSettings, Rows, TextSession, Trained};
use crate::train::{self, Ended, Identity, METRICS, Step};

/// Largest magnitude of a value on the 16-bit grid.
const GRID: f32 = ftk_kernels::grid::MAX_16 as f32;

/// The task of text.
pub(super) struct Text;

impl tasks::Task for Text {
    fn name(&self) -> &'static str {
        "text"
    }

    fn starts(&self) -> Result<Vec<Start>> {
        Ok(BUILTIN.iter().filter(|file| !file.name.contains('/')).map(Start::recipe).collect())
    }

    fn trainer(&self) -> Option<&dyn Trainer> {
        Some(self)
    }
}

impl Trainer for Text {
    fn takes(&self) -> &'static [ftk_recipes::Task] {
        &[ftk_recipes::Task::Sft, ftk_recipes::Task::Dpo]
    }

    fn fetch(&self, recipe: &mut Recipe, offline: bool, printer: &Printer) -> Result<()> {
        pull::recipe(recipe, offline, printer)
    }

    fn plan(&self, recipe: &Recipe) -> Result<Box<dyn tasks::Plan>> {
        Ok(Box::new(Planned::new(recipe, super::open(&recipe.base)?)?))
    }

    fn eval(&self, recipe: Recipe, settings: &eval::Settings, printer: &Printer) -> Result<Outcome> {
        eval::of_text(recipe, settings, printer)
    }

    fn estimate(&self, recipe: Recipe, settings: &estimate::Settings, printer: &Printer) -> Result<Outcome> {
        estimate::of_text(recipe, settings, printer)
    }

    fn preview(&self, recipe: Recipe, settings: &data::Settings, printer: &Printer) -> Result<Outcome> {
        data::of_text(recipe, settings, printer)
    }
}

/// Trains on a base that is open already, in the run folder of the recipe, unless `stop` says after a step that the run
/// is to end there.
pub(super) fn train(
    recipe: &Recipe,
    source: &Source,
    start: train::Start,
    stop: &dyn Fn() -> bool,
    device: &Device,
    printer: &Printer,
) -> Result<Ended> {
    refuse_to_replace(recipe, start)?;
    let mut opened = Planned::new(recipe, source)?.opened(device)?;
    in_folder(recipe, &mut opened, start, stop, printer)
}

/// A run whose rows are read.
struct Planned<S> {
    recipe: Recipe,
    source: S,
    plan: Plan,
}

impl<S: Borrow<Source>> Planned<S> {
    fn new(recipe: &Recipe, source: S) -> Result<Self> {
        let plan = Plan::new(recipe, source.borrow())?;
        Ok(Self { recipe: recipe.clone(), source, plan })
    }

    fn opened(self, device: &Device) -> Result<Run<S>> {
        let Self { recipe, source: held, plan: Plan { rows, held_out, begin, counts } } = self;
        let source: &Source = held.borrow();
        let weights = match recipe.base.init_std {
            Some(std) => random_weights(source, std, recipe.run.seed, device)?,
            None => source.weights_held(device, recipe.base.hold)?,
        };
        let base = source.digest(&weights)?;
        let inputs = inputs(&recipe, &base, begin.as_ref(), arithmetic::name(device, products(&recipe)))?;
        let (weights, trained) = match &begin {
            None => (variables(&weights)?, Trained::Base),
            Some(begin) => (weights, Trained::Adapter(LoraTensors::trained(begin, device)?)),
        };
        let session = open(&recipe, source, (weights, trained), begin.as_ref(), (rows, held_out), device)?;
        Ok(Run { recipe, source: held, session, base, begin, counts, inputs })
    }
}

impl tasks::Plan for Planned<Source> {
    fn show(&self, printer: &Printer) -> Result<()> {
        self.plan.counts.show(&self.recipe, printer)
    }

    fn open(self: Box<Self>, device: &Device) -> Result<Box<dyn Opened>> {
        Ok(Box::new(self.opened(device)?))
    }
}

/// A run whose weights are read, too.
struct Run<S> {
    recipe: Recipe,
    source: S,
    session: TextSession,
    base: BaseDigest,
    /// The adapter training starts from; `None` where the base is trained.
    begin: Option<Adapter>,
    counts: Counts,
    inputs: Inputs,
}

impl<S: Borrow<Source>> Opened for Run<S> {
    fn session(&self) -> &dyn Session {
        &self.session
    }

    fn inputs(&self) -> &Inputs {
        &self.inputs
    }

    fn counts(&self) -> Value {
        self.counts.json()
    }

    fn announce(&self, printer: &Printer) {
        self.counts.notes().iter().for_each(|note| printer.note(note));
        printer.object(&json!({ "data": self.counts.data() }));
    }

    fn begin(&mut self, out: &Path, printer: &Printer) -> Result<()> {
        let dpo = &self.recipe.dpo;
        if self.recipe.task != ftk_recipes::Task::Dpo || !dpo.cache || !dpo.cost().has_reference() {
            return Ok(());
        }
        let adapter = self.begin.as_ref().filter(|_| dpo.reference == Reference::Start);
        let model = references::model(&self.base.0, adapter, &self.inputs.identity.arithmetic);
        refer(&mut self.session, &out.join(references::FILE), model, printer)
    }

    fn telling(&self, out: &Path) -> Telling {
        let dpo = &self.recipe.dpo;
        let mut watch = Watch::new(&out.join(METRICS), dpo.cost().has_reference().then_some(dpo.beta));
        let signs = move |step: &Step, asked: bool| -> Vec<String> {
            watch.see(&step.record);
            let news = if asked { watch.news(step.steps) } else { Vec::new() };
            news.iter().map(ToString::to_string).collect()
        };
        Telling { rate: true, figures: &[], signs: Box::new(signs) }
    }

    fn beyond(&self) -> Option<String> {
        self.session.adapter().and_then(beyond)
    }

    fn export(&self, folder: &Path) -> Result<Vec<&'static str>> {
        export(&self.recipe, self.source.borrow(), &self.session, folder).map(<[_]>::to_vec)
    }
}

/// What goes into a run: recipe (but for the places it names), rows, base and first adapter.
fn inputs(recipe: &Recipe, base: &BaseDigest, begin: Option<&Adapter>, arithmetic: String) -> Result<Inputs> {
    let train = of_file(&recipe.data.train)?;
    let held_out = recipe.data.held_out.as_deref().map(of_file).transpose()?;
    let start = recipe.lora.as_ref().and_then(|lora| lora.start.as_ref());
    let start = start.map(|folder| of_file(&folder.join(peft::FACTORS))).transpose()?;

    let mut hash = blake3::Hasher::new_derive_key("ftk training run");
    hash.update(&(arithmetic.len() as u64).to_le_bytes()).update(arithmetic.as_bytes());
    hash.update(train.as_bytes());
    if let Some(digest) = &held_out {
        hash.update(digest.as_bytes());
    }
    let recipe = recipe.without_places();
    let text = recipe.to_string();
    hash.update(&(text.len() as u64).to_le_bytes()).update(text.as_bytes()).update(&base.0);
    for (site, factors) in begin.iter().flat_map(|begin| &begin.sites) {
        hash.update(site.as_bytes()).update(&factors.scale.to_le_bytes());
        for value in factors.a.iter().chain(&factors.b) {
            hash.update(&value.to_le_bytes());
        }
    }
    let mut said = Map::new();
    said.insert("base".to_owned(), json!(base.to_string()));
    said.insert("data".to_owned(), json!({ "train": hex(&train), "held_out": held_out.as_ref().map(hex) }));
    said.insert("start".to_owned(), json!(start.as_ref().map(hex)));
    Ok(Inputs::new(recipe, said, Identity { digest: *hash.finalize().as_bytes(), arithmetic }))
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
