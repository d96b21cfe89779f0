//! GGUF files (versions 2 and 3): one file with configuration, weights, tokenizer and
//! chat template, as llama.cpp writes it. Weights are dequantised to f32.
//!
//! What differs from a Hugging Face folder: names; the rows of q and k, which llama.cpp permutes for Llama's
//! rotary embedding; and the tokenizer, which is rebuilt ([`tokenizer`]). The container is read by candle, which
//! bounds every length by the file's; [`layout`] first refuses what candle would divide by.

mod layout;
mod tokenizer;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::quantized::gguf_file::{Content, Value};
use candle_core::{Device, Tensor};
use ftk_adapters::foreign;
use ftk_adapters::weights::{self, Weight, Weights};
use ftk_networks::Network;
use ftk_networks::config::{ConfigError, Gguf as Description, Object};
use ftk_recipes::Hold;
use rayon::prelude::*;
use serde_json::json;

use super::folder::check_finite;
use super::{ChatTemplate, ModelError, Source, SpecialTokens, Store, TextFile, Tokenizer};

/// A GGUF file whose header has been read.
pub(super) struct Gguf {
    path: PathBuf,
    content: Content,
    tensors: Vec<Located>,
    text_files: Vec<TextFile>,
}

impl std::fmt::Debug for Gguf {
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
pub(super) fn open(path: &Path) -> Result<Source, ModelError> {
    let mut reader = BufReader::new(foreign::open(path).map_err(|source| read_error(path, source))?);
    layout::check(path, &mut reader)?;
    let content = Content::read(&mut reader).map_err(|error| ModelError::Malformed {
        path: path.to_owned(),
        format: "GGUF",
        reason: reason(error),
    })?;
    let metadata = Metadata { path, content: &content };
    if let Some(parts) = metadata.size("split.count")?.filter(|&parts| parts > 1) {
        let reason = format!("the file is one part of several, which must be joined (gguf-split --merge): {parts}");
        return Err(metadata.error("split.count", reason));
    }
    let mut network = network(&metadata)?;
    if let Some(divisors) = rope_divisors(&metadata, &mut reader)? {
        network.divide_frequencies(&divisors).map_err(|reason| metadata.error(ROPE_DIVISORS, reason))?;
    }
    let tensors = locate(path, &content, &network)?;

    let rebuilt = tokenizer::rebuild(&metadata, network.vocab())?;
    let (tokenizer, special, template, text_files) = match rebuilt {
        None => (None, SpecialTokens::default(), None, Vec::new()),
        Some(rebuilt) => {
            let tokenizer = Tokenizer::from_json(path, &rebuilt.json, network.vocab())?;
            let texts = rebuilt.texts(&tokenizer);
            let template = metadata.text("tokenizer.chat_template")?;
            let mut config = json!({
                "tokenizer_class": "PreTrainedTokenizerFast",
                "model_max_length": network.context(),
                "clean_up_tokenization_spaces": false,
            });
            for (key, text) in &texts {
                config[*key] = json!(text);
            }
            if let Some(template) = template {
                config["chat_template"] = json!(template);
            }
            let config = serde_json::to_vec_pretty(&config).expect("a JSON value serialises");
            let text_files = vec![
                TextFile { name: "tokenizer.json".to_owned(), bytes: rebuilt.json },
                TextFile { name: "tokenizer_config.json".to_owned(), bytes: config },
            ];
            let template = template.map(|source| ChatTemplate::new(source.to_owned(), &texts)).transpose()?;
            (Some(tokenizer), rebuilt.special, template, text_files)
        }
    };
    let store = Store::Gguf(Box::new(Gguf { path: path.to_owned(), content, tensors, text_files }));
    Ok(Source { path: path.to_owned(), network, tokenizer, special, template, store, unpacked: None })
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

impl Gguf {
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
    let biases = content.tensor_infos.keys().filter(|name| name.ends_with(".bias"));
    if let Some(bias) = biases.filter(|name| !used.contains(*name)).min() {
        let reason = format!("the network of {} has no such bias", network.family());
        return Err(ConfigError::Key { path: path.to_owned(), key: bias.clone(), reason }.into());
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
    let file = Description { metadata: Object::of(metadata.path, &values), tensors: &tensors };
    Ok(Network::read_gguf(&file)?)
}

/// A single value or a short list of such, `None` of a long one. A real number of 32 bits is taken for the shortest decimal that means it, so that a
/// constant such as 1e-5 is the number that `config.json` writes; one that is not finite, for its name.
fn single(value: &Value) -> Option<serde_json::Value> {
    let real = |value: f64| match serde_json::Number::from_f64(value) {
        Some(number) => serde_json::Value::Number(number),
        None => value.to_string().into(),
    };
    Some(match value {
        Value::U8(n) => (*n).into(),
        Value::U16(n) => (*n).into(),
        Value::U32(n) => (*n).into(),
        Value::U64(n) => (*n).into(),
        Value::I8(n) => (*n).into(),
        Value::I16(n) => (*n).into(),
        Value::I32(n) => (*n).into(),
        Value::I64(n) => (*n).into(),
        Value::F32(value) => real(value.to_string().parse().unwrap_or(f64::from(*value))),
        Value::F64(value) => real(*value),
        Value::Bool(flag) => (*flag).into(),
        Value::String(text) => text.as_str().into(),
        // A number for each block, at most; vocabularies are longer.
        Value::Array(values) if values.len() <= 1 << 10 => {
            values.iter().map(single).collect::<Option<Vec<_>>>()?.into()
        }
        Value::Array(_) => return None,
    })
}

/// Metadata of a file, read key by key with errors that name both.
struct Metadata<'a> {
    path: &'a Path,
    content: &'a Content,
}

impl<'a> Metadata<'a> {
    fn error(&self, key: &str, reason: impl Into<String>) -> ModelError {
        ConfigError::Key { path: self.path.to_owned(), key: key.to_owned(), reason: reason.into() }.into()
    }

    fn need<T>(&self, key: &str, value: Option<T>) -> Result<T, ModelError> {
        value.ok_or_else(|| self.error(key, "missing"))
    }

    /// A value of one kind, if the key is present.
    fn get<T>(&self, key: &str, kind: &str, read: impl Fn(&'a Value) -> Option<T>) -> Result<Option<T>, ModelError> {
        let parse = |value| read(value).ok_or_else(|| self.error(key, format!("not {kind}")));
        self.content.metadata.get(key).map(parse).transpose()
    }

    fn text(&self, key: &str) -> Result<Option<&'a str>, ModelError> {
        self.get(key, "a string", |value| match value {
            Value::String(text) => Some(text.as_str()),
            _ => None,
        })
    }

    fn flag(&self, key: &str) -> Result<Option<bool>, ModelError> {
        self.get(key, "true or false", |value| match value {
            Value::Bool(flag) => Some(*flag),
            _ => None,
        })
    }

    fn size(&self, key: &str) -> Result<Option<usize>, ModelError> {
        self.get(key, "one whole number", whole)
    }

    fn list(&self, key: &str) -> Result<Option<&'a [Value]>, ModelError> {
        self.get(key, "a list", |value| match value {
            Value::Array(values) => Some(values.as_slice()),
            _ => None,
        })
    }

    fn texts(&self, key: &str) -> Result<Option<Vec<&'a str>>, ModelError> {
        self.get(key, "a list of strings", |value| match value {
            Value::Array(values) => {
                let text = |value: &'a Value| match value {
                    Value::String(text) => Some(text.as_str()),
                    _ => None,
                };
                values.iter().map(text).collect()
            }
            _ => None,
        })
    }
}

