//! `config.json` of a Llama model, in the dialects of transformers 4 (`rope_theta`, `rope_scaling`) and
//! transformers 5 (`rope_parameters`), and the checks every network passes before its numbers are used.

use std::path::Path;

use ftk_adapters::ops::{Heads, Llama3Scaling, Rope};
use serde_json::{Map, Value};

use super::{Llama, ModelError, Network};

/// Names of the architectures ftk has a network for, as `model_type` writes them.
pub const SUPPORTED: &[&str] = &["llama"];

/// Largest accepted vocabulary, width or context; far above any published model, and small enough that products of
/// two stay exact.
const MAX_SIZE: usize = 1 << 24;
/// Largest accepted number of decoder blocks.
const MAX_LAYERS: usize = 1 << 10;

/// A JSON object of a file, read key by key with errors that name both.
pub(super) struct Object<'a> {
    path: &'a Path,
    prefix: &'static str,
    map: &'a Map<String, Value>,
}

impl<'a> Object<'a> {
    pub(super) fn new(path: &'a Path, value: &'a Value) -> Result<Self, ModelError> {
        let map = value.as_object().ok_or_else(|| ModelError::Malformed {
            path: path.to_owned(),
            format: "JSON",
            reason: "not an object".to_owned(),
        })?;
        Ok(Self { path, prefix: "", map })
    }

    /// The value of `key`; null counts as absent.
    fn get(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    fn error(&self, key: &str, reason: impl Into<String>) -> ModelError {
        ModelError::Config { path: self.path.to_owned(), key: format!("{}{key}", self.prefix), reason: reason.into() }
    }

    fn required<T>(&self, key: &str, value: Option<T>) -> Result<T, ModelError> {
        value.ok_or_else(|| self.error(key, "missing"))
    }

    fn size(&self, key: &str) -> Result<Option<usize>, ModelError> {
        let parse = |value: &Value| {
            let size = value.as_u64().and_then(|n| usize::try_from(n).ok());
            size.ok_or_else(|| self.error(key, format!("not a whole number: {value}")))
        };
        self.get(key).map(parse).transpose()
    }

    fn number(&self, key: &str) -> Result<Option<f64>, ModelError> {
        let parse = |value: &Value| value.as_f64().ok_or_else(|| self.error(key, format!("not a number: {value}")));
        self.get(key).map(parse).transpose()
    }

    fn flag(&self, key: &str) -> Result<Option<bool>, ModelError> {
        let parse =
            |value: &Value| value.as_bool().ok_or_else(|| self.error(key, format!("neither true nor false: {value}")));
        self.get(key).map(parse).transpose()
    }

    pub(super) fn text(&self, key: &str) -> Result<Option<&'a str>, ModelError> {
        let parse = |value: &'a Value| value.as_str().ok_or_else(|| self.error(key, format!("not a string: {value}")));
        self.get(key).map(parse).transpose()
    }

    fn object(&self, key: &'static str, prefix: &'static str) -> Result<Option<Self>, ModelError> {
        let parse = |value: &'a Value| match value.as_object() {
            Some(map) => Ok(Self { path: self.path, prefix, map }),
            None => Err(self.error(key, format!("not an object: {value}"))),
        };
        self.get(key).map(parse).transpose()
    }

    /// The elements of a list; `None` if the value is anything else.
    pub(super) fn list(&self, key: &str) -> Option<&'a [Value]> {
        self.get(key).and_then(Value::as_array).map(Vec::as_slice)
    }

    /// A token's text: a string, or an object with a `content`.
    pub(super) fn token(&self, key: &str) -> Result<Option<&'a str>, ModelError> {
        let parse = |value: &'a Value| {
            let text = value.get("content").unwrap_or(value).as_str();
            text.ok_or_else(|| self.error(key, format!("not a token: {value}")))
        };
        self.get(key).map(parse).transpose()
    }

    /// One id or a list of ids; none if the key is absent. Negative ids, which some published files use for
    /// "no such token", are left out.
    pub(super) fn ids(&self, key: &str) -> Result<Vec<u32>, ModelError> {
        let parse = |value: &Value| match value.as_i64() {
            Some(id) => Ok(u32::try_from(id).ok()),
            None => Err(self.error(key, format!("not a token id: {value}"))),
        };
        let ids: Result<Vec<_>, _> = match self.get(key) {
            None => return Ok(Vec::new()),
            Some(Value::Array(values)) => values.iter().map(parse).collect(),
            Some(value) => parse(value).map(|id| vec![id]),
        };
        Ok(ids?.into_iter().flatten().collect())
    }
}

