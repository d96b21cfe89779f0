//! A base of graphs with its weights, and heads that were trained beside an adapter.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use ftk_adapters::peft::Saved;
use ftk_adapters::weights::Weights;
use ftk_networks::graphs::{End, Network};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

/// A network of graphs with its weights.
#[derive(Clone, Debug)]
pub struct GraphBase {
    path: PathBuf,
    network: Network,
    weights: Weights,
}

impl GraphBase {
    /// With its weights, as it was read from a folder.
    pub(super) fn new(path: &Path, network: Network, weights: Weights) -> Self {
        Self { path: path.to_owned(), network, weights }
    }

    /// Where it was read from.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The network.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Its weights.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// The same with a head that was trained beside an adapter, which has outputs of its own. Such a head is public: it
    /// is part of what statements call the base.
    ///
    /// # Errors
    /// The name of a weight that is none of the head's, or of another shape, or missing.
    pub fn with_head(&self, head: &Saved) -> Result<Self, String> {
        let mut with = self.clone();
        if let (End::Linear(_) | End::Encoder, Some((shape, _))) = (with.network.head, head.get("head.weight"))
            && let Some(&outputs) = shape.first()
        {
            with.network.head = End::Linear(outputs);
        }
        if with.network.head == End::Linear(0) {
            return Err("head.weight".to_owned());
        }
        let (names, shapes) = (with.network.head_weights(), with.network.shapes());
        for (name, (shape, values)) in head {
            if !names.contains(name) || shapes.get(name) != Some(shape) {
                return Err(name.clone());
            }
            let tensor = Tensor::from_vec(values.clone(), shape.as_slice(), &Device::Cpu).map_err(|_| name.clone())?;
            with.weights.insert(name.clone(), tensor);
        }
        let whole = |name: &&String| !head.is_empty() && !head.contains_key(*name);
        match names.iter().find(whole) {
            Some(missing) => Err(missing.clone()),
            None => Ok(with),
        }
    }

    /// Whether this is the head it has.
    pub fn has_head(&self, head: &Saved) -> bool {
        let same = |(name, (shape, values)): (&String, &(Vec<usize>, Vec<f32>))| {
            let tensor = self.weights.get(name).ok()?;
            let own = tensor.flatten_all().and_then(|tensor| tensor.to_vec1::<f32>()).ok()?;
            Some(tensor.dims() == shape.as_slice() && own == *values)
        };
        head.iter().all(|weight| same(weight) == Some(true))
    }
}

/// The weights of a head as a file: safetensors, f32.
pub fn head_bytes(head: &Saved) -> Vec<u8> {
    let bytes: BTreeMap<&String, (&Vec<usize>, Vec<u8>)> = head
        .iter()
        .map(|(name, (shape, values))| (name, (shape, values.iter().flat_map(|value| value.to_le_bytes()).collect())))
        .collect();
    let views = bytes.iter().map(|(name, (shape, data))| {
        let view = TensorView::new(Dtype::F32, shape.to_vec(), data);
        (name, view.expect("shape and values come from one tensor"))
    });
    safetensors::serialize(views, None).expect("names and tensors are in order")
}

/// Reads [`head_bytes`].
///
/// # Errors
/// What is wrong with them.
pub fn parse_head(bytes: &[u8]) -> Result<Saved, String> {
    let file = SafeTensors::deserialize(bytes).map_err(|error| error.to_string())?;
    let mut head = Saved::new();
    for (name, tensor) in file.iter() {
        let values: Vec<f32> = tensor.data().as_chunks().0.iter().map(|&word| f32::from_le_bytes(word)).collect();
        if tensor.dtype() != Dtype::F32 || values.iter().any(|value| !value.is_finite()) {
            return Err(format!("not finite numbers of 32 bits: {name}"));
        }
        head.insert(name.to_owned(), (tensor.shape().to_vec(), values));
    }
    if head.is_empty() {
        return Err("no weights".to_owned());
    }
    // Another order or a word beside the tensors would be other bytes for the same head.
    if head_bytes(&head) == bytes { Ok(head) } else { Err("not the one way to write these weights".to_owned()) }
}
