//! Networks small enough for tests, here and in other crates. No feature, so that the command and the tests of the workspace
//! are made of one build of this crate.

use serde_json::{Value, json};

use super::{Gemma3, Gpt2, Llama, LlamaVariant, Network, Phi3};
use crate::ops::{Heads, Llama3Scaling, Rope};

/// Two layers, grouped heads, head not tied.
pub fn network() -> Llama {
    Llama {
        family: LlamaVariant::Llama,
        vocab: 16,
        hidden: 8,
        intermediate: 12,
        layers: 2,
        heads: Heads { query: 2, key_value: 1, dim: 4 },
        rope: Rope { dim: 4, theta: 10_000.0, scaling: None },
        eps: 1e-5,
        tied: false,
        context: 32,
    }
}

/// A GPT-2 with two layers and an MLP that is not four times as wide.
pub fn gpt2() -> Gpt2 {
    Gpt2 { vocab: 16, hidden: 8, intermediate: 12, layers: 2, heads: 2, eps: 1e-5, tied: true, context: 32 }
}

/// `config.json` of [`network`].
pub fn config() -> Value {
    json!({
        "model_type": "llama", "vocab_size": 16, "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 4, "rms_norm_eps": 1e-5,
        "max_position_embeddings": 32, "tie_word_embeddings": false,
    })
}

/// One of each kind.
pub fn all() -> Vec<Network> {
    let scaling = Llama3Scaling { factor: 8.0, low_freq_factor: 1.0, high_freq_factor: 4.0, original_context: 16 };
    let rope = Rope { dim: 4, theta: 5e5, scaling: Some(scaling) };
    let scaled = Llama { rope, tied: true, ..network() };
    let of_family = |family| Llama { family, ..network() };
    vec![
        network().into(),
        scaled.into(),
        of_family(LlamaVariant::Qwen2).into(),
        of_family(LlamaVariant::Qwen3).into(),
        gpt2().into(),
        gemma3().into(),
        phi3().into(),
    ]
}

/// Two blocks, the first of which sees a window.
pub fn gemma3() -> Gemma3 {
    let Llama { vocab, hidden, intermediate, heads, rope, eps, context, .. } = network();
    let local_rope = Rope { theta: 100.0, ..rope.clone() };
    let sees_all = vec![false, true];
    Gemma3 { vocab, hidden, intermediate, sees_all, heads, rope, local_rope, window: 16, eps, tied: true, context }
}

/// Two blocks with a window.
pub fn phi3() -> Phi3 {
    let Llama { vocab, hidden, intermediate, layers, heads, rope, eps, context, .. } = network();
    Phi3 { vocab, hidden, intermediate, layers, heads, rope, window: Some(16), eps, tied: false, context }
}
