//! What comes before and after a proof: committing to adapters made elsewhere, what the opening file counts, and
//! whether a delivered adapter is the one that was committed to.

use std::path::{Path, PathBuf};

use ftk::prove::opening::{OPENING, OpeningFile};
use ftk_circuits::AdapterCommitment;
use serde_json::{Value, json};

use crate::run::{ftk, stderr, succeed};
use crate::seller::{Seller, verify};

/// Exit code, and what is said on stdout as JSON.
fn open(adapter: &Path, more: &[(&str, &Path)]) -> (i32, Value) {
    let mut command = ftk(&["open", "--json", "--quiet"]);
    command.arg(adapter);
    more.iter().for_each(|(flag, path)| {
        command.arg(flag).arg(path);
    });
    let output = command.output().unwrap();
    (output.status.code().unwrap(), serde_json::from_slice(&output.stdout).unwrap())
}

fn copy(from: &Path, to: &Path) -> PathBuf {
    std::fs::create_dir_all(to).unwrap();
    for file in std::fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
    to.to_owned()
}

/// Changes `adapter_config.json`.
fn configure(adapter: &Path, change: impl FnOnce(&mut Value)) {
    let path = adapter.join("adapter_config.json");
    let mut config = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    change(&mut config);
    std::fs::write(path, config.to_string()).unwrap();
}

