//! The simulation of a provider of liquidity: what is decided is executed once, `latency` minutes later.

use std::ops::Range;

use ruint::aliases::U256;
use serde_json::{Value, json};

use super::{BaselineFamily, Passed, Simulation, Tally};
use crate::DefiError;
use crate::market::{Bar, Event, PRICE_ONE, PoolMinute, minutes_of_events};
use crate::pool::{FEE_ONE, MAX_TICK, MIN_TICK, sqrt_at};
use crate::range::{
    ACTIONS, EXIT, HOLD, Holding, MinuteOutcome, RangeAsk, RangeController, RangeOrder, RangePosition, asked,
};
use crate::replay::{Leg, Terms, fee_of, legs};
use crate::rules::PoolRules;
use crate::window::{Feature, Maker, Own, RANGE_ACTIONS, features, ids, root, warm_up};

/// A position on minutes of one pool.
#[derive(Clone, Debug)]
pub struct Liquidity {
    minutes: Vec<PoolMinute>,
    /// Swaps in time order, where events are known, and for every minute the first that is not before it.
    swaps: Option<(Vec<Leg>, Vec<usize>)>,
    bars: Vec<Bar>,
    features: Vec<Option<Feature>>,
    terms: Terms,
    rules: PoolRules,
    controller: RangeController,
    /// Penalty a minute for holding one token only, millionths of the capital.
    penalty: i128,
}

/// What the provider decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProviderChoice {
    /// An action of the policy.
    Action(usize),
    /// Keeps its tokens out of the pool.
    Hodl,
    /// All prices, once.
    Everywhere,
    /// A range of a half-width (millionths), once.
    Static(u32),
    /// A range of a half-width, again around the price whenever that has left it.
    Recentre(u32),
    /// As that, as wide as so many thousandths of the deviation of a day's returns.
    ByVolatility(u32),
}

/// What the provider has and waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProviderState {
    /// What it has.
    pub holding: Holding,
    /// What it began with.
    pub began: [u128; 2],
    /// An order and the minute at whose end it is executed.
    pub pending: Option<(usize, RangeOrder)>,
}

/// Minutes as bars of the coin's price in money, for windows and plots.
///
/// # Errors
/// Prices beyond range.
pub fn bars_of_minutes(minutes: &[PoolMinute], terms: &Terms) -> Result<Vec<Bar>, DefiError> {
    let bar = |minute: &PoolMinute| {
        let [open, one, other, close] =
            [minute.open, minute.low, minute.high, minute.close].map(|tick| price(sqrt_at(tick), terms));
        let (open, one, other, close) = (open?, one?, other?, close?);
        let coin = 1 - terms.money;
        // Eight decimals of money.
        let unit = |amount: u128| amount.saturating_mul(100_000_000) / 10u128.pow(terms.decimals[terms.money]);
        let at = sqrt_at(minute.close);
        let bought = unit(minute.paid[terms.money]);
        let sold = unit(terms.convert(minute.paid[coin], coin, at)?);
        let (high, low) = (one.max(other), one.min(other));
        let volume = bought.checked_add(sold).ok_or(DefiError::Overflow("volume of a minute"))?;
        Ok(Bar { time: minute.time, open, high, low, close, volume, bought: Some(bought) })
    };
    minutes.iter().map(bar).collect()
}

/// Price of one coin in money, units of 1e-10.
///
/// # Errors
/// A price beyond range.
pub fn price(sqrt_price: U256, terms: &Terms) -> Result<u64, DefiError> {
    let coin = 1 - terms.money;
    // A thousand coins, so that a cheap one has digits left.
    let money = terms.convert(1000 * 10u128.pow(terms.decimals[coin]), coin, sqrt_price)?;
    let scaled = U256::from(money) * U256::from(PRICE_ONE) / U256::from(1000 * 10u128.pow(terms.decimals[terms.money]));
    u64::try_from(scaled).map_err(|_| DefiError::Overflow("price of a coin"))
}

fn signed(value: u128) -> Result<i128, DefiError> {
    i128::try_from(value).map_err(|_| DefiError::Overflow("value"))
}

