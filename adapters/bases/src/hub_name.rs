//! Names of what lies on the Hugging Face Hub: `hf://ORG/NAME[@REVISION][/FILE]`. Only the names: what they stand
//! for is fetched elsewhere.
//!
//! Nothing that begins with `hf://` is ever taken for a path, and nothing else for a name, with one exception: where
//! a base is named, a plain `ORG/NAME[@REVISION]` is one if no file or folder is there.

use std::fmt;
use std::path::{Component, Path, PathBuf};

const SCHEME: &str = "hf://";

/// A model or data set on the hub, or a file in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubName {
    /// `ORG/NAME`.
    pub id: String,
    /// Branch, tag or commit; `main` without one. A `/` in it is written `%2F`.
    pub revision: Option<String>,
    /// Path of a file.
    pub file: Option<String>,
}

impl HubName {
    /// The name that follows `hf://`; `None` where it is malformed.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, '/');
        let (org, name, file) = (parts.next()?, parts.next()?, parts.next());
        let (name, revision) = match name.split_once('@') {
            Some((name, revision)) => (name, Some(revision.replace("%2F", "/"))),
            None => (name, None),
        };
        let good = is_word(org)
            && is_word(name)
            && revision.as_deref().is_none_or(|revision| revision.split('/').all(is_word))
            && file.is_none_or(is_inside);
        good.then(|| Self { id: format!("{org}/{name}"), revision, file: file.map(str::to_owned) })
    }

    /// The name that a path spells with `hf://`; `None` where it spells none.
    pub fn of(path: &Path) -> Option<Self> {
        Self::parse(path.to_str()?.strip_prefix(SCHEME)?)
    }

    /// Whether a base can be read from it: a whole model, or a GGUF file.
    pub fn is_model(&self) -> bool {
        self.file.as_ref().is_none_or(|file| file.ends_with(".gguf"))
    }

    /// Whether it names one file.
    pub fn is_file(&self) -> bool {
        self.file.is_some()
    }

    /// A base as it was typed, relative to a folder: its path, or its name with `hf://`.
    pub fn base(folder: &Path, typed: &Path) -> PathBuf {
        let path = folder.join(typed);
        match typed.to_str() {
            Some(text) if text.starts_with(SCHEME) => typed.to_owned(),
            Some(text) if !path.exists() => match Self::parse(text) {
                Some(name) if name.file.is_none() => name.to_string().into(),
                _ => path,
            },
            _ => path,
        }
    }

    /// The name of what lies at a path in the hub's cache, at its commit; `kind` is `models` or `datasets`.
    pub fn of_cached(path: &Path, kind: &str) -> Option<Self> {
        let parts: Option<Vec<&str>> = path.components().map(|part| part.as_os_str().to_str()).collect();
        let parts = parts?;
        let at = parts.iter().rposition(|part| *part == "snapshots")?;
        let (folder, commit) = (parts.get(at.checked_sub(1)?)?, parts.get(at + 1)?);
        let id = folder.strip_prefix(kind)?.strip_prefix("--")?;
        let file = parts[at + 2..].join("/");
        let file = (!file.is_empty()).then_some(file);
        Some(Self { id: id.replacen("--", "/", 1), revision: Some((*commit).to_owned()), file })
    }
}

impl fmt::Display for HubName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}", self.id)?;
        if let Some(revision) = &self.revision {
            write!(f, "@{}", revision.replace('/', "%2F"))?;
        }
        self.file.iter().try_for_each(|file| write!(f, "/{file}"))
    }
}

/// Whether a path begins as a name does, well formed or not.
pub fn has_scheme(path: &Path) -> bool {
    path.to_str().is_some_and(|text| text.starts_with(SCHEME))
}

/// Whether a text can be a part of a name: no path could leave a folder with it.
fn is_word(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

/// Whether a file's path stays inside the folder it is relative to, on every system.
pub fn is_inside(file: &str) -> bool {
    let plain = Path::new(file).components().all(|part| matches!(part, Component::Normal(_)));
    plain && !file.is_empty() && !file.ends_with('/') && !file.contains(['\\', ':', '\0'])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(id: &str, revision: Option<&str>, file: Option<&str>) -> HubName {
        HubName { id: id.to_owned(), revision: revision.map(str::to_owned), file: file.map(str::to_owned) }
    }

    #[test]
    fn names_are_read_and_written_alike() {
        for (text, expected) in [
            ("hf://org/name", name("org/name", None, None)),
            ("hf://o-r.g/n_1.2@v1.0", name("o-r.g/n_1.2", Some("v1.0"), None)),
            ("hf://org/name@refs%2Fpr%2F1/a/b.jsonl", name("org/name", Some("refs/pr/1"), Some("a/b.jsonl"))),
            ("hf://org/name/m.gguf", name("org/name", None, Some("m.gguf"))),
        ] {
            assert_eq!(HubName::of(Path::new(text)), Some(expected), "{text}");
            assert_eq!(HubName::of(Path::new(text)).unwrap().to_string(), text);
        }
        for text in ["org/name", "hf:/org/name", "./hf://org/name", "village", "/hf://org/name"] {
            assert_eq!(HubName::of(Path::new(text)), None, "{text}");
        }
    }

    #[test]
    fn names_that_could_leave_the_cache_are_malformed() {
        for text in ["", "org", "org/", "/name", "../name", "org/..", "org/name@", "org/name@..", "org/name@a%2F..%2Fb"]
        {
            assert_eq!(HubName::parse(text), None, "{text}");
        }
        for file in ["", "../x", "a/../x", "/x", "a\\b", "c:x", "a/"] {
            assert_eq!(HubName::parse(&format!("org/name/{file}")), None, "{file}");
        }
    }

    #[test]
    fn a_base_is_a_name_only_where_nothing_is_there() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
        let base = |typed: &str| HubName::base(folder, Path::new(typed));
        assert_eq!(base("org/name@v1"), PathBuf::from("hf://org/name@v1"));
        assert_eq!(base("hf://src/lib.rs"), PathBuf::from("hf://src/lib.rs"));
        for path in ["src/lib.rs", "./org/name", "../org/name", "org/name/file", "/org/name", "name"] {
            assert_eq!(base(path), folder.join(path), "{path}");
        }
    }

    #[test]
    fn the_cache_says_what_its_files_are_called() {
        let named = |kind: &str, path: &str| HubName::of_cached(Path::new(path), kind).map(|name| name.to_string());
        let model = named("models", "/c/models--org--a-b/snapshots/01ab");
        assert_eq!(model.as_deref(), Some("hf://org/a-b@01ab"));
        let rows = named("datasets", "/c/datasets--org--rows/snapshots/01ab/x/y.jsonl");
        assert_eq!(rows.as_deref(), Some("hf://org/rows@01ab/x/y.jsonl"));
        for path in
            ["/c/models--org--a", "/snapshots/01ab", "/c/org--a/snapshots/01ab", "/c/datasets--org--a/snapshots/01ab"]
        {
            assert_eq!(named("models", path), None, "{path}");
        }
    }
}
