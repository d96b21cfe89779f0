//! Sealed bundles through the command: what they prove, what they refuse, and what they do not tell.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use ftk::prove::bundle;
use ftk_proofs::bundle::{PackedBundle, Proof};
use ftk_proofs::limits::Limits;
use ftk_proofs::{Completion, Input, Logits, Output, Statement};

use crate::run::{ftk, stderr, succeed};
use crate::seller::{Seller, verify};

const PROMPT: &str = "Where does Nora have the stall?";

/// A copy of a bundle with changed files.
fn changed(bundle: &Path, name: &str, change: impl FnOnce(&Path)) -> PathBuf {
    let out = bundle.with_file_name("changed").join(name);
    std::fs::create_dir_all(&out).unwrap();
    for file in std::fs::read_dir(bundle).unwrap() {
        let file = file.unwrap().path();
        std::fs::copy(&file, out.join(file.file_name().unwrap())).unwrap();
    }
    change(&out);
    out
}

fn edit(folder: &Path, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
    let path = folder.join(name);
    let mut bytes = std::fs::read(&path).unwrap();
    change(&mut bytes);
    std::fs::write(path, bytes).unwrap();
}

/// The points and scalars of a proof, 32 bytes each, behind the link.
fn parts(bundle: &Path) -> Vec<[u8; 32]> {
    let bytes = std::fs::read(bundle.join("sealed.bin")).unwrap();
    bytes.as_chunks::<32>().0.to_vec()
}

