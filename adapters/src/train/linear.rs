//! `y = x W^T + scale (x A^T) B^T`, with a backward pass that does no work for frozen weights.

use candle_core::{Result, Tensor};

use super::Lora;
use crate::graft::graft;

/// The product of `x` `(batch, seq, d_in)` with `weight` `(d_out, d_in)`: `(batch, seq, d_out)`.
/// `weight` gets a gradient only if it is a variable.
pub fn linear(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    let (batch, seq, d_in) = x.dims3()?;
    let d_out = weight.dim(0)?;
    let rows = x.detach().reshape((batch * seq, d_in))?;
    let value = rows.matmul(&weight.detach().t()?)?.reshape((batch, seq, d_out))?;
    let frozen = weight.detach();
    if weight.is_variable() {
        let wanted = x.track_op();
        return graft(value, [x, weight], move |_, g| {
            let g = g.reshape((batch * seq, d_out))?;
            let dx = wanted.then(|| g.matmul(&frozen)?.reshape((batch, seq, d_in))).transpose()?;
            Ok([dx, Some(g.t()?.matmul(&rows)?)])
        });
    }
    graft(value, [x], move |_, g| {
        let g = g.reshape((batch * seq, d_out))?;
        Ok([Some(g.matmul(&frozen)?.reshape((batch, seq, d_in))?)])
    })
}

/// [`linear`] on a frozen weight, plus the adapter's low-rank product.
pub fn lora_linear(x: &Tensor, weight: &Tensor, lora: &Lora) -> Result<Tensor> {
    let (batch, seq, d_in) = x.dims3()?;
    let d_out = weight.dim(0)?;
    let rows = x.detach().reshape((batch * seq, d_in))?;
    let (frozen, a, b, scale) = (weight.detach(), lora.a.detach(), lora.b.detach(), lora.scale);
    let low = rows.matmul(&a.t()?)?;
    let delta = (low.matmul(&b.t()?)? * scale)?;
    let value = (rows.matmul(&frozen.t()?)? + delta)?.reshape((batch, seq, d_out))?;
    let (wanted, trained) = (x.track_op(), lora.a.track_op() || lora.b.track_op());
    graft(value, [x, &lora.a, &lora.b], move |_, g| {
        let g = g.reshape((batch * seq, d_out))?;
        let through_b = (g.matmul(&b)? * scale)?;
        let dx =
            wanted.then(|| (g.matmul(&frozen)? + through_b.matmul(&a)?)?.reshape((batch, seq, d_in))).transpose()?;
        if !trained {
            return Ok([dx, None, None]);
        }
        let da = through_b.t()?.matmul(&rows)?;
        let db = (g.t()?.matmul(&low)? * scale)?;
        Ok([dx, Some(da), Some(db)])
    })
}
