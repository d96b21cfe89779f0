//! Recipes by name: those of this crate's folder, with the rows they learn from, carried inside the program.

use std::path::{Path, PathBuf};

use ftk_adapters::{atomic, cache, foreign};

use crate::builtin::{BUILTIN, Builtin};
use crate::error::RecipeError;
use crate::source;

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

/// The one of `all` that ships under a name, which may leave out the folder `folder`, unless there is a file of that
/// name here: what a user has goes before what ships, whatever takes names.
pub fn among<'a>(all: &'a [Builtin], folder: &str, path: &Path) -> Option<&'a Builtin> {
    let whole = Path::new(folder).join(path);
    let named = |builtin: &&Builtin| [path, &whole].contains(&Path::new(builtin.name));
    // A folder cannot have been meant.
    all.iter().find(named).filter(|_| !path.exists() || path.is_dir())
}

/// The recipe that ships under a name, with the folder `gnn` before it or without, unless there is a file of that name here.
pub fn named(path: &Path) -> Option<&'static Builtin> {
    among(BUILTIN, "gnn", path)
}

/// What may be done about a path at which no `what` can be read, of which `all` ship.
pub fn meant(what: &str, all: &[Builtin], path: &Path) -> String {
    let names: Vec<&str> = all.iter().map(|builtin| builtin.name).collect();
    let meant = path.to_str().and_then(|name| near(name, &names));
    let meant = meant.map_or(String::new(), |name| format!("; did you mean {name}?"));
    format!("give the path of a {what} file (TOML), or a name from `ftk recipes ls`{meant}")
}

/// The one of these names that may have been meant, with its folder or without.
pub fn near<'a>(name: &str, names: &[&'a str]) -> Option<&'a str> {
    let bare = |name: &&'a str| name.rsplit('/').next().unwrap_or(name);
    let nearest =
        source::nearest(name, &names.iter().map(bare).collect::<Vec<_>>()).or_else(|| source::nearest(name, names))?;
    names.iter().copied().find(|other| *other == nearest || bare(other) == nearest)
}

/// A file of rows that ships.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShippedRows {
    /// Its path from the folder of the recipe that names it.
    pub path: &'static str,
    /// What is in it.
    pub bytes: &'static [u8],
}

impl Builtin {
    /// The files that ship for what the recipe calls `path`: the file itself, or all of a folder; none of rows that the
    /// user brings.
    fn files(&self, path: &Path) -> Vec<ShippedRows> {
        let here = FILES.iter();
        let here =
            here.filter_map(|&(name, bytes)| Some(ShippedRows { path: name.strip_prefix(self.folder())?, bytes }));
        here.filter(|rows| Path::new(rows.path).starts_with(path)).collect()
    }

    /// Every file of rows that ships for it.
    pub fn rows(&self) -> Vec<ShippedRows> {
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
    fn a_name_may_leave_out_its_folder_and_means_one_recipe() {
        for builtin in BUILTIN {
            let bare = builtin.name.rsplit('/').next().unwrap();
            for name in [bare, builtin.name] {
                assert_eq!(named(Path::new(name)).map(|found| found.name), Some(builtin.name));
            }
        }
        assert!(named(Path::new("guild")).is_none() && named(Path::new("other/dpo")).is_none());
        // A file that is here goes before what ships, a folder does not.
        let here = |name| among(&[Builtin { name, text: "" }], "", Path::new(name)).is_none();
        assert!(here("Cargo.toml") && !here("src"));
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
