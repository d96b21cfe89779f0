//! GGUF files (versions 2 and 3): one file with configuration, weights, tokenizer and
//! chat template, as llama.cpp writes it. Weights are dequantised to f32.
//!
//! What differs from a Hugging Face folder: names; the rows of q and k, which llama.cpp permutes for Llama's
//! rotary embedding; and the tokenizer, which is rebuilt ([`tokenizer`]). The container is read by candle, which
//! bounds every length by the file's; [`layout`] first refuses what candle would divide by.

pub mod adapter;
mod layout;
mod metadata;
mod tokenizer;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::quantized::gguf_file::{Content, Value};
use candle_core::{Device, Tensor};
use ftk_adapters::foreign;
use ftk_adapters::weights::{self, Weight, Weights};
use ftk_networks::Network;
use ftk_networks::config::{ConfigError, ConfigObject, GgufMetadata as Description};
use ftk_networks::texts::SpecialTokens;
use rayon::prelude::*;
use serde_json::json;

use self::metadata::{Metadata, single};
use super::chat::ChatTemplate;
use super::error::ModelError;
use super::folder::check_finite;
use super::hold::Hold;
use super::parts::{BaseParts, TextFile};
use super::tokenizer::Tokenizer;

/// A GGUF file whose header has been read.
pub(super) struct GgufFile {
    path: PathBuf,
    content: Content,
    tensors: Vec<Located>,
    text_files: Vec<TextFile>,
}

impl std::fmt::Debug for GgufFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gguf").field("path", &self.path).field("tensors", &self.tensors).finish_non_exhaustive()
    }
}

/// One tensor the network uses.
#[derive(Debug)]
struct Located {
    name: String,
    in_file: String,
    shape: Vec<usize>,
    /// Heads whose rows llama.cpp permuted.
    permuted: Option<usize>,
}

/// Opens a file: everything but the weights.
pub(super) fn open(path: &Path) -> Result<(BaseParts, GgufFile), ModelError> {
    let mut reader = BufReader::new(foreign::open(path).map_err(|source| read_error(path, source))?);
    layout::check(path, &mut reader)?;
    let content = Content::read(&mut reader).map_err(|error| ModelError::Malformed {
        path: path.to_owned(),
        format: "GGUF",
        reason: reason(error),
    })?;
    let metadata = Metadata { path, content: &content };
    if let Some(other) = metadata.text("general.type")?.filter(|&kind| kind != "model") {
        return Err(metadata.error(
            "general.type",
            format!("no model is in this file, but of type {other}; ftk convert makes a folder of an adapter"),
        ));
    }
    if let Some(parts) = metadata.size("split.count")?.filter(|&parts| parts > 1) {
        let reason = format!("the file is one part of several, which must be joined (gguf-split --merge): {parts}");
        return Err(metadata.error("split.count", reason));
    }
    let mut network = network(&metadata)?;
    if let Some(divisors) = rope_divisors(&metadata, &mut reader)? {
        network.divide_frequencies(&divisors).map_err(|reason| metadata.error(ROPE_DIVISORS, reason))?;
    }
    let tensors = locate(path, &content, &network)?;
    let GgufTexts { tokenizer, special, template, files } = texts(&metadata, &network)?;
    Ok((
        BaseParts { network, tokenizer, special, template },
        GgufFile { path: path.to_owned(), content, tensors, text_files: files },
    ))
}

/// What a file has for text, and the files of a folder that say the same.
#[derive(Default)]
struct GgufTexts {
    tokenizer: Option<Tokenizer>,
    special: SpecialTokens,
    template: Option<ChatTemplate>,
    files: Vec<TextFile>,
}

