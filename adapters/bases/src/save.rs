//! Writing a base model as a Hugging Face folder, for bases that ftk trains in full or merges an adapter into.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use ftk_adapters::staged::{Staged, There};
use ftk_adapters::weights::Weights;
use ftk_networks::texts::SpecialTokens;
use ftk_networks::{Network, Stored};
use half::{bf16, f16};
use safetensors::Dtype;
use safetensors::tensor::View;
use serde_json::{Value, json};

use super::error::ModelError;
use super::parts::TextFile;

/// The file without which there is no base.
const CONFIG: &str = "config.json";

/// How weights are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// As they are.
    F32,
    /// Rounded to nearest, ties to even.
    Bf16,
    /// Rounded to nearest, ties to even; what lies beyond 65504 becomes infinite.
    F16,
}

/// Writes `config.json`, `generation_config.json`, `model.safetensors` and the given text files to the new folder
/// `path`. It appears complete or not at all: everything is written beside it first and renamed last.
///
/// # Errors
/// [`ModelError::Exists`]; a weight of the network missing or mis-shaped; files that cannot be written.
pub fn save_folder(
    path: &Path,
    network: &Network,
    weights: &Weights,
    precision: Precision,
    special: &SpecialTokens,
    text_files: &[TextFile],
) -> Result<(), ModelError> {
    if path.exists() {
        return Err(ModelError::Exists { path: path.to_owned() });
    }
    let staged = Staged::new(path, There::Stays);
    let staged = staged.map_err(|source| ModelError::Write { path: path.to_owned(), source })?;
    fill_folder(staged, path, network, weights, precision, special, text_files)
}

/// [`save_folder`] into a place that was made before.
///
/// # Errors
/// As [`save_folder`].
pub fn fill_folder(
    staged: Staged,
    path: &Path,
    network: &Network,
    weights: &Weights,
    precision: Precision,
    special: &SpecialTokens,
    text_files: &[TextFile],
) -> Result<(), ModelError> {
    let write_error = |source| ModelError::Write { path: path.to_owned(), source };
    let folder = staged.path();

    let mut files = vec![
        (CONFIG, pretty(&config(network, precision, special))),
        ("generation_config.json", pretty(&generation_config(special))),
    ];
    files.extend(text_files.iter().map(|file| (file.name.as_str(), file.bytes.clone())));
    for (name, bytes) in files {
        let file = folder.join(name);
        if let Some(parent) = file.parent() {
            std::fs::create_dir_all(parent).map_err(write_error)?;
        }
        std::fs::write(file, bytes).map_err(write_error)?;
    }
    write_weights(&folder.join("model.safetensors"), path, network, weights, precision)?;
    staged.persist(&[CONFIG]).map_err(write_error)
}

fn pretty(value: &Value) -> Vec<u8> {
    let mut text = serde_json::to_vec_pretty(value).expect("a JSON value serialises");
    text.push(b'\n');
    text
}

fn config(network: &Network, precision: Precision, special: &SpecialTokens) -> Value {
    let mut config = network.write();
    config["bos_token_id"] = json!(special.bos);
    config["eos_token_id"] = json!(special.eos);
    config["pad_token_id"] = json!(special.pad);
    config["torch_dtype"] = json!(match precision {
        Precision::F32 => "float32",
        Precision::Bf16 => "bfloat16",
        Precision::F16 => "float16",
    });
    config["use_cache"] = json!(true);
    config
}

fn generation_config(special: &SpecialTokens) -> Value {
    json!({ "bos_token_id": special.bos, "eos_token_id": special.stop, "pad_token_id": special.pad })
}

/// Writes the tensors the network uses; `shown` is the path named in errors.
fn write_weights(
    file: &Path,
    shown: &Path,
    network: &Network,
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
        let mut tensor = tensor.to_device(&Device::Cpu)?.to_dtype(DType::F32)?;
        tensor = match network.stored(&name) {
            Stored::Plain => tensor,
            Stored::Transposed => tensor.t()?,
            Stored::LessOne => (tensor - 1.0)?,
        };
        let shape = tensor.dims().to_vec();
        entries.push((name, WrittenTensor { tensor: tensor.flatten_all()?, shape, precision }));
    }
    // transformers refuses files whose metadata does not name a format.
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    safetensors::serialize_to_file(entries, Some(metadata), file)
        .map_err(|error| ModelError::Write { path: shown.to_owned(), source: std::io::Error::other(error) })
}

/// A tensor to be written: flat, f32, on the CPU, converted only when its turn comes.
struct WrittenTensor {
    tensor: Tensor,
    shape: Vec<usize>,
    precision: Precision,
}

impl View for WrittenTensor {
    fn dtype(&self) -> Dtype {
        match self.precision {
            Precision::F32 => Dtype::F32,
            Precision::Bf16 => Dtype::BF16,
            Precision::F16 => Dtype::F16,
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
            Precision::F16 => values.into_iter().flat_map(|value| f16::from_f32(value).to_le_bytes()).collect(),
        })
    }

    fn data_len(&self) -> usize {
        let width = match self.precision {
            Precision::F32 => 4,
            Precision::Bf16 | Precision::F16 => 2,
        };
        self.tensor.elem_count() * width
    }
}

