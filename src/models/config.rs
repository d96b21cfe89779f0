//! `config.json` of every network ftk knows, in the dialects of transformers 4 and 5, and the checks a network passes
//! before its numbers are used. What a file leaves out is what transformers assumes; what would change the network and
//! is not supported is refused by name.

mod gpt2;
mod llama;

use std::path::Path;

use ftk_networks::Network;
use serde_json::{Map, Value};

use super::ModelError;

pub use llama::check;

/// Names of the architectures ftk has a network for, as `model_type` writes them.
pub const SUPPORTED: &[&str] = &["llama", "mistral", "qwen2", "qwen3", "gpt2"];

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

    /// Whether the file has the key, null or not.
    fn has(&self, key: &str) -> bool {
        self.map.contains_key(key)
    }

    fn error(&self, key: &str, reason: impl Into<String>) -> ModelError {
        ModelError::Config { path: self.path.to_owned(), key: format!("{}{key}", self.prefix), reason: reason.into() }
    }

    /// Refuses a value that would make another network.
    fn refuse(&self, key: &str, value: bool) -> Result<(), ModelError> {
        if self.flag(key)? == Some(value) {
            return Err(self.error(key, format!("not supported: {value}")));
        }
        Ok(())
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

    /// A size that must be there.
    fn need(&self, key: &str) -> Result<usize, ModelError> {
        self.required(key, self.size(key)?)
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
    if let Some(quantization) = config.object("quantization_config", "quantization_config.")? {
        let method = quantization.text("quant_method")?.unwrap_or("unnamed");
        return Err(config.error("quantization_config", format!("quantised weights are not supported: {method}")));
    }
    match model_type {
        "llama" | "mistral" | "qwen2" | "qwen3" => llama::parse(path, &config, model_type).map(Network::Llama),
        "gpt2" => gpt2::parse(path, &config).map(Network::Gpt2),
        _ => Err(ModelError::Architecture { path: path.to_owned(), found: model_type.to_owned() }),
    }
}

/// Checks that a size is neither zero nor too large.
fn check_size(path: &Path, key: &str, value: usize, max: usize) -> Result<(), ModelError> {
    if value == 0 || value > max {
        return Err(refusal(path, key, format!("not within 1 and {max}: {value}")));
    }
    Ok(())
}

/// Checks the number a norm adds under its root.
fn check_eps(path: &Path, key: &str, eps: f64) -> Result<(), ModelError> {
    if !(eps.is_finite() && eps > 0.0) {
        return Err(refusal(path, key, format!("not a positive number: {eps}")));
    }
    Ok(())
}

fn refusal(path: &Path, key: &str, reason: String) -> ModelError {
    ModelError::Config { path: path.to_owned(), key: key.to_owned(), reason }
}

#[cfg(test)]
mod tests {
    use ftk_adapters::hint::Hint;
    use serde_json::json;

    use super::super::tiny;
    use super::*;

    #[test]
    fn other_architectures_are_refused_by_name() {
        let mut config = tiny::config();
        config["model_type"] = json!("mixtral");
        let error = parse(Path::new("config.json"), &config).unwrap_err();
        assert_eq!(error.to_string(), "config.json: architecture not supported: mixtral");
        assert_eq!(error.hint().unwrap(), "supported: llama, mistral, qwen2, qwen3, gpt2");
        config["model_type"] = json!("llama");
        config["quantization_config"] = json!({"quant_method": "gptq"});
        let error = parse(Path::new("config.json"), &config).unwrap_err();
        let expected = "config.json: quantization_config: quantised weights are not supported: gptq";
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn every_supported_name_has_a_network() {
        for name in SUPPORTED {
            let error = parse(Path::new("config.json"), &json!({ "model_type": name })).unwrap_err();
            assert!(matches!(error, ModelError::Config { .. }), "{name}: {error}");
        }
    }
}
