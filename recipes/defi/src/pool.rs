//! A pool of concentrated liquidity in exact integers, as Uniswap v3 has it (core whitepaper, 2021): square roots of
//! prices in Q64.96, ticks of one basis point, fees as growth per unit of liquidity in Q128 that wraps. Ticks and
//! amounts are computed in `tick` and `step`. No protocol fee, no flash loan, no oracle.

mod step;
mod tick;

use std::collections::BTreeMap;

use ruint::aliases::U256;

pub use self::step::{FEE_ONE, SwapStep, amount0, amount1, held, liquidity_for, step};
pub use self::tick::{MAX_SQRT, MAX_TICK, MIN_SQRT, MIN_TICK, sqrt_at, tick_at};
use super::DefiError;

/// Largest amount of a token that a pool holds: amounts stay exact in 128 bits with room to add.
const MAX_AMOUNT: u128 = 1 << 120;

/// Liquidity that begins or ends at a tick.
#[derive(Clone, Copy, Debug)]
struct TickEdge {
    tick: i32,
    sqrt: U256,
    /// Liquidity that comes into range when the price rises through it.
    net: i128,
    /// Liquidity of all positions that end here.
    gross: u128,
    /// Fee growth on the other side of the tick, of each token.
    outside: [U256; 2],
}

/// What one owner has between two ticks.
#[derive(Clone, Copy, Debug, Default)]
struct PoolPosition {
    liquidity: u128,
    /// Fee growth between its ticks when it was last looked at.
    inside: [U256; 2],
    /// What may be collected.
    owed: [u128; 2],
}

/// Who and where: the key of a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PositionKey {
    /// The owner.
    pub owner: u32,
    /// Lower tick.
    pub lower: i32,
    /// Upper tick.
    pub upper: i32,
}

/// Which way a swap goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SwapDirection {
    /// Token 0 is paid in, the price falls.
    Zero,
    /// Token 1 is paid in, the price rises.
    One,
}

impl SwapDirection {
    /// Index of the token that is paid in.
    pub fn paid(self) -> usize {
        match self {
            Self::Zero => 0,
            Self::One => 1,
        }
    }
}

/// What a swap did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swapped {
    /// Paid in, the fee among it.
    pub paid: u128,
    /// Given out.
    pub given: u128,
    /// The fee, in the token that was paid in.
    pub fee: u128,
    /// Steps: ranges of constant liquidity that were passed through.
    pub steps: usize,
}

/// The pool.
#[derive(Clone, Debug)]
pub struct Pool {
    sqrt_price: U256,
    liquidity: u128,
    fee: u32,
    /// In tick order.
    edges: Vec<TickEdge>,
    /// How many of them are below the price; one at the price is where the last crossing left it.
    below: usize,
    growth: [U256; 2],
    reserves: [u128; 2],
    positions: BTreeMap<PositionKey, PoolPosition>,
}

impl Pool {
    /// An empty pool at a price; `fee` in millionths of what is paid in.
    ///
    /// # Errors
    /// A price or fee out of range.
    pub fn new(sqrt_price: U256, fee: u32) -> Result<Self, DefiError> {
        if sqrt_price < MIN_SQRT || sqrt_price >= MAX_SQRT || fee >= FEE_ONE {
            return Err(DefiError::Pool("price or fee is out of range"));
        }
        let (edges, positions) = (Vec::new(), BTreeMap::new());
        let (growth, reserves) = ([U256::ZERO; 2], [0; 2]);
        Ok(Self { sqrt_price, liquidity: 0, fee, edges, below: 0, growth, reserves, positions })
    }

    /// Square root of the price of token 0 in token 1, Q64.96.
    pub fn sqrt_price(&self) -> U256 {
        self.sqrt_price
    }

    /// Liquidity in range.
    pub fn liquidity(&self) -> u128 {
        self.liquidity
    }

    /// What the pool holds of each token.
    pub fn reserves(&self) -> [u128; 2] {
        self.reserves
    }

    /// Adds liquidity; the amounts that its owner pays.
    ///
    /// # Errors
    /// Ticks out of order or range, no liquidity, amounts beyond range; the pool is then as it was.
    pub fn mint(&mut self, place: PositionKey, liquidity: u128) -> Result<[u128; 2], DefiError> {
        let PositionKey { lower, upper, .. } = place;
        if lower >= upper || lower < MIN_TICK || upper > MAX_TICK || liquidity == 0 {
            return Err(DefiError::Pool("a position needs two ticks in order and some liquidity"));
        }
        let delta = i128::try_from(liquidity).map_err(|_| DefiError::Overflow("liquidity"))?;
        let over = DefiError::Overflow("liquidity in the pool");
        // Twice the sum stays far from the ends of 128 bits, whichever ticks the positions share.
        let total: Option<u128> = self.positions.values().try_fold(liquidity, |sum, it| sum.checked_add(it.liquidity));
        if total.is_none_or(|total| total > 1 << 125) {
            return Err(over);
        }
        let amounts = self.amounts(lower, upper, liquidity, true)?;
        let reserves = [0, 1].map(|side| self.reserves[side].checked_add(amounts[side]).filter(|&it| it <= MAX_AMOUNT));
        let [Some(first), Some(second)] = reserves else { return Err(DefiError::Overflow("reserves")) };
        self.touch(place)?;
        self.reserves = [first, second];
        self.change(place, delta);
        Ok(amounts)
    }

