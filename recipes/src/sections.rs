//! The tables of a recipe that every task has: their keys, meanings and defaults.

use std::collections::BTreeMap;
use std::path::PathBuf;

use ftk_bases::Hold;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is learnt from the rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Task {
    /// Supervised fine-tuning: the next token of each scored position.
    Sft,
    /// Direct preference optimisation (Rafailov et al. 2023) on pairs.
    Dpo,
    /// Whatever `[gnn]` says, on a graph.
    Gnn,
}

impl Task {
    /// How recipes name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sft => "sft",
            Self::Dpo => "dpo",
            Self::Gnn => "gnn",
        }
    }

    /// Every task.
    pub const ALL: [Self; 3] = [Self::Sft, Self::Dpo, Self::Gnn];
}

/// The model that is fine-tuned.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Base {
    /// A Hugging Face folder, a GGUF file, `village` (the base that ships with ftk), for task `gnn` the folder of a
    /// network of graphs or `fresh`, or a model on the hub:
    /// `ORG/NAME[@REVISION]` where nothing of that name is here, or `hf://ORG/NAME[@REVISION][/FILE.gguf]`.
    pub model: PathBuf,
    /// What the adapter and its card call the base, where `model` is a file or a folder: `ORG/NAME` on the hub.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Train all of the base's weights instead of an adapter, from their present values.
    #[serde(default)]
    pub train: bool,
    /// Start from random weights of this standard deviation; the folder then needs only config and tokenizer.
    #[serde(default)]
    pub init_std: Option<f64>,
    /// The day that a chat template writes where it asks for today's (`strftime_now`): `2025-07-06`. Without it the
    /// template has no clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub date: Option<String>,
    /// How the weights of a frozen base are held in memory.
    #[serde(default)]
    pub hold: Hold,
    /// How a trained base is written.
    #[serde(default)]
    pub save_dtype: SaveDtype,
}

/// Number format of products.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// 32 bits.
    #[default]
    F32,
    /// 16 bits with the range of f32.
    Bf16,
}

/// Number format of a written base.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SaveDtype {
    /// As trained.
    #[default]
    F32,
    /// Rounded to nearest, half the size.
    Bf16,
}

/// The rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Data {
    /// Rows to train on: a `.jsonl`, `.json` (both also `.gz` and `.zst`) or `.parquet` file, or `hf://ORG/NAME[@REVISION]/FILE` in a
    /// data set on the hub. For task `gnn` a graph: a `.graph`, `.npz` or table of edges, or a folder.
    pub train: PathBuf,
    /// Rows to evaluate on, never trained on; named as those to train on.
    #[serde(default)]
    pub held_out: Option<PathBuf>,
    /// The only columns to look at, for files whose rows could be read in two ways.
    #[serde(default)]
    pub columns: Option<Vec<String>>,
    /// Texts to put in the place of `{{name}}` in the rows, by name.
    #[serde(default)]
    pub replace: BTreeMap<String, String>,
    /// What of a row is scored (task `sft`).
    #[serde(default)]
    pub loss: Scored,
    /// Longest row in tokens; longer rows lose their end.
    #[serde(default = "max_length")]
    pub max_length: usize,
    /// Put several rows into one of at most `max_length` tokens, where they do not see each other; `run.batch` then
    /// counts packed rows (task `sft`).
    #[serde(default)]
    pub packing: bool,
}

impl Data {
    /// Rows to train on, and defaults.
    pub fn new(train: PathBuf) -> Self {
        let (columns, replace, loss) = (None, BTreeMap::new(), Scored::default());
        Self { train, held_out: None, columns, replace, loss, max_length: max_length(), packing: false }
    }
}

fn max_length() -> usize {
    1024
}

/// What of a row for supervised fine-tuning is scored. Token ids are scored by their labels in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Scored {
    /// The completion where there is a prompt; `text` and `messages` as a whole (TRL's default).
    #[default]
    Completion,
    /// What the assistant says, in every turn, with the token that ends the turn.
    Assistant,
    /// Everything, prompts too.
    All,
}

/// The adapter (LoRA, Hu et al. 2021).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Lora {
    /// Rank of the factors.
    pub rank: usize,
    /// The product is scaled by `alpha / rank`.
    pub alpha: f64,
    /// Linear layers: `all-linear` (all but the head), a list of names, or a pattern.
    pub targets: Targets,
    /// Linear layers that carry no adapter though they are targets: a list of names, or a pattern.
    pub exclude: Option<Selector>,
    /// Numbers of the layers that carry an adapter, from 0; absent for all.
    pub layers: Option<Vec<usize>>,
    /// Scale by `alpha / sqrt(rank)` (rsLoRA, Kalajdzievski 2023).
    pub rslora: bool,
    /// Share of the entries that are dropped before they enter the factors, in supervised training.
    pub dropout: f64,
    /// Start from this PEFT adapter folder instead of fresh factors; all but `dropout` is then its own.
    pub start: Option<PathBuf>,
    /// Other ranks: by the end of a layer's path or a pattern for it.
    pub rank_pattern: BTreeMap<String, usize>,
    /// Other alphas, likewise.
    pub alpha_pattern: BTreeMap<String, f64>,
}

impl Default for Lora {
    fn default() -> Self {
        Self {
            rank: 8,
            alpha: 16.0,
            targets: Targets::All(AllLinear::AllLinear),
            exclude: None,
            layers: None,
            rslora: false,
            dropout: 0.0,
            start: None,
            rank_pattern: BTreeMap::new(),
            alpha_pattern: BTreeMap::new(),
        }
    }
}

/// Which linear layers carry an adapter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Targets {
    /// Every linear layer but the head.
    All(AllLinear),
    /// Those that are named, the head among them.
    Only(Selector),
}

