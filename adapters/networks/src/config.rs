//! Reading the description of a network key by key, from `config.json` in the dialects of transformers 4 and 5 or from the
//! metadata of a GGUF file, and the checks its numbers pass before they are used. What a description leaves out is what
//! transformers assumes; what would change the network and is not supported is refused by name. No file is opened here:
//! paths are names for errors.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::ops::Heads;

/// What can be wrong with the description of a network.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Not a JSON object.
    #[error("{}: malformed JSON: not an object", path.display())]
    NotAnObject {
        /// The file.
        path: PathBuf,
    },
    /// A file does not follow its format.
    #[error("{}: malformed {format}: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Name of the format.
        format: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// An architecture ftk has no network for.
    #[error("{}: architecture not supported: {found}", path.display())]
    Architecture {
        /// The file.
        path: PathBuf,
        /// The architecture's name.
        found: String,
    },
    /// A key is absent, or its value is impossible or not supported.
    #[error("{}: {key}: {reason}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// The key as the file writes it.
        key: String,
        /// What is wrong, with the value last.
        reason: String,
    },
    /// The description needs a tensor that is not there.
    #[error("{}: missing tensor: {tensor}", path.display())]
    MissingTensor {
        /// The file.
        path: PathBuf,
        /// The tensor's name in that file.
        tensor: &'static str,
    },
}

/// What a GGUF file says of its network, without its long lists: metadata and the shapes of its tensors.
pub struct GgufMetadata<'a> {
    /// Values by key.
    pub metadata: ConfigObject<'a>,
    /// Shapes of the tensors by their names in the file, outermost dimension first.
    pub tensors: &'a BTreeMap<String, Vec<usize>>,
}

impl GgufMetadata<'_> {
    /// The numbers of a decoder with rotary positions and heads of this width.
    pub(crate) fn sizes(&self, architecture: &str, dim: usize) -> Result<Sizes, ConfigError> {
        let Self { metadata, tensors } = self;
        let key = |name: &str| format!("{architecture}.{name}");
        let size = |name: &str| metadata.need(&key(name));
        let missing = || ConfigError::MissingTensor { path: metadata.path().to_owned(), tensor: "token_embd.weight" };
        let embedding = tensors.get("token_embd.weight").ok_or_else(missing)?;
        let query = size("attention.head_count")?;
        let eps = key("attention.layer_norm_rms_epsilon");
        Ok(Sizes {
            vocab: embedding.first().copied().unwrap_or(0),
            hidden: size("embedding_length")?,
            intermediate: size("feed_forward_length")?,
            layers: size("block_count")?,
            heads: Heads { query, key_value: metadata.size(&key("attention.head_count_kv"))?.unwrap_or(query), dim },
            eps: metadata.required(&eps, metadata.number(&eps)?)?,
            context: size("context_length")?,
        })
    }

    /// Refuses keys of other networks that would change what this one computes, unless they say what is so without them.
    pub(crate) fn refuse_odd(&self, architecture: &str) -> Result<(), ConfigError> {
        let metadata = &self.metadata;
        for name in ODD_NUMBERS {
            let key = format!("{architecture}.{name}");
            if let Some(value) = metadata.number(&key)?.filter(|value| ![0.0, 1.0].contains(value)) {
                return Err(metadata.error(&key, format!("not supported: {value}")));
            }
        }
        for (name, wrong) in [("attention.causal", false), ("use_parallel_residual", true)] {
            metadata.refuse(&format!("{architecture}.{name}"), wrong)?;
        }
        Ok(())
    }

    /// Whether the head is the embedding table.
    pub(crate) fn tied(&self) -> bool {
        !self.tensors.contains_key("output.weight")
    }
}

/// Factors and bounds that some architectures of llama.cpp have, and none of those read here; 0 and 1 stand for none.
const ODD_NUMBERS: [&str; 11] = [
    "attention.scale",
    "attention.output_scale",
    "attention.clamp_kqv",
    "attention.max_alibi_bias",
    "attn_logit_softcapping",
    "final_logit_softcapping",
    "router_logit_softcapping",
    "logit_scale",
    "embedding_scale",
    "residual_scale",
    "rope.scaling.attn_factor",
];

