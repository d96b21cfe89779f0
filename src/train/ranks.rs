//! Several processes that share the batches of a run's steps. The first one, rank 0, has run folder, optimiser and
//! everything else of the run; the others are told values, and compute what batches give. Rank 0 adds that up in the order
//! of batches, whoever computed them: the sums are those of one process, to the bit, at every number of ranks.
//!
//! How bytes go from one process to another is not here but given: by `mpi`, or by tests.

use std::cell::Cell;
use std::collections::BTreeMap;

use candle_core::{Tensor, Var};
use ftk_adapters::weights::bytes;
use ftk_recipes::{BatchLoss, Metrics, Run, Session, StepWindow};

use super::checkpoint::Slot;
use super::error::{RunIdentity, TrainError};
use super::order::RowOrder;
use super::outer::{Meeting, ParameterValues};

/// Sends bytes to a rank.
type Sending = Box<dyn Fn(usize, Vec<u8>) -> Result<(), TrainError>>;
/// Takes so many bytes from a rank.
type Receiving = Box<dyn Fn(usize, usize) -> Result<Vec<u8>, TrainError>>;

/// The processes of a run, as one of them sees them.
pub struct Ranks {
    rank: usize,
    count: usize,
    send: Sending,
    receive: Receiving,
    /// Whether another rank was asked to stop.
    asked: Cell<bool>,
    /// Whether all that was sent has arrived so far.
    whole: Cell<bool>,
}

/// The word of rank 0 that there are no more steps.
const END: u64 = u64::MAX;
/// Bytes of a word.
const WORD: usize = 8;
/// Words that an answer begins with: see [`RankAnswer`].
const HEAD: usize = 4;

/// What the head of an answer says.
struct RankAnswer {
    /// Whether the other rank failed, and its text says of what.
    failed: bool,
    /// Whether it was asked to stop.
    asked: bool,
    /// Sum of a loss.
    sum: f64,
    /// Bytes that follow: text or figures.
    bytes: usize,
}

impl Ranks {
    /// Rank `rank` of `count`, with a way to send bytes to the others and to take bytes from them, in their order.
    pub fn new(rank: usize, count: usize, send: Sending, receive: Receiving) -> Self {
        Self { rank, count, send, receive, asked: Cell::new(false), whole: Cell::new(true) }
    }

    /// Which one this is, from 0.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Whether no rank is known to be lost: only then can all of them end together.
    pub fn whole(&self) -> bool {
        self.whole.get()
    }

    /// This process ends before the others: they do not end together.
    pub fn part(&self) {
        self.whole.set(false);
    }

    /// Whether another rank was asked to stop.
    pub(super) fn asked(&self) -> bool {
        self.asked.get()
    }

    /// Which rank computes a batch of a step, counted from 0.
    fn owner(&self, batch: usize) -> usize {
        batch % self.count
    }

    fn others(&self) -> std::ops::Range<usize> {
        1..self.count
    }

    fn send(&self, rank: usize, bytes: Vec<u8>) -> Result<(), TrainError> {
        (self.send)(rank, bytes).inspect_err(|_| self.whole.set(false))
    }

    fn receive(&self, rank: usize, bytes: usize) -> Result<Vec<u8>, TrainError> {
        (self.receive)(rank, bytes).inspect_err(|_| self.whole.set(false))
    }

    /// Rank 0: has the others go on from where they wait.
    ///
    /// # Errors
    /// A rank that is lost.
    pub fn release(&self) -> Result<(), TrainError> {
        self.others().try_for_each(|rank| self.send(rank, word(0)))
    }

    /// Another rank: waits until rank 0 releases it.
    ///
    /// # Errors
    /// Rank 0, if it is lost.
    pub fn wait(&self) -> Result<(), TrainError> {
        self.receive(0, WORD).map(drop)
    }

    /// Refuses a run whose steps have no batch for each.
    ///
    /// # Errors
    /// [`TrainError::Batches`].
    pub fn check(&self, run: &Run) -> Result<(), TrainError> {
        let (batches, ranks) = (run.accumulate, self.count);
        if batches < ranks { Err(TrainError::Batches { batches, ranks }) } else { Ok(()) }
    }

    /// Rank 0: refuses to begin a run unless the others have the same one open.
    ///
    /// # Errors
    /// What a rank could not do; a rank that is lost.
    pub fn gather(&self, identity: &RunIdentity) -> Result<(), TrainError> {
        for rank in self.others() {
            let answer = self.answer(rank)?;
            let theirs = self.receive(rank, answer.bytes)?;
            if theirs != identity.digest {
                let message = "has other rows, another base or another arithmetic than rank 0";
                return Err(TrainError::Rank { rank, message: message.to_owned() });
            }
        }
        Ok(())
    }

