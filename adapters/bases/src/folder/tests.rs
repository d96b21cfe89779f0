//! Folders, good and bad.

use ftk_adapters::hint::Hint;
use serde_json::json;

use ftk_adapters::peft::LFS;
use half::{bf16, f16};

use super::super::source::BaseModel;
use super::super::tiny::{self, StoredTensors};
use super::tensors::MAX_HEADER;
use super::*;

fn weights(folder: &Path) -> Result<Weights, ModelError> {
    BaseModel::open(folder)?.weights(&Device::Cpu)
}

/// The folder's only tensor file after a change, and what opening it says, without the path in front.
fn refused(change: impl FnOnce(&mut StoredTensors)) -> String {
    let folder = tiny::folder();
    let mut tensors = tiny::stored(&tiny::weights(tiny::network()));
    change(&mut tensors);
    tiny::write_tensors(&folder.path().join("model.safetensors"), &tensors);
    without_folder(folder.path(), &weights(folder.path()).unwrap_err())
}

fn without_folder(folder: &Path, error: &ModelError) -> String {
    error.to_string().replace(&folder.display().to_string(), "M")
}

#[test]
fn matrices_of_gpt2_are_turned_and_its_names_completed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("model.safetensors");
    let network: Network = tiny::gpt2().into();
    let expected = tiny::weights(network.clone());
    let special = super::super::SpecialTokens::default();
    let saved = folder.path().join("saved");
    super::super::save_folder(&saved, &network, &expected, super::super::Precision::F32, &special, &[]).unwrap();
    std::fs::copy(saved.join("config.json"), folder.path().join("config.json")).unwrap();

    let bare = |weights: &Weights| -> StoredTensors {
        let turned = |(name, tensor): (&str, Tensor)| {
            let name = name.strip_prefix("transformer.").unwrap_or(name).to_owned();
            let turn = name.ends_with(".weight") && (name.contains(".attn.") || name.contains(".mlp."));
            (name, if turn { tensor.t().unwrap() } else { tensor })
        };
        tiny::stored(&tiny::tensors(weights).map(turned).collect())
    };
    let mut tensors = bare(&expected);
    // Buffers of the masks, which are no weights.
    tensors.insert("h.0.attn.bias".to_owned(), (Dtype::F32, vec![1], vec![0; 4]));
    tiny::write_tensors(&file, &tensors);
    assert!(tiny::same(&weights(folder.path()).unwrap(), &expected));
    assert!(tiny::same(&weights(&saved).unwrap(), &expected));

    tensors.get_mut("h.1.mlp.c_fc.weight").unwrap().1.reverse();
    tiny::write_tensors(&file, &tensors);
    let error = without_folder(folder.path(), &BaseModel::open(folder.path()).unwrap_err());
    let name = "transformer.h.1.mlp.c_fc.weight";
    assert_eq!(error, format!("M/model.safetensors: tensor {name} has shape [12, 8], the network needs [8, 12]"));
    tensors.remove("h.1.mlp.c_fc.weight");
    tiny::write_tensors(&file, &tensors);
    let error = without_folder(folder.path(), &BaseModel::open(folder.path()).unwrap_err());
    assert_eq!(error, format!("M: missing tensor: {name}"));
}

fn write_shards(folder: &Path, of: impl Fn(usize) -> usize) {
    let mut shards: BTreeMap<String, StoredTensors> = BTreeMap::new();
    let mut map = serde_json::Map::new();
    for (i, (name, tensor)) in tiny::stored(&tiny::weights(tiny::network())).into_iter().enumerate() {
        let shard = format!("model-{}.safetensors", of(i));
        map.insert(name.clone(), json!(shard));
        shards.entry(shard).or_default().insert(name, tensor);
    }
    for (shard, tensors) in &shards {
        tiny::write_tensors(&folder.join(shard), tensors);
    }
    tiny::write_json(&folder.join("model.safetensors.index.json"), &json!({ "weight_map": map }));
    std::fs::remove_file(folder.join("model.safetensors")).unwrap();
}

