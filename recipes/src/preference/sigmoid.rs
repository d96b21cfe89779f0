//! The logistic loss: direct preference optimisation (Rafailov et al. 2023), conservative with label smoothing
//! (Mitchell 2023).

use super::loss::{Judgement, Loss, PreferenceRow, gained, logistic, pairs};

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

    fn judge(&self, row: PreferenceRow<'_>) -> Judgement {
        pairs(row, gained(self.beta), |_, _, margin| {
            let (loss, slope) = logistic(margin, self.label_smoothing);
            let slope = self.beta * slope;
            (loss, [slope, -slope])
        })
    }
}
