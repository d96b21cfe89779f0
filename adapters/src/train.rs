//! The differentiable interpretation: candle tensors, with gradients to the adapter's factors or to
//! the base's own weights. What stays frozen gets neither a gradient nor a buffer for one. On the
//! CPU the kernels of `ftk-kernels` compute, elsewhere candle's operations. Optimisers and losses
//! are not here.

mod adapter;
mod attention;
mod cached;
mod dropout;
mod gelu;
mod graph;
mod host;
mod initial;
mod layer;
mod linear;
mod log_prob;
mod lora;
mod messages;
mod norm;
pub mod operation;
mod ops;
mod rotary;
mod swiglu;
mod tape;
#[cfg(test)]
mod tests;
pub mod trace;

use std::collections::BTreeSet;

use candle_core::{DType, Tensor};
use ftk_kernels::float::attention::AttentionSpan;
pub use ftk_networks::initial::{normal_values, uniform_values};

pub use self::adapter::{LoraFactors, LoraTensors};
pub use self::cached::Cache;
pub use self::dropout::Dropout;
pub use self::host::product;
pub use self::initial::initial_factors;
pub use self::messages::pulled;
use self::rotary::{Angles, TokenPlaces};
pub use self::tape::Gradients;
use ftk_networks::ops::{Rope, Segment, Tokens};

use self::tape::Tape;
use crate::Error;
use crate::weights::Weights;

/// What a recorded pass gives gradients to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Learns {
    /// The adapter's factors.
    Adapter,
    /// The base's weights.
    Base,
}

/// Tokens whose log-probability the head gives instead of logits.
#[derive(Debug)]
struct Scoring {
    labels: Vec<u32>,
    gradient: Option<Vec<f32>>,
}

/// A network's weights and adapter, interpreted on candle tensors `(tokens, features)` in f32.
#[derive(Debug)]
pub struct Train<'a> {
    weights: &'a Weights,
    adapter: Option<&'a LoraTensors>,
    /// What was seen of each sequence before this pass; absent where it begins them.
    caches: Option<Vec<&'a mut Cache>>,
    recording: Option<(Learns, Tape)>,
    dropout: Option<Dropout>,
    /// Weights that get gradients beside an adapter's factors.
    also: BTreeSet<String>,
    /// Share of entries that [`Ops::dropout`](ftk_networks::ops::Ops::dropout) drops, of shares of neighbours, a key, and how often it was asked.
    dropping: Option<(f64, f64, u64, u64)>,
    /// Number format of products with weights and in attention.
    format: DType,
    scoring: Option<Scoring>,
    hits: Vec<bool>,
    /// Where each token stands, and where sequences begin and end.
    places: Option<TokenPlaces>,
    spans: Vec<AttentionSpan>,
    /// Of each kind of rotation.
    angles: Vec<(Rope, Angles)>,
}

/// Logits held at a time where only log-probabilities are wanted: 64 MiB, or those of [`ENOUGH_ROWS`].
const LOGITS: usize = 1 << 24;
/// Rows that are worth reading the weights of a large head for.
const ENOUGH_ROWS: usize = 192;

/// Rows that are scored at a time, whose logits are held together, where only log-probabilities are wanted. If the head is
/// trained, its gradient adds up those of such parts, so that their size belongs to the arithmetic.
pub fn scored_at_once(vocab: usize, trained: bool) -> usize {
    (LOGITS / vocab.max(1)).max(if trained { 1 } else { ENOUGH_ROWS })
}

impl<'a> Train<'a> {
    /// The network with these weights, and this adapter if any.
    pub fn new(weights: &'a Weights, adapter: Option<&'a LoraTensors>) -> Self {
        Self {
            weights,
            adapter,
            caches: None,
            recording: None,
            dropout: None,
            also: BTreeSet::new(),
            dropping: None,
            format: DType::F32,
            scoring: None,
            hits: Vec::new(),
            places: None,
            spans: Vec::new(),
            angles: Vec::new(),
        }
    }

    /// A pass that [`Train::backward`] can be asked the gradients of.
    pub fn recording(weights: &'a Weights, adapter: Option<&'a LoraTensors>, learns: Learns) -> Self {
        Self { recording: Some((learns, Tape::default())), ..Self::new(weights, adapter) }
    }

    /// A pass over as many sequences as there are caches, whose tokens follow those in their caches, which afterwards
    /// hold them too.
    pub fn continuing(
        weights: &'a Weights,
        adapter: Option<&'a LoraTensors>,
        caches: impl IntoIterator<Item = &'a mut Cache>,
    ) -> Self {
        Self { caches: Some(caches.into_iter().collect()), ..Self::new(weights, adapter) }
    }

    /// Drops entries of what enters the adapter's factors.
    pub fn drop_out(&mut self, dropout: Dropout) {
        self.dropout = (dropout.rate > 0.0).then_some(dropout);
    }

    /// Gives gradients to these weights, too, where the adapter's factors get them: a head that is trained beside it.
    pub fn learn_also(&mut self, names: BTreeSet<String>) {
        self.also = names;
    }