    /// Another rank: says what it could not do, and comes back when rank 0 is gone, which reports it.
    pub fn fail(&self, message: &str) -> TrainError {
        let failed = RankAnswer { failed: true, asked: false, sum: 0.0, bytes: message.len() };
        let mut told = self.say(&failed, message.as_bytes().to_vec());
        loop {
            match told {
                // Whoever ended before rank 0 has read this would have it ended, too.
                Ok(()) => told = self.wait(),
                Err(error) => return error,
            }
        }
    }

    /// Rank 0: begins a step, counted from 0, with these values.
    pub(super) fn begin(&self, step: usize, slots: &[Slot]) -> Result<(), TrainError> {
        for rank in self.others() {
            self.send(rank, word(step as u64))?;
            slots.iter().try_for_each(|slot| self.send(rank, bytes(&slot.value)))?;
        }
        Ok(())
    }

    /// Rank 0: has the others end, if they are there.
    pub(super) fn end(&self) -> Result<(), TrainError> {
        if !self.whole() {
            return Ok(());
        }
        self.others().try_for_each(|rank| self.send(rank, word(END)))
    }

    /// Rank 0: what a batch of a step gives, computed here or by the rank whose it is; `names` are those of the figures of
    /// the batch before.
    ///
    /// # Errors
    /// The task's; a rank that failed or is lost.
    pub(super) fn loss(
        &self,
        (nth, batch): (usize, &[usize]),
        window: StepWindow<'_>,
        (session, parameters): (&dyn Session, &[(String, Tensor)]),
        names: &Metrics,
    ) -> Result<BatchLoss, TrainError> {
        let rank = self.owner(nth);
        if rank == 0 {
            return session.loss(batch, window).map_err(|error| TrainError::Task { step: window.step + 1, error });
        }
        let answer = self.answer(rank)?;
        let figures = numbers(&self.receive(rank, answer.bytes)?, f64::from_le_bytes);
        let metrics = names.iter().zip(figures).map(|((name, _), figure)| (*name, figure)).collect();
        let mut gradients = BTreeMap::new();
        for (name, like) in parameters {
            let values = numbers(&self.receive(rank, like.elem_count() * 4)?, f32::from_le_bytes);
            gradients.insert(name.clone(), Tensor::from_vec(values, like.shape(), &candle_core::Device::Cpu)?);
        }
        Ok(BatchLoss { sum: answer.sum, gradients, metrics })
    }

    /// Another rank: computes its batches of every step that rank 0 begins, until there are no more; `asked` says whether
    /// it is to stop, which is for rank 0 to decide.
    ///
    /// # Errors
    /// Rank 0, if it is lost. What fails here, rank 0 reports.
    pub fn help(
        &self,
        session: &dyn Session,
        run: &Run,
        identity: &RunIdentity,
        asked: &dyn Fn() -> bool,
    ) -> Result<(), TrainError> {
        let ready = RankAnswer { failed: false, asked: false, sum: 0.0, bytes: identity.digest.len() };
        self.say(&ready, identity.digest.to_vec())?;
        let parameters = session.parameters();
        let variables = parameters.iter().map(|(_, tensor)| Var::from_tensor(tensor)).collect::<Result<Vec<_>, _>>()?;
        let order = RowOrder::of(session, run)?;
        loop {
            let [step] = words(&self.receive(0, WORD)?);
            if step == END {
                return Ok(());
            }
            for variable in &variables {
                let values = numbers(&self.receive(0, variable.elem_count() * 4)?, f32::from_le_bytes);
                variable.set(&Tensor::from_vec(values, variable.shape(), variable.device())?)?;
            }
            let batches = order.batches(step as usize);
            let rows = batches.concat();
            let window = StepWindow { step: step as usize, rows: &rows };
            for (_, batch) in batches.iter().enumerate().filter(|(nth, _)| self.owner(*nth) == self.rank) {
                match computed(session, &parameters, batch, window) {
                    Ok((sum, figures, gradients)) => {
                        self.say(&RankAnswer { failed: false, asked: asked(), sum, bytes: figures.len() }, figures)?;
                        gradients.into_iter().try_for_each(|gradient| self.send(0, gradient))?;
                    }
                    Err(error) => return Err(self.fail(&error.to_string())),
                }
            }
        }
    }

