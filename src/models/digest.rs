//! `D_base`: what a proof calls the base model.
//!
//! BLAKE3 over the byte string below. It names what the network computes with and nothing else: sharding, header
//! order, stored precision and metadata of files do not enter, a GGUF counts as its dequantised tensors.
//! Integers are unsigned, 64 bits, little-endian; a *text* is its length in bytes, then its UTF-8; a *real* is the
//! little-endian IEEE 754 binary64.
//!
//! 1. The text `ftk base model 1`. A change of this layout MUST change it.
//! 2. The architecture, a text: `llama` (Mistral's network is the same), `qwen2`, `qwen3`, `gpt2`, `gcn`, `sage`, `sage-gcn` or `gat`.
//! 3. For the first three: the integers vocab, hidden, intermediate, layers, query heads, key-value heads, head dimension, context; the real
//!    eps; one byte 1 if the head is tied, else 0; the real theta; one byte 1 if wavelengths are scaled, else 0, and
//!    in the former case the reals factor, low_freq_factor, high_freq_factor and the integer original context.
//!    For the networks of graphs, `gcn`, `sage`, `sage-gcn` and `gat`: the integers features, hidden, convolutions, heads; the
//!    integer 0 if the last convolution gives the logits, 1 if a linear layer does, 2 if pairs are scored, 3 if it ends
//!    in its convolutions, 4 if views are compared, then two integers: the number of logits and 0, what is known of a
//!    pair and the number of scores, twice 0, or a width and 0; one byte 1 if features
//!    are divided by their sum, else 0; the integer width they are projected to, 0 if they are not.
//!    For `gpt2`: the integers vocab, hidden, intermediate, layers, heads, context; the real eps; one byte for the head.
//! 4. The number of tensors, then one record for each tensor the network uses, in ascending byte order of names. A
//!    tied head has no record. No other tensor enters. A record is: the name (text), the type (text, MUST be `F32`),
//!    the rank, the dimensions outermost first, the length in bytes, the entries row-major as little-endian binary32.
//!    A matrix is `(d_out, d_in)` here, also where files hold it turned, as those of GPT-2 do.
//! 5. One byte 0 if the model has no tokenizer, else 1 and the 32 bytes of BLAKE3 over `tokenizer.json`.

use std::fmt;

use blake3::Hasher;
use candle_core::Tensor;
use ftk_adapters::weights::{Weights, values};
use ftk_networks::graphs as gnn;
use ftk_networks::ops::{Heads, Llama3Scaling, Rope};
use ftk_networks::{Gpt2, Llama, Network};

use super::ModelError;

/// Text at the head of the hashed bytes.
const TAG: &str = "ftk base model 1";

/// `D_base`: BLAKE3 digest of a base model. Shown as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct BaseDigest(pub [u8; 32]);

impl fmt::Display for BaseDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for BaseDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BaseDigest({self})")
    }
}

/// The byte string of the module's page, hashed as it is written.
struct Record(Hasher);

impl Record {
    fn int(&mut self, value: usize) {
        self.0.update(&(value as u64).to_le_bytes());
    }

    fn real(&mut self, value: f64) {
        self.0.update(&value.to_le_bytes());
    }

    fn flag(&mut self, value: bool) {
        self.0.update(&[u8::from(value)]);
    }

    fn text(&mut self, value: &str) {
        self.int(value.len());
        self.0.update(value.as_bytes());
    }

    fn reals32(&mut self, values: &[f32]) {
        // Long enough for the hasher's widest vector units, short enough to stay in cache.
        const CHUNK: usize = 32 * 1024;
        let mut bytes = vec![0; 4 * CHUNK];
        for chunk in values.chunks(CHUNK) {
            let bytes = &mut bytes[..4 * chunk.len()];
            bytes.as_chunks_mut().0.iter_mut().zip(chunk).for_each(|(bytes, value)| *bytes = value.to_le_bytes());
            self.0.update(bytes);
        }
    }

