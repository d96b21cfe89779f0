//! Rows of text by their columns: TRL's (`messages`, `text`, `prompt` and `completion`, `prompt`, `chosen` and
//! `rejected`), ShareGPT's (`conversations`), Alpaca's (`instruction`, `input`, `output`), or token ids.
//!
//! A row is read in one way only: columns that allow two readings are refused. What the files look like is known to
//! [`super::files`].

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::TextError;
use super::files::{self, Object, Place};
use crate::models::Message;

/// A string, or messages for the chat template.
#[derive(Clone, Debug, PartialEq)]
pub enum Text {
    /// Taken as it is.
    Plain(String),
    /// Rendered by the model's chat template.
    Chat(Vec<Message>),
}

/// A row for supervised fine-tuning.
#[derive(Clone, Debug, PartialEq)]
pub enum SftRow {
    /// `text`, `messages` or `conversations`.
    Whole(Text),
    /// `prompt` and `completion`, or `instruction` and `output`.
    Completion(Text, Text),
    /// `input_ids`, and `labels` where -100 marks a token that is not scored.
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

/// A question alone; answers that the row has, too, are passed over.
#[derive(Clone, Debug, PartialEq)]
pub enum PromptRow {
    /// `prompt`, `instruction`, `text`, or `messages` or `conversations` up to the assistant's last turn.
    Text(Text),
    /// `prompt_ids` or `input_ids`.
    Ids(Vec<u32>),
}

/// Every column that is looked at.
pub const COLUMNS: [&str; 22] = [
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
    "prompt_ids",
    "chosen_ids",
    "rejected_ids",
    "label",
    "tools",
    "images",
    "videos",
    "audios",
];

/// Columns that change what the model reads or learns, and that are not supported: dropping them would train on
/// something else than the file says.
const UNSUPPORTED: [&str; 4] = ["tools", "images", "videos", "audios"];

/// What else than its columns says how a file is read.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The only columns to look at; all of [`COLUMNS`] if absent.
    pub columns: Option<Vec<String>>,
    /// What stands in the place of `{{name}}`, by name.
    pub replace: BTreeMap<String, String>,
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
}

/// A row that can be read from columns.
pub trait Row: Sized {
    /// Reads the columns, or says which one is wrong.
    ///
    /// # Errors
    /// Columns that are missing, of the wrong type, or of two readings.
    fn read(columns: &Columns<'_>) -> Result<Self, TextError>;
}

/// Reads a file of rows in one of the formats of [`files::read`].
///
/// # Errors
/// An unreadable file, a column missing or of the wrong type, two possible readings, no rows.
pub fn read<R: Row>(path: &Path, options: &Options) -> Result<File<R>, TextError> {
    let known: Vec<&str> = match &options.columns {
        None => COLUMNS.to_vec(),
        Some(wanted) => {
            let known = |name: &String| COLUMNS.into_iter().find(|column| column == name);
            let column = |name| known(name).ok_or_else(|| TextError::Column { name: name.clone() });
            wanted.iter().map(column).collect::<Result<_, _>>()?
        }
    };
    let mut file = File { rows: Vec::new(), filled: BTreeSet::new(), open: BTreeSet::new() };
    files::read(path, &known, &mut |place, mut row| {
        row.retain(|name, value| known.contains(&name.as_str()) && !value.is_null());
        for value in row.values_mut() {
            fill(value, &options.replace, &mut file.filled, &mut file.open);
        }
        file.rows.push((place, R::read(&Columns { path, place, row })?));
        Ok(())
    })?;
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
}

/// One way to read a row: columns it must have.
type Reading = &'static [&'static str];

