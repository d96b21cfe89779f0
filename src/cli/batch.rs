//! `ftk batch`.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::printer::Printer;
use super::proofs::bytes;
use crate::commands::{self, Outcome};
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
    /// Bytes of memory for runs that train at the same time, for example 8G, instead of what is free
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    max_memory: Option<u64>,
    /// Show the runs and what there is to do of each, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Where to train and measure: cpu, cuda, cuda:N or metal
    #[arg(long, value_name = "DEVICE", default_value_t)]
    device: DeviceName,
}

/// `PART/PARTS`, from 1.
fn shard(text: &str) -> Result<(usize, usize), String> {
    let numbers = text.split_once('/').and_then(|(part, parts)| Some((part.parse().ok()?, parts.parse().ok()?)));
    match numbers {
        Some((part, parts)) if (1..=parts).contains(&part) => Ok((part, parts)),
        _ => Err("must be PART/PARTS, for example 2/4, with the first part 1".to_owned()),
    }
}

impl BatchArgs {
    /// Runs it.
    pub(super) fn run(self, offline: bool, printer: &Printer) -> Result<Outcome> {
        let Self { plan, jobs, shard, max_memory, dry_run, device: place } = self;
        let jobs = usize::from(jobs);
        let settings = commands::batch::Settings { plan, jobs, shard, max_memory, dry_run, place, offline };
        commands::batch::run(&settings, printer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_counted_from_one() {
        assert_eq!((shard("1/1"), shard("3/4")), (Ok((1, 1)), Ok((3, 4))));
        for text in ["", "1", "0/4", "5/4", "1/0", "a/b", "-1/2"] {
            assert!(shard(text).is_err(), "{text}");
        }
    }
}
