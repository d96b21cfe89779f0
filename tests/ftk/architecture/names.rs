//! One name, one type, in the whole workspace: whoever reads a name in any file knows what it means.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::{crates, rust_files};

/// What a verb needs is read with its module: `commit::Settings`.
const WITH_THEIR_MODULE: &str = "Settings";

/// The names of types that a file defines outside of tests.
fn defined(text: &str) -> Vec<String> {
    let code = text.split("\nmod tests {").next().unwrap_or_default();
    let lines = code.lines().filter_map(|line| {
        let seen = line.trim_start();
        let item = match seen.strip_prefix("pub") {
            Some(rest) => rest.split_once(") ").filter(|_| rest.starts_with('(')).map_or(rest, |(_, item)| item),
            None => seen,
        };
        let (kind, rest) = item.trim_start().trim_start_matches("unsafe ").split_once(' ')?;
        // Indented, it is an associated type.
        let is_one = ["struct", "enum", "trait"].contains(&kind) || kind == "type" && !line.starts_with(' ');
        let name = rest.split(|c: char| !c.is_alphanumeric() && c != '_').next()?;
        (is_one && !name.is_empty()).then(|| name.to_owned())
    });
    lines.collect()
}

#[test]
fn a_name_is_that_of_one_type() {
    let mut places: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (name, folder) in crates() {
        for (path, text) in rust_files(&folder.join("src")) {
            let is_test =
                path.components().any(|part| Path::new(&part).file_stem().is_some_and(|stem| stem == "tests"));
            for defined in defined(&text).into_iter().filter(|_| !is_test) {
                places.entry(defined).or_default().insert(format!("{name}: {}", path.display()));
            }
        }
    }
    assert!(places.len() > 600, "types are looked for in the wrong place: {}", places.len());
    assert!(places.remove(WITH_THEIR_MODULE).is_some_and(|verbs| verbs.len() > 10));
    places.retain(|_, files| files.len() > 1);
    assert!(places.is_empty(), "give each a name of its own: {places:#?}");
}

#[test]
fn types_are_found_where_they_are_defined() {
    let text = "struct A;\npub(in crate::x) enum B<T> {\n    type Not = u8;\n}\n    pub trait C: D {\ntype E = F;\n\
                pub fn not(it: u8) {}\n#[cfg(test)]\nmod tests {\n    struct Not;\n}\n";
    assert_eq!(defined(text), ["A", "B", "C", "E"]);
}