    /// Ranks that train apart: brings a worker's values to the others over rank 0, and gives those of all. Whoever was
    /// ended before a meeting was over and has begun again is behind by one: first it is given what was brought there.
    ///
    /// # Errors
    /// A rank that is lost, or has another run, or is further behind.
    pub fn meet(&self, meeting: &Meeting<'_>) -> Result<Vec<ParameterValues>, TrainError> {
        let run = words::<4>(meeting.run);
        loop {
            let ours = meeting.round;
            let least = if self.rank == 0 {
                let mut least = ours;
                for rank in self.others() {
                    let [round, theirs @ ..] = words::<5>(&self.receive(rank, 5 * WORD)?);
                    if theirs != run {
                        let message = "has other rows, another base or another arithmetic than rank 0";
                        return Err(TrainError::Rank { rank, message: message.to_owned() });
                    }
                    least = least.min(round as usize);
                }
                self.others().try_for_each(|rank| self.send(rank, word(least as u64)))?;
                least
            } else {
                let said = std::iter::once(ours as u64).chain(run).flat_map(u64::to_le_bytes);
                self.send(0, said.collect())?;
                let [least] = words(&self.receive(0, WORD)?);
                least as usize
            };
            let brought = match (ours - least.min(ours), meeting.ours) {
                // All wait for whoever is behind, and nobody is.
                (0, None) => return Ok(Vec::new()),
                (0, Some(values)) => values,
                (1, _) => meeting.before,
                _ => return Err(TrainError::Rounds { worker: self.rank + 1, round: ours, least }),
            };
            let all = self.spread(brought)?;
            if least == ours {
                return Ok(all);
            }
        }
    }

    /// Brings values of every rank to every other.
    fn spread(&self, brought: &ParameterValues) -> Result<Vec<ParameterValues>, TrainError> {
        let send = |rank: usize, values: &ParameterValues| values.iter().try_for_each(|it| self.send(rank, bytes(it)));
        let receive = |rank: usize| {
            let parts = brought.iter().map(|like| self.receive(rank, like.len() * 4));
            parts.map(|part| Ok(numbers(&part?, f32::from_le_bytes))).collect::<Result<ParameterValues, TrainError>>()
        };
        if self.rank > 0 {
            send(0, brought)?;
            return (0..self.count).map(|_| receive(0)).collect();
        }
        let others = self.others().map(receive);
        let all = std::iter::once(Ok(brought.clone())).chain(others).collect::<Result<Vec<_>, _>>()?;
        for rank in self.others() {
            all.iter().try_for_each(|values| send(rank, values))?;
        }
        Ok(all)
    }

    /// Another rank: answers rank 0.
    fn say(&self, answer: &RankAnswer, bytes: Vec<u8>) -> Result<(), TrainError> {
        let RankAnswer { failed, asked, sum, bytes: length } = *answer;
        let head = [u64::from(failed), u64::from(asked), sum.to_bits(), length as u64];
        self.send(0, head.iter().flat_map(|word| word.to_le_bytes()).collect())?;
        self.send(0, bytes)
    }

    /// Rank 0: the head of an answer of a rank that did not fail.
    fn answer(&self, rank: usize) -> Result<RankAnswer, TrainError> {
        let [failed, asked, sum, bytes] = words::<HEAD>(&self.receive(rank, HEAD * WORD)?);
        if failed != 0 {
            let text = self.receive(rank, bytes as usize)?;
            return Err(TrainError::Rank { rank, message: String::from_utf8_lossy(&text).into_owned() });
        }
        if asked != 0 {
            self.asked.set(true);
        }
        Ok(RankAnswer { failed: false, asked: asked != 0, sum: f64::from_bits(sum), bytes: bytes as usize })
    }
}

/// A loss, figures and gradients by parameter, as they are sent.
type SentLoss = (f64, Vec<u8>, Vec<Vec<u8>>);

fn computed(
    session: &dyn Session,
    parameters: &[(String, Tensor)],
    batch: &[usize],
    window: StepWindow<'_>,
) -> Result<SentLoss, TrainError> {
    let step = window.step + 1;
    let result = session.loss(batch, window).map_err(|error| TrainError::Task { step, error })?;
    let mut gradients = Vec::new();
    for (name, _) in parameters {
        let gradient = result.gradients.get(name).ok_or_else(|| TrainError::NoGradient(name.clone()))?;
        gradients.push(bytes(&gradient.flatten_all()?.to_vec1::<f32>()?));
    }
    let figures = result.metrics.iter().flat_map(|(_, figure)| figure.to_le_bytes()).collect();
    Ok((result.sum, figures, gradients))
}

fn word(word: u64) -> Vec<u8> {
    word.to_le_bytes().to_vec()
}

/// As many words as bytes were asked for.
fn words<const N: usize>(bytes: &[u8]) -> [u64; N] {
    std::array::from_fn(|at| u64::from_le_bytes(bytes.as_chunks().0[at]))
}

fn numbers<T, const N: usize>(bytes: &[u8], number: fn([u8; N]) -> T) -> Vec<T> {
    bytes.as_chunks().0.iter().map(|&bytes| number(bytes)).collect()
}

/// How many processes a launcher of MPI says it has started this one among, if it has.
pub(super) fn launched() -> Option<usize> {
    // Of Open MPI, and of those with the process manager of MPICH.
    let said = ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE"].iter().find_map(|name| std::env::var(name).ok());
    said.and_then(|said| said.parse().ok()).filter(|&count| count > 1)
}

#[cfg(test)]
pub(super) mod tests;
