//! `ftk verify`: a bundle, a base and expectations in, a verdict out.

use std::path::PathBuf;

use anyhow::Result;
use candle_core::Device;
use ftk_circuits::{Output, Statement};
use serde_json::json;

use super::prove::DISCLOSURE;
use super::questions::{self, Asked, Task};
use super::stated::{Shown, summary, summary_json};
use super::{Advice, Outcome, Question};
use crate::cli::printer::Printer;
use crate::models::Source;
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
    /// What is known of the inputs.
    pub expect_input: Expected,
    /// The context.
    pub expect_context: Option<String>,
}

/// What the verifier knows of the inputs, in their own words.
#[derive(Clone, Debug)]
pub enum Expected {
    /// Nothing.
    Unknown,
    /// Any will do.
    Any,
    /// This prompt.
    Prompt {
        /// The prompt.
        prompt: String,
        /// It is plain text.
        raw: bool,
    },
    /// The rows of this file.
    Rows {
        /// The file.
        file: PathBuf,
        /// Ids that a choice is among.
        among: Vec<u32>,
    },
}

/// What no proof here says.
const NOT_PROVED: &str = "not proved: how the adapter was trained, on what, or that it is any good";

/// Judges the bundle.
///
/// # Errors
/// What keeps the question from being answered: no base, no bundle, an expectation that cannot be read.
pub fn run(settings: &Settings, printer: &Printer) -> Result<Outcome> {
    let source = Source::open(&settings.base)?;
    let bundle = match Bundle::read(&settings.bundle) {
        Ok(bundle) => bundle,
        Err(ReadError::Refused(Refusal::Protocol(version))) => {
            let message = format!("{}: unknown protocol version: {version}", settings.bundle.display());
            return Err(Advice::new(message, "verify it with the release of ftk that made it").into());
        }
        Err(ReadError::Refused(refusal)) => return Ok(refused(&refusal, printer)),
        Err(error @ ReadError::Io { .. }) => return Err(error.into()),
    };
    let expectations = expectations(settings, &bundle.statement, &source)?;
    let weights = source.weights(&Device::Cpu)?;
    let model = FixedModel::new(&source, &weights)?;
    drop(weights);
    match judge(&model, &source.special().stop, &bundle, &expectations, commitment_key) {
        Err(refusal) => Ok(refused(&refusal, printer)),
        Ok(verdict) => Ok(accepted(&verdict, &bundle.statement, &Shown(source.tokenizer().ok()), printer)),
    }
}

fn expectations(settings: &Settings, statement: &Statement, source: &Source) -> Result<Expectations> {
    let adapter = settings.expect_adapter.as_deref().map(|text| {
        let advice = || Advice::new(format!("not a digest: {text}"), "give the 64 digits that `ftk commit` printed");
        parse_digest(text).ok_or_else(advice)
    });
    let input = match &settings.expect_input {
        Expected::Unknown => ExpectedInput::Unknown,
        Expected::Any => ExpectedInput::Any,
        Expected::Prompt { prompt, raw } => {
            let question = Question { prompt: prompt.clone(), raw: *raw, max_tokens: 1 };
            ExpectedInput::Inputs(vec![ftk_circuits::Input::Tokens(question.ids(source)?)])
        }
        Expected::Rows { file, among } => {
            let asked = Asked::Rows(file.clone());
            let task = match statement.cases.first().map(|case| &case.output) {
                Some(Output::LogProb { .. }) => Task::LogProb,
                Some(Output::Preference { .. }) => Task::Preference,
                Some(Output::Logits(_)) => Task::Logits,
                Some(Output::Choice { .. }) => Task::Choice { among: among.clone() },
                Some(Output::Completion { .. }) | None => Task::Completion { max_tokens: 1 },
            };
            ExpectedInput::Questions(questions::cases(&task, &asked, source)?)
        }
    };
    let context = settings.expect_context.as_ref().map(|context| context.clone().into_bytes());
    Ok(Expectations { adapter: adapter.transpose()?, input, context })
}

fn refused(refusal: &Refusal, printer: &Printer) -> Outcome {
    printer.line(&format!("invalid: {refusal}"));
    printer.object(&json!({ "verdict": "invalid", "check": refusal.check(), "reason": refusal.to_string() }));
    Outcome::No
}

/// What may be otherwise than the verifier thinks.
fn doubt(missing: Missing) -> &'static str {
    match missing {
        Missing::Adapter => "without --expect-adapter the adapter may have been made for this input",
        Missing::Input => "without --expect-input, --expect-rows or --any-input the inputs may be others than yours",
        Missing::Question => {
            "without --expect-rows or --any-input what is stated of the input may not be what you asked"
        }
        Missing::Registration => "without a registration the committed entries may be no 16-bit integers",
        Missing::Context => "without --expect-context the proof may have been made for somebody else",
    }
}

fn accepted(verdict: &Verdict, statement: &Statement, shown: &Shown, printer: &Printer) -> Outcome {
    let (word, outcome) = match verdict.is_valid() {
        true => ("valid", Outcome::Done),
        false => ("consistent", Outcome::Undecided),
    };
    printer.line(word);
    printer.line(&format!("proved: whoever made this knows adapter {}", statement.adapter));
    printer.line(&format!("  which, applied to base {},", statement.base));
    for case in &statement.cases {
        printer.line(&format!("  {}", shown.claim(case)));
    }
    if let Some(summary) = summary(statement) {
        printer.line(&format!("  over all pairs: {summary}"));
    }
    if !statement.context.is_empty() {
        printer.line(&format!("  for context {:?}", String::from_utf8_lossy(&statement.context)));
    }
    printer.line(NOT_PROVED);
    printer.line(&format!("disclosed: {DISCLOSURE}"));
    let of = |decides: bool| -> Vec<&str> {
        verdict.missing.iter().filter(|missing| missing.decides() == decides).map(|missing| doubt(*missing)).collect()
    };
    let (undecided, unexpected) = (of(true), of(false));
    undecided.iter().for_each(|why| printer.line(&format!("undecided: {why}")));
    unexpected.iter().for_each(|why| printer.line(&format!("not expected: {why}")));
    printer.object(&json!({
        "verdict": word,
        "undecided": undecided,
        "not_expected": unexpected,
        "adapter": statement.adapter.to_string(),
        "base": statement.base.to_string(),
        "context": String::from_utf8_lossy(&statement.context),
        "cases": statement.cases.iter().map(|case| shown.json(case)).collect::<Vec<_>>(),
        "preferences": summary_json(statement),
        "not_proved": NOT_PROVED,
        "disclosed": DISCLOSURE,
    }));
    outcome
}
