//! The Phi-3 decoder (Abdin et al. 2024), written once over [`Ops`]: the blocks of the Llama family with queries, keys and
//! values in one projection and both sides of the gate in another.
//!
//! Windows are not computed: the network takes sequences up to the window, where it makes no difference.

use serde_json::{Value, json};

use crate::config::{ConfigError, ConfigObject, GgufMetadata, MAX_SIZE, Sizes};
use crate::decoder::{Decoder, usual_in_gguf};
use crate::ops::{Bias, Heads, Ops, Rope, TableShape, Tokens};
use crate::record::DigestRecord;
use crate::rope;

/// The numbers of a Phi-3 network that its forward pass depends on.
#[derive(Clone, Debug, PartialEq)]
pub struct Phi3 {
    /// Rows of the embedding table.
    pub vocab: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Width of the MLP, of each side of its gate.
    pub intermediate: usize,
    /// Decoder blocks.
    pub layers: usize,
    /// Attention heads.
    pub heads: Heads,
    /// Rotary embedding.
    pub rope: Rope,
    /// Positions that attention sees, if not all.
    pub window: Option<usize>,
    /// Added to the mean square in every norm.
    pub eps: f64,
    /// Whether the head uses the embedding table.
    pub tied: bool,
    /// Positions the model was made for.
    pub context: usize,
}

impl Phi3 {
    fn check(&self, config: &ConfigObject<'_>) -> Result<(), ConfigError> {
        let Self { vocab, hidden, intermediate, layers, heads, eps, context, .. } = *self;
        Sizes { vocab, hidden, intermediate, layers, heads, eps, context }.check(config)?;
        rope::check(config, &self.rope)?;
        if 2 * intermediate > MAX_SIZE {
            let reason = format!("both sides of the gate are wider than {MAX_SIZE}: {intermediate}");
            return Err(config.error("intermediate_size", reason));
        }
        if (heads.query + 2 * heads.key_value) * heads.dim > MAX_SIZE {
            return Err(
                config.error("head_dim", format!("all heads together are wider than {MAX_SIZE}: {}", heads.dim))
            );
        }
        match self.window {
            Some(0) => Err(config.error("sliding_window", "not above 0: 0")),
            _ => Ok(()),
        }
    }
}

