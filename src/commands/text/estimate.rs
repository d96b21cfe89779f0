//! What a run on rows needs of memory, and what commitment and proofs need of everything, by arithmetic.

use std::path::Path;

use anyhow::Result;
use ftk_adapters::lora::Adapter;
use ftk_bases::BaseModel;
use ftk_circuits::AdapterCommitment;
use ftk_proofs::{Case, Completion, Input, Net};
use ftk_recipes::Recipe;
use ftk_text::load::DatasetKind;
use ftk_text::memory::Memory;
use serde_json::json;

use super::super::task::Estimation;
use super::super::{Outcome, fitting, open, pull};
use super::plan::{TextPlan, begin};
use crate::cli::printer::Printer;
use crate::prove::cost::{self, BaseCost, Costs, SealedCosts};
use crate::prove::model;
use crate::prove::sealing::{self, Answered, Length};

/// Prints the memory of a run: with its rows, where they are here and the base has a tokenizer, else with batches as long
/// as the recipe allows.
///
/// # Errors
/// Base configuration, adapter or rows: whatever is wrong with them.
pub(super) fn run(mut recipe: Recipe, settings: &Estimation, printer: &Printer) -> Result<Outcome> {
    let kind = DatasetKind::of(&recipe);
    recipe.base.model = pull::base(&recipe.base.model, settings.offline, printer)?;
    let source =
        if has_weights(&recipe.base.model) { open(&recipe.base)? } else { BaseModel::skeleton(&recipe.base.model)? };
    let adapter = recipe.lora.as_ref().map(|lora| begin(lora, &source, recipe.run.seed)).transpose()?;
    let sequences = recipe.run.batch * if matches!(kind, DatasetKind::Pairs | DatasetKind::Choices) { 2 } else { 1 };
    let length = recipe.data.max_length;
    // The same figure as `ftk train --dry-run` where the rows are at hand, and else the most that the recipe allows.
    let (tokens, batch) = if recipe.data.train.is_file() && source.tokenizer().is_ok() {
        let tokens = TextPlan::new(&recipe, &source)?.longest();
        (tokens, format!("the longest batch of {}", recipe.data.train.display()))
    } else {
        (sequences * length, format!("{sequences} sequences of {length}"))
    };
    let memory = Memory::of(&source, &recipe, adapter.as_ref(), tokens);
    let Memory { weights, widened, trained, activations, working } = memory;
    let shapes = source.network().shapes();
    let parameters: usize = shapes.values().map(|shape| shape.iter().product::<usize>()).sum();
    let batch = format!("activations of {tokens} tokens ({batch})");
    for (what, bytes) in [
        (format!("weights of {parameters} parameters"), weights),
        ("largest weight widened".to_owned(), widened),
        ("trained parameters, gradients, moments".to_owned(), trained),
        (batch, activations),
        ("working space".to_owned(), working),
        ("together".to_owned(), memory.total()),
    ] {
        printer.line(&format!("{:>10.1} MiB  {what}", bytes as f64 / f64::from(1 << 20)));
    }
    let committed = settings.adapter.as_deref().map(|folder| fitting(&source, folder)).transpose()?;
    let costs = committed.as_ref().or(adapter.as_ref()).filter(|_| settings.tokens > 0).map(|adapter| {
        let net = Net::Tokens(source.network().clone());
        Costs::of(BaseCost::of(&net), &cost::shapes(&net, adapter), settings.tokens)
    });
    // Adapters that are trained and not committed to, such as those of rank 256, have no costs.
    if let Some(Err(error)) = &costs {
        printer.note(&cost::uncommittable(error));
    }
    let costs = costs.and_then(Result::ok);
    let mut sealed = None;
    if let Some(costs) = &costs {
        proof(costs, settings.tokens, printer);
        if has_weights(&recipe.base.model) && cost::fits(&Net::Tokens(source.network().clone())) {
            let adapter = committed.as_ref().or(adapter.as_ref()).expect("it has costs");
            sealed = Some(sealed_proof(&source, adapter, settings.tokens, printer)?);
        } else {
            printer.line("a sealed proof takes more: how much is told where the base's weights are, and have room");
        }
    }
    printer.object(&json!({
        "open_proof": costs,
        "sealed_proof": sealed,
        "parameters": parameters,
        "tokens": tokens,
        "bytes": {
            "weights": weights, "widened": widened, "trained": trained, "activations": activations,
            "working": working, "together": memory.total(),
        },
    }));
    Ok(Outcome::Done)
}

/// Costs of commitment and proof, in words.
fn proof(costs: &Costs, tokens: u64, printer: &Printer) {
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let Costs { k, columns, weights, .. } = costs;
    printer.line(&format!("open proof of {tokens} tokens: {weights} weights in {columns} columns of 2^{k} rows"));
    for (what, memory, seconds, written) in [
        ("commit", costs.commit_memory, costs.commit_seconds, Some(costs.registered_bytes)),
        ("prove", costs.prove_memory, costs.prove_seconds, Some(costs.registered_bytes + costs.bundle_bytes)),
        ("verify", costs.verify_memory, costs.verify_seconds, None),
    ] {
        let written = written.map_or_else(String::new, |bytes| format!(", writes {:.1} MiB", mib(bytes)));
        printer.line(&format!("{:>10.1} MiB  {what}: some {seconds:.0} s{written}", mib(memory)));
    }
}

/// Costs of a sealed proof, by the arithmetic of `ftk prove --dry-run`: of a prompt, and an answer of as many tokens as it.
fn sealed_proof(source: &BaseModel, adapter: &Adapter, tokens: u64, printer: &Printer) -> Result<SealedCosts> {
    let model = model::read(source)?;
    let commitment = AdapterCommitment::outline(model.digest(), sealing::shapes(&model, adapter)?)?;
    let generated = (tokens / 2).max(1) as usize;
    let prompt = vec![0; tokens as usize + 1 - generated];
    let completion = Completion { ids: Vec::new(), max_tokens: generated as u32, stop_ids: Vec::new() };
    let case = Case { input: Input::Tokens(prompt), output: completion.into() };
    let supposed = Answered::supposed(&[case], model.net(), Length::Longest)?;
    let (_, costs) = supposed.plan(&model, &commitment, None)?;
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    printer
        .line(&format!("sealed proof of {tokens} tokens, of which {generated} are generated: {} cells", costs.cells));
    for (what, memory, seconds, written) in [
        ("prove", Some(costs.prove_memory), costs.prove_seconds, Some(costs.bundle_bytes)),
        ("verify", None, costs.verify_seconds, None),
    ] {
        let memory = memory.map_or_else(|| " ".repeat(14), |bytes| format!("{:>10.1} MiB", mib(bytes)));
        let written = written.map_or_else(String::new, |bytes| format!(", writes {:.1} MiB", mib(bytes)));
        printer.line(&format!("{memory}  {what}: some {seconds:.0} s{written}"));
    }
    Ok(costs)
}

/// Whether a base is more than a folder with a configuration.
fn has_weights(base: &Path) -> bool {
    // What is no model's folder, `open` judges: the folder of a copied recipe's rows may have the name of a base that ships.
    if !base.join("config.json").exists() {
        return true;
    }
    let Ok(mut files) = std::fs::read_dir(base) else { return true };
    files.any(|file| file.is_ok_and(|file| file.path().extension().is_some_and(|end| end == "safetensors")))
}
