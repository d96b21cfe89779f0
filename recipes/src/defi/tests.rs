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

#[test]
fn the_recipes_of_makers_are_recipes() {
    for (name, text) in
        [("sft", super::SFT), ("dpo", super::DPO), ("pretrain", include_str!("../../defi/pretrain.toml"))]
    {
        let recipe = crate::Recipe::parse(&Path::new(name).with_extension("toml"), text).unwrap();
        // A window and its action fit.
        assert!(recipe.data.max_length >= 3 * super::window::SPELT + 8, "{name}");
    }
}
