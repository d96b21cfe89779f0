//! What losses on graphs make of a network's outputs, as operations that a record of a step names: whoever has the outputs
//! and what they are compared with computes loss and slopes, without recipe, graph or base.

use candle_core::{DType, Device, Result, Tensor};
use ftk_adapters::train::operation::{Bits, Operation};
use ftk_adapters::train::trace;
use ftk_recipes::DpoLoss;
use ftk_recipes::preference::Loss;
use ftk_recipes::preference::rule::{LossConstants, tensor};
use serde::{Deserialize, Serialize};

use super::feedback::{self, logistic};
use super::info_nce::info_nce;
use super::measures;

pub(super) use ftk_networks::graphs::pairs::OUTPUTS;

/// Weight of the sign's loss beside the rating's: it makes the two about equal.
const SIGN: f64 = 0.2;
/// The most likenesses of a contrast that is computed for somebody else: those of 2^17 nodes, 512 at a time.
const LIKENESSES: usize = 1 << 27;
/// The most multiplications of one.
const MULTIPLICATIONS: usize = 1 << 40;

/// Which loss.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "task", rename_all = "snake_case", deny_unknown_fields)]
pub enum GraphRule {
    /// Classes of nodes: logits `(nodes, classes)`, each node's class.
    Classes {},
    /// Classes preferred over others: logits `(nodes, classes)`, the class that is preferred, the one that is not, and by
    /// how much the former's logit lies above the latter's in the reference.
    PreferredClasses {
        /// The loss.
        loss: LossConstants,
    },
    /// Whether there is an edge: scores `(pairs, 1)`.
    Links {
        /// How many of the pairs are edges: the first ones.
        edges: usize,
    },
    /// Ratings and their signs: scores `(pairs, 2)`, ratings in units of the largest.
    Ratings {},
    /// Of two pairs each, the first is preferred: scores `(pairs, 2)`, their ratings in units of the largest, and of each
    /// two by how much the first lies above in the reference.
    PreferredRatings {
        /// The loss.
        loss: LossConstants,
        /// Weight of the ratings' own loss.
        supervised: Bits,
    },
    /// Which node of one view is the same in another: both views `(nodes, width)`, the nodes that are told. Gives the
    /// slopes of both views.
    Contrast {
        /// What likenesses are divided by.
        temperature: Bits,
    },
}

/// A loss, and its slopes by the outputs, row by row.
pub type JudgedOutputs = (f64, Vec<f32>);

/// Cross-entropy of each node's class.
///
/// # Panics
/// If there are not as many logits of each node.
pub fn classes(logits: &[f32], chosen: &[u32]) -> JudgedOutputs {
    let width = logits.len() / chosen.len();
    let (mut sum, mut slopes) = (0.0, vec![0.0f32; logits.len()]);
    for ((&chosen, logits), slopes) in chosen.iter().zip(logits.chunks_exact(width)).zip(slopes.chunks_exact_mut(width))
    {
        let top = f64::from(logits[measures::largest(logits)]);
        let total: f64 = logits.iter().map(|&logit| libm::exp(f64::from(logit) - top)).sum();
        for (slope, &logit) in slopes.iter_mut().zip(logits) {
            *slope = (libm::exp(f64::from(logit) - top) / total) as f32;
        }
        slopes[chosen as usize] -= 1.0;
        sum += libm::log(total) + top - f64::from(logits[chosen as usize]);
    }
    (sum, slopes)
}

/// What it costs that one class of each node is preferred over another, given the reference's margins.
///
/// # Panics
/// If there are not as many logits of each node.
pub fn preferred_classes(cost: &dyn Loss, logits: &[f32], classes: &[[u32; 2]], references: &[f64]) -> JudgedOutputs {
    let width = logits.len() / classes.len();
    let (mut sum, mut slopes) = (0.0, vec![0.0f32; logits.len()]);
    let rows = logits.chunks_exact(width).zip(slopes.chunks_exact_mut(width));
    for ((&[chosen, rejected], &reference), (logits, slopes)) in classes.iter().zip(references).zip(rows) {
        let (loss, [of_chosen, of_rejected]) = feedback::cost(cost, margin(logits, [chosen, rejected]), reference);
        slopes[chosen as usize] = of_chosen as f32;
        slopes[rejected as usize] = of_rejected as f32;
        sum += loss;
    }
    (sum, slopes)
}

