//! The gate of the MLP (Shazeer 2020).

use std::mem::MaybeUninit;

use rayon::prelude::*;

use super::elementary::sigmoid;
use super::{CHUNK, written};
use crate::vectors::vectorised;

/// `silu(gate) * up`, entry by entry.
///
/// # Panics
/// If the lengths differ.
pub fn swiglu(gate: &[f32], up: &[f32]) -> Vec<f32> {
    assert_eq!(gate.len(), up.len(), "a gate needs operands of one length");
    let write = |y: &mut [MaybeUninit<f32>]| {
        y.par_chunks_mut(CHUNK).zip(gate.par_chunks(CHUNK).zip(up.par_chunks(CHUNK))).for_each(|(y, (gate, up))| {
            vectorised(
                #[inline(always)]
                || {
                    for ((y, &x), up) in y.iter_mut().zip(gate).zip(up) {
                        y.write(x * sigmoid(x) * up);
                    }
                },
            );
        });
    };
    // SAFETY: as many chunks, of as many entries, as the operands have.
    unsafe { written(gate.len(), write) }
}

/// Gradients of [`swiglu`] with respect to `gate` and `up`, given that of its result.
///
/// # Panics
/// If the lengths differ.
pub fn swiglu_backward(gate: &[f32], up: &[f32], gradient: &[f32]) -> [Vec<f32>; 2] {
    assert!(gate.len() == up.len() && up.len() == gradient.len(), "a gate needs operands of one length");
    let [mut of_gate, mut of_up] = [(); 2].map(|()| Vec::with_capacity(gate.len()));
    let [d_gate, d_up] = [&mut of_gate, &mut of_up].map(|it| &mut it.spare_capacity_mut()[..gate.len()]);
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
                    d_up.write(g * silu);
                    // silu' = sigmoid (1 + x - silu)
                    d_gate.write(g * up * (sigmoid * (1.0 + x - silu)));
                }
            },
        );
    });
    // SAFETY: there is room, and as many chunks, of as many entries, were written as the operands have.
    unsafe {
        of_gate.set_len(gate.len());
        of_up.set_len(gate.len());
    }
    [of_gate, of_up]
}