#[test]
fn a_folder_without_a_tokenizer_loads() {
    let folder = tiny::folder();
    let source = BaseModel::open(folder.path()).unwrap();
    assert_eq!(*source.network(), tiny::network().into());
    assert!(tiny::same(&source.weights(&Device::Cpu).unwrap(), &tiny::weights(tiny::network())));
    let error = source.tokenizer().unwrap_err();
    assert_eq!(without_folder(folder.path(), &error), "M: this model has no tokenizer");
    assert_eq!(error.hint().unwrap(), "add the model's tokenizer.json, or give token ids");
    let error = source.chat_template().unwrap_err();
    assert_eq!(without_folder(folder.path(), &error), "M: this model has no chat template");
}

#[test]
fn shards_equal_one_file() {
    let expected = tiny::weights(tiny::network());
    for of in [|i| i % 3, |i| i / 7] {
        let folder = tiny::folder();
        write_shards(folder.path(), of);
        assert!(tiny::same(&weights(folder.path()).unwrap(), &expected));
    }
}

#[test]
fn half_precisions_are_widened() {
    let expected = tiny::weights(tiny::network());
    for half in [Dtype::F16, Dtype::BF16] {
        let folder = tiny::folder();
        let mut tensors = tiny::stored(&expected);
        for (dtype, _, bytes) in tensors.values_mut() {
            let values = bytes.as_chunks::<4>().0.iter().map(|four| f32::from_le_bytes(*four));
            *bytes = match half {
                Dtype::F16 => values.flat_map(|value| f16::from_f32(value).to_le_bytes()).collect(),
                _ => values.flat_map(|value| bf16::from_f32(value).to_le_bytes()).collect(),
            };
            *dtype = half;
        }
        tiny::write_tensors(&folder.path().join("model.safetensors"), &tensors);
        let source = BaseModel::open(folder.path()).unwrap();
        let full = source.weights(&Device::Cpu).unwrap();
        assert!(tiny::same(&full, &expected), "{half:?}");
        let held = source.weights_held(&Device::Cpu, Hold::Stored).unwrap();
        assert!(tiny::same(&held, &expected) && 2 * held.bytes() == full.bytes(), "{half:?}");
    }
}

#[test]
fn wrong_tensors_are_refused_by_name() {
    let norm = "model.norm.weight";
    let missing = refused(|tensors| drop(tensors.remove(norm)));
    assert_eq!(missing, "M: missing tensor: model.norm.weight");
    let shape = refused(|tensors| tensors.get_mut(norm).unwrap().1 = vec![2, 4]);
    assert_eq!(shape, "M/model.safetensors: tensor model.norm.weight has shape [2, 4], the network needs [8]");
    let integers = refused(|tensors| tensors.get_mut(norm).unwrap().0 = Dtype::I32);
    assert_eq!(integers, "M/model.safetensors: tensor model.norm.weight has an unsupported type: I32");
    let infinite = "M/model.safetensors: tensor model.norm.weight has an entry that is not finite: ";
    for (value, shown) in [(f32::NAN, "NaN"), (f32::NEG_INFINITY, "-inf")] {
        let error = refused(|tensors| tensors.get_mut(norm).unwrap().2[12..16].copy_from_slice(&value.to_le_bytes()));
        assert_eq!(error, format!("{infinite}{shown} at index 3"));
    }
    for (half, value) in [(Dtype::F16, f16::INFINITY.to_le_bytes()), (Dtype::BF16, bf16::INFINITY.to_le_bytes())] {
        let error = refused(|tensors| {
            let (dtype, _, bytes) = tensors.get_mut(norm).unwrap();
            (*dtype, *bytes) = (half, vec![0; 16]);
            bytes[6..8].copy_from_slice(&value);
        });
        assert_eq!(error, format!("{infinite}inf at index 3"), "{half:?}");
    }
}

