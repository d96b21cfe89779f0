//! What a loss makes of log-probabilities, as an operation that a record of a step names: whoever has the constants and
//! the log-probabilities computes loss and slopes, without recipe, rows or base.

use candle_core::{Device, Result, Tensor};
use ftk_adapters::train::operation::{Bits, Operation};
use ftk_adapters::train::trace;
use serde::{Deserialize, Serialize};

use super::kto::Kto;
use super::loss::{Judgement, Loss, PreferenceRow, ScoredCompletion};
use super::simpo::Simpo;
use super::{Dpo, DpoLoss};

/// A loss with its constants to their last bit.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LossConstants {
    loss: DpoLoss,
    beta: Bits,
    label_smoothing: Bits,
    gamma: Bits,
    /// Of what is wanted, of what is not.
    weights: [Bits; 2],
}

impl From<&Dpo> for LossConstants {
    fn from(dpo: &Dpo) -> Self {
        let Dpo { beta, loss, label_smoothing, simpo: Simpo { gamma }, kto, .. } = *dpo;
        let weights = [kto.desirable_weight, kto.undesirable_weight].map(Bits::from);
        Self { loss, beta: beta.into(), label_smoothing: label_smoothing.into(), gamma: gamma.into(), weights }
    }
}

impl LossConstants {
    /// Whether it is this loss.
    pub fn is_of(&self, loss: DpoLoss) -> bool {
        self.loss == loss
    }

    /// The loss, ready to judge.
    pub fn cost(&self) -> Box<dyn Loss> {
        let Self { loss, beta, label_smoothing, gamma, weights: [desirable, undesirable] } = *self;
        let kto = Kto { desirable_weight: desirable.into(), undesirable_weight: undesirable.into() };
        let simpo = Simpo { gamma: gamma.into() };
        let (beta, label_smoothing) = (beta.into(), label_smoothing.into());
        Dpo { beta, loss, label_smoothing, simpo, kto, ..Dpo::default() }.cost()
    }
}

/// What is made of results.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "task", rename_all = "snake_case", deny_unknown_fields)]
pub enum Rule {
    /// Slopes of each summed log-probability, and the loss: the policy's sums, the reference's.
    Choices {
        /// The loss.
        loss: LossConstants,
        /// Completions of each row, the chosen one first.
        sizes: Vec<usize>,
        /// Scored tokens of each completion.
        tokens: Vec<usize>,
        /// Weight of a chosen completion's log-probability.
        supervised: Bits,
    },
    /// Slopes of each summed log-probability, and the loss: the policy's sums, the reference's, the drift.
    Alone {
        /// The loss.
        loss: LossConstants,
        /// Whether each is wanted.
        wanted: Vec<bool>,
        /// Scored tokens of each completion.
        tokens: Vec<usize>,
    },
    /// The sum of differences: the policy's sums, the reference's.
    Gain {},
    /// The mean over rows, at least 0: gains, one or more.
    Drift {
        /// How many rows.
        rows: usize,
    },
}

/// Judges rows of a chosen completion with those that are rejected behind it, so many each; the chosen one's
/// log-probability counts beside with a weight. Gives the loss, and of each row what is said of it.
pub fn choices(
    cost: &dyn Loss,
    completions: &[ScoredCompletion],
    sizes: &[usize],
    supervised: f64,
) -> (f64, Vec<Judgement>) {
    let (mut sum, mut rest, mut verdicts) = (0.0, completions, Vec::with_capacity(sizes.len()));
    for &size in sizes {
        let (choice, after) = rest.split_at(size);
        let mut verdict = cost.judge(PreferenceRow::chosen(choice));
        sum += verdict.loss - supervised * choice[0].policy;
        verdict.slopes[0] -= supervised;
        verdicts.push(verdict);
        rest = after;
    }
    (sum, verdicts)
}

/// Judges completions alone. Gives the loss, and of each what is said of it.
pub fn alone(cost: &dyn Loss, completions: &[ScoredCompletion], wanted: &[bool], drift: f64) -> (f64, Vec<Judgement>) {
    let (mut sum, mut verdicts) = (0.0, Vec::with_capacity(wanted.len()));
    for (completion, &wanted) in completions.iter().zip(wanted) {
        let row = PreferenceRow { completions: std::slice::from_ref(completion), wanted, drift };
        let verdict = cost.judge(row);
        sum += verdict.loss;
        verdicts.push(verdict);
    }
    (sum, verdicts)
}

/// By how much the policy finds completions likelier than the reference does.
pub fn gain(policy: &[f64], reference: &[f64]) -> f64 {
    policy.iter().zip(reference).map(|(policy, reference)| policy - reference).sum()
}

