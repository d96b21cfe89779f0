//! The verbs of `ftk gnn`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use ftk_gnn::import::Origin;
use ftk_gnn::score::ScoreTargets;

use super::arguments::either;
use super::help;
use super::printer::Printer;
use crate::commands::{self, Outcome};

/// What may be typed behind `ftk gnn`.
#[derive(Subcommand)]
pub(super) enum GnnVerb {
    /// Check a graph, write it as one file, and print its digest and its Merkle root
    #[command(after_help = help::GNN_IMPORT)]
    Import(GnnImportArgs),
    /// Score nodes or pairs of nodes: lines of CSV, or a JSON object each
    #[command(after_help = help::GNN_SCORE)]
    Score(ScoreArgs),
    /// Score ratings as they come, each before it is known, and go on learning from them
    #[command(override_usage = "ftk gnn feedback [OPTIONS] --ratings <FILE> <RECIPE>", after_help = help::GNN_FEEDBACK)]
    Feedback(FeedbackArgs),
    /// Train in every way there is, with several seeds, and print one table
    #[command(override_usage = "ftk gnn ablate [OPTIONS] --out <FOLDER> <RECIPE>", after_help = help::GNN_ABLATE)]
    Ablate(AblateArgs),
}

#[derive(Args)]
pub(super) struct ScoreArgs {
    /// Base model for graphs: the folder base/ of a run that trained one
    #[arg(long, value_name = "FOLDER")]
    base: PathBuf,
    /// PEFT adapter folder
    #[arg(long, value_name = "FOLDER")]
    adapter: Option<PathBuf>,
    /// Graph: a .graph or .npz file, a table of edges, or a folder
    #[arg(long, value_name = "PATH")]
    graph: PathBuf,
    /// Table (.csv, .parquet) whose first column names the nodes to score; all nodes without it and --pairs
    #[arg(long, value_name = "FILE", conflicts_with = "pairs")]
    nodes: Option<PathBuf>,
    /// Table whose first two columns name the source and target of each pair to score
    #[arg(long, value_name = "FILE")]
    pairs: Option<PathBuf>,
    /// Use only edges and nodes from before this time, in the graph's unit of time
    #[arg(long, value_name = "TIME", allow_negative_numbers = true)]
    before: Option<f64>,
    /// CSV file to write, instead of standard output
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Args)]
pub(super) struct FeedbackArgs {
    /// Recipe (a file or a name) with gnn.split = "stream"; data.train holds what is known before
    #[arg(value_name = "RECIPE")]
    recipe: PathBuf,
    /// Set a key of the recipe; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Table of ratings that came later: src, dst, rating, time; may be repeated
    #[arg(long, value_name = "FILE", required = true)]
    ratings: Vec<PathBuf>,
    /// Folder for what is learnt, instead of the recipe's
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Go on behind those of the ratings that were learnt from already
    #[arg(long)]
    resume: bool,
}

#[derive(Args)]
pub(super) struct AblateArgs {
    /// Recipe (a file or a name) of an adapter on a base, or of a base; --recipe RECIPE does the same
    #[arg(value_name = "RECIPE", conflicts_with = "recipe")]
    file: Option<PathBuf>,
    #[arg(long, hide = true, required_unless_present = "file")]
    recipe: Option<PathBuf>,
    /// Set a key of the recipe; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Recipe that trains each adapter on with preferences (gnn.objective = "feedback")
    #[arg(long, value_name = "RECIPE")]
    then: Option<PathBuf>,
    /// How many seeds: 1, 2, ...
    #[arg(long, value_name = "COUNT", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
    /// Folder for the runs, which must not exist
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
}

#[derive(Args)]
pub(super) struct GnnImportArgs {
    /// Table of edges (.csv, .csv.gz, .parquet): src, dst, and weight, time and split where known
    #[arg(long, value_name = "FILE", required_unless_present = "path")]
    edges: Option<PathBuf>,
    /// Table of nodes: id, features, and y, split and time where known
    #[arg(long, value_name = "FILE", requires = "edges")]
    nodes: Option<PathBuf>,
    /// Edges have a direction; edges with a weight or a time have one in any case
    #[arg(long, requires = "edges")]
    directed: bool,
    /// Instead of tables: an .npz archive, node-link JSON (.json), a folder of the Open Graph Benchmark, or a .graph file
    #[arg(conflicts_with = "edges")]
    path: Option<PathBuf>,
    /// Add features that the edges say of nodes: how many, how much, when, in either direction
    #[arg(long)]
    structure: bool,
    /// Use only edges and nodes from before this time, in the graph's unit of time
    #[arg(long, value_name = "TIME", allow_negative_numbers = true)]
    before: Option<f64>,
    /// The .graph file to write; without it the graph is only checked
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Runs what was typed.
pub(super) fn run(verb: GnnVerb, printer: &Printer) -> anyhow::Result<Outcome> {
    match verb {
        GnnVerb::Import(GnnImportArgs { edges, nodes, directed, path, structure, before, out }) => {
            let origin = match (path, edges) {
                (Some(path), _) => Origin::Path(path),
                (None, Some(edges)) => Origin::Tables { nodes, edges, directed },
                (None, None) => anyhow::bail!("give a path, or --edges"),
            };
            commands::gnn::import(&commands::gnn::ImportSettings { origin, structure, before, out }, printer)
        }
        GnnVerb::Score(ScoreArgs { base, adapter, graph, nodes, pairs, before, out }) => {
            let asked = match (nodes, pairs) {
                (_, Some(pairs)) => ScoreTargets::Pairs(pairs),
                (Some(nodes), None) => ScoreTargets::Nodes(nodes),
                (None, None) => ScoreTargets::AllNodes,
            };
            let settings = commands::gnn::score::Settings { base, adapter, graph, asked, before, out };
            commands::gnn::score::run(&settings, printer)
        }
        GnnVerb::Feedback(FeedbackArgs { recipe, set, ratings, out, resume }) => {
            let settings = commands::gnn::feedback::Settings { recipe, set, ratings, out, resume };
            commands::gnn::feedback::run(&settings, printer)
        }
        GnnVerb::Ablate(AblateArgs { file, recipe, set, then, seeds, out }) => {
            let recipe = either(file, recipe)?;
            let settings = commands::gnn::ablate::Settings { recipe, set, then, seeds, out };
            commands::gnn::ablate::run(&settings, printer)
        }
    }
}
