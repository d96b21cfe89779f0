//! From recipe, base and rows to what is trained, and from what is trained to files.

use std::path::Path;

use anyhow::{Context, Result, anyhow};
use candle_core::{DType, Device, Tensor, Var};
use ftk_adapters::lora::Adapter;
use ftk_adapters::peft;
use ftk_adapters::train::{LoraTensors, normal_values};
use ftk_adapters::weights::Weights;
use ftk_bases::{BaseModel, Hold, Precision, save_folder};
use ftk_networks::sites::Role;
use ftk_recipes::preference::rule::LossConstants;
use ftk_recipes::{Format, Recipe, Reference, SaveDtype};
use ftk_text::examples::Examples;
use ftk_text::references::{FoundReferences, References};
use ftk_text::session::{DpoSettings, TextSession, Trained};

use super::super::Advice;
use super::super::run::BASE;
use crate::cli::printer::Printer;

/// Largest magnitude of a value on the 16-bit grid.
const GRID: f32 = ftk_kernels::grid::MAX_16 as f32;

/// The first factor with a value that cannot be written: on the 16-bit grid, at its coarsest scale, there is no room for
/// it, and no run that learns comes near.
pub(super) fn beyond(adapter: &LoraTensors) -> Option<String> {
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
    source: &BaseModel,
    (weights, trained): (Weights, Trained),
    start: Option<&Adapter>,
    (rows, held_out): (Examples, Option<Examples>),
    device: &Device,
) -> Result<TextSession> {
    let frozen = match (recipe.dpo.reference, start) {
        (Reference::Start, Some(start)) => Some(LoraTensors::frozen(start, device)?),
        _ => None,
    };
    let (loss, sft_weight) = (LossConstants::from(&recipe.dpo), recipe.dpo.supervised());
    let dpo = DpoSettings { loss, sft_weight, reference: recipe.dpo.reference };
    let rows = (rows, held_out, recipe.run.batch);
    let dropout = recipe.lora.as_ref().map_or(0.0, |lora| lora.dropout);
    Ok(TextSession::new(source.network().clone(), weights, trained, frozen, dpo, rows)
        .recomputing(recipe.run.recompute)
        .multiplying_in(products(recipe))
        .dropping(dropout, recipe.run.seed))
}

/// How the weights are read that a run with a frozen base of its own is on, and how they are held then: in bf16 once and
/// for all where products are.
pub(super) fn reading(recipe: &Recipe) -> Hold {
    if in_bf16(recipe) { Hold::Stored } else { recipe.base.hold }
}

/// The weights as the recipe wants them held.
pub(super) fn held(recipe: &Recipe, weights: Weights) -> Result<Weights> {
    Ok(if in_bf16(recipe) { weights.narrowed()? } else { weights })
}

/// Whether the base is frozen and held in bf16.
fn in_bf16(recipe: &Recipe) -> bool {
    recipe.run.precision == Format::Bf16 && recipe.base.hold == Hold::F32 && !recipe.base.train
}

/// Has products in f32 be rounded to TF32, where the recipe allows it.
///
/// # Errors
/// A device that has no TF32.
pub(super) fn allow_tf32(recipe: &Recipe, device: &Device) -> Result<()> {
    if recipe.run.tf32 && !device.is_cuda() {
        let hint = "give --device cuda, or take run.tf32 out";
        return Err(Advice::new("run.tf32: TF32 is a number format of CUDA devices alone", hint).into());
    }
    candle_core::cuda::set_gemm_reduced_precision_f32(recipe.run.tf32);
    Ok(())
}

/// Number format of products with the base's weights and in attention.
pub(super) fn products(recipe: &Recipe) -> DType {
    match recipe.run.precision {
        Format::F32 => DType::F32,
        Format::Bf16 => DType::BF16,
    }
}

/// Has the session know its reference's figures, those in the file at `path` and otherwise new ones.
pub(super) fn refer(session: &mut TextSession, path: &Path, model: [u8; 32], printer: &Printer) -> Result<()> {
    let opened = References::open(path, model);
    let (mut known, found) = opened.with_context(|| format!("cannot read {}", path.display()))?;
    if found == FoundReferences::Unusable {
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
    if found == FoundReferences::Whole && computed == 0 {
        printer.note(&format!("the reference's log-probabilities are in {}", path.display()));
    }
    Ok(())
}

/// Writes what is trained, as it stands, into a folder, and names its files with weights.
pub(super) fn export(
    recipe: &Recipe,
    source: &BaseModel,
    session: &TextSession,
    out: &Path,
) -> Result<&'static [&'static str]> {
    match session.adapter() {
        Some(adapter) => {
            let linear = linear_sites(source);
            let fan_in_fan_out = source.network().fan_in_fan_out();
            peft::save(out, &adapter.to_adapter()?, &called(recipe, source), &linear, fan_in_fan_out)?;
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

/// What an adapter calls its base.
pub(super) fn called(recipe: &Recipe, source: &BaseModel) -> String {
    recipe.base.name.clone().unwrap_or_else(|| source.name())
}

pub(super) fn random_weights(source: &BaseModel, std: f64, seed: u64, device: &Device) -> Result<Weights> {
    let make = |(name, shape): (String, Vec<usize>)| {
        let count = shape.iter().product();
        let values = if shape.len() == 1 { vec![1.0; count] } else { normal_values(&name, count, std, seed) };
        Ok((name, Tensor::from_vec(values, shape, device)?))
    };
    source.network().shapes().into_iter().map(make).collect()
}

pub(super) fn variables(weights: &Weights) -> Result<Weights> {
    let make = |name: &str| Ok((name.to_owned(), Var::from_tensor(&weights.get(name)?)?.into_inner()));
    weights.names().map(make).collect()
}

fn linear_sites(source: &BaseModel) -> Vec<String> {
    let sites = source.network().sites().into_iter();
    sites.filter(|site| site.role == Role::Linear).map(|site| site.name).collect()
}