impl Columns<'_> {
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
        if let Some(key) = UNSUPPORTED.into_iter().find(|key| self.has(key) && !empty(&self.row[*key])) {
            return Err(self.choice(key, "is not supported, and the row would mean something else without it"));
        }
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

    fn get<T: DeserializeOwned>(&self, key: &str, what: &str) -> Result<T, TextError> {
        let value = self.row.get(key).ok_or_else(|| self.error(key, "is missing"))?;
        T::deserialize(value).map_err(|_| self.error(key, format!("must be {what}")))
    }

    fn ids(&self, key: &str) -> Result<Vec<u32>, TextError> {
        self.get(key, "a list of token ids")
    }

    fn string(&self, key: &str) -> Result<String, TextError> {
        self.get(key, "a string")
    }

    fn text(&self, key: &str) -> Result<Text, TextError> {
        match self.row.get(key) {
            Some(Value::String(text)) => Ok(Text::Plain(text.clone())),
            Some(Value::Array(turns)) => self.turns(key, turns).map(Text::Chat),
            _ => Err(self.error(key, "must be a string or a list of {role, content}")),
        }
    }

    fn messages(&self, key: &str) -> Result<Vec<Message>, TextError> {
        match self.row.get(key) {
            Some(Value::Array(turns)) => self.turns(key, turns),
            _ => Err(self.error(key, "must be a list of {role, content}")),
        }
    }

    fn turns(&self, key: &str, turns: &[Value]) -> Result<Vec<Message>, TextError> {
        turns.iter().map(|turn| self.turn(key, turn)).collect()
    }

    /// A message as OpenAI writes it, `{role, content}`, or as ShareGPT does, `{from, value}`.
    fn turn(&self, key: &str, turn: &Value) -> Result<Message, TextError> {
        let wrong = || self.error(key, "must be a list of {role, content}");
        let turn = turn.as_object().ok_or_else(wrong)?;
        if let Some(field) =
            ["tool_calls", "function_call"].into_iter().find(|f| turn.get(*f).is_some_and(|v| !empty(v)))
        {
            return Err(self.error(key, format!("tool calls are not supported: {field}")));
        }
        let string = |field: &str| turn.get(field).and_then(Value::as_str);
        match (string("role"), string("content"), string("from"), string("value")) {
            (Some(role), Some(content), None, _) => Ok(Message { role: role.to_owned(), content: content.to_owned() }),
            (None, _, Some(from), Some(value)) => {
                let role = match from {
                    "human" | "user" => "user",
                    "gpt" | "assistant" => "assistant",
                    "system" => "system",
                    _ => {
                        let message = format!("from must be human, gpt, system, user or assistant: {from}");
                        return Err(self.error(key, message));
                    }
                };
                Ok(Message { role: role.to_owned(), content: value.to_owned() })
            }
            _ => Err(wrong()),
        }
    }

    /// `conversations`, after `system` where the row has that.
    fn conversations(&self) -> Result<Vec<Message>, TextError> {
        Ok(self.system()?.into_iter().chain(self.messages("conversations")?).collect())
    }

    fn system(&self) -> Result<Option<Message>, TextError> {
        let text = if self.has("system") { self.string("system")? } else { String::new() };
        Ok((!text.is_empty()).then(|| say("system", text)))
    }

    /// Alpaca's question as messages: `system`, `history`, then `instruction` with `input` on the next line.
    fn instruction(&self) -> Result<Vec<Message>, TextError> {
        let mut messages: Vec<Message> = self.system()?.into_iter().collect();
        if self.has("history") {
            let history: Vec<[String; 2]> = self.get("history", "a list of [question, answer]")?;
            messages.extend(history.into_iter().flat_map(|[q, a]| [say("user", q), say("assistant", a)]));
        }
        let input = if self.has("input") { self.string("input")? } else { String::new() };
        let instruction = self.string("instruction")?;
        messages.push(say("user", if input.is_empty() { instruction } else { format!("{instruction}\n{input}") }));
        Ok(messages)
    }

    /// A completion of messages: a list of them, one alone, or what the assistant says.
    fn answer(&self, key: &str) -> Result<Vec<Message>, TextError> {
        match self.row.get(key) {
            Some(Value::String(text)) => Ok(vec![say("assistant", text.clone())]),
            Some(turn @ Value::Object(_)) => Ok(vec![self.turn(key, turn)?]),
            Some(Value::Array(turns)) => self.turns(key, turns),
            _ => Err(self.error(key, "must be a string, a message or a list of messages")),
        }
    }
}

fn empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(values) => values.is_empty(),
        Value::Object(values) => values.is_empty(),
        _ => false,
    }
}

fn say(role: &str, content: String) -> Message {
    Message { role: role.to_owned(), content }
}

impl Row for SftRow {
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
            "input_ids" => {
                let ids = columns.ids("input_ids")?;
                let labels: Option<Vec<i64>> =
                    if columns.has("labels") { Some(columns.get("labels", "a list of integers")?) } else { None };
                if labels.as_ref().is_some_and(|labels| labels.len() != ids.len()) {
                    return Err(columns.error("labels", "must be as long as input_ids"));
                }
                Self::Ids(ids, labels)
            }
            "messages" => Self::Whole(Text::Chat(columns.messages("messages")?)),
            "conversations" => Self::Whole(Text::Chat(columns.conversations()?)),
            "text" => Self::Whole(Text::Plain(columns.string("text")?)),
            "prompt" => {
                let (prompt, completion) = (columns.text("prompt")?, columns.text("completion")?);
                alike(columns, &prompt, &completion)?;
                Self::Completion(prompt, completion)
            }
            _ => {
                let answer = say("assistant", columns.string("output")?);
                Self::Completion(Text::Chat(columns.instruction()?), Text::Chat(vec![answer]))
            }
        })
    }
}

