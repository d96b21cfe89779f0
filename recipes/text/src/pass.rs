//! A forward pass over some sequences that gives log-probabilities, and its way back to gradients.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};
use ftk_adapters::train::operation::{self, Operation};
use ftk_adapters::train::{Dropout, Learns, LoraTensors, Train, trace};
use ftk_adapters::weights::Weights;
use ftk_networks::Network;
use ftk_networks::ops::Tokens;
use ftk_recipes::TaskError;
use ftk_recipes::preference::rule;

use super::encode::ScoredSequence;

/// A model to pass sequences through.
#[derive(Clone, Debug)]
pub(super) struct Scorer<'a> {
    pub network: &'a Network,
    pub weights: &'a Weights,
    pub adapter: Option<&'a LoraTensors>,
    /// What gets gradients; nothing in a pass that is only looked at.
    pub learns: Option<Learns>,
    /// Keep only what lies between blocks, and compute the rest again on the way back.
    pub recompute: bool,
    /// Number format of products with weights and in attention.
    pub format: DType,
}

/// The sequences of a pass.
#[derive(Clone, Copy, Debug)]
pub(super) struct PassBatch<'a> {
    pub sequences: &'a [&'a ScoredSequence],
    /// How many at a time begin alike, and share the computation of what they begin with; beyond these, each is for
    /// itself.
    pub alike: &'a [usize],
    /// Gradient of every log-probability, where it does not depend on them.
    pub known: Option<f32>,
    /// Rate of dropout, and a key for each sequence.
    pub dropout: Option<(f64, &'a [u64])>,
}

/// Log-probabilities of the scored ids of some sequences.
pub(super) struct LogProbPass<'a> {
    model: Scorer<'a>,
    tokens: Tokens,
    dropout: Option<Dropout>,
    /// The pass through the head, or through everything where nothing is computed again.
    last: Train<'a>,
    /// What entered each block, and what left the last, where the rest is computed again.
    kept: Vec<Tensor>,
    log_probs: Tensor,
    /// Whether their gradient was known before.
    known: bool,
    /// Log-probabilities of each sequence, in order.
    pub values: Vec<Vec<f32>>,
    /// How many of them were the most likely ones.
    pub hits: Vec<usize>,
}

impl<'a> Scorer<'a> {
    /// Runs a batch.
    ///
    /// # Errors
    /// The device's.
    pub fn score(&self, batch: PassBatch<'_>) -> Result<LogProbPass<'a>, TaskError> {
        let (mut rows, mut labels, mut tokens) = (Vec::new(), Vec::new(), Tokens::default());
        // Only rows of one text are taken together.
        let texts: Vec<_> = batch.sequences.iter().flat_map(|sequence| sequence.texts()).collect();
        let mut rest = texts.as_slice();
        let mut sizes = batch.alike.iter().copied().chain(std::iter::repeat(1));
        while let Some((alike, after)) = sizes.next().and_then(|size| rest.split_at_checked(size)) {
            if alike.is_empty() {
                break;
            }
            rest = after;
            let ids: Vec<&[u32]> = alike.iter().map(|&(ids, _)| ids).collect();
            for (placed, (ids, scored)) in tokens.push_alike(&ids).iter().zip(alike) {
                for position in (1..ids.len()).filter(|&position| scored[position]) {
                    rows.push(placed.row(position - 1));
                    labels.push(ids[position]);
                }
            }
        }
        let dropout = batch.dropout.map(|(rate, keys)| {
            let keys = batch.sequences.iter().zip(keys);
            let keys =
                keys.flat_map(|(sequence, &key)| (0..sequence.ids.len() as u64).map(move |at| key.wrapping_add(at)));
            Dropout { rate, keys: keys.collect() }
        });
        let known = batch.known.map(|known| vec![known; labels.len()]);
        if let (Some(value), Some(slopes), true) = (batch.known, &known, trace::on() && self.learns.is_some()) {
            let fill = Operation::Fill { value: f64::from(value).into(), count: slopes.len() };
            trace::seen([Tensor::new(slopes.as_slice(), &Device::Cpu)?], || Ok((fill, Vec::new())))?;
        }
        let mut kept = Vec::new();
        let (last, log_probs) = if self.recompute && self.learns.is_some() {
            let mut pass = self.pass(None, &tokens, dropout.as_ref())?;
            let mut x = self.network.embed(&mut pass, &tokens)?;
            for index in 0..self.network.blocks() {
                kept.push(x.clone());
                x = self.network.block(&mut pass, index, &x)?;
            }
            let mut last = self.pass(self.learns, &tokens, dropout.as_ref())?;
            last.watch(&x);
            last.score(labels, known);
            let log_probs = self.network.head(&mut last, &x, &rows)?;
            kept.push(x);
            (last, log_probs)
        } else {
            let mut pass = self.pass(self.learns, &tokens, dropout.as_ref())?;
            pass.score(labels, known);
            let log_probs = self.network.forward(&mut pass, &tokens, &rows)?;
            (pass, log_probs)
        };
        let mut rest = log_probs.to_vec1::<f32>()?;
        let values = batch.sequences.iter().map(|sequence| {
            let after = rest.split_off(sequence.items());
            std::mem::replace(&mut rest, after)
        });
        let values = values.collect();
        let mut rest = last.hits();
        let hits = batch.sequences.iter().map(|sequence| {
            let (of_sequence, after) = rest.split_at(sequence.items());
            rest = after;
            of_sequence.iter().filter(|&&hit| hit).count()
        });
        let hits = hits.collect();
        let known = batch.known.is_some();
        Ok(LogProbPass { model: self.clone(), tokens, dropout, last, kept, log_probs, known, values, hits })
    }

    fn pass(&self, learns: Option<Learns>, tokens: &Tokens, dropout: Option<&Dropout>) -> Result<Train<'a>, TaskError> {
        let mut pass = match learns {
            Some(learns) => Train::recording(self.weights, self.adapter, learns),
            None => Train::new(self.weights, self.adapter),
        };
        pass.place(tokens)?;
        pass.multiply_in(self.format);
        if let Some(dropout) = dropout {
            pass.drop_out(dropout.clone());
        }
        Ok(pass)
    }
}