impl Liquidity {
    /// A provider in a pool whose every event is known: fees accrue by swap.
    ///
    /// # Errors
    /// As [`Liquidity::new`].
    pub fn of_events(
        events: &[Event],
        terms: Terms,
        rules: PoolRules,
        controller: RangeController,
        penalty: u32,
    ) -> Result<Self, DefiError> {
        let mut simulation = Self::new(minutes_of_events(events)?, terms, rules, controller, penalty)?;
        let legs = legs(events, &terms)?;
        let first = |minute: &PoolMinute| legs.partition_point(|leg| leg.time < minute.time);
        let starts = simulation.minutes.iter().map(first).chain([legs.len()]).collect();
        simulation.swaps = Some((legs, starts));
        Ok(simulation)
    }

    /// A provider on these minutes.
    ///
    /// # Errors
    /// Rules or limits that make no sense, amounts beyond range.
    pub fn new(
        minutes: Vec<PoolMinute>,
        terms: Terms,
        rules: PoolRules,
        controller: RangeController,
        penalty: u32,
    ) -> Result<Self, DefiError> {
        controller.check("controller")?;
        if terms.fee >= FEE_ONE || rules.gas > 1 << 62 || rules.swap_cost.is_some_and(|cost| cost > FEE_ONE) {
            let message = "fee must be below 1000000, gas at most 2^62, swap_cost at most 1000000";
            return Err(DefiError::setting("rules", message));
        }
        if rules.latency == 0
            || !(1..=16_384).contains(&terms.spacing)
            || terms.money > 1
            || terms.decimals.iter().any(|&it| it > 24)
        {
            let message = "latency must be at least 1, spacing from 1 to 16384, money 0 or 1, decimals at most 24";
            return Err(DefiError::setting("rules", message));
        }
        let bars = bars_of_minutes(&minutes, &terms)?;
        let features = features(&bars)?;
        Ok(Self { minutes, swaps: None, bars, features, terms, rules, controller, penalty: i128::from(penalty) })
    }

    /// The minutes as bars.
    pub fn all(&self) -> &[Bar] {
        &self.bars
    }

    /// The minutes, and what the pool is.
    pub fn pool(&self) -> (&[PoolMinute], &Terms) {
        (&self.minutes, &self.terms)
    }

    /// The order for a choice after a minute.
    pub fn order(&self, state: &ProviderState, at: usize, choice: ProviderChoice) -> RangeOrder {
        let tick = self.minutes[at].close;
        let position = state.holding.position;
        let out = position.is_none_or(|it| !(it.lower..it.upper).contains(&tick));
        let ask = match choice {
            ProviderChoice::Action(action) => asked(action),
            ProviderChoice::Hodl => RangeAsk::Hold,
            ProviderChoice::Everywhere if position.is_none() => RangeAsk::Everywhere,
            ProviderChoice::Static(width) if position.is_none() => RangeAsk::Around { width, shift: 0 },
            ProviderChoice::Recentre(width) if out => RangeAsk::Around { width, shift: 0 },
            ProviderChoice::ByVolatility(share) if out => {
                let sigma = self.features[at].map_or(0, |feature| feature.sigma);
                // Of 1440 minutes, in millionths.
                let daily = sigma * root(1440 * 1_000_000) / 1_000_000;
                let width = (daily * i128::from(share) / 1000).clamp(1000, 500_000);
                RangeAsk::Around { width: width as u32, shift: 0 }
            }
            _ => RangeAsk::Hold,
        };
        self.controller.order(ask, tick, self.minutes[at].time, &state.holding, &self.terms)
    }

    fn imbalance(&self, tokens: [u128; 2], at: U256) -> Result<(i128, i128), DefiError> {
        let all = signed(self.terms.value(tokens, at)?)?;
        let money = signed(tokens[self.terms.money])?;
        Ok((all - money - all / 2, all))
    }
}

impl Simulation for Liquidity {
    type State = ProviderState;
    type Choice = ProviderChoice;

    fn bars(&self) -> usize {
        self.minutes.len()
    }

    fn time(&self, bar: usize) -> i64 {
        self.minutes[bar].time
    }

    fn money(&self) -> (f64, &'static str) {
        (10f64.powi(self.terms.decimals[self.terms.money] as i32), "money")
    }

