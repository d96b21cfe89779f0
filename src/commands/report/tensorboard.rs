//! Event files of TensorBoard: the scalars of a run, step by step, in the record format of TensorFlow.
//!
//! A record is its length (u64), a checksum of that, its bytes, a checksum of these; a checksum is CRC-32C (RFC 3720,
//! appendix B.4) turned by 15 bits plus a constant. A record is an `Event` in the encoding of protocol buffers, of which
//! this writes four fields. Integers are little-endian. There is no time in it, so that one run gives the same bytes.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use ftk_adapters::atomic;

use crate::train::FigureCurve;

/// How names of such files begin, by which TensorBoard knows them; behind it stand a time and a host elsewhere.
const NAME: &str = "events.out.tfevents.0.ftk";
/// What the first record says.
const VERSION: &str = "brain.Event:2";

/// Fields of `Event`, of `Summary` and of `Summary.Value`, with their wire types: 1 is eight bytes, 0 an integer of
/// variable length, 2 bytes with their length, 5 four bytes.
const WALL_TIME: u8 = (1 << 3) | 1;
const STEP: u8 = 2 << 3;
const FILE_VERSION: u8 = (3 << 3) | 2;
const SUMMARY: u8 = (5 << 3) | 2;
const VALUE: u8 = (1 << 3) | 2;
const TAG: u8 = (1 << 3) | 2;
const SIMPLE_VALUE: u8 = (2 << 3) | 5;

/// Writes the curves of a run into a folder of its own, which TensorBoard shows as a run of that name.
///
/// # Errors
/// The file system's.
pub(super) fn write(curves: &[FigureCurve], folder: &Path) -> Result<PathBuf> {
    let path = folder.join(NAME);
    let cannot = || format!("cannot write {}", path.display());
    std::fs::create_dir_all(folder).with_context(cannot)?;
    atomic::write(&path, &events(curves)).with_context(cannot)?;
    Ok(path)
}

/// The bytes of an event file: a record a step, with all figures of that step.
fn events(curves: &[FigureCurve]) -> Vec<u8> {
    let mut bytes = record(&[&[WALL_TIME][..], &0f64.to_le_bytes(), &sized(FILE_VERSION, VERSION.as_bytes())].concat());
    let mut steps: Vec<u64> = curves.iter().flat_map(|curve| &curve.points).map(|(step, _)| *step as u64).collect();
    steps.sort_unstable();
    steps.dedup();
    // Points come in the order of steps.
    let mut rest: Vec<(String, &[(f64, f64)])> =
        curves.iter().map(|curve| (tag(&curve.name), curve.points.as_slice())).collect();
    for step in steps {
        let mut summary = Vec::new();
        for (tag, points) in &mut rest {
            let Some(((at, value), others)) = points.split_first() else { continue };
            if *at as u64 != step {
                continue;
            }
            *points = others;
            let value = [&sized(TAG, tag.as_bytes())[..], &[SIMPLE_VALUE][..], &(*value as f32).to_le_bytes()].concat();
            summary.extend(sized(VALUE, &value));
        }
        let head = [&[WALL_TIME][..], &0f64.to_le_bytes(), &[STEP], &varint(step)].concat();
        bytes.extend(record(&[head, sized(SUMMARY, &summary)].concat()));
    }
    bytes
}

/// What TensorBoard groups figures by, as transformers' callback does.
fn tag(name: &str) -> String {
    match name.strip_prefix("eval_") {
        Some(rest) => format!("eval/{rest}"),
        None => format!("train/{name}"),
    }
}

/// A field of bytes with their length.
fn sized(field: u8, bytes: &[u8]) -> Vec<u8> {
    [&[field][..], &varint(bytes.len() as u64), bytes].concat()
}

/// Seven bits a byte, the lowest first.
fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

fn record(bytes: &[u8]) -> Vec<u8> {
    let length = (bytes.len() as u64).to_le_bytes();
    [&length[..], &checksum(&length), bytes, &checksum(bytes)].concat()
}

/// The masked checksum of a record.
fn checksum(bytes: &[u8]) -> [u8; 4] {
    const MASK: u32 = 0xa282_ead8;
    crc32c(bytes).rotate_right(15).wrapping_add(MASK).to_le_bytes()
}

/// CRC-32C (Castagnoli), bit by bit: event files are small.
fn crc32c(bytes: &[u8]) -> u32 {
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    let of_byte = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ if crc & 1 == 1 { POLYNOMIAL } else { 0 })
    };
    !bytes.iter().fold(!0, of_byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_the_standard() {
        // RFC 3720, B.4, and the usual check value.
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(varint(300), [0xac, 2]);
    }

    /// As the package tensorboard 2.20 has it read, and with a wall time of 0 wrote it: `EventFileWriter` and
    /// `tf.compat.v1.Event(step=300, summary={value {tag: "train/loss", simple_value: 1.5}})`.
    #[test]
    fn a_file_is_a_version_and_a_record_a_step() {
        let curve = |name: &str, points: &[(f64, f64)]| FigureCurve { name: name.to_owned(), points: points.to_vec() };
        let bytes = events(&[curve("loss", &[(1.0, 2.5), (300.0, 1.5)]), curve("eval_loss", &[(300.0, 0.25)])]);
        let mut rest = bytes.as_slice();
        let mut records = Vec::new();
        while !rest.is_empty() {
            let (length, after) = rest.split_at(8);
            let size = u64::from_le_bytes(length.try_into().unwrap()) as usize;
            assert_eq!(after[..4], checksum(length));
            let data = &after[4..4 + size];
            assert_eq!(after[4 + size..8 + size], checksum(data));
            records.push(data.to_vec());
            rest = &after[8 + size..];
        }
        let time = [9, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(records[0], [&time[..], b"\x1a\x0dbrain.Event:2"].concat());
        assert_eq!(
            records[1],
            [&time[..], b"\x10\x01\x2a\x13\x0a\x11\x0a\x0atrain/loss\x15", &2.5f32.to_le_bytes()].concat()
        );
        let both = [
            &time[..],
            b"\x10\xac\x02\x2a\x25\x0a\x11\x0a\x0atrain/loss\x15",
            &1.5f32.to_le_bytes(),
            b"\x0a\x10\x0a\x09eval/loss\x15",
            &0.25f32.to_le_bytes(),
        ];
        assert_eq!(records[2], both.concat());
        assert_eq!(records.len(), 3);
    }
}
