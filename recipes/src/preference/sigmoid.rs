//! The logistic loss: direct preference optimisation (Rafailov et al. 2023), conservative with label smoothing
//! (Mitchell 2023).

use super::{Loss, Row, Verdict, gained, log_one_plus_exp, pairs, sigmoid};

#[derive(Debug)]
pub(super) struct Sigmoid {
    pub(super) beta: f64,
    /// Share of pairs taken to be the wrong way round.
    pub(super) label_smoothing: f64,
}

impl Loss for Sigmoid {
    fn smooths(&self) -> bool {
        true
    }

    fn judge(&self, row: Row<'_>) -> Verdict {
        let (right, wrong) = (1.0 - self.label_smoothing, self.label_smoothing);
        pairs(row, gained(self.beta), |_, _, margin| {
            let loss = right * log_one_plus_exp(-margin) + wrong * log_one_plus_exp(margin);
            let slope = self.beta * (wrong * sigmoid(margin) - right * sigmoid(-margin));
            (loss, [slope, -slope])
        })
    }
}