/// Changes the values of the factors, numbered through the file.
fn change(adapter: &Path, change: impl Fn(usize, f32) -> f32) {
    let path = adapter.join("adapter_model.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    for (index, word) in bytes[header..].as_chunks_mut::<4>().0.iter_mut().enumerate() {
        *word = change(index, f32::from_le_bytes(*word)).to_le_bytes();
    }
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn a_delivered_adapter_opens_its_commitment_and_no_other_does() {
    let folder = tempfile::tempdir().unwrap();
    let seller = Seller::new(folder.path().join("seller"), 21);
    let other = Seller::new(folder.path().join("other"), 22);
    let (adapter, commitment) = (seller.folder.join("adapter"), seller.folder.join("commitment"));
    let yes = |(code, said): (i32, Value)| {
        assert_eq!((code, &said["opens"], said["adapter"].as_str()), (0, &json!(true), Some(seller.digest.as_str())));
    };
    let no = |(code, said): (i32, Value), why: &str| {
        assert_eq!((code, &said["opens"]), (1, &json!(false)), "{said}");
        let difference = said["difference"].as_str().unwrap();
        assert!(difference.starts_with(why), "{difference}");
    };
    yes(open(&adapter, &[("--commitment", &commitment)]));
    // The buyer has seen a bundle, and gets the opening with the adapter.
    let bundle = seller.prove("bundle", "What does Elsa sell?");
    let delivered = copy(&adapter, &folder.path().join("delivered"));
    std::fs::copy(commitment.join(OPENING), delivered.join(OPENING)).unwrap();
    yes(open(&delivered, &[("--commitment", &bundle)]));
    yes(open(&adapter, &[("--commitment", &bundle.join("commitment.bin")), ("--opening", &commitment.join(OPENING))]));
    // Without an opening it cannot be told.
    assert_eq!(open(&adapter, &[("--commitment", &bundle)]).0, 2);
    assert_eq!(open(&adapter, &[("--commitment", &folder.path().join("nowhere"))]).0, 2);
    let damaged = folder.path().join("damaged.bin");
    std::fs::write(&damaged, b"ftk opening file\0").unwrap();
    assert_eq!(open(&adapter, &[("--commitment", &bundle), ("--opening", &damaged)]).0, 2);

    no(open(&other.folder.join("adapter"), &[("--commitment", &commitment)]), "values");
    let theirs = other.folder.join("commitment").join(OPENING);
    no(open(&adapter, &[("--commitment", &commitment), ("--opening", &theirs)]), "values");
    let changed = |name: &str| copy(&adapter, &folder.path().join(name));
    let value = changed("value");
    change(&value, |index, value| if index == 7 { value + 2f32.powi(-14) } else { value });
    no(open(&value, &[("--commitment", &commitment)]), "values");
    let off = changed("off");
    change(&off, |index, value| if index == 7 { value * 1.000_01 } else { value });
    no(open(&off, &[("--commitment", &commitment)]), "adapter factor");
    let doubled = changed("doubled");
    change(&doubled, |_, value| value * 2.0);
    no(open(&doubled, &[("--commitment", &commitment)]), "shape of model.layers.0");
    let scaled = changed("scaled");
    configure(&scaled, |config| config["lora_alpha"] = json!(48));
    no(open(&scaled, &[("--commitment", &commitment)]), "adapter scale");
}

#[test]
fn an_adapter_made_elsewhere_is_rounded_and_then_proved() {
    let folder = tempfile::tempdir().unwrap();
    let raw = folder.path().join("raw");
    crate::seller::adapter(&raw, 23);
    configure(&raw, |config| config["lora_alpha"] = json!(72));
    change(&raw, |index, value| value + (index % 7) as f32 * 1e-6);
    let out = folder.path().join("commitment");
    let mut command = ftk(&["commit", "--base", "village", "--json"]);
    let output = command.arg("--adapter").arg(&raw).arg("--out").arg(&out).output().unwrap();
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(stderr(&output).contains("rounded the adapter to 16-bit integers"), "{}", stderr(&output));
    let sites = said["rounded"]["sites"].as_object().unwrap();
    let written: Value = serde_json::from_slice(&std::fs::read(out.join("rounding.json")).unwrap()).unwrap();
    assert_eq!(written.as_object().unwrap(), sites);
    for (site, error) in sites {
        for factor in ["a", "b"] {
            let relative = error[factor]["relative"].as_f64().unwrap();
            assert!(relative > 0.0 && relative < 1e-4, "{site} {factor}: {relative}");
        }
    }
    // Half a step of the grid is the most a value moves: here the largest value is below 2, the steps 2^-14 or less.
    let largest = sites.values().map(|error| error["a"]["max"].as_f64().unwrap()).fold(0.0, f64::max);
    assert!(largest <= 2f64.powi(-15), "{largest}");

    // The rounded adapter is what was committed to; the raw one is not.
    let prove = |adapter: &Path, name: &str| {
        let mut command =
            ftk(&["prove", "--base", "village", "--open", "--disclose", "--max-tokens", "2", "--prompt", "Hello"]);
        command.arg("--adapter").arg(adapter).arg("--commitment").arg(&out).arg("--out").arg(folder.path().join(name));
        command.output().unwrap()
    };
    let bundle = prove(&out.join("adapter"), "bundle");
    assert!(bundle.status.success(), "{}", stderr(&bundle));
    let digest = said["adapter"].as_str().unwrap();
    let expected = ["--expect-adapter", digest, "--expect-input", "Hello"];
    assert_eq!(verify(&folder.path().join("bundle"), &expected), (0, "valid".to_owned()));
    let refused = prove(&raw, "refused");
    assert_eq!(refused.status.code(), Some(2));
    assert!(stderr(&refused).contains("what `ftk commit` had to round"), "{}", stderr(&refused));
    assert_eq!(open(&out.join("adapter"), &[("--commitment", &out)]).0, 0);

    // What ftk exports is committed to as it is.
    let mut command = ftk(&["commit", "--base", "village", "--json", "--quiet"]);
    command.arg("--adapter").arg(out.join("adapter")).arg("--out").arg(folder.path().join("again"));
    let said: Value = serde_json::from_str(&succeed(&mut command)).unwrap();
    assert_eq!(said["rounded"], Value::Null);
    assert!(!folder.path().join("again/adapter").exists());
}

#[test]
fn kinds_of_adapters_without_a_proof_are_refused_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    for (key, value) in [("use_dora", json!(true)), ("bias", json!("all")), ("modules_to_save", json!(["lm_head"]))] {
        let raw = folder.path().join(key);
        crate::seller::adapter(&raw, 24);
        configure(&raw, |config| config[key] = value);
        let out = folder.path().join(format!("{key}-commitment"));
        let mut command = ftk(&["commit", "--base", "village"]);
        let output = command.arg("--adapter").arg(&raw).arg("--out").arg(&out).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        let said = stderr(&output);
        assert!(said.contains(&format!("adapter_config.json:{key}: this kind of adapter is not supported")), "{said}");
        assert!(said.contains("hint: "), "{said}");
        assert!(!out.exists());
    }
}

