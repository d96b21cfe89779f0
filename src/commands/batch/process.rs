//! Commands in processes of their own, which end in good order when the batch is asked to.

use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use ftk_adapters::foreign;
use serde_json::{Map, Value};

use crate::device::DeviceName;
use crate::train::Lock;

/// File in the run folder that takes what commands say on standard error.
pub(super) const LOG: &str = "log.txt";
/// How often it is looked whether the batch is to end.
pub(super) const BEAT: Duration = Duration::from_millis(50);

/// The processes of a batch.
pub(super) struct Processes {
    /// Arguments that all commands have.
    global: Vec<&'static str>,
    /// Those that commands with a device have.
    pub(super) device: [String; 2],
    /// Threads of each, where several share the machine.
    threads: Option<usize>,
    running: Mutex<Vec<Child>>,
    stopped: AtomicBool,
}

/// How a command ended.
pub(super) struct CommandEnd {
    /// The exit code; `None` of one that a signal ended.
    pub(super) code: Option<i32>,
    /// The last object that it printed.
    pub(super) said: Map<String, Value>,
}

impl Processes {
    pub(super) fn new(offline: bool, place: DeviceName, jobs: usize) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        // Whoever has set it knows better.
        let free = std::env::var_os("RAYON_NUM_THREADS").is_none();
        Self {
            global: ["--json"].into_iter().chain(offline.then_some("--offline")).collect(),
            device: ["--device".to_owned(), place.to_string()],
            threads: (free && jobs > 1).then_some((cores / jobs).max(1)),
            running: Mutex::default(),
            stopped: AtomicBool::new(false),
        }
    }

    /// Whether the batch is to end.
    pub(super) fn stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// Does something, and asks all commands to end once `stop` says so.
    pub(super) fn watched(&self, stop: &(dyn Fn() -> bool + Sync), work: impl FnOnce()) {
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    if stop() {
                        self.stopped.store(true, Ordering::Relaxed);
                        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
                        return running.iter().for_each(ask_to_end);
                    }
                    std::thread::sleep(BEAT);
                }
            });
            let ended = catch_unwind(AssertUnwindSafe(work));
            // Whoever watches is waited for, whatever became of the work.
            done.store(true, Ordering::Relaxed);
            ended.unwrap_or_else(|panic| resume_unwind(panic));
        });
    }

    /// Runs a command of ftk to its end; in a run's folder, `threaded` if it shares the machine with others. Where the
    /// batch is killed, the right to the folder stays with the command, which may go on for a while.
    ///
    /// # Errors
    /// A process that cannot be started.
    pub(super) fn run(&self, folder: &Path, own: &Lock, threaded: bool, arguments: &[String]) -> Result<CommandEnd> {
        let program = std::env::current_exe().context("cannot find ftk itself")?;
        let mut command = Command::new(program);
        let held = own.held_by_child().context("cannot start a process")?;
        command.args(arguments).args(&self.global).stdin(held).stdout(Stdio::piped()).stderr(log(folder)?);
        if let Some(threads) = self.threads.filter(|_| threaded) {
            command.env("RAYON_NUM_THREADS", threads.to_string());
        }
        apart(&mut command);
        let (id, output) = {
            let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
            let mut child = command.spawn().context("cannot start a process")?;
            let (id, output) = (child.id(), child.stdout.take());
            // One that starts while the batch is asked to end is not seen by whoever asks.
            if self.stopped() {
                ask_to_end(&child);
            }
            running.push(child);
            (id, output)
        };
        let output = output.context("a process without output")?;
        let mut said = Map::new();
        for line in BufReader::new(output).lines().map_while(std::io::Result::ok) {
            if let Ok(Value::Object(object)) = serde_json::from_str(&line) {
                said = object;
            }
        }
        let mut ended = {
            let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
            let place = running.iter().position(|child| child.id() == id).context("a process is lost")?;
            running.swap_remove(place)
        };
        let code = ended.wait().context("cannot wait for a process")?.code();
        Ok(CommandEnd { code, said })
    }
}

fn log(folder: &Path) -> Result<File> {
    let path = folder.join(LOG);
    let cannot = || format!("cannot write {}", path.display());
    let mut file = foreign::open_to_write(&path).with_context(cannot)?;
    file.seek(SeekFrom::End(0)).with_context(cannot)?;
    Ok(file)
}

/// A signal to the batch, as from the keyboard, is not one to the command: the batch passes it on once.
#[cfg(unix)]
fn apart(command: &mut Command) {
    use std::os::unix::process::CommandExt;
    command.process_group(0);
}

#[cfg(not(unix))]
fn apart(_: &mut Command) {}

#[cfg(unix)]
fn ask_to_end(child: &Child) {
    let id = rustix::process::Pid::from_child(child);
    // It may have ended.
    let _ = rustix::process::kill_process(id, rustix::process::Signal::TERM);
}

/// Where there are no signals, a command that lost its reader ends by itself.
#[cfg(not(unix))]
fn ask_to_end(_: &Child) {}
