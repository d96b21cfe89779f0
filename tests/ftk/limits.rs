//! Many bundles at once, bundles in memory, and what is refused because of what it would cost.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use ftk::prove::model;
use ftk_bases::BaseModel;
use ftk_proofs::hex::parse_digest;
use ftk_proofs::limits::Limits;
use ftk_proofs::refusal::{Refusal, Stage};
use ftk_proofs::verdict::{Expectations, ExpectedInput, Missing};
use ftk_proofs::verifier::Verifier;
use serde_json::Value;

use crate::run::{ftk, stderr, succeed};
use crate::seller::{Seller, forged, slices, verify};

const PROMPT: &str = "What does Elsa sell?";

#[test]
fn each_limit_of_verify_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let seller = Seller::new(folder.path().join("seller"), 41);
    let bundle = seller.prove("bundle", PROMPT);
    let within = |flag: &str, value: u64| {
        let value = value.to_string();
        verify(&bundle, &["--expect-adapter", &seller.digest, "--expect-input", PROMPT, flag, &value])
    };
    let said = |flag: &str, value: u64| {
        let mut command = ftk(&["verify", "--base", "village", flag, &value.to_string()]);
        String::from_utf8(command.arg(&bundle).output().unwrap().stdout).unwrap()
    };
    let bytes: u64 = std::fs::read_dir(&bundle).unwrap().map(|file| file.unwrap().metadata().unwrap().len()).sum();
    let content = ftk::prove::bundle::read(&bundle, &Limits::NONE).unwrap();
    let (rows, sites) = (content.statement.rows() as u64, content.commitment.shapes().len() as u64);
    for (flag, enough) in [("--max-tokens", rows), ("--max-sites", sites), ("--max-bytes", bytes)] {
        assert_eq!(within(flag, enough), (0, "valid".to_owned()), "{flag}");
        assert_eq!(within(flag, enough - 1), (2, "limit".to_owned()), "{flag}");
    }
    assert_eq!(within("--max-memory", 1 << 30).0, 0);
    assert_eq!(within("--max-memory", 1000), (2, "limit".to_owned()));
    assert_eq!(within("--max-seconds", 600).0, 0);
    assert_eq!(within("--max-seconds", 0), (2, "limit".to_owned()));
    assert!(said("--max-tokens", 3).starts_with(&format!("undecided: limit: {rows} tokens are more than 3;")));
    assert!(said("--max-bytes", 3).starts_with("undecided: limit: 4 bytes of files are more than 3;"));
    assert!(said("--max-sites", 3).starts_with(&format!("undecided: limit: {sites} sites are more than 3;")));
    assert!(said("--max-memory", 3).contains("bytes of memory are more than 3;"));
    assert!(said("--max-seconds", 0).starts_with("undecided: limit: the time is up while expanding the deltas;"));

    // What is no proof is told from one before the time for a replay is spent.
    for (name, check) in [("proof.bin", "delta proof"), ("link.bin", "link")] {
        let junk = folder.path().join(check);
        std::fs::create_dir(&junk).unwrap();
        for file in std::fs::read_dir(&bundle).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), junk.join(file.file_name())).unwrap();
        }
        let size = std::fs::metadata(junk.join(name)).unwrap().len() as usize;
        std::fs::write(junk.join(name), vec![0xFF; size]).unwrap();
        assert_eq!(verify(&junk, &["--max-seconds", "0"]), (1, check.to_owned()));
    }
}

