//! Where tests find real markets, which are not part of the project.

use std::path::{Path, PathBuf};

/// A file of real market data, if it is there: in the folder `FTK_MARKET_DATA`, or in `shared` beside the repository.
pub(super) fn real(name: &str) -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/market");
    let path = std::env::var_os("FTK_MARKET_DATA").map_or(beside, PathBuf::from).join(name);
    if !path.exists() {
        eprintln!("not checked on real data: {} is not there", path.display());
        return None;
    }
    Some(path)
}

#[test]
fn the_recipes_of_makers_are_recipes() {
    for (name, text) in [("sft", super::SFT), ("dpo", super::DPO), ("pretrain", include_str!("../pretrain.toml"))] {
        let recipe = ftk_recipes::Recipe::parse(&Path::new(name).with_extension("toml"), text).unwrap();
        // A window and its action fit.
        assert!(recipe.data.max_length >= 3 * super::window::SPELT + 8, "{name}");
    }
}

#[test]
fn every_plan_of_the_folder_is_carried_and_is_a_plan() {
    /// What `ftk defi backtest` and the makers' base are trained by, which are recipes.
    const RECIPES: [&str; 3] = ["defi/dpo", "defi/pretrain", "defi/sft"];
    let files = std::fs::read_dir(env!("CARGO_MANIFEST_DIR")).unwrap();
    let files = files.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let names = files.filter_map(|name| name.strip_suffix(".toml").map(|name| format!("defi/{name}")));
    let mut all: Vec<String> = names.filter(|name| name != "defi/Cargo" && !RECIPES.contains(&name.as_str())).collect();
    all.sort();
    assert_eq!(super::PLANS.iter().map(|it| it.name).collect::<Vec<_>>(), all);
    for plan in super::PLANS {
        super::plan::Plan::parse(plan.name, plan.text).unwrap();
        assert!(plan.text.starts_with("# ") && plan.about().ends_with('.'), "{}", plan.name);
        assert!(include_str!("../README.md").contains(plan.name.rsplit('/').next().unwrap()), "{}", plan.name);
    }
}
