//! The host of a training run: row order, accumulation, optimiser, schedule, metrics, checkpoints.
//! What a row means and what its loss is, the session knows.
//!
//! Same recipe, seed and machine give the same bytes: the row order is a function of seed and
//! epoch, sums run in one order, `metrics.jsonl` holds no time, and a run that was stopped anywhere
//! goes on from its last checkpoint as if it had never been.

mod best;
mod checkpoint;
mod curves;
mod lock;
mod optimiser;
mod order;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use candle_core::Tensor;
use ftk_adapters::foreign;
use ftk_adapters::hint::Hint;
use ftk_recipes::{Metrics, Optim, Run, Schedule, Session, TaskError, Window};
use serde_json::{Map, Value, json};

use self::best::Best;
use self::checkpoint::Checkpoint;
pub use self::curves::{CURVES, draw};
pub use self::lock::{LOCK, Lock};
use self::optimiser::AdamW;

/// File name of the figures of each step.
pub const METRICS: &str = "metrics.jsonl";

/// What can go wrong in a run.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The task failed.
    #[error("step {step}: {error}")]
    Task {
        /// Optimiser step, from 1.
        step: usize,
        /// What it said.
        error: TaskError,
    },
    /// Loss or gradient left the numbers.
    #[error("step {step}: {what} is not finite")]
    NotFinite {
        /// Optimiser step, from 1.
        step: usize,
        /// Loss or gradient.
        what: &'static str,
    },
    /// A parameter that nothing depends on.
    #[error("no gradient reaches {0}")]
    NoGradient(String),
    /// There is nothing to train on.
    #[error("no row has a scored token or pair")]
    Empty,
    /// The run folder holds a run already.
    #[error("{}: holds a run that reached step {step}", path.display())]
    Occupied {
        /// The checkpoint.
        path: PathBuf,
        /// Its step.
        step: usize,
    },
    /// Another process writes to the run folder.
    #[error("another run is writing to this folder: {}", .0.display())]
    Locked(PathBuf),
    /// A checkpoint of a different run.
    #[error("{}: was made by a different recipe, data or base", .0.display())]
    Different(PathBuf),
    /// A checkpoint of a run that was computed in other numbers.
    #[error("{}: was computed in {found}, and this run computes in {ours}", path.display())]
    Arithmetic {
        /// The checkpoint.
        path: PathBuf,
        /// Its arithmetic.
        found: String,
        /// This run's.
        ours: String,
    },
    /// A checkpoint that cannot be read.
    #[error("{}: {message}", path.display())]
    Checkpoint {
        /// The checkpoint.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// The file system refused.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The refusal.
        error: io::Error,
    },
    /// The device failed.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

impl Hint for TrainError {
    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::NotFinite { .. } => Some("lower optim.lr, or set optim.max_grad_norm"),
            Self::Occupied { .. } => Some("continue it with --resume, or choose another folder with --out"),
            Self::Locked(_) => Some("wait for that run or stop it, or choose another folder with --out"),
            Self::Different(_) => Some(
                "choose another folder with --out; to train on from its result, also with more steps, name it as lora.start",
            ),
            Self::Arithmetic { .. } => Some(
                "go on where it began (--device, run.precision, the version of ftk), or choose another folder with --out",
            ),
            Self::Empty => Some("rows cut by data.max_length keep no answer; raise it, or look at the rows"),
            _ => None,
        };
        hint.map(str::to_owned)
    }
}

/// What a run is: a checkpoint of another one is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Digest of recipe, data, base and arithmetic.
    pub digest: [u8; 32],
    /// Name of the arithmetic: what makes two runs of one recipe the same bytes.
    pub arithmetic: String,
}

/// What to do when the run folder holds a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Refuse.
    Fresh,
    /// Go on from it; start afresh where there is none.
    Resume,
}

/// The figures of one step.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Optimiser step, from 1.
    pub step: usize,
    /// Steps of the whole run.
    pub steps: usize,
    /// Mean loss over the step's items, before its update.
    pub loss: f64,
    /// Tokens computed in this step.
    pub tokens: usize,
    /// Everything, as written to `metrics.jsonl`.
    pub record: Map<String, Value>,
}

/// How a run came back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ended {
    /// Steps done.
    pub step: usize,
    /// Steps of the whole run.
    pub steps: usize,
    /// Why there are no more.
    pub why: Why,
    /// The step of the best evaluation and its figure, with `run.best`.
    pub best: Option<(usize, f64)>,
}

