//! Which rows make which step: a function of seed and step, so that nothing needs to be remembered.

use ftk_recipes::{Run, Session};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::error::TrainError;

/// The order of a run's rows.
pub(super) struct RowOrder {
    rows: Vec<usize>,
    batch: usize,
    /// Rows of one step.
    window: usize,
    steps: usize,
    shuffle: Option<u64>,
}

impl RowOrder {
    /// Of the rows from which something can be learnt.
    ///
    /// # Errors
    /// A session without such a row.
    pub(super) fn of(session: &dyn Session, run: &Run) -> Result<Self, TrainError> {
        Self::of_worker(session, run, 0, 1)
    }

    /// Of the rows of one of several workers: one after another gets a row, again and again.
    ///
    /// # Errors
    /// Fewer rows than workers.
    pub(super) fn of_worker(
        session: &dyn Session,
        run: &Run,
        worker: usize,
        workers: usize,
    ) -> Result<Self, TrainError> {
        let rows = (0..session.rows()).filter(|&row| session.items(row) > 0);
        let rows: Vec<usize> = rows.skip(worker).step_by(workers).collect();
        if rows.is_empty() { Err(TrainError::Empty) } else { Ok(Self::new(rows, run)) }
    }

    pub(super) fn new(rows: Vec<usize>, run: &Run) -> Self {
        let window = run.batch * run.accumulate;
        let per_epoch = rows.len().div_ceil(window);
        let steps = run.steps.unwrap_or_else(|| (run.epochs * per_epoch as f64).ceil() as usize);
        Self { rows, batch: run.batch, window, steps, shuffle: run.shuffle.then_some(run.seed) }
    }

    /// Steps of the run.
    pub(super) fn steps(&self) -> usize {
        self.steps
    }

    fn per_epoch(&self) -> usize {
        self.rows.len().div_ceil(self.window)
    }

    /// Epochs done after a step counted from 0.
    pub(super) fn epoch_after(&self, step: usize) -> f64 {
        (step + 1) as f64 / self.per_epoch() as f64
    }

    /// The batches of a step counted from 0. The last step of an epoch may be smaller.
    pub(super) fn batches(&self, step: usize) -> Vec<Vec<usize>> {
        let (epoch, window) = (step / self.per_epoch(), step % self.per_epoch());
        let rows = self.epoch(epoch as u64);
        let end = rows.len().min((window + 1) * self.window);
        rows[window * self.window..end].chunks(self.batch).map(<[usize]>::to_vec).collect()
    }

    /// Sum of `size` over the rows of all steps before one counted from 0.
    pub(super) fn before(&self, step: usize, size: impl Fn(usize) -> usize) -> usize {
        let (epoch, window) = (step / self.per_epoch(), step % self.per_epoch());
        let whole: usize = self.rows.iter().map(|&row| size(row)).sum();
        let begun = self.epoch(epoch as u64);
        epoch * whole + begun.iter().take(window * self.window).map(|&row| size(row)).sum::<usize>()
    }

    fn epoch(&self, epoch: u64) -> Vec<usize> {
        let mut rows = self.rows.clone();
        let Some(seed) = self.shuffle else { return rows };
        let key = blake3::Hasher::new_derive_key("ftk row order")
            .update(&seed.to_le_bytes())
            .update(&epoch.to_le_bytes())
            .finalize();
        let mut rng = ChaCha8Rng::from_seed(*key.as_bytes());
        // Fisher and Yates; a 64-bit draw makes the bias of the remainder negligible.
        for last in (1..rows.len()).rev() {
            rows.swap(last, (rng.next_u64() % (last as u64 + 1)) as usize);
        }
        rows
    }
}
