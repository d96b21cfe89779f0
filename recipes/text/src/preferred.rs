//! How often a model answers as preferred.

use std::collections::BTreeSet;

use ftk_adapters::Error;
use ftk_adapters::train::LoraTensors;
use ftk_adapters::weights::Weights;
use ftk_networks::Network;

use super::encode::Pair;
use super::generate::greedy;

/// Number of pairs whose prompt is continued greedily with exactly the chosen completion, up to and
/// including its first id of `stop` (or its end, where it has none).
///
/// # Errors
/// The device's.
pub fn preferred(
    network: &Network,
    weights: &Weights,
    adapter: Option<&LoraTensors>,
    pairs: &[Pair],
    stop: &BTreeSet<u32>,
) -> Result<usize, Error> {
    let mut hits = 0;
    for pair in pairs {
        let (prompt, chosen) = pair.chosen.ids.split_at(pair.prompt);
        let end = chosen.iter().position(|id| stop.contains(id)).map_or(chosen.len(), |last| last + 1);
        let answer = greedy(network, weights, adapter, prompt, end, stop, |_| true)?;
        hits += usize::from(answer == chosen[..end]);
    }
    Ok(hits)
}
