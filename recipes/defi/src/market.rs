//! What a market is made of, in exact units: times in microseconds, prices in units of 1e-10, sizes in units of 1e-8,
//! amounts of a pool's tokens in the token's own smallest unit. How files spell them is known to [`super::data`].

use std::collections::BTreeMap;

use ruint::aliases::U256;

use super::DefiError;
use super::pool::{MAX_TICK, MIN_TICK, sqrt_at};

/// Units of a price in one: enough for the ten decimals that the smallest listed prices have.
pub const PRICE_ONE: u64 = 10_000_000_000;
/// Units of a size in one, the smallest step of exchanges.
pub const SIZE_ONE: u128 = 100_000_000;
/// Microseconds in a minute.
pub const MINUTE: i64 = 60_000_000;
/// Microseconds in an hour.
pub const HOUR: i64 = 60 * MINUTE;
/// Microseconds in a day.
pub const DAY: i64 = 24 * HOUR;

/// What happened to a price between two times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bar {
    /// Its beginning, microseconds since 1970 (UTC).
    pub time: i64,
    /// First price, in units of 1e-10 as all prices.
    pub open: u64,
    /// Highest price.
    pub high: u64,
    /// Lowest price.
    pub low: u64,
    /// Last price.
    pub close: u64,
    /// What was traded, in units of 1e-8.
    pub volume: u128,
    /// The part of it that buyers took, where that is known.
    pub bought: Option<u128>,
}

/// Who took a trade.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Taker {
    /// The buyer.
    Buyer,
    /// The seller.
    Seller,
    /// Not told.
    Unknown,
}

/// One trade.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trade {
    /// Microseconds since 1970 (UTC).
    pub time: i64,
    /// Number that the exchange gave it.
    pub id: Option<u64>,
    /// Price in units of 1e-10.
    pub price: u64,
    /// Size in units of 1e-8.
    pub size: u128,
    /// Who took it.
    pub taker: Taker,
}

/// A minute of a concentrated-liquidity pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolMinute {
    /// Its beginning, microseconds since 1970 (UTC).
    pub time: i64,
    /// What the pool's reserves grew by, each token in its own smallest unit.
    pub net: [i128; 2],
    /// What was paid in, fees among it.
    pub paid: [u128; 2],
    /// First tick.
    pub open: i32,
    /// Highest tick.
    pub high: i32,
    /// Lowest tick.
    pub low: i32,
    /// Last tick.
    pub close: i32,
    /// Liquidity in range at its end.
    pub liquidity: u128,
}

/// What happened in a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A swap; amounts as the pool sees them, positive is paid in.
    Swap {
        /// Of each token.
        amounts: [i128; 2],
        /// Square root of the price afterwards, Q64.96.
        sqrt_price: [u64; 4],
    },
    /// Liquidity that came (positive) or went (negative) between two ticks.
    Liquidity {
        /// Lower tick.
        lower: i32,
        /// Upper tick.
        upper: i32,
        /// How much.
        delta: i128,
    },
}

/// An event of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// Microseconds since 1970 (UTC).
    pub time: i64,
    /// Block, place of the transaction in it and of the event in that: the order of events.
    pub order: [u64; 3],
    /// What happened.
    pub action: Action,
    /// Tick afterwards.
    pub tick: i32,
    /// Liquidity in range afterwards.
    pub liquidity: u128,
}

/// Prices, ticks and amounts below which all arithmetic has room: beyond any market there is.
const MAX_PRICE: u64 = 1 << 63;
const MAX_AMOUNT: u128 = 1 << 100;

impl Bar {
    /// Whether it is in range and holds together.
    pub fn is_sound(&self) -> bool {
        let spans = self.low <= self.open.min(self.close) && self.high >= self.open.max(self.close);
        spans && self.low > 0 && self.high < MAX_PRICE && self.bought.is_none_or(|bought| bought <= self.volume)
    }
}

impl Trade {
    /// Whether it is in range.
    pub fn is_sound(&self) -> bool {
        self.price > 0 && self.price < MAX_PRICE && self.size < MAX_AMOUNT
    }
}

impl PoolMinute {
    /// Whether it is in range and holds together.
    pub fn is_sound(&self) -> bool {
        let spans = self.low <= self.open.min(self.close) && self.high >= self.open.max(self.close);
        let ticks = self.low >= MIN_TICK && self.high < MAX_TICK;
        let amounts = self.paid.iter().all(|&paid| paid < MAX_AMOUNT) && self.liquidity < MAX_AMOUNT;
        spans && ticks && amounts && self.net.iter().all(|net| net.unsigned_abs() < MAX_AMOUNT)
    }
}

impl Event {
    /// Whether it is in range.
    pub fn is_sound(&self) -> bool {
        let ticks = MIN_TICK..MAX_TICK;
        let fits = match self.action {
            Action::Swap { amounts, sqrt_price } => {
                let price = U256::from_limbs(sqrt_price);
                let amounts = amounts.iter().all(|amount| amount.unsigned_abs() < MAX_AMOUNT);
                amounts && price >= sqrt_at(MIN_TICK) && price < sqrt_at(MAX_TICK)
            }
            Action::Liquidity { lower, upper, delta } => {
                lower < upper && lower >= MIN_TICK && upper <= MAX_TICK && delta.unsigned_abs() < MAX_AMOUNT
            }
        };
        fits && ticks.contains(&self.tick) && self.liquidity < MAX_AMOUNT
    }
}

/// A market over time, in time order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Market {
    /// Bars.
    Bars(Vec<Bar>),
    /// Trades.
    Trades(Vec<Trade>),
    /// Minutes of a pool.
    Minutes(Vec<PoolMinute>),
    /// Events of a pool.
    Events(Vec<Event>),
}

