//! The rules of the workspace: which crate may know which, and which folder which.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

mod circles;
mod names;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// A crate, the crates of ours it knows, crates it must never reach.
type Rule = (&'static str, &'static [&'static str], &'static [&'static str]);

/// What floats are computed with and read from.
const FLOAT_SIDE: [&str; 5] = ["candle-core", "candle-nn", "candle-transformers", "safetensors", "tokenizers"];

/// What whoever verifies does not want: the command line, downloads, rows and floats.
const HEAVY: [&str; 10] = [
    "clap",
    "indicatif",
    "hf-hub",
    "candle-core",
    "parquet",
    "minijinja",
    "safetensors",
    "tokenizers",
    "tempfile",
    "ftk-recipes",
];

const CRATES: [Rule; 12] = [
    ("ftk-kernels", &[], &["candle-core", "halo2_proofs", "clap"]),
    ("ftk-networks", &[], &["candle-core", "safetensors", "tokenizers", "halo2_proofs", "pasta_curves", "clap"]),
    ("ftk-adapters", &["ftk-kernels", "ftk-networks"], &["halo2_proofs", "pasta_curves", "clap"]),
    ("ftk-bases", &["ftk-adapters", "ftk-networks"], &["halo2_proofs", "pasta_curves", "clap"]),
    ("ftk-recipes", &["ftk-adapters", "ftk-bases", "ftk-networks"], &["halo2_proofs", "pasta_curves", "clap"]),
    (
        "ftk-text",
        &["ftk-adapters", "ftk-bases", "ftk-kernels", "ftk-networks", "ftk-recipes"],
        &["halo2_proofs", "pasta_curves", "clap"],
    ),
    (
        "ftk-gnn",
        &["ftk-adapters", "ftk-bases", "ftk-networks", "ftk-recipes"],
        &["halo2_proofs", "pasta_curves", "clap"],
    ),
    ("ftk-defi", &["ftk-adapters", "ftk-recipes"], &["halo2_proofs", "pasta_curves", "clap"]),
    ("ftk-circuits", &["ftk-kernels"], &["candle-core", "candle-nn", "safetensors", "tempfile", "clap"]),
    ("ftk-proofs", &["ftk-circuits", "ftk-kernels", "ftk-networks"], &HEAVY),
    ("ftk-browser", &["ftk-networks", "ftk-proofs"], &["clap", "candle-core", "tokenizers", "minijinja", "memmap2"]),
    (
        "ftk",
        &[
            "ftk-adapters",
            "ftk-bases",
            "ftk-circuits",
            "ftk-defi",
            "ftk-gnn",
            "ftk-kernels",
            "ftk-networks",
            "ftk-proofs",
            "ftk-recipes",
            "ftk-text",
        ],
        &[],
    ),
];

/// What cargo says of the workspace.
fn metadata() -> Value {
    // Without a platform, crates of other systems would be asked for, which nobody has fetched.
    let about = Command::new("rustc").arg("-vV").output().unwrap().stdout;
    let about = String::from_utf8(about).unwrap();
    let platform = about.lines().find_map(|line| line.strip_prefix("host: ")).expect("rustc names its host");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["metadata", "--format-version", "1", "--offline", "--locked", "--filter-platform", platform]);
    let output = cargo.arg("--manifest-path").arg(Path::new(ROOT).join("Cargo.toml")).output().unwrap();
    serde_json::from_slice(&output.stdout).expect("cargo describes the workspace")
}

fn list(value: &Value) -> Vec<Value> {
    value.as_array().expect("a list").clone()
}

fn text(value: &Value) -> String {
    value.as_str().expect("a string").to_owned()
}

/// The crates of the workspace with their folders.
fn crates() -> Vec<(String, PathBuf)> {
    let metadata = metadata();
    let ours: BTreeSet<String> = list(&metadata["workspace_members"]).iter().map(text).collect();
    let packages = list(&metadata["packages"]);
    let members = packages.iter().filter(|package| ours.contains(&text(&package["id"])));
    let folder = |package: &Value| {
        Path::new(&text(&package["manifest_path"])).parent().expect("a manifest stands in a folder").to_owned()
    };
    members.map(|package| (text(&package["name"]), folder(package))).collect()
}

/// Normal and build dependencies of every crate of the resolved graph, by name.
fn dependencies() -> (BTreeSet<String>, BTreeMap<String, BTreeSet<String>>) {
    let metadata = metadata();
    let packages = list(&metadata["packages"]);
    let names: BTreeMap<String, String> = packages.iter().map(|it| (text(&it["id"]), text(&it["name"]))).collect();
    let ours = list(&metadata["workspace_members"]).iter().map(|id| names[&text(id)].clone()).collect();
    let mut graph: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for node in list(&metadata["resolve"]["nodes"]) {
        // Two versions of one crate are one entry: what either reaches counts.
        let known = graph.entry(names[&text(&node["id"])].clone()).or_default();
        // A normal dependency has no kind.
        let built_in = |dep: &Value| list(&dep["dep_kinds"]).iter().any(|kind| kind["kind"] != "dev");
        known.extend(
            list(&node["deps"]).iter().filter(|dep| built_in(dep)).map(|dep| names[&text(&dep["pkg"])].clone()),
        );
    }
    (ours, graph)
}

#[test]
fn crates_know_only_the_crates_below_them() {
    let (ours, graph) = dependencies();
    let ruled: BTreeSet<String> = CRATES.iter().map(|(name, ..)| (*name).to_owned()).collect();
    assert_eq!(ours, ruled, "every crate of the workspace has a rule");
    for (name, may_know, _) in CRATES {
        let known: BTreeSet<&str> = graph[name].iter().filter(|dep| ours.contains(*dep)).map(String::as_str).collect();
        let strangers: Vec<_> = known.difference(&may_know.iter().copied().collect()).copied().collect();
        assert!(strangers.is_empty(), "{name} knows {strangers:?}");
    }
}

#[test]
fn crates_never_reach_what_they_must_not_know() {
    let (_, graph) = dependencies();
    for (name, _, never) in CRATES {
        let mut reached = BTreeSet::from([name]);
        let mut open = vec![name];
        while let Some(next) = open.pop() {
            for dependency in graph.get(next).into_iter().flatten() {
                if reached.insert(dependency) {
                    open.push(dependency);
                }
            }
        }
        let wrong: Vec<_> = never.iter().filter(|name| reached.contains(*name)).collect();
        assert!(wrong.is_empty(), "{name} reaches {wrong:?}");
        // A misspelt rule would hold for ever.
        assert!(never.iter().all(|name| graph.contains_key(*name)), "{name}: {never:?}");
    }
}

#[test]
fn the_table_of_crates_is_the_rule() {
    let text = std::fs::read_to_string(Path::new(ROOT).join("CONTRIBUTING.md")).unwrap();
    let folders: BTreeMap<String, PathBuf> = crates().into_iter().collect();
    let rows: Vec<Vec<&str>> =
        text.lines().filter(|line| line.starts_with("| `ftk")).map(|line| line.split(" | ").collect()).collect();
    assert_eq!(rows.len(), CRATES.len(), "{rows:?}");
    for (row, (name, may_know, _)) in rows.iter().zip(CRATES) {
        assert_eq!(row[0], format!("| `{name}`"));
        assert_eq!(
            Path::new(ROOT).join(row[1].trim_matches('`')),
            folders[name].join(if name == "ftk" { "src" } else { "" })
        );
        let words = row[2].split(|c: char| !c.is_alphanumeric() && c != '-').filter(|word| word.starts_with("ftk-"));
        let named: BTreeSet<&str> = words.collect();
        assert!(name == "ftk" && named.is_empty() || named == may_know.iter().copied().collect(), "{name}: {named:?}");
    }
}

/// What a browser has not: files, threads of their own, compilers of C, the system's random numbers.
const NATIVE: [&str; 9] =
    ["memmap2", "tempfile", "zstd-sys", "ring", "openssl-sys", "libc", "signal-hook", "num_cpus", "onig_sys"];

/// The crates that `ftk-proofs` is made of with these features on this target, or on this machine.
fn crates_of_proofs(features: &str, target: Option<&str>) -> BTreeSet<String> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["tree", "--package", "ftk-proofs", "--no-default-features", "--features", features]);
    cargo.args(["--edges", "normal", "--prefix", "none", "--format", "{p}", "--locked"]);
    // Crates of another target may not have been fetched yet.
    cargo.args(target.iter().flat_map(|target| ["--target", target]));
    let output = cargo.arg("--manifest-path").arg(Path::new(ROOT).join("Cargo.toml")).output().unwrap();
    let tree = String::from_utf8(output.stdout).unwrap();
    let crates: BTreeSet<String> =
        tree.lines().map(|line| line.split(' ').take(2).collect::<Vec<_>>().join(" ")).collect();
    assert!(crates.iter().any(|it| it.starts_with("halo2_proofs ")), "{}", String::from_utf8_lossy(&output.stderr));
    crates
}

