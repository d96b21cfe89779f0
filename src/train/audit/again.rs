//! A run under audit: the states that it kept, what lies between them, and steps computed again from them.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use blake3::Hash;
use ftk_recipes::Optim;

use super::check::{AuditError, Refused, TranscriptCheck};
use crate::train::bound::Reach;
use crate::train::checkpoint::{self, Checkpoint, Slot};
use crate::train::error::TrainError;
use crate::train::stepper::Stepper;
use crate::train::transcript::{self, Roots, Transcript};

/// Numbers of a parameter: its values, or moments of one kind.
type SlotPart = fn(&Slot) -> &[f32];

/// What is said of numbers that are not what they are computed to be.
const OTHERS: &str = "computed again, they are others";

/// A run under audit.
pub(super) struct Audit<'a> {
    pub(super) stepper: Stepper<'a>,
    pub(super) optim: &'a Optim,
    pub(super) folder: &'a Path,
    pub(super) transcript: &'a Transcript,
    pub(super) metrics: Vec<String>,
    /// The step whose state is the result.
    pub(super) result: u64,
    /// The values of that state.
    pub(super) found: Option<Vec<Vec<f32>>>,
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
    pub(super) fn states(&mut self) -> Result<(Vec<u64>, Option<f64>), AuditError> {
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
    pub(super) fn compute(
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
    pub(super) fn restore(&mut self, step: u64) -> Result<(), AuditError> {
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
