//! A quoter on an order book, simulated on bars: the public controller that turns an action into two quotes within
//! hard limits, and what the next bar does to them. All state is integers.
//!
//! A decision at bar t sees bars up to t and its quotes stand in bar t + latency. A quote is filled by what takers traded
//! at its price and beyond, which stands for a bar's trades being spread evenly over its prices: behind a queue at its
//! own price, and beyond that only where the price trades through it; never at a better price than its own, and never
//! on both sides of one bar: then only the side counts that the bar's close makes the worse one.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::DefiError;
use super::market::Bar;
use super::rules::BookRules;
use super::window::RETURN_ONE;

/// Multiples of the controller's half-spread that a policy chooses from, in eighths.
pub const SPREADS: [i128; 7] = [4, 6, 8, 12, 16, 24, 40];
/// Multiples of the inventory skew, in quarters: at 4, full inventory moves the quotes by a half-spread.
pub const SKEWS: [i128; 5] = [0, 2, 4, 8, 16];
/// Parts of the controller's size that a quote may have, in units of 1 / [`WHOLE`].
pub const SIZES: [i128; 2] = [1, 2];
/// The part that is the controller's whole size.
pub const WHOLE: i128 = 2;
/// Actions: no quotes, then every size with every spread and every skew.
pub const ACTIONS: usize = 1 + SIZES.len() * SPREADS.len() * SKEWS.len();
/// Units of fees and of queue shares in one.
const MILLION: i128 = 1_000_000;

/// The public controller and its limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QuoteController {
    /// Half-spread at no volatility, 1e-9 of the price.
    pub base: i128,
    /// What a unit of deviation adds to the half-spread, millionths.
    pub slope: i128,
    /// Size of a quote, units of 1e-8.
    pub size: i128,
    /// Limit of the inventory on either side, units of 1e-8.
    pub max_inventory: i128,
    /// Least distance of a quote from the last price, 1e-9 of the price.
    pub min_half_spread: i128,
}

/// Two quotes; a size of 0 is no quote. Prices in units of 1e-10, sizes in units of 1e-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quotes {
    /// Price at which the quoter buys.
    pub bid: u64,
    /// Price at which it sells.
    pub ask: u64,
    /// How much it buys at most.
    pub bid_size: i128,
    /// How much it sells at most.
    pub ask_size: i128,
}

/// Half-spread, inventory skew and size in the units of the controller: what an action, or a baseline, asks it for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuoteShape {
    /// Half-spread, 1e-9 of the price.
    pub half: i128,
    /// How far both quotes move down at full inventory, 1e-9 of the price.
    pub shift: i128,
    /// Part of the controller's size, in units of 1 / [`WHOLE`].
    pub size: i128,
}

impl QuoteController {
    /// Checks that the numbers make sense.
    ///
    /// # Errors
    /// Which one does not.
    pub fn check(&self, place: &str) -> Result<(), DefiError> {
        let fine = |name: &str, value: i128, least: i128, most: i128| {
            let message = format!("must be from {least} to {most}: {value}");
            if (least..=most).contains(&value) {
                Ok(())
            } else {
                Err(DefiError::setting(format!("{place}.{name}"), message))
            }
        };
        fine("base", self.base, 0, RETURN_ONE / 10)?;
        fine("slope", self.slope, 0, 1000 * MILLION)?;
        fine("size", self.size, 1, 1 << 50)?;
        fine("max_inventory", self.max_inventory, self.size, 1 << 50)?;
        fine("min_half_spread", self.min_half_spread, 1, RETURN_ONE / 10)
    }

    /// What an action asks for at a deviation of returns; `None` is no quotes.
    pub fn shape(&self, action: usize, sigma: i128) -> Option<QuoteShape> {
        let listed = action.checked_sub(1)?;
        let (rest, skew) = (listed / SKEWS.len(), SKEWS[listed % SKEWS.len()]);
        let (size, spread) = (SIZES[rest / SPREADS.len()], SPREADS[rest % SPREADS.len()]);
        let half = (self.base + self.slope * sigma / MILLION) * spread / 8;
        Some(QuoteShape { half, shift: half * skew / 4, size })
    }

    /// The quotes for what is asked, within the limits, around the last price; prices are rounded away from it to
    /// steps of `tick`.
    pub fn quotes(&self, asked: QuoteShape, close: u64, inventory: i128, tick: u64) -> Quotes {
        let shift = asked.shift * inventory.clamp(-self.max_inventory, self.max_inventory) / self.max_inventory;
        let least = self.min_half_spread;
        // Below a tenth of the price nothing is asked for in earnest, and prices stay positive.
        let distance = |wanted: i128| wanted.clamp(least, RETURN_ONE / 2);
        let (below, above) = (distance(asked.half.max(least) + shift), distance(asked.half.max(least) - shift));
        let (price, step) = (i128::from(close), i128::from(tick.max(1)));
        let bid = price * (RETURN_ONE - below) / RETURN_ONE / step * step;
        let ask = (price * (RETURN_ONE + above) + RETURN_ONE - 1) / RETURN_ONE;
        let ask = (ask + step - 1) / step * step;
        let unit = |price: i128| u64::try_from(price.max(1)).unwrap_or(u64::MAX);
        let size = (self.size * asked.size + WHOLE - 1) / WHOLE;
        Quotes {
            bid: unit(bid),
            ask: unit(ask),
            bid_size: size.min(self.max_inventory - inventory).max(0),
            ask_size: size.min(self.max_inventory + inventory).max(0),
        }
    }
}

