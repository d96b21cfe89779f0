//! Arguments that several verbs take.

use std::path::PathBuf;

use clap::Args;

use crate::commands::Question;
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

#[derive(Args)]
pub(super) struct PromptArgs {
    /// What to answer: a user's message where the base has a chat template, else plain text to continue
    #[arg(long, value_name = "TEXT")]
    prompt: String,
    /// Take the prompt as plain text even where the base has a chat template
    #[arg(long)]
    raw: bool,
    /// Most tokens to generate
    #[arg(long, value_name = "COUNT", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    max_tokens: u32,
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
    pub(super) fn question(self) -> Question {
        let Self { prompt, raw, max_tokens } = self;
        Question { prompt, raw, max_tokens: max_tokens as usize }
    }
}
