//! `ftk inspect`: what a path holds, in words and numbers, as far as can be told without running anything.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use candle_core::Device;
use ftk_adapters::{foreign, notes, peft};
use ftk_bases::{BaseModel, Hold, stored_template};
use ftk_circuits::AdapterCommitment;
use ftk_networks::sites::Role;
use ftk_proofs::bundle::{COMMITMENT, PackedBundle, Proof, STATEMENT};
use ftk_proofs::limits::Limits;
use ftk_proofs::rows_of;
use serde_json::{Map, Value, json};

use super::origin::other_bases;
use super::run::{MANIFEST, NOTE};
use super::{Advice, Outcome};
use crate::cli::printer::Printer;
use crate::prove::bundle;
use crate::train;

/// What is needed.
pub struct Settings {
    /// What is looked at.
    pub path: PathBuf,
    /// Base an adapter is held against.
    pub base: Option<PathBuf>,
    /// Whether to read a base's weights for its digest.
    pub digest: bool,
}

/// What was found, in the order it is shown.
#[derive(Default)]
struct Findings {
    facts: Map<String, Value>,
    /// What stands in the way of using it.
    problems: Vec<String>,
}

impl Findings {
    fn fact(&mut self, name: &str, value: Value) {
        self.facts.insert(name.to_owned(), value);
    }
}

/// What the manifest of a run says: facts of their own to a person, one object to a program.
const MANIFEST_FACT: &str = "manifest";

/// Prints one fact a line. The answer is no where something stands in the way of using what is there.
///
/// # Errors
/// A path that holds none of what ftk knows; files that cannot be read.
pub fn run(settings: &Settings, printer: &Printer) -> Result<Outcome> {
    let Settings { path, base, digest } = settings;
    let mut found = Findings::default();
    let holds = |name: &str| path.join(name).exists();
    if holds(peft::CONFIG) || holds(MANIFEST) || holds(train::METRICS) {
        if holds(MANIFEST) || holds(train::METRICS) {
            run_folder(path, &mut found)?;
        }
        if holds(peft::CONFIG) {
            adapter(path, (base.as_deref(), *digest), &mut found)?;
        }
    } else if holds(STATEMENT) || bundle::is_single(path).unwrap_or(false) {
        bundle(path, &mut found)?;
    } else if holds(COMMITMENT) {
        commitment(path, &mut found)?;
    } else {
        model(path, *digest, &mut found)?;
    }
    if base.is_some() && !holds(peft::CONFIG) {
        let message = format!("{}: holds no adapter to hold against a base", path.display());
        return Err(Advice::new(message, "leave out --base").into());
    }
    let Findings { facts, problems } = found;
    for (name, value) in &facts {
        match value {
            // What is said of the adapter goes before what the run said of it.
            Value::Object(manifest) if name == MANIFEST_FACT => manifest
                .iter()
                .filter(|(name, _)| !facts.contains_key(*name))
                .for_each(|(name, value)| printer.line(&format!("{name}\t{}", plain(value)))),
            _ => printer.line(&format!("{name}\t{}", plain(value))),
        }
    }
    problems.iter().for_each(|problem| printer.line(&format!("problem\t{problem}")));
    let outcome = if problems.is_empty() { Outcome::Done } else { Outcome::No };
    // Names are words for a person, and keys for a program.
    let mut object: Map<String, Value> =
        facts.into_iter().map(|(name, value)| (name.replace(' ', "_"), value)).collect();
    object.insert("problems".to_owned(), json!(problems));
    printer.object(&Value::Object(object));
    Ok(outcome)
}

/// A value on one line: lists with commas, nothing for nothing.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => "none".to_owned(),
        Value::Array(values) if values.is_empty() => "none".to_owned(),
        Value::Object(values) if values.is_empty() => "none".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(values) => values.iter().map(plain).collect::<Vec<_>>().join(", "),
        Value::Object(values) => {
            values.iter().map(|(name, value)| format!("{name} {}", plain(value))).collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    }
}