/// What the quoter has. Money is in units of 1e-18 (a price times a size).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuoterAccount {
    /// Money.
    pub cash: i128,
    /// What is held, units of 1e-8.
    pub inventory: i128,
}

impl QuoterAccount {
    /// Worth at a price.
    pub fn equity(&self, price: u64) -> i128 {
        self.cash + self.inventory * i128::from(price)
    }
}

/// One fill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fill {
    /// Price, units of 1e-10.
    pub price: u64,
    /// What was bought (positive) or sold, units of 1e-8.
    pub size: i128,
}

/// What a bar did to quotes: at most one fill, and what the exchange took or gave for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Filled {
    /// The fill.
    pub fill: Option<Fill>,
    /// Fee (positive) or rebate, units of 1e-18.
    pub fee: i128,
}

/// Lets a bar trade against quotes.
///
/// # Errors
/// Amounts beyond range.
pub fn meet(account: &mut QuoterAccount, quotes: &Quotes, bar: &Bar, rules: &BookRules) -> Result<Filled, DefiError> {
    let (bid, ask) = (quotes.bid, quotes.ask);
    // What sellers took and what buyers took; where the bar does not say, half each.
    let lifted = bar.bought.unwrap_or(bar.volume / 2);
    let (hit, lifted) = (signed(bar.volume.saturating_sub(lifted))?, signed(lifted)?);
    let steps = |from: u64, to: u64| to.saturating_sub(from) / rules.tick.max(1);
    let mut bought =
        quotes.bid_size.min(reached(bar, steps(bar.low, bid), bar.low <= bid, bar.high < bid, hit, rules)?);
    let mut sold =
        quotes.ask_size.min(reached(bar, steps(ask, bar.high), bar.high >= ask, bar.low > ask, lifted, rules)?);
    if bought > 0 && sold > 0 {
        // What came last in the bar is not known: the fill that lost more by its close is the one.
        let (gain, other) = (i128::from(bar.close) - i128::from(bid), i128::from(ask) - i128::from(bar.close));
        if gain <= other { sold = 0 } else { bought = 0 }
    }
    let fill = match (bought, sold) {
        (0, 0) => return Ok(Filled::default()),
        (size, 0) => Fill { price: bid, size },
        (_, size) => Fill { price: ask, size: -size },
    };
    let over = || DefiError::Overflow("account of a quoter");
    let value = fill.size.checked_mul(i128::from(fill.price)).ok_or_else(over)?;
    // Rounded up, for the exchange.
    let fee =
        (value.abs().checked_mul(i128::from(rules.maker_fee)).ok_or_else(over)? + MILLION - 1).div_euclid(MILLION);
    account.cash = account.cash.checked_sub(value).and_then(|cash| cash.checked_sub(fee)).ok_or_else(over)?;
    account.inventory += fill.size;
    Ok(Filled { fill: Some(fill), fee })
}

fn signed(size: u128) -> Result<i128, DefiError> {
    i128::try_from(size).map_err(|_| DefiError::Overflow("volume of a bar"))
}

/// How much of what takers traded on one side of a bar reaches a quote that the price came to, and went `beyond` by so
/// many steps; `past` is whether it was beyond it all along.
fn reached(bar: &Bar, beyond: u64, came: bool, past: bool, traded: i128, rules: &BookRules) -> Result<i128, DefiError> {
    if !came {
        return Ok(0);
    }
    let steps = (bar.high - bar.low) / rules.tick.max(1) + 1;
    // Prices of a bar are few against what is traded: no part of a step is lost.
    let own = if past { 0 } else { i128::from(rules.queue) };
    let through = if beyond >= rules.through { beyond.min(steps - u64::from(!past)) } else { 0 };
    let weight = own + i128::from(through) * i128::from(rules.share);
    let reaches = traded.checked_mul(weight).ok_or(DefiError::Overflow("volume of a bar"))?;
    Ok(reaches / (i128::from(steps) * MILLION))
}

/// Gain of a fill against a later price, in millionths of its price, before fees: its markout.
pub fn markout(fill: &Fill, later: u64) -> f64 {
    let moved = later as f64 / fill.price as f64 - 1.0;
    1e6 * moved * fill.size.signum() as f64
}

#[cfg(test)]
mod tests;