#[test]
fn many_bundles_get_a_verdict_each_and_the_worst_decides() {
    let folder = tempfile::tempdir().unwrap();
    let seller = Seller::new(folder.path().join("seller"), 42);
    let one = seller.prove("one", PROMPT);
    let two = seller.prove("two", PROMPT);
    let wrong = forged(&two, "wrong", |bundle| bundle.deltas[0][0] += 1);
    let bare = forged(&two, "bare", |bundle| bundle.registration = None);
    let nowhere = folder.path().join("nowhere");
    let all = ["--expect-adapter", seller.digest.as_str(), "--expect-input", PROMPT];
    let run = |bundles: &[&Path], json: bool| {
        let mut command = ftk(&["verify", "--base", "village", "--quiet"]);
        if json {
            command.arg("--json");
        }
        let output = command.args(bundles).args(all).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
    };
    let verdicts = |bundles: &[&Path]| {
        let (code, said) = run(bundles, true);
        let verdict = |line: &str| {
            let value: Value = serde_json::from_str(line).unwrap();
            format!(
                "{} {}",
                value["bundle"].as_str().unwrap().rsplit('/').next().unwrap(),
                value["verdict"].as_str().unwrap()
            )
        };
        (code, said.lines().map(verdict).collect::<Vec<_>>().join(", "))
    };
    assert_eq!(verdicts(&[&one, &two]), (0, "one valid, two valid".to_owned()));
    assert_eq!(verdicts(&[&one, &bare]), (2, "one valid, bare consistent".to_owned()));
    assert_eq!(verdicts(&[&nowhere, &one]), (2, "nowhere undecided, one valid".to_owned()));
    let mixed = (1, "one valid, wrong invalid, bare consistent, nowhere undecided, two valid".to_owned());
    assert_eq!(verdicts(&[&one, &wrong, &bare, &nowhere, &two]), mixed);
    let (_, said) = run(&[&one, &wrong], false);
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[0], format!("{}: valid, open", one.display()));
    assert!(lines[1].starts_with(&format!("{}: invalid: delta proof", wrong.display())), "{said}");
}

#[test]
fn bundles_in_memory_are_judged_without_files_or_panics() {
    let folder = tempfile::tempdir().unwrap();
    let seller = Seller::new(folder.path().join("seller"), 43);
    let bundle = seller.prove("bundle", PROMPT);
    let files: BTreeMap<String, Vec<u8>> = std::fs::read_dir(&bundle)
        .unwrap()
        .map(|file| {
            let file = file.unwrap();
            (file.file_name().into_string().unwrap(), std::fs::read(file.path()).unwrap())
        })
        .collect();
    assert_eq!(files.len(), 6);
    let source = BaseModel::open("village".as_ref()).unwrap();
    let base = || model::read(&source).unwrap();
    let mut verifier = Verifier::new(base(), Limits::default());
    let adapter = parse_digest(&seller.digest);
    let expected = Expectations {
        adapter,
        input: ExpectedInput::Any,
        task: Some(ftk_proofs::Kind::Completion),
        max_tokens: Some(6),
        context: Some(b"buyer 7".to_vec()),
        ..Expectations::default()
    };
    let nothing = [Missing::Adapter, Missing::Input, Missing::Task, Missing::MaxTokens, Missing::Context];
    assert!(verifier.verify(&slices(&files), &expected).unwrap().verdict.is_valid());
    let judged = verifier.verify(&slices(&files), &Expectations::default()).unwrap();
    assert_eq!(judged.verdict.missing, nothing);

    // Whatever becomes of the bytes, there is an answer; a registration that was accepted once is no pass for another.
    for name in files.keys() {
        let mut less = files.clone();
        less.remove(name);
        match (name.as_str(), verifier.verify(&slices(&less), &expected)) {
            ("registration.bin", Ok(judged)) => assert_eq!(judged.verdict.missing, [Missing::Registration]),
            (_, Err(Refusal::Malformed { file, .. })) => assert_eq!(file, name),
            (_, other) => panic!("{name}: {other:?}"),
        }
        let bytes = &files[name];
        for at in [0, bytes.len() / 3, bytes.len() / 2, bytes.len() - 2] {
            let mut changed = files.clone();
            changed.get_mut(name).unwrap()[at] ^= 0x41;
            let refusal = verifier.verify(&slices(&changed), &expected).unwrap_err();
            assert!(refusal.is_no() || matches!(refusal, Refusal::Protocol(_)), "{name} at {at}: {refusal}");
            let mut cut = files.clone();
            cut.get_mut(name).unwrap().truncate(at);
            assert!(verifier.verify(&slices(&cut), &expected).unwrap_err().is_no(), "{name} cut at {at}");
        }
    }
    assert!(verifier.verify(&slices(&files), &expected).unwrap().verdict.is_valid());
    let limits = Limits { time: Duration::ZERO, ..Limits::default() };
    let mut hasty = Verifier::new(base(), limits);
    assert!(matches!(hasty.verify(&slices(&files), &expected), Err(Refusal::Time(Stage::Deltas))));
}

