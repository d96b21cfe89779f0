//! Memory by arithmetic.

use std::path::Path;

use ftk_adapters::footprint::Footprint;
use ftk_bases::BaseModel;
use ftk_networks::ops::Tokens;
use serde_json::{Value, json};

use crate::run::{ftk, stderr, succeed};
use crate::seller::Seller;

/// The configuration of a model of seven billion parameters (Llama 2 7B).
fn seven_billion(folder: &Path) {
    let config = json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "vocab_size": 32000,
        "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32,
        "num_key_value_heads": 32, "max_position_embeddings": 4096, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
        "tie_word_embeddings": false,
    });
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
}

#[test]
fn seven_billion_parameters_held_as_stored_fit_a_card_of_24_gigabytes() {
    let folder = tempfile::tempdir().unwrap();
    seven_billion(folder.path());
    let estimate = |settings: &[&str]| -> Value {
        let mut command = ftk(&["estimate", "--json", "--base", folder.path().to_str().unwrap()]);
        command.args(["--set", "run.batch=1", "--set", "data.max_length=2048"]);
        command.args(settings.iter().flat_map(|setting| ["--set", setting]));
        serde_json::from_str(&succeed(&mut command)).unwrap()
    };
    let bytes = |estimate: &Value, key: &str| estimate["bytes"][key].as_u64().unwrap();
    let plain = estimate(&[]);
    assert_eq!(plain["parameters"], 6_738_415_616u64);
    assert_eq!(bytes(&plain, "weights"), 4 * 6_738_415_616);
    assert_eq!(bytes(&plain, "widened"), 0);
    let small = estimate(&["base.hold=stored", "run.recompute=true"]);
    assert_eq!(bytes(&small, "weights"), 2 * 6_738_415_616);
    assert_eq!(bytes(&small, "widened"), 4 * 32000 * 4096);
    assert!(bytes(&small, "together") < 20 << 30, "{small}");
    assert!(bytes(&plain, "together") > 24 << 30, "{plain}");
    let pairs = estimate(&["base.hold=stored", "run.recompute=true", "task=dpo"]);
    assert_eq!(pairs["tokens"], 4096);
    assert!(bytes(&pairs, "together") < 24 << 30, "{pairs}");
}

#[test]
fn a_folder_of_rows_does_not_stand_in_the_way_of_a_base_that_ships() {
    let folder = tempfile::tempdir().unwrap();
    succeed(ftk(&["recipes", "cp", "sft", "mine.toml"]).current_dir(folder.path()));
    assert!(folder.path().join("village").is_dir());
    succeed(ftk(&["estimate", "mine.toml"]).current_dir(folder.path()));
    succeed(ftk(&["estimate", "--base", "village"]).current_dir(folder.path()));
}

#[test]
fn what_a_block_keeps_is_what_its_operations_need_on_the_way_back() {
    let folder = tempfile::tempdir().unwrap();
    seven_billion(folder.path());
    let source = BaseModel::skeleton(folder.path()).unwrap();
    let mut whole = Footprint::new(None);
    let Ok(_) = source.network().forward(&mut whole, &Tokens::sequence(vec![0]), &[0]);
    // Two inputs of norms, two of layers, queries, keys, values, the attention's result; gate, up and their product;
    // at the end what is chosen, normalised and scored.
    assert_eq!(whole.numbers(), 32 * (8 * 4096 + 3 * 11008) + 3 * 4096);
}

#[test]
fn damaged_weights_are_not_taken_for_none() {
    let folder = tempfile::tempdir().unwrap();
    seven_billion(folder.path());
    std::fs::write(folder.path().join("model.safetensors"), b"short").unwrap();
    let output = ftk(&["estimate", "--base"]).arg(folder.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("too short for a header: 5 bytes"), "{}", stderr(&output));
}

#[test]
fn an_estimate_without_a_base_is_refused() {
    let output = ftk(&["estimate"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("--recipe"), "{}", stderr(&output));
}

/// A sealed proof takes what `ftk prove --dry-run` says of the same adapter, committed to, and an answer as long.
#[test]
fn what_a_sealed_proof_takes_is_told_before_there_is_a_commitment() {
    let folder = tempfile::tempdir().unwrap();
    let seller = Seller::of_rank(folder.path().join("seller"), 81, 2);
    let adapter = seller.folder.join("adapter");
    let read = |command: &mut std::process::Command| -> Value { serde_json::from_str(&succeed(command)).unwrap() };
    let rows = folder.path().join("rows.jsonl");
    std::fs::write(&rows, json!({ "prompt_ids": [5, 6, 7, 8, 9] }).to_string()).unwrap();
    let mut prove = ftk(&["prove", "--base", "village", "--json", "--dry-run", "--max-tokens", "4", "--rows"]);
    prove.arg(&rows).arg("--adapter").arg(&adapter);
    let told = read(prove.arg("--commitment").arg(seller.folder.join("commitment")));
    assert_eq!(told["rows"], 8);
    let mut estimate = ftk(&["estimate", "--base", "village", "--json", "--tokens", "8", "--adapter"]);
    assert_eq!(read(estimate.arg(&adapter))["sealed_proof"], told["costs"]);
    // Without weights there are no figures, and of an adapter that is still to be trained there are some.
    let bare = folder.path().join("bare");
    std::fs::create_dir(&bare).unwrap();
    seven_billion(&bare);
    let mut without = ftk(&["estimate", "--json", "--tokens", "8", "--base"]);
    let without = read(without.arg(&bare));
    assert!(without["sealed_proof"].is_null() && without["open_proof"].is_object(), "{without}");
    let fresh = read(&mut ftk(&["estimate", "--base", "village", "--json", "--tokens", "8"]));
    assert!(fresh["sealed_proof"]["cells"].as_u64() > Some(10_000), "{fresh}");
}