#[test]
fn an_untied_model_without_a_head_gets_a_hint() {
    let folder = tiny::folder();
    let mut tensors = tiny::stored(&tiny::weights(tiny::network()));
    tensors.remove("lm_head.weight");
    tiny::write_tensors(&folder.path().join("model.safetensors"), &tensors);
    let error = BaseModel::open(folder.path()).unwrap_err();
    assert_eq!(without_folder(folder.path(), &error), "M: missing tensor: lm_head.weight");
    assert!(error.hint().unwrap().contains("tie_word_embeddings"));

    let mut config = tiny::config();
    config["tie_word_embeddings"] = json!(true);
    tiny::write_json(&folder.path().join("config.json"), &config);
    assert!(!BaseModel::open(folder.path()).unwrap().network().shapes().contains_key("lm_head.weight"));
}

#[test]
fn a_head_of_its_own_where_the_configuration_says_tied_is_refused_and_a_copy_is_not() {
    let folder = tiny::folder();
    let mut config = tiny::config();
    config["tie_word_embeddings"] = json!(true);
    tiny::write_json(&folder.path().join("config.json"), &config);
    let error = without_folder(folder.path(), &BaseModel::open(folder.path()).unwrap_err());
    let reason = "says that the head is the embedding table, but the weights have another: lm_head.weight";
    assert_eq!(error, format!("M/config.json: tie_word_embeddings: {reason}"));
    let mut tensors = tiny::stored(&tiny::weights(tiny::network()));
    let table = tensors["model.embed_tokens.weight"].clone();
    tensors.insert("lm_head.weight".to_owned(), table);
    tiny::write_tensors(&folder.path().join("model.safetensors"), &tensors);
    assert!(BaseModel::open(folder.path()).is_ok());
}

#[test]
fn a_head_of_its_own_where_silence_means_tied_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let network = Network::from(tiny::gpt2());
    let mut config = network.write();
    config.as_object_mut().unwrap().remove("tie_word_embeddings");
    tiny::write_json(&folder.path().join("config.json"), &config);
    let mut tensors = tiny::stored(&tiny::weights(tiny::gpt2()));
    for (name, (_, shape, bytes)) in &mut tensors {
        if network.stored(name) == ftk_networks::Stored::Transposed {
            // Only the head and the table are looked at here, whatever else stands in the file.
            shape.reverse();
            bytes.fill(0);
        }
    }
    let path = folder.path().join("model.safetensors");
    tiny::write_tensors(&path, &tensors);
    assert!(BaseModel::open(folder.path()).is_ok());
    let mut head = tensors["transformer.wte.weight"].clone();
    head.2[0] ^= 1;
    tensors.insert("lm_head.weight".to_owned(), head);
    tiny::write_tensors(&path, &tensors);
    let error = without_folder(folder.path(), &BaseModel::open(folder.path()).unwrap_err());
    assert!(error.starts_with("M/config.json: tie_word_embeddings: says that the head is"), "{error}");
}

#[test]
fn pointers_of_git_lfs_are_named_as_such() {
    let pointer = [LFS, b"v1\noid sha256:0\nsize 3\n"].concat();
    for name in ["model.safetensors", "config.json"] {
        let folder = tiny::folder();
        std::fs::write(folder.path().join(name), &pointer).unwrap();
        let error = BaseModel::open(folder.path()).unwrap_err();
        assert_eq!(
            without_folder(folder.path(), &error),
            format!("M/{name}: a Git LFS pointer, not the file it stands for")
        );
        assert!(error.hint().unwrap().contains("git lfs pull"));
    }
}

#[test]
fn files_that_lie_about_their_length_are_refused() {
    let folder = tiny::folder();
    let file = folder.path().join("model.safetensors");
    let whole = std::fs::read(&file).unwrap();
    let refused = |bytes: &[u8]| {
        std::fs::write(&file, bytes).unwrap();
        without_folder(folder.path(), &BaseModel::open(folder.path()).unwrap_err())
    };
    let described = whole.len();
    let start = "M/model.safetensors: malformed safetensors: ";
    for (bytes, reason) in [
        (&whole[..5], "too short for a header: 5 bytes".to_owned()),
        (&whole[..100], format!("header longer than the file or than {MAX_HEADER} bytes: ")),
        (&whole[..described - 1], format!("the header describes {described} bytes, the file has {}", described - 1)),
        (&[&whole[..], b"x"].concat(), format!("the header describes {described} bytes")),
        (&[&u64::MAX.to_le_bytes()[..], b"{}"].concat(), "header longer than the file".to_owned()),
        (&[&2u64.to_le_bytes()[..], b"{]"].concat(), "key must be a string".to_owned()),
    ] {
        let error = refused(bytes);
        assert!(error.starts_with(&format!("{start}{reason}")), "{error}");
    }
}

