//! Bases of graphs in files: `config.json` beside `model.safetensors`.

use std::path::Path;

use candle_core::{Device, Tensor};
use ftk_adapters::weights::{Weights, bytes, values};
use ftk_adapters::{atomic, foreign};
use ftk_networks::graphs::GraphNetwork;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use crate::error::{GRAPH_CONFIG, ModelError};

/// File name of the network's numbers.
pub const CONFIG: &str = "config.json";
/// File name of its weights.
pub const MODEL: &str = "model.safetensors";

/// Whether a folder holds a network of graphs, or means to.
pub fn is_one(folder: &Path) -> bool {
    let bytes = foreign::read(&folder.join(CONFIG), foreign::DOCUMENT).ok();
    let config = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    config.is_some_and(|config| GraphNetwork::is_one(&config))
}

fn read(path: &Path) -> Result<Vec<u8>, ModelError> {
    foreign::read(path, foreign::DATA).map_err(|source| ModelError::Read { path: path.to_owned(), source })
}

fn malformed(path: &Path, reason: String) -> ModelError {
    ModelError::Malformed { path: path.to_owned(), format: GRAPH_CONFIG, reason }
}

/// Reads the numbers of a network.
///
/// # Errors
/// A file that cannot be read or is malformed.
pub fn network(folder: &Path) -> Result<GraphNetwork, ModelError> {
    let path = folder.join(CONFIG);
    GraphNetwork::parse(&read(&path)?).map_err(|reason| malformed(&path, reason))
}

/// Reads a network and its weights.
///
/// # Errors
/// Files that cannot be read or are malformed, weights that the network does not have or of other shapes.
pub fn load(folder: &Path, device: &Device) -> Result<(GraphNetwork, Weights), ModelError> {
    let network = network(folder)?;
    let path = folder.join(MODEL);
    let bytes = read(&path)?;
    let wrong = |reason| ModelError::Malformed { path: path.clone(), format: "safetensors", reason };
    let file = SafeTensors::deserialize(&bytes).map_err(|error| wrong(error.to_string()))?;
    let mut weights = Weights::default();
    for (name, shape) in network.shapes() {
        let (path, tensor) = (path.clone(), name.clone());
        let Ok(view) = file.tensor(&name) else {
            return Err(ModelError::MissingTensor { path, tensor });
        };
        if view.dtype() != Dtype::F32 {
            return Err(ModelError::TensorType { path, tensor, found: format!("{:?}", view.dtype()) });
        }
        if view.shape() != shape {
            return Err(ModelError::Shape { path, tensor, found: view.shape().to_vec(), expected: shape });
        }
        let values: Vec<f32> = view.data().as_chunks().0.iter().map(|&word| f32::from_le_bytes(word)).collect();
        if let Some(index) = values.iter().position(|value| !value.is_finite()) {
            return Err(ModelError::NotFinite { path, tensor, index, value: values[index] });
        }
        weights.insert(name, Tensor::from_vec(values, shape, device)?);
    }
    if file.len() != weights.len() {
        return Err(wrong(format!("{} tensors, of which the network knows {}", file.len(), weights.len())));
    }
    Ok((network, weights))
}

/// Writes a network and its weights into a folder, which is made if it is not there.
///
/// # Errors
/// The file system's.
pub fn save(folder: &Path, network: &GraphNetwork, weights: &Weights) -> Result<(), ModelError> {
    let refused = |path: &Path, source| ModelError::Write { path: path.to_owned(), source };
    std::fs::create_dir_all(folder).map_err(|source| refused(folder, source))?;
    let path = folder.join(MODEL);
    let mut named = Vec::new();
    for (name, shape) in network.shapes() {
        let values = weights.get(&name)?.flatten_all()?.to_vec1::<f32>()?;
        named.push((name, shape, values.into_iter().flat_map(f32::to_le_bytes).collect::<Vec<u8>>()));
    }
    let views = named.iter().map(|(name, shape, data)| {
        (name, TensorView::new(Dtype::F32, shape.clone(), data).expect("shape and bytes come from one tensor"))
    });
    let format = [("format".to_owned(), "pt".to_owned())].into();
    let bytes = safetensors::serialize(views, Some(format));
    let bytes = bytes.map_err(|error| refused(&path, std::io::Error::other(error)))?;
    atomic::write(&path, &bytes).map_err(|source| refused(&path, source))?;
    let path = folder.join(CONFIG);
    let text = serde_json::to_string_pretty(network).expect("numbers have a text") + "\n";
    atomic::write(&path, text.as_bytes()).map_err(|source| refused(&path, source))
}