    fn ids(&self) -> (u32, usize) {
        (RANGE_ACTIONS, ACTIONS)
    }

    fn action(&self, action: usize) -> ProviderChoice {
        ProviderChoice::Action(action)
    }

    fn start(&self, at: usize) -> Result<ProviderState, DefiError> {
        let holding = Holding::new(self.controller.capital, &self.terms, sqrt_at(self.minutes[at].close))?;
        Ok(ProviderState { holding, began: holding.idle, pending: None })
    }

    fn window(&self, state: &ProviderState, at: usize) -> Option<Vec<u32>> {
        if at + 1 < warm_up() {
            return None;
        }
        let tick = self.minutes[at].close;
        let tokens = state.holding.tokens(sqrt_at(tick)).ok()?;
        let (beyond, all) = self.imbalance(tokens, sqrt_at(tick)).ok()?;
        let inventory = beyond * 2000 / all.max(1);
        let place = state.holding.position.map(|it| {
            let up = i128::from(tick - it.lower) * 1000 / i128::from(it.upper - it.lower);
            // In the direction of the coin's price, which falls with the tick where money is token 0.
            let up = up.clamp(-1, 1001);
            if self.terms.money == 0 { 1000 - up } else { up }
        });
        ids(&self.features, at, Maker::Provider, Own { inventory, place })
    }

    fn decide(&self, state: &mut ProviderState, at: usize, choice: ProviderChoice) {
        let order = self.order(state, at, choice);
        state.pending = Some((at + self.rules.latency, order));
    }

    fn describe(&self, state: &ProviderState) -> Value {
        let texts = |amounts: [u128; 2]| amounts.map(|amount| amount.to_string());
        let Holding { idle, position, fees, moves } = state.holding;
        let position = position.map(|it| json!([it.lower, it.upper, it.liquidity.to_string()]));
        json!({ "idle": texts(idle), "position": position, "fees": texts(fees), "moves": [moves.0, i64::from(moves.1)] })
    }

    fn restore(&self, held: &Value) -> Result<ProviderState, DefiError> {
        let wrong = || DefiError::setting("held", "must be {idle, position, fees, moves}, as a decision log writes it");
        let amount = |value: &Value| value.as_str().and_then(|it| it.parse().ok()).filter(|&it: &u128| it < 1 << 100);
        let pair = |key: &str| -> Option<[u128; 2]> {
            let [first, second] = held.get(key)?.as_array()?.as_slice() else { return None };
            Some([amount(first)?, amount(second)?])
        };
        let position = |value: &Value| -> Option<Option<RangePosition>> {
            let [lower, upper, liquidity] = value.as_array()?.as_slice() else { return None };
            let tick =
                |value: &Value| i32::try_from(value.as_i64()?).ok().filter(|it| (MIN_TICK..=MAX_TICK).contains(it));
            let (lower, upper, liquidity) = (tick(lower)?, tick(upper)?, amount(liquidity)?);
            (lower < upper && liquidity > 0).then_some(Some(RangePosition { lower, upper, liquidity }))
        };
        let read = || {
            let position = match held.get("position")? {
                Value::Null => None,
                value => position(value)?,
            };
            let [day, count] = held.get("moves")?.as_array()?.as_slice() else { return None };
            let moves = (day.as_i64()?, u32::try_from(count.as_u64()?).ok()?);
            let idle = pair("idle")?;
            Some(ProviderState {
                holding: Holding { idle, position, fees: pair("fees")?, moves },
                began: idle,
                pending: None,
            })
        };
        let state = read().ok_or_else(wrong)?;
        if self.describe(&state) == *held { Ok(state) } else { Err(wrong()) }
    }

    fn ordered(&self, state: &ProviderState, at: usize, choice: ProviderChoice) -> Value {
        match self.order(state, at, choice) {
            RangeOrder::Hold => "hold".into(),
            RangeOrder::Exit => "exit".into(),
            RangeOrder::Range { lower, upper } => json!({ "lower": lower, "upper": upper }),
        }
    }

