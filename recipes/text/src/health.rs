//! What the figures of a run say about its health: signs that it learns nothing or does harm,
//! each with what to try. A function of the figures alone; it changes nothing about the run.

use std::collections::BTreeSet;
use std::f64::consts::LN_2;
use std::fmt;
use std::path::Path;

use ftk_adapters::foreign;
use serde_json::{Map, Value};

/// The figures of one step that signs are read from.
#[derive(Clone, Debug, PartialEq)]
pub struct StepFigures {
    /// Optimiser step, from 1.
    pub step: usize,
    /// Mean loss.
    pub loss: f64,
    /// Norm of the gradient before clipping.
    pub grad_norm: f64,
    /// Those of a preference run.
    pub pairs: Option<PairFigures>,
}

/// Means over the pairs of a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PairFigures {
    /// Reward of the chosen completion.
    pub chosen: f64,
    /// Chosen less rejected.
    pub margin: f64,
    /// Share of pairs with a margin above 0.
    pub accuracy: f64,
    /// Summed log-probability of the chosen completion.
    pub log_prob: f64,
}

impl StepFigures {
    /// The figures in a record of `metrics.jsonl`.
    pub fn of(record: &Map<String, Value>) -> Option<Self> {
        let figure = |name: &str| record.get(name)?.as_f64();
        let pairs = || {
            Some(PairFigures {
                chosen: figure("rewards/chosen")?,
                margin: figure("rewards/margins")?,
                accuracy: figure("rewards/accuracies")?,
                log_prob: figure("logps/chosen")?,
            })
        };
        let step = record.get("step")?.as_u64()? as usize;
        Some(Self { step, loss: figure("loss")?, grad_norm: figure("grad_norm")?, pairs: pairs() })
    }
}

/// A sign, with the figure that shows it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Sign {
    /// Pairs are told apart no better than by chance.
    Chance(f64),
    /// The margin is no larger than in the beginning.
    FlatMargin,
    /// The chosen completions have lost this many nats against the reference.
    ChosenFalls(f64),
    /// The gradient is huge.
    Gradient(f64),
    /// The supervised loss is no lower than in the beginning.
    FlatLoss,
    /// The loss is far above that of the first step: what was there before is destroyed.
    Diverged {
        /// Mean of the last steps.
        loss: f64,
        /// That in the beginning.
        first: f64,
    },
}

impl Sign {
    fn kind(self) -> u8 {
        match self {
            Self::Chance(_) => 0,
            Self::FlatMargin => 1,
            Self::ChosenFalls(_) => 2,
            Self::Gradient(_) => 3,
            Self::FlatLoss => 4,
            Self::Diverged { .. } => 5,
        }
    }
}

impl fmt::Display for Sign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Chance(share) => write!(
                f,
                "rewards/accuracies stays at {share:.2}, no better than chance: raise optim.lr or train longer, and see \
                 whether chosen and rejected are mixed up"
            ),
            Self::FlatMargin => write!(f, "rewards/margins does not rise: raise optim.lr or train longer"),
            Self::ChosenFalls(nats) => write!(
                f,
                "the chosen answers have become less likely than under the reference, by {nats:.1} nats on average: set \
                 dpo.sft_weight, lower optim.lr or train for fewer steps"
            ),
            Self::Gradient(norm) => write!(f, "grad_norm is {norm:.0}: lower optim.lr or set optim.max_grad_norm"),
            Self::Diverged { loss, first } => {
                write!(f, "the loss has risen to {loss:.2} from {first:.2} in the beginning")
            }
            Self::FlatLoss => write!(f, "loss does not fall: raise optim.lr or train longer, and look at the rows"),
        }
    }
}