/// Layers by name, as PEFT understands them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Selector {
    /// A regular expression that matches the whole module path (`model.layers.0.self_attn.q_proj`).
    Pattern(String),
    /// Those whose path is, or ends with a dot and, one of these.
    Names(Vec<String>),
}

/// The word `all-linear`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AllLinear {
    /// Every linear layer but the head.
    #[serde(rename = "all-linear")]
    AllLinear,
}

/// AdamW (Loshchilov and Hutter 2019) and its schedule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Optim {
    /// Peak learning rate.
    pub lr: f64,
    /// Decay of the first and the second moment.
    pub betas: [f64; 2],
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay; norm weights are exempt.
    pub weight_decay: f64,
    /// Gradients are scaled down to this norm; 0 leaves them alone.
    pub max_grad_norm: f64,
    /// Learning rate over the steps.
    pub schedule: Schedule,
    /// Steps over which the learning rate rises from 0.
    pub warmup_steps: usize,
}

impl Default for Optim {
    fn default() -> Self {
        Self {
            lr: 1e-4,
            betas: [0.9, 0.999],
            eps: 1e-8,
            weight_decay: 0.0,
            max_grad_norm: 1.0,
            schedule: Schedule::Linear,
            warmup_steps: 0,
        }
    }
}

/// Learning rate after the warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    /// Falls linearly to 0.
    Linear,
    /// Falls to 0 along half a cosine.
    Cosine,
    /// Stays.
    Constant,
}

/// Length, batches, files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// Folder for the adapter, metrics and checkpoint.
    pub out: PathBuf,
    /// Passes over the rows.
    #[serde(default = "one_epoch")]
    pub epochs: f64,
    /// Optimiser steps; replaces `epochs`.
    #[serde(default)]
    pub steps: Option<usize>,
    /// Rows (SFT) or pairs (DPO) computed at once.
    #[serde(default = "batch")]
    pub batch: usize,
    /// Batches whose gradients make one step.
    #[serde(default = "one")]
    pub accumulate: usize,
    /// Compute activations again in the backward pass instead of keeping them: less memory, a third more time.
    #[serde(default)]
    pub recompute: bool,
    /// Number format of products with the base's weights and, on CPUs, of those in attention. The matrices of a frozen base
    /// are held in it, too; everything else is computed in f32. `bf16` saves time on GPUs and on CPUs with AMX or
    /// AVX512-BF16, and memory anywhere.
    #[serde(default)]
    pub precision: Format,
    /// On CUDA devices, round the factors of products in f32 to TF32, ten bits behind the point instead of 23: faster, and
    /// further from what a CPU computes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tf32: bool,
    /// Seed of the initial factors and of the row order.
    #[serde(default = "seed")]
    pub seed: u64,
    /// Take the rows in a new random order every epoch.
    #[serde(default = "yes")]
    pub shuffle: bool,
    /// Steps between checkpoints; 0 writes none before the end.
    #[serde(default)]
    pub save_every: usize,
    /// Checkpoints of which the result so far is kept too, in a folder `steps/STEP` of the run folder each.
    #[serde(default)]
    pub keep: usize,
    /// Write a transcript, with which the run can be computed again step by step (`ftk audit`).
    #[serde(default = "yes")]
    pub transcript: bool,
    /// A secret of yours that the transcript's digests of rows depend on: without it, who has the transcript can try whether
    /// a row is one they guess.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub salt: Option<String>,
    /// Steps between states that are kept for audits, in `states/`; 0 keeps none, and an audit begins with the first
    /// step. Each has three times the size of what is trained, in f32.
    #[serde(default)]
    pub state_every: usize,
    /// Steps between evaluations on the held-out rows; 0 evaluates at the end only.
    #[serde(default)]
    pub eval_every: usize,
    /// Export what did best on the held-out rows by this figure, instead of the last state.
    #[serde(default)]
    pub best: Option<Best>,
    /// Evaluations without a new best after which the run ends.
    #[serde(default)]
    pub patience: Option<usize>,
    /// Steps that workers make apart before they meet and go on from one place (`ftk train --worker`, `mpirun`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sync_every: Option<usize>,
    /// Learning rate of the step that a meeting makes towards the mean of the workers; 0.7 unless it is set. With 1, and
    /// momentum 0, workers go on from their mean.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outer_lr: Option<f64>,
    /// Nesterov momentum of these steps; 0.9 unless it is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outer_momentum: Option<f64>,
}

/// A figure of the evaluations, of which either the lowest or the highest is best.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Best {
    /// Mean loss; the lowest is best.
    #[serde(rename = "eval_loss")]
    Loss,
    /// Share of nodes, edges or pairs that are told rightly (task `gnn`); the highest is best.
    #[serde(rename = "eval_accuracy")]
    Accuracy,
    /// Share of pairs ranked as preferred (task `dpo`); the highest is best.
    #[serde(rename = "eval_rewards/accuracies")]
    Accuracies,
    /// Mean margin of the rewards (task `dpo`); the highest is best.
    #[serde(rename = "eval_rewards/margins")]
    Margins,
}

impl Best {
    /// Its name in `metrics.jsonl`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Loss => "eval_loss",
            Self::Accuracy => "eval_accuracy",
            Self::Accuracies => "eval_rewards/accuracies",
            Self::Margins => "eval_rewards/margins",
        }
    }

    /// Whether a value is better than another.
    pub fn improves(self, value: f64, on: f64) -> bool {
        match self {
            Self::Loss => value < on,
            Self::Accuracy | Self::Accuracies | Self::Margins => value > on,
        }
    }
}

fn one_epoch() -> f64 {
    1.0
}

fn batch() -> usize {
    8
}

fn one() -> usize {
    1
}

fn seed() -> u64 {
    42
}

fn yes() -> bool {
    true
}
