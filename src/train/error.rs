//! What a run is, and what can go wrong in one.

use std::io;
use std::path::PathBuf;

use ftk_adapters::hint::Hint;
use ftk_recipes::TaskError;

/// What to do about a run that has diverged.
pub const DIVERGED: &str = "lower optim.lr or optim.max_grad_norm, or raise optim.warmup_steps";

/// What can go wrong in a run.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The task failed.
    #[error("step {step}: {error}")]
    Task {
        /// Optimiser step, from 1.
        step: usize,
        /// What it said.
        error: TaskError,
    },
    /// Loss or gradient left the numbers.
    #[error("step {step}: {what} is not finite")]
    NotFinite {
        /// Optimiser step, from 1.
        step: usize,
        /// Loss or gradient.
        what: &'static str,
    },
    /// A parameter that nothing depends on.
    #[error("no gradient reaches {0}")]
    NoGradient(String),
    /// There is nothing to train on.
    #[error("no row has a scored token or pair")]
    Empty,
    /// The run folder holds a run already.
    #[error("{}: holds a run that reached step {step}", path.display())]
    Occupied {
        /// The checkpoint.
        path: PathBuf,
        /// Its step.
        step: usize,
    },
    /// Another process writes to the run folder.
    #[error("another run is writing to this folder: {}", .0.display())]
    Locked(PathBuf),
    /// A checkpoint of a different run.
    #[error("{}: was made by a different recipe, data or base", .0.display())]
    Different(PathBuf),
    /// A checkpoint of a run that was computed in other numbers.
    #[error("{}: was computed in {found}, and this run computes in {ours}", path.display())]
    Arithmetic {
        /// The checkpoint.
        path: PathBuf,
        /// Its arithmetic.
        found: String,
        /// This run's.
        ours: String,
    },
    /// A state that the recipe has kept is not there.
    #[error("{}: is not there, and run.state_every asks for it", .0.display())]
    NotKept(PathBuf),
    /// Rows that cannot be opened.
    #[error("no such rows can be opened: {0}")]
    NotOpened(String),
    /// The transcript is not the one that was written until the checkpoint.
    #[error("{}: {message}", path.display())]
    Transcript {
        /// The transcript.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// A checkpoint that cannot be read.
    #[error("{}: {message}", path.display())]
    Checkpoint {
        /// The checkpoint.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// The file system refused.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The refusal.
        error: io::Error,
    },
    /// The launcher started several processes, and this build runs in one.
    #[error("was started as {0} processes by mpirun or its like, and this ftk is built without MPI")]
    WithoutMpi(usize),
    /// MPI failed before anything was trained.
    #[error("MPI does not begin: {0} failed")]
    Mpi(&'static str),
    /// A step has fewer batches than there are ranks.
    #[error("run.accumulate: a step has {batches} batches, which {ranks} ranks cannot share")]
    Batches {
        /// Batches of a step.
        batches: usize,
        /// Ranks.
        ranks: usize,
    },
    /// Another rank failed.
    #[error("rank {rank}: {message}")]
    Rank {
        /// Its number, from 0.
        rank: usize,
        /// What it said.
        message: String,
    },
    /// Another rank is gone.
    #[error("rank {rank} is lost: {message}")]
    Lost {
        /// Its number, from 0.
        rank: usize,
        /// How that is known.
        message: String,
    },
    /// It was asked to stop while it waited for another worker.
    #[error("asked to stop in round {round} while waiting for worker {worker}")]
    Apart {
        /// The round, from 1.
        round: usize,
        /// The other worker, from 1.
        worker: usize,
    },
    /// What another worker brings is not of this run.
    #[error("{}: {message}", path.display())]
    Exchange {
        /// Its file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// Workers of one run have come to different places.
    #[error("worker {worker} is in round {round}, and another one still in round {least}")]
    Rounds {
        /// This worker, from 1.
        worker: usize,
        /// Its round.
        round: usize,
        /// The round of whoever is furthest behind.
        least: usize,
    },
    /// It was asked to stop in the middle of a step.
    #[error("asked to stop while waiting for rank {0}")]
    Interrupted(usize),
    /// The device failed.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

impl Hint for TrainError {
    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::NotFinite { step: 1, what: "the loss" | "the gradient" } => Some(
                "it is so before anything is learnt: see whether the base answers (ftk generate), and what lora.start holds",
            ),
            Self::NotFinite { .. } => Some(DIVERGED),
            Self::Occupied { .. } => Some("continue it with --resume, or choose another folder with --out"),
            Self::Locked(_) => Some("wait for that run or stop it, or choose another folder with --out"),
            Self::Different(_) => Some(
                "choose another folder with --out; to train on from its result, also with more steps, name it as lora.start",
            ),
            Self::Arithmetic { .. } => Some(
                "go on where it began (--device, run.precision, the version of ftk), or choose another folder with --out",
            ),
            Self::NotKept(_) => Some("without the states: --set run.state_every=0"),
            Self::Transcript { .. } => Some("put it back, or go on without one: --set run.transcript=false"),
            Self::WithoutMpi(_) => Some(
                "build it with --features mpi, or start one process; runs of a batch are split by ftk batch --shard",
            ),
            Self::Batches { .. } => Some(
                "start fewer ranks, or let a step have more batches: raise run.accumulate and lower run.batch by as much",
            ),
            Self::Exchange { .. } => Some("give each run an exchange folder of its own: --exchange"),
            Self::Rounds { .. } => Some("start all workers with --resume, with the folders of one run"),
            Self::Lost { .. } => {
                Some("go on with the same command and --resume; without run.sync_every, on any number of ranks")
            }
            Self::Empty => Some("rows cut by data.max_length keep no answer; raise it, or look at the rows"),
            _ => None,
        };
        hint.map(str::to_owned)
    }
}

/// What a run is: a checkpoint of another one is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunIdentity {
    /// Digest of recipe, data, base and arithmetic.
    pub digest: [u8; 32],
    /// Name of the arithmetic: what makes two runs of one recipe the same bytes.
    pub arithmetic: String,
}

impl RunIdentity {
    /// The part of a run that one of several workers does, counted from 0.
    pub fn of_worker(&self, worker: usize, workers: usize) -> Self {
        let mut hash = blake3::Hasher::new_derive_key("ftk worker of a training run");
        hash.update(&self.digest).update(&(worker as u64).to_le_bytes()).update(&(workers as u64).to_le_bytes());
        Self { digest: *hash.finalize().as_bytes(), arithmetic: self.arithmetic.clone() }
    }
}