    /// Drops this share of the entries at every [`Ops::dropout`](ftk_networks::ops::Ops::dropout) and of the features, and
    /// that share of what a node receives by attention; `key` says which.
    pub fn drop_values(&mut self, share: f64, of_neighbours: f64, key: u64) {
        self.dropping = (share > 0.0 || of_neighbours > 0.0).then_some((share, of_neighbours, key, 0));
    }

    /// Share of entries or of neighbours that the next value loses, and the key that says which.
    fn drops(&mut self, of_neighbours: bool) -> Option<(f64, u64)> {
        let (share, neighbours, key, count) = self.dropping.as_mut()?;
        *count += 1;
        let share = if of_neighbours { *neighbours } else { *share };
        // Keys of consecutive places lie far apart.
        (share > 0.0).then(|| (share, key.wrapping_add(count.wrapping_mul(0xd134_2543_de82_ef95))))
    }

    /// Computes products with weights and, on the host, in attention in this number format (f32 or bf16), and takes rows of
    /// frozen tables in it; everything else, the adapter's products among it, stays in f32.
    pub fn multiply_in(&mut self, format: DType) {
        self.format = format;
    }

    /// Lets the head give the log-probability of one label a row, `(rows)`, in place of logits, which
    /// then never exist at once. Where the gradient with which [`Train::backward`] will be called is
    /// known already, giving it saves computing the logits a second time.
    pub fn score(&mut self, labels: Vec<u32>, gradient: Option<Vec<f32>>) {
        self.scoring = Some(Scoring { labels, gradient });
    }

    /// Whether each scored label was the most likely one, once the head has scored them.
    pub fn hits(&self) -> &[bool] {
        &self.hits
    }

    /// Tells the pass where its tokens stand, for operations on values that it has not embedded itself.
    ///
    /// # Errors
    /// Other sequences than there are caches; the device's.
    pub fn place(&mut self, tokens: &Tokens) -> Result<(), Error> {
        self.spans = tokens
            .segments()
            .iter()
            .map(|Segment { tokens, after }| AttentionSpan {
                rows: tokens.clone(),
                own: tokens.clone(),
                before: after.clone(),
            })
            .collect();
        let mut positions: Vec<u32> = tokens.positions().collect();
        if let Some(caches) = &self.caches {
            if self.spans.len() != caches.len() || self.spans.iter().any(|span| !span.before.is_empty()) {
                return Err(Error::CachedSequences { caches: caches.len(), segments: self.spans.len() });
            }
            for (span, cache) in self.spans.iter_mut().zip(caches) {
                let cached = cache.positions();
                (span.before, span.own) = (0..cached, cached..cached + span.rows.len());
                positions[span.rows.clone()].iter_mut().for_each(|position| *position += cached as u32);
            }
        }
        self.places = Some(TokenPlaces::new(positions, &self.weights.device())?);
        Ok(())
    }

    /// Asks for the gradient of `x`, which this pass has not made.
    pub fn watch(&mut self, x: &Tensor) {
        if let Some((_, tape)) = &mut self.recording {
            tape.watch(x);
        }
    }

    /// Gradients of what is trained, given that of a result of this pass.
    ///
    /// # Errors
    /// The device's.
    pub fn backward(self, of: &Tensor, gradient: Tensor) -> Result<Gradients, Error> {
        let tape = self.recording.map_or_else(Tape::default, |(_, tape)| tape);
        Ok(tape.backward(of, gradient)?)
    }

    /// Number format that tables are rounded to: a frozen one may be held in that of products.
    fn format_of_tables(&self) -> DType {
        if self.learns(Learns::Base) { DType::F32 } else { self.format }
    }

    fn weight(&self, name: &str) -> Result<Tensor, Error> {
        self.weights.get(name)
    }

    /// The adapter at a site, on tensors that enter no graph.
    fn lora(&self, site: &str) -> Option<LoraFactors> {
        let LoraFactors { a, b, scale } = self.adapter?.get(site)?;
        Some(LoraFactors { a: a.detach(), b: b.detach(), scale: *scale })
    }

    fn learns(&self, what: Learns) -> bool {
        self.recording.as_ref().is_some_and(|(learns, _)| *learns == what)
    }

    /// Whether a weight of the base gets a gradient.
    fn learns_weight(&self, name: &str) -> bool {
        self.learns(Learns::Base) || (self.recording.is_some() && self.also.contains(name))
    }

    fn tracks(&self, x: &Tensor) -> bool {
        self.recording.as_ref().is_some_and(|(_, tape)| tape.tracks(x))
    }

    /// Records the step that made `value`, if anything trained is among its operands.
    fn step(
        &mut self,
        value: &Tensor,
        needed: bool,
        backward: impl FnOnce(Tensor, &mut Gradients) -> candle_core::Result<()> + Send + 'static,
    ) {
        if let (Some((_, tape)), true) = (&mut self.recording, needed) {
            tape.push(value, backward);
        }
    }

    /// Positions of the longest sequence, cached ones included.
    fn longest(&self) -> usize {
        self.spans.iter().map(|span| span.before.len() + span.own.len()).max().unwrap_or(0)
    }
}
