//! Rows as a model will see them, with what is scored marked, before any weight is read.

use anyhow::Result;
use ftk_bases::Tokenizer;
use ftk_recipes::Recipe;
use ftk_text::encode::ScoredSequence;
use ftk_text::examples::Examples;
use ftk_text::load::{DatasetKind, Loaded, load};
use serde_json::{Value, json};

use super::super::task::PreviewOptions;
use super::super::{Outcome, open, pull};
use crate::cli::printer::Printer;

/// Shows the first rows and counts all.
///
/// # Errors
/// Whatever a training run would refuse about base and rows.
pub(super) fn run(mut recipe: Recipe, settings: &PreviewOptions, printer: &Printer) -> Result<Outcome> {
    pull::recipe(&mut recipe, settings.offline, printer)?;
    let (source, data, kind) = (open(&recipe.base)?, &recipe.data, DatasetKind::of(&recipe));
    let loaded = load(&source, data, kind, &data.train)?;
    let held_out = data.held_out.as_deref().map(|path| load(&source, data, kind, path)).transpose()?;
    let tokenizer = source.tokenizer().ok();
    let mut shown = Vec::new();
    for (row, place) in loaded.places.iter().enumerate().take(settings.rows) {
        for (name, sequence) in sequences(&loaded, row) {
            let heading = format!("{}:{place}{name}", data.train.display());
            printer.line(&format!("{heading}: {} tokens, {} scored", sequence.ids.len(), sequence.items()));
            let parts = parts(tokenizer, sequence)?;
            printer.marked(&parts);
            printer.line("");
            shown.push(json!({
                "place": place.to_string(),
                "part": name.trim(),
                "ids": sequence.ids,
                "scored": sequence.scored,
                "text": parts.iter().map(|(text, scored)| json!([text, scored])).collect::<Vec<Value>>(),
            }));
        }
    }
    let loaded = if data.packing { loaded.pack() } else { loaded };
    let files: Vec<&Loaded> = std::iter::once(&loaded).chain(&held_out).collect();
    files.iter().flat_map(|file| file.counts.notes()).for_each(|note| printer.line(&note));
    let counts: Vec<Value> = files.iter().map(|file| file.counts.json()).collect();
    printer.object(&json!({ "data": counts, "examples": shown }));
    Ok(Outcome::Done)
}

/// What is computed for a row.
fn sequences(loaded: &Loaded, row: usize) -> Vec<(&'static str, &ScoredSequence)> {
    match &loaded.rows {
        Examples::Sft(rows) => vec![("", &rows[row])],
        Examples::Dpo(rows) => {
            // The pairs of a choice have one chosen completion.
            let chosen = rows[row].first().map(|pair| (" chosen", &pair.chosen));
            chosen.into_iter().chain(rows[row].iter().map(|pair| (" rejected", &pair.rejected))).collect()
        }
        Examples::Unpaired(rows) => {
            vec![(if rows[row].wanted { " wanted" } else { " not wanted" }, &rows[row].pair.chosen)]
        }
    }
}

/// The text of a sequence in stretches that are scored or not; ids where there is no tokenizer.
fn parts(tokenizer: Option<&Tokenizer>, sequence: &ScoredSequence) -> Result<Vec<(String, bool)>> {
    let mut parts = Vec::new();
    let mut start = 0;
    for stretch in sequence.scored.chunk_by(|a, b| a == b) {
        let ids = &sequence.ids[start..start + stretch.len()];
        let text = match tokenizer {
            Some(tokenizer) => tokenizer.decode(ids, false)?,
            None => ids.iter().map(|id| format!("{id} ")).collect(),
        };
        parts.push((text, stretch[0]));
        start += stretch.len();
    }
    Ok(parts)
}
