//! `ftk eval`: how a base, with or without an adapter, does on rows it is not trained on.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use candle_core::Device;
use ftk_adapters::train::LoraTensors;
use ftk_recipes::{Recipe, Session};
use serde_json::{Map, Value, json};

use super::train::open;
use super::{Advice, Outcome, fitting, pull};
use crate::cli::printer::Printer;
use crate::models::Source;
use crate::text::evaluate::{Continuation, continuation};
use crate::text::load::{Loaded, load};
use crate::text::session::{Rows, Trained};

/// What is needed.
pub struct Settings {
    /// Recipe that names what is not named here.
    pub recipe: Option<PathBuf>,
    /// Settings laid over the recipe, `key=value`.
    pub set: Vec<String>,
    /// Base model.
    pub base: Option<PathBuf>,
    /// PEFT adapter folder.
    pub adapter: Option<PathBuf>,
    /// Rows.
    pub data: Option<PathBuf>,
    /// Where it is computed.
    pub device: Device,
    /// Fetch nothing that the recipe names on the hub.
    pub offline: bool,
}

/// Evaluates and prints one figure a line.
///
/// # Errors
/// Recipe, rows, model or adapter: whatever is wrong with them.
pub fn run(settings: &Settings, printer: &Printer) -> Result<Outcome> {
    let mut recipe = match &settings.recipe {
        Some(path) => Recipe::load_with(path, &settings.set)?,
        None => Recipe::parse_with(Path::new("recipe"), super::NO_RECIPE, &settings.set)?,
    };
    if let Some(base) = &settings.base {
        recipe.base.model.clone_from(base);
    }
    if let Some(data) = &settings.data {
        recipe.data.held_out = Some(data.clone());
    }
    pull::recipe(&mut recipe, settings.offline, printer)?;
    let Some(data) = recipe.data.held_out.clone() else {
        return Err(Advice::new("there are no rows to evaluate on", "name them with --data or data.held_out").into());
    };
    let source = Source::open(&recipe.base.model)?;
    let adapter = settings.adapter.as_deref().map(|folder| fitting(&source, folder)).transpose()?;
    let start = recipe.lora.as_ref().and_then(|lora| lora.start.as_deref());
    let start = start.map(|folder| fitting(&source, folder)).transpose()?;
    let Loaded { rows, counts, .. } = load(&source, &recipe.data, recipe.task, &data)?;
    counts.notes().iter().for_each(|note| printer.note(note));
    let weights = source.weights_held(&settings.device, recipe.base.hold)?;
    let tensors = adapter.as_ref().map(|adapter| LoraTensors::frozen(adapter, &settings.device)).transpose()?;

    let mut figures = Map::new();
    match rows {
        Rows::Sft(rows) => {
            let bar = printer.bar(rows.len() as u64, "evaluating");
            let network = source.network();
            let found = continuation(network, &weights, tensors.as_ref(), &rows, || bar.inc(1));
            bar.finish_and_clear();
            let Continuation { items, loss, hits } = found.context("cannot evaluate")?;
            let loss = loss / items as f64;
            figures.insert("loss".to_owned(), json!(loss));
            figures.insert("perplexity".to_owned(), json!(loss.exp()));
            figures.insert("token_accuracy".to_owned(), json!(hits as f64 / items as f64));
        }
        rows @ Rows::Dpo(_) => {
            let trained = tensors.map_or(Trained::Base, Trained::Adapter);
            let session = open(
                &recipe,
                &source,
                (weights, trained),
                start.as_ref(),
                (Rows::Dpo(Vec::new()), Some(rows)),
                &settings.device,
            )?;
            for (name, figure) in session.evaluate().map_err(|error| anyhow::anyhow!(error))? {
                figures.insert(name.trim_start_matches("eval_").to_owned(), json!(figure));
            }
        }
    }
    for (name, figure) in &figures {
        printer.line(&format!("{name}\t{:.6}", figure.as_f64().unwrap_or(f64::NAN)));
    }
    let mut object = json!({ "task": recipe.task, "data": data, "counts": counts.json() });
    object["figures"] = Value::Object(figures);
    printer.object(&object);
    Ok(Outcome::Done)
}
