//! How a base, with or without an adapter, does on rows it is not trained on.

use anyhow::{Result, anyhow};
use ftk_adapters::train::LoraTensors;
use ftk_bases::BaseModel;
use ftk_recipes::{Recipe, Session, Task};
use ftk_text::examples::Examples;
use ftk_text::load::{DatasetKind, Loaded, load};
use ftk_text::session::Trained;
use serde_json::{Map, Value, json};

use super::super::origin::other_bases;
use super::super::task::Evaluation;
use super::super::{Advice, Outcome, adapter_notes, fitting, open as base, pull};
use super::open::{held, open, reading};
use crate::cli::printer::Printer;

/// Evaluates and prints one figure a line.
///
/// # Errors
/// Rows, model or adapter: whatever is wrong with them.
pub(super) fn run(mut recipe: Recipe, settings: &Evaluation, printer: &Printer) -> Result<Outcome> {
    if let Some(data) = &settings.data {
        recipe.data.held_out = Some(data.clone());
    }
    pull::recipe(&mut recipe, settings.offline, printer)?;
    let Some(data) = recipe.data.held_out.clone() else {
        return Err(Advice::new("there are no rows to evaluate on", "name them with --data or data.held_out").into());
    };
    let source = base(&recipe.base)?;
    let adapter = settings.adapter.as_deref().map(|folder| fitting(&source, folder)).transpose()?;
    adapter_notes(&source, settings.adapter.as_deref()).iter().for_each(|note| printer.note(note));
    let start = recipe.lora.as_ref().and_then(|lora| lora.start.as_deref());
    let folders = settings.adapter.as_deref().into_iter().chain(start);
    let start = start.map(|folder| fitting(&source, folder)).transpose()?;
    let Loaded { rows, counts, .. } = load(&source, &recipe.data, DatasetKind::of(&recipe), &data)?;
    counts.notes().iter().for_each(|note| printer.note(note));
    let clock = printer.working("reading the base");
    let weights = source.weights_held(&settings.device, reading(&recipe))?;
    let others = other_bases(folders, || Some(source.digest(&weights).ok()?.0));
    let weights = held(&recipe, weights)?;
    drop(clock);
    others.iter().for_each(|note| printer.note(note));
    let text = text_bytes(&source, &rows)?;
    let tensors = adapter.as_ref().map(|adapter| LoraTensors::frozen(adapter, &settings.device)).transpose()?;

    let nothing = match &rows {
        Examples::Sft(_) => Examples::Sft(Vec::new()),
        Examples::Dpo(_) => Examples::Dpo(Vec::new()),
        Examples::Unpaired(_) => Examples::Unpaired(Vec::new()),
    };
    let trained = tensors.map_or(Trained::Base, Trained::Adapter);
    let session = open(&recipe, &source, (weights, trained), start.as_ref(), (nothing, Some(rows)), &settings.device)?;
    let mut figures = Map::new();
    let _evaluating = printer.working("evaluating");
    for (name, figure) in session.evaluate().map_err(|error| anyhow!(error))? {
        figures.insert(name.trim_start_matches("eval_").to_owned(), json!(figure));
        if (name, recipe.task) == ("eval_loss", Task::Sft) {
            figures.insert("perplexity".to_owned(), json!(libm::exp(figure)));
            if let Some((scored, bytes)) = text {
                let bits = figure * scored as f64 / (std::f64::consts::LN_2 * bytes as f64);
                figures.insert("bits_per_byte".to_owned(), json!(bits));
            }
        }
    }
    for (name, figure) in &figures {
        printer.line(&format!("{name}\t{:.6}", figure.as_f64().unwrap_or(f64::NAN)));
    }
    let mut object = json!({ "task": recipe.task, "file": data, "counts": counts.json() });
    object["figures"] = Value::Object(figures);
    printer.object(&object);
    Ok(Outcome::Done)
}

/// Scored ids, and the bytes of the text that they stand for, special tokens left out: what the loss of models with other
/// tokenizers is compared by. `None` of pairs, and where there is no tokenizer or no text.
///
/// # Errors
/// The tokenizer's.
fn text_bytes(source: &BaseModel, rows: &Examples) -> Result<Option<(usize, usize)>> {
    let (Examples::Sft(rows), Ok(tokenizer)) = (rows, source.tokenizer()) else { return Ok(None) };
    let (mut scored, mut bytes) = (0, 0);
    for row in rows {
        // A token alone may be written otherwise than behind others.
        let upto = |end: usize| Ok::<_, anyhow::Error>(tokenizer.decode(&row.ids[..end], true)?.len());
        let mut from = 0;
        for run in row.scored.chunk_by(|one, next| one == next) {
            let to = from + run.len();
            if run[0] {
                scored += run.len();
                bytes += upto(to)?.saturating_sub(upto(from)?);
            }
            from = to;
        }
    }
    Ok((bytes > 0).then_some((scored, bytes)))
}
