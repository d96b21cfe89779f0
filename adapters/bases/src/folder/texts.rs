//! The small files of a folder: JSON, special tokens and the chat template.

use std::collections::BTreeMap;
use std::path::Path;

use ftk_adapters::foreign;
use ftk_adapters::peft::LFS;
use ftk_networks::config::ConfigObject;
use serde_json::Value;

use super::super::added::NAMED;
use super::super::error::ModelError;

/// Files that carry text handling and generation defaults, copied by [`Folder::text_files`].
pub const TEXT_FILES: &[&str] = &[
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "generation_config.json",
];

/// The bytes of a file; `None` if there is none.
pub(super) fn read(path: &Path) -> Result<Option<Vec<u8>>, ModelError> {
    match foreign::read(path, foreign::DOCUMENT) {
        Ok(bytes) if bytes.starts_with(LFS) => Err(ModelError::Pointer { path: path.to_owned() }),
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(ModelError::Read { path: path.to_owned(), source }),
    }
}

pub(super) fn json(path: &Path) -> Result<Option<Value>, ModelError> {
    let parse = |bytes: Vec<u8>| {
        serde_json::from_slice(&bytes).map_err(|error| ModelError::Malformed {
            path: path.to_owned(),
            format: "JSON",
            reason: error.to_string(),
        })
    };
    read(path)?.map(parse).transpose()
}

/// The texts of the special tokens a chat template may use, as `tokenizer_config.json` gives them:
/// strings or objects with a `content`.
pub(super) fn special_texts(config: &ConfigObject) -> Result<BTreeMap<&'static str, String>, ModelError> {
    let mut texts = BTreeMap::new();
    for key in NAMED {
        if let Some(text) = config.token(key)? {
            texts.insert(key, text.to_owned());
        }
    }
    Ok(texts)
}

/// The chat template of a folder: `chat_template.jinja`, or what `tokenizer_config.json` says.
pub(super) fn template(path: &Path, tokenizer_config: &ConfigObject) -> Result<Option<String>, ModelError> {
    let file = path.join("chat_template.jinja");
    match read(&file)? {
        Some(bytes) => String::from_utf8(bytes).map(Some).map_err(|error| ModelError::Malformed {
            path: file,
            format: "UTF-8",
            reason: error.to_string(),
        }),
        None => listed_template(tokenizer_config),
    }
}

/// Whether a folder has another template for conversations with tools, which transformers takes for these.
pub(super) fn has_tool_template(path: &Path, tokenizer_config: &ConfigObject) -> bool {
    let listed = tokenizer_config.list("chat_template").into_iter().flatten().any(|entry| entry["name"] == "tool_use");
    let file = path.join("chat_template.jinja").exists();
    path.join("additional_chat_templates/tool_use.jinja").exists() || (listed && !file)
}

/// The text of the chat template in any folder, if it has one.
///
/// # Errors
/// Files that are neither text nor JSON.
pub fn stored_template(path: &Path) -> Result<Option<String>, ModelError> {
    let config_path = path.join("tokenizer_config.json");
    let config = json(&config_path)?.unwrap_or_else(|| Value::Object(serde_json::Map::new()));
    template(path, &ConfigObject::new(&config_path, &config)?)
}

/// `chat_template` of `tokenizer_config.json`: a string, or a list of named templates of which `default` is taken.
fn listed_template(config: &ConfigObject) -> Result<Option<String>, ModelError> {
    let Some(list) = config.list("chat_template") else {
        return Ok(config.text("chat_template")?.map(str::to_owned));
    };
    let default = list.iter().find(|entry| entry["name"] == "default");
    Ok(default.and_then(|entry| entry["template"].as_str()).map(str::to_owned))
}
