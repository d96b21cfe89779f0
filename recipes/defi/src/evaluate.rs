//! Walk-forward evaluation: windows in time, baselines tuned on what lies before, measures, and how sure they are.
//! Everything here is statistics on what [`super::simulation`] brought, in floats.

use std::ops::Range;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::DefiError;
use super::avellaneda::{deviation, mean};
use super::generated::Chance;
use super::quoter::markout;
use super::simulation::{BaselineFamily, Passed, Simulation, Tally, run};
use super::window::warm_up;

/// How a market is parted in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WalkForward {
    /// Windows; each tests on what the one before could not have seen.
    pub windows: usize,
    /// Bars that a window tests on.
    pub test: usize,
    /// Bars before them that baselines are tuned on.
    pub validation: usize,
    /// Bars left out between parts; at least the horizon of a decision.
    pub embargo: usize,
    /// Windows that are walked with the adapter of one training: it is trained in the first of them, and chosen and
    /// baselines tuned in each.
    #[serde(default = "each")]
    #[schemars(range(min = 1))]
    pub refit: usize,
}

fn each() -> usize {
    1
}

/// One window: parts in time order with an embargo between them. The bars before a part are what its decisions may
/// look back on; no outcome of a part lies in another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WalkWindow {
    /// Bars that a policy learns from.
    pub train: Range<usize>,
    /// Bars that baselines are tuned on.
    pub validation: Range<usize>,
    /// Bars that both are judged on.
    pub test: Range<usize>,
}

/// Least bars to learn from.
const MIN_TRAIN: usize = 500;

impl WalkForward {
    /// The windows over so many bars: the last one tests on the last bars, and every one learns from the beginning.
    ///
    /// # Errors
    /// An embargo shorter than the horizon, too few bars.
    pub fn windows(&self, bars: usize, horizon: usize) -> Result<Vec<WalkWindow>, DefiError> {
        let wrong = |key: &str, message: String| Err(DefiError::setting(format!("walk.{key}"), message));
        if self.embargo < horizon {
            return wrong(
                "embargo",
                format!("must be at least the horizon of a decision, {horizon}: {}", self.embargo),
            );
        }
        if self.windows == 0 || self.test == 0 || self.validation == 0 {
            return wrong("windows", "windows, test and validation must be at least 1".to_owned());
        }
        if self.refit == 0 {
            return wrong("refit", "must be at least 1".to_owned());
        }
        let embargoes = self.embargo.checked_mul(2);
        let parts = [self.test.checked_mul(self.windows), embargoes.and_then(|both| self.validation.checked_add(both))];
        let needed = parts.iter().try_fold(warm_up() + MIN_TRAIN, |sum, part| sum.checked_add((*part)?));
        if needed.is_none_or(|needed| needed > bars) {
            let needed = needed.map_or("too many".to_owned(), |needed| needed.to_string());
            return wrong("test", format!("the windows need {needed} bars, there are {bars}"));
        }
        let window = |index: usize| {
            let start = bars - (self.windows - index) * self.test;
            let validated = start - self.embargo;
            let from = validated - self.validation;
            let (train, validation) = (0..from - self.embargo, from..validated);
            WalkWindow { train, validation, test: start..start + self.test }
        };
        Ok((0..self.windows).map(window).collect())
    }
}

/// A baseline with the setting that did best on validation.
#[derive(Clone, Debug)]
pub struct Tuned<C> {
    /// Its family.
    pub name: &'static str,
    /// The setting.
    pub detail: String,
    /// It.
    pub choice: C,
}

/// The best setting of every family by utility on some bars, earlier ones being preferred among equals.
///
/// # Errors
/// Amounts beyond range.
pub fn tune<D: Simulation>(
    simulation: &D,
    families: Vec<BaselineFamily<D::Choice>>,
    bars: Range<usize>,
    every: usize,
) -> Result<Vec<Tuned<D::Choice>>, DefiError> {
    let mut tuned = Vec::with_capacity(families.len());
    for family in families {
        let mut best: Option<(i128, Tuned<D::Choice>)> = None;
        for (detail, choice) in family.settings {
            let passed = run(simulation, bars.clone(), every, |_, _| Ok(choice))?;
            let utility: i128 = passed.iter().map(|bar| bar.tally.utility()).sum();
            if best.as_ref().is_none_or(|(most, _)| utility > *most) {
                best = Some((utility, Tuned { name: family.name, detail, choice }));
            }
        }
        tuned.extend(best.map(|(_, tuned)| tuned));
    }
    Ok(tuned)
}