/// Steps without which nothing is said about learning.
const ENOUGH: usize = 10;
/// Fewest steps a mean is taken over: single batches differ.
const WINDOW: usize = 5;
/// Loss of the chosen completions' log-probability, in nats and as a share of what it was, below
/// which a fall is the ordinary course of DPO. The village (`recipes/text/village/README.md`) answers as
/// well as it can while the fall is below half a nat, and its answers break when it is several.
const FALL: (f64, f64) = (1.0, 0.25);
/// The mean loss of some steps, as a multiple of that in the beginning and in nats beside it, that no run comes to that
/// learns: untrained models begin at the logarithm of their vocabulary, preferences at that of two.
const RISE: (f64, f64) = (2.0, 2.0);
/// Norm that no healthy run has for several steps.
const HUGE: f64 = 100.0;

/// The signs in a run's figures so far. `steps` is the length of the whole run, `beta` that of preferences by which
/// rewards are gains over a reference; `None` where there is no reference.
pub fn signs(history: &[StepFigures], steps: usize, beta: Option<f64>) -> Vec<Sign> {
    let window = WINDOW.max(history.len() / 10);
    if history.len() < window {
        return Vec::new();
    }
    let (first, last) = (&history[..window], &history[history.len() - window..]);
    let mean = |of: &dyn Fn(&StepFigures) -> f64, steps: &[StepFigures]| {
        steps.iter().map(of).sum::<f64>() / steps.len() as f64
    };
    if let Some(diverged) = diverged(history, beta.is_some()) {
        // What else the figures say follows from it.
        return vec![diverged];
    }
    let mut signs = Vec::new();
    let norm = mean(&|figures| figures.grad_norm, last);
    if norm > HUGE {
        signs.push(Sign::Gradient(norm));
    }
    let late = history.len() >= ENOUGH && history.last().is_some_and(|figures| 2 * figures.step >= steps);
    if history.iter().all(|figures| figures.pairs.is_none()) {
        let loss = |steps: &[StepFigures]| mean(&|figures| figures.loss, steps);
        if late && loss(last) >= loss(first) {
            signs.push(Sign::FlatLoss);
        }
        return signs;
    }
    let pairs = |of: fn(&PairFigures) -> f64, steps: &[StepFigures]| {
        mean(&|figures| figures.pairs.as_ref().map_or(0.0, of), steps)
    };
    if let Some(beta) = beta {
        let gain = pairs(|pairs| pairs.chosen, last) / beta;
        let reference = pairs(|pairs| pairs.log_prob, last) - gain;
        if -gain > FALL.0.max(FALL.1 * reference.abs()) {
            signs.push(Sign::ChosenFalls(-gain));
        }
    }
    if late {
        let accuracy = pairs(|pairs| pairs.accuracy, last);
        let margin = |steps| pairs(|pairs| pairs.margin, steps);
        if accuracy <= 0.5 {
            signs.push(Sign::Chance(accuracy));
        } else if margin(last) <= margin(first) {
            signs.push(Sign::FlatMargin);
        }
    }
    signs
}

/// The sign that the loss is far above what it was. Under a reference its beginning is known, which is where no pair is told
/// apart; else the first steps say what it was, as batches differ.
fn diverged(history: &[StepFigures], reference: bool) -> Option<Sign> {
    let mean = |steps: &[StepFigures]| steps.iter().map(|figures| figures.loss).sum::<f64>() / steps.len() as f64;
    let first = match reference {
        true => history.first().filter(|first| first.step == 1)?.loss.max(LN_2),
        false => mean(history.get(..WINDOW).filter(|_| history.len() > WINDOW)?),
    };
    let loss = mean(&history[history.len().checked_sub(WINDOW)?..]);
    let rise = if reference { RISE.1 / 4.0 } else { RISE.1 };
    (loss > RISE.0 * first + rise).then_some(Sign::Diverged { loss, first })
}

/// Follows a run and tells each sign once.
#[derive(Debug)]
pub struct Watch {
    history: Vec<StepFigures>,
    beta: Option<f64>,
    told: BTreeSet<u8>,
}

