//! Making the stages of a run, each by a command in a process of its own.

use std::path::Path;

use anyhow::{Context, Result};
use ftk_adapters::{atomic, foreign};
use ftk_circuits::AdapterCommitment;
use ftk_proofs::bundle;
use serde_json::{Map, Value, json};

use super::super::run::MANIFEST;
use super::super::{Advice, card};
use super::member::BatchRun;
use super::process::{BEAT, CommandEnd, LOG, Processes};
use super::stage::{ASKED, COMMITMENT, RunStage};
use crate::cli::printer::Printer;
use crate::train::{Lock, TrainError};

/// What becomes of a run that another batch is at.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Others {
    /// It is passed over.
    Passed,
    /// It is waited for.
    Awaited,
}

/// First what nobody else is at.
pub(super) const ROUNDS: [Others; 2] = [Others::Passed, Others::Awaited];

/// Makes a run's stages, as far as they are not done; the first that fails is the last. A run that another batch is at is
/// waited for, or left as it is.
pub(super) fn follow<'a>(
    run: &BatchRun,
    stages: impl Iterator<Item = &'a RunStage>,
    others: Others,
    processes: &Processes,
    printer: &Printer,
) {
    let mut left = stages.filter(|stage| !run.folder.has(stage)).peekable();
    if left.peek().is_none() {
        return;
    }
    let own = match own(run, others, processes, printer) {
        Ok(Some(lock)) => lock,
        Ok(None) => return,
        Err(error) => {
            printer.note(&format!("{}: {error:#}", run.name));
            return run.fail(format!("{error:#}"));
        }
    };
    for stage in left {
        if processes.stopped() || run.failed().is_some() {
            return;
        }
        if run.folder.has(stage) {
            continue;
        }
        match make(stage, run, &own, processes, printer) {
            Ok(Some(result)) => {
                printer.note(&format!("{}: {}", run.name, stage.said(&result)));
                printer.object(&json!({ "run": run.name, "stage": stage.name, "result": result }));
            }
            // It was stopped.
            Ok(None) => return,
            Err(error) => {
                printer.note(&format!("{}: {} failed: {error:#}", run.name, stage.name));
                printer.object(&json!({ "run": run.name, "stage": stage.name, "error": format!("{error:#}") }));
                run.fail(format!("{}: {error:#}", stage.name));
            }
        }
    }
}

/// The right to make a run's stages; none where another batch has it and is not waited for, or the batch is stopped.
fn own(run: &BatchRun, others: Others, processes: &Processes, printer: &Printer) -> Result<Option<Lock>> {
    let mut told = false;
    while !processes.stopped() {
        if let Some(lock) = run.folder.own()? {
            return Ok(Some(lock));
        }
        if others == Others::Passed {
            break;
        }
        if !std::mem::replace(&mut told, true) {
            printer.note(&format!("{}: another batch is at it, and is waited for", run.name));
        }
        std::thread::sleep(BEAT);
    }
    Ok(None)
}

/// Makes a stage, and writes down that it is done; nothing where it was stopped.
///
/// # Errors
/// What the command says; the file system's.
fn make(
    stage: &RunStage,
    run: &BatchRun,
    own: &Lock,
    processes: &Processes,
    printer: &Printer,
) -> Result<Option<Value>> {
    let folder = run.folder.path();
    if stage.name == "train" {
        ask(run)?;
        if !alone(run, processes, printer)? {
            return Ok(None);
        }
    }
    // A batch that was killed may have made it and not come to writing so.
    if let Some(result) = found(stage, folder)? {
        run.folder.record(stage, &result)?;
        return Ok(Some(result));
    }
    let mut arguments = stage.arguments.clone();
    if stage.trains() {
        arguments.extend(processes.device.clone());
    }
    if stage.name == "verify" {
        let commitment = run.stages.iter().find(|stage| stage.name == "commit").and_then(|it| run.folder.result(it));
        let digest = commitment.and_then(|commitment| commitment["adapter"].as_str().map(str::to_owned));
        arguments.extend(["--expect-adapter".to_owned(), digest.context("there is no commitment")?]);
    }
    if !printer.json() {
        printer.note(&format!("{}: {} ...", run.name, stage.name));
    }
    let CommandEnd { code, said } = processes.run(folder, own, stage.trains(), &arguments)?;
    let answered = code == Some(0) || (stage.name == "verify" && code == Some(1));
    if !answered {
        if processes.stopped() {
            return Ok(None);
        }
        let message = said.get("error").and_then(Value::as_str).map_or_else(
            || code.map_or_else(|| "a signal ended it".to_owned(), |code| format!("ended with code {code}")),
            str::to_owned,
        );
        let hint = said.get("hint").and_then(Value::as_str).map_or_else(String::new, |hint| format!("{hint}; "));
        let log = folder.join(LOG);
        return Err(Advice::new(message, format!("{hint}what it said is in {}", log.display())).into());
    }
    let result = kept(stage, folder, &said)?;
    run.folder.record(stage, &result)?;
    Ok(Some(result))
}

