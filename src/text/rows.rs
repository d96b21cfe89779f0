//! Rows of text by their columns: TRL's (`messages`, `text`, `prompt` and `completion`, `prompt`, `chosen` and
//! `rejected`), ShareGPT's (`conversations`), Alpaca's (`instruction`, `input`, `output`), or token ids.
//!
//! A row is read in one way only: columns that allow two readings are refused. A column or a field of a turn that has a
//! meaning in these formats is used or refused by its name; one without a meaning here is counted and named.
//! `recipes/ROWS.md` has the table. What the files look like is known to [`super::files`], what a turn holds to
//! [`super::turn`].

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::TextError;
use super::files::{self, Object, Place};
use super::turn;
use crate::models::{ChatTemplate, Message};

/// A conversation for the chat template.
#[derive(Clone, Debug, PartialEq)]
pub struct Chat {
    /// The turns.
    pub messages: Vec<Message>,
    /// Tools that the assistant may call, as the template reads them.
    pub tools: Vec<Value>,
}

impl From<Vec<Message>> for Chat {
    fn from(messages: Vec<Message>) -> Self {
        Self { messages, tools: Vec::new() }
    }
}

/// A string, or a conversation.
#[derive(Clone, Debug, PartialEq)]
pub enum Text {
    /// Taken as it is.
    Plain(String),
    /// Rendered by the model's chat template.
    Chat(Chat),
}

/// A row for supervised fine-tuning.
#[derive(Clone, Debug, PartialEq)]
pub enum SftRow {
    /// `text`, `messages` or `conversations`.
    Whole(Text),
    /// `prompt` and `completion`, or `instruction` and `output`.
    Completion(Text, Text),
    /// `input_ids` without padding, and `labels` where -100 marks a token that is not scored.
    Ids(Vec<u32>, Option<Vec<i64>>),
}

/// A preference row.
#[derive(Clone, Debug, PartialEq)]
pub enum PairRow {
    /// A prompt with a chosen and a rejected completion.
    Text(Text, Text, Text),
    /// `prompt_ids`, `chosen_ids`, `rejected_ids`.
    Ids([Vec<u32>; 3]),
}

/// A completion alone, and whether it is wanted.
#[derive(Clone, Debug, PartialEq)]
pub enum UnpairedRow {
    /// A prompt with a completion.
    Text(Text, Text, bool),
    /// `prompt_ids` and `completion_ids`.
    Ids([Vec<u32>; 2], bool),
}

/// A question alone; answers that the row has, too, are passed over.
#[derive(Clone, Debug, PartialEq)]
pub enum PromptRow {
    /// `prompt`, `instruction`, `text`, or `messages` or `conversations` up to the assistant's last turn.
    Text(Text),
    /// `prompt_ids` or `input_ids`.
    Ids(Vec<u32>),
}

/// Columns with a meaning in the formats that are read or in their neighbours.
pub const COLUMNS: [&str; 44] = [
    "text",
    "messages",
    "conversations",
    "prompt",
    "completion",
    "instruction",
    "input",
    "output",
    "system",
    "history",
    "chosen",
    "rejected",
    "input_ids",
    "labels",
    "attention_mask",
    "completion_mask",
    "assistant_masks",
    "prompt_ids",
    "chosen_ids",
    "rejected_ids",
    "completion_ids",
    "label",
    "tools",
    // Never read: what they hold would be missing from the text, so that a row that has them is refused.
    "question",
    "query",
    "context",
    "response",
    "answer",
    "system_prompt",
    "reasoning_content",
    "reasoning",
    "thinking",
    "functions",
    "documents",
    "chat_template_kwargs",
    "position_ids",
    "prompt_input_ids",
    "chosen_input_ids",
    "rejected_input_ids",
    "images",
    "image",
    "videos",
    "audios",
    "audio",
];

/// Columns of answers, which a question is read without.
const ANSWERS: [&str; 12] = [
    "completion",
    "output",
    "chosen",
    "rejected",
    "labels",
    "label",
    "response",
    "answer",
    "chosen_ids",
    "rejected_ids",
    "completion_ids",
    "completion_mask",
];

/// What else than its columns says how a file is read.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The only columns to look at; all of [`COLUMNS`] if absent.
    pub columns: Option<Vec<String>>,
    /// What stands in the place of `{{name}}`, by name.
    pub replace: BTreeMap<String, String>,
    /// What will render conversations: fields of turns that it does not name are refused or counted.
    pub template: Option<ChatTemplate>,
}

/// Rows with their places.
#[derive(Clone, Debug)]
pub struct File<R> {
    /// The rows in order.
    pub rows: Vec<(Place, R)>,
    /// Names in double braces that were filled.
    pub filled: BTreeSet<String>,
    /// Names in double braces that were left as they are.
    pub open: BTreeSet<String>,
    /// Columns, and fields of turns as `messages[].name`, that nothing reads, with the rows that have them.
    pub unread: BTreeMap<String, usize>,
}

/// A row that can be read from columns.
pub trait Row: Sized {
    /// Columns that a row may have beside those that it is read from.
    const PASSED_OVER: &[&str];

