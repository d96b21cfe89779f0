//! The operations networks are written in.
//!
//! A network is a plain function over [`Ops`] and is written once. Each implementation of
//! [`Ops`] is an *interpretation*: candle tensors with gradients (`ftk_adapters::train`), exact
//! integers (the proof side), or a mere walk that records which sites exist ([`crate::sites`]).
//! No weight and no number lives here, but for what data gives networks of graphs ([`graph`]).

pub mod graph;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use self::graph::{Features, Propagation};

/// Token ids of one or more sequences, one after another: there is no padding, and no sequence sees
/// another. Sequences that begin alike may share the tokens of their beginning.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tokens {
    ids: Vec<u32>,
    segments: Vec<Segment>,
}

/// Tokens that follow each other, each seeing those before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Where they stand among all tokens.
    pub tokens: Range<usize>,
    /// Tokens of an earlier segment that come before them; empty where they begin a sequence.
    pub after: Range<usize>,
}

/// Where the tokens of one sequence stand among all: those it shares, then its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    shared: Range<usize>,
    own: Range<usize>,
}

impl Placed {
    /// Where the token at a position of the sequence stands.
    pub fn row(&self, position: usize) -> usize {
        match position.checked_sub(self.shared.len()) {
            None => self.shared.start + position,
            Some(position) => self.own.start + position,
        }
    }
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
        let mut tokens = Self::default();
        for sequence in sequences {
            tokens.push(sequence.as_ref(), 0..0);
        }
        assert!(!tokens.ids.is_empty(), "there must be a sequence");
        tokens
    }

    /// Adds sequences of which each pair shares the tokens it begins with: what a model gives for them
    /// is computed once. Says where each sequence stands.
    ///
    /// # Panics
    /// If a sequence is empty.
    pub fn push_alike(&mut self, sequences: &[&[u32]]) -> Vec<Placed> {
        // Each keeps at least its last token to itself.
        let room = sequences.iter().map(|sequence| sequence.len()).min().unwrap_or(0).saturating_sub(1);
        let alike = |position: &usize| sequences.iter().all(|sequence| sequence[*position] == sequences[0][*position]);
        let shared = match sequences.len() {
            0 | 1 => 0,
            _ => (0..room).take_while(alike).count(),
        };
        let shared = if shared > 0 { self.push(&sequences[0][..shared], 0..0) } else { 0..0 };
        let place = |sequence: &&[u32]| {
            let own = self.push(&sequence[shared.len()..], shared.clone());
            Placed { shared: shared.clone(), own }
        };
        sequences.iter().map(place).collect()
    }

    fn push(&mut self, ids: &[u32], after: Range<usize>) -> Range<usize> {
        assert!(!ids.is_empty(), "a sequence needs a token");
        let first = self.ids.len();
        self.ids.extend(ids);
        let tokens = first..self.ids.len();
        self.segments.push(Segment { tokens: tokens.clone(), after });
        tokens
    }

    /// All ids.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// The segments, in the order of their tokens.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Position of every token in its sequence.
    pub fn positions(&self) -> impl Iterator<Item = u32> {
        self.segments.iter().flat_map(|Segment { tokens, after }| {
            let first = after.len();
            (first..first + tokens.len()).map(|position| position as u32)
        })
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

/// A table of rows that a network looks up.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TableShape {
    /// Rows.
    pub rows: usize,
    /// Features of one.
    pub features: usize,
    /// What every entry is multiplied by where it is looked up, in f32: exact integers take the product for the entry.
    /// 1 in most networks.
    pub scale: f32,
}

/// Whether a linear site adds a bias to its product. The network says so, and not the file: a bias that is missing is an
/// error, not another network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bias {
    /// No bias.
    Absent,
    /// The vector at `<site>.bias`, `(d_out)`.
    Present,
}

/// The rows that messages are made of.
#[derive(Debug)]
pub enum Nodes<'a, V> {
    /// As data gives them.
    Features(&'a Arc<Features>),
    /// As the network has made them.
    Value(&'a V),
}

impl<V> Clone for Nodes<'_, V> {
    fn clone(&self) -> Self {
        *self
    }
}