/// Writes the recipe for the run's commands.
fn ask(run: &BatchRun) -> Result<()> {
    let folder = run.folder.path();
    let cannot = || format!("cannot write to {}", folder.display());
    std::fs::create_dir_all(folder).with_context(cannot)?;
    let mut recipe = run.variant.recipe.absolute().context("there is no current folder")?;
    recipe.run.out = std::path::absolute(folder).with_context(cannot)?;
    let text = toml::to_string(&recipe.resolved()).context("cannot write the recipe down")?;
    atomic::write(&folder.join(ASKED), text.as_bytes()).with_context(cannot)
}

/// Waits while a process of no batch trains in the run's folder; `false` if the batch is stopped meanwhile.
fn alone(run: &BatchRun, processes: &Processes, printer: &Printer) -> Result<bool> {
    let mut told = false;
    loop {
        match Lock::take(run.folder.path()) {
            Ok(_) => return Ok(true),
            Err(TrainError::Locked(_)) if processes.stopped() => return Ok(false),
            Err(TrainError::Locked(_)) => {
                if !std::mem::replace(&mut told, true) {
                    printer.note(&format!("{}: another process trains there, and is waited for", run.name));
                }
                std::thread::sleep(BEAT);
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// What came of a stage that is whole in the folder already.
fn found(stage: &RunStage, folder: &Path) -> Result<Option<Value>> {
    if !stage.makes.iter().all(|file| folder.join(file).exists()) {
        return Ok(None);
    }
    match stage.name {
        "train" => trained(folder),
        "commit" => {
            let path = folder.join(COMMITMENT).join(bundle::COMMITMENT);
            let bytes = foreign::read(&path, foreign::DOCUMENT);
            let bytes = bytes.with_context(|| format!("cannot read {}", path.display()))?;
            let commitment =
                AdapterCommitment::decode(&bytes).with_context(|| format!("cannot read {}", path.display()))?;
            Ok(Some(json!({ "adapter": commitment.digest().to_string() })))
        }
        _ => Ok(None),
    }
}

/// What came of a run that has come to its end.
fn trained(folder: &Path) -> Result<Option<Value>> {
    let path = folder.join(MANIFEST);
    let text =
        foreign::read_text(&path, foreign::DOCUMENT).with_context(|| format!("cannot read {}", path.display()))?;
    let manifest: Value = serde_json::from_str(&text).with_context(|| format!("cannot read {}", path.display()))?;
    let ended = &manifest["ended"];
    let step = ended["best"]["step"].as_u64().or_else(|| ended["step"].as_u64());
    let Some(step) = step else { return Ok(None) };
    let figures = card::figures(folder, step as usize)?.into_iter();
    let figures = figures.filter_map(|(name, figure)| Some((name, json!(figure.parse::<f64>().ok()?))));
    Ok(Some(json!({ "step": step, "figures": Value::Object(figures.collect()), "test": ended.get("test") })))
}

/// What is kept of what a command said.
fn kept(stage: &RunStage, folder: &Path, said: &Map<String, Value>) -> Result<Value> {
    let pick = |names: &[&str]| {
        let picked = names.iter().filter_map(|name| Some(((*name).to_owned(), said.get(*name)?.clone())));
        Value::Object(picked.collect())
    };
    Ok(match stage.name {
        "train" => trained(folder)?.context("the run's manifest says that it has not come to its end")?,
        "eval" => pick(&["figures"]),
        "before" | "after" => pick(&["text"]),
        "commit" => pick(&["adapter"]),
        "prove" => pick(&["adapter", "cases"]),
        _ => pick(&["verdict", "undecided", "not_expected", "check", "reason"]),
    })
}