impl Watch {
    /// Begins with the figures a run that goes on has written already; none where there is no file.
    pub fn new(metrics: &Path, beta: Option<f64>) -> Self {
        let text = foreign::read_text(metrics, foreign::DATA).unwrap_or_default();
        let figures = |line: &str| StepFigures::of(&serde_json::from_str(line).ok()?);
        Self { history: text.lines().filter_map(figures).collect(), beta, told: BTreeSet::new() }
    }

    /// Takes in the record of a step; a step seen before is replaced, with all after it.
    pub fn see(&mut self, record: &Map<String, Value>) {
        let Some(figures) = StepFigures::of(record) else { return };
        while self.history.last().is_some_and(|last| last.step >= figures.step) {
            self.history.pop();
        }
        self.history.push(figures);
    }

    /// The signs that have not been told yet; that the run has diverged, whether all are `asked` for or not.
    pub fn news(&mut self, steps: usize, asked: bool) -> Vec<Sign> {
        let signs = match asked {
            true => signs(&self.history, steps, self.beta),
            false => diverged(&self.history, self.beta.is_some()).into_iter().collect(),
        };
        signs.into_iter().filter(|sign| self.told.insert(sign.kind())).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const BETA: Option<f64> = Some(0.1);

    /// A run of `count` steps; the closure gets the share of the run that is done.
    fn run(count: usize, figures: impl Fn(f64) -> StepFigures) -> Vec<StepFigures> {
        (1..=count).map(|step| StepFigures { step, ..figures(step as f64 / count as f64) }).collect()
    }

    fn pairs(chosen: f64, margin: f64, accuracy: f64, log_prob: f64) -> StepFigures {
        let pairs = PairFigures { chosen, margin, accuracy, log_prob };
        StepFigures { step: 0, loss: 0.5, grad_norm: 1.0, pairs: Some(pairs) }
    }

    fn rows(loss: f64, grad_norm: f64) -> StepFigures {
        StepFigures { step: 0, loss, grad_norm, pairs: None }
    }

    #[test]
    fn healthy_runs_show_no_sign() {
        let dpo = run(40, |done| pairs(0.2 * done, done, 0.5 + done / 2.0, -80.0 + 2.0 * done));
        let sft = run(40, |done| rows(3.0 - done, 2.0));
        // The ordinary course: the chosen falls a little too.
        let usual = run(40, |done| pairs(-1.5 * done, 3.0 * done, 0.5 + done / 2.0, -200.0 - 15.0 * done));
        for history in [dpo, sft, usual] {
            for end in 0..=history.len() {
                assert_eq!(signs(&history[..end], 40, BETA), []);
            }
        }
    }

    #[test]
    fn a_run_that_tells_pairs_apart_by_chance_is_noticed_after_half_of_it() {
        let history = run(40, |done| pairs(0.0, 0.01 * done, 0.5, -80.0));
        assert_eq!(signs(&history[..19], 40, BETA), []);
        assert_eq!(signs(&history[..20], 40, BETA), [Sign::Chance(0.5)]);
        assert_eq!(signs(&history, 40, BETA), [Sign::Chance(0.5)]);
        // Too short a run to say.
        assert_eq!(signs(&run(9, |_| pairs(0.0, 0.0, 0.0, -80.0)), 9, BETA), []);
    }

    #[test]
    fn margins_that_do_not_rise_are_noticed() {
        let history = run(30, |done| pairs(0.1, 0.2 - 0.1 * done, 0.9, -80.0));
        assert_eq!(signs(&history, 30, BETA), [Sign::FlatMargin]);
    }

    #[test]
    fn chosen_answers_that_become_unlikely_are_noticed_at_any_time() {
        // As in the village: accuracies perfect, margins rising, chosen lost.
        let history = run(40, |done| pairs(-1.1 * done, 2.0 * done, 1.0, -0.7 - 11.0 * done));
        let found = signs(&history[..10], 40, BETA);
        assert!(matches!(found[..], [Sign::ChosenFalls(nats)] if nats > 1.0), "{found:?}");
        let text = signs(&history, 40, BETA)[0].to_string();
        assert!(text.contains("by 10.4 nats") && text.contains("dpo.sft_weight"), "{text}");
        // A loss without a reference has rewards that are no gains.
        assert_eq!(signs(&history, 40, None), []);
        // The same fall is little for long answers.
        assert_eq!(signs(&run(40, |done| pairs(-1.1 * done, 2.0 * done, 1.0, -200.0 - 11.0 * done)), 40, BETA), []);
    }

    #[test]
    fn gradients_that_stay_huge_are_noticed_and_one_is_not() {
        let history = run(20, |done| rows(3.0 - done, if done > 0.5 { 500.0 } else { 1.0 }));
        assert_eq!(signs(&history, 20, BETA), [Sign::Gradient(500.0)]);
        let history = run(20, |done| rows(3.0 - done, if done == 1.0 { 400.0 } else { 1.0 }));
        assert_eq!(signs(&history, 20, BETA), []);
    }

    #[test]
    fn a_supervised_loss_that_does_not_fall_is_noticed() {
        let history = run(20, |done| rows(2.0 + done, 1.0));
        assert_eq!(signs(&history, 20, BETA), [Sign::FlatLoss]);
        // Ten of a hundred steps are no good part.
        assert_eq!(signs(&history[..10], 100, BETA), []);
    }

    #[test]
    fn a_watch_goes_on_from_a_file_and_tells_each_sign_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let record = |step: usize, loss: f64| json!({ "step": step, "loss": loss, "grad_norm": 1.0, "epoch": 1.0 });
        // Written before a stop, the last two steps after the checkpoint; the last line is torn.
        let text: String = (1..=12).map(|step| record(step, 1.0).to_string() + "\n").collect();
        std::fs::write(&path, text + "{\"step\": 13, \"lo").unwrap();
        let mut watch = Watch::new(&path, BETA);
        for step in 11..=20 {
            watch.see(record(step, 1.5).as_object().unwrap());
        }
        assert_eq!(watch.history.iter().map(|figures| figures.step).collect::<Vec<_>>(), (1..=20).collect::<Vec<_>>());
        assert_eq!(watch.news(20, true), [Sign::FlatLoss]);
        assert_eq!(watch.news(20, true), []);
        assert_eq!(Watch::new(&folder.path().join("none"), BETA).news(5, true), []);
    }

