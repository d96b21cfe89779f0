//! Hugging Face folders: safetensors in one file or in shards, and the small JSON files beside them.
//!
//! Headers are read and checked first; tensors are then read one at a time into f32, so the peak is the
//! weights plus a few tensors. A safetensors file is foreign input: its header MUST fit the file, its tensors MUST
//! fill the rest exactly, and a shard MUST be named by a plain file name.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};

use candle_core::{Device, Tensor};
use ftk_adapters::weights::Weights;
use half::{bf16, f16};
use rayon::prelude::*;
use safetensors::Dtype;
use safetensors::tensor::Metadata;
use serde_json::Value;

use super::config::{self, Object};
use super::tokenizer::{Ids, special_tokens};
use super::{ChatTemplate, ModelError, Source, Store, TextFile, Tokenizer};

/// Files that carry text handling and generation defaults, copied by [`Folder::text_files`].
const TEXT_FILES: &[&str] = &[
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "generation_config.json",
];

/// Largest accepted safetensors header, the limit of the format's own reader.
const MAX_HEADER: u64 = 100_000_000;

/// The weights of a folder, located but not read.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    tensors: BTreeMap<String, Slot>,
}

/// Where one tensor is.
#[derive(Debug)]
struct Slot {
    file: PathBuf,
    dtype: Dtype,
    shape: Vec<usize>,
    /// First byte in the file.
    start: u64,
    /// Length in bytes.
    len: usize,
}

/// Opens a folder: everything but the weights.
pub(super) fn open(path: &Path) -> Result<Source, ModelError> {
    let config_path = path.join("config.json");
    let config_json =
        json(&config_path)?.ok_or_else(|| ModelError::MissingFile { path: path.to_owned(), file: "config.json" })?;
    let network = config::parse(&config_path, &config_json)?;

    let needed = network.shapes();
    let mut located = locate(path)?;
    let mut tensors = BTreeMap::new();
    for (name, expected) in needed {
        let slot = located.remove(&name);
        let slot = slot.ok_or_else(|| ModelError::MissingTensor { path: path.to_owned(), tensor: name.clone() })?;
        if slot.shape != expected {
            return Err(ModelError::Shape { path: slot.file, tensor: name, found: slot.shape, expected });
        }
        if !matches!(slot.dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16) {
            return Err(ModelError::TensorType { path: slot.file, tensor: name, found: format!("{:?}", slot.dtype) });
        }
        tensors.insert(name, slot);
    }

    let tokenizer_path = path.join("tokenizer.json");
    let tokenizer = match read(&tokenizer_path)? {
        Some(bytes) => Some(Tokenizer::from_json(&tokenizer_path, &bytes, network.vocab)?),
        None => None,
    };
    let tokenizer_config_path = path.join("tokenizer_config.json");
    let tokenizer_config = json(&tokenizer_config_path)?.unwrap_or_else(|| Value::Object(serde_json::Map::new()));
    let tokenizer_config = Object::new(&tokenizer_config_path, &tokenizer_config)?;
    let texts = special_texts(&tokenizer_config)?;

    let generation_path = path.join("generation_config.json");
    let mut ids = vec![Ids::read(&Object::new(&config_path, &config_json)?)?];
    if let Some(generation) = json(&generation_path)? {
        ids.push(Ids::read(&Object::new(&generation_path, &generation)?)?);
    }
    let special = special_tokens(tokenizer.as_ref(), &texts, &ids, network.vocab);

    let template = match read(&path.join("chat_template.jinja"))? {
        Some(bytes) => Some(String::from_utf8(bytes).map_err(|error| ModelError::Malformed {
            path: path.join("chat_template.jinja"),
            format: "UTF-8",
            reason: error.to_string(),
        })?),
        None => listed_template(&tokenizer_config)?,
    };
    let template = template.map(|source| ChatTemplate::new(source, &texts)).transpose()?;
    let store = Store::Folder(Folder { path: path.to_owned(), tensors });
    Ok(Source { path: path.to_owned(), network, tokenizer, special, template, store })
}

impl Folder {
    pub(super) fn weights(&self, device: &Device) -> Result<Weights, ModelError> {
        let load = |(name, slot): (&String, &Slot)| Ok((name.clone(), slot.load(name, device)?));
        self.tensors.par_iter().map(load).collect::<Result<Vec<_>, ModelError>>().map(Weights::from_iter)
    }

    pub(super) fn text_files(&self) -> Result<Vec<TextFile>, ModelError> {
        let mut files = Vec::new();
        for name in TEXT_FILES {
            if let Some(bytes) = read(&self.path.join(name))? {
                files.push(TextFile { name: (*name).to_owned(), bytes });
            }
        }
        Ok(files)
    }
}

impl Slot {
    fn load(&self, name: &str, device: &Device) -> Result<Tensor, ModelError> {
        let failed = |source| ModelError::Read { path: self.file.clone(), source };
        let mut file = File::open(&self.file).map_err(failed)?;
        file.seek(SeekFrom::Start(self.start)).map_err(failed)?;
        let mut bytes = vec![0; self.len];
        file.read_exact(&mut bytes).map_err(failed)?;
        let (pairs, _) = bytes.as_chunks::<2>();
        let values: Vec<f32> = match self.dtype {
            Dtype::F16 => pairs.iter().map(|pair| f16::from_le_bytes(*pair).to_f32()).collect(),
            Dtype::BF16 => pairs.iter().map(|pair| bf16::from_le_bytes(*pair).to_f32()).collect(),
            _ => bytes.as_chunks::<4>().0.iter().map(|four| f32::from_le_bytes(*four)).collect(),
        };
        check_finite(&self.file, name, &values)?;
        Ok(Tensor::from_vec(values, self.shape.as_slice(), device)?)
    }
}

