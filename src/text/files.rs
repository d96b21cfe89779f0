//! Files of rows as JSON objects, one at a time: JSON lines, JSON arrays, Parquet. What the columns mean is not
//! known here.

use std::fmt;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::{Field, Row};
use parquet::schema::types::Type;
use serde_json::{Deserializer, Map, Value};

use super::TextError;

/// Where a row stands in its file, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// The line it begins in.
    Line(usize),
    /// Its number, where a file has no lines.
    Row(usize),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(line) => write!(f, "{line}"),
            Self::Row(row) => write!(f, "row {row}"),
        }
    }
}

/// A row of a file, as JSON.
pub type Object = Map<String, Value>;

/// What [`read`] hands each row to.
type Visit<'a> = &'a mut dyn FnMut(Place, Object) -> Result<(), TextError>;

/// Hands every row of a file to `visit`, in order. The extension says what the file is: `.jsonl` (or `.ndjson`),
/// `.json`, `.parquet`. Of a Parquet file only the columns of these names are read.
///
/// # Errors
/// An unreadable or malformed file, another extension, and what `visit` returns.
pub fn read(path: &Path, columns: &[&str], visit: Visit<'_>) -> Result<(), TextError> {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    match extension.to_ascii_lowercase().as_str() {
        "jsonl" | "ndjson" => lines(path, &text(path)?, visit),
        "json" => array(path, &text(path)?, visit),
        "parquet" => table(path, columns, visit),
        _ => Err(TextError::Format { path: path.to_owned(), extension: extension.to_owned() }),
    }
}

fn text(path: &Path) -> Result<String, TextError> {
    let text = std::fs::read_to_string(path).map_err(|error| TextError::Io { path: path.to_owned(), error })?;
    // A byte order mark, which some editors write, is no part of the first row.
    Ok(text.strip_prefix('\u{FEFF}').map(str::to_owned).unwrap_or(text))
}

fn refuse(path: &Path, place: Place, message: String) -> TextError {
    TextError::Row { path: path.to_owned(), place, key: String::new(), message, choice: false }
}

fn lines(path: &Path, text: &str, visit: Visit<'_>) -> Result<(), TextError> {
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let place = Place::Line(index + 1);
        let row = serde_json::from_str(line);
        visit(place, row.map_err(|error| refuse(path, place, format!("not a JSON object: {error}")))?)?;
    }
    Ok(())
}

/// The objects of an array, each parsed by itself, so that a mistake in one is told by its line.
fn array(path: &Path, text: &str, visit: Visit<'_>) -> Result<(), TextError> {
    let mut scan = Scan { path, rest: text, line: 1 };
    if !scan.take('[') {
        return Err(scan.refuse("not an array of objects; JSON lines are named .jsonl"));
    }
    if !scan.take(']') {
        loop {
            scan.space();
            let place = Place::Line(scan.line);
            let mut values = Deserializer::from_str(scan.rest).into_iter::<Object>();
            let row = match values.next() {
                Some(Ok(row)) => row,
                Some(Err(error)) => {
                    let line = Place::Line(scan.line + error.line().saturating_sub(1));
                    return Err(refuse(path, line, format!("not a JSON object: {}", kind(&error))));
                }
                None => return Err(scan.refuse("the array has no end")),
            };
            let length = values.byte_offset();
            scan.advance(length);
            visit(place, row)?;
            if scan.take(']') {
                break;
            }
            if !scan.take(',') {
                return Err(scan.refuse("a comma or the array's end is missing"));
            }
        }
    }
    scan.space();
    if scan.rest.is_empty() { Ok(()) } else { Err(scan.refuse("something stands behind the array")) }
}

/// What serde says, without its own count of lines, which begins at the row.
fn kind(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.split(" at line ").next().map(str::to_owned).unwrap_or(text)
}

/// A position in a JSON text.
struct Scan<'a> {
    path: &'a Path,
    rest: &'a str,
    line: usize,
}

impl Scan<'_> {
    fn advance(&mut self, bytes: usize) {
        let (passed, rest) = self.rest.split_at(bytes);
        self.line += passed.bytes().filter(|&byte| byte == b'\n').count();
        self.rest = rest;
    }

    fn space(&mut self) {
        self.advance(self.rest.len() - self.rest.trim_start().len());
    }

    fn take(&mut self, wanted: char) -> bool {
        self.space();
        let there = self.rest.starts_with(wanted);
        if there {
            self.advance(wanted.len_utf8());
        }
        there
    }

    fn refuse(&self, message: &str) -> TextError {
        refuse(self.path, Place::Line(self.line), message.to_owned())
    }
}

