//! What a page gets for files that were dropped on it: those of the village, and its frozen bundles.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::answer;

type Dropped = BTreeMap<String, Vec<u8>>;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn folder(path: &str) -> Dropped {
    let entries = std::fs::read_dir(root().join(path)).unwrap().map(Result::unwrap);
    entries.map(|entry| (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap())).collect()
}

fn village() -> Dropped {
    folder("recipes/text/village/base")
}

/// A frozen bundle, and what its buyer knew: the digest of the adapter.
fn frozen(name: &str) -> (Dropped, String) {
    let mut files = folder(&format!("tests/fixtures/frozen/{name}"));
    let expected: Value = serde_json::from_slice(&files.remove("expected.json").unwrap()).unwrap();
    (files, expected["adapter"].as_str().unwrap().to_owned())
}

fn asked(base: &Dropped, bundle: &Dropped, asked: Value) -> Value {
    let named = |files: &Dropped| files.iter().map(|(name, bytes)| (name.clone(), bytes.len())).collect::<Vec<_>>();
    let header = json!({ "asked": asked, "base": named(base), "bundle": named(bundle) }).to_string();
    let mut request = u32::try_from(header.len()).unwrap().to_le_bytes().to_vec();
    request.extend(header.as_bytes());
    base.values().chain(bundle.values()).for_each(|bytes| request.extend(bytes));
    serde_json::from_slice(&answer(&request)).unwrap()
}

/// The ids of the only case, and those that answer it, as they are typed.
fn ids(bundle: &Dropped) -> [String; 2] {
    let statement: Value = serde_json::from_slice(&bundle["statement.json"]).unwrap();
    [&statement["cases"][0]["input"]["ids"], &statement["cases"][0]["output"]["ids"]].map(Value::to_string)
}

fn verdict(answer: &Value) -> (&str, Option<&str>) {
    (answer["verdict"].as_str().unwrap(), answer["check"].as_str())
}

#[test]
fn honest_bundles_are_valid_as_far_as_was_expected() {
    for (name, sealed) in [("3", false), ("3-sealed", true)] {
        let (bundle, adapter) = frozen(name);
        let [input, output] = ids(&bundle);
        let all = json!({ "adapter": adapter, "input": input, "answer": output, "context": "buyer 7",
                          "task": "completion", "max_tokens": "6" });
        let said = asked(&village(), &bundle, all.clone());
        assert_eq!(verdict(&said), ("valid", None), "{said}");
        assert_eq!((&said["undecided"], &said["not_expected"]), (&json!([]), &json!([])), "{said}");
        assert_eq!(said["sealed"], sealed);
        assert_eq!(said["cases"][0]["input"]["tokens"][1], "user", "{said}");
        assert!(said["not_proved"].as_str().unwrap().contains("how the adapter was trained"));

        // Without expectations there is no yes, and what was not expected is listed.
        let said = asked(&village(), &bundle, json!({}));
        assert_eq!(verdict(&said), ("consistent", None));
        let undecided: Vec<&str> =
            said["undecided"].as_array().unwrap().iter().map(|it| it.as_str().unwrap()).collect();
        let expected = [
            "no adapter was expected: it may have been made for this input",
            "no input was expected: it may be another than yours",
        ];
        assert_eq!(undecided, expected);
        assert_eq!(said["not_expected"].as_array().unwrap().len(), 3, "{said}");
        let any = asked(&village(), &bundle, json!({ "adapter": adapter, "any_input": true }));
        assert_eq!(verdict(&any), ("valid", None));

        // Each expectation by its own check.
        for (field, value, check) in [
            ("adapter", "00".repeat(32), "expected adapter"),
            ("input", "1 2 3".to_owned(), "expected input"),
            ("answer", "1, 2, 3".to_owned(), "expected answer"),
            ("context", "buyer 8".to_owned(), "expected context"),
            ("task", "logits".to_owned(), "expected task"),
            ("max_tokens", "7".to_owned(), "expected max tokens"),
            ("transcript", "00".repeat(32), "expected transcript"),
        ] {
            let mut other = all.clone();
            other[field] = value.into();
            assert_eq!(verdict(&asked(&village(), &bundle, other)), ("invalid", Some(check)), "{field}");
        }
    }
}

