//! No circle between the files of one crate: whoever reads one file has to read those it names, and not itself again.
//!
//! A file names another by a path that begins with `crate`, `super` or `self`, or with a module of its own, in a `use`
//! or elsewhere. To declare a module is not to name it. Roots (`lib.rs`, `main.rs`) declare and export, and are no part
//! of a circle; neither are tests.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Modules of one crate: the path of each, with its code.
type Modules = BTreeMap<Vec<String>, String>;

#[test]
fn no_two_files_of_a_crate_need_each_other() {
    let crates = super::crates();
    assert_eq!(crates.len(), super::CRATES.len());
    for (name, root) in crates {
        let names = names(&modules(&root.join("src")));
        assert!(names.len() > 3, "{name}: its files are looked for in the wrong place");
        let circles = circles(&names);
        assert!(circles.is_empty(), "{name}: {circles:#?}");
    }
}

/// All files under a `src`, by module, without comments and tests.
fn modules(src: &Path) -> Modules {
    let (mut files, mut tests) = (Modules::new(), BTreeSet::new());
    for (path, text) in super::rust_files(src) {
        let mut module: Vec<String> =
            path.with_extension("").iter().map(|part| part.to_str().unwrap().to_owned()).collect();
        if ["lib", "main"].contains(&module[0].as_str()) && module.len() == 1 {
            module.clear();
        }
        let (code, named) = without_tests(&text);
        tests.extend(named.into_iter().map(|name| [module.as_slice(), &[name]].concat()));
        files.insert(module, code);
    }
    files.retain(|module, _| !tests.iter().any(|test| module.starts_with(test)));
    files
}

/// Code without modules for tests, and the names of those that stand in files of their own.
fn without_tests(text: &str) -> (String, Vec<String>) {
    let (mut rest, mut code, mut named) = (text, String::new(), Vec::new());
    while let Some(at) = rest.find("#[cfg(test)]") {
        code.push_str(&rest[..at]);
        rest = &rest[at + "#[cfg(test)]".len()..];
        let Some((before, after)) = rest.split_once("mod ") else { continue };
        if !before.trim().is_empty() && !before.trim().starts_with("pub") {
            continue;
        }
        let name: String = after.chars().take_while(|c| is_word(*c)).collect();
        let behind = &after[name.len()..];
        rest = match behind.trim_start().strip_prefix('{') {
            Some(block) => &block[closing(block)..],
            None => {
                named.push(name);
                behind
            }
        };
    }
    code.push_str(rest);
    (code, named)
}

/// Where a block that has begun ends, behind its brace.
fn closing(block: &str) -> usize {
    let mut depth = 1;
    for (at, c) in block.char_indices() {
        depth += i32::from(c == '{') - i32::from(c == '}');
        if depth == 0 {
            return at + 1;
        }
    }
    block.len()
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The modules that each module names.
fn names(modules: &Modules) -> BTreeMap<Vec<String>, BTreeSet<Vec<String>>> {
    let known: BTreeSet<&Vec<String>> = modules.keys().filter(|module| !module.is_empty()).collect();
    let of = |(module, code): (&Vec<String>, &String)| {
        let file = |path: Vec<String>| {
            let longest = (1..=path.len()).rev().map(|length| path[..length].to_vec());
            longest.into_iter().find(|path| known.contains(path))
        };
        let found = paths(module, code, &known).into_iter().filter_map(file).filter(|other| other != module);
        (module.clone(), found.collect())
    };
    modules.iter().filter(|(module, _)| !module.is_empty()).map(of).collect()
}

/// All paths of a module's code from the root of its crate on.
fn paths(module: &[String], code: &str, known: &BTreeSet<&Vec<String>>) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    let mut before = ' ';
    let mut at = 0;
    while let Some(c) = code[at..].chars().next() {
        if is_word(c) && !is_word(before) {
            let word: String = code[at..].chars().take_while(|c| is_word(*c)).collect();
            let rest = &code[at + word.len()..];
            // What follows `::` belongs to the path that began before.
            if before != ':' && rest.starts_with("::") {
                let start = match word.as_str() {
                    "crate" => Some(Vec::new()),
                    "self" => Some(module.to_vec()),
                    "super" => Some(inside(module, code, at)),
                    // A module of this file, named without `self`.
                    child => {
                        let child = [module, &[child.to_owned()]].concat();
                        known.contains(&child).then_some(child)
                    }
                };
                if let Some(start) = start {
                    tree(start, &rest[2..], &mut found);
                }
            }
            at += word.len();
            before = 'a';
        } else {
            at += c.len_utf8();
            before = c;
        }
    }
    found
}

