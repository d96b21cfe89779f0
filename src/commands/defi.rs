//! `ftk defi`: markets in, decisions of market makers out. What markets and decisions are is known to
//! [`ftk_recipes::defi`]; here it meets models, training and proofs.

pub mod audit;
pub mod backtest;
pub mod import;
mod policy;
pub mod quote;
pub mod report;

use ftk_recipes::defi::DefiError;

use super::Advice;

/// An error of a market with its hint, where it has one.
fn advised(error: DefiError) -> anyhow::Error {
    match error.hint() {
        Some(hint) => Advice::new(error.to_string(), hint).into(),
        None => error.into(),
    }
}
