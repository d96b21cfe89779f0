//! Rows to token ids, with the positions that are scored. The conventions are TRL's: prompt and
//! completion are tokenised jointly and parted at the length of the prompt's own tokens; plain
//! completions end with the end-of-sequence token; conversations end as their template ends them, which must be with
//! a token that generation stops at.

use std::ops::Range;
use std::path::Path;

use ftk_recipes::Scored;

use super::TextError;
use super::files::Place;
use super::rows::{PairRow, PromptRow, SftRow, Text};
use super::turns::turns;
use crate::models::{Message, Source};

/// Token ids of which some are scored: one text, or several that share a row and nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sequence {
    /// The ids.
    pub ids: Vec<u32>,
    /// Whether the loss looks at the prediction of each id. The first of a text is never predicted.
    pub scored: Vec<bool>,
    /// Ids of each text; together all ids.
    lengths: Vec<usize>,
}

impl Sequence {
    /// One text; `scored` says of each position but the first whether it is.
    pub(super) fn new(ids: Vec<u32>, scored: impl Fn(usize) -> bool) -> Self {
        let scored = (0..ids.len()).map(|position| position > 0 && scored(position)).collect();
        let lengths = vec![ids.len()];
        Self { ids, scored, lengths }
    }

    /// Several sequences in one row.
    pub(super) fn packed(sequences: impl IntoIterator<Item = Self>) -> Self {
        let mut row = Self { ids: Vec::new(), scored: Vec::new(), lengths: Vec::new() };
        for sequence in sequences {
            row.ids.extend(sequence.ids);
            row.scored.extend(sequence.scored);
            row.lengths.extend(sequence.lengths);
        }
        row
    }

    /// Ids of each text, and which of them are scored. A text does not see those beside it.
    pub fn texts(&self) -> impl Iterator<Item = (&[u32], &[bool])> {
        let mut rest = (self.ids.as_slice(), self.scored.as_slice());
        self.lengths.iter().map(move |&length| {
            let ((ids, after), (scored, unscored)) = (rest.0.split_at(length), rest.1.split_at(length));
            rest = (after, unscored);
            (ids, scored)
        })
    }

    /// Number of scored ids.
    pub fn items(&self) -> usize {
        self.scored.iter().filter(|&&scored| scored).count()
    }

    /// Takes the end of a text beyond `length` ids away.
    pub(super) fn cut(&mut self, length: usize) {
        self.ids.truncate(length);
        self.scored.truncate(length);
        self.lengths = vec![self.ids.len()];
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

/// Turns rows of one file into ids, whatever their length.
#[derive(Clone, Copy, Debug)]
pub struct Encoder<'a> {
    source: &'a Source,
    path: &'a Path,
    scored: Scored,
    limit: usize,
}

impl<'a> Encoder<'a> {
    /// For rows of the file at `path`; `scored` says what of a row for supervised fine-tuning is. Turns beyond `limit`
    /// ids may be left unscored.
    pub fn new(source: &'a Source, path: &'a Path, scored: Scored, limit: usize) -> Self {
        Self { source, path, scored, limit }
    }

    /// A row for supervised fine-tuning.
    ///
    /// # Errors
    /// An id outside the vocabulary; turns that do not end as generation does, or cannot be told; the tokenizer's and
    /// the template's.
    pub fn sft(&self, place: Place, row: SftRow) -> Result<Sequence, TextError> {
        if let SftRow::Ids(ids, labels) = row {
            self.known(place, "input_ids", &ids)?;
            return Ok(Sequence::new(ids, |position| labels.as_ref().is_none_or(|labels| labels[position] >= 0)));
        }
        match (row, self.scored) {
            (SftRow::Whole(Text::Chat(messages)), Scored::Assistant) => self.spoken(place, &messages, 0),
            (SftRow::Completion(Text::Chat(prompt), Text::Chat(completion)), Scored::Assistant) => {
                let start = self.rendered(&prompt, true)?.len();
                self.spoken(place, &[prompt, completion].concat(), start)
            }
            (_, Scored::Assistant) => {
                let message = "has no turns, of which data.loss = \"assistant\" scores the assistant's".to_owned();
                Err(self.error(place, "", message))
            }
            (SftRow::Completion(prompt, completion), scored) => {
                let (prompt, whole) = self.joined(place, &prompt, completion)?;
                Ok(Sequence::new(whole, |position| scored == Scored::All || position >= prompt))
            }
            (SftRow::Whole(Text::Chat(messages)), _) => {
                let ids = self.rendered(&messages, false)?;
                self.ends(place, &messages, &ids, 0..ids.len())?;
                Ok(Sequence::new(ids, |_| true))
            }
            (SftRow::Whole(Text::Plain(text)), _) => Ok(Sequence::new(self.plain(&self.ended(text)?)?, |_| true)),
            (SftRow::Ids(..), _) => unreachable!("returned above"),
        }
    }

