//! NumPy's `.npz`: a zip archive of `.npy` arrays (NumPy Enhancement Proposal 1; APPNOTE of the zip format).
//! Foreign bytes: every length is looked at before anything is allocated, and no entry may say it is larger than it is.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use flate2::read::DeflateDecoder;
use ftk_adapters::foreign;

use super::error::GraphError;

/// Largest array that is read: beyond any graph this program can hold.
const LARGEST: u64 = 1 << 36;

/// An array, its entries row by row.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// Lengths of its axes.
    pub shape: Vec<usize>,
    /// Its entries.
    pub values: Values,
}

/// Entries of an array.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// Floats.
    Floats(Vec<f32>),
    /// Doubles, where times are kept.
    Doubles(Vec<f64>),
    /// Integers of any width.
    Integers(Vec<i64>),
    /// Truth values.
    Flags(Vec<bool>),
}

/// Names of nodes, features and classes in published archives: Python objects, which are not read.
const PICKLED: [&str; 7] =
    ["idx_to_node", "idx_to_attr", "idx_to_class", "node_names", "attr_names", "class_names", "metadata"];

impl Values {
    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Self::Floats(values) => values.len(),
            Self::Doubles(values) => values.len(),
            Self::Integers(values) => values.len(),
            Self::Flags(values) => values.len(),
        }
    }

    /// One of them.
    pub fn number(&self, at: usize) -> f64 {
        match self {
            Self::Floats(values) => f64::from(values[at]),
            Self::Doubles(values) => values[at],
            Self::Integers(values) => values[at] as f64,
            Self::Flags(values) => f64::from(u8::from(values[at])),
        }
    }
}

/// All arrays of a file by their names.
///
/// # Errors
/// A file that cannot be read, is no archive of arrays, or holds an array of a kind that graphs are not made of.
pub fn read(path: &Path) -> Result<BTreeMap<String, Array>, GraphError> {
    let bytes = foreign::read(path, foreign::DATA).map_err(|error| GraphError::io(path, error))?;
    let mut arrays = BTreeMap::new();
    for (name, data) in entries(path, &bytes)? {
        let Some(name) = name.strip_suffix(".npy") else { continue };
        if PICKLED.contains(&name) {
            continue;
        }
        arrays.insert(name.to_owned(), array(path, name, &data)?);
    }
    Ok(arrays)
}

/// Little-endian number of so many bytes at a place.
fn number(bytes: &[u8], at: usize, width: usize) -> Option<u64> {
    let slice = bytes.get(at..at.checked_add(width)?)?;
    Some(slice.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte)))
}

/// Names and contents of an archive's files.
pub(super) fn entries(path: &Path, bytes: &[u8]) -> Result<Vec<(String, Vec<u8>)>, GraphError> {
    let broken = || GraphError::malformed(path, "not a zip archive, or a damaged one");
    // The end of the central directory stands before a comment of at most 2^16 bytes.
    let from = bytes.len().saturating_sub((1 << 16) + 22);
    let end = (from..bytes.len().saturating_sub(21)).rev().find(|&at| number(bytes, at, 4) == Some(0x0605_4b50));
    let end = end.ok_or_else(broken)?;
    let field = |at: usize, width: usize| number(bytes, at, width).ok_or_else(broken);
    let (count, mut at) = (field(end + 10, 2)?, field(end + 16, 4)? as usize);
    let mut found = Vec::new();
    for _ in 0..count {
        if field(at, 4)? != 0x0201_4b50 {
            return Err(broken());
        }
        let (method, packed, unpacked) = (field(at + 10, 2)?, field(at + 20, 4)?, field(at + 24, 4)?);
        let lengths = [field(at + 28, 2)? as usize, field(at + 30, 2)? as usize, field(at + 32, 2)? as usize];
        let local = field(at + 42, 4)? as usize;
        if [packed, unpacked, local as u64].contains(&0xffff_ffff) {
            return Err(GraphError::malformed(path, "zip archives beyond 4 GiB are not read"));
        }
        let name = bytes.get(at + 46..at + 46 + lengths[0]).ok_or_else(broken)?;
        let name = String::from_utf8(name.to_vec()).map_err(|_| broken())?;
        if field(local, 4)? != 0x0403_4b50 {
            return Err(broken());
        }
        let start = local + 30 + field(local + 26, 2)? as usize + field(local + 28, 2)? as usize;
        let data = bytes.get(start..).and_then(|rest| rest.get(..packed as usize)).ok_or_else(broken)?;
        let content = match method {
            0 => data.to_vec(),
            8 => {
                // The stated length is a limit, not an amount to allocate.
                let mut content = Vec::new();
                let mut limited = DeflateDecoder::new(data).take(unpacked + 1);
                limited.read_to_end(&mut content).map_err(|_| broken())?;
                content
            }
            _ => return Err(GraphError::malformed(path, format!("{name} is packed by an unknown method: {method}"))),
        };
        if content.len() as u64 != unpacked {
            return Err(broken());
        }
        found.push((name, content));
        at += 46 + lengths.iter().sum::<usize>();
    }
    Ok(found)
}

