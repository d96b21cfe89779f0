//! The losses of the text task, computed on batches of rows that lie one after another.

use candle_core::Tensor;
use ftk_adapters::train::{Learns, LoraTensors};
use ftk_adapters::weights::{Weight, Weights};
use ftk_recipes::{Loss, Metrics, Reference, Session, TaskError};

use super::encode::{Pair, Sequence};
use super::pass::{Batch, Model};
use crate::models::Network;

/// Rows of one task.
#[derive(Clone, Debug)]
pub enum Rows {
    /// Supervised fine-tuning.
    Sft(Vec<Sequence>),
    /// Preference optimisation.
    Dpo(Vec<Pair>),
}

impl Rows {
    /// Number of rows.
    pub fn len(&self) -> usize {
        match self {
            Self::Sft(rows) => rows.len(),
            Self::Dpo(rows) => rows.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What the loss is a mean over: scored ids, or one for a pair of which both completions keep an id.
    pub fn items(&self, row: usize) -> usize {
        match self {
            Self::Sft(rows) => rows[row].items(),
            Self::Dpo(rows) => usize::from(rows[row].chosen.items() > 0 && rows[row].rejected.items() > 0),
        }
    }

    /// Ids in a row.
    pub fn tokens(&self, row: usize) -> usize {
        match self {
            Self::Sft(rows) => rows[row].ids.len(),
            Self::Dpo(rows) => rows[row].chosen.ids.len() + rows[row].rejected.ids.len(),
        }
    }
}

/// What is trained.
#[derive(Debug)]
pub enum Trained {
    /// Adapter factors that are variables, on a frozen base.
    Adapter(LoraTensors),
    /// The weights themselves, which are variables.
    Base,
}

/// Rows at an optimiser step.
#[derive(Clone, Copy)]
struct Visit<'a> {
    rows: &'a [usize],
    step: usize,
}

/// Strength and reference of DPO.
#[derive(Debug)]
pub struct DpoSettings {
    /// Strength of the pull towards the reference.
    pub beta: f64,
    /// The reference model.
    pub reference: Reference,
}

/// A text task opened on rows and a model.
#[derive(Debug)]
pub struct TextSession {
    network: Network,
    weights: Weights,
    trained: Trained,
    /// The adapter training started from, frozen.
    start: Option<LoraTensors>,
    dpo: DpoSettings,
    rows: Rows,
    held_out: Option<Rows>,
    /// Rows of a held-out batch.
    batch: usize,
    recompute: bool,
    dropout: f64,
    seed: u64,
}

impl TextSession {
    /// Opens the task. For [`Reference::Start`], `start` must be given.
    pub fn new(
        network: Network,
        weights: Weights,
        trained: Trained,
        start: Option<LoraTensors>,
        dpo: DpoSettings,
        (rows, held_out, batch): (Rows, Option<Rows>, usize),
    ) -> Self {
        Self { network, weights, trained, start, dpo, rows, held_out, batch, recompute: false, dropout: 0.0, seed: 0 }
    }

    /// Computes activations again on the way back instead of keeping them.
    pub fn recomputing(self, recompute: bool) -> Self {
        Self { recompute, ..self }
    }

    /// Drops this share of what enters an adapter's factors in supervised training.
    pub fn dropping(self, dropout: f64, seed: u64) -> Self {
        Self { dropout, seed, ..self }
    }

    /// The adapter as it stands; `None` where the base is trained.
    pub fn adapter(&self) -> Option<&LoraTensors> {
        match &self.trained {
            Trained::Adapter(adapter) => Some(adapter),
            Trained::Base => None,
        }
    }

    /// The base's weights as they stand.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// The model as it stands, to be trained on if `record`.
    fn policy(&self, record: bool) -> Model<'_> {
        let learns = match self.trained {
            Trained::Adapter(_) => Learns::Adapter,
            Trained::Base => Learns::Base,
        };
        let (network, weights, adapter) = (&self.network, &self.weights, self.adapter());
        Model { network, weights, adapter, learns: record.then_some(learns), recompute: self.recompute }
    }

    fn sft(&self, record: Option<Visit<'_>>, rows: &[&Sequence]) -> Result<Loss, TaskError> {
        let keys: Vec<u64> =
            record.iter().flat_map(|visit| visit.rows.iter().map(|&row| self.key(visit, row))).collect();
        let dropout = (record.is_some() && self.dropout > 0.0).then_some((self.dropout, keys.as_slice()));
        let batch = Batch { sequences: rows, together: 1, known: Some(-1.0), dropout };
        let scores = self.policy(record.is_some()).score(batch)?;
        let sum = -scores.sums().iter().sum::<f64>();
        Ok(Loss { sum, gradients: scores.backward(&vec![-1.0; rows.len()])?, metrics: Metrics::new() })
    }

