//! The verbs of models that are there: fetch, look into, merge, ask.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, ValueEnum};
use ftk_bases::Precision;

use super::arguments::{AnsweringArgs, DeviceArgs, ModelArgs, PromptArgs, SamplingArgs, needs_temperature};
use super::printer::Printer;
use crate::commands::{Outcome, chat, convert, generate, inspect, logits, merge, pull, push};

#[derive(Args)]
pub(super) struct InspectArgs {
    /// Base, adapter folder, run folder, commitment or bundle
    path: PathBuf,
    /// Base model that the adapter must fit
    #[arg(long)]
    base: Option<PathBuf>,
    /// Compute the digest by which a proof names the base, or hold --base against the base that an adapter's run names;
    /// reads all weights
    #[arg(long)]
    digest: bool,
}

#[derive(Args)]
pub(super) struct MergeArgs {
    /// Base model: a Hugging Face folder, a GGUF file, ORG/NAME[@REVISION] on the hub, `village` or `market`
    #[arg(long)]
    base: PathBuf,
    /// PEFT adapter folder
    #[arg(long, value_name = "FOLDER")]
    adapter: PathBuf,
    /// Folder for the merged model, which must not exist
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
    /// Number format of the merged weights
    #[arg(long, default_value = "f32")]
    dtype: Dtype,
    /// Text to compare the two models on, instead of a built-in sample
    #[arg(long, value_name = "FILE")]
    text: Option<PathBuf>,
    /// Largest difference of a logit that is accepted, as a share of what the adapter changes
    #[arg(long, value_name = "SHARE", default_value_t = 0.1)]
    tolerance: f64,
}

#[derive(Args)]
pub(super) struct ConvertArgs {
    /// A PEFT adapter folder, which becomes a GGUF file for llama.cpp, or such a file, which becomes a folder; or a bundle's
    /// folder, which becomes one file (.ftk), or such a file
    path: PathBuf,
    /// Base model that an adapter is for
    #[arg(long)]
    base: Option<PathBuf>,
    /// File or folder to write, which must not exist
    #[arg(long, value_name = "PATH")]
    out: PathBuf,
    /// Number format in a GGUF file
    #[arg(long, default_value = "f32")]
    dtype: Dtype,
}

#[derive(Clone, Copy, ValueEnum)]
enum Dtype {
    F32,
    Bf16,
    F16,
}

#[derive(Args)]
pub(super) struct PullArgs {
    /// ORG/NAME, with @REVISION for a branch, tag or commit other than main
    #[arg(value_name = "ORG/NAME[@REVISION]")]
    name: String,
    /// It is a data set: fetch its files of rows (.jsonl, .ndjson, .json, also .gz and .zst; .parquet)
    #[arg(long)]
    dataset: bool,
    /// Fetch only this file, for example a .gguf; may be repeated
    #[arg(long = "file", value_name = "NAME")]
    files: Vec<String>,
}

#[derive(Args)]
pub(super) struct PushArgs {
    /// Folder of an adapter, as a run leaves it, or of a model
    folder: PathBuf,
    /// Repository, which is made if it is not there
    #[arg(long, value_name = "ORG/NAME")]
    to: String,
    /// A repository that is made is for its owner alone
    #[arg(long)]
    private: bool,
    /// First line of the commit
    #[arg(long, value_name = "TEXT")]
    message: Option<String>,
    /// Only say what would be pushed
    #[arg(long)]
    dry_run: bool,
}

#[derive(Args)]
pub(super) struct GenerateArgs {
    #[command(flatten)]
    model: AnsweringArgs,
    #[command(flatten)]
    prompt: PromptArgs,
    /// Answers to each prompt
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    samples: u32,
    /// Answers computed at a time: more are faster together and take more memory, and are the same
    #[arg(long, value_name = "COUNT", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..))]
    batch: u32,
    #[command(flatten)]
    sampling: SamplingArgs,
}

#[derive(Args)]
pub(super) struct ChatArgs {
    #[command(flatten)]
    model: AnsweringArgs,
    /// What the system says before the first turn
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    #[command(flatten)]
    sampling: SamplingArgs,
}

