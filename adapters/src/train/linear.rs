//! `y = x W^T + scale (x' A^T) B^T`, where `x'` is `x`, or `x` with some entries dropped.

use candle_core::{DType, Result, Tensor};
use ftk_kernels::float::bf16::Bf16Side;
use ftk_kernels::float::product::{MatrixView, Onto, Threads, new_product, product};

use super::adapter::LoraFactors;
use super::host;

/// `x W^T` for `x` `(rows, d_in)` and `weight` `(d_out, d_in)`: `(rows, d_out)`.
pub(super) fn linear(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    match host::by_weight(x, weight, Bf16Side::Inputs)? {
        Some(values) => Tensor::from_vec(values, (x.dim(0)?, weight.dim(0)?), x.device()),
        None => in_its_format(x, &weight.t()?),
    }
}

/// Gradient of [`linear`] with respect to `x`.
pub(super) fn backward(weight: &Tensor, g: &Tensor) -> Result<Tensor> {
    match host::by_weight(g, weight, Bf16Side::Outputs)? {
        Some(values) => Tensor::from_vec(values, (g.dim(0)?, weight.dim(1)?), g.device()),
        None => in_its_format(g, weight),
    }
}

/// `x w` in the number format of `w`, with a result in f32.
fn in_its_format(x: &Tensor, w: &Tensor) -> Result<Tensor> {
    x.to_dtype(w.dtype())?.matmul(w)?.to_dtype(DType::F32)
}

/// [`linear`], and the adapter's product added to it; also `x' A^T` `(rows, rank)`.
pub(super) fn lora_linear(
    x: &Tensor,
    dropped: &Tensor,
    weight: &Tensor,
    lora: &LoraFactors,
) -> Result<(Tensor, Tensor)> {
    let (rows, (d_out, d_in), rank) = (x.dim(0)?, weight.dims2()?, lora.a.dim(0)?);
    let on_host = match host::by_weight(x, weight, Bf16Side::Inputs)? {
        Some(mut y) => host::read([dropped, &lora.a, &lora.b], |[dropped, a, b]| {
            let low = new_product(1.0, MatrixView::new(dropped, d_in), MatrixView::new(a, d_in).t());
            let factors = (MatrixView::new(&low, rank), MatrixView::new(b, rank).t());
            product((&mut y, d_out), Onto::Present, lora.scale as f32, factors, Threads::All);
            Ok((y, low))
        })?,
        None => None,
    };
    match on_host {
        Some((y, low)) => {
            Ok((Tensor::from_vec(y, (rows, d_out), x.device())?, Tensor::from_vec(low, (rows, rank), x.device())?))
        }
        None => {
            let low = dropped.matmul(&lora.a.t()?)?;
            let y = (in_its_format(x, &weight.t()?)? + (low.matmul(&lora.b.t()?)? * lora.scale)?)?;
            Ok((y, low))
        }
    }
}

/// Gradients of the adapter's product with respect to `x'`, `A` and `B`, given `x'`, `x' A^T` and the
/// gradient of the result.
pub(super) fn backward_lora(dropped: &Tensor, low: &Tensor, lora: &LoraFactors, g: &Tensor) -> Result<[Tensor; 3]> {
    let (rows, d_in, (d_out, rank)) = (dropped.dim(0)?, dropped.dim(1)?, lora.b.dims2()?);
    let on_host = |[x, low, a, b, g]: [&[f32]; 5]| {
        let (x, g, scale) = (MatrixView::new(x, d_in), MatrixView::new(g, d_out), lora.scale as f32);
        let through_b = new_product(scale, g, MatrixView::new(b, rank));
        let through_b = MatrixView::new(&through_b, rank);
        let dx = new_product(1.0, through_b, MatrixView::new(a, d_in));
        let da = new_product(1.0, through_b.t(), x);
        let db = new_product(scale, g.t(), MatrixView::new(low, rank));
        Ok([dx, da, db])
    };
    match host::read([dropped, low, &lora.a, &lora.b, g], on_host)? {
        Some([dx, da, db]) => Ok([
            Tensor::from_vec(dx, (rows, d_in), g.device())?,
            Tensor::from_vec(da, (rank, d_in), g.device())?,
            Tensor::from_vec(db, (d_out, rank), g.device())?,
        ]),
        None => {
            let through_b = (g.matmul(&lora.b)? * lora.scale)?;
            let dx = through_b.matmul(&lora.a)?;
            Ok([dx, through_b.t()?.matmul(dropped)?, (g.t()?.matmul(low)? * lora.scale)?])
        }
    }
}
