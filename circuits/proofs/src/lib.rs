//! What ftk's proofs state: statements about inputs and what a base with a committed adapter gives for them.
//!
//! Each kind of output has one file, in `outputs/`. `circuits/STATEMENT.md` says what is proved and why it holds.

mod bounds;
mod deadline;
mod encoding;
pub mod fixed;
pub mod hex;
mod inputs;
mod model;
pub mod outputs;
#[cfg(feature = "prove")]
pub mod prove;
pub mod read;
mod replay;
mod statement;
mod words;

pub use bounds::{CaseError, MAX_CASES, MAX_CHOICES, MAX_CONTEXT, MAX_LOGITS, MAX_ROWS, MAX_STOP_IDS, MAX_TOKENS};
pub use deadline::Deadline;
pub use inputs::Input;
pub use model::{FixedModel, Net, Weight, site_factors};
pub use outputs::{AtLeast, Choice, Completion, Kind, LogProb, Logits, MAX_TOP, Output, Preference, Scored, Top};
pub use replay::{Replayed, add_base, replay, rows_of};
pub use statement::text::{TextError, parse, text};
pub use statement::{Case, Sequence, Statement, StatementError};
pub use words::{Words, nat};