    /// Reads the columns, or says which one is wrong.
    ///
    /// # Errors
    /// Columns that are missing, of the wrong type, or of two readings.
    fn read(columns: &Columns<'_>) -> Result<Self, TextError>;
}

/// Reads a file of rows in one of the formats of [`files::read`].
///
/// # Errors
/// An unreadable file, a column missing or of the wrong type, two possible readings, a column or field with a meaning
/// that would be lost, no rows.
pub fn read<R: Row>(path: &Path, options: &Options) -> Result<File<R>, TextError> {
    let known: Vec<&str> = match &options.columns {
        None => COLUMNS.to_vec(),
        Some(wanted) => {
            let known = |name: &String| COLUMNS.into_iter().find(|column| column == name);
            let column = |name| known(name).ok_or_else(|| TextError::Column { name: name.clone() });
            wanted.iter().map(column).collect::<Result<_, _>>()?
        }
    };
    let mut file = File { rows: Vec::new(), filled: BTreeSet::new(), open: BTreeSet::new(), unread: BTreeMap::new() };
    let others = files::read(path, &known, &mut |place, mut row| {
        row.retain(|_, value| !value.is_null());
        if options.columns.is_none() {
            for name in row.keys().filter(|name| !known.contains(&name.as_str())) {
                *file.unread.entry(name.clone()).or_default() += 1;
            }
        }
        row.retain(|name, _| known.contains(&name.as_str()));
        for value in row.values_mut() {
            fill(value, &options.replace, &mut file.filled, &mut file.open);
        }
        let columns = Columns::new(path, place, row, options.template.as_ref());
        let row = R::read(&columns)?;
        columns.rest(R::PASSED_OVER)?;
        for name in columns.unread.into_inner() {
            *file.unread.entry(name).or_default() += 1;
        }
        file.rows.push((place, row));
        Ok(())
    })?;
    if options.columns.is_none() {
        file.unread.extend(others.into_iter().map(|name| (name, file.rows.len())));
    }
    if file.rows.is_empty() { Err(TextError::NoRows(path.to_owned())) } else { Ok(file) }
}

/// Puts values in the place of `{{name}}` in every string, once: what is put in is not looked through again.
fn fill(
    value: &mut Value,
    replace: &BTreeMap<String, String>,
    filled: &mut BTreeSet<String>,
    open: &mut BTreeSet<String>,
) {
    match value {
        Value::String(text) if text.contains("{{") => {
            let mut result = String::with_capacity(text.len());
            let mut rest = text.as_str();
            while let Some(start) = rest.find("{{") {
                let (before, slot) = rest.split_at(start);
                result.push_str(before);
                let letter = |c: char| c.is_ascii_alphanumeric() || c == '_';
                let name = &slot[2..slot[2..].find(|c| !letter(c)).map_or(slot.len(), |end| end + 2)];
                let closed = !name.is_empty() && slot[2 + name.len()..].starts_with("}}");
                rest = match closed.then_some(name) {
                    Some(name) => {
                        match replace.get(name) {
                            Some(value) => {
                                filled.insert(name.to_owned());
                                result.push_str(value);
                            }
                            None => {
                                open.insert(name.to_owned());
                                result.push_str(&slot[..name.len() + 4]);
                            }
                        }
                        &slot[name.len() + 4..]
                    }
                    None => {
                        result.push('{');
                        &slot[1..]
                    }
                };
            }
            result.push_str(rest);
            *text = result;
        }
        Value::Array(values) => values.iter_mut().for_each(|value| fill(value, replace, filled, open)),
        Value::Object(values) => values.values_mut().for_each(|value| fill(value, replace, filled, open)),
        _ => {}
    }
}

/// The columns of one row that are there and not null.
pub struct Columns<'a> {
    path: &'a Path,
    place: Place,
    row: Object,
    template: Option<&'a ChatTemplate>,
    /// Columns that were read.
    used: RefCell<BTreeSet<String>>,
    /// Columns and fields without a reader.
    unread: RefCell<BTreeSet<String>>,
}

/// One way to read a row: columns it must have.
type Reading = &'static [&'static str];

impl<'a> Columns<'a> {
    fn new(path: &'a Path, place: Place, row: Object, template: Option<&'a ChatTemplate>) -> Self {
        Self { path, place, row, template, used: RefCell::default(), unread: RefCell::default() }
    }

    fn has(&self, key: &str) -> bool {
        self.row.contains_key(key)
    }

    fn error(&self, key: &str, message: impl Into<String>) -> TextError {
        let (path, place, key, message) = (self.path.to_owned(), self.place, key.to_owned(), message.into());
        TextError::Row { path, place, key, message, choice: false }
    }

    /// An error that goes away when fewer columns are read.
    fn choice(&self, key: &str, message: impl Into<String>) -> TextError {
        let (path, place, key, message) = (self.path.to_owned(), self.place, key.to_owned(), message.into());
        TextError::Row { path, place, key, message, choice: true }
    }

    /// The only one of these readings that the row allows.
    fn reading(&self, readings: &[Reading], needs: &str) -> Result<Reading, TextError> {
        let complete: Vec<Reading> =
            readings.iter().copied().filter(|reading| reading.iter().all(|key| self.has(key))).collect();
        match *complete {
            [one] => Ok(one),
            [first, second, ..] => {
                let message = format!("can be read in two ways: {}, or {}", first.join(" and "), second.join(" and "));
                Err(self.choice("", message))
            }
            [] => {
                let begun = readings.iter().find(|reading| reading.iter().any(|key| self.has(key)));
                let missing = begun.and_then(|reading| reading.iter().find(|key| !self.has(key)));
                Err(missing.map_or_else(|| self.error("", needs), |key| self.error(key, "is missing")))
            }
        }
    }

    /// Refuses columns with a meaning that were not read, but for those that are passed over and those whose text
    /// stands in what was read, too.
    fn rest(&self, passed_over: &[&str]) -> Result<(), TextError> {
        let used = self.used.borrow();
        for (name, value) in self.row.iter().filter(|(name, value)| !used.contains(*name) && !empty(value)) {
            let repeated = || {
                let text = value.as_str().map(str::trim);
                text.is_some_and(|text| self.row.iter().any(|(name, value)| used.contains(name) && says(value, text)))
            };
            if !passed_over.contains(&name.as_str()) && !repeated() {
                let read: Vec<&str> = used.iter().map(String::as_str).collect();
                let message =
                    format!("is not read beside {}, and the row would mean something else without it", read.join(", "));
                return Err(self.choice(name, message));
            }
            self.unread.borrow_mut().insert(name.clone());
        }
        Ok(())
    }

    /// The value of a column, which counts as read.
    fn value(&self, key: &str) -> Option<&Value> {
        let value = self.row.get(key)?;
        self.used.borrow_mut().insert(key.to_owned());
        Some(value)
    }

