//! Rows of text by their columns: TRL's (`messages`, `text`, `prompt` and `completion`, `prompt`, `chosen` and
//! `rejected`), ShareGPT's (`conversations`), Alpaca's (`instruction`, `input`, `output`), or token ids.
//!
//! A row is read in one way only: columns that allow two readings are refused. A column or a field of a turn that has a
//! meaning in these formats is used or refused by its name; one without a meaning here is counted and named.
//! `recipes/text/ROWS.md` has the table. What the files look like is known to [`super::files`], what a turn holds to
//! [`super::turn`].

mod columns;
mod kinds;
pub(super) mod names;
mod readings;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use ftk_bases::ChatTemplate;
use serde_json::Value;

use self::columns::Columns;
pub use self::columns::Row;
pub use self::kinds::{Chat, PairRow, PlainText, PromptRow, SftRow, UnpairedRow};
pub use self::names::COLUMNS;
use super::error::TextError;
use super::files;
use super::place::RowPlace;

/// What else than its columns says how a file is read.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The only columns to look at; all of [`COLUMNS`] if absent.
    pub columns: Option<Vec<String>>,
    /// What stands in the place of `{{name}}`, by name.
    pub replace: BTreeMap<String, String>,
    /// What will render conversations: fields of turns that it does not name are refused or counted.
    pub template: Option<ChatTemplate>,
}

/// Rows with their places.
#[derive(Clone, Debug)]
pub struct RowFile<R> {
    /// The rows in order.
    pub rows: Vec<(RowPlace, R)>,
    /// Names in double braces that were filled.
    pub filled: BTreeSet<String>,
    /// Names in double braces that were left as they are.
    pub open: BTreeSet<String>,
    /// Columns, and fields of turns as `messages[].name`, that nothing reads, with the rows that have them.
    pub unread: BTreeMap<String, usize>,
}

/// Reads a file of rows in one of the formats of [`files::read`].
///
/// # Errors
/// An unreadable file, a column missing or of the wrong type, two possible readings, a column or field with a meaning
/// that would be lost, no rows.
pub fn read<R: Row>(path: &Path, options: &Options) -> Result<RowFile<R>, TextError> {
    let known: Vec<&str> = match &options.columns {
        None => COLUMNS.to_vec(),
        Some(wanted) => {
            let known = |name: &String| COLUMNS.into_iter().find(|column| column == name);
            let column = |name| known(name).ok_or_else(|| TextError::Column { name: name.clone() });
            wanted.iter().map(column).collect::<Result<_, _>>()?
        }
    };
    let mut file =
        RowFile { rows: Vec::new(), filled: BTreeSet::new(), open: BTreeSet::new(), unread: BTreeMap::new() };
    // Of a table only these columns are read at all.
    let table = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("parquet"));
    let questions = if table && options.columns.is_none() { names::QUESTIONS.as_slice() } else { &[] };
    let others = files::read(path, &[known.as_slice(), questions].concat(), &mut |place, mut row| {
        row.retain(|_, value| !value.is_null());
        if options.columns.is_none() {
            for name in row.keys().filter(|name| !known.contains(&name.as_str())) {
                *file.unread.entry(name.clone()).or_default() += 1;
            }
        }
        let words = match options.columns {
            None => row.iter().filter(|(name, _)| !known.contains(&name.as_str())).filter_map(words).collect(),
            Some(_) => Vec::new(),
        };
        row.retain(|name, _| known.contains(&name.as_str()));
        for value in row.values_mut() {
            fill(value, &options.replace, &mut file.filled, &mut file.open);
        }
        let columns = Columns::new(path, place, row, options.template.as_ref()).beside(words);
        let row = R::read(&columns).map_err(|error| error.beside(file.unread.keys()))?;
        columns.rest(R::PASSED_OVER)?;
        for name in columns.unread.into_inner() {
            *file.unread.entry(name).or_default() += 1;
        }
        file.rows.push((place, row));
        Ok(())
    })?;
    if options.columns.is_none() {
        file.unread.extend(others.into_iter().map(|name| (name, file.rows.len())));
    }
    if file.rows.is_empty() { Err(TextError::NoRows(path.to_owned())) } else { Ok(file) }
}

/// A column of several words.
fn words((name, value): (&String, &Value)) -> Option<(String, String)> {
    let text = value.as_str().filter(|text| text.split_whitespace().nth(1).is_some())?;
    Some((name.clone(), text.to_owned()))
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
