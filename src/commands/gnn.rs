//! `ftk gnn`: what graphs need beside training.

pub mod ablate;
pub mod feedback;
pub mod score;
pub(super) mod task;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use ftk_adapters::atomic;
use ftk_gnn::OpenedTask;
use ftk_gnn::graph::NodeSplit;
use ftk_gnn::import::{self, Origin};
use ftk_gnn::model::GraphModel;
use ftk_gnn::profile;
use ftk_gnn::settings::FRESH;
use ftk_recipes::{Lora, Recipe};
use serde_json::{Map, Value, json};

use super::{Advice, Outcome, writable};
use crate::cli::printer::Printer;

/// What `ftk gnn import` needs.
pub struct ImportSettings {
    /// Where the graph comes from.
    pub origin: Origin,
    /// Whether nodes get features that their edges make.
    pub structure: bool,
    /// Of edges and nodes, those from before this time alone.
    pub before: Option<f64>,
    /// The canonical file to write; nothing is written without one.
    pub out: Option<PathBuf>,
}

/// Measures a base, with or without an adapter, on the validation and test part of a recipe's graph.
///
/// # Errors
/// Whatever a training run would refuse; a recipe that names no base that is there.
pub(super) fn eval(mut recipe: Recipe, adapter: Option<&Path>, printer: &Printer) -> Result<Outcome> {
    let instead = "name one with --base: base/ of a run that trained it; ftk gnn ablate trains and compares";
    if recipe.base.model.as_os_str() == FRESH {
        return Err(
            Advice::new("the recipe's base is random weights, of which nothing is to be measured", instead).into()
        );
    }
    recipe.lora = adapter.map(|folder| Lora { start: Some(folder.to_owned()), ..Lora::default() });
    recipe.base.train = adapter.is_none();
    recipe.run.out = PathBuf::new();
    let own = GraphModel::frozen(&recipe.base.model, adapter)?.network.head;
    let opened = OpenedTask::new(&recipe)?;
    if own != opened.model().network.clone().bare().head {
        let message = format!("base and adapter end in {own:?}, the recipe in {:?}", opened.model().network.head);
        return Err(Advice::new(message, "give the base or the adapter that was trained for this task").into());
    }
    opened.notes().iter().for_each(|note| printer.note(note));
    let mut object = Map::new();
    for (part, name) in [(NodeSplit::Validation, "validation"), (NodeSplit::Test, "test")] {
        let figures = opened.figures(part)?;
        figures.iter().for_each(|(figure, value)| printer.line(&format!("{name}_{figure}\t{value:.6}")));
        let figures = figures.into_iter().map(|(figure, value)| (figure.to_owned(), json!(value)));
        object.insert(name.to_owned(), Value::Object(figures.collect()));
    }
    printer.object(&json!({ "task": recipe.task, "file": recipe.data.train, "figures": object }));
    Ok(Outcome::Done)
}

/// Reads a graph, says what was found, and writes the canonical file.
///
/// # Errors
/// Files that cannot be read or are malformed, a graph in which something does not fit.
pub fn import(settings: &ImportSettings, printer: &Printer) -> Result<Outcome> {
    settings.out.as_deref().map(writable).transpose()?;
    let (graph, found) = import::import(&settings.origin)?;
    let mut past = graph.as_of(settings.before)?;
    // Of edges that are no ratings, and of none, there is no state.
    let state = graph.known(settings.before).ok().map(|known| known.root().to_hex().to_string());
    let graph = past.to_mut();
    if settings.structure {
        profile::describe(graph);
    }
    found.notes().iter().for_each(|note| printer.note(note));
    let (digest, root) = (graph.digest().to_hex().to_string(), graph.root().to_hex().to_string());
    let features = graph.features.as_ref().map_or(0, |features| features.width());
    for (name, value) in [
        ("nodes", graph.nodes.to_string()),
        ("edges", graph.edges.len().to_string()),
        ("features", features.to_string()),
        ("classes", graph.classes.len().to_string()),
        ("digest", digest.clone()),
        ("root", root.clone()),
    ] {
        printer.line(&format!("{name}\t{value}"));
    }
    state.iter().for_each(|state| printer.line(&format!("state\t{state}")));
    if let Some(out) = &settings.out {
        atomic::write(out, &graph.to_bytes()).with_context(|| format!("cannot write {}", out.display()))?;
        printer.note(&format!("wrote {}", out.display()));
    }
    printer.object(&json!({
        "nodes": graph.nodes,
        "edges": graph.edges.len(),
        "features": features,
        "classes": graph.classes,
        "digest": digest,
        "root": root,
        "state": state,
        "found": {
            "duplicates": found.duplicates,
            "merged": found.merged,
            "loops": found.loops,
            "out_of_order": found.out_of_order,
            "isolated": found.isolated,
            "unlabelled": found.unlabelled,
            "known": found.known,
        },
    }));
    Ok(Outcome::Done)
}
