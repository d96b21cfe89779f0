//! Folders that are there whole or not at all, and what dead processes left of theirs.
//!
//! What is unfinished has a name of its own and a lock that the operating system drops with its process, however that
//! ends. Whoever works in the same place next sweeps out what nobody holds any more. Files that are replaced one by one
//! are [`crate::atomic`]'s.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use tempfile::TempDir;

use crate::foreign;

/// How names of what is unfinished begin, in folders of the user's.
pub const PREFIX: &str = ".ftk-";

/// Temporary folders of this process, and how much of it must not be broken off now.
static HELD: Mutex<Held> = Mutex::new(Held { folders: Vec::new(), whole: 0 });
/// Nothing is left that must not be broken off.
static BREAKABLE: Condvar = Condvar::new();

struct Held {
    folders: Vec<PathBuf>,
    whole: usize,
}

fn held() -> MutexGuard<'static, Held> {
    HELD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// While there is one, [`abandon`] waits.
#[derive(Debug)]
pub struct Undivided(());

impl Undivided {
    /// From here on.
    pub fn begin() -> Self {
        held().whole += 1;
        Self(())
    }
}

impl Drop for Undivided {
    fn drop(&mut self) {
        held().whole -= 1;
        BREAKABLE.notify_all();
    }
}

/// Removes what this process has not finished, as soon as nothing is in a step that must not be broken off, and ends it by
/// `end`. Nothing new is begun meanwhile.
pub fn abandon(end: impl FnOnce()) {
    let mut held = held();
    while held.whole > 0 {
        held = BREAKABLE.wait(held).unwrap_or_else(PoisonError::into_inner);
    }
    for folder in &held.folders {
        // Another thread may write a file into it while the others go.
        while matches!(fs::remove_dir_all(folder), Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty) {}
    }
    end();
}

/// What the file system refused, without the name that was to be temporary: nobody asked for it.
pub(crate) fn nameless(error: io::Error) -> io::Error {
    let plain = io::Error::from(error.kind());
    // Of kinds without a name of their own, there is nothing plainer.
    if ["other error", "uncategorized error"].contains(&plain.to_string().as_str()) { error } else { plain }
}

/// A temporary folder that others can tell is in use. Goes with the value, or is swept out once its process is dead.
#[derive(Debug)]
pub struct Temporary {
    folder: TempDir,
    /// `None` where folders cannot be locked: then nobody can tell, and nobody sweeps it out.
    _lock: Option<File>,
}

impl Temporary {
    /// Makes one, and sweeps out those of the dead.
    ///
    /// # Errors
    /// The file system's.
    pub fn new(parent: &Path, prefix: &str) -> io::Result<Self> {
        sweep(parent, prefix);
        loop {
            let mut held = held();
            let folder = tempfile::Builder::new().prefix(prefix).tempdir_in(parent).map_err(nameless)?;
            let lock = foreign::open_folder(folder.path()).ok().filter(|file| file.lock().is_ok());
            // Somebody may have swept it out before it was locked.
            if folder.path().exists() {
                held.folders.push(folder.path().to_owned());
                return Ok(Self { folder, _lock: lock });
            }
        }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let mut held = held();
        held.folders.retain(|folder| folder != self.folder.path());
        // Now, so that a signal does not end the process in the middle; the folder itself then has nothing left to do.
        drop(fs::remove_dir_all(self.folder.path()));
    }
}

/// Removes files and folders with such names that no living process holds. What cannot be looked at stays.
pub fn sweep(parent: &Path, prefix: &str) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(kind) = entry.file_type() else { continue };
        if !entry.file_name().to_str().is_some_and(|name| name.starts_with(prefix)) {
            continue;
        }
        let opened = if kind.is_dir() {
            foreign::open_folder(&path)
        } else if kind.is_file() {
            foreign::open(&path)
        } else {
            continue;
        };
        let Ok(file) = opened else { continue };
        if file.try_lock().is_ok() {
            // Another sweep may have been faster, and it is its removal then.
            let _ = if kind.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        }
    }
}