/// By how much the first class' logit lies above the second's.
pub(super) fn margin(logits: &[f32], [chosen, rejected]: [u32; 2]) -> f64 {
    f64::from(logits[chosen as usize]) - f64::from(logits[rejected as usize])
}

/// What the scores of edges and, behind them, of pairs that are none cost.
pub fn links(scores: &[f32], edges: usize) -> JudgedOutputs {
    let (mut sum, mut slopes) = (0.0, Vec::with_capacity(scores.len()));
    for (at, &score) in scores.iter().enumerate() {
        let sign = if at < edges { 1.0 } else { -1.0 };
        let (loss, slope) = logistic(sign * f64::from(score));
        sum += loss;
        slopes.push((sign * slope) as f32);
    }
    (sum, slopes)
}

/// What the scores of rated pairs cost.
///
/// # Panics
/// If there are not two scores of each.
pub fn ratings(scores: &[f32], ratings: &[f64]) -> JudgedOutputs {
    let (mut sum, mut slopes) = (0.0, vec![0.0; scores.len()]);
    for (at, &rating) in ratings.iter().enumerate() {
        sum += supervise(rating, 1.0, pair(scores, at), &mut slopes[OUTPUTS * at..][..OUTPUTS]);
    }
    (sum, slopes)
}

/// What it costs that the first of two pairs each is preferred, given the reference's margins, beside the ratings' own
/// loss with a weight.
///
/// # Panics
/// If there are not two scores of each pair, and two pairs of each margin.
pub fn preferred_ratings(
    cost: &dyn Loss,
    scores: &[f32],
    ratings: &[f64],
    references: &[f64],
    supervised: f64,
) -> JudgedOutputs {
    let (mut sum, mut preferred, mut slopes) = (0.0, 0.0, vec![0.0f32; scores.len()]);
    for (at, &reference) in references.iter().enumerate() {
        let (chosen, rejected) = (2 * at, 2 * at + 1);
        let margin = pair(scores, chosen)[0] - pair(scores, rejected)[0];
        let (loss, of_both) = feedback::cost(cost, margin, reference);
        preferred += loss;
        for (at, slope) in [chosen, rejected].into_iter().zip(of_both) {
            let slopes = &mut slopes[OUTPUTS * at..][..OUTPUTS];
            sum += supervise(ratings[at], supervised, pair(scores, at), slopes);
            slopes[0] += slope as f32;
        }
    }
    (sum + preferred, slopes)
}

fn pair(scores: &[f32], at: usize) -> [f64; OUTPUTS] {
    [scores[OUTPUTS * at], scores[OUTPUTS * at + 1]].map(f64::from)
}

/// The loss of a rating and of its sign, with a weight; adds its slopes.
fn supervise(truth: f64, weight: f64, [rating, sign]: [f64; OUTPUTS], slopes: &mut [f32]) -> f64 {
    let (of_rating, bend) = huber(rating - truth);
    let side = if truth > 0.0 { 1.0 } else { -1.0 };
    let (of_sign, slope) = logistic(side * sign);
    for (slopes, slope) in slopes.iter_mut().zip([bend, SIGN * side * slope]) {
        *slopes += (weight * slope) as f32;
    }
    weight * (of_rating + SIGN * of_sign)
}

/// Half the square of small differences, the magnitude of large ones (Huber 1964), and its slope; the bend lies at the
/// whole range of one sign.
fn huber(difference: f64) -> (f64, f64) {
    if difference.abs() <= 1.0 {
        (0.5 * difference * difference, difference)
    } else {
        (difference.abs() - 0.5, difference.signum())
    }
}

/// Numbers of nodes or of classes as an operation has them.
///
/// # Errors
/// None on the host.
pub fn numbers(numbers: &[u32]) -> Result<Tensor> {
    Tensor::from_slice(numbers, numbers.len(), &Device::Cpu)
}

impl GraphRule {
    /// Shows what was made of outputs by this rule to whoever looks on; gives loss and slopes that go on.
    ///
    /// # Errors
    /// Those of whoever looks on; slopes that are not as many as outputs.
    pub fn shown(
        outputs: &Tensor,
        (loss, slopes): JudgedOutputs,
        describe: impl FnOnce() -> Result<(Self, Vec<Tensor>)>,
    ) -> Result<(f64, Tensor)> {
        let slopes = Tensor::from_vec(slopes, outputs.shape(), &Device::Cpu)?;
        let ([slopes], loss) = Self::shown_of([outputs], loss, [slopes], describe)?;
        Ok((loss, slopes))
    }

