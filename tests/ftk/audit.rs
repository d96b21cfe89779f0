//! Runs that are audited from outside, in full and by samples; the checks themselves are tested beside them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::run::{ftk, stderr, succeed};

fn recipe(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes").join(name)
}

fn train(recipe: &Path, out: &Path, set: &[&str]) -> Command {
    let mut command = ftk(&["train", "--quiet"]);
    command.arg(recipe).arg("--out").arg(out);
    command.args(self::set(set));
    command
}

/// The exit code of an audit, and what it says as JSON.
fn audit(run: &Path, arguments: &[&str]) -> (i32, Value) {
    let output = ftk(&["--json", "--quiet", "audit"]).arg(run).args(arguments).output().unwrap();
    let said = serde_json::from_slice(&output.stdout);
    let said = said.unwrap_or_else(|error| panic!("{error}: {}", stderr(&output)));
    (output.status.code().unwrap(), said)
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Bytes of tensors by name.
type Tensors = BTreeMap<String, Vec<u8>>;

/// The tensors of an adapter, and the metadata of its file.
fn adapter(run: &Path) -> (Tensors, Vec<(String, String)>) {
    let bytes = std::fs::read(run.join("adapter_model.safetensors")).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let tensors = file.tensors().into_iter().map(|(name, view)| (name, view.data().to_vec())).collect();
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    let mut metadata: Vec<_> = header.metadata().clone().unwrap().into_iter().collect();
    metadata.sort();
    (tensors, metadata)
}

/// Eight steps on pairs of the village.
const PAIRS: [&str; 5] =
    ["run.steps=8", "run.batch=2", "run.state_every=3", "run.eval_every=4", "optim.warmup_steps=1"];

/// A recipe on the first pairs of the village.
fn pairs(folder: &Path) -> PathBuf {
    let rows = std::fs::read_to_string(recipe("text/village/dpo.jsonl")).unwrap();
    std::fs::write(folder.join("dpo.jsonl"), rows.split_inclusive('\n').take(12).collect::<String>()).unwrap();
    let text = std::fs::read_to_string(recipe("text/dpo.toml")).unwrap();
    let path = folder.join("dpo.toml");
    let text = text.replace("village/dpo.jsonl", "dpo.jsonl").replace("village/heldout.jsonl", "dpo.jsonl");
    std::fs::write(&path, text).unwrap();
    path
}

#[test]
fn a_run_on_pairs_follows_in_full_by_steps_and_by_what_is_drawn() {
    let folder = tempfile::tempdir().unwrap();
    let (run, recipe) = (folder.path().join("run"), pairs(folder.path()));
    succeed(&mut train(&recipe, &run, &PAIRS));
    let root = json(&run.join("manifest.json"))["transcript"].as_str().unwrap().to_owned();
    let (tensors, metadata) = adapter(&run);
    assert_eq!(metadata, [("format".to_owned(), "pt".to_owned()), ("ftk_transcript".to_owned(), root.clone())]);

    let (code, all) = audit(&run, &["--expect-root", &root]);
    assert_eq!((code, &all["verdict"], all["computed"].as_array().unwrap().len()), (0, &"follows".into(), 8), "{all}");
    assert_eq!(all["result"]["compared"], serde_json::json!(["adapter_model.safetensors", "adapter_config.json"]));
    assert_eq!(all["kept"], serde_json::json!([3, 6, 8]));
    // The reference's figures are computed anew, for these steps alone.
    let (code, some) = audit(&run, &["--step", "5", "--step", "7"]);
    assert_eq!((code, &some["computed"]), (0, &serde_json::json!([4, 5, 7])), "{some}");
    let drawn = |nonce: &str| audit(&run, &["--sample", "2", "--nonce", nonce]).1["computed"].clone();
    assert_eq!(drawn("ours"), drawn("ours"));
    let (code, none) = audit(&run, &["--no-steps"]);
    assert_eq!((code, &none["computed"]), (0, &serde_json::json!([])));

    // Without a transcript the same is learnt.
    let off = folder.path().join("off");
    succeed(train(&recipe, &off, &PAIRS).args(["--set", "run.transcript=false", "--set", "run.state_every=0"]));
    assert_eq!(adapter(&off), (tensors, metadata[..1].to_vec()));
    for file in ["adapter_config.json", "metrics.jsonl"] {
        assert_eq!(std::fs::read(off.join(file)).unwrap(), std::fs::read(run.join(file)).unwrap(), "{file}");
    }
    assert_eq!(json(&off.join("manifest.json"))["transcript"], Value::Null);
    assert_eq!(json(&off.join("manifest.json"))["run"], json(&run.join("manifest.json"))["run"]);
    let output = ftk(&["audit"]).arg(&off).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));

    // Refusals that only the command makes.
    let (code, other) = audit(&run, &["--expect-root", &"0".repeat(64)]);
    assert_eq!((code, &other["check"]), (1, &"root".into()), "{other}");
    let own = recipe.to_str().unwrap();
    let (code, same) = audit(&run, &[&["--no-steps", "--recipe", own][..], &set(&PAIRS)].concat());
    assert_eq!(code, 0, "{same}");
    let (code, other) = audit(&run, &[&["--recipe", own, "--set", "optim.lr=1e-3"][..], &set(&PAIRS)].concat());
    assert_eq!((code, &other["check"]), (1, &"run".into()), "{other}");
    assert!(other["reason"].as_str().unwrap().ends_with("; by its manifest: recipe"), "{other}");
    let factors = run.join("adapter_model.safetensors");
    let whole = std::fs::read(&factors).unwrap();
    let mut changed = whole.clone();
    *changed.last_mut().unwrap() ^= 1;
    std::fs::write(&factors, changed).unwrap();
    let (code, other) = audit(&run, &["--no-steps"]);
    assert_eq!((code, &other["check"]), (1, &"result".into()), "{other}");
    std::fs::write(&factors, whole).unwrap();
    // What says how factors are to be used is of the result, too; where the base lies is not.
    let config = run.join("adapter_config.json");
    let text = std::fs::read_to_string(&config).unwrap();
    let mut parsed: Value = serde_json::from_str(&text).unwrap();
    parsed["base_model_name_or_path"] = "elsewhere".into();
    std::fs::write(&config, parsed.to_string()).unwrap();
    assert_eq!(audit(&run, &["--no-steps"]).0, 0);
    parsed["lora_alpha"] = 64.into();
    std::fs::write(&config, parsed.to_string()).unwrap();
    let (code, other) = audit(&run, &["--no-steps"]);
    assert_eq!((code, &other["check"]), (1, &"result".into()), "{other}");
    std::fs::remove_file(&config).unwrap();
    let (code, other) = audit(&run, &["--no-steps"]);
    assert_eq!((code, &other["reason"]), (1, &"result: adapter_config.json is not there".into()), "{other}");
    std::fs::write(&config, text).unwrap();
    let manifest = run.join("manifest.json");
    let text = std::fs::read_to_string(&manifest).unwrap();
    let mut parsed: Value = serde_json::from_str(&text).unwrap();
    parsed["result"]["adapter_model.safetensors"] = "0".repeat(64).into();
    std::fs::write(&manifest, parsed.to_string()).unwrap();
    let (code, other) = audit(&run, &["--no-steps"]);
    let reason = "result: adapter_model.safetensors is another one than manifest.json says";
    assert_eq!((code, &other["reason"]), (1, &reason.into()), "{other}");
    // What a manifest says of rows and base is what they are.
    for part in ["recipe", "base", "data", "start", "arithmetic"] {
        let mut parsed: Value = serde_json::from_str(&text).unwrap();
        parsed[part] = "another".into();
        std::fs::write(&manifest, parsed.to_string()).unwrap();
        let (code, other) = audit(&run, &["--no-steps"]);
        let reason = format!("run: manifest.json says of them otherwise: {part}");
        assert_eq!((code, &other["reason"]), (1, &reason.into()), "{other}");
    }
    std::fs::write(&manifest, text).unwrap();
    std::fs::copy(off.join("adapter_model.safetensors"), &factors).unwrap();
    let (code, other) = audit(&run, &["--no-steps"]);
    assert_eq!((code, &other["check"]), (1, &"root".into()), "{other}");
}

