//! Recipes: what a training run is to do, read strictly from TOML, and the boundary at which a
//! task meets the host that runs it.

pub mod batch;
mod builtin;
mod checks;
mod choice;
mod elsewhere;
mod error;
#[cfg(test)]
mod examples;
pub mod gnn;
mod key;
mod keys;
mod load;
pub mod plot;
pub mod preference;
mod recipe;
mod sections;
mod session;
pub mod shipped;
pub mod source;
#[cfg(test)]
mod tests;

use ftk_adapters::hint;

pub use builtin::{BUILTIN, Builtin};
pub use choice::{ChoiceError, Size};
pub use error::RecipeError;
pub use preference::{Dpo, DpoLoss, Reference};
pub use recipe::{Recipe, schema_of};
pub use sections::{
    AllLinear, Base, Best, Data, Format, Lora, Optim, Run, SaveDtype, Schedule, Scored, Selector, Targets, Task,
};
/// Errors of this crate that may know what to do about them.
pub const HINTS: &[hint::HintOf] = &[hint::of::<RecipeError>];

pub use session::{BatchLoss, Metrics, Session, StepWindow, TaskError};
