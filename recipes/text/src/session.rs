//! The losses of the text task, computed on batches of rows that lie one after another.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use candle_core::{DType, Tensor};
use ftk_adapters::train::{Learns, LoraTensors, trace};
use ftk_adapters::weights::{Weight, Weights};
use ftk_networks::Network;
use ftk_recipes::preference::rule::{self, LossConstants, Rule};
use ftk_recipes::preference::{self, ScoredCompletion};
use ftk_recipes::{BatchLoss, Metrics, Reference, Session, StepWindow, TaskError};
use serde_json::Value;

use super::encode::{Pair, ScoredSequence};
use super::examples::{Alone, Examples, completions};
use super::pass::{PassBatch, Scorer};
use super::references::{LogProbSums, References};

/// What is trained.
#[derive(Debug)]
pub enum Trained {
    /// Adapter factors that are variables, on a frozen base.
    Adapter(LoraTensors),
    /// The weights themselves, which are variables.
    Base,
}

/// What preference optimisation minimises.
#[derive(Debug)]
pub struct DpoSettings {
    /// The cost of a row.
    pub loss: LossConstants,
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
    cost: Box<dyn preference::Loss>,
    rows: SessionRows,
    held_out: Option<SessionRows>,
    /// Rows of a held-out batch.
    batch: usize,
    recompute: bool,
    format: DType,
    dropout: f64,
    seed: u64,
    /// The drift of the last step that was asked for, and the rows of that step.
    drift: Mutex<Option<(usize, Vec<usize>, f64)>>,
}

/// Rows, and the reference's figures of each pair of each where these were computed before.
#[derive(Debug)]
struct SessionRows {
    rows: Examples,
    references: Option<Vec<Option<Vec<LogProbSums>>>>,
}

/// Time after which newly computed figures of the reference are written down.
const KEEP: Duration = Duration::from_secs(60);

impl TextSession {
    /// Opens the task. For [`Reference::Start`], `start` must be given.
    pub fn new(
        network: Network,
        weights: Weights,
        trained: Trained,
        start: Option<LoraTensors>,
        dpo: DpoSettings,
        (rows, held_out, batch): (Examples, Option<Examples>, usize),
    ) -> Self {
        let part = |rows| SessionRows { rows, references: None };
        let (rows, held_out) = (part(rows), held_out.map(part));
        let cost = dpo.loss.cost();
        Self {
            network,
            weights,
            trained,
            start,
            dpo,
            cost,
            rows,
            held_out,
            batch,
            recompute: false,
            format: DType::F32,
            dropout: 0.0,
            seed: 0,
            drift: Mutex::new(None),
        }
    }

    /// Computes activations again on the way back instead of keeping them.
    pub fn recomputing(self, recompute: bool) -> Self {
        Self { recompute, ..self }
    }

    /// Computes products with weights and in attention in this number format.
    pub fn multiplying_in(self, format: DType) -> Self {
        Self { format, ..self }
    }

