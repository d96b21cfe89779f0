//! How the weights of a base are held.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How the weights of a frozen base are held in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Hold {
    /// In f32: four bytes a weight.
    #[default]
    F32,
    /// As the file has them (bf16, f16, or the blocks of a GGUF file), and widened each time they are used.
    Stored,
}
