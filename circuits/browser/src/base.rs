//! A base from its files: those of a Hugging Face folder, or of a base of graphs.

use std::path::Path;

use ftk_networks::Network;
use ftk_networks::config::ConfigError;
use ftk_networks::graphs::GraphNetwork;
use ftk_networks::texts::{CONFIG, FolderTexts, TokenIds};
use ftk_proofs::head::GraphBase;
use ftk_proofs::limits::Limits;
use ftk_proofs::verifier::Verifier;
use ftk_proofs::{FixedModel, Net};
use safetensors::Dtype;
use serde_json::Value;

use crate::request::NamedFiles;
use crate::weights::{located, of_network, values, weight};

/// A verifier with what its vocabulary calls the ids.
///
/// # Errors
/// What keeps the files from being a base, or one that is read here.
pub(crate) fn verifier(files: &NamedFiles<'_>, limits: Limits) -> Result<(Verifier, TokenIds), String> {
    let config = *files
        .get(CONFIG)
        .ok_or("no config.json among the files of the base: a base is a Hugging Face folder here, and no GGUF file")?;
    let json: Value = serde_json::from_slice(config).map_err(|error| format!("{CONFIG}: malformed JSON: {error}"))?;
    match GraphNetwork::is_one(&json) {
        true => Ok((of_graphs(config, files, limits)?, TokenIds::default())),
        false => of_tokens(&json, files, limits).map_err(|error| error.to_string()),
    }
}

/// Why there is no base.
#[derive(Debug, thiserror::Error)]
enum BaseError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("{0}")]
    Other(String),
}

fn of_tokens(config: &Value, files: &NamedFiles<'_>, limits: Limits) -> Result<(Verifier, TokenIds), BaseError> {
    let folder = Path::new("");
    let network = Network::read(Path::new(CONFIG), config)?;
    let texts =
        FolderTexts::read(folder, config, |name| Ok::<_, BaseError>(files.get(name).map(|bytes| bytes.to_vec())))?;
    let ids = texts.ids(folder, network.vocab())?;
    let texts = texts.of_digest(&ids, network.vocab());
    let tensors = of_network(&network, located(files).map_err(BaseError::Other)?).map_err(BaseError::Other)?;
    let model = FixedModel::new(Net::Tokens(network.clone()), texts, |name| {
        Some(weight(tensors.get(name)?, network.stored(name)))
    });
    let model = model.map_err(|error| BaseError::Other(error.to_string()))?;
    Ok((Verifier::new(model, limits), ids))
}

fn of_graphs(config: &[u8], files: &NamedFiles<'_>, limits: Limits) -> Result<Verifier, String> {
    let network = GraphNetwork::parse(config).map_err(|reason| format!("{CONFIG}: {reason}"))?;
    let (tensors, shapes) = (located(files)?, network.shapes());
    let mut weights = ftk_proofs::head::Tensors::new();
    for (name, view) in &tensors {
        if shapes.get(name).map(Vec::as_slice) != Some(view.shape()) || view.dtype() != Dtype::F32 {
            return Err(format!("tensor {name} is none of the network's, of another shape, or not of 32 bits"));
        }
        let values: Vec<f32> = values(view).collect();
        if values.iter().any(|value| !value.is_finite()) {
            return Err(format!("tensor {name} has an entry that is not finite"));
        }
        weights.insert(name.clone(), (view.shape().to_vec(), values));
    }
    if let Some(missing) = shapes.keys().find(|name| !weights.contains_key(*name)) {
        return Err(format!("missing tensor: {missing}"));
    }
    Verifier::of_graphs(GraphBase::new(network, weights), limits).map_err(|error| error.to_string())
}