#[test]
fn the_opening_counts_what_all_proofs_disclose() {
    let folder = tempfile::tempdir().unwrap();
    let seller = Seller::of_rank(folder.path().join("seller"), 25, 2);
    let opening = seller.folder.join("commitment").join(OPENING);
    let prove = |name: &str, ids: &[u32], disclose: bool| {
        let rows = folder.path().join(format!("{name}.jsonl"));
        std::fs::write(&rows, format!("{}\n", json!({ "prompt_ids": ids }))).unwrap();
        let mut command = ftk(&["prove", "--base", "village", "--json", "--open", "--task", "logits"]);
        if disclose {
            command.arg("--disclose");
        }
        command.arg("--rows").arg(&rows).arg("--adapter").arg(seller.folder.join("adapter"));
        command.arg("--commitment").arg(seller.folder.join("commitment"));
        let output = command.arg("--out").arg(folder.path().join(name)).output().unwrap();
        let said: Value = serde_json::from_slice(&output.stdout).unwrap();
        (output.status.code().unwrap(), said)
    };
    let left = |(code, said): (i32, Value)| {
        assert_eq!(code, 0, "{said}");
        said["disclosure"]["rows_left"].as_u64()
    };
    // Rank 2: two rows are free, over all proofs; the same row again is none.
    assert_eq!(left(prove("one", &[5], false)), Some(1));
    assert_eq!(left(prove("same", &[5], false)), Some(1));
    assert_eq!(left(prove("two", &[6], false)), Some(0));
    let before = std::fs::read(&opening).unwrap();
    let (code, said) = prove("three", &[7], false);
    assert_eq!(code, 2);
    assert!(
        said["error"].as_str().unwrap().starts_with("with the open proofs before it, this one would disclose"),
        "{said}"
    );
    assert!(!folder.path().join("three").exists(), "nothing was released");
    assert_eq!(std::fs::read(&opening).unwrap(), before, "and nothing was counted");
    assert_eq!(left(prove("again", &[6], false)), Some(0));
    let (code, said) = prove("agreed", &[7], true);
    assert_eq!((code, &said["disclosure"]["rows_left"]), (0, &Value::Null));
    assert!(!said["disclosure"]["beyond_rank"].as_array().unwrap().is_empty());
    // From now on every proof needs the word.
    assert_eq!(prove("late", &[5], false).0, 2);

    let commitment = std::fs::read(seller.folder.join("commitment/commitment.bin")).unwrap();
    let commitment = AdapterCommitment::decode(&commitment).unwrap();
    let file = OpeningFile::read(&opening, commitment.shapes()).unwrap();
    assert_eq!(file.ledger.disclosure(commitment.shapes()).left, None);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(&opening).unwrap().permissions().mode() & 0o777, 0o600);
    }
}