/// The mean of gains over so many rows, at least 0.
pub fn drift(gains: &[f64], rows: usize) -> f64 {
    let sum = gains.iter().fold(0.0, |sum, gain| sum + gain);
    (sum / rows as f64).max(0.0)
}

/// The slopes of verdicts, one after another.
pub fn slopes(verdicts: &[Judgement]) -> Vec<f64> {
    verdicts.iter().flat_map(|verdict| verdict.slopes.iter().copied()).collect()
}

/// Numbers as an operation has them.
///
/// # Errors
/// None on the host.
pub fn tensor(numbers: &[f64]) -> Result<Tensor> {
    Tensor::from_slice(numbers, numbers.len(), &Device::Cpu)
}

impl Rule {
    /// Shows what was made by this rule to whoever looks on; gives what goes on.
    ///
    /// # Errors
    /// Those of whoever looks on.
    pub fn shown<const N: usize>(
        made: [Vec<f64>; N],
        describe: impl FnOnce() -> Result<(Self, Vec<Tensor>)>,
    ) -> Result<[Vec<f64>; N]> {
        if !trace::on() {
            return Ok(made);
        }
        let mut outputs = Vec::with_capacity(N);
        for numbers in &made {
            outputs.push(tensor(numbers)?);
        }
        let outputs: [Tensor; N] = outputs.try_into().expect("as many as were made");
        let seen = trace::seen(outputs, || {
            let (rule, inputs) = describe()?;
            Ok((Operation::task(&rule), inputs))
        })?;
        let mut made = made;
        for (numbers, seen) in made.iter_mut().zip(&seen) {
            *numbers = seen.to_vec1()?;
        }
        Ok(made)
    }