fn model(path: &Path, digest: bool, found: &mut Findings) -> Result<()> {
    let source = BaseModel::open(path)?;
    let network = source.network();
    let shapes = network.shapes();
    found.fact("kind", json!("base"));
    found.fact("architecture", json!(network.family()));
    let parameters: usize = shapes.values().map(|shape| shape.iter().product::<usize>()).sum();
    found.fact("parameters", json!(parameters));
    found.fact("tensors", json!(source.formats()));
    found.fact("layers", json!(network.blocks()));
    found.fact("vocabulary", json!(network.vocab()));
    found.fact("context length", json!(network.context()));
    found.fact(
        "tied head",
        json!(network.sites().iter().any(|site| site.role == Role::Head && site.weight != site.name)),
    );
    found.fact("tokenizer", json!(source.tokenizer().is_ok()));
    found.fact("chat template", json!(source.chat_template().is_ok()));
    let token = |id: &u32| source.tokenizer().ok().and_then(|tokenizer| tokenizer.token(*id));
    let name = |id: &u32| token(id).map_or_else(|| id.to_string(), |token| format!("{token} ({id})"));
    found.fact("stop tokens", json!(source.special().stop.iter().map(name).collect::<Vec<_>>()));
    if digest {
        let weights = source.weights(&Device::Cpu)?;
        found.fact("digest", json!(source.digest(&weights)?.to_string()));
    }
    Ok(())
}

fn adapter(folder: &Path, (base, digest): (Option<&Path>, bool), found: &mut Findings) -> Result<()> {
    let survey = peft::survey(folder)?;
    let said = |key: &str| survey.config.get(key).cloned().unwrap_or(Value::Null);
    if !found.facts.contains_key("kind") {
        found.fact("kind", json!("adapter"));
    }
    found.fact("type", said("peft_type"));
    found.fact("base name", said("base_model_name_or_path"));
    found.fact("ranks", json!(survey.ranks()));
    found.fact("alpha", said("lora_alpha"));
    found.fact("scale", json!(survey.scale()));
    found.fact("rslora", json!(survey.rescaled()));
    found.fact("targets", said("target_modules"));
    found.fact("sites", json!(survey.sites.len()));
    found.fact("adapter parameters", json!(survey.parameters));
    found.fact("adapter tensors", json!(survey.formats));
    found.fact("chat template of its own", json!(stored_template(folder).is_ok_and(|template| template.is_some())));
    if let Ok(Some(root)) = notes::noted(folder, NOTE) {
        match found.facts.get(MANIFEST_FACT).and_then(|manifest| manifest.get("transcript")) {
            Some(said) if *said != root => {
                found.problems.push(format!("made by the run of another transcript than the manifest says: {root}"));
            }
            _ => found.fact("transcript", json!(root)),
        }
    }
    found.problems.extend(survey.missing.iter().map(|name| format!("missing tensor: {name}")));
    found.problems.extend(survey.strange.iter().map(|name| format!("not a LoRA factor: {name}")));
    if let Err(error) = peft::load(folder) {
        found.problems.push(format!("cannot be used: {error}"));
    }
    if let Some(base) = base {
        let source = BaseModel::open(base)?;
        against(&survey, &source, found);
        found.problems.extend(super::adapter_notes(&source, Some(folder)));
        if digest {
            let base = source.digest(&source.weights_held(&Device::Cpu, Hold::Stored)?)?;
            found.problems.extend(other_bases(Some(folder), || Some(base.0)));
        }
    }
    Ok(())
}

