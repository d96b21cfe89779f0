//! The operations networks are written in.
//!
//! A network is a plain function over [`Ops`] and is written once. Each implementation of
//! [`Ops`] is an *interpretation*: candle tensors with gradients ([`crate::train`]), exact
//! integers (the proof side), or a mere walk that records which sites exist ([`crate::sites`]).
//! No weight and no number lives here.

use std::fmt;

/// Token ids of one or more sequences, one after another. No position of a sequence sees another
/// sequence, and each counts its positions from 0: there is no padding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tokens {
    ids: Vec<u32>,
    lengths: Vec<usize>,
}

impl Tokens {
    /// One sequence.
    ///
    /// # Panics
    /// If it is empty.
    pub fn sequence(ids: Vec<u32>) -> Self {
        Self::sequences([ids])
    }

    /// Several sequences.
    ///
    /// # Panics
    /// If there is none, or one is empty.
    pub fn sequences<S: AsRef<[u32]>>(sequences: impl IntoIterator<Item = S>) -> Self {
        let mut tokens = Self { ids: Vec::new(), lengths: Vec::new() };
        for sequence in sequences {
            let sequence = sequence.as_ref();
            assert!(!sequence.is_empty(), "a sequence needs a token");
            tokens.ids.extend(sequence);
            tokens.lengths.push(sequence.len());
        }
        assert!(!tokens.ids.is_empty(), "there must be a sequence");
        tokens
    }

    /// The ids of all sequences, one after another.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// Tokens of each sequence.
    pub fn lengths(&self) -> &[usize] {
        &self.lengths
    }

    /// Position of every token in its sequence.
    pub fn positions(&self) -> impl Iterator<Item = u32> {
        self.lengths.iter().flat_map(|&length| 0..length as u32)
    }
}

/// Rotary position embedding (Su et al. 2021) in the half-split layout of Hugging Face:
/// feature `i` of a head is rotated together with feature `i + dim / 2`.
#[derive(Clone, Debug, PartialEq)]
pub struct Rope {
    /// Width of one head; even.
    pub dim: usize,
    /// Base of the geometric progression of wavelengths.
    pub theta: f64,
    /// Stretching of long wavelengths, if the model was trained with it.
    pub scaling: Option<Llama3Scaling>,
}

/// Llama 3's frequency scaling (`rope_type = "llama3"`).
#[derive(Clone, Debug, PartialEq)]
pub struct Llama3Scaling {
    /// By how much the lowest frequencies are divided.
    pub factor: f64,
    /// Wavelengths above `original_context / low_freq_factor` are divided by `factor`.
    pub low_freq_factor: f64,
    /// Wavelengths below `original_context / high_freq_factor` are left alone.
    pub high_freq_factor: f64,
    /// Positions the model was first trained on.
    pub original_context: usize,
}

/// Head counts of one attention layer; `query` is a multiple of `key_value` (grouped-query attention).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heads {
    /// Query heads.
    pub query: usize,
    /// Key and value heads.
    pub key_value: usize,
    /// Features of one head.
    pub dim: usize,
}

/// What a network may do with its values. Values are shaped `(tokens, features)`, the tokens of all
/// sequences one after another.
///
/// Sites are module paths as Hugging Face names them, without the trailing `.weight`
/// (`model.layers.3.self_attn.q_proj`). A linear site may carry an adapter.
pub trait Ops {
    /// An activation.
    type Value: Clone;
    /// What can go wrong: a missing weight, a wrong shape, an overflow.
    type Error: fmt::Debug + fmt::Display + Send + Sync + 'static;

    /// Rows of the table at `site`, one for each token: `(tokens, hidden)`.
    fn embed(&mut self, site: &str, tokens: &Tokens) -> Result<Self::Value, Self::Error>;

    /// `x W^T`, plus the adapter's `B A x` where the site has one: `(tokens, d_out)`.
    fn linear(&mut self, site: &str, x: &Self::Value) -> Result<Self::Value, Self::Error>;

    /// [`Ops::linear`] followed by the rotary embedding of each head. One operation, so that exact
    /// integers are rotated before they are rounded.
    fn linear_rope(&mut self, site: &str, x: &Self::Value, rope: &Rope) -> Result<Self::Value, Self::Error>;

    /// `x / sqrt(mean(x^2) + eps) * w` over the features (Zhang and Sennrich 2019).
    fn rms_norm(&mut self, site: &str, x: &Self::Value, eps: f64) -> Result<Self::Value, Self::Error>;

    /// Causal softmax attention with scale `1 / sqrt(heads.dim)`. `q` is `(tokens, query * dim)`,
    /// `k` and `v` `(tokens, key_value * dim)`; `site` names the layer, so that an
    /// interpretation may keep the keys and values of earlier positions.
    fn attention(
        &mut self,
        site: &str,
        q: &Self::Value,
        k: &Self::Value,
        v: &Self::Value,
        heads: Heads,
    ) -> Result<Self::Value, Self::Error>;

    /// `silu(gate) * up`, entry by entry (Shazeer 2020).
    fn swiglu(&mut self, gate: &Self::Value, up: &Self::Value) -> Result<Self::Value, Self::Error>;

    /// `x + y`: the residual stream.
    fn add(&mut self, x: &Self::Value, y: &Self::Value) -> Result<Self::Value, Self::Error>;

    /// The given rows of `x`: `(rows.len(), features)`.
    fn select(&mut self, x: &Self::Value, rows: &[usize]) -> Result<Self::Value, Self::Error>;

    /// Logits `(rows, vocab)`: a linear site `site` whose weight is that of `weight`
    /// (the embedding table where the head is tied, otherwise `site` itself).
    fn head(&mut self, site: &str, weight: &str, x: &Self::Value) -> Result<Self::Value, Self::Error>;
}
