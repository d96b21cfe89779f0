//! Rows to learn from, as token ids that `ftk train` reads: windows to continue, windows with the action of a teacher
//! who sees the past only, and pairs of actions of which the better is known because all of them were rolled out over
//! the same realised path from the same state.

use std::ops::Range;

use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::DefiError;
use super::generated::{Chance, RandomWalk, USUAL, bars};
use super::simulation::{Holes, Simulation, Tally, outcome, run};
use super::window::{self, Maker, Own};

/// How rows are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Decisions {
    /// Bars between decisions.
    pub every: usize,
    /// Bars over which the outcome of a decision is counted.
    pub horizon: usize,
    /// Bars of the past by which the teacher chooses: long enough that the difference between actions is more than
    /// noise.
    pub past: usize,
    /// Least difference in utility between the two actions of a pair, in money's smallest unit: more than the costs
    /// that differ between actions.
    pub margin: i128,
    /// Most pairs of a decision: the best action against so many that are worse by the margin.
    pub rejected: usize,
}

impl Decisions {
    /// Checks that the numbers make sense.
    ///
    /// # Errors
    /// Which one does not.
    pub fn check(&self) -> Result<(), DefiError> {
        let least =
            [("every", self.every), ("horizon", self.horizon), ("past", self.past), ("rejected", self.rejected)];
        match least.iter().find(|(_, value)| *value == 0) {
            Some((name, _)) => Err(DefiError::setting(format!("decisions.{name}"), "must be at least 1")),
            None if self.margin < 0 => Err(DefiError::setting("decisions.margin", "must not be negative")),
            None => Ok(()),
        }
    }
}

/// Rows of one stretch of bars.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MarketRows {
    /// Windows and the teacher's action.
    pub taught: Vec<(Vec<u32>, u32)>,
    /// Windows, the better action and the worse.
    pub pairs: Vec<(Vec<u32>, u32, u32)>,
    /// Decisions.
    pub decisions: usize,
    /// Decisions without a pair: no two actions differed by the margin, or training could not tell it from the one
    /// before.
    pub dropped: usize,
    /// Pairs of actions that were looked at, and those closer than the margin.
    pub compared: [usize; 2],
}

/// Rows of the decisions after bars of a stretch. Outcomes end before its end, so nothing beyond it is looked at; a
/// horizon in which more time is missing than it lasts, or so much at once that a maker begins anew, has none.
///
/// # Errors
/// Amounts beyond range, settings that make no sense.
pub fn make<D: Simulation>(simulation: &D, bars: Range<usize>, settings: &Decisions) -> Result<MarketRows, DefiError> {
    settings.check()?;
    let (first, actions) = simulation.ids();
    let start = bars.start.max(window::warm_up()).max(settings.past + 1);
    let holes = Holes::of(simulation, 0..simulation.bars());
    let usual = holes.step.max(1).saturating_mul(i64::try_from(settings.horizon).unwrap_or(i64::MAX));
    // What a price did while nobody wrote it down is no outcome of a decision.
    let whole = |at: &usize| {
        let end = at + settings.horizon;
        simulation.time(end).saturating_sub(simulation.time(*at)) <= usual.saturating_mul(2) && !holes.between(*at, end)
    };
    let times = (start..bars.end.saturating_sub(settings.horizon)).step_by(settings.every);
    let times: Vec<usize> = times.filter(whole).collect();
    let best = |tallies: &[Tally]| (0..actions).max_by_key(|&action| (tallies[action].utility(), actions - action));
    // What the teacher would have done, from the past alone.
    let advice: Vec<usize> = match (times.first(), times.last()) {
        (Some(&begin), Some(&end)) => {
            let from = begin - settings.past;
            let earned: Vec<Vec<i128>> = (0..actions)
                .into_par_iter()
                .map(|action| earned(simulation, from..end + 1, settings.every, action))
                .collect::<Result<_, DefiError>>()?;
            let over = |earned: &[i128], at: usize| earned[at - from] - earned[at - settings.past - from];
            times
                .iter()
                .map(|&at| (0..actions).max_by_key(|&action| (over(&earned[action], at), actions - action)))
                .map(|best| best.expect("there are actions"))
                .collect()
        }
        _ => Vec::new(),
    };
    let mut states = Vec::with_capacity(times.len());
    let mut rows = MarketRows { decisions: times.len(), ..MarketRows::default() };
    if let Some(&at) = times.first() {
        let mut state = simulation.start(at)?;
        for (turn, (&at, &advised)) in times.iter().zip(&advice).enumerate() {
            // The teacher itself hardly ever holds nothing, as a maker that begins does, or what time has passed by.
            let seen = match turn % 3 {
                0 => state.clone(),
                1 => simulation.start(at)?,
                _ => left_alone(simulation, &holes, at - settings.past..at, simulation.action(advised))?
                    .unwrap_or_else(|| state.clone()),
            };
            if let Some(ids) = simulation.window(&seen, at) {
                rows.taught.push((ids, first + simulation.patient(&seen, at, advised) as u32));
            }
            states.push(seen);
            let action = simulation.patient(&state, at, advised);
            simulation.decide(&mut state, at, simulation.action(action));
            for bar in at + 1..=times.get(turn + 1).copied().unwrap_or(at) {
                holes.pass(simulation, &mut state, bar)?;
            }
        }
    }
    let judged: Vec<Vec<Tally>> = (times.par_iter().zip(&states))
        .map(|(&at, state)| all(simulation, state, at, settings.horizon))
        .collect::<Result<_, DefiError>>()?;
    for ((&at, state), tallies) in times.iter().zip(&states).zip(&judged) {
        let Some(ids) = simulation.window(state, at) else { continue };
        let chosen = best(tallies).expect("there are actions");
        let top = tallies[chosen].utility();
        let mut worse: Vec<usize> = (0..actions).filter(|&action| action != chosen).collect();
        rows.compared[0] += worse.len();
        worse.retain(|&action| top - tallies[action].utility() > settings.margin);
        rows.compared[1] += actions - 1 - worse.len();
        // The worst, the one in the middle of the rest, and so on: easy and hard ones alike.
        worse.sort_by_key(|&action| (tallies[action].utility(), action));
        // Rows that follow each other with one window and one better action are taken for one decision.
        let chosen = first + chosen as u32;
        let alike = rows.pairs.last().is_some_and(|(window, better, _)| (window, *better) == (&ids, chosen));
        let count = if alike { 0 } else { settings.rejected.min(worse.len()) };
        rows.dropped += usize::from(count == 0);
        for pick in 0..count {
            let action = worse[pick * worse.len() / count];
            rows.pairs.push((ids.clone(), chosen, first + action as u32));
        }
    }
    Ok(rows)
}

