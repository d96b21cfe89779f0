//! Checks a run against its transcript: what the transcript says of itself, what follows from recipe and rows without
//! computing, and steps computed again. `TRANSCRIPT.md` beside this file has the checks by name. Where recipe, rows and
//! base come from, and what an adapter's file is, others know.

mod check;
mod parting;

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use blake3::{Hash, Hasher};
use ftk_adapters::foreign;
use ftk_recipes::{Optim, Run, Session};

pub use self::check::{Refused, TranscriptCheck};
pub use self::parting::{Parting, bisect};
use super::best::BestKept;
use super::bound::Reach;
use super::checkpoint::{self, Checkpoint, Slot};
use super::error::{RunIdentity, TrainError};
use super::log::METRICS;
use super::record::{self, Recorded};
use super::stepper::Stepper;
use super::transcript::{self, Malformed, Roots, StepRecord, TRANSCRIPT, Transcript};

/// Why a run is not found to follow.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// It does not.
    #[error("{0}")]
    Refused(Refused),
    /// It cannot be told.
    #[error(transparent)]
    Undecided(#[from] TrainError),
}

impl From<Refused> for AuditError {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

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
    let rows = transcript::row_digests(session);
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

/// What the transcript begins with, against recipe, rows and base.
fn head(
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
fn lines(folder: &Path, transcript: &Transcript) -> Result<Vec<String>, AuditError> {
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
fn without_computing(stepper: &Stepper<'_>, record: &StepRecord, line: &str, rows: &[Hash]) -> Result<(), Refused> {
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
fn ends(stepper: &Stepper<'_>, run: &Run, metrics: &[String], (ended, result): (u64, u64)) -> Result<(), AuditError> {
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

/// Numbers of a parameter: its values, or moments of one kind.
type SlotPart = fn(&Slot) -> &[f32];

/// What is said of numbers that are not what they are computed to be.
const OTHERS: &str = "computed again, they are others";

/// A run under audit.
struct Audit<'a> {
    stepper: Stepper<'a>,
    optim: &'a Optim,
    folder: &'a Path,
    transcript: &'a Transcript,
    metrics: Vec<String>,
    /// The step whose state is the result.
    result: u64,
    /// The values of that state.
    found: Option<Vec<Vec<f32>>>,
}

impl Audit<'_> {
    /// What the transcript says of the state after a step, of which there is one.
    fn after(&self, step: u64) -> Roots {
        self.transcript.steps[step as usize - 1].after
    }

    /// The state that a file holds, if there is such a file.
    fn state(&self, path: &Path) -> Result<Option<Checkpoint>, AuditError> {
        let Some(state) = Checkpoint::read(path)? else { return Ok(None) };
        let step = state.step as u64;
        let file = path.strip_prefix(self.folder).unwrap_or(path).display().to_string();
        if !(1..=self.transcript.steps.len() as u64).contains(&step) {
            return Err(Refused::new(
                TranscriptCheck::State,
                format!("{file} is of a step that is not in the transcript: {step}"),
            )
            .into());
        }
        let (own, said) = (transcript::roots(&state.slots), self.after(step));
        let parts = [
            ("values", own.values, said.values),
            ("first moments", own.first, said.first),
            ("second moments", own.second, said.second),
        ];
        if let Some((part, ..)) = parts.iter().find(|(_, own, said)| own != said) {
            return Err(Refused::at(TranscriptCheck::State, step, format!("{file} holds other {part}")).into());
        }
        if !self.stepper.optimiser.fits(&state) {
            return Err(Refused::at(TranscriptCheck::State, step, format!("{file} holds other parameters")).into());
        }
        Ok(Some(state))
    }

    /// Checks all kept states and what lies between them; gives their steps, and the largest share of the bound.
    fn states(&mut self) -> Result<(Vec<u64>, Option<f64>), AuditError> {
        let begin = self.stepper.optimiser.values();
        let (mut before, mut reach, mut at) = (begin, Reach::default(), 0);
        let (mut kept, mut moved) = (Vec::new(), None::<f64>);
        let steps = checkpoint::kept_states(self.folder)?;
        let every = self.stepper.run.state_every as u64;
        let mut asked = (1..=self.transcript.steps.len() as u64).filter(|step| every > 0 && step.is_multiple_of(every));
        if let Some(missing) = asked.find(|step| !steps.contains(step)) {
            return Err(TrainError::NotKept(checkpoint::state_file(self.folder, missing)).into());
        }
        let file = |step: u64| checkpoint::state_file(self.folder, step);
        // The checkpoint's state may be of any step: that of the best evaluation is in it, too.
        let mut last = self.state(&self.folder.join(checkpoint::FILE))?;
        let mut files: Vec<(u64, Option<PathBuf>)> = steps.iter().map(|&step| (step, Some(file(step)))).collect();
        files.extend(last.as_ref().map(|state| (state.step as u64, None)));
        files.sort_by_key(|(step, path)| (*step, path.is_none()));
        for (named, path) in files {
            let Some(state) = path.as_ref().map_or_else(|| Ok(last.take()), |path| self.state(path))? else { continue };
            let step = state.step as u64;
            if let Some(path) = path.filter(|_| named != step) {
                return Err(Refused::at(
                    TranscriptCheck::State,
                    step,
                    format!("is kept under another name: {}", path.display()),
                )
                .into());
            }
            if let Some(best) = state.best.filter(|best| best.step as u64 == self.result) {
                let root = transcript::root_of(&state.slots, &best.values);
                if root != self.after(self.result).values {
                    let what = format!("{} holds other values of the best evaluation", checkpoint::FILE);
                    return Err(Refused::at(TranscriptCheck::State, self.result, what).into());
                }
                self.found = Some(best.values);
            }
            if step == self.result {
                self.found = Some(state.slots.iter().map(|slot| slot.value.clone()).collect());
            }
            if step > at {
                for done in at..step {
                    reach = reach.after(self.optim, done + 1, self.stepper.rate(done as usize));
                }
                let most = self.reached(&before, &state.slots, reach, (at, step))?;
                moved = Some(moved.map_or(most, |moved| moved.max(most)));
                (at, reach) = (step, Reach::default());
                before = state.slots.into_iter().map(|slot| slot.value).collect();
                kept.push(step);
            }
        }
        Ok((kept, moved))
    }

    /// The largest share of the bound by which an entry has moved.
    fn reached(&self, from: &[Vec<f32>], to: &[Slot], reach: Reach, (since, step): (u64, u64)) -> Result<f64, Refused> {
        let mut most = 0f64;
        for (from, Slot { name, value, .. }) in from.iter().zip(to) {
            for (at, (&from, &to)) in from.iter().zip(value).enumerate() {
                let (moved, bound) = ((f64::from(to) - f64::from(from)).abs(), reach.of(from));
                // What is no number lies nowhere.
                if moved.partial_cmp(&bound).is_none_or(Ordering::is_gt) {
                    let what = format!(
                        "{name}: entry {at} has moved by {moved:.3e} since step {since}, and AdamW moves it by {bound:.3e} at most"
                    );
                    return Err(Refused::at(TranscriptCheck::Bound, step, what));
                }
                if bound > 0.0 {
                    most = most.max(moved / bound);
                }
            }
        }
        Ok(most)
    }

    /// Computes steps again, and those that lie between them and a state that is known.
    fn compute(
        &mut self,
        wanted: &BTreeSet<u64>,
        kept: &[u64],
        see: &mut dyn FnMut(u64, u64),
    ) -> Result<BTreeSet<u64>, AuditError> {
        let begin = |step: u64| kept.iter().rev().find(|&&kept| kept < step).copied().unwrap_or(0);
        let all: BTreeSet<u64> = wanted.iter().flat_map(|&step| begin(step) + 1..=step).collect();
        let mut now = 0;
        for (done, &step) in all.iter().enumerate() {
            if now + 1 != step {
                self.restore(step - 1)?;
            }
            self.again(step)?;
            now = step;
            see(done as u64 + 1, all.len() as u64);
        }
        Ok(all)
    }

    /// Takes up the state that was kept after a step.
    fn restore(&mut self, step: u64) -> Result<(), AuditError> {
        let file = checkpoint::state_file(self.folder, step);
        let file = if file.exists() { file } else { self.folder.join(checkpoint::FILE) };
        // It was there a moment ago.
        let state = self.state(&file)?.filter(|state| state.step as u64 == step);
        let state = state.ok_or_else(|| TrainError::Checkpoint {
            path: file.clone(),
            message: "is no longer the state that was kept".to_owned(),
        })?;
        self.stepper.optimiser.restore(state, &file)?;
        Ok(())
    }

    /// Does the next step, and compares what came of it.
    fn again(&mut self, step: u64) -> Result<(), AuditError> {
        let at = step as usize - 1;
        let stepped = self.stepper.step(at)?;
        let said = &self.transcript.steps[at];
        let slots = self.stepper.optimiser.slots();
        if transcript::root_of(slots, &stepped.gradients) != said.gradients {
            return Err(Refused::at(TranscriptCheck::Gradients, step, OTHERS).computed().into());
        }
        let own = transcript::roots(slots);
        let parts: [(TranscriptCheck, Hash, Hash, SlotPart); 3] = [
            (TranscriptCheck::First, own.first, said.after.first, |slot| &slot.first),
            (TranscriptCheck::Second, own.second, said.after.second, |slot| &slot.second),
            (TranscriptCheck::Values, own.values, said.after.values, |slot| &slot.value),
        ];
        for (check, own, said, part) in parts {
            if own != said {
                let whose = self.differs(step, part)?;
                return Err(Refused::at(check, step, format!("{OTHERS}{whose}")).computed().into());
            }
        }
        let seen = self.stepper.seen_before(at) + stepped.tokens;
        let done = step as usize;
        let evaluated = if self.stepper.evaluates_after(done) { self.stepper.evaluate(done)? } else { Vec::new() };
        let (_, line) = self.stepper.line(done, &stepped, seen, evaluated);
        if line != self.metrics[at] {
            return Err(Refused::at(TranscriptCheck::Figures, step, OTHERS).computed().into());
        }
        if step == self.result {
            self.found = Some(self.stepper.optimiser.values());
        }
        Ok(())
    }

    /// The first parameter of which a kept state of this step has other numbers, where there is such a state.
    fn differs(&self, step: u64, part: SlotPart) -> Result<String, TrainError> {
        let bits = |slot: &Slot| part(slot).iter().map(|number| number.to_bits()).collect::<Vec<_>>();
        for path in [checkpoint::state_file(self.folder, step), self.folder.join(checkpoint::FILE)] {
            let state = Checkpoint::read(&path)?.filter(|state| state.step as u64 == step);
            let state = state.map(|state| state.slots).unwrap_or_default();
            let other = state.iter().zip(self.stepper.optimiser.slots()).find(|(said, own)| bits(said) != bits(own));
            if let Some((slot, _)) = other {
                return Ok(format!(": {}", slot.name));
            }
        }
        Ok(String::new())
    }
}

/// The file of a transcript: itself, or that in a run folder.
pub fn file(path: &Path) -> PathBuf {
    if path.is_dir() { path.join(TRANSCRIPT) } else { path.to_owned() }
}

#[cfg(test)]
mod tests;
