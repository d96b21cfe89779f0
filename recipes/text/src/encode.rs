//! Rows to token ids, with the positions that are scored. The conventions are TRL's: prompt and
//! completion are tokenised jointly and parted where the prompt's own tokens end, or the last token that both begin
//! with; plain completions end with the end-of-sequence token; conversations end as their template ends them, which
//! must be with a token that generation stops at.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use ftk_bases::{BaseModel, Message};
use ftk_recipes::Scored;
use serde_json::Value;

use super::error::{OTHERWISE, TextError};
use super::place::RowPlace;
use super::rows::{Chat, PairRow, PlainText, PromptRow, SftRow, UnpairedRow};
use super::turn::{NO_ROLE, THOUGHTS, empty, mark};
use super::turns::{Turns, turns};

/// Token ids of which some are scored: one text, or several that share a row and nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScoredSequence {
    /// The ids.
    pub ids: Vec<u32>,
    /// Whether the loss looks at the prediction of each id. The first of a text is never predicted.
    pub scored: Vec<bool>,
    /// Ids of each text; together all ids.
    lengths: Vec<usize>,
}

impl ScoredSequence {
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
    pub chosen: ScoredSequence,
    /// Prompt and rejected completion.
    pub rejected: ScoredSequence,
}

/// A completion of which is known whether it is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unpaired {
    /// Ids before the completion.
    pub prompt: usize,
    /// Prompt and completion.
    pub own: ScoredSequence,
    /// Whether it is wanted.
    pub wanted: bool,
}

/// Turns rows of one file into ids, whatever their length.
#[derive(Debug)]
pub struct Encoder<'a> {
    source: &'a BaseModel,
    path: &'a Path,
    scored: Scored,
    limit: usize,
    parted: AtomicUsize,
    begun: AtomicUsize,
    blank: AtomicUsize,
    shortened: AtomicUsize,
    own: AtomicUsize,
    others: AtomicUsize,
    /// Whether the template, with tools or without, writes turns of a role, where that was asked.
    written: Mutex<BTreeMap<(bool, String), bool>>,
}

/// Text that is handed to the tokenizer as it is.
struct Plain {
    ids: Vec<u32>,
    /// Whether it begins with the token that the tokenizer would have put there.
    begun: bool,
}

/// A prompt and a completion as one text.
struct Joined {
    /// Ids that the prompt and the whole begin with.
    prompt: usize,
    /// All ids.
    ids: Vec<u32>,
    /// Whether the prompt alone has more ids.
    parted: bool,
    /// As [`Plain::begun`].
    begun: bool,
}

impl<'a> Encoder<'a> {
    /// For rows of the file at `path`; `scored` says what of a row for supervised fine-tuning is. Turns beyond `limit`
    /// ids may be left unscored.
    pub fn new(source: &'a BaseModel, path: &'a Path, scored: Scored, limit: usize) -> Self {
        let none = AtomicUsize::default;
        Self {
            source,
            path,
            scored,
            limit,
            parted: none(),
            begun: none(),
            blank: none(),
            shortened: none(),
            own: none(),
            others: none(),
            written: Mutex::default(),
        }
    }