#[test]
fn a_sealed_answer_is_valid_and_every_change_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let seller = Seller::of_rank(folder.path().join("seller"), 71, 4);
    let asked = ["--max-tokens", "4", "--context", "buyer 7", "--prompt", PROMPT];
    let bundle = seller.seal("bundle", &asked);
    let digest = seller.digest.as_str();
    let all = [
        "--expect-adapter",
        digest,
        "--expect-input",
        PROMPT,
        "--expect-max-tokens",
        "4",
        "--expect-context",
        "buyer 7",
    ];
    let lax = ["--expect-adapter", digest, "--any-input"];
    let no = |check: &str| (1, check.to_owned());
    assert_eq!(verify(&bundle, &all), (0, "valid".to_owned()));
    assert_eq!(verify(&bundle, &lax), (0, "valid".to_owned()));
    // It says the same as the open one, and what it gives away.
    let open = seller.prove_with("open", &asked);
    let statement = |bundle: &Path| std::fs::read_to_string(bundle.join("statement.json")).unwrap();
    assert_eq!(statement(&bundle), statement(&open));
    let said = succeed(ftk(&["verify", "--base", "village", "--quiet"]).arg(&bundle).args(lax));
    assert!(said.contains("disclosed: sealed: ") && said.contains("continues"), "{said}");
    assert!(said.contains("4 sites of rank 4") && said.contains("1 answer over"), "{said}");
    let said = succeed(ftk(&["verify", "--base", "village", "--quiet"]).arg(&open).args(lax));
    assert!(said.contains("disclosed: open: ") && said.contains("exact delta"), "{said}");
    let said = succeed(ftk(&["verify", "--base", "village", "--quiet"]).arg(&bundle).arg(&open).args(lax));
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines[0].ends_with("bundle: valid, sealed") && lines[1].ends_with("open: valid, open"), "{said}");
    let files = |bundle: &Path| -> BTreeSet<String> {
        let names = std::fs::read_dir(bundle).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
        names.collect()
    };
    let expected = ["commitment.bin", "registration.bin", "sealed.bin", "statement.json"];
    assert_eq!(files(&bundle), expected.map(str::to_owned).into());

    // What it states, in every way that the pass does not give.
    let other = |from: &str, to: &str| {
        changed(&bundle, "statement", |folder| {
            edit(folder, "statement.json", |bytes| {
                let text = String::from_utf8(bytes.clone()).unwrap();
                assert!(text.contains(from), "{text}");
                *bytes = text.replacen(from, to, 1).into_bytes();
            });
        })
    };
    let said: serde_json::Value = serde_json::from_str(&statement(&bundle)).unwrap();
    let first = said["cases"][0]["output"]["ids"][0].as_u64().unwrap();
    let list = |id: u64| format!("\"kind\": \"completion\",\n        \"ids\": [\n          {id},");
    assert_eq!(verify(&other(&list(first), &list(first ^ 1)), &lax), no("sealed proof"));
    let context = |text: &str| {
        let hex = text.bytes().map(|byte| format!("{byte:02x}")).collect::<String>();
        if statement(&bundle).contains(text) { text.to_owned() } else { hex }
    };
    assert_eq!(verify(&other(&context("buyer 7"), &context("buyer 8")), &lax), no("sealed proof"));

    // Bytes of it: of the link, which is a point and seven responses, and of the proof.
    let length = std::fs::metadata(bundle.join("sealed.bin")).unwrap().len() as usize;
    let flip = |at: usize| {
        let forged = changed(&bundle, "byte", |folder| edit(folder, "sealed.bin", |bytes| bytes[at] ^= 1));
        verify(&forged, &lax)
    };
    for at in [0, 40, 255] {
        assert_eq!(flip(at), no("sealed link"), "byte {at}");
    }
    for at in [256, 300, length / 3, length / 2, length - 1] {
        assert_eq!(flip(at), no("sealed proof"), "byte {at}");
    }
    let cut = |end: usize| changed(&bundle, "cut", |folder| edit(folder, "sealed.bin", |bytes| bytes.truncate(end)));
    assert_eq!(verify(&cut(100), &lax), no("sealed encoding"));
    assert_eq!(verify(&cut(length - 32), &lax), no("sealed proof"));
    let longer = changed(&bundle, "longer", |folder| edit(folder, "sealed.bin", |bytes| bytes.push(0)));
    assert_eq!(verify(&longer, &lax), no("sealed proof"));

    // Another's proof, and files that do not go together.
    let thief = Seller::of_rank(folder.path().join("thief"), 72, 4);
    let theirs = thief.seal("bundle", &asked);
    let copy = |from: &Path, to: &Path, name: &str| {
        std::fs::copy(from.join(name), to.join(name)).unwrap();
    };
    let stolen = changed(&theirs, "stolen", |folder| copy(&bundle, folder, "sealed.bin"));
    assert_eq!(verify(&stolen, &["--any-input"]), no("sealed proof"));
    let both = changed(&bundle, "both", |folder| copy(&open, folder, "proof.bin"));
    assert_eq!(verify(&both, &lax), no("proof.bin"));
    let bare = changed(&bundle, "bare", |folder| std::fs::remove_file(folder.join("registration.bin")).unwrap());
    assert_eq!(verify(&bare, &lax), (2, "incomplete".to_owned()));

    // Nothing depends on the adapter but the points, of which no two proofs have one in common.
    let again = seller.seal("again", &asked);
    let sizes = [&bundle, &again, &theirs].map(|bundle| std::fs::metadata(bundle.join("sealed.bin")).unwrap().len());
    assert_eq!(sizes[0], sizes[1]);
    if statement(&theirs).len() == statement(&bundle).len() {
        assert_eq!(sizes[0], sizes[2]);
    }
    let [one, two] = [&bundle, &again].map(|bundle| parts(bundle).into_iter().collect::<BTreeSet<_>>());
    assert_eq!(one.len(), parts(&bundle).len(), "no part is there twice");
    assert_eq!(one.intersection(&two).count(), 0);
}