/// A command, and what it says as JSON.
fn said(command: &mut Command) -> (i32, Value) {
    let output = command.output().unwrap();
    let said = serde_json::from_slice(&output.stdout);
    (output.status.code().unwrap(), said.unwrap_or_else(|error| panic!("{error}: {}", stderr(&output))))
}

#[test]
fn a_commitment_names_the_transcript_if_asked_and_verifiers_expect_it() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    let (run, recipe) = (place("run"), pairs(folder.path()));
    succeed(&mut train(&recipe, &run, &["run.steps=2", "run.batch=2", "optim.warmup_steps=1"]));
    let root = json(&run.join("manifest.json"))["transcript"].as_str().unwrap().to_owned();
    let commit = |adapter: &Path, out: &Path, more: &[&str]| {
        let mut command = ftk(&["--json", "--quiet", "commit", "--base", "village"]);
        command.arg("--adapter").arg(adapter).arg("--out").arg(out).args(more);
        command
    };
    let (named, silent) = (place("named"), place("silent"));
    let (code, made) = said(&mut commit(&run, &named, &["--transcript"]));
    assert_eq!((code, &made["transcript"]), (0, &root.as_str().into()), "{made}");
    let (code, plain) = said(&mut commit(&run, &silent, &[]));
    assert_eq!((code, &plain["transcript"]), (0, &Value::Null), "{plain}");

    // An adapter that no run of ours wrote names none.
    let stranger = place("stranger");
    crate::seller::adapter(&stranger, 3);
    let output = commit(&stranger, &place("none"), &["--transcript"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("names no transcript that it is the result of"), "{}", stderr(&output));

    let (_, inspected) = said(ftk(&["--json", "inspect"]).arg(&named));
    assert_eq!(inspected["said_to_be_of_transcript"], root, "{inspected}");
    let open = |adapter: &Path| said(ftk(&["--json", "open"]).arg(adapter).arg("--commitment").arg(&named));
    let (code, opened) = open(&run);
    assert_eq!((code, &opened["transcript"]), (0, &root.as_str().into()), "{opened}");
    // The same weights, said to be of another run.
    let other = place("other");
    std::fs::create_dir(&other).unwrap();
    for file in ["adapter_model.safetensors", "adapter_config.json"] {
        std::fs::copy(run.join(file), other.join(file)).unwrap();
    }
    ftk_adapters::notes::note(&other, "ftk_transcript", &"5".repeat(64)).unwrap();
    let (code, opened) = open(&other);
    assert_eq!(code, 1, "{opened}");
    assert!(opened["difference"].as_str().unwrap().starts_with("transcript: committed is"), "{opened}");

    let prove = |commitment: &Path, out: &Path| {
        let mut command = ftk(&["prove", "--base", "village", "--quiet", "--open", "--disclose"]);
        command.args(["--max-tokens", "1", "--prompt", "Who?", "--out"]).arg(out);
        succeed(command.arg("--adapter").arg(&run).arg("--commitment").arg(commitment));
    };
    let bundles = [place("bundle"), place("bundle-silent")];
    prove(&named, &bundles[0]);
    prove(&silent, &bundles[1]);
    let verify = |bundle: &Path, adapter: &Value, expected: &str| {
        let mut command = ftk(&["--json", "verify", "--base", "village", "--any-input", "--expect-transcript"]);
        said(command.args([expected, "--expect-adapter", adapter.as_str().unwrap()]).arg(bundle))
    };
    let (code, verdict) = verify(&bundles[0], &made["adapter"], &root);
    assert_eq!((code, &verdict["verdict"], &verdict["transcript"]), (0, &"valid".into(), &root.as_str().into()));
    let (code, verdict) = verify(&bundles[0], &made["adapter"], &"5".repeat(64));
    assert_eq!((code, &verdict["check"]), (1, &"expected transcript".into()), "{verdict}");
    let (code, verdict) = verify(&bundles[1], &plain["adapter"], &root);
    let reason = "expected transcript: the commitment names none";
    assert_eq!((code, &verdict["reason"]), (1, &reason.into()), "{verdict}");
    // A root that is put in behind the proof is of another adapter.
    let path = bundles[1].join("commitment.bin");
    let bytes = std::fs::read(&path).unwrap();
    let commitment = ftk_circuits::AdapterCommitment::decode(&bytes).unwrap();
    let forged = commitment.of_transcript(ftk_proofs::hex::parse_digest(&root).unwrap());
    std::fs::write(&path, forged.encode()).unwrap();
    let (code, verdict) = verify(&bundles[1], &plain["adapter"], &root);
    assert_eq!((code, &verdict["check"]), (1, &"adapter".into()), "{verdict}");
}

