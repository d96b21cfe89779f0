//! Recipes: what a training run is to do, read strictly from TOML, and the boundary at which a
//! task meets the host that runs it.

mod choice;
mod error;
#[cfg(test)]
mod examples;
mod recipe;
mod session;
mod source;
#[cfg(test)]
mod tests;

pub use choice::{ChoiceError, Size};
pub use error::RecipeError;
pub use recipe::{
    AllLinear, Base, Data, Dpo, DpoLoss, Hold, Lora, Optim, Recipe, Reference, Run, SaveDtype, Schedule, Selector,
    Targets, Task, VILLAGE,
};
pub use session::{Loss, Metrics, Session, TaskError, Window};
