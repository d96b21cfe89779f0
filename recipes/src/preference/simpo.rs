//! Mean log-probabilities with a margin, without a reference (SimPO, Meng et al. 2024): the logistic loss of how far the
//! reward of the chosen completion, `beta` times the mean log-probability of its tokens, lies more than `gamma` above
//! that of the rejected one.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::loss::{Judgement, Loss, PreferenceRow, logistic, mean, pairs};

/// What SimPO has of its own.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Simpo {
    /// By how much the reward of the chosen completion is to lie above that of the rejected one.
    pub gamma: f64,
}

impl Default for Simpo {
    fn default() -> Self {
        Self { gamma: 0.5 }
    }
}

#[derive(Debug)]
pub(super) struct Margin {
    pub(super) beta: f64,
    pub(super) gamma: f64,
    /// Share of pairs taken to be the wrong way round.
    pub(super) label_smoothing: f64,
}

impl Loss for Margin {
    fn has_reference(&self) -> bool {
        false
    }

    fn is_per_token(&self) -> bool {
        true
    }

    fn smooths(&self) -> bool {
        true
    }

    fn judge(&self, row: PreferenceRow<'_>) -> Judgement {
        pairs(row, mean(self.beta), |chosen, rejected, margin| {
            let (loss, slope) = logistic(margin - self.gamma, self.label_smoothing);
            let slope = self.beta * slope;
            (loss, [slope / chosen.tokens as f64, -slope / rejected.tokens as f64])
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::loss::ScoredCompletion;
    use super::*;

    #[test]
    fn a_margin_by_hand() {
        // Rewards of -3 and -5: 1.5 beyond a margin of 0.5.
        let completion = |policy, tokens| ScoredCompletion { policy, reference: 0.0, tokens };
        let pair = [completion(-6.0, 4), completion(-5.0, 2)];
        let judge =
            |label_smoothing| Margin { beta: 2.0, gamma: 0.5, label_smoothing }.judge(PreferenceRow::chosen(&pair));
        let [near, far] = [-1.5f64, 1.5].map(|x| (1.0 + x.exp()).ln());
        let verdict = judge(0.0);
        assert!((verdict.loss - near).abs() < 1e-12 && verdict.accurate, "{verdict:?}");
        assert_eq!(verdict.rewards, [-3.0, -5.0]);
        assert!((judge(0.25).loss - (0.75 * near + 0.25 * far)).abs() < 1e-12);
        let share = 1.0 / (1.0 + 1.5f64.exp());
        assert!((verdict.slopes[0] + 2.0 * share / 4.0).abs() < 1e-12, "{verdict:?}");
        assert!((verdict.slopes[1] - 2.0 * share / 2.0).abs() < 1e-12, "{verdict:?}");
    }
}