/// A whole number of any width.
fn whole(value: &Value) -> Option<usize> {
    match *value {
        Value::U8(n) => Some(n.into()),
        Value::U16(n) => Some(n.into()),
        Value::U32(n) => usize::try_from(n).ok(),
        Value::U64(n) => usize::try_from(n).ok(),
        Value::I8(n) => usize::try_from(n).ok(),
        Value::I16(n) => usize::try_from(n).ok(),
        Value::I32(n) => usize::try_from(n).ok(),
        Value::I64(n) => usize::try_from(n).ok(),
        _ => None,
    }
}

impl tokenizer::Rebuilt {
    /// Texts of the special tokens by their Hugging Face name.
    fn texts(&self, tokenizer: &Tokenizer) -> BTreeMap<&'static str, String> {
        let SpecialTokens { bos, eos, pad, stop: _ } = self.special;
        let ids = [("bos_token", bos), ("eos_token", eos), ("pad_token", pad), ("unk_token", self.unknown)];
        ids.into_iter().filter_map(|(key, id)| Some((key, tokenizer.token(id?)?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use candle_core::quantized::{GgmlDType, QTensor, gguf_file};
    use ftk_networks::{Family, Llama};

    use super::super::{Model, tiny};
    use super::*;

    /// A file's content before it is written.
    pub(super) struct Draft {
        pub(super) metadata: BTreeMap<String, Value>,
        tensors: BTreeMap<String, QTensor>,
    }

    impl Draft {
        /// The network and weights as llama.cpp would store them.
        pub(super) fn of(network: &Llama, weights: &Weights, dtype: GgmlDType) -> Self {
            let number = |value: usize| Value::U32(u32::try_from(value).unwrap());
            let family = network.family.name();
            let mut metadata: BTreeMap<String, Value> = [
                ("embedding_length", number(network.hidden)),
                ("feed_forward_length", number(network.intermediate)),
                ("block_count", number(network.layers)),
                ("context_length", number(network.context)),
                ("attention.head_count", number(network.heads.query)),
                ("attention.head_count_kv", number(network.heads.key_value)),
                ("attention.key_length", number(network.heads.dim)),
                ("attention.layer_norm_rms_epsilon", Value::F32(network.eps as f32)),
                ("rope.freq_base", Value::F32(network.rope.theta as f32)),
            ]
            .into_iter()
            .map(|(name, value)| (format!("{family}.{name}"), value))
            .collect();
            metadata.insert("general.architecture".to_owned(), Value::String(family.to_owned()));
            let tensor = |(name, tensor): (&str, Tensor)| {
                let network = Network::from(network.clone());
                let tensor = match network.interleaved(name) {
                    Some(heads) => permute(&tensor, heads),
                    None => tensor,
                };
                let dtype = if tensor.rank() == 1 { GgmlDType::F32 } else { dtype };
                (network.name_in_gguf(name).unwrap(), QTensor::quantize(&tensor, dtype).unwrap())
            };
            Self { metadata, tensors: tiny::tensors(weights).map(tensor).collect() }
        }

        pub(super) fn with(mut self, key: &'static str, value: Value) -> Self {
            self.metadata.insert(key.to_owned(), value);
            self
        }

        fn bytes(&self) -> Vec<u8> {
            let mut file = Cursor::new(Vec::new());
            let metadata: Vec<_> = self.metadata.iter().map(|(key, value)| (key.as_str(), value)).collect();
            let tensors: Vec<_> = self.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
            gguf_file::write(&mut file, &metadata, &tensors).unwrap();
            file.into_inner()
        }

        pub(super) fn open(&self) -> Result<Source, ModelError> {
            open_bytes(&self.bytes())
        }

        fn refused(&self) -> String {
            refused(&self.bytes())
        }
    }

    fn open_bytes(bytes: &[u8]) -> Result<Source, ModelError> {
        let file = tempfile::NamedTempFile::with_suffix(".gguf").unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        Source::open(file.path())
    }

    fn refused(bytes: &[u8]) -> String {
        let error = open_bytes(bytes).unwrap_err().to_string();
        error.split_once(".gguf: ").unwrap().1.to_owned()
    }

    pub(super) fn draft() -> Draft {
        let network = tiny::network();
        Draft::of(&network, &tiny::weights(network.clone()), GgmlDType::F32)
    }

    /// llama.cpp's permutation as its converter states it: (heads, 2, dim / 2, d_in) with the middle axes swapped.
    fn permute(tensor: &Tensor, heads: usize) -> Tensor {
        let (rows, d_in) = tensor.dims2().unwrap();
        let split = tensor.reshape((heads, 2, rows / heads / 2, d_in)).unwrap();
        split.transpose(1, 2).unwrap().contiguous().unwrap().reshape((rows, d_in)).unwrap()
    }

    fn load(draft: &Draft) -> Model {
        let file = tempfile::NamedTempFile::with_suffix(".gguf").unwrap();
        std::fs::write(file.path(), draft.bytes()).unwrap();
        Model::load(file.path(), &Device::Cpu).unwrap()
    }

    #[test]
    fn a_file_equals_the_folder_of_the_same_model() {
        let mut network = tiny::network();
        let families = [Family::Llama, Family::Qwen2, Family::Qwen3];
        for (family, tied) in families.into_iter().flat_map(|family| [(family, false), (family, true)]) {
            (network.family, network.tied) = (family, tied);
            let weights = tiny::weights(network.clone());
            let model = load(&Draft::of(&network, &weights, GgmlDType::F32));
            assert_eq!(*model.source.network(), network.clone().into());
            assert!(tiny::same(&model.weights, &weights));
        }
        assert_eq!(
            load(&draft()).digest().unwrap(),
            Model::load(tiny::folder().path(), &Device::Cpu).unwrap().digest().unwrap()
        );
    }

    #[test]
    fn quantised_tensors_are_dequantised() {
        let mut network = tiny::network();
        (network.hidden, network.intermediate, network.heads.dim, network.rope.dim) = (32, 64, 16, 16);
        let weights = tiny::weights(network.clone());
        for dtype in [GgmlDType::Q4_1, GgmlDType::Q8_0, GgmlDType::F16] {
            let quantise = |(name, tensor): (&str, Tensor)| {
                let tensor = match tensor.rank() {
                    1 => tensor,
                    _ => QTensor::quantize(&tensor, dtype).unwrap().dequantize(&Device::Cpu).unwrap(),
                };
                (name.to_owned(), tensor)
            };
            let expected: Weights = tiny::tensors(&weights).map(quantise).collect();
            let file = tempfile::NamedTempFile::with_suffix(".gguf").unwrap();
            std::fs::write(file.path(), Draft::of(&network, &weights, dtype).bytes()).unwrap();
            let source = Source::open(file.path()).unwrap();
            let full = source.weights(&Device::Cpu).unwrap();
            assert!(tiny::same(&full, &expected), "{dtype:?}");
            let held = source.weights_held(&Device::Cpu, Hold::Stored).unwrap();
            assert!(tiny::same(&held, &expected) && held.bytes() < full.bytes(), "{dtype:?}");
        }
    }

    #[test]
    fn other_networks_are_refused_by_name() {
        let text = |text: &str| Value::String(text.to_owned());
        for (key, value, message) in [
            ("general.architecture", text("mamba"), "architecture not supported: mamba"),
            (
                "general.architecture",
                text("gpt2"),
                "general.architecture: read from Hugging Face folders only, not from GGUF files: gpt2",
            ),
            ("general.architecture", text("qwen2"), "qwen2.embedding_length: missing"),
            ("llama.expert_count", Value::U32(8), "llama.expert_count: mixtures of experts are not supported: 8"),
            ("llama.rope.scaling.type", text("yarn"), "llama.rope.scaling.type: not supported: yarn"),
            (
                "llama.rope.scaling.factor",
                Value::F32(2.0),
                "llama.rope.scaling.factor: linear scaling is not supported: 2",
            ),
            ("llama.rope.scale_linear", Value::F32(4.0), "llama.rope.scale_linear: linear scaling is not supported: 4"),
            (
                "split.count",
                Value::U16(3),
                "split.count: the file is one part of several, which must be joined (gguf-split --merge): 3",
            ),
            (
                "llama.rope.dimension_count",
                Value::U32(2),
                "llama.rope.dimension_count: not supported unless equal to the head's 4: 2",
            ),
            ("llama.block_count", Value::U32(3), "missing tensor: blk.2.attn_norm.weight"),
            ("llama.block_count", Value::U32(5000), "num_hidden_layers: not within 1 and 1024: 5000"),
            ("llama.block_count", Value::I32(-1), "llama.block_count: not a whole number: -1"),
            ("llama.rope.freq_base", Value::F32(f32::NAN), "llama.rope.freq_base: not a number: \"NaN\""),
            (
                "llama.feed_forward_length",
                Value::U64(16),
                "tensor blk.0.ffn_down.weight has shape [8, 12], the network needs [8, 16]",
            ),
        ] {
            assert_eq!(draft().with(key, value).refused(), message);
        }
        let mut biased = draft();
        let bias = QTensor::quantize(&Tensor::zeros(8, candle_core::DType::F32, &Device::Cpu).unwrap(), GgmlDType::F32);
        biased.tensors.insert("blk.0.attn_q.bias".to_owned(), bias.unwrap());
        assert_eq!(biased.refused(), "blk.0.attn_q.bias: the network of llama has no such bias");
    }

    #[test]
    fn rotary_divisors_are_recognised_or_refused() {
        let pairs = tiny::network().rope.dim / 2;
        let with = |values: Vec<f32>| {
            let mut draft = draft();
            let tensor = Tensor::from_vec(values.clone(), values.len(), &Device::Cpu).unwrap();
            let tensor = QTensor::quantize(&tensor, GgmlDType::F32).unwrap();
            draft.tensors.insert(ROPE_DIVISORS.to_owned(), tensor);
            draft
        };
        assert_eq!(*load(&with(vec![1.0; pairs])).source.network(), tiny::network().into());
        let refused = |values| with(values).refused();
        assert!(refused(vec![3.0; pairs]).starts_with("rope_freqs.weight: no scaling of rotary positions"));
        assert!(refused(vec![1.0; pairs + 1]).starts_with("rope_freqs.weight: needs shape"));
    }

    #[test]
    fn nan_weights_are_refused_by_name() {
        let network = tiny::network();
        let mut weights = tiny::weights(network.clone());
        let norm = Tensor::from_vec(vec![f32::NAN; 8], 8, &Device::Cpu).unwrap();
        weights.insert("model.norm.weight".to_owned(), norm);
        let file = tempfile::NamedTempFile::with_suffix(".gguf").unwrap();
        std::fs::write(file.path(), Draft::of(&network, &weights, GgmlDType::F32).bytes()).unwrap();
        let error = Model::load(file.path(), &Device::Cpu).unwrap_err().to_string();
        assert!(
            error.ends_with("tensor output_norm.weight has an entry that is not finite: NaN at index 0"),
            "{error}"
        );
    }

    #[test]
    fn files_that_lie_are_refused() {
        let start = "malformed GGUF: ";
        assert_eq!(refused(b"GG"), format!("{start}the file ends inside its header"));
        assert_eq!(refused(b"PK\x03\x04abcdefgh"), format!("{start}it does not begin with GGUF"));
        let whole = draft().bytes();
        let mut first = whole.clone();
        first[4] = 1;
        assert_eq!(refused(&first), format!("{start}version not supported, 2 and 3 are: 1"));
        assert_eq!(refused(&whole[..600]), format!("{start}the file ends inside its header"));
        let mut turned = whole.clone();
        turned[4..8].reverse();
        assert_eq!(refused(&turned), format!("{start}the file is big endian, which is not read"));
        assert_eq!(
            refused(b"version https://git-lfs.github.com/spec/v1"),
            "a Git LFS pointer, not the file it stands for"
        );
        // The type stands behind the name, the number of dimensions and one of them.
        let name = b"output_norm.weight";
        let at = whole.windows(name.len()).position(|bytes| bytes == name).unwrap() + name.len() + 12;
        let mut other = whole.clone();
        other[at] = 20;
        assert_eq!(refused(&other), "tensor output_norm.weight has an unsupported type: IQ4_NL");
        let mut many = whole.clone();
        many[8..16].copy_from_slice(&u64::MAX.to_le_bytes());
        assert_eq!(refused(&many), format!("{start}more tensors than the file has room for: {}", u64::MAX));

        let zero = draft().with("general.alignment", Value::U32(0));
        assert_eq!(zero.refused(), format!("{start}general.alignment is not a power of two: 0"));
        let wide = draft().with("general.alignment", Value::U64(32));
        assert_eq!(wide.refused(), format!("{start}general.alignment is not a 32-bit number"));
        let nested = (0..6).fold(Value::U8(0), |value, _| Value::Array(vec![value]));
        assert_eq!(draft().with("x", nested).refused(), format!("{start}arrays nested deeper than 4"));
        let mut twice = draft().with("xa", Value::U8(0)).with("xb", Value::U8(0)).bytes();
        let at = twice.windows(2).position(|pair| pair == b"xb").unwrap();
        twice[at + 1] = b'a';
        assert_eq!(refused(&twice), format!("{start}key given twice: xa"));

        let short = tempfile::NamedTempFile::with_suffix(".gguf").unwrap();
        std::fs::write(short.path(), &whole[..whole.len() - 64]).unwrap();
        let error = Model::load(short.path(), &Device::Cpu).unwrap_err().to_string();
        assert!(error.contains("malformed GGUF: tensor token_embd.weight: tensor needs"), "{error}");
    }
}