    /// A key for what is random about a row at a step.
    fn key(&self, visit: &Visit<'_>, row: usize) -> u64 {
        let mut hash = blake3::Hasher::new_derive_key("ftk dropout of a row");
        for part in [self.seed, visit.step as u64, row as u64] {
            hash.update(&part.to_le_bytes());
        }
        u64::from_le_bytes(hash.finalize().as_bytes()[..8].try_into().expect("a hash has 32 bytes"))
    }

    fn dpo(&self, record: Option<Visit<'_>>, pairs: &[&Pair]) -> Result<Loss, TaskError> {
        let sequences: Vec<&Sequence> = pairs.iter().flat_map(|pair| [&pair.chosen, &pair.rejected]).collect();
        let batch = Batch { sequences: &sequences, together: 2, known: None, dropout: None };
        // The same batch as the policy's: where the two models are equal, so are the figures, to the bit.
        let references = Model { adapter: self.reference(), ..self.policy(false) }.score(batch)?.sums();
        let scores = self.policy(record.is_some()).score(batch)?;
        let beta = self.dpo.beta;
        let mut sum = 0.0;
        let mut gradient = Vec::with_capacity(sequences.len());
        let [mut chosen, mut rejected, mut accurate, mut chosen_sum, mut rejected_sum] = [0.0; 5];
        for (policy, reference) in scores.sums().chunks(2).zip(references.chunks(2)) {
            let rewards = [beta * (policy[0] - reference[0]), beta * (policy[1] - reference[1])];
            let margin = rewards[0] - rewards[1];
            // -log sigmoid(margin), without overflow on either side.
            sum += (-margin).max(0.0) + (-margin.abs()).exp().ln_1p();
            let slope = beta / (1.0 + margin.exp());
            gradient.extend([-slope, slope]);
            chosen += rewards[0];
            rejected += rewards[1];
            accurate += f64::from(u8::from(margin > 0.0));
            chosen_sum += policy[0];
            rejected_sum += policy[1];
        }
        let metrics = vec![
            ("rewards/chosen", chosen),
            ("rewards/rejected", rejected),
            ("rewards/margins", chosen - rejected),
            ("rewards/accuracies", accurate),
            ("logps/chosen", chosen_sum),
            ("logps/rejected", rejected_sum),
        ];
        Ok(Loss { sum, gradients: scores.backward(&gradient)?, metrics })
    }

    /// The adapter of the reference model.
    fn reference(&self) -> Option<&LoraTensors> {
        match self.dpo.reference {
            Reference::Base => None,
            Reference::Start => self.start.as_ref(),
        }
    }

    fn batch_loss(&self, record: Option<Visit<'_>>, rows: &Rows, batch: &[usize]) -> Result<Loss, TaskError> {
        match rows {
            Rows::Sft(all) => self.sft(record, &batch.iter().map(|&row| &all[row]).collect::<Vec<_>>()),
            Rows::Dpo(all) => self.dpo(record, &batch.iter().map(|&row| &all[row]).collect::<Vec<_>>()),
        }
    }
}

impl Session for TextSession {
    fn rows(&self) -> usize {
        self.rows.len()
    }

    fn items(&self, row: usize) -> usize {
        self.rows.items(row)
    }

    fn tokens(&self, row: usize) -> usize {
        self.rows.tokens(row)
    }

    fn parameters(&self) -> Vec<(String, Tensor)> {
        match &self.trained {
            Trained::Adapter(adapter) => adapter.tensors().map(|(name, tensor)| (name, tensor.clone())).collect(),
            Trained::Base => {
                let held = |(name, weight): (&str, &Weight)| match weight {
                    Weight::Dense(tensor) => Some((name.to_owned(), tensor.clone())),
                    Weight::Quantised { .. } => None,
                };
                self.weights.iter().filter_map(held).collect()
            }
        }
    }

    fn loss(&self, rows: &[usize], step: usize) -> Result<Loss, TaskError> {
        self.batch_loss(Some(Visit { rows, step }), &self.rows, rows)
    }

    fn evaluate(&self) -> Result<Metrics, TaskError> {
        let Some(held_out) = &self.held_out else { return Ok(Metrics::new()) };
        let rows: Vec<usize> = (0..held_out.len()).filter(|&row| held_out.items(row) > 0).collect();
        let items: usize = rows.iter().map(|&row| held_out.items(row)).sum();
        let (mut loss, mut accurate, mut margins) = (0.0, 0.0, 0.0);
        for batch in rows.chunks(self.batch) {
            let result = self.batch_loss(None, held_out, batch)?;
            loss += result.sum;
            for (name, value) in result.metrics {
                match name {
                    "rewards/accuracies" => accurate += value,
                    "rewards/margins" => margins += value,
                    _ => {}
                }
            }
        }
        let mut metrics = vec![("eval_loss", loss / items as f64)];
        if matches!(held_out, Rows::Dpo(_)) {
            metrics.push(("eval_rewards/accuracies", accurate / items as f64));
            metrics.push(("eval_rewards/margins", margins / items as f64));
        }
        Ok(metrics)
    }
}