#[test]
fn rows_are_opened_one_by_one_and_held_against_a_transcript_alone() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    let (run, recipe, file) = (place("run"), pairs(folder.path()), place("row.json"));
    let secret = "run.salt=quite a long secret of ours";
    let settings = ["run.steps=4", "run.batch=2", "optim.warmup_steps=1", secret];
    succeed(&mut train(&recipe, &run, &settings));
    // The secret is in the run folder's recipe, and not in the card that goes wherever the adapter goes.
    let holds = |name: &str| std::fs::read_to_string(run.join(name)).unwrap().contains("quite a long secret");
    assert_eq!([holds("recipe.toml"), holds("README.md"), holds("manifest.json")], [true, false, false]);
    let root = json(&run.join("manifest.json"))["transcript"].as_str().unwrap().to_owned();
    let out = ["--out", file.to_str().unwrap()];
    let (code, opened) = audit(&run, &[&["--open-step", "2"][..], &out].concat());
    assert_eq!((code, opened["row_numbers"].as_array().unwrap().len()), (0, 2), "{opened}");
    let two = opened["row_numbers"].clone();
    let row = two[1].as_u64().unwrap();
    let (code, opened) = audit(&run, &[&["--open", &row.to_string()][..], &out].concat());
    assert_eq!((code, &opened["row_numbers"]), (0, &serde_json::json!([row])), "{opened}");

    // Whoever checks it has the transcript and its root, and neither recipe nor rows nor base.
    let alone = place("alone.jsonl");
    std::fs::copy(run.join("transcript.jsonl"), &alone).unwrap();
    let check = |root: &str| audit(&alone, &["--opened", file.to_str().unwrap(), "--expect-root", root]);
    let (code, found) = check(&root);
    assert_eq!(
        (code, &found["verdict"], &found["opened_rows"][0]["learnt_at"]),
        (0, &"follows".into(), &serde_json::json!([2]))
    );
    assert_eq!(found["opened_rows"][0]["content"]["sequences"].as_array().unwrap().len(), 2, "{found}");
    let (code, other) = check(&"5".repeat(64));
    assert_eq!((code, &other["check"]), (1, &"root".into()), "{other}");
    // Whoever opens rows may keep steps to themselves, and nothing is claimed of those.
    let whole = json(&file);
    let mut kept = whole.clone();
    kept["steps"] = serde_json::json!([]);
    std::fs::write(&file, kept.to_string()).unwrap();
    let said = succeed(ftk(&["audit", "--opened"]).arg(&file).arg(&alone));
    assert!(said.contains("is the run's, and none of the steps that were opened learnt from it"), "{said}");
    assert!(said.contains("not expected: without --expect-root the transcript may be any run's, or none's"), "{said}");
    assert!(said.contains("not shown: that no other step learnt from these rows"), "{said}");
    let mut forged = whole;
    forged["rows"][0]["content"]["sequences"][1][0][0][0] = 0.into();
    std::fs::write(&file, forged.to_string()).unwrap();
    let (code, other) = check(&root);
    let reason = format!("data: row {row}: the run had another one there");
    assert_eq!((code, &other["reason"]), (1, &reason.into()), "{other}");
    std::fs::write(&file, "{}").unwrap();
    let output = ftk(&["audit"]).arg(&alone).arg("--opened").arg(&file).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("opens no rows: missing field"), "{}", stderr(&output));
    // A secret that can be guessed is none.
    let output = train(&recipe, &place("short"), &["run.salt=short"]).output().unwrap();
    assert!(stderr(&output).contains("run.salt: must have 16 characters at least"), "{}", stderr(&output));
}