    #[test]
    fn a_loss_that_is_destroyed_is_told_at_once_and_alone() {
        let pairs = PairFigures { chosen: -50.0, margin: 0.0, accuracy: 0.0, log_prob: -90.0 };
        let of = |losses: &[f64], pairs| -> Vec<StepFigures> {
            let figures = |(at, loss): (usize, &f64)| StepFigures { step: at + 1, loss: *loss, grad_norm: 1.0, pairs };
            losses.iter().enumerate().map(figures).collect()
        };
        let told = |losses: &[f64], pairs, beta| -> Vec<u8> {
            signs(&of(losses, pairs), losses.len(), beta).into_iter().map(Sign::kind).collect()
        };
        let destroyed = [0.7, 0.7, 3.3, 2.3, 2.7, 2.7, 2.6, 2.5, 2.5, 2.2];
        assert_eq!(told(&destroyed, Some(pairs), BETA), [5]);
        assert_eq!(told(&[0.69, 0.7, 0.9, 1.1, 1.0, 0.9], Some(pairs), BETA), [2], "a bad run is not a destroyed one");
        assert_eq!(told(&[2.0, 2.1, 2.0, 9.0, 9.5, 10.0, 11.0, 12.0, 13.0, 12.0, 14.0], None, None), [5]);
        // Batches of other rows than the first are no sign.
        assert!(told(&[0.3, 2.0, 1.8, 2.2, 2.0, 2.1, 1.9], None, None).is_empty());
    }
}