    /// A preference row.
    ///
    /// # Errors
    /// As [`Encoder::sft`].
    pub fn pair(&self, place: Place, row: PairRow) -> Result<Pair, TextError> {
        let (prompt, chosen, rejected) = match row {
            PairRow::Text(prompt, chosen, rejected) => {
                let (length, chosen) = self.joined(place, &prompt, chosen)?;
                let (_, rejected) = self.joined(place, &prompt, rejected)?;
                (length, chosen, rejected)
            }
            PairRow::Ids([prompt, chosen, rejected]) => {
                for (key, ids) in [("prompt_ids", &prompt), ("chosen_ids", &chosen), ("rejected_ids", &rejected)] {
                    self.known(place, key, ids)?;
                }
                (prompt.len(), [prompt.clone(), chosen].concat(), [prompt, rejected].concat())
            }
        };
        let sequence = |ids| Sequence::new(ids, |position| position >= prompt);
        Ok(Pair { prompt, chosen: sequence(chosen), rejected: sequence(rejected) })
    }

    /// The ids of a row that asks something.
    ///
    /// # Errors
    /// An id outside the vocabulary, no ids at all; the tokenizer's and the template's.
    pub fn asked(&self, place: Place, row: &PromptRow) -> Result<Vec<u32>, TextError> {
        let ids = match row {
            PromptRow::Text(Text::Plain(text)) => self.plain(text)?,
            PromptRow::Text(Text::Chat(messages)) => self.rendered(messages, true)?,
            PromptRow::Ids(ids) => {
                self.known(place, "prompt_ids", ids)?;
                ids.clone()
            }
        };
        if ids.is_empty() { Err(self.error(place, "", "has no tokens".to_owned())) } else { Ok(ids) }
    }

    /// The ids of a prompt that is to be answered.
    ///
    /// # Errors
    /// The tokenizer's and the template's.
    pub fn prompt(source: &'a Source, prompt: &Text) -> Result<Vec<u32>, TextError> {
        let encoder = Self::new(source, Path::new("prompt"), Scored::default(), usize::MAX);
        match prompt {
            Text::Plain(text) => encoder.plain(text),
            Text::Chat(messages) => encoder.rendered(messages, true),
        }
    }

    /// A conversation of which the assistant's turns behind the first `start` ids are scored.
    fn spoken(&self, place: Place, messages: &[Message], start: usize) -> Result<Sequence, TextError> {
        let turns = turns(self.source, messages, self.limit)?;
        let mut scored = vec![false; turns.ids.len()];
        for span in turns.spoken {
            let end = self.stop(place, &turns.ids, span.clone())?;
            scored[span.start..if turns.marked { span.end } else { end }].fill(true);
        }
        Ok(Sequence::new(turns.ids, |position| position >= start && scored[position]))
    }

    /// Length of the prompt, and ids of prompt and completion together.
    fn joined(&self, place: Place, prompt: &Text, completion: Text) -> Result<(usize, Vec<u32>), TextError> {
        let (prompt, whole) = match (prompt, completion) {
            (Text::Plain(prompt), Text::Plain(completion)) => {
                (self.plain(prompt)?, self.plain(&(prompt.clone() + &self.ended(completion)?))?)
            }
            (Text::Chat(prompt), Text::Chat(completion)) => {
                let whole: Vec<Message> = prompt.iter().cloned().chain(completion).collect();
                let (prompt, ids) = (self.rendered(prompt, true)?, self.rendered(&whole, false)?);
                self.ends(place, &whole, &ids, prompt.len().min(ids.len())..ids.len())?;
                (prompt, ids)
            }
            _ => {
                let message = "must be strings or lists of messages alike".to_owned();
                return Err(self.error(place, "prompt", message));
            }
        };
        Ok((prompt.len().min(whole.len()), whole))
    }

    /// The text with the end-of-sequence token at its end.
    fn ended(&self, text: String) -> Result<String, TextError> {
        let tokenizer = self.source.tokenizer()?;
        let end = self.source.special().eos.and_then(|id| tokenizer.token(id));
        let end = end.ok_or_else(|| TextError::NoEnd(self.source.path().to_owned()))?;
        Ok(if text.ends_with(&end) { text } else { text + &end })
    }

    /// Refuses a conversation whose last turn, by the assistant, does not end as generation does.
    fn ends(&self, place: Place, messages: &[Message], ids: &[u32], span: Range<usize>) -> Result<(), TextError> {
        let assistant = messages.last().is_some_and(|last| last.role == "assistant");
        if assistant && !span.is_empty() { self.stop(place, ids, span).map(drop) } else { Ok(()) }
    }