    /// What a rule, as a record has it, gives of these inputs. All of it may be foreign.
    ///
    /// # Errors
    /// Inputs that do not fit.
    pub fn compute(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let wrong = || candle_core::Error::Msg("inputs do not fit the rule".to_owned());
        let numbers: Vec<Vec<f64>> = inputs.iter().map(Tensor::to_vec1::<f64>).collect::<Result<_>>()?;
        let numbers: Vec<&[f64]> = numbers.iter().map(Vec::as_slice).collect();
        let completed = |policy: &[f64], reference: &[f64], tokens: &[usize]| {
            let fits = !tokens.is_empty() && tokens.len() == policy.len() && policy.len() == reference.len();
            let all = policy.iter().zip(reference).zip(tokens);
            let all = all.map(|((&policy, &reference), &tokens)| ScoredCompletion { policy, reference, tokens });
            (fits && !tokens.contains(&0)).then(|| all.collect::<Vec<_>>()).ok_or_else(wrong)
        };
        match (self, numbers.as_slice()) {
            (Self::Choices { loss, sizes, tokens, supervised }, [policy, reference]) => {
                let completed = completed(policy, reference, tokens)?;
                let all = sizes.iter().try_fold(0usize, |sum, &size| sum.checked_add(size));
                if loss.loss == DpoLoss::Kto || sizes.iter().any(|&size| size < 2) || all != Some(completed.len()) {
                    return Err(wrong());
                }
                let (sum, verdicts) = choices(&*loss.cost(), &completed, sizes, (*supervised).into());
                Ok(vec![tensor(&slopes(&verdicts))?, tensor(&[sum])?])
            }
            (Self::Alone { loss, wanted, tokens }, [policy, reference, [drift]]) => {
                let completed = completed(policy, reference, tokens)?;
                if loss.loss != DpoLoss::Kto || wanted.len() != completed.len() {
                    return Err(wrong());
                }
                let (sum, verdicts) = alone(&*loss.cost(), &completed, wanted, *drift);
                Ok(vec![tensor(&slopes(&verdicts))?, tensor(&[sum])?])
            }
            (Self::Gain {}, [policy, reference]) if policy.len() == reference.len() => {
                Ok(vec![tensor(&[gain(policy, reference)])?])
            }
            (Self::Drift { rows }, gains) if *rows > 0 && gains.iter().all(|gain| gain.len() == 1) => {
                Ok(vec![tensor(&[drift(&gains.concat(), *rows)])?])
            }
            _ => Err(wrong()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As it stands in a record.
    fn rule(rule: &Rule) -> Rule {
        let Operation::Task { rule } = Operation::task(rule) else { panic!("it is a task's") };
        serde_json::from_value(rule).unwrap()
    }

    #[test]
    fn constants_are_those_of_the_recipe_to_the_last_bit() {
        for loss in DpoLoss::ALL {
            let kto = Kto { desirable_weight: 1.0 / 3.0, undesirable_weight: 0.7 };
            let dpo = Dpo {
                loss,
                beta: 0.1 + 0.2,
                label_smoothing: 0.3,
                simpo: Simpo { gamma: 1.0 / 7.0 },
                kto,
                ..Dpo::default()
            };
            let constants = LossConstants::from(&dpo);
            let read: LossConstants = serde_json::from_str(&serde_json::to_string(&constants).unwrap()).unwrap();
            assert_eq!(format!("{:?}", read.cost()), format!("{:?}", dpo.cost()));
        }
    }

    #[test]
    fn a_rule_gives_what_training_does_and_refuses_what_does_not_fit() {
        let of = |loss| LossConstants::from(&Dpo { loss, ..Dpo::default() });
        let (policy, reference) = ([-10.5, -9.25, -30.0], [-13.0, -7.0, -30.5]);
        let [policy_of, reference_of] = [tensor(&policy).unwrap(), tensor(&reference).unwrap()];
        let inputs = [policy_of.clone(), reference_of.clone()];
        let completed: Vec<ScoredCompletion> = (policy.iter().zip(reference).zip([6, 4, 5]))
            .map(|((&policy, reference), tokens)| ScoredCompletion { policy, reference, tokens })
            .collect();
        let numbers = |made: Vec<Tensor>| made.iter().map(|it| it.to_vec1::<f64>().unwrap()).collect::<Vec<_>>();
        for loss in DpoLoss::ALL.into_iter().filter(|&loss| loss != DpoLoss::Kto) {
            let constants = of(loss);
            let choice = |sizes: &[usize], tokens: &[usize]| Rule::Choices {
                loss: constants,
                sizes: sizes.to_vec(),
                tokens: tokens.to_vec(),
                supervised: 0.25.into(),
            };
            let (sum, verdicts) = choices(&*constants.cost(), &completed, &[3], 0.25);
            let made = Rule::compute(&rule(&choice(&[3], &[6, 4, 5])), &inputs).unwrap();
            assert_eq!(numbers(made), [slopes(&verdicts), vec![sum]], "{loss:?}");
            for wrong in [choice(&[2, 1], &[6, 4, 5]), choice(&[2], &[6, 4, 5]), choice(&[3], &[6, 4, 0])] {
                assert!(Rule::compute(&rule(&wrong), &inputs).is_err(), "{wrong:?}");
            }
            assert!(Rule::compute(&rule(&choice(&[usize::MAX, 4], &[6, 4, 5])), &inputs).is_err());
            assert!(Rule::compute(&rule(&choice(&[3], &[6, 4, 5])), &inputs[..1]).is_err());
        }
        let (loss, wanted, tokens) = (of(DpoLoss::Kto), vec![true, false, true], vec![6, 4, 5]);
        let beside = tensor(&[0.5]).unwrap();
        let inputs = [policy_of, reference_of, beside.clone()];
        let (sum, verdicts) = alone(&*loss.cost(), &completed, &wanted, 0.5);
        let made = Rule::Alone { loss, wanted, tokens: tokens.clone() };
        assert_eq!(numbers(Rule::compute(&rule(&made), &inputs).unwrap()), [slopes(&verdicts), vec![sum]]);
        let short = Rule::Alone { loss, wanted: vec![true], tokens: tokens.clone() };
        let other = Rule::Alone { loss: of(DpoLoss::Ipo), wanted: vec![true; 3], tokens };
        assert!(Rule::compute(&rule(&short), &inputs).is_err() && Rule::compute(&rule(&other), &inputs).is_err());

        let made = Rule::compute(&rule(&Rule::Gain {}), &inputs[..2]).unwrap();
        assert_eq!(numbers(made), [[(-10.5 + 13.0) + (-9.25 + 7.0) + 0.5]]);
        let gains = [beside.clone(), tensor(&[2.5]).unwrap()];
        assert_eq!(numbers(Rule::compute(&rule(&Rule::Drift { rows: 4 }), &gains).unwrap()), [[0.75]]);
        let below = [tensor(&[-2.5]).unwrap()];
        assert_eq!(numbers(Rule::compute(&rule(&Rule::Drift { rows: 4 }), &below).unwrap()), [[0.0]]);
        assert!(Rule::compute(&rule(&Rule::Drift { rows: 0 }), &gains).is_err());
        assert!(serde_json::from_str::<Rule>(r#"{"task":"gain","more":1}"#).is_err());
    }
}
