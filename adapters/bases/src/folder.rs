//! Hugging Face folders: safetensors in one file or in shards, and the small JSON files beside them.
//!
//! Headers are read and checked first; tensors are then read one at a time into f32, so the peak is the
//! weights plus a few tensors. A safetensors file is foreign input: its header MUST fit the file, its tensors MUST
//! fill the rest exactly, and a shard MUST be named by a plain file name.

mod tensors;
mod texts;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use ftk_adapters::weights::Weights;
use ftk_networks::config::{ConfigError, ConfigObject};
use ftk_networks::sites::Role;
use ftk_networks::{Network, Stored};
use rayon::prelude::*;
use safetensors::Dtype;
use serde_json::Value;

pub(super) use self::tensors::check_finite;
#[cfg(feature = "hub")]
pub(super) use self::tensors::{SHARDS, WEIGHTS, shards};
use self::tensors::{TensorPlace, locate};
pub(super) use self::texts::TEXT_FILES;
pub use self::texts::stored_template;
use self::texts::{has_tool_template, json, read, special_texts, template};
use super::added;
use super::chat::ChatTemplate;
use super::error::ModelError;
use super::hold::Hold;
use super::parts::{BaseParts, TextFile};
use super::tokenizer::{Ids, Tokenizer, special_tokens};

/// The weights of a folder, located but not read.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    tensors: BTreeMap<String, TensorPlace>,
}

/// Opens a folder: everything but the weights, which must be there.
pub(super) fn open(path: &Path) -> Result<(BaseParts, Folder), ModelError> {
    let (parts, folder) = read_folder(path, locate)?;
    match parts.network.shapes().into_keys().find(|name| !folder.tensors.contains_key(name)) {
        Some(tensor) => Err(ModelError::MissingTensor { path: path.to_owned(), tensor }),
        None => Ok((parts, folder)),
    }
}

/// Opens a folder whose weights are still to be made.
pub(super) fn skeleton(path: &Path) -> Result<(BaseParts, Folder), ModelError> {
    read_folder(path, |_| Ok(BTreeMap::new()))
}

fn read_folder(
    path: &Path,
    locate: impl Fn(&Path) -> Result<BTreeMap<String, TensorPlace>, ModelError>,
) -> Result<(BaseParts, Folder), ModelError> {
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
    let map_path = path.join("special_tokens_map.json");
    let map = json(&map_path)?.unwrap_or_else(|| Value::Object(serde_json::Map::new()));
    let named = added::named(&tokenizer_config, &map);
    let tokenizer = match read(&tokenizer_path)? {
        Some(bytes) => {
            let older = json(&path.join("added_tokens.json"))?;
            let whole = added::complete(&tokenizer_path, bytes, &tokenizer_config, &named, older.as_ref())?;
            let tokenizer = Tokenizer::from_json(&tokenizer_path, &whole.json, network.vocab())?;
            whole.check(path, &tokenizer)?;
            Some(tokenizer)
        }
        None => None,
    };
    let tokenizer_config = ConfigObject::new(&tokenizer_config_path, &tokenizer_config)?;
    let texts = special_texts(&ConfigObject::new(&tokenizer_config_path, &named)?)?;

    let generation_path = path.join("generation_config.json");
    let mut ids = vec![Ids::read(&ConfigObject::new(&config_path, &config_json)?)?];
    if let Some(generation) = json(&generation_path)? {
        ids.push(Ids::read(&ConfigObject::new(&generation_path, &generation)?)?);
    }
    let special = special_tokens(tokenizer.as_ref(), &texts, &ids, network.vocab());

    let template = template(path, &tokenizer_config)?;
    let mut template = template.map(|source| ChatTemplate::new(source, &texts)).transpose()?;
    if let Some(template) = &mut template {
        template.set_tool_template(has_tool_template(path, &tokenizer_config));
    }
    Ok((BaseParts { network, tokenizer, special, template }, Folder { path: path.to_owned(), tensors }))
}

/// Refuses a head of its own in a network whose configuration, also by its silence, says that its head is the embedding
/// table: one of the two is wrong. A copy of the table is none.
fn own_head(config: &Path, network: &Network, tensors: &BTreeMap<String, TensorPlace>) -> Result<(), ModelError> {
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
        let load = |(name, slot): (&String, &TensorPlace)| Ok((name.clone(), slot.load(name, device, hold)?));
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

#[cfg(test)]
mod tests;