impl Market {
    /// What it is, in a word.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Bars(_) => "bars",
            Self::Trades(_) => "trades",
            Self::Minutes(_) => "minutes",
            Self::Events(_) => "events",
        }
    }

    /// Whether it is trades of which no seller took any.
    pub fn is_all_bought(&self) -> bool {
        matches!(self, Self::Trades(trades) if trades.iter().all(|trade| trade.taker == Taker::Buyer))
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        match self {
            Self::Bars(rows) => rows.len(),
            Self::Trades(rows) => rows.len(),
            Self::Minutes(rows) => rows.len(),
            Self::Events(rows) => rows.len(),
        }
    }

    /// Time of a row.
    pub fn time(&self, row: usize) -> i64 {
        match self {
            Self::Bars(rows) => rows[row].time,
            Self::Trades(rows) => rows[row].time,
            Self::Minutes(rows) => rows[row].time,
            Self::Events(rows) => rows[row].time,
        }
    }
}

/// Trades as bars of one minute; minutes without a trade have no bar.
///
/// # Errors
/// A volume beyond 128 bits.
pub fn bars_of_trades(trades: &[Trade]) -> Result<Vec<Bar>, DefiError> {
    let mut bars: Vec<Bar> = Vec::new();
    for trade in trades {
        let time = trade.time.div_euclid(MINUTE) * MINUTE;
        let price = trade.price;
        if bars.last().is_none_or(|bar| bar.time != time) {
            let bought = (trade.taker != Taker::Unknown).then_some(0);
            bars.push(Bar { time, open: price, high: price, low: price, close: price, volume: 0, bought });
        }
        let bar = bars.last_mut().expect("one was pushed");
        bar.high = bar.high.max(price);
        bar.low = bar.low.min(price);
        bar.close = price;
        bar.volume = bar.volume.checked_add(trade.size).ok_or(DefiError::Overflow("volume of a bar"))?;
        bar.bought = match (bar.bought, trade.taker) {
            (Some(bought), Taker::Buyer) => Some(bought + trade.size),
            (Some(bought), Taker::Seller) => Some(bought),
            _ => None,
        };
    }
    Ok(bars)
}

/// Events of a pool as minutes, with a minute for every minute between the first and the last.
///
/// # Errors
/// Amounts beyond 128 bits, more minutes than forty years have.
pub fn minutes_of_events(events: &[Event]) -> Result<Vec<PoolMinute>, DefiError> {
    const MOST: i64 = 40 * 366 * 24 * 60;
    if let (Some(first), Some(last)) = (events.first(), events.last())
        && last.time.saturating_sub(first.time) / MINUTE > MOST
    {
        return Err(DefiError::Overflow("time between the first and the last event"));
    }
    let mut minutes: Vec<PoolMinute> = Vec::new();
    let over = || DefiError::Overflow("amounts of a minute");
    for event in events {
        let time = event.time.div_euclid(MINUTE) * MINUTE;
        let Some(last) = minutes.last().copied() else {
            let tick = event.tick;
            let (open, high, low, close) = (tick, tick, tick, tick);
            let (net, paid, liquidity) = ([0; 2], [0; 2], event.liquidity);
            minutes.push(PoolMinute { time, net, paid, open, high, low, close, liquidity });
            add(minutes.last_mut().expect("one was pushed"), event).ok_or_else(over)?;
            continue;
        };
        let tick = last.close;
        for time in (last.time + MINUTE..=time).step_by(MINUTE as usize) {
            let (open, high, low, close) = (tick, tick, tick, tick);
            minutes.push(PoolMinute { time, net: [0; 2], paid: [0; 2], open, high, low, close, ..last });
        }
        add(minutes.last_mut().expect("there is one"), event).ok_or_else(over)?;
    }
    Ok(minutes)
}

fn add(minute: &mut PoolMinute, event: &Event) -> Option<()> {
    minute.liquidity = event.liquidity;
    if let Action::Swap { amounts, .. } = event.action {
        for side in 0..2 {
            minute.net[side] = minute.net[side].checked_add(amounts[side])?;
            minute.paid[side] = minute.paid[side].checked_add(u128::try_from(amounts[side]).unwrap_or(0))?;
        }
        minute.close = event.tick;
        minute.high = minute.high.max(event.tick);
        minute.low = minute.low.min(event.tick);
    }
    Some(())
}

/// The commonest distance between neighbours, and how many times there is more than that, with what is missing.
pub fn gaps(times: &[i64]) -> Option<Gaps> {
    let mut steps: BTreeMap<i64, usize> = BTreeMap::new();
    times.windows(2).for_each(|pair| *steps.entry(pair[1] - pair[0]).or_default() += 1);
    let (&step, _) = steps.iter().filter(|(step, _)| **step > 0).max_by_key(|(step, count)| (**count, -**step))?;
    let wide = times.windows(2).map(|pair| pair[1] - pair[0]).filter(|&width| width > step);
    let (mut count, mut missing, mut longest) = (0, 0, 0);
    for width in wide {
        count += 1;
        missing += usize::try_from(width / step - 1).unwrap_or(usize::MAX);
        longest = longest.max(width);
    }
    Some(Gaps { step, count, missing, longest })
}

/// Where rows are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gaps {
    /// The commonest distance, microseconds.
    pub step: i64,
    /// How many distances are longer.
    pub count: usize,
    /// Rows that are missing in them.
    pub missing: usize,
    /// The longest, microseconds.
    pub longest: i64,
}
