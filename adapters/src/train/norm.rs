//! Root-mean-square normalisation.

use candle_core::{D, Result, Tensor};
use ftk_kernels::float::norm;

use super::host;

/// `x / sqrt(mean(x^2) + eps) * weight` over the last dimension of `x`.
pub(super) fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    match host::read([x, weight], |[x, weight]| Ok(norm::rms_norm(x, weight, eps as f32)))? {
        Some(values) => Tensor::from_vec(values, x.shape(), x.device()),
        None => candle_nn::ops::rms_norm(&x.contiguous()?, weight, eps as f32),
    }
}

/// Gradient of [`rms_norm`] with respect to `x`, given that of its result.
pub(super) fn backward(x: &Tensor, weight: &Tensor, eps: f64, g: &Tensor) -> Result<Tensor> {
    let on_host = |[x, weight, g]: [&[f32]; 3]| Ok(norm::rms_norm_backward(x, weight, eps as f32, g));
    match host::read([x, weight, g], on_host)? {
        Some(values) => Tensor::from_vec(values, x.shape(), x.device()),
        None => on_device(x, weight, eps, g),
    }
}

fn on_device(x: &Tensor, weight: &Tensor, eps: f64, g: &Tensor) -> Result<Tensor> {
    let inverse = inverse(x, eps)?;
    let normal = x.broadcast_mul(&inverse)?;
    let g = g.broadcast_mul(weight)?;
    let along = (&g * &normal)?.mean_keepdim(D::Minus1)?;
    (g - normal.broadcast_mul(&along)?)?.broadcast_mul(&inverse)
}

/// Gradient of [`rms_norm`] with respect to `weight`.
pub(super) fn backward_weight(x: &Tensor, eps: f64, g: &Tensor) -> Result<Tensor> {
    (g * x.broadcast_mul(&inverse(x, eps)?)?)?.sum(0)
}

fn inverse(x: &Tensor, eps: f64) -> Result<Tensor> {
    ((x.sqr()?.mean_keepdim(D::Minus1)? + eps)?.sqrt()?).recip()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{close, random};
    use super::*;

    #[test]
    fn kernels_and_tensor_operations_agree() {
        let (x, weight, g) = (random(1, &[7, 40]), random(2, &[40]), random(3, &[7, 40]));
        close(&rms_norm(&x, &weight, 1e-3).unwrap(), &candle_nn::ops::rms_norm(&x, &weight, 1e-3).unwrap());
        close(&backward(&x, &weight, 1e-3, &g).unwrap(), &on_device(&x, &weight, 1e-3, &g).unwrap());
    }
}
