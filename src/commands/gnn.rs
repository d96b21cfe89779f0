//! `ftk gnn`: what graphs need beside training.

pub mod ablate;
pub mod score;

use std::path::PathBuf;

use anyhow::{Context, Result};
use ftk_adapters::atomic;
use ftk_recipes::gnn::import::{self, Origin};
use serde_json::json;

use super::Outcome;
use crate::cli::printer::Printer;

/// What `ftk gnn import` needs.
pub struct Import {
    /// Where the graph comes from.
    pub origin: Origin,
    /// The canonical file to write; nothing is written without one.
    pub out: Option<PathBuf>,
}

/// Reads a graph, says what was found, and writes the canonical file.
///
/// # Errors
/// Files that cannot be read or are malformed, a graph in which something does not fit.
pub fn import(settings: &Import, printer: &Printer) -> Result<Outcome> {
    let (graph, found) = import::import(&settings.origin)?;
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
        "found": {
            "duplicates": found.duplicates,
            "loops": found.loops,
            "out_of_order": found.out_of_order,
            "isolated": found.isolated,
            "unlabelled": found.unlabelled,
        },
    }));
    Ok(Outcome::Done)
}