#[test]
fn what_does_not_fit_in_memory_is_refused_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let seller = Seller::new(folder.path().join("seller"), 44);
    let out = folder.path().join("out");
    let refused = |verb: &str, arguments: &[&str]| {
        let mut command = ftk(&[verb, "--base", "village", "--max-memory", "1000000"]);
        command.arg("--adapter").arg(seller.folder.join("adapter")).arg("--out").arg(&out).args(arguments);
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        assert!(!out.exists());
        stderr(&output)
    };
    let said = refused("commit", &[]);
    assert!(said.contains("the commitment needs some") && said.contains("there are: 0"), "{said}");
    let commitment = seller.folder.join("commitment");
    let said =
        refused("prove", &["--prompt", PROMPT, "--commitment", commitment.to_str().unwrap(), "--open", "--disclose"]);
    assert!(said.contains("the proof needs some"), "{said}");
}

#[test]
fn proofs_are_estimated() {
    let folder = tempfile::tempdir().unwrap();
    let seller = Seller::new(folder.path().join("seller"), 45);
    let estimate = |tokens: &str| -> Value {
        let mut command = ftk(&["estimate", "--json", "--base", "village", "--tokens", tokens, "--adapter"]);
        serde_json::from_str(&succeed(command.arg(seller.folder.join("adapter")))).unwrap()
    };
    let few = estimate("16");
    let commitment = std::fs::read(seller.folder.join("commitment/commitment.bin")).unwrap();
    let commitment = ftk_circuits::AdapterCommitment::decode(&commitment).unwrap();
    assert_eq!(few["open_proof"]["k"].as_u64(), Some(commitment.k().into()));
    // A commitment is its columns' points behind the names of its sites.
    let points = few["open_proof"]["columns"].as_u64().unwrap() * 32;
    let bytes = commitment.encode().len() as u64;
    assert!(bytes > points && bytes < points + 80 * 8, "{points} of {bytes}");
    let number = |estimate: &Value, key: &str| estimate["open_proof"][key].as_f64().unwrap();
    for key in ["bundle_bytes", "prove_memory", "verify_memory", "prove_seconds", "verify_seconds"] {
        assert!(number(&estimate("64"), key) > number(&few, key), "{key}");
    }
    for key in ["registered_bytes", "commit_memory", "commit_seconds", "weights"] {
        assert_eq!(number(&estimate("64"), key), number(&few, key), "{key}");
    }
}

#[test]
fn a_damaged_cache_is_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("cache");
    crate::seller::adapter(&folder.path().join("adapter"), 46);
    let commit = |out: &str| {
        let mut command = ftk(&["commit", "--base", "village", "--quiet"]);
        command.env("FTK_CACHE", &cache).arg("--adapter").arg(folder.path().join("adapter"));
        succeed(command.arg("--out").arg(folder.path().join(out)))
    };
    commit("first");
    let files = || -> Vec<_> { std::fs::read_dir(&cache).unwrap().map(|file| file.unwrap().path()).collect() };
    let [key] = files().try_into().unwrap();
    let whole = std::fs::read(&key).unwrap();
    let mut changed = whole.clone();
    changed[1000] ^= 1;
    for (index, damaged) in [changed, whole[..whole.len() - 1].to_vec(), Vec::new()].into_iter().enumerate() {
        std::fs::write(&key, damaged).unwrap();
        commit(&format!("again-{index}"));
        assert_eq!(std::fs::read(&key).unwrap(), whole, "{index}");
        assert_eq!(files(), std::slice::from_ref(&key), "nothing but the key is left behind");
    }
    // A cache that cannot be written costs time and nothing else.
    std::fs::remove_dir_all(&cache).unwrap();
    std::fs::write(&cache, "in the way").unwrap();
    commit("without");
}
