//! `ftk generate`: greedy continuation of a prompt.

use std::path::PathBuf;

use anyhow::Result;
use candle_core::Device;
use ftk_text::generate::greedy;
use serde_json::json;

use super::{Advice, Outcome, Question, adapter_notes, dated, frozen, load};
use crate::cli::printer::Printer;

/// What is needed.
pub struct Settings {
    /// Base model.
    pub base: PathBuf,
    /// PEFT adapter folder.
    pub adapter: Option<PathBuf>,
    /// Where it is computed.
    pub device: Device,
    /// Prompt and length.
    pub question: Question,
    /// The day that the chat template writes.
    pub date: Option<String>,
}

/// Prints the completion as it comes.
///
/// # Errors
/// A model or adapter that cannot be read, a prompt without tokens.
pub fn run(settings: &Settings, printer: &Printer) -> Result<Outcome> {
    let reading = printer.working("reading the base");
    let (mut model, adapter) = load(&settings.base, settings.adapter.as_deref(), &settings.device)?;
    drop(reading);
    model.source = dated(model.source, settings.date.as_deref(), "--date")?;
    adapter_notes(&model.source, settings.adapter.as_deref()).iter().for_each(|note| printer.note(note));
    let adapter = frozen(adapter.as_ref(), &settings.device)?;
    let (network, tokenizer) = (model.source.network(), model.source.tokenizer()?);
    let prompt = settings.question.ids(&model.source)?;
    let mut stream = tokenizer.stream();
    let show = |token| {
        if let Ok(Some(text)) = stream.push(token) {
            printer.part(&text);
        }
        // Nobody reads on.
        printer.lost().is_none()
    };
    if prompt.len() >= network.context() {
        let message = format!("the prompt of {} tokens fills the base's {} positions", prompt.len(), network.context());
        return Err(Advice::new(message, "give a shorter prompt").into());
    }
    let limit = settings.question.max_tokens.min(network.context().saturating_sub(prompt.len()));
    let stop = &model.source.special().stop;
    let completion = greedy(network, &model.weights, adapter.as_ref(), &prompt, limit, stop, show)?;
    printer.line("");
    let text = tokenizer.decode(&completion, true)?;
    printer.object(&json!({ "text": text, "prompt_ids": prompt, "completion_ids": completion }));
    Ok(Outcome::Done)
}
