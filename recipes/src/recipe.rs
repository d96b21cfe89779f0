//! The recipe: every option of a training run, once, with its meaning and its default.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::RecipeError;
use crate::source::Source;

/// A training run, as a recipe file describes it. Relative paths start at the recipe's folder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// What is learnt from the rows.
    pub task: Task,
    /// The model that is fine-tuned.
    pub base: Base,
    /// The rows.
    pub data: Data,
    /// The adapter; absent when the base's own weights are trained.
    #[serde(default)]
    pub lora: Option<Lora>,
    /// Direct preference optimisation (task `dpo`).
    #[serde(default)]
    pub dpo: Dpo,
    /// The optimiser.
    #[serde(default)]
    pub optim: Optim,
    /// Length, batches, files.
    pub run: Run,
}

/// What is learnt from the rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Task {
    /// Supervised fine-tuning: the next token of each scored position.
    Sft,
    /// Direct preference optimisation (Rafailov et al. 2023) on pairs.
    Dpo,
}

/// The model that is fine-tuned.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Base {
    /// A Hugging Face folder, a GGUF file, or `village` (the base that ships with ftk).
    pub model: PathBuf,
    /// Train all of the base's weights instead of an adapter, from their present values.
    #[serde(default)]
    pub train: bool,
    /// Start from random weights of this standard deviation; the folder then needs only config and tokenizer.
    #[serde(default)]
    pub init_std: Option<f64>,
    /// How the weights of a frozen base are held in memory.
    #[serde(default)]
    pub hold: Hold,
    /// How a trained base is written.
    #[serde(default)]
    pub save_dtype: SaveDtype,
}

/// How the weights of a frozen base are held in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Hold {
    /// In f32: four bytes a weight.
    #[default]
    F32,
    /// As the file has them (bf16, f16, or the blocks of a GGUF file), and widened each time they are used.
    Stored,
}

/// Number format of a written base.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SaveDtype {
    /// As trained.
    #[default]
    F32,
    /// Rounded to nearest, half the size.
    Bf16,
}

/// The rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Data {
    /// Rows to train on: a `.jsonl`, `.json` (an array) or `.parquet` file.
    pub train: PathBuf,
    /// Rows to evaluate on, never trained on.
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Lora {
    /// Rank of the factors.
    pub rank: usize,
    /// The product is scaled by `alpha / rank`.
    pub alpha: f64,
    /// Linear layers by the last part of their name, or `all-linear` (all but the head).
    pub targets: Targets,
    /// Share of the entries that are dropped before they enter the factors, in supervised training.
    pub dropout: f64,
    /// Start from this PEFT adapter folder instead of fresh factors; rank, alpha and targets are then its own.
    pub start: Option<PathBuf>,
}

impl Default for Lora {
    fn default() -> Self {
        Self { rank: 8, alpha: 16.0, targets: Targets::All(AllLinear::AllLinear), dropout: 0.0, start: None }
    }
}

/// Which linear layers carry an adapter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Targets {
    /// Every linear layer but the head.
    All(AllLinear),
    /// Those whose name is, or ends with a dot and, one of these.
    Named(Vec<String>),
}

/// The word `all-linear`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AllLinear {
    /// Every linear layer but the head.
    #[serde(rename = "all-linear")]
    AllLinear,
}

/// Direct preference optimisation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Dpo {
    /// Strength of the pull towards the reference.
    pub beta: f64,
    /// The model whose log-probabilities are subtracted.
    pub reference: Reference,
}

impl Default for Dpo {
    fn default() -> Self {
        Self { beta: 0.1, reference: Reference::Base }
    }
}

/// The reference model of DPO.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reference {
    /// The base without adapter.
    Base,
    /// The base with the adapter it started from (`lora.start`).
    Start,
}

/// AdamW (Loshchilov and Hutter 2019) and its schedule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
    /// Seed of the initial factors and of the row order.
    #[serde(default = "seed")]
    pub seed: u64,
    /// Take the rows in a new random order every epoch.
    #[serde(default = "yes")]
    pub shuffle: bool,
    /// Steps between checkpoints; 0 writes none before the end.
    #[serde(default)]
    pub save_every: usize,
    /// Steps between evaluations on the held-out rows; 0 evaluates at the end only.
    #[serde(default)]
    pub eval_every: usize,
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

/// Largest rank: what common loaders of adapters accept.
const MAX_RANK: usize = 256;

impl Recipe {
    /// Reads a recipe file. Paths come back resolved against its folder.
    ///
    /// # Errors
    /// The file cannot be read, is not TOML, has an unknown key or a value out of range; the error
    /// names path, line and key.
    pub fn load(path: &Path) -> Result<Self, RecipeError> {
        let text = std::fs::read_to_string(path).map_err(|error| RecipeError::unreadable(path, &error))?;
        let mut recipe = Self::parse(path, &text)?;
        recipe.resolve(path.parent().unwrap_or(Path::new("")));
        Ok(recipe)
    }

