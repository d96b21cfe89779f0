//! Weights that a network of graphs begins with, and which of them are variables.

use candle_core::{Device, Tensor, Var};
use ftk_adapters::train::uniform_values;
use ftk_adapters::weights::Weights;
use ftk_networks::graphs::{End, GraphNetwork, PairScorer, SCORE};

use super::error::GraphError;

/// Random weights (Glorot and Bengio 2010, uniform), biases zero. What sums the features of a product begins with ones,
/// so that at first it is the inner product of both ends.
///
/// # Errors
/// The device's.
pub fn fresh(network: &GraphNetwork, seed: u64, device: &Device) -> Result<Weights, GraphError> {
    let product = matches!(network.head, End::Pair { scorer: PairScorer::Product, .. });
    let make = |(name, shape): (String, Vec<usize>)| {
        let count = shape.iter().product();
        let (fan_out, fan_in) = match shape.as_slice() {
            [d_out, d_in] => (*d_out, *d_in),
            _ => (count / network.heads.max(1), 1),
        };
        let bound = (6.0 / (fan_in + fan_out) as f64).sqrt();
        let values = if name.ends_with(".bias") {
            vec![0.0; count]
        } else if product && name.strip_suffix(".weight") == Some(SCORE) {
            vec![1.0; count]
        } else {
            uniform_values(&name, count, bound, seed)
        };
        Ok((name, Tensor::from_vec(values, shape, device)?))
    };
    network.shapes().into_iter().map(make).collect()
}

/// Weights of which the named ones are variables.
pub(super) fn with_variables(weights: &Weights, named: impl Fn(&str) -> bool) -> Result<Weights, GraphError> {
    let make = |name: &str| {
        let tensor = weights.get(name)?;
        let tensor = if named(name) { Var::from_tensor(&tensor)?.into_inner() } else { tensor };
        Ok((name.to_owned(), tensor))
    };
    weights.names().map(make).collect()
}
