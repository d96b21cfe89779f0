//! One JSON object of a file, and what Python's writers put into it that JSON does not have. Names that an object has
//! twice, of which parsers keep the last, are remembered.

use std::cell::RefCell;
use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// A row of a file, as JSON.
pub type RowObject = Map<String, Value>;

/// What stands for a value that JSON does not have, in an object that was mended: a noncharacter, which no text holds.
const NAN: &str = "\u{FDD0}";

/// The same for half of a surrogate pair, which no text in UTF-8 holds.
const HALF: &str = "\u{FDD1}";

/// An object as it was written.
#[derive(Debug)]
pub(super) struct WrittenRow {
    /// Its values, the last of each name.
    pub(super) row: RowObject,
    /// Names that stand there twice, behind the column they are in, which is the name itself at the top.
    twice: Vec<[String; 2]>,
}

impl WrittenRow {
    /// An object that is none but for values that Python writes or reads and JSON does not have: NaN, infinities, numbers
    /// that come to one, and halves of surrogate pairs.
    pub(super) fn mended(text: &str) -> Option<Self> {
        if [NAN, HALF].iter().any(|mark| text.contains(mark)) {
            return None;
        }
        let (mut mended, mut rest, mut quoted) = (String::with_capacity(text.len()), text, false);
        while let Some(first) = rest.chars().next() {
            let word = ["NaN", "-Infinity", "Infinity"].into_iter().find(|word| !quoted && rest.starts_with(word));
            let word = word.or_else(|| huge(rest).filter(|_| !quoted));
            let length = match (word, first) {
                (Some(word), _) => {
                    mended.push_str(&format!("\"{NAN}\""));
                    rest = &rest[word.len()..];
                    continue;
                }
                (None, '\\') if quoted => match (unit(rest), rest.get(6..).and_then(unit)) {
                    (Some(0xD800..0xDC00), Some(0xDC00..0xE000)) => 12,
                    (Some(0xD800..0xE000), _) => {
                        mended.push_str(HALF);
                        rest = &rest[6..];
                        continue;
                    }
                    // What is escaped cannot end the string.
                    _ => 1 + rest[1..].chars().next().map_or(0, char::len_utf8),
                },
                (None, first) => {
                    quoted ^= first == '"';
                    first.len_utf8()
                }
            };
            mended.push_str(&rest[..length]);
            rest = &rest[length..];
        }
        serde_json::from_str(&mended).ok()
    }

    /// What in one of these columns would not be what its writer meant: the column, and what is wrong.
    pub(super) fn wrong(&self, columns: &[&str]) -> Option<(String, String)> {
        let twice = self.twice.iter().find(|[column, _]| columns.contains(&column.as_str()));
        if let Some([column, name]) = twice {
            let place = if column == name { String::new() } else { format!(", in {column}") };
            return Some((column.clone(), format!("stands there twice, and only one would be read: {name}{place}")));
        }
        let lost = self.row.iter().filter(|(name, _)| columns.contains(&name.as_str()));
        lost.filter_map(|(name, value)| Some((name.clone(), lost_in(value)?.to_owned()))).next()
    }
}

/// The number that a text begins with, if it is past all that are.
fn huge(text: &str) -> Option<&str> {
    let end = text.find(|c: char| !matches!(c, '0'..='9' | '-' | '+' | '.' | 'e' | 'E')).unwrap_or(text.len());
    let number = &text[..end];
    number.parse::<f64>().is_ok_and(f64::is_infinite).then_some(number)
}

/// The unit of UTF-16 that is escaped at the beginning of a text.
fn unit(text: &str) -> Option<u16> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    digits.bytes().all(|byte| byte.is_ascii_hexdigit()).then(|| u16::from_str_radix(digits, 16).ok())?
}

