//! `ftk defi audit`: a decision log against its market, and a sample of its decisions, drawn by the log's own digest,
//! proved or verified. What a proof says is written in `circuits/STATEMENT.md`; what the log adds in
//! [`ftk_defi::log`].

use std::path::{Path, PathBuf};

use crate::prove::bundle::{self, BundleError};
use anyhow::{Context, Result};
use ftk_adapters::foreign;
use ftk_adapters::staged::Temporary;
use ftk_defi::DefiError;
use ftk_defi::log::{DecisionLog, LogEntry, check, sample};
use ftk_defi::plan::{MakerSimulation, Plan};
use ftk_defi::simulation::{Passed, Simulation};
use ftk_proofs::archive::ArchiveError;
use ftk_proofs::hex::parse_digest;
use ftk_proofs::limits::Limits;
use ftk_proofs::{Case, Choice, Input, Kind, Output, Statement};
use serde_json::{Map, Value, json};

use super::super::prove;
use super::super::questions::{AskedOutput, InputSource};
use super::super::verify::{self, Expected};
use super::super::{Advice, Outcome};
use crate::cli::printer::Printer;

/// What is needed.
pub struct Settings {
    /// The plan that the log is to follow.
    pub plan: PathBuf,
    /// Settings laid over it, `key=value`.
    pub set: Vec<String>,
    /// The log.
    pub log: PathBuf,
    /// Decisions to prove or to have proved.
    pub sample: usize,
    /// What the auditor adds to the draw.
    pub nonce: String,
    /// The last digest that was announced.
    pub expect_head: Option<String>,
    /// What is to be done with the sample.
    pub part: SampleAction,
}

/// What is to be done with the sample.
pub enum SampleAction {
    /// Nothing: the log alone.
    Follow,
    /// Prove it.
    Prove {
        /// PEFT adapter folder that was committed.
        adapter: PathBuf,
        /// Folder that `ftk commit` wrote.
        commitment: PathBuf,
        /// What may become known.
        mode: prove::Mode,
        /// Folder for the bundle.
        out: PathBuf,
    },
    /// Verify a bundle about it.
    Verify {
        /// The bundle.
        bundle: PathBuf,
        /// Digest of the adapter's commitment.
        expect_adapter: Option<String>,
    },
}

/// The log names another adapter than the verifier expects, or the bundle another than the log.
const ADAPTER: &str = "log adapter";
/// The bundle is about another base than the log names.
const BASE: &str = "log base";
/// What was proved is another action than the log says.
const CHOICE: &str = "log choice";

/// Follows the log, then proves or verifies.
///
/// # Errors
/// What keeps the question from being answered.
pub fn run(settings: &Settings, printer: &Printer) -> Result<Outcome> {
    let plan = Plan::load_with(&settings.plan, &settings.set)?;
    let (opened, market) = plan.open()?;
    let adapter = match &settings.part {
        SampleAction::Verify { expect_adapter, .. } => expect_adapter.as_ref(),
        SampleAction::Follow | SampleAction::Prove { .. } => None,
    };
    // What is mistyped is no reason to refuse a log.
    if let Some(text) = settings.expect_head.iter().chain(adapter).find(|text| parse_digest(text).is_none()) {
        return Err(Advice::new(format!("not a digest: {text}"), "give the 64 digits as they were printed").into());
    }
    let path = settings.log.display();
    let text = foreign::read_text(&settings.log, foreign::DATA).with_context(|| format!("cannot read {path}"))?;
    let followed = DecisionLog::read(&text).and_then(|(log, head)| {
        if let Some(expected) = settings.expect_head.as_ref().filter(|&expected| *expected != head) {
            let message = format!("the last digest is {head}, announced was {expected}");
            return Err(DefiError::Log { check: check::HEAD, message });
        }
        let terms = plan.terms_line();
        let (ids, passed) = match &opened {
            MakerSimulation::Book(simulation) => {
                (simulation.ids(), log.follow(simulation, &market.to_string(), &terms)?)
            }
            MakerSimulation::Liquidity(simulation) => {
                (simulation.ids(), log.follow(simulation, &market.to_string(), &terms)?)
            }
        };
        Ok((log, head, ids, passed))
    });
    let (log, head, (first, count), passed) = match followed {
        Ok(followed) => followed,
        Err(DefiError::Log { check, message }) => return Ok(refused(check, &message, printer)),
        Err(error) => return Err(error.into()),
    };
    let question = Output::from(Choice::among((first..).take(count).collect()));
    let drawn = sample(&head, &settings.nonce, log.entries.len(), settings.sample);
    let entries: Vec<&LogEntry> = drawn.iter().map(|&step| &log.entries[step]).collect();
    // The proof is of this log and of this draw, and of no other.
    let context = format!("ftk decision log {head} {}", settings.nonce);
    let questions = WindowFile::write(&entries)?;
    match &settings.part {
        SampleAction::Follow => {
            told(&log, &head, &passed, &drawn, Map::new(), printer);
            Ok(Outcome::Done)
        }
        SampleAction::Prove { adapter, commitment, mode, out } => {
            let prove = prove::Settings {
                base: plan.base.clone(),
                adapter: adapter.clone(),
                commitment: commitment.clone(),
                claim: AskedOutput::Same(question),
                inputs: InputSource::Rows(questions.path()),
                date: None,
                context,
                mode: *mode,
                out: out.clone(),
                max_memory: None,
            };
            let (proved, proof) = printer.holding(|| prove::run(&prove, printer));
            proved?;
            let bundle = bundle::packed(out, &Limits::default())
                .with_context(|| format!("cannot read {} back", out.display()))?;
            if let Some((check, message)) = other_than_logged(&bundle.statement, &log, &entries, &drawn) {
                return Ok(refused(check, &message, printer));
            }
            told(&log, &head, &passed, &drawn, proof, printer);
            Ok(Outcome::Done)
        }
        SampleAction::Verify { bundle: folder, expect_adapter } => {
            if let Some(expected) = expect_adapter.as_ref().filter(|&expected| *expected != log.header.adapter) {
                let message = format!("the log is of {}, expected was {expected}", log.header.adapter);
                return Ok(refused(ADAPTER, &message, printer));
            }
            match bundle::packed(folder, &Limits::default()) {
                Ok(bundle) => {
                    if let Some((check, message)) = other_than_logged(&bundle.statement, &log, &entries, &drawn) {
                        return Ok(refused(check, &message, printer));
                    }
                }
                // The verdict on what cannot be read is that of `ftk verify`.
                Err(BundleError::Refused(_) | BundleError::Single { error: ArchiveError::Other(_), .. }) => {}
                Err(error) => return Err(error.into()),
            }
            let verify = verify::Settings {
                bundles: vec![folder.clone()],
                limits: Limits::default(),
                base: plan.base.clone(),
                expect_adapter: expect_adapter.clone(),
                expect_transcript: None,
                expect_graph: None,
                expect_input: Expected::Rows { file: questions.path(), question: Some(question) },
                date: None,
                expect_task: Some(Kind::Choice),
                expect_max_tokens: None,
                expect_context: Some(context),
            };
            let (outcome, verdict) = printer.holding(|| verify::run(&verify, printer));
            let outcome = outcome?;
            if outcome == Outcome::Done {
                told(&log, &head, &passed, &drawn, verdict, printer);
            } else {
                printer.object(&Value::Object(verdict));
            }
            Ok(outcome)
        }
    }
}

