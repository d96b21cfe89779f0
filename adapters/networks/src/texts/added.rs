//! Tokens that were added to a tokenizer afterwards and stand beside `tokenizer.json` only: in `added_tokens_decoder` of
//! `tokenizer_config.json`, in the older `added_tokens.json`, or by name as special tokens. transformers adds them when it
//! opens a folder, and takes what the decoder says of tokens that are known.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::{Value, json};

use crate::config::ConfigError;

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
pub struct CompletedTokenizer {
    /// The file; the bytes that were given if nothing is missing.
    pub json: Vec<u8>,
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
/// [`ConfigError::Malformed`] for a file that is no JSON.
pub(super) fn complete(
    path: &Path,
    bytes: Vec<u8>,
    config: &Value,
    named: &Value,
    older: Option<&Value>,
) -> Result<CompletedTokenizer, ConfigError> {
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
    let mut file: Value = serde_json::from_slice(&bytes).map_err(|error| malformed(path, error.to_string()))?;
    if file["added_tokens"].is_null() && file.is_object() {
        file["added_tokens"] = json!([]);
    }
    let vocabulary = file["model"]["vocab"].clone();
    let Some(list) = file.get_mut("added_tokens").and_then(Value::as_array_mut) else {
        return Err(malformed(path, "added_tokens is no list".to_owned()));
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

fn malformed(path: &Path, reason: String) -> ConfigError {
    ConfigError::Malformed { path: path.to_owned(), format: "tokenizer", reason }
}

/// Which id each token has, by the file alone: as the library tokenizers gives ids to added tokens, whatever ids are written
/// beside them. Those that the vocabulary has keep theirs, and others follow it one after another.
#[derive(Default)]
pub struct TokenIds {
    ids: BTreeMap<String, u32>,
    tokens: BTreeMap<u32, String>,
}

impl TokenIds {
    /// The id of a token.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.ids.get(token).copied()
    }

    /// The token of an id.
    pub fn token(&self, id: u32) -> Option<&str> {
        self.tokens.get(&id).map(String::as_str)
    }
}

impl CompletedTokenizer {
    /// The ids of its tokens that are below a number of embeddings; refused where a token was added under another id than it
    /// gets.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub(super) fn ids(&self, folder: &Path, vocab: usize) -> Result<TokenIds, ConfigError> {
        let path = folder.join("tokenizer.json");
        let file: Value = serde_json::from_slice(&self.json).map_err(|error| malformed(&path, error.to_string()))?;
        let number = |id: &Value| id.as_u64().and_then(|id| u32::try_from(id).ok());
        let mut ids: BTreeMap<String, u32> = BTreeMap::new();
        match &file["model"]["vocab"] {
            Value::Object(tokens) => {
                ids.extend(tokens.iter().filter_map(|(token, id)| Some((token.clone(), number(id)?))));
            }
            Value::Array(tokens) => {
                let entry =
                    |(id, entry): (usize, &Value)| Some((entry.get(0)?.as_str()?.to_owned(), u32::try_from(id).ok()?));
                ids.extend(tokens.iter().enumerate().filter_map(entry));
            }
            _ => return Err(malformed(&path, "model.vocab is neither a map nor a list".to_owned())),
        }
        let size = u32::try_from(ids.len()).map_err(|_| malformed(&path, "too many tokens".to_owned()))?;
        let mut last: Option<u32> = None;
        for token in file["added_tokens"].as_array().into_iter().flatten() {
            let Some(content) = token["content"].as_str().filter(|content| !content.is_empty()) else { continue };
            let next = last.map_or(size, |last| size.max(last.saturating_add(1)));
            let id = *ids.entry(content.to_owned()).or_insert(next);
            last = Some(last.map_or(id, |last| last.max(id)));
        }
        self.check(folder, |id, token| ids.get(token) == Some(&id))?;
        ids.retain(|_, id| (*id as usize) < vocab);
        let tokens = ids.iter().map(|(token, id)| (*id, token.clone())).collect();
        Ok(TokenIds { ids, tokens })
    }

    /// Refuses tokens that have another id than the file says, naming the first; `has` says whether an id is that of a token.
    ///
    /// # Errors
    /// [`ConfigError::Key`].
    pub fn check(&self, folder: &Path, has: impl Fn(u32, &str) -> bool) -> Result<(), ConfigError> {
        match self.added.iter().find(|(id, (token, _))| !has(**id, token)) {
            None => Ok(()),
            Some((id, (token, file))) => {
                let key = if *file == CONFIG { "added_tokens_decoder" } else { token }.to_owned();
                let path = folder.join(file);
                let reason = format!("tokenizer.json lacks a token, and its id is not the next one: {token} ({id})");
                Err(ConfigError::Key { path, key, reason })
            }
        }
    }
}