// Not derived, for that would ask it of the values.
impl<V> Copy for Nodes<'_, V> {}

/// What a network may do with its values. Values are shaped `(tokens, features)`, the tokens of all
/// sequences one after another; in networks of graphs, `(nodes, features)`.
///
/// Whatever uses a weight says how wide its result is, so that the shape of every weight follows from the network alone.
/// Sites are module paths as Hugging Face names them, without the trailing `.weight`
/// (`model.layers.3.self_attn.q_proj`). A linear site may carry an adapter.
pub trait Ops {
    /// An activation.
    type Value: Clone;
    /// What can go wrong: a missing weight, a wrong shape, an overflow.
    type Error: fmt::Debug + fmt::Display + Send + Sync + 'static;

    /// Rows of the table at `site`, one for each token: `(tokens, table.features)`.
    fn embed(&mut self, site: &str, table: TableShape, tokens: &Tokens) -> Result<Self::Value, Self::Error>;

    /// `x` plus, at each position, that position's row of the table at `site`, which has so many: learned positions.
    fn add_positions(&mut self, site: &str, rows: usize, x: &Self::Value) -> Result<Self::Value, Self::Error>;

    /// `x W^T`, plus the bias if there is one, plus the adapter's `B A x` where the site has one: `(tokens, d_out)`.
    fn linear(&mut self, site: &str, d_out: usize, bias: Bias, x: &Self::Value) -> Result<Self::Value, Self::Error>;

    /// [`Ops::linear`] followed by the rotary embedding of each head. One operation, so that exact
    /// integers are rotated before they are rounded.
    fn linear_rope(
        &mut self,
        site: &str,
        d_out: usize,
        bias: Bias,
        x: &Self::Value,
        rope: &Rope,
    ) -> Result<Self::Value, Self::Error>;

    /// `x / sqrt(mean(x^2) + eps) * w` over the features (Zhang and Sennrich 2019).
    fn rms_norm(&mut self, site: &str, x: &Self::Value, eps: f64) -> Result<Self::Value, Self::Error>;

    /// [`Ops::rms_norm`] of each head on its own, with one weight `(rope.dim)` for all heads, followed by the rotary
    /// embedding; one operation for the reason given at [`Ops::linear_rope`].
    fn norm_rope(&mut self, site: &str, x: &Self::Value, eps: f64, rope: &Rope) -> Result<Self::Value, Self::Error>;

    /// `(x - mean(x)) / sqrt(variance(x) + eps) * w + b` over the features (Ba et al. 2016), with `b` at `<site>.bias`.
    fn layer_norm(&mut self, site: &str, x: &Self::Value, eps: f64) -> Result<Self::Value, Self::Error>;

    /// The features of a range: `(tokens, features.len())`.
    fn part(&mut self, x: &Self::Value, features: Range<usize>) -> Result<Self::Value, Self::Error>;

    /// The rotary embedding of each head of `x`, for projections that are fused with others and so are rounded before
    /// they are rotated; otherwise [`Ops::linear_rope`] is the one to take.
    fn rope(&mut self, x: &Self::Value, rope: &Rope) -> Result<Self::Value, Self::Error>;

    /// Causal softmax attention with scale `1 / sqrt(heads.dim)`. `q` is `(tokens, query * dim)`,
    /// `k` and `v` `(tokens, key_value * dim)`; `site` names the layer, so that an
    /// interpretation may keep the keys and values of earlier positions. Where there is a `window`, a position sees only
    /// so many, itself and those before it. An interpretation may refuse sequences that are longer than it, and does
    /// not compute anything else: up to there a window makes no difference.
    fn attention(
        &mut self,
        site: &str,
        q: &Self::Value,
        k: &Self::Value,
        v: &Self::Value,
        heads: Heads,
        window: Option<usize>,
    ) -> Result<Self::Value, Self::Error>;

