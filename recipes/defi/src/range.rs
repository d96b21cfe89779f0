//! A provider of concentrated liquidity, simulated on minutes of a real pool: the public controller that turns an
//! action into a range within hard limits, and what the next minutes do to it. All state is integers.
//!
//! Fees and losses are of one world ([`super::replay`]): the price goes its recorded way, and a unit of liquidity is paid
//! what the pool's were paid on it. A move takes gas, the fee of swapping into the new range's proportions, and the price
//! that such a swap pays in the pool as it is, or what the rules say that a swap elsewhere costs; it is executed at the
//! end of a later minute than the one it was decided on.

use ruint::aliases::U256;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::DefiError;
use super::market::{DAY, PoolMinute};
use super::pool::{FEE_ONE, MAX_TICK, MIN_TICK, amount0, amount1, held, liquidity_for, sqrt_at, step};
use super::replay::{FeeShare, Leg, Terms, fee_of, overlap, paid, ticks_of};
use super::rules::PoolRules;

/// Half-widths that a policy chooses from, millionths of the price.
pub const WIDTHS: [u32; 5] = [5_000, 10_000, 20_000, 50_000, 200_000];
/// Where the range's centre lies, in half-widths: below, at or above the price.
pub const SHIFTS: [i32; 3] = [-1, 0, 1];
/// Actions: hold, every width with every shift, exit.
pub const ACTIONS: usize = 2 + WIDTHS.len() * SHIFTS.len();
/// The action that leaves everything as it is.
pub const HOLD: usize = 0;
/// The action that takes all liquidity away and keeps the tokens.
pub const EXIT: usize = ACTIONS - 1;

/// Limits of the public controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RangeController {
    /// What is put to work at the beginning, money's smallest unit.
    pub capital: u128,
    /// Least half-width of a range, millionths.
    pub min_width: u32,
    /// Most moves in a day (UTC).
    pub max_moves: u32,
}

impl RangeController {
    /// Checks that the numbers make sense.
    ///
    /// # Errors
    /// Which one does not.
    pub fn check(&self, place: &str) -> Result<(), DefiError> {
        let wrong = |name: &str, message: String| Err(DefiError::setting(format!("{place}.{name}"), message));
        if self.capital == 0 || self.capital > 1 << 62 {
            return wrong("capital", format!("must be from 1 to 2^62: {}", self.capital));
        }
        if self.min_width == 0 || self.min_width > 1_000_000 {
            return wrong("min_width", format!("must be from 1 to 1000000: {}", self.min_width));
        }
        Ok(())
    }
}

/// What is asked of the controller: by an action, or by a baseline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RangeAsk {
    /// Leave everything as it is.
    Hold,
    /// Take all liquidity away.
    Exit,
    /// A range of a half-width (millionths), its centre moved by so many thousandths of that.
    Around {
        /// Half-width.
        width: u32,
        /// Shift of the centre.
        shift: i32,
    },
    /// All prices there are.
    Everywhere,
}

/// What the controller allowed: to be executed later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RangeOrder {
    /// Nothing changes.
    Hold,
    /// All liquidity is taken away.
    Exit,
    /// All liquidity goes between these ticks.
    Range {
        /// Lower tick.
        lower: i32,
        /// Upper tick.
        upper: i32,
    },
}

/// What an action asks for.
pub fn asked(action: usize) -> RangeAsk {
    match action {
        HOLD => RangeAsk::Hold,
        EXIT => RangeAsk::Exit,
        _ => {
            let (width, shift) = ((action - 1) / SHIFTS.len(), (action - 1) % SHIFTS.len());
            RangeAsk::Around { width: WIDTHS[width], shift: SHIFTS[shift] * 500 }
        }
    }
}

/// Liquidity between two ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RangePosition {
    /// Lower tick.
    pub lower: i32,
    /// Upper tick.
    pub upper: i32,
    /// How much.
    pub liquidity: u128,
}

/// What the provider has, each token in its smallest unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Holding {
    /// Tokens outside the pool, collected fees among them.
    pub idle: [u128; 2],
    /// Liquidity in the pool.
    pub position: Option<RangePosition>,
    /// Fees that were not collected yet.
    pub fees: [u128; 2],
    /// The day of the last move, days since 1970, and the moves on it.
    pub moves: (i64, u32),
}

/// What a minute brought a position, in money.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MinuteOutcome {
    /// Fees, on the way that the price went.
    pub fees: i128,
    /// Fees if there was no trade because of the position.
    pub least: i128,
    /// Loss against rebalancing: what the tokens at the beginning would be worth at the end, less what those at the end
    /// are.
    pub lost: i128,
}

/// Fees of a token that no position earns: sums stay in 128 bits.
const MAX_FEES: u128 = 1 << 110;