    /// [`GraphRule::shown`] of several outputs, each with its slopes.
    ///
    /// # Errors
    /// Those of whoever looks on.
    pub fn shown_of<const N: usize>(
        outputs: [&Tensor; N],
        loss: f64,
        slopes: [Tensor; N],
        describe: impl FnOnce() -> Result<(Self, Vec<Tensor>)>,
    ) -> Result<([Tensor; N], f64)> {
        if !trace::on() {
            return Ok((slopes, loss));
        }
        let made = slopes.into_iter().chain([tensor(&[loss])?]).collect();
        let (rule, beside) = describe()?;
        let inputs = outputs.into_iter().cloned().chain(beside).collect();
        let mut seen = trace::seen_all(made, || Ok((Operation::task(&rule), inputs)))?;
        let loss = seen.pop().expect("the loss is the last of what was made").to_vec1::<f64>()?[0];
        Ok((seen.try_into().expect("as many as were made"), loss))
    }

    /// What a rule, as a record has it, gives of these inputs. All of it may be foreign.
    ///
    /// # Errors
    /// Inputs that do not fit.
    pub fn compute(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let (outputs, beside) = inputs.split_first().ok_or_else(unfit)?;
        let (rows, width) = outputs.dims2()?;
        if outputs.dtype() != DType::F32 || rows == 0 || width == 0 {
            return Err(unfit());
        }
        if let (Self::Contrast { temperature }, [other, anchors]) = (self, beside) {
            let anchors: Vec<usize> = below(anchors, rows)?.into_iter().map(|anchor| anchor as usize).collect();
            let multiplications = anchors.len().saturating_mul(6 * width).saturating_mul(rows);
            if other.dims() != outputs.dims()
                || other.dtype() != DType::F32
                || 2 * rows * anchors.len().min(512) > LIKENESSES
                || multiplications > MULTIPLICATIONS
            {
                return Err(unfit());
            }
            let (loss, _, [one, other]) = info_nce([outputs, other], &anchors, (*temperature).into())?;
            return Ok(vec![one, other, tensor(&[loss])?]);
        }
        let scores = outputs.flatten_all()?.to_vec1::<f32>()?;
        let many = |beside: &Tensor, count: usize| {
            let values = beside.to_vec1::<f64>()?;
            if values.len() == count { Ok(values) } else { Err(unfit()) }
        };
        let classes_of = |beside: &Tensor| {
            let classes = below(beside, width)?;
            if classes.len() == rows { Ok(classes) } else { Err(unfit()) }
        };
        let preferring = |loss: &LossConstants| {
            if loss.is_of(DpoLoss::Kto) { Err(unfit()) } else { Ok(loss.cost()) }
        };
        let (loss, slopes) = match (self, beside) {
            (Self::Classes {}, [chosen]) => classes(&scores, &classes_of(chosen)?),
            (Self::PreferredClasses { loss }, [chosen, rejected, references]) => {
                let classes: Vec<[u32; 2]> =
                    classes_of(chosen)?.into_iter().zip(classes_of(rejected)?).map(<[u32; 2]>::from).collect();
                preferred_classes(&*preferring(loss)?, &scores, &classes, &many(references, rows)?)
            }
            (Self::Links { edges }, []) if width == 1 => links(&scores, *edges),
            (Self::Ratings {}, [truth]) if width == OUTPUTS => ratings(&scores, &many(truth, rows)?),
            (Self::PreferredRatings { loss, supervised }, [truth, references])
                if width == OUTPUTS && rows.is_multiple_of(2) =>
            {
                let (truth, references) = (many(truth, rows)?, many(references, rows / 2)?);
                preferred_ratings(&*preferring(loss)?, &scores, &truth, &references, (*supervised).into())
            }
            _ => return Err(unfit()),
        };
        Ok(vec![Tensor::from_vec(slopes, (rows, width), &Device::Cpu)?, tensor(&[loss])?])
    }
}

fn unfit() -> candle_core::Error {
    candle_core::Error::Msg("inputs do not fit the rule".to_owned())
}

/// Numbers that are all below `of`, one at least.
fn below(numbers: &Tensor, of: usize) -> Result<Vec<u32>> {
    let numbers = numbers.to_vec1::<u32>()?;
    let fit = !numbers.is_empty() && numbers.iter().all(|&number| (number as usize) < of);
    if fit { Ok(numbers) } else { Err(unfit()) }
}

#[cfg(test)]
mod tests {
    use ftk_recipes::Dpo;

