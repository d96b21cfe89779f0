//! The recipe's table for graphs.

use std::path::PathBuf;

use ftk_networks::graphs::{Head, Kind};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::RecipeError;
use crate::keys::Key;
use crate::recipe::{Best, Lora, Recipe};
use crate::source::Source;

/// `base.model` of a network that starts from random weights.
pub const FRESH: &str = "fresh";

/// A task on a graph (task `gnn`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Gnn {
    /// What is learnt.
    pub objective: Objective,
    /// Kind of a fresh network.
    pub network: Kind,
    /// Convolutions of a fresh network.
    pub layers: usize,
    /// Features between them (of each head of `gat`).
    pub hidden: usize,
    /// Heads of a fresh `gat`.
    pub heads: usize,
    /// What a fresh network ends in.
    pub head: Head,
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
    /// Shares to train on and to validate on, of the splits `temporal` and `random`; the last fifth, or what is left if
    /// that is less, is for testing.
    pub shares: [f64; 2],
    /// Let `random` split a graph that carries time: what is tested on lies before what was trained on.
    pub random_split_leaks_the_future: bool,
    /// Neighbours drawn for each node, convolution by convolution, the last one first; absent for all (`sage` only).
    pub neighbours: Option<Vec<usize>>,
    /// Preferences, JSON lines: `{"node", "chosen", "rejected"}` prefers a class for a node, `{"src", "chosen",
    /// "rejected"}` a target for a source; `"ts"` says when (objective `feedback`). Without a file, ratings become
    /// preferences.
    pub feedback: Option<PathBuf>,
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
            network: Kind::Gcn,
            layers: 2,
            hidden: 16,
            heads: 8,
            head: Head::Convolution,
            train_head: false,
            dropout: 0.5,
            attention_dropout: 0.0,
            l2: 0.0,
            l2_layers: None,
            normalise: true,
            project: None,
            split: Split::Given,
            shares: [0.7, 0.1],
            random_split_leaks_the_future: false,
            neighbours: None,
            feedback: None,
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
    /// As the graph's file says.
    Given,
    /// Twenty nodes of each class, the next 500, the last 1000 (Yang et al. 2016).
    Planetoid,
    /// By time: the earliest to train on, the latest to test on.
    Temporal,
    /// By lot.
    Random,
}

/// The keys that a task on a graph takes of a recipe, beside those of the host.
pub(crate) fn keys(recipe: &Recipe) -> Vec<Key> {
    let objective = recipe.gnn.as_ref().map_or(Objective::Classes, |gnn| gnn.objective);
    let split = recipe.gnn.as_ref().map_or(Split::Given, |gnn| gnn.split);
    let of_feedback = |key: Key| match objective {
        Objective::Feedback => key,
        _ => Key::when(key.name, false, "is for objective = \"feedback\""),
    };
    let of_contrast = |name| Key::when(name, objective == Objective::Contrast, "is for objective = \"contrast\"");
    let lots = split == Split::Random;
    let dealt = lots || split == Split::Temporal;
    let mut keys = vec![
        Key::new("gnn.objective"),
        Key::new("gnn.network"),
        Key::new("gnn.layers"),
        Key::new("gnn.hidden"),
        Key::new("gnn.heads"),
        Key::new("gnn.head"),
        Key::new("gnn.train_head"),
        Key::new("gnn.dropout"),
        Key::new("gnn.attention_dropout"),
        Key::new("gnn.l2"),
        Key::new("gnn.l2_layers"),
        Key::new("gnn.normalise"),
        Key::new("gnn.project"),
        Key::new("gnn.split"),
        Key::when("gnn.shares", dealt, "is for gnn.split = \"temporal\" or \"random\""),
        Key::when("gnn.random_split_leaks_the_future", lots, "is for gnn.split = \"random\""),
        Key::new("gnn.neighbours"),
        Key::new("gnn.feedback"),
        of_contrast("gnn.contrast.drop_edges"),
        of_contrast("gnn.contrast.drop_features"),
        of_contrast("gnn.contrast.temperature"),
        of_contrast("gnn.contrast.width"),
    ];
    keys.extend(recipe.dpo.keys().into_iter().map(of_feedback));
    keys
}