#[test]
fn forged_bundles_are_refused_by_the_check_that_is_there_for_it() {
    let lax = json!({ "any_input": true });
    let check = |base: &Dropped, bundle: &Dropped| {
        let said = asked(base, bundle, lax.clone());
        let (word, check) = verdict(&said);
        (word.to_owned(), check.map(str::to_owned))
    };
    let no = |check: &str| ("invalid".to_owned(), Some(check.to_owned()));
    for (name, last, own) in [("3", "proof.bin", "output"), ("3-sealed", "sealed.bin", "sealed proof")] {
        let (honest, _) = frozen(name);
        let changed = |file: &str, change: &dyn Fn(&mut Vec<u8>)| {
            let mut forged = honest.clone();
            change(forged.get_mut(file).unwrap());
            check(&village(), &forged)
        };
        // Another answer, in the canonical text of it.
        let answer = |bytes: &mut Vec<u8>| {
            let text = String::from_utf8(bytes.clone()).unwrap();
            let list = text.rfind("\"ids\": [").unwrap();
            let at = list + text[list..].find(char::is_numeric).unwrap();
            let end = at + text[at..].find(|c: char| !c.is_numeric()).unwrap();
            *bytes =
                format!("{}{}{}", &text[..at], text[at..end].parse::<u32>().unwrap() ^ 1, &text[end..]).into_bytes();
        };
        assert_eq!(changed("statement.json", &answer), no(own), "{name}");
        assert_eq!(changed("statement.json", &|bytes| bytes.push(b' ')), no("statement.json"), "{name}");
        let proof = changed(last, &|bytes| *bytes.last_mut().unwrap() ^= 1);
        assert_eq!(proof.0, "invalid", "{name}: {proof:?}");
        let short = changed("registration.bin", &|bytes| bytes.truncate(100));
        assert_eq!(short.0, "invalid", "{name}: {short:?}");

        // Another base: one weight, one letter of the tokenizer.
        let changes = [
            ("tokenizer.json", "{", " {"),
            ("tokenizer_config.json", "assistant", "servant"),
            ("generation_config.json", ": 2", ": 3"),
        ];
        for (file, from, to) in changes {
            let mut base = village();
            let bytes = base.get_mut(file).unwrap();
            let text = String::from_utf8(bytes.clone()).unwrap();
            *bytes = text.replacen(from, to, 1).into_bytes();
            assert_ne!(*bytes, text.as_bytes(), "{file}");
            assert_eq!(check(&base, &honest), no("base"), "{name}: {file}");
        }
        let mut base = village();
        *base.get_mut("model.safetensors").unwrap().last_mut().unwrap() ^= 1;
        assert_eq!(check(&base, &honest), no("base"), "{name}: a weight");
    }
    let (old, _) = frozen("2");
    assert_eq!(check(&village(), &old), ("undecided".to_owned(), Some("protocol version".to_owned())));
}

#[test]
fn what_is_no_bundle_or_no_base_is_said_to_be_none() {
    let (bundle, _) = frozen("3-sealed");
    let why = |base: &Dropped, bundle: &Dropped, typed: Value| {
        let said = asked(base, bundle, typed);
        assert_eq!(verdict(&said), ("undecided", None), "{said}");
        said["reason"].as_str().unwrap().to_owned()
    };
    let without = |file: &str| {
        let mut base = village();
        base.remove(file).unwrap();
        base
    };
    let none = Dropped::new();
    let reason = "none of the files is one of a bundle, such as statement.json";
    assert_eq!(why(&village(), &none, json!({})), reason);
    let reason = "no config.json among the files of the base: a base is a Hugging Face folder here, and no GGUF file";
    assert_eq!(why(&none, &bundle, json!({})), reason);
    let reason = "no such file among those of the base: model.safetensors";
    assert_eq!(why(&without("model.safetensors"), &bundle, json!({})), reason);
    assert_eq!(why(&village(), &bundle, json!({ "adapter": "x" })), "adapter: not a digest of 64 digits: x");
    assert_eq!(why(&village(), &bundle, json!({ "input": "5 x" })), "input: not a token id: x");
    let reason = "input: one was given, and that any will do";
    assert_eq!(why(&village(), &bundle, json!({ "input": "5", "any_input": true })), reason);
    assert_eq!(why(&village(), &bundle, json!({ "task": "magic" })), "task: there is none of this name: magic");

    let mut pointer = village();
    pointer.insert("model.safetensors".to_owned(), b"version https://git-lfs.github.com/spec/v1\n".to_vec());
    let reason = "model.safetensors: a Git LFS pointer, not the file it stands for";
    assert_eq!(why(&pointer, &bundle, json!({})), reason);

    // A request that ends too early or goes on is no request.
    for bytes in [&b""[..], &[9, 0, 0, 0], &[0xff; 8]] {
        let said: Value = serde_json::from_slice(&answer(bytes)).unwrap();
        assert_eq!(said["reason"], "the request ends too early");
    }
}

/// The same bundle as one file, and what may become of it on its way.
#[test]
fn a_bundle_may_be_one_file() {
    let (bundle, adapter) = frozen("3-sealed");
    let files = bundle.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
    let whole = ftk_proofs::archive::archive(&files);
    let one = |bytes: &[u8]| Dropped::from([("village.ftk".to_owned(), bytes.to_vec())]);
    let all = json!({ "adapter": adapter });
    let said = asked(&village(), &one(&whole), all.clone());
    assert_eq!(said, asked(&village(), &bundle, all.clone()));
    assert_eq!(said["verdict"], "consistent", "{said}");
    let said = asked(&village(), &one(&whole[..whole.len() - 1]), all.clone());
    assert_eq!((verdict(&said), &said["reason"]), (("undecided", None), &json!("village.ftk: ends too early")));
    let said = asked(&village(), &one(&[&whole[..], &[0]].concat()), all);
    assert_eq!(verdict(&said), ("invalid", Some("archive")), "{said}");
}
