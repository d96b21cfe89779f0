//! Which files are asked for, and which were found.

use std::path::PathBuf;

/// The file without which there is no model.
pub(super) const CONFIG: &str = "config.json";
/// What a data set's rows are stored in.
pub(super) const ROWS: [&str; 8] =
    [".jsonl", ".jsonl.gz", ".jsonl.zst", ".ndjson", ".json", ".json.gz", ".json.zst", ".parquet"];

/// Models and data sets have names of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RepoKind {
    /// Models.
    Model,
    /// Data sets.
    Dataset,
}

/// Which files of a repository are needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted<'a> {
    /// What [`crate::BaseModel::open`] reads: configuration, tokenizer, template, safetensors.
    Model,
    /// What [`crate::BaseModel::skeleton`] reads: the same without weights.
    Skeleton,
    /// Every file of rows.
    Rows,
    /// These.
    Files(&'a [String]),
}

/// Files of one commit, in the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pulled {
    /// The commit.
    pub commit: String,
    /// The snapshot's folder.
    pub folder: PathBuf,
    /// The files that were wanted, relative to it.
    pub files: Vec<String>,
}

impl Wanted<'_> {
    /// The file to name when there is nothing at all.
    pub(super) fn first(&self) -> &str {
        match self {
            Self::Model | Self::Skeleton => CONFIG,
            Self::Rows => "every file",
            Self::Files(files) => files.first().map_or("every file", String::as_str),
        }
    }
}

pub(super) fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}
