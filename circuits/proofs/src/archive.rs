//! A bundle as one file: a tar archive of its files, which any tar unpacks.
//!
//! There is one way to write one (`ustar`, the files in the order of [`FILES`], modes 0644, no owner, no date), and no other
//! is read: equal bundles are equal bytes, and nothing travels with a bundle that no verdict is about.

use crate::bundle::{FILES, Files};

/// Media type of the file.
pub const MEDIA_TYPE: &str = "application/vnd.ftk.bundle";
/// How its name ends.
pub const ENDING: &str = "ftk";

/// Headers and contents begin at multiples of so many bytes.
const BLOCK: usize = 512;
/// Where a header has the size of what follows it, in octal digits.
const SIZE: std::ops::Range<usize> = 124..135;

/// A header as POSIX.1-1988 lays it out (`ustar`).
fn header(name: &str, size: usize) -> [u8; BLOCK] {
    let mut header = [0; BLOCK];
    let mut put = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, name);
    put(100, "0000644"); // mode
    put(108, "0000000"); // owner
    put(116, "0000000"); // group
    put(SIZE.start, &format!("{size:011o}"));
    put(136, "00000000000"); // date
    put(148, "        "); // the sum below, of a header that has blanks in its place
    put(156, "0"); // a file
    put(257, "ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header
}

/// The files as one.
pub fn archive(files: &Files<'_>) -> Vec<u8> {
    let mut whole = Vec::new();
    for name in FILES {
        if let Some(bytes) = files.get(name) {
            whole.extend(header(name, bytes.len()));
            whole.extend(*bytes);
            whole.resize(whole.len().next_multiple_of(BLOCK), 0);
        }
    }
    // Two empty headers are the end.
    whole.resize(whole.len() + 2 * BLOCK, 0);
    whole
}

/// Whether bytes are the beginning of such a file.
pub fn is_archive(bytes: &[u8]) -> bool {
    bytes.strip_prefix(FILES[0].as_bytes()).is_some_and(|rest| rest.first() == Some(&0))
}

/// The files in one.
///
/// # Errors
/// [`ArchiveError::Cut`] for one of which the end is missing, [`ArchiveError::Other`] for what [`archive`] does not write.
pub fn unarchive(bytes: &[u8]) -> Result<Files<'_>, ArchiveError> {
    let mut files = Files::new();
    let mut rest = bytes;
    // What headers say beside names and sizes is compared below.
    loop {
        let (header, behind) = rest.split_at_checked(BLOCK).ok_or(ArchiveError::Cut)?;
        if header.iter().all(|byte| *byte == 0) {
            break;
        }
        let named = header.split(|byte| *byte == 0).next().unwrap_or_default();
        let Some(name) = FILES.into_iter().find(|name| name.as_bytes() == named) else {
            let name = String::from_utf8_lossy(named);
            return Err(ArchiveError::Other(format!("holds what is no file of a bundle: {name:?}")));
        };
        let size = str::from_utf8(&header[SIZE]).ok().and_then(|size| usize::from_str_radix(size, 8).ok());
        let size = size.ok_or_else(|| ArchiveError::Other(format!("has no size: {name}")))?;
        if files.insert(name, behind.get(..size).ok_or(ArchiveError::Cut)?).is_some() {
            return Err(ArchiveError::Other(format!("holds a file twice: {name}")));
        }
        rest = behind.get(size.next_multiple_of(BLOCK)..).ok_or(ArchiveError::Cut)?;
    }
    let whole = self::archive(&files);
    match bytes {
        bytes if bytes == whole => Ok(files),
        bytes if whole.starts_with(bytes) => Err(ArchiveError::Cut),
        _ => Err(ArchiveError::Other("is laid out otherwise than ftk does it".to_owned())),
    }
}

/// Why bytes are no archive of a bundle.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ArchiveError {
    /// Not all of it has come.
    #[error("ends too early")]
    Cut,
    /// Nothing that ftk writes.
    #[error("{0}")]
    Other(String),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::{COMMITMENT, SEALED, STATEMENT};

    fn files() -> Files<'static> {
        Files::from([(STATEMENT, &b"{}"[..]), (COMMITMENT, &[7; 600]), (SEALED, &[])])
    }

    #[test]
    fn every_byte_of_a_header_is_as_it_must_be() {
        let whole = archive(&files());
        assert!(is_archive(&whole));
        assert_eq!(whole.len() % 512, 0);
        assert_eq!(unarchive(&whole), Ok(files()));
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            let read = unarchive(&changed);
            let content = (512..514).contains(&at) || (1536..2136).contains(&at);
            assert_eq!(read.is_ok(), content, "{at}: {read:?}");
        }
    }

    #[test]
    fn what_has_not_come_whole_is_told_from_what_is_another() {
        let whole = archive(&files());
        for end in [0, 1, 511, 512, 513, 1024, 1536, 2000, whole.len() - 1024, whole.len() - 1] {
            assert_eq!(unarchive(&whole[..end]), Err(ArchiveError::Cut), "{end}");
        }
        let more = [whole.as_slice(), &[0; 512]].concat();
        assert!(matches!(unarchive(&more), Err(ArchiveError::Other(_))));
    }

    /// What others would write: (name, kind).
    fn others(entries: &[(&str, u8)]) -> Vec<u8> {
        let headers = entries.iter().map(|(name, kind)| {
            let mut header = header(name, 0);
            header[156] = *kind;
            header
        });
        headers.chain([[0; BLOCK]; 2]).flatten().collect()
    }

    #[test]
    fn links_strangers_doubles_and_other_orders_are_refused() {
        let reason = |entries: &[(&str, u8)]| unarchive(&others(entries)).unwrap_err().to_string();
        for kind in [b'1', b'2', b'5', b'x', b'L'] {
            assert_eq!(reason(&[(STATEMENT, kind)]), "is laid out otherwise than ftk does it");
        }
        assert_eq!(reason(&[(COMMITMENT, b'0'), (STATEMENT, b'0')]), "is laid out otherwise than ftk does it");
        assert_eq!(reason(&[(STATEMENT, b'0'), (STATEMENT, b'0')]), "holds a file twice: statement.json");
        for stranger in ["readme", "./statement.json", "a/statement.json", "/statement.json"] {
            assert_eq!(reason(&[(stranger, b'0')]), format!("holds what is no file of a bundle: {stranger:?}"));
        }
        let mut sized = archive(&files());
        sized[SIZE.start] = b'8';
        assert_eq!(unarchive(&sized), Err(ArchiveError::Other("has no size: statement.json".to_owned())));
    }
}
