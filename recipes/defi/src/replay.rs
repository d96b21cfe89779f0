//! A position on the recorded path of a real pool: what it earned, or would have. `exact` drives a [`Pool`] along every
//! swap; the other models are what backtests make of less (Demeter's minutes, prices alone), so that their errors are
//! known.
//!
//! Fees and losses are of one world: the price went the way that is recorded, whoever was in the pool. Where a position
//! is not among what is recorded, trades were then larger in the measure in which there was more liquidity, and a unit
//! of it was paid what every other unit was paid on that way.

use ruint::aliases::U256;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::DefiError;
use super::market::{Action, Event, PoolMinute};
use super::pool::{FEE_ONE, MAX_TICK, MIN_TICK, Pool, PositionKey, SwapDirection, sqrt_at, step, tick_at};

/// What a pool is, beside its events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Terms {
    /// Fee in millionths of what is paid in.
    pub fee: u32,
    /// Distance of the ticks that may be used.
    pub spacing: i32,
    /// Decimals of each token.
    pub decimals: [u32; 2],
    /// Which token is money: values are in its smallest unit.
    pub money: usize,
}

impl Terms {
    /// What an amount of each token is worth together, in money's smallest unit, rounded down.
    ///
    /// # Errors
    /// A value beyond 128 bits.
    pub fn value(&self, amounts: [u128; 2], sqrt_price: U256) -> Result<u128, DefiError> {
        let other = self.convert(amounts[1 - self.money], 1 - self.money, sqrt_price)?;
        amounts[self.money].checked_add(other).ok_or(DefiError::Overflow("value"))
    }

    /// An amount of a token in the other token, rounded down.
    ///
    /// # Errors
    /// A value beyond 128 bits.
    pub fn convert(&self, amount: u128, from: usize, sqrt_price: U256) -> Result<u128, DefiError> {
        let over = DefiError::Overflow("value");
        // Twice by the square root: amount * s / 2^96, or amount * 2^96 / s.
        let mut value = ruint::aliases::U512::from(amount) << 64usize;
        let root = ruint::aliases::U512::from(sqrt_price);
        for _ in 0..2 {
            value = if from == 0 { (value * root) >> 96usize } else { (value << 96usize) / root };
        }
        u128::try_from(value >> 64usize).map_err(|_| over)
    }

    /// The usable tick at or below a tick.
    pub fn usable(&self, tick: i32) -> i32 {
        let lowest = MIN_TICK / self.spacing * self.spacing;
        (tick.div_euclid(self.spacing) * self.spacing).clamp(lowest, -lowest)
    }

    /// The ticks around a price at which it is `width` millionths lower and higher, and the usable ones nearest to
    /// them.
    pub fn around(&self, sqrt_price: U256, width: u32) -> (i32, i32) {
        // A tick is a hundredth of a percent: ln(1 + width) in ticks, by comparing prices.
        let tick = tick_at(sqrt_price);
        let span = ticks_of(width);
        let near = |tick: i32| self.usable(tick + self.spacing / 2);
        let (lower, upper) = (near(tick - span), near(tick + span));
        if lower < upper { (lower, upper) } else { (self.usable(tick), self.usable(tick) + self.spacing) }
    }

    /// Liquidity of a position worth `money` at a price.
    ///
    /// # Errors
    /// A value beyond 128 bits.
    pub fn liquidity_worth(
        &self,
        money: u128,
        (lower, upper): (i32, i32),
        sqrt_price: U256,
    ) -> Result<u128, DefiError> {
        /// Liquidity whose value is measured: large, so that rounding does not show.
        const PROBE: u128 = 1 << 80;
        let held = super::pool::held(sqrt_price, (sqrt_at(lower), sqrt_at(upper)), PROBE, false)?;
        let value = self.value(held, sqrt_price)?;
        let wide = ruint::aliases::U512::from(money) * ruint::aliases::U512::from(PROBE);
        if value == 0 {
            return Err(DefiError::Pool("liquidity there is worth nothing"));
        }
        u128::try_from(wide / ruint::aliases::U512::from(value)).map_err(|_| DefiError::Overflow("liquidity"))
    }
}

