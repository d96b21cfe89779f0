//! What a preference costs, and how the cost changes with the log-probabilities of its completions: plain arithmetic
//! in f64, after TRL's definitions and, of several rejected completions, those of S-DPO. No model and no tensor is
//! here.

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

/// A choice's cost and what is reported beside it.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// The cost.
    pub loss: f64,
    /// Its derivatives by the policy's log-probability of the chosen completion, then of each rejected one.
    pub slopes: Vec<f64>,
    /// `beta` times the gain of the chosen completion and, the mean of them, of the rejected ones.
    pub rewards: [f64; 2],
    /// Whether the chosen completion's reward is the largest, by more than rounding explains.
    pub accurate: bool,
}

/// Relative error of a summed log-probability: below it, the same model scored in another batch
/// may already differ, and a difference says nothing. A few units of f32's last place.
const ROUNDING: f64 = 1e-6;

impl Preference {
    /// Judges a choice: the chosen completion against the rejected ones, of which there is one at least. What is a
    /// loss of pairs is the mean over them.
    pub fn judge(&self, chosen: Completion, rejected: &[Completion]) -> Verdict {
        let beta = self.beta;
        let share = 1.0 / rejected.len() as f64;
        let reward = beta * chosen.gain();
        let margins: Vec<f64> = rejected.iter().map(|it| reward - beta * it.gain()).collect();
        let mut slopes = vec![0.0; 1 + rejected.len()];
        let mut loss = 0.0;
        if self.loss == DpoLoss::Softmax {
            // log(1 + the sum of exp(-margin)), all exponents taken relative to the largest.
            let top = margins.iter().fold(0.0f64, |top, margin| top.max(-margin));
            let powers: Vec<f64> = margins.iter().map(|margin| (-margin - top).exp()).collect();
            let all = (-top).exp() + powers.iter().sum::<f64>();
            loss = top + all.ln();
            for (at, power) in powers.iter().enumerate() {
                slopes[1 + at] = beta * power / all;
                slopes[0] -= slopes[1 + at];
            }
        } else {
            for (at, (&rejected, &margin)) in rejected.iter().zip(&margins).enumerate() {
                let (cost, [of_chosen, of_rejected]) = self.pair(chosen, rejected, margin);
                loss += share * cost;
                slopes[0] += share * of_chosen;
                slopes[1 + at] = share * of_rejected;
            }
        }
        let size = |it: &Completion| it.policy.abs().max(it.reference.abs());
        let clear = |(it, margin): (&Completion, &f64)| *margin > beta * ROUNDING * (size(&chosen) + size(it));
        let accurate = rejected.iter().zip(&margins).all(clear);
        let rewards = [reward, beta * share * rejected.iter().map(Completion::gain).sum::<f64>()];
        Verdict { loss, slopes, rewards, accurate }
    }

    /// The cost of one pair with this margin of rewards, and its derivatives.
    fn pair(&self, chosen: Completion, rejected: Completion, margin: f64) -> (f64, [f64; 2]) {
        let beta = self.beta;
        match self.loss {
            DpoLoss::Sigmoid | DpoLoss::Softmax => {
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
        }
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

    const LOSSES: [DpoLoss; 4] = [DpoLoss::Sigmoid, DpoLoss::Ipo, DpoLoss::Hinge, DpoLoss::Softmax];

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
            let verdict = preference(loss, 0.1, smoothing).judge(chosen, &[rejected]);
            assert!((verdict.loss - cost).abs() < 1e-12, "{loss:?}: {}", verdict.loss);
            assert_eq!((verdict.rewards, verdict.accurate), ([0.0, 0.0], false));
        }
    }

