//! Adapters from elsewhere, and what goes with those that go elsewhere.

use std::path::Path;

use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};

use super::look::{CHATML, base, recipe};
use crate::run::{ftk, stderr, succeed};

#[test]
fn an_adapter_may_hold_a_copy_of_the_base_and_a_template_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let model = base(folder.path(), CHATML);
    std::fs::write(folder.path().join("rows.jsonl"), "{\"text\": \"the old mill\"}\n").unwrap();
    let recipe = format!(
        "task = \"sft\"\n[base]\nmodel = {model:?}\n[data]\ntrain = \"rows.jsonl\"\n[lora]\nrank = 2\n[run]\nout = \"out\"\n\
         steps = 1\n"
    );
    std::fs::write(folder.path().join("recipe.toml"), recipe).unwrap();
    succeed(ftk(&["train", "--recipe"]).arg(folder.path().join("recipe.toml")));
    let adapter = folder.path().join("out");
    let generate = || {
        let mut command = ftk(&["generate", "--prompt", "hi", "--max-tokens", "1", "--base"]);
        command.arg(&model).arg("--adapter").arg(&adapter).output().unwrap()
    };
    assert!(!stderr(&generate()).contains("chat template"));
    std::fs::write(adapter.join("chat_template.jinja"), "{{ messages }}").unwrap();
    assert!(stderr(&generate()).contains("out: has a chat template of its own, which differs from the base's"));
    let (copied, own) = (model.join("tokenizer_config.json"), adapter.join("tokenizer_config.json"));
    std::fs::copy(copied, &own).unwrap();
    assert!(!stderr(&generate()).contains("tokenizer"), "{}", stderr(&generate()));
    std::fs::write(&own, "{\"eos_token\": {\"content\": \"<|other|>\"}}").unwrap();
    std::fs::write(adapter.join("added_tokens.json"), "{\"<|other|>\": 7}").unwrap();
    let said = stderr(&generate());
    assert!(
        said.contains("out: has a tokenizer of its own, which is not used, with tokens that the base lacks: <|other|>")
    );
    assert!(
        said.contains("which is not used and ends answers otherwise than the base: with <|other|>, and not"),
        "{said}"
    );

    let (factors, weights) = (adapter.join("adapter_model.safetensors"), model.join("model.safetensors"));
    let (own, table) = (std::fs::read(&factors).unwrap(), std::fs::read(weights).unwrap());
    let table = SafeTensors::deserialize(&table).unwrap();
    let table = table.tensor("model.embed_tokens.weight").unwrap();
    let mut copy = table.data().to_vec();
    let write = |copy: &[u8]| {
        let own = SafeTensors::deserialize(&own).unwrap();
        let mut tensors = own.tensors();
        let copy = TensorView::new(table.dtype(), table.shape().to_vec(), copy).unwrap();
        tensors.push(("base_model.model.lm_head.base_layer.weight".to_owned(), copy));
        std::fs::write(&factors, safetensors::serialize(tensors, None).unwrap()).unwrap();
    };
    write(&copy);
    assert!(generate().status.success(), "{}", stderr(&generate()));
    copy[5] ^= 1;
    write(&copy);
    let output = generate();
    assert_eq!(output.status.code(), Some(2));
    let told = stderr(&output);
    assert!(told.contains("out: holds a weight of the base that differs from the base's own: lm_head"), "{told}");
}

#[test]
fn an_adapter_comes_with_a_card_and_one_scale_for_every_loader() {
    let folder = tempfile::tempdir().unwrap();
    let path = recipe(folder.path(), "rank = 2\nalpha = 4.0\nrank_pattern = { v_proj = 3 }", "steps = 2");
    let train = |more: &[&str]| {
        let mut command = ftk(&["train"]);
        let output = command.arg(&path).args(more).output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        let out = folder.path().join(more.last().map_or("out", |out| out));
        let read = |name: &str| std::fs::read_to_string(out.join(name)).unwrap();
        (read("README.md"), serde_json::from_str::<Value>(&read("adapter_config.json")).unwrap())
    };
    let named = folder.path().join("named").display().to_string();
    let (card, config) = train(&["--set", "base.name=org/village-1.0", "--out", &named]);
    assert_eq!(config["base_model_name_or_path"], "org/village-1.0");
    // llama.cpp's loader divides one alpha by each tensor's rank.
    assert_eq!((&config["r"], &config["lora_alpha"], &config["rank_pattern"]), (&json!(3), &json!(3), &json!({})));
    let front = "---\nbase_model: org/village-1.0\nlibrary_name: peft\npipeline_tag: text-generation\ntags:\n\
                 - base_model:adapter:org/village-1.0\n- ftk\n- lora\n---\n\n# LoRA adapter of `org/village-1.0`\n";
    assert!(card.starts_with(front), "{card}");
    let metrics = std::fs::read_to_string(Path::new(&named).join("metrics.jsonl")).unwrap();
    let last: Value = serde_json::from_str(metrics.lines().last().unwrap()).unwrap();
    assert!(card.contains(&format!("| `loss` | {:.4} |\n", last["loss"].as_f64().unwrap())), "{card}");
    assert!(card.contains("train = \"rows.jsonl\"\n") && card.contains("v_proj = 3\n"), "{card}");

    // What is no name of the hub is in no metadata, and no path of this machine in the card.
    let plain = folder.path().join("plain").display().to_string();
    let (card, config) = train(&["--out", &plain]);
    assert!(config["base_model_name_or_path"].as_str().unwrap().ends_with("/base"), "{config}");
    assert!(card.starts_with("---\nlibrary_name: peft\n") && card.contains("# LoRA adapter of `base`\n"), "{card}");
    assert!(!card.contains(&folder.path().display().to_string()), "{card}");
    assert!(card.contains("`base_model_name_or_path` in `adapter_config.json`"), "{card}");
    // The name changes no number, and a card of somebody's own stays.
    let factors = |folder: &str| std::fs::read(Path::new(folder).join("adapter_model.safetensors")).unwrap();
    let manifest = |folder: &str| -> Value {
        serde_json::from_slice(&std::fs::read(Path::new(folder).join("manifest.json")).unwrap()).unwrap()
    };
    assert_eq!(manifest(&plain)["run"], manifest(&named)["run"]);
    let numbers = |folder: &str| SafeTensors::deserialize(&factors(folder)).unwrap().names().len();
    assert_eq!(numbers(&plain), numbers(&named));
    std::fs::create_dir(folder.path().join("own")).unwrap();
    std::fs::write(folder.path().join("own/README.md"), "mine").unwrap();
    let own = folder.path().join("own").display().to_string();
    assert_eq!(train(&["--out", &own]).0, "mine");

    let wrong = ftk(&["recipes", "check", "--set", "base.name=../village"]).arg(&path).output().unwrap();
    assert_eq!(stderr(&wrong), "error: --set base.name: must be a name on the hub: ORG/NAME\n");
}