/// Ticks by which a price moves that grows by `width` millionths.
pub fn ticks_of(width: u32) -> i32 {
    let one = U256::from(FEE_ONE);
    let ratio: U256 = (U256::ONE << 192) / one * (one + U256::from(width));
    tick_at(ratio.root(2))
}

/// Fees of each token, in its smallest unit.
pub type Fees = [u128; 2];

/// What [`exact`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exact {
    /// Fees of the position.
    pub fees: Fees,
    /// Swaps on the path.
    pub swaps: usize,
    /// Of those within one range of liquidity.
    pub plain: usize,
    /// Of these, the ones that follow to the last unit: price and amount out from the amount in, or the amount in from
    /// the price.
    pub reproduced: usize,
}

/// The pool along its events, with everything that is in range as one owner and the position as another.
///
/// # Errors
/// Amounts beyond range.
pub fn exact(events: &[Event], terms: &Terms, ticks: (i32, i32), liquidity: u128) -> Result<Exact, DefiError> {
    let mut found = Exact { fees: [0; 2], swaps: 0, plain: 0, reproduced: 0 };
    let Some(first) = events.iter().position(|event| matches!(event.action, Action::Swap { .. })) else {
        return Ok(found);
    };
    let Action::Swap { sqrt_price, .. } = events[first].action else { unreachable!("a swap was found") };
    let mut pool = Pool::new(U256::from_limbs(sqrt_price), terms.fee)?;
    let guest = PositionKey { owner: 1, lower: ticks.0, upper: ticks.1 };
    pool.mint(guest, liquidity)?;
    // Wide enough for a path of a day, narrow enough for its amounts to stay in range.
    let span = 40_000;
    let host = PositionKey {
        owner: 0,
        lower: terms.usable((events[first].tick - span).max(MIN_TICK)),
        upper: terms.usable((events[first].tick + span).min(MAX_TICK)),
    };
    let mut held = events[first].liquidity;
    pool.mint(host, held)?;
    let mut recorded = U256::from_limbs(sqrt_price);
    let mut before = held;
    for event in &events[first + 1..] {
        match event.action {
            Action::Liquidity { .. } => before = event.liquidity,
            Action::Swap { amounts, sqrt_price } => {
                let target = U256::from_limbs(sqrt_price);
                found.swaps += 1;
                let side = if target < recorded { SwapDirection::Zero } else { SwapDirection::One };
                let amount = u128::try_from(amounts[side.paid()]).unwrap_or(0);
                set(&mut pool, host, &mut held, before)?;
                if before == event.liquidity {
                    found.plain += 1;
                    let limit = sqrt_at(if side == SwapDirection::Zero { MIN_TICK } else { MAX_TICK });
                    let done = step(recorded, limit, before, amount, terms.fee)?;
                    let given = amounts[1 - side.paid()].unsigned_abs();
                    // Asked for by amount in; by amount out or with a limit, what is paid follows from the price.
                    let by_amount = done.sqrt_price == target && done.given == given;
                    let way = step(recorded, target, before, u128::MAX >> 24, terms.fee)?;
                    let by_price = way.paid + way.fee == amount && given <= way.given;
                    found.reproduced += usize::from(by_amount || by_price);
                } else if let Some(edge) = edge(terms, (recorded, target), (before, event.liquidity), amount)? {
                    travel(&mut pool, edge)?;
                    set(&mut pool, host, &mut held, event.liquidity)?;
                }
                travel(&mut pool, target)?;
                (recorded, before) = (target, event.liquidity);
            }
        }
    }
    found.fees = pool.owed(guest)?;
    Ok(found)
}