impl RangeController {
    /// The order for what is asked at a tick and time, within the limits.
    pub fn order(&self, asked: RangeAsk, tick: i32, time: i64, holding: &Holding, terms: &Terms) -> RangeOrder {
        let day = time.div_euclid(DAY);
        let today = if holding.moves.0 == day { holding.moves.1 } else { 0 };
        let (lower, upper) = match asked {
            RangeAsk::Hold => return RangeOrder::Hold,
            RangeAsk::Exit if holding.position.is_none() => return RangeOrder::Hold,
            // Leaving is always allowed: the limit is there to bound costs, not to keep anyone in.
            RangeAsk::Exit => return RangeOrder::Exit,
            RangeAsk::Everywhere => (terms.usable(MIN_TICK), terms.usable(MAX_TICK)),
            RangeAsk::Around { width, shift } => {
                let span = ticks_of(width.max(self.min_width));
                let centre = tick + span * shift / 1000;
                let near = |tick: i32| terms.usable(tick + terms.spacing / 2);
                let lower = near(centre - span);
                (lower, near(centre + span).max(lower + terms.spacing))
            }
        };
        let there = holding.position.is_some_and(|it| (it.lower, it.upper) == (lower, upper));
        if there || today >= self.max_moves { RangeOrder::Hold } else { RangeOrder::Range { lower, upper } }
    }
}

impl Holding {
    /// Capital in equal values of both tokens.
    ///
    /// # Errors
    /// Amounts beyond range.
    pub fn new(capital: u128, terms: &Terms, sqrt_price: U256) -> Result<Self, DefiError> {
        let half = terms.convert(capital / 2, terms.money, sqrt_price)?;
        let mut idle = [half; 2];
        idle[terms.money] = capital - capital / 2;
        Ok(Self { idle, ..Self::default() })
    }

    /// Tokens in the position at a price.
    ///
    /// # Errors
    /// Amounts beyond range.
    pub fn placed(&self, sqrt_price: U256) -> Result<[u128; 2], DefiError> {
        let Some(RangePosition { lower, upper, liquidity }) = self.position else { return Ok([0; 2]) };
        held(sqrt_price, (sqrt_at(lower), sqrt_at(upper)), liquidity, false)
    }

    /// All tokens at a price, fees among them.
    ///
    /// # Errors
    /// Amounts beyond range.
    pub fn tokens(&self, sqrt_price: U256) -> Result<[u128; 2], DefiError> {
        let placed = self.placed(sqrt_price)?;
        Ok([0, 1].map(|token| placed[token] + self.idle[token] + self.fees[token]))
    }

    /// Lets a minute pass: by its swaps where these are known, else by its lowest and highest price. What came of it is
    /// valued in money at its end.
    ///
    /// # Errors
    /// Amounts beyond range.
    pub fn pass(
        &mut self,
        before: U256,
        minute: &PoolMinute,
        swaps: Option<&[Leg]>,
        terms: &Terms,
    ) -> Result<MinuteOutcome, DefiError> {
        let Some(RangePosition { lower, upper, liquidity }) = self.position else {
            return Ok(MinuteOutcome::default());
        };
        let after = sqrt_at(minute.close);
        let range = (sqrt_at(lower), sqrt_at(upper));
        let (mut came, mut least) = ([0u128; 2], [0u128; 2]);
        let mut earn = |token: usize, FeeShare { path, volume }: FeeShare| {
            let over = DefiError::Overflow("fees");
            let sum = came[token].checked_add(path).filter(|sum| *sum < MAX_FEES).ok_or(over)?;
            (came[token], least[token]) = (sum, least[token] + volume);
            Ok::<(), DefiError>(())
        };
        match swaps {
            Some(swaps) => {
                for leg in swaps {
                    earn(leg.token, leg.paid(range, liquidity)?)?;
                }
            }
            None => {
                let part = overlap((sqrt_at(minute.low), sqrt_at((minute.high + 1).min(MAX_TICK))), range);
                for token in 0..2 {
                    earn(token, paid(fee_of(minute.paid[token], terms.fee), part, liquidity, minute.liquidity)?)?;
                }
            }
        }
        for token in 0..2 {
            let sum = self.fees[token].checked_add(came[token]).filter(|sum| *sum < MAX_FEES);
            self.fees[token] = sum.ok_or(DefiError::Overflow("fees"))?;
        }
        let (old, new) = (self.placed(before)?, self.placed(after)?);
        let value = |tokens| -> Result<i128, DefiError> {
            i128::try_from(terms.value(tokens, after)?).map_err(|_| DefiError::Overflow("value"))
        };
        Ok(MinuteOutcome { fees: value(came)?, least: value(least)?, lost: value(old)? - value(new)? })
    }

