//! What the small files of a Hugging Face folder say of text, as far as `D_base` binds it ([`mod@crate::digest`]): tokens
//! that stand beside `tokenizer.json`, texts of special tokens, ids that end an answer, chat templates. Here it is JSON:
//! nothing makes ids of text, and whoever has the files gives them by their names.

mod added;
mod special;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::{Map, Value};

pub use self::added::{CompletedTokenizer, TokenIds};
use self::added::{complete, named};
use self::special::Ids;
pub use self::special::SpecialTokens;
use crate::config::{ConfigError, ConfigObject};
use crate::digest::Texts;

/// The network's numbers, and ids of special tokens.
pub const CONFIG: &str = "config.json";
const TOKENIZER: &str = "tokenizer.json";
const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
const SPECIAL_TOKENS: &str = "special_tokens_map.json";
const ADDED_TOKENS: &str = "added_tokens.json";
const TEMPLATE: &str = "chat_template.jinja";
/// The chat template for conversations with tools, where `chat_template.jinja` is not for them, too.
pub const TOOL_TEMPLATE: &str = "additional_chat_templates/tool_use.jinja";
const GENERATION: &str = "generation_config.json";

/// Files that carry text handling and generation defaults, which go wherever weights go.
pub const TEXT_FILES: &[&str] =
    &[TOKENIZER, TOKENIZER_CONFIG, SPECIAL_TOKENS, ADDED_TOKENS, TEMPLATE, TOOL_TEMPLATE, GENERATION];

/// What a folder says of text.
pub struct FolderTexts {
    /// `tokenizer.json` with the tokens that it lacks.
    pub tokenizer: Option<CompletedTokenizer>,
    /// Texts of special tokens that a chat template may use, by their names.
    pub special: BTreeMap<&'static str, String>,
    /// The chat template.
    pub template: Option<String>,
    /// That of conversations with tools, where it is another one.
    pub for_tools: Option<String>,
    ids: Vec<Ids>,
}

impl FolderTexts {
    /// Reads the files of a folder, which `file` gives by their names there, or `None` where there is no such file.
    ///
    /// # Errors
    /// Those of `file`; files that are malformed, and what they ask for that is not supported.
    pub fn read<E: From<ConfigError>>(
        folder: &Path,
        config: &Value,
        mut file: impl FnMut(&str) -> Result<Option<Vec<u8>>, E>,
    ) -> Result<Self, E> {
        let none = || Value::Object(Map::new());
        let tokenizer_config = json(folder, TOKENIZER_CONFIG, &mut file)?.unwrap_or_else(none);
        let map = json(folder, SPECIAL_TOKENS, &mut file)?.unwrap_or_else(none);
        let named = named(&tokenizer_config, &map);
        let path = folder.join(TOKENIZER_CONFIG);
        let tokenizer = match file(TOKENIZER)? {
            Some(bytes) => {
                let older = json(folder, ADDED_TOKENS, &mut file)?;
                Some(complete(&folder.join(TOKENIZER), bytes, &tokenizer_config, &named, older.as_ref())?)
            }
            None => None,
        };
        if tokenizer_config["split_special_tokens"] == true {
            let (key, reason) = ("split_special_tokens".to_owned(), "not supported: true".to_owned());
            return Err(ConfigError::Key { path, key, reason }.into());
        }
        let object = ConfigObject::new(&path, &tokenizer_config)?;
        let special = special::texts(&ConfigObject::new(&path, &named)?)?;
        let mut ids = vec![Ids::read(&ConfigObject::new(&folder.join(CONFIG), config)?)?];
        if let Some(generation) = json(folder, GENERATION, &mut file)? {
            ids.push(Ids::read(&ConfigObject::new(&folder.join(GENERATION), &generation)?)?);
        }
        let (template, for_tools) = templates_beside(folder, &object, &mut file)?;
        Ok(Self { tokenizer, special, template, for_tools, ids })
    }

    /// The special ids; `id` gives that of a token.
    pub fn special_tokens(&self, id: impl Fn(&str) -> Option<u32>, vocab: usize) -> SpecialTokens {
        special::tokens(id, &self.special, &self.ids, vocab)
    }

    /// The ids of its tokens below a number of embeddings, by the file alone; none without a tokenizer.
    ///
    /// # Errors
    /// [`ConfigError`], where they cannot be told.
    pub fn ids(&self, folder: &Path, vocab: usize) -> Result<TokenIds, ConfigError> {
        self.tokenizer.as_ref().map_or_else(|| Ok(TokenIds::default()), |tokenizer| tokenizer.ids(folder, vocab))
    }