    #[test]
    fn costs_by_hand() {
        // Gains 3 and -2: a margin of 0.5 at beta 0.1.
        let (chosen, rejected) = (completion(-10.0, -13.0, 6), completion(-9.0, -7.0, 4));
        let judge = |loss, smoothing| preference(loss, 0.1, smoothing).judge(chosen, &[rejected]);
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
                    let slopes = preference.judge(chosen, &[rejected]).slopes;
                    let at = |moved: [f64; 2]| {
                        let move_by = |it: Completion, by: f64| Completion { policy: it.policy + by, ..it };
                        preference.judge(move_by(chosen, moved[0]), &[move_by(rejected, moved[1])]).loss
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
                preference(DpoLoss::Sigmoid, 1.0, 0.0).judge(completion(gain, 0.0, 1), &[completion(0.0, 0.0, 1)]);
            assert_eq!((verdict.loss, verdict.slopes), (cost, vec![slope, -slope]));
        }
    }

    #[test]
    fn one_choice_among_several_is_the_softmax_of_all() {
        let preference = preference(DpoLoss::Softmax, 0.3, 0.0);
        let chosen = completion(-20.0, -21.0, 7);
        let rejected = [completion(-33.0, -31.0, 12), completion(-18.0, -19.5, 3), completion(-50.0, -50.0, 9)];
        let verdict = preference.judge(chosen, &rejected);
        // -log sigmoid(-log sum exp(beta (gain of a rejected one - gain of the chosen one))), Chen et al. 2024.
        let by_hand = |chosen: Completion, rejected: &[Completion]| {
            let sum: f64 = rejected.iter().map(|it| (0.3 * (it.gain() - chosen.gain())).exp()).sum();
            -(1.0 / (1.0 + sum.ln().exp())).ln()
        };
        assert!((verdict.loss - by_hand(chosen, &rejected)).abs() < 1e-12);
        // The second of them gained more than the chosen one did.
        assert!(!verdict.accurate && preference.judge(chosen, &rejected[..1]).accurate);
        assert!((verdict.rewards[1] - 0.3 * (-2.0 + 1.5) / 3.0).abs() < 1e-12);
        // With one rejected completion it is the logistic loss.
        let logistic = Preference { loss: DpoLoss::Sigmoid, ..preference };
        let (one, other) = (preference.judge(chosen, &rejected[..1]), logistic.judge(chosen, &rejected[..1]));
        assert!((one.loss - other.loss).abs() < 1e-15 && (one.slopes[0] - other.slopes[0]).abs() < 1e-15);
        // Slopes against differences, of every completion; the policy is not its reference.
        let step = 1e-5;
        let moved = |at: usize, by: f64| {
            let move_by =
                |it: Completion, index| if index == at { Completion { policy: it.policy + by, ..it } } else { it };
            let all: Vec<Completion> = rejected.iter().enumerate().map(|(index, it)| move_by(*it, index + 1)).collect();
            preference.judge(move_by(chosen, 0), &all).loss
        };
        for (at, slope) in verdict.slopes.iter().enumerate() {
            let difference = (moved(at, step) - moved(at, -step)) / (2.0 * step);
            assert!((slope - difference).abs() < 1e-8 && slope.abs() > 1e-3, "{at}: {slope} against {difference}");
        }
        assert!(verdict.slopes.iter().sum::<f64>().abs() < 1e-15);
        // Beyond the exponent of a number.
        let far = preference.judge(completion(-1e5, 0.0, 1), &[completion(0.0, 0.0, 1), completion(-1e6, 0.0, 1)]);
        assert_eq!((far.loss, far.slopes), (3e4, vec![-0.3, 0.3, 0.0]));
    }

    #[test]
    fn a_margin_of_rounding_is_no_preference() {
        let judge = |by: f64| {
            preference(DpoLoss::Sigmoid, 0.1, 0.0)
                .judge(completion(-100.0 + by, -100.0, 40), &[completion(-80.0, -80.0, 30)])
        };
        assert!(!judge(1e-5).accurate && !judge(0.0).accurate && !judge(-1.0).accurate);
        assert!(judge(1e-3).accurate);
    }
}
