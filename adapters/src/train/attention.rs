//! Causal grouped-query attention.

use std::ops::Range;

use candle_core::{D, Device, Result, Tensor};
use ftk_kernels::float::attention::{self as kernel, AttentionShape, AttentionSpan, FactorFormat, Operands};
use ftk_networks::ops::Heads;

use super::host;

/// Attention of `q` `(rows, query * dim)` over `k` and `v` `(positions, key_value * dim)` within each
/// span. The result has the shape of `q`. On a device products are in f32 whatever the format.
pub(super) fn attention(
    [q, k, v]: [&Tensor; 3],
    heads: Heads,
    format: FactorFormat,
    spans: &[AttentionSpan],
) -> Result<Tensor> {
    let on_host = |[q, k, v]: [&[f32]; 3]| Ok(kernel::attention(Operands { q, k, v }, shape(heads), format, spans));
    match host::read([q, k, v], on_host)? {
        Some(values) => Tensor::from_vec(values, q.shape(), q.device()),
        None => on_device([q, k, v], heads, spans),
    }
}

/// Gradients of [`attention`] with respect to `q`, `k` and `v`, given that of its result. Probabilities
/// are computed again: they would be the largest activation kept.
pub(super) fn backward(
    [q, k, v]: [&Tensor; 3],
    heads: Heads,
    format: FactorFormat,
    spans: &[AttentionSpan],
    g: &Tensor,
) -> Result<[Tensor; 3]> {
    let on_host = |[q, k, v, g]: [&[f32]; 4]| {
        Ok(kernel::attention_backward(Operands { q, k, v }, shape(heads), format, spans, g))
    };
    match host::read([q, k, v, g], on_host)? {
        Some([dq, dk, dv]) => {
            let tensor = |values, like: &Tensor| Tensor::from_vec(values, like.shape(), like.device());
            Ok([tensor(dq, q)?, tensor(dk, k)?, tensor(dv, v)?])
        }
        None => backward_on_device([q, k, v], heads, spans, g),
    }
}

pub(super) fn shape(Heads { query, key_value, dim }: Heads) -> AttentionShape {
    AttentionShape { query, key_value, dim }
}

/// The operands of one span, each with a batch dimension of one.
fn part([q, k, v]: [&Tensor; 3], span: &AttentionSpan) -> Result<[Tensor; 3]> {
    let keys = |x: &Tensor| rows(x, &[&span.before, &span.own])?.unsqueeze(0);
    Ok([rows(q, &[&span.rows])?.unsqueeze(0)?, keys(k)?, keys(v)?])
}

fn rows(x: &Tensor, ranges: &[&Range<usize>]) -> Result<Tensor> {
    let parts = ranges.iter().filter(|range| !range.is_empty()).map(|range| x.narrow(0, range.start, range.len()));
    Tensor::cat(&parts.collect::<Result<Vec<_>>>()?, 0)
}

pub(super) fn on_device(operands: [&Tensor; 3], heads: Heads, spans: &[AttentionSpan]) -> Result<Tensor> {
    let one = |span: &AttentionSpan| {
        let [q, k, v] = part(operands, span)?;
        let mask = mask(q.dim(1)?, k.dim(1)?, heads.query / heads.key_value, q.device())?;
        let p = probabilities(&split_query(&q, heads)?, &split(&k, heads)?, heads, &mask)?;
        merge_query(&p.matmul(&split(&v, heads)?)?, heads)?.squeeze(0)
    };
    Tensor::cat(&spans.iter().map(one).collect::<Result<Vec<_>>>()?, 0)
}

fn backward_on_device(
    operands: [&Tensor; 3],
    heads: Heads,
    spans: &[AttentionSpan],
    g: &Tensor,
) -> Result<[Tensor; 3]> {
    let [mut dq, mut dk, mut dv] =
        operands.map(Tensor::zeros_like).into_iter().collect::<Result<Vec<_>>>()?.try_into().expect("three");
    for span in spans {
        let [q, k, v] = part(operands, span)?;
        let mask = mask(q.dim(1)?, k.dim(1)?, heads.query / heads.key_value, q.device())?;
        let (q, k, v) = (split_query(&q, heads)?, split(&k, heads)?, split(&v, heads)?);
        let g = split_query(&rows(g, &[&span.rows])?.unsqueeze(0)?, heads)?;
        let p = probabilities(&q, &k, heads, &mask)?;
        let of_v = p.t()?.matmul(&g)?;
        let dp = g.matmul(&v.t()?.contiguous()?)?;
        let along = (&p * &dp)?.sum_keepdim(D::Minus1)?;
        let ds = ((p * dp.broadcast_sub(&along)?)? * scale(heads))?;
        let (of_q, of_k) = (ds.matmul(&k)?, ds.t()?.matmul(&q)?);
        dq = add_rows(&dq, &merge_query(&of_q, heads)?, span.rows.clone())?;
        let keys = || span.before.clone().chain(span.own.clone());
        dk = add_rows(&dk, &merge(&of_k, heads)?, keys())?;
        dv = add_rows(&dv, &merge(&of_v, heads)?, keys())?;
    }
    Ok([dq, dk, dv])
}

