//! ftk: verifiable LoRA and DPO fine-tuning. The library behind the `ftk` command.

mod arithmetic;
pub mod cli;
pub mod commands;
pub mod device;
pub mod prove;
mod signals;
pub mod train;
