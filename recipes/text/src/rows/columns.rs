//! The columns of one row: which are read, which are passed over, and which are refused because what they hold would be
//! missing from the text.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::Path;

use ftk_bases::{ChatTemplate, Message};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::super::error::{SHIFTED, TextError, UNASKED};
use super::super::files::RowObject;
use super::super::place::RowPlace;
use super::super::turn;
use super::kinds::{Chat, PlainText};
use super::names::COLUMNS;

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

/// The columns of one row that are there and not null.
pub struct Columns<'a> {
    path: &'a Path,
    place: RowPlace,
    pub(super) row: RowObject,
    template: Option<&'a ChatTemplate>,
    /// Columns without a known meaning that hold words, by name.
    words: Vec<(String, String)>,
    /// Columns that were read.
    used: RefCell<BTreeSet<String>>,
    /// Columns and fields without a reader.
    pub(super) unread: RefCell<BTreeSet<String>>,
}

/// One way to read a row: columns it must have.
pub(super) type Reading = &'static [&'static str];

impl<'a> Columns<'a> {
    pub(super) fn new(path: &'a Path, place: RowPlace, row: RowObject, template: Option<&'a ChatTemplate>) -> Self {
        let tools = row.get("tools").is_some_and(some_tools);
        let template = template.map(|template| template.of(tools));
        Self { path, place, row, template, words: Vec::new(), used: RefCell::default(), unread: RefCell::default() }
    }

    /// The same beside columns without a known meaning that hold words.
    pub(super) fn beside(self, words: Vec<(String, String)>) -> Self {
        Self { words, ..self }
    }

    /// Refuses pairs without a prompt beside words that nothing reads and neither of them holds: these may be the prompt.
    pub(super) fn unasked(&self, chosen: &str, rejected: &str) -> Result<(), TextError> {
        let lost = |(_, text): &&(String, String)| !chosen.contains(text.trim()) || !rejected.contains(text.trim());
        match self.words.iter().find(lost) {
            None => Ok(()),
            Some((name, _)) => Err(self.error(name, UNASKED)),
        }
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.row.contains_key(key)
    }

    pub(super) fn error(&self, key: &str, message: impl Into<String>) -> TextError {
        let (path, place, key, message) = (self.path.to_owned(), self.place, key.to_owned(), message.into());
        TextError::Row { path, place, key, message, choice: Vec::new() }
    }

    /// An error that goes away when only these columns are read.
    pub(super) fn choice(&self, key: &str, message: impl Into<String>, columns: &[&str]) -> TextError {
        let choice = columns.iter().map(|&column| column.to_owned()).collect();
        let (path, place, key, message) = (self.path.to_owned(), self.place, key.to_owned(), message.into());
        TextError::Row { path, place, key, message, choice }
    }

    /// An error that goes away when all columns that count as read are read but this one.
    fn without(&self, key: &str, message: impl Into<String>) -> TextError {
        let used = self.used.borrow();
        let others: Vec<&str> = used.iter().map(String::as_str).filter(|&name| name != key).collect();
        self.choice(key, message, &others)
    }

    /// An error that goes away when all columns with a meaning are read but this one.
    fn all_but(&self, key: &str, message: impl Into<String>) -> TextError {
        let others = self.row.iter().filter(|(name, value)| *name != key && !turn::empty(value));
        let others: Vec<&str> = others.map(|(name, _)| name.as_str()).filter(|name| COLUMNS.contains(name)).collect();
        self.choice(key, message, &others)
    }