/// Bars of a block, over which tails and intervals are taken: longer than a quoter's horizon, so that blocks hardly
/// depend on each other.
pub const BLOCK: usize = 60;
/// Part of the worst blocks that the expected shortfall is the mean of.
const TAIL: f64 = 0.05;
/// Bars after a fill at which its markout is taken.
const MARKOUT: usize = 5;

/// What a run was worth. Money in whole units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Measures {
    /// Fees, or the spread of fills.
    pub fees: f64,
    /// Lost to the price.
    pub lost: f64,
    /// Paid to move, or to the exchange.
    pub costs: f64,
    /// Fees less losses less costs.
    pub net: f64,
    /// That with the fees of a pool had there been no trade because of the provider.
    #[serde(default)]
    pub least: f64,
    /// Net less the penalty of inventory.
    pub utility: f64,
    /// Worth at the end less that of having held what was there at the beginning.
    pub against_hold: f64,
    /// Held less the position's own worth, without fees and costs: impermanent loss.
    pub impermanent: f64,
    /// Mean net of the worst twentieth of the blocks.
    pub cvar: f64,
    /// Worth of what was traded.
    pub turnover: f64,
    /// Moves, or fills.
    pub moves: f64,
    /// Share of bars in which fees could be earned.
    pub active: f64,
    /// Deviation of the inventory.
    pub inventory: f64,
    /// Mean width of quotes or range, basis points of the price.
    pub spread: f64,
    /// Mean markout of fills five bars later, basis points, before rebates.
    pub markout: f64,
    /// Mean own share of the liquidity in range, where in range.
    pub share: f64,
}

/// Measures of runs that follow each other, each from its own beginning.
pub fn measure(runs: &[Vec<Passed>], money: f64) -> Measures {
    let all = || runs.iter().flatten();
    let sum = |pick: fn(&Passed) -> i128| all().map(pick).sum::<i128>() as f64 / money;
    let count = all().count().max(1) as f64;
    // The last bar of a run, and the last before a maker begins anew in it.
    let lasts = |run: &Vec<Passed>| {
        let last = |at: &usize| run.get(at + 1).is_none_or(|next| next.begins);
        (0..run.len()).filter(last).map(|at| run[at]).collect::<Vec<_>>()
    };
    let ends =
        |pick: fn(&Passed) -> i128| runs.iter().flat_map(lasts).map(|bar| pick(&bar)).sum::<i128>() as f64 / money;
    let mut worst: Vec<f64> = blocks(runs, money);
    worst.sort_by(f64::total_cmp);
    worst.truncate(((worst.len() as f64 * TAIL).ceil() as usize).max(1));
    let inventories: Vec<f64> = all().map(|bar| bar.inventory as f64 / money).collect();
    let spreads: Vec<f64> = all().filter(|bar| bar.spread > 0).map(|bar| bar.spread as f64 / 100.0).collect();
    let shares: Vec<f64> = all().filter(|bar| bar.share > 0).map(|bar| bar.share as f64 / 1e6).collect();
    let mut markouts = Vec::new();
    for run in runs {
        for (at, bar) in run.iter().enumerate() {
            // Beyond a hole the price is another story than the fill's.
            let next = run.get(at + 1..=at + MARKOUT).filter(|next| next.iter().all(|bar| !bar.begins));
            if let (Some(fill), Some([.., later])) = (bar.fill, next) {
                markouts.push(markout(&fill, later.price) / 100.0);
            }
        }
    }
    let (fees, costs) = (sum(|bar| bar.tally.fees), sum(|bar| bar.tally.costs));
    let against_hold = ends(|bar| bar.value - bar.held);
    Measures {
        fees,
        lost: sum(|bar| bar.tally.lost),
        costs,
        net: sum(|bar| bar.tally.net()),
        least: sum(|bar| bar.tally.net() - bar.tally.fees + bar.least),
        utility: sum(|bar| bar.tally.utility()),
        against_hold,
        impermanent: fees - costs - against_hold,
        cvar: mean(&worst),
        turnover: sum(|bar| bar.turnover),
        moves: all().map(|bar| f64::from(bar.moves)).sum(),
        active: all().filter(|bar| bar.active).count() as f64 / count,
        inventory: deviation(&inventories),
        spread: mean(&spreads),
        markout: mean(&markouts),
        share: mean(&shares),
    }
}

/// Net of every block of every run.
pub fn blocks(runs: &[Vec<Passed>], money: f64) -> Vec<f64> {
    by_block(runs, money, Tally::net)
}

