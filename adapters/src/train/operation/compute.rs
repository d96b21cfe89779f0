//! Every operation of a training step from its inputs alone. What training computes is `ops`'s and `lora`'s business; a test
//! compares the two on every operation. Inputs may be foreign: shapes are checked before any kernel sees them.

use candle_core::{DType, Device, Result, Tensor};
use ftk_kernels::float::adamw::{self, Update};
use ftk_kernels::float::attention::{AttentionSpan, FactorFormat};
use ftk_kernels::float::relu::Drop;
use ftk_kernels::float::rotary::Turn;
use ftk_kernels::float::sparse::CsrMatrix;
use ftk_networks::ops::graph::Sparse;
use ftk_networks::ops::{Heads, Llama3Scaling, Rope};

use super::{Bits, Operation, spread, sums};
use crate::train::adapter::LoraFactors;
use crate::train::dropout::Dropout;
use crate::train::rotary::{Angles, TokenPlaces};
use crate::train::{attention, gelu, graph, host, linear, log_prob, norm, swiglu};

/// The most multiplications of an operation that is computed for somebody else: the head of a large vocabulary has some
/// 6e10.
const MULTIPLICATIONS: usize = 1 << 40;
/// The most entries of a result that is computed for somebody else.
const ENTRIES: usize = 1 << 28;
/// The most positions whose angles are computed for somebody else.
const POSITIONS: u32 = 1 << 22;

macro_rules! hold {
    ($($condition:tt)+) => {
        if !($($condition)+) {
            candle_core::bail!("inputs do not fit: {}", stringify!($($condition)+));
        }
    };
}