/// Holds the adapter's sites against those of a base.
fn against(survey: &peft::Survey, source: &BaseModel, found: &mut Findings) {
    let (sites, shapes) = (source.network().sites(), source.network().shapes());
    for (name, shape) in &survey.sites {
        let site = sites.iter().find(|site| site.name == *name && matches!(site.role, Role::Linear | Role::Head));
        match site.and_then(|site| shapes.get(&format!("{}.weight", site.weight))) {
            None => found.problems.push(format!("the base has no such linear layer: {name}")),
            Some(weight) if *weight != [shape.d_out, shape.d_in] => found
                .problems
                .push(format!("the base has another shape, {weight:?} for {:?}: {name}", [shape.d_out, shape.d_in])),
            Some(_) => {}
        }
    }
    // What is named like an adapted layer and has no factors was lost, or left out on purpose.
    let last = |name: &str| name.rsplit('.').next().unwrap_or(name).to_owned();
    let bare = sites.iter().filter(|site| site.role == Role::Linear && !survey.sites.contains_key(&site.name));
    let like = bare.filter(|site| survey.sites.keys().any(|name| last(name) == last(&site.name)));
    found.fact("layers without factors beside their like", json!(like.map(|site| &site.name).collect::<Vec<_>>()));
}

fn run_folder(folder: &Path, found: &mut Findings) -> Result<()> {
    found.fact("kind", json!("run"));
    let read = |name: &str| {
        let path = folder.join(name);
        foreign::read_text(&path, foreign::DATA).with_context(|| format!("cannot read {}", path.display()))
    };
    if folder.join(MANIFEST).exists() {
        let manifest: Map<String, Value> = serde_json::from_str(&read(MANIFEST)?)
            .with_context(|| format!("{}: malformed", folder.join(MANIFEST).display()))?;
        found.fact(MANIFEST_FACT, Value::Object(manifest));
    }
    if folder.join(train::METRICS).exists() {
        let metrics = read(train::METRICS)?;
        let last = metrics.lines().filter_map(|line| serde_json::from_str(line).ok()).next_back();
        found.fact("last step", last.unwrap_or(Value::Null));
    }
    Ok(())
}

fn commitment(folder: &Path, found: &mut Findings) -> Result<()> {
    let path = folder.join(COMMITMENT);
    let bytes = foreign::read(&path, foreign::DOCUMENT).with_context(|| format!("cannot read {}", path.display()))?;
    let commitment = AdapterCommitment::decode(&bytes).with_context(|| path.display().to_string())?;
    found.fact("kind", json!("commitment"));
    committed(&commitment, found);
    Ok(())
}

fn committed(commitment: &AdapterCommitment, found: &mut Findings) {
    found.fact("adapter", json!(commitment.digest().to_string()));
    found.fact("base", json!(commitment.base().to_string()));
    found.fact("sites", json!(commitment.shapes().len()));
    found.fact("k", json!(commitment.k()));
    if let Some(root) = commitment.transcript() {
        found.fact("said to be of transcript", json!(root.to_string()));
    }
}

fn bundle(folder: &Path, found: &mut Findings) -> Result<()> {
    let sent = bundle::packed(folder, &Limits::NONE)?;
    let (kind, size) = match &sent.proof {
        Proof::Open { proof, .. } => ("bundle, not verified", proof.proof.len() + proof.link.len()),
        Proof::Sealed { proof, .. } => ("sealed bundle, not verified", proof.len()),
    };
    // Those of a sealed bundle are nobody's to see.
    let deltas = sent.deltas(Limits::NONE.deadline())?;
    let PackedBundle { statement, commitment, registration, graph, head, .. } = sent;
    found.fact("kind", json!(kind));
    committed(&commitment, found);
    found.fact("context", json!(String::from_utf8_lossy(&statement.context)));
    found.fact("case count", json!(statement.cases.len()));
    let rows = rows_of(&statement, graph.as_ref(), commitment.shapes());
    found.fact("rows", json!(rows.into_iter().max().unwrap_or(0)));
    if let Some(root) = statement.graph() {
        found.fact("graph", json!(root.to_string()));
        found.fact("opened nodes", json!(graph.map_or(0, |graph| graph.members())));
        found.fact("head of its own", json!(head.is_some()));
    }
    if let Some(deltas) = deltas {
        found.fact("deltas", json!(deltas.iter().map(Vec::len).sum::<usize>()));
    }
    found.fact("proof bytes", json!(size));
    found.fact("registration", json!(registration.is_some()));
    Ok(())
}
