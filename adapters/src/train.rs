//! The differentiable interpretation: candle tensors, with gradients to the adapter's factors or to
//! the base's own weights. What stays frozen gets neither a gradient nor a buffer for one. On the
//! CPU the kernels of `ftk-kernels` compute, elsewhere candle's operations. Optimisers and losses
//! are not here.

mod adapter;
mod attention;
mod dropout;
mod gelu;
mod graph;
mod host;
mod initial;
mod layer;
mod linear;
mod log_prob;
mod norm;
mod rotary;
mod swiglu;
mod tape;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use candle_core::{DType, Tensor};
use ftk_kernels::float::attention::Span;
use ftk_kernels::float::relu::Drop;
use ftk_kernels::float::rotary::Turn;
pub use ftk_networks::initial::{normal_values, uniform_values};

pub use self::adapter::{Lora, LoraTensors};
pub use self::dropout::Dropout;
pub use self::host::product;
pub use self::initial::initial_factors;
use self::layer::Layer;
use self::rotary::Angles;
pub use self::tape::Gradients;
use ftk_networks::ops::graph::{Features, Propagation};
use ftk_networks::ops::{Bias, Heads, Nodes, Ops, Rope, Segment, Table, Tokens};

use self::tape::Tape;
use crate::Error;
use crate::weights::Weights;

/// Keys and values of the positions seen so far, by layer: what generation keeps between tokens.
#[derive(Debug, Default)]
pub struct Cache {
    layers: BTreeMap<String, (Tensor, Tensor)>,
    positions: usize,
}

impl Cache {
    /// Positions seen so far.
    pub fn positions(&self) -> usize {
        self.positions
    }
}

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
    cache: Option<&'a mut Cache>,
    recording: Option<(Learns, Tape)>,
    dropout: Option<Dropout>,
    /// Weights that get gradients beside an adapter's factors.
    also: BTreeSet<String>,
    /// Share of entries that [`Ops::dropout`] drops, of shares of neighbours, a key, and how often it was asked.
    dropping: Option<(f64, f64, u64, u64)>,
    /// Number format of products with weights.
    format: DType,
    scoring: Option<Scoring>,
    hits: Vec<bool>,
    /// Position of each token, and where sequences begin and end.
    positions: Option<Tensor>,
    spans: Vec<Span>,
    /// Of each kind of rotation.
    angles: Vec<(Rope, Angles)>,
}

/// Logits held at a time where only log-probabilities are wanted: 64 MiB.
pub const LOGITS: usize = 1 << 24;

impl<'a> Train<'a> {
    /// The network with these weights, and this adapter if any.
    pub fn new(weights: &'a Weights, adapter: Option<&'a LoraTensors>) -> Self {
        Self {
            weights,
            adapter,
            cache: None,
            recording: None,
            dropout: None,
            also: BTreeSet::new(),
            dropping: None,
            format: DType::F32,
            scoring: None,
            hits: Vec::new(),
            positions: None,
            spans: Vec::new(),
            angles: Vec::new(),
        }
    }

    /// A pass that [`Train::backward`] can be asked the gradients of.
    pub fn recording(weights: &'a Weights, adapter: Option<&'a LoraTensors>, learns: Learns) -> Self {
        Self { recording: Some((learns, Tape::default())), ..Self::new(weights, adapter) }
    }

    /// A pass over one sequence whose tokens follow those in `cache`, which afterwards holds them too.
    pub fn continuing(weights: &'a Weights, adapter: Option<&'a LoraTensors>, cache: &'a mut Cache) -> Self {
        Self { cache: Some(cache), ..Self::new(weights, adapter) }
    }

    /// Drops entries of what enters the adapter's factors.
    pub fn drop_out(&mut self, dropout: Dropout) {
        self.dropout = (dropout.rate > 0.0).then_some(dropout);
    }

    /// Gives gradients to these weights, too, where the adapter's factors get them: a head that is trained beside it.
    pub fn learn_also(&mut self, names: BTreeSet<String>) {
        self.also = names;
    }

    /// Drops this share of the entries at every [`Ops::dropout`] and of the features, and that share of what a node
    /// receives by attention; `key` says which.
    pub fn drop_values(&mut self, share: f64, of_neighbours: f64, key: u64) {
        self.dropping = (share > 0.0 || of_neighbours > 0.0).then_some((share, of_neighbours, key, 0));
    }

