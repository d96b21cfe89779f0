//! The losses of the text task, computed on batches of rows padded at their end.

use candle_core::Tensor;
use ftk_adapters::ops::Tokens;
use ftk_adapters::train::{LoraTensors, Train, from_host, log_prob};
use ftk_adapters::weights::Weights;
use ftk_recipes::{Loss, Metrics, Reference, Session, TaskError};

use super::encode::{Pair, Sequence};
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
}

/// Log-probabilities of the scored ids of some sequences, one after another.
struct Scores {
    /// `(scored ids)`.
    log_probs: Tensor,
    values: Vec<f32>,
    /// Scored ids of each sequence.
    lengths: Vec<usize>,
}

impl Scores {
    /// Sum for each sequence.
    fn sums(&self) -> Vec<f64> {
        let mut rest = self.values.as_slice();
        let mut next = |&length: &usize| {
            let (of_sequence, after) = rest.split_at(length);
            rest = after;
            of_sequence.iter().map(|&value| f64::from(value)).sum()
        };
        self.lengths.iter().map(&mut next).collect()
    }
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
        Self { network, weights, trained, start, dpo, rows, held_out, batch }
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

    fn score(&self, adapter: Option<&LoraTensors>, sequences: &[&Sequence]) -> Result<Scores, TaskError> {
        let seq = sequences.iter().map(|sequence| sequence.ids.len()).max().unwrap_or(0);
        let (mut ids, mut rows, mut labels) = (Vec::new(), Vec::new(), Vec::new());
        for (index, sequence) in sequences.iter().enumerate() {
            ids.extend(&sequence.ids);
            // Causal attention: what stands at the end is seen by nobody.
            ids.resize((index + 1) * seq, 0);
            for position in (1..sequence.ids.len()).filter(|&position| sequence.scored[position]) {
                rows.push(index * seq + position - 1);
                labels.push(sequence.ids[position]);
            }
        }
        let tokens = Tokens::new(sequences.len(), seq, ids);
        let logits = self.network.forward(&mut Train::new(&self.weights, adapter), &tokens, &rows)?;
        let labels = Tensor::from_slice(&labels, labels.len(), logits.device())?;
        let log_probs = log_prob(&logits.squeeze(0)?, &labels)?;
        let values = log_probs.to_vec1()?;
        Ok(Scores { log_probs, values, lengths: sequences.iter().map(|sequence| sequence.items()).collect() })
    }

    fn sft(&self, adapter: Option<&LoraTensors>, rows: &[&Sequence]) -> Result<Loss, TaskError> {
        let scores = self.score(adapter, rows)?;
        let loss = -scores.sums().iter().sum::<f64>();
        let sum = from_host(&scores.log_probs, loss, vec![-1.0; scores.values.len()])?;
        Ok(Loss { sum, metrics: Metrics::new() })
    }

    fn dpo(&self, adapter: Option<&LoraTensors>, pairs: &[&Pair]) -> Result<Loss, TaskError> {
        let sequences: Vec<&Sequence> = pairs.iter().flat_map(|pair| [&pair.chosen, &pair.rejected]).collect();
        // The same batch as the policy's: where the two models are equal, so are the figures, to the bit.
        let references = self.score(self.reference(), &sequences)?.sums();
        let scores = self.score(adapter, &sequences)?;
        let beta = self.dpo.beta;
        let mut loss = 0.0;
        let mut gradient = Vec::with_capacity(scores.values.len());
        let [mut chosen, mut rejected, mut accurate, mut chosen_sum, mut rejected_sum] = [0.0; 5];
        for ((policy, lengths), reference) in
            scores.sums().chunks(2).zip(scores.lengths.chunks(2)).zip(references.chunks(2))
        {
            let rewards = [beta * (policy[0] - reference[0]), beta * (policy[1] - reference[1])];
            let margin = rewards[0] - rewards[1];
            // -log sigmoid(margin), without overflow on either side.
            loss += (-margin).max(0.0) + (-margin.abs()).exp().ln_1p();
            let slope = (beta / (1.0 + margin.exp())) as f32;
            gradient.extend(std::iter::repeat_n(-slope, lengths[0]));
            gradient.extend(std::iter::repeat_n(slope, lengths[1]));
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
        Ok(Loss { sum: from_host(&scores.log_probs, loss, gradient)?, metrics })
    }

    /// The adapter of the reference model.
    fn reference(&self) -> Option<&LoraTensors> {
        match self.dpo.reference {
            Reference::Base => None,
            Reference::Start => self.start.as_ref(),
        }
    }

    fn batch_loss(&self, adapter: Option<&LoraTensors>, rows: &Rows, batch: &[usize]) -> Result<Loss, TaskError> {
        match rows {
            Rows::Sft(all) => self.sft(adapter, &batch.iter().map(|&row| &all[row]).collect::<Vec<_>>()),
            Rows::Dpo(all) => self.dpo(adapter, &batch.iter().map(|&row| &all[row]).collect::<Vec<_>>()),
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
        let owned = |(name, tensor): (&str, &Tensor)| (name.to_owned(), tensor.clone());
        match &self.trained {
            Trained::Adapter(adapter) => adapter.tensors().map(|(name, tensor)| (name, tensor.clone())).collect(),
            Trained::Base => self.weights.iter().map(owned).collect(),
        }
    }

    fn loss(&self, rows: &[usize]) -> Result<Loss, TaskError> {
        self.batch_loss(self.adapter(), &self.rows, rows)
    }

    fn evaluate(&self) -> Result<Metrics, TaskError> {
        let Some(held_out) = &self.held_out else { return Ok(Metrics::new()) };
        // Detached: no graph is built.
        let frozen = self.adapter().map(LoraTensors::detached);
        let rows: Vec<usize> = (0..held_out.len()).filter(|&row| held_out.items(row) > 0).collect();
        let items: usize = rows.iter().map(|&row| held_out.items(row)).sum();
        let (mut loss, mut accurate, mut margins) = (0.0, 0.0, 0.0);
        for batch in rows.chunks(self.batch) {
            let result = self.batch_loss(frozen.as_ref(), held_out, batch)?;
            loss += f64::from(result.sum.to_scalar::<f32>()?);
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
