//! The verbs of `ftk gnn`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use ftk_recipes::gnn::import::Origin;
use ftk_recipes::gnn::score::Asked;

use super::printer::Printer;
use crate::commands::{self, Outcome};

/// What may be typed behind `ftk gnn`.
#[derive(Subcommand)]
pub(super) enum Gnn {
    /// Check a graph and write it as one canonical file, with its digest and the root its nodes hang from
    Import(Import),
    /// Score nodes or pairs of nodes with a base, and an adapter if one is given; CSV, or a JSON object each
    Score(Score),
    /// Train a recipe's task in every way there is, with several seeds, and print one table of what comes out
    Ablate(Ablate),
}

#[derive(Args)]
pub(super) struct Score {
    /// Folder of a network of graphs: base/ of a run that trained one
    #[arg(long)]
    base: PathBuf,
    /// PEFT adapter folder
    #[arg(long)]
    adapter: Option<PathBuf>,
    /// The graph: .graph, .npz, a table of edges, or a folder
    #[arg(long)]
    graph: PathBuf,
    /// Table (.csv, .parquet) whose first column names nodes; without it and --pairs, all nodes are scored
    #[arg(long, conflicts_with = "pairs")]
    nodes: Option<PathBuf>,
    /// Table whose first two columns name sources and targets
    #[arg(long)]
    pairs: Option<PathBuf>,
    /// Score as of this moment, in the graph's units of time: edges and nodes that are not earlier stay out
    #[arg(long, value_name = "TIME", allow_negative_numbers = true)]
    before: Option<f64>,
    /// CSV file to write instead of the standard output
    #[arg(long)]
    out: Option<PathBuf>,
}

#[derive(Args)]
pub(super) struct Ablate {
    /// Recipe of an adapter on a base, or of a base (TOML)
    #[arg(long)]
    recipe: PathBuf,
    /// Set a key as if it stood in the recipe; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Recipe that goes on from each adapter with preferences (objective = "feedback")
    #[arg(long)]
    then: Option<PathBuf>,
    /// How many seeds, from 1
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
    /// Folder for the runs, which must not exist
    #[arg(long)]
    out: PathBuf,
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
        Gnn::Score(Score { base, adapter, graph, nodes, pairs, before, out }) => {
            let asked = match (nodes, pairs) {
                (_, Some(pairs)) => Asked::Pairs(pairs),
                (Some(nodes), None) => Asked::Nodes(nodes),
                (None, None) => Asked::AllNodes,
            };
            let settings = commands::gnn::score::Settings { base, adapter, graph, asked, before, out };
            commands::gnn::score::run(&settings, printer)
        }
        Gnn::Ablate(Ablate { recipe, set, then, seeds, out }) => {
            let settings = commands::gnn::ablate::Settings { recipe, set, then, seeds, out };
            commands::gnn::ablate::run(&settings, printer)
        }
    }
}
