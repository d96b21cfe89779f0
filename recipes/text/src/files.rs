//! Files of rows as JSON objects, one at a time: JSON lines, JSON arrays, both also under gzip or zstd, and Parquet. What
//! the columns mean is not known here.

mod object;

use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use ftk_adapters::foreign;
use ftk_adapters::peft::LFS;
use parquet::basic::Compression;
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::{Field, Row};
use parquet::schema::types::Type;
use serde_json::{Deserializer, Value};

pub use self::object::RowObject;
use self::object::WrittenRow;
use super::error::{NO_OBJECT, TextError};
use super::place::RowPlace;

/// What [`read`] hands each row to.
type Visit<'a> = &'a mut dyn FnMut(RowPlace, RowObject) -> Result<(), TextError>;

/// Bytes that a compressed file may grow to: so many whatever its length, and for each of its bytes. Rows of text
/// seldom grow tenfold.
const GROWTH: [u64; 2] = [16 << 20, 200];

/// Hands every row of a file to `visit`, in order. The extension says what the file is: `.jsonl` (or `.ndjson`) for JSON
/// lines; `.json` for an array or objects one behind another; either with `.gz` or `.zst` behind it; `.parquet`, of which
/// only the columns of these names are read. Returns the columns of a Parquet file that were not.
///
/// # Errors
/// An unreadable or malformed file, another extension, text that is not UTF-8 (with its line), and what `visit` returns.
pub fn read(path: &Path, columns: &[&str], visit: Visit<'_>) -> Result<Vec<String>, TextError> {
    pointer(path)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    let packed = [(".gz", FileCompression::Gzip), (".zst", FileCompression::Zstd)];
    let packed = packed.into_iter().find_map(|(end, packed)| Some((name.strip_suffix(end)?.to_owned(), packed)));
    let (name, packed) = packed.map_or((name, None), |(name, packed)| (name, Some(packed)));
    match (name.rsplit_once('.').map_or("", |(_, extension)| extension), packed) {
        ("jsonl" | "ndjson", packed) => lines(path, &text(path, packed)?, columns, visit)?,
        ("json", packed) => values(path, &text(path, packed)?, columns, visit)?,
        ("parquet", None) => return table(path, columns, visit),
        _ => {
            let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default().to_owned();
            return Err(TextError::Format { path: path.to_owned(), extension });
        }
    }
    Ok(Vec::new())
}

/// Refuses what Git LFS leaves in the place of a large file.
fn pointer(path: &Path) -> Result<(), TextError> {
    let mut start = Vec::new();
    let failed = |error| TextError::Io { path: path.to_owned(), error };
    foreign::open(path).map_err(failed)?.take(LFS.len() as u64).read_to_end(&mut start).map_err(failed)?;
    if start == LFS { Err(TextError::Pointer(path.to_owned())) } else { Ok(()) }
}

/// How a file is compressed.
#[derive(Clone, Copy)]
enum FileCompression {
    Gzip,
    Zstd,
}

/// The text of a file, unpacked, without a byte order mark.
fn text(path: &Path, packed: Option<FileCompression>) -> Result<String, TextError> {
    let failed = |error| TextError::Io { path: path.to_owned(), error };
    let bytes = foreign::read(path, foreign::DATA).map_err(failed)?;
    let bytes = match packed {
        None => bytes,
        Some(packed) => unpacked(path, &bytes, packed)?,
    };
    if let Some((found, ending)) = foreign_format(&bytes) {
        return Err(TextError::Disguised { path: path.to_owned(), found, ending });
    }
    // Other encodings are told by their byte order marks, or by the zeros in front of or behind the first character.
    let other = match *bytes {
        [0xFF, 0xFE, 0, 0, ..] | [_, 0, 0, 0, ..] => Some("UTF-32, little endian"),
        [0, 0, 0xFE, 0xFF, ..] | [0, 0, 0, _, ..] => Some("UTF-32, big endian"),
        [0xFF, 0xFE, ..] | [_, 0, ..] => Some("UTF-16, little endian"),
        [0xFE, 0xFF, ..] | [0, _, ..] => Some("UTF-16, big endian"),
        _ => None,
    };
    if let Some(other) = other {
        return Err(TextError::Encoding { path: path.to_owned(), line: 1, found: other.to_owned() });
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let (bytes, at) = (error.as_bytes(), error.utf8_error().valid_up_to());
        let line = 1 + bytes[..at].iter().filter(|&&byte| byte == b'\n').count();
        TextError::Encoding { path: path.to_owned(), line, found: format!("the byte {:#04x}", bytes[at]) }
    })?;
    // A byte order mark, which some editors write, is no part of the first row.
    Ok(text.strip_prefix('\u{FEFF}').map(str::to_owned).unwrap_or(text))
}

