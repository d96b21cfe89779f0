//! The operations of a training step as data: which there are and what they take. `compute` computes each from its inputs
//! alone, by the kernels that training uses.

use candle_core::{CpuStorage, Result, Storage, Tensor};
use ftk_kernels::float::adamw::Update;
use ftk_kernels::float::attention::{AttentionSpan, FactorFormat};
use ftk_kernels::float::rotary::Turn;
use ftk_networks::ops::{Heads, Rope};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

mod compute;

/// The bits of a binary64, which every reader of JSON gives back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Bits(u64);

impl From<f64> for Bits {
    fn from(value: f64) -> Self {
        Self(value.to_bits())
    }
}

impl From<Bits> for f64 {
    fn from(Bits(bits): Bits) -> Self {
        Self::from_bits(bits)
    }
}

/// One operation, but for its inputs. Shapes as `(rows, features)`; what is learnt of an input on the way back is `d` and
/// its name, `g` the gradient of a result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Operation {
    /// Rows of a table: `table`, `ids`; scaled.
    Embed {
        /// By what.
        scale: Bits,
    },
    /// `x W^T`: `x`, `weight`.
    Linear {},
    /// `g W`: `weight`, `g`.
    LinearBack {},
    /// `x W^T + scale (dropped A^T) B^T`, and `dropped A^T`: `x`, `dropped`, `weight`, `a`, `b`.
    LoraLinear {
        /// Factor of the adapter's product.
        scale: Bits,
    },
    /// `d dropped`, `dA`, `dB`: `dropped`, `low`, `a`, `b`, `g`.
    LoraBack {
        /// Factor of the adapter's product.
        scale: Bits,
    },
    /// Entries dropped: `x`, `keys` by row.
    Drop {
        /// The site, which decides with the keys.
        site: String,
        /// Share that is dropped.
        rate: Bits,
    },
    /// A row added to every row: `x`, `row`.
    AddRow {},
    /// `x + y`: `x`, `y`.
    Sum {},
    /// Heads turned by their positions: `x`, `positions`.
    Rotate {
        /// Width of a head.
        dim: usize,
        /// Base of the wavelengths.
        theta: Bits,
        /// Factor, low and high frequency factor, where wavelengths are stretched, and the context they were made for.
        scaling: Option<([Bits; 3], usize)>,
        /// Whether they are turned back.
        back: bool,
    },
    /// `x`, `weight`.
    RmsNorm {
        /// Added to the mean square.
        eps: Bits,
    },
    /// `dx`: `x`, `weight`, `g`.
    RmsNormBack {
        /// Added to the mean square.
        eps: Bits,
    },
    /// `x`, `weight`, `bias`.
    LayerNorm {
        /// Added to the variance.
        eps: Bits,
    },
    /// `dx`: `x`, `weight`, `g`.
    LayerNormBack {
        /// Added to the variance.
        eps: Bits,
    },
    /// Some features: `x`.
    Part {
        /// The first.
        from: usize,
        /// How many.
        count: usize,
    },
    /// `dx`: `g`, with zeros around it.
    PartBack {
        /// The first.
        from: usize,
        /// Features of `x`.
        of: usize,
    },
    /// Some rows, one after another: `x`.
    Rows {
        /// The first.
        from: usize,
        /// How many.
        count: usize,
    },
    /// Rows of several, one after another.
    Join {},
    /// Rows by number: `x`, `rows`.
    Select {},
    /// `dx`: `g`, `rows`.
    SelectBack {
        /// Rows of `x`.
        of: usize,
    },
    /// `x`.
    Gelu {},
    /// `dx`: `x`, `g`.
    GeluBack {},
    /// `gate`, `up`.
    Swiglu {},
    /// `d gate`, `d up`: `gate`, `up`, `g`.
    SwigluBack {},
    /// `gate`, `up`.
    Geglu {},
    /// `d gate`, `d up`: `gate`, `up`, `g`.
    GegluBack {},
    /// `q`, `k`, `v`.
    Attention {
        /// Heads of queries, heads of keys, features of one.
        heads: [usize; 3],
        /// Of each sequence: its rows among queries, its own among keys, those before it.
        spans: Vec<[[usize; 2]; 3]>,
        /// Whether factors are multiplied in bf16.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        bf16: bool,
    },
    /// `dq`, `dk`, `dv`: `q`, `k`, `v`, `g`.
    AttentionBack {
        /// As on the way there.
        heads: [usize; 3],
        /// As on the way there.
        spans: Vec<[[usize; 2]; 3]>,
        /// As on the way there.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        bf16: bool,
    },
    /// What a table learns: `g`, `ids`; scaled.
    EmbedBack {
        /// By what.
        scale: Bits,
        /// Rows of the table.
        of: usize,
    },
    /// What a weight learns, `g^T x`: `x`, `g`.
    WeightBack {},
    /// What a row that was added to every row learns: `g`.
    RowBack {},
    /// What the weight of a norm learns: `x`, `g`.
    RmsNormWeightBack {
        /// Added to the mean square.
        eps: Bits,
        /// Entries of the weight.
        width: usize,
    },
    /// What the weight of a norm learns: `x`, `g`.
    LayerNormWeightBack {
        /// Added to the variance.
        eps: Bits,
    },
    /// What senders send along edges, `M x`: `x`, and where the rows of `M` begin, the column of each entry, its value.
    Messages {},
    /// Rows and columns exchanged: `x`.
    Transpose {},
    /// `scale x y`: `x`, `y`.
    Product {
        /// By what.
        scale: Bits,
        /// Which of them is taken with rows and columns exchanged.
        turned: [bool; 2],
    },
    /// `max(x, 0)`: `x`.
    Relu {},
    /// `dx`: what [`Operation::Relu`] gave, `g`.
    ReluBack {},
    /// What every node receives by attention over its neighbours, and the shares `(edges, heads)` that it is made of: `x`,
    /// `source`, `target`, and where the neighbours of each node begin, the sender of each edge.
    AttendNeighbours {
        /// Heads.
        heads: usize,
        /// Share of the senders that is dropped, and which decides.
        drop: Option<(Bits, u64)>,
    },
    /// `dx`, `d source`, `d target`: `x`, `source`, `target`, the shares, `g`, and the edges as on the way there.
    AttendNeighboursBack {
        /// As on the way there.
        heads: usize,
        /// As on the way there.
        drop: Option<(Bits, u64)>,
    },
    /// Entries of a graph's values dropped: `x`.
    Thin {
        /// Share that is dropped.
        share: Bits,
        /// Which decides.
        key: u64,
    },
    /// A gradient pulled towards zero with the value, `g + weight value`: `value`, and `g` where there is one.
    Pull {
        /// How much.
        weight: Bits,
    },
    /// What is taken as it is said to be, a graph's features: `beside`.
    Stated {},
    /// One number, so many times: the slopes of a loss that does not depend on its log-probabilities.
    Fill {
        /// The number.
        value: Bits,
        /// How many times.
        count: usize,
    },
    /// Sums, in binary64, of so many log-probabilities each: `log_probs`.
    Sums {
        /// How many each.
        tokens: Vec<usize>,
    },
    /// Slopes by log-probability of those by sum: `slopes`.
    Spread {
        /// How many each.
        tokens: Vec<usize>,
    },
    /// What a task makes of results, with what it compares them with. Whoever knows tasks computes it.
    Task {
        /// Which, in the task's words; keys in their order, so that it is written in one way alone.
        #[serde(deserialize_with = "sorted")]
        rule: Value,
    },
    /// Log-probability of a label a row: `logits`, `labels`.
    LogProb {},
    /// `d logits`: `logits`, `labels`, `slopes`.
    LogProbBack {},
    /// The sum of what batches have learnt: the first `g`, or the `sum` so far and the next `g`.
    Accumulate {},
    /// The mean over the step's items: `sum`.
    Mean {
        /// How many.
        items: u64,
    },
    /// The norm of all gradients.
    Norm {},
    /// `value`, `first`, `second` after an update: before it, with the gradient and `norm`.
    AdamW {
        /// Learning rate.
        rate: Bits,
        /// Updates with this one.
        updates: u32,
        /// Decay of the moments.
        betas: [Bits; 2],
        /// Added to the root of the second moment.
        eps: Bits,
        /// How much values are pulled to zero.
        weight_decay: Bits,
        /// What the norm is cut to.
        max_norm: Bits,
    },
}

