//! Writes the transcript of a run into its folder, step by step.

use std::io::{self, Read};

use blake3::Hash;
use ftk_adapters::foreign;
use ftk_recipes::Run;

use super::error::{RunIdentity, TrainError};
use super::log::LineLog;
use super::stepper::{Stepped, Stepper};
use super::transcript::{self, START, Scribe, TRANSCRIPT, TranscriptEnd};

/// The transcript of a run as it is written, or nothing.
pub(super) struct TranscriptLog(pub(super) Option<Written>);

/// A transcript that has begun.
pub(super) struct Written {
    pub(super) log: LineLog,
    pub(super) scribe: Scribe,
    /// Digests of the session's rows.
    pub(super) rows: Vec<Hash>,
}

impl TranscriptLog {
    /// Goes on after the first bytes, which are of so many steps; without them there is to be none, and the file goes.
    ///
    /// # Errors
    /// [`TrainError::Transcript`] of one that is not the run's own.
    pub(super) fn open(
        stepper: &Stepper<'_>,
        run: &Run,
        identity: &RunIdentity,
        keep: Option<(u64, usize)>,
    ) -> Result<Self, TrainError> {
        let path = run.out.join(TRANSCRIPT);
        let io = |error| TrainError::Io { path: path.clone(), error };
        let Some((keep, done)) = keep else {
            return match std::fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io(error)),
                _ => Ok(Self(None)),
            };
        };
        let rows = transcript::row_digests(stepper.session, run);
        let wrong = |message: String| TrainError::Transcript { path: path.clone(), message };
        let head = stepper.head(identity, &rows);
        // Whatever lies there is looked at before it is cut to its length.
        let found = match foreign::open(&path) {
            Ok(file) if keep > 0 && file.metadata().map_err(io)?.len() >= keep => Some(file.take(keep)),
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io(error)),
            _ => None,
        };
        let found = found.map(transcript::read).transpose().map_err(|error| wrong(error.to_string()))?;
        if let Some(found) = &found {
            // The first values are not known any more, but seed and recipe give them.
            let other: Vec<&str> = found.head.differences(&head).into_iter().filter(|&what| what != START).collect();
            if !other.is_empty() {
                return Err(wrong(format!("is the transcript of another run: {}", other.join(", "))));
            }
            if found.steps.len() != done || found.end.is_some() {
                let steps = found.steps.len();
                return Err(wrong(format!("says {steps} steps where its checkpoint says: {done}")));
            }
        }
        let mut log = LineLog::open(&path, keep).map_err(|error| match error {
            TrainError::Checkpoint { message, .. } => wrong(message),
            error => error,
        })?;
        let scribe = match &found {
            Some(found) => Scribe::resume(found),
            None => {
                let (scribe, line) = Scribe::begin(&head);
                log.append(&line)?;
                scribe
            }
        };
        Ok(Self(Some(Written { log, scribe, rows })))
    }

    pub(super) fn step(
        &mut self,
        stepper: &Stepper<'_>,
        step: usize,
        stepped: &Stepped,
        line: &str,
    ) -> Result<(), TrainError> {
        let Some(Written { log, scribe, rows }) = &mut self.0 else { return Ok(()) };
        log.append(&scribe.step(&stepper.written(step, stepped, line, rows)))
    }

    /// Whether there is one.
    pub(super) fn keeps(&self) -> bool {
        self.0.is_some()
    }

    /// Bytes written.
    pub(super) fn bytes(&self) -> Option<u64> {
        self.0.as_ref().map(|written| written.log.bytes)
    }

    /// Ends it; gives the root.
    pub(super) fn end(self, end: TranscriptEnd) -> Result<Option<Hash>, TrainError> {
        let Some(Written { mut log, mut scribe, .. }) = self.0 else { return Ok(None) };
        let (line, root) = scribe.end(end);
        log.append(&line)?;
        Ok(Some(root))
    }
}