impl LogProbPass<'_> {
    /// Scored ids of each sequence.
    pub fn scored(&self) -> Vec<usize> {
        self.values.iter().map(Vec::len).collect()
    }

    /// Sum for each sequence.
    ///
    /// # Errors
    /// Those of whoever looks on.
    pub fn sums(&self) -> Result<Vec<f64>, TaskError> {
        let tokens = self.scored();
        let sums = operation::sums(&self.values.concat(), &tokens);
        if !trace::on() {
            return Ok(sums);
        }
        let [sums] =
            trace::seen([rule::tensor(&sums)?], || Ok((Operation::Sums { tokens }, vec![self.log_probs.clone()])))?;
        Ok(sums.to_vec1()?)
    }

    /// Gradients of what the model learns, given that of every log-probability of each sequence.
    ///
    /// # Errors
    /// The device's.
    pub fn backward(self, of_values: &[f64]) -> Result<BTreeMap<String, Tensor>, TaskError> {
        let scored = self.scored();
        let Self { model, tokens, dropout, last, mut kept, log_probs, known, .. } = self;
        let gradient = operation::spread(of_values, &scored);
        let mut gradient = Tensor::from_vec(gradient, log_probs.shape(), log_probs.device())?;
        // What was known has gone its way.
        if trace::on() && !known {
            let slopes = rule::tensor(of_values)?;
            [gradient] = trace::seen([gradient], || Ok((Operation::Spread { tokens: scored }, vec![slopes])))?;
        }
        let mut gradients = last.backward(&log_probs, gradient)?;
        let mut flowing = kept.pop().and_then(|x| gradients.take(&x));
        for (index, x) in kept.into_iter().enumerate().rev() {
            let Some(gradient) = flowing.take() else { break };
            let mut pass = model.pass(model.learns, &tokens, dropout.as_ref())?;
            pass.watch(&x);
            let y = model.network.block(&mut pass, index, &x)?;
            let mut of_block = pass.backward(&y, gradient)?;
            flowing = of_block.take(&x);
            gradients.add_all(of_block)?;
        }
        if let Some(gradient) = flowing {
            let mut pass = model.pass(model.learns, &tokens, None)?;
            let x = model.network.embed(&mut pass, &tokens)?;
            gradients.add_all(pass.backward(&x, gradient)?)?;
        }
        Ok(gradients.into_trained())
    }
}