/// What a file is that begins as no text does, and how such a file is named, if it is read.
fn foreign_format(bytes: &[u8]) -> Option<(&'static str, &'static str)> {
    let formats: [(&[u8], _, _); 6] = [
        (b"\x1f\x8b", "gzip", ".gz"),
        (b"\x28\xb5\x2f\xfd", "zstd", ".zst"),
        (b"PAR1", "Parquet", ".parquet"),
        (b"PK\x03\x04", "zip", ""),
        (b"BZh", "bzip2", ""),
        (b"\xfd7zXZ", "xz", ""),
    ];
    formats.into_iter().find_map(|(begin, found, ending)| bytes.starts_with(begin).then_some((found, ending)))
}

fn unpacked(path: &Path, bytes: &[u8], packed: FileCompression) -> Result<Vec<u8>, TextError> {
    let failed = |error| TextError::Io { path: path.to_owned(), error };
    let limit = GROWTH[0] + GROWTH[1] * bytes.len() as u64;
    let reader: Box<dyn Read> = match packed {
        // Several streams, one behind another, are one file.
        FileCompression::Gzip => Box::new(flate2::read::MultiGzDecoder::new(bytes)),
        FileCompression::Zstd => Box::new(zstd::Decoder::with_buffer(bytes).map_err(failed)?),
    };
    let mut result = Vec::new();
    foreign::Unpacked(reader).take(limit + 1).read_to_end(&mut result).map_err(failed)?;
    match result.len() as u64 > limit {
        true => Err(TextError::Grows { path: path.to_owned(), limit }),
        false => Ok(result),
    }
}

fn refuse(path: &Path, place: RowPlace, message: String) -> TextError {
    TextError::Row { path: path.to_owned(), place, key: String::new(), message, choice: Vec::new() }
}

fn lines(path: &Path, text: &str, columns: &[&str], visit: Visit<'_>) -> Result<(), TextError> {
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let place = RowPlace::Line(index + 1);
        if line.trim_start().starts_with('[') {
            return Err(refuse(
                path,
                place,
                "an array, not an object; a file that is one array is named .json".to_owned(),
            ));
        }
        let written = match serde_json::from_str(line) {
            Ok(written) => written,
            Err(error) => match WrittenRow::mended(line) {
                Some(written) => written,
                None if error.is_eof() => {
                    let message = "an object that does not end in its line; a file of such objects is named .json";
                    return Err(refuse(path, place, message.to_owned()));
                }
                None => return Err(refuse(path, place, format!("{NO_OBJECT}: {}", kind(&error)))),
            },
        };
        visit(place, row(path, place, written, columns)?)?;
    }
    Ok(())
}

/// The row of an object, if none of the columns that are looked at would be read otherwise than it is meant.
fn row(path: &Path, place: RowPlace, written: WrittenRow, columns: &[&str]) -> Result<RowObject, TextError> {
    match written.wrong(columns) {
        None => Ok(written.row),
        Some((key, message)) => Err(TextError::Row { path: path.to_owned(), place, key, message, choice: Vec::new() }),
    }
}

/// An array of objects, or objects one behind another.
fn values(path: &Path, text: &str, columns: &[&str], visit: Visit<'_>) -> Result<(), TextError> {
    let mut scan = Scan { path, rest: text, line: 1, columns };
    scan.space();
    if !scan.rest.starts_with('{') {
        return array(scan, visit);
    }
    while !scan.rest.is_empty() {
        let (place, row) = scan.object()?;
        visit(place, row)?;
        scan.space();
    }
    Ok(())
}

