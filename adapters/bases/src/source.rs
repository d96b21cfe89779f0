//! A base model: its small parts, and where its weights are.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use ftk_adapters::staged::Temporary;
use ftk_adapters::weights::Weights;
use ftk_networks::Network;
use ftk_networks::digest::{BaseDigest, Digesting, Texts};
use ftk_networks::texts::SpecialTokens;

use super::chat::{ChatTemplate, Date};
use super::error::ModelError;
use super::folder::{self, Folder};
use super::gguf::{self, GgufFile};
use super::hold::Hold;
use super::parts::{BaseParts, TextFile};
use super::shipped::{MARKET, VILLAGE};
use super::tokenizer::Tokenizer;
use super::{digest, market, village};

/// A base model whose small parts have been read and checked, and whose weights have not.
#[derive(Debug)]
pub struct BaseModel {
    path: PathBuf,
    parts: BaseParts,
    store: Store,
    /// Holds the files of a model that came out of the program itself.
    _unpacked: Option<Temporary>,
}

/// Where the weights and the text files are.
#[derive(Debug)]
enum Store {
    Folder(Folder),
    Gguf(Box<GgufFile>),
}

impl BaseModel {
    /// Opens a Hugging Face folder (`config.json`, safetensors), a `.gguf` file of the Llama family, or one
    /// of the bases that ship inside, by the names `village` and `market`.
    /// A folder need not have a tokenizer or a chat template.
    ///
    /// # Errors
    /// Missing or malformed files, unsupported architectures and options, tensors that are missing or
    /// of a wrong shape: everything that can be found without reading weights.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        // A folder of that name that is no model, such as that of a copied recipe's rows, does not stand in the way.
        let here = path.is_file() || path.join("config.json").exists();
        if path == Path::new(VILLAGE) && !here {
            return Self::unpacked(path, village::unpacked()?);
        }
        if path == Path::new(MARKET) && !here {
            return Self::unpacked(path, market::unpacked()?);
        }
        let metadata = std::fs::metadata(path).map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => ModelError::NotFound { path: path.to_owned() },
            _ => ModelError::Read { path: path.to_owned(), source },
        })?;
        if metadata.is_dir() {
            return Ok(Self::of_folder(path, folder::open(path)?));
        }
        let (parts, gguf) = gguf::open(path)?;
        Ok(Self { path: path.to_owned(), parts, store: Store::Gguf(Box::new(gguf)), _unpacked: None })
    }

    fn of_folder(path: &Path, (parts, folder): (BaseParts, Folder)) -> Self {
        Self { path: path.to_owned(), parts, store: Store::Folder(folder), _unpacked: None }
    }

    /// A base that came out of the program, from a temporary folder that lives as long as the result.
    fn unpacked(name: &Path, files: Temporary) -> Result<Self, ModelError> {
        let source = Self::of_folder(name, folder::open(files.path())?);
        Ok(Self { _unpacked: Some(files), ..source })
    }

    /// Opens a Hugging Face folder whose weights are still to be made: only configuration and tokenizer.
    ///
    /// # Errors
    /// As [`BaseModel::open`].
    pub fn skeleton(path: &Path) -> Result<Self, ModelError> {
        Ok(Self::of_folder(path, folder::skeleton(path)?))
    }

    /// Where the model was read from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The name an adapter refers to its base by (`base_model_name_or_path`): `org/name` for a folder of the
    /// hub's cache, otherwise the path as it was given.
    pub fn name(&self) -> String {
        let cached = self.path.components().find_map(|part| {
            let (org, name) = part.as_os_str().to_str()?.strip_prefix("models--")?.split_once("--")?;
            Some(format!("{org}/{name}"))
        });
        cached.unwrap_or_else(|| self.path.display().to_string())
    }

    /// The network.
    pub fn network(&self) -> &Network {
        &self.parts.network
    }

    /// The tokenizer.
    ///
    /// # Errors
    /// [`ModelError::NoTokenizer`].
    pub fn tokenizer(&self) -> Result<&Tokenizer, ModelError> {
        self.parts.tokenizer.as_ref().ok_or_else(|| ModelError::NoTokenizer { path: self.path.clone() })
    }

    /// Beginning, end, padding and stop ids.
    pub fn special(&self) -> &SpecialTokens {
        &self.parts.special
    }

    /// The chat template.
    ///
    /// # Errors
    /// [`ModelError::NoChatTemplate`].
    pub fn chat_template(&self) -> Result<&ChatTemplate, ModelError> {
        self.parts.template.as_ref().ok_or_else(|| ModelError::NoChatTemplate { path: self.path.clone() })
    }

    /// Has the chat template, if there is one, write this day where it asks for today's.
    pub fn set_date(&mut self, date: Date) {
        if let Some(template) = &mut self.parts.template {
            template.set_date(date);
        }
    }

    /// How the weights that the network uses are stored: number formats, as the files name them, with the tensors
    /// of each.
    pub fn formats(&self) -> BTreeMap<String, usize> {
        let formats = match &self.store {
            Store::Folder(folder) => folder.formats(),
            Store::Gguf(gguf) => gguf.formats(),
        };
        let mut counts = BTreeMap::new();
        formats.into_iter().for_each(|format| *counts.entry(format).or_default() += 1);
        counts
    }

    /// Bytes that the weights take when they are held so. Of a folder without weights, bf16 is assumed to be stored.
    pub fn held_bytes(&self, hold: Hold) -> usize {
        let parameters =
            || self.parts.network.shapes().values().map(|shape| shape.iter().product::<usize>()).sum::<usize>();
        match (hold, &self.store) {
            (Hold::F32, _) => 4 * parameters(),
            (Hold::Stored, Store::Folder(folder)) => folder.stored_bytes().unwrap_or_else(|| 2 * parameters()),
            (Hold::Stored, Store::Gguf(gguf)) => gguf.stored_bytes(),
        }
    }

    /// Reads every weight the network uses, as f32.
    ///
    /// # Errors
    /// Unreadable or truncated files; NaN or infinite entries, by name of the tensor.
    pub fn weights(&self, device: &Device) -> Result<Weights, ModelError> {
        self.weights_held(device, Hold::F32)
    }

    /// [`BaseModel::weights`], held in memory in a way of one's own choice.
    ///
    /// # Errors
    /// As [`BaseModel::weights`].
    pub fn weights_held(&self, device: &Device, hold: Hold) -> Result<Weights, ModelError> {
        match &self.store {
            Store::Folder(folder) => folder.weights(device, hold),
            Store::Gguf(gguf) => gguf.weights(device, hold),
        }
    }

    /// Reads one of the weights the network uses, as f32 into host memory.
    ///
    /// # Errors
    /// As [`BaseModel::weights`]; [`ModelError::MissingTensor`] for another name.
    pub fn weight(&self, name: &str) -> Result<Tensor, ModelError> {
        let weight = match &self.store {
            Store::Folder(folder) => folder.weight(name)?,
            Store::Gguf(gguf) => gguf.weight(name)?,
        };
        weight.ok_or_else(|| ModelError::MissingTensor { path: self.path.clone(), tensor: name.to_owned() })
    }

    /// `D_base` in the making, for a caller who reads one weight after another.
    pub fn digesting(&self) -> Digesting {
        Digesting::new(&self.parts.network, self.texts())
    }

    /// `D_base`, the digest a proof names the base by ([`mod@ftk_networks::digest`]).
    ///
    /// # Errors
    /// [`ModelError::Weight`] if `weights` are not this model's.
    pub fn digest(&self, weights: &Weights) -> Result<BaseDigest, ModelError> {
        digest::base(&self.parts.network, weights, self.texts())
    }

    /// What makes ids of text, as far as `D_base` binds it.
    pub fn texts(&self) -> Texts {
        let tokenizer = self.parts.tokenizer.as_ref().map(|tokenizer| *tokenizer.digest());
        let template = self.parts.template.as_ref().map(|it| (it.source().to_owned(), it.special().clone()));
        let for_tools = self.parts.template.as_ref().and_then(|it| Some(it.own_for_tools()?.source().to_owned()));
        Texts { tokenizer, template, for_tools, stop: self.parts.special.stop.clone() }
    }

    /// The tokenizer's files, for [`save_folder`](super::save_folder): copied from a folder, rebuilt from a GGUF.
    ///
    /// # Errors
    /// Unreadable files.
    pub fn text_files(&self) -> Result<Vec<TextFile>, ModelError> {
        match &self.store {
            Store::Folder(folder) => folder.text_files(),
            Store::Gguf(gguf) => Ok(gguf.text_files()),
        }
    }
}

/// A base model with its weights.
#[derive(Debug)]
pub struct LoadedModel {
    /// Everything but the weights.
    pub source: BaseModel,
    /// The weights, f32.
    pub weights: Weights,
}

impl LoadedModel {
    /// [`BaseModel::open`] and [`BaseModel::weights`].
    ///
    /// # Errors
    /// Those of the two.
    pub fn load(path: &Path, device: &Device) -> Result<Self, ModelError> {
        let source = BaseModel::open(path)?;
        let weights = source.weights(device)?;
        Ok(Self { source, weights })
    }

    /// [`BaseModel::digest`] of the weights as they are.
    ///
    /// # Errors
    /// Those of [`BaseModel::digest`].
    pub fn digest(&self) -> Result<BaseDigest, ModelError> {
        self.source.digest(&self.weights)
    }
}