    /// Drops this share of what enters an adapter's factors in supervised training.
    pub fn dropping(self, dropout: f64, seed: u64) -> Self {
        Self { dropout, seed, ..self }
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
        let pairs = || parts().flat_map(|part| part.rows.compared()).flatten();
        let unknown: Vec<&Pair> = pairs().filter(|pair| pair.both() && references.get(pair).is_none()).collect();
        let mut kept = Instant::now();
        for (done, pair) in unknown.iter().enumerate() {
            let batch =
                PassBatch { sequences: &[&pair.chosen, &pair.rejected], alike: &[2], known: None, dropout: None };
            let sums = self.reference().score(batch)?.sums()?;
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
            let of_row = |pairs: &[Pair]| pairs.iter().map(|pair| references.get(pair)).collect();
            part.references = Some(part.rows.compared().into_iter().map(of_row).collect());
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

    /// The model as it stands, to be trained on if `record`.
    fn policy(&self, record: bool) -> Scorer<'_> {
        let learns = match self.trained {
            Trained::Adapter(_) => Learns::Adapter,
            Trained::Base => Learns::Base,
        };
        let (network, weights, adapter) = (&self.network, &self.weights, self.adapter());
        Scorer {
            network,
            weights,
            adapter,
            learns: record.then_some(learns),
            recompute: self.recompute,
            format: self.format,
        }
    }

    fn sft(
        &self,
        record: Option<usize>,
        all: &[ScoredSequence],
        batch: &[usize],
        share: f64,
    ) -> Result<BatchLoss, TaskError> {
        let rows: Vec<&ScoredSequence> = batch.iter().map(|&row| &all[row]).collect();
        let keys: Option<Vec<u64>> =
            record.filter(|_| self.dropout > 0.0).map(|step| batch.iter().map(|&row| self.key(step, row)).collect());
        let dropout = keys.as_ref().map(|keys| (self.dropout, keys.as_slice()));
        let batch = PassBatch { sequences: &rows, alike: &[], known: Some(-1.0), dropout };
        let scores = self.policy(record.is_some()).score(batch)?;
        let sum = -scores.sums()?.iter().sum::<f64>();
        let hits = scores.hits.iter().sum::<usize>() as f64;
        let metrics = vec![("mean_token_accuracy", hits * share)];
        Ok(BatchLoss { sum, gradients: scores.backward(&vec![-1.0; rows.len()])?, metrics })
    }

    /// A key for what is random about a row at a step.
    fn key(&self, step: usize, row: usize) -> u64 {
        let mut hash = blake3::Hasher::new_derive_key("ftk dropout of a row");
        for part in [self.seed, step as u64, row as u64] {
            hash.update(&part.to_le_bytes());
        }
        u64::from_le_bytes(hash.finalize().as_bytes()[..8].try_into().expect("a hash has 32 bytes"))
    }

    fn dpo(
        &self,
        record: bool,
        choices: &[&[Pair]],
        known: Option<Vec<Vec<LogProbSums>>>,
        share: f64,
    ) -> Result<BatchLoss, TaskError> {
        let sequences: Vec<&ScoredSequence> = choices.iter().flat_map(|choice| completions(choice)).collect();
        let sizes: Vec<usize> = choices.iter().map(|choice| choice.len() + 1).collect();
        let batch = PassBatch { sequences: &sequences, alike: &sizes, known: None, dropout: None };
        let references: Vec<f64> = match known {
            _ if !self.cost.has_reference() => vec![0.0; sequences.len()],
            // Every pair of a choice has the figure of the one chosen completion.
            Some(known) => known
                .iter()
                .flat_map(|pairs| pairs.first().map(|it| it[0]).into_iter().chain(pairs.iter().map(|it| it[1])))
                .collect(),
            // The same batch as the policy's: where the two models are equal, so are the figures, to the bit.
            None => self.reference().score(batch)?.sums()?,
        };
        let scores = self.policy(record).score(batch)?;
        let policy = scores.sums()?;
        let completed: Vec<ScoredCompletion> = (policy.iter().zip(&references).zip(&scores.values))
            .map(|((&policy, &reference), values)| ScoredCompletion { policy, reference, tokens: values.len() })
            .collect();
        // The host takes the mean over choices; here it is to be one over tokens.
        let supervised = self.dpo.sft_weight * share;
        let (sum, verdicts) = rule::choices(&*self.cost, &completed, &sizes, supervised);
        let [gradient, sum] = Rule::shown([rule::slopes(&verdicts), vec![sum]], || {
            let (loss, tokens, sizes) = (self.dpo.loss, scores.scored(), sizes.clone());
            let rule = Rule::Choices { loss, sizes, tokens, supervised: supervised.into() };
            Ok((rule, vec![rule::tensor(&policy)?, rule::tensor(&references)?]))
        })?;
        let [mut chosen, mut rejected, mut accurate, mut chosen_sum, mut rejected_sum, mut hits] = [0.0; 6];
        let per_token = self.cost.is_per_token();
        let figure = |it: &ScoredCompletion| if per_token { it.mean() } else { it.policy };
        let (mut rest, mut place) = (completed.as_slice(), 0);
        for (&size, verdict) in sizes.iter().zip(&verdicts) {
            let (choice, after) = rest.split_at(size);
            let (left, right) = (&choice[0], &choice[1..]);
            chosen += verdict.rewards[0];
            rejected += verdict.rewards[1];
            accurate += f64::from(u8::from(verdict.accurate));
            chosen_sum += figure(left);
            rejected_sum += right.iter().map(figure).sum::<f64>() / right.len() as f64;
            hits += scores.hits[place] as f64;
            (rest, place) = (after, place + size);
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
        Ok(BatchLoss { sum: sum[0], gradients: scores.backward(&gradient)?, metrics })
    }

    /// Mean gain over the reference of the completions that rows have from other rows, as the model stands: how far it
    /// has drifted, at least 0.
    fn drift(&self, part: &SessionRows, all: &[Alone], of: &[usize]) -> Result<f64, TaskError> {
        let mut gains = Vec::new();
        for rows in of.chunks(self.batch) {
            let others: Vec<&ScoredSequence> = rows.iter().map(|&row| &all[row].pair.rejected).collect();
            let batch = PassBatch { sequences: &others, alike: &[], known: None, dropout: None };
            let policy = self.policy(false).score(batch)?.sums()?;
            let reference: Vec<f64> = match part.known(rows) {
                Some(known) => known.iter().map(|sums| sums[0][1]).collect(),
                None => self.reference().score(batch)?.sums()?,
            };
            let [gain] = Rule::shown([vec![rule::gain(&policy, &reference)]], || {
                Ok((Rule::Gain {}, vec![rule::tensor(&policy)?, rule::tensor(&reference)?]))
            })?;
            gains.push(gain[0]);
        }
        let [drift] = Rule::shown([vec![rule::drift(&gains, of.len())]], || {
            let gains = gains.iter().map(|&gain| rule::tensor(&[gain])).collect::<Result<_, _>>()?;
            Ok((Rule::Drift { rows: of.len() }, gains))
        })?;
        Ok(drift[0])
    }

    /// [`TextSession::drift`] of a step, once however many batches the step has.
    fn drift_of_step(&self, part: &SessionRows, all: &[Alone], window: StepWindow<'_>) -> Result<f64, TaskError> {
        let mut last = self.drift.lock().expect("nobody panics while holding it");
        match &*last {
            // Whoever looks on is shown what it comes of.
            Some((step, rows, drift)) if !trace::on() && *step == window.step && rows == window.rows => Ok(*drift),
            _ => {
                let drift = self.drift(part, all, window.rows)?;
                *last = Some((window.step, window.rows.to_vec(), drift));
                Ok(drift)
            }
        }
    }

    /// The loss of completions alone; `of` are the rows that `drift` is of and that figures are means over.
    fn unpaired(
        &self,
        record: bool,
        (part, all): (&SessionRows, &[Alone]),
        (batch, of): (&[usize], &[usize]),
        drift: f64,
        share: f64,
    ) -> Result<BatchLoss, TaskError> {
        let rows: Vec<&Alone> = batch.iter().map(|&row| &all[row]).collect();
        let own: Vec<&ScoredSequence> = rows.iter().map(|row| &row.pair.chosen).collect();
        let sequences = PassBatch { sequences: &own, alike: &[], known: None, dropout: None };
        let references: Vec<f64> = match part.known(batch) {
            _ if !self.cost.has_reference() => vec![0.0; rows.len()],
            Some(known) => known.iter().map(|sums| sums[0][0]).collect(),
            None => self.reference().score(sequences)?.sums()?,
        };
        let scores = self.policy(record).score(sequences)?;
        let policy = scores.sums()?;
        let completed: Vec<ScoredCompletion> = (policy.iter().zip(&references).zip(&scores.values))
            .map(|((&policy, &reference), values)| ScoredCompletion { policy, reference, tokens: values.len() })
            .collect();
        let wanted: Vec<bool> = rows.iter().map(|row| row.wanted).collect();
        let (sum, verdicts) = rule::alone(&*self.cost, &completed, &wanted, drift);
        let [gradient, sum] = Rule::shown([rule::slopes(&verdicts), vec![sum]], || {
            let rule = Rule::Alone { loss: self.dpo.loss, wanted: wanted.clone(), tokens: scores.scored() };
            Ok((rule, vec![rule::tensor(&policy)?, rule::tensor(&references)?, rule::tensor(&[drift])?]))
        })?;
        // Of the rows that are not wanted, and of those that are.
        let [mut rewards, mut log_probs] = [[0.0; 2]; 2];
        for ((row, policy), verdict) in rows.iter().zip(policy).zip(&verdicts) {
            rewards[usize::from(row.wanted)] += verdict.rewards[0];
            log_probs[usize::from(row.wanted)] += policy;
        }
        // The host divides by all rows; these are means over those that are wanted and those that are not.
        let wanted = of.iter().filter(|&&row| all[row].wanted).count();
        let counts = [of.len() - wanted, wanted].map(|count| of.len() as f64 / count as f64);
        let mut metrics = Metrics::new();
        for (side, names) in [(1, ["rewards/chosen", "logps/chosen"]), (0, ["rewards/rejected", "logps/rejected"])] {
            if counts[side].is_finite() {
                metrics.push((names[0], rewards[side] * counts[side]));
                metrics.push((names[1], log_probs[side] * counts[side]));
            }
        }
        if counts.iter().all(|count| count.is_finite()) {
            metrics.push(("rewards/margins", rewards[1] * counts[1] - rewards[0] * counts[0]));
        }
        metrics.push(("kl", drift * batch.len() as f64));
        metrics.push(("mean_token_accuracy", scores.hits.iter().sum::<usize>() as f64 * share));
        Ok(BatchLoss { sum: sum[0], gradients: scores.backward(&gradient)?, metrics })
    }

    /// The reference model.
    fn reference(&self) -> Scorer<'_> {
        let adapter = match self.dpo.reference {
            Reference::Base => None,
            Reference::Start => self.start.as_ref(),
        };
        Scorer { adapter, ..self.policy(false) }
    }

    /// The loss of a batch out of some rows; `record` is the optimiser step it is to be trained on in, and `drift` that
    /// of the rows where it is known.
    fn batch_loss(
        &self,
        record: Option<usize>,
        part: &SessionRows,
        batch: &[usize],
        of: &[usize],
        drift: Option<f64>,
    ) -> Result<BatchLoss, TaskError> {
        // Rows for each supervised token: turns the host's means over rows into means over tokens.
        let share = of.len() as f64 / of.iter().map(|&row| part.rows.supervised(row)).sum::<usize>() as f64;
        match &part.rows {
            Examples::Sft(all) => self.sft(record, all, batch, share),
            Examples::Dpo(all) => {
                let choices: Vec<&[Pair]> = batch.iter().map(|&row| all[row].as_slice()).collect();
                self.dpo(record.is_some(), &choices, part.known(batch), share)
            }
            Examples::Unpaired(all) => {
                let drift = match (drift, record) {
                    (Some(drift), _) => drift,
                    (None, Some(step)) => self.drift_of_step(part, all, StepWindow { step, rows: of })?,
                    (None, None) => self.drift(part, all, of)?,
                };
                self.unpaired(record.is_some(), (part, all), (batch, of), drift, share)
            }
        }
    }
}

/// Figures of a batch, and their names on held-out rows.
const EVALUATED: [(&str, &str); 8] = [
    ("rewards/chosen", "eval_rewards/chosen"),
    ("rewards/rejected", "eval_rewards/rejected"),
    ("rewards/margins", "eval_rewards/margins"),
    ("rewards/accuracies", "eval_rewards/accuracies"),
    ("logps/chosen", "eval_logps/chosen"),
    ("logps/rejected", "eval_logps/rejected"),
    ("kl", "eval_kl"),
    ("mean_token_accuracy", "eval_mean_token_accuracy"),
];

impl SessionRows {
    /// The reference's figures of the pairs of some rows, if they were computed before.
    fn known(&self, rows: &[usize]) -> Option<Vec<Vec<LogProbSums>>> {
        self.references.as_ref().and_then(|known| rows.iter().map(|&row| known[row].clone()).collect())
    }
}

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