impl Gnn {
    pub(crate) fn check(&self, recipe: &Recipe, source: &Source<'_>) -> Result<(), RecipeError> {
        let need = |good: bool, key: &str, rule: &str| if good { Ok(()) } else { Err(source.refuse(key, rule)) };
        let share = |value: f64| (0.0..1.0).contains(&value);
        let fresh = recipe.base.model.as_os_str() == FRESH;
        need(!fresh || recipe.base.train, "base.model", "\"fresh\" needs base.train = true")?;
        need(recipe.base.init_std.is_none(), "base.init_std", "is for other tasks; write base.model = \"fresh\"")?;
        need(recipe.data.held_out.is_none(), "data.held_out", "is for other tasks; a graph has a split")?;
        need((1..=8).contains(&self.layers), "gnn.layers", "must be from 1 to 8")?;
        need((1..=4096).contains(&self.hidden), "gnn.hidden", "must be from 1 to 4096")?;
        need((1..=64).contains(&self.heads), "gnn.heads", "must be from 1 to 64")?;
        need(share(self.dropout), "gnn.dropout", "must lie in [0, 1)")?;
        need(share(self.attention_dropout), "gnn.attention_dropout", "must lie in [0, 1)")?;
        need(self.l2.is_finite() && self.l2 >= 0.0, "gnn.l2", "must not be negative")?;
        need(self.project.is_none_or(|width| (1..=4096).contains(&width)), "gnn.project", "must be from 1 to 4096")?;
        let [train, validation] = self.shares;
        let shares = share(train) && train > 0.0 && share(validation) && train + validation < 1.0;
        need(shares, "gnn.shares", "must be two shares that leave something to test on")?;
        if let Some(neighbours) = &self.neighbours {
            need(!neighbours.is_empty() && !neighbours.contains(&0), "gnn.neighbours", "must be numbers above 0")?;
        }
        let Contrast { drop_edges, drop_features, temperature, width } = self.contrast;
        need(drop_edges.into_iter().all(share), "gnn.contrast.drop_edges", "must be two shares in [0, 1)")?;
        need(drop_features.into_iter().all(share), "gnn.contrast.drop_features", "must be two shares in [0, 1)")?;
        need((0.01..=100.0).contains(&temperature), "gnn.contrast.temperature", "must be from 0.01 to 100")?;
        need((1..=4096).contains(&width), "gnn.contrast.width", "must be from 1 to 4096")?;
        let feedback = self.objective == Objective::Feedback;
        need(self.feedback.is_none() || feedback, "gnn.feedback", "is for objective = \"feedback\"")?;
        let whole = self.dropout == 0.0 && self.attention_dropout == 0.0;
        need(!feedback || whole, "gnn.dropout", "must be 0 for feedback, whose two models are compared as they are")?;
        need(!feedback || recipe.lora.is_some(), "gnn.objective", "\"feedback\" needs a [lora] section")?;
        let contrast = self.objective == Objective::Contrast;
        need(!contrast || recipe.lora.is_none(), "gnn.objective", "\"contrast\" trains a base, not an adapter")?;
        need(!contrast || self.neighbours.is_none(), "gnn.neighbours", "is for other objectives")?;
        need(!contrast || recipe.run.best.is_none(), "run.best", "contrast has no held-out figure to go by")?;
        need(!self.train_head || recipe.lora.is_some(), "gnn.train_head", "is for training beside an adapter")?;
        need(self.l2 == 0.0 || recipe.lora.is_none(), "gnn.l2", "is for training the base")?;
        if let Some(Lora { dropout, .. }) = &recipe.lora {
            need(*dropout == 0.0, "lora.dropout", "is for other tasks; write gnn.dropout")?;
        }
        let relative = !feedback || recipe.dpo.cost().is_relative();
        need(relative, "dpo.loss", "needs log-probabilities, and what a graph scores has none")?;
        need(recipe.dpo.cache, "dpo.cache", "must be true: the reference's figures are few")?;
        let best = recipe.run.best;
        need(best.is_none() || recipe.run.eval_every > 0, "run.best", "needs run.eval_every above 0")?;
        let known = matches!(best, None | Some(Best::Loss | Best::Accuracy));
        need(known, "run.best", "must be \"eval_loss\" or \"eval_accuracy\" for task \"gnn\"")
    }
}