    fn network(&mut self, network: &Network) {
        match network {
            Network::Llama(network) => self.llama(network),
            Network::Gpt2(network) => self.gpt2(network),
        }
    }

    fn llama(&mut self, network: &Llama) {
        let Llama { family, vocab, hidden, intermediate, layers, heads, rope, eps, tied, context } = network;
        let Heads { query, key_value, dim } = heads;
        let Rope { dim: _, theta, scaling } = rope;
        self.text(family.name());
        for size in [vocab, hidden, intermediate, layers, query, key_value, dim, context] {
            self.int(*size);
        }
        self.real(*eps);
        self.flag(*tied);
        self.real(*theta);
        self.flag(scaling.is_some());
        if let Some(Llama3Scaling { factor, low_freq_factor, high_freq_factor, original_context }) = scaling {
            self.real(*factor);
            self.real(*low_freq_factor);
            self.real(*high_freq_factor);
            self.int(*original_context);
        }
    }

    fn graphs(&mut self, network: &gnn::Network) {
        let gnn::Network { model_type, inputs, hidden, layers, heads, head, prepare } = network;
        let gnn::Prepare { normalise, project } = prepare;
        self.text(model_type.name());
        for size in [inputs, hidden, layers, heads] {
            self.int(*size);
        }
        let (end, sizes) = match head {
            gnn::End::Convolution(outputs) => (0, [*outputs, 0]),
            gnn::End::Linear(outputs) => (1, [*outputs, 0]),
            gnn::End::Pair { known, outputs } => (2, [*known, *outputs]),
            gnn::End::Encoder => (3, [0, 0]),
            gnn::End::Comparer(width) => (4, [*width, 0]),
        };
        self.int(end);
        sizes.into_iter().for_each(|size| self.int(size));
        self.flag(*normalise);
        self.int(project.unwrap_or(0));
    }

    fn gpt2(&mut self, network: &Gpt2) {
        let Gpt2 { vocab, hidden, intermediate, layers, heads, eps, tied, context } = network;
        self.text("gpt2");
        for size in [vocab, hidden, intermediate, layers, heads, context] {
            self.int(*size);
        }
        self.real(*eps);
        self.flag(*tied);
    }
}

/// `D_base` in the making: the tensors a network needs are given one after another, in ascending order of names.
pub struct Digesting {
    record: Record,
    tokenizer: Option<[u8; 32]>,
}

impl Digesting {
    pub(super) fn new(network: &Network, tokenizer: Option<&[u8; 32]>) -> Self {
        let mut record = Record(Hasher::new());
        record.text(TAG);
        record.network(network);
        record.int(network.shapes().len());
        Self { record, tokenizer: tokenizer.copied() }
    }

    /// The same of a network of graphs.
    pub fn of_graphs(network: &gnn::Network) -> Self {
        let mut record = Record(Hasher::new());
        record.text(TAG);
        record.graphs(network);
        record.int(network.shapes().len());
        Self { record, tokenizer: None }
    }

    /// The next tensor.
    ///
    /// # Errors
    /// [`ModelError::Candle`] if it cannot be read back from its device.
    pub fn tensor(&mut self, name: &str, tensor: &Tensor) -> Result<(), ModelError> {
        self.record.text(name);
        self.record.text("F32");
        self.record.int(tensor.rank());
        tensor.dims().iter().for_each(|dim| self.record.int(*dim));
        self.record.int(4 * tensor.elem_count());
        Ok(values(tensor, |values| self.record.reals32(values))?)
    }

    /// The digest, after the last tensor.
    pub fn finish(mut self) -> BaseDigest {
        self.record.flag(self.tokenizer.is_some());
        if let Some(digest) = self.tokenizer {
            self.record.0.update(&digest);
        }
        BaseDigest(self.record.0.finalize().into())
    }
}

