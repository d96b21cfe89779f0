//! The losses of the text task, computed on batches of rows that lie one after another.

use std::collections::BTreeMap;

use candle_core::Tensor;
use ftk_adapters::ops::Tokens;
use ftk_adapters::train::{Learns, LoraTensors, Train};
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

/// Log-probabilities of the scored ids of some sequences.
struct Scores<'a> {
    pass: Train<'a>,
    log_probs: Tensor,
    /// Sum for each sequence.
    sums: Vec<f64>,
    /// Scored ids of each sequence.
    lengths: Vec<usize>,
}

impl Scores<'_> {
    /// Gradients, given that of every sequence's sum; none of a pass that was not recorded.
    fn backward(self, of_sums: impl IntoIterator<Item = f64>) -> Result<BTreeMap<String, Tensor>, TaskError> {
        let of_sums = of_sums.into_iter().zip(&self.lengths);
        let gradient: Vec<f32> = of_sums.flat_map(|(g, &length)| std::iter::repeat_n(g as f32, length)).collect();
        let gradient = Tensor::from_vec(gradient, self.log_probs.shape(), self.log_probs.device())?;
        Ok(self.pass.backward(&self.log_probs, gradient)?.into_trained())
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

    /// Runs sequences in a pass, `together` of them at a time beginning alike; `known` is the gradient of every
    /// log-probability, where it does not depend on them.
    fn score<'a>(
        &self,
        mut pass: Train<'a>,
        (sequences, together): (&[&Sequence], usize),
        known: Option<f32>,
    ) -> Result<Scores<'a>, TaskError> {
        let (mut rows, mut labels, mut tokens) = (Vec::new(), Vec::new(), Tokens::default());
        // Only rows of one text are taken together.
        let texts: Vec<_> = sequences.iter().flat_map(|sequence| sequence.texts()).collect();
        for alike in texts.chunks(together) {
            let ids: Vec<&[u32]> = alike.iter().map(|&(ids, _)| ids).collect();
            for (placed, (ids, scored)) in tokens.push_alike(&ids).iter().zip(alike) {
                for position in (1..ids.len()).filter(|&position| scored[position]) {
                    rows.push(placed.row(position - 1));
                    labels.push(ids[position]);
                }
            }
        }
        let known = known.map(|known| vec![known; labels.len()]);
        pass.score(labels, known);
        let log_probs = self.network.forward(&mut pass, &tokens, &rows)?;
        let values = log_probs.to_vec1::<f32>()?;
        let lengths: Vec<usize> = sequences.iter().map(|sequence| sequence.items()).collect();
        let mut rest = values.as_slice();
        let sum = |&length: &usize| {
            let (of_sequence, after) = rest.split_at(length);
            rest = after;
            of_sequence.iter().map(|&value| f64::from(value)).sum()
        };
        let sums = lengths.iter().map(sum).collect();
        Ok(Scores { pass, log_probs, sums, lengths })
    }

    /// A pass of the model as it stands, recorded if it is to be trained on.
    fn pass(&self, record: bool) -> Train<'_> {
        let adapter = self.adapter();
        match (&self.trained, record) {
            (_, false) => Train::new(&self.weights, adapter),
            (Trained::Adapter(_), true) => Train::recording(&self.weights, adapter, Learns::Adapter),
            (Trained::Base, true) => Train::recording(&self.weights, adapter, Learns::Base),
        }
    }

    fn sft(&self, record: bool, rows: &[&Sequence]) -> Result<Loss, TaskError> {
        let scores = self.score(self.pass(record), (rows, 1), Some(-1.0))?;
        let sum = -scores.sums.iter().sum::<f64>();
        Ok(Loss { sum, gradients: scores.backward(rows.iter().map(|_| -1.0))?, metrics: Metrics::new() })
    }

    fn dpo(&self, record: bool, pairs: &[&Pair]) -> Result<Loss, TaskError> {
        let sequences: Vec<&Sequence> = pairs.iter().flat_map(|pair| [&pair.chosen, &pair.rejected]).collect();
        // The same batch as the policy's: where the two models are equal, so are the figures, to the bit.
        let references = self.score(Train::new(&self.weights, self.reference()), (&sequences, 2), None)?.sums;
        let scores = self.score(self.pass(record), (&sequences, 2), None)?;
        let beta = self.dpo.beta;
        let mut sum = 0.0;
        let mut gradient = Vec::with_capacity(sequences.len());
        let [mut chosen, mut rejected, mut accurate, mut chosen_sum, mut rejected_sum] = [0.0; 5];
        for (policy, reference) in scores.sums.chunks(2).zip(references.chunks(2)) {
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
        Ok(Loss { sum, gradients: scores.backward(gradient)?, metrics })
    }

    /// The adapter of the reference model.
    fn reference(&self) -> Option<&LoraTensors> {
        match self.dpo.reference {
            Reference::Base => None,
            Reference::Start => self.start.as_ref(),
        }
    }

    fn batch_loss(&self, record: bool, rows: &Rows, batch: &[usize]) -> Result<Loss, TaskError> {
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
        let owned = |(name, tensor): (&str, &Tensor)| (name.to_owned(), tensor.clone());
        match &self.trained {
            Trained::Adapter(adapter) => adapter.tensors().map(|(name, tensor)| (name, tensor.clone())).collect(),
            Trained::Base => self.weights.iter().map(owned).collect(),
        }
    }

    fn loss(&self, rows: &[usize], _: usize) -> Result<Loss, TaskError> {
        self.batch_loss(true, &self.rows, rows)
    }

    fn evaluate(&self) -> Result<Metrics, TaskError> {
        let Some(held_out) = &self.held_out else { return Ok(Metrics::new()) };
        let rows: Vec<usize> = (0..held_out.len()).filter(|&row| held_out.items(row) > 0).collect();
        let items: usize = rows.iter().map(|&row| held_out.items(row)).sum();
        let (mut loss, mut accurate, mut margins) = (0.0, 0.0, 0.0);
        for batch in rows.chunks(self.batch) {
            let result = self.batch_loss(false, held_out, batch)?;
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
