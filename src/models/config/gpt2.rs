//! GPT-2, whose keys have names of their own (`n_embd`, `n_layer`, ...).

use std::path::Path;

use ftk_networks::Gpt2;

use super::super::ModelError;
use super::{MAX_LAYERS, MAX_SIZE, Object, check_eps, check_size};

/// The network of a configuration of GPT-2.
pub(super) fn parse(path: &Path, config: &Object) -> Result<Gpt2, ModelError> {
    // Two names of one function; the others are other functions.
    match config.text("activation_function")? {
        None | Some("gelu_new" | "gelu_pytorch_tanh") => {}
        Some(other) => {
            return Err(config.error("activation_function", format!("not supported, only gelu_new is: {other}")));
        }
    }
    config.refuse("scale_attn_weights", false)?;
    config.refuse("scale_attn_by_inverse_layer_idx", true)?;
    config.refuse("add_cross_attention", true)?;

    let hidden = config.need("n_embd")?;
    let network = Gpt2 {
        vocab: config.need("vocab_size")?,
        hidden,
        intermediate: config.size("n_inner")?.unwrap_or(hidden.saturating_mul(4)),
        layers: config.need("n_layer")?,
        heads: config.need("n_head")?,
        eps: config.number("layer_norm_epsilon")?.unwrap_or(1e-5),
        tied: config.flag("tie_word_embeddings")?.unwrap_or(true),
        context: config.need("n_positions")?,
    };
    for (key, value, max) in [
        ("vocab_size", network.vocab, MAX_SIZE),
        // The fused projection is three times as wide.
        ("n_embd", network.hidden, MAX_SIZE / 3),
        ("n_inner", network.intermediate, MAX_SIZE),
        ("n_layer", network.layers, MAX_LAYERS),
        ("n_head", network.heads, MAX_SIZE),
        ("n_positions", network.context, MAX_SIZE),
    ] {
        check_size(path, key, value, max)?;
    }
    if !network.hidden.is_multiple_of(network.heads) {
        return Err(config.error("n_head", format!("does not divide n_embd: {}", network.heads)));
    }
    check_eps(path, "layer_norm_epsilon", network.eps)?;
    Ok(network)
}

#[cfg(test)]
mod tests {
    use ftk_networks::Network;
    use serde_json::{Value, json};

    use super::super::super::tiny;
    use super::*;

    fn with(changes: Value) -> Value {
        let mut config = json!({
            "model_type": "gpt2", "vocab_size": 16, "n_embd": 8, "n_inner": 12, "n_layer": 2, "n_head": 2,
            "n_positions": 32, "activation_function": "gelu_new",
        });
        for (key, value) in changes.as_object().unwrap() {
            config[key] = value.clone();
        }
        config
    }

    fn parsed(changes: Value) -> Result<Network, ModelError> {
        super::super::parse(Path::new("config.json"), &with(changes))
    }

    #[test]
    fn absent_keys_take_the_defaults_of_transformers() {
        assert_eq!(parsed(json!({})).unwrap(), tiny::gpt2().into());
        let wide = Gpt2 { intermediate: 32, ..tiny::gpt2() };
        assert_eq!(parsed(json!({"n_inner": null})).unwrap(), wide.into());
        let untied = Gpt2 { tied: false, ..tiny::gpt2() };
        assert_eq!(parsed(json!({"tie_word_embeddings": false})).unwrap(), untied.into());
    }

    #[test]
    fn refusals_name_the_key() {
        for (change, message) in [
            (json!({"activation_function": "relu"}), "activation_function: not supported, only gelu_new is: relu"),
            (json!({"scale_attn_weights": false}), "scale_attn_weights: not supported: false"),
            (json!({"scale_attn_by_inverse_layer_idx": true}), "scale_attn_by_inverse_layer_idx: not supported: true"),
            (json!({"add_cross_attention": true}), "add_cross_attention: not supported: true"),
            (json!({"n_head": 3}), "n_head: does not divide n_embd: 3"),
            (json!({"n_head": 0}), "n_head: not within 1 and 16777216: 0"),
            (json!({"n_embd": null}), "n_embd: missing"),
            (json!({"layer_norm_epsilon": -1.0}), "layer_norm_epsilon: not a positive number: -1"),
        ] {
            assert_eq!(parsed(change).unwrap_err().to_string(), format!("config.json: {message}"));
        }
    }
}