    /// Which entries the next value loses, as a share of entries or of neighbours.
    fn drops(&mut self, of_neighbours: bool) -> Option<Drop> {
        let (share, neighbours, key, count) = self.dropping.as_mut()?;
        *count += 1;
        let share = if of_neighbours { *neighbours } else { *share };
        // Keys of consecutive places lie far apart.
        (share > 0.0).then(|| Drop::new(share, key.wrapping_add(count.wrapping_mul(0xd134_2543_de82_ef95))))
    }

    /// Computes products with weights in this number format (f32 or bf16); everything else, the
    /// adapter's products among it, stays in f32.
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
    /// More than one sequence after cached ones; the device's.
    pub fn place(&mut self, tokens: &Tokens) -> Result<(), Error> {
        self.spans = tokens
            .segments()
            .iter()
            .map(|Segment { tokens, after }| Span { rows: tokens.clone(), own: tokens.clone(), before: after.clone() })
            .collect();
        let mut positions: Vec<u32> = tokens.positions().collect();
        if let Some(cache) = &self.cache {
            let [span] = self.spans.as_mut_slice() else { return Err(Error::OneSequence(tokens.segments().len())) };
            let cached = cache.positions;
            (span.before, span.own) = (0..cached, cached..cached + span.rows.len());
            positions.iter_mut().for_each(|position| *position += cached as u32);
        }
        self.positions = Some(Tensor::new(positions, &self.weights.device())?);
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
        let (_, tape) = self.recording.unwrap_or((Learns::Adapter, Tape::default()));
        Ok(tape.backward(of, gradient)?)
    }

    fn weight(&self, name: &str) -> Result<Tensor, Error> {
        self.weights.get(name)
    }