fn set<'a>(settings: &[&'a str]) -> Vec<&'a str> {
    settings.iter().flat_map(|set| ["--set", set]).collect()
}

#[test]
fn rows_that_are_others_are_found_and_two_runs_part_where_they_do() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = pairs(folder.path());
    let [run, other] = ["run", "other"].map(|name| folder.path().join(name));
    succeed(&mut train(&recipe, &run, &PAIRS));
    let rows = folder.path().join("dpo.jsonl");
    let text = std::fs::read_to_string(&rows).unwrap();
    let mut lines: Vec<&str> = text.split_inclusive('\n').collect();
    lines.swap(2, 3);
    std::fs::write(&rows, lines.concat()).unwrap();
    let (code, said) = audit(&run, &["--no-steps"]);
    assert_eq!((code, &said["check"]), (1, &"data".into()), "{said}");
    succeed(&mut train(&recipe, &other, &PAIRS));
    let both = ftk(&["--json", "audit"]).arg(&run).arg("--against").arg(&other).output().unwrap();
    assert_eq!(both.status.code(), Some(1));
    let said: Value = serde_json::from_slice(&both.stdout).unwrap();
    assert_eq!(said["differs"], serde_json::json!(["run", "data"]), "{said}");
    std::fs::write(&rows, text).unwrap();
    // The adapter says which run it is of.
    let inspected = |folder: &Path| {
        let output = ftk(&["--json", "inspect"]).arg(folder).output().unwrap();
        (output.status.code().unwrap(), serde_json::from_slice::<Value>(&output.stdout).unwrap())
    };
    let root = json(&run.join("manifest.json"))["transcript"].clone();
    let (code, found) = inspected(&run);
    assert_eq!((code, &found["transcript"]), (0, &root), "{found}");
    let moved = folder.path().join("moved");
    std::fs::create_dir(&moved).unwrap();
    for file in ["adapter_config.json", "adapter_model.safetensors"] {
        std::fs::copy(run.join(file), moved.join(file)).unwrap();
    }
    assert_eq!(inspected(&moved).1["transcript"], root);
    std::fs::copy(other.join("manifest.json"), moved.join("manifest.json")).unwrap();
    let (code, found) = inspected(&moved);
    assert_eq!(code, 1);
    let problem = found["problems"][0].as_str().unwrap();
    assert!(problem.starts_with("made by the run of another transcript than the manifest says: "), "{found}");
    let same = ftk(&["--json", "audit"]).arg(&run).arg("--against").arg(run.join("transcript.jsonl")).output().unwrap();
    assert_eq!(same.status.code(), Some(0), "{}", stderr(&same));
}

