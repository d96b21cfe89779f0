//! The tokenizer of a GGUF file as a `tokenizer.json`.
//!
//! GGUF keeps a vocabulary, merges or scores, and the *name* of a pre-tokenizer whose regular expressions live in
//! llama.cpp; the ones known here are its `gpt-2`, `smollm`, `llama-bpe`, `qwen2` and `default`. A sentencepiece vocabulary
//! (`llama`) has scores instead of merges: every way to join two tokens into a third is a merge, best score first.
//! The JSON is canonical (vocabulary in id order, no optional spaces): its bytes enter `D_base`.

use std::collections::BTreeMap;

use candle_core::quantized::gguf_file::Value as Stored;
use ftk_networks::texts::SpecialTokens;
use serde_json::{Map, Value, json};

use super::super::error::ModelError;
use super::super::tokenizer::Tokenizer;
use super::metadata::{Metadata, whole};

/// A rebuilt tokenizer.
pub(super) struct Rebuilt {
    /// Bytes of `tokenizer.json`.
    pub(super) json: Vec<u8>,
    pub(super) special: SpecialTokens,
    /// The token for what the vocabulary cannot spell.
    pub(super) unknown: Option<u32>,
}

impl Rebuilt {
    /// Texts of the special tokens by their Hugging Face name.
    pub(super) fn texts(&self, tokenizer: &Tokenizer) -> BTreeMap<&'static str, String> {
        let SpecialTokens { bos, eos, pad, stop: _ } = self.special;
        let ids = [("bos_token", bos), ("eos_token", eos), ("pad_token", pad), ("unk_token", self.unknown)];
        ids.into_iter().filter_map(|(key, id)| Some((key, tokenizer.token(id?)?))).collect()
    }
}

/// `tokenizer.ggml.token_type`: only these matter.
const NORMAL: usize = 1;
const UNKNOWN: usize = 2;
const CONTROL: usize = 3;
const USER_DEFINED: usize = 4;

/// The words of GPT-2, as llama.cpp splits them; text between matches is a word too.
const GPT2_WORDS: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)";

/// The words of Llama 3.
const LLAMA3_WORDS: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// The words of Qwen 2 and later: those of Llama 3, but a digit at a time.
const QWEN2_WORDS: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// The tokenizer of a file; `None` if it has none.
pub(super) fn rebuild(metadata: &Metadata, embeddings: usize) -> Result<Option<Rebuilt>, ModelError> {
    let Some(model) = metadata.text("tokenizer.ggml.model")? else {
        return Ok(None);
    };
    let vocabulary = Vocabulary::read(metadata, embeddings)?;
    let special = special(metadata, embeddings)?;
    let unknown = id(metadata, "tokenizer.ggml.unknown_token_id", embeddings)?;
    let json = match model {
        "gpt2" => byte_level(metadata, &vocabulary, &special)?,
        "llama" => sentencepiece(metadata, &vocabulary, &special, unknown)?,
        other => {
            let reason = format!("not supported, only gpt2 and llama are: {other}");
            return Err(metadata.error("tokenizer.ggml.model", reason));
        }
    };
    let json = serde_json::to_vec(&json).expect("a JSON value serialises");
    Ok(Some(Rebuilt { json, special, unknown }))
}

/// Tokens with their kinds.
struct Vocabulary<'a> {
    tokens: Vec<&'a str>,
    kinds: Vec<usize>,
    ids: BTreeMap<&'a str, usize>,
}