fn texts(metadata: &Metadata<'_>, network: &Network) -> Result<GgufTexts, ModelError> {
    let Some(rebuilt) = tokenizer::rebuild(metadata, network.vocab())? else { return Ok(GgufTexts::default()) };
    let tokenizer = Tokenizer::from_json(metadata.path, &rebuilt.json, network.vocab())?;
    let texts = rebuilt.texts(&tokenizer);
    let template = metadata.text("tokenizer.chat_template")?;
    let for_tools = metadata.text("tokenizer.chat_template.tool_use")?;
    let mut config = json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": network.context(),
        "clean_up_tokenization_spaces": false,
    });
    for (key, text) in &texts {
        config[*key] = json!(text);
    }
    match (template, for_tools) {
        (None, _) => {}
        (Some(default), None) => config["chat_template"] = json!(default),
        (Some(default), Some(tools)) => {
            config["chat_template"] = json!([
                { "name": "default", "template": default }, { "name": "tool_use", "template": tools }
            ])
        }
    }
    let config = serde_json::to_vec_pretty(&config).expect("a JSON value serialises");
    let files = vec![
        TextFile { name: "tokenizer.json".to_owned(), bytes: rebuilt.json },
        TextFile { name: "tokenizer_config.json".to_owned(), bytes: config },
    ];
    let compiled =
        |source: &str| ChatTemplate::new(source.to_owned(), &texts)?.with_tools(for_tools.map(str::to_owned));
    let template = template.map(compiled).transpose()?;
    Ok(GgufTexts { tokenizer: Some(tokenizer), special: rebuilt.special, template, files })
}

/// Tensor of the numbers that rotary frequencies are divided by.
const ROPE_DIVISORS: &str = "rope_freqs.weight";

/// The divisors of a file that has them.
fn rope_divisors(metadata: &Metadata<'_>, reader: &mut BufReader<File>) -> Result<Option<Vec<f32>>, ModelError> {
    let Some(info) = metadata.content.tensor_infos.get(ROPE_DIVISORS) else { return Ok(None) };
    if info.shape.dims().len() != 1 {
        return Err(metadata.error(ROPE_DIVISORS, format!("needs one dimension, has {:?}", info.shape.dims())));
    }
    let tensor = metadata.content.tensor(reader, ROPE_DIVISORS, &Device::Cpu);
    let values = tensor.and_then(|tensor| tensor.dequantize(&Device::Cpu)?.to_vec1::<f32>());
    Ok(Some(values.map_err(|error| metadata.error(ROPE_DIVISORS, reason(error)))?))
}

/// What candle says of a file, without the trace of its own calls, which takes long to look up and tells nobody here.
fn reason(error: candle_core::Error) -> String {
    match error {
        candle_core::Error::WithBacktrace { inner, .. } => reason(*inner),
        error => error.to_string(),
    }
}

fn read_error(path: &Path, source: std::io::Error) -> ModelError {
    ModelError::Read { path: path.to_owned(), source }
}

impl GgufFile {
    pub(super) fn weights(&self, device: &Device, hold: Hold) -> Result<Weights, ModelError> {
        let load = |located: &Located| Ok((located.name.clone(), self.load(located, device, hold)?));
        self.tensors.par_iter().map(load).collect::<Result<Vec<_>, ModelError>>().map(Weights::from_iter)
    }

    fn load(&self, located: &Located, device: &Device, hold: Hold) -> Result<Weight, ModelError> {
        let mut file = foreign::open(&self.path).map_err(|source| read_error(&self.path, source))?;
        let malformed = |error: candle_core::Error| ModelError::Malformed {
            path: self.path.clone(),
            format: "GGUF",
            reason: format!("tensor {}: {}", located.in_file, reason(error)),
        };
        let mut read = |device: &Device| self.content.tensor(&mut file, &located.in_file, device).map_err(malformed);
        let blocks = read(&Device::Cpu)?;
        let values = blocks.dequantize(&Device::Cpu)?;
        weights::values(&values, |values| check_finite(&self.path, &located.in_file, values))??;
        let order = located.permuted.map(|heads| row_order(heads, located.shape[0]));
        let order = order.map(|order| Tensor::new(order, device)).transpose()?;
        if hold == Hold::Stored && located.shape.len() > 1 {
            let blocks = if device.is_cpu() { blocks } else { read(device)? };
            return Ok(Weight::Quantised { blocks: Arc::new(blocks), order });
        }
        let values = values.to_device(device)?.reshape(located.shape.as_slice())?;
        Ok(order.map_or(Ok(values.clone()), |order| values.index_select(&order, 0))?.into())
    }

