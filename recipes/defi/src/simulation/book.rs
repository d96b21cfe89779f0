//! The quoter's simulation: quotes are renewed with every bar from what was decided last.

use std::ops::Range;

use serde_json::{Value, json};

use super::{BaselineFamily, Passed, Simulation, Tally};
use crate::DefiError;
use crate::avellaneda::{Coefficients, Intensity};
use crate::market::Bar;
use crate::quoter::{ACTIONS, QuoteController, QuoterAccount, Quotes, meet};
use crate::rules::BookRules;
use crate::window::{Feature, Maker, Own, QUOTES, RETURN_ONE, features, ids, warm_up};

/// Quotes on bars of one instrument.
#[derive(Clone, Debug)]
pub struct Book {
    bars: Vec<Bar>,
    features: Vec<Option<Feature>>,
    rules: BookRules,
    controller: QuoteController,
    /// Penalty a bar for a full inventory, millionths of its worth.
    penalty: i128,
}

/// What the quoter follows until it decides again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuoterChoice {
    /// No quotes.
    Idle,
    /// An action of the policy.
    Action(usize),
    /// A formula.
    Formula(Coefficients),
}

/// Account and present choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuoterState {
    /// What the quoter has.
    pub account: QuoterAccount,
    /// What it follows.
    pub choice: QuoterChoice,
}

impl Book {
    /// A quoter on these bars.
    ///
    /// # Errors
    /// Rules or limits that make no sense, volumes beyond range.
    pub fn new(bars: Vec<Bar>, rules: BookRules, controller: QuoteController, penalty: u32) -> Result<Self, DefiError> {
        controller.check("controller")?;
        let shares = rules.queue.max(rules.share) <= 1_000_000;
        if rules.latency == 0 || rules.tick == 0 || !shares || rules.maker_fee.abs() > 100_000 {
            let message =
                "latency and tick must be at least 1, queue and share at most 1000000, maker_fee within a tenth";
            return Err(DefiError::setting("rules", message));
        }
        let features = features(&bars)?;
        Ok(Self { bars, features, rules, controller, penalty: i128::from(penalty) })
    }

    /// The bars.
    pub fn all(&self) -> &[Bar] {
        &self.bars
    }

    /// Quotes that a choice leads to in a bar, from what was known `latency` bars before it.
    pub fn quotes(&self, state: &QuoterState, bar: usize) -> Quotes {
        self.quotes_seen(state, bar.saturating_sub(self.rules.latency))
    }

    /// Quotes that a choice leads to after a bar.
    pub fn quotes_seen(&self, state: &QuoterState, seen: usize) -> Quotes {
        let close = self.bars[seen].close;
        let none = Quotes { bid: close, ask: close, bid_size: 0, ask_size: 0 };
        let Some(feature) = self.features[seen] else { return none };
        let asked = match state.choice {
            QuoterChoice::Idle => None,
            QuoterChoice::Action(action) => self.controller.shape(action, feature.sigma),
            QuoterChoice::Formula(formula) => Some(formula.at(feature.sigma)),
        };
        asked.map_or(none, |asked| self.controller.quotes(asked, close, state.account.inventory, self.rules.tick))
    }
}

impl Simulation for Book {
    type State = QuoterState;
    type Choice = QuoterChoice;

    fn bars(&self) -> usize {
        self.bars.len()
    }

    fn time(&self, bar: usize) -> i64 {
        self.bars[bar].time
    }

    fn money(&self) -> (f64, &'static str) {
        (1e18, "money")
    }

    fn ids(&self) -> (u32, usize) {
        (QUOTES, ACTIONS)
    }

    fn action(&self, action: usize) -> QuoterChoice {
        QuoterChoice::Action(action)
    }

    fn start(&self, _at: usize) -> Result<QuoterState, DefiError> {
        Ok(QuoterState { account: QuoterAccount::default(), choice: QuoterChoice::Idle })
    }

    fn window(&self, state: &QuoterState, at: usize) -> Option<Vec<u32>> {
        if at + 1 < warm_up() {
            return None;
        }
        let inventory = state.account.inventory * 1000 / self.controller.max_inventory;
        ids(&self.features, at, Maker::Quoter, Own { inventory, place: None })
    }

    fn decide(&self, state: &mut QuoterState, _at: usize, choice: QuoterChoice) {
        state.choice = choice;
    }

    fn describe(&self, state: &QuoterState) -> Value {
        json!({ "cash": state.account.cash.to_string(), "inventory": state.account.inventory.to_string() })
    }

