//! Completions and pages of the manual: all verbs are there, and shells read the scripts.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::exits::verbs;
use crate::run::{ftk, succeed};

fn all() -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    verbs(&ftk::cli::command(), "", &mut all);
    all
}

#[test]
fn completions_know_every_verb_and_shells_read_them() {
    let folder = tempfile::tempdir().unwrap();
    for (shell, parses) in
        [("bash", &["-n"][..]), ("zsh", &["-n"]), ("fish", &["-n"]), ("powershell", &[]), ("elvish", &[])]
    {
        let script = succeed(&mut ftk(&["completions", shell]));
        for verb in all() {
            let last = verb.rsplit(' ').next().unwrap();
            assert!(script.contains(last), "{shell}: {verb}");
        }
        for option in ["recipe", "expect-adapter", "offline"] {
            assert!(script.contains(option), "{shell}: {option}");
        }
        if parses.is_empty() {
            continue;
        }
        let path = folder.path().join(shell);
        std::fs::write(&path, &script).unwrap();
        let read = Command::new(shell).args(parses).arg(&path).stdin(Stdio::null()).output();
        match read {
            Ok(read) => assert!(read.status.success(), "{shell}: {}", String::from_utf8_lossy(&read.stderr)),
            Err(_) => eprintln!("not read by {shell}, which is not installed (apt-get install {shell})"),
        }
    }
    let object: Value = serde_json::from_str(&succeed(&mut ftk(&["completions", "bash", "--json"]))).unwrap();
    assert_eq!(object["script"].as_str().unwrap().trim_end(), succeed(&mut ftk(&["completions", "bash"])).trim_end());
    let other = ftk(&["completions", "tcsh"]).output().unwrap();
    assert_eq!(other.status.code(), Some(2));
}

#[test]
fn the_manual_has_a_page_for_each_verb_with_its_options() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("man1");
    let listed = succeed(ftk(&["man", "--out"]).arg(&out));
    let mut expected: BTreeSet<String> = all().iter().map(|verb| format!("ftk-{}.1", verb.replace(' ', "-"))).collect();
    expected.extend(["ftk.1", "ftk-data.1", "ftk-defi.1", "ftk-gnn.1", "ftk-recipes.1"].map(str::to_owned));
    assert_eq!(listed.lines().map(str::to_owned).collect::<BTreeSet<_>>(), expected);
    let page = std::fs::read_to_string(out.join("ftk-verify.1")).unwrap();
    assert!(page.contains(".TH ftk-verify 1"), "{page}");
    assert!(page.contains("expect\\-adapter"), "{page}");
    // As help has it, examples and exit codes among it.
    assert!(page.contains("Exit codes"), "{page}");
}