/// A digest of a network and its weights.
///
/// # Errors
/// The device's.
pub fn digest(network: &GraphNetwork, weights: &Weights) -> Result<blake3::Hash, ModelError> {
    let mut hash = blake3::Hasher::new_derive_key("ftk network of graphs");
    let text = serde_json::to_string(network).expect("numbers have a text");
    hash.update(&(text.len() as u64).to_le_bytes()).update(text.as_bytes());
    for name in network.shapes().keys() {
        values(&weights.get(name)?, |values| {
            hash.update(&bytes(values));
        })?;
    }
    Ok(hash.finalize())
}

#[cfg(test)]
mod tests {
    use ftk_adapters::hint::Hint;
    use ftk_networks::graphs::{GraphNetworkKind, Head, MessageKind};

    use super::*;

    fn of(width: usize, value: f32) -> (GraphNetwork, Weights) {
        let network = GraphNetwork::new(GraphNetworkKind::Gcn, [width, 4, 2, 1], Head::Convolution, 3);
        let mut weights = Weights::default();
        for (name, shape) in network.shapes() {
            weights.insert(name, Tensor::full(value, shape, &Device::Cpu).unwrap());
        }
        (network, weights)
    }

    #[test]
    fn a_base_comes_back_and_what_is_wrong_with_one_is_said() {
        let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (folder, other) = (folder.path(), other.path());
        let (network, weights) = of(5, 0.5);
        save(folder, &network, &weights).unwrap();
        let (kept, loaded) = load(folder, &Device::Cpu).unwrap();
        assert_eq!(kept, network);
        assert_eq!(digest(&kept, &loaded).unwrap(), digest(&network, &weights).unwrap());
        assert!(is_one(folder) && !is_one(other));

        save(other, &of(6, 0.5).0, &of(6, 0.5).1).unwrap();
        std::fs::copy(folder.join(MODEL), other.join(MODEL)).unwrap();
        assert!(matches!(load(other, &Device::Cpu), Err(ModelError::Shape { .. })));
        save(other, &network, &of(5, f32::NAN).1).unwrap();
        assert!(matches!(load(other, &Device::Cpu), Err(ModelError::NotFinite { index: 0, .. })));
        std::fs::copy(folder.join(CONFIG), other.join(CONFIG)).unwrap();
        let none: [(&str, TensorView<'_>); 0] = [];
        std::fs::write(other.join(MODEL), safetensors::serialize(none, None).unwrap()).unwrap();
        assert!(matches!(load(other, &Device::Cpu), Err(ModelError::MissingTensor { .. })));
        std::fs::remove_file(other.join(MODEL)).unwrap();
        assert!(matches!(load(other, &Device::Cpu), Err(ModelError::Read { .. })));
        for kind in [GraphNetworkKind::Gat, GraphNetworkKind::Gcn] {
            let weighed = GraphNetwork { model_type: kind, messages: MessageKind::Weighed, ..network.clone() };
            std::fs::write(other.join(CONFIG), serde_json::to_vec(&weighed).unwrap()).unwrap();
            match (kind, super::network(other)) {
                (GraphNetworkKind::Gcn, Ok(read)) => assert_eq!(read, weighed),
                (_, read) => {
                    let error = read.unwrap_err().to_string();
                    assert!(
                        error.contains("messages that are weighed, of a network that weighs none by edges"),
                        "{error}"
                    );
                }
            }
        }
        std::fs::write(other.join(CONFIG), "{\"model_type\": \"llama\"}").unwrap();
        let error = load(other, &Device::Cpu).unwrap_err();
        assert!(matches!(error, ModelError::Malformed { format: GRAPH_CONFIG, .. }));
        assert!(error.hint().unwrap().contains("the folder base/"));
    }
}