fn table(path: &Path, columns: &[&str], visit: Visit<'_>) -> Result<(), TextError> {
    let malformed = |reason: String| TextError::Parquet { path: path.to_owned(), reason };
    let failed = |error: ParquetError| malformed(error.to_string());
    // Foreign bytes: the reader asserts some of what it expects of a schema instead of returning an error.
    let guarded = catch_unwind(AssertUnwindSafe(|| {
        let file = File::open(path).map_err(|error| TextError::Io { path: path.to_owned(), error })?;
        let reader = SerializedFileReader::new(file).map_err(failed)?;
        let schema = reader.metadata().file_metadata().schema();
        let wanted: Vec<Arc<Type>> =
            schema.get_fields().iter().filter(|field| columns.contains(&field.name())).cloned().collect();
        if wanted.is_empty() {
            return match reader.metadata().file_metadata().num_rows() {
                0 => Ok(()),
                // As a row without columns, the first is refused with the columns it needs.
                _ => visit(Place::Row(1), Object::new()),
            };
        }
        let wanted = Type::group_type_builder(schema.name()).with_fields(wanted).build().map_err(failed)?;
        for (index, row) in reader.get_row_iter(Some(wanted)).map_err(failed)?.enumerate() {
            let place = Place::Row(index + 1);
            visit(place, object(path, place, &row.map_err(failed)?)?)?;
        }
        Ok(())
    }));
    guarded.unwrap_or_else(|_| Err(malformed("its schema and its pages do not agree".to_owned())))
}

fn object(path: &Path, place: Place, row: &Row) -> Result<Object, TextError> {
    let column = |(name, field): (&String, &Field)| match value(field) {
        Some(value) => Ok((name.clone(), value)),
        None => Err(TextError::Row {
            path: path.to_owned(),
            place,
            key: name.clone(),
            message: "is neither text, number, list nor struct".to_owned(),
            choice: false,
        }),
    };
    row.get_column_iter().map(column).collect()
}