    /// The adapter at a site, on tensors that enter no graph.
    fn lora(&self, site: &str) -> Option<Lora> {
        let Lora { a, b, scale } = self.adapter?.get(site)?;
        Some(Lora { a: a.detach(), b: b.detach(), scale: *scale })
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

    fn product(&mut self, site: &str, weight: &str, x: &Tensor) -> Result<Tensor, Error> {
        let layer = self.layer(site, weight, x)?;
        let (value, low) = layer.forward(x)?;
        let (needed, input) = (layer.needed(), x.clone());
        self.step(&value, needed, move |g, gradients| {
            if let Some(dx) = layer.backward(&input, low.as_ref(), &g, gradients)? {
                gradients.add(input.id(), dx)?;
            }
            Ok(())
        });
        Ok(value)
    }

    /// `y` with the bias of a site added to every row.
    fn add_bias(&mut self, site: &str, y: &Tensor) -> Result<Tensor, Error> {
        let name = format!("{site}.bias");
        let value = host::sum_rows(y, &self.weight(&name)?)?;
        let (base, id) = (self.learns_weight(&name), y.id());
        self.step(&value, base || self.tracks(y), move |g, gradients| {
            if base {
                gradients.add_trained(name, host::column_sums(&g)?)?;
            }
            gradients.add(id, g)
        });
        Ok(value)
    }

    /// Positions of the longest sequence, cached ones included.
    fn longest(&self) -> usize {
        self.spans.iter().map(|span| span.before.len() + span.own.len()).max().unwrap_or(0)
    }

    /// `y` with its heads turned by their positions.
    fn rotate(&mut self, y: &Tensor, rope: &Rope) -> Result<Tensor, Error> {
        let needed = self.longest();
        self.angles.retain(|(of, angles)| of != rope || angles.positions() >= needed);
        let angles = match self.angles.iter().find(|(of, _)| of == rope) {
            Some((_, angles)) => angles.clone(),
            None => {
                let angles = Angles::new(rope, needed, y.device())?;
                self.angles.push((rope.clone(), angles.clone()));
                angles
            }
        };
        let positions = self.positions.clone().ok_or(Error::NoTokens)?;
        let value = angles.rotate(y, &positions, Turn::Forward)?;
        let id = y.id();
        self.step(&value, self.tracks(y), move |g, gradients| {
            // A rotation's transpose is the rotation back.
            gradients.add(id, angles.rotate(&g, &positions, Turn::Back)?)
        });
        Ok(value)
    }

    /// `P x`.
    fn propagate(&mut self, over: &Arc<Propagation>, x: &Tensor) -> Result<Tensor, Error> {
        if over.is_identity() {
            return Ok(x.clone());
        }
        let value = graph::propagate(over, x, graph::Way::Forward)?;
        let (over, id) = (over.clone(), x.id());
        self.step(&value, self.tracks(x), move |g, gradients| {
            gradients.add(id, graph::propagate(&over, &g, graph::Way::Back)?)
        });
        Ok(value)
    }

    /// `P x W^T` in the cheaper order.
    fn convolve_value(&mut self, site: &str, x: &Tensor, over: &Arc<Propagation>) -> Result<Tensor, Error> {
        let (d_out, d_in) = self.weight(&format!("{site}.weight"))?.dims2()?;
        let entries = over.coefficients().entries();
        let cost = |rows: usize, width: usize| rows * d_in * d_out / graph::DENSE_SPEED + entries * width;
        if cost(over.rows(), d_in) < cost(over.senders(), d_out) {
            let x = self.propagate(over, x)?;
            self.product(site, site, &x)
        } else {
            let y = self.product(site, site, x)?;
            self.propagate(over, &y)
        }
    }

    /// `x W^T` with the adapter's product for features most of which are zero.
    fn sparse_product(&mut self, site: &str, x: &Arc<Features>, drop: Option<Drop>) -> Result<Tensor, Error> {
        let name = format!("{site}.weight");
        let (weight, lora) = (self.weight(&name)?, self.lora(site));
        let (base, trained) = (self.learns_weight(&name), lora.is_some() && self.learns(Learns::Adapter));
        let kept = graph::Kept::new(x, drop);
        let (value, low) = kept.forward(&weight, lora.as_ref())?;
        let site = site.to_owned();
        self.step(&value, base || trained, move |g, gradients| {
            if base {
                gradients.add_trained(name, kept.backward(&g)?)?;
            }
            if let (true, Some(lora), Some(low)) = (trained, &lora, &low) {
                let through = host::product(lora.scale, &g, &lora.b)?;
                gradients.add_trained(format!("{site}.lora_A"), kept.backward(&through)?)?;
                gradients.add_trained(format!("{site}.lora_B"), host::product(lora.scale, &g.t()?, low)?)?;
            }
            Ok(())
        });
        Ok(value)
    }

    fn layer(&self, site: &str, weight: &str, x: &Tensor) -> Result<Layer, Error> {
        let name = format!("{weight}.weight");
        let lora = self.lora(site);
        Ok(Layer {
            weight: self.weights.held(&name)?.clone(),
            format: self.format,
            dropout: self.dropout.clone().filter(|_| lora.is_some()),
            trained: lora.is_some() && self.learns(Learns::Adapter),
            lora,
            base: self.learns_weight(&name),
            input: self.tracks(x),
            site: site.to_owned(),
            name,
        })
    }

    /// Log-probabilities of labels under the head, over some rows at a time.
    fn scored_head(&mut self, layer: Layer, x: &Tensor, scoring: Scoring) -> Result<Tensor, Error> {
        let Scoring { labels, gradient } = scoring;
        let open = layer.widened()?;
        let rows = (LOGITS / open.d_out()?).max(1);
        let chunks = (0..labels.len()).step_by(rows).map(|first| (first, rows.min(labels.len() - first)));
        let chunks: Vec<(usize, usize)> = chunks.collect();
        let (mut values, mut known) = (Vec::new(), Vec::new());
        for &(first, count) in &chunks {
            let layer = open.of_rows(first, count);
            let (part, labels) = (x.narrow(0, first, count)?, &labels[first..first + count]);
            let (logits, low) = layer.forward(&part)?;
            values.push(log_prob::log_prob(&logits, labels)?);
            self.hits.extend(log_prob::hits(&logits, labels)?);
            if let (Some(gradient), true) = (&gradient, layer.needed()) {
                let mut gradients = Gradients::default();
                let g = log_prob::backward(logits, labels, &gradient[first..first + count])?;
                let dx = layer.backward(&part, low.as_ref(), &g, &mut gradients)?;
                known.push((dx, gradients));
            }
        }
        let value = Tensor::cat(&values, 0)?;
        let x = x.clone();
        self.step(&value, layer.needed(), move |g, gradients| {
            let g = g.to_vec1::<f32>()?;
            let open = if known.is_empty() { layer.widened()? } else { layer };
            let mut known = known.into_iter();
            let mut parts = Vec::new();
            for (first, count) in chunks {
                let layer = open.of_rows(first, count);
                let dx = match known.next() {
                    Some((dx, of_trained)) => {
                        gradients.add_all(of_trained)?;
                        dx
                    }
                    None => {
                        let (part, labels) = (x.narrow(0, first, count)?, &labels[first..first + count]);
                        let (logits, low) = layer.forward(&part)?;
                        let g = log_prob::backward(logits, labels, &g[first..first + count])?;
                        layer.backward(&part, low.as_ref(), &g, gradients)?
                    }
                };
                parts.extend(dx);
            }
            if parts.is_empty() { Ok(()) } else { gradients.add(x.id(), Tensor::cat(&parts, 0)?) }
        });
        Ok(value)
    }
}

impl Ops for Train<'_> {
    type Value = Tensor;
    type Error = Error;

