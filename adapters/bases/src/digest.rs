//! [`mod@ftk_networks::digest`] of weights that are tensors.

use candle_core::Tensor;
use ftk_adapters::weights::{Weights, values};
use ftk_networks::Network;
use ftk_networks::digest::{BaseDigest, Digesting, Texts};

use super::error::ModelError;

/// Adds a tensor to a digest in the making.
///
/// # Errors
/// [`ModelError::Candle`] if it cannot be read back from its device.
pub fn add(digesting: &mut Digesting, name: &str, tensor: &Tensor) -> Result<(), ModelError> {
    Ok(values(tensor, |values| {
        if cfg!(target_endian = "little") {
            // By all cores, which comes to the same digest.
            digesting.entries(name, tensor.dims()).update_rayon(bytemuck::cast_slice(values));
        } else {
            digesting.tensor(name, tensor.dims(), values);
        }
    })?)
}

/// `D_base` of a network, its weights (all others ignored) and what makes ids of text.
///
/// # Errors
/// A weight the network uses is missing; [`ModelError::Candle`] if it cannot be read back from its device.
pub(super) fn base(network: &Network, weights: &Weights, texts: Texts) -> Result<BaseDigest, ModelError> {
    let mut digesting = Digesting::new(network, texts);
    for name in network.shapes().keys() {
        add(&mut digesting, name, &weights.get(name)?)?;
    }
    Ok(digesting.finish())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use candle_core::Device;
    use ftk_networks::Llama;

    use super::super::{LoadedModel, tiny};
    use super::*;

    fn digest(network: &Llama, weights: &Weights) -> BaseDigest {
        base(&network.clone().into(), weights, Texts::default()).unwrap()
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
        text(&mut bytes, b"ftk base model 2");
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
        bytes.push(1);
        text(&mut bytes, b"{{ bos_token }}");
        int(&mut bytes, 2);
        [b"bos_token".as_slice(), b"<s>", b"eos_token", b"</s>"].into_iter().for_each(|item| text(&mut bytes, item));
        int(&mut bytes, 2);
        [3, 9].into_iter().for_each(|id| int(&mut bytes, id));
        let special = [("eos_token", "</s>".to_owned()), ("bos_token", "<s>".to_owned())].into();
        let template = Some(("{{ bos_token }}".to_owned(), special));
        let texts = Texts { tokenizer: Some([7; 32]), template, for_tools: None, stop: BTreeSet::from([9, 3]) };
        let ours = base(&network.clone().into(), &tiny::weights(network.clone()), texts).unwrap();
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
    fn files_do_not_enter_but_what_makes_ids_of_text_does() {
        let folder = tiny::folder();
        let load = || LoadedModel::load(folder.path(), &Device::Cpu).unwrap().digest().unwrap();
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
        let mut seen = BTreeSet::from([plain.0, with_tokenizer.0, load().0]);
        assert_eq!(seen.len(), 3);
        // A mirror with another template, another text of a special token, or another id that ends an answer.
        for (file, text) in [
            ("chat_template.jinja", "{{ bos_token }}{{ messages[0].content }}"),
            ("chat_template.jinja", "{{ bos_token }}{{ messages[1].content }}"),
            ("additional_chat_templates/tool_use.jinja", "{{ tools }}"),
            ("additional_chat_templates/tool_use.jinja", "{{ tools[0] }}"),
            ("tokenizer_config.json", r#"{ "bos_token": "a" }"#),
            ("tokenizer_config.json", r#"{ "bos_token": "b" }"#),
            ("generation_config.json", r#"{ "eos_token_id": 3 }"#),
            ("generation_config.json", r#"{ "eos_token_id": [3, 4] }"#),
        ] {
            let path = folder.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
            assert!(seen.insert(load().0), "{file}: {text}");
        }
    }

    #[test]
    fn a_missing_weight_is_an_error() {
        let error = base(&tiny::network().into(), &Weights::default(), Texts::default()).unwrap_err();
        assert_eq!(error.to_string(), "no such weight: lm_head.weight");
    }
}
