//! The text decoder of Gemma 3 (Gemma Team 2025), written once over [`Ops`]: blocks with a norm before and behind
//! attention and MLP, norms of each head's queries and keys, an MLP with a gate of GELU, embeddings scaled by the root of
//! their width. Most blocks see a window of positions and turn slowly with a wavelength base of their own, the others
//! see all.
//!
//! Windows are not computed: the network takes sequences up to the window, where it makes no difference. The factor of
//! its norms is `1 + w`; folders hold `w`, GGUF files `1 + w`.

use serde_json::{Value, json};

use crate::config::{ConfigError, ConfigObject, GgufMetadata, Sizes};
use crate::decoder::{Decoder, Stored, usual_in_gguf};
use crate::ops::{Bias, Heads, Ops, Rope, TableShape, Tokens};
use crate::record::DigestRecord;
use crate::rope;

/// The numbers of a Gemma 3 network that its forward pass depends on.
#[derive(Clone, Debug, PartialEq)]
pub struct Gemma3 {
    /// Rows of the embedding table.
    pub vocab: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Width of the MLP.
    pub intermediate: usize,
    /// For each block, whether it sees all positions, and not a window.
    pub sees_all: Vec<bool>,
    /// Attention heads.
    pub heads: Heads,
    /// Rotary embedding of the blocks that see all positions.
    pub rope: Rope,
    /// Rotary embedding of the others.
    pub local_rope: Rope,
    /// Positions that those see.
    pub window: usize,
    /// Added to the mean square in every norm.
    pub eps: f64,
    /// Whether the head uses the embedding table.
    pub tied: bool,
    /// Positions the model was made for.
    pub context: usize,
}

/// What transformers and llama.cpp assume where a file is silent.
const THETA: f64 = 1_000_000.0;
const LOCAL_THETA: f64 = 10_000.0;
const HEAD: usize = 256;
const EPS: f64 = 1e-6;
/// One block of so many sees all positions.
const PATTERN: usize = 6;

const ALL: &str = "full_attention";
const WINDOW: &str = "sliding_attention";

/// Every block by its number, the last of each `pattern` seeing all.
fn repeated(layers: usize, pattern: usize) -> Vec<bool> {
    (1..=layers).map(|block| block.is_multiple_of(pattern)).collect()
}

/// Which blocks see all, as a description lists or numbers them.
fn sees_all(
    config: &ConfigObject<'_>,
    list: &str,
    numbers: [&str; 2],
    layers: usize,
) -> Result<Vec<bool>, ConfigError> {
    // Before a list of so many is made.
    crate::config::check_size(config.path(), "num_hidden_layers", layers, crate::config::MAX_LAYERS)?;
    if let Some(kinds) = config.list(list) {
        let sees_all = |kind: &Value| match (kind.as_str(), kind.as_bool()) {
            (Some(ALL), _) | (_, Some(false)) => Ok(true),
            (Some(WINDOW), _) | (_, Some(true)) => Ok(false),
            _ => Err(config.error(list, format!("not supported, only {ALL} and {WINDOW} are: {kind}"))),
        };
        let kinds = kinds.iter().map(sees_all).collect::<Result<Vec<_>, _>>()?;
        if kinds.len() != layers {
            return Err(config.error(list, format!("not one for each of the {layers} blocks: {}", kinds.len())));
        }
        return Ok(kinds);
    }
    for number in numbers {
        match config.size(number)? {
            None => {}
            Some(0) => return Err(config.error(number, "not above 0: 0")),
            Some(pattern) => return Ok(repeated(layers, pattern)),
        }
    }
    Ok(repeated(layers, PATTERN))
}

impl Gemma3 {
    fn check(&self, config: &ConfigObject<'_>) -> Result<(), ConfigError> {
        let Self { vocab, hidden, intermediate, heads, eps, context, .. } = *self;
        Sizes { vocab, hidden, intermediate, layers: self.sees_all.len(), heads, eps, context }.check(config)?;
        rope::check(config, &self.rope)?;
        rope::check(config, &self.local_rope)?;
        match self.window {
            0 => Err(config.error("sliding_window", "not above 0: 0")),
            _ => Ok(()),
        }
    }