/// Swaps to a price, whatever it takes.
fn travel(pool: &mut Pool, target: U256) -> Result<(), DefiError> {
    if target != pool.sqrt_price() {
        let side = if target < pool.sqrt_price() { SwapDirection::Zero } else { SwapDirection::One };
        pool.swap(side, 1 << 118, target)?;
    }
    Ok(())
}

/// Gives the host this much liquidity.
fn set(pool: &mut Pool, host: PositionKey, held: &mut u128, wanted: u128) -> Result<(), DefiError> {
    match wanted.cmp(held) {
        std::cmp::Ordering::Greater => drop(pool.mint(host, wanted - *held)?),
        std::cmp::Ordering::Less => {
            pool.burn(host, *held - wanted)?;
            pool.collect(host)?;
        }
        std::cmp::Ordering::Equal => {}
    }
    *held = wanted;
    Ok(())
}

/// The usable tick between two prices at which the liquidity changed: the one that explains the amount best.
fn edge(
    terms: &Terms,
    (from, to): (U256, U256),
    (before, after): (u128, u128),
    amount: u128,
) -> Result<Option<U256>, DefiError> {
    let (low, high) = if from < to { (from, to) } else { (to, from) };
    let first = terms.usable(tick_at(low)) + terms.spacing;
    let mut best: Option<(u128, U256)> = None;
    for tick in (first..=tick_at(high)).step_by(terms.spacing as usize) {
        let at = sqrt_at(tick);
        let parts =
            [step(from, at, before, u128::MAX >> 24, terms.fee)?, step(at, to, after, u128::MAX >> 24, terms.fee)?];
        let paid: u128 = parts.iter().map(|part| part.paid + part.fee).sum();
        let off = paid.abs_diff(amount);
        if best.is_none_or(|(least, _)| off < least) {
            best = Some((off, at));
        }
    }
    Ok(best.map(|(_, at)| at))
}

/// A part of a swap's way over which liquidity did not change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leg {
    /// Time of the swap.
    pub time: i64,
    /// Square roots of the prices it begins and ends at.
    pub way: (U256, U256),
    /// Liquidity in range.
    pub liquidity: u128,
    /// Token that was paid in.
    pub token: usize,
    /// Its part of the swap's fee.
    pub fee: u128,
}

/// The ways of all swaps but the first, whose beginning is not known: one leg each, or two where liquidity changed on
/// the way.
///
/// # Errors
/// Amounts beyond range.
pub fn legs(events: &[Event], terms: &Terms) -> Result<Vec<Leg>, DefiError> {
    let mut all = Vec::with_capacity(events.len());
    let mut last: Option<(U256, u128)> = None;
    for event in events {
        let Action::Swap { amounts, sqrt_price } = event.action else {
            last = last.map(|(price, _)| (price, event.liquidity));
            continue;
        };
        let (to, after) = (U256::from_limbs(sqrt_price), event.liquidity);
        let Some((from, before)) = last.replace((to, after)) else { continue };
        let token = usize::from(to > from);
        let amount = u128::try_from(amounts[token]).unwrap_or(0);
        let fee = fee_of(amount, terms.fee);
        let leg = |way, liquidity, fee| Leg { time: event.time, way, liquidity, token, fee };
        let at = if before == after { None } else { edge(terms, (from, to), (before, after), amount)? };
        let Some(at) = at else {
            all.push(leg((from, to), after, fee));
            continue;
        };
        let paid = |from, to, liquidity| Ok(step(from, to, liquidity, u128::MAX >> 24, terms.fee)?.paid);
        let (first, second): (u128, u128) = (paid(from, at, before)?, paid(at, to, after)?);
        let part = U256::from(fee) * U256::from(first) / U256::from((first + second).max(1));
        let part = u128::try_from(part).expect("a part of a fee is at most the fee");
        all.extend([leg((from, at), before, part), leg((at, to), after, fee - part)]);
    }
    Ok(all)
}

