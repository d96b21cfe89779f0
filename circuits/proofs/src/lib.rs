//! What ftk's proofs state, and the verifier of their bundles.
//!
//! A [`Statement`] says what a base with a committed adapter gives for some inputs; each kind of output has one file, in
//! `outputs/`. A bundle ([`mod@bundle`]) is a statement with its proof. A [`Verifier`](verifier::Verifier) has a base
//! ([`FixedModel`], made of slices of weights) and judges the bytes of bundles by what it was told to expect
//! ([`Expectations`](verdict::Expectations)). `circuits/STATEMENT.md` says what is proved and why it holds.
//!
//! Nothing here opens a file, and nothing asks for a clock, threads or random numbers unless features do: `clock` for limits
//! on time, `multicore` for halo2's threads, `prove` for the prover, `js` for a browser's random numbers, which whoever
//! builds for `wasm32-unknown-unknown` has to link.
//!
//! How a bundle shows that its statement is true is the matter of `open_mode`, of [`plan`](plan()) where it is sealed, and of the
//! claims that a verifier hands to [`ftk_circuits::verify_all`]; statement, expectations and verdict do not know of it.
//!
//! # Verifying a bundle
//!
//! ```
//! # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/tests/world.rs"));
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let world = world();
//! # let (network, weights, trusted) = (world.network.clone(), world.weights.clone(), world.adapter);
//! # let sent = world.files();
//! use ftk_proofs::bundle::Files;
//! use ftk_proofs::limits::Limits;
//! use ftk_proofs::refusal::Refusal;
//! use ftk_proofs::verdict::{Expectations, ExpectedInput};
//! use ftk_proofs::verifier::Verifier;
//!
//! // The base: its network, what makes ids of text (nothing here), and its weights, one after another.
//! let model = FixedModel::new(Net::Tokens(network), Texts::default(), |name| {
//!     let (shape, values) = weights.get(name)?;
//!     Some(FloatWeight { shape: shape.as_slice().into(), values: values.as_slice().into() })
//! })?;
//! let mut verifier = Verifier::new(model, Limits::default());
//!
//! // What is known from elsewhere: the adapter, and what was asked.
//! let input = ExpectedInput::Inputs(vec![Input::Tokens(vec![5, 6, 7])]);
//! let expectations = Expectations { adapter: Some(trusted), input, ..Expectations::default() };
//!
//! // The files of a bundle, as they came.
//! let files: Files = sent.iter().map(|(name, bytes)| (*name, bytes.as_slice())).collect();
//! let judged = verifier.verify(&files, &expectations)?;
//! // A choice says more than its input, and nobody said among which ids: so far it is consistent, and not valid.
//! assert!(!judged.verdict.is_valid());
//! let expectations = Expectations { input: ExpectedInput::Questions(judged.statement.cases.clone()), ..expectations };
//! assert!(verifier.verify(&files, &expectations)?.verdict.is_valid());
//!
//! // What is wrong is refused by a check with a name.
//! let mut statement = files["statement.json"].to_vec();
//! let digit = statement.iter().rposition(u8::is_ascii_digit).ok_or("a choice is a number")?;
//! statement[digit] = if statement[digit] == b'1' { b'2' } else { b'1' };
//! let forged = Files::from_iter(files.clone().into_iter().chain([("statement.json", statement.as_slice())]));
//! let refusal: Refusal = verifier.verify(&forged, &expectations).unwrap_err();
//! assert_eq!(refusal.check(), "output");
//! # Ok(())
//! # }
//! ```

pub mod archive;
mod bounds;
pub mod bundle;
mod deadline;
pub mod digested;
pub mod disclosure;
mod encoding;
pub mod fixed;
pub mod head;
pub mod hex;
mod inputs;
pub mod limits;
mod model;
mod open_mode;
pub mod outputs;
#[cfg(feature = "prove")]
pub mod prove;
pub mod read;
pub mod refusal;
mod replay;
mod statement;
pub mod verdict;
pub mod verifier;
mod words;

#[cfg(test)]
extern crate self as ftk_proofs;

pub use ftk_circuits as circuits;
pub use ftk_networks as networks;

pub use bounds::{CaseError, MAX_CASES, MAX_CHOICES, MAX_CONTEXT, MAX_LOGITS, MAX_ROWS, MAX_STOP_IDS, MAX_TOKENS};
pub use deadline::Deadline;
pub use fixed::plan::plan;
pub use inputs::Input;
pub use model::{FixedModel, FloatWeight, Net, site_factors};
pub use outputs::{
    AtLeast, Choice, Completion, Kind, LogProb, Logits, MAX_TOP, Output, Preference, ScoredContinuation, Top,
};
pub use replay::{Replayed, add_base, replay, rows_of};
pub use statement::text::{StatementTextError, parse, text};
pub use statement::{Case, Statement, StatementError, StatementSequence};
pub use words::{Words, nat};

#[cfg(test)]
mod tests;