impl Operation {
    /// What it gives of these inputs, all in host memory.
    ///
    /// # Errors
    /// Inputs that do not fit.
    pub fn compute(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let one = |result: Result<Tensor>| Ok(vec![result?]);
        match (self, inputs) {
            (Self::Embed { scale }, [table, ids]) => {
                let x = select(table, ids)?;
                let scale = f64::from(*scale);
                Ok(vec![if scale == 1.0 { x } else { (x * scale)? }])
            }
            (Self::Linear {}, [x, weight]) => {
                product((rows(x)?, columns(x)?), (columns(weight)?, rows(weight)?))?;
                weighted(weight)?;
                one(linear::linear(x, weight))
            }
            (Self::LinearBack {}, [weight, g]) => {
                product((rows(g)?, columns(g)?), (rows(weight)?, columns(weight)?))?;
                weighted(weight)?;
                one(linear::backward(weight, g))
            }
            (Self::LoraLinear { scale }, [x, dropped, weight, a, b]) => {
                product((rows(x)?, columns(x)?), (columns(weight)?, rows(weight)?))?;
                hold!(x.dims() == dropped.dims() && columns(a)? == columns(x)?);
                hold!(rows(b)? == rows(weight)? && columns(b)? == rows(a)? && rows(a)? > 0);
                weighted(weight)?;
                floats([x, dropped, a, b])?;
                let lora = LoraFactors { a: a.clone(), b: b.clone(), scale: (*scale).into() };
                let (y, low) = linear::lora_linear(x, dropped, weight, &lora)?;
                Ok(vec![y, low])
            }
            (Self::LoraBack { scale }, [dropped, low, a, b, g]) => {
                hold!(rows(dropped)? == rows(g)? && rows(low)? == rows(g)? && rows(g)? > 0);
                hold!(columns(low)? == rows(a)? && columns(a)? == columns(dropped)?);
                hold!(columns(b)? == rows(a)? && rows(b)? == columns(g)? && rows(a)? > 0);
                product((rows(g)?, columns(g)?), (rows(b)?, columns(b)?))?;
                floats([dropped, low, a, b, g])?;
                let lora = LoraFactors { a: a.clone(), b: b.clone(), scale: (*scale).into() };
                Ok(linear::backward_lora(dropped, low, &lora, g)?.to_vec())
            }
            (Self::Drop { site, rate }, [x, keys]) => {
                let rate = f64::from(*rate);
                hold!((0.0..1.0).contains(&rate) && columns(x)? > 0);
                let keys = keys.to_vec1::<i64>()?.into_iter().map(|key| key as u64).collect();
                floats([x])?;
                one(Dropout { rate, keys }.apply(site, x))
            }
            (Self::AddRow {}, [x, row]) => {
                hold!(row.elem_count() > 0);
                floats([x, row])?;
                one(host::sum_rows(x, row))
            }
            (Self::Sum {}, [x, y]) => {
                hold!(x.dims() == y.dims());
                floats([x, y])?;
                one(host::sum(x, y))
            }
            (Self::Rotate { dim, theta, scaling, back }, [x, positions]) => {
                hold!(*dim > 1 && dim.is_multiple_of(2) && columns(x)? > 0 && columns(x)?.is_multiple_of(*dim));
                let at = positions.to_vec1::<u32>()?;
                hold!(at.len() == rows(x)? && at.iter().all(|&position| position < POSITIONS));
                hold!(dim.saturating_mul(at.iter().copied().max().unwrap_or(0) as usize) < ENTRIES);
                floats([x])?;
                let scaling = scaling.map(|([factor, low, high], original_context)| Llama3Scaling {
                    factor: factor.into(),
                    low_freq_factor: low.into(),
                    high_freq_factor: high.into(),
                    original_context,
                });
                let rope = Rope { dim: *dim, theta: (*theta).into(), scaling };
                let angles = Angles::new(&rope, at.iter().max().map_or(0, |&most| most as usize + 1), x.device())?;
                let places = TokenPlaces::new(at, x.device())?;
                one(angles.rotate(x, &places, if *back { Turn::Back } else { Turn::Forward }))
            }
            (Self::RmsNorm { eps }, [x, weight]) => {
                normed(x, weight)?;
                one(norm::rms_norm(x, weight, (*eps).into()))
            }
            (Self::RmsNormBack { eps }, [x, weight, g]) => {
                normed(x, weight)?;
                hold!(x.dims() == g.dims());
                floats([g])?;
                one(norm::backward(x, weight, (*eps).into(), g))
            }
            (Self::LayerNorm { eps }, [x, weight, bias]) => {
                normed(x, weight)?;
                hold!(weight.dims() == bias.dims() && columns(x)? == weight.elem_count());
                floats([bias])?;
                one(norm::layer_norm(x, [weight, bias], (*eps).into()))
            }
            (Self::LayerNormBack { eps }, [x, weight, g]) => {
                normed(x, weight)?;
                hold!(x.dims() == g.dims() && columns(x)? == weight.elem_count());
                floats([g])?;
                one(norm::layer_backward(x, weight, (*eps).into(), g))
            }
            (Self::Part { from, count }, [x]) => one(x.narrow(1, *from, *count)?.contiguous()),
            (Self::PartBack { from, of }, [g]) => {
                let most = ENTRIES / rows(g)?.max(1);
                let end = from.checked_add(columns(g)?).filter(|end| end <= of && *of <= most);
                let Some(end) = end else { candle_core::bail!("a part does not lie in {of} features") };
                one(g.pad_with_zeros(1, *from, of - end))
            }
            (Self::Rows { from, count }, [x]) => one(x.narrow(0, *from, *count)),
            (Self::Join {}, parts) => {
                hold!(!parts.is_empty());
                one(Tensor::cat(parts, 0))
            }
            (Self::Select {}, [x, rows]) => one(select(x, rows)),
            (Self::SelectBack { of }, [g, rows]) => {
                let rows = within(rows, *of)?;
                hold!(*of <= ENTRIES / columns(g)?.max(1) && rows.elem_count() == self::rows(g)?);
                floats([g])?;
                one(Tensor::zeros((*of, columns(g)?), DType::F32, &Device::Cpu)?.index_add(rows, g, 0))
            }
            (Self::Gelu {}, [x]) => {
                floats([x])?;
                one(gelu::gelu(x))
            }
            (Self::GeluBack {}, [x, g]) => {
                alike([x, g])?;
                one(gelu::backward(x, g))
            }
            (Self::Swiglu {}, [gate, up]) => {
                alike([gate, up])?;
                one(swiglu::swiglu(gate, up))
            }
            (Self::SwigluBack {}, [gate, up, g]) => {
                alike([gate, up, g])?;
                Ok(swiglu::backward(gate, up, g)?.to_vec())
            }
            (Self::Geglu {}, [gate, up]) => {
                alike([gate, up])?;
                one(gelu::geglu(gate, up))
            }
            (Self::GegluBack {}, [gate, up, g]) => {
                alike([gate, up, g])?;
                Ok(gelu::geglu_backward(gate, up, g)?.to_vec())
            }
            (Self::Attention { heads, spans, bf16 }, [q, k, v]) => {
                let (heads, spans) = attended([q, k, v], heads, spans)?;
                one(attention::attention([q, k, v], heads, factors(*bf16), &spans))
            }
            (Self::AttentionBack { heads, spans, bf16 }, [q, k, v, g]) => {
                let (heads, spans) = attended([q, k, v], heads, spans)?;
                alike([q, g])?;
                Ok(attention::backward([q, k, v], heads, factors(*bf16), &spans, g)?.to_vec())
            }
            (Self::EmbedBack { scale, of }, [g, ids]) => {
                let ids = within(ids, *of)?;
                hold!(*of <= ENTRIES / columns(g)?.max(1) && ids.elem_count() == self::rows(g)?);
                floats([g])?;
                let scale = f64::from(*scale);
                let g = if scale == 1.0 { g.clone() } else { (g * scale)? };
                one(Tensor::zeros((*of, columns(&g)?), DType::F32, &Device::Cpu)?.index_add(ids, &g, 0))
            }
            (Self::WeightBack {}, [x, g]) => {
                product((columns(g)?, rows(g)?), (rows(x)?, columns(x)?))?;
                floats([x, g])?;
                one(host::product(1.0, &g.t()?, x))
            }
            (Self::RowBack {}, [g]) => {
                hold!(columns(g)? > 0);
                floats([g])?;
                one(host::column_sums(g))
            }
            (Self::RmsNormWeightBack { eps, width }, [x, g]) => {
                alike([x, g])?;
                hold!(*width > 0 && columns(x)?.is_multiple_of(*width));
                one(norm::backward_weight(x, *width, (*eps).into(), g))
            }
            (Self::LayerNormWeightBack { eps }, [x, g]) => {
                alike([x, g])?;
                hold!(columns(x)? > 0);
                one(norm::layer_backward_weight(x, (*eps).into(), g))
            }
            (Self::Messages {}, [x, starts, columns, values]) => {
                let (senders, width) = x.dims2()?;
                let ((starts, columns), values) = (entries(starts, columns, senders)?, values.to_vec1::<f32>()?);
                floats([x])?;
                hold!(columns.len() == values.len());
                hold!(starts.len().saturating_mul(width) <= ENTRIES && width > 0);
                hold!(columns.len().saturating_mul(width) <= MULTIPLICATIONS);
                one(graph::times(CsrMatrix::new(&starts, &columns, &values, senders), x))
            }
            (Self::Transpose {}, [x]) => one(x.t()?.contiguous()),
            (Self::Product { scale, turned }, [x, y]) => {
                let turn = |x: &Tensor, turned: bool| if turned { x.t() } else { Ok(x.clone()) };
                let (x, y) = (turn(x, turned[0])?, turn(y, turned[1])?);
                product((rows(&x)?, columns(&x)?), (rows(&y)?, columns(&y)?))?;
                floats([&x, &y])?;
                one(host::product((*scale).into(), &x, &y))
            }
            (Self::Relu {}, [x]) => {
                floats([x])?;
                one(graph::relu(x))
            }
            (Self::ReluBack {}, [y, g]) => {
                alike([y, g])?;
                one(graph::relu_backward(y, g))
            }
            (Self::AttendNeighbours { heads, drop }, [x, source, target, starts, senders]) => {
                let (attention, edges) = attending([x, source, target], *heads, *drop, [starts, senders])?;
                Ok(attention.forward(&edges)?.to_vec())
            }
            (Self::AttendNeighboursBack { heads, drop }, [x, source, target, shares, g, starts, senders]) => {
                let (attention, edges) = attending([x, source, target], *heads, *drop, [starts, senders])?;
                alike([x, g])?;
                floats([shares])?;
                hold!(shares.dims() == [edges.entries(), *heads]);
                Ok(attention.backward(&edges, &edges.transposed(), shares, g)?.to_vec())
            }
            (Self::Thin { share, key }, [x]) => {
                let share = f64::from(*share);
                hold!((0.0..1.0).contains(&share));
                floats([x])?;
                one(graph::dropped(x, Drop::new(share, *key)))
            }
            (Self::Pull { weight }, [value]) => {
                floats([value])?;
                one(graph::pulled(value, (*weight).into(), None))
            }
            (Self::Pull { weight }, [value, g]) => {
                alike([value, g])?;
                one(graph::pulled(value, (*weight).into(), Some(g)))
            }
            (Self::Stated {}, [beside]) => Ok(vec![beside.clone()]),
            (Self::Fill { value, count }, []) => {
                hold!(*count <= ENTRIES);
                one(Tensor::full(f64::from(*value) as f32, *count, &Device::Cpu))
            }
            (Self::Sums { tokens }, [log_probs]) => {
                let values = log_probs.to_vec1::<f32>()?;
                hold!(total(tokens) == Some(values.len()));
                let sums = sums(&values, tokens);
                one(Tensor::from_slice(&sums, sums.len(), &Device::Cpu))
            }
            (Self::Spread { tokens }, [slopes]) => {
                let slopes = slopes.to_vec1::<f64>()?;
                hold!(slopes.len() == tokens.len() && total(tokens).is_some_and(|total| total <= ENTRIES));
                let slopes = spread(&slopes, tokens);
                one(Tensor::from_slice(&slopes, slopes.len(), &Device::Cpu))
            }
            (Self::Task { .. }, _) => candle_core::bail!("what a task makes of results is computed by who knows tasks"),
            (Self::LogProb {}, [logits, labels]) => {
                let labels = labelled(logits, labels)?;
                let sums = log_prob::log_sums(logits, &labels)?;
                one(log_prob::log_prob(logits, &labels, sums.as_deref()))
            }
            (Self::LogProbBack {}, [logits, labels, slopes]) => {
                let labels = labelled(logits, labels)?;
                let slopes = slopes.to_vec1::<f32>()?;
                hold!(slopes.len() == labels.len());
                let sums = log_prob::log_sums(logits, &labels)?;
                one(log_prob::backward(logits.copy()?, &labels, sums.as_deref(), &slopes))
            }
            (Self::Accumulate {}, [g]) => one(host::sum(&g.zeros_like()?, g)),
            (Self::Accumulate {}, [sum, g]) => {
                alike([sum, g])?;
                one(host::sum(sum, g))
            }
            (Self::Mean { items }, [sum]) => {
                let share = (1.0 / *items as f64) as f32;
                let mean: Vec<f32> = sum.flatten_all()?.to_vec1::<f32>()?.into_iter().map(|sum| sum * share).collect();
                one(Tensor::from_vec(mean, sum.shape(), &Device::Cpu))
            }
            (Self::Norm {}, gradients) => {
                let values: Vec<Vec<f32>> =
                    gradients.iter().map(|g| g.flatten_all()?.to_vec1()).collect::<Result<_>>()?;
                one(Tensor::new(adamw::norm(values.iter().map(Vec::as_slice)), &Device::Cpu))
            }
            (Self::AdamW { rate, updates, betas, eps, weight_decay, max_norm }, [value, first, second, g, norm]) => {
                alike([value, first, second, g])?;
                let update = Update {
                    rate: (*rate).into(),
                    updates: *updates,
                    betas: betas.map(f64::from),
                    eps: (*eps).into(),
                    weight_decay: (*weight_decay).into(),
                    max_norm: (*max_norm).into(),
                };
                let numbers = |x: &Tensor| x.flatten_all()?.to_vec1::<f32>();
                let (mut after, g) = ([numbers(value)?, numbers(first)?, numbers(second)?], numbers(g)?);
                let [value_after, first_after, second_after] = &mut after;
                update.apply([value_after, first_after, second_after], &g, norm.to_scalar()?);
                after.into_iter().map(|part| Tensor::from_vec(part, value.shape(), &Device::Cpu)).collect()
            }
            _ => candle_core::bail!("an operation with {} inputs, which it does not have", inputs.len()),
        }
    }
}