#[test]
fn choices_are_sealed_and_what_cannot_be_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let seller = Seller::of_rank(folder.path().join("seller"), 73, 2);
    let rows = folder.path().join("rows.jsonl");
    let row = |prompt: &str| format!("{{\"prompt\":[{{\"role\":\"user\",\"content\":\"{prompt}\"}}]}}\n");
    std::fs::write(&rows, row("Is Nora there?") + &row(PROMPT)).unwrap();
    let rows = rows.to_str().unwrap();
    let bundle = seller.seal("choice", &["--task", "choice", "--among", "40,41,77", "--rows", rows]);
    let lax = ["--expect-adapter", seller.digest.as_str(), "--any-input"];
    assert_eq!(verify(&bundle, &lax), (0, "valid".to_owned()));

    let out = seller.folder.join("refused");
    let refused = |asked: &[&str]| {
        let mut command = ftk(&["prove", "--base", "village", "--quiet", "--prompt", PROMPT]);
        command.args(asked).arg("--out").arg(&out).arg("--adapter").arg(seller.folder.join("adapter"));
        let output = command.arg("--commitment").arg(seller.folder.join("commitment")).output().unwrap();
        assert!(output.status.code() == Some(2) && !out.exists(), "{asked:?}");
        stderr(&output)
    };
    // What no answer changes is refused before there is one: nothing is proposed, run or proved.
    let said = refused(&["--task", "choice", "--among", "40,100000"]);
    assert!(said.contains("token id beyond the vocabulary: 100000"), "{said}");
    // What belongs to the other mode is asked for with it.
    assert!(refused(&["--disclose"]).contains("--open"));
}

/// A vocabulary of logits is a digest in a statement, the open one's, and comes along; no lie about it passes.
#[test]
fn logits_behind_a_digest_come_along() {
    let folder = tempfile::tempdir().unwrap();
    let seller = Seller::of_rank(folder.path().join("seller"), 80, 2);
    let asked = ["--task", "logits", "--prompt", PROMPT];
    let (bundle, open) = (seller.seal("sealed", &asked), seller.prove_with("open", &asked));
    let lax = ["--expect-adapter", seller.digest.as_str(), "--any-input"];
    let no = |check: &str| (1, check.to_owned());
    assert_eq!(verify(&bundle, &lax), (0, "valid".to_owned()));
    let read = |bundle: &Path, file: &str| std::fs::read(bundle.join(file)).unwrap();
    assert_eq!(read(&bundle, "statement.json"), read(&open, "statement.json"));
    let logits = |name: &str, change: &dyn Fn(&mut Vec<u8>)| {
        verify(&changed(&bundle, name, |folder| edit(folder, "logits.bin", change)), &lax)
    };
    let length = read(&bundle, "logits.bin").len();
    // What comes along is told.
    let said = succeed(ftk(&["verify", "--base", "village", "--quiet"]).arg(&bundle).args(lax));
    let count = bundle::packed(&bundle, &Limits::NONE).map(|sent| match sent.proof {
        Proof::Sealed { digested, .. } => digested.count(),
        Proof::Open { .. } => 0,
    });
    assert!(said.contains(&format!("and the {} logits of logits.bin; nothing else", count.unwrap())), "{said}");
    assert_eq!(logits("value", &|bytes| bytes[length - 4] ^= 1), no("logits digest"));
    assert_eq!(logits("cut", &|bytes| bytes.truncate(length - 4)), no("logits.bin"));
    assert_eq!(logits("longer", &|bytes| bytes.extend([0; 4])), no("logits.bin"));
    let without = changed(&bundle, "without", |folder| std::fs::remove_file(folder.join("logits.bin")).unwrap());
    assert_eq!(verify(&without, &lax), (2, "incomplete".to_owned()));
    let with = changed(&open, "with", |folder| {
        std::fs::copy(bundle.join("logits.bin"), folder.join("logits.bin")).unwrap();
    });
    assert_eq!(verify(&with, &lax), no("logits.bin"));
    // Another value, of which the statement has the digest.
    let forged = changed(&bundle, "forged", |folder| {
        let mut sent = bundle::packed(&bundle, &Limits::NONE).unwrap();
        let Proof::Sealed { digested, .. } = &mut sent.proof else { panic!("it is sealed") };
        digested.0[0][7] += 1;
        sent.statement.cases[0].output = Logits::of(&digested.0[0]).into();
        bundle::write_packed(&sent, folder).unwrap();
    });
    assert_eq!(verify(&forged, &lax), no("sealed proof"));
}

