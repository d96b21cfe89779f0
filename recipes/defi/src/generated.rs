//! Markets that the project makes itself, for tests, for the base that ships inside and for a first try: random walks
//! whose volatility comes in clusters, and a pool that arbitrage keeps at such a price. All from a seed, in integers.

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use ruint::aliases::U256;

use super::DefiError;
use super::market::{Action, Bar, Event, MINUTE, PRICE_ONE};
use super::pool::{MAX_TICK, MIN_TICK, Pool, PositionKey, SwapDirection, sqrt_at, tick_at};

/// Random numbers of which everything here is made.
#[derive(Debug)]
pub struct Chance(ChaCha20Rng);

impl Chance {
    /// The same numbers for the same seed.
    pub fn new(seed: u64) -> Self {
        Self(ChaCha20Rng::seed_from_u64(seed))
    }

    /// A whole number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        ((u128::from(self.0.next_u64()) * u128::from(end)) >> 64) as u64
    }

    /// Nearly normal, in thousandths of its deviation: twelve even numbers added up.
    pub fn normal(&mut self) -> i64 {
        (0..12).map(|_| self.below(1000) as i64).sum::<i64>() - 5994
    }
}

/// How a generated price moves.
#[derive(Clone, Copy, Debug)]
pub struct RandomWalk {
    /// First price, units of 1e-10.
    pub price: u64,
    /// Usual deviation of a minute, in 1e-9 of the price.
    pub sigma: i64,
    /// How strongly the price returns over a minute to where it was, in thousandths of the last move; negative for a
    /// trend.
    pub reverts: i64,
}

/// Minutes from 2024-01-01, without gaps. Volatility follows its own slow walk and a daily cycle, volume follows it.
pub fn bars(seed: u64, count: usize, walk: RandomWalk) -> Vec<Bar> {
    /// 2024-01-01 00:00:00.
    const START: i64 = 1_704_067_200_000_000;
    /// Moves within a minute.
    const MOVES: i64 = 15;
    let mut chance = Chance::new(seed);
    let mut price = i128::from(walk.price);
    // Thousandths of the usual deviation.
    let (mut heat, mut last) = (1000i64, 0i64);
    let mut bars = Vec::with_capacity(count);
    for index in 0..count as i64 {
        let hour = index / 60 % 24;
        let cycle = 700 + 60 * (12 - (hour - 15).abs()).max(0);
        heat = (heat + (1000 - heat) / 40 + chance.normal() / 12).clamp(250, 5000);
        if chance.below(700) == 0 {
            heat = (heat * 2).min(5000);
        }
        let sigma = walk.sigma * heat / 1000 * cycle / 1000;
        let (open, mut high, mut low) = (price, price, price);
        let pull = -last * walk.reverts / 1000;
        for _ in 0..MOVES {
            // The root of 15 moves is 3.873.
            let step = sigma * chance.normal() / 3873 + pull / MOVES;
            price = (price + price * i128::from(step) / 1_000_000_000).max(1);
            (high, low) = (high.max(price), low.min(price));
        }
        last = ((price - open) * 1_000_000_000 / open) as i64;
        let moved = (last.unsigned_abs() * 1000 / sigma.max(1) as u64).min(10_000);
        let volume = u128::from((200 + chance.below(800) + moved) * heat as u64) * 100_000;
        // Takers lean the way the price goes.
        let lean = 500 + (last * 150 / sigma.max(1)).clamp(-400, 400) + chance.below(160) as i64 - 80;
        let bought = Some(volume * lean.clamp(0, 1000) as u128 / 1000);
        let unit = |price: i128| u64::try_from(price).unwrap_or(u64::MAX);
        let (open, high, low, close) = (unit(open), unit(high), unit(low), unit(price));
        bars.push(Bar { time: START + index * MINUTE, open, high, low, close, volume, bought });
    }
    bars
}

/// A usual walk: a coin at a hundred, five basis points a minute.
pub const USUAL: RandomWalk = RandomWalk { price: 100 * PRICE_ONE, sigma: 500_000, reverts: 0 };

/// Events of a pool of USDC and WETH over a day.
///
/// # Errors
/// Amounts beyond range.
pub fn pool_day(seed: u64, swaps: usize) -> Result<Vec<Event>, DefiError> {
    pool(seed, swaps, 86_400_000_000 / swaps.max(1) as i64)
}

/// Events of such a pool over so many minutes, four a minute.
///
/// # Errors
/// Amounts beyond range.
pub fn pool_days(seed: u64, minutes: usize) -> Result<Vec<Event>, DefiError> {
    pool(seed, 4 * minutes, MINUTE / 4)
}

/// Swaps `apart` from each other: at random by the uninformed and, where the price outside has left the pool's by more
/// than the fee, by arbitrage.
fn pool(seed: u64, swaps: usize, apart: i64) -> Result<Vec<Event>, DefiError> {
    const START: i64 = 1_704_067_200_000_000;
    const FEE: u32 = 500;
    let mut chance = Chance::new(seed);
    let middle = 199_000;
    let mut pool = Pool::new(sqrt_at(middle) + U256::ONE, FEE)?;
    let whole = PositionKey { owner: 0, lower: middle - 20_000, upper: middle + 20_000 };
    let liquidity: u128 = 12_000_000_000_000_000_000;
    pool.mint(whole, liquidity)?;
    // The price outside, in thousandths of a tick above the middle.
    let mut outside: i64 = 0;
    let mut events = Vec::new();
    let mut index: u64 = 0;
    while events.len() < swaps {
        let time = START + apart * events.len() as i64;
        outside += chance.normal() * 3;
        let tick = tick_at(pool.sqrt_price());
        let target = middle + (outside / 1000) as i32;
        // Five ticks are the fee.
        let (side, amount, limit) = if (target - tick).abs() > 6 && chance.below(2) == 0 {
            let to = if target > tick { target - 5 } else { target + 5 };
            (if target > tick { SwapDirection::One } else { SwapDirection::Zero }, 1 << 100, sqrt_at(to))
        } else {
            let side = if chance.below(2) == 0 { SwapDirection::Zero } else { SwapDirection::One };
            // One dollar to a hundred thousand, small ones more often.
            let dollars = u128::from(1 + chance.below(10) * 10u64.pow(chance.below(5) as u32));
            let amount = if side == SwapDirection::Zero { dollars * 1_000_000 } else { dollars * 440_000_000_000_000 };
            (side, amount, sqrt_at(if side == SwapDirection::Zero { MIN_TICK } else { MAX_TICK }))
        };
        let Ok(done) = pool.swap(side, amount, limit) else { continue };
        index += 1;
        let (paid, given) = (done.paid as i128, -(done.given as i128));
        let amounts = if side == SwapDirection::Zero { [paid, given] } else { [given, paid] };
        let action = Action::Swap { amounts, sqrt_price: *pool.sqrt_price().as_limbs() };
        let tick = tick_at(pool.sqrt_price());
        events.push(Event { time, order: [index, 0, 0], action, tick, liquidity: pool.liquidity() });
    }
    Ok(events)
}
