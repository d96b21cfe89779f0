//! Adapters: LoRA arithmetic, PEFT files, the operations networks are written in ([`ops::Ops`])
//! and their differentiable interpretation. Nothing here knows what a row of data means.

pub mod atomic;
mod error;
pub mod footprint;
pub mod lora;
pub mod merge;
pub mod names;
pub mod ops;
pub mod peft;
pub mod sites;
pub mod train;
pub mod weights;

pub use error::Error;
