//! Adapters: LoRA arithmetic, PEFT files, the operations networks are written in ([`ops::Ops`])
//! and their differentiable interpretation. Nothing here knows what a row of data means.

mod error;
pub mod lora;
pub mod ops;
pub mod sites;
pub mod weights;

pub use error::Error;