/// What stands in the place that a folder is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum There {
    /// Stays, and what would replace any of it is refused.
    Stays,
    /// Goes, where it has files of these names; it has no others.
    Goes,
}

/// A folder that is being written, beside the place it is for.
#[derive(Debug)]
pub struct Staged {
    temporary: Temporary,
    target: PathBuf,
    there: There,
    /// Its files are moved one by one: the place is a folder that cannot be exchanged or must stay.
    inside: bool,
}

impl Staged {
    /// Begins one. Where nothing can be written this is told now, before any work is done.
    ///
    /// # Errors
    /// The file system's; [`io::ErrorKind::NotADirectory`] if something else stands in the place.
    pub fn new(target: &Path, there: There) -> io::Result<Self> {
        // The folder that a link leads to is written, and the link stays.
        let target = if target.exists() { fs::canonicalize(target)? } else { target.to_owned() };
        let parent = target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if target.exists() {
            if !target.is_dir() {
                return Err(io::Error::new(io::ErrorKind::NotADirectory, "is there already, and is no folder"));
            }
            let stays = there == There::Stays && fs::read_dir(&target)?.next().is_some();
            if stays || !same_system(parent, &target) || probe(parent).is_err() {
                let temporary = Temporary::new(&target, PREFIX)?;
                return Self { temporary, target, there, inside: true }.begun();
            }
        }
        if parent.exists() && !parent.is_dir() {
            let message = format!("{} is no folder", parent.display());
            return Err(io::Error::new(io::ErrorKind::NotADirectory, message));
        }
        fs::create_dir_all(parent)?;
        let temporary = Temporary::new(parent, PREFIX)?;
        Self { temporary, target, there, inside: false }.begun()
    }

    fn begun(self) -> io::Result<Self> {
        // A folder inside the private temporary one gets the permissions that a user expects of a new folder.
        fs::create_dir(self.path())?;
        Ok(self)
    }

    /// Where its files are written.
    pub fn path(&self) -> PathBuf {
        self.temporary.path().join("whole")
    }

    /// Puts it in its place, in one step where the file system can; otherwise file by file, the first of `names` last, so
    /// that the place is never without it and whole. `names` are all that such a folder may have.
    ///
    /// # Errors
    /// The file system's, also if something stands there by now that has to stay.
    pub fn persist(self, names: &[&str]) -> io::Result<()> {
        let _whole = Undivided::begin();
        let (whole, target) = (self.path(), &self.target);
        sync(&whole)?;
        if self.inside {
            self.move_files(&whole, names)?;
        } else if self.there == There::Goes && target.exists() {
            match exchange(&whole, target) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => fs::rename(&whole, target)?,
                Err(_) => {
                    // What goes is out of the way for a moment, and comes back if the other cannot take its place.
                    let aside = self.temporary.path().join("aside");
                    fs::rename(target, &aside)?;
                    if let Err(error) = fs::rename(&whole, target) {
                        fs::rename(&aside, target)?;
                        return Err(error);
                    }
                }
            }
        } else {
            // An empty folder is replaced, any other is not.
            if cfg!(windows) {
                let _ = fs::remove_dir(target);
            }
            fs::rename(&whole, target)?;
        }
        let parent = target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        foreign::sync_folder(if self.inside { target } else { parent })
    }

    fn move_files(&self, whole: &Path, names: &[&str]) -> io::Result<()> {
        let mut written: Vec<_> =
            fs::read_dir(whole)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<_>>()?;
        // Whatever has no place in the list comes first.
        written
            .sort_by_key(|name| std::cmp::Reverse(names.iter().position(|known| name == known).unwrap_or(usize::MAX)));
        match self.there {
            There::Stays => {
                if let Some(name) = written.iter().find(|name| self.target.join(name).exists()) {
                    let message = format!("is there already: {}", name.to_string_lossy());
                    return Err(io::Error::new(io::ErrorKind::AlreadyExists, message));
                }
            }
            There::Goes => {
                for name in names {
                    match fs::remove_file(self.target.join(name)) {
                        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                        _ => foreign::sync_folder(&self.target)?,
                    }
                }
            }
        }
        written.iter().try_for_each(|name| {
            fs::rename(whole.join(name), self.target.join(name))?;
            foreign::sync_folder(&self.target)
        })
    }
}