    fn digest(&self, row: usize) -> [u8; 32] {
        self.rows.rows.opened(row).digest()
    }

    fn opened(&self, row: usize) -> Option<Value> {
        serde_json::to_value(self.rows.rows.opened(row)).ok()
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

    fn loss(&self, rows: &[usize], window: StepWindow<'_>) -> Result<BatchLoss, TaskError> {
        self.batch_loss(Some(window.step), &self.rows, rows, window.rows, None)
    }

    fn evaluate(&self) -> Result<Metrics, TaskError> {
        let Some(held_out) = &self.held_out else { return Ok(Metrics::new()) };
        let rows: Vec<usize> = (0..held_out.rows.len()).filter(|&row| held_out.rows.items(row) > 0).collect();
        let items: usize = rows.iter().map(|&row| held_out.rows.items(row)).sum();
        let drift = match &held_out.rows {
            Examples::Unpaired(all) => Some(self.drift(held_out, all, &rows)?),
            Examples::Sft(_) | Examples::Dpo(_) => None,
        };
        let mut loss = 0.0;
        let mut sums: BTreeMap<&str, f64> = BTreeMap::new();
        for batch in rows.chunks(self.batch) {
            let result = self.batch_loss(None, held_out, batch, &rows, drift)?;
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

#[cfg(test)]
mod tests;
