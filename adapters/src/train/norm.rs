//! Root-mean-square normalisation.

use candle_core::{D, Result, Tensor};

use crate::graft::graft;

/// `x / sqrt(mean(x^2) + eps) * weight` over the last dimension of `x` `(batch, seq, hidden)`.
/// `weight` gets a gradient only if it is a variable.
pub fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    let (input, scale) = (x.detach().contiguous()?, weight.detach());
    let value = candle_nn::ops::rms_norm(&input, &scale, eps as f32)?;
    let (wanted, trained) = (x.track_op(), weight.is_variable());
    graft(value, [x, weight], move |_, g| {
        let inverse = ((input.sqr()?.mean_keepdim(D::Minus1)? + eps)?.sqrt()?).recip()?;
        let normal = input.broadcast_mul(&inverse)?;
        let dx = wanted
            .then(|| {
                let g = g.broadcast_mul(&scale)?;
                let along = (&g * &normal)?.mean_keepdim(D::Minus1)?;
                (g - normal.broadcast_mul(&along)?)?.broadcast_mul(&inverse)
            })
            .transpose()?;
        let dw = trained.then(|| (g * &normal)?.sum((0, 1))).transpose()?;
        Ok([dx, dw])
    })
}
