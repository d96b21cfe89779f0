//! Where an adapter comes from, as far as the folder of its run says.

use std::path::Path;

use anyhow::Result;

use super::run::manifest::{MANIFEST, trained_on};

/// What to say of an adapter whose run trained on another base than this, whose digest is asked for if a run says on which.
///
/// # Errors
/// Those of the digest.
pub fn another_base(folder: Option<&Path>, base: impl FnOnce() -> Result<String>) -> Result<Option<String>> {
    let Some((folder, trained)) = folder.and_then(|folder| Some((folder, trained_on(folder)?))) else {
        return Ok(None);
    };
    let base = base()?;
    let what = "was trained on another base, or on this one with another tokenizer or chat template";
    Ok((trained != base).then(|| format!("{}: {what}: {MANIFEST} names {trained}, not {base}", folder.display())))
}
