//! What can be wrong with rows, and what to do about it.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use ftk_adapters::foreign;
use ftk_adapters::hint::Hint;
use ftk_bases::ModelError;

use super::counts::RowCounts;
use super::place::RowPlace;
use super::rows::names::COLUMNS;
use super::turn::{NO_ROLE, NOT_WRITTEN};

/// What is said of a row that is no JSON object.
pub(super) const NO_OBJECT: &str = "not a JSON object";

/// What is said of labels that stand elsewhere than their ids.
pub(super) const SHIFTED: &str = "scores another id than the one at its place";

/// What is said of a column that may be the prompt of a pair.
pub(super) const UNASKED: &str = "may be the prompt, which no column that is read holds";

/// What is said of a row of pairs for supervised fine-tuning.
pub(super) const PAIRS: &str = "there is a pair of them, which task \"dpo\" learns from";

/// What a label must be.
pub(super) const WANTED: &str = "true or false: whether the completion is wanted";

/// What is said of a template under which a prompt is no beginning of its conversation.
pub(super) const OTHERWISE: &str = "the chat template writes the prompt otherwise once it is answered";

/// What can be wrong with rows.
#[derive(Debug, thiserror::Error)]
pub enum TextError {
    /// The file system refused.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The refusal.
        error: std::io::Error,
    },
    /// A row that is not what the task needs.
    #[error("{}:{place}{}{key}: {message}", path.display(), if key.is_empty() { "" } else { ":" })]
    Row {
        /// The file.
        path: PathBuf,
        /// Where it stands.
        place: RowPlace,
        /// Column of the row; empty where the row as a whole is at fault.
        key: String,
        /// What is wrong.
        message: String,
        /// Columns that it would help to read alone.
        choice: Vec<String>,
    },
    /// Text without turns, where the assistant's are to be scored.
    #[error("{}:{place}: has no turns, of which data.loss = \"assistant\" scores the assistant's", path.display())]
    NoTurns {
        /// The file.
        path: PathBuf,
        /// Where it stands.
        place: RowPlace,
    },
    /// A file without rows.
    #[error("{}: holds no rows", .0.display())]
    NoRows(PathBuf),
    /// A file whose extension names no format.
    #[error("{}: rows are not read from files of this kind: {}", path.display(), kind(extension))]
    Format {
        /// The file.
        path: PathBuf,
        /// Its extension, without the dot.
        extension: String,
    },
    /// A file of text in another encoding than UTF-8.
    #[error("{}:{line}: not UTF-8: {found}", path.display())]
    Encoding {
        /// The file.
        path: PathBuf,
        /// The line.
        line: usize,
        /// What stands there.
        found: String,
    },
    /// A file that is another kind than its name says.
    #[error("{}: is a file of {found}, which its name does not say", path.display())]
    Disguised {
        /// The file.
        path: PathBuf,
        /// What it is.
        found: &'static str,
        /// How such a file's name ends; empty where it is not read.
        ending: &'static str,
    },
    /// A file that Git LFS left a pointer in the place of.
    #[error("{}: a Git LFS pointer, not the file it stands for", .0.display())]
    Pointer(PathBuf),
    /// A compressed file that grows out of proportion.
    #[error("{}: unpacks to more bytes than {limit}", path.display())]
    Grows {
        /// The file.
        path: PathBuf,
        /// Most bytes.
        limit: u64,
    },
    /// A Parquet file whose pages are compressed in a way that is not read.
    #[error("{}: Parquet compressed with a method that is not read: {codec}", path.display())]
    Codec {
        /// The file.
        path: PathBuf,
        /// The method.
        codec: String,
    },
    /// A Parquet file that cannot be read.
    #[error("{}: malformed Parquet file: {reason}", path.display())]
    Parquet {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// `data.columns` names a column without a meaning.
    #[error("data.columns names no column of rows: {name}")]
    Column {
        /// The name.
        name: String,
    },
    /// `data.replace` names something that is in no row.
    #[error("data.replace.{name}: in no row of {}: {{{{{name}}}}}", path.display())]
    Replace {
        /// The file.
        path: PathBuf,
        /// The name.
        name: String,
    },
    /// Nothing in a file is scored.
    #[error("{}: no row has a scored token or pair", .0.path.display())]
    Unscored(Box<RowCounts>),
    /// A turn of the assistant at whose end generation would not stop.
    #[error("{}:{place}: generation stops at {stop}, but the assistant's turn ends with: {found}", path.display())]
    Unended {
        /// The file.
        path: PathBuf,
        /// Where the row stands.
        place: RowPlace,
        /// The last token that is not space.
        found: String,
        /// Whether that token stands for itself and not for text.
        special: bool,
        /// Tokens that generation stops at.
        stop: String,
    },
    /// Plain text for a base whose texts have no end.
    #[error("{}: this base names no end-of-sequence token", .0.display())]
    NoEnd(PathBuf),
    /// A template without marks that changes what it wrote about earlier turns.
    #[error("the chat template neither marks the assistant's turns nor appends them one by one")]
    Turns,
    /// Tokenizer or template.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// What a row makes of tokenizer or template.
    #[error("{}:{place}: {error}", path.display())]
    At {
        /// The file.
        path: PathBuf,
        /// Where the row stands.
        place: RowPlace,
        /// What is wrong.
        error: Box<TextError>,
    },
}

/// Most columns that are named beside others.
const MOST_NAMES: usize = 12;

/// What messages begin with that a list of the formats helps with.
const FORMS: [&str; 3] = ["needs ", "is missing", NO_OBJECT];