#[cfg(test)]
mod tests {
    use ftk_networks::ops::Llama3Scaling;
    use ftk_networks::{Llama, LlamaVariant};

    use super::super::{BaseModel, LoadedModel, tiny};
    use super::*;

    fn special() -> SpecialTokens {
        SpecialTokens { bos: Some(1), eos: Some(2), pad: Some(0), stop: [2, 9].into() }
    }

    #[test]
    fn what_is_written_reads_back() {
        let root = tempfile::tempdir().unwrap();
        let mut scaled = tiny::network();
        scaled.tied = true;
        scaled.rope.theta = 5e5;
        let scaling = Llama3Scaling { factor: 8.0, low_freq_factor: 1.0, high_freq_factor: 4.0, original_context: 16 };
        scaled.rope.scaling = Some(scaling);
        let files = [TextFile { name: "tokenizer.json".to_owned(), bytes: tiny::TOKENIZER.into() }];
        let of_family = |family| Llama { family, ..tiny::network() };
        let networks: [Network; 5] = [
            tiny::network().into(),
            scaled.into(),
            of_family(LlamaVariant::Qwen2).into(),
            of_family(LlamaVariant::Qwen3).into(),
            tiny::gpt2().into(),
        ];
        for (i, network) in networks.iter().enumerate() {
            for precision in [Precision::F32, Precision::Bf16, Precision::F16] {
                let path = root.path().join(format!("{i}-{precision:?}"));
                let weights = tiny::weights(network.clone());
                save_folder(&path, network, &weights, precision, &special(), &files).unwrap();
                let read = LoadedModel::load(&path, &Device::Cpu).unwrap();
                assert_eq!(read.source.network(), network);
                assert_eq!(read.source.special(), &special());
                assert_eq!(read.source.text_files().unwrap()[0], files[0]);
                assert!(tiny::same(&read.weights, &weights), "{precision:?}");
            }
        }
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 3 * networks.len(), "nothing temporary is left");
    }

    #[test]
    fn every_family_is_written_as_it_was_read() {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures");
        let folders = std::fs::read_dir(fixtures).unwrap().map(|entry| entry.unwrap().path().join("base"));
        let (root, mut seen) = (tempfile::tempdir().unwrap(), 0);
        for (index, base) in folders.filter(|base| base.is_dir()).enumerate() {
            let (model, path) = (LoadedModel::load(&base, &Device::Cpu).unwrap(), root.path().join(index.to_string()));
            let LoadedModel { source, weights } = &model;
            save_folder(&path, source.network(), weights, Precision::F32, source.special(), &[]).unwrap();
            let read = LoadedModel::load(&path, &Device::Cpu).unwrap();
            assert_eq!(read.source.network(), source.network());
            assert!(tiny::same(&read.weights, weights), "{}", base.display());
            seen += 1;
        }
        assert!(seen > 5, "fixtures are looked for in the wrong place");
    }

    #[test]
    fn bf16_rounds_to_nearest_even() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("model");
        let network = tiny::network();
        let mut weights = tiny::weights(network.clone());
        let unit: f32 = 1.0 / 128.0;
        let half = 1.0 + unit / 2.0;
        let values = vec![1.0 + 1.5 * unit, half, f32::next_up(half), -half, 0.0, -0.0, 1.0, 2.0];
        weights.insert("model.norm.weight".to_owned(), Tensor::from_vec(values, 8, &Device::Cpu).unwrap());
        save_folder(&path, &network.into(), &weights, Precision::Bf16, &special(), &[]).unwrap();
        let read = BaseModel::open(&path).unwrap().weights(&Device::Cpu).unwrap();
        let rounded = read.get("model.norm.weight").unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(rounded, [1.0 + 2.0 * unit, 1.0, 1.0 + unit, -1.0, 0.0, -0.0, 1.0, 2.0]);
    }

    #[test]
    fn nothing_is_overwritten_and_nothing_half_written_stays() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("model");
        let network = tiny::network();
        let save =
            |weights: &Weights| save_folder(&path, &network.clone().into(), weights, Precision::F32, &special(), &[]);
        let mut wrong = tiny::weights(network.clone());
        wrong.insert("model.norm.weight".to_owned(), Tensor::zeros(3, DType::F32, &Device::Cpu).unwrap());
        let error = save(&wrong).unwrap_err().to_string();
        assert!(error.ends_with("tensor model.norm.weight has shape [3], the network needs [8]"), "{error}");
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 0);

        save(&tiny::weights(network.clone())).unwrap();
        let error = save(&tiny::weights(network.clone())).unwrap_err().to_string();
        assert!(error.ends_with("model: already exists"), "{error}");
    }
}