/// Has everything in a folder on disk.
fn sync(folder: &Path) -> io::Result<()> {
    if cfg!(unix) {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() { sync(&path)? } else { foreign::open(&path)?.sync_all()? }
        }
    }
    foreign::sync_folder(folder)
}

/// Whether a file could be made in the place of this one.
///
/// # Errors
/// The file system's.
pub fn probe_file(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Err(io::Error::new(io::ErrorKind::IsADirectory, "is a folder"));
    }
    probe(path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new(".")))
}

/// Whether a folder is there and can be written to, or could be made.
///
/// # Errors
/// The file system's.
pub fn probe_folder(path: &Path) -> io::Result<()> {
    let mut path = path;
    loop {
        let shown = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        match fs::metadata(shown) {
            Ok(_) => return probe(shown),
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Err(error) => path = path.parent().ok_or(error)?,
        }
    }
}

fn probe(folder: &Path) -> io::Result<()> {
    let _held = held();
    tempfile::Builder::new().prefix(PREFIX).tempfile_in(folder).map(drop).map_err(nameless)
}

#[cfg(unix)]
fn same_system(a: &Path, b: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let device = |path: &Path| fs::metadata(path).map(|about| about.dev()).ok();
    device(a) == device(b)
}

#[cfg(not(unix))]
fn same_system(_: &Path, _: &Path) -> bool {
    true
}

/// Exchanges what two names stand for, in one step.
#[cfg(any(target_os = "linux", target_os = "macos"))]
fn exchange(a: &Path, b: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    Ok(renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE)?)
}