    /// Queries (`q`) or keys (`k`) of a block, normalised and rotated.
    fn rotated<O: Ops>(
        &self,
        ops: &mut O,
        at: &str,
        (which, heads): (&str, usize),
        h: &O::Value,
        rope: &Rope,
    ) -> Result<O::Value, O::Error> {
        let x = ops.linear(&format!("{at}.{which}_proj"), heads * self.heads.dim, Bias::Absent, h)?;
        ops.norm_rope(&format!("{at}.{which}_norm"), &x, self.eps, rope)
    }
}

impl Decoder for Gemma3 {
    const NAMES: &'static [&'static str] = &["gemma3_text"];
    const IN_GGUF: &'static [&'static str] = &["gemma3"];

    fn read(config: &ConfigObject<'_>, _: &str) -> Result<Self, ConfigError> {
        config.refuse("attention_bias", true)?;
        config.refuse("use_bidirectional_attention", true)?;
        for key in ["attn_logit_softcapping", "final_logit_softcapping"] {
            if let Some(cap) = config.number(key)? {
                return Err(config.error(key, format!("not supported unless null: {cap}")));
            }
        }
        config.only("hidden_activation", &["gelu_pytorch_tanh"])?;
        let dim = config.size("head_dim")?.unwrap_or(HEAD);
        let scale = config.number("query_pre_attn_scalar")?.unwrap_or(HEAD as f64);
        if scale != dim as f64 {
            let reason = format!("not supported unless equal to the head's {dim}: {scale}");
            return Err(config.error("query_pre_attn_scalar", reason));
        }
        let layers = config.need("num_hidden_layers")?;
        let number = |key, default| config.number(key).map(|number| number.unwrap_or(default));
        let mut thetas = [number("rope_theta", THETA)?, number("rope_local_base_freq", LOCAL_THETA)?];
        if let Some(scaling) = config.object("rope_scaling", "rope_scaling.")? {
            rope::plain(&scaling, THETA)?;
        }
        if let Some(nested) = config.object("rope_parameters", "rope_parameters.")? {
            // Of which blocks it would be, nobody says.
            rope::plain(&nested, THETA)?;
            if let Some(theta) = nested.number("rope_theta")? {
                let reason = format!("not supported but in {ALL} and {WINDOW}: {theta}");
                return Err(nested.error("rope_theta", reason));
            }
            let kinds = [(ALL, "rope_parameters.full_attention."), (WINDOW, "rope_parameters.sliding_attention.")];
            for (theta, (kind, prefix)) in thetas.iter_mut().zip(kinds) {
                if let Some(parameters) = nested.object(kind, prefix)? {
                    *theta = rope::plain(&parameters, *theta)?;
                }
            }
        }
        let [theta, local_theta] = thetas;
        let patterns = ["sliding_window_pattern", "_sliding_window_pattern"];
        let network = Self {
            vocab: config.need("vocab_size")?,
            hidden: config.need("hidden_size")?,
            intermediate: config.need("intermediate_size")?,
            sees_all: sees_all(config, "layer_types", patterns, layers)?,
            heads: Heads {
                query: config.need("num_attention_heads")?,
                key_value: config.need("num_key_value_heads")?,
                dim,
            },
            rope: Rope { dim, theta, scaling: None },
            local_rope: Rope { dim, theta: local_theta, scaling: None },
            window: config.need("sliding_window")?,
            eps: config.number("rms_norm_eps")?.unwrap_or(EPS),
            tied: config.flag("tie_word_embeddings")?.unwrap_or(true),
            context: config.need("max_position_embeddings")?,
        };
        network.check(config)?;
        Ok(network)
    }

    fn write(&self) -> Value {
        let Self { vocab, hidden, intermediate, sees_all, heads, rope, local_rope, window, eps, tied, context } = self;
        let Heads { query, key_value, dim } = heads;
        json!({
            "architectures": ["Gemma3ForCausalLM"],
            "model_type": "gemma3_text",
            "vocab_size": vocab,
            "hidden_size": hidden,
            "intermediate_size": intermediate,
            "num_hidden_layers": sees_all.len(),
            "layer_types": sees_all.iter().map(|&all| if all { ALL } else { WINDOW }).collect::<Vec<_>>(),
            "num_attention_heads": query,
            "num_key_value_heads": key_value,
            "head_dim": dim,
            "query_pre_attn_scalar": dim,
            "hidden_activation": "gelu_pytorch_tanh",
            "max_position_embeddings": context,
            "sliding_window": window,
            "rms_norm_eps": eps,
            "rope_theta": rope.theta,
            "rope_local_base_freq": local_rope.theta,
            "rope_scaling": null,
            "tie_word_embeddings": tied,
            "attention_bias": false,
            "attention_dropout": 0.0,
            "attn_logit_softcapping": null,
            "final_logit_softcapping": null,
        })
    }

    fn read_gguf(file: &GgufMetadata<'_>, architecture: &str) -> Result<Self, ConfigError> {
        let metadata = &file.metadata;
        let key = |name: &str| format!("{architecture}.{name}");
        rope::refuse_scaling(metadata, architecture)?;
        for name in ["attn_logit_softcapping", "final_logit_softcapping"] {
            if let Some(cap) = metadata.number(&key(name))?.filter(|&cap| cap != 0.0) {
                return Err(metadata.error(&key(name), format!("not supported: {cap}")));
            }
        }
        let dim = metadata.size(&key("attention.key_length"))?.unwrap_or(HEAD);
        metadata.equal(&[key("attention.value_length"), key("rope.dimension_count")], dim)?;
        let Sizes { vocab, hidden, intermediate, layers, heads, eps, context } = file.sizes(architecture, dim)?;
        let pattern = key("attention.sliding_window_pattern");
        let rope = |name: &str, default| -> Result<Rope, ConfigError> {
            Ok(Rope { dim, theta: metadata.number(&key(name))?.unwrap_or(default), scaling: None })
        };
        let network = Self {
            vocab,
            hidden,
            intermediate,
            sees_all: sees_all(metadata, &pattern, [&pattern; 2], layers)?,
            heads,
            rope: rope("rope.freq_base", THETA)?,
            local_rope: rope("rope.freq_base_swa", LOCAL_THETA)?,
            window: metadata.need(&key("attention.sliding_window"))?,
            eps,
            tied: file.tied(),
            context,
        };
        network.check(metadata)?;
        Ok(network)
    }

    fn module_in_gguf(&self, module: &str) -> Option<&'static str> {
        match module {
            "post_attention_layernorm" => Some("post_attention_norm"),
            "pre_feedforward_layernorm" => Some("ffn_norm"),
            "post_feedforward_layernorm" => Some("post_ffw_norm"),
            other => usual_in_gguf(other),
        }
    }

    fn name(&self) -> &'static str {
        "gemma3_text"
    }

    fn vocab(&self) -> usize {
        self.vocab
    }

    fn context(&self) -> usize {
        self.context
    }

    fn most_positions(&self) -> Option<usize> {
        let shows = self.window < self.context && self.sees_all.contains(&false);
        shows.then_some(self.window)
    }

    fn blocks(&self) -> usize {
        self.sees_all.len()
    }

    fn tied(&mut self) -> &mut bool {
        &mut self.tied
    }

    /// The integers vocab, hidden, intermediate, blocks, query heads, key-value heads, head dimension, context, window;
    /// one byte a block, 1 if it sees all positions; the real eps; one byte 1 if the head is tied, else 0; the rotary
    /// embedding of the blocks that see all, and that of the others.
    fn record(&self, record: &mut DigestRecord) {
        let Self { vocab, hidden, intermediate, sees_all, heads, rope, local_rope, window, eps, tied, context } = self;
        let Heads { query, key_value, dim } = heads;
        record.text(self.name());
        record.ints([*vocab, *hidden, *intermediate, sees_all.len(), *query, *key_value, *dim, *context, *window]);
        sees_all.iter().for_each(|&all| record.flag(all));
        record.real(*eps);
        record.flag(*tied);
        record.rope(rope);
        record.rope(local_rope);
    }

    fn stored(name: &str) -> Stored {
        if name.ends_with("norm.weight") { Stored::LessOne } else { Stored::Plain }
    }

    fn embed<O: Ops>(&self, ops: &mut O, tokens: &Tokens) -> Result<O::Value, O::Error> {
        let scale = (self.hidden as f64).sqrt() as f32;
        ops.embed("model.embed_tokens", TableShape { rows: self.vocab, features: self.hidden, scale }, tokens)
    }

    fn block<O: Ops>(&self, ops: &mut O, index: usize, x: &O::Value) -> Result<O::Value, O::Error> {
        let at = format!("model.layers.{index}");
        let attn = format!("{at}.self_attn");
        let (rope, window) = match self.sees_all[index] {
            true => (&self.rope, None),
            false => (&self.local_rope, Some(self.window)),
        };
        let h = ops.rms_norm(&format!("{at}.input_layernorm"), x, self.eps)?;
        let q = self.rotated(ops, &attn, ("q", self.heads.query), &h, rope)?;
        let k = self.rotated(ops, &attn, ("k", self.heads.key_value), &h, rope)?;
        let v = ops.linear(&format!("{attn}.v_proj"), self.heads.key_value * self.heads.dim, Bias::Absent, &h)?;
        let h = ops.attention(&attn, &q, &k, &v, self.heads, window)?;
        let h = ops.linear(&format!("{attn}.o_proj"), self.hidden, Bias::Absent, &h)?;
        let h = ops.rms_norm(&format!("{at}.post_attention_layernorm"), &h, self.eps)?;
        let x = ops.add(x, &h)?;

        let h = ops.rms_norm(&format!("{at}.pre_feedforward_layernorm"), &x, self.eps)?;
        let gate = ops.linear(&format!("{at}.mlp.gate_proj"), self.intermediate, Bias::Absent, &h)?;
        let up = ops.linear(&format!("{at}.mlp.up_proj"), self.intermediate, Bias::Absent, &h)?;
        let h = ops.geglu(&gate, &up)?;
        let h = ops.linear(&format!("{at}.mlp.down_proj"), self.hidden, Bias::Absent, &h)?;
        let h = ops.rms_norm(&format!("{at}.post_feedforward_layernorm"), &h, self.eps)?;
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

    fn config() -> Value {
        json!({
            "model_type": "gemma3_text", "vocab_size": 16, "hidden_size": 8, "intermediate_size": 12,
            "num_hidden_layers": 7, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 4,
            "query_pre_attn_scalar": 4, "sliding_window": 16, "max_position_embeddings": 32,
        })
    }

    fn parsed(changes: Value) -> Result<Gemma3, String> {
        let mut config = config();
        for (key, value) in changes.as_object().unwrap() {
            config[key] = value.clone();
        }
        match Network::read(Path::new("config.json"), &config) {
            Ok(Network::Gemma3(network)) => Ok(network),
            other => Err(other.unwrap_err().to_string()),
        }
    }

    #[test]
    fn absent_keys_take_the_defaults_of_transformers() {
        let network = parsed(json!({})).unwrap();
        assert_eq!(network.sees_all, [false, false, false, false, false, true, false]);
        assert_eq!((network.rope.theta, network.local_rope.theta, network.eps), (1e6, 1e4, 1e-6));
        assert!(network.tied);
        let mut files = config();
        files.as_object_mut().unwrap().remove("head_dim");
        files["query_pre_attn_scalar"] = json!(256);
        let Ok(Network::Gemma3(wide)) = Network::read(Path::new("config.json"), &files) else { panic!("refused") };
        assert_eq!(wide.heads.dim, 256);
    }

    #[test]
    fn both_dialects_give_one_network() {
        let v4 = json!({"rope_theta": 5e5, "rope_local_base_freq": 100.0, "sliding_window_pattern": 2});
        let kinds = [WINDOW, ALL, WINDOW, ALL, WINDOW, ALL, WINDOW];
        let v5 = json!({"layer_types": kinds, "rope_parameters": {
            "full_attention": {"rope_type": "default", "rope_theta": 5e5},
            "sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
        }});
        let network = parsed(v4).unwrap();
        assert_eq!(network, parsed(v5).unwrap());
        // What the nested table does not say is said outside it.
        let mixed = json!({"rope_theta": 5e5, "rope_local_base_freq": 100.0, "layer_types": kinds,
            "rope_parameters": {"sliding_attention": {"rope_type": "default"}}});
        assert_eq!(network, parsed(mixed).unwrap());
        assert_eq!(Network::read(Path::new("config.json"), &network.write()).unwrap(), network.into());
    }

    #[test]
    fn sequences_end_at_the_window_where_it_would_show() {
        let most = |changes| Network::from(parsed(changes).unwrap()).most_positions();
        assert_eq!(most(json!({})), Some(16));
        assert_eq!(most(json!({"sliding_window": 32})), None);
        assert_eq!(most(json!({"sliding_window_pattern": 1})), None);
    }

    #[test]
    fn refusals_name_the_key() {
        for (change, message) in [
            (json!({"attn_logit_softcapping": 50.0}), "attn_logit_softcapping: not supported unless null: 50"),
            (json!({"final_logit_softcapping": 30.0}), "final_logit_softcapping: not supported unless null: 30"),
            (json!({"use_bidirectional_attention": true}), "use_bidirectional_attention: not supported: true"),
            (
                json!({"query_pre_attn_scalar": 168}),
                "query_pre_attn_scalar: not supported unless equal to the head's 4: 168",
            ),
            (json!({"hidden_activation": "gelu"}), "hidden_activation: not supported, only gelu_pytorch_tanh is: gelu"),
            (
                json!({"rope_scaling": {"rope_type": "linear", "factor": 8.0}}),
                "rope_scaling.rope_type: not supported, only default is: linear",
            ),
            (
                json!({"rope_parameters": {"full_attention": {"rope_type": "linear", "factor": 8.0}}}),
                "rope_parameters.full_attention.rope_type: not supported, only default is: linear",
            ),
            (
                json!({"rope_parameters": {"rope_type": "linear", "factor": 8.0}}),
                "rope_parameters.rope_type: not supported, only default is: linear",
            ),
            (
                json!({"rope_parameters": {"rope_theta": 5e5}}),
                "rope_parameters.rope_theta: not supported but in full_attention and sliding_attention: 500000",
            ),
            (json!({"layer_types": [ALL]}), "layer_types: not one for each of the 7 blocks: 1"),
            (json!({"sliding_window": null}), "sliding_window: missing"),
            (json!({"sliding_window": 0}), "sliding_window: not above 0: 0"),
            (json!({"num_hidden_layers": 5000}), "num_hidden_layers: not within 1 and 1024: 5000"),
        ] {
            assert_eq!(parsed(change).unwrap_err(), format!("config.json: {message}"));
        }
    }

    #[test]
    fn a_file_of_llama_cpp_gives_the_same_network() {
        let network = parsed(json!({})).unwrap();
        let metadata = json!({
            "general.architecture": "gemma3", "gemma3.embedding_length": 8, "gemma3.feed_forward_length": 12,
            "gemma3.block_count": 7, "gemma3.context_length": 32, "gemma3.attention.head_count": 2,
            "gemma3.attention.head_count_kv": 1, "gemma3.attention.key_length": 4, "gemma3.attention.value_length": 4,
            "gemma3.attention.layer_norm_rms_epsilon": 1e-6, "gemma3.attention.sliding_window": 16,
        });
        let whole = Network::from(network);
        let tensors = whole.shapes().into_iter().map(|(name, shape)| (whole.name_in_gguf(&name).unwrap(), shape));
        let tensors = tensors.collect();
        let read = |metadata: &Value| {
            let metadata = ConfigObject::new(Path::new("a.gguf"), metadata).unwrap();
            Network::read_gguf(&GgufMetadata { metadata, tensors: &tensors })
        };
        assert_eq!(read(&metadata).unwrap(), whole);
        assert!(tensors.contains_key("blk.3.post_ffw_norm.weight") && !tensors.contains_key("output.weight"));
        let mut scaled = metadata;
        scaled["gemma3.rope.scaling.type"] = json!("linear");
        let error = read(&scaled).unwrap_err().to_string();
        assert_eq!(error, "a.gguf: gemma3.rope.scaling.type: not supported: linear");
    }
}
