//! Entries of the metadata of an adapter's file, beside those that its format asks for: readers of adapters leave them
//! alone, and they go wherever the weights go.

use std::path::Path;

use serde_json::{Map, Value};

use crate::atomic;
use crate::peft::{self, FACTORS, PeftError};

/// Entry of a safetensors header that holds text by name (github.com/huggingface/safetensors, README).
const METADATA: &str = "__metadata__";
/// Bytes before the header, which give its length.
const LENGTH: usize = 8;

/// Puts a text into the metadata of the adapter's file in a folder; the tensors stay as they are.
///
/// # Errors
/// A file that cannot be read or written, or has no header.
pub fn note(folder: &Path, name: &str, text: &str) -> Result<(), PeftError> {
    let path = folder.join(FACTORS);
    let bytes = peft::read(&path)?;
    let (mut header, tensors) = parted(&path, &bytes)?;
    let metadata = header.entry(METADATA).or_insert_with(|| Value::Object(Map::new()));
    if let Some(metadata) = metadata.as_object_mut() {
        metadata.insert(name.to_owned(), Value::from(text));
    }
    let mut header = Value::Object(header).to_string().into_bytes();
    // Tensors begin at whole words.
    header.resize(header.len().next_multiple_of(LENGTH), b' ');
    let file = [&(header.len() as u64).to_le_bytes(), header.as_slice(), tensors].concat();
    atomic::write(&path, &file).map_err(|error| PeftError::Io { path, error })
}

/// The text of that name in the metadata of the adapter's file in a folder, if there is one.
///
/// # Errors
/// A file that cannot be read, or has no header.
pub fn noted(folder: &Path, name: &str) -> Result<Option<String>, PeftError> {
    let path = folder.join(FACTORS);
    let bytes = peft::read(&path)?;
    let (header, _) = parted(&path, &bytes)?;
    Ok(header.get(METADATA).and_then(|metadata| metadata.get(name)?.as_str()).map(str::to_owned))
}

/// The header of a safetensors file, and what follows.
fn parted<'a>(path: &Path, bytes: &'a [u8]) -> Result<(Map<String, Value>, &'a [u8]), PeftError> {
    let parts = bytes.split_first_chunk::<LENGTH>().and_then(|(length, rest)| {
        let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
        let (header, tensors) = rest.split_at_checked(length)?;
        Some((serde_json::from_slice(header).ok()?, tensors))
    });
    let message = || "has no header of a safetensors file".to_owned();
    parts.ok_or_else(|| PeftError::Malformed { path: path.to_owned(), message: message() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lora::{Adapter, Factors};
    use crate::peft::{load, save};

    #[test]
    fn a_note_is_found_again_and_changes_no_tensor() {
        let folder = tempfile::tempdir().unwrap();
        let factors = Factors { rank: 1, d_in: 2, d_out: 1, a: vec![1.0, 2.0], b: vec![0.5], scale: 1.0 };
        let adapter = Adapter { sites: [("q_proj".to_owned(), factors)].into() };
        save(folder.path(), &adapter, "base", &[], false).unwrap();
        let before = load(folder.path()).unwrap();
        assert_eq!(noted(folder.path(), "ftk_transcript").unwrap(), None);
        for text in ["one", "another, longer one"] {
            note(folder.path(), "ftk_transcript", text).unwrap();
            assert_eq!(noted(folder.path(), "ftk_transcript").unwrap().as_deref(), Some(text));
            assert_eq!(load(folder.path()).unwrap(), before);
            let file = std::fs::read(folder.path().join(FACTORS)).unwrap();
            let (_, metadata) = safetensors::SafeTensors::read_metadata(&file).unwrap();
            assert_eq!(metadata.metadata().as_ref().unwrap()["format"], "pt");
        }
        std::fs::write(folder.path().join(FACTORS), [9; 20]).unwrap();
        let error = note(folder.path(), "ftk_transcript", "one").unwrap_err();
        assert!(error.to_string().ends_with("has no header of a safetensors file"), "{error}");
        std::fs::write(folder.path().join(FACTORS), peft::LFS).unwrap();
        let error = noted(folder.path(), "ftk_transcript").unwrap_err();
        assert!(matches!(error, PeftError::Pointer { .. }), "{error}");
    }
}
