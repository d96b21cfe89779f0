//! `ftk generate`: answers to a prompt or to rows, of the most likely tokens or drawn ones.

use std::path::PathBuf;

use anyhow::Result;
use candle_core::{DType, Device};
use ftk_adapters::train::LoraTensors;
use ftk_adapters::weights::Weights;
use ftk_bases::{BaseModel, Hold, Tokenizer};
use ftk_text::encode::Encoder;
use ftk_text::generate::{Answer, AnswerNews, AnswerOptions, Generator, Sampling};
use ftk_text::rows::{self, Options, PromptRow};
use serde_json::{Value, json};

use super::origin::other_bases;
use super::{Advice, Outcome, Question, adapter_notes, dated, fitting, frozen};
use crate::cli::printer::Printer;

/// What is needed.
pub struct Settings {
    /// The model that answers.
    pub model: AnsweringModel,
    /// What is to be answered.
    pub prompts: PromptSource,
    /// Most tokens of an answer.
    pub max_tokens: usize,
    /// How tokens are drawn; the most likely ones if absent.
    pub sampling: Option<Sampling>,
    /// Answers to each prompt.
    pub samples: usize,
    /// Answers computed at a time.
    pub batch: usize,
}

/// A base and an adapter, and how they are computed.
pub struct AnsweringModel {
    /// Base model.
    pub base: PathBuf,
    /// PEFT adapter folder.
    pub adapter: Option<PathBuf>,
    /// Where it is computed.
    pub device: Device,
    /// Number format of products with the base's weights and in attention.
    pub format: DType,
    /// The day that the chat template writes.
    pub date: Option<String>,
}

/// Where prompts come from.
pub enum PromptSource {
    /// One that was typed.
    Typed(Question),
    /// A file of rows.
    Rows(PathBuf),
}

/// A model that was read.
pub(super) struct ReadModel {
    pub(super) source: BaseModel,
    pub(super) weights: Weights,
    pub(super) adapter: Option<LoraTensors>,
    format: DType,
}

impl AnsweringModel {
    /// Reads it.
    ///
    /// # Errors
    /// A model or adapter that cannot be read, or do not fit each other.
    pub(super) fn read(&self, printer: &Printer) -> Result<ReadModel> {
        let Self { base, adapter: folder, device, format, date } = self;
        let reading = printer.working("reading the base");
        let source = BaseModel::open(base)?;
        let adapter = folder.as_deref().map(|folder| fitting(&source, folder)).transpose()?;
        let hold = if *format == DType::BF16 { Hold::Stored } else { Hold::F32 };
        let mut weights = source.weights_held(device, hold)?;
        let others = other_bases(folder.as_deref(), || Some(source.digest(&weights).ok()?.0));
        if *format == DType::BF16 {
            weights = weights.narrowed()?;
        }
        drop(reading);
        let source = dated(source, date.as_deref(), "--date")?;
        adapter_notes(&source, folder.as_deref()).iter().chain(&others).for_each(|note| printer.note(note));
        let adapter = frozen(adapter.as_ref(), device)?;
        Ok(ReadModel { source, weights, adapter, format: *format })
    }
}

impl ReadModel {
    /// With its adapter, or the base alone.
    pub(super) fn generator(&self, adapted: bool) -> Generator<'_> {
        let adapter = self.adapter.as_ref().filter(|_| adapted);
        Generator { network: self.source.network(), weights: &self.weights, adapter, format: self.format }
    }
}

/// Prints each answer; a single one as it comes.
///
/// # Errors
/// A model or adapter that cannot be read; rows that ask nothing; prompts without tokens, or too long.
pub fn run(settings: &Settings, printer: &Printer) -> Result<Outcome> {
    let model = settings.model.read(printer)?;
    let tokenizer = model.source.tokenizer()?;
    let prompts = settings.prompts.read(&model.source)?;
    let options =
        AnswerOptions { limit: settings.max_tokens, stop: &model.source.special().stop, sampling: settings.sampling };
    let alone = prompts.len() * settings.samples == 1;
    let mut stream = tokenizer.stream();
    let mut failed = None;
    let mut tell = |news: AnswerNews<'_>| {
        let told = match news {
            AnswerNews::Token(token) => {
                if alone && let Ok(Some(text)) = stream.push(token) {
                    printer.part(&text);
                }
                Ok(())
            }
            AnswerNews::Whole(answer) if alone => {
                printer.line("");
                object(tokenizer, answer, &prompts[answer.prompt]).map(|object| printer.object(&object))
            }
            AnswerNews::Whole(answer) => object(tokenizer, answer, &prompts[answer.prompt]).map(|object| {
                printer.line(&format!("prompt {}, sample {}:", answer.prompt + 1, answer.sample + 1));
                printer.text(object["text"].as_str().unwrap_or_default());
                printer.object(&object);
            }),
        };
        failed = told.err();
        // Nobody reads on.
        failed.is_none() && printer.lost().is_none()
    };
    model.generator(true).answers(&prompts, settings.samples, settings.batch, &options, &mut tell)?;
    failed.map_or(Ok(Outcome::Done), Err)
}

/// An answer for a program.
fn object(tokenizer: &Tokenizer, answer: &Answer, prompt: &[u32]) -> Result<Value> {
    let sum: f64 = answer.log_probs.iter().copied().map(f64::from).sum();
    Ok(json!({
        "prompt": answer.prompt + 1,
        "sample": answer.sample + 1,
        "text": tokenizer.decode(&answer.ids, true)?,
        "prompt_ids": prompt,
        "completion_ids": answer.ids,
        "ended": answer.ending.name(),
        "log_prob": sum,
        "log_probs": answer.log_probs,
    }))
}

impl PromptSource {
    /// The token ids of each.
    fn read(&self, source: &BaseModel) -> Result<Vec<Vec<u32>>> {
        let context = source.network().context();
        match self {
            Self::Typed(question) => {
                let ids = question.ids(source)?;
                if ids.len() >= context {
                    let message = format!("the prompt of {} tokens fills the base's {context} positions", ids.len());
                    return Err(Advice::new(message, "give a shorter prompt").into());
                }
                Ok(vec![ids])
            }
            Self::Rows(path) => {
                let options = Options { template: source.chat_template().ok().cloned(), ..Options::default() };
                let encoder = Encoder::new(source, path, ftk_recipes::Scored::default(), usize::MAX);
                let ids = |(place, row)| {
                    let ids = encoder.asked(place, &row)?;
                    if ids.len() >= context {
                        let place = format!("{}:{place}", path.display());
                        let message =
                            format!("{place}: a prompt of {} tokens fills the base's {context} positions", ids.len());
                        return Err(Advice::new(message, "shorten it, or leave the row out").into());
                    }
                    Ok(ids)
                };
                rows::read::<PromptRow>(path, &options)?.rows.into_iter().map(ids).collect()
            }
        }
    }
}