fn total(counts: &[usize]) -> Option<usize> {
    counts.iter().try_fold(0usize, |sum, &count| sum.checked_add(count))
}

fn rows(x: &Tensor) -> Result<usize> {
    Ok(x.dims2()?.0)
}

fn columns(x: &Tensor) -> Result<usize> {
    Ok(x.dims2()?.1)
}

/// Whether factors `(m, k)` and `(k, n)` can be multiplied, in reasonable time.
fn product((m, k): (usize, usize), (inner, n): (usize, usize)) -> Result<()> {
    hold!(k == inner && m > 0 && k > 0 && n > 0);
    hold!(m.saturating_mul(n) <= ENTRIES && m.saturating_mul(n).saturating_mul(k) <= MULTIPLICATIONS);
    Ok(())
}

fn floats<const N: usize>(tensors: [&Tensor; N]) -> Result<()> {
    hold!(tensors.iter().all(|tensor| tensor.dtype() == DType::F32));
    Ok(())
}

/// A weight in a number format that products with weights have.
fn weighted(weight: &Tensor) -> Result<()> {
    hold!(matches!(weight.dtype(), DType::F32 | DType::BF16));
    Ok(())
}

fn alike<const N: usize>(tensors: [&Tensor; N]) -> Result<()> {
    hold!(tensors.iter().all(|tensor| tensor.dims() == tensors[0].dims()));
    floats(tensors)
}

