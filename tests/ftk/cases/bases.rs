//! Tokenizers and weights of bases.

use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};

use super::look::{CHATML, base};
use crate::run::{ftk, stderr, succeed};

/// The class that a configuration names, and what it says of the beginning, change nothing: the file says what it does.
#[test]
fn ids_are_those_of_the_tokenizers_file_whatever_class_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let model = base(folder.path(), CHATML);
    let ids = |text: &str| {
        let mut command = ftk(&["generate", "--raw", "--max-tokens", "1", "--json", "--prompt", text, "--base"]);
        serde_json::from_str::<Value>(&succeed(command.arg(&model))).unwrap()["prompt_ids"].clone()
    };
    let [plain, marked] = ["the mill", "xthe mill"].map(ids);
    assert_ne!(plain, marked);
    let edit = |name: &str, keys: Value| {
        let mut file: Value = serde_json::from_slice(&std::fs::read(model.join(name)).unwrap()).unwrap();
        file.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
        std::fs::write(model.join(name), file.to_string()).unwrap();
    };
    edit(
        "tokenizer_config.json",
        json!({"tokenizer_class": "LlamaTokenizer", "legacy": false, "add_prefix_space": true}),
    );
    assert_eq!(ids("the mill"), plain);
    edit("tokenizer.json", json!({"normalizer": {"type": "Prepend", "prepend": "x"}}));
    assert_eq!(ids("the mill"), marked);
}

/// A token that only a configuration names is one token in text, as transformers has it.
#[test]
fn a_special_token_that_is_only_named_is_one_token() {
    let folder = tempfile::tempdir().unwrap();
    let model = base(folder.path(), CHATML);
    let ids = || {
        let mut command =
            ftk(&["generate", "--raw", "--max-tokens", "1", "--json", "--prompt", "a<|im_end|>b", "--base"]);
        serde_json::from_str::<Value>(&succeed(command.arg(&model))).unwrap()["prompt_ids"].clone()
    };
    let whole = ids();
    let path = model.join("tokenizer.json");
    let mut file: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let added = file["added_tokens"].as_array_mut().unwrap();
    let at = added.iter().position(|token| token["content"] == "<|im_end|>").unwrap();
    let id = added.remove(at)["id"].clone();
    file["model"]["vocab"]["<|im_end|>"] = id;
    std::fs::write(&path, file.to_string()).unwrap();
    assert_eq!(ids(), whole);
}

#[test]
fn activations_beyond_the_exact_network_are_refused_with_layer_and_reason() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path();
    let model = base(place, CHATML);
    let file = model.join("model.safetensors");
    let bytes = std::fs::read(&file).unwrap();
    let weights = SafeTensors::deserialize(&bytes).unwrap();
    // The upper half of a float is the same number in bf16, which this base is in.
    let large = 30_000f32.to_le_bytes()[2..].to_vec();
    let norm = "model.layers.0.input_layernorm.weight";
    let raised = large.repeat(weights.tensor(norm).unwrap().shape()[0]);
    let tensors: Vec<(String, TensorView)> = weights
        .tensors()
        .into_iter()
        .map(|(name, tensor)| {
            let data = if name == norm { &raised } else { tensor.data() };
            let tensor = TensorView::new(tensor.dtype(), tensor.shape().to_vec(), data).unwrap();
            (name, tensor)
        })
        .collect();
    let changed = safetensors::serialize(tensors, None).unwrap();
    std::fs::write(&file, changed).unwrap();
    crate::seller::adapter(&place.join("adapter"), 84);
    std::fs::write(place.join("text.txt"), "the old mill").unwrap();
    let commit = |out: &str, more: &[&str]| {
        let command = ["commit", "--base", "base", "--adapter", "adapter", "--out", out];
        ftk(&[&command[..], more].concat()).current_dir(place).output().unwrap()
    };
    let with = commit("one", &["--text", "text.txt"]);
    assert_eq!(with.status.code(), Some(2));
    let told = stderr(&with);
    assert!(told.contains("reaches 2^31 at site: model.layers.0."), "{told}");
    assert!(told.contains("hint: proofs are about whole numbers of 32 bits"), "{told}");
    let without = stderr(&commit("two", &[]));
    assert!(
        without.contains("proofs may not be possible: output ") && without.contains("look with --text"),
        "{without}"
    );
}

