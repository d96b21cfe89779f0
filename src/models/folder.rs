//! Hugging Face folders: safetensors in one file or in shards, and the small JSON files beside them.
//!
//! Headers are read and checked first; tensors are then read one at a time into f32, so the peak is the
//! weights plus a few tensors. A safetensors file is foreign input: its header MUST fit the file, its tensors MUST
//! fill the rest exactly, and a shard MUST be named by a plain file name.

use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use ftk_adapters::foreign;
use ftk_adapters::peft::LFS;
use ftk_adapters::weights::Weights;
use ftk_networks::config::{ConfigError, Object};
use ftk_networks::sites::Role;
use ftk_networks::{Network, Stored};
use ftk_recipes::Hold;
use half::{bf16, f16};
use rayon::prelude::*;
use safetensors::Dtype;
use safetensors::tensor::Metadata;
use serde_json::Value;

use super::added;
use super::tokenizer::{Ids, special_tokens};
use super::{ChatTemplate, ModelError, Source, Store, TextFile, Tokenizer};

/// Files that carry text handling and generation defaults, copied by [`Folder::text_files`].
pub(super) const TEXT_FILES: &[&str] = &[
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "generation_config.json",
];

/// All weights in one file.
pub(super) const WEIGHTS: &str = "model.safetensors";
/// Which file holds which weight, where there are several.
pub(super) const SHARDS: &str = "model.safetensors.index.json";

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
    /// How the network takes it.
    stored: Stored,
}

/// Opens a folder: everything but the weights, which must be there.
pub(super) fn open(path: &Path) -> Result<Source, ModelError> {
    let source = read_folder(path, locate)?;
    let Store::Folder(folder) = &source.store else { unreachable!("a folder was opened") };
    match source.network.shapes().into_keys().find(|name| !folder.tensors.contains_key(name)) {
        Some(tensor) => Err(ModelError::MissingTensor { path: path.to_owned(), tensor }),
        None => Ok(source),
    }
}

/// Opens a folder whose weights are still to be made.
pub(super) fn skeleton(path: &Path) -> Result<Source, ModelError> {
    read_folder(path, |_| Ok(BTreeMap::new()))
}

fn read_folder(
    path: &Path,
    locate: impl Fn(&Path) -> Result<BTreeMap<String, Slot>, ModelError>,
) -> Result<Source, ModelError> {
    let config_path = path.join("config.json");
    let config_json =
        json(&config_path)?.ok_or_else(|| ModelError::MissingFile { path: path.to_owned(), file: "config.json" })?;
    let network = Network::read(&config_path, &config_json)?;

    let full = |(name, slot)| (network.full_name(name), slot);
    let mut tensors: BTreeMap<_, _> = locate(path)?.into_iter().map(full).collect();
    let needed = network.shapes();
    own_head(&config_path, &network, &tensors)?;
    tensors.retain(|name, _| needed.contains_key(name));
    for (name, slot) in &mut tensors {
        let (tensor, mut expected) = (name.clone(), needed[name].clone());
        slot.stored = network.stored(name);
        if slot.stored == Stored::Transposed {
            expected.reverse();
        }
        if slot.shape != expected {
            return Err(ModelError::Shape { path: slot.file.clone(), tensor, found: slot.shape.clone(), expected });
        }
        if !matches!(slot.dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16) {
            return Err(ModelError::TensorType { path: slot.file.clone(), tensor, found: format!("{:?}", slot.dtype) });
        }
    }

    let tokenizer_path = path.join("tokenizer.json");
    let tokenizer_config_path = path.join("tokenizer_config.json");
    let tokenizer_config = json(&tokenizer_config_path)?.unwrap_or_else(|| Value::Object(serde_json::Map::new()));
    let tokenizer = match read(&tokenizer_path)? {
        Some(bytes) => {
            let older = json(&path.join("added_tokens.json"))?;
            let whole = added::complete(&tokenizer_path, bytes, &tokenizer_config, older.as_ref())?;
            let tokenizer = Tokenizer::from_json(&tokenizer_path, &whole.json, network.vocab())?;
            whole.check(path, &tokenizer)?;
            Some(tokenizer)
        }
        None => None,
    };
    let tokenizer_config = Object::new(&tokenizer_config_path, &tokenizer_config)?;
    let map_path = path.join("special_tokens_map.json");
    let map = json(&map_path)?.unwrap_or_else(|| Value::Object(serde_json::Map::new()));
    let mut texts = special_texts(&Object::new(&map_path, &map)?)?;
    texts.extend(special_texts(&tokenizer_config)?);

    let generation_path = path.join("generation_config.json");
    let mut ids = vec![Ids::read(&Object::new(&config_path, &config_json)?)?];
    if let Some(generation) = json(&generation_path)? {
        ids.push(Ids::read(&Object::new(&generation_path, &generation)?)?);
    }
    let special = special_tokens(tokenizer.as_ref(), &texts, &ids, network.vocab());

    let template = template(path, &tokenizer_config)?;
    let template = template.map(|source| ChatTemplate::new(source, &texts)).transpose()?;
    let store = Store::Folder(Folder { path: path.to_owned(), tensors });
    Ok(Source { path: path.to_owned(), network, tokenizer, special, template, store, unpacked: None })
}