#[test]
fn an_index_cannot_leave_its_folder() {
    let folder = tiny::folder();
    std::fs::remove_file(folder.path().join("model.safetensors")).unwrap();
    let index = folder.path().join("model.safetensors.index.json");
    for name in ["../model.safetensors", "/model.safetensors", "a/b.safetensors", "..", "", "c:x", "a\\b"] {
        tiny::write_json(&index, &json!({ "weight_map": { "model.norm.weight": name } }));
        let error = without_folder(folder.path(), &BaseModel::open(folder.path()).unwrap_err());
        assert_eq!(
            error,
            "M/model.safetensors.index.json: malformed safetensors index: \
             no plain file name for tensor: model.norm.weight",
            "{name}"
        );
    }
    tiny::write_tensors(&folder.path().join("a.safetensors"), &StoredTensors::new());
    tiny::write_json(&index, &json!({ "weight_map": { "model.norm.weight": "a.safetensors" } }));
    let error = without_folder(folder.path(), &BaseModel::open(folder.path()).unwrap_err());
    assert_eq!(error, "M/a.safetensors: missing tensor: model.norm.weight");
}

#[test]
fn paths_that_are_no_model_get_a_hint() {
    let folder = tempfile::tempdir().unwrap();
    let error = BaseModel::open(&folder.path().join("absent")).unwrap_err();
    assert_eq!(without_folder(folder.path(), &error), "M/absent: no such file or folder");
    assert!(error.hint().unwrap().contains(".gguf"));
    tiny::write_json(&folder.path().join("adapter_config.json"), &json!({}));
    let error = BaseModel::open(folder.path()).unwrap_err();
    assert_eq!(without_folder(folder.path(), &error), "M: no such file in this folder: config.json");
    assert!(error.hint().unwrap().contains("adapter"));
}

#[test]
fn special_tokens_and_templates_come_from_every_file() {
    let folder = tiny::folder();
    let file = |name: &str| folder.path().join(name);
    let mut config = tiny::config();
    config["eos_token_id"] = json!(9);
    config["pad_token_id"] = json!(-1);
    tiny::write_json(&file("config.json"), &config);
    tiny::write_json(&file("generation_config.json"), &json!({"eos_token_id": [9, 11, 99], "pad_token_id": 8}));
    std::fs::write(file("tokenizer.json"), tiny::TOKENIZER).unwrap();
    let templates = json!([{"name": "rag", "template": "R"}, {"name": "default", "template": "{{ eos_token }}D"}]);
    let tokens = json!({"bos_token": {"content": "<s>"}, "eos_token": "<e>", "chat_template": templates});
    tiny::write_json(&file("tokenizer_config.json"), &tokens);

    let source = BaseModel::open(folder.path()).unwrap();
    let expected = super::super::SpecialTokens { bos: Some(1), eos: Some(2), pad: Some(8), stop: [2, 9, 11].into() };
    assert_eq!(source.special(), &expected);
    assert_eq!(source.chat_template().unwrap().render(&[], &[], false).unwrap(), "<e>D");
    std::fs::write(file("chat_template.jinja"), "{{ bos_token }}J").unwrap();
    let source = BaseModel::open(folder.path()).unwrap();
    assert_eq!(source.chat_template().unwrap().render(&[], &[], false).unwrap(), "<s>J");
    let copied: Vec<_> = source.text_files().unwrap().into_iter().map(|file| file.name).collect();
    let expected = ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"];
    assert_eq!(copied, expected);
}

