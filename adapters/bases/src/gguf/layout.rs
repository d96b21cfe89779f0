//! A walk over a GGUF header that keeps nothing, before candle reads it.
//!
//! candle 0.11 bounds counts and lengths by the file's size, but divides by `general.alignment` as the file gives it, and
//! accepts version 1. Here a file MUST be of version 2 or 3, its keys and the names of its tensors MUST be unique, and its
//! alignment MUST be a 32-bit power of two.

use std::collections::BTreeSet;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use ftk_adapters::peft::LFS;

use super::super::error::ModelError;

/// Longest accepted key, the specification's limit.
const MAX_KEY: u64 = 65_535;
/// Bytes of the shortest entry of a tensor: lengths of its name and shape, type and place.
const SMALLEST: u64 = 24;
/// Names of the types of tensors by their numbers (ggml.h, `enum ggml_type`); some numbers are not used any more.
const TYPES: [&str; 40] = [
    "F32",
    "F16",
    "Q4_0",
    "Q4_1",
    "Q4_2",
    "Q4_3",
    "Q5_0",
    "Q5_1",
    "Q8_0",
    "Q8_1",
    "Q2_K",
    "Q3_K",
    "Q4_K",
    "Q5_K",
    "Q6_K",
    "Q8_K",
    "IQ2_XXS",
    "IQ2_XS",
    "IQ3_XXS",
    "IQ1_S",
    "IQ4_NL",
    "IQ3_S",
    "IQ2_S",
    "IQ4_XS",
    "I8",
    "I16",
    "I32",
    "I64",
    "F64",
    "IQ1_M",
    "BF16",
    "Q4_0_4_4",
    "Q4_0_4_8",
    "Q4_0_8_8",
    "TQ1_0",
    "TQ2_0",
    "IQ4_NL_4_4",
    "IQ4_NL_4_8",
    "IQ4_NL_8_8",
    "MXFP4",
];
/// Those that candle reads.
const READ: [u32; 15] = [0, 1, 2, 3, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 30];
/// Deepest accepted nesting of arrays.
const MAX_DEPTH: usize = 4;

/// Checks the header and leaves the reader at the start of the file.
///
/// # Errors
/// [`ModelError::Malformed`] naming the rule that is broken.
pub(super) fn check(path: &Path, reader: &mut (impl Read + Seek)) -> Result<(), ModelError> {
    let malformed = |reason: String| ModelError::Malformed { path: path.to_owned(), format: "GGUF", reason };
    walk(reader).map_err(|broken| match broken {
        BrokenHeader::Rule(reason) => malformed(reason),
        BrokenHeader::Pointer => ModelError::Pointer { path: path.to_owned() },
        BrokenHeader::Type { tensor, found } => ModelError::TensorType { path: path.to_owned(), tensor, found },
        BrokenHeader::Io(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            malformed("the file ends inside its header".to_owned())
        }
        BrokenHeader::Io(source) => ModelError::Read { path: path.to_owned(), source },
    })?;
    reader.rewind().map_err(|source| ModelError::Read { path: path.to_owned(), source })
}

enum BrokenHeader {
    Io(std::io::Error),
    /// What Git LFS left in the place of the file.
    Pointer,
    Type {
        tensor: String,
        found: String,
    },
    Rule(String),
}

impl From<std::io::Error> for BrokenHeader {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}

