//! Text to token ids and back, and which ids are special.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;

use tokenizers::{
    DecodeStream, DecoderWrapper, ModelWrapper, NormalizerWrapper, PostProcessorWrapper, PreTokenizerWrapper,
};

use super::ModelError;
use super::config::Object;

/// A tokenizer bound to a vocabulary: it never yields an id the network has no embedding for.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    digest: [u8; 32],
    vocab: usize,
}

impl Tokenizer {
    /// Parses `tokenizer.json`; `path` is named in errors, `vocab` is the number of embeddings.
    pub(super) fn from_json(path: &Path, json: &[u8], vocab: usize) -> Result<Self, ModelError> {
        let malformed = |error: tokenizers::Error| ModelError::Malformed {
            path: path.to_owned(),
            format: "tokenizer",
            reason: error.to_string(),
        };
        let mut inner = tokenizers::Tokenizer::from_bytes(json).map_err(malformed)?;
        // Cutting and filling rows is the data loader's business, whatever the file was last used with.
        inner.with_truncation(None).map_err(malformed)?;
        inner.with_padding(None);
        Ok(Self { inner, digest: *blake3::hash(json).as_bytes(), vocab })
    }

    /// BLAKE3 of the bytes of `tokenizer.json`.
    pub(super) fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// The tokenizer as the `tokenizers` crate has it.
    pub fn inner(&self) -> &tokenizers::Tokenizer {
        &self.inner
    }

    /// The ids of `text`. With `add_special_tokens` the tokenizer adds its own (for Llama a beginning-of-sequence
    /// id); text rendered by a chat template already has them.
    ///
    /// # Errors
    /// [`ModelError::TokenId`] for a token without an embedding, [`ModelError::Tokenizer`].
    pub fn encode(&self, text: &str, add_special_tokens: bool) -> Result<Vec<u32>, ModelError> {
        self.known(self.inner.encode_fast(text, add_special_tokens).map_err(failed)?.get_ids())
    }

    /// The ids of `text` without special tokens of the tokenizer's own, each with the bytes of `text` it stands for.
    /// Spaces may be left out of these; a token of nothing else has the empty range at its end.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_with_places(&self, text: &str) -> Result<(Vec<u32>, Vec<Range<usize>>), ModelError> {
        let encoding = self.inner.encode(text, false).map_err(failed)?;
        let places = encoding.get_offsets().iter().map(|&(start, end)| start..end).collect();
        Ok((self.known(encoding.get_ids())?, places))
    }

    fn known(&self, ids: &[u32]) -> Result<Vec<u32>, ModelError> {
        match ids.iter().find(|&&id| id as usize >= self.vocab) {
            None => Ok(ids.to_vec()),
            Some(&id) => Err(ModelError::TokenId { token: self.token(id).unwrap_or_default(), id, vocab: self.vocab }),
        }
    }

    /// The text of `ids`, special tokens included or left out. Bytes that are not UTF-8 become U+FFFD.
    ///
    /// # Errors
    /// [`ModelError::Tokenizer`].
    pub fn decode(&self, ids: &[u32], skip_special_tokens: bool) -> Result<String, ModelError> {
        self.inner.decode(ids, skip_special_tokens).map_err(failed)
    }

    /// Decodes ids as they come, special tokens left out.
    pub fn stream(&self) -> TextStream<'_> {
        TextStream(self.inner.decode_stream(true))
    }

    /// The token of an id.
    pub fn token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// The id of a token, if the network has an embedding for it.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token).filter(|&id| (id as usize) < self.vocab)
    }
}

fn failed(error: tokenizers::Error) -> ModelError {
    ModelError::Tokenizer { reason: error.to_string() }
}

/// Incremental decoding of one sequence.
pub struct TextStream<'a>(
    DecodeStream<'a, ModelWrapper, NormalizerWrapper, PreTokenizerWrapper, PostProcessorWrapper, DecoderWrapper>,
);

impl TextStream<'_> {
    /// The text that became complete with `id`; `None` inside a character of several tokens.
    ///
    /// # Errors
    /// [`ModelError::Tokenizer`].
    pub fn push(&mut self, id: u32) -> Result<Option<String>, ModelError> {
        self.0.step(id).map_err(failed)
    }
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
    pub(super) fn read(object: &Object) -> Result<Self, ModelError> {
        let [bos, eos, pad] = ["bos_token_id", "eos_token_id", "pad_token_id"].map(|key| object.ids(key));
        Ok(Self { bos: bos?, eos: eos?, pad: pad? })
    }
}

/// The special ids of a folder. A token named by the tokenizer comes before the first id found in `files`; every
/// end-of-sequence id found anywhere stops generation, since chat models list their end-of-turn id in only one of
/// the files. Ids without an embedding are dropped: some published files were written for a larger vocabulary.
pub(super) fn special_tokens(
    tokenizer: Option<&Tokenizer>,
    texts: &BTreeMap<&'static str, String>,
    files: &[Ids],
    vocab: usize,
) -> SpecialTokens {
    let named = |key: &str| tokenizer.and_then(|tokenizer| tokenizer.id(texts.get(key)?));
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

#[cfg(test)]
mod tests {
    use super::super::tiny;
    use super::*;

    fn tokenizer(vocab: usize) -> Tokenizer {
        Tokenizer::from_json(Path::new("tokenizer.json"), tiny::TOKENIZER.as_bytes(), vocab).unwrap()
    }

    #[test]
    fn text_round_trips_and_special_tokens_are_optional() {
        let tokenizer = tokenizer(16);
        assert_eq!(tokenizer.encode("abé<e>", true).unwrap(), [1, 5, 6, 7, 2]);
        let ids = tokenizer.encode("abé<e>", false).unwrap();
        assert_eq!(ids, [5, 6, 7, 2]);
        assert_eq!(tokenizer.decode(&ids, false).unwrap(), "abé<e>");
        assert_eq!(tokenizer.decode(&ids, true).unwrap(), "abé");
        assert_eq!((tokenizer.id("<e>"), tokenizer.token(5).as_deref()), (Some(2), Some("ab")));
    }

    #[test]
    fn a_stream_waits_for_whole_characters() {
        let tokenizer = tokenizer(16);
        let mut stream = tokenizer.stream();
        let texts: Vec<_> = [3, 6, 7, 2, 4].into_iter().map(|id| stream.push(id).unwrap()).collect();
        assert_eq!(texts, [Some("a".to_owned()), None, Some("é".to_owned()), None, Some("b".to_owned())]);
    }

    #[test]
    fn tokens_without_an_embedding_are_refused_by_name() {
        let tokenizer = tokenizer(5);
        assert_eq!(tokenizer.encode("a", false).unwrap(), [3]);
        let error = tokenizer.encode("aab", false).unwrap_err().to_string();
        assert_eq!(error, "token \"ab\" has no embedding in a vocabulary of 5: 5");
        assert_eq!(tokenizer.id("ab"), None);
    }

    #[test]
    fn malformed_files_are_named() {
        let error = Tokenizer::from_json(Path::new("tokenizer.json"), b"{}", 16).unwrap_err().to_string();
        assert!(error.starts_with("tokenizer.json: malformed tokenizer: "), "{error}");
    }
}
