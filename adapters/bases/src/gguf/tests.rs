//! GGUF files, good and bad.

use std::io::Cursor;

use candle_core::quantized::{GgmlDType, QTensor, gguf_file};
use ftk_networks::{Llama, LlamaVariant};

use std::collections::BTreeMap;

use super::super::{BaseModel, LoadedModel, tiny};
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

    pub(super) fn open(&self) -> Result<BaseModel, ModelError> {
        open_bytes(&self.bytes())
    }

    fn refused(&self) -> String {
        refused(&self.bytes())
    }
}

fn open_bytes(bytes: &[u8]) -> Result<BaseModel, ModelError> {
    let file = tempfile::NamedTempFile::with_suffix(".gguf").unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    BaseModel::open(file.path())
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

fn load(draft: &Draft) -> LoadedModel {
    let file = tempfile::NamedTempFile::with_suffix(".gguf").unwrap();
    std::fs::write(file.path(), draft.bytes()).unwrap();
    LoadedModel::load(file.path(), &Device::Cpu).unwrap()
}

#[test]
fn a_file_equals_the_folder_of_the_same_model() {
    let mut network = tiny::network();
    let families = [LlamaVariant::Llama, LlamaVariant::Qwen2, LlamaVariant::Qwen3];
    for (family, tied) in families.into_iter().flat_map(|family| [(family, false), (family, true)]) {
        (network.family, network.tied) = (family, tied);
        let weights = tiny::weights(network.clone());
        let model = load(&Draft::of(&network, &weights, GgmlDType::F32));
        assert_eq!(*model.source.network(), network.clone().into());
        assert!(tiny::same(&model.weights, &weights));
    }
    assert_eq!(
        load(&draft()).digest().unwrap(),
        LoadedModel::load(tiny::folder().path(), &Device::Cpu).unwrap().digest().unwrap()
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
        let source = BaseModel::open(file.path()).unwrap();
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
        ("llama.attention.scale", Value::F32(0.5), "llama.attention.scale: not supported: 0.5"),
        ("llama.logit_scale", Value::F32(8.0), "llama.logit_scale: not supported: 8"),
        ("llama.attention.causal", Value::Bool(false), "llama.attention.causal: not supported: false"),
        ("llama.attention.sliding_window", Value::U32(4), "llama.attention.sliding_window: not supported: 4"),
        (
            "general.type",
            text("adapter"),
            "general.type: no model is in this file, but of type adapter; ftk convert makes a folder of an adapter",
        ),
        ("llama.rope.scaling.type", text("yarn"), "llama.rope.scaling.type: not supported: yarn"),
        ("llama.rope.scaling.factor", Value::F32(2.0), "llama.rope.scaling.factor: linear scaling is not supported: 2"),
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
    for name in ["blk.0.attn_q.bias", "blk.0.attn_q_norm.weight", "blk.7.ffn_up.weight", "output.bias"] {
        let mut other = draft();
        let zeros = Tensor::zeros(8, candle_core::DType::F32, &Device::Cpu).unwrap();
        other.tensors.insert(name.to_owned(), QTensor::quantize(&zeros, GgmlDType::F32).unwrap());
        assert_eq!(other.refused(), format!("{name}: the network of llama has no such tensor"));
    }
    // What says what is so without it.
    for (key, value) in [
        ("llama.logit_scale", Value::F32(1.0)),
        ("llama.attention.causal", Value::Bool(true)),
        ("llama.attention.sliding_window", Value::U32(1 << 20)),
        ("general.type", text("model")),
    ] {
        draft().with(key, value).open().unwrap();
    }
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
    let error = LoadedModel::load(file.path(), &Device::Cpu).unwrap_err().to_string();
    assert!(error.ends_with("tensor output_norm.weight has an entry that is not finite: NaN at index 0"), "{error}");
}

#[test]
fn files_that_lie_are_refused() {
    let start = "malformed GGUF: ";
    assert_eq!(refused(b"GG"), format!("{start}the file ends inside its header"));
    assert_eq!(
        refused(b"PK\x03\x04abcdefgh"),
        format!("{start}it does not begin with GGUF; a base is a folder with config.json, or a GGUF file")
    );
    let whole = draft().bytes();
    let mut first = whole.clone();
    first[4] = 1;
    assert_eq!(refused(&first), format!("{start}version not supported, 2 and 3 are: 1"));
    assert_eq!(refused(&whole[..600]), format!("{start}the file ends inside its header"));
    let mut turned = whole.clone();
    turned[4..8].reverse();
    assert_eq!(refused(&turned), format!("{start}the file is big endian, which is not read"));
    assert_eq!(refused(b"version https://git-lfs.github.com/spec/v1"), "a Git LFS pointer, not the file it stands for");
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
    let mut twice = whole.clone();
    let name = b"blk.0.attn_k.weight";
    let at = twice.windows(name.len()).position(|bytes| bytes == name).unwrap();
    twice[at..][..name.len()].copy_from_slice(b"blk.0.attn_q.weight");
    assert_eq!(refused(&twice), format!("{start}tensor given twice: blk.0.attn_q.weight"));

    let short = tempfile::NamedTempFile::with_suffix(".gguf").unwrap();
    std::fs::write(short.path(), &whole[..whole.len() - 64]).unwrap();
    let error = LoadedModel::load(short.path(), &Device::Cpu).unwrap_err().to_string();
    assert!(error.contains("malformed GGUF: tensor token_embd.weight: tensor needs"), "{error}");
}