    /// The end of the last token in a span that generation stops at; nothing but spaces may follow it there.
    fn stop(&self, place: Place, ids: &[u32], span: Range<usize>) -> Result<usize, TextError> {
        let tokenizer = self.source.tokenizer()?;
        let stop = &self.source.special().stop;
        let end = span.clone().rev().find(|&position| stop.contains(&ids[position])).map(|last| last + 1);
        match end {
            Some(end) if tokenizer.decode(&ids[end..span.end], false)?.trim().is_empty() => Ok(end),
            _ => {
                let token = |&id: &u32| tokenizer.token(id).unwrap_or_else(|| id.to_string());
                let space = |&&id: &&u32| tokenizer.decode(&[id], false).is_ok_and(|text| text.trim().is_empty());
                let found = ids[span.clone()].iter().rev().find(|id| !space(id)).unwrap_or(&ids[span.end - 1]);
                let stop: Vec<String> = stop.iter().map(token).collect();
                Err(TextError::Unended {
                    path: self.path.to_owned(),
                    place,
                    found: token(found),
                    stop: stop.join(", "),
                })
            }
        }
    }

    fn plain(&self, text: &str) -> Result<Vec<u32>, TextError> {
        Ok(self.source.tokenizer()?.encode(text, true)?)
    }

    fn rendered(&self, messages: &[Message], generation_prompt: bool) -> Result<Vec<u32>, TextError> {
        let text = self.source.chat_template()?.render(messages, generation_prompt)?;
        Ok(self.source.tokenizer()?.encode(&text, false)?)
    }

    fn known(&self, place: Place, key: &str, ids: &[u32]) -> Result<(), TextError> {
        let vocab = self.source.network().vocab();
        match ids.iter().find(|&&id| id as usize >= vocab) {
            None => Ok(()),
            Some(id) => Err(self.error(place, key, format!("holds an id outside the vocabulary of {vocab}: {id}"))),
        }
    }

