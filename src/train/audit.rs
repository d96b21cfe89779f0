//! Checks a run against its transcript: what the transcript says of itself, what follows from recipe and rows without
//! computing, and steps computed again. `TRANSCRIPT.md` beside this file has the checks by name. Where recipe, rows and
//! base come from, and what an adapter's file is, others know.

mod again;
mod check;
mod parting;
mod said;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use blake3::{Hash, Hasher};
use ftk_adapters::foreign;
use ftk_recipes::{Optim, Run, Session};

use self::again::Audit;
pub use self::check::{AuditError, Refused, TranscriptCheck};
pub use self::parting::{Parting, bisect};
use self::said::{ends, head, lines, without_computing};
use super::error::{RunIdentity, TrainError};
use super::record::{self, Recorded};
use super::stepper::Stepper;
use super::transcript::{self, Malformed, TRANSCRIPT, Transcript};

/// Steps that are to be computed again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// All.
    All,
    /// These, counted from 1; none, where only what needs no computing is to be checked.
    Steps(BTreeSet<u64>),
}

/// What was found to hold.
#[derive(Clone, Debug, PartialEq)]
pub struct Audited {
    /// The transcript's root.
    pub root: Hash,
    /// Steps of the run.
    pub steps: u64,
    /// Steps that were computed again.
    pub computed: BTreeSet<u64>,
    /// Steps whose state was kept.
    pub kept: Vec<u64>,
    /// The largest share of the bound by which an entry has moved between two kept states; `None` without such states.
    pub moved: Option<f64>,
    /// The step whose state is the result.
    pub result: u64,
    /// Whether the session's parameters are now those of the result.
    pub shown: bool,
}

/// Opens the transcript of a run folder.
///
/// # Errors
/// A file that cannot be read; [`TranscriptCheck::Form`], [`TranscriptCheck::Chain`], [`TranscriptCheck::Steps`].
pub fn open(path: &Path) -> Result<Transcript, AuditError> {
    let io = |error| TrainError::Io { path: path.to_owned(), error };
    let file = foreign::open(path).map_err(io)?;
    transcript::read(file).map_err(|error| match error {
        Malformed::Io(error) => io(error).into(),
        Malformed::Form { .. } => Refused::new(TranscriptCheck::Form, error.to_string()).into(),
        Malformed::Chain { line } if line > 1 => {
            Refused::at(TranscriptCheck::Chain, line as u64 - 1, error.to_string()).into()
        }
        Malformed::Chain { .. } => Refused::new(TranscriptCheck::Chain, error.to_string()).into(),
        Malformed::Steps { due: step, .. }
        | Malformed::End { steps: step, .. }
        | Malformed::Beyond { steps: step, .. } => Refused::at(TranscriptCheck::Steps, step, error.to_string()).into(),
        Malformed::Result { result, .. } => Refused::at(TranscriptCheck::Steps, result, error.to_string()).into(),
    })
}

/// Whether a transcript has the root that is expected, if one is.
///
/// # Errors
/// [`TranscriptCheck::Root`], also of a transcript without an end.
pub fn expected(transcript: &Transcript, root: Option<Hash>) -> Result<(), Refused> {
    let own = transcript.root();
    if root.is_none_or(|root| own == Some(root)) {
        return Ok(());
    }
    let own = own.map_or_else(|| "none".to_owned(), |own| own.to_hex().to_string());
    let root = root.map_or_else(String::new, |root| root.to_hex().to_string());
    Err(Refused::new(TranscriptCheck::Root, format!("the transcript's is {own}, the expected one: {root}")))
}

/// Steps drawn by a root and a text that whoever made the transcript did not know: so many different ones, or all if
/// there are fewer.
pub fn draw(root: &Hash, nonce: &str, count: u64, steps: u64) -> BTreeSet<u64> {
    let mut drawn = BTreeSet::new();
    for turn in 0u64.. {
        if drawn.len() as u64 >= count.min(steps) {
            break;
        }
        let mut hash = Hasher::new_derive_key("ftk audit 1 draw");
        hash.update(root.as_bytes()).update(nonce.as_bytes()).update(&turn.to_le_bytes());
        let number = *hash.finalize().as_bytes().first_chunk().expect("a digest has 32 bytes");
        // 64 bits make the bias of the remainder negligible.
        drawn.insert(u64::from_le_bytes(number) % steps + 1);
    }
    drawn
}