    /// Takes liquidity away; its amounts wait to be collected.
    ///
    /// # Errors
    /// More than there is.
    pub fn burn(&mut self, place: PositionKey, liquidity: u128) -> Result<[u128; 2], DefiError> {
        let held = self.positions.get(&place).map_or(0, |position| position.liquidity);
        if liquidity > held || liquidity == 0 {
            return Err(DefiError::Pool("a position has less liquidity than is to be burnt, or none is"));
        }
        let amounts = self.amounts(place.lower, place.upper, liquidity, false)?;
        self.touch(place)?;
        self.change(place, -i128::try_from(liquidity).map_err(|_| DefiError::Overflow("liquidity"))?);
        let position = self.positions.get_mut(&place).expect("it has liquidity");
        for side in 0..2 {
            position.owed[side] += amounts[side];
        }
        Ok(amounts)
    }

    /// Pays out what waits: burnt amounts and fees so far.
    ///
    /// # Errors
    /// No such position.
    pub fn collect(&mut self, place: PositionKey) -> Result<[u128; 2], DefiError> {
        if !self.positions.contains_key(&place) {
            return Err(DefiError::Pool("there is no such position"));
        }
        self.touch(place)?;
        let position = self.positions.get_mut(&place).expect("looked up above");
        let owed = std::mem::take(&mut position.owed);
        if position.liquidity == 0 {
            self.positions.remove(&place);
        }
        for side in 0..2 {
            let left = self.reserves[side].checked_sub(owed[side]);
            self.reserves[side] = left.ok_or(DefiError::Overflow("reserves"))?;
        }
        Ok(owed)
    }

    /// What waits for a position, fees up to now among it.
    pub fn owed(&self, place: PositionKey) -> Result<[u128; 2], DefiError> {
        let mut copy = *self.positions.get(&place).ok_or(DefiError::Pool("there is no such position"))?;
        accrue(&mut copy, self.inside(place))?;
        Ok(copy.owed)
    }

    /// Pays `amount` of a token in, until it is used up or the price is at `limit`.
    ///
    /// # Errors
    /// A limit on the wrong side of the price, amounts beyond range; the pool is then as it was.
    pub fn swap(&mut self, side: SwapDirection, amount: u128, limit: U256) -> Result<Swapped, DefiError> {
        let falls = side == SwapDirection::Zero;
        let reached = if falls { limit >= self.sqrt_price } else { limit <= self.sqrt_price };
        if reached || limit < MIN_SQRT || limit > MAX_SQRT {
            return Err(DefiError::Pool("the limit is not ahead of the price"));
        }
        let paid = side.paid();
        if self.reserves[paid].checked_add(amount).is_none_or(|after| after > MAX_AMOUNT) {
            return Err(DefiError::Overflow("reserves"));
        }
        let mut done = Swapped::default();
        let mut left = amount;
        // Until the loop is through, nothing but copies is changed, so that an error leaves the pool as it was.
        let (mut price, mut liquidity, mut below, mut growth) =
            (self.sqrt_price, self.liquidity, self.below, self.growth);
        let mut crossed: Vec<(usize, [U256; 2])> = Vec::new();
        while left > 0 && price != limit {
            let next = if falls { below.checked_sub(1) } else { Some(below).filter(|&at| at < self.edges.len()) };
            let edge = next.map(|at| self.edges[at].sqrt);
            let target = edge.map_or(limit, |edge| if falls { edge.max(limit) } else { edge.min(limit) });
            let step = step(price, target, liquidity, left, self.fee)?;
            left = left.checked_sub(step.paid + step.fee).ok_or(DefiError::Overflow("amounts of a swap"))?;
            done.paid += step.paid + step.fee;
            done.given += step.given;
            done.fee += step.fee;
            done.steps += 1;
            if liquidity > 0 {
                growth[paid] = growth[paid].wrapping_add(growth_of(step.fee, liquidity));
            }
            price = step.sqrt_price;
            if let (Some(at), Some(edge)) = (next, edge)
                && price == edge
            {
                crossed.push((at, growth));
                let net = self.edges[at].net;
                let after = liquidity.checked_add_signed(if falls { -net } else { net });
                liquidity = after.ok_or(DefiError::Overflow("liquidity in range"))?;
                below = if falls { at } else { at + 1 };
            }
        }
        let given = 1 - paid;
        let left = self.reserves[given].checked_sub(done.given).ok_or(DefiError::Overflow("reserves"))?;
        for (at, growth) in crossed {
            for token in 0..2 {
                let outside = &mut self.edges[at].outside[token];
                *outside = growth[token].wrapping_sub(*outside);
            }
        }
        self.reserves[paid] += done.paid;
        self.reserves[given] = left;
        (self.sqrt_price, self.liquidity, self.below, self.growth) = (price, liquidity, below, growth);
        Ok(done)
    }

