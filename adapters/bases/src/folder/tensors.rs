//! The safetensors files of a folder: which tensor is where, and how it becomes one of the network's weights.

use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};

use bytemuck::Pod;
use candle_core::{DType, Device, Tensor, WithDType};
use ftk_adapters::foreign;
use ftk_adapters::peft::LFS;
use ftk_adapters::weights::in_format;
use ftk_networks::Stored;
use half::vec::HalfBitsVecExt as _;
use half::{bf16, f16};
use safetensors::Dtype;
use safetensors::tensor::Metadata;
use serde_json::Value;

use super::super::error::ModelError;
use super::super::hold::Hold;
use super::texts::json;

/// All weights in one file.
pub const WEIGHTS: &str = "model.safetensors";
/// Which file holds which weight, where there are several.
pub const SHARDS: &str = "model.safetensors.index.json";

/// Largest accepted safetensors header, the limit of the format's own reader.
pub(super) const MAX_HEADER: u64 = 100_000_000;

/// Where one tensor is.
#[derive(Debug)]
pub(super) struct TensorPlace {
    pub(super) file: PathBuf,
    pub(super) dtype: Dtype,
    pub(super) shape: Vec<usize>,
    /// First byte in the file.
    start: u64,
    /// Length in bytes.
    pub(super) len: usize,
    /// How the network takes it.
    pub(super) stored: Stored,
}

impl TensorPlace {
    /// The tensor as it is stored.
    pub(super) fn bytes(&self) -> Result<Vec<u8>, ModelError> {
        let mut bytes = vec![0; self.len];
        self.read(&mut bytes)?;
        Ok(bytes)
    }

    fn read(&self, bytes: &mut [u8]) -> Result<(), ModelError> {
        let failed = |source| ModelError::Read { path: self.file.clone(), source };
        let mut file = foreign::open(&self.file).map_err(failed)?;
        file.seek(SeekFrom::Start(self.start)).map_err(failed)?;
        file.read_exact(bytes).map_err(failed)
    }

    /// The entries of a tensor, read to where they stay.
    fn in_place<T: Pod>(&self, from_le: impl Fn(T) -> T) -> Result<Vec<T>, ModelError> {
        let mut values = vec![T::zeroed(); self.len / size_of::<T>()];
        self.read(bytemuck::cast_slice_mut(&mut values))?;
        if cfg!(target_endian = "big") {
            values.iter_mut().for_each(|value| *value = from_le(*value));
        }
        Ok(values)
    }

    /// Entries as a tensor, if they are numbers.
    fn tensor<T: WithDType + Into<f32>>(&self, name: &str, values: Vec<T>) -> Result<Tensor, ModelError> {
        check_finite(&self.file, name, &values)?;
        Ok(Tensor::from_vec(values, self.shape.as_slice(), &Device::Cpu)?)
    }

    pub(super) fn load(&self, name: &str, device: &Device, hold: Hold) -> Result<Tensor, ModelError> {
        let mut values = match self.dtype {
            Dtype::F16 => self.tensor::<f16>(name, self.in_place(u16::from_le)?.reinterpret_into())?,
            Dtype::BF16 => self.tensor::<bf16>(name, self.in_place(u16::from_le)?.reinterpret_into())?,
            _ => self.tensor(name, self.in_place(|x| f32::from_bits(u32::from_le(f32::to_bits(x))))?)?,
        };
        // What one is added to is seldom a number of the narrow format again.
        if hold == Hold::F32 || self.stored == Stored::LessOne {
            values = in_format(&values, DType::F32)?;
        }
        match self.stored {
            Stored::LessOne => values = (values + 1.0)?,
            Stored::Transposed => values = values.t()?.contiguous()?,
            Stored::Plain => {}
        }
        Ok(values.to_device(device)?)
    }
}

/// Refuses NaN and infinities, naming the tensor.
pub fn check_finite<T: Copy + Into<f32>>(path: &Path, tensor: &str, values: &[T]) -> Result<(), ModelError> {
    // A loop that stops at the first would look at one value at a time.
    const CHUNK: usize = 1 << 12;
    let finite = |values: &[T]| values.iter().fold(true, |all, &value| all & value.into().is_finite());
    if values.chunks(CHUNK).all(finite) {
        return Ok(());
    }
    match values.iter().position(|&value| !value.into().is_finite()) {
        None => Ok(()),
        Some(index) => {
            let value = values[index].into();
            Err(ModelError::NotFinite { path: path.to_owned(), tensor: tensor.to_owned(), index, value })
        }
    }
}

/// Every tensor of `model.safetensors`, or of the shards its index names.
pub(super) fn locate(path: &Path) -> Result<BTreeMap<String, TensorPlace>, ModelError> {
    let single = path.join(WEIGHTS);
    if single.exists() {
        return header(&single);
    }
    let mut shards: BTreeMap<String, BTreeMap<String, TensorPlace>> = BTreeMap::new();
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
pub fn shards(path: &Path) -> Result<Vec<String>, ModelError> {
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
fn header(path: &Path) -> Result<BTreeMap<String, TensorPlace>, ModelError> {
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
        (name, TensorPlace { file: path.to_owned(), dtype, shape, start, len: to - from, stored: Stored::Plain })
    };
    Ok(metadata.tensors().into_iter().map(slot).collect())
}
