//! What a preference costs, and how the cost changes with the log-probabilities of its completions: plain arithmetic
//! in f64, one file a loss. No model, no tensor and no file of rows is here; tasks bring the log-probabilities.

mod hinge;
mod ipo;
mod kto;
mod loss;
mod orpo;
pub mod rule;
mod sigmoid;
mod simpo;
mod softmax;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::kto::Kto;
pub use self::loss::{Judgement, Loss, PreferenceRow, RowKind, ScoredCompletion};
pub use self::simpo::Simpo;
use crate::error::RecipeError;
use crate::key::TakenKey;
use crate::sections::Run;
use crate::source::RecipeSource;

/// Preference optimisation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Dpo {
    /// Strength of the pull towards the reference.
    pub beta: f64,
    /// What a pair costs.
    pub loss: DpoLoss,
    /// Share of pairs taken to be the wrong way round (conservative DPO, Mitchell 2023); losses `sigmoid` and `simpo` only.
    pub label_smoothing: f64,
    /// Weight of the supervised loss on the chosen completions, a mean over the tokens of a step.
    pub sft_weight: f64,
    /// The model whose log-probabilities are subtracted.
    pub reference: Reference,
    /// Compute its log-probabilities once, before training, and keep them in the run folder.
    pub cache: bool,
    /// What loss `simpo` has of its own.
    #[serde(skip_serializing_if = "usual")]
    pub simpo: Simpo,
    /// What loss `kto` has of its own.
    #[serde(skip_serializing_if = "usual")]
    pub kto: Kto,
}

impl Default for Dpo {
    fn default() -> Self {
        Self {
            beta: 0.1,
            loss: DpoLoss::Sigmoid,
            label_smoothing: 0.0,
            sft_weight: 0.0,
            reference: Reference::Base,
            cache: true,
            simpo: Simpo::default(),
            kto: Kto::default(),
        }
    }
}

/// What a pair costs, as a function of how far the policy has moved from the reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DpoLoss {
    /// The logistic loss (Rafailov et al. 2023).
    Sigmoid,
    /// Squared distance to a margin of `1 / (2 beta)` a token (IPO, Azar et al. 2023).
    Ipo,
    /// The hinge (SLiC, Zhao et al. 2023).
    Hinge,
    /// The softmax of one chosen completion among several rejected ones (S-DPO, Chen et al. 2024): rows that follow
    /// each other with one prompt and one chosen completion are one choice.
    Softmax,
    /// The odds ratio of the two completions beside the supervised loss on the chosen one, without a reference (ORPO,
    /// Hong et al. 2024).
    Orpo,
    /// The logistic loss of mean log-probabilities and a margin, without a reference (SimPO, Meng et al. 2024).
    Simpo,
    /// The value of completions alone, each wanted or not (KTO, Ethayarajh et al. 2024): rows are `prompt`, `completion`
    /// and `label`.
    Kto,
}

/// The reference model of DPO.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Reference {
    /// The base without adapter.
    Base,
    /// The base with the adapter it started from (`lora.start`).
    Start,
}

/// Whether a table is as it is without being written: what a run is known by does not change with tables that came later.
fn usual<T: Default + PartialEq>(table: &T) -> bool {
    *table == T::default()
}

impl DpoLoss {
    /// Every loss.
    pub const ALL: [Self; 7] =
        [Self::Sigmoid, Self::Ipo, Self::Hinge, Self::Softmax, Self::Orpo, Self::Simpo, Self::Kto];

    /// How recipes name it.
    fn name(self) -> String {
        serde_json::to_value(self).expect("a loss has a name").to_string()
    }
}

impl Dpo {
    /// The loss, ready to judge.
    pub fn cost(&self) -> Box<dyn Loss> {
        let Self { beta, label_smoothing, .. } = *self;
        match self.loss {
            DpoLoss::Sigmoid => Box::new(sigmoid::Sigmoid { beta, label_smoothing }),
            DpoLoss::Ipo => Box::new(ipo::Ipo { beta }),
            DpoLoss::Hinge => Box::new(hinge::Hinge { beta }),
            DpoLoss::Softmax => Box::new(softmax::SoftmaxLoss { beta }),
            DpoLoss::Orpo => Box::new(orpo::Orpo { beta }),
            DpoLoss::Kto => Box::new(kto::Value { beta, weights: self.kto }),
            DpoLoss::Simpo => Box::new(simpo::Margin { beta, gamma: self.simpo.gamma, label_smoothing }),
        }
    }

