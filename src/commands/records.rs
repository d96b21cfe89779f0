//! `ftk audit --record` and `--dispute`: a step operation by operation, and what a referee needs to judge between two
//! records of it; `ftk referee`, which judges.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use candle_core::Tensor;
use ftk_adapters::{atomic, foreign};
use serde_json::{Value, json};

use super::audit::{Settings, blamed, differs, open};
use super::{Advice, Outcome, tasks};
use crate::cli::printer::Printer;
use crate::train::audit::{self, AuditError, AuditedRun};
use crate::train::referee::{self, Finding, Ruling};

/// Bytes of a record, at most: one of a large step has some tens of megabytes.
const RECORD: u64 = 1 << 30;

/// What is to be made of a step.
pub struct Recording {
    /// The step, from 1.
    pub step: u64,
    /// Where its record is written.
    pub record: Option<PathBuf>,
    /// Another's record of it, and where what a referee needs is written.
    pub dispute: Option<(PathBuf, PathBuf)>,
}

/// Records a step of a run, and compares it with another's record.
///
/// # Errors
/// As `run`; a step whose operations cannot be recorded; files that cannot be read or written.
pub fn record(settings: &Settings, recording: &Recording, printer: &Printer) -> Result<Outcome> {
    let step = recording.step;
    match recorded(settings, recording, printer) {
        Ok(None) => Ok(Outcome::Done),
        Ok(Some((line, what, out))) => {
            printer.line(&format!("part at line {line}: {what}"));
            printer.line(&format!("who is right: ftk referee {}", out.display()));
            printer.object(&json!({
                "run": settings.run, "step": step, "verdict": "differ", "line": line, "what": what, "dispute": out,
            }));
            Ok(Outcome::No)
        }
        Err(error) => match error.downcast::<AuditError>() {
            Ok(AuditError::Refused(refused)) => Ok(differs(&settings.run, &refused, printer)),
            Ok(AuditError::Undecided(error)) => Err(error.into()),
            Err(error) => Err(error),
        },
    }
}

/// Where the records part, what stands there, and the file for a referee.
type Divergence = (usize, String, PathBuf);

fn recorded(settings: &Settings, recording: &Recording, printer: &Printer) -> Result<Option<Divergence>> {
    let Recording { step, record, dispute } = recording;
    let run = open(settings, printer)?;
    let last = run.transcript.steps.len() as u64;
    if *step > last {
        return Err(Advice::new(format!("there is no step {step}"), format!("the run has {last}")).into());
    }
    let identity = &run.opened.inputs().identity;
    let again = |keep| {
        let (session, folder) = (run.opened.session(), settings.run.as_path());
        let subject = AuditedRun { session, optim: &run.recipe.optim, run: &run.recipe.run, identity, folder };
        let recorded = audit::record(subject, &run.transcript, *step, keep);
        recorded.map_err(|error| blamed(error, &*run.opened, run.manifest.as_ref()))
    };
    let own = again(None)?.text;
    let digest = |text: &str| blake3::hash(text.as_bytes()).to_hex().to_string();
    if let Some(path) = record {
        atomic::write(path, own.as_bytes()).with_context(|| format!("cannot write {}", path.display()))?;
        printer.line(&format!("record of step {step}: {}", digest(&own)));
    }
    let Some((theirs, out)) = dispute else {
        printer.object(&json!({ "run": settings.run, "step": step, "record": digest(&own) }));
        return Ok(None);
    };
    let text = foreign::read_text(theirs, RECORD).with_context(|| format!("cannot read {}", theirs.display()))?;
    let Some(at) = referee::parting([&own, &text]) else {
        if own != text {
            let what = "the same operations of another claim: what the transcripts say of rows or figures, or of what was \
                        before the step, differs, and whoever has recipe, rows and base can tell";
            return Err(Advice::new(what, format!("compute it again: ftk audit RUN --step {step}")).into());
        }
        printer.line("the same record: there is no dispute");
        printer.object(&json!({
            "run": settings.run, "step": step, "verdict": "same", "record": digest(&own),
        }));
        return Ok(None);
    };
    let inputs = again(Some(at))?.inputs.unwrap_or_default();
    referee::write(out, [&own, &text], &inputs)?;
    let line = own.lines().nth(at + 1).and_then(|line| serde_json::from_str::<Value>(line).ok());
    let what = line.map_or_else(|| "one goes on where the other has ended".to_owned(), |line| said(&line));
    Ok(Some((at + 2, what, out.clone())))
}

/// What a line of a record is about.
fn said(line: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    if line["operation"].is_object() {
        return text(&line["operation"]["kind"]);
    }
    if line["given"].is_string() {
        format!("given: {}", text(&line["given"]))
    } else {
        format!("state of {}", text(&line["name"]))
    }
}

/// Judges between two records with the losses of all tasks; `inputs` are those of the entry in which they differ first.
pub fn judged(records: &[String; 2], inputs: &[Tensor]) -> Ruling {
    referee::judge(records.each_ref().map(String::as_str), inputs, &tasks::loss)
}

/// Judges between the two records in a file.
///
/// # Errors
/// A file that cannot be read.
pub fn decide(path: &Path, printer: &Printer) -> Result<Outcome> {
    let (records, inputs) = match referee::open(path)? {
        Ok(read) => read,
        Err(reason) => {
            let reason = format!("holds no dispute: {reason}");
            printer.line(&format!("{}: {reason}", path.display()));
            printer.object(&json!({ "file": path, "verdict": "nobody", "reason": reason }));
            return Ok(Outcome::No);
        }
    };
    let verdict = judged(&records, &inputs);
    let Ruling { step, parts, findings, chains, reason } = &verdict;
    if let Some((line, what)) = parts {
        let step = step.ok_or_else(|| anyhow!("records that part are about a step"))?;
        printer.line(&format!("step {step}: part at line {line}: {what}"));
    }
    let mut parties = Vec::new();
    for (at, ((record, finding), chain)) in records.iter().zip(findings).zip(chains).enumerate() {
        let (word, why) = match finding {
            Finding::Right => ("right", None),
            Finding::Wrong => ("wrong", None),
            Finding::Unrefuted => ("not refuted", None),
            Finding::NotShown(why) => ("shows nothing", Some(why)),
        };
        let digest = blake3::hash(record.as_bytes()).to_hex().to_string();
        let said = why.map_or_else(String::new, |why| format!(": {why}"));
        printer.line(&format!("record {} ({digest}): {word}{said}", at + 1));
        let chain = chain.map(|chain| chain.to_hex().to_string());
        parties.push(json!({ "record": digest, "chain": chain, "finding": word, "reason": why }));
    }
    let stands = verdict.stands();
    let (outcome, word) = match stands {
        Some(_) => (Outcome::Done, "decided"),
        None if verdict.falls() => (Outcome::No, "nobody"),
        None => (Outcome::Undecided, "undecided"),
    };
    match (stands, reason) {
        (Some(at), _) => printer.line(&format!("for record {}", at + 1)),
        (None, Some(reason)) => printer.line(&format!("{word}: {reason}")),
        (None, None) => printer.line("for nobody"),
    }
    printer.object(&json!({
        "file": path,
        "verdict": word,
        "right": stands.map(|at| at + 1),
        "step": step,
        "line": parts.as_ref().map(|(line, _)| line),
        "what": parts.as_ref().map(|(_, what)| what),
        "records": parties,
        "reason": reason,
    }));
    Ok(outcome)
}