impl Operation {
    /// What its inputs are called, as many as it has; of those with any number, what each is called.
    pub fn inputs(&self) -> &'static [&'static str] {
        match self {
            Self::Embed { .. } => &["table", "ids"],
            Self::Linear {} => &["x", "weight"],
            Self::LinearBack {} => &["weight", "g"],
            Self::LoraLinear { .. } => &["x", "dropped", "weight", "a", "b"],
            Self::LoraBack { .. } => &["dropped", "low", "a", "b", "g"],
            Self::Drop { .. } => &["x", "keys"],
            Self::AddRow {} => &["x", "weight"],
            Self::Sum {} => &["x", "y"],
            Self::Rotate { .. } => &["x", "positions"],
            Self::RmsNorm { .. } => &["x", "weight"],
            Self::RmsNormBack { .. } | Self::LayerNormBack { .. } => &["x", "weight", "g"],
            Self::LayerNorm { .. } => &["x", "weight", "weight"],
            Self::Part { .. } | Self::Rows { .. } | Self::Gelu {} | Self::Join {} => &["x"],
            Self::PartBack { .. } | Self::RowBack {} | Self::Accumulate {} | Self::Mean { .. } | Self::Norm {} => {
                &["g"]
            }
            Self::Select {} => &["x", "rows"],
            Self::SelectBack { .. } => &["g", "rows"],
            Self::GeluBack {} => &["x", "g"],
            Self::Swiglu {} | Self::Geglu {} => &["gate", "up"],
            Self::SwigluBack {} | Self::GegluBack {} => &["gate", "up", "g"],
            Self::Attention { .. } => &["q", "k", "v"],
            Self::AttentionBack { .. } => &["q", "k", "v", "g"],
            Self::Messages {} => &["x", "graph"],
            Self::Transpose {} | Self::Relu {} | Self::Thin { .. } => &["x"],
            Self::Product { .. } => &["x", "y"],
            Self::ReluBack {} => &["y", "g"],
            Self::AttendNeighbours { .. } => &["x", "weight", "weight", "graph"],
            Self::AttendNeighboursBack { .. } => &["x", "weight", "weight", "shares", "g", "graph"],
            Self::Pull { .. } => &["value", "g"],
            Self::Stated {} => &["beside"],
            Self::EmbedBack { .. } => &["g", "ids"],
            Self::WeightBack {} | Self::RmsNormWeightBack { .. } | Self::LayerNormWeightBack { .. } => &["x", "g"],
            Self::Fill { .. } => &[],
            Self::Sums { .. } => &["log_probs"],
            Self::Spread { .. } => &["slopes"],
            Self::Task { .. } => &["x", "beside"],
            Self::LogProb {} => &["logits", "labels"],
            Self::LogProbBack {} => &["logits", "labels", "slopes"],
            Self::AdamW { .. } => &["value", "first", "second", "g", "norm"],
        }
    }

    /// Its name in a record.
    pub fn name(&self) -> String {
        let value = serde_json::to_value(self).expect("numbers and text serialise");
        value["kind"].as_str().unwrap_or_default().to_owned()
    }

    /// Whether an input of that name may come from nowhere: it is the base's, a reference's or the row's. All others are
    /// results of operations before, or the state.
    pub fn is_given(name: &str) -> bool {
        ["table", "ids", "weight", "a", "b", "keys", "positions", "rows", "labels", "beside", "graph"].contains(&name)
    }

    /// What a task makes of results, by a rule in its own words.
    pub fn task(rule: &impl Serialize) -> Self {
        let mut rule = serde_json::to_value(rule).expect("numbers and text serialise");
        rule.sort_all_objects();
        Self::Task { rule }
    }

    /// A turn by angles.
    pub(super) fn rotate(rope: &Rope, turn: Turn) -> Self {
        let Rope { dim, theta, scaling } = rope;
        let scaling = scaling
            .as_ref()
            .map(|it| ([it.factor, it.low_freq_factor, it.high_freq_factor].map(Bits::from), it.original_context));
        Self::Rotate { dim: *dim, theta: (*theta).into(), scaling, back: turn == Turn::Back }
    }

    /// Attention, or its way back.
    pub(super) fn attention(heads: Heads, format: FactorFormat, spans: &[AttentionSpan], back: bool) -> Self {
        let heads = [heads.query, heads.key_value, heads.dim];
        let spans =
            spans.iter().map(|AttentionSpan { rows, own, before }| [rows, own, before].map(|it| [it.start, it.end]));
        let (spans, bf16) = (spans.collect(), format == FactorFormat::Bf16);
        if back { Self::AttentionBack { heads, spans, bf16 } } else { Self::Attention { heads, spans, bf16 } }
    }

    /// An update.
    pub fn update(update: &Update) -> Self {
        let Update { rate, updates, betas, eps, weight_decay, max_norm } = *update;
        let [rate, eps, weight_decay, max_norm] = [rate, eps, weight_decay, max_norm].map(Bits::from);
        Self::AdamW { rate, updates, betas: betas.map(Bits::from), eps, weight_decay, max_norm }
    }
}

