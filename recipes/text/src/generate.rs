//! Greedy generation.

use std::collections::BTreeSet;

use candle_core::Tensor;
use ftk_adapters::Error;
use ftk_adapters::train::{Cache, LoraTensors, Train};
use ftk_adapters::weights::Weights;
use ftk_networks::Network;
use ftk_networks::ops::Tokens;

/// Continues `prompt` with the most likely token, ties going to the lowest id, until an id of
/// `stop` (which is part of the result), `limit` tokens, or until `on_token`, which sees each as it comes, wants no more.
///
/// # Errors
/// The device's.
pub fn greedy(
    network: &Network,
    weights: &Weights,
    adapter: Option<&LoraTensors>,
    prompt: &[u32],
    limit: usize,
    stop: &BTreeSet<u32>,
    mut on_token: impl FnMut(u32) -> bool,
) -> Result<Vec<u32>, Error> {
    let mut cache = Cache::default();
    let mut next = prompt.to_vec();
    let mut completion = Vec::new();
    while completion.len() < limit {
        let last = next.len() - 1;
        let mut ops = Train::continuing(weights, adapter, &mut cache);
        let logits = network.forward(&mut ops, &Tokens::sequence(next), &[last])?;
        let token = largest(&logits)?;
        completion.push(token);
        if !on_token(token) || stop.contains(&token) {
            break;
        }
        next = vec![token];
    }
    Ok(completion)
}

/// Index of the largest logit, the first among equals.
fn largest(logits: &Tensor) -> Result<u32, Error> {
    let logits = logits.flatten_all()?.to_vec1::<f32>()?;
    let best = logits.iter().enumerate().reduce(|best, next| if next.1 > best.1 { next } else { best });
    Ok(best.map_or(0, |(index, _)| index as u32))
}