impl<'a> Vocabulary<'a> {
    fn read(metadata: &Metadata<'a>, embeddings: usize) -> Result<Self, ModelError> {
        let key = "tokenizer.ggml.tokens";
        let tokens = metadata.need(key, metadata.texts(key)?)?;
        if tokens.len() > embeddings {
            let reason = format!("more tokens than the {embeddings} embeddings: {}", tokens.len());
            return Err(metadata.error(key, reason));
        }
        let mut ids = BTreeMap::new();
        for (id, token) in tokens.iter().enumerate() {
            if ids.insert(*token, id).is_some() {
                return Err(metadata.error(key, format!("token given twice: {token:?}")));
            }
        }
        let key = "tokenizer.ggml.token_type";
        let kinds = match metadata.list(key)? {
            None => vec![NORMAL; tokens.len()],
            Some(kinds) => {
                let kinds: Option<Vec<usize>> = kinds.iter().map(whole).collect();
                let kinds = kinds.filter(|kinds| kinds.len() == tokens.len());
                kinds.ok_or_else(|| metadata.error(key, "not one number for each token"))?
            }
        };
        Ok(Self { tokens, kinds, ids })
    }

    /// The vocabulary in id order.
    fn map(&self) -> Value {
        let entry = |(id, token): (usize, &&str)| ((*token).to_owned(), Value::from(id));
        Value::Object(self.tokens.iter().enumerate().map(entry).collect::<Map<_, _>>())
    }

    /// Tokens that are matched whole before any splitting.
    fn added(&self) -> Vec<Value> {
        let whole = |id: &usize| matches!(self.kinds[*id], UNKNOWN | CONTROL | USER_DEFINED);
        let entry = |id: usize| {
            json!({
                "id": id, "content": self.tokens[id], "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": self.kinds[id] != USER_DEFINED,
            })
        };
        (0..self.tokens.len()).filter(whole).map(entry).collect()
    }
}

/// A token id, if the key is present.
fn id(metadata: &Metadata, key: &str, embeddings: usize) -> Result<Option<u32>, ModelError> {
    match metadata.size(key)? {
        None => Ok(None),
        Some(id) if id < embeddings => Ok(u32::try_from(id).ok()),
        Some(id) => Err(metadata.error(key, format!("outside a vocabulary of {embeddings}: {id}"))),
    }
}

fn special(metadata: &Metadata, embeddings: usize) -> Result<SpecialTokens, ModelError> {
    let id = |name: &str| id(metadata, &format!("tokenizer.ggml.{name}_token_id"), embeddings);
    let eos = id("eos")?;
    let stop = [eos, id("eot")?, id("eom")?].into_iter().flatten().collect();
    Ok(SpecialTokens { bos: id("bos")?, eos, pad: id("padding")?, stop })
}

/// What puts the beginning-of-sequence token before a text, if the file asks for it.
fn post_processor(
    metadata: &Metadata,
    vocabulary: &Vocabulary,
    special: &SpecialTokens,
    by_default: bool,
) -> Result<Value, ModelError> {
    let key = "tokenizer.ggml.add_bos_token";
    if !metadata.flag(key)?.unwrap_or(by_default) {
        return Ok(Value::Null);
    }
    let bos = metadata.need("tokenizer.ggml.bos_token_id", special.bos)?;
    let Some(token) = vocabulary.tokens.get(bos as usize) else {
        return Err(metadata.error("tokenizer.ggml.bos_token_id", format!("no such token: {bos}")));
    };
    let start = |kind: u32| json!({ "SpecialToken": { "id": token, "type_id": kind } });
    let text = |name: &str, kind: u32| json!({ "Sequence": { "id": name, "type_id": kind } });
    Ok(json!({
        "type": "TemplateProcessing",
        "single": [start(0), text("A", 0)],
        "pair": [start(0), text("A", 0), start(1), text("B", 1)],
        "special_tokens": { *token: { "id": token, "ids": [bos], "tokens": [token] } },
    }))
}

