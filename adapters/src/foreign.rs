//! Files that others made or put there: regular files only, of a length that is looked at before anything is allocated.
//! A pipe that nobody writes to is never waited for, and a device is never read.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::path::Path;

/// Most bytes of what is read as one text: configurations, recipes, tokenizers, commitments.
pub const DOCUMENT: u64 = 256 << 20;
/// Most bytes of rows, weights and logs that are read as a whole: more than memory that a file of them fits twice.
pub const DATA: u64 = 64 << 30;

/// What to do about a file that [`Unpacked`] finds cut off.
pub const CUT_OFF: &str = "part of the file is missing: bring it here once more, or pack it once more";

/// What comes out of a decompressor, with errors that say what is wrong with the file.
pub struct Unpacked<R>(pub R);

impl<R: Read> Read for Unpacked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer).map_err(|error| match error.kind() {
            kind @ io::ErrorKind::UnexpectedEof => io::Error::new(kind, "is cut off inside its compressed data"),
            kind @ (io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData) => {
                io::Error::new(kind, format!("its compressed data is damaged: {error}"))
            }
            _ => error,
        })
    }
}

/// Opens a regular file for reading.
///
/// # Errors
/// The file system's; [`io::ErrorKind::IsADirectory`] for a folder, [`io::ErrorKind::InvalidInput`] for pipes, devices
/// and sockets.
pub fn open(path: &Path) -> io::Result<File> {
    // Opening alone may already wait or act on a device, so what stands there is asked for first.
    regular(&std::fs::metadata(path)?)?;
    let file = nonblocking(OpenOptions::new().read(true)).open(path)?;
    regular(&file.metadata()?)?;
    Ok(file)
}

/// Opens a regular file for writing without cutting it, or makes it.
///
/// # Errors
/// As [`open`].
pub fn open_to_write(path: &Path) -> io::Result<File> {
    match std::fs::metadata(path) {
        Ok(about) => regular(&about)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let file = nonblocking(OpenOptions::new().create(true).truncate(false).write(true)).open(path)?;
    regular(&file.metadata()?)?;
    Ok(file)
}

/// Opens a folder, to lock it or to have its entries on disk.
///
/// # Errors
/// The file system's; not every one opens folders.
pub fn open_folder(path: &Path) -> io::Result<File> {
    if !std::fs::metadata(path)?.is_dir() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    nonblocking(OpenOptions::new().read(true)).open(path)
}

/// Has the names in a folder on disk, so that what was renamed there is still so after a power cut.
///
/// # Errors
/// The file system's.
pub fn sync_folder(path: &Path) -> io::Result<()> {
    // Where folders cannot be opened, the system keeps their order itself.
    if cfg!(unix) { open_folder(path)?.sync_all() } else { Ok(()) }
}

/// The content of a regular file of at most so many bytes.
///
/// # Errors
/// As [`open`]; [`io::ErrorKind::FileTooLarge`] for a longer one.
pub fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let file = open(path)?;
    let length = file.metadata()?.len();
    let too_long = || io::Error::new(io::ErrorKind::FileTooLarge, format!("is longer than {most} bytes"));
    if length > most {
        return Err(too_long());
    }
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(usize::try_from(length).unwrap_or(usize::MAX))?;
    // It may have grown since.
    file.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most { Err(too_long()) } else { Ok(bytes) }
}

/// [`read`] of text.
///
/// # Errors
/// As [`read`]; [`io::ErrorKind::InvalidData`] for what is not UTF-8.
pub fn read_text(path: &Path, most: u64) -> io::Result<String> {
    let wrong = |_| io::Error::new(io::ErrorKind::InvalidData, "is not UTF-8 text");
    String::from_utf8(read(path, most)?).map_err(wrong)
}

fn regular(about: &Metadata) -> io::Result<()> {
    let kind = about.file_type();
    if kind.is_file() {
        return Ok(());
    }
    if kind.is_dir() {
        return Err(io::Error::new(io::ErrorKind::IsADirectory, "a folder, not a file"));
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{}, not a file", name(kind))))
}

#[cfg(unix)]
fn name(kind: std::fs::FileType) -> &'static str {
    use std::os::unix::fs::FileTypeExt;
    if kind.is_fifo() {
        "a pipe"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    }
}

#[cfg(not(unix))]
fn name(_: std::fs::FileType) -> &'static str {
    "something else"
}

/// Between the look and the opening another may put a pipe there, which then must not be waited for.
fn nonblocking(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.custom_flags(rustix::fs::OFlags::NONBLOCK.bits() as i32);
    }
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_looked_at_and_what_is_no_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, "twelve bytes").unwrap();
        assert_eq!(read_text(&path, 12).unwrap(), "twelve bytes");
        let error = read(&path, 11).unwrap_err();
        assert_eq!(
            (error.kind(), error.to_string().as_str()),
            (io::ErrorKind::FileTooLarge, "is longer than 11 bytes")
        );
        std::fs::write(&path, [0xff]).unwrap();
        assert_eq!(read_text(&path, 12).unwrap_err().to_string(), "is not UTF-8 text");
        assert_eq!(read(folder.path(), 12).unwrap_err().to_string(), "a folder, not a file");
        assert_eq!(open_to_write(folder.path()).unwrap_err().to_string(), "a folder, not a file");
        assert_eq!(read(&folder.path().join("none"), 12).unwrap_err().kind(), io::ErrorKind::NotFound);
        open_to_write(&folder.path().join("none")).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn devices_and_pipes_are_not_opened() {
        for open in [open, open_to_write] {
            assert_eq!(open(Path::new("/dev/zero")).unwrap_err().to_string(), "a device, not a file");
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        for open in [open, open_to_write] {
            assert_eq!(open(&path).unwrap_err().to_string(), "a pipe, not a file");
        }
        let path = folder.path().join("socket");
        let _listening = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert_eq!(open(&path).unwrap_err().to_string(), "a socket, not a file");
    }
}