fn normed(x: &Tensor, weight: &Tensor) -> Result<()> {
    hold!(weight.dims().len() == 1 && weight.elem_count() > 0 && columns(x)?.is_multiple_of(weight.elem_count()));
    floats([x, weight])
}

/// Row numbers, all below `of`.
fn within(rows: &Tensor, of: usize) -> Result<&Tensor> {
    hold!(rows.to_vec1::<u32>()?.iter().all(|&row| (row as usize) < of));
    Ok(rows)
}

fn select(x: &Tensor, rows: &Tensor) -> Result<Tensor> {
    floats([x])?;
    let rows = within(rows, self::rows(x)?)?;
    hold!(rows.elem_count().saturating_mul(columns(x)?) <= ENTRIES);
    x.index_select(rows, 0)
}

fn labelled(logits: &Tensor, labels: &Tensor) -> Result<Vec<u32>> {
    floats([logits])?;
    let labels = within(labels, columns(logits)?)?.to_vec1::<u32>()?;
    hold!(!labels.is_empty() && labels.len() == rows(logits)?);
    Ok(labels)
}

/// Where the rows of a sparse matrix begin, and the column of each entry, all below `width`.
fn entries(starts: &Tensor, columns: &Tensor, width: usize) -> Result<(Vec<usize>, Vec<u32>)> {
    let start = |start: i64| usize::try_from(start).map_err(candle_core::Error::wrap);
    let starts = starts.to_vec1::<i64>()?.into_iter().map(start).collect::<Result<Vec<_>>>()?;
    let columns = columns.to_vec1::<u32>()?;
    hold!(starts.first() == Some(&0) && starts.is_sorted() && starts.last() == Some(&columns.len()));
    hold!(columns.iter().all(|&column| (column as usize) < width));
    Ok((starts, columns))
}

