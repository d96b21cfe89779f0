//! Named weights of a network, on one device.

use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::quantized::QTensor;
use candle_core::{CpuStorage, DType, Device, Storage, Tensor};
use ftk_kernels::float::bf16::{narrowed_all, widened_all};

use crate::Error;

/// One weight as it is held in memory.
#[derive(Clone, Debug)]
pub enum Weight {
    /// f32, or bf16 or f16 that is widened where it is used.
    Dense(Tensor),
    /// Blocks of a GGUF file, dequantised where it is used.
    Quantised {
        /// The blocks.
        blocks: Arc<QTensor>,
        /// The order in which the rows are taken, where it is not their own.
        order: Option<Tensor>,
    },
}

impl Weight {
    /// In a number format: itself if it is held so. No variable, whose operations candle would record.
    pub(crate) fn in_format(&self, format: DType) -> candle_core::Result<Tensor> {
        match self {
            Self::Dense(tensor) => Ok(in_format(tensor, format)?.detach()),
            Self::Quantised { blocks, order } => {
                let rows = blocks.dequantize(&blocks.device())?.to_dtype(format)?;
                order.as_ref().map_or(Ok(rows.clone()), |order| rows.index_select(order, 0))
            }
        }
    }

    /// Some rows, in f32, of numbers rounded to a format.
    pub(crate) fn rows(&self, ids: &Tensor, format: DType) -> candle_core::Result<Tensor> {
        let rows = match self {
            Self::Dense(tensor) => tensor.detach().index_select(ids, 0)?.to_dtype(format)?,
            Self::Quantised { .. } => self.in_format(format)?.index_select(ids, 0)?,
        };
        rows.to_dtype(DType::F32)
    }

    /// Bytes it takes.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Dense(tensor) => tensor.elem_count() * tensor.dtype().size_in_bytes(),
            Self::Quantised { blocks, .. } => blocks.storage_size_in_bytes(),
        }
    }

    fn device(&self) -> Device {
        match self {
            Self::Dense(tensor) => tensor.device().clone(),
            Self::Quantised { blocks, .. } => blocks.device(),
        }
    }
}

impl From<Tensor> for Weight {
    fn from(tensor: Tensor) -> Self {
        Self::Dense(tensor)
    }
}

/// Values as files, messages and digests have them: little-endian binary32.
pub fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// A tensor in a number format: itself if it is in it. Between f32 and bf16 in host memory by all cores, and without what
/// candle would record.
///
/// # Errors
/// The device's.
pub fn in_format(tensor: &Tensor, format: DType) -> candle_core::Result<Tensor> {
    let of_host = {
        let (storage, layout) = tensor.storage_and_layout();
        let lies = layout.contiguous_offsets().map(|(first, end)| first..end);
        match (&*storage, format, lies) {
            (Storage::Cpu(CpuStorage::F32(values)), DType::BF16, Some(lies)) => {
                Some(Tensor::from_vec(narrowed_all(&values[lies]), tensor.shape(), &Device::Cpu))
            }
            (Storage::Cpu(CpuStorage::BF16(values)), DType::F32, Some(lies)) => {
                Some(Tensor::from_vec(widened_all(&values[lies]), tensor.shape(), &Device::Cpu))
            }
            _ => None,
        }
    };
    of_host.unwrap_or_else(|| tensor.to_dtype(format))
}

/// `f` of the values of a tensor, row-major and widened to f32; no copy is made where they lie so in host memory.
///
/// # Errors
/// The device's.
pub fn values<R>(tensor: &Tensor, f: impl FnOnce(&[f32]) -> R) -> candle_core::Result<R> {
    let host = in_format(&tensor.to_device(&Device::Cpu)?, DType::F32)?.contiguous()?;
    let (storage, layout) = host.storage_and_layout();
    match &*storage {
        Storage::Cpu(CpuStorage::F32(values)) => Ok(f(&values[layout.start_offset()..][..layout.shape().elem_count()])),
        _ => unreachable!("the tensor was brought to host memory as f32"),
    }
}

/// Weights by their full Hugging Face name (`model.norm.weight`), in name order.
#[derive(Clone, Debug, Default)]
pub struct Weights(BTreeMap<String, Weight>);

impl Weights {
    /// The weight of that name in f32: itself if it is held so, otherwise made for the occasion.
    ///
    /// # Errors
    /// [`Error::MissingWeight`]; the device's.
    pub fn get(&self, name: &str) -> Result<Tensor, Error> {
        Ok(self.held(name)?.in_format(DType::F32)?)
    }

    /// The same with every matrix in bf16 and everything else in f32. What a matrix was held in is given up before the
    /// next one is rounded.
    ///
    /// # Errors
    /// The device's.
    pub fn narrowed(self) -> Result<Self, Error> {
        let narrow = |(name, weight): (String, Weight)| {
            let matrix = match &weight {
                Weight::Dense(tensor) => tensor.rank() == 2,
                Weight::Quantised { blocks, .. } => blocks.rank() == 2,
            };
            let tensor = weight.in_format(if matrix { DType::BF16 } else { DType::F32 })?;
            Ok((name, Weight::Dense(tensor)))
        };
        self.0.into_iter().map(narrow).collect::<Result<_, Error>>().map(Self)
    }

