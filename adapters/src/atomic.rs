//! Files that are either the old one or the new one, never half of either. Whole folders are [`crate::staged`]'s.

use std::io::{self, Write};
use std::path::Path;

use tempfile::NamedTempFile;

use crate::foreign;
use crate::staged::{PREFIX, nameless};

/// Writes `bytes` to a temporary name in the same folder and renames it to `path`.
///
/// # Errors
/// The file system's; `path` is then as it was.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    readable(path, bytes)?.persist(path)?;
    foreign::sync_folder(folder(path))
}

/// [`write()`] for a file that must not exist yet.
///
/// # Errors
/// The file system's, also if `path` exists.
pub fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    readable(path, bytes)?.persist_noclobber(path)?;
    foreign::sync_folder(folder(path))
}

/// [`write()`] for a file that only its owner may read (mode 0600), and that must not exist yet.
///
/// # Errors
/// The file system's, also if `path` exists.
pub fn write_secret(path: &Path, bytes: &[u8]) -> io::Result<()> {
    staged(path, bytes)?.persist_noclobber(path)?;
    foreign::sync_folder(folder(path))
}

/// [`write_secret`] for a file that may exist and then is replaced.
///
/// # Errors
/// The file system's; `path` is then as it was.
pub fn replace_secret(path: &Path, bytes: &[u8]) -> io::Result<()> {
    staged(path, bytes)?.persist(path)?;
    foreign::sync_folder(folder(path))
}

fn readable(path: &Path, bytes: &[u8]) -> io::Result<NamedTempFile> {
    let file = staged(path, bytes)?;
    // A temporary file is private; what is written here is for others to read.
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        file.as_file().set_permissions(std::fs::Permissions::from_mode(0o644))?;
    }
    Ok(file)
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn staged(path: &Path, bytes: &[u8]) -> io::Result<NamedTempFile> {
    filled(path, bytes).map_err(nameless)
}

fn filled(path: &Path, bytes: &[u8]) -> io::Result<NamedTempFile> {
    loop {
        let mut file = tempfile::Builder::new().prefix(PREFIX).tempfile_in(folder(path))?;
        // Held until it has its name, so that only the dead ones' are swept out; nor can that be where there are no locks.
        let _ = file.as_file().lock();
        if !file.path().exists() {
            continue;
        }
        file.write_all(bytes)?;
        file.as_file().sync_data()?;
        return Ok(file);
    }
}
