//! Foreign text never steers the terminal it is shown on: out of bundles, adapters, rows and answers alike.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::run::ftk;
use crate::seller::Seller;

/// Clears the screen, sets a title, writes backwards, and is not seen: what an attacker writes into a file.
const STEERING: &str = "x\u{1b}[2J\u{1b}]0;owned\u{7}\r\u{9b}1Avalid\u{202e}dilav\u{200b}\u{feff}\u{7f}\nvalid";

/// What of STEERING is to be read where it is shown.
const SHOWN: &str = "x\\u{1b}[2J\\u{1b}]0;owned\\u{7}\\r\\u{9b}1Avalid\\u{202e}dilav\\u{200b}\\u{feff}\\u{7f}";

fn text(path: &Path) -> &str {
    path.to_str().expect("paths of tests are text")
}

fn steers(c: char) -> bool {
    (c.is_control() && c != '\n' && c != '\t')
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// Runs a command for a person and for a program, and gives what each of them sees of both outputs, with the code.
fn seen(arguments: &[&str]) -> (String, String, i32) {
    let run = |command: &mut Command| {
        let output = command.output().unwrap();
        let both = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
        for text in &both {
            assert!(!text.contains(steers), "{arguments:?}: {text:?}");
        }
        (both, output.status.code().unwrap())
    };
    let ([stdout, stderr], code) = run(&mut ftk(arguments));
    let ([object, _], again) = run(ftk(arguments).arg("--json"));
    assert_eq!(code, again, "{arguments:?}");
    for line in object.lines() {
        serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {line}"));
    }
    (stdout + &stderr, object, code)
}

/// The text of a file with one piece of it changed.
fn changed(path: &Path, from: &str, to: &str) {
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.contains(from), "{}: {from}: {text}", path.display());
    std::fs::write(path, text.replacen(from, to, 1)).unwrap();
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(|entry| entry.unwrap()) {
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[test]
fn bundles_do_not_write_on_the_verifiers_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let seller = Seller::new(folder.path().join("seller"), 3);
    let honest = seller.prove("bundle", "Where does Nora have the stall?");
    let steering = serde_json::to_string(STEERING).unwrap();
    let steering = steering.trim_matches('"');
    let long = "y".repeat(100_000);
    let changes = [
        // A digest, a kind, a key that nothing knows, a version, and a key that is long.
        (seller.digest.as_str(), steering.to_owned()),
        ("\"completion\"", format!("\"{steering}\"")),
        ("{", format!("{{\"{steering}\": 1,")),
        ("{", format!("{{\"{long}\": 1,")),
    ];
    for (number, (from, to)) in changes.iter().enumerate() {
        let bundle = folder.path().join(format!("forged-{number}"));
        copy(&honest, &bundle);
        changed(&bundle.join("statement.json"), from, to);
        let verify = ["verify", text(&bundle), "--base", "village", "--any-input", "--expect-adapter", &seller.digest];
        let (said, object, code) = seen(&verify);
        assert_eq!(code, 1, "{said}");
        assert!(said.starts_with("invalid: statement.json: ") && said.lines().count() == 1, "{said}");
        assert!(said.len() < 4_000, "{}", said.len());
        let object: Value = serde_json::from_str(&object).unwrap();
        assert_eq!(object["verdict"], "invalid");
        let (said, ..) = seen(&["inspect", text(&bundle)]);
        assert!(!said.contains("\nvalid"), "{said}");
    }
    // The context is the prover's to choose.
    let context = STEERING;
    let bundle = seller.prove_with("context", &["--max-tokens", "4", "--prompt", "Hi", "--context", context]);
    let verify = ["verify", text(&bundle), "--base", "village", "--any-input", "--expect-adapter", &seller.digest];
    for arguments in [&verify[..], &["inspect", text(&bundle)]] {
        let (said, object, code) = seen(arguments);
        assert_eq!(code, 0, "{said}");
        assert!(said.contains("x\\u{1b}[2J") && !said.contains("\nvalid\n"), "{said}");
        let object: Value = serde_json::from_str(&object).unwrap();
        assert_eq!(object["context"], context, "JSON has the very text");
    }
}

#[test]
fn adapters_do_not_write_on_the_terminal_of_whoever_looks_at_them() {
    let folder = tempfile::tempdir().unwrap();
    let adapter = folder.path().join("adapter");
    crate::seller::adapter(&adapter, 4);
    let config = adapter.join("adapter_config.json");
    let mut value: Value = serde_json::from_slice(&std::fs::read(&config).unwrap()).unwrap();
    value["base_model_name_or_path"] = json!(STEERING);
    std::fs::write(&config, value.to_string()).unwrap();
    let (said, object, _) = seen(&["inspect", text(&adapter)]);
    assert!(said.contains(&format!("base name\t{SHOWN}\\nvalid\n")), "{said}");
    assert_eq!(serde_json::from_str::<Value>(&object).unwrap()["base_name"], STEERING);
    // A kind that is refused is named.
    value["bias"] = json!(STEERING);
    std::fs::write(&config, value.to_string()).unwrap();
    let generate = ["generate", "--base", "village", "--prompt", "Hi", "--adapter", text(&adapter)];
    let (said, _, code) = seen(&generate);
    assert!(code == 2 && said.contains("adapter_config.json:bias: ") && said.contains("\\u001b[2J"), "{said}");
    // A site that the base has not.
    let strange = folder.path().join("strange");
    let mut sites = ftk_adapters::lora::Adapter::default();
    let factors = ftk_adapters::train::initial_factors("site", 2, (4, 4), 1.0, 1);
    sites.sites.insert(format!("model.layers.0.{STEERING}"), factors);
    ftk_adapters::peft::save(&strange, &sites, "village", &[], false).unwrap();
    for arguments in [
        &["inspect", text(&strange), "--base", "village"][..],
        &["generate", "--base", "village", "--prompt", "Hi", "--adapter", text(&strange)],
    ] {
        let (said, ..) = seen(arguments);
        assert!(said.contains("\\u{1b}[2J"), "{said}");
    }
}

/// The village with the tokens of ESC and the full stop, and of the tab and the comma, changed for each other.
fn steering_base(folder: &Path) -> PathBuf {
    let base = folder.join("base");
    copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes/text/village/base"), &base);
    let path = base.join("tokenizer.json");
    let mut tokenizer: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let vocabulary = tokenizer["model"]["vocab"].as_object_mut().unwrap();
    // Byte-level tokens: what stands for the bytes 0x1b and 0x09.
    for (a, b) in [("\u{11b}", "."), ("\u{109}", ",")] {
        let (first, second) = (vocabulary[a].clone(), vocabulary[b].clone());
        vocabulary[a] = second;
        vocabulary[b] = first;
    }
    std::fs::write(&path, tokenizer.to_string()).unwrap();
    base
}

#[test]
fn answers_do_not_write_on_the_terminal_and_keep_their_tabs() {
    let folder = tempfile::tempdir().unwrap();
    let base = steering_base(folder.path());
    let (said, object, code) = seen(&["generate", "--base", text(&base), "--prompt", "Hi"]);
    let object: Value = serde_json::from_str(&object).unwrap();
    let answer = object["text"].as_str().unwrap();
    assert!(code == 0 && answer.contains('\u{1b}') && answer.contains('\t'), "{answer:?}");
    assert_eq!(said, answer.replace('\u{1b}', "\\u{1b}") + "\n");
}

#[test]
fn rows_do_not_write_on_the_terminal_of_whoever_previews_them() {
    let folder = tempfile::tempdir().unwrap();
    let rows = folder.path().join("rows.jsonl");
    std::fs::write(&rows, json!({ "prompt": STEERING, "completion": STEERING }).to_string()).unwrap();
    let preview = ["data", "preview", "--base", "village", "--data", text(&rows)];
    let (said, _, code) = seen(&preview);
    assert!(code == 0 && said.contains(SHOWN), "{said}");
    std::fs::write(&rows, json!({ (STEERING): 1 }).to_string() + &"z".repeat(50)).unwrap();
    let (_, _, code) = seen(&preview);
    assert_eq!(code, 2);
}