/// The objects of an array, each parsed by itself, so that a mistake in one is told by its line.
fn array(mut scan: Scan<'_>, visit: Visit<'_>) -> Result<(), TextError> {
    if !scan.take('[') {
        return Err(scan.refuse("not an array of objects, nor objects"));
    }
    if !scan.take(']') {
        loop {
            scan.space();
            if scan.rest.is_empty() {
                return Err(scan.refuse("the array has no end"));
            }
            let (place, row) = scan.object()?;
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
    columns: &'a [&'a str],
}

impl Scan<'_> {
    fn advance(&mut self, bytes: usize) {
        let (passed, rest) = self.rest.split_at(bytes);
        self.line += passed.bytes().filter(|&byte| byte == b'\n').count();
        self.rest = rest;
    }

    /// The object that begins here, with its line.
    fn object(&mut self) -> Result<(RowPlace, RowObject), TextError> {
        let place = RowPlace::Line(self.line);
        let mut values = Deserializer::from_str(self.rest).into_iter::<WrittenRow>();
        let written = match values.next() {
            Some(Ok(written)) => written,
            Some(Err(error)) => {
                // Parsing stopped at such a value, if at any; where the object ends, a search for its braces tells.
                let length = object_end(self.rest).filter(|_| error.is_syntax());
                if let Some((length, written)) =
                    length.and_then(|end| Some((end, WrittenRow::mended(&self.rest[..end])?)))
                {
                    self.advance(length);
                    return Ok((place, row(self.path, place, written, self.columns)?));
                }
                let line = RowPlace::Line(self.line + error.line().saturating_sub(1));
                return Err(refuse(self.path, line, format!("{NO_OBJECT}: {}", kind(&error))));
            }
            None => return Err(self.refuse("the array has no end")),
        };
        let length = values.byte_offset();
        self.advance(length);
        Ok((place, row(self.path, place, written, self.columns)?))
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
        refuse(self.path, RowPlace::Line(self.line), message.to_owned())
    }
}

/// Bytes up to the brace that closes the first.
fn object_end(text: &str) -> Option<usize> {
    let (mut depth, mut quoted, mut escaped) = (0usize, false, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'{' if !quoted => depth += 1,
            b'}' if !quoted => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
    }
    None
}

fn table(path: &Path, columns: &[&str], visit: Visit<'_>) -> Result<Vec<String>, TextError> {
    let malformed = |reason: String| TextError::Parquet { path: path.to_owned(), reason };
    let failed = |error: ParquetError| malformed(error.to_string());
    // Foreign bytes: the reader asserts some of what it expects of a schema instead of returning an error.
    let guarded = catch_unwind(AssertUnwindSafe(|| {
        let file = foreign::open(path).map_err(|error| TextError::Io { path: path.to_owned(), error })?;
        let reader = SerializedFileReader::new(file).map_err(failed)?;
        let schema = reader.metadata().file_metadata().schema();
        let (wanted, others): (Vec<Arc<Type>>, Vec<Arc<Type>>) =
            schema.get_fields().iter().cloned().partition(|field| columns.contains(&field.name()));
        let again = |(at, field): &(usize, &Arc<Type>)| wanted[..*at].iter().any(|other| other.name() == field.name());
        if let Some((_, field)) = wanted.iter().enumerate().find(again) {
            return Err(malformed(format!("has a column twice, of which only one would be read: {}", field.name())));
        }
        let others = others.iter().map(|field| field.name().to_owned()).collect();
        let chunks = reader.metadata().row_groups().iter().flat_map(|group| group.columns());
        for chunk in chunks
            .filter(|chunk| chunk.column_path().parts().first().is_some_and(|name| columns.contains(&name.as_str())))
        {
            if let codec @ (Compression::BROTLI(_) | Compression::LZO) = chunk.compression() {
                return Err(TextError::Codec { path: path.to_owned(), codec: codec.to_string() });
            }
        }
        if wanted.is_empty() {
            return match reader.metadata().file_metadata().num_rows() {
                0 => Ok(others),
                // As a row without columns, the first is refused with the columns it needs.
                _ => visit(RowPlace::Row(1), RowObject::new()).map(|()| others),
            };
        }
        let wanted = Type::group_type_builder(schema.name()).with_fields(wanted).build().map_err(failed)?;
        for (index, row) in reader.get_row_iter(Some(wanted)).map_err(failed)?.enumerate() {
            let place = RowPlace::Row(index + 1);
            visit(place, object(path, place, &row.map_err(failed)?)?)?;
        }
        Ok(others)
    }));
    guarded.unwrap_or_else(|_| Err(malformed("its schema and its pages do not agree".to_owned())))
}

