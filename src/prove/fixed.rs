//! The integers of a base's weights and of an adapter, from floating point, and how far results are from it.

use candle_core::Tensor;
use ftk_adapters::lora::Adapter;
use ftk_adapters::weights::{Weights, values};
use ftk_circuits::SiteShape;
use ftk_circuits::fixed::ACTIVATION_BITS;
use ftk_networks::sites::Site;
use ftk_proofs::fixed::base::{Quantised, Uses};
use ftk_proofs::fixed::{Activations, Exported, FixedAdapter, FixedBase, PassError};
use rayon::prelude::*;

#[cfg(test)]
mod reference;

/// Why weights have no integers.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// They do not fit their grid.
    #[error(transparent)]
    Fixed(#[from] PassError),
    /// One is missing.
    #[error(transparent)]
    Adapters(#[from] ftk_adapters::Error),
    /// One cannot be read.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

/// The integers of an exported adapter.
///
/// # Errors
/// As [`FixedAdapter::insert`].
pub fn of_adapter(adapter: &Adapter) -> Result<FixedAdapter, PassError> {
    of_committed(adapter, &[])
}

/// The same at the scales of a commitment to it. Where values have no place at these, they have their own scales, so that
/// it is the commitment that does not fit.
///
/// # Errors
/// As [`FixedAdapter::insert`].
pub fn of_committed(adapter: &Adapter, shapes: &[SiteShape]) -> Result<FixedAdapter, PassError> {
    let mut fixed = FixedAdapter::default();
    for (site, factors) in &adapter.sites {
        let (a, b) = (factors.a.as_slice(), factors.b.as_slice());
        let (rank, d_in, d_out, scale) = (factors.rank, factors.d_in, factors.d_out, factors.scale);
        let exported = Exported { rank, d_in, d_out, a, b, scale };
        let shape = shapes.iter().find(|shape| shape.name == *site);
        let placed = shape.map(|shape| fixed.insert_at(site, &exported, [shape.shift_a, shape.shift_b]));
        if !matches!(placed, Some(Ok(()))) {
            fixed.insert(site, &exported)?;
        }
    }
    Ok(fixed)
}

/// The integers of one weight.
///
/// # Errors
/// As [`Uses::quantise`]; the device's.
pub fn quantised(uses: &Uses<'_>, name: &str, tensor: &Tensor) -> Result<Quantised, WeightsError> {
    Ok(values(tensor, |values| uses.quantise(name, tensor.dims(), values))??)
}

/// Quantises the weight of every site of a network; other weights are left out.
///
/// # Errors
/// A missing weight, a shape a site cannot have, a value that does not fit its grid.
pub fn of_weights(weights: &Weights, sites: &[Site]) -> Result<FixedBase, WeightsError> {
    let uses = Uses::of(sites);
    let quantise = |name: &str| Ok((name.to_owned(), quantised(&uses, name, &weights.get(name)?)?));
    let tensors: Vec<_> = uses.names().into_par_iter().map(quantise).collect::<Vec<Result<_, WeightsError>>>();
    Ok(uses.assemble(tensors.into_iter().collect::<Result<_, _>>()?)?)
}

/// How far fixed logits are from float logits: a measure of quality, never part of a statement.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Agreement {
    /// Share of rows whose most likely token is the same.
    pub top1: f64,
    /// Mean over all rows and tokens of the absolute difference of log-probabilities, in nat.
    pub log_prob: f64,
}

impl Agreement {
    /// Compares logits of the same rows; `float` is row-major `(rows, vocab)`.
    ///
    /// Returns `None` if the shapes differ or there is nothing to compare.
    pub fn of(fixed: &Activations, float: &[f32]) -> Option<Self> {
        if fixed.entries.len() != float.len() || float.is_empty() {
            return None;
        }
        let unit = f64::from(1 << ACTIVATION_BITS);
        let (mut same, mut distance) = (0, 0.0);
        for (fixed, float) in fixed.entries.chunks_exact(fixed.features).zip(float.chunks_exact(fixed.features)) {
            let fixed: Vec<f64> = fixed.iter().map(|&logit| logit as f64 / unit).collect();
            let float: Vec<f64> = float.iter().copied().map(f64::from).collect();
            same += usize::from(most_likely(&fixed) == most_likely(&float));
            let pairs = log_softmax(&fixed).zip(log_softmax(&float));
            distance += pairs.map(|(fixed, float)| (fixed - float).abs()).sum::<f64>();
        }
        Some(Self { top1: same as f64 / fixed.rows as f64, log_prob: distance / float.len() as f64 })
    }
}

/// Index of the first largest value.
fn most_likely(logits: &[f64]) -> usize {
    (0..logits.len()).fold(0, |best, index| if logits[index] > logits[best] { index } else { best })
}

fn log_softmax(logits: &[f64]) -> impl Iterator<Item = f64> + '_ {
    let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let log_sum = largest + logits.iter().map(|logit| (logit - largest).exp()).sum::<f64>().ln();
    logits.iter().map(move |logit| logit - log_sum)
}

#[cfg(test)]
mod tests;
