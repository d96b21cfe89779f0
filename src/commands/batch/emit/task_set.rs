//! The tasks of a plan: what each runs, and what it needs.

use std::path::PathBuf;

/// How long the last task waits for others where no engine orders them, in seconds.
const PATIENCE: u64 = 7 * 24 * 3600;

/// Bytes that gathering needs.
pub(super) const GATHERING: u64 = 512 << 20;

/// An engine that runs tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// Slurm: an array of jobs.
    Slurm,
    /// Kubernetes: an indexed Job, in a queue of Kueue if one is named.
    Kubernetes,
    /// make.
    Make,
    /// Ray: a script that submits tasks.
    Ray,
}

/// What an engine is to be told.
#[derive(Clone, Debug)]
pub struct EmitSettings {
    /// For whom.
    pub engine: Engine,
    /// Folder for its files.
    pub to: PathBuf,
    /// How often a run is tried again.
    pub retries: u16,
    /// Cores of a run.
    pub cpus: u16,
    /// Longest time of a run, in minutes.
    pub minutes: Option<u32>,
    /// Image of containers.
    pub image: Option<String>,
    /// Claim of the volume with the plan's folder.
    pub claim: Option<String>,
    /// Queue that jobs go to.
    pub queue: Option<String>,
}

impl EmitSettings {
    /// An option that was typed and says nothing to this engine.
    pub(super) fn idle(&self) -> Option<&'static str> {
        let queued = matches!(self.engine, Engine::Slurm | Engine::Kubernetes);
        let contained = self.engine == Engine::Kubernetes;
        let idle = [
            ("--minutes", self.minutes.is_some() && !queued),
            ("--queue", self.queue.is_some() && !queued),
            ("--image", self.image.is_some() && !contained),
            ("--claim", self.claim.is_some() && !contained),
        ];
        idle.iter().find(|(_, idle)| *idle).map(|(option, _)| *option)
    }
}

/// The tasks of a plan.
pub(super) struct TaskSet<'a> {
    /// What jobs are called.
    pub(super) name: String,
    /// The plan, as a path that every task finds.
    pub(super) plan: PathBuf,
    /// Its folder, in which tasks run.
    pub(super) folder: PathBuf,
    /// Parts of the plan, one a run.
    pub(super) parts: usize,
    /// Bytes that the largest run needs.
    pub(super) memory: u64,
    /// Whether runs need a GPU.
    pub(super) gpu: bool,
    /// Arguments behind the plan that every run has.
    pub(super) more: Vec<String>,
    pub(super) settings: &'a EmitSettings,
}

impl TaskSet<'_> {
    /// The arguments of ftk for the run with this number, which an engine puts in.
    pub(super) fn run_arguments(&self, number: &str) -> Vec<String> {
        let plan = self.plan.display().to_string();
        let shard = format!("{number}/{}", self.parts);
        [vec!["batch".to_owned(), plan, "--shard".to_owned(), shard], self.more.clone()].concat()
    }

    /// Those of the last task.
    pub(super) fn gather_arguments(&self, wait: bool) -> Vec<String> {
        let plan = self.plan.display().to_string();
        let mut arguments = vec!["batch".to_owned(), plan, "--gather".to_owned()];
        arguments.extend(self.more.iter().find(|argument| *argument == "--offline").cloned());
        if wait {
            arguments.extend(["--wait".to_owned(), PATIENCE.to_string()]);
        }
        arguments
    }

    /// Bytes as whole MiB, rounded up.
    pub(super) fn mib(bytes: u64) -> u64 {
        bytes.div_ceil(1 << 20)
    }
}

/// Words as a shell takes them, each as it is.
pub(super) fn shell(words: &[String]) -> String {
    words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
}

/// A word in single quotes, if it needs any.
pub(super) fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:,@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_reach_a_shell_as_they_are() {
        for word in ["plain", "", "a b", "it's", "$HOME", "`x`", "a\\b", "*", "ä"] {
            let output = std::process::Command::new("sh").arg("-c").arg(format!("printf %s {}", quoted(word))).output();
            assert_eq!(String::from_utf8(output.unwrap().stdout).unwrap(), word);
        }
    }
}
