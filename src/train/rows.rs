//! Rows of a run that are opened one by one to whoever may not see the others: each with the digests that lead from it to
//! the root over all rows, and, of each step that learnt from it, those of the step's rows. `TRANSCRIPT.md` beside this
//! file has the format. What a row is, its task knows.

use blake3::Hash;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::audit::{AuditError, AuditedRun, Refused, TranscriptCheck};
use super::error::TrainError;
use super::stepper::Stepper;
use super::transcript::{self, Hex, Transcript};

/// The version of the format.
const VERSION: u32 = 1;

/// Rows that are opened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpenedRows {
    opened: u32,
    /// Rows of the run.
    of: u64,
    rows: Vec<RowOpening>,
    steps: Vec<StepRows>,
}

/// A row, and how it leads to the root over all.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RowOpening {
    /// Its number, from 1.
    row: u64,
    /// What it is, as its task says it.
    content: Value,
    /// Of a run with `run.salt`, the row's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    salt: Option<Hex>,
    /// What it is joined with on each level that has a partner for it.
    path: Vec<Hex>,
}

/// Digests of the rows of a step, by batches.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StepRows {
    step: u64,
    batches: Vec<Vec<Hex>>,
}

/// A row that a transcript has.
#[derive(Clone, Debug, PartialEq)]
pub struct FoundRow {
    /// Its number, from 1.
    pub row: u64,
    /// The steps, of those that were opened, that learnt from it.
    pub steps: Vec<u64>,
}

/// Which rows are to be opened.
#[derive(Clone, Debug)]
pub enum RowChoice {
    /// These, counted from 1.
    Rows(Vec<u64>),
    /// Those that this step, counted from 1, learnt from.
    Step(u64),
}

/// Opens rows of a run, whose transcript has them.
///
/// # Errors
/// [`TranscriptCheck::Data`] and [`TranscriptCheck::Rows`] where the run had other rows; rows or steps that there are
/// not, and rows of which a step learns by their number in a whole.
pub fn open(subject: AuditedRun<'_>, transcript: &Transcript, choice: &RowChoice) -> Result<OpenedRows, AuditError> {
    let AuditedRun { session, optim, run, .. } = subject;
    let stepper = Stepper::new(session, optim, run)?;
    let digests = transcript::row_digests(session, run);
    if transcript::root(digests.clone()) != transcript.head.data {
        return Err(Refused::new(TranscriptCheck::Data, "the run had other rows than these").into());
    }
    let missing = |what: String| AuditError::from(TrainError::NotOpened(what));
    let taken = |step: u64| stepper.order.batches(step as usize - 1);
    let last = transcript.steps.len() as u64;
    let mut wanted: Vec<usize> = match choice {
        RowChoice::Rows(rows) => {
            let rows =
                rows.iter().map(|&row| usize::try_from(row).ok()?.checked_sub(1).filter(|&row| row < digests.len()));
            rows.collect::<Option<_>>().ok_or_else(|| missing(format!("the run has {} rows", digests.len())))?
        }
        RowChoice::Step(step) if (1..=last).contains(step) => taken(*step).concat(),
        RowChoice::Step(_) => return Err(missing(format!("the run has {last} steps"))),
    };
    wanted.sort_unstable();
    wanted.dedup();
    let mut rows = Vec::new();
    for &row in &wanted {
        let whole = "a step learns from its rows by their numbers in a whole, of which the run's identity has a digest";
        let content = session.opened(row).ok_or_else(|| missing(whole.to_owned()))?;
        let salt = run.salt.as_ref().map(|secret| Hex(transcript::salt(secret, row as u64)));
        let path = transcript::path(&digests, row).into_iter().map(Hex).collect();
        rows.push(RowOpening { row: row as u64 + 1, content, salt, path });
    }
    let mut steps = Vec::new();
    for step in 1..=last {
        let batches = taken(step);
        if !batches.iter().flatten().any(|row| wanted.binary_search(row).is_ok()) {
            continue;
        }
        if transcript::rows(&batches, &digests) != transcript.steps[step as usize - 1].rows {
            return Err(
                Refused::at(TranscriptCheck::Rows, step, "it learnt from other rows, or in another order").into()
            );
        }
        let batches = batches.iter().map(|batch| batch.iter().map(|&row| Hex(digests[row])).collect()).collect();
        steps.push(StepRows { step, batches });
    }
    Ok(OpenedRows { opened: VERSION, of: digests.len() as u64, rows, steps })
}

impl OpenedRows {
    /// As a file.
    pub fn write(&self) -> String {
        serde_json::to_string(self).expect("numbers and text serialise") + "\n"
    }

    /// Reads what somebody opened.
    ///
    /// # Errors
    /// What is no such file.
    pub fn read(text: &str) -> Result<Self, String> {
        let read: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if read.opened == VERSION { Ok(read) } else { Err(format!("is of another version: {}", read.opened)) }
    }

    /// What was opened of each row.
    pub fn contents(&self) -> impl Iterator<Item = (u64, &Value)> {
        self.rows.iter().map(|row| (row.row, &row.content))
    }

    /// Holds the rows against a transcript; `digest` is that of a row's content, or nothing of what is no row.
    ///
    /// # Errors
    /// [`TranscriptCheck::Data`] of a row that is not the run's, [`TranscriptCheck::Rows`] of a step that learnt from other
    /// rows than is said.
    pub fn check(
        &self,
        transcript: &Transcript,
        digest: impl Fn(&Value) -> Option<[u8; 32]>,
    ) -> Result<Vec<FoundRow>, Refused> {
        let mut known = Vec::new();
        for StepRows { step, batches } in &self.steps {
            let said = step.checked_sub(1).and_then(|at| transcript.steps.get(usize::try_from(at).ok()?));
            let own = transcript::rows_of(batches.iter().map(|batch| batch.iter().map(|Hex(row)| *row)));
            if said.is_none_or(|said| said.rows != own) {
                return Err(Refused::at(TranscriptCheck::Rows, *step, "it learnt from other rows than is said"));
            }
            known.push((*step, batches.concat()));
        }
        let mut found = Vec::new();
        for RowOpening { row, content, salt, path } in &self.rows {
            let refuse = |what: &str| Err(Refused::new(TranscriptCheck::Data, format!("row {row}: {what}")));
            let Some(digest) = digest(content) else { return refuse("is no row of a task that opens rows") };
            let digest = salt.map_or_else(|| digest.into(), |Hex(salt)| transcript::salted(&salt, &digest));
            let path: Vec<Hash> = path.iter().map(|Hex(node)| *node).collect();
            let root = row.checked_sub(1).and_then(|at| transcript::climb(digest, at, self.of, &path));
            if root != Some(transcript.head.data) {
                return refuse("the run had another one there");
            }
            let steps = known.iter().filter(|(_, rows)| rows.contains(&Hex(digest))).map(|(step, _)| *step);
            found.push(FoundRow { row: *row, steps: steps.collect() });
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests;
