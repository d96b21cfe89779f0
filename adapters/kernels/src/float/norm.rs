//! Root-mean-square normalisation (Zhang and Sennrich 2019) and layer normalisation (Ba et al. 2016).

use std::mem::MaybeUninit;

use rayon::prelude::*;

use super::elementary::reduce;
use super::{rows_a_chunk, written};
use crate::vectors::vectorised;

/// `x / sqrt(mean(x^2) + eps) * weight` over rows as long as `weight`.
///
/// # Panics
/// If `x` is not whole rows.
pub fn rms_norm(x: &[f32], weight: &[f32], eps: f32) -> Vec<f32> {
    let width = weight.len();
    assert!(width > 0 && x.len().is_multiple_of(width), "a norm needs whole rows");
    let chunk = width * rows_a_chunk(width);
    let write = |y: &mut [MaybeUninit<f32>]| {
        y.par_chunks_mut(chunk).zip(x.par_chunks(chunk)).for_each(|(y, x)| {
            vectorised(
                #[inline(always)]
                || {
                    for (y, x) in y.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
                        let inverse = inverse(x, eps);
                        for ((y, x), w) in y.iter_mut().zip(x).zip(weight) {
                            y.write(x * inverse * w);
                        }
                    }
                },
            );
        });
    };
    // SAFETY: every row, which is as long as the weight.
    unsafe { written(x.len(), write) }
}

/// Gradient of [`rms_norm`] with respect to `x`, given that of its result.
///
/// # Panics
/// If `x` and `gradient` are not equally many whole rows.
pub fn rms_norm_backward(x: &[f32], weight: &[f32], eps: f32, gradient: &[f32]) -> Vec<f32> {
    let width = weight.len();
    assert!(width > 0 && x.len().is_multiple_of(width) && x.len() == gradient.len(), "a norm needs whole rows");
    let chunk = width * rows_a_chunk(width);
    let write = |dx: &mut [MaybeUninit<f32>]| {
        let operands = x.par_chunks(chunk).zip(gradient.par_chunks(chunk));
        dx.par_chunks_mut(chunk).zip(operands).for_each(|(dx, (x, g))| {
            vectorised(
                #[inline(always)]
                || {
                    let rows = x.chunks_exact(width).zip(g.chunks_exact(width));
                    for (dx, (x, g)) in dx.chunks_exact_mut(width).zip(rows) {
                        let inverse = inverse(x, eps);
                        let along = reduce([g, weight, x], |[g, w, x]| g * w * x) * inverse * inverse / width as f32;
                        for (((dx, x), g), w) in dx.iter_mut().zip(x).zip(g).zip(weight) {
                            dx.write((g * w - x * along) * inverse);
                        }
                    }
                },
            );
        });
    };
    // SAFETY: every row, which is as long as the weight.
    unsafe { written(x.len(), write) }
}

/// Gradient of [`rms_norm`] with respect to its weight of `width` entries, given that of its result: the sum over rows,
/// one after another.
///
/// # Panics
/// If `x` and `gradient` are not equally many whole rows.
pub fn rms_norm_backward_weight(x: &[f32], width: usize, eps: f32, gradient: &[f32]) -> Vec<f32> {
    assert!(width > 0 && x.len().is_multiple_of(width) && x.len() == gradient.len(), "a norm needs whole rows");
    let mut sums = vec![0.0; width];
    vectorised(
        #[inline(always)]
        || {
            for (x, g) in x.chunks_exact(width).zip(gradient.chunks_exact(width)) {
                let inverse = inverse(x, eps);
                for ((sum, x), g) in sums.iter_mut().zip(x).zip(g) {
                    *sum += g * (x * inverse);
                }
            }
        },
    );
    sums
}

/// `(x - mean(x)) / sqrt(variance(x) + eps) * weight + bias` over rows as long as `weight`.
///
/// # Panics
/// If `x` is not whole rows, or `weight` and `bias` differ in length.
pub fn layer_norm(x: &[f32], [weight, bias]: [&[f32]; 2], eps: f32) -> Vec<f32> {
    let width = weight.len();
    assert!(width > 0 && x.len().is_multiple_of(width) && bias.len() == width, "a norm needs whole rows");
    let mut y = vec![0.0; x.len()];
    let chunk = width * rows_a_chunk(width);
    y.par_chunks_mut(chunk).zip(x.par_chunks(chunk)).for_each(|(y, x)| {
        vectorised(
            #[inline(always)]
            || {
                for (y, x) in y.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
                    let (mean, inverse) = centre(x, eps);
                    for ((y, x), (w, b)) in y.iter_mut().zip(x).zip(weight.iter().zip(bias)) {
                        *y = (x - mean) * inverse * w + b;
                    }
                }
            },
        );
    });
    y
}

/// Gradient of [`layer_norm`] with respect to `x`, given that of its result.
///
/// # Panics
/// If `x` and `gradient` are not equally many whole rows.
pub fn layer_norm_backward(x: &[f32], weight: &[f32], eps: f32, gradient: &[f32]) -> Vec<f32> {
    let width = weight.len();
    assert!(width > 0 && x.len().is_multiple_of(width) && x.len() == gradient.len(), "a norm needs whole rows");
    let mut dx = vec![0.0; x.len()];
    let chunk = width * rows_a_chunk(width);
    let operands = x.par_chunks(chunk).zip(gradient.par_chunks(chunk));
    dx.par_chunks_mut(chunk).zip(operands).for_each(|(dx, (x, g))| {
        vectorised(
            #[inline(always)]
            || {
                let rows = x.chunks_exact(width).zip(g.chunks_exact(width));
                for (dx, (x, g)) in dx.chunks_exact_mut(width).zip(rows) {
                    let (mean, inverse) = centre(x, eps);
                    let shift = reduce([g, weight], |[g, w]| g * w) / width as f32;
                    let along = reduce([g, weight, x], |[g, w, x]| g * w * (x - mean)) * inverse * inverse;
                    let along = along / width as f32;
                    for (((dx, x), g), w) in dx.iter_mut().zip(x).zip(g).zip(weight) {
                        *dx = (g * w - shift - (x - mean) * along) * inverse;
                    }
                }
            },
        );
    });
    dx
}

/// Gradient of [`layer_norm`] with respect to its weight of `width` entries, given that of its result: the sum over
/// rows, one after another.
///
/// # Panics
/// If `x` and `gradient` are not equally many whole rows.
pub fn layer_norm_backward_weight(x: &[f32], width: usize, eps: f32, gradient: &[f32]) -> Vec<f32> {
    assert!(width > 0 && x.len().is_multiple_of(width) && x.len() == gradient.len(), "a norm needs whole rows");
    let mut sums = vec![0.0; width];
    vectorised(
        #[inline(always)]
        || {
            for (x, g) in x.chunks_exact(width).zip(gradient.chunks_exact(width)) {
                let (mean, inverse) = centre(x, eps);
                for ((sum, x), g) in sums.iter_mut().zip(x).zip(g) {
                    *sum += g * ((x - mean) * inverse);
                }
            }
        },
    );
    sums
}

/// Mean, and one over the deviation.
#[inline(always)]
fn centre(x: &[f32], eps: f32) -> (f32, f32) {
    let width = x.len() as f32;
    let mean = reduce([x], |[x]| x) / width;
    (mean, 1.0 / (reduce([x], |[x]| (x - mean) * (x - mean)) / width + eps).sqrt())
}

#[inline(always)]
fn inverse(x: &[f32], eps: f32) -> f32 {
    1.0 / (reduce([x], |[x]| x * x) / x.len() as f32 + eps).sqrt()
}
