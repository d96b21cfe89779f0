//! `ftk batch`.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, ValueEnum};

use super::printer::Printer;
use super::proofs::bytes;
use crate::commands::batch::emit::{EmitSettings, Engine};
use crate::commands::{self, Advice, Outcome};
use crate::device::DeviceName;

#[derive(Args)]
pub(super) struct BatchArgs {
    /// The plan (TOML): which recipes, with which keys varied, and what follows each run
    plan: PathBuf,
    /// How many runs train at the same time, as far as memory allows; the machine's cores are shared among them
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    jobs: u16,
    /// Only this part of the runs, of so many parts: 1/4 to 4/4 are all of them
    #[arg(long, value_name = "PART/PARTS", value_parser = shard)]
    shard: Option<(usize, usize)>,
    /// Parts are counted from 0, as some engines number what they run: 0/4 to 3/4
    #[arg(long, requires = "shard")]
    from_zero: bool,
    /// Bytes of memory for runs that train at the same time, for example 8G, instead of what is free
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    max_memory: Option<u64>,
    /// Show the runs, what there is to do of each and what could not be trained, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Do none of the work, and make the table and the page of what others have done
    #[arg(long, conflicts_with_all = ["shard", "dry_run"])]
    gather: bool,
    /// With --gather: wait so long for runs that are not done
    #[arg(long, value_name = "SECONDS", requires = "gather")]
    wait: Option<u64>,
    #[command(flatten)]
    emit: EmitArgs,
    /// Where to train and measure: cpu, cuda, cuda:N or metal
    #[arg(long, value_name = "DEVICE", default_value_t)]
    device: DeviceName,
}

/// Files for an engine that does the work.
#[derive(Args)]
#[command(next_help_heading = "For an engine")]
struct EmitArgs {
    /// Write files for an engine instead: a task a run, with memory by arithmetic, attempts that go on from the last
    /// checkpoint, and a last task that gathers
    #[arg(long, value_name = "ENGINE", requires = "to")]
    #[arg(conflicts_with_all = ["shard", "from_zero", "jobs", "max_memory", "dry_run", "gather", "wait"])]
    emit: Option<EngineName>,
    /// Folder for these files
    #[arg(long, value_name = "FOLDER", requires = "emit")]
    to: Option<PathBuf>,
    /// How often a run that fails is tried again
    #[arg(long, value_name = "COUNT", default_value_t = 3, requires = "emit")]
    retries: u16,
    /// Cores of a run
    #[arg(long, value_name = "COUNT", default_value_t = 2, requires = "emit", value_parser = clap::value_parser!(u16).range(1..))]
    cpus: u16,
    /// Longest time of a run (slurm, kubernetes)
    #[arg(long, value_name = "MINUTES", requires = "emit")]
    minutes: Option<u32>,
    /// Queue that the work goes to: a partition of Slurm, a local queue of Kueue
    #[arg(long, value_name = "NAME", requires = "emit")]
    queue: Option<String>,
    /// Image of containers with ftk in it (kubernetes)
    #[arg(long, value_name = "IMAGE", requires = "emit")]
    image: Option<String>,
    /// Claim of the volume with the plan's folder, which is mounted in its place (kubernetes)
    #[arg(long, value_name = "NAME", requires = "emit")]
    claim: Option<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum EngineName {
    Slurm,
    Kubernetes,
    Make,
    Ray,
}

impl EmitArgs {
    /// What is to be written, if anything.
    fn settings(self) -> Option<EmitSettings> {
        let Self { emit, to, retries, cpus, minutes, queue, image, claim } = self;
        let engine = match emit? {
            EngineName::Slurm => Engine::Slurm,
            EngineName::Kubernetes => Engine::Kubernetes,
            EngineName::Make => Engine::Make,
            EngineName::Ray => Engine::Ray,
        };
        Some(EmitSettings { engine, to: to?, retries, cpus, minutes, image, claim, queue })
    }
}

/// `PART/PARTS`, from 1, or from 0 where that is said.
pub(super) fn shard(text: &str) -> Result<(usize, usize), String> {
    let numbers = text.split_once('/').and_then(|(part, parts)| Some((part.parse().ok()?, parts.parse().ok()?)));
    match numbers {
        Some((part, parts)) if parts > 0 && part <= parts => Ok((part, parts)),
        _ => Err("must be PART/PARTS, for example 2/4, with the first part 1".to_owned()),
    }
}

impl BatchArgs {
    /// Runs it.
    pub(super) fn run(self, offline: bool, printer: &Printer) -> Result<Outcome> {
        let Self { plan, jobs, shard, from_zero, max_memory, dry_run, gather, wait, emit, device: place } = self;
        let shard = shard.map(|(part, parts)| numbered(part, parts, from_zero)).transpose()?;
        let (jobs, emit) = (usize::from(jobs), emit.settings());
        let gather = gather.then_some(wait.unwrap_or(0));
        let settings =
            commands::batch::Settings { plan, jobs, shard, max_memory, dry_run, gather, emit, place, offline };
        commands::batch::run(&settings, printer)
    }
}

/// A part, counted from 1.
///
/// # Errors
/// One that is none of the parts.
fn numbered(part: usize, parts: usize, from_zero: bool) -> Result<(usize, usize)> {
    let (part, first) = if from_zero { (part + 1, 0) } else { (part, 1) };
    if (1..=parts).contains(&part) {
        return Ok((part, parts));
    }
    let message = format!("--shard: parts of {parts} are {first} to {}", parts + first - 1);
    Err(Advice { message, hint: "--from-zero says that the first part is 0".to_owned() }.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_counted_from_one() {
        assert_eq!((shard("1/1"), shard("3/4")), (Ok((1, 1)), Ok((3, 4))));
        for text in ["", "1", "5/4", "1/0", "0/0", "a/b", "-1/2"] {
            assert!(shard(text).is_err(), "{text}");
        }
        let part = |part, zero| numbered(part, 4, zero).map_err(|error| error.to_string());
        assert_eq!((part(1, false), part(4, false)), (Ok((1, 4)), Ok((4, 4))));
        assert_eq!((part(0, true), part(3, true)), (Ok((1, 4)), Ok((4, 4))));
        assert_eq!(part(0, false), Err("--shard: parts of 4 are 1 to 4".to_owned()));
        assert_eq!(part(4, true), Err("--shard: parts of 4 are 0 to 3".to_owned()));
    }
}
