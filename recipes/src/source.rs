//! A recipe's text with what `--set` lays over it, and where in them a key stands.

use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue, Deserializer};

use crate::elsewhere;
use crate::error::RecipeError;

/// One `key=value` from the command line, read as a line of TOML that stands behind the recipe's text.
pub struct Override {
    key: String,
    /// First byte of its line, counted from the first byte of the recipe.
    start: usize,
    /// The line after as many blanks, so that the reader's positions are distinct from all others.
    text: String,
}

impl Override {
    /// Reads overrides of a recipe that is `length` bytes long.
    pub fn read(settings: &[String], length: usize) -> Result<Vec<Self>, RecipeError> {
        let mut start = length + 1;
        let mut overrides = Vec::new();
        for setting in settings {
            let found = Self::parse(setting, start)?;
            start = found.text.len() + 1;
            overrides.push(found);
        }
        Ok(overrides)
    }

    fn parse(setting: &str, start: usize) -> Result<Self, RecipeError> {
        let refuse = |key: &str, message: String| RecipeError {
            path: place(key),
            line: None,
            key: None,
            message,
            hint: Some("write --set key=value, for example --set optim.lr=1e-4; text in quotes is always text".into()),
        };
        let Some((key, value)) = setting.split_once('=').map(|(key, value)| (key.trim(), value.trim())) else {
            return Err(refuse(setting, "has no value".to_owned()));
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
        if key.is_empty() || !key.chars().all(plain) {
            return Err(refuse(key, "is no dotted key".to_owned()));
        }
        let line = |value: &str| format!("{:start$}{key} = {value}", "");
        let read = |text: &str| DeTable::parse(text).map(drop).map_err(|error| error.message().replace('\n', ", "));
        let mut text = line(value);
        if let Err(message) = read(&text) {
            // A bare word or path is text: shells eat the quotes that TOML wants.
            let word = value.starts_with(|c: char| c.is_ascii_alphanumeric() || "_./~".contains(c));
            text = line(&toml::Value::from(value).to_string());
            if !word || read(&text).is_err() {
                return Err(refuse(key, message));
            }
        }
        Ok(Self { key: key.to_owned(), start, text })
    }
}

/// What an error calls the place of an override.
fn place(key: &str) -> PathBuf {
    PathBuf::from(format!("--set {key}"))
}

/// A recipe's text with the path it came from.
pub struct RecipeSource<'a> {
    path: &'a Path,
    text: &'a str,
    overrides: &'a [Override],
    /// The text with the overrides in their places.
    document: Spanned<DeTable<'a>>,
}

impl<'a> RecipeSource<'a> {
    /// A text with overrides laid over it; `path` names it in errors.
    ///
    /// # Errors
    /// What is not TOML.
    pub fn new(path: &'a Path, text: &'a str, overrides: &'a [Override]) -> Result<Self, RecipeError> {
        let empty = Spanned::new(0..0, DeTable::new());
        let mut source = Self { path, text, overrides, document: empty };
        source.document = DeTable::parse(text).map_err(|error| source.syntax(&error))?;
        for over in overrides {
            let line = DeTable::parse(&over.text).expect("it was read before").into_inner();
            lay_over(source.document.get_mut(), line);
        }
        Ok(source)
    }

