//! The decoder of the Llama family, written once over [`Ops`]: pre-norm blocks of grouped-query attention with
//! rotary positions and a SwiGLU MLP (Touvron et al. 2023; Llama 3 scaling of the wavelengths). Its members differ in
//! how queries and keys are made ([`LlamaVariant`]).

use serde_json::{Value, json};

use crate::config::{ConfigError, ConfigObject, GgufMetadata, Sizes};
use crate::decoder::{Decoder, usual_in_gguf};
use crate::ops::{Bias, Heads, Ops, Rope, TableShape, Tokens};
use crate::record::DigestRecord;
use crate::rope;

/// What sets members of the family apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LlamaVariant {
    /// Llama, and Mistral without a sliding window: neither biases nor norms.
    Llama,
    /// Qwen 2 and 2.5: biases on queries, keys and values.
    Qwen2,
    /// Qwen 3: each head's queries and keys are normalised before they are rotated.
    Qwen3,
}

impl LlamaVariant {
    /// The name transformers knows the family by (`model_type`).
    pub fn name(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
        }
    }
}

/// The numbers of a network of the Llama family that its forward pass depends on.
#[derive(Clone, Debug, PartialEq)]
pub struct Llama {
    /// Which member of the family.
    pub family: LlamaVariant,
    /// Rows of the embedding table.
    pub vocab: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Width of the MLP.
    pub intermediate: usize,
    /// Decoder blocks.
    pub layers: usize,
    /// Attention heads.
    pub heads: Heads,
    /// Rotary embedding.
    pub rope: Rope,
    /// Added to the mean square in every norm.
    pub eps: f64,
    /// Whether the head uses the embedding table.
    pub tied: bool,
    /// Positions the model was made for.
    pub context: usize,
}

