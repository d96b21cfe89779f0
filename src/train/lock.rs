//! One run a folder: a lock that the operating system holds and drops with the process, however that ends.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::process::Stdio;

use ftk_adapters::foreign;

use super::error::TrainError;

/// File name of the lock, which holds nothing.
pub const LOCK: &str = ".lock";

/// The right to write to a run folder, for as long as it lives.
#[derive(Debug)]
pub struct Lock(File);

impl Lock {
    /// Makes the folder if need be and takes its lock.
    ///
    /// # Errors
    /// [`TrainError::Locked`] if another process has it; the file system's.
    pub fn take(out: &Path) -> Result<Self, TrainError> {
        Self::named(out, LOCK)
    }

    /// The same of a lock of another name, for another right.
    ///
    /// # Errors
    /// As [`Lock::take`].
    pub fn named(out: &Path, name: &str) -> Result<Self, TrainError> {
        let path = out.join(name);
        let io = |error| TrainError::Io { path: path.clone(), error };
        std::fs::create_dir_all(out).map_err(|error| TrainError::Io { path: out.to_owned(), error })?;
        let file = foreign::open_to_write(&path).map_err(io)?;
        match file.try_lock() {
            Ok(()) => Ok(Self(file)),
            Err(TryLockError::WouldBlock) => Err(TrainError::Locked(out.to_owned())),
            Err(TryLockError::Error(error)) => Err(io(error)),
        }
    }

    /// The lock as the standard input of a process, which finds it empty and then holds it, too: it is given back when
    /// that process has ended, whatever became of this one.
    ///
    /// # Errors
    /// No more files can be open.
    pub fn held_by_child(&self) -> std::io::Result<Stdio> {
        self.0.try_clone().map(Stdio::from)
    }
}