    /// The values as a type.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, RecipeError> {
        T::deserialize(Deserializer::from(self.document.clone())).map_err(|error| self.syntax(&error))
    }

    /// A value that breaks a rule.
    pub fn refuse(&self, key: &str, rule: &str) -> RecipeError {
        let span = self.span(key);
        if let Some(over) = span.as_ref().and_then(|span| self.over(span.start)) {
            let key = (over.key != key).then(|| key.to_owned());
            return RecipeError { path: place(&over.key), line: None, key, message: rule.to_owned(), hint: None };
        }
        RecipeError {
            path: self.path.to_owned(),
            line: span.map(|span| self.line(span.start)),
            key: Some(key.to_owned()),
            message: rule.to_owned(),
            hint: None,
        }
    }

    /// Dotted names of all values and empty tables, in the order of the recipe's text and then of the overrides.
    pub(crate) fn written(&self) -> Vec<String> {
        fn walk(table: &DeTable<'_>, prefix: &str, found: &mut Vec<(usize, String)>) {
            for (name, value) in table {
                let path = format!("{prefix}{}", name.get_ref());
                match value.get_ref() {
                    DeValue::Table(inner) if !inner.is_empty() => walk(inner, &format!("{path}."), found),
                    _ => found.push((name.span().start, path)),
                }
            }
        }
        let mut found = Vec::new();
        walk(self.document.get_ref(), "", &mut found);
        found.sort();
        found.into_iter().map(|(_, name)| name).collect()
    }

    /// Whether the value of a key was laid over the recipe's text.
    pub fn is_typed(&self, key: &str) -> bool {
        self.span(key).is_some_and(|span| self.over(span.start).is_some())
    }

    /// What the TOML reader refused.
    fn syntax(&self, error: &toml::de::Error) -> RecipeError {
        let message = error.message().trim_end_matches('\n');
        let (message, hint) = match unknown_key(message) {
            Some((key, known)) => (format!("unknown key: {key}"), hint(key, &known)),
            None => (in_words(&message.replace('\n', ", ")), self.other_format()),
        };
        if let Some(over) = error.span().and_then(|span| self.over(span.start)) {
            return RecipeError { path: place(&over.key), line: None, key: None, message, hint };
        }
        let line = error.span().map(|span| self.line(span.start));
        RecipeError { path: self.path.to_owned(), line, key: None, message, hint }
    }

    /// What to say of a file that is no TOML for being something else.
    fn other_format(&self) -> Option<String> {
        let ending = self.path.extension()?.to_str()?.to_ascii_lowercase();
        let others = [("yaml", "YAML"), ("yml", "YAML"), ("json", "JSON")];
        let (_, other) = others.into_iter().find(|(name, _)| *name == ending)?;
        Some(format!(
            "recipes and plans are TOML, not {other}: `ftk recipes cp sft mine.toml` makes a recipe to begin with"
        ))
    }

    /// The override that holds a position, if it is not the recipe's own text that does.
    fn over(&self, offset: usize) -> Option<&Override> {
        self.overrides.iter().find(|over| (over.start..=over.text.len()).contains(&offset))
    }

    fn line(&self, offset: usize) -> usize {
        1 + self.text.as_bytes()[..offset.min(self.text.len())].iter().filter(|&&byte| byte == b'\n').count()
    }

    /// The place of a dotted key, or of the deepest part of it that is written down.
    fn span(&self, key: &str) -> Option<Range<usize>> {
        deepest(self.document.get_ref(), key)
    }
}

/// The place of a dotted key in a table, or of the deepest part of it that is there.
fn deepest(table: &DeTable<'_>, key: &str) -> Option<Range<usize>> {
    // A key in quotes may hold dots.
    if let Some((name, _)) = table.get_key_value(key) {
        return Some(name.span());
    }
    let (part, rest) = key.split_once('.')?;
    let (name, value) = table.get_key_value(part)?;
    let inner = match value.get_ref() {
        DeValue::Table(inner) => deepest(inner, rest),
        // Of several tables, the one that has it, if no other does.
        DeValue::Array(items) => {
            let mut places = items.iter().filter_map(|item| deepest(item.get_ref().as_table()?, rest));
            places.next().filter(|_| places.next().is_none())
        }
        _ => None,
    };
    Some(inner.unwrap_or_else(|| name.span()))
}

/// Tables are merged, anything else is replaced.
fn lay_over<'a>(below: &mut DeTable<'a>, above: DeTable<'a>) {
    for (key, value) in above {
        let name: &str = key.get_ref();
        match (below.get_mut(name).map(Spanned::get_mut), parts(value)) {
            (Some(DeValue::Table(below)), (DeValue::Table(above), _)) => lay_over(below, above),
            (_, (value, span)) => {
                // The key goes too: it carries the place.
                below.remove(name);
                below.insert(key, Spanned::new(span, value));
            }
        }
    }
}

/// A value and where it stands.
fn parts(value: Spanned<DeValue<'_>>) -> (DeValue<'_>, Range<usize>) {
    let span = value.span();
    (value.into_inner(), span)
}

/// Takes apart serde's sentence about an unknown field: the field and those expected.
fn unknown_key(message: &str) -> Option<(&str, Vec<&str>)> {
    let mut quoted = message.strip_prefix("unknown field ")?.split('`').skip(1).step_by(2);
    Some((quoted.next()?, quoted.collect()))
}

/// A message without the names that Rust has for kinds of values.
fn in_words(message: &str) -> String {
    let Some((before, kind)) = message.rsplit_once(", expected ") else { return message.to_owned() };
    let words = match kind {
        "usize" | "u8" | "u16" | "u32" | "u64" => "a whole number from 0",
        "isize" | "i8" | "i16" | "i32" | "i64" => "a whole number",
        "f32" | "f64" => "a number",
        "a boolean" => "true or false",
        // Sections are structs.
        other if other.starts_with("struct ") => "a table of keys",
        other => other,
    };
    format!("{before}, expected {words}")
}

fn hint(key: &str, known: &[&str]) -> Option<String> {
    if let Some(told) = elsewhere::hint(key).filter(|_| !known.contains(&key)) {
        return Some(told);
    }
    Some(match nearest(key, known) {
        Some(name) => format!("did you mean {name}?"),
        None => format!("known here: {}", known.join(", ")),
    })
}

/// The name that is so near to `name` that it may have been meant.
pub(crate) fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let near = |other: &str| strsim::jaro_winkler(name, other);
    known.iter().copied().filter(|other| near(other) > 0.7).max_by(|a, b| near(a).total_cmp(&near(b)))
}
