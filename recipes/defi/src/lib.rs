//! Markets: from files of prices and pools to decisions of a market maker, simulated in exact integers.
//!
//! What is here knows nothing of networks. A decision is one of a few listed tokens behind a window of tokens, so
//! training, adapters and proofs are those of every other model of tokens; what the tokens mean, what follows from a
//! decision and what it was worth is decided here. State is integers throughout; floats are statistics.

pub mod advice;
pub mod avellaneda;
mod data;
mod error;
pub mod evaluate;
pub mod generated;
pub mod log;
mod market;
pub mod plan;
pub mod pool;
pub mod positions;
pub mod quoter;
pub mod range;
pub mod replay;
pub mod report;
pub mod rows;
pub mod rules;
pub mod simulation;
pub mod window;

use ftk_adapters::hint;
use ftk_recipes::Builtin;

pub use data::{
    ImportedMarket, MarketDigest, MarketFormat, OwnedPosition, PositionMoment, date, digest, import,
    positions as owned, read, rows as canonical_rows, write,
};
pub use error::DefiError;
pub use market::{
    Action, Bar, DAY, Event, Gaps, HOUR, MINUTE, Market, PRICE_ONE, PoolMinute, SIZE_ONE, Taker, Trade, bars_of_trades,
    gaps, minutes_of_events,
};

/// Recipe by which a maker learns from a teacher; rows and folders are filled in.
pub const SFT: &str = include_str!("../sft.toml");
/// Recipe by which it learns preferences from there.
pub const DPO: &str = include_str!("../dpo.toml");

macro_rules! plans {
    ($($name:literal),*) => {
        &[$(Builtin { name: concat!("defi/", $name), text: include_str!(concat!("../", $name, ".toml")) }),*]
    };
}

/// Plans of market makers, in name order, which `ftk defi backtest` walks: not recipes, but started from in the same way.
pub const PLANS: &[Builtin] = plans!["btc", "btc-hourly", "polygon", "polygon-days", "provider", "quoter"];

/// Errors of this crate that may know what to do about them.
pub const HINTS: &[hint::HintOf] = &[hint::of::<DefiError>];

#[cfg(test)]
mod tests;
