//! The squared distance to a margin of `1 / (2 beta)` a token (IPO, Azar et al. 2023; per token as TRL has it).

use super::loss::{Judgement, Loss, PreferenceRow, gained, pairs};

#[derive(Debug)]
pub(super) struct Ipo {
    pub(super) beta: f64,
}

impl Loss for Ipo {
    fn judge(&self, row: PreferenceRow<'_>) -> Judgement {
        pairs(row, gained(self.beta), |chosen, rejected, _| {
            let per_token = [chosen, rejected].map(|it| (it.gain() / it.tokens as f64, 1.0 / it.tokens as f64));
            let miss = per_token[0].0 - per_token[1].0 - 1.0 / (2.0 * self.beta);
            (miss * miss, [2.0 * miss * per_token[0].1, -2.0 * miss * per_token[1].1])
        })
    }
}
