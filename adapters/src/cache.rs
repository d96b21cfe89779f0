//! The folder for what can be made anew at any time.

use std::path::PathBuf;

/// `FTK_CACHE`, or `ftk` in the user's cache folder; `None` where the environment names no such folder.
pub fn folder() -> Option<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    variable("FTK_CACHE")
        .or_else(|| variable("XDG_CACHE_HOME").map(|cache| cache.join("ftk")))
        .or_else(|| variable("HOME").map(|home| home.join(".cache").join("ftk")))
        .or_else(|| variable("LOCALAPPDATA").map(|local| local.join("ftk")))
}
