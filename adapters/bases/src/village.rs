//! The base model that ships inside the program (`recipes/text/village/README.md`), with rows to tune it on.

use std::path::Path;

use ftk_adapters::staged::Temporary;

use super::error::ModelError;

/// Files of the base.
const BASE: [(&str, &[u8]); 5] = [
    ("config.json", include_bytes!("../../../recipes/text/village/base/config.json")),
    ("generation_config.json", include_bytes!("../../../recipes/text/village/base/generation_config.json")),
    ("model.safetensors", include_bytes!("../../../recipes/text/village/base/model.safetensors")),
    ("tokenizer.json", include_bytes!("../../../recipes/text/village/base/tokenizer.json")),
    ("tokenizer_config.json", include_bytes!("../../../recipes/text/village/base/tokenizer_config.json")),
];

/// Recipe and rows of the preference run, beside a folder `base`.
const RUN: [(&str, &[u8]); 3] = [
    ("dpo.toml", include_bytes!("../../../recipes/text/village/dpo.toml")),
    ("dpo.jsonl", include_bytes!("../../../recipes/text/village/dpo.jsonl")),
    ("heldout.jsonl", include_bytes!("../../../recipes/text/village/heldout.jsonl")),
];

/// How temporary folders of bases are called; a process that is killed leaves its own for the next to sweep out.
const UNPACKED: &str = "ftk-village-";

/// The base in a temporary folder.
pub(super) fn unpacked() -> Result<Temporary, ModelError> {
    temporary(&BASE)
}

/// A base that ships inside the program in a temporary folder.
pub(super) fn temporary(base: &[(&str, &[u8])]) -> Result<Temporary, ModelError> {
    let failed = |source| ModelError::Write { path: std::env::temp_dir(), source };
    let unpacked = Temporary::new(&std::env::temp_dir(), UNPACKED).map_err(failed)?;
    write(unpacked.path(), base)?;
    Ok(unpacked)
}

/// Writes base, recipe and rows into a folder, laid out as in `recipes/text/village`.
///
/// # Errors
/// [`ModelError::Write`].
pub fn unpack(folder: &Path) -> Result<(), ModelError> {
    let base = folder.join("base");
    std::fs::create_dir_all(&base).map_err(|source| ModelError::Write { path: folder.to_owned(), source })?;
    write(folder, &RUN)?;
    write(&base, &BASE)
}

fn write(folder: &Path, files: &[(&str, &[u8])]) -> Result<(), ModelError> {
    let mut each = files.iter();
    each.try_for_each(|(name, bytes)| std::fs::write(folder.join(name), bytes))
        .map_err(|source| ModelError::Write { path: folder.to_owned(), source })
}
