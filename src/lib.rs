//! ftk: verifiable LoRA and DPO fine-tuning. The library behind the `ftk` command.

pub mod models;
pub mod prove;
