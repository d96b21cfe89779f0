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
use ftk_adapters::peft::unwrapped;
use ftk_adapters::weights::Weights;
use ftk_networks::config::ConfigError;
use ftk_networks::texts::FolderTexts;
pub use ftk_networks::texts::TEXT_FILES;
#[cfg(feature = "hub")]
pub(super) use ftk_networks::texts::TOOL_TEMPLATE;
use ftk_networks::{Network, Stored};
use rayon::prelude::*;
use safetensors::Dtype;

pub(super) use self::tensors::check_finite;
#[cfg(feature = "hub")]
pub(super) use self::tensors::{SHARDS, WEIGHTS, shards};
use self::tensors::{TensorPlace, locate};
use self::texts::{json, read};
pub use self::texts::{stored_template, stored_tokens};
use super::chat::ChatTemplate;
use super::error::ModelError;
use super::hold::Hold;
use super::parts::{BaseParts, TextFile};
use super::tokenizer::Tokenizer;

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
        Some(tensor) if folder.tensors.is_empty() => Err(ModelError::OtherNames { path: path.to_owned(), tensor }),
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

    let located = locate(path)?;
    let count = located.len();
    let full = |(name, slot): (String, _)| (network.full_name(unwrapped(&name)), slot);
    let mut tensors: BTreeMap<_, _> = located.into_iter().map(full).collect();
    if tensors.len() < count {
        let reason = "two tensors have one name without what wrappers add".to_owned();
        return Err(ModelError::Malformed { path: path.to_owned(), format: "safetensors", reason });
    }
    let needed = network.shapes();
    own_head(&config_path, &network, &tensors)?;
    if let Some(tensor) = network.unused_tensor(tensors.keys()) {
        return Err(ModelError::ExtraTensor { path: path.to_owned(), tensor: tensor.clone() });
    }
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

    let texts = FolderTexts::read(path, &config_json, |name| read(&path.join(name)))?;
    let tokenizer = match &texts.tokenizer {
        Some(whole) => {
            let tokenizer = Tokenizer::from_json(&path.join("tokenizer.json"), &whole.json, network.vocab())?;
            whole.check(path, |id, token| tokenizer.token(id).as_deref() == Some(token))?;
            Some(tokenizer)
        }
        None => None,
    };
    let special = texts.special_tokens(|token| tokenizer.as_ref()?.id(token), network.vocab());
    let FolderTexts { template, for_tools, special: named, .. } = texts;
    let template = template.map(|source| ChatTemplate::new(source, &named)?.with_tools(for_tools)).transpose()?;
    Ok((BaseParts { network, tokenizer, special, template }, Folder { path: path.to_owned(), tensors }))
}

/// Refuses a head of its own in a network whose configuration, also by its silence, says that its head is the embedding
/// table: one of the two is wrong. A copy of the table is none.
fn own_head(config: &Path, network: &Network, tensors: &BTreeMap<String, TensorPlace>) -> Result<(), ModelError> {
    let Some([own, table]) = network.tied_head() else { return Ok(()) };
    let (Some(head), Some(table)) = (tensors.get(&own), tensors.get(&table)) else { return Ok(()) };
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
