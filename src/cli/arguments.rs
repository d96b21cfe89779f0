//! Arguments that several verbs take.

use std::path::PathBuf;

use anyhow::Result;
use candle_core::DType;
use clap::{Args, ValueEnum};
use ftk_text::generate::Sampling;

use crate::commands::generate::{AnsweringModel, PromptSource};
use crate::commands::{Advice, Question};
use crate::device::DeviceName;

/// An option of the verbs that compute in floating point.
#[derive(Args)]
pub(super) struct DeviceArgs {
    /// Where to compute: cpu, cuda, cuda:N or metal
    #[arg(long, value_name = "DEVICE", default_value_t)]
    pub(super) device: DeviceName,
}

#[derive(Args)]
pub(super) struct ModelArgs {
    /// Base model: a Hugging Face folder, a GGUF file, ORG/NAME[@REVISION] on the hub, `village` or `market`
    #[arg(long)]
    pub(super) base: PathBuf,
    /// PEFT adapter folder
    #[arg(long, value_name = "FOLDER")]
    pub(super) adapter: Option<PathBuf>,
}

/// Prompts to answer.
#[derive(Args)]
pub(super) struct PromptArgs {
    /// What to answer: a user's message where the base has a chat template, else plain text to continue
    #[arg(long, value_name = "TEXT", required_unless_present = "rows")]
    prompt: Option<String>,
    /// Take the prompt as plain text even where the base has a chat template
    #[arg(long, requires = "prompt")]
    raw: bool,
    /// Rows instead of a prompt, in the columns that training reads; answers that they have are passed over
    #[arg(long, value_name = "FILE", conflicts_with = "prompt")]
    rows: Option<PathBuf>,
}

/// How a model with an adapter is computed.
#[derive(Args)]
pub(super) struct AnsweringArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// The day that the base's chat template writes where it asks for today's
    #[arg(long, value_name = "YYYY-MM-DD")]
    date: Option<String>,
    /// Number format of products with the base's weights and, on CPUs, in attention, as run.precision is of training
    #[arg(long, default_value = "f32")]
    precision: FormatName,
    #[command(flatten)]
    device: DeviceArgs,
}

/// Number formats of products.
#[derive(Clone, Copy, ValueEnum)]
enum FormatName {
    F32,
    Bf16,
}

/// How long answers are, and how their tokens are chosen.
#[derive(Args)]
#[command(next_help_heading = "Answers")]
pub(super) struct SamplingArgs {
    /// Most tokens of an answer
    #[arg(long, value_name = "COUNT", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    max_tokens: u32,
    /// What logits are divided by before a token is drawn; with 0, each token is the most likely one
    #[arg(long, value_name = "NUMBER", default_value_t = 0.0, allow_negative_numbers = true)]
    temperature: f64,
    /// Draw from so many of the most likely tokens
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    top_k: Option<u32>,
    /// Draw from the fewest of the most likely tokens that have this share of the probability together
    #[arg(long, value_name = "SHARE")]
    top_p: Option<f64>,
    /// Draw from the tokens that have at least this share of the largest probability
    #[arg(long, value_name = "SHARE")]
    min_p: Option<f64>,
    /// What the tokens drawn depend on, with the number of the prompt, of the sample and of the token, and nothing else
    /// [default: 0]
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
}

impl DeviceArgs {
    pub(super) fn open(&self) -> anyhow::Result<candle_core::Device> {
        Ok(self.device.open()?)
    }
}

/// The recipe or plan, typed first or as an option.
pub(super) fn either(first: Option<PathBuf>, option: Option<PathBuf>) -> anyhow::Result<PathBuf> {
    first.or(option).ok_or_else(|| anyhow::anyhow!("name the file"))
}

impl PromptArgs {
    pub(super) fn source(self) -> PromptSource {
        let Self { prompt, raw, rows } = self;
        match rows {
            Some(rows) => PromptSource::Rows(rows),
            // One of the two was typed.
            None => PromptSource::Typed(Question { prompt: prompt.unwrap_or_default(), raw }),
        }
    }
}

impl AnsweringArgs {
    /// What was typed; `local` finds a base.
    pub(super) fn model(self, local: impl Fn(PathBuf) -> Result<PathBuf>) -> Result<AnsweringModel> {
        let Self { model: ModelArgs { base, adapter }, date, precision, device } = self;
        let format = match precision {
            FormatName::F32 => DType::F32,
            FormatName::Bf16 => DType::BF16,
        };
        let device = device.open()?;
        Ok(AnsweringModel { base: local(base)?, adapter, device, format, date })
    }
}

impl SamplingArgs {
    pub(super) fn max_tokens(&self) -> usize {
        self.max_tokens as usize
    }

    /// How tokens are drawn; `None` for the most likely ones.
    pub(super) fn sampling(&self) -> Result<Option<Sampling>> {
        let &Self { temperature, top_k, top_p, min_p, seed, .. } = self;
        if temperature == 0.0 {
            let drawn = [
                ("--top-k", top_k.is_some()),
                ("--top-p", top_p.is_some()),
                ("--min-p", min_p.is_some()),
                ("--seed", seed.is_some()),
            ];
            return match drawn.iter().find(|(_, given)| *given) {
                Some((option, _)) => Err(needs_temperature(option)),
                None => Ok(None),
            };
        }
        let range =
            |error| Advice::new(format!("cannot draw tokens: {error}"), "`ftk generate --help` says what each does");
        let mut sampling = Sampling::new(temperature, seed.unwrap_or(0)).map_err(range)?;
        if let Some(top_k) = top_k {
            sampling = sampling.top_k(top_k as usize);
        }
        if let Some(top_p) = top_p {
            sampling = sampling.top_p(top_p).map_err(range)?;
        }
        Ok(Some(match min_p {
            Some(min_p) => sampling.min_p(min_p).map_err(range)?,
            None => sampling,
        }))
    }
}

/// What makes no difference to the most likely tokens.
pub(super) fn needs_temperature(option: &str) -> anyhow::Error {
    let message = format!("{option} changes nothing where each token is the most likely one");
    Advice::new(message, "give a --temperature above 0 as well, for example 0.8, or leave it out").into()
}
