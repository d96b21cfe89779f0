//! The recipe's table for graphs.

use std::path::PathBuf;

use ftk_networks::graphs::{GraphNetworkKind, Head, MessageKind, PairScorer};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::key::TakenKey;
use crate::preference::Dpo;

/// `base.model` of a network that starts from random weights.
pub const FRESH: &str = "fresh";

/// A task on a graph (task `gnn`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Gnn {
    /// What is learnt.
    pub objective: Objective,
    /// Kind of a fresh network.
    pub network: GraphNetworkKind,
    /// Convolutions of a fresh network.
    pub layers: usize,
    /// Features between them (of each head of `gat`).
    pub hidden: usize,
    /// Heads of a fresh `gat`.
    pub heads: usize,
    /// How much the messages of neighbours weigh in a fresh `gcn`, `sage` or `sage-gcn`.
    pub messages: MessageKind,
    /// What a fresh network ends in.
    pub head: Head,
    /// How a fresh network scores a pair (objective `links`).
    pub scorer: PairScorer,
    /// Train the head beside the adapter; it is exported under `modules_to_save`.
    pub train_head: bool,
    /// Share of entries dropped before each convolution in training.
    pub dropout: f64,
    /// Share of neighbours dropped by the attention of `gat` in training.
    pub attention_dropout: f64,
    /// Weight of half the squared norm of the weights in the loss (weight decay inside Adam), where the base is trained.
    pub l2: f64,
    /// Only the first convolutions have that term, so many; absent for all.
    pub l2_layers: Option<usize>,
    /// Divide the features of every node by their sum, for a fresh network; a base knows how it was trained.
    pub normalise: bool,
    /// Project features to this width by a random matrix that depends on the width alone, so that one base fits graphs
    /// of different features; likewise.
    pub project: Option<usize>,
    /// Which nodes, or which edges, are for what.
    pub split: Split,
    /// Shares to train on and to validate on, of the splits `temporal`, `stream` and `random`; the last fifth, or what is left if
    /// that is less, is for testing.
    pub shares: [f64; 2],
    /// Nodes of each class that are kept to learn from, drawn by the seed; absent for all of the part.
    pub labels: Option<usize>,
    /// Let `random` split a graph that carries time: what is tested on lies before what was trained on.
    pub random_split_leaks_the_future: bool,
    /// Neighbours drawn for each node, convolution by convolution, the last one first; absent for all (`sage` only).
    pub neighbours: Option<Vec<usize>>,
    /// Preferences, JSON lines: `{"node", "chosen", "rejected"}` prefers a class for a node, `{"src", "chosen",
    /// "rejected"}` a target for a source; `"ts"` says when (objective `feedback`). Without a file, ratings become
    /// preferences.
    pub feedback: Option<PathBuf>,
    /// Earlier ratings, drawn by lot, that each step of `ftk gnn feedback` learns from beside the newest ones (split
    /// `stream`): so that what was learnt is not forgotten.
    pub replay: usize,
    /// How two views of the graph are made and told apart (objective `contrast`).
    pub contrast: Contrast,
}

/// Contrast of two views of a graph, as in GRACE (Zhu et al. 2020), whose settings for Cora are the defaults.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Contrast {
    /// Share of the edges that each view loses.
    pub drop_edges: [f64; 2],
    /// Share of the features that each view loses, the same ones at every node.
    pub drop_features: [f64; 2],
    /// What likeness is divided by before the softmax.
    pub temperature: f64,
    /// Width of the two layers behind the convolutions whose output is compared; they are left behind afterwards.
    pub width: usize,
}

impl Default for Contrast {
    fn default() -> Self {
        Self { drop_edges: [0.2, 0.4], drop_features: [0.3, 0.4], temperature: 0.4, width: 128 }
    }
}

