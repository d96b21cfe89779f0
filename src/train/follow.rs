//! A run without an end: its steps are made when there is something to learn from, in the order in which it came. What
//! was kept after some of it goes on with the rest as if both had come at once.

use std::path::PathBuf;

use ftk_adapters::foreign;
use ftk_recipes::{Optim, Run, Session};

use super::checkpoint::{Checkpoint, FILE};
use super::error::{RunIdentity, TrainError};
use super::log::LineLog;
use super::stepper::{Stepped, Stepper};

/// A run that follows what comes.
pub struct Follower<'a> {
    stepper: Stepper<'a>,
    rate: f64,
    identity: RunIdentity,
    path: PathBuf,
    log: LineLog,
    steps: usize,
}

impl<'a> Follower<'a> {
    /// Opens a run in its folder, with the lines that it has written into a file there; begins one where there is none.
    ///
    /// # Errors
    /// A checkpoint of another run, or one that is there and not to be gone on with; the file system's.
    pub fn open(
        session: &'a dyn Session,
        optim: &'a Optim,
        run: &'a Run,
        identity: &RunIdentity,
        (file, resume): (&str, bool),
    ) -> Result<(Self, String), TrainError> {
        let mut stepper = Stepper::new(session, optim, run)?;
        let (path, lines) = (run.out.join(FILE), run.out.join(file));
        let (mut steps, mut kept, mut text) = (0, 0, String::new());
        match Checkpoint::read(&path)? {
            Some(found) if !resume => return Err(TrainError::Occupied { path, step: found.step }),
            Some(found) => {
                found.belongs_to(identity, &path)?;
                (steps, kept) = (found.step, found.metrics_bytes);
                stepper.optimiser.restore(found, &path)?;
                text = foreign::read_text(&lines, foreign::DATA)
                    .map_err(|error| TrainError::Io { path: lines.clone(), error })?;
            }
            None => {}
        }
        let log = LineLog::open(&lines, kept)?;
        text.truncate(usize::try_from(kept).ok().filter(|&kept| text.is_char_boundary(kept)).unwrap_or(0));
        Ok((Self { stepper, rate: optim.lr, identity: identity.clone(), path, log, steps }, text))
    }

    /// Steps done.
    pub fn steps(&self) -> usize {
        self.steps
    }

    /// Writes lines down.
    ///
    /// # Errors
    /// The file system's.
    pub fn write(&mut self, lines: &str) -> Result<(), TrainError> {
        self.log.append(lines)
    }

    /// Learns from rows; their mean loss before that.
    ///
    /// # Errors
    /// The task's; a loss or gradient that is not finite.
    pub fn learn(&mut self, rows: Vec<usize>) -> Result<f64, TrainError> {
        let Stepped { loss, .. } = self.stepper.step_on(self.steps, vec![rows], self.rate)?;
        self.steps += 1;
        Ok(loss)
    }

    /// Keeps what there is, so that it can be gone on with.
    ///
    /// # Errors
    /// The file system's.
    pub fn keep(&self) -> Result<(), TrainError> {
        self.stepper
            .optimiser
            .checkpoint(self.steps, &self.identity, (self.log.bytes, None), None, None)
            .write(&self.path)
    }
}
