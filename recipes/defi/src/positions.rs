//! What a position in a pool earned and lost while it was there, by the pool's events: fees and losses of one path of
//! the price, which is the recorded one ([`super::replay`]).

use ruint::aliases::U256;

use super::DefiError;
use super::data::{OwnedPosition, PositionMoment};
use super::market::{Action, Event};
use super::pool::{held, sqrt_at};
use super::range::{RangePosition, loss};
use super::replay::{Fees, Terms, exact};

/// What a position came to. Values are in money's smallest unit, at the price of their time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PositionOutcome {
    /// Fees of each token, to the unit.
    pub fees: Fees,
    /// Tokens that went in, and that come out again without fees.
    pub tokens: [Fees; 2],
    /// Fees, at the end.
    pub value: u128,
    /// What was collected, at the end, where that is known.
    pub collected: Option<u128>,
    /// Loss against rebalancing at every swap (LVR).
    pub lost: i128,
    /// What comes out with fees, less what went in, at the end's price.
    pub against_hold: i128,
    /// Swaps while it was there.
    pub swaps: usize,
}

/// Replays a position over the events of its pool.
///
/// # Errors
/// A position that was there before the first swap that is known, or that goes before it comes; amounts beyond range.
pub fn replay(events: &[Event], terms: &Terms, owned: &OwnedPosition) -> Result<PositionOutcome, DefiError> {
    let wrong = |message: &str| DefiError::setting(format!("position {}", owned.id), message);
    let (from, to) = (
        place(events, owned, owned.opened, true),
        match owned.closed {
            Some(closed) => place(events, owned, closed, false),
            None => events.len(),
        },
    );
    let turned = match (owned.opened, owned.closed) {
        (PositionMoment::Event(opened), Some(PositionMoment::Event(closed))) => closed < opened,
        (PositionMoment::Time(opened), Some(PositionMoment::Time(closed))) => closed < opened,
        _ => false,
    };
    if turned || to < from {
        return Err(wrong("goes before it comes"));
    }
    let is_swap = |event: &&Event| matches!(event.action, Action::Swap { .. });
    let before = events[..from].iter().rposition(|event| is_swap(&event));
    let before =
        before.ok_or_else(|| wrong("was there before the first swap of the market, from which on all is known"))?;
    let path = &events[before..to];
    let found = exact(path, terms, owned.ticks, owned.liquidity)?;
    let prices: Vec<U256> = path
        .iter()
        .filter_map(|event| match event.action {
            Action::Swap { sqrt_price, .. } => Some(U256::from_limbs(sqrt_price)),
            Action::Liquidity { .. } => None,
        })
        .collect();
    let range = (sqrt_at(owned.ticks.0), sqrt_at(owned.ticks.1));
    let (first, last) = (prices[0], prices[prices.len() - 1]);
    let tokens = [held(first, range, owned.liquidity, true)?, held(last, range, owned.liquidity, false)?];
    let position = RangePosition { lower: owned.ticks.0, upper: owned.ticks.1, liquidity: owned.liquidity };
    let mut lost = 0;
    for pair in prices.windows(2) {
        lost += loss(terms, &position, pair[0], pair[1])?;
    }
    let value = |tokens: Fees| terms.value(tokens, last);
    let signed = |value: u128| i128::try_from(value).map_err(|_| DefiError::Overflow("value"));
    let fees = value(found.fees)?;
    let against_hold = signed(fees)? + signed(value(tokens[1])?)? - signed(value(tokens[0])?)?;
    let collected = owned.collected.map(value).transpose()?;
    Ok(PositionOutcome { fees: found.fees, tokens, value: fees, collected, lost, against_hold, swaps: found.swaps })
}

