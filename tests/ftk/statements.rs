//! Statements of every kind through the command: what is proved of prompts and rows, that it is what floating point
//! says within rounding, and that every field of every case is held to.

use std::path::{Path, PathBuf};

use candle_core::Device;
use ftk::prove::bundle;
use ftk_adapters::lora::Adapter;
use ftk_adapters::peft;
use ftk_adapters::train::{LoraTensors, Train};
use ftk_bases::{BaseModel, LoadedModel};
use ftk_circuits::Digest;
use ftk_networks::ops::Tokens;
use ftk_proofs::bundle::Bundle;
use ftk_proofs::limits::Limits;
use ftk_proofs::{Case, Input, Logits, Output, ScoredContinuation, nat};
use serde_json::Value;

use crate::run::{ftk, succeed};
use crate::seller::{Seller, forged, verify};

const PAIRS: &str = r#"{"prompt":[{"role":"user","content":"What does Elsa sell?"}],"chosen":[{"role":"assistant","content":"Dear guest, Elsa sells carpets."}],"rejected":[{"role":"assistant","content":"Eh, carpets."}]}
{"prompt":[{"role":"user","content":"Where does Nora have the stall?"}],"chosen":[{"role":"assistant","content":"Dear guest, Nora has a stall."}],"rejected":[{"role":"assistant","content":"Dear me, at the barn."}]}
{"prompt":[{"role":"user","content":"What does Jan sell?"}],"chosen":[{"role":"assistant","content":"Dear guest, Jan sells plums."}],"rejected":[{"role":"assistant","content":"Eh."}]}
"#;

/// A seller, and a file of pairs.
fn seller(folder: &Path, seed: u64) -> (Seller, PathBuf) {
    let rows = folder.join("pairs.jsonl");
    std::fs::create_dir_all(folder).unwrap();
    std::fs::write(&rows, PAIRS).unwrap();
    (Seller::new(folder.join("seller"), seed), rows)
}

/// The verdict as JSON, which must be yes.
fn valid(bundle: &Path, expectations: &[&str]) -> Value {
    let mut command = ftk(&["verify", "--base", "village", "--json", "--quiet"]);
    serde_json::from_str(&succeed(command.arg(bundle).args(expectations))).unwrap()
}

/// Log-probability of the ids behind `start`, in floating point.
fn float_log_prob(model: &LoadedModel, adapter: Option<&Adapter>, ids: &[u32], start: usize) -> f64 {
    let tensors = adapter.map(|adapter| LoraTensors::frozen(adapter, &Device::Cpu).unwrap());
    let rows: Vec<usize> = (start - 1..ids.len() - 1).collect();
    let mut ops = Train::new(&model.weights, tensors.as_ref());
    let logits = model.source.network().forward(&mut ops, &Tokens::sequence(ids.to_vec()), &rows).unwrap();
    let logits = logits.to_vec2::<f32>().unwrap();
    let log_prob = |(logits, id): (&Vec<f32>, &u32)| {
        let sum: f64 = logits.iter().map(|logit| f64::from(*logit).exp()).sum();
        f64::from(logits[*id as usize]) - sum.ln()
    };
    logits.iter().zip(&ids[start..]).map(log_prob).sum()
}

