//! `ftk gnn score`: what a base, with or without an adapter, says of nodes or of pairs of nodes.

use std::path::PathBuf;

use anyhow::{Context, Result};
use ftk_adapters::atomic;
use ftk_gnn::import::{Origin, import};
use ftk_gnn::score::{self, Score, ScoreTargets};
use serde_json::json;

use super::super::{Outcome, csv_cell, writable};
use crate::cli::printer::Printer;

/// What is needed.
pub struct Settings {
    /// Folder of a network of graphs.
    pub base: PathBuf,
    /// PEFT adapter folder.
    pub adapter: Option<PathBuf>,
    /// The graph.
    pub graph: PathBuf,
    /// What is to be scored.
    pub asked: ScoreTargets,
    /// Moment from which on nothing is known, in the graph's units of time; the end of the graph without one.
    pub before: Option<f64>,
    /// File to write (CSV), instead of the standard output.
    pub out: Option<PathBuf>,
}

/// Scores and prints a line for each node or pair.
///
/// # Errors
/// Files that cannot be read or do not fit each other.
pub fn run(settings: &Settings, printer: &Printer) -> Result<Outcome> {
    settings.out.as_deref().map(writable).transpose()?;
    let (graph, _) = import(&Origin::Path(settings.graph.clone()))?;
    let scores = score::run((&settings.base, settings.adapter.as_deref()), &graph, &settings.asked, settings.before)?;
    scores.unread.iter().for_each(|unread| printer.note(unread));
    let mut text = scores.columns.iter().map(|name| csv_cell(name)).collect::<Vec<_>>().join(",") + "\n";
    for Score { ends, class, values, neighbours } in &scores.rows {
        let names = ends.iter().chain(class).map(|cell| csv_cell(cell));
        let numbers = values.iter().map(|value| format!("{value:.6}"));
        text += &names.chain(numbers).collect::<Vec<_>>().join(",");
        text += "\n";
        printer.object(&json!({ "ends": ends, "class": class, "scores": values, "neighbours": neighbours }));
    }
    match &settings.out {
        Some(out) => {
            atomic::write(out, text.as_bytes()).with_context(|| format!("cannot write {}", out.display()))?;
            printer.note(&format!("wrote {}", out.display()));
        }
        None => printer.part(&text),
    }
    Ok(Outcome::Done)
}
