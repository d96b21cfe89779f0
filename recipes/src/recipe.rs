//! The recipe: every option of a training run, once, with its meaning and its default.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ftk_adapters::foreign;
use ftk_adapters::names::Pattern;
use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::RecipeError;
use crate::gnn::{FRESH, Gnn};
use crate::hub::{self, HubName};
use crate::keys::all_taken;
use crate::preference::{Dpo, Reference};
use crate::shipped;
use crate::source::{Override, Source};

/// A training run, as a recipe file describes it. Relative paths start at the recipe's folder, or where they were typed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
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
    /// A task on a graph (task `gnn`).
    #[serde(default)]
    pub gnn: Option<Gnn>,
    /// The optimiser.
    #[serde(default)]
    pub optim: Optim,
    /// Length, batches, files.
    pub run: Run,
}

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

/// The model that is fine-tuned.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Base {
    /// A Hugging Face folder, a GGUF file, `village` (the base that ships with ftk), for task `gnn` the folder of a
    /// network of graphs or `fresh`, or a model on the hub:
    /// `ORG/NAME[@REVISION]` where nothing of that name is here, or `hf://ORG/NAME[@REVISION][/FILE.gguf]`.
    pub model: PathBuf,
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

/// How the weights of a frozen base are held in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Hold {
    /// In f32: four bytes a weight.
    #[default]
    F32,
    /// As the file has them (bf16, f16, or the blocks of a GGUF file), and widened each time they are used.
    Stored,
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
    /// Number format of products with the base's weights; everything else is computed in f32. `bf16` is for GPUs:
    /// on the CPU it saves nothing.
    #[serde(default)]
    pub precision: Format,
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

/// Largest rank: what common loaders of adapters accept.
const MAX_RANK: usize = 256;

impl Recipe {
    /// Reads a recipe file, or where there is none the recipe that ships under this name. Paths come back resolved
    /// against the file's folder; by name, against the current folder, but for rows that ship, which are put into the
    /// cache. With other rows to train on than those that ship, held-out ones that ship are left out.
    ///
    /// # Errors
    /// The file cannot be read, is not TOML, has an unknown key or a value out of range; the error
    /// names path, line and key.
    pub fn load(path: &Path) -> Result<Self, RecipeError> {
        Self::load_with(path, &[])
    }

    /// [`Recipe::load`] with settings `key=value` laid over the file as if they stood in it: the key dotted, the
    /// value TOML or a bare word. A path in them starts at the current folder, where it was typed.
    ///
    /// # Errors
    /// As [`Recipe::load`]; where a setting is at fault, the error names it as `--set key`.
    pub fn load_with(path: &Path, settings: &[String]) -> Result<Self, RecipeError> {
        let builtin = shipped::named(path);
        let text = match builtin {
            Some(builtin) => Cow::Borrowed(builtin.text),
            None => foreign::read_text(path, foreign::DOCUMENT)
                .map_err(|error| RecipeError::unreadable(path, &error, shipped::meant(path)))?
                .into(),
        };
        let overrides = Override::read(settings, text.len())?;
        let source = Source::new(path, &text, &overrides)?;
        let mut recipe = Self::checked(&source)?;
        let folder = path.parent().filter(|_| builtin.is_none()).unwrap_or(Path::new(""));
        recipe.resolve(|key| if source.is_typed(key) { Path::new("") } else { folder });
        if let Some(builtin) = builtin {
            // Held-out rows that ship say nothing about a run on others.
            if source.is_typed("data.train") && !source.is_typed("data.held_out") {
                recipe.data.held_out = None;
            }
            for (_, path) in recipe.rows_mut().filter(|(key, _)| !source.is_typed(key)) {
                if let Some(unpacked) = builtin.unpack(path)? {
                    *path = unpacked;
                }
            }
        }
        Ok(recipe)
    }

    /// Reads a recipe from text; `path` only names it in errors and paths stay as written.
    ///
    /// # Errors
    /// As [`Recipe::load`].
    pub fn parse(path: &Path, text: &str) -> Result<Self, RecipeError> {
        Self::parse_with(path, text, &[])
    }

    /// [`Recipe::parse`] with settings laid over the text as in [`Recipe::load_with`].
    ///
    /// # Errors
    /// As [`Recipe::load_with`].
    pub fn parse_with(path: &Path, text: &str, settings: &[String]) -> Result<Self, RecipeError> {
        let overrides = Override::read(settings, text.len())?;
        Self::checked(&Source::new(path, text, &overrides)?)
    }

    fn checked(source: &Source<'_>) -> Result<Self, RecipeError> {
        let recipe: Self = source.read()?;
        recipe.check(source)?;
        Ok(recipe)
    }

    /// What a recipe may hold, as a JSON Schema (draft 2020-12).
    pub fn schema() -> serde_json::Value {
        schema_of::<Self>()
    }

