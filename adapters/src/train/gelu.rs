//! GELU in its tanh form, and the gate of an MLP that it makes.

use candle_core::{Result, Tensor};
use ftk_kernels::float;

use super::host;

/// `gelu(x)`.
pub(super) fn gelu(x: &Tensor) -> Result<Tensor> {
    match host::read([x], |[x]| Ok(float::gelu::gelu(x)))? {
        Some(values) => Tensor::from_vec(values, x.shape(), x.device()),
        None => x.gelu(),
    }
}

/// Gradient of [`gelu`], given that of its result.
pub(super) fn backward(x: &Tensor, g: &Tensor) -> Result<Tensor> {
    match host::read([x, g], |[x, g]| Ok(float::gelu::gelu_backward(x, g)))? {
        Some(values) => Tensor::from_vec(values, x.shape(), x.device()),
        None => on_device(x, g),
    }
}

/// `gelu(gate) * up`.
pub(super) fn geglu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    gelu(gate)? * up
}

/// Gradients of [`geglu`] with respect to `gate` and `up`, given that of its result.
pub(super) fn geglu_backward(gate: &Tensor, up: &Tensor, g: &Tensor) -> Result<[Tensor; 2]> {
    Ok([backward(gate, &(g * up)?)?, (g * gelu(gate)?)?])
}

fn on_device(x: &Tensor, g: &Tensor) -> Result<Tensor> {
    let (slope, cubic) = (2.0 * std::f64::consts::FRAC_2_SQRT_PI / std::f64::consts::SQRT_2, 0.044715);
    let square = x.sqr()?;
    let sigmoid = candle_nn::ops::sigmoid(&((x * ((&square * cubic)? + 1.0)?)? * slope)?)?;
    let inner = ((square * (3.0 * cubic))? + 1.0)? * slope;
    // gelu' = sigmoid (1 + x (1 - sigmoid) inner')
    let bend = ((x * (1.0 - &sigmoid)?)? * inner?)?;
    (g * sigmoid)? * (bend + 1.0)?
}

#[cfg(test)]
mod tests {
    use super::super::tests::{close, random};
    use super::*;

    #[test]
    fn kernels_and_tensor_operations_agree() {
        let [x, g] = [1, 2].map(|seed| (random(seed, &[5, 33]) * 4.0).unwrap());
        close(&gelu(&x).unwrap(), &x.gelu().unwrap());
        close(&backward(&x, &g).unwrap(), &on_device(&x, &g).unwrap());
    }
}