impl Leg {
    /// The fee of so much liquidity between two prices.
    ///
    /// # Errors
    /// An amount beyond 128 bits.
    pub fn paid(&self, range: (U256, U256), own: u128) -> Result<FeeShare, DefiError> {
        paid(self.fee, overlap(self.way, range), own, self.liquidity)
    }
}

/// The part of the way between two prices that lies between two others, in 2^-64.
pub fn overlap((from, to): (U256, U256), (low, high): (U256, U256)) -> u128 {
    let (first, last) = if from <= to { (from, to) } else { (to, from) };
    let way = last - first;
    if way.is_zero() {
        return u128::from(first >= low && first < high) << 64;
    }
    let inner = last.min(high).saturating_sub(first.max(low));
    u128::try_from((inner << 64) / way).expect("a part of the way is at most 2^64")
}

/// What liquidity is paid, by what is taken for given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FeeShare {
    /// The way of the price, which is what losses are of, too.
    pub path: u128,
    /// What was traded, of which there was no more because of it: no less can have been paid.
    pub volume: u128,
}

/// What `own` liquidity is paid where the pool's was paid a fee, over a part of the way in 2^-64, rounded down; nothing
/// where the pool had none.
///
/// # Errors
/// An amount beyond 128 bits.
pub fn paid(fee: u128, part: u128, own: u128, pool: u128) -> Result<FeeShare, DefiError> {
    if pool == 0 {
        return Ok(FeeShare::default());
    }
    let wide = ruint::aliases::U512::from(fee) * ruint::aliases::U512::from(part) * ruint::aliases::U512::from(own);
    let (wide, pool) = (wide >> 64usize, ruint::aliases::U512::from(pool));
    let path = u128::try_from(wide / pool).map_err(|_| DefiError::Overflow("fees"))?;
    let volume = u128::try_from(wide / (pool + ruint::aliases::U512::from(own))).expect("a share is at most the whole");
    Ok(FeeShare { path, volume })
}

/// The fee in an amount that was paid, rounded up.
pub fn fee_of(paid: u128, fee: u32) -> u128 {
    u128::try_from((U256::from(paid) * U256::from(fee)).div_ceil(U256::from(FEE_ONE))).expect("less than was paid")
}

/// How fees are estimated where not every swap is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeeModel {
    /// Each swap's fee by liquidity and part of the way in range.
    SwapShare,
    /// That by what was traded, of which there was no more because of the position.
    SwapVolume,
    /// Each minute's fees by liquidity if its last price is in range.
    MinuteClose,
    /// Each minute's fees by liquidity and part of the way from its lowest to its highest price in range.
    MinutePath,
    /// What the liquidity would be paid for the way from price to price, in range, after every so many microseconds;
    /// 0 for every swap.
    PricePath(i64),
}