/// The windows of a sample as rows, in a file that lives as long as this.
struct WindowFile(Temporary);

impl WindowFile {
    fn write(entries: &[&LogEntry]) -> Result<Self> {
        let folder = Temporary::new(&std::env::temp_dir(), "ftk-sample-").context("cannot make a temporary folder")?;
        let lines: String = entries.iter().map(|entry| json!({ "prompt_ids": entry.ids }).to_string() + "\n").collect();
        std::fs::write(folder.path().join("windows.jsonl"), lines).context("cannot write the sample down")?;
        Ok(Self(folder))
    }

    fn path(&self) -> PathBuf {
        Path::new(self.0.path()).join("windows.jsonl")
    }
}

/// Where a bundle says something else than the log; windows and lists are compared by the verdict.
fn other_than_logged(
    statement: &Statement,
    log: &DecisionLog,
    entries: &[&LogEntry],
    drawn: &[usize],
) -> Option<(&'static str, String)> {
    let adapter = statement.adapter.to_string();
    if adapter != log.header.adapter {
        return Some((ADAPTER, format!("the log is of {}, the proof of {adapter}", log.header.adapter)));
    }
    let base = statement.base.to_string();
    if base != log.header.base {
        return Some((BASE, format!("the log is of {}, the proof of {base}", log.header.base)));
    }
    for ((case, entry), step) in statement.cases.iter().zip(entries).zip(drawn) {
        if let Case { input: Input::Tokens(ids), output: Output::Choice(Choice { chosen, .. }) } = case
            && *ids == entry.ids
            && *chosen != entry.action
        {
            let message = format!("decision {step} is {}, proved is {chosen}", entry.action);
            return Some((CHOICE, message));
        }
    }
    None
}

fn refused(check: &'static str, message: &str, printer: &Printer) -> Outcome {
    printer.line(&format!("invalid: {check}: {message}"));
    printer.object(&json!({ "verdict": "invalid", "check": check, "reason": message }));
    Outcome::No
}

/// What a log that follows says, and what it does not; for a program, with what was proved or verified of it.
fn told(
    log: &DecisionLog,
    head: &str,
    passed: &[Passed],
    drawn: &[usize],
    mut object: Map<String, Value>,
    printer: &Printer,
) {
    let count = log.entries.len();
    printer.line(&format!("log {head}: {count} decisions over {} bars, none missing", passed.len()));
    printer.line("  every state, window and order follows from the market, the actions and the controller's limits");
    printer.line(&format!("  sample: {drawn:?}"));
    printer.line("not proved: that the market's data is true, or that any of this will pay");
    for (name, value) in
        [("log", json!(head)), ("decisions", json!(count)), ("bars", json!(passed.len())), ("sample", json!(drawn))]
    {
        object.insert(name.to_owned(), value);
    }
    printer.object(&Value::Object(object));
}
