//! Adapters: LoRA arithmetic, PEFT files, and the differentiable interpretation of networks. Nothing here knows what a row of data means.

pub mod atomic;
pub mod average;
pub mod blocks;
pub mod cache;
mod error;
pub mod footprint;
pub mod foreign;
pub mod hint;
pub mod lora;
pub mod merge;
pub mod names;
pub mod notes;
pub mod peft;
pub mod staged;
pub mod train;
pub mod weights;

pub use error::Error;

/// Errors of this crate that may know what to do about them.
pub const HINTS: &[hint::HintOf] = &[hint::of::<peft::PeftError>];
