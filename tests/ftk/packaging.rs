//! How ftk is built elsewhere: the container file and the workflows name what is there.

use std::collections::BTreeSet;
use std::path::Path;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

/// What is wrong with the text of a container file, in the folder of the repository.
fn wrong(text: &str) -> Option<String> {
    let (mut stages, mut copied, mut user) = (Vec::new(), BTreeSet::new(), None);
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let words: Vec<&str> = line.split(' ').collect();
        match words[0] {
            "FROM" => {
                stages.push(words.iter().position(|word| *word == "AS").map(|at| words[at + 1]));
                user = None;
            }
            "USER" => user = Some(words[1]),
            "COPY" => match words[1].strip_prefix("--from=") {
                Some(stage) if stages.contains(&Some(stage)) => {}
                Some(stage) => return Some(format!("no stage: {stage}")),
                None => {
                    for source in &words[1..words.len() - 1] {
                        if !root().join(source).exists() {
                            return Some(format!("no such file: {source}"));
                        }
                        copied.insert((*source).to_owned());
                    }
                }
            },
            _ => {}
        }
    }
    // Cargo asks for every member of the workspace and for every target that a manifest names.
    let manifest: toml::Table = toml::from_str(&read("Cargo.toml")).unwrap();
    let members = manifest["workspace"]["members"].as_array().unwrap().iter().map(|member| member.as_str().unwrap());
    let folders = members.map(|member| if member == "." { "src" } else { member.split('/').next().unwrap() });
    let needed = folders.chain(["benches", "examples", "tests", "Cargo.toml", "Cargo.lock"]);
    if let Some(missing) = needed.into_iter().find(|needed| !copied.contains(*needed)) {
        return Some(format!("not copied: {missing}"));
    }
    let is_root = |user: &str| user.starts_with("0") || user.starts_with("root");
    user.is_none_or(is_root).then(|| "run by root".to_owned())
}

#[test]
fn the_container_file_names_what_is_there() {
    let text = read("scripts/Containerfile");
    assert_eq!(wrong(&text), None);
    let manifest: toml::Table = toml::from_str(&read("Cargo.toml")).unwrap();
    let version = manifest["workspace"]["package"]["rust-version"].as_str().unwrap();
    assert!(text.contains(&format!("rust:{version}-slim")), "built with the oldest compiler that will do");
    for (from, to, reason) in [
        ("COPY recipes recipes\n", "", "not copied: recipes"),
        ("COPY src src", "COPY source src", "no such file: source"),
        ("--from=build", "--from=made", "no stage: made"),
        ("USER 65532:65532\n", "", "run by root"),
        ("USER 65532:65532", "USER 0", "run by root"),
    ] {
        assert!(text.contains(from), "{from}");
        assert_eq!(wrong(&text.replace(from, to)).as_deref(), Some(reason));
    }
}

#[test]
fn workflows_run_scripts_that_are_there() {
    let mut seen = BTreeSet::new();
    for name in ["checks", "release"] {
        let text = read(&format!(".github/workflows/{name}.yml"));
        assert!(text.contains("permissions:\n  contents: read\n"), "{name}: may do no more than it needs");
        for word in text.split([' ', '\n', '"']) {
            if [".ci/", "scripts/", "README", "CHANGELOG", "LICENSE"].iter().any(|begin| word.starts_with(begin)) {
                assert!(root().join(word).is_file(), "{name}: {word}");
                seen.insert(word.to_owned());
            }
        }
    }
    assert!(seen.len() == 6 && seen.contains(".ci/run") && seen.contains("scripts/browser-page"), "{seen:?}");
}
