//! What a preference pair costs, and how the cost changes with the log-probabilities of its two
//! completions: plain arithmetic in f64, after TRL's definitions. No model and no tensor is here.

use ftk_recipes::DpoLoss;

/// The cost of pairs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Preference {
    /// Strength of the pull towards the reference.
    pub beta: f64,
    /// What a pair costs.
    pub loss: DpoLoss,
    /// Share of pairs taken to be the wrong way round; of [`DpoLoss::Sigmoid`] only.
    pub label_smoothing: f64,
}

/// A completion: summed log-probabilities of its scored tokens under the policy and under the
/// reference, and their number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Completion {
    /// Under the model that is trained.
    pub policy: f64,
    /// Under the model it starts from.
    pub reference: f64,
    /// Scored tokens, at least one.
    pub tokens: usize,
}

impl Completion {
    /// How much likelier the policy finds it than the reference does.
    fn gain(&self) -> f64 {
        self.policy - self.reference
    }
}

/// A pair's cost and what is reported beside it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Verdict {
    /// The cost.
    pub loss: f64,
    /// Its derivatives by the policy's log-probability of the chosen and of the rejected completion.
    pub slopes: [f64; 2],
    /// `beta` times the gain of the chosen and of the rejected completion.
    pub rewards: [f64; 2],
    /// Whether the chosen completion's reward is the larger, by more than rounding explains.
    pub accurate: bool,
}

/// Relative error of a summed log-probability: below it, the same model scored in another batch
/// may already differ, and a difference says nothing. A few units of f32's last place.
const ROUNDING: f64 = 1e-6;

impl Preference {
    /// Judges one pair.
    pub fn judge(&self, chosen: Completion, rejected: Completion) -> Verdict {
        let beta = self.beta;
        let rewards = [chosen.gain(), rejected.gain()].map(|gain| beta * gain);
        let margin = rewards[0] - rewards[1];
        let (loss, slopes) = match self.loss {
            DpoLoss::Sigmoid => {
                let (right, wrong) = (1.0 - self.label_smoothing, self.label_smoothing);
                let loss = right * log_one_plus_exp(-margin) + wrong * log_one_plus_exp(margin);
                let slope = beta * (wrong * sigmoid(margin) - right * sigmoid(-margin));
                (loss, [slope, -slope])
            }
            DpoLoss::Hinge => {
                let slope = if margin < 1.0 { -beta } else { 0.0 };
                ((1.0 - margin).max(0.0), [slope, -slope])
            }
            DpoLoss::Ipo => {
                let per_token = [chosen, rejected].map(|it| (it.gain() / it.tokens as f64, 1.0 / it.tokens as f64));
                let miss = per_token[0].0 - per_token[1].0 - 1.0 / (2.0 * beta);
                (miss * miss, [2.0 * miss * per_token[0].1, -2.0 * miss * per_token[1].1])
            }
        };
        let size = [chosen, rejected].map(|it| it.policy.abs().max(it.reference.abs()));
        let accurate = margin > beta * ROUNDING * (size[0] + size[1]);
        Verdict { loss, slopes, rewards, accurate }
    }
}