    /// The file of the rows.
    pub fn path(&self) -> &'a Path {
        self.path
    }

    /// Tokens that the base was trained to read at once.
    pub fn context(&self) -> usize {
        self.source.network().context()
    }

    /// Rows so far whose prompt, alone, ends with ids that it does not have before its answer: they are scored from the
    /// last id that both begin with.
    pub fn parted(&self) -> usize {
        self.parted.load(Ordering::Relaxed)
    }

    /// Rows so far whose text begins with the token that the tokenizer puts there, which is not doubled.
    pub fn begun(&self) -> usize {
        self.begun.load(Ordering::Relaxed)
    }

    /// Rows so far with an answer of nothing but white space.
    pub fn blank(&self) -> usize {
        self.blank.load(Ordering::Relaxed)
    }

    /// Rows so far of which the template leaves a part of what the assistant says out, such as thoughts in earlier turns.
    pub fn shortened(&self) -> usize {
        self.shortened.load(Ordering::Relaxed)
    }

    /// Characters that the assistant says, and that others say, in the conversations so far of which everything is
    /// scored though nobody asked for that (`data.loss` is "completion", and they have none).
    pub fn said(&self) -> (usize, usize) {
        (self.own.load(Ordering::Relaxed), self.others.load(Ordering::Relaxed))
    }

    /// A row for supervised fine-tuning.
    ///
    /// # Errors
    /// An id outside the vocabulary; turns that do not end as generation does, or cannot be told; the tokenizer's and
    /// the template's.
    pub fn sft(&self, place: RowPlace, row: SftRow) -> Result<ScoredSequence, TextError> {
        if let SftRow::Ids(ids, labels) = row {
            self.known(place, "input_ids", &ids)?;
            let scored = |position: usize| labels.as_ref().is_none_or(|labels| labels[position] >= 0);
            self.unpadded(place, "input_ids", &ids, scored)?;
            return Ok(ScoredSequence::new(ids, scored));
        }
        match &row {
            SftRow::Completion(_, answer) | SftRow::Whole(answer) => self.weigh(&[answer]),
            SftRow::Ids(..) => {}
        }
        match (row, self.scored) {
            (SftRow::Whole(PlainText::Chat(chat)), Scored::Assistant) => self.spoken(place, &chat, 0),
            (SftRow::Completion(PlainText::Chat(prompt), PlainText::Chat(completion)), Scored::Assistant) => {
                let Joined { prompt: start, parted, .. } = self.answered(place, &prompt, &completion)?;
                self.parted.fetch_add(usize::from(parted), Ordering::Relaxed);
                self.spoken(place, &whole(&prompt, &completion), start)
            }
            (_, Scored::Assistant) => Err(TextError::NoTurns { path: self.path.to_owned(), place }),
            (SftRow::Completion(prompt, completion), scored) => {
                if let (PlainText::Chat(prompt), Scored::All) = (&prompt, scored) {
                    self.unmarked(place, &prompt.messages)?;
                }
                let row = self.joined(place, &prompt, &completion)?;
                self.count(&[&row]);
                Ok(ScoredSequence::new(row.ids, |position| scored == Scored::All || position >= row.prompt))
            }
            (SftRow::Whole(PlainText::Chat(chat)), scored) => {
                self.unmarked(place, &chat.messages)?;
                if scored == Scored::Completion {
                    self.count_said(&chat.messages);
                }
                self.roles(place, &chat)?;
                let text = self.source.chat_template()?.render(&chat.messages, &chat.tools, false)?;
                self.compare(&chat.messages, &text);
                let ids = self.source.tokenizer()?.encode(&text, false)?;
                self.ends(place, &chat.messages, &ids, 0..ids.len())?;
                Ok(ScoredSequence::new(ids, |_| true))
            }
            (SftRow::Whole(PlainText::Plain(text)), _) => {
                let Plain { ids, begun } = self.plain(&self.ended(text)?)?;
                self.begun.fetch_add(usize::from(begun), Ordering::Relaxed);
                Ok(ScoredSequence::new(ids, |_| true))
            }
            (SftRow::Ids(..), _) => unreachable!("returned above"),
        }
    }

    /// A preference row.
    ///
    /// # Errors
    /// As [`Encoder::sft`].
    pub fn pair(&self, place: RowPlace, row: PairRow) -> Result<Pair, TextError> {
        let (prompt, chosen, rejected) = match row {
            PairRow::Text(prompt, chosen, rejected) => {
                self.weigh(&[&chosen, &rejected]);
                let (chosen, rejected) =
                    (self.joined(place, &prompt, &chosen)?, self.joined(place, &prompt, &rejected)?);
                self.count(&[&chosen, &rejected]);
                (chosen.prompt.min(rejected.prompt), chosen.ids, rejected.ids)
            }
            PairRow::Ids([prompt, chosen, rejected]) => {
                for (key, ids) in [("prompt_ids", &prompt), ("chosen_ids", &chosen), ("rejected_ids", &rejected)] {
                    self.known(place, key, ids)?;
                    self.unpadded(place, key, ids, |_| true)?;
                }
                (prompt.len(), [prompt.clone(), chosen].concat(), [prompt, rejected].concat())
            }
        };
        let sequence = |ids| ScoredSequence::new(ids, |position| position >= prompt);
        Ok(Pair { prompt, chosen: sequence(chosen), rejected: sequence(rejected) })
    }

    /// A completion alone.
    ///
    /// # Errors
    /// As [`Encoder::sft`].
    pub fn unpaired(&self, place: RowPlace, row: UnpairedRow) -> Result<Unpaired, TextError> {
        let (prompt, ids, wanted) = match row {
            UnpairedRow::Text(prompt, completion, wanted) => {
                self.weigh(&[&completion]);
                let row = self.joined(place, &prompt, &completion)?;
                self.count(&[&row]);
                (row.prompt, row.ids, wanted)
            }
            UnpairedRow::Ids([prompt, completion], wanted) => {
                for (key, ids) in [("prompt_ids", &prompt), ("completion_ids", &completion)] {
                    self.known(place, key, ids)?;
                    self.unpadded(place, key, ids, |_| true)?;
                }
                (prompt.len(), [prompt, completion].concat(), wanted)
            }
        };
        Ok(Unpaired { prompt, own: ScoredSequence::new(ids, |position| position >= prompt), wanted })
    }

    /// The ids of a row that asks something.
    ///
    /// # Errors
    /// An id outside the vocabulary, no ids at all; the tokenizer's and the template's.
    pub fn asked(&self, place: RowPlace, row: &PromptRow) -> Result<Vec<u32>, TextError> {
        let ids = match row {
            PromptRow::Text(PlainText::Plain(text)) => self.plain(text)?.ids,
            PromptRow::Text(PlainText::Chat(chat)) => {
                self.roles(place, chat)?;
                self.rendered(chat, true)?
            }
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
    pub fn prompt(source: &'a BaseModel, prompt: &PlainText) -> Result<Vec<u32>, TextError> {
        let encoder = Self::new(source, Path::new("prompt"), Scored::default(), usize::MAX);
        match prompt {
            PlainText::Plain(text) => Ok(encoder.plain(text)?.ids),
            PlainText::Chat(chat) => encoder.rendered(chat, true),
        }
    }

    /// A conversation of which the assistant's turns behind the first `start` ids are scored, but for those that are
    /// marked as unscored.
    fn spoken(&self, place: RowPlace, chat: &Chat, start: usize) -> Result<ScoredSequence, TextError> {
        self.roles(place, chat)?;
        let Turns { text, ids, spoken, marked } = turns(self.source, chat, self.limit)?;
        self.compare(&chat.messages, &text);
        let assistant = |message: &&Message| message.role() == "assistant";
        let left_out = chat
            .messages
            .iter()
            .filter(assistant)
            .map(|message| Ok(self.mark(place, message)?.is_some_and(|(_, scored)| !scored)))
            .collect::<Result<Vec<bool>, TextError>>()?;
        for message in chat.messages.iter().filter(|message| !assistant(message)) {
            if let Some((field @ ("train" | "training"), true)) = self.mark(place, message)? {
                let message = format!(
                    "is not the assistant's turn, which data.loss = \"assistant\" scores alone: {}",
                    message.role()
                );
                return Err(self.error(place, field, message));
            }
        }
        if left_out.contains(&true) && marked && spoken.len() != left_out.len() {
            let message = format!(
                "leaves turns unscored, but the chat template marks {} of {} turns, so that they cannot be told apart",
                spoken.len(),
                left_out.len()
            );
            return Err(self.error(place, "", message));
        }
        let mut scored = vec![false; ids.len()];
        for (span, left_out) in spoken.into_iter().zip(left_out.iter().copied().chain(std::iter::repeat(false))) {
            if span.is_empty() {
                continue;
            }
            let end = self.stop(place, &ids, span.clone())?;
            if !left_out {
                scored[span.start..if marked { span.end } else { end }].fill(true);
            }
        }
        Ok(ScoredSequence::new(ids, |position| position >= start && scored[position]))
    }

    /// What a turn says about its being scored.
    fn mark(&self, place: RowPlace, message: &Message) -> Result<Option<(&'static str, bool)>, TextError> {
        mark(message).map_err(|(field, reason)| self.error(place, field, reason))
    }

    /// Refuses turns that are marked as unscored where all of them would be scored.
    fn unmarked(&self, place: RowPlace, messages: &[Message]) -> Result<(), TextError> {
        for message in messages {
            if let Some((field, false)) = self.mark(place, message)? {
                let message = "leaves a turn unscored, which data.loss = \"assistant\" alone can do".to_owned();
                return Err(self.error(place, field, message));
            }
        }
        Ok(())
    }

    /// Counts a row of which an answer is nothing but white space.
    fn weigh(&self, answers: &[&PlainText]) {
        let blank = |answer: &&PlainText| match answer {
            PlainText::Plain(text) => text.trim().is_empty(),
            PlainText::Chat(chat) => chat.messages.last().is_some_and(|last| {
                let calls = last.field("tool_calls").is_some_and(|calls| !empty(calls));
                last.role() == "assistant" && !calls && last.content().is_some_and(|text| text.trim().is_empty())
            }),
        };
        self.blank.fetch_add(usize::from(answers.iter().any(blank)), Ordering::Relaxed);
    }

    /// Counts a row of which the template writes a part of an answer not at all. White space is a template's own business.
    fn compare(&self, messages: &[Message], text: &str) {
        let bare = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<String>();
        let turns = messages.iter().filter(|turn| turn.role() == "assistant");
        let answers: Vec<[Option<&str>; 2]> = turns
            .map(|turn| {
                let thought = THOUGHTS.into_iter().find_map(|name| turn.field(name).and_then(Value::as_str));
                [thought, turn.content()]
            })
            .collect();
        let lost = !in_order(text, &answers, |part| part.trim().to_owned()) && !in_order(&bare(text), &answers, bare);
        self.shortened.fetch_add(usize::from(lost), Ordering::Relaxed);
    }

    /// Refuses turns that the template leaves out for their role, as nothing of what they say reaches the text.
    fn roles(&self, place: RowPlace, chat: &Chat) -> Result<(), TextError> {
        let tools = !chat.tools.is_empty();
        let template = self.source.chat_template()?.of(tools);
        let written = |role: &str| {
            let asked = (tools, role.to_owned());
            let known = self.written.lock().unwrap_or_else(PoisonError::into_inner).get(&asked).copied();
            known.unwrap_or_else(|| {
                let written = template.writes_role(role);
                self.written.lock().unwrap_or_else(PoisonError::into_inner).insert(asked, written);
                written
            })
        };
        for (turn, message) in chat.messages.iter().enumerate() {
            let role = message.role();
            let empty = message.content().is_none_or(|content| content.trim().is_empty());
            if empty || ["user", "assistant"].contains(&role) || written(role) {
                continue;
            }
            // A template that writes such turns beside others only may write this one; of one that does not even write
            // questions, nothing can be said.
            if written("user") && template.leaves_out(&chat.messages, &chat.tools, turn) {
                return Err(self.error(place, "", format!("{NO_ROLE}: {role}")));
            }
        }
        Ok(())
    }

    /// Counts what is odd about the texts of a row.
    fn count(&self, texts: &[&Joined]) {
        let any = |odd: fn(&Joined) -> bool| usize::from(texts.iter().any(|text| odd(text)));
        self.parted.fetch_add(any(|text| text.parted), Ordering::Relaxed);
        self.begun.fetch_add(any(|text| text.begun), Ordering::Relaxed);
    }

    /// Counts what is said by whom.
    fn count_said(&self, messages: &[Message]) {
        for message in messages {
            let count = if message.role() == "assistant" { &self.own } else { &self.others };
            count.fetch_add(message.content().map_or(0, |content| content.chars().count()), Ordering::Relaxed);
        }
    }

    /// Prompt and completion together.
    fn joined(&self, place: RowPlace, prompt: &PlainText, completion: &PlainText) -> Result<Joined, TextError> {
        match (prompt, completion) {
            (PlainText::Plain(prompt), PlainText::Plain(completion)) => {
                let whole = self.plain(&(prompt.clone() + &self.ended(completion.clone())?))?;
                let prompt = self.plain(prompt)?.ids;
                let equal = equal(&prompt, &whole.ids);
                Ok(Joined { prompt: equal, parted: equal < prompt.len(), ids: whole.ids, begun: whole.begun })
            }
            (PlainText::Chat(prompt), PlainText::Chat(completion)) => {
                self.unmarked(place, &completion.messages)?;
                let row = self.answered(place, prompt, completion)?;
                let all = whole(prompt, completion);
                self.ends(place, &all.messages, &row.ids, row.prompt..row.ids.len())?;
                Ok(row)
            }
            _ => {
                let message = "must be strings or lists of messages alike".to_owned();
                Err(self.error(place, "prompt", message))
            }
        }
    }

    /// A conversation that goes on, parted where the prompt ends. A template may end a prompt with more than it writes
    /// in front of an answer, such as an opened think block, but not write the prompt's turns otherwise.
    fn answered(&self, place: RowPlace, prompt: &Chat, completion: &Chat) -> Result<Joined, TextError> {
        let (template, tokenizer) = (self.source.chat_template()?, self.source.tokenizer()?);
        let all = whole(prompt, completion);
        self.roles(place, &all)?;
        let asked = template.render(&prompt.messages, &prompt.tools, true)?;
        let text = template.render(&all.messages, &all.tools, false)?;
        self.compare(&all.messages, &text);
        if !text.starts_with(&asked) {
            let shared = asked.char_indices().zip(text.chars()).find(|((_, a), b)| a != b);
            let shared = &asked[..shared.map_or(asked.len().min(text.len()), |((at, _), _)| at)];
            // The same words may stand further up: those of the last turn are the last ones.
            let last = prompt.messages.last().and_then(Message::content).map(str::trim);
            let end = last.and_then(|last| asked.rfind(last).map(|at| at + last.len()));
            if end.is_none_or(|end| end > shared.len()) {
                return Err(self.error(place, "", OTHERWISE.to_owned()));
            }
        }
        let (asked, ids) = (tokenizer.encode(&asked, false)?, tokenizer.encode(&text, false)?);
        let prompt = equal(&asked, &ids);
        Ok(Joined { prompt, parted: prompt < asked.len(), ids, begun: false })
    }

    /// The text with the end-of-sequence token at its end.
    fn ended(&self, text: String) -> Result<String, TextError> {
        let tokenizer = self.source.tokenizer()?;
        let end = self.source.special().eos.and_then(|id| tokenizer.token(id));
        let end = end.ok_or_else(|| TextError::NoEnd(self.source.path().to_owned()))?;
        // Text that a template rendered has it, and often a line break behind it.
        let ended = text.ends_with(&end) || (!end.trim().is_empty() && text.trim_end().ends_with(&end));
        Ok(if ended { text } else { text + &end })
    }

    /// Refuses a conversation whose last turn, by the assistant, does not end as generation does.
    fn ends(&self, place: RowPlace, messages: &[Message], ids: &[u32], span: Range<usize>) -> Result<(), TextError> {
        let assistant = messages.last().is_some_and(|last| last.role() == "assistant");
        if assistant && !span.is_empty() { self.stop(place, ids, span).map(drop) } else { Ok(()) }
    }

    /// The end of the last token in a span that generation stops at; nothing but spaces may follow it there.
    fn stop(&self, place: RowPlace, ids: &[u32], span: Range<usize>) -> Result<usize, TextError> {
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
                    special: tokenizer.is_special(*found),
                    stop: stop.join(", "),
                })
            }
        }
    }

    /// The ids of a text, with the tokenizer's own at its ends once.
    fn plain(&self, text: &str) -> Result<Plain, TextError> {
        let (tokenizer, special) = (self.source.tokenizer()?, self.source.special());
        let mut ids = tokenizer.encode(text, true)?;
        let twice = |pair: Option<&[u32]>| pair.filter(|pair| pair[0] == pair[1]).map(|pair| pair[0]);
        // Configurations need not name what the tokenizer adds.
        let added = || tokenizer.encode("", true);
        let mut begun = false;
        if let Some(id) = twice(ids.get(..2))
            && tokenizer.token(id).is_some_and(|token| text.starts_with(&token))
            && (special.bos == Some(id) || added()?.first() == Some(&id))
        {
            ids.remove(0);
            begun = true;
        }
        if let Some(id) = twice(ids.len().checked_sub(2).and_then(|start| ids.get(start..)))
            && tokenizer.token(id).is_some_and(|token| text.ends_with(&token))
            && (special.eos == Some(id) || added()?.get(1..).and_then(<[u32]>::last) == Some(&id))
        {
            ids.pop();
        }
        Ok(Plain { ids, begun })
    }

    fn rendered(&self, chat: &Chat, generation_prompt: bool) -> Result<Vec<u32>, TextError> {
        let text = self.source.chat_template()?.render(&chat.messages, &chat.tools, generation_prompt)?;
        Ok(self.source.tokenizer()?.encode(&text, false)?)
    }

    /// Refuses ids that are padding: several at the beginning, where they move all others, or several at the end that
    /// would be learnt. One alone may begin or end a text.
    fn unpadded(
        &self,
        place: RowPlace,
        key: &str,
        ids: &[u32],
        scored: impl Fn(usize) -> bool,
    ) -> Result<(), TextError> {
        let Some(pad) = self.source.special().pad else { return Ok(()) };
        let run = |ids: &mut dyn Iterator<Item = &u32>| ids.take_while(|&&id| id == pad).count();
        let (first, last) = (run(&mut ids.iter()), run(&mut ids.iter().rev()));
        if first > 1 || (ids.len() - last + 1..ids.len()).any(scored) {
            let message = "holds padding; take it away, or say in attention_mask where it stands".to_owned();
            return Err(self.error(place, key, message));
        }
        Ok(())
    }

    fn known(&self, place: RowPlace, key: &str, ids: &[u32]) -> Result<(), TextError> {
        let vocab = self.source.network().vocab();
        match ids.iter().find(|&&id| id as usize >= vocab) {
            None => Ok(()),
            Some(id) => Err(self.error(place, key, format!("holds an id outside the vocabulary of {vocab}: {id}"))),
        }
    }

    fn error(&self, place: RowPlace, key: &str, message: String) -> TextError {
        TextError::Row { path: self.path.to_owned(), place, key: key.to_owned(), message, choice: Vec::new() }
    }
}

/// Prompt and completion as one conversation.
fn whole(prompt: &Chat, completion: &Chat) -> Chat {
    let messages = [prompt.messages.as_slice(), &completion.messages].concat();
    Chat { messages, tools: prompt.tools.clone() }
}

/// Whether a text has these answers in their order, and behind the one before each what was thought for it; `form` is how
/// parts stand in the text.
fn in_order(text: &str, answers: &[[Option<&str>; 2]], form: impl Fn(&str) -> String) -> bool {
    let mut rest = text;
    answers.iter().all(|[thought, answer]| {
        let thought = thought.is_none_or(|thought| rest.contains(&form(thought)));
        let answer = answer.is_none_or(|answer| {
            let answer = form(answer);
            let end = rest.find(&answer).map(|at| at + answer.len());
            end.is_some_and(|end| {
                rest = &rest[end..];
                true
            })
        });
        thought && answer
    })
}

/// How many ids two lists begin with alike.
fn equal(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}