#[test]
fn a_bundle_travels_as_one_file() {
    let place = tempfile::tempdir().unwrap();
    let seller = Seller::of_rank(place.path().to_owned(), 23, 2);
    let bundle = seller.seal("bundle", &["--max-tokens", "2", "--prompt", "Where is Ada?"]);
    let run = |arguments: &[&str]| ftk(arguments).current_dir(place.path()).output().unwrap();
    let done = |arguments: &[&str]| succeed(ftk(&["--json", "--quiet"]).args(arguments).current_dir(place.path()));
    let told = |arguments: &[&str]| {
        let output = run(arguments);
        (output.status.code().unwrap(), [String::from_utf8(output.stdout.clone()).unwrap(), stderr(&output)].concat())
    };
    // What is beside it does not travel, and is named.
    std::fs::write(bundle.join("notes.txt"), "mine").unwrap();
    let (code, said) = told(&["convert", "bundle", "--out", "one.ftk"]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("left out: notes.txt is no file of a bundle"), "{said}");
    std::fs::remove_file(bundle.join("notes.txt")).unwrap();
    // There and back it is the same, file by file and as a whole.
    done(&["convert", "one.ftk", "--out", "again"]);
    for entry in std::fs::read_dir(&bundle).unwrap() {
        let name = entry.unwrap().file_name();
        assert!(
            std::fs::read(bundle.join(&name)).unwrap()
                == std::fs::read(place.path().join("again").join(&name)).unwrap()
        );
    }
    done(&["convert", "again", "--out", "two.ftk"]);
    let whole = std::fs::read(place.path().join("one.ftk")).unwrap();
    assert!(whole == std::fs::read(place.path().join("two.ftk")).unwrap());

    // Every verb takes it for the bundle that it is.
    let expect = ["--base", "village", "--expect-adapter", &seller.digest, "--any-input"];
    let verify = |bundle: &str| told(&[&["verify", bundle], &expect[..]].concat());
    assert_eq!(verify("one.ftk"), verify("bundle"));
    assert_eq!(verify("one.ftk").0, 0);
    assert_eq!(done(&["inspect", "one.ftk"]), done(&["inspect", "bundle"]));
    let proved = ["prove", "--base", "village", "--adapter", "adapter", "--commitment", "commitment", "--prompt", "Hi"];
    let prove = |out: &str| told(&[&proved[..], &["--max-tokens", "2", "--out", out]].concat());
    // Of the one that was there nothing stays, but of what is none all does.
    assert_eq!(prove("two.ftk").0, 0);
    assert_eq!(verify("two.ftk").0, 0);
    assert!(whole != std::fs::read(place.path().join("two.ftk")).unwrap());
    std::fs::write(place.path().join("mine.ftk"), "a diary").unwrap();
    let (code, said) = prove("mine.ftk");
    assert_eq!(code, 2);
    assert!(said.contains("error: cannot write to mine.ftk: is there already, and is no bundle"), "{said}");
    assert_eq!(std::fs::read(place.path().join("mine.ftk")).unwrap(), b"a diary");

    // What has not come whole is not judged, what was changed is refused, and a check of the content goes by its name.
    let sent = |bytes: &[u8]| {
        std::fs::write(place.path().join("sent.ftk"), bytes).unwrap();
        verify("sent.ftk")
    };
    assert_eq!(sent(&whole[..whole.len() - 1]), (2, "undecided: sent.ftk: ends too early\n".to_owned()));
    let mut changed = whole.clone();
    changed[100] ^= 1;
    assert_eq!(sent(&changed), (1, "invalid: sent.ftk: is laid out otherwise than ftk does it\n".to_owned()));
    let mut changed = whole;
    let at = 512 + changed[512..].windows(4).position(|four| four == b"ids\"").unwrap() + 6;
    changed[at] = if changed[at] == b'9' { b'8' } else { b'9' };
    let (code, said) = sent(&changed);
    assert!(code == 1 && !said.contains("sent.ftk"), "{said}");

    // A name that says the other form is a mistake.
    for (from, to) in [("bundle", "folder"), ("one.ftk", "three.ftk")] {
        let (code, said) = told(&["convert", from, "--out", to]);
        assert_eq!(code, 2);
        assert!(said.contains("a bundle's folder becomes a file named .ftk, and such a file a folder"), "{said}");
    }
    let (code, said) = told(&["convert", "adapter", "--out", "a.gguf"]);
    assert!(code == 2 && said.contains("adapter: is no bundle, and of an adapter --base is needed"), "{said}");
}
