//! How well a model continues rows of supervised fine-tuning.

use ftk_adapters::Error;
use ftk_adapters::ops::Tokens;
use ftk_adapters::train::{LoraTensors, Train};
use ftk_adapters::weights::Weights;

use super::encode::Sequence;
use crate::models::Network;

/// Figures over the scored ids of some rows.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Continuation {
    /// Scored ids.
    pub items: usize,
    /// Sum of the negative log-probabilities, in nats.
    pub loss: f64,
    /// Ids that were the most likely ones.
    pub hits: usize,
}

/// Runs a model over rows, one at a time, and calls `on_row` after each.
///
/// # Errors
/// The device's.
pub fn continuation(
    network: &Network,
    weights: &Weights,
    adapter: Option<&LoraTensors>,
    rows: &[Sequence],
    mut on_row: impl FnMut(),
) -> Result<Continuation, Error> {
    let mut total = Continuation::default();
    for row in rows {
        for (ids, marks) in row.texts() {
            let scored: Vec<usize> = (1..ids.len()).filter(|&position| marks[position]).collect();
            if scored.is_empty() {
                continue;
            }
            let before: Vec<usize> = scored.iter().map(|position| position - 1).collect();
            let tokens = Tokens::sequence(ids.to_vec());
            let logits = network.forward(&mut Train::new(weights, adapter), &tokens, &before)?;
            let logits = logits.flatten_all()?.to_vec1::<f32>()?;
            for (logits, position) in logits.chunks(network.vocab()).zip(scored) {
                let (label, most) = (logits[ids[position] as usize], logits.iter().copied().fold(f32::MIN, f32::max));
                let sum: f64 = logits.iter().map(|&logit| (f64::from(logit) - f64::from(most)).exp()).sum();
                total.loss += f64::from(most) + sum.ln() - f64::from(label);
                total.hits += usize::from(label == most);
                total.items += 1;
            }
        }
        on_row();
    }
    Ok(total)
}