    fn patient(&self, state: &ProviderState, at: usize, action: usize) -> usize {
        let tick = self.minutes[at].close;
        let serves = state.holding.position.is_some_and(|it| (it.lower..it.upper).contains(&tick));
        if serves && action != EXIT { HOLD } else { action }
    }

    fn pass(&self, state: &mut ProviderState, bar: usize) -> Result<Passed, DefiError> {
        let minute = &self.minutes[bar];
        let (before, now) = (sqrt_at(self.minutes[bar - 1].close), sqrt_at(minute.close));
        let held = state.holding.position;
        let swaps = self.swaps.as_ref().map(|(legs, starts)| &legs[starts[bar]..starts[bar + 1]]);
        let MinuteOutcome { fees, least, lost } = state.holding.pass(before, minute, swaps, &self.terms)?;
        let (mut costs, mut moves, mut turnover) = (0, 0, 0);
        if let Some((due, order)) = state.pending
            && due == bar
        {
            state.pending = None;
            let earlier = state.holding.tokens(now)?;
            costs = state.holding.execute(order, (now, minute.liquidity, minute.time), &self.terms, &self.rules)?;
            moves = u32::from(order != RangeOrder::Hold);
            let later = state.holding.tokens(now)?;
            let coin = 1 - self.terms.money;
            turnover = signed(self.terms.convert(earlier[coin].abs_diff(later[coin]), coin, now)?)?;
        }
        let tokens = state.holding.tokens(now)?;
        let (inventory, value) = self.imbalance(tokens, now)?;
        let capital = signed(self.controller.capital)?;
        let penalty = inventory.abs() * 2 / 1000 * (inventory.abs() * 2000 / capital) * self.penalty / 1_000_000;
        let active = held.is_some_and(|it| minute.high >= it.lower && minute.low < it.upper);
        let share = held.filter(|_| active).map_or(0, |it| {
            let all = U256::from(it.liquidity) + U256::from(minute.liquidity);
            i64::try_from(U256::from(it.liquidity) * U256::from(1_000_000) / all).unwrap_or(1_000_000)
        });
        let place = |tick: i32| price(sqrt_at(tick), &self.terms).unwrap_or(u64::MAX);
        let bounds = state.holding.position.map(|it| {
            let (one, other) = (place(it.lower), place(it.upper));
            [one.min(other), one.max(other)]
        });
        let width = state.holding.position.map_or(0, |it| i64::from(it.upper - it.lower) * 100);
        Ok(Passed {
            tally: Tally { fees, lost, costs, penalty },
            value,
            held: signed(self.terms.value(state.began, now)?)?,
            inventory,
            turnover,
            moves,
            active,
            spread: width,
            least,
            share,
            fill: None,
            bounds,
            price: self.bars[bar].close,
            begins: false,
        })
    }

    fn baselines(&self, _fitted: Range<usize>) -> Vec<BaselineFamily<ProviderChoice>> {
        let percent = |width: u32| format!("+-{} %", f64::from(width) / 10_000.0);
        let widths = [5_000, 10_000, 20_000, 50_000, 200_000];
        let each =
            |make: fn(u32) -> ProviderChoice| widths.iter().map(|&width| (percent(width), make(width))).collect();
        let shares = [250, 500, 1000, 2000, 4000];
        let by_volatility = shares
            .map(|share| (format!("{} daily deviations", share as f64 / 1000.0), ProviderChoice::ByVolatility(share)));
        vec![
            BaselineFamily { name: "hold", settings: vec![("".to_owned(), ProviderChoice::Hodl)] },
            BaselineFamily { name: "full range", settings: vec![("".to_owned(), ProviderChoice::Everywhere)] },
            BaselineFamily { name: "static width", settings: each(ProviderChoice::Static) },
            BaselineFamily { name: "recentred width", settings: each(ProviderChoice::Recentre) },
            BaselineFamily { name: "width by volatility", settings: by_volatility.to_vec() },
        ]
    }
}

/// Fees paid in a minute by all, in money at its end.
///
/// # Errors
/// Amounts beyond range.
pub fn fees_of(minute: &PoolMinute, terms: &Terms) -> Result<u128, DefiError> {
    let fees = minute.paid.map(|paid| fee_of(paid, terms.fee));
    terms.value(fees, sqrt_at(minute.close))
}
