//! `ftk defi`: markets in, decisions of market makers out. What markets and decisions are is known to
//! [`ftk_recipes::defi`]; here it meets models, training and proofs.

pub mod audit;
pub mod backtest;
pub mod import;
mod policy;
pub mod quote;
pub mod report;