    /// Puts the folder at which the path of each key starts in front of it.
    fn resolve<'a>(&mut self, folder: impl Fn(&'static str) -> &'a Path) {
        let resolve = |key, path: &mut PathBuf| *path = folder(key).join(&*path);
        // A name without a separator that is no file beside the recipe is a built-in base.
        let fresh = self.task == Task::Gnn && self.base.model == Path::new(FRESH);
        if !fresh && !SHIPPED.iter().any(|name| self.base.model == Path::new(name)) {
            self.base.model = HubName::base(folder("base.model"), &self.base.model);
        }
        self.rows_mut().filter(|(_, path)| !hub::has_scheme(path)).for_each(|(key, path)| resolve(key, path));
        self.lora.iter_mut().filter_map(|lora| lora.start.as_mut()).for_each(|path| resolve("lora.start", path));
        self.gnn.iter_mut().filter_map(|gnn| gnn.feedback.as_mut()).for_each(|path| resolve("gnn.feedback", path));
        resolve("run.out", &mut self.run.out);
    }

    /// The files of rows that are named, each with its key.
    pub fn rows_mut(&mut self) -> impl Iterator<Item = (&'static str, &mut PathBuf)> {
        let held_out = self.data.held_out.iter_mut().map(|path| ("data.held_out", path));
        std::iter::once(("data.train", &mut self.data.train)).chain(held_out)
    }

    /// The same recipe for other machines: what lies in the hub's cache is named as it is on the hub, at its commit.
    pub fn portable(&self) -> Self {
        let mut recipe = self.clone();
        let Base { model, .. } = &mut recipe.base;
        if let Some(name) = HubName::of_cached(model, "models").filter(HubName::is_model) {
            *model = name.to_string().into();
        }
        for (_, path) in recipe.rows_mut() {
            if let Some(name) = HubName::of_cached(path, "datasets").filter(HubName::is_file) {
                *path = name.to_string().into();
            }
        }
        recipe
    }

    /// The recipe as far as it decides what is computed: content counts, not where it lies or how often it is saved.
    pub fn without_places(&self) -> Value {
        let mut recipe = self.clone();
        recipe.run.out = PathBuf::new();
        recipe.base.model = PathBuf::new();
        recipe.data.train = PathBuf::new();
        recipe.data.held_out = recipe.data.held_out.map(|_| PathBuf::new());
        if let Some(lora) = &mut recipe.lora {
            lora.start = lora.start.as_ref().map(|_| PathBuf::new());
        }
        if let Some(gnn) = &mut recipe.gnn {
            gnn.feedback = gnn.feedback.as_ref().map(|_| PathBuf::new());
        }
        recipe.run.save_every = 0;
        // How it is computed does not matter either.
        (recipe.run.recompute, recipe.base.hold) = Default::default();
        let mut recipe = serde_json::to_value(recipe).expect("a recipe has a JSON form");
        // Nor does what is written down about it.
        if let Some(run) = recipe["run"].as_object_mut() {
            run.shift_remove("transcript");
            run.shift_remove("state_every");
        }
        recipe
    }

    fn check(&self, source: &Source<'_>) -> Result<(), RecipeError> {
        let need = |good: bool, key: &str, rule: &str| if good { Ok(()) } else { Err(source.refuse(key, rule)) };
        let positive = |value: f64| value.is_finite() && value > 0.0;
        let fraction = |value: f64| (0.0..1.0).contains(&value);

        let named = |path: &PathBuf, good: fn(&HubName) -> bool| {
            !hub::has_scheme(path) || HubName::of(path).as_ref().is_some_and(good)
        };
        let base = named(&self.base.model, HubName::is_model);
        need(base, "base.model", "must be hf://ORG/NAME[@REVISION], with the name of a .gguf file or without")?;
        for (key, path) in [("data.train", Some(&self.data.train)), ("data.held_out", self.data.held_out.as_ref())] {
            let rows = path.is_none_or(|path| named(path, HubName::is_file));
            need(rows, key, "must name a file: hf://ORG/NAME[@REVISION]/FILE")?;
        }
        match (&self.lora, self.base.train) {
            (None, false) => return Err(source.refuse("base.train", "must be true where there is no [lora] section")),
            (Some(_), true) => return Err(source.refuse("lora", "cannot stand beside base.train = true")),
            _ => {}
        }
        all_taken(self, source)?;
        match (self.task, &self.gnn) {
            (Task::Gnn, Some(gnn)) => gnn.check(self, source)?,
            (Task::Gnn, None) => return Err(source.refuse("task", "\"gnn\" needs a [gnn] section")),
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
        let completion = self.task != Task::Dpo || self.data.loss == Scored::Completion;
        need(self.task == Task::Sft || !self.data.packing, "data.packing", "is for task \"sft\"")?;
        need(completion, "data.loss", "must be \"completion\" for task \"dpo\", which scores completions")?;
        if let Some(lora) = &self.lora {
            lora.check(source)?;
            need(fraction(lora.dropout), "lora.dropout", "must lie in [0, 1)")?;
            let droppable = lora.dropout == 0.0 || self.task != Task::Dpo;
            need(droppable, "lora.dropout", "must be 0 for task \"dpo\", whose two models are compared as they are")?;
        }
        let start = self.lora.as_ref().is_some_and(|lora| lora.start.is_some());
        need(self.dpo.reference == Reference::Base || start, "dpo.reference", "\"start\" needs lora.start")?;
        need(self.task != Task::Dpo || self.lora.is_some(), "task", "\"dpo\" needs a [lora] section")?;
        self.dpo.check(&self.run, source)?;
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
        need(self.run.accumulate > 0, "run.accumulate", "must be at least 1")?;
        if let Some(best) = self.run.best.filter(|_| self.task != Task::Gnn) {
            need(self.data.held_out.is_some(), "run.best", "needs data.held_out")?;
            need(self.run.eval_every > 0, "run.best", "needs run.eval_every above 0")?;
            need(best != Best::Accuracy, "run.best", "names a figure of task = \"gnn\"")?;
            need(best == Best::Loss || self.task == Task::Dpo, "run.best", "names a figure of task = \"dpo\"")?;
        }
        let states = self.run.transcript || self.run.state_every == 0;
        need(states, "run.state_every", "needs run.transcript = true")?;
        need(self.run.patience.is_none() || self.run.best.is_some(), "run.patience", "needs run.best")?;
        need(self.run.patience != Some(0), "run.patience", "must be at least 1")
    }
}

