//! The weights of a base in files of safetensors, in memory, one at a time as the network takes them.

use std::collections::BTreeMap;

use ftk_networks::{Network, Stored};
use ftk_proofs::FloatWeight;
use half::{bf16, f16};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

use crate::request::NamedFiles;

/// All weights in one file.
const WEIGHTS: &str = "model.safetensors";
/// Which file holds which weight, where there are several.
const SHARDS: &str = "model.safetensors.index.json";
/// What Git LFS leaves in the place of a file begins so (github.com/git-lfs/git-lfs, docs/spec.md).
const LFS: &[u8] = b"version https://git-lfs";

/// Every tensor of a folder's files by its name there.
pub(crate) type TensorViews<'a> = BTreeMap<String, TensorView<'a>>;

/// Finds the tensors of `model.safetensors`, or of the shards that its index names.
///
/// # Errors
/// Files that are missing or malformed.
pub(crate) fn located<'a>(files: &NamedFiles<'a>) -> Result<TensorViews<'a>, String> {
    let open = |name: &str| {
        let bytes = *files.get(name).ok_or_else(|| format!("no such file among those of the base: {name}"))?;
        if bytes.starts_with(LFS) {
            return Err(format!("{name}: a Git LFS pointer, not the file it stands for"));
        }
        let file =
            SafeTensors::deserialize(bytes).map_err(|error| format!("{name}: malformed safetensors: {error}"))?;
        Ok(file.tensors().into_iter().collect::<TensorViews>())
    };
    let Some(index) = files.get(SHARDS).filter(|_| !files.contains_key(WEIGHTS)) else { return open(WEIGHTS) };
    let malformed = |reason: String| format!("{SHARDS}: malformed safetensors index: {reason}");
    let index: Value = serde_json::from_slice(index).map_err(|error| malformed(error.to_string()))?;
    let map = index["weight_map"].as_object().ok_or_else(|| malformed("no weight_map".to_owned()))?;
    let (mut shards, mut tensors) = (BTreeMap::new(), TensorViews::new());
    for (tensor, shard) in map {
        let shard = shard.as_str().ok_or_else(|| malformed(format!("no file name for tensor: {tensor}")))?;
        if !shards.contains_key(shard) {
            shards.insert(shard.to_owned(), open(shard)?);
        }
        let view = shards.get_mut(shard).and_then(|shard| shard.remove(tensor));
        tensors.insert(tensor.clone(), view.ok_or_else(|| format!("{shard}: missing tensor: {tensor}"))?);
    }
    Ok(tensors)
}

/// The tensors by the names that the network has for them; refused where one is missing, of another shape or kind, or beside
/// them as if it belonged to the network.
///
/// # Errors
/// Which tensor, and why.
pub(crate) fn of_network<'a>(network: &Network, tensors: TensorViews<'a>) -> Result<TensorViews<'a>, String> {
    let count = tensors.len();
    let tensors: TensorViews = tensors.into_iter().map(|(name, view)| (network.full_name(name), view)).collect();
    if tensors.len() < count {
        return Err("two tensors of the base have one name".to_owned());
    }
    if let Some(tensor) = network.unused_tensor(tensors.keys()) {
        return Err(format!("the network that the configuration describes has no such tensor: {tensor}"));
    }
    // A head of its own, unless it is a copy of the table that the configuration says it is.
    if let Some([head, table]) = network.tied_head()
        && let (Some(own), Some(table)) = (tensors.get(&head), tensors.get(&table))
        && (own.dtype(), own.shape(), own.data()) != (table.dtype(), table.shape(), table.data())
    {
        return Err(format!(
            "config.json: tie_word_embeddings: says that the head is the embedding table, but the weights have another: {head}"
        ));
    }
    let mut found = TensorViews::new();
    for (name, mut shape) in network.shapes() {
        let view = tensors.get(&name).ok_or_else(|| format!("missing tensor: {name}"))?;
        if network.stored(&name) == Stored::Transposed {
            shape.reverse();
        }
        if view.shape() != shape {
            return Err(format!("tensor {name} has shape {:?}, the network needs {shape:?}", view.shape()));
        }
        if !matches!(view.dtype(), Dtype::F32 | Dtype::F16 | Dtype::BF16) {
            return Err(format!("tensor {name} has an unsupported type: {:?}", view.dtype()));
        }
        if values(view).any(|value| !value.is_finite()) {
            return Err(format!("tensor {name} has an entry that is not finite"));
        }
        found.insert(name, view.clone());
    }
    Ok(found)
}

/// A tensor as the network takes it.
pub(crate) fn weight(view: &TensorView<'_>, stored: Stored) -> FloatWeight<'static> {
    let (mut shape, mut all): (Vec<usize>, Vec<f32>) = (view.shape().to_vec(), values(view).collect());
    match stored {
        Stored::Plain => {}
        Stored::LessOne => all.iter_mut().for_each(|value| *value += 1.0),
        Stored::Transposed => {
            if let [rows, columns] = shape[..] {
                all = (0..columns)
                    .flat_map(|column| (0..rows).map(move |row| (row, column)))
                    .map(|(row, column)| all[row * columns + column])
                    .collect();
            }
            shape.reverse();
        }
    }
    FloatWeight { shape: shape.into(), values: all.into() }
}

/// The entries, row-major. Of another type than those that are read there are none.
pub(crate) fn values<'a>(view: &'a TensorView<'_>) -> Box<dyn Iterator<Item = f32> + 'a> {
    let (pairs, fours) = (view.data().as_chunks::<2>().0, view.data().as_chunks::<4>().0);
    match view.dtype() {
        Dtype::F16 => Box::new(pairs.iter().map(|pair| f16::from_le_bytes(*pair).to_f32())),
        Dtype::BF16 => Box::new(pairs.iter().map(|pair| bf16::from_le_bytes(*pair).to_f32())),
        Dtype::F32 => Box::new(fours.iter().map(|four| f32::from_le_bytes(*four))),
        _ => Box::new(std::iter::empty()),
    }
}
