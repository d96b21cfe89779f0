//! What exact outputs amount to, in the units people use.

use ftk_circuits::fixed::log_prob::LOG_PROB_BITS;
use ftk_circuits::{Output, Scored, Statement};

/// A log-probability in nat.
pub fn nat(log_prob: i128) -> f64 {
    log_prob as f64 / f64::from(1u32 << LOG_PROB_BITS)
}

/// By how much the adapter favours the chosen continuation more than the base does, at `2^-24` nat: DPO's reward
/// margin divided by beta.
pub fn margin(chosen: &Scored, rejected: &Scored) -> i128 {
    chosen.raised() - rejected.raised()
}

/// What the preferences of a statement amount to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Preferences {
    /// Pairs.
    pub pairs: usize,
    /// Pairs whose margin is positive: together with `pairs` the reward accuracy.
    pub accurate: usize,
    /// Mean margin in nat; the mean reward margin is beta times this.
    pub mean_margin: f64,
}

impl Preferences {
    /// `None` where a statement has no preferences.
    pub fn of(statement: &Statement) -> Option<Self> {
        let margins: Vec<i128> = statement
            .cases
            .iter()
            .filter_map(|case| match &case.output {
                Output::Preference { chosen, rejected } => Some(margin(chosen, rejected)),
                _ => None,
            })
            .collect();
        let pairs = margins.len();
        let accurate = margins.iter().filter(|margin| **margin > 0).count();
        let sum: i128 = margins.iter().sum();
        (pairs > 0).then(|| Self { pairs, accurate, mean_margin: nat(sum) / pairs as f64 })
    }

    /// Share of pairs whose margin is positive.
    pub fn accuracy(&self) -> f64 {
        self.accurate as f64 / self.pairs as f64
    }
}
