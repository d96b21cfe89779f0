//! Files that grow by a line a step, and lose what a stopped run wrote beyond its last checkpoint.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use ftk_adapters::foreign;

use super::error::TrainError;

/// File name of the figures of each step.
pub const METRICS: &str = "metrics.jsonl";

/// A file of lines.
pub(super) struct LineLog {
    path: PathBuf,
    file: File,
    /// Bytes written.
    pub(super) bytes: u64,
}

impl LineLog {
    /// Opens the file for appending after its first `keep` bytes; what a stopped run wrote beyond
    /// its last checkpoint goes.
    pub(super) fn open(path: &Path, keep: u64) -> Result<Self, TrainError> {
        let io = |error| TrainError::Io { path: path.to_owned(), error };
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(io)?;
        }
        let mut file = foreign::open_to_write(path).map_err(io)?;
        let length = file.metadata().map_err(io)?.len();
        if length < keep {
            let message = format!("is shorter than its checkpoint says, {keep} bytes: {length}");
            return Err(TrainError::Checkpoint { path: path.to_owned(), message });
        }
        file.set_len(keep).map_err(io)?;
        file.seek(SeekFrom::End(0)).map_err(io)?;
        Ok(Self { path: path.to_owned(), file, bytes: keep })
    }

    pub(super) fn append(&mut self, line: &str) -> Result<(), TrainError> {
        let io = |error| TrainError::Io { path: self.path.clone(), error };
        self.file.write_all(line.as_bytes()).and_then(|()| self.file.flush()).map_err(io)?;
        self.bytes += line.len() as u64;
        Ok(())
    }
}