fn array(path: &Path, name: &str, bytes: &[u8]) -> Result<Array, GraphError> {
    let wrong = |message: String| GraphError::at(path, format!(":{name}"), message);
    let broken = || wrong("not a NumPy array, or a damaged one".to_owned());
    if bytes.get(..6) != Some(b"\x93NUMPY") {
        return Err(broken());
    }
    let (start, length) = match bytes[6..].first() {
        Some(1) => (10, number(bytes, 8, 2)),
        Some(2 | 3) => (12, number(bytes, 8, 4)),
        _ => return Err(broken()),
    };
    let end = length.and_then(|length| usize::try_from(length).ok()).and_then(|length| length.checked_add(start));
    let header = end.and_then(|end| bytes.get(start..end)).ok_or_else(broken)?;
    let header = std::str::from_utf8(header).map_err(|_| broken())?;
    let after = |key: &str| header.split_once(&format!("'{key}':")).map(|(_, rest)| rest.trim_start());
    let kind = after("descr").and_then(|rest| rest.strip_prefix('\'')?.split_once('\'')).ok_or_else(broken)?.0;
    let by_columns = match after("fortran_order").map(|rest| (rest.starts_with("True"), rest.starts_with("False"))) {
        Some((by_columns, by_rows)) if by_columns || by_rows => by_columns,
        _ => return Err(broken()),
    };
    let shape = after("shape").and_then(|rest| rest.strip_prefix('(')?.split_once(')')).ok_or_else(broken)?.0;
    let shape = shape.split(',').map(str::trim).filter(|length| !length.is_empty());
    let shape: Vec<usize> = shape.map(|length| length.parse().map_err(|_| broken())).collect::<Result<_, _>>()?;
    filled(kind, shape, by_columns, &bytes[end.unwrap_or(0)..]).map_err(wrong)
}

/// An array of a kind (`<f4`) and a shape from its bytes.
///
/// # Errors
/// A kind that is not read, a shape that its bytes do not have.
pub fn filled(kind: &str, shape: Vec<usize>, by_columns: bool, data: &[u8]) -> Result<Array, String> {
    let broken = || "not a NumPy array, or a damaged one".to_owned();
    let count = shape.iter().try_fold(1usize, |count, &length| count.checked_mul(length)).ok_or_else(broken)?;
    let width = match kind {
        "<f8" | "<i8" | "<u8" => 8,
        "<f4" | "<i4" | "<u4" => 4,
        "<i2" | "<u2" => 2,
        "|i1" | "|u1" | "|b1" => 1,
        _ => return Err(format!("holds values of a kind that is not read: {kind}")),
    };
    if count.checked_mul(width) != Some(data.len()) || data.len() as u64 > LARGEST {
        return Err(broken());
    }
    let turned;
    let data = match (by_columns, shape.as_slice()) {
        (true, &[rows, columns]) => {
            turned = by_rows(data, rows, columns, width);
            turned.as_slice()
        }
        (true, shape) if shape.len() > 2 => return Err("must be stored row by row (C order)".to_owned()),
        _ => data,
    };
    let words = data.chunks_exact(width);
    let values = match kind {
        "<f4" => Values::Floats(data.as_chunks().0.iter().map(|&word| f32::from_le_bytes(word)).collect()),
        "<f8" => Values::Doubles(data.as_chunks().0.iter().map(|&word| f64::from_le_bytes(word)).collect()),
        "|b1" => Values::Flags(data.iter().map(|&byte| byte != 0).collect()),
        _ => {
            let signed = kind.as_bytes()[1] == b'i';
            let integer = |word: &[u8]| {
                let unsigned = word.iter().rev().fold(0u64, |number, &byte| number << 8 | u64::from(byte));
                let unused = 64 - 8 * width as u32;
                if signed { Some((unsigned << unused) as i64 >> unused) } else { i64::try_from(unsigned).ok() }
            };
            let integers = words.map(integer).collect::<Option<_>>();
            Values::Integers(integers.ok_or_else(|| "an integer beyond 2^63".to_owned())?)
        }
    };
    Ok(Array { shape, values })
}

