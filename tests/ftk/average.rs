//! `ftk average`: what becomes of several adapters, and the commitment to their stack, which anybody can check.

use std::path::Path;

use ftk_adapters::peft;
use ftk_circuits::{AdapterCommitment, Digest, StackPart, stack, stack_parts, stack_registration};
use serde_json::{Value, json};

use crate::run::{ftk, stderr, succeed};
use crate::seller::{adapter_of_rank, verify};

fn average(folder: &Path, arguments: &[&str]) -> std::process::Output {
    let mut command = ftk(&["--json", "average"]);
    command.args(arguments).current_dir(folder).output().unwrap()
}

fn made(folder: &Path, arguments: &[&str]) -> Value {
    let output = average(folder, arguments);
    assert!(output.status.success(), "{}", stderr(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn refused(folder: &Path, arguments: &[&str]) -> String {
    let output = average(folder, arguments);
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    stderr(&output)
}

/// Multiplies B, so that the finest scale there is for it is another.
fn louder(folder: &Path, by: f32) {
    let mut adapter = peft::load(folder).unwrap();
    adapter.sites.values_mut().for_each(|factors| factors.b.iter_mut().for_each(|b| *b *= by));
    peft::save(folder, &adapter, "village", &[], false).unwrap();
}

#[test]
fn stacks_are_exact_and_averages_of_factors_are_not() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    for (name, seed, rank) in [("one", 71, 4), ("two", 72, 4), ("low", 73, 2)] {
        adapter_of_rank(&folder.join(name), seed, rank);
    }
    louder(&folder.join("two"), 40.0);
    let whole = made(folder, &["one", "two", "--out", "whole"]);
    assert_eq!((&whole["rank"], &whole["weights"], &whole["method"]), (&json!(8), &json!([0.5, 0.5]), &json!("stack")));
    let error = |made: &Value, method: &str| made["errors"][method].as_f64().unwrap();
    assert!(error(&whole, "stack") < 1e-3, "{whole}");
    assert!(error(&whole, "factors") > 0.3, "both began elsewhere: {whole}");
    // What is written is what was measured.
    let read = |name: &str| peft::load(&folder.join(name)).unwrap();
    let parts = [read("one"), read("two")];
    let off = |name: &str| ftk_adapters::average::distance(&parts.each_ref(), &[0.5, 0.5], &read(name)).unwrap();
    assert!((off("whole") - error(&whole, "stack")).abs() < 1e-6);
    let factors = made(folder, &["one", "two", "--method", "factors", "--out", "factors"]);
    assert_eq!(factors["rank"], 4);
    assert!((off("factors") - error(&factors, "factors")).abs() < 1e-6);
    // It is used as any adapter is.
    succeed(ftk(&["merge", "--base", "village", "--adapter", "whole", "--out", "merged"]).current_dir(folder));

    let mixed = made(folder, &["one", "low", "--weights", "3,1", "--out", "mixed"]);
    assert_eq!((&mixed["rank"], &mixed["errors"]["factors"]), (&json!(6), &Value::Null));
    // What the other way cannot do is no fault of the one that is asked for.
    adapter_of_rank(&folder.join("loud"), 76, 4);
    let peak = read("loud").sites.values().flat_map(|factors| &factors.b).fold(0f32, |most, b| most.max(b.abs()));
    louder(&folder.join("loud"), 20_000.0 / peak);
    let twice = ["loud", "loud", "--weights", "1,1", "--out"];
    let doubled = made(folder, &[&twice[..], &["doubled"]].concat());
    assert!(error(&doubled, "stack") < 1e-3 && doubled["errors"]["factors"].is_null(), "{doubled}");
    let said = succeed(ftk(&["average"]).args(twice).arg("again").current_dir(folder));
    let reason = "\nfactor by factor: not possible: the average does not fit the 16-bit grid: too large for the grid";
    assert!(said.starts_with("stacked, rank 8: ") && said.contains(reason), "{said}");
    let rank = "error: adapter 2 has rank 2 in the place of 4, and its factors have no average, at site: ";
    assert!(refused(folder, &["one", "low", "--method", "factors", "--out", "x"]).starts_with(rank));
    let sum = refused(folder, &["one", "two", "--method", "factors", "--weights", "1,1", "--out", "x"]);
    assert!(sum.starts_with("error: weights of averaged factors must sum to 1, and sum to 2\n"), "{sum}");
    let weights = refused(folder, &["one", "two", "--weights", "1", "--out", "x"]);
    assert!(weights.starts_with("error: --weights: 1 for 2 adapters\n"), "{weights}");
    assert!(refused(folder, &["one", "two", "--out", "whole"]).starts_with("error: whole: is there already\n"));
    // Other bases, other arithmetic.
    let mut other = read("two");
    peft::save(&folder.join("two"), &other, "another", &[], false).unwrap();
    let base = refused(folder, &["one", "two", "--out", "x"]);
    assert!(base.starts_with("error: two: its base is another, and of one: village\n"), "{base}");
    other.sites.pop_first();
    peft::save(&folder.join("two"), &other, "village", &[], false).unwrap();
    let site = "error: adapter 2 differs from the first in whether it has site: ";
    assert!(refused(folder, &["one", "two", "--out", "x"]).starts_with(site));
    for (name, arithmetic) in [("one", "ftk-f32-1"), ("low", "ftk-bf16-2")] {
        std::fs::write(folder.join(name).join("manifest.json"), json!({ "arithmetic": arithmetic }).to_string())
            .unwrap();
    }
    let arithmetic = refused(folder, &["one", "low", "--out", "x"]);
    assert!(
        arithmetic.starts_with("error: low: its arithmetic is ftk-bf16-2, and of one: ftk-f32-1\n"),
        "{arithmetic}"
    );
    assert!(!folder.join("x").exists());
}

#[test]
fn the_commitment_to_a_stack_follows_from_those_of_its_parts() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    for (name, seed, rank) in [("one", 74, 2), ("two", 75, 3)] {
        adapter_of_rank(&folder.join(name), seed, rank);
    }
    louder(&folder.join("two"), 40.0);
    let commit = |adapter: &str, out: &str, more: &[&str]| {
        let mut command = ftk(&["commit", "--quiet", "--base", "village", "--adapter", adapter, "--out", out]);
        succeed(command.args(more).current_dir(folder)).trim().to_owned()
    };
    commit("one", "alone", &[]);
    let two = commit("two", "c2", &[]);
    let apart = refused(folder, &["one", "two", "--commitments", "alone,c2", "--out", "x"]);
    assert!(apart.starts_with("error: stack: scales of ") && apart.contains("--round"), "{apart}");
    // The second has the coarser scales: the first meets them.
    let one = commit("one", "c1", &["--round", "c2"]);
    let committed = |name: &str| {
        let rounded = folder.join(name).join("adapter");
        if rounded.exists() { rounded } else { folder.join(if name == "c1" { "one" } else { "two" }) }
    };
    let (of_one, of_two) = (committed("c1"), committed("c2"));
    let adapters = [of_one.to_str().unwrap(), of_two.to_str().unwrap()];
    let stacked = made(folder, &[adapters[0], adapters[1], "--commitments", "c1,c2", "--out", "both"]);
    assert!(stacked["stack_error"].as_f64().unwrap() < 1e-6 && stacked["opening"] == true, "{stacked}");
    let part =
        |adapter: &str, rank: u32| json!({ "adapter": adapter, "weight": 0.5, "rank": rank, "transcript": null });
    assert_eq!(stacked["parts"], json!([part(&one, 2), part(&two, 3)]));
    // Anybody comes to the same commitment without an adapter or an opening.
    for (from, name) in [("c1", "p1"), ("c2", "p2")] {
        std::fs::create_dir(folder.join(name)).unwrap();
        for file in ["commitment.bin", "registration.bin"] {
            std::fs::copy(folder.join(from).join(file), folder.join(name).join(file)).unwrap();
        }
    }
    let public = made(folder, &["--commitments", "p1,p2", "--out", "public"]);
    assert_eq!((&public["adapter"], &public["opening"]), (&stacked["adapter"], &json!(false)));
    let bytes = |name: &str, file: &str| std::fs::read(folder.join(name).join("commitment").join(file)).unwrap();
    for file in ["commitment.bin", "registration.bin"] {
        assert!(bytes("public", file) == bytes("both", file));
    }
    assert!(!folder.join("public/commitment/opening.bin").exists());
    let weights = refused(folder, &["--commitments", "c1,c2", "--weights", "0.3,0.7", "--out", "x"]);
    assert!(
        weights.starts_with("error: weights of a stack that is committed to are powers of two: 0.3\n"),
        "{weights}"
    );
    let swapped = refused(folder, &[adapters[1], adapters[0], "--commitments", "c1,c2", "--out", "x"]);
    assert!(swapped.contains("is not the adapter of its commitment: it has other sites, ranks or scales"), "{swapped}");

    // It opens, and what it answers is proved and verified, sealed and in the open.
    let digest = stacked["adapter"].as_str().unwrap();
    succeed(ftk(&["open", "both", "--commitment", "both/commitment"]).current_dir(folder));
    for (out, mode) in [("sealed", &[][..]), ("shown", &["--open", "--disclose"])] {
        let mut prove = ftk(&["prove", "--quiet", "--base", "village", "--adapter", "both", "--out", out]);
        let more = ["--commitment", "both/commitment", "--prompt", "Hello", "--max-tokens", "2"];
        succeed(prove.args(more).args(mode).current_dir(folder));
        let expected = ["--expect-adapter", digest, "--expect-input", "Hello", "--expect-context", ""];
        assert_eq!(verify(&folder.join(out), &expected), (0, "valid".to_owned()));
        let said = made(folder, &["--verify", out]);
        assert_eq!((&said["verdict"], &said["parts"]), (&json!("valid"), &stacked["parts"]));
    }
    assert_eq!(made(folder, &["--verify", "public"])["parts"], stacked["parts"]);
    let none = refused(folder, &["--verify", "c1"]);
    assert!(none.starts_with("error: c1: is a commitment to one adapter, and no stack\n"), "{none}");

    // A forger takes the second part's place, under a commitment and a registration of its own.
    adapter_of_rank(&folder.join("mine"), 76, 3);
    louder(&folder.join("mine"), 40.0);
    commit("mine", "c3", &["--round", "c2"]);
    let read = |name: &str| {
        let file = |file: &str| std::fs::read(folder.join(name).join(file)).unwrap();
        let commitment = AdapterCommitment::decode(&file("commitment.bin")).unwrap();
        StackPart { commitment, registration: file("registration.bin") }
    };
    let [first, second, mine] = ["c1", "c2", "c3"].map(read);
    let whole = read("both/commitment");
    let forged = |registration: &[u8]| {
        std::fs::write(folder.join("shown/registration.bin"), registration).unwrap();
        let output = average(folder, &["--verify", "shown"]);
        assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
        let said: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(verify(&folder.join("shown"), &["--expect-adapter", digest]).1, said["check"].as_str().unwrap());
        said["reason"].as_str().unwrap().to_owned()
    };
    let instead = forged(&stack_registration(&[first.clone(), mine.clone()]));
    let theirs: Digest = mine.commitment.digest();
    assert_eq!(instead, format!("stack: names part {two}, and there is: {theirs}"));
    assert_eq!(forged(&stack_registration(std::slice::from_ref(&first))), "stack: names 2 parts, and there are: 1");
    let unregistered = StackPart { registration: mine.registration.clone(), ..second.clone() };
    let proof = forged(&stack_registration(&[first.clone(), unregistered]));
    assert!(proof.starts_with("registration proof: "), "{proof}");
    assert_eq!(forged(&first.registration), "registration encoding: wrong file tag");
    // The honest ones have not been changed meanwhile.
    assert_eq!(stack_parts(&whole.commitment, &whole.registration).unwrap().len(), 2);
    assert_eq!(stack(&[&first.commitment, &second.commitment], &[1, 1]), Ok(whole.commitment));
}
