//! Completions alone (KTO, Ethayarajh et al. 2024): the value of a completion is `sigmoid` of `beta` times how far its
//! gain over the reference lies above the drift of the policy if it is wanted, and below it if not; the loss is what the
//! value lacks of 1. The drift counts as a number that nothing is learnt from.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::loss::{Judgement, Loss, PreferenceRow, RowKind, sigmoid};

/// What KTO has of its own.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Kto {
    /// Weight of the completions that are wanted.
    pub desirable_weight: f64,
    /// Weight of those that are not.
    pub undesirable_weight: f64,
}

impl Default for Kto {
    fn default() -> Self {
        Self { desirable_weight: 1.0, undesirable_weight: 1.0 }
    }
}

#[derive(Debug)]
pub(super) struct Value {
    pub(super) beta: f64,
    pub(super) weights: Kto,
}

impl Loss for Value {
    fn rows(&self) -> RowKind {
        RowKind::Unpaired
    }

    fn is_relative(&self) -> bool {
        false
    }

    fn supervised(&self) -> Option<f64> {
        Some(0.0)
    }

    fn judge(&self, row: PreferenceRow<'_>) -> Judgement {
        let Kto { desirable_weight, undesirable_weight } = self.weights;
        let (weight, side) = if row.wanted { (desirable_weight, 1.0) } else { (undesirable_weight, -1.0) };
        let gain = row.completions[0].gain();
        let beyond = self.beta * side * (gain - row.drift);
        let (value, lack) = (sigmoid(beyond), sigmoid(-beyond));
        let slope = -weight * self.beta * side * value * lack;
        let accurate = side * gain > 0.0;
        Judgement { loss: weight * lack, slopes: vec![slope], rewards: [self.beta * gain, 0.0], accurate }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preference::ScoredCompletion;

    #[test]
    fn values_by_hand() {
        let loss = Value { beta: 0.5, weights: Kto { desirable_weight: 1.0, undesirable_weight: 1.5 } };
        let judge = |gain: f64, wanted| {
            let completions = [ScoredCompletion { policy: gain - 20.0, reference: -20.0, tokens: 4 }];
            loss.judge(PreferenceRow { completions: &completions, wanted, drift: 1.0 })
        };
        // As far above the drift as below it: log 3 of odds, values of 3/4 and 1/4.
        let gain = 1.0 + 2.0 * 3.0f64.ln();
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-12, "{a} against {b}");
        near(judge(gain, true).loss, 0.25);
        near(judge(gain, false).loss, 1.5 * 0.75);
        near(judge(gain, true).slopes[0], -0.5 * 0.1875);
        near(judge(gain, false).slopes[0], 1.5 * 0.5 * 0.1875);
        near(judge(gain, true).rewards[0], 0.5 * gain);
        near(judge(1.0, true).loss, 0.5);
    }
}
