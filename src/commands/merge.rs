//! `ftk merge`: an adapter worked into the weights of its base, as a model folder that needs no adapter.

use std::path::{Path, PathBuf};

use anyhow::Result;
use candle_core::{DType, Device, Tensor};
use ftk_adapters::merge::merge;
use ftk_adapters::staged::{Staged, There};
use ftk_adapters::train::{LoraTensors, Train};
use ftk_adapters::weights::Weights;
use ftk_bases::{LoadedModel, Precision, fill_folder};
use ftk_networks::Network;
use ftk_networks::ops::Tokens;
use ftk_networks::sites::Role;
use serde_json::json;

use super::origin::other_bases;
use super::{Advice, Outcome, adapter_notes, frozen, load, plain_text, unwritable};
use crate::cli::printer::Printer;

/// What is needed.
pub struct Settings {
    /// Base model.
    pub base: PathBuf,
    /// PEFT adapter folder.
    pub adapter: PathBuf,
    /// Folder for the merged model.
    pub out: PathBuf,
    /// How weights are stored.
    pub precision: Precision,
    /// Text on which the two models are compared.
    pub text: Option<PathBuf>,
    /// Largest difference of logits that is accepted, relative to what the adapter changes in them.
    pub tolerance: f64,
}

/// Compared where no text is given: plain words that every tokenizer knows.
const SAMPLE: &str = "The sun had not yet risen over the harbour when the first boats came back. How many fish did they \
    bring, and who was waiting for them on the quay? Nobody had counted; the old man only said: \"Enough for today.\"";
/// Most tokens compared.
const TOKENS: usize = 128;
/// An adapter that changes logits by a smaller share of the largest is measured as if it changed them by this much:
/// a fresh one changes nothing, and the arithmetic's own rounding is no difference.
const SMALLEST_CHANGE: f64 = 1e-3;

/// Merges in f32, rounds, compares with base and adapter, and writes.
///
/// # Errors
/// An adapter that does not fit; a folder that is there already; a merged model that differs beyond the tolerance.
pub fn run(settings: &Settings, printer: &Printer) -> Result<Outcome> {
    let Settings { base, adapter: folder, out, precision, text, tolerance } = settings;
    if out.exists() {
        let message = format!("{}: is there already", out.display());
        return Err(Advice::new(message, "choose another folder with --out").into());
    }
    let staged = Staged::new(out, There::Stays).map_err(|error| unwritable(out, &error))?;
    let reading = printer.working("reading the base");
    let (model, adapter) = load(base, Some(folder), &Device::Cpu)?;
    let others = other_bases(Some(folder.as_path()), || Some(model.digest().ok()?.0));
    drop(reading);
    adapter_notes(&model.source, Some(folder)).iter().chain(&others).for_each(|note| printer.note(note));
    let _merging = printer.working("merging");
    let adapter = adapter.expect("a folder was given");
    let tokens = sample(&model, text.as_deref())?;
    let tensors = frozen(Some(&adapter), &Device::Cpu)?;
    let without = logits(model.source.network(), &model.weights, None, &tokens)?;
    let before = logits(model.source.network(), &model.weights, tensors.as_ref(), &tokens)?;

    let mut network = model.source.network().clone();
    let sites = network.sites();
    // A head with an adapter is the embedding table no more.
    if sites.iter().any(|site| site.role == Role::Head && adapter.sites.contains_key(&site.name)) {
        network = network.untied();
    }
    let mut weights = model.weights.clone();
    let (mut change_squares, mut lost_squares) = (0.0, 0.0);
    for site in sites {
        let Some(factors) = adapter.sites.get(&site.name) else { continue };
        let name = if site.role == Role::Head { &site.name } else { &site.weight };
        let (merged, change) = merge(&model.weights.get(&format!("{}.weight", site.weight))?, factors)?;
        let lost = (rounded(&merged, *precision)? - &merged)?;
        change_squares += squares(&change)?;
        lost_squares += squares(&lost)?;
        weights.insert(format!("{name}.weight"), merged);
    }
    let mut weight_error: f64 = 0.0;
    let mut stored = Weights::default();
    for name in network.shapes().into_keys() {
        let weight = weights.get(&name)?;
        let kept = rounded(&weight, *precision)?;
        let largest = largest(&weight)?;
        if largest > 0.0 {
            weight_error = weight_error.max(self::largest(&(&kept - &weight)?)? / largest);
        }
        stored.insert(name, kept);
    }
    drop(weights);
    // The adapter's own change is what rounding must not eat.
    let change_error = if change_squares > 0.0 { (lost_squares / change_squares).sqrt() } else { 0.0 };

    let after = logits(&network, &stored, None, &tokens)?;
    let scale = before.iter().fold(0.0f64, |most, &logit| most.max(f64::from(logit).abs()));
    let change = apart(&before, &without).max(SMALLEST_CHANGE * scale);
    let logit_error = apart(&before, &after) / change;
    let same = top1(&before, network.vocab()).zip(top1(&after, network.vocab())).filter(|(a, b)| a == b).count();
    let count = tokens.ids().len();
    let report = format!(
        "rounding moved weights by at most {weight_error:.1e} of the largest in their tensor and cost {change_error:.1e} \
         of the adapter's change; logits differ by at most {logit_error:.1e} of what the adapter changes in them, \
         {same} of {count} most likely tokens are the same"
    );
    if logit_error.is_nan() || logit_error > *tolerance {
        let message = format!("the merged model differs from base and adapter beyond {tolerance}: {report}");
        return Err(Advice::new(message, "write --dtype f32, or accept it with a higher --tolerance").into());
    }
    let files = model.source.text_files()?;
    fill_folder(staged, out, &network, &stored, *precision, model.source.special(), &files)?;
    printer.note(&report);
    printer.line(&format!("wrote {}", out.display()));
    printer.object(&json!({
        "out": out,
        "sites": adapter.sites.len(),
        "weight_error": weight_error,
        "change_error": change_error,
        "logit_error": logit_error,
        "tokens": count,
        "same_top1": same,
    }));
    Ok(Outcome::Done)
}

