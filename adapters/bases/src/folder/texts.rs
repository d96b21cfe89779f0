//! The small files of a folder; what they say is read in [`mod@ftk_networks::texts`].

use std::collections::BTreeSet;
use std::path::Path;

use ftk_adapters::foreign;
use ftk_adapters::peft::LFS;
use ftk_networks::texts::{own_tokens, templates};
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

/// What any folder adds to a vocabulary, and ends answers with, as [`own_tokens`] has it.
///
/// # Errors
/// Files that are not JSON.
pub fn stored_tokens(path: &Path) -> Result<(BTreeSet<String>, Option<String>), ModelError> {
    own_tokens(path, |name| read(&path.join(name)))
}

/// The text of the chat template in any folder, if it has one.
///
/// # Errors
/// Files that are neither text nor JSON.
pub fn stored_template(path: &Path) -> Result<Option<String>, ModelError> {
    Ok(templates(path, |name| read(&path.join(name)))?.0)
}
