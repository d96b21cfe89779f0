//! The recipes of this crate's folder, carried inside the program.

/// A recipe to start from.
#[derive(Clone, Copy, Debug)]
pub struct Builtin {
    /// Its file's name without `.toml`.
    pub name: &'static str,
    /// The file.
    pub text: &'static str,
}

macro_rules! builtin {
    ($($name:literal),*) => {
        &[$(Builtin { name: $name, text: include_str!(concat!("../", $name, ".toml")) }),*]
    };
}

/// Every recipe, in name order.
pub const BUILTIN: &[Builtin] = builtin![
    "dpo",
    "gnn/bitcoin-alpha",
    "gnn/bitcoin-alpha-dpo",
    "gnn/bitcoin-otc",
    "gnn/citeseer",
    "gnn/cora",
    "gnn/cora-adapter",
    "gnn/cora-contrast",
    "gnn/guilds",
    "gnn/pubmed",
    "kto",
    "orpo",
    "sft",
    "simpo",
    "smollm2-dpo",
    "smollm2-identity"
];

impl Builtin {
    /// What it is for: its first line.
    pub fn about(&self) -> &'static str {
        self.text.lines().next().unwrap_or_default().trim_start_matches(['#', ' '])
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::Recipe;

    /// Names of the recipes in a folder, without their ending.
    fn names(folder: &Path, prefix: &str) -> Vec<String> {
        let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let names = files.filter(|name| name != "Cargo.toml");
        names.filter_map(|name| name.strip_suffix(".toml").map(|name| format!("{prefix}{name}"))).collect()
    }

    #[test]
    fn every_recipe_of_the_folder_is_carried_and_says_what_it_is_for() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut all = names(folder, "");
        all.extend(names(&folder.join("gnn"), "gnn/"));
        all.sort();
        assert_eq!(BUILTIN.iter().map(|it| it.name).collect::<Vec<_>>(), all);
        for builtin in BUILTIN {
            let path = folder.join(format!("{}.toml", builtin.name));
            assert_eq!(std::fs::read_to_string(&path).unwrap(), builtin.text);
            Recipe::parse(&path, builtin.text).unwrap();
            assert!(builtin.text.starts_with("# ") && builtin.about().ends_with('.'), "{}", builtin.name);
        }
    }

    #[test]
    fn recipes_of_a_folder_are_of_the_task_it_is_named_by_and_in_its_manual() {
        let manual = include_str!("../gnn/README.md");
        for builtin in BUILTIN.iter().filter(|builtin| builtin.name.contains('/')) {
            let (folder, name) = builtin.name.split_once('/').unwrap();
            let recipe = Recipe::parse(Path::new(builtin.name), builtin.text).unwrap();
            assert_eq!(recipe.task.name(), folder, "{}", builtin.name);
            assert!(manual.contains(name), "not in the manual: {}", builtin.name);
        }
    }
}