#[test]
fn runs_with_dropout_accumulation_and_a_stop_and_runs_on_graphs_follow() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("texts");
    crate::resume::recipe(folder.path(), "state_every = 7\n");
    let path = folder.path().join("recipe.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("rank = 4\n", "rank = 4\ndropout = 0.1\n")).unwrap();
    crate::resume::kill_after(folder.path(), &out, 20);
    succeed(train(&path, &out, &[]).arg("--resume"));
    for arguments in [&[][..], &["--sample", "3", "--nonce", "17"]] {
        let (code, said) = audit(&out, arguments);
        assert_eq!(code, 0, "{said}");
    }
    for (objective, network) in [("classes", "gcn"), ("classes", "gat")] {
        let out = folder.path().join(network);
        let set = [format!("gnn.objective={objective}"), format!("gnn.network={network}")];
        let set = [&set[0], &set[1], "run.steps=12", "run.state_every=5", "run.patience=2"];
        succeed(&mut train(&recipe("gnn/guilds.toml"), &out, &set));
        let (code, said) = audit(&out, &[]);
        assert_eq!((code, &said["result"]["compared"][0]), (0, &"base/model.safetensors".into()), "{said}");
        assert_eq!(audit(&out, &["--step", "7"]).0, 0);
        let (code, said) = audit(&out, &["--sample", "3", "--nonce", "ours"]);
        assert_eq!((code, said["computed"].as_array().unwrap().len() >= 3), (0, true), "{said}");
        let off = folder.path().join(format!("{network}-off"));
        succeed(
            train(&recipe("gnn/guilds.toml"), &off, &set[..3])
                .args(["--set", "run.patience=2"])
                .args(["--set", "run.transcript=false"]),
        );
        let learnt = |out: &Path| std::fs::read(out.join("base/model.safetensors")).unwrap();
        assert_eq!((learnt(&off), off.join("transcript.jsonl").exists()), (learnt(&out), false), "{network}");
    }
}

