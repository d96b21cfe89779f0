//! The tanh form of GELU (Hendrycks and Gimpel 2016), as `x sigmoid(2 sqrt(2 / pi) (x + 0.044715 x^3))`.

use rayon::prelude::*;

use super::CHUNK;
use super::elementary::sigmoid;
use crate::vectors::vectorised;

/// `2 sqrt(2 / pi)`.
const SLOPE: f32 = 1.595_769_2;
/// Weight of the cube.
const CUBIC: f32 = 0.044_715;

/// `gelu(x)`, entry by entry.
pub fn gelu(x: &[f32]) -> Vec<f32> {
    let mut y = vec![0.0; x.len()];
    y.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).for_each(|(y, x)| {
        vectorised(
            #[inline(always)]
            || {
                for (y, &x) in y.iter_mut().zip(x) {
                    *y = x * sigmoid(SLOPE * (x + CUBIC * x * x * x));
                }
            },
        );
    });
    y
}

/// Gradient of [`gelu`], given that of its result.
///
/// # Panics
/// If the lengths differ.
pub fn gelu_backward(x: &[f32], gradient: &[f32]) -> Vec<f32> {
    assert_eq!(x.len(), gradient.len(), "a gradient is as long as what it is of");
    let mut dx = vec![0.0; x.len()];
    let operands = x.par_chunks(CHUNK).zip(gradient.par_chunks(CHUNK));
    dx.par_chunks_mut(CHUNK).zip(operands).for_each(|(dx, (x, g))| {
        vectorised(
            #[inline(always)]
            || {
                for (dx, (&x, g)) in dx.iter_mut().zip(x.iter().zip(g)) {
                    let sigmoid = sigmoid(SLOPE * (x + CUBIC * x * x * x));
                    let slope = SLOPE * (1.0 + 3.0 * CUBIC * x * x);
                    *dx = g * sigmoid * (1.0 + x * (1.0 - sigmoid) * slope);
                }
            },
        );
    });
    dx
}
