//! What can be wrong with a recipe.

use std::fmt;
use std::path::{Path, PathBuf};

use ftk_adapters::hint::Hint;

/// A recipe that cannot be run: where, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecipeError {
    /// The recipe.
    pub path: PathBuf,
    /// Line of the text, from 1.
    pub line: Option<usize>,
    /// Dotted key.
    pub key: Option<String>,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}

impl RecipeError {
    /// A recipe, or a file of another kind that is read as one, which is not there.
    pub fn unreadable(what: &str, path: &Path, error: &std::io::Error, hint: String) -> Self {
        Self {
            path: path.to_owned(),
            line: None,
            key: None,
            message: format!("cannot read the {what}: {error}"),
            hint: Some(hint),
        }
    }
}

impl fmt::Display for RecipeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if let Some(key) = &self.key {
            write!(f, ":{key}")?;
        }
        write!(f, ": {}", self.message)
    }
}

impl std::error::Error for RecipeError {}

impl Hint for RecipeError {
    fn hint(&self) -> Option<String> {
        self.hint.clone()
    }
}
