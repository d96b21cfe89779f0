//! Writing a base model as a Hugging Face folder, for bases that ftk trains in full.
//!
//! The configuration is written in the dialect of transformers 4, which transformers 5 reads too.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use ftk_adapters::ops::{Heads, Llama3Scaling, Rope};
use ftk_adapters::weights::Weights;
use half::bf16;
use safetensors::Dtype;
use safetensors::tensor::View;
use serde_json::{Value, json};

use super::{Llama, ModelError, SpecialTokens, TextFile};

/// How weights are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// As they are.
    F32,
    /// Rounded to nearest, ties to even.
    Bf16,
}

/// Writes `config.json`, `generation_config.json`, `model.safetensors` and the given text files to the new folder
/// `path`. It appears complete or not at all: everything is written beside it first and renamed last.
///
/// # Errors
/// [`ModelError::Exists`]; a weight of the network missing or mis-shaped; files that cannot be written.
pub fn save_folder(
    path: &Path,
    network: &Llama,
    weights: &Weights,
    precision: Precision,
    special: &SpecialTokens,
    text_files: &[TextFile],
) -> Result<(), ModelError> {
    if path.exists() {
        return Err(ModelError::Exists { path: path.to_owned() });
    }
    let write_error = |source| ModelError::Write { path: path.to_owned(), source };
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(parent).map_err(write_error)?;
    let staging = tempfile::Builder::new().prefix(".ftk-model-").tempdir_in(parent).map_err(write_error)?;
    // A folder inside the private temporary one gets the permissions a user expects of a new folder.
    let folder = staging.path().join("model");
    std::fs::create_dir(&folder).map_err(write_error)?;

    let mut files = vec![
        ("config.json", pretty(&config(network, precision, special))),
        ("generation_config.json", pretty(&generation_config(special))),
    ];
    files.extend(text_files.iter().map(|file| (file.name.as_str(), file.bytes.clone())));
    for (name, bytes) in files {
        std::fs::write(folder.join(name), bytes).map_err(write_error)?;
    }
    write_weights(&folder.join("model.safetensors"), path, network, weights, precision)?;
    std::fs::rename(&folder, path).map_err(write_error)
}

fn pretty(value: &Value) -> Vec<u8> {
    let mut text = serde_json::to_vec_pretty(value).expect("a JSON value serialises");
    text.push(b'\n');
    text
}

fn config(network: &Llama, precision: Precision, special: &SpecialTokens) -> Value {
    let Llama { vocab, hidden, intermediate, layers, heads, rope, eps, tied, context } = network;
    let Heads { query, key_value, dim } = heads;
    let Rope { dim: _, theta, scaling } = rope;
    let scaling = scaling.as_ref().map(|scaling| {
        let Llama3Scaling { factor, low_freq_factor, high_freq_factor, original_context } = scaling;
        json!({
            "rope_type": "llama3",
            "factor": factor,
            "low_freq_factor": low_freq_factor,
            "high_freq_factor": high_freq_factor,
            "original_max_position_embeddings": original_context,
        })
    });
    json!({
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": vocab,
        "hidden_size": hidden,
        "intermediate_size": intermediate,
        "num_hidden_layers": layers,
        "num_attention_heads": query,
        "num_key_value_heads": key_value,
        "head_dim": dim,
        "hidden_act": "silu",
        "max_position_embeddings": context,
        "rms_norm_eps": eps,
        "rope_theta": theta,
        "rope_scaling": scaling,
        "tie_word_embeddings": tied,
        "attention_bias": false,
        "attention_dropout": 0.0,
        "mlp_bias": false,
        "bos_token_id": special.bos,
        "eos_token_id": special.eos,
        "pad_token_id": special.pad,
        "torch_dtype": match precision {
            Precision::F32 => "float32",
            Precision::Bf16 => "bfloat16",
        },
        "use_cache": true,
    })
}

fn generation_config(special: &SpecialTokens) -> Value {
    json!({ "bos_token_id": special.bos, "eos_token_id": special.stop, "pad_token_id": special.pad })
}

/// Writes the tensors the network uses; `shown` is the path named in errors.
fn write_weights(
    file: &Path,
    shown: &Path,
    network: &Llama,
    weights: &Weights,
    precision: Precision,
) -> Result<(), ModelError> {
    let mut entries = Vec::new();
    for (name, expected) in network.shapes() {
        let tensor = weights.get(&name)?;
        if tensor.dims() != expected {
            let (path, found) = (shown.to_owned(), tensor.dims().to_vec());
            return Err(ModelError::Shape { path, tensor: name, found, expected });
        }
        let tensor = tensor.to_device(&Device::Cpu)?.to_dtype(DType::F32)?.flatten_all()?;
        entries.push((name, Entry { tensor, shape: expected, precision }));
    }
    // transformers refuses files whose metadata does not name a format.
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    safetensors::serialize_to_file(entries, Some(metadata), file)
        .map_err(|error| ModelError::Write { path: shown.to_owned(), source: std::io::Error::other(error) })
}

/// A tensor to be written: flat, f32, on the CPU, converted only when its turn comes.
struct Entry {
    tensor: Tensor,
    shape: Vec<usize>,
    precision: Precision,
}

impl View for Entry {
    fn dtype(&self) -> Dtype {
        match self.precision {
            Precision::F32 => Dtype::F32,
            Precision::Bf16 => Dtype::BF16,
        }
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let values = self.tensor.to_vec1::<f32>().expect("the tensor is flat, f32 and on the CPU");
        Cow::Owned(match self.precision {
            Precision::F32 => values.into_iter().flat_map(f32::to_le_bytes).collect(),
            Precision::Bf16 => values.into_iter().flat_map(|value| bf16::from_f32(value).to_le_bytes()).collect(),
        })
    }

    fn data_len(&self) -> usize {
        let width = match self.precision {
            Precision::F32 => 4,
            Precision::Bf16 => 2,
        };
        self.tensor.elem_count() * width
    }
}