    /// One weight in f32, if the network has it.
    pub(super) fn weight(&self, name: &str) -> Result<Option<Tensor>, ModelError> {
        let Some(located) = self.tensors.iter().find(|located| located.name == name) else { return Ok(None) };
        match self.load(located, &Device::Cpu, Hold::F32)? {
            Weight::Dense(tensor) => Ok(Some(tensor)),
            Weight::Quantised { .. } => unreachable!("it was to be held in f32"),
        }
    }

    /// Bytes of the tensors as they are held in blocks; vectors are held in f32.
    pub(super) fn stored_bytes(&self) -> usize {
        let bytes = |located: &Located| {
            let (count, dtype) =
                (located.shape.iter().product::<usize>(), self.content.tensor_infos[&located.in_file].ggml_dtype);
            if located.shape.len() > 1 { count / dtype.block_size() * dtype.type_size() } else { 4 * count }
        };
        self.tensors.iter().map(bytes).sum()
    }

    /// The number format of every tensor.
    pub(super) fn formats(&self) -> Vec<String> {
        let format = |located: &Located| format!("{:?}", self.content.tensor_infos[&located.in_file].ggml_dtype);
        self.tensors.iter().map(format).collect()
    }

    pub(super) fn text_files(&self) -> Vec<TextFile> {
        self.text_files.clone()
    }
}

/// llama.cpp's files hold the rows of `q` and `k` so that the two features of a rotated pair stand side by side
/// within a head: where each row of the half-split layout stands in the file.
fn row_order(heads: usize, rows: usize) -> Vec<u32> {
    let dim = rows / heads;
    let in_head = |head: usize| (0..2).flat_map(move |half| (0..dim / 2).map(move |pair| head * dim + 2 * pair + half));
    (0..heads).flat_map(in_head).map(|row| row as u32).collect()
}

/// The tensors the network needs, each found in the file and of the right shape.
fn locate(path: &Path, content: &Content, network: &Network) -> Result<Vec<Located>, ModelError> {
    let in_file =
        |name: &str| network.name_in_gguf(name).expect("a network that GGUF files hold names its tensors there");
    let shapes = network.shapes();
    let used: BTreeSet<String> = shapes.keys().map(|name| in_file(name)).collect();
    let own = |name: &&String| name.starts_with("blk.") || name.ends_with(".bias");
    let computed = |name: &String| name.ends_with(".attn_rot_embd.weight");
    let others = content.tensor_infos.keys().filter(own).filter(|name| !used.contains(*name) && !computed(name));
    if let Some(other) = others.min() {
        let reason = format!("the network of {} has no such tensor", network.family());
        return Err(ConfigError::Key { path: path.to_owned(), key: other.clone(), reason }.into());
    }
    let locate = |(name, expected): (String, Vec<usize>)| {
        let in_file = in_file(&name);
        let info = content.tensor_infos.get(&in_file);
        let info = info.ok_or_else(|| ModelError::MissingTensor { path: path.to_owned(), tensor: in_file.clone() })?;
        let found = info.shape.dims().to_vec();
        if found != expected {
            return Err(ModelError::Shape { path: path.to_owned(), tensor: in_file, found, expected });
        }
        let permuted = network.interleaved(&name);
        Ok(Located { name, in_file, shape: expected, permuted })
    };
    shapes.into_iter().map(locate).collect()
}

/// The network the metadata describes.
fn network(metadata: &Metadata) -> Result<Network, ModelError> {
    let single = |(key, value): (&String, &Value)| Some((key.clone(), single(value)?));
    let values = metadata.content.metadata.iter().filter_map(single).collect();
    let shapes = metadata.content.tensor_infos.iter();
    let tensors = shapes.map(|(name, info)| (name.clone(), info.shape.dims().to_vec())).collect();
    let file = Description { metadata: ConfigObject::of(metadata.path, &values), tensors: &tensors };
    Ok(Network::read_gguf(&file)?)
}

#[cfg(test)]
mod tests;
