//! A maker at work on a market: what it decides, and what every bar brings it. Both makers are told apart here and
//! nowhere above; rows, evaluation, reports and logs see a [`Simulation`].

pub mod book;
pub mod liquidity;

use std::fmt::Debug;
use std::ops::Range;

use serde_json::Value;

use super::DefiError;
use super::market::gaps;

/// What some bars brought, in money's smallest unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Fees earned, or the spread of fills: their distance from the last price before them.
    pub fees: i128,
    /// Lost to the price: of a position against rebalancing, of a quoter whatever its fills and inventory lost.
    pub lost: i128,
    /// Paid to move: gas, fees, slippage; for a quoter the exchange's fees, rebates being negative.
    pub costs: i128,
    /// Penalty of inventory: not paid, but part of what is preferred.
    pub penalty: i128,
}

impl Tally {
    /// Fees less losses less costs.
    pub fn net(&self) -> i128 {
        self.fees - self.lost - self.costs
    }

    /// What decisions are compared by: net less the penalty of inventory.
    pub fn utility(&self) -> i128 {
        self.net() - self.penalty
    }

    /// Adds another.
    pub fn add(&mut self, other: &Self) {
        self.fees += other.fees;
        self.lost += other.lost;
        self.costs += other.costs;
        self.penalty += other.penalty;
    }
}

/// One bar of a maker, for statistics. Money in its smallest unit.
#[derive(Clone, Copy, Debug, Default)]
pub struct Passed {
    /// What it brought.
    pub tally: Tally,
    /// Worth of everything at its end.
    pub value: i128,
    /// Worth at its end of what was held at the beginning of the run.
    pub held: i128,
    /// Worth of the inventory: what is held of the coin, or the part of it beyond half of everything.
    pub inventory: i128,
    /// Worth of what was traded.
    pub turnover: i128,
    /// Moves of a position, fills of a quoter.
    pub moves: u32,
    /// Whether fees could be earned: the price in range, two quotes standing.
    pub active: bool,
    /// Distance of the quotes, or width of the range, millionths of the price; 0 where there is none.
    pub spread: i64,
    /// Fees had there been no trade because of the maker; of pools only.
    pub least: i128,
    /// Own share of the liquidity in range, millionths; of pools only.
    pub share: i64,
    /// A fill: its price in units of 1e-10 and its signed size.
    pub fill: Option<super::quoter::Fill>,
    /// Bounds of the quotes or of the range at its end, as prices in units of 1e-10.
    pub bounds: Option<[u64; 2]>,
    /// Price at its end, units of 1e-10.
    pub price: u64,
    /// Whether the maker began before it.
    pub begins: bool,
}

/// A kind of baseline and the settings it is tuned over.
#[derive(Clone, Debug)]
pub struct BaselineFamily<C> {
    /// Its name.
    pub name: &'static str,
    /// Its settings, each with a description.
    pub settings: Vec<(String, C)>,
}

/// A maker on a market. Decisions at bar t see bars up to t; what they lead to begins with bar t + 1.
pub trait Simulation: Sync {
    /// What the maker has and waits for.
    type State: Clone + Debug + Send + Sync;
    /// What it may decide: an action, or a baseline's rule.
    type Choice: Copy + Debug + Send + Sync;

    /// Number of bars.
    fn bars(&self) -> usize;

    /// Time of a bar, microseconds since 1970.
    fn time(&self, bar: usize) -> i64;

    /// Units of money in one, for reports, and its name.
    fn money(&self) -> (f64, &'static str);

    /// First of the ids that actions have, and their number.
    fn ids(&self) -> (u32, usize);

    /// An action as a choice.
    fn action(&self, action: usize) -> Self::Choice;

    /// The state of a maker that begins after a bar.
    ///
    /// # Errors
    /// Amounts beyond range.
    fn start(&self, at: usize) -> Result<Self::State, DefiError>;

    /// Ids of the window that a decision after a bar sees; `None` where there are too few bars.
    fn window(&self, state: &Self::State, at: usize) -> Option<Vec<u32>>;

    /// Decides after a bar.
    fn decide(&self, state: &mut Self::State, at: usize, choice: Self::Choice);

    /// What is held, for a log; integers as text, which no reader rounds.
    fn describe(&self, state: &Self::State) -> Value;

    /// The state in which this is held and nothing else was decided.
    ///
    /// # Errors
    /// What [`Simulation::describe`] does not write.
    fn restore(&self, held: &Value) -> Result<Self::State, DefiError>;

    /// What the controller makes of a choice after a bar, for a log.
    fn ordered(&self, state: &Self::State, at: usize, choice: Self::Choice) -> Value;

    /// The action that a teacher who would take this one takes in a state: moving costs, so a range that still serves
    /// is kept.
    fn patient(&self, state: &Self::State, at: usize, action: usize) -> usize;

    /// Lets a bar pass.
    ///
    /// # Errors
    /// Amounts beyond range.
    fn pass(&self, state: &mut Self::State, bar: usize) -> Result<Passed, DefiError>;

    /// Baselines, with coefficients from these bars only; the first does nothing.
    fn baselines(&self, fitted: Range<usize>) -> Vec<BaselineFamily<Self::Choice>>;
}

/// Bars that may be missing between two before a maker begins anew: nobody knows what would have become of it.
const MISSING: i64 = 60;

/// Where so much is missing that a maker begins anew.
#[derive(Clone, Debug)]
pub struct Holes {
    /// The commonest distance between bars, microseconds; 0 where there is none.
    pub step: i64,
    /// Bars before which more than [`MISSING`] are missing, in order.
    after: Vec<usize>,
}

impl Holes {
    /// The holes between some bars.
    pub fn of<D: Simulation>(simulation: &D, bars: Range<usize>) -> Self {
        let times: Vec<i64> = bars.clone().map(|bar| simulation.time(bar)).collect();
        let step = gaps(&times).map_or(0, |gaps| gaps.step);
        let longest = if step > 0 { step.saturating_mul(MISSING + 1) } else { i64::MAX };
        let wide = times.windows(2).enumerate().filter(|(_, pair)| pair[1].saturating_sub(pair[0]) > longest);
        Self { step, after: wide.map(|(at, _)| bars.start + at + 1).collect() }
    }