/// Why a run came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// All steps are done.
    Done,
    /// `run.patience` evaluations brought nothing better.
    Patience,
    /// It was asked to stop, and has written a checkpoint.
    Stopped,
}

/// Who is asked and told while a run goes on.
pub struct Observer<'a> {
    /// Whether the run is to end after this step.
    pub stop: &'a dyn Fn() -> bool,
    /// Keeps what the session has become by this step, before a checkpoint says that the step is done.
    pub save: &'a dyn Fn(usize) -> Result<(), TaskError>,
    /// Sees the figures of a step.
    pub see: &'a mut dyn FnMut(&Step),
}

/// Runs a session to its end, or until it is asked to stop. A checkpoint of another identity is refused. At its end, the session's parameters are those of the best evaluation where
/// `run.best` asks for it, else the last.
///
/// # Errors
/// See [`TrainError`]; checkpoints written so far stay.
pub fn run(
    session: &dyn Session,
    optim: &Optim,
    run: &Run,
    identity: &Identity,
    start: Start,
    observer: Observer<'_>,
) -> Result<Ended, TrainError> {
    let Observer { stop, save, see } = observer;
    let rows: Vec<usize> = (0..session.rows()).filter(|&row| session.items(row) > 0).collect();
    if rows.is_empty() {
        return Err(TrainError::Empty);
    }
    let parameters = session.parameters();
    let mut optimiser = AdamW::new(&parameters, optim)?;
    let path = run.out.join(checkpoint::FILE);
    let (mut done, mut written, mut best) = (0, 0, None);
    if let Some(found) = Checkpoint::read(&path)? {
        if start == Start::Fresh {
            return Err(TrainError::Occupied { path, step: found.step });
        }
        found.belongs_to(identity, &path)?;
        (done, written) = (found.step, found.metrics_bytes);
        best = optimiser.restore(found, &path)?;
    }
    let order = order::Order::new(rows, run);
    let mut metrics = Log::open(&run.out.join(METRICS), written)?;
    let ended = |step, why, best: &Option<Best>| Ended {
        step,
        steps: order.steps(),
        why,
        best: best.as_ref().map(|best| (best.step, best.figure)),
    };
    let mut seen = order.before(done, |row| session.tokens(row));
    let mut given_up = Best::exhausted(best.as_ref(), run);
    while done < order.steps() && !given_up {
        let step = done;
        let (loss, gradients, mut figures, tokens) = accumulate(session, &parameters, &order.batches(step), step + 1)?;
        seen += tokens;
        let lr = optim.lr * rate(optim, step, order.steps());
        let norm = optimiser.step(&gradients, lr)?;
        if !norm.is_finite() {
            return Err(TrainError::NotFinite { step: step + 1, what: "the gradient" });
        }
        done += 1;
        let every = |steps: usize| steps > 0 && done.is_multiple_of(steps);
        if done == order.steps() || every(run.eval_every) {
            figures.extend(session.evaluate().map_err(|error| TrainError::Task { step: done, error })?);
            Best::update(&mut best, run, done, &figures, || optimiser.values())?;
            given_up = Best::exhausted(best.as_ref(), run);
        }
        let last = done == order.steps() || given_up;
        let mut record = Map::new();
        record.insert("step".into(), json!(step + 1));
        record.insert("epoch".into(), json!(order.epoch_after(step)));
        record.insert("loss".into(), json!(loss));
        record.insert("grad_norm".into(), json!(norm));
        record.insert("learning_rate".into(), json!(lr));
        record.insert("num_tokens".into(), json!(seen));
        record.extend(figures.into_iter().map(|(name, value)| (name.to_owned(), json!(value))));
        metrics.append(&record)?;
        let stopped = !last && stop();
        if last || stopped || every(run.save_every) {
            save(done).map_err(|error| TrainError::Task { step: done, error })?;
            optimiser.checkpoint(done, identity, metrics.bytes, best.as_ref()).write(&path)?;
        }
        see(&Step { step: done, steps: order.steps(), loss, tokens, record });
        if stopped {
            return Ok(ended(done, Why::Stopped, &best));
        }
    }
    if let Some(best) = &best {
        optimiser.show(&best.values)?;
    }
    Ok(ended(done, if given_up && done < order.steps() { Why::Patience } else { Why::Done }, &best))
}

/// Steps of a run over that many rows from which something can be learnt.
pub fn steps(rows: usize, run: &Run) -> usize {
    order::Order::new((0..rows).collect(), run).steps()
}

