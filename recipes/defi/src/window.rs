//! What a policy sees: a window of bars as tokens of one small vocabulary, whatever the instrument. Every bin is free
//! of scale (returns by recent deviation, volumes by their recent mean), all arithmetic is in integers, and a window
//! is a function of the last [`HISTORY`] bars and of the maker's own state, so anyone who has those gets the same ids.

use super::DefiError;
use super::market::{Bar, DAY};

/// Bars that are spelt out in a window.
pub const SPELT: usize = 24;
/// Bars over which the deviation of returns is taken.
const SHORT: usize = 32;
/// Bars over which the usual deviation is taken, which tells the regime.
const LONG: usize = 256;
/// Bars over which the usual volume is taken.
const VOLUME: usize = 64;
/// Bars that a window is a function of: those spelt out or averaged over, and one before the first return.
pub const HISTORY: usize = LONG + 1;

/// Units of a return: parts of 1e-9 of the price.
pub const RETURN_ONE: i128 = 1_000_000_000;

/// Upper ends of bins, the last bin is open. Returns by deviation, in thousandths.
const RETURNS: [i128; 14] = [-3000, -2000, -1500, -1000, -600, -300, -100, 100, 300, 600, 1000, 1500, 2000, 3000];
/// Height of a bar by deviation, in thousandths.
const RANGES: [i128; 7] = [500, 900, 1300, 1800, 2400, 3200, 4500];
/// Volume by its mean, in thousandths.
const VOLUMES: [i128; 7] = [250, 500, 750, 1000, 1400, 2000, 3500];
/// Who bought, in thousandths of the volume: sellers lead, neither, buyers lead.
const FLOWS: [i128; 2] = [450, 550];
/// Deviation by usual deviation, in thousandths.
const REGIMES: [i128; 7] = [400, 600, 800, 1000, 1250, 1600, 2200];
/// Inventory by its limit, or the deviation of a position's share from half by half, in thousandths.
const INVENTORIES: [i128; 8] = [-750, -450, -200, -50, 50, 200, 450, 750];
/// Where the price is in a position's range, in thousandths of its width; no position and out of range are bins of
/// their own.
const PLACES: [i128; 7] = [80, 200, 350, 500, 650, 800, 920];

/// A family of tokens: how many there are.
const FAMILIES: [(&str, u32); 12] = [
    ("special", 3),
    ("kind", 2),
    ("hour", 8),
    ("regime", 8),
    ("gap", 2),
    ("return", 15),
    ("range", 8),
    ("volume", 24),
    ("inventory", 9),
    ("place", 11),
    ("quote", 71),
    ("range action", 20),
];

/// Ids there are: the vocabulary of a market's base.
pub const VOCABULARY: u32 = {
    let (mut total, mut family) = (0, 0);
    while family < FAMILIES.len() {
        total += FAMILIES[family].1;
        family += 1;
    }
    total
};

/// Begins every window. Id 0 is unused, id 2 ends (and is never chosen).
const BEGIN: u32 = 1;

/// First id of a family.
const fn first(family: usize) -> u32 {
    let (mut id, mut at) = (0, 0);
    while at < family {
        id += FAMILIES[at].1;
        at += 1;
    }
    id
}

/// First id of the quoter's actions.
pub const QUOTES: u32 = first(10);
/// First id of the actions of a provider of liquidity.
pub const RANGE_ACTIONS: u32 = first(11);

/// Which maker decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Maker {
    /// Quotes on both sides of an order book.
    Quoter,
    /// Liquidity in a range of a pool.
    Provider,
}

/// The part of a window that is the maker's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Own {
    /// Inventory by its limit in thousandths, longer is positive.
    pub inventory: i128,
    /// Where the price is in the position's range, in thousandths of its width; `None` without a position.
    pub place: Option<i128>,
}