    /// The only one of these readings that the row allows.
    pub(super) fn reading(&self, readings: &[Reading], needs: &str) -> Result<Reading, TextError> {
        let complete: Vec<Reading> =
            readings.iter().copied().filter(|reading| reading.iter().all(|key| self.has(key))).collect();
        match *complete {
            [one] => Ok(one),
            [first, second, ..] => {
                let message = format!("can be read in two ways: {}, or {}", first.join(" and "), second.join(" and "));
                Err(self.choice("", message, first))
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
    pub(super) fn rest(&self, passed_over: &[&str]) -> Result<(), TextError> {
        let used = self.used.borrow();
        for (name, value) in self.row.iter().filter(|(name, value)| !used.contains(*name) && !turn::empty(value)) {
            let repeated = || {
                let text = value.as_str().map(str::trim);
                text.is_some_and(|text| self.row.iter().any(|(name, value)| used.contains(name) && says(value, text)))
            };
            if !passed_over.contains(&name.as_str()) && !repeated() && !neutral(name, value) {
                let read: Vec<&str> = used.iter().map(String::as_str).collect();
                let message =
                    format!("is not read beside {}, and the row would mean something else without it", read.join(", "));
                return Err(self.without(name, message));
            }
            self.unread.borrow_mut().insert(name.clone());
        }
        Ok(())
    }

    /// The value of a column, which counts as read.
    pub(super) fn value(&self, key: &str) -> Option<&Value> {
        let value = self.row.get(key)?;
        self.used.borrow_mut().insert(key.to_owned());
        Some(value)
    }

    pub(super) fn get<T: DeserializeOwned>(&self, key: &str, what: &str) -> Result<T, TextError> {
        let value = self.value(key).ok_or_else(|| self.error(key, "is missing"))?;
        T::deserialize(value).map_err(|_| self.error(key, format!("must be {what}")))
    }

    pub(super) fn ids(&self, key: &str) -> Result<Vec<u32>, TextError> {
        self.get(key, "a list of token ids")
    }

    pub(super) fn string(&self, key: &str) -> Result<String, TextError> {
        self.get(key, "a string")
    }

    /// A string that may be absent or empty.
    pub(super) fn optional(&self, key: &str) -> Result<Option<String>, TextError> {
        let text = if self.has(key) { self.string(key)? } else { String::new() };
        Ok((!text.is_empty()).then_some(text))
    }

    pub(super) fn text(&self, key: &str) -> Result<PlainText, TextError> {
        match self.value(key) {
            Some(Value::String(text)) => Ok(PlainText::Plain(text.clone())),
            Some(Value::Array(turns)) => self.turns(key, turns).map(|turns| PlainText::Chat(turns.into())),
            _ => Err(self.error(key, "must be a string or a list of {role, content}")),
        }
    }

    /// Messages of a column behind the row's `system`, with its `tools`.
    pub(super) fn chat(&self, key: &str) -> Result<Chat, TextError> {
        match self.value(key) {
            Some(Value::Array(turns)) => self.dressed(self.turns(key, turns)?),
            _ => Err(self.error(key, "must be a list of {role, content}")),
        }
    }

    /// A conversation with what the row says about it in other columns.
    pub(super) fn dressed(&self, mut messages: Vec<Message>) -> Result<Chat, TextError> {
        if let Some(system) = self.optional("system")? {
            match messages.first().filter(|first| first.role() == "system") {
                None => messages.insert(0, Message::new("system", system)),
                Some(first) if first.content() == Some(&system) => {}
                Some(_) => return Err(self.all_but("system", "differs from the system turn of the messages")),
            }
        }
        Ok(Chat { messages, tools: self.tools()? })
    }

    /// Tools: a list, or one written as a string.
    pub(super) fn tools(&self) -> Result<Vec<Value>, TextError> {
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
                .all_but("tools", "the chat template writes no tools, and the row would mean something else without")),
            _ => Ok(tools),
        }
    }

    pub(super) fn turns(&self, key: &str, turns: &[Value]) -> Result<Vec<Message>, TextError> {
        turns.iter().map(|turn| self.turn(key, turn)).collect()
    }

    pub(super) fn turn(&self, key: &str, turn: &Value) -> Result<Message, TextError> {
        let (message, unread) = turn::read(turn, self.template).map_err(|message| self.error(key, message))?;
        self.unread.borrow_mut().extend(unread.into_iter().map(|field| format!("{key}[].{field}")));
        Ok(message)
    }

    /// Alpaca's question as messages: `system`, `history`, then `instruction` and `input` on lines of their own.
    pub(super) fn instruction(&self) -> Result<Chat, TextError> {
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
    pub(super) fn answer(&self, key: &str) -> Result<Vec<Message>, TextError> {
        match self.value(key) {
            Some(Value::String(text)) => Ok(vec![Message::new("assistant", text)]),
            Some(turn @ Value::Object(_)) => Ok(vec![self.turn(key, turn)?]),
            Some(Value::Array(turns)) => self.turns(key, turns),
            _ => Err(self.error(key, "must be a string, a message or a list of messages")),
        }
    }

    /// A prompt of messages gets the row's `system` and `tools`; a string has no place for them.
    pub(super) fn prompt(&self) -> Result<PlainText, TextError> {
        match self.text("prompt")? {
            PlainText::Chat(chat) => self.dressed(chat.messages).map(PlainText::Chat),
            plain => Ok(plain),
        }
    }

    /// Token ids without padding, and their labels: what a mask leaves out is not scored.
    pub(super) fn labelled(&self) -> Result<(Vec<u32>, Option<Vec<i64>>), TextError> {
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
        for key in ["completion_mask", "assistant_masks", "assistant_mask", "loss_mask", "response_mask"] {
            if let Some(mask) = self.mask(key)? {
                long(key, mask.len())?;
                let labels = labels.get_or_insert_with(|| ids.iter().map(|&id| i64::from(id)).collect());
                labels.iter_mut().zip(mask).filter(|(_, shown)| !shown).for_each(|(label, _)| *label = -100);
            }
        }
        if let Some(at) = labels.as_ref().and_then(|labels| {
            labels.iter().zip(&ids).skip(1).position(|(&label, &id)| label >= 0 && label != i64::from(id))
        }) {
            let message = format!("{SHIFTED}, which labels that were shifted do: position {}", at + 1);
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
        Ok((ids, labels))
    }

    /// A list of zeros and ones.
    pub(super) fn mask(&self, key: &str) -> Result<Option<Vec<bool>>, TextError> {
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

/// Whether a row's tools are any, as a list or as a list written as a string.
fn some_tools(value: &Value) -> bool {
    match value {
        Value::String(text) => serde_json::from_str::<Vec<Value>>(text).is_ok_and(|tools| !tools.is_empty()),
        other => !turn::empty(other),
    }
}

/// Whether a column about the loss or about places says what is so without it: all is scored, in one text, in order.
fn neutral(name: &str, value: &Value) -> bool {
    let one = |value: &Value| value.as_bool().unwrap_or_else(|| value.as_f64() == Some(1.0));
    let list = value.as_array();
    match name {
        "weight" | "loss_weight" | "sample_weight" | "train" => one(value),
        "masked" => value.as_bool() == Some(false) || value.as_f64() == Some(0.0),
        "weights"
        | "loss_weights"
        | "attention_mask"
        | "prompt_attention_mask"
        | "chosen_attention_mask"
        | "rejected_attention_mask" => list.is_some_and(|list| list.iter().all(one)),
        "position_ids" => list.is_some_and(|list| (0..).zip(list).all(|(at, id)| id.as_u64() == Some(at))),
        "seq_lengths" => list.is_some_and(|list| list.len() == 1),
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