#[test]
fn what_no_state_shows_is_not_said_to_follow() {
    let folder = tempfile::tempdir().unwrap();
    let (run, recipe) = (folder.path().join("run"), pairs(folder.path()));
    let set = ["run.steps=4", "run.batch=2", "optim.warmup_steps=1", "run.state_every=2"];
    succeed(&mut train(&recipe, &run, &set));
    // Another adapter under the run's name: neither its state nor the step of the result is there to hold it against.
    let factors = run.join("adapter_model.safetensors");
    let whole = std::fs::read(&factors).unwrap();
    let mut other = whole.clone();
    *other.last_mut().unwrap() ^= 1;
    std::fs::write(&factors, other).unwrap();
    std::fs::remove_file(run.join("checkpoint.safetensors")).unwrap();
    std::fs::remove_file(run.join("states/4.safetensors")).unwrap();
    let less = ["--set", "run.state_every=0"];
    for arguments in [&["--no-steps"][..], &["--step", "2"]] {
        let output = ftk(&["audit", "--quiet"]).arg(&run).args(arguments).args(less).output().unwrap();
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("cannot be told: no state after step 4 is kept"), "{said}");
        assert!(said.contains("--step 4"), "{said}");
    }
    let (code, said) = audit(&run, &[&["--step", "4"][..], &less].concat());
    assert_eq!((code, &said["check"]), (1, &"result".into()), "{said}");
    std::fs::write(&factors, whole).unwrap();
    assert_eq!(audit(&run, &[&["--step", "4"][..], &less].concat()).0, 0);
    // Where there is no result, nothing is said of one.
    std::fs::remove_file(&factors).unwrap();
    let (code, said) = audit(&run, &[&["--step", "2"][..], &less].concat());
    assert_eq!((code, &said["result"]["compared"]), (0, &serde_json::json!([])), "{said}");
}

/// A record that says that the first operation of a kind gave something else, and nothing that follows from it.
fn lying(record: &str, kind: &str) -> String {
    let kind = format!("\"kind\":\"{kind}\"");
    let (before, after) = record.split_once(&kind).unwrap_or_else(|| panic!("there is none: {kind}"));
    let (inputs, outputs) = after.split_once("\"outputs\":[\"").unwrap();
    format!("{before}{kind}{inputs}\"outputs\":[\"{}{}", "0".repeat(64), &outputs[64..])
}

