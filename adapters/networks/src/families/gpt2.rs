//! The GPT-2 decoder, written once over [`Ops`]: pre-norm blocks of multi-head attention with learned positions and an
//! MLP with GELU, LayerNorm and biases everywhere (Radford et al. 2019).
//!
//! Files hold its matrices as transformers' `Conv1D` does, `(d_in, d_out)`; they are turned when they are read and
//! turned back when they are written, so that inside ftk every matrix is `(d_out, d_in)`.

use serde_json::{Value, json};

use crate::config::{ConfigError, ConfigObject, MAX_LAYERS, MAX_SIZE, check_eps, check_size};
use crate::decoder::{Decoder, Stored};
use crate::ops::{Bias, Heads, Ops, TableShape, Tokens};
use crate::record::DigestRecord;

/// The numbers of a GPT-2 network that its forward pass depends on.
#[derive(Clone, Debug, PartialEq)]
pub struct Gpt2 {
    /// Rows of the embedding table.
    pub vocab: usize,
    /// Width of the residual stream; a multiple of `heads`.
    pub hidden: usize,
    /// Width of the MLP.
    pub intermediate: usize,
    /// Decoder blocks.
    pub layers: usize,
    /// Attention heads.
    pub heads: usize,
    /// Added to the variance in every norm.
    pub eps: f64,
    /// Whether the head uses the embedding table.
    pub tied: bool,
    /// Rows of the table of positions.
    pub context: usize,
}

impl Decoder for Gpt2 {
    const NAMES: &'static [&'static str] = &["gpt2"];
    const FAN_IN_FAN_OUT: bool = true;

    fn read(config: &ConfigObject<'_>, _: &str) -> Result<Self, ConfigError> {
        // Two names of one function; the others are other functions.
        config.only("activation_function", &["gelu_new", "gelu_pytorch_tanh"])?;
        config.refuse("scale_attn_weights", false)?;
        config.refuse("scale_attn_by_inverse_layer_idx", true)?;
        config.refuse("add_cross_attention", true)?;

        let hidden = config.need("n_embd")?;
        let network = Self {
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
            check_size(config.path(), key, value, max)?;
        }
        if !network.hidden.is_multiple_of(network.heads) {
            return Err(config.error("n_head", format!("does not divide n_embd: {}", network.heads)));
        }
        check_eps(config.path(), "layer_norm_epsilon", network.eps)?;
        Ok(network)
    }

    fn write(&self) -> Value {
        let Self { vocab, hidden, intermediate, layers, heads, eps, tied, context } = self;
        json!({
            "architectures": ["GPT2LMHeadModel"],
            "model_type": "gpt2",
            "vocab_size": vocab,
            "n_embd": hidden,
            "n_inner": intermediate,
            "n_layer": layers,
            "n_head": heads,
            "n_positions": context,
            "layer_norm_epsilon": eps,
            "activation_function": "gelu_new",
            "tie_word_embeddings": tied,
            "attn_pdrop": 0.0,
            "embd_pdrop": 0.0,
            "resid_pdrop": 0.0,
        })
    }

    fn name(&self) -> &'static str {
        "gpt2"
    }

    fn vocab(&self) -> usize {
        self.vocab
    }

    fn context(&self) -> usize {
        self.context
    }

    fn most_positions(&self) -> Option<usize> {
        Some(self.context)
    }

    fn blocks(&self) -> usize {
        self.layers
    }

    fn tied(&mut self) -> &mut bool {
        &mut self.tied
    }

    /// The integers vocab, hidden, intermediate, layers, heads, context; the real eps; one byte 1 if the head is tied,
    /// else 0.
    fn record(&self, record: &mut DigestRecord) {
        let Self { vocab, hidden, intermediate, layers, heads, eps, tied, context } = self;
        record.text("gpt2");
        record.ints([*vocab, *hidden, *intermediate, *layers, *heads, *context]);
        record.real(*eps);
        record.flag(*tied);
    }

    fn stored(name: &str) -> Stored {
        let turned = [".c_attn.weight", ".c_proj.weight", ".c_fc.weight"].iter().any(|end| name.ends_with(end));
        if turned { Stored::Transposed } else { Stored::Plain }
    }

    /// It was published as the network without its head, whose names lack the first part.
    fn full_name(name: String) -> String {
        let bare = ["wte.", "wpe.", "h.", "ln_f."].iter().any(|start| name.starts_with(start));
        if bare { format!("transformer.{name}") } else { name }
    }

    fn embed<O: Ops>(&self, ops: &mut O, tokens: &Tokens) -> Result<O::Value, O::Error> {
        let x =
            ops.embed("transformer.wte", TableShape { rows: self.vocab, features: self.hidden, scale: 1.0 }, tokens)?;
        ops.add_positions("transformer.wpe", self.context, &x)
    }

    fn block<O: Ops>(&self, ops: &mut O, index: usize, x: &O::Value) -> Result<O::Value, O::Error> {
        let at = format!("transformer.h.{index}");
        let h = ops.layer_norm(&format!("{at}.ln_1"), x, self.eps)?;
        let fused = ops.linear(&format!("{at}.attn.c_attn"), 3 * self.hidden, Bias::Present, &h)?;
        let mut part = |index: usize| ops.part(&fused, index * self.hidden..(index + 1) * self.hidden);
        let (q, k, v) = (part(0)?, part(1)?, part(2)?);
        let heads = Heads { query: self.heads, key_value: self.heads, dim: self.hidden / self.heads };
        let h = ops.attention(&format!("{at}.attn"), &q, &k, &v, heads, None)?;
        let h = ops.linear(&format!("{at}.attn.c_proj"), self.hidden, Bias::Present, &h)?;
        let x = ops.add(x, &h)?;

        let h = ops.layer_norm(&format!("{at}.ln_2"), &x, self.eps)?;
        let h = ops.linear(&format!("{at}.mlp.c_fc"), self.intermediate, Bias::Present, &h)?;
        let h = ops.gelu(&h)?;
        let h = ops.linear(&format!("{at}.mlp.c_proj"), self.hidden, Bias::Present, &h)?;
        ops.add(&x, &h)
    }

    fn head<O: Ops>(&self, ops: &mut O, x: &O::Value, rows: &[usize]) -> Result<O::Value, O::Error> {
        let x = ops.select(x, rows)?;
        let x = ops.layer_norm("transformer.ln_f", &x, self.eps)?;
        ops.head("lm_head", if self.tied { "transformer.wte" } else { "lm_head" }, self.vocab, &x)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::{Value, json};

    use super::super::{Network, tiny};
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

    fn parsed(changes: Value) -> Result<Network, ConfigError> {
        Network::read(Path::new("config.json"), &with(changes))
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