/// Of every task about log-probabilities: the statement is the open one's, and another number is refused.
#[test]
fn log_probabilities_are_sealed() {
    let folder = tempfile::tempdir().unwrap();
    let seller = Seller::of_rank(folder.path().join("seller"), 74, 2);
    let lax = ["--expect-adapter", seller.digest.as_str(), "--any-input"];
    let preference = ["--task", "preference", "--prompt", PROMPT, "--chosen", "At the mill.", "--rejected", "No."];
    let log_prob = ["--task", "logprob", "--prompt", PROMPT, "--continuation", "At the mill."];
    let (top, at_least) = (["--top", "3", "--prompt", PROMPT], ["--at-least", "40=0.001", "--prompt", PROMPT]);
    let expects = |bundle: &Path, more: &[&str]| {
        verify(bundle, &[&["--expect-adapter", &seller.digest, "--expect-input", PROMPT], more].concat())
    };
    let tasks: [(&str, &[&str], &str); 4] = [
        ("preference", &preference, "\"log_prob\": "),
        ("logprob", &log_prob, "\"log_prob\": "),
        ("top", &top, "\"log_prob\": "),
        ("at-least", &at_least, "\"holds\": "),
    ];
    for (name, asked, key) in tasks {
        let sealed = seller.seal(name, asked);
        assert_eq!(verify(&sealed, &lax), (0, "valid".to_owned()), "{name}");
        let open = seller.prove_with(&format!("{name}-open"), asked);
        let read = |bundle: &Path| std::fs::read_to_string(bundle.join("statement.json")).unwrap();
        assert_eq!(read(&sealed), read(&open), "{name}");
        let forged = changed(&sealed, name, |folder| {
            let statement = read(&sealed);
            let (before, after) = statement.split_once(key).unwrap();
            let (value, after) = after.split_at(after.find([',', '\n']).unwrap());
            let other = match value {
                "true" => "false".to_owned(),
                "false" => "true".to_owned(),
                number => (number.parse::<i64>().unwrap() + 1).to_string(),
            };
            std::fs::write(folder.join("statement.json"), format!("{before}{key}{other}{after}")).unwrap();
        });
        assert_eq!(verify(&forged, &lax), (1, "sealed proof".to_owned()), "{name}");
    } // Of one prompt it can be said how many there are to be, or which bound.
    let (top, at_least) = (seller.folder.join("top"), seller.folder.join("at-least"));
    assert_eq!(expects(&top, &["--expect-top", "3"]), (0, "valid".to_owned()));
    assert_eq!(expects(&top, &["--expect-top", "4"]), (1, "expected question".to_owned()));
    assert_eq!(expects(&top, &["--expect-task", "top"]), (2, "consistent".to_owned()));
    assert_eq!(expects(&at_least, &["--expect-at-least", "41=0.001"]), (1, "expected question".to_owned()));
    assert_ne!(expects(&at_least, &["--expect-at-least", "40=0.001"]).1, "consistent");
}