#[test]
fn a_step_is_recorded_by_operation_and_a_referee_decides_between_two_records() {
    let folder = tempfile::tempdir().unwrap();
    let (run, recipe) = (folder.path().join("run"), pairs(folder.path()));
    succeed(&mut train(&recipe, &run, &PAIRS));
    let at = |name: &str| folder.path().join(name).into_os_string().into_string().unwrap();
    let (ours, theirs, dispute) = (at("ours"), at("theirs"), at("dispute"));
    let (code, said) = audit(&run, &["--step", "5", "--record", &ours]);
    assert_eq!(code, 0, "{said}");
    let text = std::fs::read_to_string(&ours).unwrap();
    assert_eq!(said["record"], blake3::hash(text.as_bytes()).to_hex().as_str());
    // The loss of pairs, adapters and attention, what they learn, the optimiser.
    for kind in ["embed", "attention", "log_prob_back", "lora_back", "accumulate", "mean", "norm", "adam_w"] {
        assert!(text.contains(&format!("\"kind\":\"{kind}\"")), "{kind}");
    }
    // Whoever records it again has the same record.
    let (code, said) = audit(&run, &["--step", "5", "--dispute", &ours, "--out", &dispute]);
    assert_eq!((code, &said["verdict"]), (0, &"same".into()), "{said}");
    assert!(!Path::new(&dispute).exists());
    // Another who says that an operation gave something else, and nothing that follows from it.
    std::fs::write(&theirs, lying(&text, "lora_back")).unwrap();
    let (code, said) = audit(&run, &["--step", "5", "--dispute", &theirs, "--out", &dispute]);
    assert_eq!((code, &said["what"]), (1, &"lora_back".into()), "{said}");
    let referee = |file: &str| {
        let output = ftk(&["--json", "referee", file]).output().unwrap();
        let said: Value = serde_json::from_slice(&output.stdout).unwrap();
        (output.status.code().unwrap(), said)
    };
    let (code, said) = referee(&dispute);
    assert_eq!((code, &said["verdict"], &said["right"]), (0, &"decided".into(), &1.into()), "{said}");
    assert_eq!(said["records"][1]["finding"], "shows nothing");
    assert_eq!((referee(&ours).0, referee(&ours).1["verdict"].clone()), (1, "nobody".into()));

    // Slopes that are not those of the loss: the referee computes them from the log-probabilities.
    std::fs::write(&theirs, lying(&text, "task")).unwrap();
    let (code, said) = audit(&run, &["--step", "5", "--dispute", &theirs, "--out", &dispute]);
    assert_eq!((code, &said["what"]), (1, &"task".into()), "{said}");
    assert_eq!(referee(&dispute).0, 0);
    // Of other losses, and of what weights of a base learn.
    let kto = folder.path().join("kto");
    succeed(&mut train(Path::new("kto"), &kto, &["run.steps=1", "run.batch=4", "run.accumulate=2"]));
    let (code, said) = audit(&kto, &["--step", "1", "--record", &ours]);
    assert_eq!(code, 0, "{said}");
    let text = std::fs::read_to_string(&ours).unwrap();
    for rule in ["alone", "gain", "drift"] {
        assert!(text.contains(&format!("\"task\":\"{rule}\"")), "{rule}");
    }
    let (code, said) = audit(&kto, &["--step", "1", "--dispute", &ours, "--out", &dispute]);
    assert_eq!((code, &said["verdict"]), (0, &"same".into()), "{said}");
    let (base, whole) = (folder.path().join("base"), folder.path().join("whole.toml"));
    let rows = self::recipe("text/village/sft.jsonl");
    let text = "task = \"sft\"\n[base]\nmodel = \"village\"\ntrain = true\n[optim]\nlr = 1e-4\n[run]\nout = \"base\"\n";
    std::fs::write(&whole, format!("{text}steps = 1\nbatch = 2\n[data]\ntrain = {rows:?}\n")).unwrap();
    succeed(&mut train(&whole, &base, &[]));
    let (code, said) = audit(&base, &["--step", "1", "--record", &ours]);
    assert_eq!(code, 0, "{said}");
    let text = std::fs::read_to_string(&ours).unwrap();
    for kind in ["fill", "embed_back", "weight_back", "rms_norm_weight_back", "adam_w"] {
        assert!(text.contains(&format!("\"kind\":\"{kind}\"")), "{kind}");
    }
    let (code, said) = audit(&base, &["--step", "1", "--dispute", &ours, "--out", &dispute]);
    assert_eq!((code, &said["verdict"]), (0, &"same".into()), "{said}");

    // Dropout and accumulation in a supervised run.
    let texts = folder.path().join("texts");
    crate::resume::recipe(folder.path(), "");
    let path = folder.path().join("recipe.toml");
    let recipe = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, recipe.replace("rank = 4\n", "rank = 4\ndropout = 0.1\n")).unwrap();
    succeed(&mut train(&path, &texts, &["run.steps=2"]));
    let (code, said) = audit(&texts, &["--step", "2", "--record", &ours]);
    assert_eq!(code, 0, "{said}");
    assert!(std::fs::read_to_string(&ours).unwrap().contains("\"kind\":\"drop\""));
}

