//! Text to token ids and back.
//!
//! A tokenizer is foreign input: its file is read and its rules run within a budget of memory and time.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::error::ModelError;
use crate::budget::{Budget, Exceeded, within};

/// Bytes that reading the file or a text may ask for whatever its length, and for each of its bytes: published
/// tokenizers take less than a hundredth of it.
const MEMORY: [u64; 2] = [1 << 28, 1 << 13];

/// Seconds whatever the length, and for each MiB: some hundred times what published tokenizers take.
const SECONDS: [u64; 2] = [60, 100];

/// What reading so many bytes may use up.
fn budget(bytes: usize) -> Budget {
    let bytes = bytes as u64;
    let time = Duration::from_secs(SECONDS[0] + SECONDS[1] * (bytes >> 20));
    Budget { bytes: MEMORY[0] + MEMORY[1] * bytes, time }
}

/// A tokenizer bound to a vocabulary: it never yields an id the network has no embedding for.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    inner: Arc<tokenizers::Tokenizer>,
    digest: [u8; 32],
    vocab: usize,
}

impl Tokenizer {
    /// Parses `tokenizer.json`; `path` is named in errors, `vocab` is the number of embeddings.
    pub(super) fn from_json(path: &Path, json: &[u8], vocab: usize) -> Result<Self, ModelError> {
        let malformed = |reason: String| ModelError::Malformed { path: path.to_owned(), format: "tokenizer", reason };
        let bytes = json.to_vec();
        let parse = move || {
            let mut inner = tokenizers::Tokenizer::from_bytes(bytes)?;
            // Cutting and filling rows is the data loader's business, whatever the file was last used with.
            inner.with_truncation(None)?;
            inner.with_padding(None);
            Ok::<_, tokenizers::Error>(Arc::new(inner))
        };
        let inner = within(budget(json.len()), parse).map_err(|exceeded| malformed(exceeded.to_string()))?;
        let inner = inner.map_err(|error| malformed(error.to_string()))?;
        if let tokenizers::ModelWrapper::BPE(model) = inner.get_model()
            && model.dropout.is_some_and(|share| share > 0.0)
        {
            return Err(malformed(
                "model.dropout: leaves merges out at random, so that a text has no ids of its own".to_owned(),
            ));
        }
        Ok(Self { inner, digest: *blake3::hash(json).as_bytes(), vocab })
    }

    /// BLAKE3 of `tokenizer.json` with the tokens that stand beside it ([`ftk_networks::digest`]).
    pub(super) fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// The ids of `text`. With `add_special_tokens` the tokenizer adds its own (for Llama a beginning-of-sequence
    /// id); text rendered by a chat template already has them.
    ///
    /// # Errors
    /// [`ModelError::TokenId`] for a token without an embedding, [`ModelError::Tokenizer`].
    pub fn encode(&self, text: &str, add_special_tokens: bool) -> Result<Vec<u32>, ModelError> {
        let owned = text.to_owned();
        let encoding = self.run(text.len(), move |inner| inner.encode_fast(owned, add_special_tokens))?;
        self.known(encoding.get_ids())
    }

    /// The ids of `text` without special tokens of the tokenizer's own, each with the bytes of `text` it stands for.
    /// Spaces may be left out of these; a token of nothing else has the empty range at its end.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_with_places(&self, text: &str) -> Result<(Vec<u32>, Vec<Range<usize>>), ModelError> {
        let owned = text.to_owned();
        let encoding = self.run(text.len(), move |inner| inner.encode(owned, false))?;
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
        let owned = ids.to_vec();
        self.run(size_of_val(ids), move |inner| inner.decode(&owned, skip_special_tokens))
    }

    /// Has the tokenizer do something with so many bytes.
    fn run<T: Send + 'static>(
        &self,
        bytes: usize,
        work: impl FnOnce(&tokenizers::Tokenizer) -> tokenizers::Result<T> + Send + 'static,
    ) -> Result<T, ModelError> {
        let failed = |reason: String| ModelError::Tokenizer { reason };
        let inner = Arc::clone(&self.inner);
        let result = within(budget(bytes), move || work(&inner));
        result.map_err(|exceeded: Exceeded| failed(exceeded.to_string()))?.map_err(|error| failed(error.to_string()))
    }

    /// Decodes ids as they come, special tokens left out.
    pub fn stream(&self) -> TextStream<'_> {
        TextStream { tokenizer: self, ids: Vec::new(), told: 0 }
    }

    /// Whether an id stands for a token of its own making, and not for text.
    pub fn is_special(&self, id: u32) -> bool {
        self.inner.get_added_vocabulary().get_added_tokens_decoder().get(&id).is_some_and(|token| token.special)
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

/// Incremental decoding of one sequence.
pub struct TextStream<'a> {
    tokenizer: &'a Tokenizer,
    /// The ids that the text now in the making depends on.
    ids: Vec<u32>,
    /// Bytes of their text that have been given out.
    told: usize,
}

impl TextStream<'_> {
    /// The text that became complete with `id`; `None` inside a character of several tokens.
    ///
    /// # Errors
    /// [`ModelError::Tokenizer`].
    pub fn push(&mut self, id: u32) -> Result<Option<String>, ModelError> {
        self.ids.push(id);
        let text = self.tokenizer.decode(&self.ids, true)?;
        let new = text.get(self.told..).unwrap_or_default();
        if new.is_empty() || new.ends_with(char::REPLACEMENT_CHARACTER) {
            return Ok(None);
        }
        let new = new.to_owned();
        // Decoders look back: at whether a word begins the text. One finished token stays to be looked at.
        self.ids.drain(..self.ids.len() - 1);
        self.told = self.tokenizer.decode(&self.ids, true)?.len();
        Ok(Some(new))
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
    fn rules_that_double_a_text_are_refused_before_they_fill_the_memory() {
        let double = r#"{"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}"#;
        let doubles = |times: usize| {
            let rules = vec![double; times].join(", ");
            let normalizer = format!(r#""normalizer": {{"type": "Sequence", "normalizers": [{rules}]}}"#);
            assert!(tiny::TOKENIZER.contains(r#""normalizer": null"#));
            let json = tiny::TOKENIZER.replace(r#""normalizer": null"#, &normalizer);
            Tokenizer::from_json(Path::new("tokenizer.json"), json.as_bytes(), 16).unwrap().encode("a", false)
        };
        assert_eq!(doubles(3).unwrap(), [3; 8]);
        assert_eq!(doubles(60).unwrap_err().to_string(), "tokenizer: takes more bytes of memory than 268443648");
    }

    #[test]
    fn malformed_files_are_named() {
        let error = Tokenizer::from_json(Path::new("tokenizer.json"), b"{}", 16).unwrap_err().to_string();
        assert!(error.starts_with("tokenizer.json: malformed tokenizer: "), "{error}");
    }
}