    fn embed(&mut self, site: &str, Table { scale, .. }: Table, tokens: &Tokens) -> Result<Tensor, Error> {
        let name = format!("{site}.weight");
        let table = self.weight(&name)?;
        self.place(tokens)?;
        if let Some(cache) = &mut self.cache {
            cache.positions += tokens.ids().len();
        }
        let ids = Tensor::from_slice(tokens.ids(), tokens.ids().len(), table.device())?;
        // Of 1 there is nothing to compute.
        let scaled = move |x: Tensor| if scale == 1.0 { Ok(x) } else { x * f64::from(scale) };
        let value = scaled(table.index_select(&ids, 0)?)?;
        self.step(&value, self.learns(Learns::Base), move |g, gradients| {
            gradients.add_trained(name, table.zeros_like()?.index_add(&ids, &scaled(g)?, 0)?)
        });
        Ok(value)
    }

    fn add_positions(&mut self, site: &str, _: usize, x: &Tensor) -> Result<Tensor, Error> {
        let name = format!("{site}.weight");
        let table = self.weight(&name)?;
        let (rows, needed) = (table.dim(0)?, self.longest());
        if needed > rows {
            return Err(Error::Positions { site: site.to_owned(), rows, positions: needed });
        }
        let positions = self.positions.clone().ok_or(Error::NoTokens)?;
        let value = host::sum(x, &table.index_select(&positions, 0)?)?;
        let (base, id) = (self.learns(Learns::Base), x.id());
        self.step(&value, base || self.tracks(x), move |g, gradients| {
            if base {
                gradients.add_trained(name, table.zeros_like()?.index_add(&positions, &g, 0)?)?;
            }
            gradients.add(id, g)
        });
        Ok(value)
    }

    fn linear(&mut self, site: &str, _: usize, bias: Bias, x: &Tensor) -> Result<Tensor, Error> {
        let y = self.product(site, site, x)?;
        match bias {
            Bias::Absent => Ok(y),
            Bias::Present => self.add_bias(site, &y),
        }
    }

    fn linear_rope(&mut self, site: &str, d_out: usize, bias: Bias, x: &Tensor, rope: &Rope) -> Result<Tensor, Error> {
        let y = self.linear(site, d_out, bias, x)?;
        self.rotate(&y, rope)
    }

    fn norm_rope(&mut self, site: &str, x: &Tensor, eps: f64, rope: &Rope) -> Result<Tensor, Error> {
        // A norm whose weight has a head's width takes each head on its own.
        let y = self.rms_norm(site, x, eps)?;
        self.rotate(&y, rope)
    }

    fn layer_norm(&mut self, site: &str, x: &Tensor, eps: f64) -> Result<Tensor, Error> {
        let [weight_name, bias_name] = ["weight", "bias"].map(|kind| format!("{site}.{kind}"));
        let (weight, bias) = (self.weight(&weight_name)?, self.weight(&bias_name)?);
        let value = norm::layer_norm(x, [&weight, &bias], eps)?;
        let (base, input, x) = (self.learns(Learns::Base), self.tracks(x), x.clone());
        self.step(&value, base || input, move |g, gradients| {
            if base {
                gradients.add_trained(weight_name, norm::layer_backward_weight(&x, eps, &g)?)?;
                gradients.add_trained(bias_name, host::column_sums(&g)?)?;
            }
            if input { gradients.add(x.id(), norm::layer_backward(&x, &weight, eps, &g)?) } else { Ok(()) }
        });
        Ok(value)
    }