/// What the two models are compared on; without a tokenizer, ids spread over the vocabulary.
fn sample(model: &LoadedModel, text: Option<&Path>) -> Result<Tokens> {
    let vocab = model.source.network().vocab() as u64;
    let mut ids = match (text, model.source.tokenizer()) {
        (Some(path), tokenizer) => {
            let text = plain_text(path)?;
            tokenizer?.encode(&text, true)?
        }
        (None, Ok(tokenizer)) => tokenizer.encode(SAMPLE, true)?,
        // Steps of a prime that divides no vocabulary.
        (None, Err(_)) => (0..TOKENS as u64).map(|index| (index * 1_000_003 % vocab) as u32).collect(),
    };
    ids.truncate(TOKENS.min(model.source.network().context()));
    if ids.is_empty() {
        return Err(Advice::new("the text has no tokens", "give --text a file with some text").into());
    }
    Ok(Tokens::sequence(ids))
}

fn logits(network: &Network, weights: &Weights, adapter: Option<&LoraTensors>, tokens: &Tokens) -> Result<Vec<f32>> {
    let rows: Vec<usize> = (0..tokens.ids().len()).collect();
    let logits = network.forward(&mut Train::new(weights, adapter), tokens, &rows)?;
    Ok(logits.flatten_all()?.to_vec1()?)
}

/// Largest difference of two lists; NaN where one cannot be told.
fn apart(a: &[f32], b: &[f32]) -> f64 {
    let apart = a.iter().zip(b).map(|(a, b)| (f64::from(*a) - f64::from(*b)).abs());
    apart.fold(0.0, |most, apart| if apart <= most { most } else { apart })
}

/// The weight as it will be read back.
fn rounded(weight: &Tensor, precision: Precision) -> Result<Tensor> {
    let narrow = match precision {
        Precision::F32 => return Ok(weight.clone()),
        Precision::Bf16 => DType::BF16,
        Precision::F16 => DType::F16,
    };
    Ok(weight.to_dtype(narrow)?.to_dtype(DType::F32)?)
}

fn squares(tensor: &Tensor) -> Result<f64> {
    let values = tensor.flatten_all()?.to_vec1::<f32>()?;
    Ok(values.iter().map(|&value| f64::from(value) * f64::from(value)).sum())
}

/// Largest magnitude; NaN if there is one.
fn largest(tensor: &Tensor) -> Result<f64> {
    let values = tensor.flatten_all()?.to_vec1::<f32>()?;
    Ok(apart(&values, &vec![0.0; values.len()]))
}

/// The most likely token of every row.
fn top1(logits: &[f32], vocab: usize) -> impl Iterator<Item = Option<usize>> {
    logits.chunks(vocab).map(|row| (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b])))
}