#[test]
fn a_step_on_a_graph_and_one_in_bf16_are_decided_operation_by_operation() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).into_os_string().into_string().unwrap();
    let (ours, theirs, dispute) = (at("ours"), at("theirs"), at("dispute"));
    let guilds = recipe("gnn/guilds.toml");
    let ratings: String =
        (0..200).map(|at| format!("{},{},{},{}\n", at * 7 % 19, 19 + at % 11, at * 3 % 11 - 4, at * 60)).collect();
    std::fs::create_dir(at("rated")).unwrap();
    std::fs::write(at("rated/edges.csv"), "src,dst,rating,time\n".to_owned() + &ratings).unwrap();
    let stream = folder.path().join("stream.toml");
    let text = "task = \"gnn\"\ndata = { train = \"rated\" }\nbase = { model = \"fresh\", train = true }\n";
    let text = format!("{text}gnn = {{ objective = \"ratings\", split = \"stream\", hidden = 4 }}\n");
    std::fs::write(&stream, text + "run = { out = \"stream\", batch = 16 }\n").unwrap();
    let sft = recipe("text/sft.toml");
    let cases: [(&str, &Path, &[&str], &[&str]); 4] = [
        ("gcn", &guilds, &[], &["messages", "relu_back", "thin", "pull", "stated", "task", "adam_w"]),
        ("gat", &guilds, &["gnn.network=gat"], &["attend_neighbours", "attend_neighbours_back", "task"]),
        ("stream", &stream, &[], &["messages", "task"]),
        (
            "bf16",
            &sft,
            &["run.precision=bf16", "run.batch=2", "optim.warmup_steps=1"],
            &["lora_linear", "linear_back", "attention", "attention_back"],
        ),
    ];
    for (name, recipe, set, kinds) in cases {
        let run = folder.path().join(name);
        succeed(&mut train(recipe, &run, &[set, &["run.steps=2"]].concat()));
        let (code, said) = audit(&run, &["--step", "2", "--record", &ours]);
        assert_eq!(code, 0, "{said}");
        let text = std::fs::read_to_string(&ours).unwrap();
        for kind in kinds {
            std::fs::write(&theirs, lying(&text, kind)).unwrap();
            let (code, said) = audit(&run, &["--step", "2", "--dispute", &theirs, "--out", &dispute]);
            assert_eq!((code, &said["what"]), (1, &(*kind).into()), "{name}: {said}");
            let (code, said) = self::said(ftk(&["--json", "referee"]).arg(&dispute));
            assert_eq!((code, &said["right"]), (0, &1.into()), "{name}: {kind}: {said}");
        }
        // The same operations of another claim.
        let (first, rest) = text.split_once('\n').unwrap();
        let mut claim: Value = serde_json::from_str(first).unwrap();
        claim["claim"]["step"]["figures"] = "0".repeat(64).into();
        std::fs::write(&theirs, format!("{claim}\n{rest}")).unwrap();
        let output = ftk(&["audit"]).arg(&run).args(["--step", "2", "--dispute", &theirs, "--out", &dispute]).output();
        let output = output.unwrap();
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
        assert!(stderr(&output).contains("the same operations of another claim"), "{}", stderr(&output));
    }
}
