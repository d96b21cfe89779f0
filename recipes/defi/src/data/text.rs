//! The text of a file, plain or gzip.

use std::io::Read;
use std::path::Path;

use flate2::read::MultiGzDecoder;
use ftk_adapters::foreign;

use crate::DefiError;

/// Most bytes of a file after decompression: a month of trades of the busiest pairs has a tenth of it.
const MAX_BYTES: u64 = 1 << 33;

/// Reads a file.
///
/// # Errors
/// A file that cannot be read, is no text, or has more than 8 GiB.
pub(super) fn text(path: &Path) -> Result<String, DefiError> {
    let io = |source| DefiError::Io { path: path.to_owned(), source };
    let bytes = foreign::read(path, foreign::DATA).map_err(io)?;
    let mut text = String::new();
    let mut take = |reader: &mut dyn Read| reader.take(MAX_BYTES).read_to_string(&mut text).map_err(io);
    // gzip's two magic bytes; the name may say otherwise.
    let read = if bytes.starts_with(&[0x1f, 0x8b]) {
        take(&mut foreign::Unpacked(MultiGzDecoder::new(bytes.as_slice())))?
    } else {
        take(&mut bytes.as_slice())?
    };
    if read as u64 == MAX_BYTES {
        return Err(DefiError::Contents { path: path.to_owned(), message: "has more than 8 GiB".to_owned() });
    }
    Ok(text)
}
