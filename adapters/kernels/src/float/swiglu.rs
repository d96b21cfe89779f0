//! The gate of the MLP (Shazeer 2020).

use rayon::prelude::*;

use super::CHUNK;
use super::elementary::sigmoid;
use crate::vectors::vectorised;

/// `silu(gate) * up`, entry by entry.
///
/// # Panics
/// If the lengths differ.
pub fn swiglu(gate: &[f32], up: &[f32]) -> Vec<f32> {
    assert_eq!(gate.len(), up.len(), "a gate needs operands of one length");
    let mut y = vec![0.0; gate.len()];
    y.par_chunks_mut(CHUNK).zip(gate.par_chunks(CHUNK).zip(up.par_chunks(CHUNK))).for_each(|(y, (gate, up))| {
        vectorised(
            #[inline(always)]
            || {
                for ((y, &x), up) in y.iter_mut().zip(gate).zip(up) {
                    *y = x * sigmoid(x) * up;
                }
            },
        );
    });
    y
}

/// Gradients of [`swiglu`] with respect to `gate` and `up`, given that of its result.
///
/// # Panics
/// If the lengths differ.
pub fn swiglu_backward(gate: &[f32], up: &[f32], gradient: &[f32]) -> [Vec<f32>; 2] {
    assert!(gate.len() == up.len() && up.len() == gradient.len(), "a gate needs operands of one length");
    let (mut d_gate, mut d_up) = (vec![0.0; gate.len()], vec![0.0; gate.len()]);
    let results = d_gate.par_chunks_mut(CHUNK).zip(d_up.par_chunks_mut(CHUNK));
    let operands = gate.par_chunks(CHUNK).zip(up.par_chunks(CHUNK)).zip(gradient.par_chunks(CHUNK));
    results.zip(operands).for_each(|((d_gate, d_up), ((gate, up), g))| {
        vectorised(
            #[inline(always)]
            || {
                for ((d_gate, d_up), ((&x, up), g)) in
                    d_gate.iter_mut().zip(d_up.iter_mut()).zip(gate.iter().zip(up).zip(g))
                {
                    let sigmoid = sigmoid(x);
                    let silu = x * sigmoid;
                    *d_up = g * silu;
                    // silu' = sigmoid (1 + x - silu)
                    *d_gate = g * up * (sigmoid * (1.0 + x - silu));
                }
            },
        );
    });
    [d_gate, d_up]
}