/// Adds `(1, rows, features)` to rows of `into`.
fn add_rows(into: &Tensor, x: &Tensor, rows: impl Iterator<Item = usize>) -> Result<Tensor> {
    let rows: Vec<u32> = rows.map(|row| row as u32).collect();
    into.index_add(&Tensor::new(rows, x.device())?, &x.squeeze(0)?, 0)
}

fn scale(heads: Heads) -> f64 {
    1.0 / (heads.dim as f64).sqrt()
}

/// `(batch, key_value, group * rows, positions)`.
fn probabilities(q: &Tensor, k: &Tensor, heads: Heads, mask: &Tensor) -> Result<Tensor> {
    let scores = (q.matmul(&k.t()?)? * scale(heads))?;
    candle_nn::ops::softmax_last_dim(&scores.broadcast_add(mask)?)
}

/// Minus infinity where a row may not look, `(group * rows, positions)`.
fn mask(rows: usize, positions: usize, group: usize, device: &Device) -> Result<Tensor> {
    let first = positions - rows;
    let row = |r: usize| (0..positions).map(move |p| if p > first + r { f32::NEG_INFINITY } else { 0.0 });
    let mask: Vec<f32> = (0..group).flat_map(|_| (0..rows).flat_map(row)).collect();
    Tensor::from_vec(mask, (group * rows, positions), device)
}

/// `(batch, rows, query * dim)` to `(batch, key_value, group * rows, dim)`: the query heads that
/// share a key head become further rows, so that keys need not be repeated.
fn split_query(q: &Tensor, heads: Heads) -> Result<Tensor> {
    let (batch, rows, _) = q.dims3()?;
    let group = heads.query / heads.key_value;
    let by_head = q.reshape((batch, rows, heads.query, heads.dim))?.transpose(1, 2)?.contiguous()?;
    by_head.reshape((batch, heads.key_value, group * rows, heads.dim))
}

fn merge_query(x: &Tensor, heads: Heads) -> Result<Tensor> {
    let (batch, _, grouped, dim) = x.dims4()?;
    let rows = grouped * heads.key_value / heads.query;
    let by_head = x.reshape((batch, heads.query, rows, dim))?.transpose(1, 2)?.contiguous()?;
    by_head.reshape((batch, rows, heads.query * dim))
}

/// `(batch, positions, key_value * dim)` to `(batch, key_value, positions, dim)`.
fn split(x: &Tensor, heads: Heads) -> Result<Tensor> {
    let (batch, positions, _) = x.dims3()?;
    x.reshape((batch, positions, heads.key_value, heads.dim))?.transpose(1, 2)?.contiguous()
}

fn merge(x: &Tensor, heads: Heads) -> Result<Tensor> {
    let (batch, _, positions, _) = x.dims4()?;
    x.transpose(1, 2)?.contiguous()?.reshape((batch, positions, heads.key_value * heads.dim))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{close, random};
    use super::*;

    #[test]
    fn kernels_and_tensor_operations_agree() {
        let heads = Heads { query: 6, key_value: 2, dim: 5 };
        // A long sequence, one that follows cached positions, a beginning and its two continuations.
        let spans = [(0..70, 0..70, 0..0), (70..73, 76..79, 70..76), (73..75, 79..81, 0..0)];
        let branches = [(75..78, 81..84, 79..81), (78..79, 84..85, 79..81)];
        let span = |(rows, own, before)| AttentionSpan { rows, own, before };
        let spans: Vec<AttentionSpan> = spans.into_iter().chain(branches).map(span).collect();
        let [q, k, v, g] = [(1, 79, 30), (2, 85, 10), (3, 85, 10), (4, 79, 30)]
            .map(|(seed, rows, width)| random(seed, &[rows, width]));
        let operands = [&q, &k, &v];
        close(
            &attention(operands, heads, FactorFormat::F32, &spans).unwrap(),
            &on_device(operands, heads, &spans).unwrap(),
        );
        let ours = backward(operands, heads, FactorFormat::F32, &spans, &g).unwrap();
        let theirs = backward_on_device(operands, heads, &spans, &g).unwrap();
        ours.iter().zip(&theirs).for_each(|(ours, theirs)| close(ours, theirs));
    }
}
