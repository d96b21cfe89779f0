//! The hinge (SLiC, Zhao et al. 2023).

use super::loss::{Judgement, Loss, PreferenceRow, gained, pairs};

#[derive(Debug)]
pub(super) struct Hinge {
    pub(super) beta: f64,
}

impl Loss for Hinge {
    fn judge(&self, row: PreferenceRow<'_>) -> Judgement {
        pairs(row, gained(self.beta), |_, _, margin| {
            let slope = if margin < 1.0 { -self.beta } else { 0.0 };
            ((1.0 - margin).max(0.0), [slope, -slope])
        })
    }
}
