//! The plan of `src/`: files in the order of STATEMENT, each of which names only those before it.

use std::collections::BTreeSet;
use std::path::Path;

/// What every section stands on, then the sections of `STATEMENT.md`, each as far as it has code; a file stands after
/// all that it names. The link is the foundation of section 4's equation, which is why it stands before it.
const ORDER: [(&str, &[&str]); 11] = [
    ("ground", &["hash", "bytes", "conduct", "field", "points", "layout", "key"]),
    ("1 and 7: statement", &["fixed", "statement", "error", "entropy", "check"]),
    ("3: commitment", &["columns", "commitment"]),
    ("5: link", &["link/halo2", "link"]),
    ("4: equation", &["folding/circuit", "folding"]),
    ("4: delta proof", &["delta/rows", "delta/fold", "delta/mersenne", "delta/encoding", "delta"]),
    ("6: registration", &["messages", "fractions", "registration"]),
    ("12: stacks", &["stack"]),
    (
        "9: operations",
        &[
            "fixed/elementary",
            "fixed/rope",
            "fixed/linear",
            "fixed/norm",
            "fixed/gate",
            "fixed/attention",
            "fixed/graph",
            "fixed/log_prob",
        ],
    ),
    (
        "11: sealed proofs",
        &[
            "sealed/tables",
            "sealed/arrangement",
            "sealed/cells",
            "sealed/claims",
            "sealed/sums",
            "sealed/equations",
            "sealed/operations/linear",
            "sealed/operations/rope",
            "sealed/operations/norm",
            "sealed/operations/attention",
            "sealed/operations/gate",
            "sealed/operations/graph",
            "sealed/operations/choice",
            "sealed/operations/log_prob",
            "sealed/operations",
            "sealed/plan",
            "sealed/builder",
            "sealed/builder/stated",
            "sealed/lookups",
            "sealed/said",
            "sealed/verify",
            "sealed/work",
            "sealed/prove",
            "sealed",
        ],
    ),
    ("8: verifier", &["verify"]),
];

/// The code of a file: without comments, and without its tests.
fn code(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(name).with_extension("rs");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let code = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    code.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// Files of the crate that a file names: the longest path among `files` that follows a `crate::` or `super::`.
fn named<'a>(name: &str, files: &[&'a str]) -> BTreeSet<&'a str> {
    let code = code(name);
    let above = name.rsplit_once('/').map_or(String::new(), |(folder, _)| format!("{folder}/"));
    let mut found = BTreeSet::new();
    for (prefix, folder) in [("crate::", ""), ("super::", above.as_str())] {
        for (at, _) in code.match_indices(prefix) {
            let path: String = code[at + prefix.len()..]
                .chars()
                .take_while(|c| c.is_alphanumeric() || "_:".contains(*c))
                .collect::<String>()
                .replace("::", "/");
            let path = format!("{folder}{path}");
            let begins = |file: &&&str| path == **file || path.starts_with(&format!("{file}/"));
            found.extend(files.iter().filter(begins).max_by_key(|file| file.len()).copied());
        }
    }
    found.remove(name);
    found
}

#[test]
fn files_name_only_those_before_them() {
    let files: Vec<&str> = ORDER.iter().flat_map(|(_, files)| files.iter().copied()).collect();
    for (at, name) in files.iter().enumerate() {
        let after: Vec<_> = named(name, &files).into_iter().filter(|file| !files[..at].contains(file)).collect();
        assert!(after.is_empty(), "{name} names what comes after it: {after:?}");
    }
    // A search that finds nothing would hold for ever.
    assert!(named("registration", &files).is_superset(&BTreeSet::from(["folding", "link", "hash"])));
    assert!(named("fixed/norm", &files).contains("fixed/rope"));
}

#[test]
fn every_file_has_its_place() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = BTreeSet::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.insert(path.strip_prefix(&root).unwrap().with_extension("").to_str().unwrap().to_owned());
            }
        }
    }
    found.retain(|name| !["lib", "tests", "fixed/oracle", "sealed/tests"].contains(&name.as_str()));
    found.retain(|name| !["tests/", "sealed/tests/"].iter().any(|folder| name.starts_with(folder)));
    let planned: Vec<String> =
        ORDER.iter().flat_map(|(_, files)| files.iter().map(|file| (*file).to_owned())).collect();
    assert_eq!(planned.iter().cloned().collect::<BTreeSet<_>>(), found);
    assert_eq!(planned.len(), found.len(), "a file has one place");
}
