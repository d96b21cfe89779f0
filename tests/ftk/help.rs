//! What the help says: it is complete, its examples can be typed, and an option is where it does something.

use std::collections::BTreeSet;

use crate::exits::verbs;
use crate::resume;
use crate::run::{WITH_DEVICE, ftk, stderr, succeed};

/// The help of a verb as a person sees it.
fn help(verb: &str) -> String {
    succeed(&mut ftk(&[&verb.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>()[..], &["--help"]].concat()))
}

fn all() -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    verbs(&ftk::cli::command(), "", &mut all);
    all
}

/// The words of a line as a shell parts them: double quotes hold spaces, and what follows `>` is the shell's.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted) = (Vec::new(), String::new(), false);
    for c in line.chars().chain([' ']) {
        match c {
            '"' => quoted = !quoted,
            ' ' if !quoted => words.extend(Some(std::mem::take(&mut word)).filter(|word| !word.is_empty())),
            c => word.push(c),
        }
    }
    let end = words.iter().position(|word| word == ">").unwrap_or(words.len());
    words.truncate(end);
    words
}

/// The lines of examples in a verb's help, unwrapped: as they stand in the source.
fn examples(verb: &str) -> Vec<String> {
    let mut command = ftk::cli::command();
    for name in verb.split(' ').filter(|name| !name.is_empty()) {
        command = command.find_subcommand(name).expect("the verb is there").clone();
    }
    let text = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let lines = text.lines().skip_while(|line| *line != "Examples:").skip(1);
    lines.take_while(|line| line.starts_with("  ")).map(|line| line.trim().to_owned()).collect()
}

#[test]
fn every_verb_has_examples_and_all_of_them_can_be_typed() {
    for verb in all().iter().map(String::as_str).chain([""]) {
        let examples = examples(verb);
        assert!(!examples.is_empty(), "`ftk {verb} --help` has no examples");
        for example in examples {
            assert!(example.starts_with(format!("ftk {verb}").trim()), "{verb}: {example}");
            let parsed = ftk::cli::command().try_get_matches_from(words(&example));
            assert!(parsed.is_ok(), "{example}\n{}", parsed.unwrap_err());
        }
    }
    assert_eq!(words("ftk a --b \"c d\" e > f"), ["ftk", "a", "--b", "c d", "e"]);
}

#[test]
fn options_stand_where_they_act_and_global_ones_come_last() {
    let with_device: Vec<String> = all().into_iter().filter(|verb| help(verb).contains("--device")).collect();
    assert_eq!(with_device, WITH_DEVICE);
    let own: Vec<String> = all().into_iter().filter(|verb| help(verb).contains("Exit codes:")).collect();
    let with_codes =
        ["audit", "average", "batch", "defi audit", "doctor", "inspect", "open", "referee", "train", "verify"];
    assert_eq!(own, with_codes);
    for verb in all() {
        let help = help(&verb);
        let headings: Vec<&str> = help
            .lines()
            .filter(|line| line.ends_with(':') && line.starts_with(char::is_uppercase) && !line.starts_with("Usage"))
            .collect();
        let global = headings.iter().position(|heading| *heading == "Global options:").expect("a heading of their own");
        assert!(headings[global + 1..].iter().all(|it| ["Examples:", "Exit codes:"].contains(it)), "{verb}: {help}");
        assert!(help.lines().all(|line| line.chars().count() <= 120), "{verb}: {help}");
    }
    let verify = help("verify");
    for heading in ["\nExpectations:\n", "\nLimits (a bundle that would take more is undecided):\n"] {
        assert!(verify.contains(heading), "{verify}");
    }
}

#[test]
fn every_option_and_verb_says_what_it_does() {
    fn walk(command: &clap::Command, name: &str) {
        for argument in command.get_arguments().filter(|argument| !argument.is_hide_set()) {
            assert!(argument.get_help().is_some(), "{name}: {}", argument.get_id());
        }
        for verb in command.get_subcommands() {
            assert!(verb.get_about().is_some(), "{name} {}", verb.get_name());
            walk(verb, &format!("{name} {}", verb.get_name()));
        }
    }
    walk(&ftk::cli::command(), "ftk");
}

#[test]
fn a_recipe_is_given_first_or_as_an_option_and_not_twice() {
    let folder = tempfile::tempdir().unwrap();
    resume::recipe(folder.path(), "");
    let file = folder.path().join("recipe.toml");
    let file = file.to_str().unwrap();
    let said = |arguments: &[&str]| ftk(&[&["train", "--dry-run"], arguments].concat()).output().unwrap();
    let (first, option) = (said(&[file]), said(&["--recipe", file]));
    assert!(first.status.success() && !first.stdout.is_empty(), "{}", stderr(&first));
    assert_eq!(first.stdout, option.stdout);
    let twice = said(&[file, "--recipe", file]);
    assert_eq!(twice.status.code(), Some(2));
    assert!(stderr(&twice).contains("cannot be used with"), "{}", stderr(&twice));
    let none = said(&[]);
    assert_eq!(none.status.code(), Some(2));
    assert!(stderr(&none).contains("Usage: ftk train [OPTIONS] <RECIPE>"), "{}", stderr(&none));
}
