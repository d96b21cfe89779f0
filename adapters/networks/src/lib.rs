//! Networks, each written once over the operations of [`ops::Ops`], of tokens ([`Network`]) and of graphs ([`graphs`]).
//! Interpretations live elsewhere: floating point with gradients in `ftk-adapters`, exact integers where proofs are
//! made and verified. Nothing here computes, opens a file or holds a weight.

mod gpt2;
pub mod graphs;
mod llama;
mod network;
pub mod ops;
mod shapes;
pub mod sites;

pub use gpt2::Gpt2;
pub use llama::{Family, Llama};
pub use network::Network;