/// Byte-level BPE (`gpt2`).
fn byte_level(metadata: &Metadata, vocabulary: &Vocabulary, special: &SpecialTokens) -> Result<Value, ModelError> {
    let key = "tokenizer.ggml.merges";
    let merges = metadata.need(key, metadata.texts(key)?)?;
    let pair = |merge: &&str| match merge.split_once(' ') {
        Some((left, right)) => Ok(json!([left, right])),
        None => Err(metadata.error(key, format!("not two tokens: {merge:?}"))),
    };
    let merges = merges.iter().map(pair).collect::<Result<Vec<_>, _>>()?;

    let split = |regex: &str| json!({ "type": "Split", "pattern": { "Regex": regex }, "behavior": "Isolated", "invert": false });
    let name = metadata.text("tokenizer.ggml.pre")?.unwrap_or("default");
    let llama3 = matches!(name, "llama-bpe" | "llama3" | "llama-v3");
    let mut steps = match name {
        "gpt-2" => vec![split(GPT2_WORDS)],
        "smollm" => vec![split(r"\p{N}"), split(GPT2_WORDS)],
        "default" => {
            vec![split(r"[\p{P}\$\+<=>\^~\|]+"), split(GPT2_WORDS), split(r"\p{N}+"), split("[0-9][0-9][0-9]")]
        }
        "qwen2" => vec![split(QWEN2_WORDS)],
        _ if llama3 => vec![split(LLAMA3_WORDS)],
        other => {
            let reason = format!("not supported, only default, gpt-2, llama-bpe, qwen2 and smollm are: {other}");
            return Err(metadata.error("tokenizer.ggml.pre", reason));
        }
    };
    let bytes = json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false });
    steps.push(bytes.clone());
    // Qwen's own tokenizer composes characters first; llama.cpp leaves that to its callers.
    let normalizer = (name == "qwen2").then(|| json!({ "type": "NFC" }));
    Ok(json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": vocabulary.added(),
        "normalizer": normalizer,
        "pre_tokenizer": { "type": "Sequence", "pretokenizers": steps },
        "post_processor": post_processor(metadata, vocabulary, special, llama3)?,
        "decoder": bytes,
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": llama3,
            "vocab": vocabulary.map(), "merges": merges,
        },
    }))
}