    /// Weight of the supervised loss on the chosen completions.
    pub fn supervised(&self) -> f64 {
        self.cost().supervised().unwrap_or(self.sft_weight)
    }

    /// The keys that a task with preferences takes.
    pub(crate) fn keys(&self) -> Vec<TakenKey> {
        let cost = self.cost();
        let compared = |name| TakenKey::when(name, cost.has_reference(), "is for losses that compare with a reference");
        let own = "is for losses without a supervised part of their own";
        vec![
            TakenKey::new("dpo.beta"),
            TakenKey::new("dpo.loss"),
            TakenKey::new("dpo.label_smoothing"),
            TakenKey::when("dpo.sft_weight", cost.supervised().is_none(), own),
            compared("dpo.reference"),
            compared("dpo.cache"),
            TakenKey::when("dpo.kto.desirable_weight", self.loss == DpoLoss::Kto, "is for dpo.loss = \"kto\""),
            TakenKey::when("dpo.kto.undesirable_weight", self.loss == DpoLoss::Kto, "is for dpo.loss = \"kto\""),
            TakenKey::when("dpo.simpo.gamma", self.loss == DpoLoss::Simpo, "is for dpo.loss = \"simpo\""),
        ]
    }

    pub(crate) fn check(&self, run: &Run, source: &RecipeSource<'_>) -> Result<(), RecipeError> {
        let need = |good: bool, key: &str, rule: &str| if good { Ok(()) } else { Err(source.refuse(key, rule)) };
        need(self.beta.is_finite() && self.beta > 0.0, "dpo.beta", "must be above 0")?;
        let smoothing = self.label_smoothing;
        need((0.0..0.5).contains(&smoothing), "dpo.label_smoothing", "must lie in [0, 0.5)")?;
        if smoothing != 0.0 && !self.cost().smooths() {
            let smooths = |loss: &DpoLoss| Self { loss: *loss, ..*self }.cost().smooths();
            let named: Vec<String> = DpoLoss::ALL.into_iter().filter(smooths).map(DpoLoss::name).collect();
            let rule = format!("needs dpo.loss = {}", named.join(" or "));
            return Err(source.refuse("dpo.label_smoothing", &rule));
        }
        let weight = |value: f64| value.is_finite() && value >= 0.0;
        let Kto { desirable_weight, undesirable_weight } = self.kto;
        need(weight(desirable_weight), "dpo.kto.desirable_weight", "must not be negative")?;
        need(weight(undesirable_weight), "dpo.kto.undesirable_weight", "must not be negative")?;
        let step = run.batch.saturating_mul(run.accumulate);
        let enough = self.cost().rows() != RowKind::Unpaired || step >= 2;
        need(enough, "run.batch", "must come to two rows a step at least, for what is a mean over other rows")?;
        need(self.simpo.gamma.is_finite() && self.simpo.gamma >= 0.0, "dpo.simpo.gamma", "must not be negative")?;
        need(self.sft_weight.is_finite() && self.sft_weight >= 0.0, "dpo.sft_weight", "must not be negative")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Judges a chosen completion against others.
    struct Judge(Dpo);

    impl Judge {
        fn judge(&self, chosen: ScoredCompletion, rejected: &[ScoredCompletion]) -> Judgement {
            self.0.cost().judge(PreferenceRow::chosen(&[&[chosen], rejected].concat()))
        }
    }

    fn preference(loss: DpoLoss, beta: f64, label_smoothing: f64) -> Judge {
        Judge(Dpo { beta, loss, label_smoothing, ..Dpo::default() })
    }

    fn completion(policy: f64, reference: f64, tokens: usize) -> ScoredCompletion {
        ScoredCompletion { policy, reference, tokens }
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

    /// The slopes of a loss are those of its finite differences, of pairs or of completions alone.
    fn has_slopes_of_finite_differences(dpo: Dpo) {
        let step = 1e-5;
        let pairs = [
            [completion(-20.0, -21.0, 7), completion(-33.0, -31.0, 12)],
            [completion(-90.0, -40.0, 30), completion(-80.0, -100.0, 3)],
            [completion(-5.0, -45.0, 2), completion(-60.0, -20.0, 9)],
        ];
        let cost = dpo.cost();
        for pair in pairs {
            let alone = cost.rows() == RowKind::Unpaired;
            for (wanted, drift) in if alone { vec![(true, 0.0), (false, 0.4), (true, 3.0)] } else { vec![(true, 0.0)] }
            {
                let row = |pair: &[ScoredCompletion; 2]| {
                    let completions = if alone { &pair[..1] } else { &pair[..] };
                    cost.judge(PreferenceRow { completions, wanted, drift })
                };
                for (at, slope) in row(&pair).slopes.into_iter().enumerate() {
                    let moved = |by: f64| {
                        let mut pair = pair;
                        pair[at].policy += by;
                        row(&pair).loss
                    };
                    let difference = (moved(step) - moved(-step)) / (2.0 * step);
                    let error = (slope - difference).abs();
                    assert!(error < 1e-6 * difference.abs().max(1.0), "{dpo:?}: {slope} against {difference}");
                }
            }
        }
    }

    #[test]
    fn slopes_are_those_of_finite_differences() {
        for loss in DpoLoss::ALL {
            for (beta, smoothing) in [(0.1, 0.0), (0.5, 0.1)] {
                let dpo = Dpo { beta, loss, ..Dpo::default() };
                let label_smoothing = if dpo.cost().smooths() { smoothing } else { 0.0 };
                has_slopes_of_finite_differences(Dpo { label_smoothing, ..dpo });
            }
        }
    }

    #[test]
    fn a_loss_without_reference_does_not_look_at_one() {
        for loss in DpoLoss::ALL {
            let cost = Dpo { loss, ..Dpo::default() }.cost();
            let judge = |reference: f64| {
                let pair = [completion(-20.0, reference, 7), completion(-33.0, -31.0, 12)];
                let completions = if cost.rows() == RowKind::Unpaired { &pair[..1] } else { &pair[..] };
                cost.judge(PreferenceRow { completions, wanted: true, drift: 0.0 })
            };
            assert_eq!(judge(-20.5) != judge(-21.0), cost.has_reference(), "{loss:?}");
        }
    }

    #[test]
    fn a_relative_loss_takes_scores_up_to_a_number() {
        for loss in DpoLoss::ALL {
            let cost = Dpo { loss, ..Dpo::default() }.cost();
            if cost.rows() == RowKind::Unpaired {
                assert!(!cost.is_relative(), "{loss:?}");
                continue;
            }
            // Of one token, as graphs have it.
            let judge = |by: f64| {
                let pair = [completion(-2.5 + by, -2.0, 1), completion(-3.5 + by, -3.0, 1)];
                cost.judge(PreferenceRow::chosen(&pair)).loss
            };
            assert_eq!((judge(0.0) - judge(-1.5)).abs() < 1e-12, cost.is_relative(), "{loss:?}");
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
        let by_hand = |chosen: ScoredCompletion, rejected: &[ScoredCompletion]| {
            let sum: f64 = rejected.iter().map(|it| (0.3 * (it.gain() - chosen.gain())).exp()).sum();
            -(1.0 / (1.0 + sum.ln().exp())).ln()
        };
        assert!((verdict.loss - by_hand(chosen, &rejected)).abs() < 1e-12);
        // The second of them gained more than the chosen one did.
        assert!(!verdict.accurate && preference.judge(chosen, &rejected[..1]).accurate);
        assert!((verdict.rewards[1] - 0.3 * (-2.0 + 1.5) / 3.0).abs() < 1e-12);
        // With one rejected completion it is the logistic loss.
        let logistic = super::tests::preference(DpoLoss::Sigmoid, 0.3, 0.0);
        let (one, other) = (preference.judge(chosen, &rejected[..1]), logistic.judge(chosen, &rejected[..1]));
        assert!((one.loss - other.loss).abs() < 1e-15 && (one.slopes[0] - other.slopes[0]).abs() < 1e-15);
        // Slopes against differences, of every completion; the policy is not its reference.
        let step = 1e-5;
        let moved = |at: usize, by: f64| {
            let move_by = |it: ScoredCompletion, index| {
                if index == at { ScoredCompletion { policy: it.policy + by, ..it } } else { it }
            };
            let all: Vec<ScoredCompletion> =
                rejected.iter().enumerate().map(|(index, it)| move_by(*it, index + 1)).collect();
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