    /// Executes an order at a price in a pool of so much liquidity, at a time; what it cost, in money.
    ///
    /// # Errors
    /// Amounts beyond range.
    pub fn execute(
        &mut self,
        order: RangeOrder,
        (sqrt_price, liquidity, time): (U256, u128, i64),
        terms: &Terms,
        rules: &PoolRules,
    ) -> Result<i128, DefiError> {
        if order == RangeOrder::Hold {
            return Ok(0);
        }
        let before = terms.value(self.tokens(sqrt_price)?, sqrt_price)?;
        let mut next = *self;
        next.idle = self.tokens(sqrt_price)?;
        (next.position, next.fees) = (None, [0; 2]);
        let day = time.div_euclid(DAY);
        next.moves = if next.moves.0 == day { (day, next.moves.1 + 1) } else { (day, 1) };
        next.pay(rules.gas, sqrt_price, terms)?;
        if let RangeOrder::Range { lower, upper } = order {
            next.balance((lower, upper), sqrt_price, liquidity, terms, rules)?;
            let range = (sqrt_at(lower), sqrt_at(upper));
            let liquidity = liquidity_for(sqrt_price, range, next.idle)?;
            let mut paid = held(sqrt_price, range, liquidity, true)?;
            // Rounding up may ask for a unit more than there is.
            let liquidity = if paid[0] > next.idle[0] || paid[1] > next.idle[1] {
                let less = liquidity - liquidity.div_ceil(1 << 40).min(liquidity);
                paid = held(sqrt_price, range, less, true)?;
                less
            } else {
                liquidity
            };
            if liquidity > 0 && paid[0] <= next.idle[0] && paid[1] <= next.idle[1] {
                (0..2).for_each(|token| next.idle[token] -= paid[token]);
                next.position = Some(RangePosition { lower, upper, liquidity });
            }
        }
        let after = terms.value(next.tokens(sqrt_price)?, sqrt_price)?;
        *self = next;
        let signed = |value: u128| i128::try_from(value).map_err(|_| DefiError::Overflow("value"));
        Ok(signed(before)? - signed(after)?)
    }

    /// Pays gas out of money, or out of the other token where there is too little.
    fn pay(&mut self, gas: u128, sqrt_price: U256, terms: &Terms) -> Result<(), DefiError> {
        let money = terms.money;
        let first = gas.min(self.idle[money]);
        self.idle[money] -= first;
        let rest = terms.convert(gas - first, money, sqrt_price)?;
        let other = &mut self.idle[1 - money];
        *other = other.saturating_sub(rest);
        Ok(())
    }

    /// Swaps in the pool, or elsewhere, until the idle tokens stand to each other as a range needs them.
    fn balance(
        &mut self,
        ticks: (i32, i32),
        sqrt_price: U256,
        liquidity: u128,
        terms: &Terms,
        rules: &PoolRules,
    ) -> Result<(), DefiError> {
        /// Liquidity whose proportions are taken: large, so that rounding does not show.
        const PROBE: u128 = 1 << 80;
        let needs = held(sqrt_price, (sqrt_at(ticks.0), sqrt_at(ticks.1)), PROBE, false)?;
        let money = terms.money;
        let (all, wanted) = (terms.value(self.idle, sqrt_price)?, terms.value(needs, sqrt_price)?);
        if wanted == 0 {
            return Ok(());
        }
        let target = ruint::aliases::U512::from(all) * ruint::aliases::U512::from(needs[money]);
        let target =
            u128::try_from(target / ruint::aliases::U512::from(wanted)).map_err(|_| DefiError::Overflow("value"))?;
        let (from, amount) = if self.idle[money] > target {
            (money, self.idle[money] - target)
        } else {
            let missing = terms.convert(target - self.idle[money], money, sqrt_price)?;
            (1 - money, missing.min(self.idle[1 - money]))
        };
        if let Some(cost) = rules.swap_cost {
            let given = U256::from(terms.convert(amount, from, sqrt_price)?) * U256::from(FEE_ONE - cost);
            self.idle[from] -= amount;
            self.idle[1 - from] += u128::try_from(given / U256::from(FEE_ONE)).expect("a part of 128 bits");
            return Ok(());
        }
        let limit = sqrt_at(if from == 0 { MIN_TICK } else { MAX_TICK });
        let done = step(sqrt_price, limit, liquidity, amount, terms.fee)?;
        self.idle[from] -= done.paid + done.fee;
        self.idle[1 - from] += done.given;
        Ok(())
    }
}

/// What a position's tokens at the beginning of a way would be worth at its end, less what it is worth there: never
/// negative but for rounding, whatever the way (Milionis et al. 2022).
///
/// # Errors
/// Amounts beyond range.
pub fn loss(terms: &Terms, position: &RangePosition, from: U256, to: U256) -> Result<i128, DefiError> {
    let holding = Holding { position: Some(*position), ..Holding::default() };
    let (old, new) = (terms.value(holding.placed(from)?, to)?, terms.value(holding.placed(to)?, to)?);
    let signed = |value: u128| i128::try_from(value).map_err(|_| DefiError::Overflow("value"));
    Ok(signed(old)? - signed(new)?)
}

/// Amount of each token that crosses a price range of some liquidity.
///
/// # Errors
/// Amounts beyond range.
pub fn crossing(from: U256, to: U256, liquidity: u128) -> Result<[u128; 2], DefiError> {
    Ok([amount0(from, to, liquidity, false)?, amount1(from, to, liquidity, false)?])
}

#[cfg(test)]
mod tests;
