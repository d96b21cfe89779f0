//! The text task: rows of text or token ids in, supervised or preference loss out; generation.

pub mod counts;
pub mod encode;
mod error;
pub mod examples;
pub mod files;
pub mod generate;
pub mod health;
pub mod load;
pub mod memory;
pub mod opened;
pub mod pack;
mod pass;
mod place;
pub mod preferred;
pub mod references;
pub mod rows;
pub mod session;
#[cfg(test)]
mod tiny;
pub mod turn;
pub mod turns;

pub use error::TextError;
pub use place::RowPlace;
