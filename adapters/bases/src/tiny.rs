//! A model small enough for tests, and its files.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{Device, Tensor};
use ftk_adapters::weights::Weights;
use ftk_networks::{Gpt2, Llama, Network};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};

/// Two layers, grouped heads, head not tied.
pub(super) fn network() -> Llama {
    match Network::read(Path::new("config.json"), &config()).unwrap() {
        Network::Llama(network) => network,
        other => panic!("another network: {other:?}"),
    }
}

/// A GPT-2 with two layers and an MLP that is not four times as wide.
pub(super) fn gpt2() -> Gpt2 {
    Gpt2 { vocab: 16, hidden: 8, intermediate: 12, layers: 2, heads: 2, eps: 1e-5, tied: true, context: 32 }
}

/// `config.json` of [`network`].
pub(super) fn config() -> Value {
    json!({
        "model_type": "llama", "vocab_size": 16, "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 4, "rms_norm_eps": 1e-5,
        "max_position_embeddings": 32, "tie_word_embeddings": false,
    })
}

/// Weights of a network, all different from tensor to tensor: multiples of 1/16 below 16, exact in every precision.
pub(super) fn weights(network: impl Into<Network>) -> Weights {
    let tensor = |(seed, (name, shape)): (usize, (String, Vec<usize>))| {
        let count = shape.iter().product::<usize>();
        let values = (0..count).map(|i| (((i + 1) * (2 * seed + 3)) % 509) as f32 / 16.0 - 15.875);
        let values: Vec<f32> = values.map(|value| (value * 8.0).round() / 8.0).collect();
        (name, Tensor::from_vec(values, shape, &Device::Cpu).unwrap())
    };
    network.into().shapes().into_iter().enumerate().map(tensor).collect()
}

/// Tensors as they stand in a file: type, shape and bytes.
pub(super) type StoredTensors = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

/// Every weight in f32, by name.
pub(super) fn tensors(weights: &Weights) -> impl Iterator<Item = (&str, Tensor)> {
    weights.names().map(|name| (name, weights.get(name).unwrap()))
}

/// Weights as f32, as a file stores them.
pub(super) fn stored(weights: &Weights) -> StoredTensors {
    let tensor = |(name, tensor): (&str, Tensor)| {
        let values = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let bytes = values.into_iter().flat_map(f32::to_le_bytes).collect();
        (name.to_owned(), (Dtype::F32, tensor.dims().to_vec(), bytes))
    };
    tensors(weights).map(tensor).collect()
}

/// Writes one safetensors file.
pub(super) fn write_tensors(path: &Path, tensors: &StoredTensors) {
    let views = tensors
        .iter()
        .map(|(name, (dtype, shape, bytes))| (name.as_str(), TensorView::new(*dtype, shape.clone(), bytes).unwrap()));
    safetensors::serialize_to_file(views, None, path).unwrap();
}

/// Writes a JSON file.
pub(super) fn write_json(path: &Path, value: &Value) {
    std::fs::write(path, serde_json::to_vec(value).unwrap()).unwrap();
}

/// A folder with [`config`] and [`weights`], without a tokenizer.
pub(super) fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    write_json(&folder.path().join("config.json"), &config());
    write_tensors(&folder.path().join("model.safetensors"), &stored(&weights(network())));
    folder
}

/// Whether two sets of weights are equal, bit for bit.
pub(super) fn same(a: &Weights, b: &Weights) -> bool {
    stored(a) == stored(b)
}

/// A byte-level tokenizer that puts `<s>` first: `a` 3, `b` 4, `ab` 5, the two bytes of `é` 6 and 7.
pub(super) const TOKENIZER: &str = r#"{
  "version": "1.0", "truncation": null, "padding": null,
  "added_tokens": [
    {"id": 1, "content": "<s>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true},
    {"id": 2, "content": "<e>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true}
  ],
  "normalizer": null,
  "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
  "post_processor": {
    "type": "TemplateProcessing",
    "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
    "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
    "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}
  },
  "decoder": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
  "model": {
    "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null, "end_of_word_suffix": null,
    "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
    "vocab": {"Ġ": 0, "<s>": 1, "<e>": 2, "a": 3, "b": 4, "ab": 5, "Ã": 6, "©": 7}, "merges": [["a", "b"]]
  }
}"#;