/// With a tensor in its blocks that a network does not compute with, the model is another one.
#[test]
fn tensors_that_a_base_would_pass_over_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let model = base(folder.path(), CHATML);
    let file = model.join("model.safetensors");
    let bytes = std::fs::read(&file).unwrap();
    let own = SafeTensors::deserialize(&bytes).unwrap();
    let open = |rename: &dyn Fn(String) -> String, more: &[&str]| {
        let mut tensors: Vec<(String, TensorView)> =
            own.tensors().into_iter().map(|(name, tensor)| (rename(name), tensor)).collect();
        let norm = own.tensor("model.norm.weight").unwrap();
        tensors.extend(more.iter().map(|name| ((*name).to_owned(), norm.clone())));
        std::fs::write(&file, safetensors::serialize(tensors, None).unwrap()).unwrap();
        ftk(&["inspect"]).arg(&model).output().unwrap()
    };
    let same = |name: String| name;
    for extra in [
        "model.layers.0.self_attn.q_proj.bias",
        "model.layers.0.self_attn.q_norm.weight",
        "model.layers.0.mlp.up_proj.weight_scale",
        "model.layers.77.mlp.up_proj.weight",
        "model.norm.bias",
    ] {
        let said = stderr(&open(&same, &[extra]));
        assert!(
            said.contains(&format!("has no such tensor: {extra}\nhint: with it the model is another one")),
            "{said}"
        );
    }
    let beside =
        ["model.layers.0.self_attn.rotary_emb.inv_freq", "vision_tower.layers.0.bias", "v_head.summary.weight"];
    assert!(open(&same, &beside).status.success());
    // What wrappers put in front of names says nothing; other names are no names.
    for wrapped in ["module.", "_orig_mod.", "module._orig_mod."] {
        let output = open(&|name| format!("{wrapped}{name}"), &[]);
        assert!(output.status.success(), "{}", stderr(&output));
    }
    let said = stderr(&open(&|name| format!("encoder.{name}"), &[]));
    assert!(said.contains("no tensor has a name that the network needs, such as: "), "{said}");
}

/// Keys that other readers go by, and that would be passed over.
#[test]
fn keys_that_change_a_base_and_would_be_passed_over_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let model = base(folder.path(), CHATML);
    let said = |name: &str, keys: Value| {
        let path = model.join(name);
        let before = std::fs::read(&path).unwrap();
        let mut file: Value = serde_json::from_slice(&before).unwrap();
        file.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
        std::fs::write(&path, file.to_string()).unwrap();
        let said = ftk(&["inspect"]).arg(&model).output().unwrap();
        std::fs::write(path, before).unwrap();
        stderr(&said)
    };
    let (plain, scaled) = (
        json!({"rope_type": "default"}),
        json!({"rope_type": "llama3", "factor": 8.0,
        "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}),
    );
    let two = said("config.json", json!({"rope_parameters": plain, "rope_scaling": scaled}));
    assert!(two.contains("config.json: rope_scaling: stands beside rope_parameters and says something else"), "{two}");
    assert_eq!(said("config.json", json!({"rope_parameters": plain, "rope_scaling": plain})), "");
    let split = said("tokenizer_config.json", json!({"split_special_tokens": true}));
    assert!(split.contains("tokenizer_config.json: split_special_tokens: not supported: true"), "{split}");
    let tokenizer: Value = serde_json::from_slice(&std::fs::read(model.join("tokenizer.json")).unwrap()).unwrap();
    let mut random = tokenizer["model"].clone();
    random["dropout"] = json!(0.1);
    let random = said("tokenizer.json", json!({"model": random}));
    assert!(random.contains("model.dropout: leaves merges out at random"), "{random}");
}