/// The first event that a position of this moment sees, or the first that it no longer sees. At a time it is the event
/// of its own liquidity, if there is one, and otherwise whatever happens at it or later.
fn place(events: &[Event], owned: &OwnedPosition, moment: PositionMoment, comes: bool) -> usize {
    match moment {
        PositionMoment::Event(order) => events.partition_point(|event| event.order < order),
        PositionMoment::Time(time) => {
            let start = events.partition_point(|event| event.time < time);
            let own = |event: &Event| match event.action {
                Action::Liquidity { lower, upper, delta } => {
                    (lower, upper) == owned.ticks && (delta > 0) == comes && delta.unsigned_abs() == owned.liquidity
                }
                Action::Swap { .. } => false,
            };
            let at_once = events[start..].iter().take_while(|event| event.time == time);
            start + at_once.clone().position(own).unwrap_or(0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::positions;
    use crate::replay::{FeeModel, estimate};
    use crate::{Market, import};

    const TERMS: Terms = Terms { fee: 500, spacing: 10, decimals: [6, 18], money: 0 };

    /// Rows of the chain, Ethereum's blocks 18937716 to 18937743: a swap, and a position of one block.
    const EVENTS: &str = include_str!("positions/events.csv");
    const OWNED: &str = "tick_lower,tick_upper,liquidity,opened,closed,fees0,fees1\n\
        199050,199060,374209058380740165632,18937743:0:2,18937743:2:43,55365526,0\n";

    fn at(name: &str, text: &str, folder: &tempfile::TempDir) -> std::path::PathBuf {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    fn events(text: &str) -> Vec<Event> {
        let folder = tempfile::tempdir().unwrap();
        let Market::Events(events) = import(&[at("e.csv", text, &folder)], None).unwrap().market else {
            panic!("events")
        };
        events
    }

    fn owned(text: &str) -> Vec<OwnedPosition> {
        let folder = tempfile::tempdir().unwrap();
        positions(&at("p.csv", text, &folder)).unwrap()
    }

    #[test]
    fn a_position_of_one_block_was_paid_what_it_says() {
        let (events, owned) = (events(EVENTS), owned(OWNED));
        let found = replay(&events, &TERMS, &owned[0]).unwrap();
        assert_eq!((Some(found.fees), found.swaps), (owned[0].collected, 1));
        // What it put in and took out is in its own events, too: within a unit of what it says.
        let close = |ours: Fees, theirs: Fees| ours.iter().zip(theirs).all(|(a, b)| a.abs_diff(b) <= 1);
        assert!(close(found.tokens[0], [8_166_231_900_433, 327_623_151_772_061_100_295]), "{:?}", found.tokens);
        assert!(close(found.tokens[1], [8_276_907_587_154, 278_838_275_305_898_322_693]), "{:?}", found.tokens);
        assert!(found.lost > 0 && found.value == 55_365_526);
        // By the clock its own events are found, though all is of one second.
        let timed =
            OWNED.replace("18937743:0:2", "2024-01-05 01:13:47").replace("18937743:2:43", "2024-01-05 01:13:47");
        assert_eq!(replay(&events, &TERMS, &self::owned(&timed)[0]).unwrap(), found);
        // Half as much in a pool that has not become another is paid half as much, as it would have been.
        let half = OWNED.replace("374209058380740165632", "187104529190370082816");
        let half = replay(&events, &TERMS, &self::owned(&half)[0]).unwrap();
        assert!((2 * half.fees[0]).abs_diff(found.fees[0]) <= 1, "{half:?}");
    }

    #[test]
    fn what_is_not_known_is_refused() {
        let events = events(EVENTS);
        let refused = |from: &str, to: &str| {
            replay(&events, &TERMS, &owned(&OWNED.replace(from, to))[0]).unwrap_err().to_string()
        };
        let early = refused("18937743:0:2", "18937000:0:0");
        assert_eq!(early, "position 1: was there before the first swap of the market, from which on all is known");
        assert_eq!(refused("18937743:2:43", "18937743:0:1"), "position 1: goes before it comes");
    }

    /// Positions that were opened and closed on a day of a real pool, with what Uniswap paid them: COLLECT less BURN of
    /// the same transaction. The day is there where its file is.
    #[test]
    fn all_that_came_and_went_on_a_day_were_paid_what_they_collected() {
        let Some(path) = crate::tests::real("uniswap-v3-ethereum-usdc-weth-2024-01-05.tick.csv.gz") else { return };
        let Market::Events(events) = import(&[path], None).unwrap().market else { panic!("events") };
        let all = owned(include_str!("positions/2024-01-05.csv"));
        assert_eq!(all.len(), 36);
        let (mut ours, mut theirs, mut share, mut volume, mut exactly) = (0u128, 0u128, 0u128, 0u128, 0);
        for owned in &all {
            let collected = owned.collected.unwrap();
            let found = replay(&events, &TERMS, owned).unwrap();
            for (found, collected) in found.fees.iter().zip(collected) {
                // 1e-5 dollars, 1e-8 ETH.
                assert!(found.abs_diff(collected) <= 10, "{}: {found} {collected}", owned.id);
            }
            exactly += usize::from(found.fees == collected);
            let order = |moment| match moment {
                PositionMoment::Event(order) => events.partition_point(|event| event.order < order),
                PositionMoment::Time(_) => unreachable!("the table has orders"),
            };
            let to = order(owned.closed.unwrap());
            let from = events[..order(owned.opened)].iter().rposition(|it| matches!(it.action, Action::Swap { .. }));
            let path = &events[from.unwrap()..to];
            let last = path.iter().rev().find_map(|event| match event.action {
                Action::Swap { sqrt_price, .. } => Some(U256::from_limbs(sqrt_price)),
                Action::Liquidity { .. } => None,
            });
            let value = |fees| TERMS.value(fees, last.unwrap()).unwrap();
            let by = |model| {
                let found = estimate(path, &[], &TERMS, owned.ticks, owned.liquidity, model);
                value(found.unwrap().0)
            };
            ours += value(found.fees);
            theirs += value(collected);
            share += by(FeeModel::SwapShare);
            volume += by(FeeModel::SwapVolume);
        }
        let off = |value: u128| value as f64 / theirs as f64 - 1.0;
        let [path, least] = [share, volume].map(|value| 100.0 * off(value));
        eprintln!(
            "{exactly} to the unit; {ours} of {theirs}; as backtests account {path:+.4} %, at least {least:+.1} %"
        );
        assert!(exactly == 29 && off(ours).abs() < 1e-6, "{exactly}: {ours} {theirs}");
        assert!(off(volume) < -0.4, "{}", off(volume));
        // Within a fiftieth of a percent, where a share of what was traded is 46 % short.
        assert!(off(share).abs() < 0.0002, "{}", off(share));
    }
}