    /// `silu(gate) * up`, entry by entry (Shazeer 2020).
    fn swiglu(&mut self, gate: &Self::Value, up: &Self::Value) -> Result<Self::Value, Self::Error>;

    /// `gelu(gate) * up`, entry by entry, with [`Ops::gelu`] (Shazeer 2020).
    fn geglu(&mut self, gate: &Self::Value, up: &Self::Value) -> Result<Self::Value, Self::Error>;

    /// `x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2`, entry by entry: the tanh form of GELU (Hendrycks and
    /// Gimpel 2016).
    fn gelu(&mut self, x: &Self::Value) -> Result<Self::Value, Self::Error>;

    /// `x + y`: the residual stream.
    fn add(&mut self, x: &Self::Value, y: &Self::Value) -> Result<Self::Value, Self::Error>;

    /// The given rows of `x`: `(rows.len(), features)`.
    fn select(&mut self, x: &Self::Value, rows: &[usize]) -> Result<Self::Value, Self::Error>;

    /// A convolution: `P x W^T` for the propagation `P`, plus the bias if there is one, plus the adapter's `P x A^T B^T`
    /// where the site has one: `(receivers, d_out)`. One operation, so that an interpretation may multiply in the order
    /// that suits it: exact integers gather first and keep one rounding for weight, adapter and bias together.
    fn convolve(
        &mut self,
        site: &str,
        d_out: usize,
        bias: Bias,
        x: Nodes<'_, Self::Value>,
        over: &Arc<Propagation>,
    ) -> Result<Self::Value, Self::Error>;

    /// Attention of nodes over those they receive from (GAT, Velickovic et al. 2018) with `heads` equal heads, by the
    /// vectors `<site>.att_src` and `<site>.att_dst`, plus `<site>.bias`, all `(features)`. Every node receives from
    /// itself too; coefficients do not count.
    fn attend_neighbours(
        &mut self,
        site: &str,
        x: &Self::Value,
        heads: usize,
        over: &Arc<Propagation>,
    ) -> Result<Self::Value, Self::Error>;

    /// `max(x, 0)`, entry by entry.
    fn relu(&mut self, x: &Self::Value) -> Result<Self::Value, Self::Error>;

    /// Where a training pass drops entries of `x`; `x` itself everywhere else.
    fn dropout(&mut self, x: &Self::Value) -> Result<Self::Value, Self::Error>;

    /// Logits `(rows, vocab)`: a linear site `site` whose weight is that of `weight`
    /// (the embedding table where the head is tied, otherwise `site` itself).
    fn head(&mut self, site: &str, weight: &str, vocab: usize, x: &Self::Value) -> Result<Self::Value, Self::Error>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_that_begin_alike_share_their_beginning() {
        let mut tokens = Tokens::sequence(vec![9]);
        let placed = tokens.push_alike(&[&[1, 2, 3, 4], &[1, 2, 5]]);
        assert_eq!(tokens.ids(), [9, 1, 2, 3, 4, 5]);
        assert_eq!(tokens.positions().collect::<Vec<_>>(), [0, 0, 1, 2, 3, 2]);
        let rows = |placed: &Placed, length: usize| (0..length).map(|at| placed.row(at)).collect::<Vec<_>>();
        assert_eq!(rows(&placed[0], 4), [1, 2, 3, 4]);
        assert_eq!(rows(&placed[1], 3), [1, 2, 5]);
        assert_eq!(tokens.segments()[3], Segment { tokens: 5..6, after: 1..3 });
    }

    #[test]
    fn equal_sequences_keep_their_last_token_and_different_ones_share_nothing() {
        for (sequences, ids) in [([&[1, 2][..], &[1, 2]], &[1, 2, 2][..]), ([&[1, 2], &[3]], &[1, 2, 3])] {
            let mut tokens = Tokens::default();
            tokens.push_alike(&sequences);
            assert_eq!(tokens.ids(), ids);
        }
    }
}