#[test]
fn a_folder_of_the_hub_cache_is_known_by_its_name() {
    let root = tempfile::tempdir().unwrap();
    let snapshot = root.path().join("models--org--tiny-model").join("snapshots").join("0123");
    std::fs::create_dir_all(&snapshot).unwrap();
    let folder = tiny::folder();
    for name in ["config.json", "model.safetensors"] {
        std::fs::copy(folder.path().join(name), snapshot.join(name)).unwrap();
    }
    assert_eq!(BaseModel::open(&snapshot).unwrap().name(), "org/tiny-model");
    assert_eq!(BaseModel::open(folder.path()).unwrap().name(), folder.path().display().to_string());
}

/// What a folder says of text, read from so many files, and its tokenizer.
fn texts(files: &[(&str, serde_json::Value)], vocab: usize) -> Result<(FolderTexts, Tokenizer), ModelError> {
    let folder = Path::new("c");
    let file = |name: &str| files.iter().find(|(own, _)| *own == name).map(|(_, json)| json.to_string().into_bytes());
    let texts = FolderTexts::read(folder, &json!({}), |name| Ok::<_, ModelError>(file(name)))?;
    let whole = texts.tokenizer.as_ref().unwrap();
    let tokenizer = Tokenizer::from_json(&folder.join("tokenizer.json"), &whole.json, vocab)?;
    whole.check(folder, |id, token| tokenizer.token(id).as_deref() == Some(token))?;
    // By the file alone, every token has the id that it has by the library.
    let ids = texts.ids(folder, vocab)?;
    let known: BTreeMap<u32, String> = (0..vocab as u32).filter_map(|id| Some((id, tokenizer.token(id)?))).collect();
    let by_file: BTreeMap<u32, String> =
        (0..vocab as u32).filter_map(|id| Some((id, ids.token(id)?.to_owned()))).collect();
    assert_eq!(by_file, known);
    assert!(known.iter().all(|(id, token)| ids.id(token) == Some(*id)));
    Ok((texts, tokenizer))
}

/// A tokenizer of three words with more tokens beside it.
fn opened(added: serde_json::Value, more: &[(&str, serde_json::Value)]) -> Result<(FolderTexts, Tokenizer), String> {
    let model = json!({ "type": "WordLevel", "vocab": { "a": 0, "b": 1, "?": 2 }, "unk_token": "?" });
    let file =
        json!({ "version": "1.0", "added_tokens": added, "pre_tokenizer": { "type": "Whitespace" }, "model": model });
    texts(&[&[("tokenizer.json", file)], more].concat(), 8).map_err(|error| error.to_string())
}

#[test]
fn tokens_beside_the_file_are_read_as_tokens() {
    let decoder = json!({ "added_tokens_decoder": {
        "4": { "content": "<|y|>", "special": true }, "3": { "content": "<|x|>", "special": true },
    } });
    let (_, tokenizer) = opened(json!([]), &[("tokenizer_config.json", decoder)]).unwrap();
    assert_eq!(tokenizer.encode("a<|x|>b <|y|>", false).unwrap(), [0, 3, 1, 4]);
    let (_, tokenizer) = opened(json!([]), &[("added_tokens.json", json!({ "<|x|>": 3 }))]).unwrap();
    assert_eq!(tokenizer.encode("a<|x|>b", false).unwrap(), [0, 3, 1]);
    let known = json!([{ "id": 3, "content": "<|x|>", "single_word": false, "lstrip": false, "rstrip": false,
                         "normalized": false, "special": true }]);
    let decoder = json!({ "added_tokens_decoder": { "3": { "content": "<|x|>" } } });
    let (plain, _) = opened(known.clone(), &[]).unwrap();
    let (same, _) = opened(known.clone(), &[("tokenizer_config.json", decoder)]).unwrap();
    assert_eq!(same.tokenizer.unwrap().json, plain.tokenizer.unwrap().json);
    // What the decoder says of a known token goes before what the file says.
    let strips = json!({ "added_tokens_decoder": { "3": { "content": "<|x|>", "rstrip": true } } });
    let (texts, _) = opened(known, &[("tokenizer_config.json", strips)]).unwrap();
    let whole: serde_json::Value = serde_json::from_slice(&texts.tokenizer.unwrap().json).unwrap();
    assert_eq!(whole["added_tokens"][0]["rstrip"], true);
}

