//! A repository's folder in the cache: looking into it, and putting whole files there.

use std::path::{Path, PathBuf};

use ftk_adapters::{atomic, foreign, staged};

use super::error::HubError;
use super::wanted::{CONFIG, Pulled, ROWS, RepoKind, Wanted, is_commit};
use crate::folder::{SHARDS, TEXT_FILES, TOOL_TEMPLATE, WEIGHTS, shards};

/// What the cache holds of what is wanted.
pub(super) enum Look {
    /// All of it.
    Complete(Vec<String>),
    /// All that is needed, but there might be more.
    Unsure(Vec<String>),
    /// Not this file.
    Missing(String),
}

/// A repository's folder in the cache.
pub(super) struct RepoFolder {
    pub(super) folder: PathBuf,
    pub(super) lock: PathBuf,
}

impl RepoFolder {
    pub(super) fn new(cache: &Path, kind: RepoKind, id: &str) -> Self {
        let kind = match kind {
            RepoKind::Model => "models",
            RepoKind::Dataset => "datasets",
        };
        let name = format!("{kind}--{}", id.replace('/', "--"));
        Self { lock: cache.join(".locks").join(&name), folder: cache.join(name) }
    }

    /// Whether files can be added.
    pub(super) fn is_writable(&self) -> bool {
        staged::probe_folder(&self.folder).is_ok()
    }

    pub(super) fn snapshot(&self, commit: &str) -> PathBuf {
        self.folder.join("snapshots").join(commit)
    }

    pub(super) fn partial(&self) -> PathBuf {
        self.folder.join(".partial")
    }

    /// The mark that a commit has no such file.
    pub(super) fn absence(&self, commit: &str, file: &str) -> PathBuf {
        self.folder.join(".no_exist").join(commit).join(file)
    }

    pub(super) fn pulled(&self, commit: String, files: Vec<String>) -> Pulled {
        Pulled { folder: self.snapshot(&commit), commit, files }
    }

    /// What a revision meant when it was last asked for.
    pub(super) fn commit(&self, revision: &str) -> Option<String> {
        let text = foreign::read_text(&self.folder.join("refs").join(revision), foreign::DOCUMENT).ok()?;
        Some(text.trim().to_owned()).filter(|commit| is_commit(commit))
    }

    pub(super) fn look(&self, commit: &str, wanted: Wanted<'_>) -> Look {
        let folder = self.snapshot(commit);
        let there = |file: &str| folder.join(file).is_file();
        let mut files = Vec::new();
        match wanted {
            Wanted::Files(names) => match names.iter().find(|name| !there(name)) {
                Some(missing) => Look::Missing(missing.clone()),
                None => Look::Complete(names.to_vec()),
            },
            Wanted::Rows => {
                list(&folder, "", &mut files);
                files.retain(|file| is_rows(file));
                files.sort();
                if files.is_empty() { Look::Missing(wanted.first().to_owned()) } else { Look::Unsure(files) }
            }
            Wanted::Model | Wanted::Skeleton => {
                let mut needed = vec![CONFIG.to_owned()];
                if wanted == Wanted::Model && there(SHARDS) && !there(WEIGHTS) {
                    needed.push(SHARDS.to_owned());
                    // An index that cannot be read is told about when the model is opened.
                    needed.extend(shards(&folder).unwrap_or_default());
                } else if wanted == Wanted::Model {
                    needed.push(WEIGHTS.to_owned());
                }
                if let Some(missing) = needed.iter().find(|file| !there(file)) {
                    return Look::Missing(missing.clone());
                }
                files.extend(TEXT_FILES.iter().filter(|file| there(file)).map(|file| (*file).to_owned()));
                files.extend(needed);
                // A template of its own for tools stands beside the other's file, and other tools leave no mark that there
                // is none.
                let idle = |file: &str| file == TOOL_TEMPLATE && !there("chat_template.jinja");
                let decided = |file: &&&str| there(file) || self.absence(commit, file).exists() || idle(file);
                if TEXT_FILES.iter().all(|file| decided(&file)) { Look::Complete(files) } else { Look::Unsure(files) }
            }
        }
    }

    /// Moves a whole file in.
    pub(super) fn store(&self, commit: &str, file: &str, etag: &str, from: &Path) -> Result<(), HubError> {
        let blob = self.folder.join("blobs").join(etag);
        parents(&blob)?;
        std::fs::rename(from, &blob).map_err(|source| HubError::Cache { path: blob, source })?;
        self.link(commit, file, etag)
    }

    /// Gives a blob its name in a snapshot.
    pub(super) fn link(&self, commit: &str, file: &str, etag: &str) -> Result<(), HubError> {
        let at = self.snapshot(commit).join(file);
        parents(&at)?;
        // A link whose blob is gone may be in the way.
        let _ = std::fs::remove_file(&at);
        #[cfg(unix)]
        let linked = {
            let up = "../".repeat(2 + file.matches('/').count());
            std::os::unix::fs::symlink(format!("{up}blobs/{etag}"), &at)
        };
        // Where links need rights, the file itself is put there, as other tools do.
        #[cfg(not(unix))]
        let linked = std::fs::rename(self.folder.join("blobs").join(etag), &at);
        linked.map_err(|source| HubError::Cache { path: at, source })
    }
}

/// The files below a folder, with `/` between the parts of their names.
fn list(folder: &Path, prefix: &str, files: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.path().is_dir() {
            list(&entry.path(), &format!("{name}/"), files);
        } else if entry.path().is_file() {
            files.push(name);
        }
    }
}

pub(super) fn is_rows(file: &str) -> bool {
    ROWS.iter().any(|ending| file.ends_with(ending))
}

pub(super) fn parents(path: &Path) -> Result<(), HubError> {
    let folder = path.parent().expect("what is in the cache has a folder");
    std::fs::create_dir_all(folder).map_err(|source| HubError::Cache { path: folder.to_owned(), source })
}

pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<(), HubError> {
    parents(path)?;
    atomic::write(path, bytes).map_err(|source| HubError::Cache { path: path.to_owned(), source })
}
