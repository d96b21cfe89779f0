//! What a loss of preferences is asked, of rows of log-probabilities, and what losses share.

use std::fmt::Debug;

/// A completion: summed log-probabilities of its scored tokens under the policy and under the
/// reference, and their number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScoredCompletion {
    /// Under the model that is trained.
    pub policy: f64,
    /// Under the model it is compared with; 0 where the loss compares with none.
    pub reference: f64,
    /// Scored tokens, at least one.
    pub tokens: usize,
}

impl ScoredCompletion {
    /// How much likelier the policy finds it than the reference does.
    pub fn gain(&self) -> f64 {
        self.policy - self.reference
    }

    /// Mean log-probability of a token under the policy.
    pub fn mean(&self) -> f64 {
        self.policy / self.tokens as f64
    }
}

/// What the rows of a loss are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowKind {
    /// A chosen and a rejected completion of one prompt.
    Pairs,
    /// One chosen completion and one or several rejected ones: pairs that follow each other with one chosen completion.
    Choices,
    /// One completion, and whether it is wanted.
    Unpaired,
}

/// What is judged at once.
#[derive(Clone, Copy, Debug)]
pub struct PreferenceRow<'a> {
    /// The chosen completion, then each rejected one; of an unpaired row its only one.
    pub completions: &'a [ScoredCompletion],
    /// Whether the first of them is wanted; that of a pair is.
    pub wanted: bool,
    /// Mean gain of completions of other prompts, over the rows of a step; 0 but for [`RowKind::Unpaired`].
    pub drift: f64,
}

impl<'a> PreferenceRow<'a> {
    /// A chosen completion with those that are rejected behind it, of which there is one at least.
    pub fn chosen(completions: &'a [ScoredCompletion]) -> Self {
        Self { completions, wanted: true, drift: 0.0 }
    }
}

/// A row's cost and what is reported beside it.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement {
    /// The cost.
    pub loss: f64,
    /// Its derivatives by the policy's log-probability of each completion.
    pub slopes: Vec<f64>,
    /// Reward of the first completion and, the mean of them, of the others.
    pub rewards: [f64; 2],
    /// Whether the first completion's reward is the largest, by more than rounding explains.
    pub accurate: bool,
}

/// A loss of preferences.
pub trait Loss: Debug + Send + Sync {
    /// What its rows are.
    fn rows(&self) -> RowKind {
        RowKind::Pairs
    }

    /// Whether it compares the policy with a reference model. Without one, [`ScoredCompletion::reference`] is not looked at,
    /// and nobody needs to compute it.
    fn has_reference(&self) -> bool {
        true
    }

    /// Whether it looks at mean log-probabilities of a token; then these are what is reported.
    fn is_per_token(&self) -> bool {
        false
    }

    /// Whether adding a number to the log-probabilities of all completions of a prompt changes nothing: then any scores
    /// that are log-probabilities up to such a number will do.
    fn is_relative(&self) -> bool {
        true
    }

    /// Weight of the supervised loss on the chosen completions that is a part of it: the mean over their tokens in a
    /// step. `None` where the recipe says it.
    fn supervised(&self) -> Option<f64> {
        None
    }

    /// Whether it knows what to do about pairs that are taken to be the wrong way round.
    fn smooths(&self) -> bool {
        false
    }

    /// Judges a row.
    fn judge(&self, row: PreferenceRow<'_>) -> Judgement;
}

/// Relative error of a summed log-probability: below it, the same model scored in another batch
/// may already differ, and a difference says nothing. A few units of f32's last place.
pub(super) const ROUNDING: f64 = 1e-6;

/// Judges a loss of pairs, the mean over them where several completions are rejected. `rewards` gives a completion's
/// reward and the size of what it is the difference of; `cost` the cost of a pair with a margin of rewards, and its
/// derivatives.
pub(super) fn pairs(
    row: PreferenceRow<'_>,
    rewards: impl Fn(&ScoredCompletion) -> (f64, f64),
    cost: impl Fn(&ScoredCompletion, &ScoredCompletion, f64) -> (f64, [f64; 2]),
) -> Judgement {
    let (chosen, rejected) = row.completions.split_first().expect("a pair has a chosen completion");
    let share = 1.0 / rejected.len() as f64;
    let (reward, size) = rewards(chosen);
    let mut verdict =
        Judgement { loss: 0.0, slopes: vec![0.0; row.completions.len()], rewards: [reward, 0.0], accurate: true };
    for (at, rejected) in rejected.iter().enumerate() {
        let (other, size_of_other) = rewards(rejected);
        let margin = reward - other;
        let (cost, [of_chosen, of_rejected]) = cost(chosen, rejected, margin);
        verdict.loss += share * cost;
        verdict.slopes[0] += share * of_chosen;
        verdict.slopes[1 + at] = share * of_rejected;
        verdict.rewards[1] += share * other;
        verdict.accurate &= margin > ROUNDING * (size + size_of_other);
    }
    verdict
}

/// The reward of a completion that is `beta` times its gain, and the size of what it is the difference of.
pub(super) fn gained(beta: f64) -> impl Fn(&ScoredCompletion) -> (f64, f64) {
    move |it| (beta * it.gain(), beta * it.policy.abs().max(it.reference.abs()))
}

/// The reward of a completion that is `beta` times the mean log-probability of its tokens, and its size.
pub(super) fn mean(beta: f64) -> impl Fn(&ScoredCompletion) -> (f64, f64) {
    move |it| (beta * it.mean(), beta * it.mean().abs())
}

/// `-log sigmoid` of how far a pair lies the right way round, with a share of pairs that are taken to lie the wrong way
/// round, and its derivative.
pub(super) fn logistic(x: f64, wrong: f64) -> (f64, f64) {
    let right = 1.0 - wrong;
    (right * log_one_plus_exp(-x) + wrong * log_one_plus_exp(x), wrong * sigmoid(x) - right * sigmoid(-x))
}

/// `log(1 + exp(x))`, without overflow on either side.
fn log_one_plus_exp(x: f64) -> f64 {
    x.max(0.0) + libm::log1p(libm::exp(-x.abs()))
}

pub(super) fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + libm::exp(-x))
}
