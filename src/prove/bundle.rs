//! Bundles in folders; [`mod@ftk_proofs::bundle`] says which files there are.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use ftk_adapters::foreign;
use ftk_adapters::staged::{Staged, There};
use ftk_proofs::bundle::{
    Bundle, COMMITMENT, DELTAS, FILES, Files, LINK, PROOF, PackedBundle, REGISTRATION, SEALED, STATEMENT,
};
use ftk_proofs::limits::Limits;
use ftk_proofs::refusal::Refusal;

/// Without these a folder is no bundle, or one of which not all has come: those of all, and of one in open mode; a sealed
/// one is nothing without its registration. What else a statement needs, such as the logits behind its digests, is known when
/// it is read.
const NEEDED: [&str; 2] = [STATEMENT, COMMITMENT];
const OPEN: [&str; 3] = [DELTAS, PROOF, LINK];

/// Writes a bundle in the place of a folder: of the one that was there before, nothing stays.
///
/// # Errors
/// The file system's; a bundle that has no files.
pub fn write(bundle: &Bundle, folder: &Path) -> io::Result<()> {
    write_packed(&bundle.pack().map_err(io::Error::other)?, folder)
}

/// The same of one that is packed.
///
/// # Errors
/// The file system's.
pub fn write_packed(bundle: &PackedBundle, folder: &Path) -> io::Result<()> {
    let staged = Staged::new(folder, There::Goes)?;
    write_all(&bundle.files().map_err(io::Error::other)?, &staged.path())?;
    staged.persist(&FILES)
}

/// Writes files by their names.
///
/// # Errors
/// The file system's.
pub fn write_all(files: &BTreeMap<&'static str, Vec<u8>>, folder: &Path) -> io::Result<()> {
    files.iter().try_for_each(|(name, bytes)| std::fs::write(folder.join(name), bytes))
}

/// Reads a bundle's files from a folder as far as they can be read without the base.
///
/// # Errors
/// [`BundleError::Io`] for what the file system refuses, [`BundleError::Refused`] for content that no honest
/// prover writes, or that is beyond the limits.
pub fn read(folder: &Path, limits: &Limits) -> Result<Bundle, BundleError> {
    let deadline = limits.deadline();
    Ok(packed(folder, limits)?.expand(deadline)?)
}

/// The same but for the deltas.
///
/// # Errors
/// As [`read`].
pub fn packed(folder: &Path, limits: &Limits) -> Result<PackedBundle, BundleError> {
    let mut left = limits.bytes;
    let mut files = BTreeMap::new();
    for name in FILES {
        if let Some(bytes) = file(folder, name, left)? {
            left = left.checked_sub(bytes.len() as u64).ok_or_else(|| limits.too_long())?;
            files.insert(name, bytes);
        }
    }
    let others = if files.contains_key(SEALED) { [REGISTRATION].as_slice() } else { OPEN.as_slice() };
    if let Some(missing) = NEEDED.iter().chain(others).find(|name| !files.contains_key(*name)) {
        return Err(BundleError::Half { folder: folder.to_owned(), missing });
    }
    let files: Files<'_> = files.iter().map(|(name, bytes)| (*name, bytes.as_slice())).collect();
    PackedBundle::parse(&files, limits).map_err(|refusal| match refusal {
        Refusal::Malformed { file, .. } if !files.contains_key(file) => {
            BundleError::Half { folder: folder.to_owned(), missing: file }
        }
        refusal => refusal.into(),
    })
}

/// Why a bundle could not be read.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// The file system refused.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The refusal.
        error: io::Error,
    },
    /// Not all of it is there.
    #[error("{}: no bundle, or not all of it: {missing} is missing", folder.display())]
    Half {
        /// The folder.
        folder: PathBuf,
        /// A file that every bundle has.
        missing: &'static str,
    },
    /// The content is refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// What is in a bundle's folder and is none of its files, or leads out of it: as whoever passes the folder on should know.
pub fn strangers(folder: &Path) -> Vec<String> {
    let whole = folder.canonicalize().unwrap_or_default();
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut strangers: Vec<String> = entries
        .filter_map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            if !FILES.contains(&name.as_str()) {
                return Some(format!("{name} is no file of a bundle, and no verdict is about it"));
            }
            let to = entry.path().canonicalize().ok().filter(|to| !to.starts_with(&whole))?;
            Some(format!("{name} leads out of the folder, to {}", to.display()))
        })
        .collect();
    strangers.sort();
    strangers
}

/// Content of a file of at most `limit` bytes, or one byte more of a longer one; `None` where there is none.
fn file(folder: &Path, name: &'static str, limit: u64) -> Result<Option<Vec<u8>>, BundleError> {
    let path = folder.join(name);
    let io = |error| BundleError::Io { path: path.clone(), error };
    let mut bytes = Vec::new();
    match foreign::open(&path) {
        // A folder without a bundle is a mistake of the caller's, not a bundle that lies.
        Err(error) if error.kind() == io::ErrorKind::NotFound && folder.is_dir() => return Ok(None),
        Err(error) => return Err(io(error)),
        Ok(file) => file.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(io)?,
    };
    Ok(Some(bytes))
}
