//! What to do next: by what each maker did on bars that nothing of it had seen, or nothing at all.
//!
//! Validation chooses a maker's setting and therefore flatters it; what counts here is its record over the tests of
//! windows that are past. Several makers are looked at, and the best of several is the best by luck, too: the interval of
//! each is widened by their number (Bonferroni). Where no interval lies above doing nothing, that is the advice.

use serde::{Deserialize, Serialize};

use super::evaluate::{Interval, MIN_BLOCKS, PolicyRuns, compare_at, utilities};

/// Chance that any maker's interval misses what is so, at either end; half of it, at the lower end, is the chance of
/// advising what is no better than nothing.
const LEVEL: f64 = 0.05;

/// What whoever follows the advice is called in the table.
pub const FOLLOWED: &str = "as advised";

/// What to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MakerAdvice {
    /// The maker to use; nothing where none has shown to be better than doing nothing.
    pub maker: Option<String>,
    /// What doing nothing is called.
    pub idle: String,
    /// The maker whose record is best, used or not.
    pub best: String,
    /// Its utility less that of doing nothing over all windows so far, with an interval that allows for the number of
    /// makers.
    pub record: Interval,
    /// Windows of the record.
    pub windows: usize,
    /// Makers that were looked at.
    pub makers: usize,
}

impl MakerAdvice {
    /// By the first `windows` tests of makers; those of `idle`, which is among them, are what they are held against.
    /// Nothing where there is no other maker.
    pub fn after(all: &[PolicyRuns], idle: usize, windows: usize, money: f64, seed: u64) -> Option<Self> {
        let nothing = utilities(&all.get(idle)?.runs[..windows], money);
        let others = || all.iter().enumerate().filter(|(at, _)| *at != idle).map(|(_, runs)| runs);
        let makers = others().count();
        let tail = LEVEL / (2.0 * makers.max(1) as f64);
        let record = |runs: &PolicyRuns| compare_at(&utilities(&runs.runs[..windows], money), &nothing, seed, tail);
        // By what they surely were worth; by the mean where that is not known. The first among equals.
        let worth = |found: &Interval| (found.low.unwrap_or(f64::NEG_INFINITY), found.mean);
        let mut best: Option<(&PolicyRuns, Interval)> = None;
        for runs in others() {
            let found = record(runs);
            if best.as_ref().is_none_or(|(_, most)| worth(&found) > worth(most)) {
                best = Some((runs, found));
            }
        }
        let (best, record) = best?;
        let sure = record.low.is_some_and(|low| low > 0.0);
        Some(Self {
            maker: sure.then(|| best.name.clone()),
            idle: all[idle].name.clone(),
            best: best.name.clone(),
            record,
            windows,
            makers,
        })
    }

    /// The runs of whoever follows the advice: in every window the maker that the record of the windows before it
    /// advises, in the first ones nothing.
    pub fn followed(all: &[PolicyRuns], idle: usize, money: f64, seed: u64) -> Option<PolicyRuns> {
        let windows = all.get(idle)?.runs.len();
        let mut found = PolicyRuns { name: FOLLOWED.to_owned(), details: Vec::new(), runs: Vec::new() };
        for window in 0..windows {
            let maker = Self::after(all, idle, window, money, seed)?.maker;
            let runs = maker.and_then(|maker| all.iter().find(|runs| runs.name == maker)).unwrap_or(&all[idle]);
            found.details.push(runs.name.clone());
            found.runs.push(runs.runs[window].clone());
        }
        Some(found)
    }

    /// In a sentence.
    pub fn text(&self) -> String {
        let Self { maker, idle, best, record, windows, makers } = self;
        let Interval { mean, low, high } = record;
        let allowed = format!("{makers} makers were compared, for which the interval allows");
        match (maker, low, high) {
            (Some(maker), Some(low), Some(high)) => format!(
                "Advice: {maker}. Over {windows} windows its utility was {mean:.2} above that of {idle}, [{low:.2}, \
                 {high:.2}]; {allowed}."
            ),
            (None, Some(low), Some(high)) => format!(
                "Advice: {idle}. No maker was surely better over {windows} windows; the nearest, {best}, had {mean:.2}, \
                 [{low:.2}, {high:.2}], more utility; {allowed}."
            ),
            _ => format!(
                "Advice: {idle}. The tests of {windows} windows are too few to tell any maker from it: an interval needs \
                 {MIN_BLOCKS} blocks."
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::evaluate::BLOCK;
    use super::super::simulation::{Passed, Tally};
    use super::*;

    /// Windows of twelve blocks with a utility a block, the first half of them above it by `noise`, the others below.
    fn maker(name: &str, worth: &[i128], noise: i128) -> PolicyRuns {
        let run = |worth: &i128| -> Vec<Passed> {
            let bar = |at: usize| {
                let swing = if at < 6 * BLOCK { noise } else { -noise };
                let fees = if at.is_multiple_of(BLOCK) { worth + swing } else { 0 };
                Passed { tally: Tally { fees, ..Tally::default() }, ..Passed::default() }
            };
            (0..12 * BLOCK).map(bar).collect()
        };
        PolicyRuns { name: name.to_owned(), details: Vec::new(), runs: worth.iter().map(run).collect() }
    }

    #[test]
    fn nothing_is_advised_until_a_record_says_otherwise() {
        let all = [maker("policy", &[-9, 5, 5, 5, 5, 5], 3), maker("nothing", &[0; 6], 0), maker("good", &[4; 6], 3)];
        let after = |windows| MakerAdvice::after(&all, 1, windows, 1.0, 1).unwrap();
        // Of two windows there is no interval yet.
        assert!(
            after(2).maker.is_none() && after(2).text().contains("Advice: nothing. The tests of 2 windows are too few")
        );
        assert_eq!((after(3).maker.as_deref(), after(3).record.mean), (Some("good"), 144.0));
        assert!(
            after(3).text().starts_with("Advice: good. Over 3 windows its utility was 144.00 above that of nothing")
        );
        let followed = MakerAdvice::followed(&all, 1, 1.0, 1).unwrap();
        assert_eq!(followed.details, ["nothing", "nothing", "nothing", "good", "good", "good"]);
        assert_eq!(followed.runs[3][0].tally.fees, 4 + 3);
    }

    #[test]
    fn what_was_good_by_luck_is_not_advised() {
        let all = [maker("nothing", &[0; 4], 0), maker("lucky", &[1; 4], 40)];
        let found = MakerAdvice::after(&all, 0, 4, 1.0, 1).unwrap();
        assert!(found.maker.is_none() && found.best == "lucky" && found.record.verdict() == "tie", "{found:?}");
        assert!(found.text().contains("the nearest, lucky, had 48.00, ["), "{}", found.text());
        // The more makers there are, the wider is what each must clear.
        let wide = |others: usize| {
            let mut all = vec![maker("nothing", &[0; 4], 0), maker("some", &[10; 4], 20)];
            all.extend((0..others).map(|_| maker("bad", &[-9; 4], 20)));
            MakerAdvice::after(&all, 0, 4, 1.0, 1).unwrap().record
        };
        assert!(wide(60).low.unwrap() < wide(0).low.unwrap());
        assert!(MakerAdvice::after(&[maker("nothing", &[0], 0)], 0, 1, 1.0, 1).is_none());
    }
}
