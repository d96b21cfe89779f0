//! `ftk verify`: a bundle, a base and expectations in, a verdict out.

use std::path::PathBuf;

use anyhow::Result;
use ftk_circuits::{Output, Statement};
use serde_json::json;

use super::prove::DISCLOSURE;
use super::{Advice, Outcome, Question};
use crate::cli::printer::Printer;
use crate::models::{Source, Tokenizer};
use crate::prove::FixedModel;
use crate::prove::bundle::{Bundle, ReadError, parse_digest};
use crate::prove::keys::commitment_key;
use crate::prove::verdict::{Expectations, ExpectedInput, Missing, Refusal, Verdict, judge};

/// What is needed.
pub struct Settings {
    /// Bundle folder.
    pub bundle: PathBuf,
    /// Base model.
    pub base: PathBuf,
    /// Digest of the adapter's commitment.
    pub expect_adapter: Option<String>,
    /// The prompt.
    pub expect_input: Option<String>,
    /// The prompt is plain text.
    pub raw: bool,
    /// Any prompt will do.
    pub any_input: bool,
    /// The context.
    pub expect_context: Option<String>,
}

/// What no proof here says.
const NOT_PROVED: &str = "not proved: how the adapter was trained, on what, or that it is any good";

/// Judges the bundle.
///
/// # Errors
/// What keeps the question from being answered: no base, no bundle, an expectation that cannot be read.
pub fn run(settings: &Settings, printer: &Printer) -> Result<Outcome> {
    let source = Source::open(&settings.base)?;
    let expectations = expectations(settings, &source)?;
    let bundle = match Bundle::read(&settings.bundle) {
        Ok(bundle) => bundle,
        Err(ReadError::Refused(Refusal::Protocol(version))) => {
            let message = format!("{}: unknown protocol version: {version}", settings.bundle.display());
            return Err(Advice::new(message, "verify it with the release of ftk that made it").into());
        }
        Err(ReadError::Refused(refusal)) => return Ok(refused(&refusal, printer)),
        Err(error @ ReadError::Io { .. }) => return Err(error.into()),
    };
    let model = FixedModel::read(&source)?;
    match judge(&model, &source.special().stop, &bundle, &expectations, commitment_key) {
        Err(refusal) => Ok(refused(&refusal, printer)),
        Ok(verdict) => Ok(accepted(verdict, &bundle.statement, source.tokenizer().ok(), printer)),
    }
}

fn expectations(settings: &Settings, source: &Source) -> Result<Expectations> {
    let adapter = settings.expect_adapter.as_deref().map(|text| {
        let advice = || Advice::new(format!("not a digest: {text}"), "give the 64 digits that `ftk commit` printed");
        parse_digest(text).ok_or_else(advice)
    });
    let input = match &settings.expect_input {
        Some(prompt) => {
            let question = Question { prompt: prompt.clone(), raw: settings.raw, max_tokens: 1 };
            ExpectedInput::Ids(question.ids(source)?)
        }
        None if settings.any_input => ExpectedInput::Any,
        None => ExpectedInput::Unknown,
    };
    let context = settings.expect_context.as_ref().map(|context| context.clone().into_bytes());
    Ok(Expectations { adapter: adapter.transpose()?, input, context })
}

fn refused(refusal: &Refusal, printer: &Printer) -> Outcome {
    printer.line(&format!("invalid: {refusal}"));
    printer.object(&json!({ "verdict": "invalid", "check": refusal.check(), "reason": refusal.to_string() }));
    Outcome::No
}

fn accepted(verdict: Verdict, statement: &Statement, tokenizer: Option<&Tokenizer>, printer: &Printer) -> Outcome {
    let Output::Completion { ids, max_tokens, .. } = &statement.output;
    // Text stands for ids only where it gives them back.
    let text = |ids: &[u32]| {
        let text = tokenizer?.decode(ids, false).ok()?;
        (tokenizer?.encode(&text, false).ok()? == ids).then_some(text)
    };
    let shown = |ids: &[u32]| text(ids).map_or_else(|| format!("{ids:?}"), |text| format!("{text:?}"));
    let (word, why) = match verdict {
        Verdict::Valid => ("valid", None),
        Verdict::Consistent(Missing::Adapter) => {
            ("consistent", Some("without --expect-adapter the adapter may have been made for this input"))
        }
        Verdict::Consistent(Missing::Input) => {
            ("consistent", Some("without --expect-input or --any-input the prompt may be another than yours"))
        }
        Verdict::Consistent(Missing::Registration) => {
            ("consistent", Some("without a registration the committed entries may be no 16-bit integers"))
        }
    };
    printer.line(word);
    printer.line(&format!("proved: whoever made this knows adapter {}", statement.adapter));
    printer.line(&format!("  which, applied to base {},", statement.base));
    printer.line(&format!("  continues {}", shown(&statement.input)));
    printer.line(&format!("  greedily with {} (at most {max_tokens} tokens)", shown(ids)));
    if !statement.context.is_empty() {
        printer.line(&format!("  for context {:?}", String::from_utf8_lossy(&statement.context)));
    }
    printer.line(NOT_PROVED);
    printer.line(&format!("disclosed: {DISCLOSURE}"));
    if let Some(why) = why {
        printer.line(&format!("undecided: {why}"));
    }
    printer.object(&json!({
        "verdict": word,
        "undecided": why,
        "adapter": statement.adapter.to_string(),
        "base": statement.base.to_string(),
        "context": String::from_utf8_lossy(&statement.context),
        "input_ids": statement.input,
        "input_text": text(&statement.input),
        "completion_ids": ids,
        "completion_text": text(ids),
        "max_tokens": max_tokens,
        "not_proved": NOT_PROVED,
        "disclosed": DISCLOSURE,
    }));
    match verdict {
        Verdict::Valid => Outcome::Done,
        Verdict::Consistent(_) => Outcome::Undecided,
    }
}
