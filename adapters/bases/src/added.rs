//! Tokens that were added to a tokenizer afterwards and stand beside `tokenizer.json` only: in `added_tokens_decoder` of
//! `tokenizer_config.json`, in the older `added_tokens.json`, or by name as special tokens. transformers adds them when it
//! opens a folder, and takes what the decoder says of tokens that are known.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use ftk_networks::config::ConfigError;
use serde_json::{Value, json};

use super::error::ModelError;
use super::tokenizer::Tokenizer;

/// Where tokens stand beside the tokenizer, the later one before the older.
const CONFIG: &str = "tokenizer_config.json";
const OLDER: &str = "added_tokens.json";

/// Keys that name a special token, in the order in which transformers adds those that are missing.
pub(super) const NAMED: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];
/// Keys that name several, in a list or by names of their own.
const SEVERAL: [&str; 2] = ["additional_special_tokens", "extra_special_tokens"];

/// What tells how a token is found in text.
const FLAGS: [&str; 5] = ["single_word", "lstrip", "rstrip", "normalized", "special"];

/// A tokenizer's file with the tokens that it lacks.
pub(super) struct CompletedTokenizer {
    /// The file; the bytes that were given if nothing is missing.
    pub(super) json: Vec<u8>,
    /// The tokens that were added, by id, each with the file it stands in.
    added: BTreeMap<u32, (String, &'static str)>,
}

/// What `tokenizer_config.json` and `special_tokens_map.json` say of special tokens: where the former has no
/// `added_tokens_decoder`, the latter, which is of the same age, goes before it.
pub(super) fn named(config: &Value, map: &Value) -> Value {
    let mut named = serde_json::Map::new();
    let later = config["added_tokens_decoder"].is_object();
    for (key, one) in NAMED.into_iter().map(|key| (key, true)).chain(SEVERAL.map(|key| (key, false))) {
        let [own, older] = [config, map].map(|file| file.get(key).filter(|value| !value.is_null()));
        let found = if later || !one { own.or(older) } else { older.or(own) };
        named.extend(found.map(|value| (key.to_owned(), value.clone())));
    }
    named.into()
}

/// The special tokens of [`named`], each as an object.
fn special(named: &Value) -> Vec<Value> {
    let several = |key: &str| match &named[key] {
        Value::Array(tokens) => tokens.clone(),
        Value::Object(tokens) => tokens.values().cloned().collect(),
        _ => Vec::new(),
    };
    let tokens = NAMED.into_iter().map(|key| named[key].clone()).chain(SEVERAL.into_iter().flat_map(several));
    let token = |token: Value| match token {
        Value::String(content) => Some(json!({ "content": content })),
        Value::Object(_) if token["content"].is_string() => Some(token),
        _ => None,
    };
    tokens.filter_map(token).filter(|token| token["content"] != "").collect()
}

/// Adds the tokens to the file. `named` is what [`named`] gives.
///
/// # Errors
/// [`ModelError::Malformed`] for a file that is no JSON.
pub(super) fn complete(
    path: &Path,
    bytes: Vec<u8>,
    config: &Value,
    named: &Value,
    older: Option<&Value>,
) -> Result<CompletedTokenizer, ModelError> {
    let mut tokens: BTreeMap<u32, (Value, &'static str)> = BTreeMap::new();
    for (content, id) in older.and_then(Value::as_object).into_iter().flatten() {
        if let Some(id) = id.as_u64().and_then(|id| u32::try_from(id).ok()) {
            tokens.insert(id, (json!({ "content": content, "special": false, "normalized": true }), OLDER));
        }
    }
    for (id, token) in config["added_tokens_decoder"].as_object().into_iter().flatten() {
        if let (Ok(id), true) = (id.parse(), token["content"].is_string()) {
            tokens.insert(id, (token.clone(), CONFIG));
        }
    }
    let named = special(named);
    if tokens.is_empty() && named.is_empty() {
        return Ok(CompletedTokenizer { json: bytes, added: BTreeMap::new() });
    }
    let malformed = |reason: String| ModelError::Malformed { path: path.to_owned(), format: "tokenizer", reason };
    let mut file: Value = serde_json::from_slice(&bytes).map_err(|error| malformed(error.to_string()))?;
    if file["added_tokens"].is_null() && file.is_object() {
        file["added_tokens"] = json!([]);
    }
    let vocabulary = file["model"]["vocab"].clone();
    let Some(list) = file.get_mut("added_tokens").and_then(Value::as_array_mut) else {
        return Err(malformed("added_tokens is no list".to_owned()));
    };
    let mut changed = false;
    for (token, _) in tokens.values().filter(|(_, file)| *file == CONFIG) {
        let Some(known) = list.iter_mut().find(|known| known["content"] == token["content"]) else { continue };
        for flag in FLAGS {
            if token[flag].is_boolean() && known[flag] != token[flag] {
                known[flag] = token[flag].clone();
                changed = true;
            }
        }
    }
    let mut known: BTreeSet<String> =
        list.iter().filter_map(|token| token["content"].as_str().map(str::to_owned)).collect();
    tokens.retain(|_, (token, _)| token["content"].as_str().is_some_and(|content| !known.contains(content)));
    let mut added = BTreeMap::new();
    for (id, (token, file)) in &tokens {
        let flag = |name: &str, default: bool| token[name].as_bool().unwrap_or(default);
        let special = flag("special", false);
        list.push(json!({
            "id": id,
            "content": token["content"],
            "single_word": flag("single_word", false),
            "lstrip": flag("lstrip", false),
            "rstrip": flag("rstrip", false),
            "normalized": flag("normalized", !special),
            "special": special,
        }));
        let content = token["content"].as_str().unwrap_or_default().to_owned();
        known.insert(content.clone());
        added.insert(*id, (content, *file));
        changed = true;
    }
    for token in named {
        let content = token["content"].as_str().unwrap_or_default();
        if !known.insert(content.to_owned()) {
            continue;
        }
        let flag = |name: &str| token[name].as_bool().unwrap_or(false);
        // Where the vocabulary has it, it has its id there; else it gets the next, whatever is written here.
        list.push(json!({
            "id": vocabulary.get(content).cloned().unwrap_or(0.into()),
            "content": content,
            "single_word": flag("single_word"),
            "lstrip": flag("lstrip"),
            "rstrip": flag("rstrip"),
            "normalized": flag("normalized"),
            "special": true,
        }));
        changed = true;
    }
    if !changed {
        return Ok(CompletedTokenizer { json: bytes, added });
    }
    Ok(CompletedTokenizer { json: serde_json::to_vec(&file).expect("a JSON value serialises"), added })
}

impl CompletedTokenizer {
    /// Refuses tokens that the tokenizer gives another id than the file says, naming the first.
    ///
    /// # Errors
    /// [`ModelError::Config`].
    pub(super) fn check(&self, folder: &Path, tokenizer: &Tokenizer) -> Result<(), ModelError> {
        match self.added.iter().find(|(id, (token, _))| tokenizer.token(**id).as_ref() != Some(token)) {
            None => Ok(()),
            Some((id, (token, file))) => {
                let key = if *file == CONFIG { "added_tokens_decoder" } else { token }.to_owned();
                let path = folder.join(file);
                let reason = format!("tokenizer.json lacks a token, and its id is not the next one: {token} ({id})");
                Err(ConfigError::Key { path, key, reason }.into())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(added: Value) -> Vec<u8> {
        let model = json!({ "type": "WordLevel", "vocab": { "a": 0, "b": 1, "?": 2 }, "unk_token": "?" });
        let file = json!({ "version": "1.0", "added_tokens": added, "pre_tokenizer": { "type": "Whitespace" }, "model": model });
        file.to_string().into_bytes()
    }

    fn opened(config: Value, older: Option<Value>) -> Result<Tokenizer, String> {
        let path = Path::new("t.json");
        let named = named(&config, &json!({}));
        let whole =
            complete(path, file(json!([])), &config, &named, older.as_ref()).map_err(|error| error.to_string())?;
        let tokenizer = Tokenizer::from_json(path, &whole.json, 8).map_err(|error| error.to_string())?;
        whole.check(Path::new("c"), &tokenizer).map_err(|error| error.to_string())?;
        Ok(tokenizer)
    }

    #[test]
    fn tokens_beside_the_file_are_read_as_tokens() {
        let decoder = json!({ "added_tokens_decoder": {
            "4": { "content": "<|y|>", "special": true }, "3": { "content": "<|x|>", "special": true },
        } });
        assert_eq!(opened(decoder, None).unwrap().encode("a<|x|>b <|y|>", false).unwrap(), [0, 3, 1, 4]);
        let older = json!({ "<|x|>": 3 });
        assert_eq!(opened(json!({}), Some(older)).unwrap().encode("a<|x|>b", false).unwrap(), [0, 3, 1]);
        let known = file(json!([{ "id": 3, "content": "<|x|>", "single_word": false, "lstrip": false, "rstrip": false,
                                   "normalized": false, "special": true }]));
        let decoder = json!({ "added_tokens_decoder": { "3": { "content": "<|x|>" } } });
        let none = json!({});
        assert_eq!(complete(Path::new("t.json"), known.clone(), &decoder, &none, None).unwrap().json, known);
        // What the decoder says of a known token goes before what the file says.
        let strips = json!({ "added_tokens_decoder": { "3": { "content": "<|x|>", "rstrip": true } } });
        let whole = complete(Path::new("t.json"), known, &strips, &none, None).unwrap();
        let whole: Value = serde_json::from_slice(&whole.json).unwrap();
        assert_eq!(whole["added_tokens"][0]["rstrip"], true);
    }

    /// As transformers 5.24 adds them.
    #[test]
    fn special_tokens_that_are_only_named_are_tokens() {
        // One of the vocabulary keeps its id; others follow in one order, whatever the order of their keys.
        let config = json!({ "pad_token": "<p>", "sep_token": "<s>", "eos_token": "b",
                             "additional_special_tokens": [{ "content": "<x>", "rstrip": true }] });
        let tokenizer = opened(config, None).unwrap();
        assert_eq!(tokenizer.encode("ab<s><p><x> a", false).unwrap(), [0, 1, 3, 4, 5, 0]);
        let extra = json!({ "extra_special_tokens": { "image_token": "<x>" } });
        assert_eq!(opened(extra, None).unwrap().encode("a<x>", false).unwrap(), [0, 3]);

        let both = |decoder: bool| {
            let mut config = json!({ "pad_token": "<a>", "extra_special_tokens": ["<c>"] });
            if decoder {
                config["added_tokens_decoder"] = json!({});
            }
            named(&config, &json!({ "pad_token": "<b>", "mask_token": "<m>", "extra_special_tokens": ["<d>"] }))
        };
        assert_eq!(both(false), json!({ "pad_token": "<b>", "mask_token": "<m>", "extra_special_tokens": ["<c>"] }));
        assert_eq!(both(true)["pad_token"], "<a>");
    }

    #[test]
    fn a_token_whose_id_is_taken_or_far_is_refused_by_its_name() {
        let decoder = json!({ "added_tokens_decoder": { "6": { "content": "<|x|>" } } });
        let error = opened(decoder, None).unwrap_err();
        let reason = "tokenizer.json lacks a token, and its id is not the next one: <|x|> (6)";
        assert_eq!(error, format!("c/tokenizer_config.json: added_tokens_decoder: {reason}"));
        let error = opened(json!({}), Some(json!({ "<|x|>": 6 }))).unwrap_err();
        assert_eq!(error, format!("c/added_tokens.json: <|x|>: {reason}"));
    }
}
