//! What one step of a run is: its rows, their gradients, the optimiser. Whoever trains and whoever computes a step again
//! does it here.

use blake3::Hash;
use candle_core::{Device, Shape, Tensor};
use ftk_adapters::train::operation::Operation;
use ftk_adapters::train::trace;
use ftk_recipes::{Metrics, Optim, Run, Schedule, Session, StepWindow};
use serde_json::{Map, Value, json};

use super::error::{RunIdentity, TrainError};
use super::optimiser::AdamW;
use super::order::RowOrder;
use super::ranks::Ranks;
use super::transcript::{self, StepRecord, TranscriptHead};

/// A session with its optimiser, at some step.
pub(super) struct Stepper<'a> {
    pub(super) session: &'a dyn Session,
    optim: &'a Optim,
    pub(super) run: &'a Run,
    parameters: Vec<(String, Tensor)>,
    pub(super) optimiser: AdamW,
    pub(super) order: RowOrder,
    /// Who computes a step's batches, too.
    ranks: Option<&'a Ranks>,
}

/// What came of a step.
pub(super) struct Stepped {
    /// Its rows, by batches.
    pub(super) batches: Vec<Vec<usize>>,
    /// Mean loss over its items, before its update.
    pub(super) loss: f64,
    /// Gradients by parameter, before clipping.
    pub(super) gradients: Vec<Vec<f32>>,
    /// The norm of all of them.
    pub(super) norm: f64,
    /// Learning rate.
    pub(super) rate: f64,
    figures: Metrics,
    pub(super) tokens: usize,
}

impl<'a> Stepper<'a> {
    /// At the beginning.
    ///
    /// # Errors
    /// A session without a row to learn from.
    pub(super) fn new(session: &'a dyn Session, optim: &'a Optim, run: &'a Run) -> Result<Self, TrainError> {
        let order = RowOrder::of(session, run)?;
        let parameters = session.parameters();
        let optimiser = AdamW::new(&parameters, optim)?;
        Ok(Self { session, optim, run, parameters, optimiser, order, ranks: None })
    }

    /// The same on the rows of one of several workers, counted from 0.
    ///
    /// # Errors
    /// Fewer rows than workers.
    pub(super) fn of_worker(self, worker: usize, workers: usize) -> Result<Self, TrainError> {
        Ok(Self { order: RowOrder::of_worker(self.session, self.run, worker, workers)?, ..self })
    }

    /// The same, with the batches of its steps shared.
    pub(super) fn among(self, ranks: Option<&'a Ranks>) -> Self {
        Self { ranks, ..self }
    }

    /// What is trained, by name.
    pub(super) fn parameters(&self) -> &[(String, Tensor)] {
        &self.parameters
    }

    /// Learning rate of a step counted from 0.
    pub(super) fn rate(&self, step: usize) -> f64 {
        self.optim.lr * rate(self.optim, step, self.order.steps())
    }

    /// Does a step counted from 0.
    ///
    /// # Errors
    /// The task's; a loss or gradient that is not finite.
    pub(super) fn step(&mut self, step: usize) -> Result<Stepped, TrainError> {
        self.step_on(step, self.order.batches(step), self.rate(step))
    }

    /// [`Stepper::step`] on these rows at this learning rate.
    ///
    /// # Errors
    /// As [`Stepper::step`].
    pub(super) fn step_on(&mut self, step: usize, batches: Vec<Vec<usize>>, rate: f64) -> Result<Stepped, TrainError> {
        if let Some(ranks) = self.ranks {
            ranks.begin(step, self.optimiser.slots())?;
        }
        let trained = (self.session, self.parameters.as_slice());
        let (loss, gradients, figures, tokens) = accumulate(trained, &batches, step + 1, self.ranks)?;
        let norm = self.optimiser.step(&gradients, rate)?;
        if !norm.is_finite() {
            return Err(TrainError::NotFinite { step: step + 1, what: "the gradient" });
        }
        Ok(Stepped { batches, loss, gradients, norm, rate, figures, tokens })
    }

    /// Whether the state after so many steps is evaluated.
    pub(super) fn evaluates_after(&self, done: usize) -> bool {
        done == self.order.steps() || self.run.eval_every > 0 && done.is_multiple_of(self.run.eval_every)
    }

    /// Figures of the state after so many steps.
    ///
    /// # Errors
    /// The task's.
    pub(super) fn evaluate(&self, done: usize) -> Result<Metrics, TrainError> {
        self.session.evaluate().map_err(|error| TrainError::Task { step: done, error })
    }

    /// Tokens of the steps before so many are done.
    pub(super) fn seen_before(&self, done: usize) -> usize {
        self.order.before(done, |row| self.session.tokens(row))
    }