    /// What `D_base` holds of it, for whoever has no tokenizer but knows which id a token has.
    pub fn of_digest(self, ids: &TokenIds, vocab: usize) -> Texts {
        let stop = self.special_tokens(|token| ids.id(token), vocab).stop;
        let Self { tokenizer, special, template, for_tools, ids: _ } = self;
        let tokenizer = tokenizer.map(|tokenizer| *blake3::hash(&tokenizer.json).as_bytes());
        let for_tools = for_tools.filter(|_| template.is_some());
        Texts { tokenizer, template: template.map(|template| (template, special)), for_tools, stop }
    }
}

/// The chat template of a folder, and the one for conversations with tools where that is another: from files or, where
/// there is no `chat_template.jinja`, from `tokenizer_config.json`.
///
/// # Errors
/// As [`FolderTexts::read`].
pub fn templates<E: From<ConfigError>>(
    folder: &Path,
    mut file: impl FnMut(&str) -> Result<Option<Vec<u8>>, E>,
) -> Result<(Option<String>, Option<String>), E> {
    let config = json(folder, TOKENIZER_CONFIG, &mut file)?.unwrap_or_else(|| Value::Object(Map::new()));
    templates_beside(folder, &ConfigObject::new(&folder.join(TOKENIZER_CONFIG), &config)?, &mut file)
}

/// The texts that a folder adds to a vocabulary, in whichever of its files, and the one that it ends answers with, if it
/// names one.
///
/// # Errors
/// As [`FolderTexts::read`].
pub fn own_tokens<E: From<ConfigError>>(
    folder: &Path,
    mut file: impl FnMut(&str) -> Result<Option<Vec<u8>>, E>,
) -> Result<(BTreeSet<String>, Option<String>), E> {
    let mut read = |name: &str| Ok::<_, E>(json(folder, name, &mut file)?.unwrap_or_default());
    let [config, map, whole, older] =
        [read(TOKENIZER_CONFIG)?, read(SPECIAL_TOKENS)?, read(TOKENIZER)?, read(ADDED_TOKENS)?];
    let text = |token: &Value| token.as_str().or_else(|| token["content"].as_str()).map(str::to_owned);
    let listed = whole["added_tokens"].as_array().into_iter().flatten();
    let decoded = config["added_tokens_decoder"].as_object().into_iter().flat_map(Map::values);
    let added = older.as_object().into_iter().flat_map(|tokens| tokens.keys().cloned());
    Ok((listed.chain(decoded).filter_map(text).chain(added).collect(), text(&named(&config, &map)["eos_token"])))
}

fn templates_beside<E: From<ConfigError>>(
    folder: &Path,
    config: &ConfigObject,
    file: &mut impl FnMut(&str) -> Result<Option<Vec<u8>>, E>,
) -> Result<(Option<String>, Option<String>), E> {
    let whole = text(folder, TEMPLATE, file)?;
    let for_tools = text(folder, TOOL_TEMPLATE, file)?;
    if whole.is_some() {
        return Ok((whole, for_tools));
    }
    let listed = |name| listed_template(config, name);
    Ok((
        listed("default")?,
        match for_tools {
            Some(text) => Some(text),
            None => listed("tool_use")?.filter(|_| config.list("chat_template").is_some()),
        },
    ))
}

/// `chat_template` of `tokenizer_config.json`: a string, or the one of this name in a list of them.
fn listed_template(config: &ConfigObject, name: &str) -> Result<Option<String>, ConfigError> {
    let Some(list) = config.list("chat_template") else {
        return Ok(config.text("chat_template")?.map(str::to_owned));
    };
    let named = list.iter().find(|entry| entry["name"] == name);
    Ok(named.and_then(|entry| entry["template"].as_str()).map(str::to_owned))
}

/// A file as JSON, if there is one.
fn json<E: From<ConfigError>>(
    folder: &Path,
    name: &str,
    file: &mut impl FnMut(&str) -> Result<Option<Vec<u8>>, E>,
) -> Result<Option<Value>, E> {
    let malformed = |error: serde_json::Error| malformed(&folder.join(name), "JSON", error.to_string());
    file(name)?.map(|bytes| serde_json::from_slice(&bytes).map_err(|error| malformed(error).into())).transpose()
}

/// A file's text, if there is one.
fn text<E: From<ConfigError>>(
    folder: &Path,
    name: &str,
    file: &mut impl FnMut(&str) -> Result<Option<Vec<u8>>, E>,
) -> Result<Option<String>, E> {
    let malformed = |error: std::string::FromUtf8Error| malformed(&folder.join(name), "UTF-8", error.to_string());
    file(name)?.map(|bytes| String::from_utf8(bytes).map_err(|error| malformed(error).into())).transpose()
}

fn malformed(path: &Path, format: &'static str, reason: String) -> ConfigError {
    ConfigError::Malformed { path: path.to_owned(), format, reason }
}