/// Refuses a head of its own in a network whose configuration, also by its silence, says that its head is the embedding
/// table: one of the two is wrong. A copy of the table is none.
fn own_head(config: &Path, network: &Network, tensors: &BTreeMap<String, Slot>) -> Result<(), ModelError> {
    let Some(site) = network.sites().into_iter().find(|site| site.role == Role::Head) else { return Ok(()) };
    let own = format!("{}.weight", site.name);
    let table = tensors.get(&format!("{}.weight", site.weight));
    let (Some(head), Some(table), true) = (tensors.get(&own), table, site.weight != site.name) else { return Ok(()) };
    if head.dtype == table.dtype && head.shape == table.shape && head.bytes()? == table.bytes()? {
        return Ok(());
    }
    let reason = format!("says that the head is the embedding table, but the weights have another: {own}");
    Err(ConfigError::Key { path: config.to_owned(), key: "tie_word_embeddings".to_owned(), reason }.into())
}

impl Folder {
    pub(super) fn weights(&self, device: &Device, hold: Hold) -> Result<Weights, ModelError> {
        let load = |(name, slot): (&String, &Slot)| Ok((name.clone(), slot.load(name, device, hold)?));
        self.tensors.par_iter().map(load).collect::<Result<Vec<_>, ModelError>>().map(Weights::from_iter)
    }

    /// One weight in f32, if the network has it.
    pub(super) fn weight(&self, name: &str) -> Result<Option<Tensor>, ModelError> {
        self.tensors.get(name).map(|slot| slot.load(name, &Device::Cpu, Hold::F32)).transpose()
    }

    /// Bytes of the tensors as they are stored; `None` where there are none.
    pub(super) fn stored_bytes(&self) -> Option<usize> {
        (!self.tensors.is_empty()).then(|| self.tensors.values().map(|slot| slot.len).sum())
    }