/// A Parquet value as JSON; `None` for types without an equal there.
fn value(field: &Field) -> Option<Value> {
    Some(match field {
        Field::Null => Value::Null,
        Field::Bool(value) => (*value).into(),
        Field::Byte(value) => (*value).into(),
        Field::Short(value) => (*value).into(),
        Field::Int(value) => (*value).into(),
        Field::Long(value) => (*value).into(),
        Field::UByte(value) => (*value).into(),
        Field::UShort(value) => (*value).into(),
        Field::UInt(value) => (*value).into(),
        Field::ULong(value) => (*value).into(),
        Field::Float(value) => (*value).into(),
        Field::Double(value) => (*value).into(),
        Field::Str(text) => text.as_str().into(),
        // Text that its writer did not call text.
        Field::Bytes(bytes) => std::str::from_utf8(bytes.data()).ok()?.into(),
        Field::Group(row) => {
            let inner = row.get_column_iter().map(|(name, field)| Some((name.clone(), value(field)?)));
            Value::Object(inner.collect::<Option<_>>()?)
        }
        Field::ListInternal(list) => Value::Array(list.elements().iter().map(value).collect::<Option<_>>()?),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use parquet::basic::{Compression, ZstdLevel};
    use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
    use parquet::file::properties::WriterProperties;
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;
    use serde_json::json;

    use super::*;
    use crate::budget::{Budget, within};

    fn all(name: &str, bytes: &[u8]) -> Result<Vec<(Place, Value)>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let mut rows = Vec::new();
        let result = read(&path, &["messages", "n", "prompt"], &mut |place, row| {
            rows.push((place, Value::Object(row)));
            Ok(())
        });
        let place = |error: TextError| error.to_string().replace(&format!("{}/", folder.path().display()), "");
        result.map(|()| rows).map_err(place)
    }

    #[test]
    fn lines_and_arrays_give_the_same_rows_with_the_lines_they_begin_in() {
        let rows = [(Place::Line(2), json!({"a": "x,]}"})), (Place::Line(4), json!({"a": [1], "b": null}))];
        let lines = "\n{\"a\": \"x,]}\"}\n \n{\"a\": [1], \"b\": null}";
        assert_eq!(all("r.jsonl", lines.as_bytes()).unwrap(), rows);
        assert_eq!(all("r.NDJSON", ("\u{FEFF}".to_owned() + lines).as_bytes()).unwrap(), rows);
        let array = " [\n{\"a\": \"x,]}\"}\n\n, {\"a\":\n[1], \"b\": null} ]\n";
        assert_eq!(all("r.json", array.as_bytes()).unwrap(), rows);
        assert_eq!(all("r.json", b"[]").unwrap(), []);
    }

    #[test]
    fn mistakes_are_told_by_their_line() {
        for (text, message) in [
            ("{\"a\": 1}\n", "1: not an array of objects; JSON lines are named .jsonl"),
            ("[\n{\"a\": 1},\n{\"a\":\n1,}]", "4: not a JSON object: trailing comma"),
            ("[\n{\"a\": 1}\n{\"a\": 1}]", "3: a comma or the array's end is missing"),
            ("[{\"a\": 1},\n", "2: the array has no end"),
            ("[{\"a\": 1}\n", "2: a comma or the array's end is missing"),
            ("[{\"a\": 1}]\n[]", "2: something stands behind the array"),
        ] {
            assert_eq!(all("r.json", text.as_bytes()).unwrap_err(), format!("r.json:{message}"), "{text}");
        }
        let error = all("r.json", b"[\n{}, 3]").unwrap_err();
        assert!(error.starts_with("r.json:2: not a JSON object: invalid type: integer `3`"), "{error}");
        assert_eq!(all("r.csv", b"a,b\n").unwrap_err(), "r.csv: rows are not read from files of this kind: .csv");
        assert_eq!(all("rows", b"").unwrap_err(), "rows: rows are not read from files of this kind: no extension");
        let error = all("r.parquet", b"PAR1 no table PAR1").unwrap_err();
        assert!(error.starts_with("r.parquet: malformed Parquet file: "), "{error}");
    }

    /// Two rows of messages (two, then none), a number that is once absent, and a column nobody asks for.
    fn parquet(compression: Compression) -> Vec<u8> {
        let schema = "message schema {
            optional group messages (LIST) { repeated group list { optional group element {
                optional binary role (UTF8); optional binary content (UTF8); } } }
            optional int64 n;
            required fixed_len_byte_array(3) other;
        }";
        let schema = Arc::new(parse_message_type(schema).unwrap());
        let properties = Arc::new(WriterProperties::builder().set_compression(compression).build());
        let mut bytes = Vec::new();
        let mut writer = SerializedFileWriter::new(&mut bytes, schema, properties).unwrap();
        let mut group = writer.next_row_group().unwrap();
        for texts in [["user", "assistant"], ["hi", "ho"]] {
            let mut column = group.next_column().unwrap().unwrap();
            let values: Vec<ByteArray> = texts.iter().map(|&text| ByteArray::from(text)).collect();
            let (definition, repetition) = ([4, 4, 1], [0, 1, 0]);
            column.typed::<ByteArrayType>().write_batch(&values, Some(&definition), Some(&repetition)).unwrap();
            column.close().unwrap();
        }
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<Int64Type>().write_batch(&[-7], Some(&[1, 0]), None).unwrap();
        column.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        let values: Vec<_> = [b"abc", b"def"].map(|text| ByteArray::from(text.to_vec()).into()).into();
        column.typed::<parquet::data_type::FixedLenByteArrayType>().write_batch(&values, None, None).unwrap();
        column.close().unwrap();
        group.close().unwrap();
        writer.close().unwrap();
        bytes
    }

    #[test]
    fn nested_columns_of_parquet_become_lists_of_objects() {
        let zstd = Compression::ZSTD(ZstdLevel::default());
        for compression in [Compression::UNCOMPRESSED, Compression::SNAPPY, zstd] {
            let rows = all("r.parquet", &parquet(compression)).unwrap();
            let messages = json!([{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]);
            let first = json!({"messages": messages, "n": -7});
            let second = json!({"messages": [], "n": null});
            assert_eq!(rows, [(Place::Row(1), first), (Place::Row(2), second)]);
        }
    }

    #[test]
    fn a_damaged_parquet_file_is_an_error_wherever_the_damage_is() {
        let whole = parquet(Compression::SNAPPY);
        for at in (0..whole.len()).step_by(7) {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x55;
            // Damage to names or texts may go unnoticed; what counts is that nothing panics or takes much.
            let budget = Budget { bytes: 64 << 20, time: Duration::from_secs(60) };
            assert_eq!(within(budget, move || drop(all("r.parquet", &damaged))), Ok(()), "{at}");
        }
        let error = all("r.parquet", &whole[..whole.len() / 2]).unwrap_err();
        assert!(error.starts_with("r.parquet: malformed Parquet file: "), "{error}");
    }
}
