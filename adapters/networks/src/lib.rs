//! Networks, each written once over the operations of [`ops::Ops`], of tokens ([`Network`]) and of graphs ([`graphs`]),
//! with what files say of them and the digest a proof names them by. Interpretations live elsewhere: floating point with
//! gradients in `ftk-adapters`, exact integers where proofs are made and verified. Nothing here computes a layer, opens a file or
//! holds a weight.

pub mod config;
mod decoder;
pub mod digest;
mod families;
pub mod graphs;
pub mod initial;
pub mod ops;
mod record;
mod rope;
pub mod sites;
pub mod texts;

pub use decoder::Stored;
#[doc(hidden)]
pub use families::tiny;
pub use families::{Gemma3, Gpt2, Llama, LlamaVariant, Network, Phi3};