fn walk(reader: &mut (impl Read + Seek)) -> Result<(), BrokenHeader> {
    let start = bytes::<4>(reader)?;
    if LFS.starts_with(&start) {
        return Err(BrokenHeader::Pointer);
    }
    if &start != b"GGUF" {
        return Err(BrokenHeader::Rule(
            "it does not begin with GGUF; a base is a folder with config.json, or a GGUF file".to_owned(),
        ));
    }
    let version = u32::from_le_bytes(bytes(reader)?);
    if matches!(version.swap_bytes(), 1..=3) {
        return Err(BrokenHeader::Rule("the file is big endian, which is not read".to_owned()));
    }
    if !matches!(version, 2 | 3) {
        return Err(BrokenHeader::Rule(format!("version not supported, 2 and 3 are: {version}")));
    }
    let tensors = u64::from_le_bytes(bytes(reader)?);
    let here = reader.stream_position()?;
    let end = reader.seek(SeekFrom::End(0))?;
    reader.seek(SeekFrom::Start(here))?;
    if tensors > end / SMALLEST {
        return Err(BrokenHeader::Rule(format!("more tensors than the file has room for: {tensors}")));
    }
    let entries = u64::from_le_bytes(bytes(reader)?);
    let mut keys = BTreeSet::new();
    for _ in 0..entries {
        let length = u64::from_le_bytes(bytes(reader)?);
        if length > MAX_KEY {
            return Err(BrokenHeader::Rule(format!("key longer than {MAX_KEY} bytes: {length}")));
        }
        let mut key = vec![0; usize::try_from(length).expect("bounded by MAX_KEY")];
        reader.read_exact(&mut key)?;
        let key = String::from_utf8_lossy(&key).into_owned();
        let kind = u32::from_le_bytes(bytes(reader)?);
        if key == "general.alignment" {
            alignment(kind, reader)?;
        } else {
            skip(kind, 0, reader)?;
        }
        if let Some(key) = keys.replace(key) {
            return Err(BrokenHeader::Rule(format!("key given twice: {key}")));
        }
    }
    let mut names = BTreeSet::new();
    for _ in 0..tensors {
        let length = u64::from_le_bytes(bytes(reader)?);
        if length > MAX_KEY {
            return Err(BrokenHeader::Rule(format!("name of a tensor longer than {MAX_KEY} bytes: {length}")));
        }
        let mut name = vec![0; usize::try_from(length).expect("bounded by MAX_KEY")];
        reader.read_exact(&mut name)?;
        let name = String::from_utf8_lossy(&name).into_owned();
        let dimensions = u32::from_le_bytes(bytes(reader)?);
        forward(reader, u64::from(dimensions) * 8)?;
        let kind = u32::from_le_bytes(bytes(reader)?);
        if !READ.contains(&kind) {
            let found = TYPES.get(kind as usize).map_or_else(|| format!("type {kind}"), |name| (*name).to_owned());
            return Err(BrokenHeader::Type { tensor: name, found });
        }
        bytes::<8>(reader)?;
        if let Some(name) = names.replace(name) {
            return Err(BrokenHeader::Rule(format!("tensor given twice: {name}")));
        }
    }
    Ok(())
}

fn alignment(kind: u32, reader: &mut impl Read) -> Result<(), BrokenHeader> {
    const U32: u32 = 4;
    if kind != U32 {
        return Err(BrokenHeader::Rule("general.alignment is not a 32-bit number".to_owned()));
    }
    let alignment = u32::from_le_bytes(bytes(reader)?);
    if !alignment.is_power_of_two() {
        return Err(BrokenHeader::Rule(format!("general.alignment is not a power of two: {alignment}")));
    }
    Ok(())
}

/// Moves past one value of a type numbered as in the specification.
fn skip(kind: u32, depth: usize, reader: &mut (impl Read + Seek)) -> Result<(), BrokenHeader> {
    const STRING: u32 = 8;
    const ARRAY: u32 = 9;
    match kind {
        STRING => {
            let length = u64::from_le_bytes(bytes(reader)?);
            forward(reader, length)
        }
        ARRAY if depth == MAX_DEPTH => Err(BrokenHeader::Rule(format!("arrays nested deeper than {MAX_DEPTH}"))),
        ARRAY => {
            let kind = u32::from_le_bytes(bytes(reader)?);
            let length = u64::from_le_bytes(bytes(reader)?);
            match width(kind) {
                Some(width) => match length.checked_mul(width) {
                    Some(total) => forward(reader, total),
                    None => Err(BrokenHeader::Rule(format!("array too long: {length}"))),
                },
                None => (0..length).try_for_each(|_| skip(kind, depth + 1, reader)),
            }
        }
        _ => match width(kind) {
            Some(width) => forward(reader, width),
            None => Err(BrokenHeader::Rule(format!("unknown type of value: {kind}"))),
        },
    }
}

/// Bytes of a scalar type.
fn width(kind: u32) -> Option<u64> {
    match kind {
        0 | 1 | 7 => Some(1),
        2 | 3 => Some(2),
        4..=6 => Some(4),
        10..=12 => Some(8),
        _ => None,
    }
}

fn bytes<const N: usize>(reader: &mut impl Read) -> Result<[u8; N], BrokenHeader> {
    let mut buffer = [0; N];
    reader.read_exact(&mut buffer)?;
    Ok(buffer)
}

/// Moves ahead within what is buffered, where it can; a jump past the end is noticed by the next read.
fn forward(reader: &mut impl Seek, length: u64) -> Result<(), BrokenHeader> {
    let length = i64::try_from(length).map_err(|_| BrokenHeader::Rule(format!("length beyond any file: {length}")))?;
    reader.seek_relative(length)?;
    Ok(())
}