/// `log(1 + exp(x))`, without overflow on either side.
fn log_one_plus_exp(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOSSES: [DpoLoss; 3] = [DpoLoss::Sigmoid, DpoLoss::Ipo, DpoLoss::Hinge];

    fn preference(loss: DpoLoss, beta: f64, label_smoothing: f64) -> Preference {
        Preference { beta, loss, label_smoothing }
    }

    fn completion(policy: f64, reference: f64, tokens: usize) -> Completion {
        Completion { policy, reference, tokens }
    }

    #[test]
    fn a_policy_that_is_its_reference_costs_what_the_papers_say() {
        let (chosen, rejected) = (completion(-31.5, -31.5, 9), completion(-12.25, -12.25, 4));
        for (loss, smoothing, cost) in [
            (DpoLoss::Sigmoid, 0.0, std::f64::consts::LN_2),
            (DpoLoss::Sigmoid, 0.25, std::f64::consts::LN_2),
            (DpoLoss::Hinge, 0.0, 1.0),
            // (1 / (2 beta))^2
            (DpoLoss::Ipo, 0.0, 25.0),
        ] {
            let verdict = preference(loss, 0.1, smoothing).judge(chosen, rejected);
            assert!((verdict.loss - cost).abs() < 1e-12, "{loss:?}: {}", verdict.loss);
            assert_eq!((verdict.rewards, verdict.accurate), ([0.0, 0.0], false));
        }
    }

    #[test]
    fn costs_by_hand() {
        // Gains 3 and -2: a margin of 0.5 at beta 0.1.
        let (chosen, rejected) = (completion(-10.0, -13.0, 6), completion(-9.0, -7.0, 4));
        let judge = |loss, smoothing| preference(loss, 0.1, smoothing).judge(chosen, rejected);
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-9, "{a} against {b}");
        // log(1 + e^-0.5) and log(1 + e^0.5), from a table.
        let (right, wrong) = (0.474_076_984_18, 0.974_076_984_18);
        near(judge(DpoLoss::Sigmoid, 0.0).loss, right);
        near(judge(DpoLoss::Sigmoid, 0.2).loss, 0.8 * right + 0.2 * wrong);
        near(judge(DpoLoss::Hinge, 0.0).loss, 0.5);
        near(judge(DpoLoss::Ipo, 0.0).loss, (0.5 + 0.5 - 5.0) * (0.5 + 0.5 - 5.0));
        let verdict = judge(DpoLoss::Ipo, 0.0);
        near(verdict.rewards[0], 0.3);
        near(verdict.rewards[1], -0.2);
        assert!(verdict.accurate);
        near(verdict.slopes[0], 2.0 * -4.0 / 6.0);
        near(verdict.slopes[1], 2.0 * 4.0 / 4.0);
    }

    #[test]
    fn slopes_are_those_of_finite_differences() {
        let step = 1e-5;
        let pairs = [
            (completion(-20.0, -21.0, 7), completion(-33.0, -31.0, 12)),
            (completion(-90.0, -40.0, 30), completion(-80.0, -100.0, 3)),
            (completion(-5.0, -45.0, 2), completion(-60.0, -20.0, 9)),
        ];
        for loss in LOSSES {
            for (beta, smoothing) in [(0.1, 0.0), (0.5, 0.1)] {
                let smoothing = if loss == DpoLoss::Sigmoid { smoothing } else { 0.0 };
                let preference = preference(loss, beta, smoothing);
                for (chosen, rejected) in pairs {
                    let slopes = preference.judge(chosen, rejected).slopes;
                    let at = |moved: [f64; 2]| {
                        let move_by = |it: Completion, by: f64| Completion { policy: it.policy + by, ..it };
                        preference.judge(move_by(chosen, moved[0]), move_by(rejected, moved[1])).loss
                    };
                    let differences = [at([step, 0.0]) - at([-step, 0.0]), at([0.0, step]) - at([0.0, -step])]
                        .map(|d| d / (2.0 * step));
                    for (slope, difference) in slopes.into_iter().zip(differences) {
                        let error = (slope - difference).abs();
                        assert!(error < 1e-6 * difference.abs().max(1.0), "{loss:?}: {slope} against {difference}");
                    }
                }
            }
        }
    }

    #[test]
    fn margins_beyond_the_exponent_of_a_number_stay_numbers() {
        for (gain, cost, slope) in [(1e5, 0.0, 0.0), (-1e5, 1e5, -1.0)] {
            let verdict =
                preference(DpoLoss::Sigmoid, 1.0, 0.0).judge(completion(gain, 0.0, 1), completion(0.0, 0.0, 1));
            assert_eq!((verdict.loss, verdict.slopes), (cost, [slope, -slope]));
        }
    }

    #[test]
    fn a_margin_of_rounding_is_no_preference() {
        let judge = |by: f64| {
            preference(DpoLoss::Sigmoid, 0.1, 0.0)
                .judge(completion(-100.0 + by, -100.0, 40), completion(-80.0, -80.0, 30))
        };
        assert!(!judge(1e-5).accurate && !judge(0.0).accurate && !judge(-1.0).accurate);
        assert!(judge(1e-3).accurate);
    }
}
