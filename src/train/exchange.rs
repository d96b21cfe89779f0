//! Meetings of workers in a folder that all of them see: each puts its values there as one file, in one step, and reads
//! those of the others. A file is there until nobody can need it any more, so that a worker that was killed finds what it
//! has missed. Clocks play no part.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use candle_core::Tensor;
use ftk_adapters::weights::bytes;
use ftk_adapters::{atomic, foreign};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};

use super::error::TrainError;
use super::outer::{Meeting, ParameterValues};

/// A pause between two looks at the folder.
const PAUSE: Duration = Duration::from_millis(20);
/// Time after which it is said who is waited for.
const SAID: Duration = Duration::from_secs(10);

/// The folder, as one worker sees it.
pub struct ExchangeFolder<'a> {
    /// The folder.
    pub folder: PathBuf,
    /// Which worker, from 0.
    pub worker: usize,
    /// Of how many.
    pub workers: usize,
    /// Whether to stop waiting.
    pub stop: &'a dyn Fn() -> bool,
    /// Told once a round whom it waits for, where that takes long.
    pub waiting: &'a dyn Fn(&str),
}

/// Entry of a file's metadata that says what it is.
const ENTRY: &str = "ftk";

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AboutBrought {
    run: String,
    round: usize,
    worker: usize,
    workers: usize,
}

impl ExchangeFolder<'_> {
    /// Puts a worker's values there and waits for those of the others.
    ///
    /// # Errors
    /// Files that are none of this run's; [`TrainError::Apart`] if it is asked to stop; the file system's.
    pub fn meet(&self, meeting: &Meeting<'_>) -> Result<Vec<ParameterValues>, TrainError> {
        // Whoever is behind reads what lies here.
        let Some(ours) = meeting.ours else { return Ok(Vec::new()) };
        let path = self.file(meeting.round, self.worker);
        let io = |error| TrainError::Io { path: path.clone(), error };
        std::fs::create_dir_all(path.parent().expect("a file stands in a folder")).map_err(io)?;
        atomic::write(&path, &self.bytes(meeting, ours)).map_err(io)?;
        let (began, mut said) = (Instant::now(), false);
        let mut all = Vec::new();
        for worker in 0..self.workers {
            if worker == self.worker {
                all.push(ours.clone());
                continue;
            }
            let path = self.file(meeting.round, worker);
            loop {
                match foreign::read(&path, foreign::DATA) {
                    Ok(bytes) => break all.push(self.parse(&path, &bytes, meeting, worker)?),
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                        return Err(TrainError::Io { path, error });
                    }
                    Err(_) => {}
                }
                if (self.stop)() {
                    return Err(TrainError::Apart { round: meeting.round, worker: worker + 1 });
                }
                if began.elapsed() > SAID && !std::mem::replace(&mut said, true) {
                    (self.waiting)(&format!("round {}: waiting for worker {}", meeting.round, worker + 1));
                }
                std::thread::sleep(PAUSE);
            }
        }
        // All have come this far, and have what was before in their checkpoints.
        let old = self.file(meeting.round - 1, self.worker);
        let _ = std::fs::remove_file(&old);
        let _ = std::fs::remove_dir(old.parent().expect("a file stands in a folder"));
        Ok(all)
    }

    fn file(&self, round: usize, worker: usize) -> PathBuf {
        self.folder.join(format!("round-{round:04}")).join(format!("worker-{}.safetensors", worker + 1))
    }

    fn about(&self, meeting: &Meeting<'_>, worker: usize) -> AboutBrought {
        let run = blake3::Hash::from(*meeting.run).to_hex().to_string();
        AboutBrought { run, round: meeting.round, worker: worker + 1, workers: self.workers }
    }

    fn bytes(&self, meeting: &Meeting<'_>, ours: &ParameterValues) -> Vec<u8> {
        let named: Vec<(&str, usize, Vec<u8>)> = meeting
            .parameters
            .iter()
            .zip(ours)
            .map(|((name, _), values)| (name.as_str(), values.len(), bytes(values)))
            .collect();
        let views = named.iter().map(|(name, length, data)| {
            (*name, TensorView::new(Dtype::F32, vec![*length], data).expect("length and bytes come from one vector"))
        });
        let about = serde_json::to_string(&self.about(meeting, self.worker)).expect("numbers and text serialise");
        safetensors::serialize(views, Some(HashMap::from([(ENTRY.to_owned(), about)])))
            .expect("names and lengths are in order")
    }

    fn parse(
        &self,
        path: &Path,
        bytes: &[u8],
        meeting: &Meeting<'_>,
        worker: usize,
    ) -> Result<ParameterValues, TrainError> {
        let bad = |message: String| TrainError::Exchange { path: path.to_owned(), message };
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(|error| bad(error.to_string()))?;
        let file = SafeTensors::deserialize(bytes).map_err(|error| bad(error.to_string()))?;
        let entry = header.metadata().as_ref().and_then(|metadata| metadata.get(ENTRY));
        let about = entry.and_then(|entry| serde_json::from_str::<AboutBrought>(entry).ok());
        let Some(about) = about else { return Err(bad("is not what a worker brings to a meeting".to_owned())) };
        let AboutBrought { run, round, worker: theirs, workers } = self.about(meeting, worker);
        if about.run != run {
            return Err(bad("is of another run: another recipe, other rows or another base".to_owned()));
        }
        if (about.round, about.worker, about.workers) != (round, theirs, workers) {
            let AboutBrought { round, worker, workers, .. } = about;
            return Err(bad(format!("is of round {round}, worker {worker} of {workers}")));
        }
        let values = |(name, like): &(String, Tensor)| {
            let view = file.tensor(name).map_err(|error| bad(error.to_string()))?;
            if view.dtype() != Dtype::F32 || view.data().len() != 4 * like.elem_count() {
                return Err(bad(format!("holds {name} in another form")));
            }
            let values: Vec<f32> = view.data().as_chunks().0.iter().map(|&word| f32::from_le_bytes(word)).collect();
            if values.iter().all(|value| value.is_finite()) {
                Ok(values)
            } else {
                Err(bad(format!("holds a value of {name} that is not finite")))
            }
        };
        meeting.parameters.iter().map(values).collect()
    }
}

#[cfg(test)]
mod tests;
