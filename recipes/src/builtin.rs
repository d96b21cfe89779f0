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
pub const BUILTIN: &[Builtin] = builtin!["dpo", "sft", "smollm2-dpo", "smollm2-identity"];

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

    #[test]
    fn every_recipe_of_the_folder_is_carried_and_says_what_it_is_for() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
        let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.filter_map(|name| name.strip_suffix(".toml").map(str::to_owned)).collect();
        names.retain(|name| name != "Cargo");
        names.sort();
        assert_eq!(BUILTIN.iter().map(|it| it.name).collect::<Vec<_>>(), names);
        for builtin in BUILTIN {
            let path = folder.join(builtin.name).with_extension("toml");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), builtin.text);
            Recipe::parse(&path, builtin.text).unwrap();
            assert!(builtin.text.starts_with("# ") && builtin.about().ends_with('.'), "{}", builtin.name);
        }
    }
}
