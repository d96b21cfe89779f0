//! A byte-level BPE tokenizer from text: the merge loop and the file that `tokenizers` reads.
//!
//! The loop is written here because the trainer of the `tokenizers` crate walks hash maps with random keys, and the
//! files of this folder have to come out the same on every machine.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};

/// Padding; never part of a text.
pub const PAD: &str = "<|pad|>";
/// Opens a turn.
pub const START: &str = "<|im_start|>";
/// Closes a turn and ends a generation.
pub const END: &str = "<|im_end|>";
/// The special tokens; their ids are their positions.
pub const SPECIALS: [&str; 3] = [PAD, START, END];

/// Pairs seen less often are not merged.
const MIN_FREQUENCY: u64 = 2;

/// A trained vocabulary.
pub struct Bpe {
    /// The text of every id, in the byte alphabet.
    pub pieces: Vec<String>,
    /// Pairs of ids in the order they are merged.
    merges: Vec<(usize, usize)>,
}

/// How bytes become symbols and where words end, the same in training and in the file.
fn byte_level() -> ByteLevel {
    ByteLevel::new(false, true, true)
}

impl Bpe {
    /// Learns at most `vocab` pieces, specials and bytes included, from `texts` (Sennrich et al. 2016). Of equally
    /// frequent pairs the one with the smaller ids is merged first.
    ///
    /// # Errors
    /// Those of the pre-tokenizer.
    pub fn train<'a>(texts: impl Iterator<Item = &'a str>, vocab: usize) -> tokenizers::Result<Self> {
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        for text in texts {
            let mut text = PreTokenizedString::from(text);
            byte_level().pre_tokenize(&mut text)?;
            for (word, ..) in text.get_splits(OffsetReferential::Normalized, OffsetType::Byte) {
                *counts.entry(word.to_owned()).or_default() += 1;
            }
        }

        let mut pieces: Vec<String> = SPECIALS.map(str::to_owned).to_vec();
        let mut alphabet: Vec<char> = ByteLevel::alphabet().into_iter().collect();
        alphabet.sort_unstable();
        pieces.extend(alphabet.iter().map(char::to_string));
        let id = |symbol: char| {
            SPECIALS.len() + alphabet.binary_search(&symbol).expect("the pre-tokenizer writes this alphabet only")
        };
        let mut words: Vec<(Vec<usize>, u64)> =
            counts.iter().map(|(word, &count)| (word.chars().map(id).collect(), count)).collect();

        let mut merges = Vec::new();
        while pieces.len() < vocab {
            let Some(pair) = most_frequent(&words) else { break };
            let piece = format!("{}{}", pieces[pair.0], pieces[pair.1]);
            // Two pairs may spell the same piece; it keeps one id.
            let merged = pieces.iter().position(|known| *known == piece).unwrap_or(pieces.len());
            if merged == pieces.len() {
                pieces.push(piece);
            }
            merges.push(pair);
            words.iter_mut().for_each(|(word, _)| merge(word, pair, merged));
        }
        Ok(Self { pieces, merges })
    }

    /// The content of `tokenizer.json`.
    pub fn to_json(&self) -> Value {
        let vocab: serde_json::Map<String, Value> =
            self.pieces.iter().enumerate().map(|(id, piece)| (piece.clone(), json!(id))).collect();
        let merges: Vec<Value> = self.merges.iter().map(|&(a, b)| json!([self.pieces[a], self.pieces[b]])).collect();
        let added: Vec<Value> = SPECIALS
            .iter()
            .enumerate()
            .map(|(id, content)| {
                json!({
                    "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
                    "normalized": false, "special": true,
                })
            })
            .collect();
        let byte_level =
            json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
        json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": added,
            "normalizer": null,
            "pre_tokenizer": byte_level,
            "post_processor": null,
            "decoder": byte_level,
            "model": {
                "type": "BPE",
                "dropout": null,
                "unk_token": null,
                "continuing_subword_prefix": null,
                "end_of_word_suffix": null,
                "fuse_unk": false,
                "byte_fallback": false,
                "ignore_merges": false,
                "vocab": vocab,
                "merges": merges,
            },
        })
    }
}

fn most_frequent(words: &[(Vec<usize>, u64)]) -> Option<(usize, usize)> {
    let mut pairs: BTreeMap<(usize, usize), u64> = BTreeMap::new();
    for (word, count) in words {
        for pair in word.windows(2) {
            *pairs.entry((pair[0], pair[1])).or_default() += count;
        }
    }
    let best = pairs.into_iter().max_by(|(a, x), (b, y)| x.cmp(y).then(b.cmp(a)))?;
    (best.1 >= MIN_FREQUENCY).then_some(best.0)
}

fn merge(word: &mut Vec<usize>, pair: (usize, usize), merged: usize) {
    let mut at = 0;
    while at + 1 < word.len() {
        if (word[at], word[at + 1]) == pair {
            word[at] = merged;
            word.remove(at + 1);
        }
        at += 1;
    }
}
