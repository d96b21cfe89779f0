//! The odds ratio beside the supervised loss (ORPO, Hong et al. 2024), without a reference: of a pair, `beta` times
//! `-log sigmoid` of how far the log-odds of the chosen completion lie above those of the rejected one, where a
//! completion's probability is the geometric mean of its tokens'. Supervised is the chosen completion alone; TRL has its
//! prompt there, too.

use super::loss::{Judgement, Loss, PreferenceRow, ScoredCompletion, logistic, mean, pairs};

#[derive(Debug)]
pub(super) struct Orpo {
    /// Weight beside the supervised loss, `lambda` in the paper.
    pub(super) beta: f64,
}

/// Largest mean log-probability, of the number before 1 in f32: a completion that is certain has no finite odds.
const MOST: f64 = -1.0 / (1 << 24) as f64;

/// Log-odds of a completion, and their derivative by its summed log-probability.
fn log_odds(completion: &ScoredCompletion) -> (f64, f64) {
    let mean = completion.mean().min(MOST);
    let against = -libm::expm1(mean);
    (mean - libm::log(against), 1.0 / (against * completion.tokens as f64))
}

impl Loss for Orpo {
    fn has_reference(&self) -> bool {
        false
    }

    fn is_per_token(&self) -> bool {
        true
    }

    fn is_relative(&self) -> bool {
        false
    }

    fn supervised(&self) -> Option<f64> {
        Some(1.0)
    }

    fn judge(&self, row: PreferenceRow<'_>) -> Judgement {
        pairs(row, mean(self.beta), |chosen, rejected, _| {
            let ((chosen, by_chosen), (rejected, by_rejected)) = (log_odds(chosen), log_odds(rejected));
            let (loss, slope) = logistic(chosen - rejected, 0.0);
            let slope = self.beta * slope;
            (self.beta * loss, [slope * by_chosen, -slope * by_rejected])
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn completion(policy: f64, tokens: usize) -> ScoredCompletion {
        ScoredCompletion { policy, reference: 0.0, tokens }
    }

    #[test]
    fn odds_by_hand() {
        // Probabilities 0.8 and 0.5 a token: odds of 4 and 1, and -log(4 / 5) of them.
        let pair = [completion(3.0 * 0.8f64.ln(), 3), completion(2.0 * 0.5f64.ln(), 2)];
        let verdict = Orpo { beta: 0.3 }.judge(PreferenceRow::chosen(&pair));
        assert!((verdict.loss - 0.3 * (5.0f64 / 4.0).ln()).abs() < 1e-12, "{}", verdict.loss);
        assert!((verdict.rewards[0] - 0.3 * 0.8f64.ln()).abs() < 1e-12 && verdict.accurate);
        // By the summed log-probability: -beta (1 - 4/5) / (1 - 0.8) / 3, and beta (1 - 4/5) / (1 - 0.5) / 2.
        assert!((verdict.slopes[0] + 0.3 / 3.0).abs() < 1e-12, "{:?}", verdict.slopes);
        assert!((verdict.slopes[1] - 0.3 * 0.2).abs() < 1e-12, "{:?}", verdict.slopes);
    }

    #[test]
    fn what_is_certain_has_finite_odds_and_slopes() {
        for pair in [[completion(0.0, 5), completion(-9.0, 5)], [completion(-9.0, 5), completion(0.0, 5)]] {
            let verdict = Orpo { beta: 0.1 }.judge(PreferenceRow::chosen(&pair));
            assert!(verdict.loss.is_finite() && verdict.slopes.iter().all(|slope| slope.is_finite()), "{verdict:?}");
        }
    }
}