    fn part(&mut self, x: &Tensor, features: Range<usize>) -> Result<Tensor, Error> {
        let all = x.dim(1)?;
        let value = x.narrow(1, features.start, features.len())?.contiguous()?;
        let id = x.id();
        self.step(&value, self.tracks(x), move |g, gradients| {
            gradients.add(id, g.pad_with_zeros(1, features.start, all - features.end)?)
        });
        Ok(value)
    }

    fn rope(&mut self, x: &Tensor, rope: &Rope) -> Result<Tensor, Error> {
        self.rotate(x, rope)
    }

    fn gelu(&mut self, x: &Tensor) -> Result<Tensor, Error> {
        let value = gelu::gelu(x)?;
        let input = x.clone();
        self.step(&value, self.tracks(x), move |g, gradients| gradients.add(input.id(), gelu::backward(&input, &g)?));
        Ok(value)
    }

    fn rms_norm(&mut self, site: &str, x: &Tensor, eps: f64) -> Result<Tensor, Error> {
        let name = format!("{site}.weight");
        let weight = self.weight(&name)?;
        let value = norm::rms_norm(x, &weight, eps)?;
        let (base, input, x) = (self.learns(Learns::Base), self.tracks(x), x.clone());
        self.step(&value, base || input, move |g, gradients| {
            if base {
                gradients.add_trained(name, norm::backward_weight(&x, weight.dim(0)?, eps, &g)?)?;
            }
            if input { gradients.add(x.id(), norm::backward(&x, &weight, eps, &g)?) } else { Ok(()) }
        });
        Ok(value)
    }

    fn attention(
        &mut self,
        site: &str,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        heads: Heads,
        window: Option<usize>,
    ) -> Result<Tensor, Error> {
        let positions = self.longest();
        if let Some(window) = window.filter(|&window| window < positions) {
            return Err(Error::Window { site: site.to_owned(), window, positions });
        }
        if let Some(cache) = &mut self.cache {
            let (k, v) = match cache.layers.get(site) {
                Some((keys, values)) => (Tensor::cat(&[keys, k], 0)?, Tensor::cat(&[values, v], 0)?),
                None => (k.clone(), v.clone()),
            };
            cache.layers.insert(site.to_owned(), (k.clone(), v.clone()));
            return Ok(attention::attention([q, &k, &v], heads, &self.spans)?);
        }
        let value = attention::attention([q, k, v], heads, &self.spans)?;
        let needed = [q, k, v].into_iter().any(|x| self.tracks(x));
        let (q, k, v, spans) = (q.clone(), k.clone(), v.clone(), self.spans.clone());
        self.step(&value, needed, move |g, gradients| {
            let [dq, dk, dv] = attention::backward([&q, &k, &v], heads, &spans, &g)?;
            gradients.add(q.id(), dq)?;
            gradients.add(k.id(), dk)?;
            gradients.add(v.id(), dv)
        });
        Ok(value)
    }

    fn swiglu(&mut self, gate: &Tensor, up: &Tensor) -> Result<Tensor, Error> {
        let value = swiglu::swiglu(gate, up)?;
        let (gate, up) = (gate.clone(), up.clone());
        self.step(&value, self.tracks(&gate) || self.tracks(&up), move |g, gradients| {
            let [d_gate, d_up] = swiglu::backward(&gate, &up, &g)?;
            gradients.add(gate.id(), d_gate)?;
            gradients.add(up.id(), d_up)
        });
        Ok(value)
    }

    fn geglu(&mut self, gate: &Tensor, up: &Tensor) -> Result<Tensor, Error> {
        let value = gelu::geglu(gate, up)?;
        let (gate, up) = (gate.clone(), up.clone());
        self.step(&value, self.tracks(&gate) || self.tracks(&up), move |g, gradients| {
            let [d_gate, d_up] = gelu::geglu_backward(&gate, &up, &g)?;
            gradients.add(gate.id(), d_gate)?;
            gradients.add(up.id(), d_up)
        });
        Ok(value)
    }

