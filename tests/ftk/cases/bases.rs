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
