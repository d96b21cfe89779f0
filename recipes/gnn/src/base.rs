//! Networks of graphs in files: `config.json` beside `model.safetensors`.

use std::path::Path;

use candle_core::{Device, Tensor};
use ftk_adapters::weights::Weights;
use ftk_adapters::{atomic, foreign};
use ftk_networks::graphs::{GraphNetwork, GraphNetworkKind};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use super::error::GraphError;

/// File name of the network's numbers.
pub const CONFIG: &str = "config.json";
/// File name of its weights.
pub const MODEL: &str = "model.safetensors";

/// Whether a folder holds a network of graphs, or means to.
pub fn is_one(folder: &Path) -> bool {
    #[derive(serde::Deserialize)]
    struct Named {
        model_type: GraphNetworkKind,
    }
    let named = foreign::read(&folder.join(CONFIG), foreign::DOCUMENT)
        .ok()
        .map(|bytes| serde_json::from_slice::<Named>(&bytes));
    matches!(
        named,
        Some(Ok(Named {
            model_type: GraphNetworkKind::Gcn
                | GraphNetworkKind::Sage
                | GraphNetworkKind::SageGcn
                | GraphNetworkKind::Gat
        }))
    )
}

/// Reads the numbers of a network.
///
/// # Errors
/// A file that cannot be read or is malformed.
pub fn network(folder: &Path) -> Result<GraphNetwork, GraphError> {
    let path = folder.join(CONFIG);
    let bytes = foreign::read(&path, foreign::DATA).map_err(|error| GraphError::io(&path, error))?;
    let hint = "task \"gnn\" takes the folder base/ of a run that trained a network of graphs, or \"fresh\"";
    let network: GraphNetwork = serde_json::from_slice(&bytes)
        .map_err(|error| GraphError::malformed(&path, format!("not a network of graphs: {error}")).hinted(hint))?;
    let most = [network.inputs, network.hidden, network.layers, network.heads].into_iter().max().unwrap_or(0);
    if network.layers == 0 || network.layers > 64 || network.heads == 0 || most > 1 << 24 {
        return Err(GraphError::malformed(&path, "numbers that no network has"));
    }
    Ok(network)
}

/// Reads a network and its weights.
///
/// # Errors
/// Files that cannot be read or are malformed, weights that the network does not have or of other shapes.
pub fn load(folder: &Path, device: &Device) -> Result<(GraphNetwork, Weights), GraphError> {
    let network = network(folder)?;
    let path = folder.join(MODEL);
    let bytes = foreign::read(&path, foreign::DATA).map_err(|error| GraphError::io(&path, error))?;
    let wrong = |message: String| GraphError::malformed(&path, message);
    let file = SafeTensors::deserialize(&bytes).map_err(|error| wrong(error.to_string()))?;
    let mut weights = Weights::default();
    for (name, shape) in network.shapes() {
        let tensor = file.tensor(&name).map_err(|_| wrong(format!("no such weight: {name}")))?;
        if tensor.dtype() != Dtype::F32 || tensor.shape() != shape {
            return Err(wrong(format!("{name} must be f32 {shape:?}, not {:?}", tensor.shape())));
        }
        let values: Vec<f32> = tensor.data().as_chunks().0.iter().map(|&word| f32::from_le_bytes(word)).collect();
        if values.iter().any(|value| !value.is_finite()) {
            return Err(wrong(format!("a weight is not finite: {name}")));
        }
        weights.insert(name, Tensor::from_vec(values, shape, device)?);
    }
    if file.len() != weights.len() {
        return Err(wrong(format!("{} weights, of which the network knows {}", file.len(), weights.len())));
    }
    Ok((network, weights))
}

/// Writes a network and its weights into a folder, which is made if it is not there.
///
/// # Errors
/// The file system's.
pub fn save(folder: &Path, network: &GraphNetwork, weights: &Weights) -> Result<(), GraphError> {
    std::fs::create_dir_all(folder).map_err(|error| GraphError::io(folder, error))?;
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
    let bytes = bytes.map_err(|error| GraphError::malformed(&path, error.to_string()))?;
    atomic::write(&path, &bytes).map_err(|error| GraphError::io(&path, error))?;
    let path = folder.join(CONFIG);
    let text = serde_json::to_string_pretty(network).expect("numbers have a text") + "\n";
    atomic::write(&path, text.as_bytes()).map_err(|error| GraphError::io(&path, error))
}

/// A digest of a network and its weights.
///
/// # Errors
/// The device's.
pub fn digest(network: &GraphNetwork, weights: &Weights) -> Result<blake3::Hash, GraphError> {
    let mut hash = blake3::Hasher::new_derive_key("ftk network of graphs");
    let text = serde_json::to_string(network).expect("numbers have a text");
    hash.update(&(text.len() as u64).to_le_bytes()).update(text.as_bytes());
    for name in network.shapes().keys() {
        for value in weights.get(name)?.flatten_all()?.to_vec1::<f32>()? {
            hash.update(&value.to_le_bytes());
        }
    }
    Ok(hash.finalize())
}