    /// The weight of that name as it is held.
    ///
    /// # Errors
    /// [`Error::MissingWeight`].
    pub fn held(&self, name: &str) -> Result<&Weight, Error> {
        self.0.get(name).ok_or_else(|| Error::MissingWeight(name.to_owned()))
    }

    /// Whether there is a weight of that name.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Adds or replaces a weight.
    pub fn insert(&mut self, name: String, value: impl Into<Weight>) {
        self.0.insert(name, value.into());
    }

    /// Names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// All weights in name order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Weight)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// The device they are on.
    pub fn device(&self) -> Device {
        self.0.values().next().map_or(Device::Cpu, Weight::device)
    }

    /// Bytes they take.
    pub fn bytes(&self) -> usize {
        self.0.values().map(Weight::bytes).sum()
    }

    /// Number of weights (tensors).
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<W: Into<Weight>> FromIterator<(String, W)> for Weights {
    fn from_iter<I: IntoIterator<Item = (String, W)>>(items: I) -> Self {
        Self(items.into_iter().map(|(name, weight)| (name, weight.into())).collect())
    }
}

#[cfg(test)]
mod tests {
    use candle_core::quantized::GgmlDType;

    use super::*;

    #[test]
    fn values_are_row_major_whatever_the_tensor() {
        let full = Tensor::from_vec((0..12).map(|i| i as f32 / 4.0).collect(), (3, 4), &Device::Cpu).unwrap();
        let read = |tensor: &Tensor| values(tensor, <[f32]>::to_vec).unwrap();
        assert_eq!(read(&full.narrow(0, 1, 2).unwrap()), (4..12).map(|i| i as f32 / 4.0).collect::<Vec<_>>());
        assert_eq!(read(&full.t().unwrap())[..3], [0.0, 1.0, 2.0]);
        let narrow = full.to_dtype(DType::BF16).unwrap();
        assert_eq!(read(&narrow), read(&full));
        assert_eq!(read(&narrow.narrow(0, 1, 2).unwrap()), read(&full.narrow(0, 1, 2).unwrap()));
        assert_eq!(read(&narrow.t().unwrap()), read(&full.t().unwrap()));
    }

    #[test]
    fn a_format_is_what_candle_makes_of_it() {
        let full = Tensor::from_vec((0..12).map(|i| 1.0 / (i + 1) as f32).collect(), (3, 4), &Device::Cpu).unwrap();
        for tensor in [full.clone(), full.narrow(0, 1, 2).unwrap(), full.t().unwrap()] {
            let narrow = in_format(&tensor, DType::BF16).unwrap();
            assert_eq!((narrow.dtype(), narrow.shape()), (DType::BF16, tensor.shape()));
            let theirs = tensor.to_dtype(DType::BF16).unwrap().to_dtype(DType::F32).unwrap();
            let ours = in_format(&narrow, DType::F32).unwrap();
            assert_eq!(ours.to_vec2::<f32>().unwrap(), theirs.to_vec2::<f32>().unwrap());
        }
    }

    #[test]
    fn held_narrowly_a_weight_reads_as_what_it_was() {
        let values: Vec<f32> = (0..128).map(|i| f32::from(i as i8) / 8.0).collect();
        let full = Tensor::from_vec(values, (4, 32), &Device::Cpu).unwrap();
        let blocks = Arc::new(QTensor::quantize(&full, GgmlDType::F16).unwrap());
        let order = Tensor::new(&[2u32, 0, 1, 3], &Device::Cpu).unwrap();
        let weights: Weights = [
            ("bf16", Weight::Dense(full.to_dtype(DType::BF16).unwrap())),
            ("blocks", Weight::Quantised { blocks: blocks.clone(), order: None }),
            ("full", Weight::Dense(full.clone())),
            ("ordered", Weight::Quantised { blocks, order: Some(order.clone()) }),
        ]
        .map(|(name, weight)| (name.to_owned(), weight))
        .into_iter()
        .collect();
        let rows = |x: &Tensor| x.to_vec2::<f32>().unwrap();
        for name in ["bf16", "blocks", "full"] {
            assert_eq!(rows(&weights.get(name).unwrap()), rows(&full), "{name}");
        }
        assert_eq!(rows(&weights.get("ordered").unwrap()), rows(&full.index_select(&order, 0).unwrap()));
        assert_eq!(weights.bytes(), 128 * (2 + 2 + 4 + 2));
        // These numbers are the same in bf16.
        let narrowed = weights.narrowed().unwrap();
        assert_eq!(narrowed.bytes(), 128 * 2 * 4);
        assert_eq!(rows(&narrowed.get("ordered").unwrap()), rows(&full.index_select(&order, 0).unwrap()));
    }
}
