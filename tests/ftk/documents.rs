//! What stands in a block of `sh` in a document is done here as a reader would do it: the blocks of a document one after
//! another, in one shell and an empty folder. A block that cannot be says why, in its first line.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::outputs;
use crate::run::ftk;

/// How the first line of a block begins that is not run.
const EXCUSE: &str = "# not run in tests: ";

/// Every document of the repository but those that were frozen with old data, by its path.
fn documents() -> Vec<PathBuf> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        let mut entries: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        entries.sort();
        for path in entries {
            let name = path.file_name().unwrap().to_str().unwrap();
            if path.is_dir() && !name.starts_with('.') && !["target", "runs", "frozen"].contains(&name) {
                walk(&path, found);
            } else if name.ends_with(".md") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(Path::new(env!("CARGO_MANIFEST_DIR")), &mut found);
    found
}

/// A fenced block of a document.
#[derive(Debug, PartialEq)]
struct Block {
    /// What language it says it is.
    language: String,
    /// Its first line, counted from 1, behind the fence.
    line: usize,
    text: String,
}

/// The fenced blocks of a document (CommonMark 0.31, 4.5), also those in lists and quotes that are indented by spaces
/// alone.
///
/// # Errors
/// The line of a fence that nothing closes.
fn blocks(document: &str) -> Result<Vec<Block>, usize> {
    let mut found = Vec::new();
    // Fence and indentation of the block that is open.
    let mut open: Option<(char, usize, usize)> = None;
    for (index, line) in document.lines().enumerate() {
        let indentation = line.len() - line.trim_start_matches(' ').len();
        let rest = &line[indentation..];
        let mark = rest.chars().next().filter(|mark| "`~".contains(*mark));
        let length = mark.map_or(0, |mark| rest.chars().take_while(|char| *char == mark).count());
        match open {
            None if length >= 3 => {
                let says = rest[length..].trim();
                // Three backticks within a line are code in a sentence.
                if mark == Some('`') && says.contains('`') {
                    continue;
                }
                open = mark.map(|mark| (mark, length, indentation));
                let language = says.split_whitespace().next().unwrap_or_default().to_owned();
                found.push(Block { language, line: index + 2, text: String::new() });
            }
            None => {}
            Some((fence, at_least, _))
                if mark == Some(fence) && length >= at_least && rest[length..].trim().is_empty() =>
            {
                open = None;
            }
            Some((_, _, indented)) => {
                let block = found.last_mut().expect("one is open");
                block.text += &line[indentation.min(indented)..];
                block.text.push('\n');
            }
        }
    }
    match open {
        None => Ok(found),
        Some(_) => Err(found.last().expect("one is open").line - 1),
    }
}

/// The blocks of a document that are run, each at the line it has there, so that a shell counts lines as a reader does.
///
/// # Errors
/// A reason without words.
fn script(blocks: &[Block]) -> Result<String, String> {
    let mut script = String::new();
    for Block { line, text, .. } in blocks.iter().filter(|block| block.language == "sh") {
        if let Some(reason) = text.strip_prefix(EXCUSE.trim_end()) {
            match reason.lines().next().map(str::trim) {
                Some(reason) if reason.len() > 3 => continue,
                _ => return Err(format!("line {line} does not say why the block is not run")),
            }
        }
        script.extend(std::iter::repeat_n('\n', line - 1 - script.matches('\n').count()));
        script += text;
    }
    Ok(script)
}

