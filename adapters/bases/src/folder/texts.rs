//! The small files of a folder: JSON, special tokens and the chat template.

use std::collections::BTreeMap;
use std::path::Path;
use std::string::FromUtf8Error;

use ftk_adapters::foreign;
use ftk_adapters::peft::LFS;
use ftk_networks::config::ConfigObject;
use serde_json::Value;

use super::super::added::NAMED;
use super::super::error::ModelError;

/// The chat template for conversations with tools, where `chat_template.jinja` is not for them, too.
pub const TOOL_TEMPLATE: &str = "additional_chat_templates/tool_use.jinja";

/// Files that carry text handling and generation defaults, which go wherever weights go.
pub const TEXT_FILES: &[&str] = &[
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    TOOL_TEMPLATE,
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

/// The chat template of a folder, and the one for conversations with tools where that is another: from files or, where
/// there is no `chat_template.jinja`, from `tokenizer_config.json`.
pub(super) fn templates(
    path: &Path,
    tokenizer_config: &ConfigObject,
) -> Result<(Option<String>, Option<String>), ModelError> {
    let whole = text(&path.join("chat_template.jinja"))?;
    let for_tools = text(&path.join(TOOL_TEMPLATE))?;
    if whole.is_some() {
        return Ok((whole, for_tools));
    }
    let listed = |name| listed_template(tokenizer_config, name);
    Ok((
        listed("default")?,
        match for_tools {
            Some(text) => Some(text),
            None => listed("tool_use")?.filter(|_| tokenizer_config.list("chat_template").is_some()),
        },
    ))
}

/// A file's text, if there is one.
fn text(path: &Path) -> Result<Option<String>, ModelError> {
    let malformed = |error: FromUtf8Error| ModelError::Malformed {
        path: path.to_owned(),
        format: "UTF-8",
        reason: error.to_string(),
    };
    read(path)?.map(|bytes| String::from_utf8(bytes).map_err(malformed)).transpose()
}

/// The text of the chat template in any folder, if it has one.
///
/// # Errors
/// Files that are neither text nor JSON.
pub fn stored_template(path: &Path) -> Result<Option<String>, ModelError> {
    let config_path = path.join("tokenizer_config.json");
    let config = json(&config_path)?.unwrap_or_else(|| Value::Object(serde_json::Map::new()));
    Ok(templates(path, &ConfigObject::new(&config_path, &config)?)?.0)
}

/// `chat_template` of `tokenizer_config.json`: a string, or the one of this name in a list of them.
fn listed_template(config: &ConfigObject, name: &str) -> Result<Option<String>, ModelError> {
    let Some(list) = config.list("chat_template") else {
        return Ok(config.text("chat_template")?.map(str::to_owned));
    };
    let named = list.iter().find(|entry| entry["name"] == name);
    Ok(named.and_then(|entry| entry["template"].as_str()).map(str::to_owned))
}