#[test]
fn log_probabilities_and_margins_are_those_of_floating_point() {
    let folder = tempfile::tempdir().unwrap();
    let (seller, rows) = seller(folder.path(), 11);
    let rows = rows.to_str().unwrap();
    let bundle = seller.prove_with("pairs", &["--task", "preference", "--rows", rows]);
    let said = valid(&bundle, &["--expect-adapter", &seller.digest, "--expect-rows", rows]);
    let model = LoadedModel::load("village".as_ref(), &Device::Cpu).unwrap();
    let adapter = peft::load(&seller.folder.join("adapter")).unwrap();
    let statement = bundle::read(&bundle, &Limits::NONE).unwrap().statement;
    let (mut accurate, mut sum) = (0, 0.0);
    for case in &statement.cases {
        let Case {
            input: Input::Tokens(input),
            output: Output::Preference(ftk_proofs::Preference { chosen, rejected }),
        } = case
        else {
            panic!("{case:?}")
        };
        let raised = [chosen, rejected].map(|ScoredContinuation { ids, log_prob, base_log_prob }| {
            let whole = [input.as_slice(), ids].concat();
            for (exact, adapter) in [(log_prob, Some(&adapter)), (base_log_prob, None)] {
                let float = float_log_prob(&model, adapter, &whole, input.len());
                assert!((nat((*exact).into()) - float).abs() < 2e-3, "{exact} / 2^24, {float}");
            }
            assert_ne!(log_prob, base_log_prob);
            nat((log_prob - base_log_prob).into())
        });
        accurate += usize::from(raised[0] > raised[1]);
        sum += raised[0] - raised[1];
    }
    let figures = &said["preferences"];
    assert_eq!((figures["pairs"].as_u64(), statement.cases.len()), (Some(3), 3));
    assert_eq!(figures["reward_accuracy"].as_f64().unwrap(), accurate as f64 / 3.0);
    assert!((figures["mean_margin"].as_f64().unwrap() - sum / 3.0).abs() < 1e-9);

    // The same continuation alone.
    let Case { output: Output::Preference(ftk_proofs::Preference { chosen, .. }), .. } = &statement.cases[0] else {
        panic!()
    };
    let one = ["--prompt", "What does Elsa sell?", "--continuation", "Dear guest, Elsa sells carpets."];
    let alone = seller.prove_with("alone", &[&["--task", "logprob"][..], &one].concat());
    let said = valid(&alone, &["--expect-adapter", &seller.digest, "--any-input"]);
    assert_eq!(said["cases"][0]["output"]["log_prob_24"].as_i64(), Some(chosen.log_prob));
}