    fn get<T: DeserializeOwned>(&self, key: &str, what: &str) -> Result<T, TextError> {
        let value = self.value(key).ok_or_else(|| self.error(key, "is missing"))?;
        T::deserialize(value).map_err(|_| self.error(key, format!("must be {what}")))
    }

    fn ids(&self, key: &str) -> Result<Vec<u32>, TextError> {
        self.get(key, "a list of token ids")
    }

    fn string(&self, key: &str) -> Result<String, TextError> {
        self.get(key, "a string")
    }

    /// A string that may be absent or empty.
    fn optional(&self, key: &str) -> Result<Option<String>, TextError> {
        let text = if self.has(key) { self.string(key)? } else { String::new() };
        Ok((!text.is_empty()).then_some(text))
    }

    fn text(&self, key: &str) -> Result<Text, TextError> {
        match self.value(key) {
            Some(Value::String(text)) => Ok(Text::Plain(text.clone())),
            Some(Value::Array(turns)) => self.turns(key, turns).map(|turns| Text::Chat(turns.into())),
            _ => Err(self.error(key, "must be a string or a list of {role, content}")),
        }
    }

    /// Messages of a column behind the row's `system`, with its `tools`.
    fn chat(&self, key: &str) -> Result<Chat, TextError> {
        match self.value(key) {
            Some(Value::Array(turns)) => self.dressed(self.turns(key, turns)?),
            _ => Err(self.error(key, "must be a list of {role, content}")),
        }
    }

    /// A conversation with what the row says about it in other columns.
    fn dressed(&self, mut messages: Vec<Message>) -> Result<Chat, TextError> {
        if let Some(system) = self.optional("system")? {
            match messages.first().filter(|first| first.role() == "system") {
                None => messages.insert(0, Message::new("system", system)),
                Some(first) if first.content() == Some(&system) => {}
                Some(_) => return Err(self.choice("system", "differs from the system turn of the messages")),
            }
        }
        Ok(Chat { messages, tools: self.tools()? })
    }

    /// Tools: a list, or one written as a string.
    fn tools(&self) -> Result<Vec<Value>, TextError> {
        let wrong = || self.error("tools", "must be a list of tools, or such a list written as JSON in a string");
        let tools = match self.value("tools") {
            None => return Ok(Vec::new()),
            Some(Value::String(text)) if text.trim().is_empty() => return Ok(Vec::new()),
            Some(Value::String(text)) => serde_json::from_str(text).map_err(|_| wrong())?,
            Some(value) => value.clone(),
        };
        let tools = match tools {
            Value::Null => Vec::new(),
            Value::Array(tools) if tools.iter().all(Value::is_object) => tools,
            _ => return Err(wrong()),
        };
        match self.template {
            Some(template) if !tools.is_empty() && !template.mentions("tools") => Err(self
                .choice("tools", "the chat template writes no tools, and the row would mean something else without")),
            _ => Ok(tools),
        }
    }

    fn turns(&self, key: &str, turns: &[Value]) -> Result<Vec<Message>, TextError> {
        turns.iter().map(|turn| self.turn(key, turn)).collect()
    }

    fn turn(&self, key: &str, turn: &Value) -> Result<Message, TextError> {
        let (message, unread) = turn::read(turn, self.template).map_err(|message| self.error(key, message))?;
        self.unread.borrow_mut().extend(unread.into_iter().map(|field| format!("{key}[].{field}")));
        Ok(message)
    }

    /// Alpaca's question as messages: `system`, `history`, then `instruction` and `input` on lines of their own.
    fn instruction(&self) -> Result<Chat, TextError> {
        let mut messages = Vec::new();
        if self.has("history") {
            let history: Vec<[String; 2]> = self.get("history", "a list of [question, answer]")?;
            let turns = |[q, a]: [String; 2]| [Message::new("user", q), Message::new("assistant", a)];
            messages.extend(history.into_iter().flat_map(turns));
        }
        let parts = [Some(self.string("instruction")?).filter(|text| !text.is_empty()), self.optional("input")?];
        let question: Vec<String> = parts.into_iter().flatten().collect();
        messages.push(Message::new("user", question.join("\n")));
        self.dressed(messages)
    }

    /// A completion of messages: a list of them, one alone, or what the assistant says.
    fn answer(&self, key: &str) -> Result<Vec<Message>, TextError> {
        match self.value(key) {
            Some(Value::String(text)) => Ok(vec![Message::new("assistant", text)]),
            Some(turn @ Value::Object(_)) => Ok(vec![self.turn(key, turn)?]),
            Some(Value::Array(turns)) => self.turns(key, turns),
            _ => Err(self.error(key, "must be a string, a message or a list of messages")),
        }
    }

    /// A prompt of messages gets the row's `system` and `tools`; a string has no place for them.
    fn prompt(&self) -> Result<Text, TextError> {
        match self.text("prompt")? {
            Text::Chat(chat) => self.dressed(chat.messages).map(Text::Chat),
            plain => Ok(plain),
        }
    }

    /// Token ids without padding, and their labels: what a mask leaves out is not scored.
    fn labelled(&self) -> Result<SftRow, TextError> {
        let mut ids = self.ids("input_ids")?;
        let mut labels: Option<Vec<i64>> =
            if self.has("labels") { Some(self.get("labels", "a list of integers")?) } else { None };
        let long = |key: &str, length: usize| match length == ids.len() {
            true => Ok(()),
            false => Err(self.error(key, "must be as long as input_ids")),
        };
        if let Some(labels) = &labels {
            long("labels", labels.len())?;
        }
        for key in ["completion_mask", "assistant_masks"] {
            if let Some(mask) = self.mask(key)? {
                long(key, mask.len())?;
                let labels = labels.get_or_insert_with(|| ids.iter().map(|&id| i64::from(id)).collect());
                labels.iter_mut().zip(mask).filter(|(_, shown)| !shown).for_each(|(label, _)| *label = -100);
            }
        }
        if let Some(at) = labels.as_ref().and_then(|labels| {
            labels.iter().zip(&ids).skip(1).position(|(&label, &id)| label >= 0 && label != i64::from(id))
        }) {
            let message = format!(
                "scores another id than the one at its place, which labels that were shifted do: position {}",
                at + 1
            );
            return Err(self.error("labels", message));
        }
        if let Some(mask) = self.mask("attention_mask")? {
            long("attention_mask", mask.len())?;
            let start = mask.iter().position(|shown| *shown).unwrap_or(mask.len());
            let end = mask.iter().rposition(|shown| *shown).map_or(start, |last| last + 1);
            if mask[start..end].contains(&false) {
                return Err(self.error("attention_mask", "hides ids between others, and not only padding at the ends"));
            }
            ids = ids[start..end].to_vec();
            labels = labels.map(|labels| labels[start..end].to_vec());
        }
        Ok(SftRow::Ids(ids, labels))
    }