/// Refuses NaN and infinities, naming the tensor.
pub(super) fn check_finite(path: &Path, tensor: &str, values: &[f32]) -> Result<(), ModelError> {
    match values.iter().position(|value| !value.is_finite()) {
        None => Ok(()),
        Some(index) => {
            Err(ModelError::NotFinite { path: path.to_owned(), tensor: tensor.to_owned(), index, value: values[index] })
        }
    }
}

/// The bytes of a file; `None` if there is none.
fn read(path: &Path) -> Result<Option<Vec<u8>>, ModelError> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(ModelError::Read { path: path.to_owned(), source }),
    }
}

fn json(path: &Path) -> Result<Option<Value>, ModelError> {
    let parse = |bytes: Vec<u8>| {
        serde_json::from_slice(&bytes).map_err(|error| ModelError::Malformed {
            path: path.to_owned(),
            format: "JSON",
            reason: error.to_string(),
        })
    };
    read(path)?.map(parse).transpose()
}

/// Every tensor of `model.safetensors`, or of the shards its index names.
fn locate(path: &Path) -> Result<BTreeMap<String, Slot>, ModelError> {
    let single = path.join("model.safetensors");
    if single.exists() {
        return header(&single);
    }
    let index_path = path.join("model.safetensors.index.json");
    let index = json(&index_path)?
        .ok_or_else(|| ModelError::MissingFile { path: path.to_owned(), file: "model.safetensors" })?;
    let malformed =
        |reason: String| ModelError::Malformed { path: index_path.clone(), format: "safetensors index", reason };
    let map = index.get("weight_map").and_then(Value::as_object);
    let map = map.ok_or_else(|| malformed("no weight_map".to_owned()))?;

    let mut shards: BTreeMap<&str, BTreeMap<String, Slot>> = BTreeMap::new();
    let mut tensors = BTreeMap::new();
    for (tensor, shard) in map {
        let shard = shard.as_str().filter(|name| is_plain_name(name));
        let shard = shard.ok_or_else(|| malformed(format!("no plain file name for tensor: {tensor}")))?;
        if !shards.contains_key(shard) {
            shards.insert(shard, header(&path.join(shard))?);
        }
        let slot = shards.get_mut(shard).and_then(|slots| slots.remove(tensor));
        let slot = slot.ok_or_else(|| ModelError::MissingTensor { path: path.join(shard), tensor: tensor.clone() })?;
        tensors.insert(tensor.clone(), slot);
    }
    Ok(tensors)
}

/// Whether a name stays in its folder on every system.
fn is_plain_name(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None)) && !name.contains(['/', '\\', ':'])
}

/// The tensors of one safetensors file, from its header.
fn header(path: &Path) -> Result<BTreeMap<String, Slot>, ModelError> {
    let failed = |source| ModelError::Read { path: path.to_owned(), source };
    let malformed = |reason: String| ModelError::Malformed { path: path.to_owned(), format: "safetensors", reason };
    let mut file = File::open(path).map_err(failed)?;
    let total = file.metadata().map_err(failed)?.len();
    let mut length = [0; 8];
    if total < 8 {
        return Err(malformed(format!("too short for a header: {total} bytes")));
    }
    file.read_exact(&mut length).map_err(failed)?;
    let length = u64::from_le_bytes(length);
    if length > MAX_HEADER || length > total - 8 {
        return Err(malformed(format!("header longer than the file or than {MAX_HEADER} bytes: {length}")));
    }
    let mut text = vec![0; usize::try_from(length).expect("bounded by MAX_HEADER")];
    file.read_exact(&mut text).map_err(failed)?;
    // Deserialising validates that the offsets are contiguous and agree with shapes and types.
    let metadata: Metadata = serde_json::from_slice(&text).map_err(|error| malformed(error.to_string()))?;
    let start = 8 + length;
    let expected = start + metadata.data_len() as u64;
    if expected != total {
        return Err(malformed(format!("the header describes {expected} bytes, the file has {total}")));
    }
    let slot = |(name, info): (String, &safetensors::tensor::TensorInfo)| {
        let (from, to) = info.data_offsets;
        let (dtype, shape) = (info.dtype, info.shape.clone());
        (name, Slot { file: path.to_owned(), dtype, shape, start: start + from as u64, len: to - from })
    };
    Ok(metadata.tensors().into_iter().map(slot).collect())
}

/// The texts of the special tokens a chat template may use, as `tokenizer_config.json` gives them:
/// strings or objects with a `content`.
fn special_texts(config: &Object) -> Result<BTreeMap<&'static str, String>, ModelError> {
    let mut texts = BTreeMap::new();
    for key in ["bos_token", "eos_token", "pad_token", "unk_token"] {
        if let Some(text) = config.token(key)? {
            texts.insert(key, text.to_owned());
        }
    }
    Ok(texts)
}

/// `chat_template` of `tokenizer_config.json`: a string, or a list of named templates of which `default` is taken.
fn listed_template(config: &Object) -> Result<Option<String>, ModelError> {
    let Some(list) = config.list("chat_template") else {
        return Ok(config.text("chat_template")?.map(str::to_owned));
    };
    let default = list.iter().find(|entry| entry["name"] == "default");
    Ok(default.and_then(|entry| entry["template"].as_str()).map(str::to_owned))
}