impl Decoder for Phi3 {
    const NAMES: &'static [&'static str] = &["phi3"];
    const IN_GGUF: &'static [&'static str] = &["phi3"];

    fn read(config: &ConfigObject<'_>, _: &str) -> Result<Self, ConfigError> {
        config.only("hidden_act", &["silu"])?;
        config.refuse("attention_bias", true)?;
        // Transformers 4 writes it here, transformers 5 among the parameters of rotary positions.
        rope::refuse_part(config)?;
        let outer = config.number("rope_theta")?.unwrap_or(rope::DEFAULT_THETA);
        let theta = match config.object("rope_parameters", "rope_parameters.")? {
            Some(parameters) => rope::plain(&parameters, outer)?,
            None => match config.object("rope_scaling", "rope_scaling.")? {
                Some(scaling) => rope::plain(&scaling, outer)?,
                None => outer,
            },
        };
        let query = config.need("num_attention_heads")?;
        let dim = match config.size("head_dim")? {
            Some(dim) => dim,
            None => config.share("hidden_size", "num_attention_heads")?,
        };
        let network = Self {
            vocab: config.need("vocab_size")?,
            hidden: config.need("hidden_size")?,
            intermediate: config.need("intermediate_size")?,
            layers: config.need("num_hidden_layers")?,
            heads: Heads { query, key_value: config.size("num_key_value_heads")?.unwrap_or(query), dim },
            rope: Rope { dim, theta, scaling: None },
            window: config.size("sliding_window")?,
            eps: config.number("rms_norm_eps")?.unwrap_or(1e-5),
            tied: config.flag("tie_word_embeddings")?.unwrap_or(false),
            context: config.need("max_position_embeddings")?,
        };
        network.check(config)?;
        Ok(network)
    }

    fn write(&self) -> Value {
        let Self { vocab, hidden, intermediate, layers, heads, rope, window, eps, tied, context } = self;
        let Heads { query, key_value, dim } = heads;
        json!({
            "architectures": ["Phi3ForCausalLM"],
            "model_type": "phi3",
            "vocab_size": vocab,
            "hidden_size": hidden,
            "intermediate_size": intermediate,
            "num_hidden_layers": layers,
            "num_attention_heads": query,
            "num_key_value_heads": key_value,
            "head_dim": dim,
            "hidden_act": "silu",
            "max_position_embeddings": context,
            "original_max_position_embeddings": context,
            "sliding_window": window,
            "rms_norm_eps": eps,
            "rope_theta": rope.theta,
            "rope_scaling": null,
            "tie_word_embeddings": tied,
            "attention_bias": false,
            "attention_dropout": 0.0,
            "embd_pdrop": 0.0,
            "resid_pdrop": 0.0,
        })
    }

    fn read_gguf(file: &GgufMetadata<'_>, architecture: &str) -> Result<Self, ConfigError> {
        let GgufMetadata { metadata, tensors } = file;
        let key = |name: &str| format!("{architecture}.{name}");
        rope::refuse_scaling(metadata, architecture)?;
        for factors in ["rope_factors_long.weight", "rope_factors_short.weight"] {
            if tensors.contains_key(factors) {
                return Err(metadata.error(factors, "scaled rotary positions are not supported for this architecture"));
            }
        }
        let dim = match metadata.size(&key("rope.dimension_count"))? {
            Some(dim) => dim,
            None => metadata.share(&key("embedding_length"), &key("attention.head_count"))?,
        };
        metadata.equal(&[key("attention.key_length"), key("attention.value_length")], dim)?;
        let Sizes { vocab, hidden, intermediate, layers, heads, eps, context } = file.sizes(architecture, dim)?;
        let theta = metadata.number(&key("rope.freq_base"))?.unwrap_or(rope::DEFAULT_THETA);
        let rope = Rope { dim, theta, scaling: None };
        // Older files of Phi-3's models for 4096 positions do not say their window; llama.cpp writes 0 for none.
        let silent = (context == 4096 && matches!(layers, 32 | 40)).then_some(2047);
        let window = metadata.size(&key("attention.sliding_window"))?.or(silent).filter(|&window| window > 0);
        let network =
            Self { vocab, hidden, intermediate, layers, heads, rope, window, eps, tied: file.tied(), context };
        network.check(metadata)?;
        Ok(network)
    }

    fn module_in_gguf(&self, module: &str) -> Option<&'static str> {
        match module {
            "self_attn.qkv_proj" => Some("attn_qkv"),
            "mlp.gate_up_proj" => Some("ffn_up"),
            other => usual_in_gguf(other),
        }
    }

    fn name(&self) -> &'static str {
        "phi3"
    }

    fn vocab(&self) -> usize {
        self.vocab
    }

    fn context(&self) -> usize {
        self.context
    }

    fn most_positions(&self) -> Option<usize> {
        self.window.filter(|&window| window < self.context)
    }

    fn blocks(&self) -> usize {
        self.layers
    }

    fn tied(&mut self) -> &mut bool {
        &mut self.tied
    }

    /// The integers vocab, hidden, intermediate, layers, query heads, key-value heads, head dimension, context, and the
    /// window or 0; the real eps; one byte 1 if the head is tied, else 0; the rotary embedding.
    fn record(&self, record: &mut DigestRecord) {
        let Self { vocab, hidden, intermediate, layers, heads, rope, window, eps, tied, context } = self;
        let Heads { query, key_value, dim } = heads;
        record.text(self.name());
        let window = window.unwrap_or(0);
        record.ints([*vocab, *hidden, *intermediate, *layers, *query, *key_value, *dim, *context, window]);
        record.real(*eps);
        record.flag(*tied);
        record.rope(rope);
    }

    fn embed<O: Ops>(&self, ops: &mut O, tokens: &Tokens) -> Result<O::Value, O::Error> {
        ops.embed("model.embed_tokens", TableShape { rows: self.vocab, features: self.hidden, scale: 1.0 }, tokens)
    }

    fn block<O: Ops>(&self, ops: &mut O, index: usize, x: &O::Value) -> Result<O::Value, O::Error> {
        let at = format!("model.layers.{index}");
        let (queries, keys) = (self.heads.query * self.heads.dim, self.heads.key_value * self.heads.dim);
        let h = ops.rms_norm(&format!("{at}.input_layernorm"), x, self.eps)?;
        let all = queries + 2 * keys;
        let fused = ops.linear(&format!("{at}.self_attn.qkv_proj"), all, Bias::Absent, &h)?;
        let (q, k) = (ops.part(&fused, 0..queries)?, ops.part(&fused, queries..queries + keys)?);
        let (q, k) = (ops.rope(&q, &self.rope)?, ops.rope(&k, &self.rope)?);
        let v = ops.part(&fused, queries + keys..all)?;
        let h = ops.attention(&format!("{at}.self_attn"), &q, &k, &v, self.heads, self.window)?;
        let h = ops.linear(&format!("{at}.self_attn.o_proj"), self.hidden, Bias::Absent, &h)?;
        let x = ops.add(x, &h)?;

        let h = ops.rms_norm(&format!("{at}.post_attention_layernorm"), &x, self.eps)?;
        let wide = self.intermediate;
        let fused = ops.linear(&format!("{at}.mlp.gate_up_proj"), 2 * wide, Bias::Absent, &h)?;
        let (gate, up) = (ops.part(&fused, 0..wide)?, ops.part(&fused, wide..2 * wide)?);
        let h = ops.swiglu(&gate, &up)?;
        let h = ops.linear(&format!("{at}.mlp.down_proj"), self.hidden, Bias::Absent, &h)?;
        ops.add(&x, &h)
    }

    fn head<O: Ops>(&self, ops: &mut O, x: &O::Value, rows: &[usize]) -> Result<O::Value, O::Error> {
        let x = ops.select(x, rows)?;
        let x = ops.rms_norm("model.norm", &x, self.eps)?;
        ops.head("lm_head", if self.tied { "model.embed_tokens" } else { "lm_head" }, self.vocab, &x)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::Network;
    use super::*;

    fn parsed(changes: Value) -> Result<Phi3, String> {
        let mut config = json!({
            "model_type": "phi3", "vocab_size": 16, "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2,
            "num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 32,
        });
        for (key, value) in changes.as_object().unwrap() {
            config[key] = value.clone();
        }
        match Network::read(Path::new("config.json"), &config) {
            Ok(Network::Phi3(network)) => Ok(network),
            other => Err(other.unwrap_err().to_string()),
        }
    }

    #[test]
    fn both_dialects_give_one_network_which_reads_back() {
        let v4 = parsed(json!({"rope_theta": 500.0, "sliding_window": 16, "rope_scaling": null})).unwrap();
        let rope = json!({"rope_type": "default", "rope_theta": 500.0, "partial_rotary_factor": 1.0});
        assert_eq!(v4, parsed(json!({"rope_parameters": rope, "sliding_window": 16})).unwrap());
        assert_eq!(Network::read(Path::new("config.json"), &v4.write()).unwrap(), v4.clone().into());
        let Phi3 { heads, eps, tied, .. } = v4;
        assert_eq!((heads, eps, tied), (Heads { query: 2, key_value: 1, dim: 4 }, 1e-5, false));
    }

    #[test]
    fn sequences_end_at_the_window_where_it_would_show() {
        let most = |window| Network::from(parsed(json!({ "sliding_window": window })).unwrap()).most_positions();
        assert_eq!([most(json!(31)), most(json!(32)), most(Value::Null)], [Some(31), None, None]);
    }

    #[test]
    fn refusals_name_the_key() {
        for (change, message) in [
            (json!({"hidden_act": "gelu"}), "hidden_act: not supported, only silu is: gelu"),
            (json!({"partial_rotary_factor": 0.75}), "partial_rotary_factor: not supported, only 1 is: 0.75"),
            (
                json!({"rope_scaling": {"type": "longrope", "long_factor": [1.0]}}),
                "rope_scaling.rope_type: not supported, only default is: longrope",
            ),
            (
                json!({"rope_parameters": {"rope_type": "llama3"}}),
                "rope_parameters.rope_type: not supported, only default is: llama3",
            ),
            (json!({"num_attention_heads": 3}), "num_attention_heads: does not divide hidden_size: 3"),
            (json!({"sliding_window": 0}), "sliding_window: not above 0: 0"),
            (
                json!({"intermediate_size": MAX_SIZE}),
                "intermediate_size: both sides of the gate are wider than 16777216: 16777216",
            ),
        ] {
            assert_eq!(parsed(change).unwrap_err(), format!("config.json: {message}"));
        }
    }

    #[test]
    fn a_file_of_llama_cpp_gives_the_same_network() {
        let whole = Network::from(parsed(json!({"sliding_window": 16})).unwrap());
        let metadata = json!({
            "general.architecture": "phi3", "phi3.embedding_length": 8, "phi3.feed_forward_length": 12,
            "phi3.block_count": 2, "phi3.context_length": 32, "phi3.attention.head_count": 2,
            "phi3.attention.head_count_kv": 1, "phi3.rope.dimension_count": 4,
            "phi3.attention.layer_norm_rms_epsilon": 1e-5, "phi3.attention.sliding_window": 16,
        });
        let tensors = whole.shapes().into_iter().map(|(name, shape)| (whole.name_in_gguf(&name).unwrap(), shape));
        let mut tensors: std::collections::BTreeMap<_, _> = tensors.collect();
        let read = |tensors: &std::collections::BTreeMap<String, Vec<usize>>| {
            let metadata = ConfigObject::new(Path::new("a.gguf"), &metadata).unwrap();
            Network::read_gguf(&GgufMetadata { metadata, tensors })
        };
        assert_eq!(read(&tensors).unwrap(), whole);
        assert_eq!(tensors["blk.1.attn_qkv.weight"], [16, 8]);
        tensors.insert("rope_factors_long.weight".to_owned(), vec![2]);
        assert!(read(&tensors).unwrap_err().to_string().starts_with("a.gguf: rope_factors_long.weight: scaled rotary"));
    }
}