    /// A list of zeros and ones.
    fn mask(&self, key: &str) -> Result<Option<Vec<bool>>, TextError> {
        if !self.has(key) {
            return Ok(None);
        }
        let bit = |value: &Value| match (value.as_bool(), value.as_u64()) {
            (Some(bit), _) => Some(bit),
            (None, Some(bit @ (0 | 1))) => Some(bit == 1),
            _ => None,
        };
        let values: Vec<Value> = self.get(key, "a list of 0 and 1")?;
        let bits = values.iter().map(bit).collect::<Option<Vec<bool>>>();
        bits.map(Some).ok_or_else(|| self.error(key, "must be a list of 0 and 1"))
    }
}

/// Whether a value is nothing that a model could read.
pub(super) fn empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(values) => values.is_empty(),
        Value::Object(values) => values.is_empty(),
        _ => false,
    }
}

/// Whether a text stands in one of the strings of a value.
fn says(value: &Value, text: &str) -> bool {
    match value {
        Value::String(whole) => whole.contains(text),
        Value::Array(values) => values.iter().any(|value| says(value, text)),
        Value::Object(values) => values.values().any(|value| says(value, text)),
        _ => false,
    }
}

impl Row for SftRow {
    const PASSED_OVER: &[&str] = &["label", "chosen", "rejected"];

    fn read(columns: &Columns<'_>) -> Result<Self, TextError> {
        const READINGS: [Reading; 6] = [
            &["input_ids"],
            &["messages"],
            &["conversations"],
            &["text"],
            &["prompt", "completion"],
            &["instruction", "output"],
        ];
        let reading = columns.reading(
            &READINGS,
            "needs text, messages, conversations, prompt and completion, instruction and output, or input_ids",
        )?;
        if matches!(columns.row.get("label"), Some(Value::Bool(_))) {
            let message = "says whether the answer is wanted, but sft learns every answer";
            return Err(columns.choice("label", message));
        }
        Ok(match reading[0] {
            "input_ids" => columns.labelled()?,
            key @ ("messages" | "conversations") => Self::Whole(Text::Chat(columns.chat(key)?)),
            "text" => Self::Whole(Text::Plain(columns.string("text")?)),
            "prompt" => {
                let (prompt, completion) = (columns.prompt()?, columns.text("completion")?);
                alike(columns, &prompt, &completion)?;
                Self::Completion(prompt, completion)
            }
            _ => {
                let answer = Message::new("assistant", columns.string("output")?);
                Self::Completion(Text::Chat(columns.instruction()?), Text::Chat(vec![answer].into()))
            }
        })
    }
}

impl Row for PromptRow {
    const PASSED_OVER: &[&str] = &ANSWERS;

    fn read(columns: &Columns<'_>) -> Result<Self, TextError> {
        const READINGS: [Reading; 7] = [
            &["prompt"],
            &["prompt_ids"],
            &["input_ids"],
            &["instruction"],
            &["text"],
            &["messages"],
            &["conversations"],
        ];
        let needs = "needs prompt, instruction, text, messages, conversations, prompt_ids or input_ids";
        let key = columns.reading(&READINGS, needs)?[0];
        match key {
            "prompt" => columns.prompt().map(Self::Text),
            "text" => columns.string(key).map(|text| Self::Text(Text::Plain(text))),
            "instruction" => columns.instruction().map(|chat| Self::Text(Text::Chat(chat))),
            "messages" | "conversations" => {
                let mut chat = columns.chat(key)?;
                while chat.messages.last().is_some_and(|last| last.role() == "assistant") {
                    chat.messages.pop();
                }
                if chat.messages.is_empty() {
                    Err(columns.error(key, "asks nothing"))
                } else {
                    Ok(Self::Text(Text::Chat(chat)))
                }
            }
            "input_ids" => match columns.labelled()? {
                SftRow::Ids(ids, _) => Ok(Self::Ids(ids)),
                _ => unreachable!("ids were read"),
            },
            _ => columns.ids(key).map(Self::Ids),
        }
    }
}

fn alike(columns: &Columns<'_>, prompt: &Text, other: &Text) -> Result<(), TextError> {
    match (prompt, other) {
        (Text::Plain(_), Text::Plain(_)) | (Text::Chat(_), Text::Chat(_)) => Ok(()),
        _ => Err(columns.error("prompt", "must be strings or lists of messages alike")),
    }
}

impl Row for PairRow {
    const PASSED_OVER: &[&str] = &["label", "messages", "completion"];

