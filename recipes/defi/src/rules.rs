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
    /// Steps beyond a quote that the price must trade for what is traded there to reach the quote.
    pub through: u64,
    /// Share of what takers trade at a quote's own price that reaches it, behind what stood there before it, millionths.
    pub queue: u64,
    /// Share of what they trade beyond it that reaches it, beside other quotes, millionths.
    #[serde(default = "whole")]
    pub share: u64,
    /// Bars between what a decision sees and the first bar that its quotes stand in; at least one.
    pub latency: usize,
}

/// All of it, millionths.
fn whole() -> u64 {
    1_000_000
}

/// What it costs to move a position in a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PoolRules {
    /// Transaction cost of every move, in money's smallest unit.
    pub gas: u128,
    /// Cost of swapping into a new range's proportions elsewhere, millionths of what is swapped; absent, it is swapped in
    /// the pool itself, for its fee and its price.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub swap_cost: Option<u32>,
    /// Minutes between what a decision sees and the price it is executed at; at least one.
    pub latency: usize,
}