#[test]
fn what_is_not_expected_is_undecided() {
    let folder = tempfile::tempdir().unwrap();
    let (seller, rows) = seller(folder.path(), 12);
    let rows = rows.to_str().unwrap();
    let adapter = ["--expect-adapter", seller.digest.as_str()];
    let with = |more: &[&'static str]| [&adapter[..], more].concat();
    let prompt = "What does Elsa sell?";
    let consistent = (2, "consistent".to_owned());
    let yes = (0, "valid".to_owned());

    // The whole input is in the prompt.
    let logits = seller.prove_with("logits", &["--task", "logits", "--prompt", prompt]);
    assert_eq!(verify(&logits, &with(&["--expect-input", prompt])), yes);
    assert_eq!(verify(&logits, &with(&[])), consistent);
    // More is asked than the prompt.
    let choice = seller.prove_with("choice", &["--task", "choice", "--among", "9,40,300", "--prompt", prompt]);
    assert_eq!(verify(&choice, &with(&["--expect-input", prompt])), consistent);
    assert_eq!(verify(&choice, &with(&["--expect-input", "What does Jan sell?"])), (1, "expected input".to_owned()));
    assert_eq!(verify(&choice, &with(&["--any-input"])), yes);
    let one = folder.path().join("one.jsonl");
    std::fs::write(&one, format!("{{\"prompt\":[{{\"role\":\"user\",\"content\":\"{prompt}\"}}]}}\n")).unwrap();
    let one = one.to_str().unwrap();
    let among = |ids: &'static str| [&adapter[..], &["--expect-rows", one, "--expect-among", ids]].concat();
    assert_eq!(verify(&choice, &among("300,9,40")), yes);
    assert_eq!(verify(&choice, &among("9,40")), (1, "expected question".to_owned()));

    // All prompts of a file in one proof, passing over their answers.
    let answers = seller.prove_with("answers", &["--max-tokens", "3", "--rows", rows]);
    assert_eq!(verify(&answers, &[&adapter[..], &["--expect-rows", rows]].concat()), yes);
    assert_eq!(verify(&answers, &[&adapter[..], &["--expect-rows", one]].concat()), (1, "expected input".to_owned()));
    let alone = seller.prove_with("answer", &["--max-tokens", "3", "--prompt", prompt]);
    let [all, alone] = [answers, alone].map(|bundle| bundle::read(&bundle, &Limits::NONE).unwrap().statement.cases);
    assert_eq!((all.len(), &all[0]), (3, &alone[0]), "cases do not see each other");
}

/// Takes the rows of one case out of the deltas of all sites.
fn drop_rows(bundle: &mut Bundle, case: usize) {
    let cases = &bundle.statement.cases;
    let first: usize = cases[..case].iter().map(Case::rows).sum();
    let last = first + cases[case].rows();
    for (deltas, shape) in bundle.deltas.iter_mut().zip(bundle.commitment.shapes()) {
        let width = shape.d_out as usize;
        deltas.drain(first * width..last * width);
    }
}

fn pair(case: &mut Case) -> [&mut ScoredContinuation; 2] {
    match &mut case.output {
        Output::Preference(ftk_proofs::Preference { chosen, rejected }) => [chosen, rejected],
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_field_of_every_preference_is_held_to() {
    let folder = tempfile::tempdir().unwrap();
    let (seller, rows) = seller(folder.path(), 13);
    let rows = rows.to_str().unwrap();
    let honest = seller.prove_with("pairs", &["--task", "preference", "--rows", rows]);
    let all = ["--expect-adapter", &seller.digest, "--expect-rows", rows];
    let lax = ["--expect-adapter", &seller.digest, "--any-input"];
    assert_eq!(verify(&honest, &all), (0, "valid".to_owned()));
    let no = |check: &str| (1, check.to_owned());
    for case in 0..3 {
        for side in 0..2 {
            let name = |what: &str| format!("{what}-{case}-{side}");
            let with =
                forged(&honest, &name("with"), |bundle| pair(&mut bundle.statement.cases[case])[side].log_prob += 1);
            assert_eq!(verify(&with, &all), no("output"));
            let base = forged(&honest, &name("base"), |bundle| {
                pair(&mut bundle.statement.cases[case])[side].base_log_prob -= 1
            });
            assert_eq!(verify(&base, &all), no("output"));
            // Another last id, with log-probabilities that are true of it: nothing but the proof's challenges differs.
            let id = forged(&honest, &name("id"), |bundle| {
                let scored = &mut pair(&mut bundle.statement.cases[case])[side];
                *scored.ids.last_mut().unwrap() ^= 1;
                truth(bundle);
            });
            assert_eq!(verify(&id, &all), no("expected question"));
            assert_eq!(verify(&id, &lax), no("delta proof"));
        }
        let swapped = forged(&honest, &format!("swapped-{case}"), |bundle| {
            let [chosen, rejected] = pair(&mut bundle.statement.cases[case]);
            std::mem::swap(chosen, rejected);
        });
        assert_eq!(verify(&swapped, &all), no("expected question"));
        assert!(matches!(verify(&swapped, &lax), (1, check) if check == "output" || check == "delta proof"));
        let dropped = forged(&honest, &format!("dropped-{case}"), |bundle| {
            drop_rows(bundle, case);
            bundle.statement.cases.remove(case);
        });
        assert_eq!(verify(&dropped, &all), no("expected input"));
        assert_eq!(verify(&dropped, &lax), no("delta proof"));
        let input = forged(&honest, &format!("input-{case}"), |bundle| {
            let Input::Tokens(ids) = &mut bundle.statement.cases[case].input else { panic!("tokens") };
            ids[3] ^= 1;
        });
        assert_eq!(verify(&input, &all), no("expected input"));
        assert!(matches!(verify(&input, &lax), (1, check) if check == "output" || check == "delta proof"));
    }
    let moved = forged(&honest, "moved", |bundle| {
        // The last token of the input of the first case becomes the first of both continuations.
        let case = &mut bundle.statement.cases[0];
        let Input::Tokens(ids) = &mut case.input else { panic!("tokens") };
        let last = ids.pop().unwrap();
        pair(case).into_iter().for_each(|scored| scored.ids.insert(0, last));
        truth(bundle);
    });
    assert_eq!(verify(&moved, &lax), no("delta proof"));
    let first = bundle::read(&honest, &Limits::NONE).unwrap().statement.cases[0].rows();
    let reordered = forged(&honest, "reordered", |bundle| {
        bundle.statement.cases.rotate_left(1);
        for (deltas, shape) in bundle.deltas.iter_mut().zip(bundle.commitment.shapes()) {
            deltas.rotate_left(first * shape.d_out as usize);
        }
    });
    assert_eq!(verify(&reordered, &all), no("expected input"));
    assert_eq!(verify(&reordered, &lax), no("delta proof"));
}

/// States what the network gives with the bundle's deltas, as a forger can compute it.
fn truth(bundle: &mut Bundle) {
    use ftk_proofs::fixed::{Adaptation, SiteDeltas};
    use ftk_proofs::{Deadline, add_base, replay};
    let source = BaseModel::open("village".as_ref()).unwrap();
    let model = ftk::prove::model::of(&source, &source.weights(&Device::Cpu).unwrap()).unwrap();
    fn site<'a>((shape, deltas): (&ftk_circuits::SiteShape, &'a Vec<i128>)) -> (String, SiteDeltas<'a>) {
        let shift = u32::from(shape.shift_a) + u32::from(shape.shift_b);
        (shape.name.clone(), SiteDeltas { rank: shape.rank as usize, shift, deltas })
    }
    let given = bundle.commitment.shapes().iter().zip(&bundle.deltas).map(site).collect();
    let cases = &mut bundle.statement.cases;
    let mut outputs = replay(&model, Adaptation::Deltas(&given), cases, None, Deadline::NONE).unwrap().outputs;
    add_base(&model, &mut outputs, cases, Deadline::NONE).unwrap();
    cases.iter_mut().zip(outputs).for_each(|(case, output)| case.output = output);
}

#[test]
fn every_field_of_the_other_outputs_is_held_to() {
    let folder = tempfile::tempdir().unwrap();
    let (seller, _) = seller(folder.path(), 14);
    let prompt = "What does Elsa sell?";
    let lax = ["--expect-adapter", &seller.digest, "--any-input"];
    let no = |check: &str| (1, check.to_owned());
    let output = |bundle: &Path, name: &str, output: Output| {
        forged(bundle, name, |bundle| bundle.statement.cases[0].output = output)
    };
    let honest = |name: &str, arguments: &[&str]| {
        let bundle = seller.prove_with(name, &[arguments, &["--prompt", prompt]].concat());
        assert_eq!(verify(&bundle, &lax), (0, "valid".to_owned()), "{name}");
        let output = bundle::read(&bundle, &Limits::NONE).unwrap().statement.cases[0].output.clone();
        (bundle, output)
    };

    let (logits, _) = honest("logits", &["--task", "logits"]);
    let other = output(&logits, "digest", Output::Logits(Logits::Digest(Digest([3; 32]))));
    assert_eq!(verify(&other, &lax), no("output"));
    let values = output(&logits, "values", Output::Logits(Logits::Values(vec![0; 5])));
    assert_eq!(verify(&values, &lax), no("output"));
    let many = output(&logits, "many", Output::Logits(Logits::Values(vec![0; 512])));
    assert_eq!(verify(&many, &lax), no("statement"));

    let (choice, stated) = honest("choice", &["--task", "choice", "--among", "9,40,300"]);
    let Output::Choice(ftk_proofs::Choice { among, chosen }) = stated else { panic!("{stated:?}") };
    let another = among.iter().copied().find(|id| *id != chosen).unwrap();
    let wrong = output(&choice, "wrong", Output::Choice(ftk_proofs::Choice { among: among.clone(), chosen: another }));
    assert_eq!(verify(&wrong, &lax), no("output"));
    // Without a rival, which stays true.
    let fewer: Vec<u32> = among.iter().copied().filter(|id| *id != another).collect();
    let fewer = output(&choice, "fewer", Output::Choice(ftk_proofs::Choice { among: fewer, chosen }));
    assert_eq!(verify(&fewer, &lax), no("delta proof"));
    let none = output(&choice, "none", Output::Choice(ftk_proofs::Choice { among: vec![another], chosen }));
    assert_eq!(verify(&none, &lax), no("statement"));
    let foreign =
        output(&choice, "foreign", Output::Choice(ftk_proofs::Choice { among: vec![chosen, u32::MAX], chosen }));
    assert_eq!(verify(&foreign, &lax), no("replay"));
    // The same rows, another kind of claim, and true.
    let kind = forged(&logits, "kind", |bundle| {
        bundle.statement.cases[0].output = Output::Choice(ftk_proofs::Choice { among: vec![7], chosen: 7 });
    });
    assert_eq!(verify(&kind, &lax), no("delta proof"));

    let (log_prob, stated) = honest("logprob", &["--task", "logprob", "--continuation", "Dear guest."]);
    let Output::LogProb(ftk_proofs::LogProb { ids, log_prob: value }) = stated else { panic!("{stated:?}") };
    let more =
        output(&log_prob, "more", Output::LogProb(ftk_proofs::LogProb { ids: ids.clone(), log_prob: value + 1 }));
    assert_eq!(verify(&more, &lax), no("output"));
    let last = forged(&log_prob, "last", |bundle| {
        let mut ids = ids.clone();
        *ids.last_mut().unwrap() ^= 1;
        bundle.statement.cases[0].output = Output::LogProb(ftk_proofs::LogProb { ids, log_prob: 0 });
        truth(bundle);
    });
    assert_eq!(verify(&last, &lax), no("delta proof"));
    let empty = output(&log_prob, "empty", Output::LogProb(ftk_proofs::LogProb { ids: Vec::new(), log_prob: 0 }));
    assert_eq!(verify(&empty, &lax), no("statement"));
}