    fn read(columns: &Columns<'_>) -> Result<Self, TextError> {
        const PROMPTS: [&str; 3] = ["prompt", "conversations", "instruction"];
        if columns.has("prompt_ids") {
            columns.reading(&[&["prompt_ids"], &["chosen", "rejected"]], "")?;
            return Ok(Self::Ids([
                columns.ids("prompt_ids")?,
                columns.ids("chosen_ids")?,
                columns.ids("rejected_ids")?,
            ]));
        }
        let needs = "needs prompt, chosen and rejected, or prompt_ids, chosen_ids and rejected_ids";
        columns.reading(&[&["chosen", "rejected"]], needs)?;
        let found: Vec<&str> = PROMPTS.into_iter().filter(|key| columns.has(key)).collect();
        let answers = || Ok::<_, TextError>((columns.answer("chosen")?, columns.answer("rejected")?));
        let (prompt, chosen, rejected) = match *found {
            [] => {
                let (chosen, rejected) = (columns.text("chosen")?, columns.text("rejected")?);
                alike(columns, &chosen, &rejected)?;
                // What would be lost is named before what is missing.
                columns.rest(Self::PASSED_OVER)?;
                common(columns, chosen, rejected)?
            }
            ["prompt"] => {
                let prompt = columns.prompt()?;
                let (chosen, rejected) = (columns.text("chosen")?, columns.text("rejected")?);
                match (&prompt, &chosen, &rejected) {
                    // A string beside whole conversations repeats what these begin with.
                    (Text::Plain(text), Text::Chat(_), Text::Chat(_)) => {
                        let (prompt, chosen, rejected) = common(columns, chosen.clone(), rejected.clone())?;
                        match &prompt {
                            Text::Chat(chat) if chat.messages.iter().any(|turn| turn.content() == Some(text)) => {}
                            _ => {
                                return Err(columns.error("prompt", "is not among the messages of chosen and rejected"));
                            }
                        }
                        (prompt, chosen, rejected)
                    }
                    _ => {
                        alike(columns, &prompt, &chosen)?;
                        alike(columns, &prompt, &rejected)?;
                        (prompt, chosen, rejected)
                    }
                }
            }
            ["conversations"] => {
                let (chosen, rejected) = answers()?;
                (Text::Chat(columns.chat("conversations")?), Text::Chat(chosen.into()), Text::Chat(rejected.into()))
            }
            ["instruction"] => {
                let (chosen, rejected) = answers()?;
                (Text::Chat(columns.instruction()?), Text::Chat(chosen.into()), Text::Chat(rejected.into()))
            }
            [first, second, ..] => {
                return Err(
                    columns.choice("", format!("can be read in two ways, with the prompt in: {first}, {second}"))
                );
            }
            [_] => unreachable!("every prompt column is named above"),
        };
        Ok(Self::Text(prompt, chosen, rejected))
    }
}

impl Row for UnpairedRow {
    const PASSED_OVER: &[&str] = &["messages"];

    fn read(columns: &Columns<'_>) -> Result<Self, TextError> {
        const READINGS: [Reading; 3] =
            [&["prompt_ids", "completion_ids"], &["prompt", "completion"], &["instruction", "output"]];
        let needs = "needs prompt and completion, or prompt_ids and completion_ids, and label";
        let reading = columns.reading(&READINGS, needs)?;
        let wanted = columns.get("label", "true or false: whether the completion is wanted")?;
        Ok(match reading[0] {
            "prompt_ids" => Self::Ids([columns.ids("prompt_ids")?, columns.ids("completion_ids")?], wanted),
            "prompt" => {
                let (prompt, completion) = (columns.prompt()?, columns.text("completion")?);
                alike(columns, &prompt, &completion)?;
                Self::Text(prompt, completion, wanted)
            }
            _ => {
                let answer = columns.answer("output")?;
                Self::Text(Text::Chat(columns.instruction()?), Text::Chat(answer.into()), wanted)
            }
        })
    }
}