/// A matrix stored column by column, row by row.
fn by_rows(data: &[u8], rows: usize, columns: usize, width: usize) -> Vec<u8> {
    let mut turned = Vec::with_capacity(data.len());
    for row in 0..rows {
        for column in 0..columns {
            turned.extend_from_slice(&data[(column * rows + row) * width..][..width]);
        }
    }
    turned
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::DeflateEncoder;

    use super::*;

    /// The bytes of an array file.
    pub(in super::super) fn npy(kind: &str, shape: &str, data: &[u8]) -> Vec<u8> {
        let header = format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}\n");
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.as_bytes());
        bytes.extend(data);
        bytes
    }

    /// An archive of files, every second one deflated.
    pub(in super::super) fn zip(files: &[(&str, Vec<u8>)]) -> Vec<u8> {
        let (mut bytes, mut directory) = (Vec::new(), Vec::new());
        for (index, (name, content)) in files.iter().enumerate() {
            let (method, data) = if index % 2 == 0 {
                (0u16, content.clone())
            } else {
                let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
                encoder.write_all(content).unwrap();
                (8, encoder.finish().unwrap())
            };
            let local = bytes.len() as u32;
            let sizes = [0, data.len() as u32, content.len() as u32].map(u32::to_le_bytes).concat();
            let middle = [&method.to_le_bytes()[..], &[0; 4], &sizes, &(name.len() as u16).to_le_bytes()].concat();
            bytes.extend([b"PK\x03\x04\x14\0\0\0", &middle[..], &[0, 0], name.as_bytes(), &data].concat());
            directory.extend(
                [b"PK\x01\x02\x14\0\x14\0\0\0", &middle[..], &[0; 12], &local.to_le_bytes(), name.as_bytes()].concat(),
            );
        }
        let (start, size, count) = (bytes.len() as u32, directory.len() as u32, files.len() as u16);
        bytes.extend(directory);
        bytes.extend([b"PK\x05\x06\0\0\0\0", &count.to_le_bytes()[..], &count.to_le_bytes()].concat());
        bytes.extend([&size.to_le_bytes()[..], &start.to_le_bytes(), &[0, 0]].concat());
        bytes
    }

    fn read_bytes(bytes: &[u8]) -> Result<BTreeMap<String, Array>, String> {
        let folder = std::env::temp_dir().join(format!(
            "ftk-npz-{}-{:x}",
            std::process::id(),
            blake3::hash(bytes).as_bytes()[0]
        ));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("g.npz");
        std::fs::write(&path, bytes).unwrap();
        let found = read(&path).map_err(|error| error.to_string().replace(path.to_str().unwrap(), "g.npz"));
        std::fs::remove_dir_all(&folder).unwrap();
        found
    }

    #[test]
    fn arrays_are_read_in_every_kind() {
        let files = [
            ("a.npy", npy("<f4", "(2, 1)", &[1.5f32.to_le_bytes(), (-2.0f32).to_le_bytes()].concat())),
            ("b.npy", npy("<i8", "(2,)", &[(-1i64).to_le_bytes(), 7i64.to_le_bytes()].concat())),
            ("c.npy", npy("|b1", "(3,)", &[1, 0, 1])),
            ("d.npy", npy("<i2", "(1,)", &(-5i16).to_le_bytes())),
            ("e.npy", npy("<f8", "()", &0.25f64.to_le_bytes())),
            ("f.txt", b"not an array".to_vec()),
        ];
        let arrays = read_bytes(&zip(&files)).unwrap();
        let mut columns = npy("<i2", "(2, 3)", &[1u8, 0, 2, 0, 3, 0, 4, 0, 5, 0, 6, 0]);
        let at = columns.windows(5).position(|word| word == b"False").unwrap();
        columns.splice(at..at + 5, *b"True ");
        let turned = read_bytes(&zip(&[("a.npy", columns)])).unwrap();
        assert_eq!(turned["a"], Array { shape: vec![2, 3], values: Values::Integers(vec![1, 3, 5, 2, 4, 6]) });
        assert_eq!(arrays["a"], Array { shape: vec![2, 1], values: Values::Floats(vec![1.5, -2.0]) });
        assert_eq!(arrays["b"].values, Values::Integers(vec![-1, 7]));
        assert_eq!(arrays["c"].values, Values::Flags(vec![true, false, true]));
        assert_eq!(arrays["d"].values, Values::Integers(vec![-5]));
        assert_eq!(arrays["e"], Array { shape: vec![], values: Values::Doubles(vec![0.25]) });
        assert!(!arrays.contains_key("f"));
    }

    #[test]
    fn damage_is_an_error_and_never_a_panic() {
        let whole = zip(&[("a.npy", npy("<f4", "(2,)", &[0; 8])), ("b.npy", npy("<i8", "(1,)", &[0; 8]))]);
        for cut in 0..whole.len() {
            assert!(read_bytes(&whole[..cut]).is_err(), "{cut}");
        }
        for at in 0..whole.len() {
            let mut other = whole.clone();
            other[at] ^= 0xff;
            let _ = read_bytes(&other);
        }
        let one = |file: Vec<u8>| read_bytes(&zip(&[("a.npy", file)])).unwrap_err();
        assert_eq!(one(npy("<f4", "(3,)", &[0; 8])), "g.npz:a: not a NumPy array, or a damaged one");
        assert_eq!(
            one(npy("<f4", "(99999999999, 99999999999)", &[0; 8])),
            "g.npz:a: not a NumPy array, or a damaged one"
        );
        assert_eq!(one(npy("<c8", "(1,)", &[0; 8])), "g.npz:a: holds values of a kind that is not read: <c8");
        assert_eq!(one(b"PNG".to_vec()), "g.npz:a: not a NumPy array, or a damaged one");
        assert_eq!(read_bytes(b"nothing").unwrap_err(), "g.npz: not a zip archive, or a damaged one");
    }
}
