//! Tokens that were added to a tokenizer afterwards and stand beside `tokenizer.json` only: in `added_tokens_decoder` of
//! `tokenizer_config.json`, or in the older `added_tokens.json`. transformers adds them when it opens a folder.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use ftk_networks::config::ConfigError;
use serde_json::{Value, json};

use super::error::ModelError;
use super::tokenizer::Tokenizer;

/// Where tokens stand beside the tokenizer, the later one before the older.
const CONFIG: &str = "tokenizer_config.json";
const OLDER: &str = "added_tokens.json";

/// A tokenizer's file with the tokens that it lacks.
pub(super) struct CompletedTokenizer {
    /// The file; the bytes that were given if nothing is missing.
    pub(super) json: Vec<u8>,
    /// The tokens that were added, by id, each with the file it stands in.
    added: BTreeMap<u32, (String, &'static str)>,
}

/// Adds the tokens to the file.
///
/// # Errors
/// [`ModelError::Malformed`] for a file that is no JSON.
pub(super) fn complete(
    path: &Path,
    bytes: Vec<u8>,
    config: &Value,
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
    if tokens.is_empty() {
        return Ok(CompletedTokenizer { json: bytes, added: BTreeMap::new() });
    }
    let malformed = |reason: String| ModelError::Malformed { path: path.to_owned(), format: "tokenizer", reason };
    let mut file: Value = serde_json::from_slice(&bytes).map_err(|error| malformed(error.to_string()))?;
    if file["added_tokens"].is_null() && file.is_object() {
        file["added_tokens"] = json!([]);
    }
    let Some(list) = file.get_mut("added_tokens").and_then(Value::as_array_mut) else {
        return Err(malformed("added_tokens is no list".to_owned()));
    };
    let known: BTreeSet<&str> = list.iter().filter_map(|token| token["content"].as_str()).collect();
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
        added.insert(*id, (token["content"].as_str().unwrap_or_default().to_owned(), *file));
    }
    if added.is_empty() {
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
        let whole = complete(path, file(json!([])), &config, older.as_ref()).map_err(|error| error.to_string())?;
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
        assert_eq!(complete(Path::new("t.json"), known.clone(), &decoder, None).unwrap().json, known);
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