    /// Reads a recipe from text; `path` only names it in errors and paths stay as written.
    ///
    /// # Errors
    /// As [`Recipe::load`].
    pub fn parse(path: &Path, text: &str) -> Result<Self, RecipeError> {
        let source = Source::new(path, text);
        let recipe: Self = toml::from_str(text).map_err(|error| source.syntax(&error))?;
        recipe.check(&source)?;
        Ok(recipe)
    }

    fn resolve(&mut self, folder: &Path) {
        let resolve = |path: &mut PathBuf| *path = folder.join(&*path);
        // A name without a separator that is no file beside the recipe is a built-in base.
        if self.base.model != Path::new(VILLAGE) {
            resolve(&mut self.base.model);
        }
        resolve(&mut self.data.train);
        self.data.held_out.iter_mut().for_each(resolve);
        self.lora.iter_mut().filter_map(|lora| lora.start.as_mut()).for_each(resolve);
        resolve(&mut self.run.out);
    }

    fn check(&self, source: &Source<'_>) -> Result<(), RecipeError> {
        let need = |good: bool, key: &str, rule: &str| if good { Ok(()) } else { Err(source.refuse(key, rule)) };
        let positive = |value: f64| value.is_finite() && value > 0.0;
        let fraction = |value: f64| (0.0..1.0).contains(&value);

        match (&self.lora, self.base.train) {
            (None, false) => return Err(source.refuse("base.train", "must be true where there is no [lora] section")),
            (Some(_), true) => return Err(source.refuse("lora", "cannot stand beside base.train = true")),
            _ => {}
        }
        need(self.base.init_std.is_none() || self.base.train, "base.init_std", "needs base.train = true")?;
        need(
            self.base.hold == Hold::F32 || !self.base.train,
            "base.hold",
            "must be \"f32\" where the base is trained",
        )?;
        need(self.base.init_std.is_none_or(positive), "base.init_std", "must be above 0")?;
        need(self.data.max_length >= 2, "data.max_length", "must be at least 2")?;
        let named = self.data.columns.as_ref().is_none_or(|columns| !columns.is_empty());
        need(named, "data.columns", "must name at least one column")?;
        let completion = self.task == Task::Sft || self.data.loss == Scored::Completion;
        need(self.task == Task::Sft || !self.data.packing, "data.packing", "is for task \"sft\"")?;
        need(completion, "data.loss", "must be \"completion\" for task \"dpo\", which scores completions")?;
        if let Some(lora) = &self.lora {
            need((1..=MAX_RANK).contains(&lora.rank), "lora.rank", "must be between 1 and 256")?;
            need(positive(lora.alpha), "lora.alpha", "must be above 0")?;
            need(fraction(lora.dropout), "lora.dropout", "must lie in [0, 1)")?;
            let droppable = lora.dropout == 0.0 || self.task == Task::Sft;
            need(droppable, "lora.dropout", "must be 0 for task \"dpo\", whose two models are compared as they are")?;
            if let Targets::Named(names) = &lora.targets {
                let named = !names.is_empty() && names.iter().all(|name| !name.is_empty());
                need(named, "lora.targets", "must be \"all-linear\" or name at least one layer")?;
            }
        }
        let start = self.lora.as_ref().is_some_and(|lora| lora.start.is_some());
        need(self.dpo.reference == Reference::Base || start, "dpo.reference", "\"start\" needs lora.start")?;
        need(self.task == Task::Sft || self.lora.is_some(), "task", "\"dpo\" needs a [lora] section")?;
        need(positive(self.dpo.beta), "dpo.beta", "must be above 0")?;
        need(positive(self.optim.lr), "optim.lr", "must be above 0")?;
        need(self.optim.betas.into_iter().all(fraction), "optim.betas", "must lie in [0, 1)")?;
        need(positive(self.optim.eps), "optim.eps", "must be above 0")?;
        need(
            self.optim.weight_decay.is_finite() && self.optim.weight_decay >= 0.0,
            "optim.weight_decay",
            "must not be negative",
        )?;
        need(
            self.optim.max_grad_norm.is_finite() && self.optim.max_grad_norm >= 0.0,
            "optim.max_grad_norm",
            "must not be negative",
        )?;
        need(positive(self.run.epochs), "run.epochs", "must be above 0")?;
        need(self.run.steps.is_none_or(|steps| steps > 0), "run.steps", "must be at least 1")?;
        need(self.run.batch > 0, "run.batch", "must be at least 1")?;
        need(self.run.accumulate > 0, "run.accumulate", "must be at least 1")
    }
}

/// Name of the base that ships with ftk.
pub const VILLAGE: &str = "village";
