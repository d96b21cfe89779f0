//! The recipes of this crate's folder, carried inside the program.

/// A recipe to start from.
#[derive(Clone, Copy, Debug)]
pub struct Builtin {
    /// Its file's place in this crate's folder without `.toml`; for those of text, without the folder either.
    pub name: &'static str,
    /// The file.
    pub text: &'static str,
}

macro_rules! builtin {
    ($($name:literal = $place:literal),* $(,)?) => {
        &[$(Builtin { name: $name, text: include_str!(concat!("../", $place)) }),*]
    };
}

/// Every recipe, in name order.
pub const BUILTIN: &[Builtin] = builtin![
    "dpo" = "text/dpo.toml",
    "gnn/bitcoin-alpha" = "gnn/bitcoin-alpha.toml",
    "gnn/bitcoin-alpha-dpo" = "gnn/bitcoin-alpha-dpo.toml",
    "gnn/bitcoin-alpha-feedback" = "gnn/bitcoin-alpha-feedback.toml",
    "gnn/bitcoin-alpha-stream" = "gnn/bitcoin-alpha-stream.toml",
    "gnn/bitcoin-otc" = "gnn/bitcoin-otc.toml",
    "gnn/bitcoin-otc-stream" = "gnn/bitcoin-otc-stream.toml",
    "gnn/citeseer" = "gnn/citeseer.toml",
    "gnn/cora" = "gnn/cora.toml",
    "gnn/cora-adapter" = "gnn/cora-adapter.toml",
    "gnn/cora-contrast" = "gnn/cora-contrast.toml",
    "gnn/guilds" = "gnn/guilds.toml",
    "gnn/pubmed" = "gnn/pubmed.toml",
    "kto" = "text/kto.toml",
    "orpo" = "text/orpo.toml",
    "sft" = "text/sft.toml",
    "simpo" = "text/simpo.toml",
    "smollm2-dpo" = "text/smollm2-dpo.toml",
    "smollm2-identity" = "text/smollm2-identity.toml",
];

/// The folder of the recipes that are named without one.
const TEXT: &str = "text/";

impl Builtin {
    /// The folder it stands in, from this crate's, with a `/` at its end.
    pub(crate) fn folder(&self) -> &'static str {
        self.name.rfind('/').map_or(TEXT, |end| &self.name[..=end])
    }

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
        let mut all = names(&folder.join(TEXT), "");
        all.extend(names(&folder.join("gnn"), "gnn/"));
        all.sort();
        assert_eq!(BUILTIN.iter().map(|it| it.name).collect::<Vec<_>>(), all);
        for builtin in BUILTIN {
            let place = builtin.name.strip_prefix(builtin.folder()).unwrap_or(builtin.name);
            let path = folder.join(builtin.folder()).join(format!("{place}.toml"));
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
