//! Rows to token ids, with the positions that are scored. The conventions are TRL's: prompt and
//! completion are tokenised jointly and parted at the length of the prompt's own tokens; plain
//! completions end with the end-of-sequence token; conversations end as their template ends them.

use std::path::Path;

use super::TextError;
use super::rows::{PairRow, SftRow, Text};
use crate::models::{Message, Source};

/// Token ids of which some are scored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sequence {
    /// The ids.
    pub ids: Vec<u32>,
    /// Whether the loss looks at the prediction of each id. The first is never predicted.
    pub scored: Vec<bool>,
}

impl Sequence {
    fn new(ids: Vec<u32>, scored: impl Fn(usize) -> bool) -> Self {
        let scored = (0..ids.len()).map(|position| position > 0 && scored(position)).collect();
        Self { ids, scored }
    }

    /// Number of scored ids.
    pub fn items(&self) -> usize {
        self.scored.iter().filter(|&&scored| scored).count()
    }

    fn cut(&mut self, length: usize) -> bool {
        let long = self.ids.len() > length;
        self.ids.truncate(length);
        self.scored.truncate(length);
        long
    }
}

/// A chosen and a rejected continuation of one prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// Ids before the completions.
    pub prompt: usize,
    /// Prompt and chosen completion.
    pub chosen: Sequence,
    /// Prompt and rejected completion.
    pub rejected: Sequence,
}

/// Turns rows of one file into ids.
pub struct Encoder<'a> {
    source: &'a Source,
    path: &'a Path,
    max_length: usize,
    /// Rows that lost their end.
    pub cut: usize,
}

impl<'a> Encoder<'a> {
    /// For rows of the file at `path`, no longer than `max_length` ids.
    pub fn new(source: &'a Source, path: &'a Path, max_length: usize) -> Self {
        Self { source, path, max_length, cut: 0 }
    }

    /// A row for supervised fine-tuning.
    ///
    /// # Errors
    /// An id outside the vocabulary; the tokenizer's and the template's.
    pub fn sft(&mut self, line: usize, row: SftRow) -> Result<Sequence, TextError> {
        let mut sequence = match row {
            SftRow::Whole(Text::Plain(text)) => Sequence::new(self.plain(&self.ended(text)?)?, |_| true),
            SftRow::Whole(Text::Chat(messages)) => Sequence::new(self.rendered(&messages, false)?, |_| true),
            SftRow::Completion(prompt, completion) => {
                let (prompt, whole) = self.joined(line, &prompt, completion)?;
                Sequence::new(whole, |position| position >= prompt)
            }
            SftRow::Ids(ids, labels) => {
                self.known(line, "input_ids", &ids)?;
                Sequence::new(ids, |position| labels.as_ref().is_none_or(|labels| labels[position] >= 0))
            }
        };
        self.cut += usize::from(sequence.cut(self.max_length));
        Ok(sequence)
    }

    /// A preference row.
    ///
    /// # Errors
    /// As [`Encoder::sft`].
    pub fn pair(&mut self, line: usize, row: PairRow) -> Result<Pair, TextError> {
        let (prompt, chosen, rejected) = match row {
            PairRow::Text(prompt, chosen, rejected) => {
                let (length, chosen) = self.joined(line, &prompt, chosen)?;
                let (_, rejected) = self.joined(line, &prompt, rejected)?;
                (length, chosen, rejected)
            }
            PairRow::Ids([prompt, chosen, rejected]) => {
                for (key, ids) in [("prompt_ids", &prompt), ("chosen_ids", &chosen), ("rejected_ids", &rejected)] {
                    self.known(line, key, ids)?;
                }
                (prompt.len(), [prompt.clone(), chosen].concat(), [prompt, rejected].concat())
            }
        };
        let mut sequence = |ids| {
            let mut sequence = Sequence::new(ids, |position| position >= prompt);
            self.cut += usize::from(sequence.cut(self.max_length));
            sequence
        };
        Ok(Pair { prompt, chosen: sequence(chosen), rejected: sequence(rejected) })
    }

    /// The ids of a prompt that is to be answered.
    ///
    /// # Errors
    /// The tokenizer's and the template's.
    pub fn prompt(source: &'a Source, prompt: &Text) -> Result<Vec<u32>, TextError> {
        let encoder = Self::new(source, Path::new("prompt"), usize::MAX);
        match prompt {
            Text::Plain(text) => encoder.plain(text),
            Text::Chat(messages) => encoder.rendered(messages, true),
        }
    }

    /// Length of the prompt, and ids of prompt and completion together.
    fn joined(&self, line: usize, prompt: &Text, completion: Text) -> Result<(usize, Vec<u32>), TextError> {
        let (prompt, whole) = match (prompt, completion) {
            (Text::Plain(prompt), Text::Plain(completion)) => {
                (self.plain(prompt)?, self.plain(&(prompt.clone() + &self.ended(completion)?))?)
            }
            (Text::Chat(prompt), Text::Chat(completion)) => {
                let whole: Vec<Message> = prompt.iter().cloned().chain(completion).collect();
                (self.rendered(prompt, true)?, self.rendered(&whole, false)?)
            }
            _ => {
                let message = "must be strings or lists of messages alike".to_owned();
                return Err(self.error(line, "prompt", message));
            }
        };
        Ok((prompt.len().min(whole.len()), whole))
    }

    /// The text with the end-of-sequence token at its end.
    fn ended(&self, text: String) -> Result<String, TextError> {
        let tokenizer = self.source.tokenizer()?;
        let end = self.source.special().eos.and_then(|id| tokenizer.token(id)).unwrap_or_default();
        Ok(if text.ends_with(&end) { text } else { text + &end })
    }

    fn plain(&self, text: &str) -> Result<Vec<u32>, TextError> {
        Ok(self.source.tokenizer()?.encode(text, true)?)
    }

    fn rendered(&self, messages: &[Message], generation_prompt: bool) -> Result<Vec<u32>, TextError> {
        let text = self.source.chat_template()?.render(messages, generation_prompt)?;
        Ok(self.source.tokenizer()?.encode(&text, false)?)
    }

    fn known(&self, line: usize, key: &str, ids: &[u32]) -> Result<(), TextError> {
        let vocab = self.source.network().vocab();
        match ids.iter().find(|&&id| id as usize >= vocab) {
            None => Ok(()),
            Some(id) => Err(self.error(line, key, format!("holds an id outside the vocabulary of {vocab}: {id}"))),
        }
    }

    fn error(&self, line: usize, key: &str, message: String) -> TextError {
        TextError::Row { path: self.path.to_owned(), line, key: key.to_owned(), message }
    }
}
