//! Adapters in GGUF files, as llama.cpp takes them: `general.type` "adapter", `adapter.type` "lora", one
//! `adapter.lora.alpha` for all, and two matrices a site, named after the base's tensor with `.lora_a` `(rank, d_in)` and
//! `.lora_b` `(d_out, rank)` behind it. A product is scaled by alpha over its own rank. Rows of B are permuted where those of
//! the base's tensor are.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufReader, Cursor};
use std::path::Path;

use candle_core::quantized::gguf_file::{self, Content, Value};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};
use ftk_adapters::lora::{Adapter, Factors};
use ftk_adapters::{atomic, foreign};
use ftk_networks::Network;

use super::metadata::Metadata;
use super::{layout, read_error, reason, row_order};
use crate::error::ModelError;
use crate::save::Precision;

const ARCHITECTURE: &str = "general.architecture";
const KIND: &str = "general.type";
const ADAPTER_KIND: &str = "adapter.type";
const ALPHA: &str = "adapter.lora.alpha";
/// Number of the layout of quantised blocks, which files of unquantised tensors have, too (ggml.h).
const QUANTIZATION_VERSION: (&str, u32) = ("general.quantization_version", 2);
/// `general.file_type` (llama.h, `enum llama_ftype`).
const FILE_TYPE: &str = "general.file_type";

/// Adapter, and the alpha of its file: its sites have scale `alpha / rank`.
#[derive(Clone, Debug, PartialEq)]
pub struct GgufAdapter {
    /// Factors with their scales.
    pub adapter: Adapter,
    /// What the file says.
    pub alpha: f32,
}

/// Writes an adapter for a base of this network. Values are written as they are or rounded as `precision` says.
///
/// # Errors
/// A network or site that GGUF files do not have; scales that are not one alpha over each rank; the file system's.
pub fn write_adapter(
    path: &Path,
    given: &GgufAdapter,
    network: &Network,
    precision: Precision,
) -> Result<(), ModelError> {
    let malformed = |reason: String| ModelError::Malformed { path: path.to_owned(), format: "GGUF adapter", reason };
    let architecture = network.name_of_gguf();
    let architecture =
        architecture.ok_or_else(|| malformed(format!("no GGUF file holds networks of {}", network.family())))?;
    let (dtype, file_type) = match precision {
        Precision::F32 => (GgmlDType::F32, 0),
        Precision::F16 => (GgmlDType::F16, 1),
        Precision::Bf16 => (GgmlDType::BF16, 32),
    };
    let mut tensors = Vec::new();
    for (site, factors) in &given.adapter.sites {
        let Factors { rank, d_in, d_out, a, b, scale } = factors;
        if given.alpha / *rank as f32 != *scale {
            let alpha = given.alpha;
            return Err(malformed(format!(
                "has one alpha, {alpha}, which gives rank {rank} no scale of {scale}: {site}"
            )));
        }
        let name = format!("{site}.weight");
        let in_file =
            network.name_in_gguf(&name).ok_or_else(|| malformed(format!("has no tensor for site: {site}")))?;
        let order = network.interleaved(&name).map(|heads| row_order(heads, *d_out));
        // Where a row of the file comes from.
        let mut rows: Vec<usize> = (0..*d_out).collect();
        for (row, place) in order.iter().flatten().enumerate() {
            rows[*place as usize] = row;
        }
        let b: Vec<f32> = rows.iter().flat_map(|row| &b[row * rank..(row + 1) * rank]).copied().collect();
        for (half, values, shape) in [("a", a, (*rank, *d_in)), ("b", &b, (*d_out, *rank))] {
            let tensor = QTensor::quantize(&Tensor::from_slice(values, shape, &Device::Cpu)?, dtype)?;
            tensors.push((format!("{in_file}.lora_{half}"), tensor));
        }
    }
    let text = |text: &str| Value::String(text.to_owned());
    let metadata = [
        (ARCHITECTURE, text(architecture)),
        (KIND, text("adapter")),
        (ADAPTER_KIND, text("lora")),
        (ALPHA, Value::F32(given.alpha)),
        (FILE_TYPE, Value::U32(file_type)),
        (QUANTIZATION_VERSION.0, Value::U32(QUANTIZATION_VERSION.1)),
    ];
    let metadata: Vec<(&str, &Value)> = metadata.iter().map(|(key, value)| (*key, value)).collect();
    let tensors: Vec<(&str, &QTensor)> = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    let mut bytes = Cursor::new(Vec::new());
    gguf_file::write(&mut bytes, &metadata, &tensors)?;
    atomic::write(path, &bytes.into_inner()).map_err(|source| ModelError::Write { path: path.to_owned(), source })
}

