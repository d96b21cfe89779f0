//! The verbs of `ftk gnn`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use ftk_recipes::gnn::import::Origin;

use super::printer::Printer;
use crate::commands::{self, Outcome};

/// What may be typed behind `ftk gnn`.
#[derive(Subcommand)]
pub(super) enum Gnn {
    /// Check a graph and write it as one canonical file, with its digest and the root its nodes hang from
    Import(Import),
}

#[derive(Args)]
pub(super) struct Import {
    /// Table of edges (.csv, .csv.gz, .parquet): src, dst, and weight and time where known
    #[arg(long, required_unless_present = "path")]
    edges: Option<PathBuf>,
    /// Table of nodes: id, features, and y, split and time where known
    #[arg(long, requires = "edges")]
    nodes: Option<PathBuf>,
    /// An edge from a to b is none from b to a; so it is in any case where edges carry a weight or a time
    #[arg(long, requires = "edges")]
    directed: bool,
    /// Instead of tables: an archive (.npz), a folder of the Open Graph Benchmark, or a .graph file
    #[arg(conflicts_with = "edges")]
    path: Option<PathBuf>,
    /// The file to write (.graph); without it the graph is only checked
    #[arg(long)]
    out: Option<PathBuf>,
}

/// Runs what was typed.
pub(super) fn run(verb: Gnn, printer: &Printer) -> anyhow::Result<Outcome> {
    match verb {
        Gnn::Import(Import { edges, nodes, directed, path, out }) => {
            let origin = match (path, edges) {
                (Some(path), _) => Origin::Path(path),
                (None, Some(edges)) => Origin::Tables { nodes, edges, directed },
                (None, None) => anyhow::bail!("give a path, or --edges"),
            };
            commands::gnn::import(&commands::gnn::Import { origin, out }, printer)
        }
    }
}