/// Largest accepted vocabulary, width or context; far above any published model, and small enough that products of
/// two stay exact.
pub(crate) const MAX_SIZE: usize = 1 << 24;
/// Largest accepted number of decoder blocks.
pub(crate) const MAX_LAYERS: usize = 1 << 10;

/// A JSON object of a file, read key by key with errors that name both.
#[derive(Clone, Copy)]
pub struct ConfigObject<'a> {
    path: &'a Path,
    prefix: &'static str,
    map: &'a Map<String, Value>,
}

impl<'a> ConfigObject<'a> {
    /// The object that a value is.
    ///
    /// # Errors
    /// [`ConfigError::NotAnObject`].
    pub fn new(path: &'a Path, value: &'a Value) -> Result<Self, ConfigError> {
        let map = value.as_object().ok_or_else(|| ConfigError::NotAnObject { path: path.to_owned() })?;
        Ok(Self { path, prefix: "", map })
    }

    /// The same of a map, whose path is named in errors.
    pub fn of(path: &'a Path, map: &'a Map<String, Value>) -> Self {
        Self { path, prefix: "", map }
    }

    /// The file that errors name.
    pub fn path(&self) -> &'a Path {
        self.path
    }

    /// The value of `key`; null counts as absent.
    fn get(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    /// Whether the file has the key, null or not.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.map.contains_key(key)
    }

    pub(crate) fn error(&self, key: &str, reason: impl Into<String>) -> ConfigError {
        ConfigError::Key { path: self.path.to_owned(), key: format!("{}{key}", self.prefix), reason: reason.into() }
    }

    /// Refuses a value that would make another network.
    pub(crate) fn refuse(&self, key: &str, value: bool) -> Result<(), ConfigError> {
        if self.flag(key)? == Some(value) {
            return Err(self.error(key, format!("not supported: {value}")));
        }
        Ok(())
    }

    /// Refuses a text that is none of these, the first of which is the usual one.
    pub(crate) fn only(&self, key: &str, names: &[&str]) -> Result<(), ConfigError> {
        match self.text(key)?.filter(|found| !names.contains(found)) {
            Some(other) => Err(self.error(key, format!("not supported, only {} is: {other}", names[0]))),
            None => Ok(()),
        }
    }

    /// Refuses another width of a head than this one.
    pub(crate) fn equal(&self, keys: &[String], dim: usize) -> Result<(), ConfigError> {
        for key in keys {
            if let Some(other) = self.size(key)?.filter(|&other| other != dim) {
                return Err(self.error(key, format!("not supported unless equal to the head's {dim}: {other}")));
            }
        }
        Ok(())
    }

    /// The width of a head where it is not written down: that of the whole, in equal parts.
    pub(crate) fn share(&self, whole: &str, parts: &str) -> Result<usize, ConfigError> {
        let (width, heads) = (self.need(whole)?, self.need(parts)?);
        match heads > 0 && width.is_multiple_of(heads) {
            true => Ok(width / heads),
            false => Err(self.error(parts, format!("does not divide {whole}: {heads}"))),
        }
    }

    pub(crate) fn required<T>(&self, key: &str, value: Option<T>) -> Result<T, ConfigError> {
        value.ok_or_else(|| self.error(key, "missing"))
    }

    pub(crate) fn size(&self, key: &str) -> Result<Option<usize>, ConfigError> {
        let parse = |value: &Value| {
            let size = value.as_u64().and_then(|n| usize::try_from(n).ok());
            size.ok_or_else(|| self.error(key, format!("not a whole number: {value}")))
        };
        self.get(key).map(parse).transpose()
    }

    /// A size that must be there.
    pub(crate) fn need(&self, key: &str) -> Result<usize, ConfigError> {
        self.required(key, self.size(key)?)
    }

    pub(crate) fn number(&self, key: &str) -> Result<Option<f64>, ConfigError> {
        let parse = |value: &Value| value.as_f64().ok_or_else(|| self.error(key, format!("not a number: {value}")));
        self.get(key).map(parse).transpose()
    }

    pub(crate) fn flag(&self, key: &str) -> Result<Option<bool>, ConfigError> {
        let parse =
            |value: &Value| value.as_bool().ok_or_else(|| self.error(key, format!("neither true nor false: {value}")));
        self.get(key).map(parse).transpose()
    }

    /// A string.
    ///
    /// # Errors
    /// [`ConfigError::Key`] for another kind of value.
    pub fn text(&self, key: &str) -> Result<Option<&'a str>, ConfigError> {
        let parse = |value: &'a Value| value.as_str().ok_or_else(|| self.error(key, format!("not a string: {value}")));
        self.get(key).map(parse).transpose()
    }

    pub(crate) fn object(&self, key: &'static str, prefix: &'static str) -> Result<Option<Self>, ConfigError> {
        let parse = |value: &'a Value| match value.as_object() {
            Some(map) => Ok(Self { path: self.path, prefix, map }),
            None => Err(self.error(key, format!("not an object: {value}"))),
        };
        self.get(key).map(parse).transpose()
    }

    /// The elements of a list; `None` if the value is anything else.
    pub fn list(&self, key: &str) -> Option<&'a [Value]> {
        self.get(key).and_then(Value::as_array).map(Vec::as_slice)
    }

    /// A token's text: a string, or an object with a `content`.
    ///
    /// # Errors
    /// [`ConfigError::Key`] for another kind of value.
    pub fn token(&self, key: &str) -> Result<Option<&'a str>, ConfigError> {
        let parse = |value: &'a Value| {
            let text = value.get("content").unwrap_or(value).as_str();
            text.ok_or_else(|| self.error(key, format!("not a token: {value}")))
        };
        self.get(key).map(parse).transpose()
    }

    /// One id or a list of ids; none if the key is absent. Negative ids, which some published files use for
    /// "no such token", are left out.
    ///
    /// # Errors
    /// [`ConfigError::Key`] for another kind of value.
    pub fn ids(&self, key: &str) -> Result<Vec<u32>, ConfigError> {
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

/// Checks that a size is neither zero nor too large.
pub(crate) fn check_size(path: &Path, key: &str, value: usize, max: usize) -> Result<(), ConfigError> {
    if value == 0 || value > max {
        return Err(refusal(path, key, format!("not within 1 and {max}: {value}")));
    }
    Ok(())
}

/// Checks the number a norm adds under its root.
pub(crate) fn check_eps(path: &Path, key: &str, eps: f64) -> Result<(), ConfigError> {
    if !(eps.is_finite() && eps > 0.0) {
        return Err(refusal(path, key, format!("not a positive number: {eps}")));
    }
    Ok(())
}

pub(crate) fn refusal(path: &Path, key: &str, reason: String) -> ConfigError {
    ConfigError::Key { path: path.to_owned(), key: key.to_owned(), reason }
}

/// The numbers that decoders with rotary positions have alike.
pub(crate) struct Sizes {
    pub(crate) vocab: usize,
    pub(crate) hidden: usize,
    pub(crate) intermediate: usize,
    pub(crate) layers: usize,
    pub(crate) heads: Heads,
    pub(crate) eps: f64,
    pub(crate) context: usize,
}

impl Sizes {
    /// Checks bounds, divisibility and finiteness, so that shapes can be computed from them without overflow. Keys are
    /// named as `config.json` writes them.
    pub(crate) fn check(&self, config: &ConfigObject<'_>) -> Result<(), ConfigError> {
        let Self { vocab, hidden, intermediate, layers, heads, eps, context } = self;
        let path = config.path();
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
            let reason = format!("does not divide num_attention_heads: {}", heads.key_value);
            return Err(config.error("num_key_value_heads", reason));
        }
        if heads.query * heads.dim > MAX_SIZE {
            return Err(
                config.error("head_dim", format!("all heads together are wider than {MAX_SIZE}: {}", heads.dim))
            );
        }
        if !heads.dim.is_multiple_of(2) {
            return Err(config.error("head_dim", format!("odd, rotary positions need pairs: {}", heads.dim)));
        }
        check_eps(path, "rms_norm_eps", *eps)
    }
}
