//! Causal grouped-query attention.

use candle_core::{D, Device, Result, Tensor};

use crate::graft::graft;
use crate::ops::Heads;

/// Attention of `q` `(batch, rows, query * dim)` over `k` and `v` `(batch, positions, key_value * dim)`.
/// The rows of `q` are the last of the positions. The result has the shape of `q`.
///
/// Probabilities are recomputed in the backward pass: they would be the largest activation kept.
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor, heads: Heads) -> Result<Tensor> {
    let (split_q, split_k, split_v) =
        (split_query(&q.detach(), heads)?, split(&k.detach(), heads)?, split(&v.detach(), heads)?);
    let mask = mask(q.dim(1)?, k.dim(1)?, heads.query / heads.key_value, q.device())?;
    let probabilities = probabilities(&split_q, &split_k, heads, &mask)?;
    let value = merge_query(&probabilities.matmul(&split_v)?, heads)?;
    drop(probabilities);
    let scale = scale(heads);
    graft(value, [q, k, v], move |_, g| {
        let g = split_query(g, heads)?;
        let p = self::probabilities(&split_q, &split_k, heads, &mask)?;
        let dv = p.t()?.matmul(&g)?;
        let dp = g.matmul(&split_v.t()?.contiguous()?)?;
        let along = (&p * &dp)?.sum_keepdim(D::Minus1)?;
        let ds = ((p * dp.broadcast_sub(&along)?)? * scale)?;
        let dq = ds.matmul(&split_k)?;
        let dk = ds.t()?.matmul(&split_q)?;
        Ok([Some(merge_query(&dq, heads)?), Some(merge(&dk)?), Some(merge(&dv)?)])
    })
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

fn merge(x: &Tensor) -> Result<Tensor> {
    let (batch, heads, positions, dim) = x.dims4()?;
    x.transpose(1, 2)?.contiguous()?.reshape((batch, positions, heads * dim))
}
