//! Recipes by name: those of this crate's folder, with the rows they learn from, carried inside the program.

use std::path::{Path, PathBuf};

use ftk_adapters::{atomic, cache, foreign};

use crate::builtin::{BUILTIN, Builtin};
use crate::error::RecipeError;
use crate::source::nearest;

macro_rules! files {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_bytes!(concat!("../", $name)))),*]
    };
}

/// Rows that recipes name, by their places in this crate's folder.
const FILES: &[(&str, &[u8])] = files![
    "gnn/guilds/edges.csv",
    "gnn/guilds/nodes.csv",
    "text/identity.jsonl",
    "text/village/dpo.jsonl",
    "text/village/heldout-sft.jsonl",
    "text/village/heldout.jsonl",
    "text/village/kto.jsonl",
    "text/village/sft.jsonl",
];

/// The recipe that ships under a name, unless a file of that name is here.
pub fn named(path: &Path) -> Option<&'static Builtin> {
    BUILTIN.iter().find(|builtin| Path::new(builtin.name) == path && !path.is_file())
}

/// What may be done about a path at which no recipe can be read.
pub(crate) fn meant(path: &Path) -> String {
    let names: Vec<&str> = BUILTIN.iter().map(|builtin| builtin.name).collect();
    let meant = path.to_str().and_then(|name| nearest(name, &names));
    let meant = meant.map_or(String::new(), |name| format!("; did you mean {name}?"));
    format!("give the path of a recipe file (TOML), or a name from `ftk recipes ls`{meant}")
}

/// A file of rows that ships.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rows {
    /// Its path from the folder of the recipe that names it.
    pub path: &'static str,
    /// What is in it.
    pub bytes: &'static [u8],
}

impl Builtin {
    /// The files that ship for what the recipe calls `path`: the file itself, or all of a folder; none of rows that the
    /// user brings.
    fn files(&self, path: &Path) -> Vec<Rows> {
        let here = FILES.iter();
        let here = here.filter_map(|&(name, bytes)| Some(Rows { path: name.strip_prefix(self.folder())?, bytes }));
        here.filter(|rows| Path::new(rows.path).starts_with(path)).collect()
    }

    /// Every file of rows that ships for it.
    pub fn rows(&self) -> Vec<Rows> {
        let text: toml::Table = self.text.parse().expect("a test reads every recipe and plan");
        let named = |key: &str| text.get("data")?.get(key)?.as_str();
        ["train", "held_out"].into_iter().filter_map(named).flat_map(|path| self.files(Path::new(path))).collect()
    }

    /// Where to read what the recipe calls `path`: in the cache where it ships, which is written there if it is not
    /// there yet; elsewhere `None`.
    pub(crate) fn unpack(&self, path: &Path) -> Result<Option<PathBuf>, RecipeError> {
        let files = self.files(path);
        if files.is_empty() {
            return Ok(None);
        }
        let failed = |place: PathBuf, message: String| RecipeError {
            path: place,
            line: None,
            key: None,
            message,
            hint: Some("name a folder for them in FTK_CACHE, or copy recipe and rows: ftk recipes cp".to_owned()),
        };
        let none = || failed(PathBuf::from(self.name), "there is no cache folder to put its rows in".to_owned());
        let mut digest = blake3::Hasher::new();
        for rows in &files {
            digest.update(rows.path.as_bytes()).update(rows.bytes);
        }
        // Another version of ftk may have other rows of the same name.
        let folder = cache::folder().ok_or_else(none)?.join("rows").join(&digest.finalize().to_hex()[..16]);
        for rows in &files {
            let place = folder.join(rows.path);
            // What was changed there is made anew: a run by name has the rows that ship.
            if foreign::read(&place, foreign::DOCUMENT).is_ok_and(|found| found == rows.bytes) {
                continue;
            }
            let parent = place.parent().unwrap_or(&folder);
            let write = || std::fs::create_dir_all(parent).and_then(|()| atomic::write(&place, rows.bytes));
            write().map_err(|error| failed(place.clone(), format!("cannot write the recipe's rows: {error}")))?;
        }
        Ok(Some(folder.join(path)))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::Recipe;

    #[test]
    fn every_file_that_ships_is_named_by_a_recipe_and_is_that_of_the_folder() {
        let mut named = BTreeSet::new();
        for builtin in BUILTIN {
            named.extend(builtin.rows().into_iter().map(|rows| format!("{}{}", builtin.folder(), rows.path)));
        }
        assert_eq!(named, FILES.iter().map(|(name, _)| (*name).to_owned()).collect());
    }

    #[test]
    fn a_recipe_by_name_has_its_rows_or_says_that_the_user_brings_them() {
        for builtin in BUILTIN {
            let recipe = Recipe::parse(Path::new(builtin.name), builtin.text).unwrap();
            let own = builtin.text.contains("data.train=") || builtin.text.contains("pairs of your own");
            assert_eq!(builtin.files(&recipe.data.train).is_empty(), own, "{}", builtin.name);
            if let Some(path) = &recipe.data.held_out {
                assert!(!builtin.files(path).is_empty(), "{}", builtin.name);
            }
        }
    }

    #[test]
    fn no_recipe_leaves_the_folder_that_it_is_copied_to() {
        for builtin in BUILTIN {
            let named = builtin.text.lines().filter(|line| line.contains("..")).collect::<Vec<_>>();
            assert!(named.is_empty(), "{}: {named:?}", builtin.name);
        }
    }
}