/// Parts the prompt from two wholes that begin with it, as TRL's `extract_prompt` does: the longest common prefix, of
/// messages or of characters, but for a space at its end; at least one message or character stays in each. Where two
/// texts have no more than one word in common, that is no prompt.
fn common(columns: &Columns<'_>, chosen: Text, rejected: Text) -> Result<(Text, Text, Text), TextError> {
    match (chosen, rejected) {
        (Text::Chat(Chat { messages: chosen, .. }), Text::Chat(Chat { messages: rejected, .. })) => {
            let equal = chosen.iter().zip(&rejected).take_while(|(a, b)| a == b).count();
            let length = equal.min(chosen.len().saturating_sub(1)).min(rejected.len().saturating_sub(1));
            if length == 0 {
                return Err(
                    columns.error("prompt", "is missing, and chosen and rejected do not begin with one message")
                );
            }
            let (prompt, chosen) = chosen.split_at(length);
            let chat = |messages: &[Message]| Text::Chat(messages.to_vec().into());
            Ok((Text::Chat(columns.dressed(prompt.to_vec())?), chat(chosen), chat(&rejected[length..])))
        }
        (Text::Plain(chosen), Text::Plain(rejected)) => {
            let differ = chosen.char_indices().zip(rejected.chars()).find(|((_, a), b)| a != b);
            let length = match differ {
                Some(((at, _), _)) if chosen[..at].ends_with(' ') => at - 1,
                Some(((at, _), _)) => at,
                None => {
                    let shorter = if chosen.len() < rejected.len() { &chosen } else { &rejected };
                    shorter.char_indices().next_back().map_or(0, |(last, _)| last)
                }
            };
            // Scripts that write words without spaces between begin behind the CJK radicals.
            let words = chosen[..length]
                .split_whitespace()
                .map(|word| word.chars().filter(|&c| c >= '\u{2E80}').count().max(1));
            if words.sum::<usize>() < 2 {
                let message =
                    "is missing, and chosen and rejected have no more than one word in common at their beginning";
                return Err(columns.error("prompt", message));
            }
            let text = |text: &str| Text::Plain(text.to_owned());
            Ok((text(&chosen[..length]), text(&chosen[length..]), text(&rejected[length..])))
        }
        _ => Err(columns.error("rejected", "must be a string or a list of messages, as chosen is")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn columns(row: &Value) -> Columns<'static> {
        let mut row = row.as_object().unwrap().clone();
        row.retain(|name, value| COLUMNS.contains(&name.as_str()) && !value.is_null());
        Columns::new(Path::new("r.jsonl"), Place::Line(3), row, None)
    }

    /// A row, and what of it is not read.
    fn whole<R: Row>(row: &Value) -> Result<(R, Vec<String>), String> {
        let columns = columns(row);
        let read = R::read(&columns).and_then(|row| columns.rest(R::PASSED_OVER).map(|()| row));
        let row = read.map_err(|error| error.to_string())?;
        Ok((row, columns.unread.into_inner().into_iter().collect()))
    }

    fn sft(row: Value) -> Result<SftRow, String> {
        whole(&row).map(|(row, _)| row)
    }

    fn pair(row: Value) -> Result<PairRow, String> {
        whole(&row).map(|(row, _)| row)
    }

    fn chat(turns: &[(&str, &str)]) -> Text {
        let messages: Vec<Message> = turns.iter().map(|&(role, text)| Message::new(role, text)).collect();
        Text::Chat(messages.into())
    }

    #[test]
    fn questions_are_read_without_their_answers() {
        let asked = |row: Value| whole::<PromptRow>(&row).map(|(row, _)| row);
        let question = || Ok(PromptRow::Text(chat(&[("user", "q")])));
        let turns = json!([{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]);
        assert_eq!(asked(json!({"messages": turns})), question());
        assert_eq!(asked(json!({"prompt": [turns[0]], "chosen": "a", "rejected": "b"})), question());
        assert_eq!(asked(json!({"instruction": "q", "output": "a"})), question());
        assert_eq!(asked(json!({"text": "t"})), Ok(PromptRow::Text(Text::Plain("t".to_owned()))));
        assert_eq!(asked(json!({"prompt_ids": [4, 5], "chosen_ids": [6]})), Ok(PromptRow::Ids(vec![4, 5])));
        let nothing = asked(json!({"messages": [{"role": "assistant", "content": "a"}]}));
        assert_eq!(nothing, Err("r.jsonl:3:messages: asks nothing".to_owned()));
        let two = asked(json!({"prompt": "q", "text": "t"}));
        assert_eq!(two, Err("r.jsonl:3: can be read in two ways: prompt, or text".to_owned()));
        assert!(asked(json!({"chosen": "a"})).unwrap_err().starts_with("r.jsonl:3: needs prompt"));
    }

    #[test]
    fn sharegpt_and_alpaca_are_read_as_conversations() {
        let row = json!({"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}],
                         "system": "s", "id": 7});
        let whole = chat(&[("system", "s"), ("user", "q"), ("assistant", "a")]);
        assert_eq!(sft(row).unwrap(), SftRow::Whole(whole));
        let row = json!({"instruction": "i", "input": "", "output": "o", "history": [["q", "a"]]});
        let prompt = chat(&[("user", "q"), ("assistant", "a"), ("user", "i")]);
        assert_eq!(sft(row).unwrap(), SftRow::Completion(prompt, chat(&[("assistant", "o")])));
        let row = json!({"instruction": "i", "input": "more", "output": "o", "system": null});
        let prompt = chat(&[("user", "i\nmore")]);
        assert_eq!(sft(row).unwrap(), SftRow::Completion(prompt, chat(&[("assistant", "o")])));
    }

    #[test]
    fn pairs_are_read_in_every_shape() {
        let answer = |text| chat(&[("assistant", text)]);
        let expected = PairRow::Text(chat(&[("user", "q")]), answer("y"), answer("n"));
        let (q, y, n) = (
            json!({"role": "user", "content": "q"}),
            json!({"role": "assistant", "content": "y"}),
            json!({"role": "assistant", "content": "n"}),
        );
        for row in [
            json!({"prompt": [q], "chosen": [y], "rejected": [n]}),
            json!({"chosen": [q, y], "rejected": [q, n], "messages": [q, y]}),
            json!({"prompt": "q", "chosen": [q, y], "rejected": [q, n]}),
            json!({"conversations": [{"from": "human", "value": "q"}], "chosen": {"from": "gpt", "value": "y"},
                   "rejected": {"from": "gpt", "value": "n"}}),
            json!({"instruction": "q", "input": "", "chosen": "y", "rejected": "n"}),
        ] {
            assert_eq!(pair(row.clone()).unwrap(), expected, "{row}");
        }
    }

    #[test]
    fn an_implicit_prompt_is_the_longest_common_prefix() {
        let split = |chosen: &str, rejected: &str| {
            pair(json!({"chosen": chosen, "rejected": rejected})).map(|row| match row {
                PairRow::Text(Text::Plain(p), Text::Plain(c), Text::Plain(r)) => [p, c, r],
                _ => panic!("{row:?}"),
            })
        };
        assert_eq!(split("The sky is blue", "The sky is green").unwrap(), ["The sky is", " blue", " green"]);
        assert_eq!(split("é àx", "é ày").unwrap(), ["é à", "x", "y"]);
        assert_eq!(split("a ab", "a abé").unwrap(), ["a a", "b", "bé"]);
        assert_eq!(split("the same", "the same").unwrap(), ["the sam", "e", "e"]);
        assert_eq!(split("天空是蓝", "天空是绿").unwrap(), ["天空是", "蓝", "绿"]);
        let none = "r.jsonl:3:prompt: is missing, and chosen and rejected have no more than one word in common at their beginning";
        for (chosen, rejected) in [("x", "y"), ("The Aller.", "The river"), ("same", "same")] {
            assert_eq!(split(chosen, rejected).unwrap_err(), none);
        }
        let turn = |role: &str, text: &str| json!({"role": role, "content": text});
        let [q, a, b] = [turn("user", "q"), turn("assistant", "a"), turn("user", "b")];
        let longer = pair(json!({"chosen": [q, a], "rejected": [q, a, b, a]})).unwrap();
        let (prompt, rejected) =
            (chat(&[("user", "q")]), chat(&[("assistant", "a"), ("user", "b"), ("assistant", "a")]));
        assert_eq!(longer, PairRow::Text(prompt, chat(&[("assistant", "a")]), rejected));
    }

    #[test]
    fn a_completion_alone_says_whether_it_is_wanted() {
        let read = |row: Value| whole::<UnpairedRow>(&row).map(|(row, _)| row);
        let plain = |text: &str| Text::Plain(text.to_owned());
        let row = json!({"prompt": "q", "completion": "a", "label": false});
        assert_eq!(read(row), Ok(UnpairedRow::Text(plain("q"), plain("a"), false)));
        let row = json!({"prompt_ids": [4], "completion_ids": [5, 6], "label": true});
        assert_eq!(read(row), Ok(UnpairedRow::Ids([vec![4], vec![5, 6]], true)));
        let row = json!({"instruction": "q", "output": "a", "label": true});
        let (prompt, answer) = (chat(&[("user", "q")]), chat(&[("assistant", "a")]));
        assert_eq!(read(row), Ok(UnpairedRow::Text(prompt, answer, true)));
        let refused = |row: Value| read(row).unwrap_err();
        assert_eq!(refused(json!({"prompt": "q", "completion": "a"})), "r.jsonl:3:label: is missing");
        let numbered = refused(json!({"prompt": "q", "completion": "a", "label": 1}));
        assert_eq!(numbered, "r.jsonl:3:label: must be true or false: whether the completion is wanted");
        assert_eq!(refused(json!({"prompt": "q", "label": true})), "r.jsonl:3:completion: is missing");
        assert!(refused(json!({"chosen": "q", "label": true})).starts_with("r.jsonl:3: needs prompt and completion"));
    }

    #[test]
    fn what_has_two_readings_or_none_is_refused_by_its_columns() {
        let turn = json!({"role": "user", "content": "q"});
        for (row, message) in [
            (json!({"text": "t", "messages": []}), ": can be read in two ways: messages, or text"),
            (
                json!({"instruction": "i", "output": "o", "text": "t"}),
                ": can be read in two ways: text, or instruction and output",
            ),
            (json!({"prompt": "p", "text": null}), ":completion: is missing"),
            (json!({"prompt": "p", "completion": [turn]}), ":prompt: must be strings or lists of messages alike"),
            (json!({"messages": [{"role": "user"}]}), ":messages: must be a list of {role, content}"),
            (
                json!({"conversations": [{"from": "narrator", "value": "v"}]}),
                ":conversations: from must be human, gpt, system, user, assistant, tool, observation or function_call: narrator",
            ),
            (
                json!({"messages": [{"role": "a", "content": 3, "tool_calls": [1]}]}),
                ":messages: must be a list of {role, content}",
            ),
            (
                json!({"text": "t", "images": ["i"]}),
                ":images: is not read beside text, and the row would mean something else without it",
            ),
            (
                json!({"text": "t", "label": false}),
                ":label: says whether the answer is wanted, but sft learns every answer",
            ),
        ] {
            assert_eq!(sft(row).unwrap_err(), format!("r.jsonl:3{message}"));
        }
        for (row, message) in [
            (json!({"chosen": "c"}), ":rejected: is missing"),
            (
                json!({"prompt": "p", "instruction": "i", "chosen": "c", "rejected": "r"}),
                ": can be read in two ways, with the prompt in: prompt, instruction",
            ),
            (
                json!({"prompt": "other", "chosen": [turn, turn], "rejected": [turn, {"role": "a", "content": "r"}]}),
                ":prompt: is not among the messages of chosen and rejected",
            ),
            (
                json!({"prompt": [turn], "chosen": "c", "rejected": "r"}),
                ":prompt: must be strings or lists of messages alike",
            ),
            (
                json!({"chosen": [turn], "rejected": [{"role": "a", "content": "r"}]}),
                ":prompt: is missing, and chosen and rejected do not begin with one message",
            ),
        ] {
            assert_eq!(pair(row).unwrap_err(), format!("r.jsonl:3{message}"));
        }
    }

    #[test]
    fn columns_of_known_formats_are_used_or_refused_by_their_names() {
        let turns = json!([{"role": "user", "content": "q"}, {"role": "assistant", "content": "r"}]);
        let row = sft(json!({"system": "s", "messages": turns})).unwrap();
        assert_eq!(row, SftRow::Whole(chat(&[("system", "s"), ("user", "q"), ("assistant", "r")])));
        let row = sft(json!({"system": "s", "prompt": [turns[0]], "completion": [turns[1]]})).unwrap();
        assert_eq!(row, SftRow::Completion(chat(&[("system", "s"), ("user", "q")]), chat(&[("assistant", "r")])));
        let lost = |key: &str, read: &str| {
            format!("r.jsonl:3:{key}: is not read beside {read}, and the row would mean something else without it")
        };
        for (row, key, read) in [
            (json!({"system": "s", "prompt": "q", "completion": "r"}), "system", "completion, prompt"),
            (json!({"input": "i", "prompt": "q", "completion": "r"}), "input", "completion, prompt"),
            (json!({"history": [["a", "b"]], "messages": turns}), "history", "messages"),
            (json!({"system": "s", "text": "t"}), "system", "text"),
            (json!({"prompt": "other", "messages": turns}), "prompt", "messages"),
            (json!({"context": "c", "instruction": "i", "output": "o"}), "context", "instruction, output"),
            (json!({"position_ids": [0, 0], "input_ids": [4, 5]}), "position_ids", "input_ids"),
            (json!({"functions": [{}], "messages": turns}), "functions", "messages"),
        ] {
            assert_eq!(sft(row).unwrap_err(), lost(key, read));
        }
        let pairs = "chosen, rejected";
        for (row, key) in [
            (json!({"system": "s", "question": "q", "chosen": "The a", "rejected": "The b"}), "system"),
            (json!({"question": "q", "chosen": "The a", "rejected": "The b"}), "question"),
            (json!({"input": "q", "chosen": "It is a", "rejected": "No"}), "input"),
        ] {
            assert_eq!(pair(row).unwrap_err(), lost(key, pairs));
        }
        let other = sft(json!({"system": "s", "messages": [{"role": "system", "content": "t"}, turns[0]]}));
        assert_eq!(other.unwrap_err(), "r.jsonl:3:system: differs from the system turn of the messages");
    }

    #[test]
    fn columns_that_repeat_what_is_read_or_hold_nothing_are_no_loss() {
        let turns = json!([{"role": "user", "content": "q"}, {"role": "assistant", "content": "r", "id": 3}]);
        let row = json!({"prompt": "q", "messages": turns, "input": "", "tools": "[]", "images": []});
        let (row, unread) = whole::<SftRow>(&row).unwrap();
        assert!(matches!(row, SftRow::Whole(_)));
        assert_eq!(unread, ["prompt"]);
        let read = |row: Value| whole::<SftRow>(&row).unwrap().1;
        assert_eq!(read(json!({"text": "Question: q", "question": "q", "label": 1})), ["label", "question"]);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("r.jsonl");
        std::fs::write(&path, "{\"text\": \"a\", \"id\": 1, \"x\": null}\n{\"text\": \"b\", \"id\": 2}\n").unwrap();
        let file = super::read::<SftRow>(&path, &Options::default()).unwrap();
        assert_eq!(file.unread, BTreeMap::from([("id".to_owned(), 2)]));
        let columns = Some(vec!["text".to_owned()]);
        let file = super::read::<SftRow>(&path, &Options { columns, ..Options::default() }).unwrap();
        assert_eq!(file.unread, BTreeMap::new());
    }

    #[test]
    fn ids_lose_their_padding_and_labels_stand_at_their_places() {
        let row = json!({"input_ids": [9, 9, 5, 6, 7, 9], "attention_mask": [0, 0, 1, 1, 1, 0],
                         "labels": [-100, -100, -100, 6, 7, -100]});
        assert_eq!(sft(row).unwrap(), SftRow::Ids(vec![5, 6, 7], Some(vec![-100, 6, 7])));
        let row = json!({"input_ids": [5, 6, 7], "completion_mask": [0, 1, 1], "assistant_masks": [0, 0, 1]});
        assert_eq!(sft(row).unwrap(), SftRow::Ids(vec![5, 6, 7], Some(vec![-100, -100, 7])));
        for (row, message) in [
            (
                json!({"input_ids": [5, 6, 7, 8], "labels": [6, 7, 8, -100]}),
                "labels: scores another id than the one at its place, which labels that were shifted do: position 1",
            ),
            (
                json!({"input_ids": [5, 6, 7], "attention_mask": [1, 0, 1]}),
                "attention_mask: hides ids between others, and not only padding at the ends",
            ),
            (json!({"input_ids": [5], "attention_mask": [1, 1]}), "attention_mask: must be as long as input_ids"),
            (json!({"input_ids": [5], "attention_mask": [2]}), "attention_mask: must be a list of 0 and 1"),
        ] {
            assert_eq!(sft(row).unwrap_err(), format!("r.jsonl:3:{message}"));
        }
    }

    #[test]
    fn instruction_and_input_are_joined_where_both_say_something() {
        let asked = |row: Value| match sft(row).unwrap() {
            SftRow::Completion(Text::Chat(chat), _) => chat.messages[0].content().unwrap().to_owned(),
            other => panic!("{other:?}"),
        };
        assert_eq!(asked(json!({"instruction": "", "input": "q", "output": "r"})), "q");
        assert_eq!(asked(json!({"instruction": "i", "input": "", "output": "r"})), "i");
        assert_eq!(asked(json!({"instruction": "i", "input": "q", "output": "r"})), "i\nq");
    }

    #[test]
    fn tools_reach_a_template_that_writes_them() {
        let turns = json!([{"role": "user", "content": "q"}]);
        let read = |tools: Value, template: &str| {
            let row = json!({"messages": turns, "tools": tools}).as_object().unwrap().clone();
            let template = ChatTemplate::new(template.to_owned(), &BTreeMap::new()).unwrap();
            let columns = Columns::new(Path::new("r.jsonl"), Place::Line(3), row, Some(&template));
            match SftRow::read(&columns).map_err(|error| error.to_string())? {
                SftRow::Whole(Text::Chat(chat)) => Ok(chat.tools),
                other => panic!("{other:?}"),
            }
        };
        let tool = json!({"type": "function", "function": {"name": "f"}});
        let writes = "{{ tools | tojson }}";
        assert_eq!(read(json!([tool]), writes), Ok(vec![tool.clone()]));
        assert_eq!(read(json!([tool]).to_string().into(), writes), Ok(vec![tool.clone()]));
        assert_eq!(read("[]".into(), "{{ messages }}"), Ok(vec![]));
        let error = "r.jsonl:3:tools: the chat template writes no tools, and the row would mean something else without";
        assert_eq!(read(json!([tool]), "{{ messages }}"), Err(error.to_owned()));
        assert!(read("f".into(), writes).unwrap_err().contains(":tools: must be a list of tools"));
    }

    #[test]
    fn the_page_about_rows_names_what_the_code_knows() {
        let page = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/recipes/ROWS.md"));
        let fields = [turn::SAID.as_slice(), &turn::MARKS, &turn::DETAILS, &[turn::MASKED]].concat();
        for name in COLUMNS.iter().chain(&fields) {
            assert!(page.contains(&format!("`{name}`")), "{name}");
        }
        // And those that are always refused are columns that no reading takes.
        let refused = page.split("Always refused").nth(1).and_then(|rest| rest.split('\n').next()).unwrap();
        for name in refused.split('`').skip(1).step_by(2) {
            let row = json!({"text": "t", (name): "x"});
            assert!(sft(row).unwrap_err().starts_with(&format!("r.jsonl:3:{name}: is not read beside text")), "{name}");
        }
    }

    #[test]
    fn slots_are_filled_once_and_everything_else_in_braces_stays() {
        let replace = BTreeMap::from([("name".to_owned(), "{{author}}".to_owned())]);
        let (mut filled, mut open) = (BTreeSet::new(), BTreeSet::new());
        let mut row = json!({"a": ["{{name}}{{name}}!", {"b": "{{{name}}} {{ name }} {{author}} {{}} {{x"}], "n": 1});
        fill(&mut row, &replace, &mut filled, &mut open);
        let expected =
            json!({"a": ["{{author}}{{author}}!", {"b": "{{{author}}} {{ name }} {{author}} {{}} {{x"}], "n": 1});
        assert_eq!(row, expected);
        assert_eq!((filled, open), (BTreeSet::from(["name".to_owned()]), BTreeSet::from(["author".to_owned()])));
    }
}