#[test]
fn proofs_ask_nothing_of_a_browser_that_it_has_not() {
    let crates = crates_of_proofs("js", Some("wasm32-unknown-unknown"));
    let has = |name: &&&str| crates.iter().any(|it| it.split(' ').next() == Some(**name));
    let wrong: Vec<_> = NATIVE.iter().chain(&HEAVY).filter(has).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}

/// Crates that whoever verifies depends on, ours among them. One more needs a reason.
const VERIFIER: usize = 77;

#[test]
fn whoever_verifies_depends_on_few_crates() {
    let crates = crates_of_proofs("clock,multicore", None);
    assert!(crates.len() <= VERIFIER, "{} crates: {crates:?}", crates.len());
    assert!(!crates.iter().any(|it| it.starts_with("zstd")), "only provers compress");
}

#[test]
fn kernels_and_circuits_stay_clear_of_the_float_side() {
    let (_, graph) = dependencies();
    for name in ["ftk-kernels", "ftk-circuits"] {
        let wrong: Vec<_> = FLOAT_SIDE.iter().filter(|dep| graph[name].contains(**dep)).collect();
        assert!(wrong.is_empty(), "{name} knows {wrong:?}");
    }
}

/// The Rust files of `src/`.
fn sources() -> Vec<(PathBuf, String)> {
    let files = rust_files(&Path::new(ROOT).join("src"));
    assert!(files.len() > 20, "the sources are looked for in the wrong place");
    files
}

