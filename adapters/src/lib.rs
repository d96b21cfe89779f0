//! Adapters: LoRA arithmetic, PEFT files, and the differentiable interpretation of networks. Nothing here knows what a row of data means.

pub mod atomic;
mod error;
pub mod footprint;
pub mod lora;
pub mod merge;
pub mod names;
pub mod peft;
pub mod train;
pub mod weights;

pub use error::Error;