/// A run folder and what it is said to be a run of.
#[derive(Clone, Copy)]
pub struct AuditedRun<'a> {
    /// The task on its rows and model, as a run begins with it.
    pub session: &'a dyn Session,
    /// The recipe's.
    pub optim: &'a Optim,
    /// The recipe's, but for the folder.
    pub run: &'a Run,
    /// Of recipe, rows, base and arithmetic.
    pub identity: &'a RunIdentity,
    /// The run folder.
    pub folder: &'a Path,
}

/// Checks a run. `see` is told of every step that was computed again, and how many are to be.
///
/// # Errors
/// The first check that fails, in the order of `TRANSCRIPT.md`; [`AuditError::Undecided`] where one cannot be made.
pub fn audit(
    subject: AuditedRun<'_>,
    transcript: &Transcript,
    which: &Which,
    see: &mut dyn FnMut(u64, u64),
) -> Result<Audited, AuditError> {
    let (mut audit, Begun { root, kept, moved, steps }) = begin(subject, transcript)?;
    let computed = match which {
        Which::All => (1..=steps).collect(),
        Which::Steps(steps) => steps.clone(),
    };
    let computed = audit.compute(&computed, &kept, see)?;
    let shown = match audit.found.take() {
        Some(values) => audit.stepper.optimiser.show(&values).map(|()| true)?,
        None => false,
    };
    Ok(Audited { root, steps, computed, kept, moved, result: audit.result, shown })
}

/// Checks what needs no computing, computes a run up to a step, and records that; `keep` is the entry of the record,
/// counted from 0, whose inputs are wanted. The session's parameters are afterwards what they were.
///
/// # Errors
/// As [`audit`]; a step whose operations cannot be recorded.
pub fn record(
    subject: AuditedRun<'_>,
    transcript: &Transcript,
    step: u64,
    keep: Option<usize>,
) -> Result<Recorded, AuditError> {
    let (mut audit, Begun { kept, .. }) = begin(subject, transcript)?;
    let start = audit.stepper.optimiser.values();
    match step - 1 {
        0 => {}
        before if kept.contains(&before) => audit.restore(before)?,
        before => drop(audit.compute(&[before].into(), &kept, &mut |_, _| {})?),
    }
    let recorded = record::record(&mut audit.stepper, transcript, step, keep, |_| {})?;
    // The session is again as a run begins with it.
    audit.stepper.optimiser.show(&start)?;
    Ok(recorded)
}

/// What is known of a run before a step of it is computed again.
struct Begun {
    root: Hash,
    kept: Vec<u64>,
    moved: Option<f64>,
    steps: u64,
}

/// Checks all that needs no computing.
fn begin<'a>(subject: AuditedRun<'a>, transcript: &'a Transcript) -> Result<(Audit<'a>, Begun), AuditError> {
    let AuditedRun { session, optim, run, identity, folder } = subject;
    let stepper = Stepper::new(session, optim, run)?;
    let rows = transcript::row_digests(session, run);
    head(&stepper, run, identity, transcript, &rows)?;
    let Some((end, root)) = transcript.end.zip(transcript.root()) else {
        let what = "the transcript has no end: the run was stopped, or lines are missing";
        return Err(Refused::new(TranscriptCheck::End, what).into());
    };
    let metrics = lines(folder, transcript)?;
    for (record, line) in transcript.steps.iter().zip(&metrics) {
        without_computing(&stepper, record, line, &rows)?;
    }
    ends(&stepper, run, &metrics, (end.ended, end.result))?;
    let mut audit = Audit { stepper, optim, folder, transcript, metrics, result: end.result, found: None };
    let (kept, moved) = audit.states()?;
    Ok((audit, Begun { root, kept, moved, steps: end.ended }))
}

/// The file of a transcript: itself, or that in a run folder.
pub fn file(path: &Path) -> PathBuf {
    if path.is_dir() { path.join(TRANSCRIPT) } else { path.to_owned() }
}

#[cfg(test)]
mod tests;