/// What is known of a bar when it has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Feature {
    /// Deviation of the last returns, this bar's among them, in 1e-9.
    pub sigma: i128,
    /// Usual deviation, likewise.
    pub usual: i128,
    returned: u32,
    ranged: u32,
    volume: u32,
    gap: bool,
    hour: u32,
}

fn bin(value: i128, ends: &[i128]) -> u32 {
    ends.iter().filter(|&&end| value >= end).count() as u32
}

/// Integer square root, rounded down.
pub fn root(value: i128) -> i128 {
    i128::try_from(value.max(0).unsigned_abs().isqrt()).unwrap_or(i128::MAX)
}

/// Return of a bar over the one before, in 1e-9, at most tenfold.
fn returned(before: &Bar, bar: &Bar) -> i128 {
    let (from, to) = (i128::from(before.close), i128::from(bar.close));
    ((to - from) * RETURN_ONE / from.max(1)).clamp(-10 * RETURN_ONE, 10 * RETURN_ONE)
}

/// Features of bars; none for the first [`HISTORY`] less one, which have not enough before them.
///
/// # Errors
/// Volumes beyond range.
pub fn features(bars: &[Bar]) -> Result<Vec<Option<Feature>>, DefiError> {
    let returns: Vec<i128> =
        bars.iter().enumerate().map(|(at, bar)| if at == 0 { 0 } else { returned(&bars[at - 1], bar) }).collect();
    let volumes: Vec<i128> = bars
        .iter()
        .map(|bar| i128::try_from(bar.volume).ok().filter(|&volume| volume < i128::MAX >> 40))
        .collect::<Option<_>>()
        .ok_or(DefiError::Overflow("volume of a bar"))?;
    let step = super::market::gaps(&bars.iter().map(|bar| bar.time).collect::<Vec<_>>()).map_or(0, |gaps| gaps.step);
    // Sums over the last bars, this one included, by adding one and taking one away.
    let (mut short, mut long, mut traded) = (0, 0, 0);
    let mut features = Vec::with_capacity(bars.len());
    for (at, bar) in bars.iter().enumerate() {
        let square = returns[at] * returns[at];
        // Of the bars before this one.
        let (before, mean) = (root(short / SHORT as i128), traded / VOLUME as i128);
        short += square;
        long += square;
        traded += volumes[at];
        if at >= SHORT {
            short -= returns[at - SHORT] * returns[at - SHORT];
        }
        if at >= LONG {
            long -= returns[at - LONG] * returns[at - LONG];
        }
        if at >= VOLUME {
            traded -= volumes[at - VOLUME];
        }
        if at + 1 < HISTORY {
            features.push(None);
            continue;
        }
        let scale = before.max(1);
        let height = i128::from(bar.high - bar.low) * RETURN_ONE / i128::from(bar.low.max(1));
        let lean = match bar.bought {
            Some(bought) if bar.volume > 0 => i128::try_from(bought).unwrap_or(0) * 1000 / volumes[at],
            Some(_) => 500,
            // Where takers are not told apart, the return says who led.
            None => 500 + (returns[at] * 200 / scale).clamp(-500, 500),
        };
        let amount = volumes[at] * 1000 / mean.max(1);
        features.push(Some(Feature {
            sigma: root(short / SHORT as i128).max(1),
            usual: root(long / LONG as i128).max(1),
            returned: bin(returns[at] * 1000 / scale, &RETURNS),
            ranged: bin(height * 1000 / scale, &RANGES),
            volume: bin(amount, &VOLUMES) * 3 + bin(lean, &FLOWS),
            gap: bar.time - bars[at - 1].time > step,
            hour: (bar.time.rem_euclid(DAY) / (DAY / 8)) as u32,
        }));
    }
    Ok(features)
}

/// Bars before which no window ends.
pub const fn warm_up() -> usize {
    HISTORY + SPELT
}

