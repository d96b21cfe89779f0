//! What of a run needs no computing: what its transcript begins with, says of each step and ends with, against recipe,
//! rows and figures.

use std::path::Path;

use blake3::Hash;
use ftk_adapters::foreign;
use ftk_recipes::Run;

use super::check::{AuditError, Refused, TranscriptCheck};
use crate::train::best::BestKept;
use crate::train::error::{RunIdentity, TrainError};
use crate::train::log::METRICS;
use crate::train::stepper::Stepper;
use crate::train::transcript::{self, StepRecord, Transcript};

/// What the transcript begins with, against recipe, rows and base.
pub(super) fn head(
    stepper: &Stepper<'_>,
    run: &Run,
    identity: &RunIdentity,
    transcript: &Transcript,
    rows: &[Hash],
) -> Result<(), Refused> {
    let (said, own) = (&transcript.head, stepper.head(identity, rows));
    let refuse = |check, what: String| Err(Refused::new(check, what));
    if said.identity.arithmetic != own.identity.arithmetic {
        let (said, own) = (&said.identity.arithmetic, &own.identity.arithmetic);
        return refuse(TranscriptCheck::Run, format!("the run was computed in {said}, and this is {own}"));
    }
    if said.seed != run.seed {
        return refuse(TranscriptCheck::Seed, format!("the recipe's is {}, the run's: {}", run.seed, said.seed));
    }
    if said.steps != own.steps {
        return refuse(TranscriptCheck::Length, format!("the recipe has {} steps, the run: {}", own.steps, said.steps));
    }
    if said.data != own.data {
        return refuse(TranscriptCheck::Data, "the run had other rows than these".to_owned());
    }
    if said.values != own.values {
        return Err(Refused::new(TranscriptCheck::Start, "the run began with other values than recipe and seed give")
            .computed());
    }
    if said.identity != own.identity {
        return refuse(
            TranscriptCheck::Run,
            "the run is one of another recipe, other files of rows or another base".to_owned(),
        );
    }
    Ok(())
}

/// The lines of the metrics file, each with its line feed: as many as steps.
pub(super) fn lines(folder: &Path, transcript: &Transcript) -> Result<Vec<String>, AuditError> {
    let path = folder.join(METRICS);
    let text = foreign::read_text(&path, foreign::DATA).map_err(|error| TrainError::Io { path, error })?;
    let lines: Vec<String> = text.split_inclusive('\n').map(str::to_owned).collect();
    let steps = transcript.steps.len();
    if lines.len() != steps {
        let what = format!("{METRICS} has {} lines, and there are {steps} steps", lines.len());
        return Err(Refused::at(TranscriptCheck::Figures, lines.len().min(steps) as u64 + 1, what).into());
    }
    Ok(lines)
}

/// What of a step needs no computing.
pub(super) fn without_computing(
    stepper: &Stepper<'_>,
    record: &StepRecord,
    line: &str,
    rows: &[Hash],
) -> Result<(), Refused> {
    let StepRecord { step, rate, .. } = *record;
    let at = step as usize - 1;
    if record.rows != transcript::rows(&stepper.order.batches(at), rows) {
        return Err(Refused::at(TranscriptCheck::Rows, step, "it learnt from other rows, or in another order"));
    }
    let own = stepper.rate(at);
    if rate != own.to_bits() {
        let what = format!("the recipe's learning rate is {own:e}, the step's: {:e}", f64::from_bits(rate));
        return Err(Refused::at(TranscriptCheck::Rate, step, what));
    }
    if record.figures != transcript::figures(line) {
        return Err(Refused::at(TranscriptCheck::Figures, step, format!("its line of {METRICS} is another")));
    }
    Ok(())
}

/// Whether the run ended where, and with the result which, its figures say.
pub(super) fn ends(
    stepper: &Stepper<'_>,
    run: &Run,
    metrics: &[String],
    (ended, result): (u64, u64),
) -> Result<(), AuditError> {
    let steps = stepper.order.steps();
    let (mut best, mut last) = (None, steps);
    for (at, line) in metrics.iter().enumerate() {
        let done = at + 1;
        if stepper.evaluates_after(done) {
            let figures = run.best.iter().filter_map(|best| Some((best.name(), figure(line, best.name())?))).collect();
            BestKept::update(&mut best, run, done, &figures, Vec::new)?;
        }
        if BestKept::exhausted(best.as_ref(), run) {
            last = done;
            break;
        }
    }
    if ended != last as u64 {
        let what = format!("by its figures the run ends after step {last}, by the transcript after step {ended}");
        return Err(Refused::at(TranscriptCheck::End, ended.min(last as u64), what).into());
    }
    let own = best.map_or(last, |best| best.step) as u64;
    if result != own {
        let what = format!("by the figures the result is the state after step {own}, by the transcript: {result}");
        return Err(Refused::at(TranscriptCheck::End, result, what).into());
    }
    Ok(())
}

/// A number in a line of the metrics file, to its last bit, which not every reader of JSON gives.
fn figure(line: &str, name: &str) -> Option<f64> {
    let (_, rest) = line.split_once(&format!("\"{name}\":"))?;
    rest.split([',', '}']).next()?.trim().parse().ok()
}