/// Reads an adapter for a base of this network, values as they are.
///
/// # Errors
/// Files that cannot be read, are no LoRA adapter, or one for another network.
pub fn read_adapter(path: &Path, network: &Network) -> Result<GgufAdapter, ModelError> {
    let mut reader = BufReader::new(foreign::open(path).map_err(|source| read_error(path, source))?);
    layout::check(path, &mut reader)?;
    let malformed = |reason: String| ModelError::Malformed { path: path.to_owned(), format: "GGUF adapter", reason };
    let content = Content::read(&mut reader).map_err(|error| malformed(reason(error)))?;
    let metadata = Metadata { path, content: &content };
    for (key, expected) in [(KIND, "adapter"), (ADAPTER_KIND, "lora")] {
        let found = metadata.need(key, metadata.text(key)?)?;
        if found != expected {
            return Err(metadata.error(key, format!("must be {expected} of a LoRA adapter: {found}")));
        }
    }
    let architecture = metadata.need(ARCHITECTURE, metadata.text(ARCHITECTURE)?)?;
    if network.name_of_gguf() != Some(architecture) {
        let of_base = network.name_of_gguf().unwrap_or(network.family());
        return Err(metadata.error(ARCHITECTURE, format!("the base is {of_base}, the adapter is for {architecture}")));
    }
    let alpha = metadata.get(ALPHA, "a number", |value| value.to_f32().ok())?;
    let alpha = metadata.need(ALPHA, alpha.filter(|alpha| alpha.is_finite() && *alpha > 0.0))?;
    let mut left: BTreeSet<&str> = content.tensor_infos.keys().map(String::as_str).collect();
    let mut sites = BTreeMap::new();
    for (name, shape) in network.shapes_of_sites() {
        let Some(in_file) = network.name_in_gguf(&format!("{name}.weight")) else { continue };
        let [a, b] = ["a", "b"].map(|half| format!("{in_file}.lora_{half}"));
        let there = [left.remove(a.as_str()), left.remove(b.as_str())];
        match there {
            [false, false] => continue,
            [true, true] => {}
            [has_a, _] => {
                return Err(ModelError::MissingTensor { path: path.to_owned(), tensor: if has_a { b } else { a } });
            }
        }
        let mut read = |tensor: &str| -> Result<(Vec<usize>, Vec<f32>), ModelError> {
            let shape = content.tensor_infos[tensor].shape.dims().to_vec();
            let values = content.tensor(&mut reader, tensor, &Device::Cpu);
            let values = values.and_then(|values| values.dequantize(&Device::Cpu)?.flatten_all()?.to_vec1::<f32>());
            let values = values.map_err(|error| malformed(format!("tensor {tensor}: {}", reason(error))))?;
            super::check_finite(path, tensor, &values)?;
            Ok((shape, values))
        };
        let ((of_a, a_values), (of_b, b_values)) = (read(&a)?, read(&b)?);
        let [d_out, d_in] = shape;
        let rank = of_a.first().copied().unwrap_or(0);
        for (tensor, found, expected) in [(a, of_a, [rank, d_in]), (b, of_b, [d_out, rank])] {
            if found != expected || rank == 0 {
                return Err(ModelError::Shape { path: path.to_owned(), tensor, found, expected: expected.to_vec() });
            }
        }
        let order = network.interleaved(&format!("{name}.weight")).map(|heads| row_order(heads, d_out));
        let row = |row: usize| order.as_ref().map_or(row, |order| order[row] as usize);
        let b = (0..d_out).flat_map(|out| &b_values[row(out) * rank..][..rank]).copied().collect();
        sites.insert(name, Factors { rank, d_in, d_out, a: a_values, b, scale: alpha / rank as f32 });
    }
    if let Some(tensor) = left.first() {
        return Err(malformed(format!("tensor is of no site of the base: {tensor}")));
    }
    if sites.is_empty() {
        return Err(malformed("holds no factors".to_owned()));
    }
    Ok(GgufAdapter { adapter: Adapter { sites }, alpha })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tiny;

    fn given(alpha: f32) -> GgufAdapter {
        let network = Network::from(tiny::network());
        let of_site = |(at, (name, [d_out, d_in])): (usize, (String, [usize; 2]))| {
            let rank = 1 + at % 3;
            let values = |count: usize, by: f32| (0..count).map(|index| by * (index as f32 - 3.5) / 64.0).collect();
            let (a, b) = (values(rank * d_in, 1.0), values(d_out * rank, -0.5));
            (name, Factors { rank, d_in, d_out, a, b, scale: alpha / rank as f32 })
        };
        GgufAdapter {
            adapter: Adapter { sites: network.shapes_of_sites().into_iter().enumerate().map(of_site).collect() },
            alpha,
        }
    }

    #[test]
    fn what_is_written_is_read_to_the_bit() {
        let (network, place) = (Network::from(tiny::network()), tempfile::tempdir().unwrap());
        let given = given(4.0);
        assert!(given.adapter.sites.len() > 5);
        // Halves of 64ths are numbers of all three formats.
        for precision in [Precision::F32, Precision::F16, Precision::Bf16] {
            let path = place.path().join("adapter.gguf");
            write_adapter(&path, &given, &network, precision).unwrap();
            assert_eq!(read_adapter(&path, &network).unwrap(), given, "{precision:?}");
        }
    }

    #[test]
    fn adapters_of_others_are_refused_by_name() {
        let (network, place) = (Network::from(tiny::network()), tempfile::tempdir().unwrap());
        let path = place.path().join("adapter.gguf");
        let refused = |change: &dyn Fn(&mut GgufAdapter)| {
            let mut given = given(4.0);
            change(&mut given);
            write_adapter(&path, &given, &network, Precision::F32).unwrap_err().to_string()
        };
        let scale = refused(&|given| given.adapter.sites.values_mut().for_each(|factors| factors.scale = 0.3));
        assert!(scale.contains("has one alpha, 4, which gives rank 3 no scale of 0.3: lm_head"), "{scale}");
        let site = refused(&|given| {
            let (_, factors) = given.adapter.sites.pop_first().unwrap();
            given.adapter.sites.insert("model.layers.0.router".to_owned(), factors);
        });
        assert!(site.ends_with("has no tensor for site: model.layers.0.router"), "{site}");
        // A wider base.
        write_adapter(&path, &given(4.0), &network, Precision::F32).unwrap();
        let mut other = tiny::network();
        other.intermediate += 2;
        let shape = read_adapter(&path, &Network::from(other)).unwrap_err().to_string();
        assert!(shape.ends_with("ffn_gate.weight.lora_b has shape [12, 2], the network needs [14, 2]"), "{shape}");
        let mut shallow = tiny::network();
        shallow.layers -= 1;
        let layer = read_adapter(&path, &Network::from(shallow)).unwrap_err().to_string();
        assert!(layer.contains("tensor is of no site of the base: blk."), "{layer}");
    }
}