    fn add(&mut self, x: &Tensor, y: &Tensor) -> Result<Tensor, Error> {
        let value = host::sum(x, y)?;
        let operands = [x.id(), y.id()];
        self.step(&value, self.tracks(x) || self.tracks(y), move |g, gradients| {
            gradients.add(operands[0], g.clone())?;
            gradients.add(operands[1], g)
        });
        Ok(value)
    }

    fn select(&mut self, x: &Tensor, rows: &[usize]) -> Result<Tensor, Error> {
        let tokens = x.dim(0)?;
        if let Some(dropout) = &mut self.dropout {
            dropout.keys = rows.iter().map(|&row| dropout.keys[row]).collect();
        }
        if rows.iter().copied().eq(0..tokens) {
            return Ok(x.clone());
        }
        let rows: Vec<u32> = rows.iter().map(|&row| row as u32).collect();
        let rows = Tensor::from_slice(&rows, rows.len(), x.device())?;
        let value = x.index_select(&rows, 0)?;
        let x = x.clone();
        self.step(&value, self.tracks(&x), move |g, gradients| {
            gradients.add(x.id(), x.zeros_like()?.index_add(&rows, &g, 0)?)
        });
        Ok(value)
    }

    fn convolve(
        &mut self,
        site: &str,
        _: usize,
        bias: Bias,
        x: Nodes<'_, Tensor>,
        over: &Arc<Propagation>,
    ) -> Result<Tensor, Error> {
        let y = match x {
            Nodes::Features(x) => {
                let drop = self.drops(false);
                match x.dense() {
                    None => {
                        let y = self.sparse_product(site, x, drop)?;
                        self.propagate(over, &y)?
                    }
                    Some(values) => {
                        let device = self.weights.device();
                        let values = drop.map_or_else(|| values.to_vec(), |drop| drop.apply(values));
                        let x = Tensor::from_vec(values, (x.rows(), x.width()), &device)?;
                        self.convolve_value(site, &x, over)?
                    }
                }
            }
            Nodes::Value(x) => self.convolve_value(site, x, over)?,
        };
        match bias {
            Bias::Absent => Ok(y),
            Bias::Present => self.add_bias(site, &y),
        }
    }

    fn attend_neighbours(
        &mut self,
        site: &str,
        x: &Tensor,
        heads: usize,
        over: &Arc<Propagation>,
    ) -> Result<Tensor, Error> {
        let names = ["att_src", "att_dst"].map(|kind| format!("{site}.{kind}"));
        let [source, target] = [self.weight(&names[0])?, self.weight(&names[1])?];
        let attention = graph::Attention { x: x.clone(), source, target, heads, drop: self.drops(true) };
        let (value, shares) = attention.forward(over)?;
        let learnt = names.each_ref().map(|name| self.learns_weight(name));
        let (over, id) = (over.clone(), x.id());
        self.step(&value, learnt.contains(&true) || self.tracks(x), move |g, gradients| {
            let [dx, source, target] = attention.backward(&over, &shares, &g)?;
            for ((name, learnt), gradient) in names.into_iter().zip(learnt).zip([source, target]) {
                if learnt {
                    gradients.add_trained(name, gradient)?;
                }
            }
            gradients.add(id, dx)
        });
        self.add_bias(site, &value)
    }

    fn relu(&mut self, x: &Tensor) -> Result<Tensor, Error> {
        let value = graph::relu(x)?;
        let (id, kept) = (x.id(), value.clone());
        self.step(&value, self.tracks(x), move |g, gradients| gradients.add(id, graph::relu_backward(&kept, &g)?));
        Ok(value)
    }

    fn dropout(&mut self, x: &Tensor) -> Result<Tensor, Error> {
        let Some(drop) = self.drops(false) else { return Ok(x.clone()) };
        let value = graph::dropped(x, drop)?;
        let id = x.id();
        self.step(&value, self.tracks(x), move |g, gradients| gradients.add(id, graph::dropped(&g, drop)?));
        Ok(value)
    }

    fn head(&mut self, site: &str, weight: &str, _: usize, x: &Tensor) -> Result<Tensor, Error> {
        match self.scoring.take() {
            None => self.product(site, weight, x),
            Some(scoring) => self.scored_head(self.layer(site, weight, x)?, x, scoring),
        }
    }
}
