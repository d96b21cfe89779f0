//! The losses of the text task, computed on batches of rows that lie one after another.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use candle_core::Tensor;
use ftk_adapters::ops::Tokens;
use ftk_adapters::train::{Learns, LoraTensors, Train};
use ftk_adapters::weights::Weights;
use ftk_recipes::{Loss, Metrics, Reference, Session, TaskError, Window};

use super::encode::{Pair, Sequence};
use super::preference::{Completion, Preference};
use super::references::{References, Sums};
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
            Self::Dpo(rows) => usize::from(rows[row].both()),
        }
    }

    /// The pairs; none of another task.
    fn pairs(&self) -> &[Pair] {
        match self {
            Self::Sft(_) => &[],
            Self::Dpo(pairs) => pairs,
        }
    }

    /// Ids a supervised loss looks at: the scored ones, of a pair those of the chosen completion.
    fn supervised(&self, row: usize) -> usize {
        match self {
            Self::Sft(rows) => rows[row].items(),
            Self::Dpo(pairs) => pairs[row].chosen.items(),
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

impl Pair {
    /// Whether both completions keep a scored id.
    fn both(&self) -> bool {
        self.chosen.items() > 0 && self.rejected.items() > 0
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

/// What DPO minimises.
#[derive(Debug)]
pub struct DpoSettings {
    /// The cost of a pair.
    pub preference: Preference,
    /// Weight of the supervised loss on the chosen completions: the mean over their tokens in a step.
    pub sft_weight: f64,
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
    rows: Part,
    held_out: Option<Part>,
    /// Rows of a held-out batch.
    batch: usize,
}

/// Rows, and the reference's figures of each where these were computed before.
#[derive(Debug)]
struct Part {
    rows: Rows,
    references: Option<Vec<Option<Sums>>>,
}

/// Time after which newly computed figures of the reference are written down.
const KEEP: Duration = Duration::from_secs(60);

/// Log-probabilities of the scored ids of some sequences.
struct Scores<'a> {
    pass: Train<'a>,
    log_probs: Tensor,
    /// Sum for each sequence.
    sums: Vec<f64>,
    /// Scored ids of each sequence.
    lengths: Vec<usize>,
    /// Those of them that were the most likely ones.
    hits: Vec<usize>,
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
        let part = |rows| Part { rows, references: None };
        Self { network, weights, trained, start, dpo, rows: part(rows), held_out: held_out.map(part), batch }
    }

    /// Computes the reference's figures of every pair once, before training, but for those that
    /// `references` knows, and has them written down. Each pair is scored by itself: its figures do not
    /// depend on other rows. Gives the number of pairs that were computed; `progress` gets that and how
    /// many are to be.
    ///
    /// # Errors
    /// The device's and the file system's; a log-probability that is not finite.
    pub fn refer(
        &mut self,
        references: &mut References,
        mut progress: impl FnMut(usize, usize),
    ) -> Result<usize, TaskError> {
        let parts = || std::iter::once(&self.rows).chain(&self.held_out);
        let pairs = || parts().flat_map(|part| part.rows.pairs());
        let unknown: Vec<&Pair> = pairs().filter(|pair| pair.both() && references.get(pair).is_none()).collect();
        let mut kept = Instant::now();
        for (done, pair) in unknown.iter().enumerate() {
            let pass = Train::new(&self.weights, self.reference());
            let sums = self.score(pass, (&[&pair.chosen, &pair.rejected], 2), None)?.sums;
            let sums = [sums[0], sums[1]];
            if !sums.iter().all(|sum| sum.is_finite()) {
                return Err("the reference gives a pair a log-probability that is not finite".into());
            }
            references.insert(pair, sums);
            progress(done + 1, unknown.len());
            if kept.elapsed() > KEEP || done + 1 == unknown.len() {
                references.write()?;
                kept = Instant::now();
            }
        }
        let computed = unknown.len();
        for part in std::iter::once(&mut self.rows).chain(&mut self.held_out) {
            part.references = Some(part.rows.pairs().iter().map(|pair| references.get(pair)).collect());
        }
        Ok(computed)
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
        for alike in sequences.chunks(together) {
            let ids: Vec<&[u32]> = alike.iter().map(|sequence| sequence.ids.as_slice()).collect();
            for (placed, sequence) in tokens.push_alike(&ids).iter().zip(alike) {
                for position in (1..sequence.ids.len()).filter(|&position| sequence.scored[position]) {
                    rows.push(placed.row(position - 1));
                    labels.push(sequence.ids[position]);
                }
            }
        }
        let known = known.map(|known| vec![known; labels.len()]);
        pass.score(labels, known);
        let log_probs = self.network.forward(&mut pass, &tokens, &rows)?;
        let values = log_probs.to_vec1::<f32>()?;
        let lengths: Vec<usize> = sequences.iter().map(|sequence| sequence.items()).collect();
        let (mut sums, mut hits, mut first) = (Vec::new(), Vec::new(), 0);
        for length in &lengths {
            let of_sequence = first..first + length;
            sums.push(values[of_sequence.clone()].iter().map(|&value| f64::from(value)).sum());
            hits.push(pass.hits()[of_sequence].iter().filter(|&&hit| hit).count());
            first += length;
        }
        Ok(Scores { pass, log_probs, sums, lengths, hits })
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

    fn sft(&self, record: bool, rows: &[&Sequence], share: f64) -> Result<Loss, TaskError> {
        let scores = self.score(self.pass(record), (rows, 1), Some(-1.0))?;
        let sum = -scores.sums.iter().sum::<f64>();
        let hits = scores.hits.iter().sum::<usize>() as f64;
        let metrics = vec![("mean_token_accuracy", hits * share)];
        Ok(Loss { sum, gradients: scores.backward(rows.iter().map(|_| -1.0))?, metrics })
    }

    fn dpo(&self, record: bool, pairs: &[&Pair], known: Option<Vec<Sums>>, share: f64) -> Result<Loss, TaskError> {
        let sequences: Vec<&Sequence> = pairs.iter().flat_map(|pair| [&pair.chosen, &pair.rejected]).collect();
        let references = match known {
            Some(known) => known,
            None => {
                // The same batch as the policy's: where the two models are equal, so are the figures, to the bit.
                let scores = self.score(Train::new(&self.weights, self.reference()), (&sequences, 2), None)?;
                scores.sums.as_chunks().0.to_vec()
            }
        };
        let scores = self.score(self.pass(record), (&sequences, 2), None)?;
        // The host takes the mean over pairs; here it is to be one over tokens.
        let supervised = self.dpo.sft_weight * share;
        let mut sum = 0.0;
        let mut gradient = Vec::with_capacity(sequences.len());
        let [mut chosen, mut rejected, mut accurate, mut chosen_sum, mut rejected_sum, mut hits] = [0.0; 6];
        for (index, reference) in references.iter().enumerate() {
            let [left, right] = [0, 1].map(|side| Completion {
                policy: scores.sums[2 * index + side],
                reference: reference[side],
                tokens: scores.lengths[2 * index + side],
            });
            let verdict = self.dpo.preference.judge(left, right);
            sum += verdict.loss - supervised * left.policy;
            gradient.extend([verdict.slopes[0] - supervised, verdict.slopes[1]]);
            chosen += verdict.rewards[0];
            rejected += verdict.rewards[1];
            accurate += f64::from(u8::from(verdict.accurate));
            chosen_sum += left.policy;
            rejected_sum += right.policy;
            hits += scores.hits[2 * index] as f64;
        }
        let metrics = vec![
            ("rewards/chosen", chosen),
            ("rewards/rejected", rejected),
            ("rewards/margins", chosen - rejected),
            ("rewards/accuracies", accurate),
            ("logps/chosen", chosen_sum),
            ("logps/rejected", rejected_sum),
            ("mean_token_accuracy", hits * share),
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

    /// The loss of a batch out of the rows of a step.
    fn batch_loss(&self, record: bool, part: &Part, batch: &[usize], step: &[usize]) -> Result<Loss, TaskError> {
        // Rows for each supervised token of the step: turns the host's means over rows into means over tokens.
        let share = step.len() as f64 / step.iter().map(|&row| part.rows.supervised(row)).sum::<usize>() as f64;
        match &part.rows {
            Rows::Sft(all) => self.sft(record, &batch.iter().map(|&row| &all[row]).collect::<Vec<_>>(), share),
            Rows::Dpo(all) => {
                let pairs: Vec<&Pair> = batch.iter().map(|&row| &all[row]).collect();
                let known = part.references.as_ref().and_then(|known| batch.iter().map(|&row| known[row]).collect());
                self.dpo(record, &pairs, known, share)
            }
        }
    }
}

/// Figures of a batch, and their names on held-out rows.
const EVALUATED: [(&str, &str); 7] = [
    ("rewards/chosen", "eval_rewards/chosen"),
    ("rewards/rejected", "eval_rewards/rejected"),
    ("rewards/margins", "eval_rewards/margins"),
    ("rewards/accuracies", "eval_rewards/accuracies"),
    ("logps/chosen", "eval_logps/chosen"),
    ("logps/rejected", "eval_logps/rejected"),
    ("mean_token_accuracy", "eval_mean_token_accuracy"),
];

impl Session for TextSession {
    fn rows(&self) -> usize {
        self.rows.rows.len()
    }

    fn items(&self, row: usize) -> usize {
        self.rows.rows.items(row)
    }

    fn tokens(&self, row: usize) -> usize {
        self.rows.rows.tokens(row)
    }

    fn parameters(&self) -> Vec<(String, Tensor)> {
        let owned = |(name, tensor): (&str, &Tensor)| (name.to_owned(), tensor.clone());
        match &self.trained {
            Trained::Adapter(adapter) => adapter.tensors().map(|(name, tensor)| (name, tensor.clone())).collect(),
            Trained::Base => self.weights.iter().map(owned).collect(),
        }
    }

    fn loss(&self, rows: &[usize], window: Window<'_>) -> Result<Loss, TaskError> {
        self.batch_loss(true, &self.rows, rows, window.rows)
    }

    fn evaluate(&self) -> Result<Metrics, TaskError> {
        let Some(held_out) = &self.held_out else { return Ok(Metrics::new()) };
        let rows: Vec<usize> = (0..held_out.rows.len()).filter(|&row| held_out.rows.items(row) > 0).collect();
        let items: usize = rows.iter().map(|&row| held_out.rows.items(row)).sum();
        let mut loss = 0.0;
        let mut sums: BTreeMap<&str, f64> = BTreeMap::new();
        for batch in rows.chunks(self.batch) {
            let result = self.batch_loss(false, held_out, batch, &rows)?;
            loss += result.sum;
            for (name, value) in result.metrics {
                *sums.entry(name).or_default() += value;
            }
        }
        let means =
            EVALUATED.iter().filter_map(|(name, held_out)| Some((*held_out, sums.get(name)? / rows.len() as f64)));
        Ok(std::iter::once(("eval_loss", loss / items as f64)).chain(means).collect())
    }
}
