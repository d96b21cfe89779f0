//! The small files of a folder; what they say is read in [`mod@ftk_networks::texts`].

use std::collections::BTreeSet;
use std::path::Path;

use ftk_adapters::foreign;
use ftk_adapters::peft::LFS;
use ftk_networks::texts::templates;
use serde_json::Value;

use super::super::error::ModelError;

/// The bytes of a file; `None` if there is none.
pub(super) fn read(path: &Path) -> Result<Option<Vec<u8>>, ModelError> {
    match foreign::read(path, foreign::DOCUMENT) {
        Ok(bytes) if bytes.starts_with(LFS) => Err(ModelError::Pointer { path: path.to_owned() }),
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(ModelError::Read { path: path.to_owned(), source }),
    }
}

pub(super) fn json(path: &Path) -> Result<Option<Value>, ModelError> {
    let parse = |bytes: Vec<u8>| {
        serde_json::from_slice(&bytes).map_err(|error| ModelError::Malformed {
            path: path.to_owned(),
            format: "JSON",
            reason: error.to_string(),
        })
    };
    read(path)?.map(parse).transpose()
}

/// The texts that any folder adds to a vocabulary, and the one it ends answers with, if it names one.
///
/// # Errors
/// Files that are not JSON.
pub fn stored_tokens(path: &Path) -> Result<(BTreeSet<String>, Option<String>), ModelError> {
    let file = |name: &str| Ok::<_, ModelError>(json(&path.join(name))?.unwrap_or_default());
    let (config, whole, older) = (file("tokenizer_config.json")?, file("tokenizer.json")?, file("added_tokens.json")?);
    let text = |token: &Value| token.as_str().or_else(|| token["content"].as_str()).map(str::to_owned);
    let listed = whole["added_tokens"].as_array().into_iter().flatten().filter_map(text);
    let decoded = config["added_tokens_decoder"].as_object().into_iter().flat_map(|tokens| tokens.values());
    let named = older.as_object().into_iter().flat_map(|tokens| tokens.keys().cloned());
    Ok((listed.chain(decoded.filter_map(text)).chain(named).collect(), text(&config["eos_token"])))
}

/// The text of the chat template in any folder, if it has one.
///
/// # Errors
/// Files that are neither text nor JSON.
pub fn stored_template(path: &Path) -> Result<Option<String>, ModelError> {
    Ok(templates(path, |name| read(&path.join(name)))?.0)
}