impl TextError {
    /// The same with the columns that a row has beside, if it has none of those it needs: of these the names may be wrong.
    pub(super) fn beside<'a>(mut self, names: impl Iterator<Item = &'a String>) -> Self {
        if let Self::Row { message, .. } = &mut self {
            let names: Vec<&str> = names.map(String::as_str).take(MOST_NAMES).collect();
            if message.starts_with(FORMS[0]) && !names.is_empty() {
                message.push_str(&format!("; there are: {}", names.join(", ")));
            }
        }
        self
    }

    /// The same with the row that it comes of, where that is not said.
    pub(super) fn at(self, path: &Path, place: RowPlace) -> Self {
        use ModelError::{Template, TokenId, Tokenizer};
        match self {
            Self::Turns | Self::Model(Template { .. } | TokenId { .. } | Tokenizer { .. }) => {
                Self::At { path: path.to_owned(), place, error: Box::new(self) }
            }
            other => other,
        }
    }
}

impl Hint for TextError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Io { error, .. } if error.kind() == ErrorKind::UnexpectedEof => Some(foreign::CUT_OFF.to_owned()),
            Self::Io { .. } | Self::Format { .. } => {
                Some("give a file of rows: .jsonl or .json, also with .gz or .zst behind it, or .parquet".to_owned())
            }
            Self::Encoding { found, .. } => {
                let wide = ["UTF-16", "UTF-32"].into_iter().find(|wide| found.starts_with(wide));
                let from = wide.unwrap_or("WINDOWS-1252");
                Some(format!("rows must be UTF-8: iconv -f {from} -t UTF-8 OLD > NEW"))
            }
            Self::Disguised { ending: "", .. } => Some("unpack it, and give what comes out".to_owned()),
            Self::Disguised { ending, .. } => Some(format!("let its name end with {ending}")),
            Self::Pointer(_) => Some("fetch the file: git lfs pull in its folder, or ftk pull".to_owned()),
            Self::Grows { .. } => Some("unpack it yourself, and give what comes out".to_owned()),
            Self::Codec { .. } => Some("write it with zstd, snappy, gzip, lz4 or without compression".to_owned()),
            Self::Row { key, .. } if key == "question" => {
                Some("call the question instruction, which is read with system and input, or prompt".to_owned())
            }
            Self::Row { message, .. } if message == UNASKED => {
                Some("call it prompt; or if it is none, name the columns to read: data.columns = [\"chosen\", \"rejected\"]".to_owned())
            }
            Self::Row { message, .. } if message.ends_with(PAIRS) => {
                Some("train by preferences: ftk train dpo --set data.train=FILE; data preview takes --task dpo".to_owned())
            }
            Self::NoTurns { .. } => Some(
                "data.loss = \"completion\" scores what follows a prompt, and all of a row that has none".to_owned(),
            ),
            Self::Row { choice, .. } if !choice.is_empty() => Some(format!(
                "say which columns to read, and what the others hold is passed over: data.columns = {choice:?}"
            )),
            Self::Row { message, .. } if message.starts_with(NOT_WRITTEN) || message.starts_with(NO_ROLE) => Some(
                "give the base a chat template that writes it, as chat_template.jinja in its folder, or take it out of \
                 the rows"
                    .to_owned(),
            ),
            Self::Row { message, .. } if message.starts_with(SHIFTED) => {
                Some("labels stand at the places of their ids; training shifts them".to_owned())
            }
            Self::Row { message, key, .. } if message.ends_with(WANTED) => Some(format!(
                "write true or false, without quotes; of 1 and 0, which TRL takes for neither: jq -c '.{key} = (.{key} == 1)' OLD > NEW"
            )),
            Self::Row { message, .. } if message.starts_with(OTHERWISE) => Some(
                "give the base a chat template that writes what was asked alike before and behind the answer".to_owned(),
            ),
            Self::Row { message, .. } if !FORMS.iter().any(|begin| message.starts_with(begin)) => Some(
                "mend the row, or name the only columns to read in data.columns; `ftk data preview` shows what is made of them"
                    .to_owned(),
            ),
            Self::Row { .. } | Self::NoRows(_) => Some(
                "a row is an object: text, messages, conversations, prompt and completion, instruction and output, or \
                 input_ids for sft; prompt, chosen and rejected, or prompt_ids, chosen_ids and rejected_ids for dpo, prompt, completion and label \
                 for its loss kto"
                    .to_owned(),
            ),
            Self::Parquet { .. } => Some("is the file whole?".to_owned()),
            Self::Column { .. } => Some(format!("there are: {}", COLUMNS.join(", "))),
            Self::Replace { .. } => Some("rows hold such a name in double braces, as in {{name}}".to_owned()),
            Self::Unscored(counts) => Some(match (counts.dropped, counts.unscored) {
                (0, _) => "look at the labels or turns of the rows, and at data.loss".to_owned(),
                (dropped, _) => format!("prompts alone fill data.max_length in {dropped} rows; raise it"),
            }),
            Self::Unended { stop, special: false, .. } => Some(format!(
                "the chat template leaves the assistant's turn open, and a model trained so would not stop: let it write \
                 {stop} behind every turn, the last included"
            )),
            Self::Unended { found, .. } => Some(format!(
                "a model trained so would not stop: name {found} in eos_token_id of generation_config.json if it ends \
                 turns, or let the chat template (inside its generation marks) end them with eos_token"
            )),
            Self::NoEnd(_) => Some("name it as eos_token_id in config.json, or give token ids".to_owned()),
            Self::Turns => Some(
                "put {% generation %} and {% endgeneration %} around them in the template, or choose another data.loss"
                    .to_owned(),
            ),
            Self::Model(error) => error.hint(),
            Self::At { error, .. } => error.hint(),
        }
    }
}

fn kind(extension: &str) -> String {
    if extension.is_empty() { "no extension".to_owned() } else { format!(".{extension}") }
}
