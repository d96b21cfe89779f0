//! Base models: their networks, files, tokenizers and chat templates, and [`graphs`], which are of networks of graphs.
//!
//! [`BaseModel::open`] reads what is small (configuration, tokenizer, template) and finds most mistakes
//! at once; [`BaseModel::weights`] then reads what is large. [`LoadedModel::load`] does both.
//! Nothing here runs a network: see `ftk_adapters` for its interpretations.

pub mod budget;
pub mod chat;
pub mod digest;
mod error;
mod folder;
mod gguf;
pub mod graphs;
mod hold;
#[cfg(feature = "hub")]
pub mod hub;
pub mod hub_name;
mod market;
mod parts;
pub mod save;
mod shipped;
mod source;
#[cfg(test)]
mod tiny;
pub mod tokenizer;
pub mod village;

use ftk_adapters::hint;

pub use chat::{ChatTemplate, Date, Message};
pub use error::ModelError;
pub use folder::{TEXT_FILES, stored_template, stored_tokens};
pub use ftk_networks::texts::SpecialTokens;
pub use gguf::adapter::{GgufAdapter, read_adapter, write_adapter};
pub use hold::Hold;
pub use hub_name::HubName;
pub use parts::TextFile;
pub use save::{Precision, fill_folder, save_folder};
pub use shipped::{MARKET, SHIPPED, VILLAGE};
pub use source::{BaseModel, LoadedModel};
pub use tokenizer::{TextStream, Tokenizer};

/// Errors about bases that may know what to do about them.
pub const HINTS: &[hint::HintOf] = &[
    hint::of::<ModelError>,
    #[cfg(feature = "hub")]
    hint::of::<hub::HubError>,
];