/// Ids of the window that ends with bar `at`; `None` before [`warm_up`].
pub fn ids(features: &[Option<Feature>], at: usize, maker: Maker, own: Own) -> Option<Vec<u32>> {
    let spelt = features.get(at.checked_sub(SPELT - 1)?..=at)?;
    let last = (*spelt.last()?)?;
    let gap = spelt.iter().any(|feature| feature.is_some_and(|feature| feature.gap));
    let kind = match maker {
        Maker::Quoter => 0,
        Maker::Provider => 1,
    };
    let regime = bin(last.sigma * 1000 / last.usual, &REGIMES);
    let mut ids = vec![BEGIN, first(1) + kind, first(2) + last.hour, first(3) + regime, first(4) + u32::from(gap)];
    for feature in spelt {
        let feature = (*feature)?;
        ids.extend([first(5) + feature.returned, first(6) + feature.ranged, first(7) + feature.volume]);
    }
    ids.push(first(8) + bin(own.inventory, &INVENTORIES));
    ids.push(
        first(9)
            + match own.place {
                None => 0,
                Some(place) if place < 0 => 1,
                Some(place) if place > 1000 => 10,
                Some(place) => 2 + bin(place, &PLACES),
            },
    );
    Some(ids)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generated::{RandomWalk, USUAL, bars};

    #[test]
    fn families_fill_the_vocabulary_and_windows_stay_in_theirs() {
        assert_eq!((RANGE_ACTIONS - QUOTES) as usize, crate::quoter::ACTIONS);
        assert!((VOCABULARY - RANGE_ACTIONS) as usize >= crate::range::ACTIONS);
        assert_eq!(RANGE_ACTIONS + 20, VOCABULARY);
        assert_eq!(FAMILIES[5].1 as usize, RETURNS.len() + 1);
        assert_eq!((FAMILIES[6].1 as usize, FAMILIES[7].1 as usize), (RANGES.len() + 1, 3 * (VOLUMES.len() + 1)));
        assert_eq!((FAMILIES[3].1 as usize, FAMILIES[8].1 as usize), (REGIMES.len() + 1, INVENTORIES.len() + 1));
        assert_eq!(FAMILIES[9].1 as usize, PLACES.len() + 4);
        let bars = bars(3, 400, USUAL);
        let features = features(&bars).unwrap();
        let own = Own { inventory: 0, place: None };
        assert!((0..warm_up() - 2).all(|at| ids(&features, at, Maker::Quoter, own).is_none()));
        let window = ids(&features, 399, Maker::Quoter, own).unwrap();
        assert_eq!(window.len(), 5 + 3 * SPELT + 2);
        assert!(window.iter().all(|&id| id > 0 && id < QUOTES));
        for (place, id) in [(None, 0), (Some(-1), 1), (Some(0), 2), (Some(1000), 9), (Some(1001), 10)] {
            let window = ids(&features, 399, Maker::Provider, Own { inventory: 0, place }).unwrap();
            assert_eq!(*window.last().unwrap(), first(9) + id);
        }
    }

    #[test]
    fn a_window_is_a_function_of_the_last_bars_and_free_of_scale() {
        let all = bars(5, 700, USUAL);
        let own = Own { inventory: -300, place: Some(500) };
        let window = |bars: &[Bar]| ids(&features(bars).unwrap(), bars.len() - 1, Maker::Quoter, own);
        let whole = window(&all).unwrap();
        assert_eq!(window(&all[700 - warm_up()..]).unwrap(), whole);
        // A bar more than is needed changes nothing, whatever is in it; one of those that are changes the window.
        let mut other = all[699 - warm_up()..].to_vec();
        other[0].close *= 2;
        assert_eq!(window(&other).unwrap(), whole);
        let end = all.len() - 1;
        let mut later = all.clone();
        later[end].close = later[end].close * 21 / 20;
        later[end].high = later[end].high * 21 / 20;
        assert_ne!(window(&later).unwrap(), whole);
        // A coin at a thousand times the price: the same tokens but for rounding of prices.
        let dear = bars(5, 700, RandomWalk { price: USUAL.price * 1000, ..USUAL });
        assert_eq!(window(&dear).unwrap(), whole);
    }
}
