//! The boundary between the host of a training run and a task.
//!
//! The host owns what must be reproducible: seed, row order, optimiser, schedule, checkpoints,
//! files. A session owns what a row means and what its loss is.

use std::collections::BTreeMap;

use candle_core::Tensor;
use serde_json::Value;

/// Whatever a task could not do.
pub type TaskError = Box<dyn std::error::Error + Send + Sync>;

/// Named figures, in a fixed order.
pub type Metrics = Vec<(&'static str, f64)>;

/// The loss of one batch.
#[derive(Debug)]
pub struct BatchLoss {
    /// Sum over the batch's items (not their mean).
    pub sum: f64,
    /// Gradient of that sum with respect to each parameter, by its name.
    pub gradients: BTreeMap<String, Tensor>,
    /// Sums over the batch's rows of what is reported beside the loss.
    pub metrics: Metrics,
}

/// The optimiser step that a batch is a part of.
#[derive(Clone, Copy, Debug)]
pub struct StepWindow<'a> {
    /// Number of the step, from 0: tells random choices such as dropout apart.
    pub step: usize,
    /// All rows of the step, those of its other batches among them: what is a mean over them.
    pub rows: &'a [usize],
}

/// A task opened on its rows and model.
pub trait Session {
    /// Number of rows.
    fn rows(&self) -> usize;

    /// Items in a row: what the loss is a mean over (scored tokens); the row itself unless a task says otherwise.
    fn items(&self, _row: usize) -> usize {
        1
    }

    /// Tokens a row occupies, for throughput; one unless a task says otherwise.
    fn tokens(&self, _row: usize) -> usize {
        1
    }

    /// Digest of what a step learns from a row; of its number where the rows are parts of a whole that the identity of
    /// the run has a digest of.
    fn digest(&self, row: usize) -> [u8; 32] {
        *blake3::Hasher::new_derive_key("ftk row by its number")
            .update(&(row as u64).to_le_bytes())
            .finalize()
            .as_bytes()
    }

    /// The row as whoever it is opened to gets it, of which [`Session::digest`] is the digest; nothing where that is of
    /// its number.
    fn opened(&self, _row: usize) -> Option<Value> {
        None
    }

    /// What is trained: variables by name, in name order.
    fn parameters(&self) -> Vec<(String, Tensor)>;

    /// The loss of a batch of a step's rows. The sum over the step's batches is the same, up to rounding,
    /// however the rows of the step are parted.
    ///
    /// # Errors
    /// The device's.
    fn loss(&self, rows: &[usize], window: StepWindow<'_>) -> Result<BatchLoss, TaskError>;

    /// Figures on the held-out rows; none without such rows.
    ///
    /// # Errors
    /// The device's.
    fn evaluate(&self) -> Result<Metrics, TaskError>;
}
