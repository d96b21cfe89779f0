//! The gate of the MLP.

use candle_core::{Result, Tensor};

use crate::graft::graft;

/// `silu(gate) * up`; only `gate` and `up` are kept for the backward pass.
pub fn swiglu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    let (x, y) = (gate.detach(), up.detach());
    let value = (x.silu()? * &y)?;
    graft(value, [gate, up], move |_, g| {
        let sigmoid = candle_nn::ops::sigmoid(&x)?;
        let silu = (&x * &sigmoid)?;
        let d_up = (g * &silu)?;
        // silu' = sigmoid (1 + x - silu)
        let slope = (sigmoid * ((&x - silu)? + 1.0)?)?;
        let d_gate = ((g * &y)? * slope)?;
        Ok([Some(d_gate), Some(d_up)])
    })
}