#[derive(Args)]
pub(super) struct LogitsArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// File to read: a safetensors file with `input_ids`, i64 (batch, seq)
    #[arg(long, value_name = "FILE")]
    ids: PathBuf,
    /// File to write: a safetensors file with `logits`, f32 (batch, seq, vocab)
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    device: DeviceArgs,
}

impl InspectArgs {
    /// Runs it; `local` finds a base.
    pub(super) fn run(self, local: impl Fn(PathBuf) -> Result<PathBuf>, printer: &Printer) -> Result<Outcome> {
        let Self { path, base, digest } = self;
        let base = base.map(local).transpose()?;
        inspect::run(&inspect::Settings { path, base, digest }, printer)
    }
}

impl Dtype {
    fn precision(self) -> Precision {
        match self {
            Self::F32 => Precision::F32,
            Self::Bf16 => Precision::Bf16,
            Self::F16 => Precision::F16,
        }
    }
}

impl ConvertArgs {
    /// Runs it; `local` finds a base.
    pub(super) fn run(self, local: impl Fn(PathBuf) -> Result<PathBuf>, printer: &Printer) -> Result<Outcome> {
        let Self { path, base, out, dtype } = self;
        let base = base.map(local).transpose()?;
        convert::run(&convert::Settings { path, base, precision: dtype.precision(), out }, printer)
    }
}

impl MergeArgs {
    /// Runs it; `local` finds a base.
    pub(super) fn run(self, local: impl Fn(PathBuf) -> Result<PathBuf>, printer: &Printer) -> Result<Outcome> {
        let Self { base, adapter, out, dtype, text, tolerance } = self;
        let (base, precision) = (local(base)?, dtype.precision());
        merge::run(&merge::Settings { base, adapter, out, precision, text, tolerance }, printer)
    }
}

impl PullArgs {
    pub(super) fn run(self, offline: bool, printer: &Printer) -> Result<Outcome> {
        let Self { name, dataset, files } = self;
        pull::run(&pull::Settings { name, dataset, files, offline }, printer)
    }
}

impl PushArgs {
    pub(super) fn run(self, offline: bool, printer: &Printer) -> Result<Outcome> {
        let Self { folder, to, private, message, dry_run } = self;
        push::run(&push::Settings { folder, to, private, message, dry_run, offline }, printer)
    }
}

impl GenerateArgs {
    /// Runs it; `local` finds a base.
    pub(super) fn run(self, local: impl Fn(PathBuf) -> Result<PathBuf>, printer: &Printer) -> Result<Outcome> {
        let Self { model, prompt, samples, batch, sampling } = self;
        let (max_tokens, drawn) = (sampling.max_tokens(), sampling.sampling()?);
        if samples > 1 && drawn.is_none() {
            return Err(needs_temperature("--samples"));
        }
        let (samples, batch) = (samples as usize, batch as usize);
        let (model, prompts) = (model.model(local)?, prompt.source());
        let settings = generate::Settings { model, prompts, max_tokens, sampling: drawn, samples, batch };
        generate::run(&settings, printer)
    }
}

impl ChatArgs {
    /// Runs it; `local` finds a base.
    pub(super) fn run(self, local: impl Fn(PathBuf) -> Result<PathBuf>, printer: &Printer) -> Result<Outcome> {
        let Self { model, system, sampling } = self;
        let (max_tokens, sampling) = (sampling.max_tokens(), sampling.sampling()?);
        chat::run(&chat::Settings { model: model.model(local)?, system, max_tokens, sampling }, printer)
    }
}

impl LogitsArgs {
    /// Runs it; `local` finds a base.
    pub(super) fn run(self, local: impl Fn(PathBuf) -> Result<PathBuf>, printer: &Printer) -> Result<Outcome> {
        let Self { model: ModelArgs { base, adapter }, ids, out, device } = self;
        let device = device.open()?;
        let base = local(base)?;
        logits::run(&logits::Settings { base, adapter, device, ids, out }, printer)
    }
}