    /// Whether one lies between two bars, of which the second is not before the first.
    pub fn between(&self, first: usize, second: usize) -> bool {
        let up_to = |bar: usize| self.after.partition_point(|&after| after <= bar);
        up_to(first) < up_to(second)
    }

    /// Lets a bar pass. Behind a hole the maker begins anew after it: nothing stands in the first bar that is known
    /// again.
    ///
    /// # Errors
    /// Amounts beyond range.
    pub fn pass<D: Simulation>(&self, simulation: &D, state: &mut D::State, bar: usize) -> Result<Passed, DefiError> {
        if !self.between(bar - 1, bar) {
            return simulation.pass(state, bar);
        }
        let passed = simulation.pass(&mut simulation.start(bar - 1)?, bar)?;
        *state = simulation.start(bar)?;
        Ok(Passed { begins: true, ..passed })
    }
}

/// Runs a maker over bars: it begins after the bar before the first, and decides every `every` bars. It begins anew
/// behind a hole ([`Holes`]).
///
/// # Errors
/// The chooser's; amounts beyond range.
pub fn run<D: Simulation>(
    simulation: &D,
    bars: Range<usize>,
    every: usize,
    mut choose: impl FnMut(&D::State, usize) -> Result<D::Choice, DefiError>,
) -> Result<Vec<Passed>, DefiError> {
    let first = bars.start.checked_sub(1).ok_or_else(|| DefiError::setting("run", "needs a bar before the first"))?;
    let holes = Holes::of(simulation, first..bars.end);
    let mut state = simulation.start(first)?;
    let mut began = first;
    let mut passed = Vec::with_capacity(bars.len());
    for bar in bars {
        if holes.between(bar - 1, bar) {
            passed.push(holes.pass(simulation, &mut state, bar)?);
            began = bar;
            continue;
        }
        if (bar - 1 - began).is_multiple_of(every) {
            let choice = choose(&state, bar - 1)?;
            simulation.decide(&mut state, bar - 1, choice);
        }
        passed.push(Passed { begins: bar - 1 == began, ..simulation.pass(&mut state, bar)? });
    }
    Ok(passed)
}

/// What a choice brings over the bars after one, from a state; the market ends the bars early.
///
/// # Errors
/// Amounts beyond range.
pub fn outcome<D: Simulation>(
    simulation: &D,
    state: &D::State,
    at: usize,
    horizon: usize,
    choice: D::Choice,
) -> Result<Tally, DefiError> {
    let mut state = state.clone();
    simulation.decide(&mut state, at, choice);
    let mut tally = Tally::default();
    for bar in at + 1..(at + 1 + horizon).min(simulation.bars()) {
        tally.add(&simulation.pass(&mut state, bar)?.tally);
    }
    Ok(tally)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generated::{USUAL, bars};
    use crate::plan::{MakerSimulation, Plan, SHIPPED};
    use crate::{HOUR, Market};

    #[test]
    fn a_maker_begins_anew_where_nothing_is_known() {
        let plan = Plan::parse("quoter", SHIPPED[0].1).unwrap();
        let sit = |hours: i64| {
            let mut bars = bars(2, 600, USUAL);
            bars[500..].iter_mut().for_each(|bar| bar.time += hours * HOUR);
            let Ok(MakerSimulation::Book(simulation)) = plan.sit(Market::Bars(bars)) else { panic!("a quoter") };
            simulation
        };
        let walk = |hours: i64| {
            let (simulation, mut decided) = (sit(hours), Vec::new());
            let passed = run(&simulation, 400..600, 30, |state, at| {
                decided.push((at, state.account.inventory));
                Ok(simulation.action(2))
            });
            (passed.unwrap(), decided)
        };
        // An hour of minutes may be missing, a day may not.
        let (whole, decided) = walk(1);
        assert_eq!(decided.iter().map(|it| it.0).collect::<Vec<_>>(), [399, 429, 459, 489, 519, 549, 579]);
        assert!(decided[4].1 != 0 && whole.iter().filter(|bar| bar.begins).count() == 1);
        let (parted, decided) = walk(24);
        assert_eq!(decided.iter().map(|it| it.0).collect::<Vec<_>>(), [399, 429, 459, 489, 500, 530, 560, 590]);
        assert_eq!((decided[4].1, parted[100].inventory, parted[100].tally), (0, 0, Tally::default()));
        let begun: Vec<usize> = (400..600).filter(|bar| parted[bar - 400].begins).collect();
        assert_eq!((begun, parted.len()), (vec![400, 500, 501], 200));
    }
}
