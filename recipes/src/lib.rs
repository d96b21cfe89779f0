//! Recipes: what a training run is to do, read strictly from TOML, and the boundary at which a
//! task meets the host that runs it.

mod error;
#[cfg(test)]
mod examples;
mod recipe;
mod session;
mod source;
#[cfg(test)]
mod tests;

pub use error::RecipeError;
pub use recipe::{
    AllLinear, Base, Data, Dpo, Hold, Lora, Optim, Recipe, Reference, Run, SaveDtype, Schedule, Scored, Targets, Task,
    VILLAGE,
};
pub use session::{Loss, Metrics, Session, TaskError};