    use super::*;

    fn outputs(rows: usize, width: usize) -> Tensor {
        let values = ftk_adapters::train::normal_values("outputs", rows * width, 1.0, 3);
        Tensor::from_vec(values, (rows, width), &Device::Cpu).unwrap()
    }

    /// As it stands in a record.
    fn read(rule: &GraphRule) -> GraphRule {
        let Operation::Task { rule } = Operation::task(rule) else { panic!("it is a task's") };
        serde_json::from_value(rule).unwrap()
    }

    #[test]
    fn every_rule_gives_the_slopes_of_its_loss_and_refuses_what_does_not_fit() {
        let loss = LossConstants::from(&Dpo::default());
        let supervised = 0.5.into();
        let (chosen, rejected) = (numbers(&[0, 2, 1]).unwrap(), numbers(&[1, 0, 2]).unwrap());
        let of = |values: &[f64]| tensor(values).unwrap();
        let truth = of(&[0.4, -1.0, 0.1, 0.6]);
        let cases: [(GraphRule, Vec<Tensor>); 6] = [
            (GraphRule::Classes {}, vec![outputs(3, 3), chosen.clone()]),
            (GraphRule::PreferredClasses { loss }, vec![outputs(3, 3), chosen, rejected, of(&[0.3, -0.2, 0.0])]),
            (GraphRule::Links { edges: 2 }, vec![outputs(4, 1)]),
            (GraphRule::Ratings {}, vec![outputs(4, 2), truth.clone()]),
            (GraphRule::PreferredRatings { loss, supervised }, vec![outputs(4, 2), truth, of(&[0.1, -0.4])]),
            (
                GraphRule::Contrast { temperature: 0.7.into() },
                vec![outputs(4, 3), (outputs(4, 3) * -0.5).unwrap(), numbers(&[1, 3]).unwrap()],
            ),
        ];
        for (rule, inputs) in &cases {
            let rule = read(rule);
            let made = rule.compute(inputs).unwrap();
            let loss_at = |at: usize, step: f32| {
                let mut moved = inputs.clone();
                let mut values = inputs[0].flatten_all().unwrap().to_vec1::<f32>().unwrap();
                values[at] += step;
                moved[0] = Tensor::from_vec(values, inputs[0].shape(), &Device::Cpu).unwrap();
                rule.compute(&moved).unwrap().last().unwrap().to_vec1::<f64>().unwrap()[0]
            };
            for (at, slope) in made[0].flatten_all().unwrap().to_vec1::<f32>().unwrap().into_iter().enumerate() {
                let difference = (loss_at(at, 1e-2) - loss_at(at, -1e-2)) / 2e-2;
                assert!((difference - f64::from(slope)).abs() < 3e-3, "{rule:?} {at}: {slope} {difference}");
            }
            // One input fewer, one more, outputs of other numbers, and of no rows.
            let without = &inputs[..inputs.len() - 1];
            let more = [inputs.as_slice(), &inputs[..1]].concat();
            let rest = |first: Tensor| std::iter::once(first).chain(inputs[1..].iter().cloned()).collect::<Vec<_>>();
            let doubles = rest(inputs[0].to_dtype(DType::F64).unwrap());
            let none = rest(inputs[0].narrow(0, 0, 0).unwrap());
            let wide = rest(outputs(5, 4));
            for wrong in [without, &more, &doubles, &none, &wide] {
                assert!(rule.compute(wrong).is_err(), "{rule:?}");
            }
        }
        // Classes and nodes that there are not, and a loss of completions alone.
        let beyond = numbers(&[0, 3, 1]).unwrap();
        assert!(GraphRule::Classes {}.compute(&[outputs(3, 3), beyond.clone()]).is_err());
        let contrast = GraphRule::Contrast { temperature: 0.7.into() };
        assert!(contrast.compute(&[outputs(3, 3), outputs(3, 3), beyond]).is_err());
        assert!(contrast.compute(&[outputs(3, 3), outputs(3, 3), numbers(&[]).unwrap()]).is_err());
        let kto = LossConstants::from(&Dpo { loss: DpoLoss::Kto, ..Dpo::default() });
        let rule = GraphRule::PreferredRatings { loss: kto, supervised };
        assert!(rule.compute(&[outputs(2, 2), of(&[0.1, 0.2]), of(&[0.1])]).is_err());
        assert!(serde_json::from_str::<GraphRule>(r#"{"task":"links","edges":1,"more":2}"#).is_err());
    }
}
