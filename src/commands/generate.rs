//! `ftk generate`: greedy continuation of a prompt.

use std::path::PathBuf;

use anyhow::Result;
use serde_json::json;

use super::{Outcome, Question, frozen, load};
use crate::cli::printer::Printer;
use crate::text::generate::greedy;

/// What is needed.
pub struct Settings {
    /// Base model.
    pub base: PathBuf,
    /// PEFT adapter folder.
    pub adapter: Option<PathBuf>,
    /// Prompt and length.
    pub question: Question,
}

/// Prints the completion as it comes.
///
/// # Errors
/// A model or adapter that cannot be read, a prompt without tokens.
pub fn run(settings: &Settings, printer: &Printer) -> Result<Outcome> {
    let (model, adapter) = load(&settings.base, settings.adapter.as_deref())?;
    let adapter = frozen(adapter.as_ref())?;
    let (network, tokenizer) = (model.source.network(), model.source.tokenizer()?);
    let prompt = settings.question.ids(&model.source)?;
    let mut stream = tokenizer.stream();
    let show = |token| {
        if let Ok(Some(text)) = stream.push(token) {
            printer.part(&text);
        }
    };
    let limit = settings.question.max_tokens.min(network.context().saturating_sub(prompt.len()));
    let stop = &model.source.special().stop;
    let completion = greedy(network, &model.weights, adapter.as_ref(), &prompt, limit, stop, show)?;
    printer.line("");
    let text = tokenizer.decode(&completion, true)?;
    printer.object(&json!({ "text": text, "prompt_ids": prompt, "completion_ids": completion }));
    Ok(Outcome::Done)
}
