//! The host of a training run: row order, accumulation, optimiser, schedule, metrics, checkpoints.
//! What a row means and what its loss is, the session knows.
//!
//! Same recipe, seed and machine give the same bytes: the row order is a function of seed and
//! epoch, sums run in one order, `metrics.jsonl` holds no time, and a run that was stopped anywhere
//! goes on from its last checkpoint as if it had never been.

mod account;
pub mod audit;
mod best;
mod bound;
mod checkpoint;
mod curves;
mod error;
mod exchange;
mod follow;
mod lock;
mod log;
#[cfg(feature = "mpi")]
mod mpi;
mod optimiser;
mod order;
mod outer;
mod ranks;
mod record;
pub mod referee;
pub mod rows;
mod stepper;
#[cfg(test)]
mod tests;
pub mod transcript;

use std::path::Path;

use blake3::Hash;
use ftk_recipes::{Optim, Run, Session, TaskError};
use serde_json::{Map, Value};

use self::account::TranscriptLog;
use self::best::BestKept;
use self::checkpoint::Checkpoint;
pub use self::checkpoint::STATES;
pub use self::curves::{CURVES, FigureCurve, curves, draw};
pub use self::error::{DIVERGED, RunIdentity, TrainError};
pub use self::exchange::ExchangeFolder;
pub use self::follow::Follower;
pub use self::lock::{LOCK, Lock};
use self::log::LineLog;
pub use self::log::METRICS;
use self::outer::OuterStep;
pub use self::outer::{Exchange, Meeting, ParameterValues, Worker};
pub use self::ranks::Ranks;
pub use self::record::Recorded;
use self::stepper::{Stepped, Stepper};
use self::transcript::TranscriptEnd;

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
pub struct StepReport {
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
pub struct RunEnd {
    /// Steps done.
    pub step: usize,
    /// Steps of the whole run.
    pub steps: usize,
    /// Why there are no more.
    pub why: Why,
    /// The step of the best evaluation and its figure, with `run.best`.
    pub best: Option<(usize, f64)>,
    /// The root of its transcript, if one was written and all steps are done.
    pub transcript: Option<Hash>,
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
    pub see: &'a mut dyn FnMut(&StepReport),
    /// Processes that share the batches of steps, of which this one is the first.
    pub ranks: Option<&'a Ranks>,
    /// Which worker of a run this is whose workers meet.
    pub worker: Option<Worker<'a>>,
}

/// Runs a session to its end, or until it is asked to stop. A checkpoint of another identity is refused. At its end, the
/// session's parameters are those of the best evaluation where `run.best` asks for it, else the last.
///
/// # Errors
/// See [`TrainError`]; checkpoints written so far stay.
pub fn run(
    session: &dyn Session,
    optim: &Optim,
    run: &Run,
    identity: &RunIdentity,
    start: Start,
    observer: Observer<'_>,
) -> Result<RunEnd, TrainError> {
    let Observer { stop, save, see, ranks, worker } = observer;
    let alone = Worker { worker: 0, workers: 1, exchange: &|meeting| Ok(meeting.ours.cloned().into_iter().collect()) };
    // Of all workers; that of this one's steps is another where there are several.
    let shared = identity;
    let own = worker.map(|it| shared.of_worker(it.worker, it.workers));
    let identity = own.as_ref().unwrap_or(shared);
    let worker = worker.unwrap_or(alone);
    let stepper = Stepper::new(session, optim, run)?.of_worker(worker.worker, worker.workers)?;
    let mut stepper = stepper.among(ranks);
    let mut outer = OuterStep::new(run, stepper.optimiser.values());
    let steps = stepper.order.steps();
    let path = run.out.join(checkpoint::FILE);
    let (mut done, mut written, mut kept, mut best) = (0, 0, run.transcript.then_some(0), None);
    match Checkpoint::read(&path)? {
        Some(found) if start == Start::Fresh => return Err(TrainError::Occupied { path, step: found.step }),
        Some(mut found) => {
            found.belongs_to(identity, &path)?;
            if let (Some(outer), Some(state)) = (&mut outer, found.outer.take()) {
                outer.state = state;
            }
            (done, written) = (found.step, found.metrics_bytes);
            // What was not written down from the start on cannot be afterwards.
            kept = kept.and(found.transcript_bytes);
            best = stepper.optimiser.restore(found, &path)?;
        }
        None => checkpoint::forget_states(&run.out)?,
    }
    let mut metrics = LineLog::open(&run.out.join(METRICS), written)?;
    let mut account = TranscriptLog::open(&stepper, run, identity, kept.map(|bytes| (bytes, done)))?;
    let ended = |step, why, best: &Option<BestKept>, transcript| RunEnd {
        step,
        steps,
        why,
        best: best.as_ref().map(|best| (best.step, best.figure)),
        transcript,
    };
    let mut seen = stepper.seen_before(done);
    let mut given_up = BestKept::exhausted(best.as_ref(), run);
    // Steps that the checkpoint has.
    let mut kept_until = done;
    while done < steps && !given_up {
        let stepped = match stepper.step(done) {
            Err(error @ (TrainError::Lost { .. } | TrainError::Interrupted(_))) => {
                // The step is not done: what it began with is whole.
                if done > kept_until {
                    save(done).map_err(|error| TrainError::Task { step: done, error })?;
                    let (bytes, outer) = ((metrics.bytes, account.bytes()), outer.as_ref().map(|outer| &outer.state));
                    stepper.optimiser.checkpoint(done, identity, bytes, best.as_ref(), outer).write(&path)?;
                }
                return match error {
                    TrainError::Interrupted(_) => Ok(ended(done, Why::Stopped, &best, None)),
                    error => Err(error),
                };
            }
            stepped => stepped?,
        };
        done += 1;
        let due = outer.as_mut().filter(|outer| outer.is_due(done, steps));
        let met = due.is_some();
        if let Some(outer) = due
            && !meet(outer, worker.exchange, &shared.digest, &mut stepper)?
        {
            // What was done since the last checkpoint is done again.
            return Ok(ended(kept_until, Why::Stopped, &best, None));
        }
        seen += stepped.tokens;
        let every = |steps: usize| steps > 0 && done.is_multiple_of(steps);
        let mut evaluated = Vec::new();
        if stepper.evaluates_after(done) {
            evaluated = stepper.evaluate(done)?;
            BestKept::update(&mut best, run, done, &evaluated, || stepper.optimiser.values())?;
            given_up = BestKept::exhausted(best.as_ref(), run);
        }
        let last = done == steps || given_up;
        let (record, line) = stepper.line(done, &stepped, seen, evaluated);
        metrics.append(&line)?;
        account.step(&stepper, done, &stepped, &line)?;
        let checkpoint = |metrics: &LineLog, account: &TranscriptLog, best: Option<&BestKept>| {
            let (bytes, outer) = ((metrics.bytes, account.bytes()), outer.as_ref().map(|outer| &outer.state));
            stepper.optimiser.checkpoint(done, identity, bytes, best, outer)
        };
        if account.keeps() && every(run.state_every) {
            checkpoint(&metrics, &account, None).keep(&run.out)?;
        }
        let stopped = !last && (stop() || ranks.is_some_and(Ranks::asked));
        // What was brought to a meeting is asked for until all have a checkpoint behind it.
        if last || stopped || met || every(run.save_every) {
            save(done).map_err(|error| TrainError::Task { step: done, error })?;
            checkpoint(&metrics, &account, best.as_ref()).write(&path)?;
            kept_until = done;
        }
        let Stepped { loss, tokens, .. } = stepped;
        see(&StepReport { step: done, steps, loss, tokens, record });
        if stopped {
            ranks.map_or(Ok(()), Ranks::end)?;
            return Ok(ended(done, Why::Stopped, &best, None));
        }
    }
    ranks.map_or(Ok(()), Ranks::end)?;
    if let Some(outer) = &outer {
        (worker.exchange)(&outer.meeting(&shared.digest, stepper.parameters(), None))?;
    }
    if let Some(best) = &best {
        stepper.optimiser.show(&best.values)?;
    }
    let result = best.as_ref().map_or(done, |best| best.step);
    let root = account.end(TranscriptEnd { ended: done as u64, result: result as u64 })?;
    Ok(ended(done, if given_up && done < steps { Why::Patience } else { Why::Done }, &best, root))
}

/// Has a worker meet the others, and go on from where all do; `false` if it was asked to stop while it waited.
fn meet(
    outer: &mut OuterStep,
    exchange: Exchange<'_>,
    run: &[u8; 32],
    stepper: &mut Stepper<'_>,
) -> Result<bool, TrainError> {
    let ours = stepper.optimiser.values();
    match exchange(&outer.meeting(run, stepper.parameters(), Some(&ours))) {
        Err(TrainError::Interrupted(_) | TrainError::Apart { .. }) => Ok(false),
        all => {
            let values = outer.meet(ours, &all?);
            stepper.optimiser.put(values)?;
            Ok(true)
        }
    }
}

/// The ranks that this process is one of, if a launcher of MPI has started several; `asked` says whether the process was
/// asked to stop.
///
/// # Errors
/// [`TrainError::WithoutMpi`] in a build without the feature `mpi`; an MPI that does not begin.
pub fn join(asked: impl Fn() -> bool + 'static) -> Result<Option<Ranks>, TrainError> {
    let Some(count) = ranks::launched() else { return Ok(None) };
    #[cfg(feature = "mpi")]
    {
        let _ = count;
        mpi::join(asked).map(Some)
    }
    #[cfg(not(feature = "mpi"))]
    {
        drop(asked);
        Err(TrainError::WithoutMpi(count))
    }
}

/// Ends with all other ranks, unless one is lost. Not called where this process has failed: then the launcher is to end the
/// others.
pub fn leave(ranks: &Ranks) {
    #[cfg(feature = "mpi")]
    if ranks.whole() {
        mpi::leave();
    }
    #[cfg(not(feature = "mpi"))]
    let _ = ranks;
}

/// Steps of a run over that many rows from which something can be learnt.
pub fn steps(rows: usize, run: &Run) -> usize {
    order::RowOrder::new((0..rows).collect(), run).steps()
}

/// Refuses a run folder whose checkpoint is that of another run than `identity` names.
///
/// # Errors
/// [`TrainError::Different`], [`TrainError::Arithmetic`]; a checkpoint that cannot be read.
pub fn belongs(out: &Path, identity: &RunIdentity) -> Result<(), TrainError> {
    let path = out.join(checkpoint::FILE);
    Checkpoint::read(&path)?.map_or(Ok(()), |found| found.belongs_to(identity, &path))
}

/// Whether the folder holds a run that reached its end or a checkpoint on the way.
pub fn holds_run(out: &Path) -> bool {
    out.join(checkpoint::FILE).exists()
}