/// Utility of every block of every run.
pub fn utilities(runs: &[Vec<Passed>], money: f64) -> Vec<f64> {
    by_block(runs, money, Tally::utility)
}

fn by_block(runs: &[Vec<Passed>], money: f64, worth: fn(&Tally) -> i128) -> Vec<f64> {
    let sum = |block: &[Passed]| block.iter().map(|bar| worth(&bar.tally)).sum::<i128>() as f64 / money;
    runs.iter().flat_map(|run| run.chunks(BLOCK)).map(sum).collect()
}

/// A difference and where it lies in nineteen cases out of twenty; without ends where [`MIN_BLOCKS`] are not there.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The difference.
    pub mean: f64,
    /// Lower end.
    pub low: Option<f64>,
    /// Upper end.
    pub high: Option<f64>,
}

impl Interval {
    /// What it says of the first against the second: whichever is better, or neither, or nothing.
    pub fn verdict(&self) -> &'static str {
        match (self.low, self.high) {
            (Some(low), Some(_)) if low > 0.0 => "better",
            (Some(_), Some(high)) if high < 0.0 => "worse",
            (Some(_), Some(_)) => "tie",
            _ => TOO_FEW,
        }
    }
}

/// The verdict on fewer than [`MIN_BLOCKS`].
pub const TOO_FEW: &str = "too few blocks";

/// Neighbouring blocks that are drawn together, so that what one has to do with the next is kept.
const RUN: usize = 6;

/// Least blocks of an interval, five draws of neighbours: of fewer, all draws are much alike, those of up to six blocks
/// are even all the same, and the interval says more than is known.
pub const MIN_BLOCKS: usize = 5 * RUN;

/// The difference of two runs' sums over the same blocks, by drawing runs of `RUN` neighbouring blocks with
/// replacement (Künsch 1989), percentiles; of too few blocks without ends.
pub fn compare(first: &[f64], second: &[f64], seed: u64) -> Interval {
    compare_at(first, second, seed, BEYOND)
}

/// Draws of an interval.
const DRAWS: usize = 2000;
/// The share of draws beyond either end of an interval that holds 95 % of them.
const BEYOND: f64 = 0.025;

/// The percentiles beyond which such a share of the draws lies at either end.
fn ends(mut draws: Vec<f64>, tail: f64) -> [Option<f64>; 2] {
    draws.sort_by(f64::total_cmp);
    [tail, 1.0 - tail].map(|share| Some(draws[((DRAWS - 1) as f64 * share).round() as usize]))
}

/// [`compare`] with such a share of the draws beyond either end.
pub fn compare_at(first: &[f64], second: &[f64], seed: u64, tail: f64) -> Interval {
    let differences: Vec<f64> = first.iter().zip(second).map(|(a, b)| a - b).collect();
    let count = differences.len();
    let total: f64 = differences.iter().sum();
    if count < MIN_BLOCKS {
        return Interval { mean: total, low: None, high: None };
    }
    let mut chance = Chance::new(seed);
    let sums: Vec<f64> = (0..DRAWS)
        .map(|_| {
            let mut sum = 0.0;
            let mut taken = 0;
            while taken < count {
                let start = chance.below(count as u64) as usize;
                for offset in 0..RUN.min(count - taken) {
                    sum += differences[(start + offset) % count];
                }
                taken += RUN;
            }
            sum
        })
        .collect();
    let [low, high] = ends(sums, tail);
    Interval { mean: total, low, high }
}

/// Least windows of an interval over windows.
pub const MIN_WINDOWS: usize = 20;

/// The mean of a figure over windows, each of which is drawn for itself, with replacement, percentiles; without ends
/// where there are fewer than [`MIN_WINDOWS`].
pub fn over_windows(figures: &[f64], seed: u64) -> Interval {
    let (count, mean) = (figures.len(), mean(figures));
    if count < MIN_WINDOWS {
        return Interval { mean, low: None, high: None };
    }
    let mut chance = Chance::new(seed);
    let mut draw = || (0..count).map(|_| figures[chance.below(count as u64) as usize]).sum::<f64>() / count as f64;
    let means: Vec<f64> = (0..DRAWS).map(|_| draw()).collect();
    let [low, high] = ends(means, BEYOND);
    Interval { mean, low, high }
}