/// The network of a parsed `config.json`; `path` is named in errors.
///
/// # Errors
/// Other architectures, options the network does not have, impossible numbers.
pub fn parse(path: &Path, json: &Value) -> Result<Network, ModelError> {
    let config = Object::new(path, json)?;
    let model_type = config.text("model_type")?;
    let model_type = config.required("model_type", model_type)?;
    if !SUPPORTED.contains(&model_type) {
        return Err(ModelError::Architecture { path: path.to_owned(), found: model_type.to_owned() });
    }
    refuse_unsupported(&config)?;

    let need = |key| config.size(key).and_then(|value| config.required(key, value));
    let hidden = need("hidden_size")?;
    let query = need("num_attention_heads")?;
    let dim = match config.size("head_dim")? {
        Some(dim) => dim,
        None if query > 0 && hidden % query == 0 => hidden / query,
        None => return Err(config.error("num_attention_heads", format!("does not divide hidden_size: {query}"))),
    };
    let network = Llama {
        vocab: need("vocab_size")?,
        hidden,
        intermediate: need("intermediate_size")?,
        layers: need("num_hidden_layers")?,
        heads: Heads { query, key_value: config.size("num_key_value_heads")?.unwrap_or(query), dim },
        rope: rope(&config, dim)?,
        eps: config.number("rms_norm_eps")?.unwrap_or(1e-6),
        tied: config.flag("tie_word_embeddings")?.unwrap_or(false),
        context: config.size("max_position_embeddings")?.unwrap_or(2048),
    };
    check(path, &network)?;
    Ok(network.into())
}

fn refuse_unsupported(config: &Object) -> Result<(), ModelError> {
    for key in ["attention_bias", "mlp_bias"] {
        if config.flag(key)? == Some(true) {
            return Err(config.error(key, "not supported: true"));
        }
    }
    match config.text("hidden_act")? {
        None | Some("silu") => {}
        Some(other) => return Err(config.error("hidden_act", format!("not supported, only silu is: {other}"))),
    }
    if let Some(quantization) = config.object("quantization_config", "quantization_config.")? {
        let method = quantization.text("quant_method")?.unwrap_or("unnamed");
        return Err(config.error("quantization_config", format!("quantised weights are not supported: {method}")));
    }
    Ok(())
}

/// The rotary embedding: `rope_parameters` (transformers 5) if present, otherwise `rope_theta` and `rope_scaling`.
fn rope(config: &Object, dim: usize) -> Result<Rope, ModelError> {
    /// The original Llama's, which transformers assumes when none is written.
    const DEFAULT_THETA: f64 = 10_000.0;
    let nested = config.object("rope_parameters", "rope_parameters.")?;
    let scaling = match &nested {
        Some(_) => None,
        None => config.object("rope_scaling", "rope_scaling.")?,
    };
    let theta = match &nested {
        Some(nested) => nested.number("rope_theta")?.or(config.number("rope_theta")?),
        None => config.number("rope_theta")?,
    };
    let scaling = match nested.or(scaling) {
        Some(parameters) => scaling_of(&parameters)?,
        None => None,
    };
    Ok(Rope { dim, theta: theta.unwrap_or(DEFAULT_THETA), scaling })
}

fn scaling_of(parameters: &Object) -> Result<Option<Llama3Scaling>, ModelError> {
    if let Some(part) = parameters.number("partial_rotary_factor")?
        && part != 1.0
    {
        return Err(parameters.error("partial_rotary_factor", format!("not supported, only 1 is: {part}")));
    }
    // `type` is how transformers before 4.43 spelt `rope_type`.
    let kind = parameters.text("rope_type")?.or(parameters.text("type")?);
    match kind {
        None | Some("default") => Ok(None),
        Some("llama3") => {
            let need = |key| parameters.number(key).and_then(|value| parameters.required(key, value));
            let key = "original_max_position_embeddings";
            let original_context = parameters.size(key)?;
            Ok(Some(Llama3Scaling {
                factor: need("factor")?,
                low_freq_factor: need("low_freq_factor")?,
                high_freq_factor: need("high_freq_factor")?,
                original_context: parameters.required(key, original_context)?,
            }))
        }
        Some(other) => {
            Err(parameters.error("rope_type", format!("not supported, only default and llama3 are: {other}")))
        }
    }
}