/// Fees of a position by a model: of each token, and valued in money at the prices of their time.
///
/// # Errors
/// Amounts beyond range.
pub fn estimate(
    events: &[Event],
    minutes: &[PoolMinute],
    terms: &Terms,
    ticks: (i32, i32),
    own: u128,
    model: FeeModel,
) -> Result<(Fees, u128), DefiError> {
    let range = (sqrt_at(ticks.0), sqrt_at(ticks.1));
    let (mut fees, mut total): (Fees, u128) = ([0; 2], 0);
    let mut earn = |token: usize, fee: u128, at: U256| -> Result<(), DefiError> {
        fees[token] = fees[token].checked_add(fee).ok_or(DefiError::Overflow("fees"))?;
        let worth = if token == terms.money { fee } else { terms.convert(fee, token, at)? };
        total = total.checked_add(worth).ok_or(DefiError::Overflow("fees"))?;
        Ok(())
    };
    match model {
        FeeModel::SwapShare | FeeModel::SwapVolume => {
            for leg in legs(events, terms)? {
                let paid = leg.paid(range, own)?;
                earn(leg.token, if model == FeeModel::SwapShare { paid.path } else { paid.volume }, leg.way.1)?;
            }
        }
        FeeModel::MinuteClose | FeeModel::MinutePath => {
            for minute in minutes {
                let price = sqrt_at(minute.close);
                let part = if model == FeeModel::MinuteClose {
                    overlap((price, price), range)
                } else {
                    overlap((sqrt_at(minute.low), sqrt_at((minute.high + 1).min(MAX_TICK))), range)
                };
                for token in 0..2 {
                    let fee = fee_of(minute.paid[token], terms.fee);
                    earn(token, paid(fee, part, own, minute.liquidity)?.path, price)?;
                }
            }
        }
        FeeModel::PricePath(every) => {
            let mut last: Option<(i64, U256)> = None;
            let mut closing: Option<(i64, U256)> = None;
            let mut way = |from: U256, to: U256| -> Result<(), DefiError> {
                let (from_in, to_in) = (from.clamp(range.0, range.1), to.clamp(range.0, range.1));
                let done = step(from_in, to_in, own, u128::MAX >> 24, terms.fee)?;
                earn(usize::from(to_in > from_in), done.fee, to)
            };
            for event in events {
                let Action::Swap { sqrt_price, .. } = event.action else { continue };
                let price = U256::from_limbs(sqrt_price);
                let slot = if every == 0 { 0 } else { event.time.div_euclid(every) };
                let Some((_, from)) = last else {
                    last = Some((slot, price));
                    closing = last;
                    continue;
                };
                match closing {
                    _ if every == 0 => {
                        way(from, price)?;
                        last = Some((slot, price));
                    }
                    Some((open, close)) if slot != open => {
                        way(from, close)?;
                        last = Some((open, close));
                    }
                    _ => {}
                }
                closing = Some((slot, price));
            }
            if let (true, Some((_, from)), Some((_, close))) = (every > 0, last, closing) {
                way(from, close)?;
            }
        }
    }
    Ok((fees, total))
}

/// What a position is worth per unit of money between two prices, and how deep a pool is: the money that moves the
/// price by `width` millionths either way, with constant liquidity.
///
/// # Errors
/// Amounts beyond range.
pub fn depth(terms: &Terms, sqrt_price: U256, liquidity: u128, width: u32) -> Result<[u128; 2], DefiError> {
    let span = ticks_of(width);
    let tick = tick_at(sqrt_price);
    let below =
        step(sqrt_price, sqrt_at((tick - span).max(MIN_TICK)).min(sqrt_price), liquidity, u128::MAX >> 24, terms.fee)?;
    let above =
        step(sqrt_price, sqrt_at((tick + span).min(MAX_TICK)).max(sqrt_price), liquidity, u128::MAX >> 24, terms.fee)?;
    let worth = |amount: u128, token: usize| {
        if token == terms.money { Ok(amount) } else { terms.convert(amount, token, sqrt_price) }
    };
    Ok([worth(below.given, 1)?, worth(above.given, 0)?])
}

/// What a swap of so much money costs beyond the price before it, the fee among it, in millionths; `None` where the
/// liquidity does not suffice.
///
/// # Errors
/// Amounts beyond range.
pub fn slippage(terms: &Terms, sqrt_price: U256, liquidity: u128, money: u128) -> Result<Option<u64>, DefiError> {
    // Money is paid in: the price moves towards less money per unit of the other.
    let limit = if terms.money == 0 { sqrt_at(MIN_TICK) } else { sqrt_at(MAX_TICK) };
    let done = step(sqrt_price, limit, liquidity, money, terms.fee)?;
    if done.paid + done.fee < money {
        return Ok(None);
    }
    let fair = terms.convert(money, terms.money, sqrt_price)?;
    if done.given == 0 {
        return Ok(None);
    }
    let excess = fair.saturating_sub(done.given);
    Ok(u64::try_from(U256::from(excess) * U256::from(FEE_ONE) / U256::from(done.given)).ok())
}

#[cfg(test)]
mod tests;
