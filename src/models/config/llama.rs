//! The Llama family: positions in the dialects of transformers 4 (`rope_theta`, `rope_scaling`) and transformers 5
//! (`rope_parameters`), and what its members write differently.

use std::path::Path;

use ftk_networks::ops::{Heads, Llama3Scaling, Rope};
use ftk_networks::{Family, Llama};

use super::super::ModelError;
use super::{MAX_LAYERS, MAX_SIZE, Object, check_eps, check_size, refusal};

/// The network of a configuration of this family.
pub(super) fn parse(path: &Path, config: &Object, model_type: &str) -> Result<Llama, ModelError> {
    let family = match model_type {
        "qwen2" => Family::Qwen2,
        "qwen3" => Family::Qwen3,
        _ => Family::Llama,
    };
    config.refuse("attention_bias", true)?;
    config.refuse("mlp_bias", true)?;
    match config.text("hidden_act")? {
        None | Some("silu") => {}
        Some(other) => return Err(config.error("hidden_act", format!("not supported, only silu is: {other}"))),
    }

    let (hidden, query) = (config.need("hidden_size")?, config.need("num_attention_heads")?);
    let dim = match (config.size("head_dim")?, family) {
        (Some(dim), _) => dim,
        // What transformers assumes for Qwen 3, whatever the other widths.
        (None, Family::Qwen3) => 128,
        (None, _) if query > 0 && hidden % query == 0 => hidden / query,
        _ => return Err(config.error("num_attention_heads", format!("does not divide hidden_size: {query}"))),
    };
    // Where Llama's classes compute what a file leaves out, the others have numbers of one published model.
    let (key_value, context) = match model_type {
        "llama" => (
            config.size("num_key_value_heads")?.unwrap_or(query),
            config.size("max_position_embeddings")?.unwrap_or(2048),
        ),
        _ => (config.need("num_key_value_heads")?, config.need("max_position_embeddings")?),
    };
    let network = Llama {
        family,
        vocab: config.need("vocab_size")?,
        hidden,
        intermediate: config.need("intermediate_size")?,
        layers: config.need("num_hidden_layers")?,
        heads: Heads { query, key_value, dim },
        rope: rope(config, dim)?,
        eps: config.number("rms_norm_eps")?.unwrap_or(1e-6),
        tied: config.flag("tie_word_embeddings")?.unwrap_or(false),
        context,
    };
    check(path, &network)?;
    refuse_windows(config, model_type, context)?;
    Ok(network)
}

/// Refuses attention that does not see all earlier positions.
fn refuse_windows(config: &Object, model_type: &str, context: usize) -> Result<(), ModelError> {
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
    let Llama { family: _, vocab, hidden, intermediate, layers, heads, rope, eps, tied: _, context } = network;
    let fail = |key: &str, reason: String| Err(refusal(path, key, reason));
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
        check_size(path, key, value, max)?;
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
    check_eps(path, "rms_norm_eps", *eps)?;
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
    use ftk_networks::Network;
    use serde_json::{Value, json};

    use super::super::super::tiny;
    use super::*;

    fn with(changes: Value) -> Value {
        let mut config = tiny::config();
        for (key, value) in changes.as_object().unwrap() {
            config[key] = value.clone();
        }
        config
    }

    fn parsed(config: &Value) -> Result<Llama, ModelError> {
        super::super::parse(Path::new("config.json"), config).map(|network| match network {
            Network::Llama(network) => network,
            Network::Gpt2(_) => panic!("another network"),
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
        assert_eq!(family("qwen2"), Llama { family: Family::Qwen2, ..tiny::network() });
        assert_eq!(family("qwen3"), Llama { family: Family::Qwen3, ..tiny::network() });
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
        assert_eq!(parsed(&with(unused)).unwrap().family, Family::Qwen2);
    }
}