    /// The figures of a step counted from 1, and the line of them that is written down; `seen` tokens with its own.
    pub(super) fn line(
        &self,
        step: usize,
        stepped: &Stepped,
        seen: usize,
        evaluated: Metrics,
    ) -> (Map<String, Value>, String) {
        let mut record = Map::new();
        record.insert("step".into(), json!(step));
        record.insert("epoch".into(), json!(self.order.epoch_after(step - 1)));
        record.insert("loss".into(), json!(stepped.loss));
        record.insert("grad_norm".into(), json!(stepped.norm));
        record.insert("learning_rate".into(), json!(stepped.rate));
        record.insert("num_tokens".into(), json!(seen));
        let figures = stepped.figures.iter().copied().chain(evaluated);
        record.extend(figures.map(|(name, value)| (name.to_owned(), json!(value))));
        let line = serde_json::to_string(&record).expect("numbers have a text") + "\n";
        (record, line)
    }

    /// What a transcript of the run begins with, from the state at the beginning and the digests of all rows.
    pub(super) fn head(&self, identity: &RunIdentity, rows: &[Hash]) -> TranscriptHead {
        TranscriptHead {
            identity: identity.clone(),
            seed: self.run.seed,
            steps: self.order.steps() as u64,
            data: transcript::root(rows.to_vec()),
            values: transcript::roots(self.optimiser.slots()).values,
        }
    }

    /// What the transcript says of a step counted from 1 that was just done; `line` is that of the metrics file.
    pub(super) fn written(&self, step: usize, stepped: &Stepped, line: &str, rows: &[Hash]) -> StepRecord {
        let slots = self.optimiser.slots();
        StepRecord {
            step: step as u64,
            rows: transcript::rows(&stepped.batches, rows),
            rate: stepped.rate.to_bits(),
            figures: transcript::figures(line),
            gradients: transcript::root_of(slots, &stepped.gradients),
            after: transcript::roots(slots),
        }
    }
}

/// Mean loss over all items of the step, its gradient by parameter, metrics as means over rows, tokens.
type StepSums = (f64, Vec<Vec<f32>>, Metrics, usize);

fn accumulate(
    (session, parameters): (&dyn Session, &[(String, Tensor)]),
    batches: &[Vec<usize>],
    step: usize,
    ranks: Option<&Ranks>,
) -> Result<StepSums, TrainError> {
    let all = || batches.iter().flatten();
    let rows: Vec<usize> = all().copied().collect();
    let window = StepWindow { step: step - 1, rows: &rows };
    let items: usize = all().map(|&row| session.items(row)).sum();
    let mut gradients: Vec<Vec<f32>> = parameters.iter().map(|(_, p)| vec![0.0; p.elem_count()]).collect();
    let (mut loss, mut metrics) = (0.0, Metrics::new());
    for (nth, batch) in batches.iter().enumerate() {
        let result = match ranks {
            Some(ranks) => ranks.loss((nth, batch), window, (session, parameters), &metrics)?,
            None => session.loss(batch, window).map_err(|error| TrainError::Task { step, error })?,
        };
        loss += result.sum;
        if !loss.is_finite() {
            return Err(TrainError::NotFinite { step, what: "the loss" });
        }
        for ((name, _), sum) in parameters.iter().zip(&mut gradients) {
            let gradient = result.gradients.get(name).ok_or_else(|| TrainError::NoGradient(name.clone()))?;
            let before = trace::on().then(|| Tensor::from_slice(sum, gradient.shape(), &Device::Cpu)).transpose()?;
            let values = gradient.flatten_all()?.to_vec1::<f32>()?;
            sum.iter_mut().zip(values).for_each(|(sum, g)| *sum += g);
            // What the first batch is added to is nothing.
            let inputs =
                before.map(|before| if nth == 0 { vec![gradient.clone()] } else { vec![before, gradient.clone()] });
            shown(sum, gradient.shape(), Operation::Accumulate {}, inputs)?;
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
    for ((_, parameter), gradient) in parameters.iter().zip(&mut gradients) {
        let shape = parameter.shape();
        let sum = trace::on().then(|| Tensor::from_slice(gradient, shape, &Device::Cpu)).transpose()?;
        gradient.iter_mut().for_each(|g| *g *= share as f32);
        shown(gradient, shape, Operation::Mean { items: items as u64 }, sum.map(|sum| vec![sum]))?;
    }
    metrics.iter_mut().for_each(|(_, sum)| *sum /= rows.len() as f64);
    Ok((loss * share, gradients, metrics, all().map(|&row| session.tokens(row)).sum()))
}

/// Shows an operation that gave these numbers, where somebody looks on: then it has inputs.
fn shown(
    numbers: &mut Vec<f32>,
    shape: &Shape,
    operation: Operation,
    inputs: Option<Vec<Tensor>>,
) -> candle_core::Result<()> {
    let Some(inputs) = inputs else { return Ok(()) };
    let [after] = trace::seen([Tensor::from_slice(numbers, shape, &Device::Cpu)?], || Ok((operation, inputs)))?;
    *numbers = after.flatten_all()?.to_vec1()?;
    Ok(())
}

/// Share of the peak learning rate at a step counted from 0.
pub(super) fn rate(optim: &Optim, step: usize, steps: usize) -> f64 {
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
