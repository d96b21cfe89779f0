//! What the market charges and allows: the parts of a simulation that a plan states in public.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How an order book treats a quoter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BookRules {
    /// Fee on what is filled, millionths of its value; negative is a rebate.
    pub maker_fee: i64,
    /// Smallest step of a price, units of 1e-10.
    pub tick: u64,
    /// Steps beyond a quote that the price must trade for the quote to be filled as a whole.
    pub through: u64,
    /// Share of a quote that is filled where the price reaches it and goes no further, millionths.
    pub queue: u64,
    /// Bars between what a decision sees and the first bar that its quotes stand in; at least one.
    pub latency: usize,
}

/// What it costs to move a position in a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PoolRules {
    /// Transaction cost of every move, in money's smallest unit.
    pub gas: u128,
    /// Minutes between what a decision sees and the price it is executed at; at least one.
    pub latency: usize,
}