    fn error(&self, place: Place, key: &str, message: String) -> TextError {
        TextError::Row { path: self.path.to_owned(), place, key: key.to_owned(), message, choice: false }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::models::village;

    const CHATML: &str = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}\
        {% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

    /// The base that ships with ftk, with a template of the test's.
    fn base(template: &str) -> (tempfile::TempDir, Source) {
        let folder = tempfile::tempdir().unwrap();
        village::unpack(folder.path()).unwrap();
        let path = folder.path().join("base/tokenizer_config.json");
        let mut config: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        config["chat_template"] = template.into();
        std::fs::write(&path, config.to_string()).unwrap();
        let source = Source::open(&folder.path().join("base")).unwrap();
        (folder, source)
    }

    fn chat(turns: &[(&str, &str)]) -> Vec<Message> {
        turns.iter().map(|&(role, text)| Message { role: role.to_owned(), content: text.to_owned() }).collect()
    }

    fn sft(source: &Source, scored: Scored, row: SftRow) -> Result<Sequence, String> {
        let encoder = Encoder::new(source, Path::new("r.jsonl"), scored, 1024);
        encoder.sft(Place::Line(2), row).map_err(|error| error.to_string())
    }

    /// The stretches of a sequence that are scored, as text.
    fn heard(source: &Source, sequence: &Sequence) -> Vec<String> {
        let (mut texts, mut start) = (Vec::new(), 0);
        for stretch in sequence.scored.chunk_by(|a, b| a == b) {
            let ids = &sequence.ids[start..start + stretch.len()];
            start += stretch.len();
            if stretch[0] {
                texts.push(source.tokenizer().unwrap().decode(ids, false).unwrap());
            }
        }
        texts
    }

    fn talk() -> Vec<Message> {
        chat(&[("user", "Where?"), ("assistant", "At the gate."), ("user", "Who?"), ("assistant", "Iris, é.")])
    }

    #[test]
    fn every_turn_of_the_assistant_is_scored_up_to_the_token_that_ends_it() {
        let (_folder, source) = base(CHATML);
        let row = sft(&source, Scored::Assistant, SftRow::Whole(Text::Chat(talk()))).unwrap();
        assert_eq!(heard(&source, &row), ["At the gate.<|im_end|>", "Iris, é.<|im_end|>"]);
        let whole = sft(&source, Scored::Completion, SftRow::Whole(Text::Chat(talk()))).unwrap();
        assert_eq!(whole.ids, row.ids);
        assert_eq!(whole.items(), row.ids.len() - 1);
    }

    #[test]
    fn marks_of_the_template_say_what_is_scored() {
        let marks = CHATML.replace(
            "{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}",
            "{{ '<|im_start|>' + m.role + '\n' }}{% if m.role == 'assistant' and not loop.last %}\
             {% generation %}{{ m.content + '<|im_end|>\n' }}{% endgeneration %}\
             {% else %}{{ m.content + '<|im_end|>\n' }}{% endif %}",
        );
        assert_ne!(marks, CHATML);
        let (_folder, source) = base(&marks);
        let row = sft(&source, Scored::Assistant, SftRow::Whole(Text::Chat(talk()))).unwrap();
        assert_eq!(heard(&source, &row), ["At the gate.<|im_end|>\n"]);
        let (_other, plain) = base(CHATML);
        assert_eq!(row.ids, sft(&plain, Scored::All, SftRow::Whole(Text::Chat(talk()))).unwrap().ids);
    }

    #[test]
    fn of_prompt_and_completion_the_part_is_scored_that_the_recipe_names() {
        let (_folder, source) = base(CHATML);
        let (prompt, completion) = (talk()[..3].to_vec(), talk()[3..].to_vec());
        let row = || SftRow::Completion(Text::Chat(prompt.clone()), Text::Chat(completion.clone()));
        let scored = |scored| heard(&source, &sft(&source, scored, row()).unwrap());
        assert_eq!(scored(Scored::Completion), ["Iris, é.<|im_end|>\n"]);
        assert_eq!(scored(Scored::Assistant), ["Iris, é.<|im_end|>"]);
        let all = sft(&source, Scored::All, row()).unwrap();
        assert_eq!(all.items(), all.ids.len() - 1);
    }

    #[test]
    fn plain_completions_get_the_token_that_ends_them_and_have_no_turns() {
        let (_folder, source) = base(CHATML);
        let text = |text: &str| Text::Plain(text.to_owned());
        let row = || SftRow::Completion(text("Where?"), text(" At the gate."));
        let whole = sft(&source, Scored::Completion, row()).unwrap();
        assert_eq!(heard(&source, &whole), [" At the gate.<|im_end|>"]);
        let error = sft(&source, Scored::Assistant, row()).unwrap_err();
        assert_eq!(error, "r.jsonl:2: has no turns, of which data.loss = \"assistant\" scores the assistant's");
    }

    #[test]
    fn turns_that_generation_would_not_end_are_refused_with_the_token_that_ends_them() {
        let unended = CHATML.replace("<|im_end|>\n", "|\n");
        assert_ne!(unended, CHATML);
        let (_folder, source) = base(&unended);
        let message = "r.jsonl:2: generation stops at <|im_end|>, but the assistant's turn ends with: ";
        for scored in [Scored::Completion, Scored::Assistant, Scored::All] {
            let error = sft(&source, scored, SftRow::Whole(Text::Chat(talk()))).unwrap_err();
            assert!(error.starts_with(message) && error.ends_with('|'), "{error}");
        }
        let (prompt, other) = (Text::Chat(talk()[..1].to_vec()), Text::Chat(chat(&[("assistant", "No.")])));
        let pair = PairRow::Text(prompt, Text::Chat(talk()[1..2].to_vec()), other);
        let encoder = Encoder::new(&source, Path::new("r.jsonl"), Scored::Completion, 1024);
        assert!(encoder.pair(Place::Line(2), pair).unwrap_err().to_string().starts_with(message));
        // Nothing is promised about what a user says.
        assert!(sft(&source, Scored::All, SftRow::Whole(Text::Chat(talk()[..1].to_vec()))).is_ok());
        // An end-of-turn token in the middle is no end.
        let middle = CHATML.replace("<|im_end|>\n", "<|im_end|> and so on");
        let (_folder, source) = base(&middle);
        let error = sft(&source, Scored::Completion, SftRow::Whole(Text::Chat(talk()))).unwrap_err();
        assert!(error.starts_with(message), "{error}");
    }

    #[test]
    fn a_template_that_rewrites_earlier_turns_is_refused_unless_it_marks_them() {
        let (_folder, source) = base(&("{{ messages | length }}".to_owned() + CHATML));
        let error = sft(&source, Scored::Assistant, SftRow::Whole(Text::Chat(talk()))).unwrap_err();
        assert_eq!(error, "the chat template neither marks the assistant's turns nor appends them one by one");
        assert!(sft(&source, Scored::Completion, SftRow::Whole(Text::Chat(talk()))).is_ok());
    }

    #[test]
    fn turns_behind_the_limit_are_not_looked_for_but_the_first() {
        let (_folder, source) = base(CHATML);
        for limit in [1, 4] {
            let found = turns(&source, &talk(), limit).unwrap();
            assert_eq!(found.spoken.len(), 1, "{limit}");
        }
        assert_eq!(turns(&source, &talk(), 1024).unwrap().spoken.len(), 2);
    }
}