    /// Amounts of liquidity between two ticks at the present price.
    fn amounts(&self, lower: i32, upper: i32, liquidity: u128, up: bool) -> Result<[u128; 2], DefiError> {
        step::held(self.sqrt_price, (sqrt_at(lower), sqrt_at(upper)), liquidity, up)
    }

    /// Brings a position's fees up to date; makes it if it is not there.
    fn touch(&mut self, place: PositionKey) -> Result<(), DefiError> {
        let inside = self.inside(place);
        let new = PoolPosition { inside, ..PoolPosition::default() };
        accrue(self.positions.entry(place).or_insert(new), inside)
    }

    /// Fee growth between the ticks of a position. An edge that does not exist yet begins as if all growth so far had
    /// been below it, and growth is only ever looked at as a difference.
    fn inside(&self, place: PositionKey) -> [U256; 2] {
        let edge = |tick: i32| self.edges.binary_search_by_key(&tick, |edge| edge.tick);
        let outside = |found: Result<usize, usize>, at_price: bool| match found {
            Ok(at) => (self.edges[at].outside, at < self.below),
            Err(_) => (if at_price { self.growth } else { [U256::ZERO; 2] }, at_price),
        };
        let under = |tick: i32| sqrt_at(tick) <= self.sqrt_price;
        let (lower, lower_below) = outside(edge(place.lower), under(place.lower));
        let (upper, upper_below) = outside(edge(place.upper), under(place.upper));
        [0, 1].map(|token| {
            let all = self.growth[token];
            let beneath = if lower_below { lower[token] } else { all.wrapping_sub(lower[token]) };
            let above = if upper_below { all.wrapping_sub(upper[token]) } else { upper[token] };
            all.wrapping_sub(beneath).wrapping_sub(above)
        })
    }

    /// Liquidity comes or goes at both ticks, and in range if the price is between them.
    fn change(&mut self, place: PositionKey, delta: i128) {
        for (tick, sign) in [(place.lower, 1), (place.upper, -1)] {
            let at = match self.edges.binary_search_by_key(&tick, |edge| edge.tick) {
                Ok(at) => at,
                Err(at) => {
                    let sqrt = sqrt_at(tick);
                    let below = sqrt <= self.sqrt_price;
                    let outside = if below { self.growth } else { [U256::ZERO; 2] };
                    self.edges.insert(at, TickEdge { tick, sqrt, net: 0, gross: 0, outside });
                    self.below += usize::from(below);
                    at
                }
            };
            let edge = &mut self.edges[at];
            edge.net += sign * delta;
            edge.gross = edge.gross.checked_add_signed(delta).expect("a position burns what it has");
        }
        let below = |tick: i32| {
            let at = self.edges.binary_search_by_key(&tick, |edge| edge.tick).expect("made above");
            at < self.below
        };
        if below(place.lower) && !below(place.upper) {
            self.liquidity =
                self.liquidity.checked_add_signed(delta).expect("positions in range make up the liquidity");
        }
        let position = self.positions.get_mut(&place).expect("touched before");
        position.liquidity = position.liquidity.checked_add_signed(delta).expect("a position burns what it has");
        for tick in [place.lower, place.upper] {
            let at = self.edges.binary_search_by_key(&tick, |edge| edge.tick).expect("made above");
            if self.edges[at].gross == 0 {
                self.edges.remove(at);
                self.below -= usize::from(at < self.below);
            }
        }
    }
}

/// Fee per unit of liquidity, Q128, rounded down.
pub(super) fn growth_of(fee: u128, liquidity: u128) -> U256 {
    U256::from_limbs([0, 0, fee as u64, (fee >> 64) as u64]) / U256::from(liquidity)
}

/// Adds what the growth since last time is worth.
fn accrue(position: &mut PoolPosition, inside: [U256; 2]) -> Result<(), DefiError> {
    for token in 0..2 {
        let grown = inside[token].wrapping_sub(position.inside[token]);
        let worth = worth(grown, position.liquidity).ok_or(DefiError::Overflow("fees of a position"))?;
        position.owed[token] = position.owed[token].checked_add(worth).ok_or(DefiError::Overflow("fees owed"))?;
    }
    position.inside = inside;
    Ok(())
}

/// What a growth in Q128 is worth to some liquidity, rounded down.
pub(super) fn worth(grown: U256, liquidity: u128) -> Option<u128> {
    let wide: ruint::aliases::U512 = grown.widening_mul(U256::from(liquidity));
    u128::try_from(wide >> 128).ok()
}

#[cfg(test)]
mod tests;