/// What `super` means at a place: the module above, or the file itself in a module that stands inside it.
fn inside(module: &[String], code: &str, place: usize) -> Vec<String> {
    let starts = code.match_indices("mod ").filter(|(at, _)| *at < place);
    let inline = starts.filter(|(at, _)| {
        let behind = code[at + 4..].trim_start_matches(is_word).trim_start();
        let end = code.len() - behind.len();
        behind.strip_prefix('{').is_some_and(|block| end + 1 + closing(block) > place)
    });
    let depth = inline.count();
    if depth > 0 { module.to_vec() } else { module[..module.len().saturating_sub(1)].to_vec() }
}

/// The paths of a tree behind a beginning: `a::b`, `{a, b::c}`, `super::a`.
fn tree(start: Vec<String>, rest: &str, found: &mut Vec<Vec<String>>) {
    if let Some(group) = rest.strip_prefix('{') {
        let group = &group[..closing(group) - 1];
        let (mut depth, mut from) = (0, 0);
        for (at, c) in group.char_indices().chain([(group.len(), ',')]) {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    tree(start.clone(), group[from..at].trim(), found);
                    from = at + 1;
                }
                _ => {}
            }
        }
        return;
    }
    let word: String = rest.chars().take_while(|c| is_word(*c)).collect();
    if word.is_empty() {
        found.push(start);
        return;
    }
    let mut path = start;
    match word.as_str() {
        "super" => drop(path.pop()),
        "self" => {}
        _ => path.push(word.clone()),
    }
    match rest[word.len()..].strip_prefix("::") {
        Some(more) => tree(path, more, found),
        None => found.push(path),
    }
}

/// Sets of modules of which each reaches every other.
fn circles(names: &BTreeMap<Vec<String>, BTreeSet<Vec<String>>>) -> BTreeSet<BTreeSet<String>> {
    let reached = |from: &Vec<String>| {
        let (mut reached, mut open) = (BTreeSet::new(), vec![from]);
        while let Some(next) = open.pop() {
            for other in names.get(next).into_iter().flatten() {
                if reached.insert(other) {
                    open.push(other);
                }
            }
        }
        reached
    };
    let reach: BTreeMap<&Vec<String>, BTreeSet<&Vec<String>>> =
        names.keys().map(|module| (module, reached(module))).collect();
    let on_one = reach.iter().filter(|(module, reached)| reached.contains(*module));
    let circle = |(module, reached): (&&Vec<String>, &BTreeSet<&Vec<String>>)| {
        reached.iter().filter(|other| reach[**other].contains(*module)).map(|other| other.join("/")).collect()
    };
    on_one.map(circle).collect()
}

#[test]
fn circles_are_found_where_they_are() {
    let module = |path: &str| path.split('/').map(str::to_owned).collect::<Vec<_>>();
    let found = |files: &[(&str, &str)]| {
        let modules: Modules =
            files.iter().map(|(path, text)| (module(path), without_tests(&super::code(text)).0)).collect();
        let circles = circles(&names(&modules));
        circles.iter().map(|circle| circle.iter().cloned().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>()
    };
    let none: Vec<String> = Vec::new();
    assert_eq!(found(&[("a", "use crate::b::B;"), ("b", "use super::a::A;")]), ["a b"]);
    assert_eq!(
        found(&[("a", "use crate::{c, b::{self, B}};"), ("b", "x"), ("c", "fn f() { crate::a::g() }")]),
        ["a c"]
    );
    assert_eq!(found(&[("a", "mod b; pub use b::B;"), ("a/b", "use super::A;")]), ["a a/b"]);
    assert_eq!(found(&[("a", "mod b;\nfn f() { b::g() }"), ("a/b", "use super::super::a::A;")]), ["a a/b"]);
    assert_eq!(found(&[("a", "use super::b;"), ("b", "use crate::c::C;"), ("c", "use self::super::a;")]), ["a b c"]);
    // No circles: a declaration, a comment, tests, another crate, a parent's sibling, a module inside a file.
    assert_eq!(found(&[("a", "mod b;"), ("a/b", "use super::A;")]), none);
    assert_eq!(found(&[("a", "// crate::b"), ("b", "use crate::a::A;")]), none);
    assert_eq!(found(&[("a", "#[cfg(test)]\nmod tests { use crate::b::B; }"), ("b", "use crate::a::A;")]), none);
    assert_eq!(found(&[("a", "use other::b::B; use x::crate_b;"), ("b", "use crate::a::A;")]), none);
    assert_eq!(found(&[("a", "use super::b::B;"), ("b", "mod inner { use super::C; }")]), none);
    assert_eq!(found(&[("a/x", "use super::b::B;"), ("a/b", "use crate::c::C;"), ("c", "x")]), none);
    let (code, named) = without_tests("a\n#[cfg(test)]\npub(super) mod tests;\nb\n#[cfg(test)]\nfn f() {}\n");
    assert_eq!((code.contains('b'), named), (true, vec!["tests".to_owned()]));
}