/// What PEFT trained is rounded, and what comes of that has a card with the digest it is committed to under.
#[test]
fn an_adapter_that_was_rounded_has_a_card_with_its_commitment() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path();
    crate::seller::adapter(&place.join("adapter"), 83);
    let config = place.join("adapter/adapter_config.json");
    let mut value: Value = serde_json::from_slice(&std::fs::read(&config).unwrap()).unwrap();
    value["base_model_name_or_path"] = json!("org/village");
    value["lora_alpha"] = json!(1.5);
    std::fs::write(&config, value.to_string()).unwrap();
    let commit = ["commit", "--base", "village", "--adapter", "adapter", "--out", "commitment", "--quiet"];
    let digest = succeed(ftk(&commit).current_dir(place));
    let card = std::fs::read_to_string(place.join("commitment/adapter/README.md")).unwrap();
    assert!(card.starts_with("---\nbase_model: org/village\n"), "{card}");
    assert!(card.contains(&format!("Committed to as `{}`: ", digest.trim())), "{card}");
}

#[test]
fn a_rank_that_cannot_be_committed_to_is_said_before_training_and_memory_is_one_figure() {
    let folder = tempfile::tempdir().unwrap();
    let path = recipe(folder.path(), "rank = 200\ntargets = [\"v_proj\"]", "steps = 1");
    let note = "no commitment can be made to this adapter, and nothing be proved of it: rank out of bounds: 200; ranks \
                up to 128 can";
    assert!(succeed(ftk(&["train", "--dry-run"]).arg(&path)).contains(note));
    let output = ftk(&["train"]).arg(&path).output().unwrap();
    let (told, began) = (stderr(&output), "step 1/1");
    assert!(told.find(note).unwrap() < told.find(began).unwrap(), "{told}");
    let output = ftk(&["estimate", "--json"]).arg(&path).output().unwrap();
    assert!(stderr(&output).contains(note), "{}", stderr(&output));
    let estimate: Value = serde_json::from_slice(&output.stdout).unwrap();
    let dry = succeed(ftk(&["train", "--dry-run", "--json", "--out"]).arg(folder.path().join("other")).arg(&path));
    let dry: Value = serde_json::from_str(&dry).unwrap();
    assert_eq!(estimate["bytes"]["together"], dry["counts"]["memory"]);
    // Without the rows, what the recipe allows.
    std::fs::remove_file(folder.path().join("rows.jsonl")).unwrap();
    let most: Value = serde_json::from_str(&succeed(ftk(&["estimate", "--json"]).arg(&path))).unwrap();
    assert_eq!(most["tokens"], 2 * 1024);
    assert!(most["bytes"]["together"].as_u64() > estimate["bytes"]["together"].as_u64());
}

/// PEFT says so as well when it loads an adapter, or passes it over.
#[test]
fn an_adapter_whose_files_speak_of_different_sites_is_told_of() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path();
    crate::seller::adapter(&place.join("adapter"), 85);
    let path = place.join("adapter/adapter_config.json");
    let config: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let said = |keys: Value| {
        let mut config = config.clone();
        config.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
        std::fs::write(&path, config.to_string()).unwrap();
        let command = ["generate", "--base", "village", "--adapter", "adapter", "--prompt", "a", "--max-tokens", "1"];
        stderr(&ftk(&command).current_dir(place).output().unwrap())
    };
    assert!(!said(json!({})).contains("adapter: "), "{}", said(json!({})));
    let idle = said(json!({"alpha_pattern": {"^q_proj": 4}}));
    assert!(idle.contains("adapter: alpha_pattern: matches no site that has factors: ^q_proj"), "{idle}");
    let lost = said(json!({"target_modules": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj",
                                              "down_proj", "lm_head"]}));
    assert!(lost.contains("adapter: target_modules names sites that have no factors here"), "{lost}");
    let other = said(json!({"target_modules": ["q_proj"], "layers_to_transform": [0]}));
    assert!(other.contains("adapter: has factors at sites that the configuration leaves out"), "{other}");
}