/// Sentencepiece BPE (`llama`).
fn sentencepiece(
    metadata: &Metadata,
    vocabulary: &Vocabulary,
    special: &SpecialTokens,
    unknown: Option<u32>,
) -> Result<Value, ModelError> {
    let key = "tokenizer.ggml.scores";
    let score = |value: &Stored| match value {
        Stored::F32(score) if score.is_finite() => Some(*score),
        _ => None,
    };
    let scores = metadata.need(key, metadata.list(key)?)?;
    let scores: Option<Vec<f32>> = scores.iter().map(score).collect();
    let scores = scores.filter(|scores| scores.len() == vocabulary.tokens.len());
    let scores = scores.ok_or_else(|| metadata.error(key, "not one finite number for each token"))?;

    let mut merges = Vec::new();
    for (id, token) in vocabulary.tokens.iter().enumerate().filter(|(id, _)| vocabulary.kinds[*id] == NORMAL) {
        let mut ways: Vec<(usize, usize)> = token
            .char_indices()
            .skip(1)
            .filter_map(|(at, _)| Some((*vocabulary.ids.get(&token[..at])?, *vocabulary.ids.get(&token[at..])?)))
            .collect();
        ways.sort_unstable();
        merges.extend(ways.into_iter().map(|way| (id, way)));
    }
    // Stable, so that equal scores stay in id order.
    merges.sort_by(|(a, _), (b, _)| scores[*b].total_cmp(&scores[*a]));
    let merges: Vec<Value> = merges
        .into_iter()
        .map(|(_, (left, right))| json!([vocabulary.tokens[left], vocabulary.tokens[right]]))
        .collect();

    let space_first = metadata.flag("tokenizer.ggml.add_space_prefix")?.unwrap_or(true);
    let mut normalizers = vec![json!({ "type": "Replace", "pattern": { "String": " " }, "content": "▁" })];
    let mut decoders = vec![
        json!({ "type": "Replace", "pattern": { "String": "▁" }, "content": " " }),
        json!({ "type": "ByteFallback" }),
        json!({ "type": "Fuse" }),
    ];
    if space_first {
        normalizers.insert(0, json!({ "type": "Prepend", "prepend": "▁" }));
        decoders.push(json!({ "type": "Strip", "content": " ", "start": 1, "stop": 0 }));
    }
    Ok(json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": vocabulary.added(),
        "normalizer": { "type": "Sequence", "normalizers": normalizers },
        "pre_tokenizer": null,
        "post_processor": post_processor(metadata, vocabulary, special, true)?,
        "decoder": { "type": "Sequence", "decoders": decoders },
        "model": {
            "type": "BPE", "dropout": null, "unk_token": unknown.and_then(|id| vocabulary.tokens.get(id as usize)),
            "continuing_subword_prefix": null, "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true,
            "ignore_merges": false, "vocab": vocabulary.map(), "merges": merges,
        },
    }))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Draft, draft};
    use super::*;

    fn texts(texts: &[&str]) -> Stored {
        Stored::Array(texts.iter().map(|text| Stored::String((*text).to_owned())).collect())
    }

    fn byte_level(pre: &str) -> Draft {
        let kinds = [3, 1, 1, 1, 1, 1, 1, 1, 1, 4];
        draft()
            .with("tokenizer.ggml.model", Stored::String("gpt2".to_owned()))
            .with("tokenizer.ggml.pre", Stored::String(pre.to_owned()))
            .with("tokenizer.ggml.tokens", texts(&["<e>", "a", "b", "Ġ", "ab", "Ġab", "1", "2", "12", "!!"]))
            .with("tokenizer.ggml.token_type", Stored::Array(kinds.map(Stored::I32).to_vec()))
            .with("tokenizer.ggml.merges", texts(&["a b", "Ġ ab", "1 2"]))
            .with("tokenizer.ggml.bos_token_id", Stored::U32(0))
            .with("tokenizer.ggml.eos_token_id", Stored::U32(0))
            .with("tokenizer.ggml.eot_token_id", Stored::U32(9))
            .with("tokenizer.ggml.padding_token_id", Stored::U32(3))
    }

    #[test]
    fn pre_tokenizers_differ_where_llama_cpp_has_them_differ() {
        for (pre, expected) in [
            ("smollm", &[4, 5, 6, 7, 9, 0][..]),
            ("gpt-2", &[4, 5, 8, 9, 0]),
            ("qwen2", &[4, 5, 6, 7, 9, 0]),
            ("default", &[4, 5, 8, 9, 0]),
            ("llama-bpe", &[0, 4, 5, 8, 9, 0]),
        ] {
            let source = byte_level(pre).open().unwrap();
            let tokenizer = source.tokenizer().unwrap();
            assert_eq!(tokenizer.encode("ab ab12!!<e>", true).unwrap(), expected, "{pre}");
            assert_eq!(tokenizer.decode(expected, true).unwrap(), "ab ab12!!");
        }
        let error = byte_level("tekken").open().unwrap_err().to_string();
        assert!(error.ends_with(
            "tokenizer.ggml.pre: not supported, only default, gpt-2, llama-bpe, qwen2 and smollm are: tekken"
        ));
    }

    #[test]
    fn special_ids_template_and_files_come_along() {
        let template = Stored::String("{{ bos_token }}{{ messages[0].content }}".to_owned());
        let source = byte_level("smollm").with("tokenizer.chat_template", template).open().unwrap();
        let expected = SpecialTokens { bos: Some(0), eos: Some(0), pad: Some(3), stop: [0, 9].into() };
        assert_eq!(source.special(), &expected);
        let message = super::super::super::Message::new("user", "ab");
        assert_eq!(source.chat_template().unwrap().render(&[message], &[], false).unwrap(), "<e>ab");
        assert!(source.chat_template().unwrap().own_for_tools().is_none());
        let text = |text: &str| Stored::String(text.to_owned());
        let more = byte_level("smollm").with("tokenizer.chat_template", text("{{ messages }}"));
        let more = more.with("tokenizer.chat_template.tool_use", text("x")).open().unwrap();
        assert_eq!(more.chat_template().unwrap().own_for_tools().unwrap().source(), "x");
        // In the files for a folder as in those of transformers.
        let config: Value = serde_json::from_slice(&more.text_files().unwrap()[1].bytes).unwrap();
        let named = |name: &str, template: &str| json!({"name": name, "template": template});
        assert_eq!(config["chat_template"], json!([named("default", "{{ messages }}"), named("tool_use", "x")]));

        let files = source.text_files().unwrap();
        assert_eq!([&files[0].name, &files[1].name], ["tokenizer.json", "tokenizer_config.json"]);
        let config: Value = serde_json::from_slice(&files[1].bytes).unwrap();
        assert_eq!((&config["pad_token"], &config["unk_token"]), (&json!("Ġ"), &Value::Null));
        assert_eq!(config["chat_template"], "{{ bos_token }}{{ messages[0].content }}");
        assert_eq!(*blake3::hash(&files[0].bytes).as_bytes(), *source.tokenizer().unwrap().digest());
    }

    #[test]
    fn sentencepiece_merges_follow_the_scores() {
        for (scores, expected) in [([-1.0, -2.0], &[1, 6, 5, 6, 5, 8][..]), ([-2.0, -1.0], &[1, 3, 7, 3, 7, 8])] {
            let [joined_left, joined_right] = scores;
            let scores = [0.0, 0.0, 0.0, -9.0, -9.0, -9.0, joined_left, joined_right, 0.0];
            let kinds = [2, 3, 3, 1, 1, 1, 1, 1, 6];
            let draft = draft()
                .with("tokenizer.ggml.model", Stored::String("llama".to_owned()))
                .with("tokenizer.ggml.tokens", texts(&["<unk>", "<s>", "</s>", "▁", "a", "b", "▁a", "ab", "<0x21>"]))
                .with("tokenizer.ggml.token_type", Stored::Array(kinds.map(Stored::I32).to_vec()))
                .with("tokenizer.ggml.scores", Stored::Array(scores.map(Stored::F32).to_vec()))
                .with("tokenizer.ggml.bos_token_id", Stored::U32(1))
                .with("tokenizer.ggml.unknown_token_id", Stored::U32(0));
            let source = draft.open().unwrap();
            let tokenizer = source.tokenizer().unwrap();
            assert_eq!(tokenizer.encode("ab ab!", true).unwrap(), expected);
            assert_eq!(tokenizer.decode(expected, true).unwrap(), "ab ab!");
        }
    }

    #[test]
    fn vocabularies_that_lie_are_refused() {
        let many: Vec<String> = (0..17).map(|i| i.to_string()).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        for (key, value, message) in [
            ("tokenizer.ggml.model", Stored::String("bert".to_owned()), "not supported, only gpt2 and llama are: bert"),
            ("tokenizer.ggml.tokens", texts(&["a", "b", "a"]), "token given twice: \"a\""),
            ("tokenizer.ggml.tokens", texts(&many), "more tokens than the 16 embeddings: 17"),
            ("tokenizer.ggml.tokens", Stored::Array(vec![Stored::U8(1)]), "not a list of strings"),
            ("tokenizer.ggml.token_type", Stored::Array(vec![Stored::I32(1)]), "not one number for each token"),
            ("tokenizer.ggml.merges", texts(&["ab"]), "not two tokens: \"ab\""),
            ("tokenizer.ggml.eos_token_id", Stored::U32(16), "outside a vocabulary of 16: 16"),
        ] {
            let error = byte_level("smollm").with(key, value).open().unwrap_err().to_string();
            assert!(error.ends_with(&format!(".gguf: {key}: {message}")), "{error}");
        }
    }
}
