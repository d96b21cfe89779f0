//! Special tokens by their texts and by their ids.

use std::collections::{BTreeMap, BTreeSet};

use super::added::NAMED;
use crate::config::{ConfigError, ConfigObject};

/// The texts of the special tokens a chat template may use, as `tokenizer_config.json` gives them:
/// strings or objects with a `content`.
pub(super) fn texts(config: &ConfigObject) -> Result<BTreeMap<&'static str, String>, ConfigError> {
    let mut texts = BTreeMap::new();
    for key in NAMED {
        if let Some(text) = config.token(key)? {
            texts.insert(key, text.to_owned());
        }
    }
    Ok(texts)
}

/// Ids with a meaning of their own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpecialTokens {
    /// Beginning of a sequence.
    pub bos: Option<u32>,
    /// End of a sequence, appended to completions in training.
    pub eos: Option<u32>,
    /// Fills short rows.
    pub pad: Option<u32>,
    /// Ids at which generation stops; holds `eos`.
    pub stop: BTreeSet<u32>,
}

/// The ids one JSON file declares.
pub(super) struct Ids {
    bos: Vec<u32>,
    eos: Vec<u32>,
    pad: Vec<u32>,
}

impl Ids {
    pub(super) fn read(object: &ConfigObject) -> Result<Self, ConfigError> {
        let [bos, eos, pad] = ["bos_token_id", "eos_token_id", "pad_token_id"].map(|key| object.ids(key));
        Ok(Self { bos: bos?, eos: eos?, pad: pad? })
    }
}

/// The special ids of a folder. A token named by the tokenizer comes before the first id found in `files`; every
/// end-of-sequence id found anywhere stops generation, since chat models list their end-of-turn id in only one of
/// the files. Ids without an embedding are dropped: some published files were written for a larger vocabulary.
pub(super) fn tokens(
    id: impl Fn(&str) -> Option<u32>,
    texts: &BTreeMap<&'static str, String>,
    files: &[Ids],
    vocab: usize,
) -> SpecialTokens {
    let named = |key: &str| texts.get(key).and_then(|text| id(text));
    let known = |id: &u32| (*id as usize) < vocab;
    let first =
        |key: &str, ids: fn(&Ids) -> &[u32]| named(key).or_else(|| files.iter().flat_map(ids).copied().find(known));
    let eos = first("eos_token", |ids| &ids.eos);
    SpecialTokens {
        bos: first("bos_token", |ids| &ids.bos),
        eos,
        pad: first("pad_token", |ids| &ids.pad),
        stop: eos.into_iter().chain(files.iter().flat_map(|ids| ids.eos.iter().copied()).filter(known)).collect(),
    }
}