impl Row for PromptRow {
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
        let asked = |mut messages: Vec<Message>| {
            while messages.last().is_some_and(|last| last.role == "assistant") {
                messages.pop();
            }
            if messages.is_empty() {
                Err(columns.error(key, "asks nothing"))
            } else {
                Ok(Self::Text(Text::Chat(messages)))
            }
        };
        match key {
            "prompt" => columns.text(key).map(Self::Text),
            "text" => columns.string(key).map(|text| Self::Text(Text::Plain(text))),
            "instruction" => columns.instruction().map(|messages| Self::Text(Text::Chat(messages))),
            "messages" => asked(columns.messages(key)?),
            "conversations" => asked(columns.conversations()?),
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
        let (prompt, chosen, rejected) = match *found {
            [] => {
                let (chosen, rejected) = (columns.text("chosen")?, columns.text("rejected")?);
                alike(columns, &chosen, &rejected)?;
                common(columns, chosen, rejected)?
            }
            ["prompt"] => {
                let prompt = columns.text("prompt")?;
                let (chosen, rejected) = (columns.text("chosen")?, columns.text("rejected")?);
                match (&prompt, &chosen, &rejected) {
                    // A string beside whole conversations repeats what these begin with.
                    (Text::Plain(text), Text::Chat(_), Text::Chat(_)) => {
                        let (prompt, chosen, rejected) = common(columns, chosen.clone(), rejected.clone())?;
                        match &prompt {
                            Text::Chat(turns) if turns.iter().any(|turn| turn.content == *text) => {}
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
                let (chosen, rejected) = (columns.answer("chosen")?, columns.answer("rejected")?);
                (Text::Chat(columns.conversations()?), Text::Chat(chosen), Text::Chat(rejected))
            }
            ["instruction"] => {
                let (chosen, rejected) = (columns.answer("chosen")?, columns.answer("rejected")?);
                (Text::Chat(columns.instruction()?), Text::Chat(chosen), Text::Chat(rejected))
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

/// Parts the prompt from two wholes that begin with it, as TRL's `extract_prompt` does: the longest common prefix, of
/// messages or of characters, but for a space at its end; at least one message or character stays in each.
fn common(columns: &Columns<'_>, chosen: Text, rejected: Text) -> Result<(Text, Text, Text), TextError> {
    match (chosen, rejected) {
        (Text::Chat(chosen), Text::Chat(rejected)) => {
            let equal = chosen.iter().zip(&rejected).take_while(|(a, b)| a == b).count();
            let length = equal.min(chosen.len().saturating_sub(1)).min(rejected.len().saturating_sub(1));
            if length == 0 {
                return Err(
                    columns.error("prompt", "is missing, and chosen and rejected do not begin with one message")
                );
            }
            let (prompt, chosen) = chosen.split_at(length);
            Ok((Text::Chat(prompt.to_vec()), Text::Chat(chosen.to_vec()), Text::Chat(rejected[length..].to_vec())))
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
        let row = row.as_object().unwrap().clone().into_iter().filter(|(_, value)| !value.is_null()).collect();
        Columns { path: Path::new("r.jsonl"), place: Place::Line(3), row }
    }

    fn sft(row: Value) -> Result<SftRow, String> {
        SftRow::read(&columns(&row)).map_err(|error| error.to_string())
    }

    fn pair(row: Value) -> Result<PairRow, String> {
        PairRow::read(&columns(&row)).map_err(|error| error.to_string())
    }

    fn chat(turns: &[(&str, &str)]) -> Text {
        Text::Chat(turns.iter().map(|&(role, text)| say(role, text.to_owned())).collect())
    }

    #[test]
    fn questions_are_read_without_their_answers() {
        let asked = |row: Value| PromptRow::read(&columns(&row)).map_err(|error| error.to_string());
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
        assert_eq!(split("éàx", "éày").unwrap(), ["éà", "x", "y"]);
        assert_eq!(split("ab", "abé").unwrap(), ["a", "b", "bé"]);
        assert_eq!(split("x", "y").unwrap(), ["", "x", "y"]);
        assert_eq!(split("same", "same").unwrap(), ["sam", "e", "e"]);
        let turn = |role: &str, text: &str| json!({"role": role, "content": text});
        let [q, a, b] = [turn("user", "q"), turn("assistant", "a"), turn("user", "b")];
        let longer = pair(json!({"chosen": [q, a], "rejected": [q, a, b, a]})).unwrap();
        let (prompt, rejected) =
            (chat(&[("user", "q")]), chat(&[("assistant", "a"), ("user", "b"), ("assistant", "a")]));
        assert_eq!(longer, PairRow::Text(prompt, chat(&[("assistant", "a")]), rejected));
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
                json!({"conversations": [{"from": "observation", "value": "v"}]}),
                ":conversations: from must be human, gpt, system, user or assistant: observation",
            ),
            (
                json!({"messages": [{"role": "a", "content": "", "tool_calls": [1]}]}),
                ":messages: tool calls are not supported: tool_calls",
            ),
            (
                json!({"text": "t", "images": ["i"]}),
                ":images: is not supported, and the row would mean something else without it",
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