/// Runs the blocks of a document in an empty folder.
///
/// # Errors
/// What went wrong, with its line.
fn run(path: &Path) -> Result<(), String> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    let blocks = blocks(&text).map_err(|line| format!("line {line}: the block has no end"))?;
    let script = script(&blocks)?;
    if script.is_empty() {
        return Ok(());
    }
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let ours = Path::new(env!("CARGO_BIN_EXE_ftk")).parent().expect("it is in a folder").to_owned();
    let others = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::join_paths(std::iter::once(ours).chain(std::env::split_paths(&others)));
    let strict = "set -euo pipefail; trap 'echo \"line $LINENO: $BASH_COMMAND\" >&2' ERR; source \"$0\"";
    let place = folder.path().join("document");
    std::fs::write(&place, script).map_err(|error| error.to_string())?;
    let here = folder.path().join("here");
    std::fs::create_dir(&here).map_err(|error| error.to_string())?;
    let mut command = Command::new("bash");
    command.args(["-E", "-c", strict]).arg(&place).current_dir(&here).stdin(Stdio::null());
    command.env("PATH", found.map_err(|error| error.to_string())?).env("HF_HUB_OFFLINE", "1");
    let output = command.output().map_err(|error| format!("bash: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

#[test]
#[cfg(unix)]
fn every_command_in_a_document_runs_in_an_empty_folder() {
    let documents = documents();
    for name in ["README.md", "recipes/text/README.md", "circuits/README.md", "src/README.md"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
        assert!(documents.contains(&path), "{name} is not found");
        let text = std::fs::read_to_string(path).unwrap();
        assert!(!script(&blocks(&text).unwrap()).unwrap().is_empty(), "{name} runs nothing");
    }
    let failed: Vec<String> = std::thread::scope(|scope| {
        let running: Vec<_> = documents.iter().map(|path| (path, scope.spawn(|| run(path)))).collect();
        let came_to = running.into_iter().map(|(path, run)| (path, run.join().expect("it does not panic")));
        came_to.filter_map(|(path, result)| Some(format!("{}:\n{}", path.display(), result.err()?))).collect()
    });
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// The keys that the manual says an object has: what stands in backticks in the second column of its row.
pub fn manual(name: &str) -> BTreeSet<String> {
    let manual = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/README.md")).unwrap();
    let begin = format!("| {name} |");
    let line = manual.lines().find_map(|line| line.strip_prefix(&begin)).unwrap_or_else(|| panic!("no row {name}"));
    line.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The keys of an object.
pub fn keys(object: &Value) -> BTreeSet<String> {
    object.as_object().unwrap_or_else(|| panic!("no object: {object}")).keys().cloned().collect()
}

#[test]
fn objects_have_the_keys_that_the_manual_says() {
    let folder = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| -> (i32, Vec<Value>) {
        let output = ftk(&["--json", "--quiet"]).args(arguments).current_dir(folder.path()).output().unwrap();
        let lines = String::from_utf8(output.stdout).unwrap();
        let objects: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        objects.iter().for_each(|object| outputs::check(arguments, object));
        (output.status.code().unwrap(), objects)
    };
    let write = |name: &str, change: &dyn Fn(String) -> String| {
        let path = folder.path().join(name);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(path, change(text)).unwrap();
    };
    // The last object of each, and that it has just these keys.
    let last = |name: &str, code: i32, arguments: &[&str]| {
        let (came_to, objects) = run(arguments);
        let object = objects.last().unwrap_or_else(|| panic!("{arguments:?}: no object"));
        assert_eq!(came_to, code, "{arguments:?}: {object}");
        assert_eq!(keys(object), manual(name), "{name}: {object}");
    };
    fn about<'a>(verb: &'a str, more: &[&'a str]) -> Vec<&'a str> {
        [&[verb, "--base", "village", "--adapter", "a"], more].concat()
    }
    let asked = ["--commitment", "c", "--prompt", "Hi", "--max-tokens", "2", "--out"];
    last("`train --dry-run`", 0, &["train", "sft", "--dry-run"]);
    assert_eq!(run(&["train", "sft", "--set", "run.steps=1", "--out", "a"]).0, 0);
    last("`report`", 0, &["report", "a"]);
    std::fs::write(folder.path().join("runs.toml"), "recipes = [\"sft\"]\nout = \"batch\"\n").unwrap();
    last("`batch --emit`", 0, &["batch", "runs.toml", "--emit", "make", "--to", "jobs"]);
    last("`convert`", 0, &["convert", "a", "--base", "village", "--out", "a.gguf"]);
    last("`average`", 0, &["average", "a", "--out", "same"]);
    last("`eval`", 0, &["eval", "sft", "--adapter", "a"]);
    last("`generate`", 0, &about("generate", &["--prompt", "Hi", "--max-tokens", "2"]));
    last("`data preview`", 0, &["data", "preview", "sft", "--rows", "1"]);
    last("`estimate`", 0, &["estimate", "sft"]);
    last("`merge`", 0, &about("merge", &["--out", "m"]));
    last("`audit`", 0, &["audit", "a"]);
    last("`audit --against`", 0, &["audit", "a", "--against", "a"]);
    last("`audit --record`", 0, &["audit", "a", "--step", "1", "--record", "theirs.jsonl"]);
    let dispute = ["audit", "a", "--step", "1", "--dispute", "theirs.jsonl", "--out", "d"];
    last("`audit --dispute`, of records that are the same", 0, &dispute);
    write("theirs.jsonl", &|text| text.replacen("\"outputs\":[\"", "\"outputs\":[\"0", 1));
    last("`audit --dispute`", 1, &dispute);
    last("`referee`", 0, &["referee", "d"]);
    last("`referee`, of a file without a dispute", 1, &["referee", "theirs.jsonl"]);
    last("`audit --open`", 0, &["audit", "a", "--open", "1", "--out", "rows.json"]);
    last("`audit --opened`", 0, &["audit", "a", "--opened", "rows.json"]);
    last("`commit`", 0, &about("commit", &["--out", "c"]));
    assert_eq!(run(&["commit", "--base", "village", "--adapter", "same", "--round", "c", "--out", "c2"]).0, 0);
    last("`average --commitments`", 0, &["average", "--commitments", "c,c2", "--out", "stack"]);
    last("`average --verify`", 0, &["average", "--verify", "stack"]);
    last("`prove`", 0, &about("prove", &[&asked[..], &["b", "--open", "--disclose"]].concat()));
    last("`prove`", 0, &about("prove", &[&asked[..], &["s"]].concat()));
    last("`convert`, of a bundle", 0, &["convert", "s", "--out", "s.ftk"]);
    last("`prove --dry-run`", 0, &about("prove", &[&asked[..4], &["--dry-run"]].concat()));
    last("`open`", 0, &["open", "a", "--commitment", "b", "--opening", "c/opening.bin"]);
    // Nothing is wrong with them, but nothing was expected: 2.
    let verify = ["verify", "b", "s", "--any-input", "--base", "village"];
    last("`verify`", 2, &verify);
    write("b/statement.json", &|text| text.replace("\"max_tokens\": 2", "\"max_tokens\": 3"));
    let (code, judged) = run(&verify);
    assert_eq!((code, judged.len()), (1, 2));
    assert_eq!(keys(&judged[0]), manual("`verify`, of a bundle that is refused or cannot be judged"));
    write("a/transcript.jsonl", &|text| text.replacen("\"step\":1", "\"step\":2", 1));
    last("`audit`, of a run that does not follow", 1, &["audit", "a"]);
    last("any, on an error", 2, &["train", "sft", "--out", "a"]);
    last("`recipes show`", 0, &["recipes", "show", "sft"]);
    last("`recipes cp`", 0, &["recipes", "cp", "gnn/guilds", "guilds.toml"]);
    let either = |without: &str| {
        let mut keys = manual("`recipes check`");
        assert!(keys.remove(without));
        keys
    };
    assert_eq!(keys(&run(&["recipes", "check", "guilds.toml"]).1[0]), either("plan"));
    assert_eq!(run(&["recipes", "cp", "defi/quoter", "plan.toml"]).0, 0);
    assert_eq!(keys(&run(&["recipes", "check", "plan.toml"]).1[0]), either("recipe"));
    last("`gnn import`", 0, &["gnn", "import", "guilds", "--out", "t.graph"]);
    assert_eq!(run(&["train", "guilds.toml", "--set", "run.steps=1"]).0, 0);
    last("`gnn score`", 0, &["gnn", "score", "--base", "runs/guilds/base", "--graph", "t.graph"]);

    let (_, listed) = run(&["recipes", "ls"]);
    let mut of_recipes = manual("`recipes ls`");
    assert!(listed.iter().any(|object| keys(object) == of_recipes), "plans are listed");
    assert!(of_recipes.remove("needs") && listed.iter().any(|object| keys(object) == of_recipes));
    // Kinds of things have keys of their own beside these.
    for (what, kind) in [("a", "run"), ("c", "commitment"), ("s", "sealed bundle, not verified")] {
        let (_, said) = run(&["inspect", what]);
        assert_eq!(said[0]["kind"], kind);
        assert!(keys(&said[0]).is_superset(&manual("`inspect`")), "{what}: {}", said[0]);
    }
}

/// Targets of links in a document that are paths: `[text](path#part)`, outside of code.
fn links(document: &str) -> Vec<String> {
    let mut found = Vec::new();
    let fenced: Vec<(usize, usize)> = blocks(document)
        .unwrap_or_default()
        .iter()
        .map(|block| (block.line, block.line + block.text.lines().count()))
        .collect();
    for (index, line) in document.lines().enumerate() {
        if fenced.iter().any(|(start, end)| (*start..*end).contains(&(index + 1))) {
            continue;
        }
        // Every other part between backticks is code.
        let prose: String = line.split('`').step_by(2).collect::<Vec<_>>().join("`");
        for part in prose.split("](").skip(1) {
            let target = part.split(')').next().unwrap_or_default();
            if !target.contains("://") && !target.starts_with('#') {
                found.push(target.to_owned());
            }
        }
    }
    found
}

/// The names by which headings are linked to: lower case, spaces as hyphens, other marks left out.
fn headings(document: &str) -> Vec<String> {
    let names = document.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    let plain = |c: char| c.is_alphanumeric() || c == '-' || c == ' ' || c == '_';
    names.map(|name| name.to_lowercase().chars().filter(|c| plain(*c)).collect::<String>().replace(' ', "-")).collect()
}

#[test]
fn every_link_in_a_document_leads_somewhere() {
    let mut broken = Vec::new();
    for path in documents() {
        let text = std::fs::read_to_string(&path).unwrap();
        for link in links(&text) {
            let (file, part) = link.split_once('#').unwrap_or((&link, ""));
            let target = path.parent().unwrap().join(file);
            let there = target.exists()
                && (part.is_empty()
                    || headings(&std::fs::read_to_string(&target).unwrap()).iter().any(|name| name == part));
            if !there {
                broken.push(format!("{}: {link}", path.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn blocks_are_found_where_markdown_has_them() {
    let block = |language: &str, line: usize, text: &str| Block { language: language.into(), line, text: text.into() };
    let document = "a\n```sh\nb\n```\n\n~~~~ sh x\n```\n~~~\nc\n~~~~~\n1. d\n\n   ```toml\n   e\n     f\n   ```\n`` ``` ``\n``` g ```\n````\n```\n````\n";
    let expected =
        [block("sh", 3, "b\n"), block("sh", 7, "```\n~~~\nc\n"), block("toml", 14, "e\n  f\n"), block("", 20, "```\n")];
    assert_eq!(blocks(document).unwrap(), expected);
    assert_eq!(blocks("a\n```sh\nb\n``\n"), Err(2));

    let said =
        blocks("```sh\na\n```\n\n```sh\n# not run in tests: takes weeks\nb\n```\n```text\nc\n```\n```sh\nd\n```\n")
            .unwrap();
    assert_eq!(script(&said).unwrap(), format!("\na\n{}d\n", "\n".repeat(10)));
    let silent = blocks("```sh\n# not run in tests:\na\n```\n").unwrap();
    assert_eq!(script(&silent).unwrap_err(), "line 2 does not say why the block is not run");
    assert_eq!(
        links("[a](b.md) `[c](d.md)` [e](https://f) [g](#h)\n```\n[i](j.md)\n```\n[k](l.md#m)"),
        ["b.md", "l.md#m"]
    );
    assert_eq!(headings("# A b, c\n## D-e (f)\n"), ["a-b-c", "d-e-f"]);
}

#[test]
#[cfg(unix)]
fn a_command_that_fails_is_named_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let document = folder.path().join("d.md");
    std::fs::write(&document, "```sh\ntrue\n```\n\n```sh\na=1\nfalse $a | cat\n```\n").unwrap();
    let error = run(&document).unwrap_err();
    assert!(error.contains("line 7: "), "{error}");
    // One block knows what another has set, and a block ends where a command fails.
    std::fs::write(
        &document,
        "```sh\na=1\n```\n```sh\ntest $a = 1\nftk --version > here\n```\n```sh\ntest -s here\n```\n",
    )
    .unwrap();
    run(&document).unwrap();
}