impl Decoder for Llama {
    const NAMES: &'static [&'static str] = &["llama", "mistral", "qwen2", "qwen3"];
    // Mistral's files call themselves Llama's.
    const IN_GGUF: &'static [&'static str] = &["llama", "qwen2", "qwen3"];

    fn read(config: &ConfigObject<'_>, model_type: &str) -> Result<Self, ConfigError> {
        let family = match model_type {
            "qwen2" => LlamaVariant::Qwen2,
            "qwen3" => LlamaVariant::Qwen3,
            _ => LlamaVariant::Llama,
        };
        config.refuse("attention_bias", true)?;
        config.refuse("mlp_bias", true)?;
        config.only("hidden_act", &["silu"])?;
        let query = config.need("num_attention_heads")?;
        let dim = match (config.size("head_dim")?, family) {
            (Some(dim), _) => dim,
            // What transformers assumes for Qwen 3, whatever the other widths.
            (None, LlamaVariant::Qwen3) => 128,
            (None, _) => config.share("hidden_size", "num_attention_heads")?,
        };
        // Where Llama's classes compute what a file leaves out, the others have numbers of one published model.
        let (key_value, context) = match model_type {
            "llama" => (
                config.size("num_key_value_heads")?.unwrap_or(query),
                config.size("max_position_embeddings")?.unwrap_or(2048),
            ),
            _ => (config.need("num_key_value_heads")?, config.need("max_position_embeddings")?),
        };
        let network = Self {
            family,
            vocab: config.need("vocab_size")?,
            hidden: config.need("hidden_size")?,
            intermediate: config.need("intermediate_size")?,
            layers: config.need("num_hidden_layers")?,
            heads: Heads { query, key_value, dim },
            rope: rope::read(config, dim)?,
            eps: config.number("rms_norm_eps")?.unwrap_or(1e-6),
            tied: config.flag("tie_word_embeddings")?.unwrap_or(false),
            context,
        };
        network.check(config)?;
        refuse_windows(config, model_type, context)?;
        Ok(network)
    }

    fn write(&self) -> Value {
        let Self { family, vocab, hidden, intermediate, layers, heads, rope, eps, tied, context } = self;
        let Heads { query, key_value, dim } = heads;
        // Biases and norms of queries and keys come with the family's name.
        let class = match family {
            LlamaVariant::Llama => "LlamaForCausalLM",
            LlamaVariant::Qwen2 => "Qwen2ForCausalLM",
            LlamaVariant::Qwen3 => "Qwen3ForCausalLM",
        };
        let mut config = json!({
            "architectures": [class],
            "model_type": family.name(),
            "vocab_size": vocab,
            "hidden_size": hidden,
            "intermediate_size": intermediate,
            "num_hidden_layers": layers,
            "num_attention_heads": query,
            "num_key_value_heads": key_value,
            "head_dim": dim,
            "hidden_act": "silu",
            "max_position_embeddings": context,
            "rms_norm_eps": eps,
            "rope_theta": rope.theta,
            "rope_scaling": rope::written(rope),
            "tie_word_embeddings": tied,
            "attention_dropout": 0.0,
        });
        match family {
            LlamaVariant::Llama => {
                config["attention_bias"] = json!(false);
                config["mlp_bias"] = json!(false);
            }
            LlamaVariant::Qwen2 => config["use_sliding_window"] = json!(false),
            LlamaVariant::Qwen3 => {
                config["attention_bias"] = json!(false);
                config["use_sliding_window"] = json!(false);
            }
        }
        config
    }

    fn read_gguf(file: &GgufMetadata<'_>, architecture: &str) -> Result<Self, ConfigError> {
        let metadata = &file.metadata;
        let family = match architecture {
            "qwen2" => LlamaVariant::Qwen2,
            "qwen3" => LlamaVariant::Qwen3,
            _ => LlamaVariant::Llama,
        };
        let key = |name: &str| format!("{architecture}.{name}");
        if let Some(experts) = metadata.size(&key("expert_count"))?.filter(|&experts| experts > 0) {
            return Err(
                metadata.error(&key("expert_count"), format!("mixtures of experts are not supported: {experts}"))
            );
        }
        rope::refuse_scaling(metadata, architecture)?;
        let window = key("attention.sliding_window");
        let context = metadata.size(&key("context_length"))?.unwrap_or(usize::MAX);
        if let Some(size) = metadata.size(&window)?.filter(|&size| size > 0 && size < context) {
            return Err(metadata.error(&window, format!("not supported: {size}")));
        }

        let dim = match metadata.size(&key("attention.key_length"))? {
            Some(dim) => dim,
            None => metadata.share(&key("embedding_length"), &key("attention.head_count"))?,
        };
        metadata.equal(&[key("rope.dimension_count"), key("attention.value_length")], dim)?;
        let Sizes { vocab, hidden, intermediate, layers, heads, eps, context } = file.sizes(architecture, dim)?;
        let theta = metadata.number(&key("rope.freq_base"))?.unwrap_or(rope::DEFAULT_THETA);
        let rope = Rope { dim, theta, scaling: None };
        let network =
            Self { family, vocab, hidden, intermediate, layers, heads, rope, eps, tied: file.tied(), context };
        network.check(metadata)?;
        Ok(network)
    }

    fn module_in_gguf(&self, module: &str) -> Option<&'static str> {
        usual_in_gguf(module)
    }

    fn interleaved(&self, module: &str) -> Option<usize> {
        match (self.family, module) {
            (LlamaVariant::Llama, "q_proj") => Some(self.heads.query),
            (LlamaVariant::Llama, "k_proj") => Some(self.heads.key_value),
            _ => None,
        }
    }

    fn divide_frequencies(&mut self, divisors: &[f32]) -> Result<(), String> {
        self.rope.scaling = rope::recognise(&self.rope, divisors)?;
        Ok(())
    }

    fn name(&self) -> &'static str {
        self.family.name()
    }

    fn vocab(&self) -> usize {
        self.vocab
    }

    fn context(&self) -> usize {
        self.context
    }

    fn blocks(&self) -> usize {
        self.layers
    }

    fn tied(&mut self) -> &mut bool {
        &mut self.tied
    }

    /// The integers vocab, hidden, intermediate, layers, query heads, key-value heads, head dimension, context; the
    /// real eps; one byte 1 if the head is tied, else 0; the rotary embedding.
    fn record(&self, record: &mut DigestRecord) {
        let Self { family, vocab, hidden, intermediate, layers, heads, rope, eps, tied, context } = self;
        let Heads { query, key_value, dim } = heads;
        record.text(family.name());
        record.ints([*vocab, *hidden, *intermediate, *layers, *query, *key_value, *dim, *context]);
        record.real(*eps);
        record.flag(*tied);
        record.rope(rope);
    }

    fn embed<O: Ops>(&self, ops: &mut O, tokens: &Tokens) -> Result<O::Value, O::Error> {
        ops.embed("model.embed_tokens", TableShape { rows: self.vocab, features: self.hidden, scale: 1.0 }, tokens)
    }

    fn block<O: Ops>(&self, ops: &mut O, index: usize, x: &O::Value) -> Result<O::Value, O::Error> {
        let at = format!("model.layers.{index}");
        let h = ops.rms_norm(&format!("{at}.input_layernorm"), x, self.eps)?;
        let (q, k) = (self.rotated(ops, &at, "q", &h)?, self.rotated(ops, &at, "k", &h)?);
        let keys = self.heads.key_value * self.heads.dim;
        let v = ops.linear(&format!("{at}.self_attn.v_proj"), keys, self.bias(), &h)?;
        let h = ops.attention(&format!("{at}.self_attn"), &q, &k, &v, self.heads, None)?;
        let h = ops.linear(&format!("{at}.self_attn.o_proj"), self.hidden, Bias::Absent, &h)?;
        let x = ops.add(x, &h)?;

        let h = ops.rms_norm(&format!("{at}.post_attention_layernorm"), &x, self.eps)?;
        let gate = ops.linear(&format!("{at}.mlp.gate_proj"), self.intermediate, Bias::Absent, &h)?;
        let up = ops.linear(&format!("{at}.mlp.up_proj"), self.intermediate, Bias::Absent, &h)?;
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

impl Llama {
    /// Queries (`q`) or keys (`k`) of a block, rotated.
    fn rotated<O: Ops>(&self, ops: &mut O, at: &str, which: &str, h: &O::Value) -> Result<O::Value, O::Error> {
        let site = format!("{at}.self_attn.{which}_proj");
        let heads = if which == "q" { self.heads.query } else { self.heads.key_value };
        let width = heads * self.heads.dim;
        match self.family {
            LlamaVariant::Llama | LlamaVariant::Qwen2 => ops.linear_rope(&site, width, self.bias(), h, &self.rope),
            LlamaVariant::Qwen3 => {
                let x = ops.linear(&site, width, self.bias(), h)?;
                ops.norm_rope(&format!("{at}.self_attn.{which}_norm"), &x, self.eps, &self.rope)
            }
        }
    }

    /// Whether queries, keys and values have biases.
    fn bias(&self) -> Bias {
        match self.family {
            LlamaVariant::Llama | LlamaVariant::Qwen3 => Bias::Absent,
            LlamaVariant::Qwen2 => Bias::Present,
        }
    }

    fn check(&self, config: &ConfigObject<'_>) -> Result<(), ConfigError> {
        let Self { family: _, vocab, hidden, intermediate, layers, heads, rope, eps, tied: _, context } = self.clone();
        Sizes { vocab, hidden, intermediate, layers, heads, eps, context }.check(config)?;
        rope::check(config, &rope)
    }
}

/// Refuses attention that does not see all earlier positions.
fn refuse_windows(config: &ConfigObject<'_>, model_type: &str, context: usize) -> Result<(), ConfigError> {
    /// What transformers assumes where a Mistral's file is silent.
    const MISTRAL_WINDOW: usize = 4096;
    let key = "sliding_window";
    let window = match model_type {
        "mistral" if config.has(key) => config.size(key)?,
        "mistral" => Some(MISTRAL_WINDOW),
        // Their window is there but unused unless a flag says otherwise.
        _ => {
            config.refuse("use_sliding_window", true)?;
            None
        }
    };
    if let Some(window) = window.filter(|&window| window < context) {
        let reason = format!("not supported unless null or at least max_position_embeddings ({context}): {window}");
        return Err(config.error(key, reason));
    }
    let kinds = config.list("layer_types").unwrap_or_default();
    match kinds.iter().find(|&kind| kind != "full_attention") {
        Some(kind) => Err(config.error("layer_types", format!("not supported, only full_attention is: {kind}"))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::{Value, json};

    use super::super::{Network, tiny};
    use super::*;
    use crate::ops::Llama3Scaling;

    fn with(changes: Value) -> Value {
        let mut config = tiny::config();
        for (key, value) in changes.as_object().unwrap() {
            config[key] = value.clone();
        }
        config
    }

    fn parsed(config: &Value) -> Result<Llama, ConfigError> {
        Network::read(Path::new("config.json"), config).map(|network| match network {
            Network::Llama(network) => network,
            _ => panic!("another network"),
        })
    }

    fn refused(config: &Value) -> String {
        parsed(config).unwrap_err().to_string()
    }

    #[test]
    fn both_dialects_give_one_network() {
        let v4 = with(json!({"rope_theta": 5e5, "torch_dtype": "float32", "rope_scaling": null}));
        let v5 = with(json!({"rope_parameters": {"rope_theta": 5e5, "rope_type": "default"}, "dtype": "float32"}));
        let network = parsed(&v4).unwrap();
        assert_eq!(network, parsed(&v5).unwrap());
        let mut expected = tiny::network();
        expected.rope.theta = 5e5;
        assert_eq!(network, expected);
    }

    #[test]
    fn llama3_scaling_in_both_dialects() {
        let mut scaling = json!({
            "rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192
        });
        let v4 = parsed(&with(json!({"rope_theta": 5e5, "rope_scaling": scaling.clone()}))).unwrap();
        scaling["rope_theta"] = json!(5e5);
        let v5 = parsed(&with(json!({"rope_parameters": scaling.clone()}))).unwrap();
        assert_eq!(v4, v5);
        let expected =
            Llama3Scaling { factor: 32.0, low_freq_factor: 1.0, high_freq_factor: 4.0, original_context: 8192 };
        assert_eq!(v4.rope.scaling, Some(expected));

        scaling["high_freq_factor"] = json!(1.0);
        let config = with(json!({"rope_parameters": scaling}));
        assert_eq!(refused(&config), "config.json: rope_scaling.high_freq_factor: not above low_freq_factor: 1");
    }

    #[test]
    fn absent_keys_take_the_defaults_of_transformers() {
        let mut config = tiny::config();
        for key in ["head_dim", "num_key_value_heads", "tie_word_embeddings", "rms_norm_eps"] {
            config.as_object_mut().unwrap().remove(key);
        }
        let network = parsed(&config).unwrap();
        assert_eq!(network.heads, Heads { query: 2, key_value: 2, dim: 4 });
        assert!(!network.tied);
        assert_eq!((network.eps, network.rope.theta), (1e-6, 10_000.0));
    }

    #[test]
    fn refusals_name_the_key() {
        for (change, message) in [
            (json!({"attention_bias": true}), "attention_bias: not supported: true"),
            (json!({"mlp_bias": true}), "mlp_bias: not supported: true"),
            (json!({"hidden_act": "gelu"}), "hidden_act: not supported, only silu is: gelu"),
            (json!({"head_dim": 3}), "head_dim: odd, rotary positions need pairs: 3"),
            (json!({"num_key_value_heads": 3}), "num_key_value_heads: does not divide num_attention_heads: 3"),
            (json!({"num_key_value_heads": 0}), "num_key_value_heads: not within 1 and 16777216: 0"),
            (json!({"num_hidden_layers": 1u64 << 40}), "num_hidden_layers: not within 1 and 1024: 1099511627776"),
            (json!({"hidden_size": -8}), "hidden_size: not a whole number: -8"),
            (json!({"hidden_size": null}), "hidden_size: missing"),
            (json!({"rms_norm_eps": 0.0}), "rms_norm_eps: not a positive number: 0"),
            (json!({"rope_theta": "big"}), "rope_theta: not a number: \"big\""),
            (
                json!({"rope_scaling": {"type": "yarn"}}),
                "rope_scaling.rope_type: not supported, only default and llama3 are: yarn",
            ),
            (
                json!({"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}}),
                "rope_parameters.partial_rotary_factor: not supported, only 1 is: 0.5",
            ),
        ] {
            assert_eq!(refused(&with(change)), format!("config.json: {message}"));
        }
        assert_eq!(
            refused(&with(json!({"head_dim": null, "num_attention_heads": 3}))),
            "config.json: num_attention_heads: does not divide hidden_size: 3"
        );
    }

    #[test]
    fn members_of_the_family_are_told_apart() {
        let family = |name: &str| parsed(&with(json!({ "model_type": name }))).unwrap();
        assert_eq!(family("llama"), tiny::network());
        assert_eq!(family("qwen2"), Llama { family: LlamaVariant::Qwen2, ..tiny::network() });
        assert_eq!(family("qwen3"), Llama { family: LlamaVariant::Qwen3, ..tiny::network() });
        let mistral = |window: Value| with(json!({ "model_type": "mistral", "sliding_window": window }));
        assert_eq!(parsed(&mistral(Value::Null)).unwrap(), tiny::network());
        assert_eq!(parsed(&mistral(json!(32))).unwrap(), tiny::network());

        let mut qwen3 = with(json!({"model_type": "qwen3"}));
        qwen3.as_object_mut().unwrap().remove("head_dim");
        assert_eq!(parsed(&qwen3).unwrap().heads.dim, 128);
    }

    #[test]
    fn windows_are_refused_where_they_would_show() {
        let window = "sliding_window: not supported unless null or at least max_position_embeddings";
        let full = json!(["full_attention", "sliding_attention"]);
        for (change, message) in [
            (json!({"model_type": "mistral", "sliding_window": 31}), format!("{window} (32): 31")),
            (json!({"model_type": "mistral", "max_position_embeddings": 8192}), format!("{window} (8192): 4096")),
            (
                json!({"model_type": "qwen2", "use_sliding_window": true}),
                "use_sliding_window: not supported: true".into(),
            ),
            (
                json!({"model_type": "qwen3", "layer_types": full}),
                "layer_types: not supported, only full_attention is: \"sliding_attention\"".into(),
            ),
            (json!({"model_type": "qwen3", "attention_bias": true}), "attention_bias: not supported: true".into()),
            (json!({"model_type": "qwen2", "num_key_value_heads": null}), "num_key_value_heads: missing".into()),
        ] {
            assert_eq!(refused(&with(change)), format!("config.json: {message}"));
        }
        let unused = json!({"model_type": "qwen2", "use_sliding_window": false, "sliding_window": 4});
        assert_eq!(parsed(&with(unused)).unwrap().family, LlamaVariant::Qwen2);
    }
}
