//! What a run had become at its last checkpoints, each as a result of its own.

use std::path::Path;

use anyhow::{Context, Result};
use ftk_recipes::Run;

/// Folder inside the run folder, with one folder for each step that is kept.
pub const STEPS: &str = "steps";

/// Has the result so far exported to the folder of this step, and deletes those of the oldest steps beyond `run.keep`.
///
/// # Errors
/// The file system's; those of `export`.
pub(super) fn keep(run: &Run, step: usize, export: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let keep = run.keep;
    if keep == 0 {
        return Ok(());
    }
    let steps = run.out.join(STEPS);
    export(&steps.join(step.to_string()))?;
    for old in outlived(&steps, step, keep).with_context(|| format!("cannot read {}", steps.display()))? {
        let folder = steps.join(old.to_string());
        std::fs::remove_dir_all(&folder).with_context(|| format!("cannot delete {}", folder.display()))?;
    }
    Ok(())
}

/// Steps up to `step` that have a folder and are not among the last `keep`.
fn outlived(steps: &Path, step: usize, keep: usize) -> std::io::Result<Vec<usize>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(steps)? {
        let name = entry?.file_name();
        // Only names that this module gives.
        let number =
            name.to_str().and_then(|name| name.parse().ok().filter(|number: &usize| number.to_string() == name));
        found.extend(number.filter(|&number| number <= step));
    }
    found.sort_unstable();
    found.truncate(found.len().saturating_sub(keep));
    Ok(found)
}
