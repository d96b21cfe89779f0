//! The likeliest ids behind a prompt: what is proved is what floating point says within rounding, and each of its
//! checks refuses what it is there for.

use std::path::Path;

use ftk_proofs::bundle::Bundle;
use ftk_proofs::limits::Limits;
use ftk_proofs::{Output, Top};

use ftk::prove::bundle;

use crate::run::{ftk, stderr, succeed};
use crate::seller::{Seller, forged, verify};

const PROMPT: &str = "Where does Nora have the stall?";

fn likeliest(bundle: &mut Bundle) -> &mut Top {
    match &mut bundle.statement.cases[0].output {
        Output::Top(top) => top,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_likeliest_ids_are_proved_and_every_field_is_held_to() {
    let folder = tempfile::tempdir().unwrap();
    let seller = Seller::new(folder.path().join("seller"), 61);
    let rows = folder.path().join("prompts.jsonl");
    std::fs::write(&rows, format!("{{\"prompt\":[{{\"role\":\"user\",\"content\":\"{PROMPT}\"}}]}}\n")).unwrap();
    let rows = rows.to_str().unwrap();
    let prove = |name: &str, count: &str| seller.prove_with(name, &["--task", "top", "--top", count, "--rows", rows]);
    // An option of one task says which it is.
    let (bundle, six) = (prove("five", "5"), seller.prove_with("six", &["--top", "6", "--rows", rows]));
    let lax = ["--expect-adapter", seller.digest.as_str(), "--any-input"];
    let all = ["--expect-adapter", seller.digest.as_str(), "--expect-rows", rows, "--expect-top", "5"];
    let no = |check: &str| (1, check.to_owned());
    assert_eq!(verify(&bundle, &all), (0, "valid".to_owned()));
    assert_eq!(verify(&bundle, &lax), (0, "valid".to_owned()));
    assert_eq!(verify(&bundle, &all[..4]), (2, "consistent".to_owned()), "how many was not said");
    assert_eq!(verify(&six, &all), no("expected question"));

    // The first of them is the greedy answer's, and the list goes on.
    let read = |bundle: &Path| likeliest(&mut bundle::read(bundle, &Limits::NONE).unwrap()).likeliest.clone();
    let (five, six) = (read(&bundle), read(&six));
    let answer = seller.prove_with("answer", &["--max-tokens", "1", "--rows", rows]);
    let answer = bundle::read(&answer, &Limits::NONE).unwrap();
    let Output::Completion(answer) = &answer.statement.cases[0].output else { panic!("a completion") };
    assert_eq!((five[0].id, five.len(), &six[..5]), (answer.ids[0], 5, &five[..]));
    let said = succeed(ftk(&["verify", "--base", "village", "--quiet"]).arg(&bundle).args(lax));
    assert!(said.contains("as likeliest, with log-probabilities, "), "{said}");

    let forge = |name: &str, change: &dyn Fn(&mut Top)| {
        verify(&forged(&bundle, name, |bundle| change(likeliest(bundle))), &lax)
    };
    assert_eq!(forge("id", &|top| top.likeliest[4].id ^= 1), no("output"));
    assert_eq!(forge("last", &|top| top.likeliest[4] = six[5]), no("output"));
    assert_eq!(forge("order", &|top| top.likeliest.swap(1, 2)), no("statement"));
    assert_eq!(forge("likelier", &|top| top.likeliest[0].log_prob += 1), no("output"));
    assert_eq!(forge("less likely", &|top| top.likeliest[4].log_prob -= 1), no("output"));
    // True, and another claim than was proved.
    assert_eq!(forge("fewer", &|top| top.likeliest.truncate(4)), no("delta proof"));
    assert_eq!(forge("more", &|top| top.likeliest.push(six[5])), no("delta proof"));
    assert_eq!(forge("none", &|top| top.likeliest.clear()), no("statement"));

    // And one of another is not passed over.
    let arguments =
        ["--adapter", "a", "--commitment", "c", "--out", "o", "--rows", rows, "--task", "logits", "--top", "5"];
    let output = ftk(&["prove", "--base", "village"]).args(arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let message =
        "error: --top is of the task top, and logits was asked for\nhint: give one --task with its own options\n";
    assert_eq!(stderr(&output), message);

    // How many is to be said, and said where it can be compared.
    for (arguments, message) in [
        (&["--expect-top", "5", "--any-input"][..], "--expect-top"),
        (
            &["--expect-rows", rows, "--expect-top", "5", "--expect-task", "logits"],
            "--expect-top is about another task",
        ),
    ] {
        let output = ftk(&["verify", "--base", "village"]).arg(&bundle).args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(stderr(&output).contains(message), "{}", stderr(&output));
    }
}