impl Default for Gnn {
    fn default() -> Self {
        Self {
            objective: Objective::Classes,
            network: GraphNetworkKind::Gcn,
            layers: 2,
            hidden: 16,
            heads: 8,
            messages: MessageKind::Alike,
            head: Head::Convolution,
            scorer: PairScorer::Product,
            train_head: false,
            dropout: 0.5,
            attention_dropout: 0.0,
            l2: 0.0,
            l2_layers: None,
            normalise: true,
            project: None,
            split: Split::Given,
            shares: [0.7, 0.1],
            labels: None,
            random_split_leaks_the_future: false,
            neighbours: None,
            feedback: None,
            replay: 512,
            contrast: Contrast::default(),
        }
    }
}

/// What is learnt of a graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Objective {
    /// The class of a node.
    Classes,
    /// The rating an edge carries.
    Ratings,
    /// Whether there is an edge.
    Links,
    /// Preferences, by direct preference optimisation against the base.
    Feedback,
    /// Which node of one view of the graph is the same in another: nothing but the graph is looked at.
    Contrast,
}

/// Which nodes, or which edges, are for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// As the graph's file says, of nodes or (objective `links`) of edges.
    Given,
    /// Twenty nodes of each class, the next 500, the last 1000 (Yang et al. 2016).
    Planetoid,
    /// By time: the earliest to train on, the latest to test on.
    Temporal,
    /// By time as well, and each rating is scored by what was known right before it, whichever part it is of (objective
    /// `ratings`): what a service does that learns of each as it comes.
    Stream,
    /// By lot.
    Random,
}

/// The keys that a task on a graph takes of a recipe, beside those of the host.
pub(crate) fn keys(gnn: Option<&Gnn>, dpo: &Dpo) -> Vec<TakenKey> {
    let objective = gnn.map_or(Objective::Classes, |gnn| gnn.objective);
    let split = gnn.map_or(Split::Given, |gnn| gnn.split);
    let of_feedback = |key: TakenKey| match objective {
        Objective::Feedback => key,
        _ => TakenKey::when(key.name, false, "is for objective = \"feedback\""),
    };
    let of_contrast = |name| TakenKey::when(name, objective == Objective::Contrast, "is for objective = \"contrast\"");
    let lots = split == Split::Random;
    let dealt = lots || matches!(split, Split::Temporal | Split::Stream);
    let mut keys = vec![
        TakenKey::new("gnn.objective"),
        TakenKey::new("gnn.network"),
        TakenKey::new("gnn.layers"),
        TakenKey::new("gnn.hidden"),
        TakenKey::new("gnn.heads"),
        TakenKey::when(
            "gnn.messages",
            matches!(objective, Objective::Classes | Objective::Contrast),
            "is for objective = \"classes\" or \"contrast\"",
        ),
        TakenKey::new("gnn.head"),
        TakenKey::when("gnn.scorer", objective == Objective::Links, "is for objective = \"links\""),
        TakenKey::new("gnn.train_head"),
        TakenKey::new("gnn.dropout"),
        TakenKey::new("gnn.attention_dropout"),
        TakenKey::new("gnn.l2"),
        TakenKey::new("gnn.l2_layers"),
        TakenKey::new("gnn.normalise"),
        TakenKey::new("gnn.project"),
        TakenKey::new("gnn.split"),
        TakenKey::when("gnn.shares", dealt, "is for gnn.split = \"temporal\", \"stream\" or \"random\""),
        TakenKey::when("gnn.labels", objective == Objective::Classes, "is for objective = \"classes\""),
        TakenKey::when("gnn.random_split_leaks_the_future", lots, "is for gnn.split = \"random\""),
        TakenKey::new("gnn.neighbours"),
        TakenKey::new("gnn.feedback"),
        TakenKey::when("gnn.replay", split == Split::Stream, "is for gnn.split = \"stream\""),
        of_contrast("gnn.contrast.drop_edges"),
        of_contrast("gnn.contrast.drop_features"),
        of_contrast("gnn.contrast.temperature"),
        of_contrast("gnn.contrast.width"),
    ];
    keys.extend(dpo.keys().into_iter().map(of_feedback));
    keys
}
