//! Whole-protocol tests: honest runs, and forgers who recompute every public digest and challenge.

pub(crate) mod support;

mod cheating;
mod encodings;
mod forgeries;
mod honest;
mod plan;
mod registration;
mod secrets;
mod stacks;
