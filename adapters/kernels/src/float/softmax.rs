//! Log-probabilities of given tokens, and the gradient of their logits.

use rayon::prelude::*;

use super::elementary::{exp, largest, reduce};
use crate::vectors::vectorised;

/// `log softmax(row)[label]` for every row of `vocab` logits.
///
/// # Panics
/// If the lengths do not agree or a label is outside the row.
pub fn log_prob(logits: &[f32], labels: &[u32]) -> Vec<f32> {
    let vocab = width(logits, labels);
    let one = |(row, &label): (&[f32], &u32)| row[label as usize] - log_sum_exp(row);
    logits.par_chunks(vocab).zip(labels).map(one).collect()
}

/// Whether no logit of a row of `vocab` is larger than the label's.
///
/// # Panics
/// As [`log_prob`].
pub fn hits(logits: &[f32], labels: &[u32]) -> Vec<bool> {
    let vocab = width(logits, labels);
    let one = |(row, &label): (&[f32], &u32)| row.iter().all(|&x| x <= row[label as usize]);
    logits.par_chunks(vocab).zip(labels).map(one).collect()
}

/// Turns logits into the gradient of [`log_prob`] with respect to them, `g (one_hot - softmax)` in
/// every row, given the gradient of its result.
///
/// # Panics
/// As [`log_prob`].
pub fn log_prob_backward(logits: &mut [f32], labels: &[u32], gradient: &[f32]) {
    let vocab = width(logits, labels);
    assert_eq!(labels.len(), gradient.len(), "every label has a gradient");
    logits.par_chunks_mut(vocab).zip(labels.par_iter().zip(gradient)).for_each(|(row, (&label, &g))| {
        let total = log_sum_exp(row);
        vectorised(
            #[inline(always)]
            || row.iter_mut().for_each(|x| *x = -g * exp(*x - total)),
        );
        row[label as usize] += g;
    });
}

fn width(logits: &[f32], labels: &[u32]) -> usize {
    assert!(!labels.is_empty() && logits.len().is_multiple_of(labels.len()), "logits must be whole rows");
    logits.len() / labels.len()
}

fn log_sum_exp(row: &[f32]) -> f32 {
    vectorised(
        #[inline(always)]
        || {
            let largest = largest(row);
            largest + libm::logf(reduce([row], |[x]| exp(x - largest)))
        },
    )
}