/// Outcomes of all actions from one state.
fn all<D: Simulation>(simulation: &D, state: &D::State, at: usize, horizon: usize) -> Result<Vec<Tally>, DefiError> {
    (0..simulation.ids().1).map(|action| outcome(simulation, state, at, horizon, simulation.action(action))).collect()
}

/// The state of a maker that took an action after one bar and let it be until after another; none across a hole, behind
/// which it would have begun anew.
fn left_alone<D: Simulation>(
    simulation: &D,
    holes: &Holes,
    bars: Range<usize>,
    choice: D::Choice,
) -> Result<Option<D::State>, DefiError> {
    if holes.between(bars.start, bars.end) {
        return Ok(None);
    }
    let mut state = simulation.start(bars.start)?;
    simulation.decide(&mut state, bars.start, choice);
    for bar in bars.start + 1..=bars.end {
        simulation.pass(&mut state, bar)?;
    }
    Ok(Some(state))
}

/// Utility up to every bar of a maker that began after the first of them and takes one action all along: what the
/// baseline of that action has earned.
fn earned<D: Simulation>(
    simulation: &D,
    bars: Range<usize>,
    every: usize,
    action: usize,
) -> Result<Vec<i128>, DefiError> {
    let first = bars.start;
    let begins = first + 1..bars.end;
    let passed =
        run(simulation, begins, every, |state, at| Ok(simulation.action(simulation.patient(state, at, action))))?;
    let sums = passed.iter().scan(0, |sum, bar| {
        *sum += bar.tally.utility();
        Some(*sum)
    });
    Ok(std::iter::once(0).chain(sums).collect())
}

impl MarketRows {
    /// Rows for supervised training: the action is scored, the window is not.
    pub fn taught_lines(&self) -> String {
        let line = |(ids, action): &(Vec<u32>, u32)| {
            let labels: Vec<i64> = ids.iter().map(|_| -100).chain([i64::from(*action)]).collect();
            let ids: Vec<u32> = ids.iter().copied().chain([*action]).collect();
            json!({ "input_ids": ids, "labels": labels }).to_string() + "\n"
        };
        self.taught.iter().map(line).collect()
    }

    /// Rows for preference training.
    pub fn pair_lines(&self) -> String {
        let line = |(ids, chosen, rejected): &(Vec<u32>, u32, u32)| {
            json!({ "prompt_ids": ids, "chosen_ids": [chosen], "rejected_ids": [rejected] }).to_string() + "\n"
        };
        self.pairs.iter().map(line).collect()
    }
}

/// Windows of generated markets of several kinds, to learn what bars look like; each ends with an action of its maker,
/// any of them, so that a base knows which tokens are answers and prefers none.
///
/// # Errors
/// Amounts beyond range.
pub fn pretraining(seed: u64, count: usize) -> Result<Vec<Vec<u32>>, DefiError> {
    /// Bars of one generated market.
    const BARS: usize = 4000;
    let mut chance = Chance::new(seed);
    let mut rows = Vec::with_capacity(count);
    while rows.len() < count {
        // From a stable coin's to a small coin's volatility; returning, drifting and plain walks.
        let sigma = 50_000 * (1 << chance.below(6)) as i64;
        let reverts = chance.below(5) as i64 * 100 - 200;
        let market = bars(chance.below(u64::MAX), BARS, RandomWalk { sigma, reverts, ..USUAL });
        let features = window::features(&market)?;
        for at in (window::warm_up()..BARS).step_by(window::SPELT / 2) {
            let maker = if chance.below(3) < 2 { Maker::Quoter } else { Maker::Provider };
            let (first, actions) = match maker {
                Maker::Quoter => (window::QUOTES, super::quoter::ACTIONS),
                Maker::Provider => (window::RANGE_ACTIONS, super::range::ACTIONS),
            };
            let place = match maker {
                Maker::Provider if chance.below(8) > 0 => Some(chance.below(1400) as i128 - 200),
                _ => None,
            };
            let own = Own { inventory: chance.below(2001) as i128 - 1000, place };
            let mut ids = window::ids(&features, at, maker, own).expect("the market is long enough");
            ids.push(first + chance.below(actions as u64) as u32);
            rows.push(ids);
        }
    }
    rows.truncate(count);
    Ok(rows)
}

#[cfg(test)]
mod tests;