fn object(path: &Path, place: RowPlace, row: &Row) -> Result<RowObject, TextError> {
    let column = |(name, field): (&String, &Field)| match value(field) {
        Some(value) => Ok((name.clone(), value)),
        None => Err(TextError::Row {
            path: path.to_owned(),
            place,
            key: name.clone(),
            message: "is neither text, number, list nor struct".to_owned(),
            choice: Vec::new(),
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
            let mut inner: RowObject = inner.collect::<Option<_>>()?;
            // A struct has the fields of all rows, null where a row has none; of a turn null may be what is said.
            if !["role", "from"].iter().any(|name| inner.contains_key(*name)) {
                inner.retain(|_, value| !value.is_null());
            }
            Value::Object(inner)
        }
        Field::ListInternal(list) => Value::Array(list.elements().iter().map(value).collect::<Option<_>>()?),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use parquet::basic::{GzipLevel, ZstdLevel};
    use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
    use parquet::file::properties::WriterProperties;
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;
    use serde_json::json;

    use super::*;
    use ftk_bases::budget::{Budget, within};

    fn all(name: &str, bytes: &[u8]) -> Result<Vec<(RowPlace, Value)>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let mut rows = Vec::new();
        let result = read(&path, &["messages", "n", "prompt"], &mut |place, row| {
            rows.push((place, Value::Object(row)));
            Ok(())
        });
        let place = |error: TextError| error.to_string().replace(&format!("{}/", folder.path().display()), "");
        result.map(|_| rows).map_err(place)
    }

    #[test]
    fn lines_and_arrays_give_the_same_rows_with_the_lines_they_begin_in() {
        let rows = [(RowPlace::Line(2), json!({"a": "x,]}"})), (RowPlace::Line(4), json!({"a": [1], "b": null}))];
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
            ("3\n", "1: not an array of objects, nor objects"),
            ("{\"a\": 1}\n\n{\"a\":\n 1 2}", "4: not a JSON object: expected `,` or `}`"),
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

    #[test]
    fn a_file_of_objects_may_be_named_json_but_no_array_jsonl() {
        let rows = [(RowPlace::Line(1), json!({"a": 1})), (RowPlace::Line(2), json!({"b": {}}))];
        assert_eq!(all("r.json", b"{\"a\": 1}\n{\"b\":\n {}}").unwrap(), rows);
        let error = all("r.jsonl", b"\n[{\"a\": 1}]").unwrap_err();
        assert_eq!(error, "r.jsonl:2: an array, not an object; a file that is one array is named .json");
        let error = all("r.jsonl", b"{\n \"a\": 1\n}\n").unwrap_err();
        assert_eq!(error, "r.jsonl:1: an object that does not end in its line; a file of such objects is named .json");
        let error = all("r.jsonl", b"{\"a\": 1}\n{\"a\": 1},\n").unwrap_err();
        assert_eq!(error, "r.jsonl:2: not a JSON object: trailing characters");
    }

    #[test]
    fn values_that_json_does_not_have_matter_where_they_are_read() {
        let row = r#"{"x": NaN, "y": [-Infinity, {"z": Infinity}], "prompt": "NaN \" Infinity", "m": "a"}"#;
        for name in ["r.jsonl", "r.json"] {
            let rows = all(name, row.as_bytes()).unwrap();
            assert_eq!((rows.len(), &rows[0].1["prompt"]), (1, &json!("NaN \" Infinity")), "{name}");
        }
        let array = format!("[\n{row},\n{row}]");
        assert_eq!(all("r.json", array.as_bytes()).unwrap()[1].0, RowPlace::Line(3));
        for name in ["r.jsonl", "r.json"] {
            let error = all(name, b"{\"a\": 1}\n{\"prompt\": [NaN]}").unwrap_err();
            let reason =
                "holds NaN, Infinity or a number past all others, which JSON does not have; nothing is written as null";
            assert_eq!(error, format!("{name}:2:prompt: {reason}"));
        }
        // Python reads these as infinities.
        let rows = all("r.jsonl", b"{\"prompt\": \"-1e999\", \"x\": [1e3, -1e999, 2E400]}").unwrap();
        assert_eq!(rows[0].1["prompt"], "-1e999");
        let error = all("r.jsonl", b"{\"prompt\": 1e999}").unwrap_err();
        assert!(error.starts_with("r.jsonl:1:prompt: holds NaN, Infinity or a number past all others"), "{error}");
        assert_eq!(all("r.jsonl", b"{\"x\": NaNa}").unwrap_err(), "r.jsonl:1: not a JSON object: expected value");
    }

    #[test]
    fn other_encodings_are_told_with_the_line() {
        let wide: Vec<u8> = "{\"prompt\": 1}".encode_utf16().flat_map(u16::to_le_bytes).collect();
        for bytes in [wide.clone(), [&[0xFF, 0xFE], wide.as_slice()].concat()] {
            assert_eq!(all("r.jsonl", &bytes).unwrap_err(), "r.jsonl:1: not UTF-8: UTF-16, little endian");
        }
        let wider = |bytes: fn(u32) -> [u8; 4]| "\n{}".chars().flat_map(|c| bytes(u32::from(c))).collect::<Vec<u8>>();
        assert_eq!(
            all("r.jsonl", &wider(u32::to_le_bytes)).unwrap_err(),
            "r.jsonl:1: not UTF-8: UTF-32, little endian"
        );
        assert_eq!(all("r.jsonl", &wider(u32::to_be_bytes)).unwrap_err(), "r.jsonl:1: not UTF-8: UTF-32, big endian");
        let led: Vec<u8> = "\n{}".encode_utf16().flat_map(u16::to_be_bytes).collect();
        assert_eq!(all("r.jsonl", &led).unwrap_err(), "r.jsonl:1: not UTF-8: UTF-16, big endian");
        let latin = b"{\"prompt\": 1}\n{\"prompt\": \"caf\xe9\"}";
        assert_eq!(all("r.jsonl", latin).unwrap_err(), "r.jsonl:2: not UTF-8: the byte 0xe9");
    }

    #[test]
    fn compressed_rows_are_read_and_may_not_grow_without_end() {
        let gzip = |bytes: &[u8]| {
            let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
            std::io::Write::write_all(&mut writer, bytes).unwrap();
            writer.finish().unwrap()
        };
        let rows = [(RowPlace::Line(1), json!({"n": 1})), (RowPlace::Line(2), json!({"n": 2}))];
        let (first, second) = (b"{\"n\": 1}\n".as_slice(), b"{\"n\": 2}\n".as_slice());
        assert_eq!(all("r.jsonl.gz", &[gzip(first), gzip(second)].concat()).unwrap(), rows);
        assert_eq!(all("r.json.zst", &zstd::encode_all(&*[first, second].concat(), 1).unwrap()).unwrap(), rows);
        let bomb = gzip(&vec![b' '; 3 * GROWTH[0] as usize]);
        assert!(all("r.jsonl.gz", &bomb).unwrap_err().starts_with("r.jsonl.gz: unpacks to more bytes than "));
        let damaged = all("r.jsonl.gz", &[first, second].concat()).unwrap_err();
        assert!(damaged.starts_with("r.jsonl.gz: its compressed data is damaged: "), "{damaged}");
        for (name, packed) in [("r.jsonl.gz", gzip(first)), ("r.jsonl.zst", zstd::encode_all(first, 1).unwrap())] {
            for missing in [1, 5] {
                let cut = all(name, &packed[..packed.len() - missing]).unwrap_err();
                assert_eq!(cut, format!("{name}: is cut off inside its compressed data"));
            }
        }
        assert_eq!(
            all("r.jsonl", &gzip(first)).unwrap_err(),
            "r.jsonl: is a file of gzip, which its name does not say"
        );
        assert_eq!(all("r.json", b"PAR1").unwrap_err(), "r.json: is a file of Parquet, which its name does not say");
        let error = all("r.csv.gz", &gzip(first)).unwrap_err();
        assert_eq!(error, "r.csv.gz: rows are not read from files of this kind: .gz");
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
        let gzip = Compression::GZIP(GzipLevel::default());
        for compression in [Compression::UNCOMPRESSED, Compression::SNAPPY, zstd, gzip, Compression::LZ4_RAW] {
            let rows = all("r.parquet", &parquet(compression)).unwrap();
            let messages = json!([{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]);
            let first = json!({"messages": messages, "n": -7});
            let second = json!({"messages": [], "n": null});
            assert_eq!(rows, [(RowPlace::Row(1), first), (RowPlace::Row(2), second)]);
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_name_that_is_no_text_ends_as_it_ends() {
        use std::os::unix::ffi::OsStrExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(std::ffi::OsStr::from_bytes(b"x\xff.jsonl"));
        std::fs::write(&path, "{\"prompt\": 1}\n").unwrap();
        let mut rows = 0;
        read(&path, &["prompt"], &mut |_, _| {
            rows += 1;
            Ok(())
        })
        .unwrap();
        assert_eq!(rows, 1);
    }

    #[test]
    fn fields_that_a_row_of_parquet_has_not_are_none() {
        let schema = "message schema { required group n { optional int64 x; optional int64 y; }
                                       required group prompt { optional int64 role; optional int64 y; } }";
        let mut bytes = Vec::new();
        let schema = Arc::new(parse_message_type(schema).unwrap());
        let mut writer = SerializedFileWriter::new(&mut bytes, schema, Arc::default()).unwrap();
        let mut group = writer.next_row_group().unwrap();
        for there in [1, 0, 1, 0] {
            let mut column = group.next_column().unwrap().unwrap();
            column.typed::<Int64Type>().write_batch(&[7][..there as usize], Some(&[there]), None).unwrap();
            column.close().unwrap();
        }
        group.close().unwrap();
        writer.close().unwrap();
        // A turn may say that it has nothing.
        let row = json!({"n": {"x": 7}, "prompt": {"role": 7, "y": null}});
        assert_eq!(all("r.parquet", &bytes).unwrap(), [(RowPlace::Row(1), row)]);
    }

    #[test]
    fn a_column_of_parquet_that_is_there_twice_is_refused_where_it_is_read() {
        let file = |schema: &str| {
            let schema = Arc::new(parse_message_type(schema).unwrap());
            let mut bytes = Vec::new();
            let mut writer = SerializedFileWriter::new(&mut bytes, schema, Arc::default()).unwrap();
            let mut group = writer.next_row_group().unwrap();
            while let Some(mut column) = group.next_column().unwrap() {
                column.typed::<Int64Type>().write_batch(&[7], None, None).unwrap();
                column.close().unwrap();
            }
            group.close().unwrap();
            writer.close().unwrap();
            bytes
        };
        let twice = file("message schema { required int64 n; required int64 n; }");
        let reason = "malformed Parquet file: has a column twice, of which only one would be read: n";
        assert_eq!(all("r.parquet", &twice).unwrap_err(), format!("r.parquet: {reason}"));
        let elsewhere = file("message schema { required int64 n; required int64 m; required int64 m; }");
        assert_eq!(all("r.parquet", &elsewhere).unwrap(), [(RowPlace::Row(1), json!({"n": 7}))]);
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