#[cfg(not(any(target_os = "linux", target_os = "macos")))]
fn exchange(_: &Path, _: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    const NAMES: [&str; 2] = ["last", "first"];

    fn fill(folder: &Path, text: &str) {
        NAMES.iter().for_each(|name| fs::write(folder.join(name), text).unwrap());
    }

    fn holds(folder: &Path, text: &str) -> bool {
        NAMES.iter().all(|name| fs::read_to_string(folder.join(name)).is_ok_and(|found| found == text))
    }

    fn entries(folder: &Path) -> usize {
        fs::read_dir(folder).unwrap().count()
    }

    #[test]
    fn folders_appear_whole_are_exchanged_or_stay() {
        let place = tempfile::tempdir().unwrap();
        let target = place.path().join("deep/folder");
        for text in ["one", "two"] {
            let staged = Staged::new(&target, There::Goes).unwrap();
            fill(&staged.path(), text);
            let before = fs::read_to_string(target.join("last")).ok();
            assert_eq!(before.is_some(), text == "two", "nothing is in its place before it is whole");
            staged.persist(&NAMES).unwrap();
            assert!(holds(&target, text));
        }
        assert_eq!(entries(place.path()) + entries(&place.path().join("deep")), 2, "nothing is left over");
        // What stays is written to, file by file, and nothing in it is replaced.
        let staged = Staged::new(&target, There::Stays).unwrap();
        fill(&staged.path(), "three");
        let error = staged.persist(&NAMES).unwrap_err();
        assert!(error.to_string().starts_with("is there already: "), "{error}");
        assert!(holds(&target, "two"));
        fs::remove_file(target.join("last")).unwrap();
        let staged = Staged::new(&target, There::Stays).unwrap();
        fs::write(staged.path().join("last"), "two").unwrap();
        staged.persist(&NAMES).unwrap();
        assert!(holds(&target, "two") && entries(&target) == 2);
        // Something else in the place, and a place that cannot be.
        for path in [target.join("last"), target.join("last/below")] {
            assert_eq!(Staged::new(&path, There::Goes).unwrap_err().kind(), io::ErrorKind::NotADirectory, "{path:?}");
        }
    }

    #[test]
    fn files_that_are_moved_one_by_one_have_the_last_one_last() {
        let place = tempfile::tempdir().unwrap();
        fill(place.path(), "one");
        fs::write(place.path().join("extra"), "").unwrap();
        let temporary = Temporary::new(place.path(), PREFIX).unwrap();
        let target = place.path().to_owned();
        let staged = Staged { temporary, target, there: There::Goes, inside: true }.begun().unwrap();
        fill(&staged.path(), "two");
        // A folder in the way of the first file stops it: then the one that says all is there is not there.
        fs::remove_file(place.path().join("first")).unwrap();
        fs::create_dir_all(place.path().join("first/in the way")).unwrap();
        assert!(staged.move_files(&staged.path(), &["last"]).is_err());
        assert!(!place.path().join("last").exists());
        fs::remove_dir_all(place.path().join("first")).unwrap();
        staged.persist(&["last", "first", "extra"]).unwrap();
        assert!(holds(place.path(), "two") && entries(place.path()) == 2);
    }

    #[test]
    fn links_to_folders_stay_links() {
        let place = tempfile::tempdir().unwrap();
        let (real, link) = (place.path().join("real"), place.path().join("link"));
        fs::create_dir(&real).unwrap();
        fill(&real, "one");
        #[cfg(unix)]
        std::os::unix::fs::symlink(&real, &link).unwrap();
        #[cfg(unix)]
        {
            let staged = Staged::new(&link, There::Goes).unwrap();
            fill(&staged.path(), "two");
            staged.persist(&NAMES).unwrap();
            assert!(link.is_symlink() && holds(&real, "two"));
        }
    }

    /// Set for the process that is to die: where, and how far it gets.
    const DIE_IN: &str = "FTK_TEST_DIE_IN";
    const DIE_AT: &str = "FTK_TEST_DIE_AT";

    /// What a process that dies at any point leaves is no half, and goes with the next one.
    #[test]
    fn the_dead_leave_no_half_and_are_swept_out() {
        if let (Some(target), Ok(at)) = (std::env::var_os(DIE_IN), std::env::var(DIE_AT)) {
            let staged = Staged::new(Path::new(&target), There::Goes).unwrap();
            if at == "begun" {
                std::process::abort();
            }
            fill(&staged.path(), "new");
            if at == "written" {
                std::process::abort();
            }
            let whole = staged.path();
            exchange(&whole, Path::new(&target)).unwrap();
            std::process::abort();
        }
        let place = tempfile::tempdir().unwrap();
        let target = place.path().join("folder");
        fs::create_dir(&target).unwrap();
        for (at, kept) in [("begun", "old"), ("written", "old"), ("exchanged", "new")] {
            fill(&target, "old");
            let mut command = Command::new(std::env::current_exe().unwrap());
            command.args(["--exact", "staged::tests::the_dead_leave_no_half_and_are_swept_out", "--nocapture"]);
            let output = command.env(DIE_IN, &target).env(DIE_AT, at).output().unwrap();
            assert!(!output.status.success());
            assert!(holds(&target, kept), "{at}");
            assert_eq!(entries(place.path()), 2, "{at}: what it had begun is left");
            let living = Staged::new(&place.path().join("other"), There::Goes).unwrap();
            assert_eq!(entries(place.path()), 2, "{at}: the dead one's is gone");
            Temporary::new(place.path(), PREFIX).unwrap();
            assert!(living.path().is_dir(), "what is in use stays");
        }
        fs::write(place.path().join(".ftk-stray"), "").unwrap();
        fs::write(place.path().join("ftk-file"), "").unwrap();
        sweep(place.path(), PREFIX);
        assert_eq!(entries(place.path()), 2);
    }
}
