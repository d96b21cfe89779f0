//! The softmax of one chosen completion among several rejected ones (S-DPO, Chen et al. 2024).

use super::loss::{Judgement, Loss, PreferenceRow, ROUNDING, RowKind, ScoredCompletion};

#[derive(Debug)]
pub(super) struct SoftmaxLoss {
    pub(super) beta: f64,
}

impl Loss for SoftmaxLoss {
    fn rows(&self) -> RowKind {
        RowKind::Choices
    }

    fn judge(&self, row: PreferenceRow<'_>) -> Judgement {
        let beta = self.beta;
        let (chosen, rejected) = row.completions.split_first().expect("a choice has a chosen completion");
        let share = 1.0 / rejected.len() as f64;
        let reward = beta * chosen.gain();
        let margins: Vec<f64> = rejected.iter().map(|it| reward - beta * it.gain()).collect();
        // log(1 + the sum of exp(-margin)), all exponents taken relative to the largest.
        let top = margins.iter().fold(0.0f64, |top, margin| top.max(-margin));
        let powers: Vec<f64> = margins.iter().map(|margin| libm::exp(-margin - top)).collect();
        let all = libm::exp(-top) + powers.iter().sum::<f64>();
        let mut slopes = vec![0.0; row.completions.len()];
        for (at, power) in powers.iter().enumerate() {
            slopes[1 + at] = beta * power / all;
            slopes[0] -= slopes[1 + at];
        }
        let size = |it: &ScoredCompletion| it.policy.abs().max(it.reference.abs());
        let clear = |(it, margin): (&ScoredCompletion, &f64)| *margin > beta * ROUNDING * (size(chosen) + size(it));
        let accurate = rejected.iter().zip(&margins).all(clear);
        let rewards = [reward, beta * share * rejected.iter().map(ScoredCompletion::gain).sum::<f64>()];
        Judgement { loss: top + libm::log(all), slopes, rewards, accurate }
    }
}