/// Checks bounds, divisibility and finiteness of a network's numbers, so that shapes can be computed from them
/// without overflow. Keys are named as `config.json` writes them.
///
/// # Errors
/// [`ModelError::Config`] naming the key.
pub fn check(path: &Path, network: &Llama) -> Result<(), ModelError> {
    let Llama { vocab, hidden, intermediate, layers, heads, rope, eps, tied: _, context } = network;
    let fail =
        |key: &str, reason: String| Err(ModelError::Config { path: path.to_owned(), key: key.to_owned(), reason });
    for (key, value, max) in [
        ("vocab_size", *vocab, MAX_SIZE),
        ("hidden_size", *hidden, MAX_SIZE),
        ("intermediate_size", *intermediate, MAX_SIZE),
        ("num_hidden_layers", *layers, MAX_LAYERS),
        ("num_attention_heads", heads.query, MAX_SIZE),
        ("num_key_value_heads", heads.key_value, MAX_SIZE),
        ("head_dim", heads.dim, MAX_SIZE),
        ("max_position_embeddings", *context, MAX_SIZE),
    ] {
        if value == 0 || value > max {
            return fail(key, format!("not within 1 and {max}: {value}"));
        }
    }
    if heads.query % heads.key_value != 0 {
        return fail("num_key_value_heads", format!("does not divide num_attention_heads: {}", heads.key_value));
    }
    if heads.query * heads.dim > MAX_SIZE {
        return fail("head_dim", format!("all heads together are wider than {MAX_SIZE}: {}", heads.dim));
    }
    if !heads.dim.is_multiple_of(2) {
        return fail("head_dim", format!("odd, rotary positions need pairs: {}", heads.dim));
    }
    if !(eps.is_finite() && *eps > 0.0) {
        return fail("rms_norm_eps", format!("not a positive number: {eps}"));
    }
    if !(rope.theta.is_finite() && rope.theta > 1.0) {
        return fail("rope_theta", format!("not a number above 1: {}", rope.theta));
    }
    if let Some(Llama3Scaling { factor, low_freq_factor, high_freq_factor, original_context }) = &rope.scaling {
        if !(factor.is_finite() && *factor >= 1.0) {
            return fail("rope_scaling.factor", format!("not a number from 1 up: {factor}"));
        }
        if !(low_freq_factor.is_finite() && *low_freq_factor > 0.0) {
            return fail("rope_scaling.low_freq_factor", format!("not a positive number: {low_freq_factor}"));
        }
        if !(high_freq_factor.is_finite() && high_freq_factor > low_freq_factor) {
            return fail("rope_scaling.high_freq_factor", format!("not above low_freq_factor: {high_freq_factor}"));
        }
        if *original_context == 0 || *original_context > MAX_SIZE {
            let key = "rope_scaling.original_max_position_embeddings";
            return fail(key, format!("not within 1 and {MAX_SIZE}: {original_context}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tiny;
    use super::*;

    fn with(changes: Value) -> Value {
        let mut config = tiny::config();
        for (key, value) in changes.as_object().unwrap() {
            config[key] = value.clone();
        }
        config
    }

    fn parsed(config: &Value) -> Result<Llama, ModelError> {
        parse(Path::new("config.json"), config).map(|Network::Llama(network)| network)
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
            (
                json!({"quantization_config": {"quant_method": "gptq"}}),
                "quantization_config: quantised weights are not supported: gptq",
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
    fn other_architectures_are_refused_by_name() {
        let error = parsed(&with(json!({"model_type": "qwen2"}))).unwrap_err();
        assert_eq!(error.to_string(), "config.json: architecture not supported: qwen2");
        assert_eq!(error.hint().unwrap(), "supported: llama");
    }
}