/// What a value holds that JSON does not have.
fn lost_in(value: &Value) -> Option<&'static str> {
    match value {
        Value::String(text) if text == NAN => Some(
            "holds NaN, Infinity or a number past all others, which JSON does not have; nothing is written as null",
        ),
        Value::String(text) if text.contains(HALF) => {
            Some("holds half of a surrogate pair, which is no character: \\ud800 to \\udfff stand in twos")
        }
        Value::Array(values) => values.iter().find_map(lost_in),
        Value::Object(values) => values.values().find_map(lost_in),
        _ => None,
    }
}

impl<'de> Deserialize<'de> for WrittenRow {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(RowVisitor)
    }
}

struct RowVisitor;

impl<'de> Visitor<'de> for RowVisitor {
    type Value = WrittenRow;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<WrittenRow, A::Error> {
        let (mut row, mut twice) = (RowObject::new(), Vec::new());
        while let Some(column) = map.next_key::<String>()? {
            let inner = RefCell::default();
            let value = map.next_value_seed(ValueVisitor(&inner))?;
            twice.extend(inner.into_inner().into_iter().map(|name: String| [column.clone(), name]));
            if row.insert(column.clone(), value).is_some() {
                twice.push([column.clone(), column]);
            }
        }
        Ok(WrittenRow { row, twice })
    }
}

/// A value, whose names that stand there twice are gathered.
#[derive(Clone, Copy)]
struct ValueVisitor<'a>(&'a RefCell<Vec<String>>);

impl<'de> DeserializeSeed<'de> for ValueVisitor<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ValueVisitor<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_string<E: Error>(self, text: String) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = list.next_element_seed(self)? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut values = Map::new();
        while let Some(name) = map.next_key::<String>()? {
            let value = map.next_value_seed(self)?;
            if values.insert(name.clone(), value).is_some() {
                self.0.borrow_mut().push(name);
            }
        }
        Ok(Value::Object(values))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn objects_are_those_of_serde_json() {
        let text = r#"{"a": [1, -2, 2.5, 1e30, 123456789012345678901, true, null, "é\n"], "b": {"c": {}, "d": "\ud83d\ude00"}}"#;
        let written: WrittenRow = serde_json::from_str(text).unwrap();
        assert_eq!(Value::Object(written.row), serde_json::from_str::<Value>(text).unwrap());
        let error = serde_json::from_str::<WrittenRow>("[1]").unwrap_err().to_string();
        assert!(error.starts_with("invalid type: sequence, expected a map"), "{error}");
    }

    #[test]
    fn names_that_stand_there_twice_matter_where_they_are_read() {
        let wrong = |text: &str| serde_json::from_str::<WrittenRow>(text).unwrap().wrong(&["text", "messages"]);
        let told = |column: &str, what: &str| {
            Some((column.to_owned(), format!("stands there twice, and only one would be read: {what}")))
        };
        assert_eq!(wrong(r#"{"text": "a", "text": "b"}"#), told("text", "text"));
        assert_eq!(wrong(r#"{"messages": [{"content": 1, "content": 2}]}"#), told("messages", "content, in messages"));
        assert_eq!(wrong(r#"{"text": "a", "id": 1, "id": 2, "other": {"x": 1, "x": 2}}"#), None);
    }

    #[test]
    fn halves_of_pairs_matter_where_they_are_read() {
        let whole = r#"{"text": "\ud83d\ude00 \\ud800", "other": "\ud800"}"#;
        let mended = WrittenRow::mended(whole).unwrap();
        assert_eq!((mended.wrong(&["text"]), &mended.row["text"]), (None, &json!("😀 \\ud800")));
        for half in ["\\ud800", "\\udc00", "\\ud800\\u0041", "\\ud800x", "\\uDBFF\\\\"] {
            let mended = WrittenRow::mended(&format!("{{\"text\": [\"{half}\"]}}")).unwrap();
            let (column, what) = mended.wrong(&["text"]).unwrap();
            assert!(column == "text" && what.starts_with("holds half of a surrogate pair"), "{half}: {what}");
        }
        assert!(WrittenRow::mended("{\"text\": \"\\u12\"}").is_none());
    }
}