/// `D_base` of a network, its weights (all others ignored) and the digest of its tokenizer.
///
/// # Errors
/// A weight the network uses is missing; [`ModelError::Candle`] if it cannot be read back from its device.
pub(super) fn base(
    network: &Network,
    weights: &Weights,
    tokenizer: Option<&[u8; 32]>,
) -> Result<BaseDigest, ModelError> {
    let mut digesting = Digesting::new(network, tokenizer);
    for name in network.shapes().keys() {
        digesting.tensor(name, &weights.get(name)?)?;
    }
    Ok(digesting.finish())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use candle_core::Device;
    use ftk_networks::Family;

    use super::super::{Model, tiny};
    use super::*;

    fn digest(network: &Llama, weights: &Weights) -> BaseDigest {
        base(&network.clone().into(), weights, None).unwrap()
    }

    /// The byte string of the module's page, written down a second time.
    #[test]
    fn the_layout_is_the_one_described() {
        let network = tiny::network();
        let mut bytes = Vec::new();
        let int = |bytes: &mut Vec<u8>, value: u64| bytes.extend(value.to_le_bytes());
        let text = |bytes: &mut Vec<u8>, value: &[u8]| {
            bytes.extend((value.len() as u64).to_le_bytes());
            bytes.extend(value);
        };
        text(&mut bytes, b"ftk base model 1");
        text(&mut bytes, b"llama");
        [16, 8, 12, 2, 2, 1, 4, 32].into_iter().for_each(|value| int(&mut bytes, value));
        bytes.extend(1e-5f64.to_le_bytes());
        bytes.push(0);
        bytes.extend(1e4f64.to_le_bytes());
        bytes.push(0);
        let tensors = tiny::stored(&tiny::weights(network.clone()));
        int(&mut bytes, tensors.len() as u64);
        for (name, (_, shape, data)) in tensors {
            text(&mut bytes, name.as_bytes());
            text(&mut bytes, b"F32");
            int(&mut bytes, shape.len() as u64);
            shape.into_iter().for_each(|dim| int(&mut bytes, dim as u64));
            text(&mut bytes, &data);
        }
        bytes.push(1);
        bytes.extend([7; 32]);
        let ours = base(&network.clone().into(), &tiny::weights(network.clone()), Some(&[7; 32])).unwrap();
        assert_eq!(ours.0, *blake3::hash(&bytes).as_bytes());
        assert_eq!(ours.to_string(), blake3::hash(&bytes).to_hex().as_str());
    }

    #[test]
    fn every_weight_enters_and_no_other_tensor() {
        let network = tiny::network();
        let weights = tiny::weights(network.clone());
        let mut seen = BTreeSet::from([digest(&network, &weights).0]);
        for name in weights.names() {
            let tensor = weights.get(name).unwrap();
            let mut values = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            *values.last_mut().unwrap() += 0.125;
            let mut changed = weights.clone();
            changed.insert(name.to_owned(), Tensor::from_vec(values, tensor.shape(), &Device::Cpu).unwrap());
            assert!(seen.insert(digest(&network, &changed).0), "{name}");
        }
        let mut more = weights.clone();
        more.insert("model.unused".to_owned(), Tensor::zeros(1, candle_core::DType::F32, &Device::Cpu).unwrap());
        assert_eq!(digest(&network, &more), digest(&network, &weights));
    }

    #[test]
    fn every_number_of_the_network_enters() {
        let plain = tiny::network();
        let scaling = Llama3Scaling { factor: 8.0, low_freq_factor: 1.0, high_freq_factor: 4.0, original_context: 8 };
        let scaled = |change: fn(&mut Llama3Scaling)| {
            let mut network = plain.clone();
            let mut scaling = scaling.clone();
            change(&mut scaling);
            network.rope.scaling = Some(scaling);
            network
        };
        let changed = |change: fn(&mut Llama)| {
            let mut network = plain.clone();
            change(&mut network);
            network
        };
        let networks = [
            plain.clone(),
            changed(|network| network.family = Family::Qwen2),
            changed(|network| network.family = Family::Qwen3),
            changed(|network| network.vocab += 1),
            changed(|network| network.hidden += 1),
            changed(|network| network.intermediate += 1),
            changed(|network| network.layers -= 1),
            changed(|network| network.heads.query += 1),
            changed(|network| network.heads.key_value += 1),
            changed(|network| network.heads.dim += 1),
            changed(|network| network.context += 1),
            changed(|network| network.eps *= 2.0),
            changed(|network| network.tied = true),
            changed(|network| network.rope.theta *= 2.0),
            scaled(|_| {}),
            scaled(|scaling| scaling.factor = 9.0),
            scaled(|scaling| scaling.low_freq_factor = 2.0),
            scaled(|scaling| scaling.high_freq_factor = 5.0),
            scaled(|scaling| scaling.original_context = 9),
        ];
        let digests: BTreeSet<_> = networks.iter().map(|network| numbers(&network.clone().into())).collect();
        assert_eq!(digests.len(), networks.len());

        let changed = |change: fn(&mut Gpt2)| {
            let mut network = tiny::gpt2();
            change(&mut network);
            network
        };
        let networks = [
            tiny::gpt2(),
            changed(|network| network.vocab += 1),
            changed(|network| network.hidden += 2),
            changed(|network| network.intermediate += 1),
            changed(|network| network.layers -= 1),
            changed(|network| network.heads *= 2),
            changed(|network| network.context += 1),
            changed(|network| network.eps *= 2.0),
            changed(|network| network.tied = false),
        ];
        let digests: BTreeSet<_> = networks.iter().map(|network| numbers(&network.clone().into())).collect();
        assert_eq!(digests.len(), networks.len());
    }

    /// The digest of what stands before the tensors.
    fn numbers(network: &Network) -> [u8; 32] {
        let mut record = Record(Hasher::new());
        record.network(network);
        record.0.finalize().into()
    }

    #[test]
    fn files_do_not_enter_but_the_tokenizer_does() {
        let folder = tiny::folder();
        let load = || Model::load(folder.path(), &Device::Cpu).unwrap().digest().unwrap();
        let plain = load();
        assert_eq!(plain, digest(&tiny::network(), &tiny::weights(tiny::network())));

        let mut config = tiny::config();
        config["torch_dtype"] = "bfloat16".into();
        config["transformers_version"] = "5.0.0".into();
        tiny::write_json(&folder.path().join("config.json"), &config);
        let mut tensors = tiny::stored(&tiny::weights(tiny::network()));
        let rest = tensors.split_off("model.layers.1");
        tiny::write_tensors(&folder.path().join("a.safetensors"), &rest);
        tiny::write_tensors(&folder.path().join("b.safetensors"), &tensors);
        let names = rest.keys().map(|name| (name.clone(), "a.safetensors".into()));
        let names = names.chain(tensors.keys().map(|name| (name.clone(), "b.safetensors".into())));
        let map: serde_json::Map<_, _> = names.collect();
        let index = serde_json::json!({ "metadata": { "total_size": 1 }, "weight_map": map });
        tiny::write_json(&folder.path().join("model.safetensors.index.json"), &index);
        std::fs::remove_file(folder.path().join("model.safetensors")).unwrap();
        assert_eq!(load(), plain);

        let tokenizer = folder.path().join("tokenizer.json");
        std::fs::write(&tokenizer, tiny::TOKENIZER).unwrap();
        let with_tokenizer = load();
        std::fs::write(&tokenizer, tiny::TOKENIZER.replace(r#""b": 4"#, r#""b": 8"#)).unwrap();
        assert_eq!(BTreeSet::from([plain.0, with_tokenizer.0, load().0]).len(), 3);
    }

    #[test]
    fn a_missing_weight_is_an_error() {
        let error = base(&tiny::network().into(), &Weights::default(), None).unwrap_err();
        assert_eq!(error.to_string(), "no such weight: lm_head.weight");
    }
}
