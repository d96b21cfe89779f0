//! Log-probabilities of given tokens, and the gradient of their logits.

use rayon::prelude::*;

use super::elementary::{exp, largest, reduce};
use crate::vectors::vectorised;

/// The logarithm of the sum of exponentials of every row, of as many as there are labels.
///
/// # Panics
/// If the logits are not whole rows.
pub fn log_sums(logits: &[f32], labels: &[u32]) -> Vec<f32> {
    logits.par_chunks(width(logits, labels)).map(log_sum_exp).collect()
}

/// `log softmax(row)[label]` for every row of `vocab` logits, given [`log_sums`] of them.
///
/// # Panics
/// If the lengths do not agree or a label is outside the row.
pub fn log_prob(logits: &[f32], labels: &[u32], sums: &[f32]) -> Vec<f32> {
    let vocab = width(logits, labels);
    assert_eq!(labels.len(), sums.len(), "every row has a sum");
    let rows = logits.chunks(vocab).zip(labels).zip(sums);
    rows.map(|((row, &label), sum)| row[label as usize] - sum).collect()
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
/// every row, given [`log_sums`] of them and the gradient of its result.
///
/// # Panics
/// As [`log_prob`].
pub fn log_prob_backward(logits: &mut [f32], labels: &[u32], sums: &[f32], gradient: &[f32]) {
    let vocab = width(logits, labels);
    assert!(labels.len() == gradient.len() && labels.len() == sums.len(), "every label has a sum and a gradient");
    let of_rows = labels.par_iter().zip(sums.par_iter().zip(gradient));
    logits.par_chunks_mut(vocab).zip(of_rows).for_each(|(row, (&label, (&total, &g)))| {
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
