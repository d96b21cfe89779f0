//! Where tests find real markets, which are not part of the project.

use std::path::{Path, PathBuf};

/// A file of real market data, if it is there: in the folder `FTK_MARKET_DATA`, or in `shared` beside the repository.
pub(super) fn real(name: &str) -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/market");
    let path = std::env::var_os("FTK_MARKET_DATA").map_or(beside, PathBuf::from).join(name);
    if !path.exists() {
        eprintln!("not checked on real data: {} is not there", path.display());
        return None;
    }
    Some(path)
}
