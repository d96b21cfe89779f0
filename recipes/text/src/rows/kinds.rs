//! What a row is once it has been read.

use ftk_bases::Message;
use serde_json::Value;

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
pub enum PlainText {
    /// Taken as it is.
    Plain(String),
    /// Rendered by the model's chat template.
    Chat(Chat),
}

/// A row for supervised fine-tuning.
#[derive(Clone, Debug, PartialEq)]
pub enum SftRow {
    /// `text`, `messages` or `conversations`.
    Whole(PlainText),
    /// `prompt` and `completion`, or `instruction` and `output`.
    Completion(PlainText, PlainText),
    /// `input_ids` without padding, and `labels` where -100 marks a token that is not scored.
    Ids(Vec<u32>, Option<Vec<i64>>),
}

/// A preference row.
#[derive(Clone, Debug, PartialEq)]
pub enum PairRow {
    /// A prompt with a chosen and a rejected completion.
    Text(PlainText, PlainText, PlainText),
    /// `prompt_ids`, `chosen_ids`, `rejected_ids`.
    Ids([Vec<u32>; 3]),
}

/// A completion alone, and whether it is wanted.
#[derive(Clone, Debug, PartialEq)]
pub enum UnpairedRow {
    /// A prompt with a completion.
    Text(PlainText, PlainText, bool),
    /// `prompt_ids` and `completion_ids`.
    Ids([Vec<u32>; 2], bool),
}

/// A question alone; answers that the row has, too, are passed over.
#[derive(Clone, Debug, PartialEq)]
pub enum PromptRow {
    /// `prompt`, `instruction`, `text`, or `messages` or `conversations` up to the assistant's last turn.
    Text(PlainText),
    /// `prompt_ids` or `input_ids`.
    Ids(Vec<u32>),
}