/// Refuses a run folder whose checkpoint is that of another run than `identity` names.
///
/// # Errors
/// [`TrainError::Different`], [`TrainError::Arithmetic`]; a checkpoint that cannot be read.
pub fn belongs(out: &Path, identity: &Identity) -> Result<(), TrainError> {
    let path = out.join(checkpoint::FILE);
    Checkpoint::read(&path)?.map_or(Ok(()), |found| found.belongs_to(identity, &path))
}

/// Whether the folder holds a run that reached its end or a checkpoint on the way.
pub fn holds_run(out: &Path) -> bool {
    out.join(checkpoint::FILE).exists()
}

/// Mean loss over all items of the step, its gradient by parameter, metrics as means over rows, tokens.
type Accumulated = (f64, Vec<Vec<f32>>, Metrics, usize);

fn accumulate(
    session: &dyn Session,
    parameters: &[(String, Tensor)],
    batches: &[Vec<usize>],
    step: usize,
) -> Result<Accumulated, TrainError> {
    let all = || batches.iter().flatten();
    let rows: Vec<usize> = all().copied().collect();
    let window = Window { step: step - 1, rows: &rows };
    let items: usize = all().map(|&row| session.items(row)).sum();
    let mut gradients: Vec<Vec<f32>> = parameters.iter().map(|(_, p)| vec![0.0; p.elem_count()]).collect();
    let (mut loss, mut metrics) = (0.0, Metrics::new());
    for batch in batches {
        let result = session.loss(batch, window).map_err(|error| TrainError::Task { step, error })?;
        loss += result.sum;
        if !loss.is_finite() {
            return Err(TrainError::NotFinite { step, what: "the loss" });
        }
        for ((name, _), sum) in parameters.iter().zip(&mut gradients) {
            let gradient = result.gradients.get(name).ok_or_else(|| TrainError::NoGradient(name.clone()))?;
            let gradient = gradient.flatten_all()?.to_vec1::<f32>()?;
            sum.iter_mut().zip(gradient).for_each(|(sum, g)| *sum += g);
        }
        for (index, (name, value)) in result.metrics.into_iter().enumerate() {
            match metrics.get_mut(index) {
                Some((_, sum)) => *sum += value,
                None => metrics.push((name, value)),
            }
        }
    }
    // Every item of the step weighs the same, however the rows fall into batches.
    let share = 1.0 / items as f64;
    gradients.iter_mut().flatten().for_each(|g| *g *= share as f32);
    metrics.iter_mut().for_each(|(_, sum)| *sum /= rows.len() as f64);
    Ok((loss * share, gradients, metrics, all().map(|&row| session.tokens(row)).sum()))
}

/// Share of the peak learning rate at a step counted from 0.
fn rate(optim: &Optim, step: usize, steps: usize) -> f64 {
    let warmup = optim.warmup_steps;
    if step < warmup {
        return step as f64 / warmup as f64;
    }
    let left = (steps - step) as f64 / (steps - warmup).max(1) as f64;
    match optim.schedule {
        Schedule::Linear => left,
        Schedule::Cosine => 0.5 * (1.0 - libm::cos(std::f64::consts::PI * left)),
        Schedule::Constant => 1.0,
    }
}

/// `metrics.jsonl`: one object a line.
struct Log {
    path: PathBuf,
    file: File,
    bytes: u64,
}

impl Log {
    /// Opens the file for appending after its first `keep` bytes; what a stopped run wrote beyond
    /// its last checkpoint goes.
    fn open(path: &Path, keep: u64) -> Result<Self, TrainError> {
        let io = |error| TrainError::Io { path: path.to_owned(), error };
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(io)?;
        }
        let mut file = foreign::open_to_write(path).map_err(io)?;
        let length = file.metadata().map_err(io)?.len();
        if length < keep {
            let message = format!("is shorter than its checkpoint says, {keep} bytes: {length}");
            return Err(TrainError::Checkpoint { path: path.to_owned(), message });
        }
        file.set_len(keep).map_err(io)?;
        file.seek(SeekFrom::End(0)).map_err(io)?;
        Ok(Self { path: path.to_owned(), file, bytes: keep })
    }

    fn append(&mut self, record: &Map<String, Value>) -> Result<(), TrainError> {
        let line = serde_json::to_string(record).expect("numbers have a text") + "\n";
        let io = |error| TrainError::Io { path: self.path.clone(), error };
        self.file.write_all(line.as_bytes()).and_then(|()| self.file.flush()).map_err(io)?;
        self.bytes += line.len() as u64;
        Ok(())
    }
}
