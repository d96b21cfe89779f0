//! `ftk train`: from a recipe to an adapter, or to a base trained in full.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result};
use candle_core::{Device, Tensor, Var};
use ftk_adapters::lora::Adapter;
use ftk_adapters::sites::Role;
use ftk_adapters::train::{LoraTensors, initial_factors, normal_values};
use ftk_adapters::weights::Weights;
use ftk_adapters::{atomic, peft};
use ftk_recipes::{Lora, Recipe, Reference, SaveDtype, Targets};
use serde_json::json;

use super::{Advice, Outcome, fitting, open};
use crate::cli::printer::Printer;
use crate::models::{Precision, Source, save_folder};
use crate::text::load::{Counts, load};
use crate::text::session::{DpoSettings, TextSession, Trained};
use crate::train::{self, Start, Step};

/// What is needed.
pub struct Settings {
    /// Recipe file.
    pub recipe: PathBuf,
    /// Run folder, instead of the recipe's.
    pub out: Option<PathBuf>,
    /// Go on from a checkpoint.
    pub resume: bool,
}

/// Folder inside the run folder for a base trained in full.
pub const BASE: &str = "base";

/// Trains and exports.
///
/// # Errors
/// Recipe, rows, model: whatever is wrong with them, before any training; see also [`train::TrainError`].
pub fn run(settings: &Settings, printer: &Printer) -> Result<Outcome> {
    let mut recipe = Recipe::load(&settings.recipe)?;
    if let Some(out) = &settings.out {
        recipe.run.out.clone_from(out);
    }
    let start = if settings.resume { Start::Resume } else { Start::Fresh };
    let source = open(&recipe.base)?;
    train(&recipe, &source, start, printer)?;
    printer.note(&format!("wrote {}", recipe.run.out.display()));
    Ok(Outcome::Done)
}

