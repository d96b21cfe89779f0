//! Where in a recipe's text a key stands.

use std::ops::Range;
use std::path::Path;

use toml::de::{DeTable, DeValue};

use crate::error::RecipeError;

/// A recipe's text with the path it came from.
pub(crate) struct Source<'a> {
    path: &'a Path,
    text: &'a str,
}

impl<'a> Source<'a> {
    pub(crate) fn new(path: &'a Path, text: &'a str) -> Self {
        Self { path, text }
    }

    /// A value that breaks a rule.
    pub(crate) fn refuse(&self, key: &str, rule: &str) -> RecipeError {
        RecipeError {
            path: self.path.to_owned(),
            line: self.span(key).map(|span| self.line(span.start)),
            key: Some(key.to_owned()),
            message: rule.to_owned(),
            hint: None,
        }
    }

    /// What the TOML reader refused.
    pub(crate) fn syntax(&self, error: &toml::de::Error) -> RecipeError {
        let message = error.message().trim_end_matches('\n');
        let (message, hint) = match unknown_key(message) {
            Some((key, known)) => (format!("unknown key: {key}"), hint(key, &known)),
            None => (message.replace('\n', ", "), None),
        };
        let line = error.span().map(|span| self.line(span.start));
        RecipeError { path: self.path.to_owned(), line, key: None, message, hint }
    }

    fn line(&self, offset: usize) -> usize {
        1 + self.text.as_bytes()[..offset.min(self.text.len())].iter().filter(|&&byte| byte == b'\n').count()
    }

    /// The place of a dotted key, or of the deepest part of it that is written down.
    fn span(&self, key: &str) -> Option<Range<usize>> {
        let document = DeTable::parse(self.text).ok()?;
        let mut table = document.get_ref();
        let mut found = None;
        for part in key.split('.') {
            let Some((name, value)) = table.get_key_value(part) else { break };
            found = Some(name.span());
            let DeValue::Table(inner) = value.get_ref() else { break };
            table = inner;
        }
        found
    }
}

/// Takes apart serde's sentence about an unknown field: the field and those expected.
fn unknown_key(message: &str) -> Option<(&str, Vec<&str>)> {
    let mut quoted = message.strip_prefix("unknown field ")?.split('`').skip(1).step_by(2);
    Some((quoted.next()?, quoted.collect()))
}

fn hint(key: &str, known: &[&str]) -> Option<String> {
    if let Some((_, reason)) = REFUSED.iter().find(|(name, _)| *name == key) {
        return Some((*reason).to_owned());
    }
    Some(match nearest(key, known) {
        Some(name) => format!("did you mean {name}?"),
        None => format!("known here: {}", known.join(", ")),
    })
}

/// Keys of other programs that are left out on purpose, with the reason.
const REFUSED: [(&str, &str); 2] = [("dora", NO_DORA), ("use_dora", NO_DORA)];

const NO_DORA: &str =
    "DoRA rescales the base's own output beside adding to it; proofs are about what is added, so there is only LoRA";

/// The name that is so near to `name` that it may have been meant.
pub(crate) fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let near = |other: &str| strsim::jaro_winkler(name, other);
    known.iter().copied().filter(|other| near(other) > 0.7).max_by(|a, b| near(a).total_cmp(&near(b)))
}