/// As transformers 5.24 adds them.
#[test]
fn special_tokens_that_are_only_named_are_tokens() {
    // One of the vocabulary keeps its id; others follow in one order, whatever the order of their keys.
    let config = json!({ "pad_token": "<p>", "sep_token": "<s>", "eos_token": "b",
                         "additional_special_tokens": [{ "content": "<x>", "rstrip": true }] });
    let (texts, tokenizer) = opened(json!([]), &[("tokenizer_config.json", config)]).unwrap();
    assert_eq!(tokenizer.encode("ab<s><p><x> a", false).unwrap(), [0, 1, 3, 4, 5, 0]);
    assert_eq!(texts.special_tokens(|token| tokenizer.id(token), 8).stop, [1].into());
    let extra = json!({ "extra_special_tokens": { "image_token": "<x>" } });
    let (_, tokenizer) = opened(json!([]), &[("tokenizer_config.json", extra)]).unwrap();
    assert_eq!(tokenizer.encode("a<x>", false).unwrap(), [0, 3]);

    let both = |decoder: bool| {
        let mut config = json!({ "pad_token": "<a>", "extra_special_tokens": ["<c>"] });
        if decoder {
            config["added_tokens_decoder"] = json!({});
        }
        let map = json!({ "pad_token": "<b>", "mask_token": "<m>", "extra_special_tokens": ["<d>"] });
        let files = [("tokenizer_config.json", config), ("special_tokens_map.json", map)];
        let (texts, tokenizer) = opened(json!([]), &files).unwrap();
        (texts.special["pad_token"].clone(), (3..6).map(|id| tokenizer.token(id).unwrap()).collect::<Vec<_>>().concat())
    };
    // In the order of their keys: pad, mask, and the list of the file that goes first.
    assert_eq!(both(false), ("<b>".to_owned(), "<b><m><c>".to_owned()));
    assert_eq!(both(true), ("<a>".to_owned(), "<a><m><c>".to_owned()));
}

#[test]
fn a_token_whose_id_is_taken_or_far_is_refused_by_its_name() {
    let decoder = json!({ "added_tokens_decoder": { "6": { "content": "<|x|>" } } });
    let error = opened(json!([]), &[("tokenizer_config.json", decoder)]).map(|_| ()).unwrap_err();
    let reason = "tokenizer.json lacks a token, and its id is not the next one: <|x|> (6)";
    assert_eq!(error, format!("c/tokenizer_config.json: added_tokens_decoder: {reason}"));
    let error = opened(json!([]), &[("added_tokens.json", json!({ "<|x|>": 6 }))]).map(|_| ()).unwrap_err();
    assert_eq!(error, format!("c/added_tokens.json: <|x|>: {reason}"));
}

/// Whoever has no tokenizer comes to the same digest.
#[test]
fn ids_by_the_files_alone_are_those_of_the_tokenizer() {
    let village = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../recipes/text/village/base");
    let tiny = tiny::folder();
    std::fs::write(tiny.path().join("tokenizer.json"), tiny::TOKENIZER).unwrap();
    std::fs::write(tiny.path().join("tokenizer_config.json"), "{\"eos_token\": \"<e>\"}").unwrap();
    let pieces = json!({ "type": "Unigram", "unk_id": 0, "vocab": [["?", 0.0], ["a", -1.0], ["b", -2.0]] });
    texts(&[("tokenizer.json", json!({ "model": pieces })), ("added_tokens.json", json!({ "<x>": 3 }))], 8).unwrap();
    for folder in [village.as_path(), tiny.path()] {
        let source = BaseModel::open(folder).unwrap();
        let config = serde_json::from_slice(&std::fs::read(folder.join("config.json")).unwrap()).unwrap();
        let texts = FolderTexts::read(folder, &config, |name| read(&folder.join(name))).unwrap();
        let vocab = source.network().vocab();
        let ids = texts.ids(folder, vocab).unwrap();
        assert!(source.texts().tokenizer.is_some() && !source.texts().stop.is_empty());
        assert_eq!(format!("{:?}", texts.of_digest(&ids, vocab)), format!("{:?}", source.texts()));
    }
}