/// JSON with the keys of all objects in their order.
fn sorted<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<Value, D::Error> {
    let mut value = Value::deserialize(from)?;
    value.sort_all_objects();
    Ok(value)
}

/// Sums of so many values each, one after another.
///
/// # Panics
/// If there are fewer values.
pub fn sums(values: &[f32], tokens: &[usize]) -> Vec<f64> {
    let mut rest = values;
    let sum = |&count: &usize| {
        let (of, after) = rest.split_at(count);
        rest = after;
        of.iter().map(|&value| f64::from(value)).sum()
    };
    tokens.iter().map(sum).collect()
}

/// Each number, so many times, one after another.
pub fn spread(numbers: &[f64], tokens: &[usize]) -> Vec<f32> {
    numbers.iter().zip(tokens).flat_map(|(&number, &count)| std::iter::repeat_n(number as f32, count)).collect()
}

/// The digest of a tensor in host memory: its type, its shape and its entries, row by row.
///
/// # Errors
/// A tensor elsewhere, or of a type that no operation has.
pub fn digest(tensor: &Tensor) -> Result<blake3::Hash> {
    let tensor = tensor.contiguous()?;
    let mut hash = blake3::Hasher::new_derive_key("ftk record 1 tensor");
    let mut name = |kind: u8| {
        hash.update(&[kind]).update(&(tensor.dims().len() as u64).to_le_bytes());
        for &length in tensor.dims() {
            hash.update(&(length as u64).to_le_bytes());
        }
    };
    let (storage, layout) = tensor.storage_and_layout();
    let of = layout.start_offset()..layout.start_offset() + layout.shape().elem_count();
    /// Entries in bytes, some at a time.
    fn add<T, const N: usize>(hash: &mut blake3::Hasher, values: &[T], bytes: impl Fn(&T) -> [u8; N]) {
        let mut some = Vec::with_capacity(N << 12);
        for values in values.chunks(1 << 12) {
            some.clear();
            values.iter().for_each(|value| some.extend(bytes(value)));
            hash.update(&some);
        }
    }
    match &*storage {
        Storage::Cpu(CpuStorage::F32(values)) => {
            name(0);
            add(&mut hash, &values[of], |value| value.to_le_bytes());
        }
        Storage::Cpu(CpuStorage::F64(values)) => {
            name(1);
            add(&mut hash, &values[of], |value| value.to_le_bytes());
        }
        Storage::Cpu(CpuStorage::U32(values)) => {
            name(2);
            add(&mut hash, &values[of], |value| value.to_le_bytes());
        }
        Storage::Cpu(CpuStorage::I64(values)) => {
            name(3);
            add(&mut hash, &values[of], |value| value.to_le_bytes());
        }
        Storage::Cpu(CpuStorage::BF16(values)) => {
            name(4);
            add(&mut hash, &values[of], |value| value.to_le_bytes());
        }
        _ => candle_core::bail!("only numbers in host memory are recorded"),
    }
    Ok(hash.finalize())
}