    fn restore(&self, held: &Value) -> Result<QuoterState, DefiError> {
        let number = |key: &str| {
            let wrong = || DefiError::setting(format!("held.{key}"), "must be a whole number, as text");
            let number: i128 =
                held.get(key).and_then(Value::as_str).and_then(|it| it.parse().ok()).ok_or_else(wrong)?;
            if number.unsigned_abs() < 1 << 100 { Ok(number) } else { Err(wrong()) }
        };
        let account = QuoterAccount { cash: number("cash")?, inventory: number("inventory")? };
        if account.inventory.abs() > self.controller.max_inventory {
            return Err(DefiError::setting("held.inventory", "is beyond the controller's limit"));
        }
        let state = QuoterState { account, choice: QuoterChoice::Idle };
        if self.describe(&state) == *held {
            Ok(state)
        } else {
            Err(DefiError::setting("held", "has other fields, too"))
        }
    }

    fn ordered(&self, state: &QuoterState, at: usize, choice: QuoterChoice) -> Value {
        let quotes = self.quotes_seen(&QuoterState { choice, ..*state }, at);
        let Quotes { bid, ask, bid_size, ask_size } = quotes;
        json!({ "bid": bid, "ask": ask, "bid_size": bid_size.to_string(), "ask_size": ask_size.to_string() })
    }

    fn patient(&self, _state: &QuoterState, _at: usize, action: usize) -> usize {
        action
    }

    fn pass(&self, state: &mut QuoterState, bar: usize) -> Result<Passed, DefiError> {
        let quotes = self.quotes(state, bar);
        let (before, now) = (self.bars[bar - 1].close, self.bars[bar].close);
        let worth = state.account.equity(before);
        let filled = meet(&mut state.account, &quotes, &self.bars[bar], &self.rules)?;
        let value = state.account.equity(now);
        let spread = |fill: crate::quoter::Fill| fill.size * (i128::from(before) - i128::from(fill.price));
        let fees = filled.fill.map_or(0, spread);
        let costs = filled.fee;
        // Whatever the worth did not gain of what spread and fees came to.
        let lost = fees - costs - (value - worth);
        let inventory = state.account.inventory * i128::from(now);
        let penalty = inventory / 1_000_000 * state.account.inventory / self.controller.max_inventory * self.penalty;
        let standing = quotes.bid_size > 0 && quotes.ask_size > 0;
        let distance = i128::from(quotes.ask - quotes.bid) * 1_000_000 / i128::from(self.bars[bar - 1].close.max(1));
        Ok(Passed {
            tally: Tally { fees, lost, costs, penalty },
            value,
            held: 0,
            inventory,
            turnover: filled.fill.map_or(0, |fill| fill.size.abs() * i128::from(fill.price)),
            moves: u32::from(filled.fill.is_some()),
            active: standing,
            spread: if standing { i64::try_from(distance).unwrap_or(i64::MAX) } else { 0 },
            least: 0,
            share: 0,
            fill: filled.fill,
            bounds: standing.then_some([quotes.bid, quotes.ask]),
            price: now,
            begins: false,
        })
    }

    fn baselines(&self, fitted: Range<usize>) -> Vec<BaselineFamily<QuoterChoice>> {
        let fit = Intensity::fit(&self.bars[fitted]);
        let quotes = (self.controller.max_inventory / self.controller.size) as f64;
        let sigma = (fit.sigma * RETURN_ONE as f64) as i128;
        let formula = |name: String, formula| (name, QuoterChoice::Formula(formula));
        let symmetric = [250, 500, 1000, 1500, 2500, 4000, 6000].into_iter().map(|share: i128| {
            let half = sigma * share / 1000;
            formula(format!("half-spread {} bps", half as f64 / 1e5), Coefficients::symmetric(half))
        });
        let risks = [0.01, 0.03, 0.1, 0.3, 1.0, 3.0];
        let glft = risks
            .into_iter()
            .map(|risk| formula(format!("gamma {risk} k"), Coefficients::glft(&fit, risk * fit.k, quotes)));
        let stoikov = risks.into_iter().flat_map(|risk| [5.0, 30.0].into_iter().map(move |left| (risk, left)));
        let stoikov = stoikov.map(|(risk, left)| {
            let name = format!("gamma {risk} k, {left} bars left");
            formula(name, Coefficients::avellaneda_stoikov(&fit, risk * fit.k, left, quotes))
        });
        let fixed = (0..ACTIONS).map(|action| (format!("action {action}"), QuoterChoice::Action(action)));
        vec![
            BaselineFamily { name: "no quotes", settings: vec![("".to_owned(), QuoterChoice::Idle)] },
            BaselineFamily { name: "symmetric", settings: symmetric.collect() },
            BaselineFamily { name: "Avellaneda-Stoikov", settings: stoikov.collect() },
            BaselineFamily { name: "GLFT", settings: glft.collect() },
            BaselineFamily { name: "one action, always", settings: fixed.collect() },
        ]
    }
}
