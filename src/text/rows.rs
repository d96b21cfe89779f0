//! Rows as JSON lines, in TRL's columns or as token ids.

use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::TextError;
use crate::models::Message;

/// A string, or messages for the chat template.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum Text {
    /// Taken as it is.
    Plain(String),
    /// Rendered by the model's chat template.
    Chat(Vec<Message>),
}

/// A row for supervised fine-tuning.
#[derive(Clone, Debug, PartialEq)]
pub enum SftRow {
    /// `text` or `messages`: every token is scored.
    Whole(Text),
    /// `prompt` and `completion`: the completion is scored.
    Completion(Text, Text),
    /// `input_ids`, and `labels` where -100 marks a token that is not scored.
    Ids(Vec<u32>, Option<Vec<i64>>),
}

/// A preference row.
#[derive(Clone, Debug, PartialEq)]
pub enum PairRow {
    /// `prompt`, `chosen`, `rejected`.
    Text(Text, Text, Text),
    /// `prompt_ids`, `chosen_ids`, `rejected_ids`.
    Ids([Vec<u32>; 3]),
}

/// A row read from a line.
pub trait Row: Sized {
    /// Reads the columns; `columns` turns a column into its value or an error that names it.
    fn read(columns: &Columns<'_>) -> Result<Self, TextError>;
}

/// The columns of one line.
pub struct Columns<'a> {
    path: &'a Path,
    line: usize,
    row: Map<String, Value>,
}

impl Columns<'_> {
    fn has(&self, key: &str) -> bool {
        self.row.get(key).is_some_and(|value| !value.is_null())
    }

    fn get<T: DeserializeOwned>(&self, key: &str, what: &str) -> Result<T, TextError> {
        let value = self.row.get(key).ok_or_else(|| self.error(key, "is missing".to_owned()))?;
        T::deserialize(value).map_err(|_| self.error(key, format!("must be {what}")))
    }

    fn text(&self, key: &str) -> Result<Text, TextError> {
        self.get(key, "a string or a list of {role, content}")
    }

    fn ids(&self, key: &str) -> Result<Vec<u32>, TextError> {
        self.get(key, "a list of token ids")
    }

    fn error(&self, key: &str, message: String) -> TextError {
        TextError::Row { path: self.path.to_owned(), line: self.line, key: key.to_owned(), message }
    }
}

impl Row for SftRow {
    fn read(columns: &Columns<'_>) -> Result<Self, TextError> {
        if columns.has("input_ids") {
            let ids = columns.ids("input_ids")?;
            let labels: Option<Vec<i64>> =
                if columns.has("labels") { Some(columns.get("labels", "a list of integers")?) } else { None };
            if labels.as_ref().is_some_and(|labels| labels.len() != ids.len()) {
                return Err(columns.error("labels", "must be as long as input_ids".to_owned()));
            }
            return Ok(Self::Ids(ids, labels));
        }
        if columns.has("messages") {
            return Ok(Self::Whole(Text::Chat(columns.get("messages", "a list of {role, content}")?)));
        }
        if columns.has("text") {
            return Ok(Self::Whole(Text::Plain(columns.get("text", "a string")?)));
        }
        if !columns.has("prompt") {
            let columns_known = "needs text, messages, prompt and completion, or input_ids";
            return Err(columns.error("", columns_known.to_owned()));
        }
        Ok(Self::Completion(columns.text("prompt")?, columns.text("completion")?))
    }
}

impl Row for PairRow {
    fn read(columns: &Columns<'_>) -> Result<Self, TextError> {
        if columns.has("prompt_ids") {
            return Ok(Self::Ids([
                columns.ids("prompt_ids")?,
                columns.ids("chosen_ids")?,
                columns.ids("rejected_ids")?,
            ]));
        }
        Ok(Self::Text(columns.text("prompt")?, columns.text("chosen")?, columns.text("rejected")?))
    }
}

/// Reads a file of JSON lines, each with its line number from 1; blank lines are passed over.
///
/// # Errors
/// An unreadable file, a line that is not a JSON object, a column missing or of the wrong type, no rows.
pub fn read<R: Row>(path: &Path) -> Result<Vec<(usize, R)>, TextError> {
    let text = std::fs::read_to_string(path).map_err(|error| TextError::Io { path: path.to_owned(), error })?;
    let mut rows = Vec::new();
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let number = index + 1;
        let row = serde_json::from_str(line).map_err(|error| TextError::Row {
            path: path.to_owned(),
            line: number,
            key: String::new(),
            message: format!("not a JSON object: {error}"),
        })?;
        rows.push((number, R::read(&Columns { path, line: number, row })?));
    }
    if rows.is_empty() { Err(TextError::NoRows(path.to_owned())) } else { Ok(rows) }
}
