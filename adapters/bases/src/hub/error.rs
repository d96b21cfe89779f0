//! What can keep files of the hub from being here.

use std::path::PathBuf;

use ftk_adapters::hint::Hint;

/// Error of [`crate::hub`]. Its hints say what to do.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// Not in the cache, and no connection is allowed.
    #[error("offline, and {file} of {name} is not in the cache: {}", cache.display())]
    Offline {
        /// What was asked for.
        name: String,
        /// The first file that is missing.
        file: String,
        /// Whether it is a data set.
        dataset: bool,
        /// The cache.
        cache: PathBuf,
    },
    /// The endpoint does not know it, or not for everybody.
    #[error("{name}: not at {endpoint}, or not open to you: status {status}{}{code}", if code.is_empty() { "" } else { ", " })]
    Unknown {
        /// What was asked for.
        name: String,
        /// Where.
        endpoint: String,
        /// HTTP status.
        status: u16,
        /// The reason as hubs name it (`X-Error-Code`), or nothing.
        code: String,
    },
    /// A data set where a model is asked for, or a model where a data set is.
    #[error("{name}: is a {}", if *dataset { "data set, and no model" } else { "model, and no data set" })]
    OtherKind {
        /// What was asked for.
        name: String,
        /// Whether it is a data set.
        dataset: bool,
    },
    /// The endpoint does not know the token.
    #[error("the token is none of {endpoint}: status {status}")]
    Token {
        /// Where.
        endpoint: String,
        /// HTTP status.
        status: u16,
    },
    /// Whoever pushes has to say who it is.
    #[error("no token for {endpoint}")]
    NoToken {
        /// Where.
        endpoint: String,
    },
    /// The token may read, or not even that.
    #[error("{name}: not open to be written with this token: status {status}")]
    ReadOnly {
        /// The repository.
        name: String,
        /// HTTP status.
        status: u16,
    },
    /// The repository has no such file.
    #[error("{name}: no such file: {file}")]
    NoFile {
        /// What was asked for.
        name: String,
        /// The file.
        file: String,
    },
    /// The repository has no weights that can be read.
    #[error("{name}: holds no safetensors")]
    NoWeights {
        /// What was asked for.
        name: String,
        /// Its GGUF files.
        gguf: Vec<String>,
    },
    /// No connection, or it broke.
    #[error("{what}: cannot be fetched: {reason}")]
    Transfer {
        /// The repository or a file of it.
        what: String,
        /// Why.
        reason: String,
    },
    /// A repository is public that was to be private.
    #[error("{name}: is there already, and everybody sees it; nothing was sent")]
    Public {
        /// The repository.
        name: String,
    },
    /// A file is not the one that was announced.
    #[error("{what}: damaged on its way: {reason}")]
    Damaged {
        /// The file.
        what: String,
        /// In which way.
        reason: String,
    },
    /// An answer of the endpoint makes no sense.
    #[error("{endpoint}: not an answer of a hub: {reason}")]
    Answer {
        /// Where it came from.
        endpoint: String,
        /// What is wrong.
        reason: String,
    },
    /// A file that is to be pushed cannot be read.
    #[error("{}: cannot be read, and is not pushed: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The cache cannot be read or written.
    #[error("{}: {source}", path.display())]
    Cache {
        /// File or folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A path names a variable or a home folder that is not known.
    #[error("{name}: unknown here: {what}: {value}")]
    Variable {
        /// The variable that holds the path.
        name: &'static str,
        /// The path.
        value: String,
        /// What is not known.
        what: String,
    },
    /// A variable that names no proxy.
    #[error("{name}: not the address of a proxy")]
    Proxy {
        /// The variable.
        name: &'static str,
    },
    /// A variable that is no number of seconds.
    #[error("{name}: not a number of seconds from 1: {value}")]
    Seconds {
        /// The variable.
        name: &'static str,
        /// What it holds.
        value: String,
    },
    /// An endpoint with a user's name or a password in it.
    #[error("HF_ENDPOINT: holds a name or a password, which would stand in messages")]
    Credentials,
    /// There is no home folder for the cache.
    #[error("no home folder to keep the cache in")]
    NoHome,
}

impl Hint for HubError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Offline { name, dataset, .. } => {
                let dataset = if *dataset { " --dataset" } else { "" };
                format!("run `ftk pull {name}{dataset}` with a connection, without --offline and HF_HUB_OFFLINE")
            }
            Self::Unknown { code, .. } if code == "GatedRepo" => {
                "the repository is gated: ask for access on its page, and \
                                                                  set HF_TOKEN to a token of an account that has it"
                    .to_owned()
            }
            Self::Unknown { status: 401, code, .. } if code.is_empty() => {
                "check name and revision; what is private or gated \
                                                                           needs HF_TOKEN, a token that is still valid"
                    .to_owned()
            }
            Self::Unknown { .. } => "check name and revision; what is private or gated needs HF_TOKEN; for a local \
                                     folder give a path that exists"
                .to_owned(),
            Self::OtherKind { name, dataset: true } => {
                format!("`ftk pull {name} --dataset` fetches its rows; a base is a model")
            }
            Self::OtherKind { name, dataset: false } => {
                format!("`ftk pull {name}` fetches it; rows are named by hf://ORG/NAME/FILE of a data set")
            }
            Self::Unreadable { .. } => "make it readable; nothing was committed".to_owned(),
            Self::Token { .. } => "make another there, and put it into HF_TOKEN or the token file".to_owned(),
            Self::NoToken { .. } | Self::ReadOnly { .. } => {
                "make a token there that may write, and put it into HF_TOKEN or the token file".to_owned()
            }
            Self::NoFile { .. } => "look at the repository's list of files".to_owned(),
            Self::NoWeights { gguf, .. } if gguf.is_empty() => "pickled weights are not read".to_owned(),
            Self::NoWeights { gguf, .. } => format!("name one of its GGUF files: {}", gguf.join(", ")),
            Self::Transfer { .. } => "try again: what has arrived is kept; --offline uses the cache alone".to_owned(),
            Self::Damaged { .. } => "try again; nothing of it entered the cache".to_owned(),
            Self::Answer { .. } => "check HF_ENDPOINT".to_owned(),
            Self::Proxy { name } => format!("set {name} to http://HOST:PORT or socks5://HOST:PORT, or unset it"),
            Self::Public { .. } => "make it private at the hub, or leave out --private".to_owned(),
            Self::Credentials => "let it hold the address alone, and HF_TOKEN the token".to_owned(),
            Self::Seconds { name, .. } => format!("set {name} to whole seconds, or unset it"),
            Self::Variable { name, .. } => format!("set it, or write {name} out"),
            Self::Cache { .. } | Self::NoHome => "HF_HOME or HF_HUB_CACHE name the folder to use".to_owned(),
        })
    }
}