    /// The number format of every tensor.
    pub(super) fn formats(&self) -> Vec<String> {
        self.tensors.values().map(|slot| format!("{:?}", slot.dtype)).collect()
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
    /// The tensor as it is stored.
    fn bytes(&self) -> Result<Vec<u8>, ModelError> {
        let failed = |source| ModelError::Read { path: self.file.clone(), source };
        let mut file = foreign::open(&self.file).map_err(failed)?;
        file.seek(SeekFrom::Start(self.start)).map_err(failed)?;
        let mut bytes = vec![0; self.len];
        file.read_exact(&mut bytes).map_err(failed)?;
        Ok(bytes)
    }

    fn load(&self, name: &str, device: &Device, hold: Hold) -> Result<Tensor, ModelError> {
        let bytes = self.bytes()?;
        let (pairs, _) = bytes.as_chunks::<2>();
        let mut values: Vec<f32> = match self.dtype {
            Dtype::F16 => pairs.iter().map(|pair| f16::from_le_bytes(*pair).to_f32()).collect(),
            Dtype::BF16 => pairs.iter().map(|pair| bf16::from_le_bytes(*pair).to_f32()).collect(),
            _ => bytes.as_chunks::<4>().0.iter().map(|four| f32::from_le_bytes(*four)).collect(),
        };
        check_finite(&self.file, name, &values)?;
        if self.stored == Stored::LessOne {
            values.iter_mut().for_each(|value| *value += 1.0);
        }
        let values = Tensor::from_vec(values, self.shape.as_slice(), &Device::Cpu)?;
        let values = if self.stored == Stored::Transposed { values.t()?.contiguous()? } else { values };
        // Back to what it was read from: nothing is lost, unless one was added.
        let dtype = match (hold, self.dtype) {
            _ if self.stored == Stored::LessOne => DType::F32,
            (Hold::Stored, Dtype::F16) => DType::F16,
            (Hold::Stored, Dtype::BF16) => DType::BF16,
            _ => DType::F32,
        };
        Ok(values.to_dtype(dtype)?.to_device(device)?)
    }
}

/// Refuses NaN and infinities, naming the tensor.
pub(super) fn check_finite(path: &Path, tensor: &str, values: &[f32]) -> Result<(), ModelError> {
    // A loop that stops at the first would look at one value at a time.
    const CHUNK: usize = 1 << 12;
    let finite = |values: &[f32]| values.iter().fold(true, |all, value| all & value.is_finite());
    if values.chunks(CHUNK).all(finite) {
        return Ok(());
    }
    match values.iter().position(|value| !value.is_finite()) {
        None => Ok(()),
        Some(index) => {
            Err(ModelError::NotFinite { path: path.to_owned(), tensor: tensor.to_owned(), index, value: values[index] })
        }
    }
}

/// The bytes of a file; `None` if there is none.
fn read(path: &Path) -> Result<Option<Vec<u8>>, ModelError> {
    match foreign::read(path, foreign::DOCUMENT) {
        Ok(bytes) if bytes.starts_with(LFS) => Err(ModelError::Pointer { path: path.to_owned() }),
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
    let single = path.join(WEIGHTS);
    if single.exists() {
        return header(&single);
    }
    let mut shards: BTreeMap<String, BTreeMap<String, Slot>> = BTreeMap::new();
    let mut tensors = BTreeMap::new();
    for (tensor, shard) in index(path)? {
        if !shards.contains_key(&shard) {
            shards.insert(shard.clone(), header(&path.join(&shard))?);
        }
        let slot = shards.get_mut(&shard).and_then(|slots| slots.remove(&tensor));
        let slot = slot.ok_or_else(|| ModelError::MissingTensor { path: path.join(&shard), tensor: tensor.clone() })?;
        tensors.insert(tensor, slot);
    }
    Ok(tensors)
}

/// Every tensor with the plain name of its file, as the index of a folder says.
fn index(path: &Path) -> Result<Vec<(String, String)>, ModelError> {
    let index_path = path.join(SHARDS);
    let index = json(&index_path)?.ok_or_else(|| ModelError::MissingFile { path: path.to_owned(), file: WEIGHTS })?;
    let malformed =
        |reason: String| ModelError::Malformed { path: index_path.clone(), format: "safetensors index", reason };
    let map = index.get("weight_map").and_then(Value::as_object);
    let map = map.ok_or_else(|| malformed("no weight_map".to_owned()))?;
    let entry = |(tensor, shard): (&String, &Value)| {
        let shard = shard.as_str().filter(|name| is_plain_name(name));
        let shard = shard.ok_or_else(|| malformed(format!("no plain file name for tensor: {tensor}")))?;
        Ok((tensor.clone(), shard.to_owned()))
    };
    map.iter().map(entry).collect()
}

/// The files that the index of a folder names, each once.
#[cfg(feature = "hub")]
pub(super) fn shards(path: &Path) -> Result<Vec<String>, ModelError> {
    let mut files: Vec<String> = index(path)?.into_iter().map(|(_, shard)| shard).collect();
    files.sort();
    files.dedup();
    Ok(files)
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
    let mut file = foreign::open(path).map_err(failed)?;
    let total = file.metadata().map_err(failed)?.len();
    let mut length = [0; 8];
    if total < 8 {
        return Err(malformed(format!("too short for a header: {total} bytes")));
    }
    file.read_exact(&mut length).map_err(failed)?;
    if LFS.starts_with(&length) {
        return Err(ModelError::Pointer { path: path.to_owned() });
    }
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
        let start = start + from as u64;
        (name, Slot { file: path.to_owned(), dtype, shape, start, len: to - from, stored: Stored::Plain })
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

/// The chat template of a folder: `chat_template.jinja`, or what `tokenizer_config.json` says.
fn template(path: &Path, tokenizer_config: &Object) -> Result<Option<String>, ModelError> {
    let file = path.join("chat_template.jinja");
    match read(&file)? {
        Some(bytes) => String::from_utf8(bytes).map(Some).map_err(|error| ModelError::Malformed {
            path: file,
            format: "UTF-8",
            reason: error.to_string(),
        }),
        None => listed_template(tokenizer_config),
    }
}

/// The text of the chat template in any folder, if it has one.
///
/// # Errors
/// Files that are neither text nor JSON.
pub(super) fn stored_template(path: &Path) -> Result<Option<String>, ModelError> {
    let config_path = path.join("tokenizer_config.json");
    let config = json(&config_path)?.unwrap_or_else(|| Value::Object(serde_json::Map::new()));
    template(path, &Object::new(&config_path, &config)?)
}

/// `chat_template` of `tokenizer_config.json`: a string, or a list of named templates of which `default` is taken.
fn listed_template(config: &Object) -> Result<Option<String>, ModelError> {
    let Some(list) = config.list("chat_template") else {
        return Ok(config.text("chat_template")?.map(str::to_owned));
    };
    let default = list.iter().find(|entry| entry["name"] == "default");
    Ok(default.and_then(|entry| entry["template"].as_str()).map(str::to_owned))
}

#[cfg(test)]
mod tests {
    use ftk_adapters::hint::Hint;
    use serde_json::json;

    use super::super::tiny::{self, Stored};
    use super::*;

    fn weights(folder: &Path) -> Result<Weights, ModelError> {
        Source::open(folder)?.weights(&Device::Cpu)
    }

    /// The folder's only tensor file after a change, and what opening it says, without the path in front.
    fn refused(change: impl FnOnce(&mut Stored)) -> String {
        let folder = tiny::folder();
        let mut tensors = tiny::stored(&tiny::weights(tiny::network()));
        change(&mut tensors);
        tiny::write_tensors(&folder.path().join("model.safetensors"), &tensors);
        without_folder(folder.path(), &weights(folder.path()).unwrap_err())
    }

    fn without_folder(folder: &Path, error: &ModelError) -> String {
        error.to_string().replace(&folder.display().to_string(), "M")
    }

    #[test]
    fn matrices_of_gpt2_are_turned_and_its_names_completed() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("model.safetensors");
        let network: Network = tiny::gpt2().into();
        let expected = tiny::weights(network.clone());
        let special = super::super::SpecialTokens::default();
        let saved = folder.path().join("saved");
        super::super::save_folder(&saved, &network, &expected, super::super::Precision::F32, &special, &[]).unwrap();
        std::fs::copy(saved.join("config.json"), folder.path().join("config.json")).unwrap();

        let bare = |weights: &Weights| -> Stored {
            let turned = |(name, tensor): (&str, Tensor)| {
                let name = name.strip_prefix("transformer.").unwrap_or(name).to_owned();
                let turn = name.ends_with(".weight") && (name.contains(".attn.") || name.contains(".mlp."));
                (name, if turn { tensor.t().unwrap() } else { tensor })
            };
            tiny::stored(&tiny::tensors(weights).map(turned).collect())
        };
        let mut tensors = bare(&expected);
        // Buffers of the masks, which are no weights.
        tensors.insert("h.0.attn.bias".to_owned(), (Dtype::F32, vec![1], vec![0; 4]));
        tiny::write_tensors(&file, &tensors);
        assert!(tiny::same(&weights(folder.path()).unwrap(), &expected));
        assert!(tiny::same(&weights(&saved).unwrap(), &expected));

        tensors.get_mut("h.1.mlp.c_fc.weight").unwrap().1.reverse();
        tiny::write_tensors(&file, &tensors);
        let error = without_folder(folder.path(), &Source::open(folder.path()).unwrap_err());
        let name = "transformer.h.1.mlp.c_fc.weight";
        assert_eq!(error, format!("M/model.safetensors: tensor {name} has shape [12, 8], the network needs [8, 12]"));
        tensors.remove("h.1.mlp.c_fc.weight");
        tiny::write_tensors(&file, &tensors);
        let error = without_folder(folder.path(), &Source::open(folder.path()).unwrap_err());
        assert_eq!(error, format!("M: missing tensor: {name}"));
    }

    fn write_shards(folder: &Path, of: impl Fn(usize) -> usize) {
        let mut shards: BTreeMap<String, Stored> = BTreeMap::new();
        let mut map = serde_json::Map::new();
        for (i, (name, tensor)) in tiny::stored(&tiny::weights(tiny::network())).into_iter().enumerate() {
            let shard = format!("model-{}.safetensors", of(i));
            map.insert(name.clone(), json!(shard));
            shards.entry(shard).or_default().insert(name, tensor);
        }
        for (shard, tensors) in &shards {
            tiny::write_tensors(&folder.join(shard), tensors);
        }
        tiny::write_json(&folder.join("model.safetensors.index.json"), &json!({ "weight_map": map }));
        std::fs::remove_file(folder.join("model.safetensors")).unwrap();
    }

    #[test]
    fn a_folder_without_a_tokenizer_loads() {
        let folder = tiny::folder();
        let source = Source::open(folder.path()).unwrap();
        assert_eq!(*source.network(), tiny::network().into());
        assert!(tiny::same(&source.weights(&Device::Cpu).unwrap(), &tiny::weights(tiny::network())));
        let error = source.tokenizer().unwrap_err();
        assert_eq!(without_folder(folder.path(), &error), "M: this model has no tokenizer");
        assert_eq!(error.hint().unwrap(), "add the model's tokenizer.json, or give token ids");
        let error = source.chat_template().unwrap_err();
        assert_eq!(without_folder(folder.path(), &error), "M: this model has no chat template");
    }

    #[test]
    fn shards_equal_one_file() {
        let expected = tiny::weights(tiny::network());
        for of in [|i| i % 3, |i| i / 7] {
            let folder = tiny::folder();
            write_shards(folder.path(), of);
            assert!(tiny::same(&weights(folder.path()).unwrap(), &expected));
        }
    }

    #[test]
    fn half_precisions_are_widened() {
        let expected = tiny::weights(tiny::network());
        for half in [Dtype::F16, Dtype::BF16] {
            let folder = tiny::folder();
            let mut tensors = tiny::stored(&expected);
            for (dtype, _, bytes) in tensors.values_mut() {
                let values = bytes.as_chunks::<4>().0.iter().map(|four| f32::from_le_bytes(*four));
                *bytes = match half {
                    Dtype::F16 => values.flat_map(|value| f16::from_f32(value).to_le_bytes()).collect(),
                    _ => values.flat_map(|value| bf16::from_f32(value).to_le_bytes()).collect(),
                };
                *dtype = half;
            }
            tiny::write_tensors(&folder.path().join("model.safetensors"), &tensors);
            let source = Source::open(folder.path()).unwrap();
            let full = source.weights(&Device::Cpu).unwrap();
            assert!(tiny::same(&full, &expected), "{half:?}");
            let held = source.weights_held(&Device::Cpu, Hold::Stored).unwrap();
            assert!(tiny::same(&held, &expected) && 2 * held.bytes() == full.bytes(), "{half:?}");
        }
    }

    #[test]
    fn wrong_tensors_are_refused_by_name() {
        let norm = "model.norm.weight";
        let missing = refused(|tensors| drop(tensors.remove(norm)));
        assert_eq!(missing, "M: missing tensor: model.norm.weight");
        let shape = refused(|tensors| tensors.get_mut(norm).unwrap().1 = vec![2, 4]);
        assert_eq!(shape, "M/model.safetensors: tensor model.norm.weight has shape [2, 4], the network needs [8]");
        let integers = refused(|tensors| tensors.get_mut(norm).unwrap().0 = Dtype::I32);
        assert_eq!(integers, "M/model.safetensors: tensor model.norm.weight has an unsupported type: I32");
        for (value, shown) in [(f32::NAN, "NaN"), (f32::NEG_INFINITY, "-inf")] {
            let error =
                refused(|tensors| tensors.get_mut(norm).unwrap().2[12..16].copy_from_slice(&value.to_le_bytes()));
            let expected = "M/model.safetensors: tensor model.norm.weight has an entry that is not finite: ";
            assert_eq!(error, format!("{expected}{shown} at index 3"));
        }
    }

    #[test]
    fn an_untied_model_without_a_head_gets_a_hint() {
        let folder = tiny::folder();
        let mut tensors = tiny::stored(&tiny::weights(tiny::network()));
        tensors.remove("lm_head.weight");
        tiny::write_tensors(&folder.path().join("model.safetensors"), &tensors);
        let error = Source::open(folder.path()).unwrap_err();
        assert_eq!(without_folder(folder.path(), &error), "M: missing tensor: lm_head.weight");
        assert!(error.hint().unwrap().contains("tie_word_embeddings"));

        let mut config = tiny::config();
        config["tie_word_embeddings"] = json!(true);
        tiny::write_json(&folder.path().join("config.json"), &config);
        assert!(!Source::open(folder.path()).unwrap().network().shapes().contains_key("lm_head.weight"));
    }

    #[test]
    fn a_head_of_its_own_where_the_configuration_says_tied_is_refused_and_a_copy_is_not() {
        let folder = tiny::folder();
        let mut config = tiny::config();
        config["tie_word_embeddings"] = json!(true);
        tiny::write_json(&folder.path().join("config.json"), &config);
        let error = without_folder(folder.path(), &Source::open(folder.path()).unwrap_err());
        let reason = "says that the head is the embedding table, but the weights have another: lm_head.weight";
        assert_eq!(error, format!("M/config.json: tie_word_embeddings: {reason}"));
        let mut tensors = tiny::stored(&tiny::weights(tiny::network()));
        let table = tensors["model.embed_tokens.weight"].clone();
        tensors.insert("lm_head.weight".to_owned(), table);
        tiny::write_tensors(&folder.path().join("model.safetensors"), &tensors);
        assert!(Source::open(folder.path()).is_ok());
    }

    #[test]
    fn a_head_of_its_own_where_silence_means_tied_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let network = Network::from(tiny::gpt2());
        let mut config = network.write();
        config.as_object_mut().unwrap().remove("tie_word_embeddings");
        tiny::write_json(&folder.path().join("config.json"), &config);
        let mut tensors = tiny::stored(&tiny::weights(tiny::gpt2()));
        for (name, (_, shape, bytes)) in &mut tensors {
            if network.stored(name) == ftk_networks::Stored::Transposed {
                // Only the head and the table are looked at here, whatever else stands in the file.
                shape.reverse();
                bytes.fill(0);
            }
        }
        let path = folder.path().join("model.safetensors");
        tiny::write_tensors(&path, &tensors);
        assert!(Source::open(folder.path()).is_ok());
        let mut head = tensors["transformer.wte.weight"].clone();
        head.2[0] ^= 1;
        tensors.insert("lm_head.weight".to_owned(), head);
        tiny::write_tensors(&path, &tensors);
        let error = without_folder(folder.path(), &Source::open(folder.path()).unwrap_err());
        assert!(error.starts_with("M/config.json: tie_word_embeddings: says that the head is"), "{error}");
    }

    #[test]
    fn pointers_of_git_lfs_are_named_as_such() {
        let pointer = [LFS, b"v1\noid sha256:0\nsize 3\n"].concat();
        for name in ["model.safetensors", "config.json"] {
            let folder = tiny::folder();
            std::fs::write(folder.path().join(name), &pointer).unwrap();
            let error = Source::open(folder.path()).unwrap_err();
            assert_eq!(
                without_folder(folder.path(), &error),
                format!("M/{name}: a Git LFS pointer, not the file it stands for")
            );
            assert!(error.hint().unwrap().contains("git lfs pull"));
        }
    }

    #[test]
    fn files_that_lie_about_their_length_are_refused() {
        let folder = tiny::folder();
        let file = folder.path().join("model.safetensors");
        let whole = std::fs::read(&file).unwrap();
        let refused = |bytes: &[u8]| {
            std::fs::write(&file, bytes).unwrap();
            without_folder(folder.path(), &Source::open(folder.path()).unwrap_err())
        };
        let described = whole.len();
        let start = "M/model.safetensors: malformed safetensors: ";
        for (bytes, reason) in [
            (&whole[..5], "too short for a header: 5 bytes".to_owned()),
            (&whole[..100], format!("header longer than the file or than {MAX_HEADER} bytes: ")),
            (
                &whole[..described - 1],
                format!("the header describes {described} bytes, the file has {}", described - 1),
            ),
            (&[&whole[..], b"x"].concat(), format!("the header describes {described} bytes")),
            (&[&u64::MAX.to_le_bytes()[..], b"{}"].concat(), "header longer than the file".to_owned()),
            (&[&2u64.to_le_bytes()[..], b"{]"].concat(), "key must be a string".to_owned()),
        ] {
            let error = refused(bytes);
            assert!(error.starts_with(&format!("{start}{reason}")), "{error}");
        }
    }

    #[test]
    fn an_index_cannot_leave_its_folder() {
        let folder = tiny::folder();
        std::fs::remove_file(folder.path().join("model.safetensors")).unwrap();
        let index = folder.path().join("model.safetensors.index.json");
        for name in ["../model.safetensors", "/model.safetensors", "a/b.safetensors", "..", "", "c:x", "a\\b"] {
            tiny::write_json(&index, &json!({ "weight_map": { "model.norm.weight": name } }));
            let error = without_folder(folder.path(), &Source::open(folder.path()).unwrap_err());
            assert_eq!(
                error,
                "M/model.safetensors.index.json: malformed safetensors index: \
                 no plain file name for tensor: model.norm.weight",
                "{name}"
            );
        }
        tiny::write_tensors(&folder.path().join("a.safetensors"), &Stored::new());
        tiny::write_json(&index, &json!({ "weight_map": { "model.norm.weight": "a.safetensors" } }));
        let error = without_folder(folder.path(), &Source::open(folder.path()).unwrap_err());
        assert_eq!(error, "M/a.safetensors: missing tensor: model.norm.weight");
    }

    #[test]
    fn paths_that_are_no_model_get_a_hint() {
        let folder = tempfile::tempdir().unwrap();
        let error = Source::open(&folder.path().join("absent")).unwrap_err();
        assert_eq!(without_folder(folder.path(), &error), "M/absent: no such file or folder");
        assert!(error.hint().unwrap().contains(".gguf"));
        tiny::write_json(&folder.path().join("adapter_config.json"), &json!({}));
        let error = Source::open(folder.path()).unwrap_err();
        assert_eq!(without_folder(folder.path(), &error), "M: no such file in this folder: config.json");
        assert!(error.hint().unwrap().contains("adapter"));
    }

    #[test]
    fn special_tokens_and_templates_come_from_every_file() {
        let folder = tiny::folder();
        let file = |name: &str| folder.path().join(name);
        let mut config = tiny::config();
        config["eos_token_id"] = json!(9);
        config["pad_token_id"] = json!(-1);
        tiny::write_json(&file("config.json"), &config);
        tiny::write_json(&file("generation_config.json"), &json!({"eos_token_id": [9, 11, 99], "pad_token_id": 8}));
        std::fs::write(file("tokenizer.json"), tiny::TOKENIZER).unwrap();
        let templates = json!([{"name": "rag", "template": "R"}, {"name": "default", "template": "{{ eos_token }}D"}]);
        let tokens = json!({"bos_token": {"content": "<s>"}, "eos_token": "<e>", "chat_template": templates});
        tiny::write_json(&file("tokenizer_config.json"), &tokens);

        let source = Source::open(folder.path()).unwrap();
        let expected =
            super::super::SpecialTokens { bos: Some(1), eos: Some(2), pad: Some(8), stop: [2, 9, 11].into() };
        assert_eq!(source.special(), &expected);
        assert_eq!(source.chat_template().unwrap().render(&[], &[], false).unwrap(), "<e>D");
        std::fs::write(file("chat_template.jinja"), "{{ bos_token }}J").unwrap();
        let source = Source::open(folder.path()).unwrap();
        assert_eq!(source.chat_template().unwrap().render(&[], &[], false).unwrap(), "<s>J");
        let copied: Vec<_> = source.text_files().unwrap().into_iter().map(|file| file.name).collect();
        let expected = ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"];
        assert_eq!(copied, expected);
    }

    #[test]
    fn a_folder_of_the_hub_cache_is_known_by_its_name() {
        let root = tempfile::tempdir().unwrap();
        let snapshot = root.path().join("models--org--tiny-model").join("snapshots").join("0123");
        std::fs::create_dir_all(&snapshot).unwrap();
        let folder = tiny::folder();
        for name in ["config.json", "model.safetensors"] {
            std::fs::copy(folder.path().join(name), snapshot.join(name)).unwrap();
        }
        assert_eq!(Source::open(&snapshot).unwrap().name(), "org/tiny-model");
        assert_eq!(Source::open(folder.path()).unwrap().name(), folder.path().display().to_string());
    }
}