/// The Rust files under a folder, by their paths in it, with comments taken out.
fn rust_files(root: &Path) -> Vec<(PathBuf, String)> {
    let (mut folders, mut files) = (vec![root.to_owned()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = code(&std::fs::read_to_string(&path).unwrap());
                files.push((path.strip_prefix(root).unwrap().to_owned(), text));
            }
        }
    }
    files.sort();
    files
}

/// What of a file the compiler reads: lines without what follows `//`.
fn code(text: &str) -> String {
    let lines = text.lines().map(|line| line.split("//").next().unwrap_or_default());
    lines.collect::<Vec<_>>().join("\n")
}

/// The part of `src/` a file belongs to: its folder, or its own name if it stands beside that folder.
fn part(path: &Path) -> String {
    let first = path.components().next().unwrap().as_os_str().to_str().unwrap();
    first.strip_suffix(".rs").unwrap_or(first).to_owned()
}

/// The parts of the crate that a file names: `crate::train`, `use crate::{train, text}`, and
/// `super::` where that is the crate.
fn named(path: &Path, text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let words = |text: &str| -> String { text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect() };
    let above = "super::".repeat(path.components().count());
    for prefix in ["crate::", &above] {
        for (at, _) in text.match_indices(prefix) {
            let rest = &text[at + prefix.len()..];
            match rest.strip_prefix('{') {
                None => drop(found.insert(words(rest))),
                Some(group) => {
                    // Names at the first level of the braces.
                    let mut depth = 0;
                    let mut name = true;
                    for (at, c) in group.char_indices() {
                        match c {
                            '{' => depth += 1,
                            '}' if depth == 0 => break,
                            '}' => depth -= 1,
                            ',' if depth == 0 => name = true,
                            _ if name && depth == 0 && c.is_alphabetic() => {
                                found.insert(words(&group[at..]));
                                name = false;
                            }
                            _ => {}
                        }
                    }
                }
            }
        }
    }
    found
}

/// Parts of `src/` below the commands.
const PARTS: [&str; 2] = ["train", "prove"];

#[test]
fn the_parts_below_the_commands_do_not_know_each_other() {
    let above = ["commands", "cli"];
    for (path, text) in sources().into_iter().filter(|(path, _)| PARTS.contains(&part(path).as_str())) {
        let (own, named) = (part(&path), named(&path, &text));
        let wrong: Vec<_> = PARTS.iter().chain(&above).filter(|name| **name != own && named.contains(**name)).collect();
        assert!(wrong.is_empty(), "{} names {wrong:?}", path.display());
    }
}

#[test]
fn commands_know_of_the_command_line_only_the_printer() {
    for (path, text) in sources().into_iter().filter(|(path, _)| part(path) == "commands") {
        assert!(!text.contains("clap"), "{} names clap", path.display());
        let rest = text.replace("crate::cli::printer::Printer", "");
        assert!(!named(&path, &rest).contains("cli"), "{} names more of cli than the printer", path.display());
    }
}

/// Tasks: what names one in code, and the files of `src/` that are about it, beside its crate.
const TASKS: [(&str, &[&str]); 3] = [
    ("ftk_text", &["commands/text"]),
    ("ftk_gnn", &["commands/gnn", "cli/gnn"]),
    ("ftk_defi", &["commands/defi", "cli/defi"]),
];

/// Who names graphs and markets though it is about neither: the registry of tasks, and the list of errors with hints.
const REGISTRIES: [&str; 2] = ["commands/tasks", "cli/printer"];

/// Files about proofs that name the task of graphs, which are to become fewer.
const OF_NODES: [&str; 2] = ["commands/nodes", "commands/verify"];

