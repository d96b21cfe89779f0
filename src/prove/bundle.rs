//! Bundles in folders, and as one file; [`mod@ftk_proofs::bundle`] says which files there are.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use ftk_adapters::foreign;
use ftk_adapters::staged::{PREFIX, Staged, Temporary, There, Undivided, probe_file};
use ftk_proofs::archive::{ArchiveError, ENDING, archive, is_archive, unarchive};
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

/// Files by their names, as they are written and read.
pub type OwnedFiles = BTreeMap<&'static str, Vec<u8>>;

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
    let staged = StagedBundle::new(folder)?;
    staged.write(&bundle.files().map_err(io::Error::other)?)?;
    staged.persist()
}

/// A bundle that is being written, beside the place it is for: a folder, or one file where its name ends in `.ftk`.
#[derive(Debug)]
pub enum StagedBundle {
    /// A folder.
    Folder(Staged),
    /// One file.
    File {
        /// Where it is written.
        temporary: Temporary,
        /// Where it is to be.
        target: PathBuf,
    },
}

impl StagedBundle {
    /// Begins one. Where nothing can be written this is told now, before any work is done.
    ///
    /// # Errors
    /// The file system's; [`io::ErrorKind::AlreadyExists`] where something stands in the place that is no such file,
    /// [`io::ErrorKind::NotADirectory`] where it is no folder.
    pub fn new(target: &Path) -> io::Result<Self> {
        if target.extension().is_none_or(|ending| ending != ENDING) || target.is_dir() {
            return Staged::new(target, There::Goes).map(Self::Folder);
        }
        if target.exists() && !is_single(target)? {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "is there already, and is no bundle"));
        }
        let parent = parent(target);
        fs::create_dir_all(parent)?;
        probe_file(target)?;
        Ok(Self::File { temporary: Temporary::new(parent, PREFIX)?, target: target.to_owned() })
    }

    /// Writes the files.
    ///
    /// # Errors
    /// The file system's.
    pub fn write(&self, files: &OwnedFiles) -> io::Result<()> {
        match self {
            Self::Folder(staged) => {
                files.iter().try_for_each(|(name, bytes)| fs::write(staged.path().join(name), bytes))
            }
            Self::File { temporary, .. } => fs::write(temporary.path().join(WHOLE), archive(&borrowed(files))),
        }
    }

    /// Puts it in its place.
    ///
    /// # Errors
    /// The file system's.
    pub fn persist(self) -> io::Result<()> {
        match self {
            Self::Folder(staged) => staged.persist(&FILES),
            Self::File { temporary, target } => {
                let _whole = Undivided::begin();
                let written = temporary.path().join(WHOLE);
                foreign::open(&written)?.sync_all()?;
                fs::rename(written, &target)?;
                foreign::sync_folder(parent(&target))
            }
        }
    }
}

/// What a file is called before it is in its place.
const WHOLE: &str = "whole";

fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Whether a path is a bundle as one file, whatever its name.
///
/// # Errors
/// The file system's.
pub fn is_single(path: &Path) -> io::Result<bool> {
    if path.is_dir() {
        return Ok(false);
    }
    let mut begins = Vec::new();
    foreign::open(path)?.take(64).read_to_end(&mut begins)?;
    Ok(is_archive(&begins))
}

fn borrowed(files: &OwnedFiles) -> Files<'_> {
    files.iter().map(|(name, bytes)| (*name, bytes.as_slice())).collect()
}

/// Reads a bundle's files as far as they can be read without the base.
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
pub fn packed(place: &Path, limits: &Limits) -> Result<PackedBundle, BundleError> {
    let files = files(place, limits)?;
    PackedBundle::parse(&borrowed(&files), limits).map_err(|refusal| match refusal {
        Refusal::Malformed { file, .. } if !files.contains_key(file) => {
            BundleError::Half { place: place.to_owned(), missing: file }
        }
        refusal => refusal.into(),
    })
}

/// The files of a bundle in a folder or as one file, all that every bundle has among them.
///
/// # Errors
/// As [`read`].
pub fn files(place: &Path, limits: &Limits) -> Result<OwnedFiles, BundleError> {
    let io = |error| BundleError::Io { path: place.to_owned(), error };
    let files = if place.is_file() && is_single(place).map_err(io)? {
        let mut bytes = Vec::new();
        foreign::open(place)
            .and_then(|file| file.take(limits.bytes.saturating_add(1)).read_to_end(&mut bytes))
            .map_err(io)?;
        if bytes.len() as u64 > limits.bytes {
            return Err(limits.too_long().into());
        }
        let files = unarchive(&bytes).map_err(|error| BundleError::Single { path: place.to_owned(), error })?;
        files
            .iter()
            .filter_map(|(name, bytes)| Some((*FILES.iter().find(|known| *known == name)?, bytes.to_vec())))
            .collect()
    } else {
        let mut left = limits.bytes;
        let mut files = OwnedFiles::new();
        for name in FILES {
            if let Some(bytes) = file(place, name, left)? {
                left = left.checked_sub(bytes.len() as u64).ok_or_else(|| limits.too_long())?;
                files.insert(name, bytes);
            }
        }
        files
    };
    let others = if files.contains_key(SEALED) { [REGISTRATION].as_slice() } else { OPEN.as_slice() };
    match NEEDED.iter().chain(others).find(|name| !files.contains_key(*name)) {
        Some(missing) => Err(BundleError::Half { place: place.to_owned(), missing }),
        None => Ok(files),
    }
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
    /// One file, and not one that ftk writes.
    #[error("{}: {error}", path.display())]
    Single {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        error: ArchiveError,
    },
    /// Not all of it is there.
    #[error("{}: no bundle, or not all of it: {missing} is missing", place.display())]
    Half {
        /// The folder, or the one file.
        place: PathBuf,
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
