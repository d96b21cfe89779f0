//! `ftk logits`: the forward pass on token ids, from file to file.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use candle_core::Device;
use ftk_adapters::train::Train;
use ftk_adapters::{atomic, foreign};
use ftk_networks::ops::Tokens;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde_json::json;

use super::origin::other_bases;
use super::{Advice, Outcome, adapter_notes, frozen, load, writable};
use crate::cli::printer::Printer;

/// What is needed.
pub struct Settings {
    /// Base model.
    pub base: PathBuf,
    /// PEFT adapter folder.
    pub adapter: Option<PathBuf>,
    /// Where it is computed.
    pub device: Device,
    /// File with `input_ids`.
    pub ids: PathBuf,
    /// File for `logits`.
    pub out: PathBuf,
}

/// Writes the logits of every position.
///
/// # Errors
/// A model, adapter or ids file that cannot be read; ids outside the vocabulary.
pub fn run(settings: &Settings, printer: &Printer) -> Result<Outcome> {
    writable(&settings.out)?;
    let (tokens, mut shape) = read(&settings.ids)?;
    let reading = printer.working("reading the base");
    let (model, adapter) = load(&settings.base, settings.adapter.as_deref(), &settings.device)?;
    let others = other_bases(settings.adapter.as_deref(), || Some(model.digest().ok()?.0));
    drop(reading);
    let notes = adapter_notes(&model.source, settings.adapter.as_deref());
    notes.iter().chain(&others).for_each(|note| printer.note(note));
    let network = model.source.network();
    if let Some(id) = tokens.ids().iter().find(|&&id| id as usize >= network.vocab()) {
        let message = format!("{}: input_ids holds an id outside the vocabulary: {id}", settings.ids.display());
        return Err(Advice::new(message, format!("ids must be below {}", network.vocab())).into());
    }
    if let Some(positions) = network.most_positions().filter(|&positions| shape[1] > positions) {
        let message = format!("{}: input_ids has more positions than the base: {}", settings.ids.display(), shape[1]);
        return Err(Advice::new(message, format!("give at most {positions} ids a sequence")).into());
    }
    let adapter = frozen(adapter.as_ref(), &settings.device)?;
    let rows: Vec<usize> = (0..tokens.ids().len()).collect();
    let logits = network.forward(&mut Train::new(&model.weights, adapter.as_ref()), &tokens, &rows)?;
    let values = logits.flatten_all()?.to_vec1::<f32>()?;
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    shape.push(network.vocab());
    let view = TensorView::new(Dtype::F32, shape.clone(), &bytes)?;
    let file = safetensors::serialize([("logits", view)], None)?;
    atomic::write(&settings.out, &file).with_context(|| format!("cannot write {}", settings.out.display()))?;
    printer.note(&format!("wrote logits {shape:?} to {}", settings.out.display()));
    printer.object(&json!({ "out": settings.out, "shape": shape }));
    Ok(Outcome::Done)
}

/// The ids, and their shape (batch, seq).
fn read(path: &Path) -> Result<(Tokens, Vec<usize>)> {
    let wrong = |what: String| {
        let message = format!("{}: {what}", path.display());
        Advice::new(message, "give a safetensors file with input_ids, i64 (batch, seq)")
    };
    let bytes = foreign::read(path, foreign::DATA).with_context(|| format!("cannot read {}", path.display()))?;
    let file = SafeTensors::deserialize(&bytes).map_err(|error| wrong(error.to_string()))?;
    let ids = file.tensor("input_ids").map_err(|error| wrong(error.to_string()))?;
    let (Dtype::I64, &[batch, seq]) = (ids.dtype(), ids.shape()) else {
        return Err(wrong(format!("input_ids is {:?} {:?}", ids.dtype(), ids.shape())).into());
    };
    if batch * seq == 0 {
        return Err(wrong("input_ids is empty".to_owned()).into());
    }
    let words = ids.data().as_chunks().0.iter().map(|&word| i64::from_le_bytes(word));
    let ids = words.map(|id| u32::try_from(id).map_err(|_| wrong(format!("input_ids holds no token id: {id}"))));
    let ids = ids.collect::<Result<Vec<_>, _>>()?;
    Ok((Tokens::sequences(ids.chunks(seq)), vec![batch, seq]))
}
