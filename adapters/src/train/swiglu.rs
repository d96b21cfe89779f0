//! The gate of the MLP.

use candle_core::{Result, Tensor};
use ftk_kernels::float;

use super::host;

/// `silu(gate) * up`.
pub(super) fn swiglu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    match host::read([gate, up], |[gate, up]| Ok(float::swiglu::swiglu(gate, up)))? {
        Some(values) => Tensor::from_vec(values, gate.shape(), gate.device()),
        None => gate.silu()? * up,
    }
}

/// Gradients of [`swiglu`] with respect to `gate` and `up`, given that of its result.
pub(super) fn backward(gate: &Tensor, up: &Tensor, g: &Tensor) -> Result<[Tensor; 2]> {
    match host::read([gate, up, g], |[gate, up, g]| Ok(float::swiglu::swiglu_backward(gate, up, g)))? {
        Some([d_gate, d_up]) => {
            let tensor = |values| Tensor::from_vec(values, gate.shape(), gate.device());
            Ok([tensor(d_gate)?, tensor(d_up)?])
        }
        None => on_device(gate, up, g),
    }
}

fn on_device(gate: &Tensor, up: &Tensor, g: &Tensor) -> Result<[Tensor; 2]> {
    let sigmoid = candle_nn::ops::sigmoid(gate)?;
    let silu = (gate * &sigmoid)?;
    let d_up = (g * &silu)?;
    // silu' = sigmoid (1 + x - silu)
    let slope = (sigmoid * ((gate - silu)? + 1.0)?)?;
    Ok([((g * up)? * slope)?, d_up])
}

#[cfg(test)]
mod tests {
    use super::super::tests::{close, random};
    use super::*;

    #[test]
    fn kernels_and_tensor_operations_agree() {
        let [gate, up, g] = [1, 2, 3].map(|seed| (random(seed, &[5, 33]) * 4.0).unwrap());
        close(&swiglu(&gate, &up).unwrap(), &(gate.silu().unwrap() * &up).unwrap());
        let (ours, theirs) = (backward(&gate, &up, &g).unwrap(), on_device(&gate, &up, &g).unwrap());
        ours.iter().zip(&theirs).for_each(|(ours, theirs)| close(ours, theirs));
    }
}