/// Attention over neighbours, and who hears whom.
fn attending(
    [x, source, target]: [&Tensor; 3],
    heads: usize,
    drop: Option<(Bits, u64)>,
    [starts, senders]: [&Tensor; 2],
) -> Result<(graph::Attention, Sparse<()>)> {
    let (nodes, width) = x.dims2()?;
    floats([x, source, target])?;
    hold!(nodes > 0 && width > 0 && heads > 0 && width.is_multiple_of(heads));
    hold!(source.elem_count() == width && target.elem_count() == width);
    let drop = drop.map(|(share, key)| (f64::from(share), key));
    hold!(drop.is_none_or(|(share, _)| (0.0..1.0).contains(&share)));
    let (starts, senders) = entries(starts, senders, nodes)?;
    let rows = || starts.windows(2).map(|row| &senders[row[0]..row[1]]);
    hold!(starts.len() == nodes + 1 && rows().all(|row| row.is_sorted_by(|a, b| a < b)));
    hold!(senders.len().saturating_mul(heads) <= ENTRIES && senders.len().saturating_mul(width) <= MULTIPLICATIONS);
    let edges = Sparse::from_rows(nodes, rows().map(|row| row.iter().map(|&sender| (sender, ()))));
    let (x, source, target) = (x.clone(), source.clone(), target.clone());
    Ok((graph::Attention { x, source, target, heads, drop }, edges))
}

fn factors(bf16: bool) -> FactorFormat {
    if bf16 { FactorFormat::Bf16 } else { FactorFormat::F32 }
}

fn attended(
    [q, k, v]: [&Tensor; 3],
    heads: &[usize; 3],
    spans: &[[[usize; 2]; 3]],
) -> Result<(Heads, Vec<AttentionSpan>)> {
    let [query, key_value, dim] = *heads;
    alike([k, v])?;
    floats([q])?;
    hold!(key_value > 0 && dim > 0 && query > 0 && query.is_multiple_of(key_value));
    hold!(query.checked_mul(dim) == Some(columns(q)?) && key_value.checked_mul(dim) == Some(columns(k)?));
    let mut end = 0;
    let mut cost = 0usize;
    for [rows, own, before] in spans {
        hold!(rows[0] == end && rows[0] < rows[1] && own[0] < own[1] && own[1] - own[0] == rows[1] - rows[0]);
        hold!(before[0] <= before[1] && own[1] <= self::rows(k)? && before[1] <= self::rows(k)?);
        cost = cost.saturating_add((rows[1] - rows[0]).saturating_mul(own[1] - own[0] + before[1] - before[0]));
        end = rows[1];
    }
    hold!(end == rows(q)? && cost.saturating_mul(query.saturating_mul(dim)) <= MULTIPLICATIONS);
    let range = |[start, end]: [usize; 2]| start..end;
    let span = |[rows, own, before]: &[[usize; 2]; 3]| AttentionSpan {
        rows: range(*rows),
        own: range(*own),
        before: range(*before),
    };
    Ok((Heads { query, key_value, dim }, spans.iter().map(span).collect()))
}