/// A line of the table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TableLine {
    /// Policy or family.
    pub name: String,
    /// Its setting in each window; once, where they are all the same.
    pub detail: String,
    /// What it was worth over all tests.
    pub measures: Measures,
    /// The policy's net less its own over all tests; absent for the policy itself.
    pub against: Option<Interval>,
    /// Utility in each window.
    pub windows: Vec<f64>,
    /// Net in each window.
    #[serde(default)]
    pub nets: Vec<f64>,
    /// Its own net a window.
    #[serde(default)]
    pub by_window: Option<Interval>,
    /// Cumulative net at the end of every block, for plots.
    pub path: Vec<f64>,
}

/// Runs of one name over all windows.
#[derive(Clone, Debug)]
pub struct PolicyRuns {
    /// Policy or family.
    pub name: String,
    /// Its settings, one a window.
    pub details: Vec<String>,
    /// One a window.
    pub runs: Vec<Vec<Passed>>,
}

/// The table: the first runs are the policy's, all others are compared with it.
pub fn table(all: &[PolicyRuns], money: f64, seed: u64) -> Vec<TableLine> {
    let policy = all.first().map(|first| blocks(&first.runs, money)).unwrap_or_default();
    let line = |(index, runs): (usize, &PolicyRuns)| {
        let nets = blocks(&runs.runs, money);
        let mut details = runs.details.clone();
        if details.windows(2).all(|pair| pair[0] == pair[1]) {
            details.truncate(1);
        }
        let path = nets.iter().scan(0.0, |sum, net| {
            *sum += net;
            Some(*sum)
        });
        let worth = |of: fn(&Tally) -> i128| -> Vec<f64> {
            let of_run = |run: &Vec<Passed>| run.iter().map(|bar| of(&bar.tally)).sum::<i128>() as f64 / money;
            runs.runs.iter().map(of_run).collect()
        };
        let by_window = over_windows(&worth(Tally::net), seed);
        TableLine {
            name: runs.name.clone(),
            detail: details.join("; "),
            measures: measure(&runs.runs, money),
            against: (index > 0).then(|| compare(&policy, &nets, seed)),
            windows: worth(Tally::utility),
            nets: worth(Tally::net),
            by_window: Some(by_window),
            path: path.collect(),
        }
    };
    all.iter().enumerate().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulation::Tally;

    #[test]
    fn windows_are_apart_and_in_order() {
        let walk = WalkForward { windows: 3, test: 1000, validation: 600, embargo: 50, refit: 1 };
        let windows = walk.windows(6000, 30).unwrap();
        assert_eq!(windows.last().unwrap().test, 5000..6000);
        for (index, window) in windows.iter().enumerate() {
            assert_eq!(window.validation.start - window.train.end, 50);
            assert_eq!(window.test.start - window.validation.end, 50);
            assert_eq!((window.test.len(), window.validation.len(), window.train.start), (1000, 600, 0));
            assert_eq!(window.test.start, 3000 + 1000 * index);
        }
        let says = |walk: WalkForward, bars| walk.windows(bars, 30).unwrap_err().to_string();
        assert_eq!(
            says(WalkForward { embargo: 29, ..walk }, 6000),
            "walk.embargo: must be at least the horizon of a decision, 30: 29"
        );
        let endless = says(WalkForward { embargo: usize::MAX / 2 + 1, ..walk }, 6000);
        assert_eq!(endless, "walk.test: the windows need too many bars, there are 6000");
        assert_eq!(says(walk, 4000), "walk.test: the windows need 4481 bars, there are 4000");
    }

    #[test]
    fn intervals_hold_what_they_say_and_a_tie_is_a_tie() {
        let mut chance = Chance::new(3);
        let mut noise = |by: f64| (0..400).map(|_| by + chance.normal() as f64 / 1000.0).collect::<Vec<_>>();
        let (first, second, better) = (noise(0.0), noise(0.0), noise(0.4));
        assert_eq!(compare(&first, &first, 1), Interval { mean: 0.0, low: Some(0.0), high: Some(0.0) });
        assert_eq!(compare(&first, &second, 1).verdict(), "tie");
        assert_eq!(compare(&better, &second, 1).verdict(), "better");
        assert_eq!(compare(&first, &better, 1).verdict(), "worse");
        assert_eq!(compare(&first, &better, 1), compare(&first, &better, 1));
        let interval = compare(&better, &second, 1);
        // Deviation of a sum of 400 differences: 20 times the root of 2.
        let width = interval.high.unwrap() - interval.low.unwrap();
        assert!((width / (2.0 * 1.96 * 20.0 * 2f64.sqrt()) - 1.0).abs() < 0.25, "{interval:?}");
    }

    #[test]
    fn a_mean_over_windows_has_an_interval_from_twenty_on() {
        let mut chance = Chance::new(9);
        let figures: Vec<f64> = (0..400).map(|_| 3.0 + chance.normal() as f64 / 1000.0).collect();
        let found = over_windows(&figures, 1);
        let width = found.high.unwrap() - found.low.unwrap();
        assert!((found.mean - 3.0).abs() < 0.2 && (width / (2.0 * 1.96 / 20.0) - 1.0).abs() < 0.25, "{found:?}");
        assert_eq!(over_windows(&figures[..MIN_WINDOWS - 1], 1).verdict(), TOO_FEW);
        assert_eq!(over_windows(&figures[..MIN_WINDOWS], 1).verdict(), "better");
        assert_eq!(over_windows(&[], 1), Interval { mean: 0.0, low: None, high: None });
    }

    #[test]
    fn too_few_blocks_have_no_interval_and_no_verdict() {
        let mut chance = Chance::new(5);
        let better: Vec<f64> = (0..MIN_BLOCKS).map(|_| 5.0 + chance.normal() as f64 / 1000.0).collect();
        let nothing = vec![0.0; MIN_BLOCKS];
        for count in [0, 1, 6, MIN_BLOCKS - 1] {
            let found = compare(&better[..count], &nothing[..count], 1);
            assert_eq!((found.low, found.high, found.verdict()), (None, None, TOO_FEW), "{count}");
            assert_eq!(found.mean, better[..count].iter().sum::<f64>());
        }
        let enough = compare(&better, &nothing, 1);
        assert!(enough.verdict() == "better" && enough.low < enough.high, "{enough:?}");
    }

    #[test]
    fn a_hole_ends_what_was_there_before_it() {
        let fill = crate::quoter::Fill { price: 100, size: 1 };
        let mut run: Vec<Passed> = (0..20).map(|at| Passed { price: 100 + at, ..Passed::default() }).collect();
        run[0].begins = true;
        // A fill gains a hundredth a bar.
        run[2].fill = Some(fill);
        let gain = |run: &[Passed]| measure(&[run.to_vec()], 1.0).markout;
        assert!((gain(&run) - 700.0).abs() < 1e-6, "{}", gain(&run));
        // As a walk over a hole marks them: nothing stands in bar 10, and the maker begins after it.
        (run[10].begins, run[11].begins) = (true, true);
        // The bars after it are another price, which no fill before it is held against.
        run[10..].iter_mut().for_each(|bar| bar.price *= 50);
        for at in 5..10 {
            run[at].fill = Some(fill);
        }
        assert!((gain(&run) - 700.0).abs() < 1e-6, "{}", gain(&run));
        // The last bar before a hole is looked at, and the first of a maker that begins after it is no hole.
        run[4].fill = Some(fill);
        assert!((gain(&run) - 800.0).abs() < 1e-6, "{}", gain(&run));
        run[11].fill = Some(crate::quoter::Fill { price: 50 * 111, size: -1 });
        assert!((gain(&run) - (700.0 + 900.0 - 1e4 * 5.0 / 111.0) / 3.0).abs() < 1e-6, "{}", gain(&run));
    }

    #[test]
    fn every_maker_that_began_is_held_against_what_it_began_with() {
        let bar = |value, begins| Passed { value, held: 100, begins, ..Passed::default() };
        // Ends at 90, 100 and 130: of the maker before the hole, of the bar in which nothing stood, and of the next.
        let parted = [bar(100, true), bar(80, false), bar(90, false), bar(100, true), bar(110, true), bar(130, false)];
        assert_eq!(measure(&[parted.to_vec()], 1.0).against_hold, -10.0 + 0.0 + 30.0);
        let whole = parted.map(|bar| Passed { begins: false, ..bar });
        assert_eq!(measure(&[whole.to_vec()], 1.0).against_hold, 30.0);
        assert_eq!(measure(&[whole.to_vec(), parted.to_vec()], 1.0).against_hold, 50.0);
    }

    #[test]
    fn measures_by_hand() {
        let bar = |fees, lost, costs| Passed {
            tally: Tally { fees, lost, costs, penalty: 1 },
            value: 90,
            held: 100,
            active: fees > 0,
            ..Passed::default()
        };
        let run: Vec<Passed> = [bar(10, 3, 0), bar(0, 4, 2)].into();
        let found = measure(&[run], 1.0);
        assert_eq!((found.fees, found.lost, found.costs, found.net, found.utility), (10.0, 7.0, 2.0, 1.0, -1.0));
        assert_eq!((found.against_hold, found.impermanent, found.active, found.cvar), (-10.0, 18.0, 0.5, 1.0));
    }
}