#[test]
fn tasks_do_not_know_each_other_and_only_registries_know_all() {
    let mut of_nodes = BTreeSet::new();
    for (path, text) in sources().into_iter().filter(|(path, _)| !path.ends_with("tests.rs")) {
        let path = path.with_extension("").to_str().unwrap().to_owned();
        let about =
            |places: &[&str]| places.iter().any(|place| path == *place || path.starts_with(&format!("{place}/")));
        let own = TASKS.iter().find(|(_, places)| about(places));
        let others = TASKS.iter().filter(|(name, _)| own.is_none_or(|(own, _)| own != name));
        // Models of tokens are asked and proved, too: their texts are read outside of the task that trains on them.
        let others = others.filter(|(name, _)| own.is_some() || *name != "ftk_text");
        let named: Vec<&str> = others.map(|(name, _)| *name).filter(|name| text.contains(name)).collect();
        if OF_NODES.contains(&path.as_str()) && named == ["ftk_gnn"] {
            of_nodes.insert(path);
        } else if !REGISTRIES.contains(&path.as_str()) {
            assert!(named.is_empty(), "{path} names {named:?}");
        }
    }
    assert_eq!(of_nodes, OF_NODES.map(str::to_owned).into(), "who takes one out shortens the list");
}

#[test]
fn only_the_wire_edge_names_both_floats_and_circuits() {
    for (path, text) in sources() {
        let part = part(&path);
        if !["prove", "commands"].contains(&part.as_str()) {
            assert!(!text.contains("ftk_circuits"), "{} names ftk_circuits", path.display());
        }
        if part == "commands" && text.contains("ftk_circuits") {
            // A command may say where a model is to be loaded, no more.
            let rest = text.replace("candle_core::Device", "");
            assert!(!rest.contains("candle_"), "{} names candle and ftk_circuits", path.display());
        }
        assert!(!text.contains("halo2_proofs"), "{} names halo2_proofs", path.display());
    }
}

#[test]
fn what_names_a_part_is_found() {
    let named = |path: &str, text: &str| named(Path::new(path), &code(text)).into_iter().collect::<Vec<_>>();
    assert_eq!(named("text/rows.rs", "use crate::train::Message;"), ["train"]);
    assert_eq!(named("text/rows.rs", "use crate::{\n    prove::{Source, Llama},\n    train,\n};"), ["prove", "train"]);
    assert_eq!(named("text/rows.rs", "let x = crate::train::run(); // crate::prove"), ["train"]);
    assert_eq!(named("text.rs", "use super::train;"), ["train"]);
    assert_eq!(named("text/rows.rs", "use super::super::train;"), ["train"]);
    assert_eq!(named("text/rows.rs", "use super::encode;"), [""; 0]);
    assert_eq!([part(Path::new("text.rs")), part(Path::new("text/rows.rs"))], ["text", "text"]);
}

#[test]
fn every_error_with_a_hint_is_asked_for_it() {
    let folders = ["src", "adapters", "circuits", "recipes"];
    let texts: Vec<String> =
        folders.into_iter().flat_map(|it| rust_files(&Path::new(ROOT).join(it))).map(|(_, text)| text).collect();
    let names = |before: &str, after: char| -> BTreeSet<&str> {
        texts
            .iter()
            .flat_map(|text| text.split(before).skip(1))
            .filter_map(|rest| rest.split(after).next()?.rsplit("::").next())
            .collect()
    };
    let (kinds, asked) = (names("impl Hint for ", ' '), names("hint::of::<", '>'));
    assert!(kinds.len() > 7, "{kinds:?}");
    assert_eq!(kinds, asked);
}

#[test]
fn modules_stand_beside_their_folders_and_no_folder_is_called_common() {
    for (path, _) in sources() {
        let name = path.file_stem().unwrap().to_str().unwrap();
        assert!(!["mod", "common", "utils", "helpers"].contains(&name), "{}", path.display());
    }
}

#[test]
fn files_are_opened_in_one_place() {
    let folders = [
        "src",
        "adapters/src",
        "adapters/bases/src",
        "recipes/src",
        "recipes/text/src",
        "recipes/gnn/src",
        "recipes/defi/src",
    ];
    let folders = folders.map(|folder| Path::new(ROOT).join(folder));
    let files: Vec<(PathBuf, String)> = folders.iter().flat_map(|folder| rust_files(folder)).collect();
    let opens = ["fs::read(", "fs::read_to_string(", "File::open(", "OpenOptions::new()"];
    let found = files.iter().filter(|(path, text)| {
        // Tests open what they made themselves.
        let own = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
        !path.ends_with("tests.rs")
            && !path.iter().any(|part| part == "tests")
            && opens.iter().any(|open| own.contains(open))
    });
    let found: Vec<&str> = found.map(|(path, _)| path.to_str().unwrap()).collect();
    // Parts of a download are this process's own; examples are read in tests.
    assert_eq!(found, ["foreign.rs", "hub/http.rs", "examples.rs"], "see adapters/src/foreign.rs");
}