/// Trains as the recipe says on a base that is open already, and exports to the run folder.
pub(super) fn train(recipe: &Recipe, source: &Source, start: Start, printer: &Printer) -> Result<()> {
    let out = &recipe.run.out;
    refuse_to_replace(recipe, start)?;
    let rows = load(source, &recipe.data, recipe.task, &recipe.data.train)?;
    let rows = if recipe.data.packing { rows.pack() } else { rows };
    let held_out = recipe.data.held_out.as_deref();
    let held_out = held_out.map(|path| load(source, &recipe.data, recipe.task, path)).transpose()?;

    let weights = match recipe.base.init_std {
        Some(std) => random_weights(source, std, recipe.run.seed)?,
        None => source.weights_held(&Device::Cpu, recipe.base.hold)?,
    };
    let base_digest = source.digest(&weights)?;
    let (weights, trained, begin) = match &recipe.lora {
        None => (variables(&weights)?, Trained::Base, None),
        Some(lora) => {
            let begin = begin(lora, source, recipe.run.seed)?;
            let trained = Trained::Adapter(LoraTensors::trained(&begin, &Device::Cpu)?);
            (weights, trained, Some(begin))
        }
    };
    let frozen = match (recipe.dpo.reference, &begin) {
        (Reference::Start, Some(begin)) => Some(LoraTensors::frozen(begin, &Device::Cpu)?),
        _ => None,
    };
    let dpo = DpoSettings { beta: recipe.dpo.beta, reference: recipe.dpo.reference };
    let identity = identity(recipe, &base_digest.0, begin.as_ref())?;
    let counts: Vec<Counts> = [&rows].into_iter().chain(&held_out).map(|file| file.counts.clone()).collect();
    let rows = (rows.rows, held_out.map(|file| file.rows), recipe.run.batch);
    let dropout = recipe.lora.as_ref().map_or(0.0, |lora| lora.dropout);
    let session = TextSession::new(source.network().clone(), weights, trained, frozen, dpo, rows)
        .recomputing(recipe.run.recompute)
        .dropping(dropout, recipe.run.seed);

    std::fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
    // A run that goes on has it; one that is refused must not replace it.
    if !train::holds_run(out) {
        let text = toml::to_string(recipe).context("cannot write the recipe down")?;
        atomic::write(&out.join("recipe.toml"), text.as_bytes())
            .with_context(|| format!("cannot write to {}", out.display()))?;
    }

    counts.iter().flat_map(Counts::notes).for_each(|note| printer.note(&note));
    printer.object(&json!({ "data": counts.iter().map(Counts::json).collect::<Vec<_>>() }));
    let bar = printer.bar(0, "training");
    let began = Instant::now();
    let (mut tokens, mut first) = (0, true);
    let report = |step: &Step| {
        bar.set_length(step.steps as u64);
        bar.set_position(step.step as u64);
        tokens += step.tokens;
        let rate = tokens as f64 / began.elapsed().as_secs_f64();
        bar.set_message(format!("loss {:.4}, {rate:.0} tokens/s", step.loss));
        printer.object(&serde_json::Value::Object(step.record.clone()));
        // Without a terminal, a line every tenth of the way.
        let tenth = step.step * 10 / step.steps != (step.step - 1) * 10 / step.steps;
        if bar.is_hidden() && (first || tenth) {
            printer.note(&format!("step {}/{}: loss {:.4}, {rate:.0} tokens/s", step.step, step.steps, step.loss));
        }
        first = false;
    };
    train::run(&session, &recipe.optim, &recipe.run, identity, start, report)?;
    bar.finish_and_clear();
    export(recipe, source, &session)
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

fn export(recipe: &Recipe, source: &Source, session: &TextSession) -> Result<()> {
    let out = &recipe.run.out;
    match session.adapter() {
        Some(adapter) => {
            let linear: Vec<String> = linear_sites(source);
            peft::save(out, &adapter.to_adapter()?, &source.name(), &linear)?;
        }
        None => {
            let folder = out.join(BASE);
            if folder.exists() {
                // A resumed run that had already ended made it.
                std::fs::remove_dir_all(&folder).with_context(|| format!("cannot replace {}", folder.display()))?;
            }
            let precision = match recipe.base.save_dtype {
                SaveDtype::F32 => Precision::F32,
                SaveDtype::Bf16 => Precision::Bf16,
            };
            let files = source.text_files()?;
            save_folder(&folder, source.network(), session.weights(), precision, source.special(), &files)?;
        }
    }
    Ok(())
}

fn linear_sites(source: &Source) -> Vec<String> {
    let sites = source.network().sites().into_iter();
    sites.filter(|site| site.role == Role::Linear).map(|site| site.name).collect()
}

/// The adapter training starts from.
fn begin(lora: &Lora, source: &Source, seed: u64) -> Result<Adapter> {
    if let Some(folder) = &lora.start {
        return fitting(source, folder);
    }
    let shapes = source.network().shapes();
    let named = |site: &str| match &lora.targets {
        Targets::All(_) => None,
        Targets::Named(names) => Some(names.iter().any(|name| site == name || site.ends_with(&format!(".{name}")))),
    };
    let scale = (lora.alpha / lora.rank as f64) as f32;
    let mut adapter = Adapter::default();
    for site in source.network().sites() {
        let wanted = match site.role {
            Role::Linear => named(&site.name).unwrap_or(true),
            Role::Head => named(&site.name).unwrap_or(false),
            Role::Embedding | Role::Norm => false,
        };
        if wanted {
            let shape = &shapes[&format!("{}.weight", site.weight)];
            let factors = initial_factors(&site.name, lora.rank, (shape[0], shape[1]), scale, seed);
            adapter.sites.insert(site.name, factors);
        }
    }
    if let Targets::Named(names) = &lora.targets {
        let hit =
            |name: &&String| adapter.sites.keys().any(|site| site == *name || site.ends_with(&format!(".{name}")));
        if let Some(name) = names.iter().find(|name| !hit(name)) {
            let mut known: Vec<String> =
                linear_sites(source).iter().filter_map(|site| site.rsplit('.').next()).map(str::to_owned).collect();
            known.sort();
            known.dedup();
            let message = format!("lora.targets names no linear layer of this base: {name}");
            return Err(Advice::new(message, format!("there are: {}", known.join(", "))).into());
        }
    }
    Ok(adapter)
}

fn random_weights(source: &Source, std: f64, seed: u64) -> Result<Weights> {
    let make = |(name, shape): (String, Vec<usize>)| {
        let count = shape.iter().product();
        let values = if shape.len() == 1 { vec![1.0; count] } else { normal_values(&name, count, std, seed) };
        Ok((name, Tensor::from_vec(values, shape, &Device::Cpu)?))
    };
    source.network().shapes().into_iter().map(make).collect()
}

fn variables(weights: &Weights) -> Result<Weights> {
    let make = |name: &str| Ok((name.to_owned(), Var::from_tensor(&weights.get(name)?)?.into_inner()));
    weights.names().map(make).collect()
}

/// Names what a run computes: recipe (but for the place of its results), rows, base, first adapter.
fn identity(recipe: &Recipe, base: &[u8; 32], begin: Option<&Adapter>) -> Result<[u8; 32]> {
    let mut recipe = recipe.clone();
    let mut hash = blake3::Hasher::new_derive_key("ftk training run");
    for path in std::iter::once(&recipe.data.train).chain(&recipe.data.held_out) {
        let rows = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        hash.update(blake3::hash(&rows).as_bytes());
    }
    // Content counts, not where it lies.
    recipe.run.out = PathBuf::new();
    recipe.base.model = PathBuf::new();
    recipe.data.train = PathBuf::new();
    recipe.data.held_out = recipe.data.held_out.map(|_| PathBuf::new());
    if let Some(lora) = &mut recipe.lora {
        lora.start = lora.start.as_ref().map(|_| PathBuf::new());
    }
    recipe.run.save_every = 0;
    // How it is computed does not matter either.
    (recipe.run.recompute, recipe.base.hold) = Default::default();
    let recipe = json!(recipe).to_string();
    hash.update(&(recipe.len() as u64).to_le_bytes()).update(recipe.as_bytes()).update(base);
    for (site, factors) in begin.iter().flat_map(|begin| &begin.sites) {
        hash.update(site.as_bytes()).update(&factors.scale.to_le_bytes());
        for value in factors.a.iter().chain(&factors.b) {
            hash.update(&value.to_le_bytes());
        }
    }
    Ok(*hash.finalize().as_bytes())
}
