//! Values in the header of a GGUF file.

use std::path::Path;

use candle_core::quantized::gguf_file::{Content, Value};
use ftk_networks::config::ConfigError;

use super::super::error::ModelError;

/// Metadata of a file, read key by key with errors that name both.
pub(super) struct Metadata<'a> {
    pub(super) path: &'a Path,
    pub(super) content: &'a Content,
}

impl<'a> Metadata<'a> {
    pub(super) fn error(&self, key: &str, reason: impl Into<String>) -> ModelError {
        ConfigError::Key { path: self.path.to_owned(), key: key.to_owned(), reason: reason.into() }.into()
    }

    pub(super) fn need<T>(&self, key: &str, value: Option<T>) -> Result<T, ModelError> {
        value.ok_or_else(|| self.error(key, "missing"))
    }

    /// A value of one kind, if the key is present.
    pub(super) fn get<T>(
        &self,
        key: &str,
        kind: &str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, ModelError> {
        let parse = |value| read(value).ok_or_else(|| self.error(key, format!("not {kind}")));
        self.content.metadata.get(key).map(parse).transpose()
    }

    pub(super) fn text(&self, key: &str) -> Result<Option<&'a str>, ModelError> {
        self.get(key, "a string", |value| match value {
            Value::String(text) => Some(text.as_str()),
            _ => None,
        })
    }

    pub(super) fn flag(&self, key: &str) -> Result<Option<bool>, ModelError> {
        self.get(key, "true or false", |value| match value {
            Value::Bool(flag) => Some(*flag),
            _ => None,
        })
    }

    pub(super) fn size(&self, key: &str) -> Result<Option<usize>, ModelError> {
        self.get(key, "one whole number", whole)
    }

    pub(super) fn list(&self, key: &str) -> Result<Option<&'a [Value]>, ModelError> {
        self.get(key, "a list", |value| match value {
            Value::Array(values) => Some(values.as_slice()),
            _ => None,
        })
    }

    pub(super) fn texts(&self, key: &str) -> Result<Option<Vec<&'a str>>, ModelError> {
        self.get(key, "a list of strings", |value| match value {
            Value::Array(values) => {
                let text = |value: &'a Value| match value {
                    Value::String(text) => Some(text.as_str()),
                    _ => None,
                };
                values.iter().map(text).collect()
            }
            _ => None,
        })
    }
}

/// A whole number of any width.
pub(super) fn whole(value: &Value) -> Option<usize> {
    match *value {
        Value::U8(n) => Some(n.into()),
        Value::U16(n) => Some(n.into()),
        Value::U32(n) => usize::try_from(n).ok(),
        Value::U64(n) => usize::try_from(n).ok(),
        Value::I8(n) => usize::try_from(n).ok(),
        Value::I16(n) => usize::try_from(n).ok(),
        Value::I32(n) => usize::try_from(n).ok(),
        Value::I64(n) => usize::try_from(n).ok(),
        _ => None,
    }
}

/// A single value or a short list of such, `None` of a long one. A real number of 32 bits is taken for the shortest decimal that means it, so that a
/// constant such as 1e-5 is the number that `config.json` writes; one that is not finite, for its name.
pub(super) fn single(value: &Value) -> Option<serde_json::Value> {
    let real = |value: f64| match serde_json::Number::from_f64(value) {
        Some(number) => serde_json::Value::Number(number),
        None => value.to_string().into(),
    };
    Some(match value {
        Value::U8(n) => (*n).into(),
        Value::U16(n) => (*n).into(),
        Value::U32(n) => (*n).into(),
        Value::U64(n) => (*n).into(),
        Value::I8(n) => (*n).into(),
        Value::I16(n) => (*n).into(),
        Value::I32(n) => (*n).into(),
        Value::I64(n) => (*n).into(),
        Value::F32(value) => real(value.to_string().parse().unwrap_or(f64::from(*value))),
        Value::F64(value) => real(*value),
        Value::Bool(flag) => (*flag).into(),
        Value::String(text) => text.as_str().into(),
        // A number for each block, at most; vocabularies are longer.
        Value::Array(values) if values.len() <= 1 << 10 => {
            values.iter().map(single).collect::<Option<Vec<_>>>()?.into()
        }
        Value::Array(_) => return None,
    })
}