/// The JSON Schema (draft 2020-12) of what TOML may hold as a type.
pub fn schema_of<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().with_transform(RecursiveTransform(without_null));
    settings.into_generator().into_root_schema_for::<T>().to_value()
}

/// TOML has no null: a key without a value is left out.
fn without_null(schema: &mut Schema) {
    let Some(object) = schema.as_object_mut() else { return };
    if object.get("default").is_some_and(Value::is_null) {
        object.remove("default");
    }
    if let Some(Value::Array(kinds)) = object.get_mut("type") {
        kinds.retain(|kind| kind != "null");
        if let [one] = kinds.as_slice() {
            let one = one.clone();
            object.insert("type".to_owned(), one);
        }
    }
    if let Some(Value::Array(kinds)) = object.get_mut("anyOf") {
        kinds.retain(|kind| kind.get("type") != Some(&Value::from("null")));
        if let [Value::Object(one)] = kinds.as_slice() {
            let one = one.clone();
            object.remove("anyOf");
            object.extend(one);
        }
    }
}

impl Lora {
    fn check(&self, source: &Source<'_>) -> Result<(), RecipeError> {
        let need = |good: bool, key: &str, rule: &str| if good { Ok(()) } else { Err(source.refuse(key, rule)) };
        let (rank, above) = (|rank| (1..=MAX_RANK).contains(&rank), |alpha: f64| alpha.is_finite() && alpha > 0.0);
        need(rank(self.rank), "lora.rank", "must be between 1 and 256")?;
        need(above(self.alpha), "lora.alpha", "must be above 0")?;
        let targets = match &self.targets {
            Targets::All(_) => None,
            Targets::Only(selector) => Some(selector),
        };
        let or = ["must be \"all-linear\", a pattern, or name at least one layer", "must be a pattern or name a layer"];
        for (key, selector, rule) in [("lora.targets", targets, or[0]), ("lora.exclude", self.exclude.as_ref(), or[1])]
        {
            match selector {
                None => {}
                Some(Selector::Names(names)) => {
                    need(!names.is_empty() && names.iter().all(|name| !name.is_empty()), key, rule)?;
                }
                Some(Selector::Pattern(text)) => {
                    Pattern::whole(text).map_err(|error| source.refuse(key, &error.to_string()))?;
                }
            }
        }
        need(
            self.layers.as_ref().is_none_or(|layers| !layers.is_empty()),
            "lora.layers",
            "must name at least one layer",
        )?;
        for (text, value) in &self.rank_pattern {
            need(rank(*value), "lora.rank_pattern", &format!("must be between 1 and 256 for {text}: {value}"))?;
        }
        for (text, value) in &self.alpha_pattern {
            need(above(*value), "lora.alpha_pattern", &format!("must be above 0 for {text}: {value}"))?;
        }
        for (key, text) in (self.rank_pattern.keys().map(|text| ("lora.rank_pattern", text)))
            .chain(self.alpha_pattern.keys().map(|text| ("lora.alpha_pattern", text)))
        {
            Pattern::ending(text).map_err(|error| source.refuse(key, &error.to_string()))?;
        }
        Ok(())
    }
}

/// Name of the base that ships with ftk.
pub const VILLAGE: &str = "village";
/// Name of the base of markets that ships with ftk .
pub const MARKET: &str = "market";
/// Names of all bases that ship with ftk.
const SHIPPED: [&str; 2] = [VILLAGE, MARKET];
