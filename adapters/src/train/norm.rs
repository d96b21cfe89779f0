//! Root-mean-square and layer normalisation.

use candle_core::{D, Result, Tensor};
use ftk_kernels::float::norm;

use super::host;

/// `x / sqrt(mean(x^2) + eps) * weight` over every `width` features of `x`, where `width` is the weight's.
pub(super) fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    let vectors = vectors(x, weight.dim(0)?)?;
    match host::read([x, weight], |[x, weight]| Ok(norm::rms_norm(x, weight, eps as f32)))? {
        Some(values) => Tensor::from_vec(values, x.shape(), x.device()),
        None => candle_nn::ops::rms_norm(&vectors.contiguous()?, weight, eps as f32)?.reshape(x.shape()),
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
    let (shape, width) = (x.shape(), weight.dim(0)?);
    let (x, g) = (vectors(x, width)?, vectors(g, width)?);
    let inverse = inverse(&x, eps)?;
    let normal = x.broadcast_mul(&inverse)?;
    let g = g.broadcast_mul(weight)?;
    let along = (&g * &normal)?.mean_keepdim(D::Minus1)?;
    (g - normal.broadcast_mul(&along)?)?.broadcast_mul(&inverse)?.reshape(shape)
}

/// Gradient of [`rms_norm`] with respect to its weight of `width` entries.
pub(super) fn backward_weight(x: &Tensor, width: usize, eps: f64, g: &Tensor) -> Result<Tensor> {
    let on_host = |[x, g]: [&[f32]; 2]| Ok(norm::rms_norm_backward_weight(x, width, eps as f32, g));
    match host::read([x, g], on_host)? {
        Some(values) => Tensor::from_vec(values, width, x.device()),
        None => weight_on_device(x, width, eps, g),
    }
}

fn weight_on_device(x: &Tensor, width: usize, eps: f64, g: &Tensor) -> Result<Tensor> {
    let (x, g) = (vectors(x, width)?, vectors(g, width)?);
    (g * x.broadcast_mul(&inverse(&x, eps)?)?)?.sum(0)
}

/// `(x - mean(x)) / sqrt(variance(x) + eps) * weight + bias` over the last dimension of `x`.
pub(super) fn layer_norm(x: &Tensor, [weight, bias]: [&Tensor; 2], eps: f64) -> Result<Tensor> {
    let on_host = |[x, weight, bias]: [&[f32]; 3]| Ok(norm::layer_norm(x, [weight, bias], eps as f32));
    match host::read([x, weight, bias], on_host)? {
        Some(values) => Tensor::from_vec(values, x.shape(), x.device()),
        None => normal(x, eps)?.broadcast_mul(weight)?.broadcast_add(bias),
    }
}

/// Gradient of [`layer_norm`] with respect to `x`, given that of its result.
pub(super) fn layer_backward(x: &Tensor, weight: &Tensor, eps: f64, g: &Tensor) -> Result<Tensor> {
    let on_host = |[x, weight, g]: [&[f32]; 3]| Ok(norm::layer_norm_backward(x, weight, eps as f32, g));
    match host::read([x, weight, g], on_host)? {
        Some(values) => Tensor::from_vec(values, x.shape(), x.device()),
        None => layer_on_device(x, weight, eps, g),
    }
}

fn layer_on_device(x: &Tensor, weight: &Tensor, eps: f64, g: &Tensor) -> Result<Tensor> {
    let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    // A gradient without its mean through the norm of what has none.
    let dx = on_device(&centred, weight, eps, g)?;
    dx.broadcast_sub(&dx.mean_keepdim(D::Minus1)?)
}

/// Gradient of [`layer_norm`] with respect to its weight.
pub(super) fn layer_backward_weight(x: &Tensor, eps: f64, g: &Tensor) -> Result<Tensor> {
    let width = x.dim(D::Minus1)?;
    let on_host = |[x, g]: [&[f32]; 2]| Ok(norm::layer_norm_backward_weight(x, width, eps as f32, g));
    match host::read([x, g], on_host)? {
        Some(values) => Tensor::from_vec(values, width, x.device()),
        None => layer_weight_on_device(x, eps, g),
    }
}

fn layer_weight_on_device(x: &Tensor, eps: f64, g: &Tensor) -> Result<Tensor> {
    (g * normal(x, eps)?)?.sum(0)
}

/// `x` without its mean and with deviation one.
fn normal(x: &Tensor, eps: f64) -> Result<Tensor> {
    let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    centred.broadcast_mul(&inverse(&centred, eps)?)
}

/// The features of `x`, `width` in a row.
fn vectors(x: &Tensor, width: usize) -> Result<Tensor> {
    x.reshape(((), width))
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
        let bias = random(4, &[40]);
        let theirs = candle_nn::ops::layer_norm_slow(&x, &weight, &bias, 1e-3).unwrap();
        close(&layer_norm(&x, [&weight, &bias], 1e-3).unwrap(), &theirs);
        close(&layer_backward(&x, &weight, 1e-3, &g).unwrap(), &layer_on_device(&x, &weight, 1e-3, &g).unwrap());
        close(&backward_weight(&x, 40, 1e-3, &g).unwrap(), &weight_on_device(&x, 40, 1e-3, &g).unwrap());
        close(&layer_backward_weight(&x, 1e-3, &g).unwrap(), &layer_weight_on_device(&x, 1e-3, &g).unwrap());
        // Heads of a row on their own.
        let weight = random(5, &[8]);
        let theirs = candle_nn::ops::rms_norm(&vectors(&x, 8).unwrap(), &weight, 1e-3).unwrap();
        close(&rms_norm(&x, &weight, 1e-3).unwrap(), &theirs.reshape((7, 40)).unwrap());
        close(&backward(&x, &weight, 1e-3, &g).unwrap(), &on_device(&x, &weight, 1e-3, &g).unwrap());
        close(&backward_weight(&x, 8, 1e-3, &g).unwrap(), &weight_on_device(&x, 8, 1e-3, &g).unwrap());
    }
}
