//! Workers that train apart and meet every so many steps: between two meetings each makes steps of its own on rows of its
//! own, and at a meeting all go on from one place, which the outer step makes of where they have come to. Moments of AdamW
//! stay with their worker. After DiLoCo (arXiv:2311.08105); with rate 1 and no momentum it is plain averaging (FedAvg,
//! arXiv:1602.05629). How values come from one worker to another is given: by `exchange`, or by ranks.

use candle_core::Tensor;
use ftk_recipes::Run;

use super::error::TrainError;

/// The outer learning rate and momentum of DiLoCo.
const RATE: f64 = 0.7;
const MOMENTUM: f64 = 0.9;

/// Every parameter, in the order of the session's.
pub type ParameterValues = Vec<Vec<f32>>;

/// What a worker brings to a meeting.
#[derive(Clone, Copy)]
pub struct Meeting<'a> {
    /// Its number, from 1.
    pub round: usize,
    /// Digest of the run, the same for all workers.
    pub run: &'a [u8; 32],
    /// The parameters, of which names and lengths count here.
    pub parameters: &'a [(String, Tensor)],
    /// Where it has come to; nothing once it has made its last round, when it only waits for whoever is behind.
    pub ours: Option<&'a ParameterValues>,
    /// What it brought to the round before.
    pub before: &'a ParameterValues,
}

/// Brings a worker's values to the others, and gives those of all, in the order of workers.
pub type Exchange<'a> = &'a dyn Fn(&Meeting<'_>) -> Result<Vec<ParameterValues>, TrainError>;

/// A worker among others.
#[derive(Clone, Copy)]
pub struct Worker<'a> {
    /// Which one, from 0.
    pub worker: usize,
    /// Of how many.
    pub workers: usize,
    /// How it meets the others.
    pub exchange: Exchange<'a>,
}

/// The outer optimiser of a run: stochastic gradient descent with Nesterov momentum, as PyTorch computes it, in f32.
#[derive(Clone, Debug)]
pub(super) struct OuterStep {
    every: usize,
    rate: f32,
    momentum: f32,
    pub(super) state: OuterState,
}

/// What a worker needs to go on, beside its own steps. `Debug` shows no numbers: an adapter may be secret.
#[derive(Clone, PartialEq)]
pub(super) struct OuterState {
    /// Meetings that were held.
    pub(super) rounds: usize,
    /// Where all went on from after the last one.
    pub(super) values: ParameterValues,
    /// Sum of outer gradients, each older one the less.
    pub(super) momentum: ParameterValues,
    /// What this worker brought to the last one.
    pub(super) brought: ParameterValues,
}

impl std::fmt::Debug for OuterState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "state after {} rounds", self.rounds)
    }
}

impl OuterStep {
    /// At the beginning of a run from these values; nothing of a run without meetings.
    pub(super) fn new(run: &Run, values: ParameterValues) -> Option<Self> {
        let zeros: ParameterValues = values.iter().map(|values| vec![0.0; values.len()]).collect();
        let state = OuterState { rounds: 0, brought: zeros.clone(), momentum: zeros, values };
        let (rate, momentum) = (run.outer_lr.unwrap_or(RATE) as f32, run.outer_momentum.unwrap_or(MOMENTUM) as f32);
        run.sync_every.map(|every| Self { every, rate, momentum, state })
    }

    /// What a worker says at its next meeting: where it has come to, or nothing once it has made its last round.
    pub(super) fn meeting<'a>(
        &'a self,
        run: &'a [u8; 32],
        parameters: &'a [(String, Tensor)],
        ours: Option<&'a ParameterValues>,
    ) -> Meeting<'a> {
        Meeting { round: self.state.rounds + 1, run, parameters, ours, before: &self.state.brought }
    }

    /// Whether workers meet after so many steps of so many.
    pub(super) fn is_due(&self, done: usize, steps: usize) -> bool {
        done.is_multiple_of(self.every) || done == steps
    }

    /// Where all go on from: `all` are the values of every worker, in their order, and `ours` those of this one.
    pub(super) fn meet(&mut self, ours: ParameterValues, all: &[ParameterValues]) -> ParameterValues {
        let share = all.len() as f32;
        let plain = self.rate == 1.0 && self.momentum == 0.0;
        let OuterState { rounds, values, momentum, brought } = &mut self.state;
        for (at, (values, momentum)) in values.iter_mut().zip(momentum).enumerate() {
            for (entry, (value, momentum)) in values.iter_mut().zip(momentum).enumerate() {
                let mut sum = all[0][at][entry];
                all[1..].iter().for_each(|worker| sum += worker[at][entry]);
                let mean = sum / share;
                if plain {
                    // What the formula below says, without its rounding: one worker alone is a plain run, to the bit.
                    *value = mean;
                    continue;
                }
                let gradient = *value - mean;
                *momentum = self.momentum * *momentum + gradient;
                *value -= self.rate * (gradient + self.momentum * *momentum);
            }
        }
        *rounds += 1;
        *brought = ours;
        values.clone()
    }
}

#[cfg(test)]
mod tests;