/// What a proof would take is told without making it, and is the arithmetic by which one is refused.
#[test]
fn what_a_proof_takes_is_told_before_and_held_to() {
    let folder = tempfile::tempdir().unwrap();
    let seller = Seller::of_rank(folder.path().join("seller"), 75, 2);
    let out = seller.folder.join("bundle");
    let prove = |more: &[&str]| {
        let mut command = ftk(&["prove", "--base", "village", "--json", "--prompt", PROMPT, "--among", "40,41,77"]);
        command.arg("--adapter").arg(seller.folder.join("adapter")).args(more);
        command.arg("--commitment").arg(seller.folder.join("commitment")).output().unwrap()
    };
    let told = |more: &[&str]| -> serde_json::Value {
        let output = prove(&[&["--dry-run"], more].concat());
        assert!(output.status.success(), "{}", stderr(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let (sealed, open) = (told(&[]), told(&["--open"]));
    assert!(!out.exists() && sealed["sealed"] == true && open["sealed"] == false);
    assert_eq!(sealed["rows"], open["rows"]);
    let of = |told: &serde_json::Value, key: &str| told["costs"][key].as_u64().unwrap();
    assert!(of(&open, "deltas") > 0 && of(&sealed, "cells") > 0);

    // One byte less than it takes is too little.
    let needs = of(&sealed, "prove_memory");
    let limited = |bytes: u64| prove(&["--out", out.to_str().unwrap(), "--max-memory", &bytes.to_string()]);
    let refused = limited(needs - 1);
    assert!(stderr(&refused).contains("the sealed proof needs some"), "{}", stderr(&refused));
    assert!(refused.status.code() == Some(2) && !out.exists());
    let made = limited(needs);
    assert!(made.status.success(), "{}", stderr(&made));
    let length = |name: &str| std::fs::metadata(out.join(name)).unwrap().len();
    let bytes: u64 = ["sealed.bin", "commitment.bin", "registration.bin"].map(length).iter().sum();
    assert!(of(&sealed, "bundle_bytes").abs_diff(bytes) < 8 << 10, "{sealed} {bytes}");

    // Of answers that are not known yet, the longest there may be.
    let longer = |max: &str| {
        let mut command = ftk(&["prove", "--base", "village", "--json", "--prompt", PROMPT, "--max-tokens", max]);
        command.arg("--dry-run").arg("--adapter").arg(seller.folder.join("adapter"));
        let said = succeed(command.arg("--commitment").arg(seller.folder.join("commitment")));
        of(&serde_json::from_str(&said).unwrap(), "cells")
    };
    assert!(longer("30") > longer("10"));
}

/// Every field of a statement and every file, changed alone or exchanged, is refused by the check that is there for it.
#[test]
fn every_field_and_every_file_is_held_to() {
    let folder = tempfile::tempdir().unwrap();
    let seller = Seller::of_rank(folder.path().join("seller"), 76, 2);
    let thief = Seller::of_rank(folder.path().join("thief"), 77, 2);
    let asked = ["--context", "buyer 7", "--max-tokens", "3", "--prompt"];
    let ask = |seller: &Seller, name: &str, prompt: &'static str| seller.seal(name, &[&asked[..], &[prompt]].concat());
    let bundle = ask(&seller, "bundle", PROMPT);
    let read = |folder: &Path| bundle::packed(folder, &Limits::NONE).unwrap();
    let [later, theirs] =
        [ask(&seller, "later", "Where does Elsa have the stall?"), ask(&thief, "bundle", PROMPT)].map(|it| read(&it));
    fn answer(statement: &mut Statement) -> &mut Completion {
        let Output::Completion(completion) = &mut statement.cases[0].output else { panic!("it is an answer") };
        completion
    }
    fn prompt(statement: &mut Statement) -> &mut Vec<u32> {
        let Input::Tokens(ids) = &mut statement.cases[0].input else { panic!("it is a prompt") };
        ids
    }
    type Forge<'a> = &'a dyn Fn(&mut PackedBundle);
    let table: [(&str, &str, Forge<'_>); 20] = [
        ("base", "base", &|it| it.statement.base.0[0] ^= 1),
        ("adapter", "adapter", &|it| it.statement.adapter.0[0] ^= 1),
        ("context", "sealed proof", &|it| it.statement.context[0] ^= 1),
        ("no context", "sealed proof", &|it| it.statement.context.clear()),
        ("prompt", "sealed proof", &|it| prompt(&mut it.statement)[0] ^= 1),
        ("shorter prompt", "sealed proof", &|it| {
            prompt(&mut it.statement).remove(0);
        }),
        ("boundary", "sealed proof", &|it| {
            let first = answer(&mut it.statement).ids.remove(0);
            prompt(&mut it.statement).push(first);
            answer(&mut it.statement).max_tokens -= 1;
        }),
        ("answer", "sealed proof", &|it| answer(&mut it.statement).ids[0] ^= 1),
        ("last of the answer", "sealed proof", &|it| *answer(&mut it.statement).ids.last_mut().unwrap() ^= 1),
        ("answer cut short", "statement", &|it| {
            answer(&mut it.statement).ids.pop();
        }),
        ("shorter answer", "sealed proof", &|it| {
            answer(&mut it.statement).ids.pop();
            answer(&mut it.statement).max_tokens -= 1;
        }),
        ("more were allowed", "statement", &|it| answer(&mut it.statement).max_tokens += 1),
        ("other ends", "stop rule", &|it| answer(&mut it.statement).stop_ids.push(700)),
        ("case twice", "sealed proof", &|it| {
            let again = it.statement.cases[0].clone();
            it.statement.cases.push(again);
        }),
        ("no case", "statement", &|it| it.statement.cases.clear()),
        ("another commitment", "adapter", &|it| it.commitment = theirs.commitment.clone()),
        ("another registration", "registration proof", &|it| it.registration = theirs.registration.clone()),
        ("another's proof", "sealed proof", &|it| it.proof = theirs.proof.clone()),
        ("the proof of another answer", "sealed proof", &|it| it.proof = later.proof.clone()),
        ("the statement of another answer", "sealed proof", &|it| it.statement = later.statement.clone()),
    ];
    let mut wrong = Vec::new();
    for (name, check, forge) in table {
        let mut content = read(&bundle);
        forge(&mut content);
        let out = folder.path().join("forged").join(name);
        bundle::write_packed(&content, &out).unwrap();
        let verdict = verify(&out, &["--any-input"]);
        if verdict != (1, check.to_owned()) {
            wrong.push((name, check, verdict));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    // The adapter is the other's in everything but the proof.
    let mut content = read(&bundle);
    content.commitment = theirs.commitment.clone();
    content.registration = theirs.registration.clone();
    content.statement.adapter = theirs.statement.adapter;
    let out = folder.path().join("forged/all but the proof");
    bundle::write_packed(&content, &out).unwrap();
    assert_eq!(verify(&out, &["--any-input"]), (1, "sealed proof".to_owned()));
}

/// What a bundle is as long as does not depend on adapter or answer, and no two have a point in common.
#[test]
fn lengths_tell_nothing_and_nothing_is_sent_twice() {
    let folder = tempfile::tempdir().unwrap();
    let sellers = [78, 79].map(|seed| Seller::of_rank(folder.path().join(seed.to_string()), seed, 3));
    let rows = folder.path().join("rows.jsonl");
    // What Elsa sells, what Nora does, and as many digits each.
    let among = (700..830).map(|id: u32| id.to_string()).collect::<Vec<_>>().join(",");
    let mut bundles = Vec::new();
    let mut answers = BTreeSet::new();
    for (number, name) in [550, 547].iter().enumerate() {
        let ids = [1, 268, 201, 551, 308, *name, 390, 33, 2, 201, 1, 269, 201, 283, 14];
        std::fs::write(&rows, serde_json::json!({ "prompt_ids": ids }).to_string()).unwrap();
        for seller in &sellers {
            let asked = ["--task", "choice", "--among", &among, "--rows", rows.to_str().unwrap()];
            let bundle = seller.seal(&number.to_string(), &asked);
            let statement = bundle::packed(&bundle, &Limits::NONE).unwrap().statement;
            let Output::Choice(choice) = &statement.cases[0].output else { panic!("it is a choice") };
            answers.insert(choice.chosen);
            bundles.push(bundle);
        }
    }
    assert!(answers.len() > 1, "answers differ: {answers:?}");
    let lengths: BTreeSet<Vec<u64>> = bundles
        .iter()
        .map(|bundle| {
            let of = |name: &str| std::fs::metadata(bundle.join(name)).unwrap().len();
            ["sealed.bin", "commitment.bin", "registration.bin", "statement.json"].map(of).to_vec()
        })
        .collect();
    assert_eq!(lengths.len(), 1, "{lengths:?}");
    let all: Vec<[u8; 32]> = bundles.iter().flat_map(|bundle| parts(bundle)).collect();
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len(), "a point or scalar was sent twice");
}
