//! `ftk batch`: the runs of a plan, each in a folder named by its content, and what follows them.
//!
//! Every stage of a run is a command of its own in a process of its own, so that none takes another down. A run's folder
//! is named by a digest of its recipe and of the files that it names; `stages.json` in it says what is done. So a batch
//! that is started again does what is missing or has changed, and nothing else.

pub mod emit;
mod folder;
mod make;
mod member;
mod memory;
mod process;
mod stage;
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use ftk_recipes::batch::{BatchPlan, FollowUps, RunVariant};

use self::emit::EmitSettings;
use self::folder::{Digests, RunFolder};
use self::make::{Others, ROUNDS, follow};
use self::member::{BatchRun, UNKNOWN};
use self::memory::SharedMemory;
use self::process::Processes;
use self::stage::RunStage;
use super::report::{self, ReportedRun};
use super::run::MANIFEST;
use super::stop::StopSignal;
use super::{Advice, Outcome, tasks, writable_folder};
use crate::cli::printer::Printer;
use crate::device::DeviceName;
use crate::prove::cost::available_memory;
use crate::train::METRICS;

/// What is needed.
pub struct Settings {
    /// The plan.
    pub plan: PathBuf,
    /// How many runs train at the same time.
    pub jobs: usize,
    /// Which part of the runs, from 1, of how many parts.
    pub shard: Option<(usize, usize)>,
    /// Bytes of memory for the runs that train at the same time, instead of what is free.
    pub max_memory: Option<u64>,
    /// Say what there is to do, and do nothing.
    pub dry_run: bool,
    /// Do nothing but the table and the page of what others do, and wait for that so long, in seconds.
    pub gather: Option<u64>,
    /// Write files for an engine that does it, and do nothing.
    pub emit: Option<EmitSettings>,
    /// Where runs are trained and measured.
    pub place: DeviceName,
    /// Fetch nothing that recipes name on the hub.
    pub offline: bool,
}

/// The page of all runs.
const PAGE: &str = "report.html";
/// How long a gathering batch waits before it looks at the runs again.
const BETWEEN_LOOKS: Duration = Duration::from_secs(5);

/// Runs what is missing and prints a table of all.
///
/// # Errors
/// A plan or recipe that is wrong, files that cannot be read, a folder that cannot be written to. A run that fails is
/// named in the table.
pub fn run(settings: &Settings, printer: &Printer) -> Result<Outcome> {
    let plan = BatchPlan::load(&settings.plan)?;
    writable_folder(&plan.out)?;
    let mut known = Digests::new();
    let mut variants = plan.variants(&settings.plan)?;
    if let Some(shard) = settings.shard {
        variants = part(variants, shard, &mut known)?;
    }
    variants.iter().try_for_each(|variant| possible(&plan.then, variant, &settings.plan))?;
    let runs = runs(&plan, variants, &mut known, settings, printer)?;
    if let Some(emit) = &settings.emit {
        return emit::write(emit, &plan, &runs, &settings.plan, (settings.place, settings.offline), printer);
    }
    if settings.dry_run {
        return Ok(checked(&runs, printer));
    }
    std::fs::create_dir_all(&plan.out).with_context(|| format!("cannot write to {}", plan.out.display()))?;
    let stop = StopSignal::listen().context("cannot listen for signals")?;
    match settings.gather {
        Some(seconds) => gather(runs, &plan, Duration::from_secs(seconds), &stop, printer),
        None => work(&runs, &plan, settings, &stop, printer),
    }
}

/// Shows what there is to do, and of what there is to train what could not be: rows, base and adapter are looked at as by
/// `ftk train --dry-run`.
fn checked(runs: &[BatchRun], printer: &Printer) -> Outcome {
    let untrained = |run: &&BatchRun| run.stages.iter().any(|stage| stage.name == "train" && !run.folder.has(stage));
    for run in runs.iter().filter(untrained) {
        let recipe = &run.variant.recipe;
        guarded(run, printer, || {
            if let Err(error) = tasks::of(recipe.task).plan(recipe) {
                run.fail(format!("train: {error:#}"));
            }
        });
    }
    table::show(runs, printer);
    if runs.iter().any(|run| run.failed().is_some()) { Outcome::Undecided } else { Outcome::Done }
}

/// Waits so long for what others do of the runs, and shows how far they are.
fn gather(
    mut runs: Vec<BatchRun>,
    plan: &BatchPlan,
    patience: Duration,
    stop: &StopSignal,
    printer: &Printer,
) -> Result<Outcome> {
    let end = Instant::now() + patience;
    while runs.iter().any(BatchRun::open) && Instant::now() < end {
        if stop.asked(printer) {
            return Ok(Outcome::Stopped(stop.code()));
        }
        std::thread::sleep(BETWEEN_LOOKS);
        for run in &mut runs {
            run.folder = RunFolder::open(run.folder.path().to_owned())?;
        }
    }
    table::show(&runs, printer);
    page(&runs, plan)?;
    let open = runs.iter().filter(|run| run.open()).count();
    if open > 0 {
        printer.note(&format!("{open} of {} runs are not done", runs.len()));
        return Ok(Outcome::Undecided);
    }
    Ok(ended(&runs))
}

/// Does what is missing of the runs, and shows what came of them.
fn work(
    runs: &[BatchRun],
    plan: &BatchPlan,
    settings: &Settings,
    stop: &StopSignal,
    printer: &Printer,
) -> Result<Outcome> {
    let processes = Processes::new(settings.offline, settings.place, settings.jobs);
    let left: Vec<&BatchRun> = runs.iter().filter(|run| run.open()).collect();
    processes.watched(&|| stop.asked(printer), || {
        ROUNDS.into_iter().for_each(|others| train(&left, others, settings, &processes, printer));
        // Proofs use all of the machine, so that they are made one after another.
        for others in ROUNDS {
            for run in &left {
                let behind = run.stages.iter().filter(|stage| !stage.trains());
                guarded(run, printer, || follow(run, behind, others, &processes, printer));
            }
        }
    });
    table::show(runs, printer);
    // Parts share the folder of the batch.
    if settings.shard.is_none() {
        page(runs, plan)?;
    }
    if processes.stopped() {
        printer.note("stopped; the same command goes on");
        return Ok(Outcome::Stopped(stop.code()));
    }
    let failed = runs.iter().filter(|run| run.failed().is_some()).count();
    if failed > 0 {
        printer.note(&format!("{failed} of {} runs failed; the same command tries them again", runs.len()));
        return Ok(Outcome::Undecided);
    }
    Ok(ended(runs))
}

/// The outcome of runs that are all done.
fn ended(runs: &[BatchRun]) -> Outcome {
    if runs.iter().any(BatchRun::refused) { Outcome::No } else { Outcome::Done }
}

/// Does something for a run. A panic is a failure of that run alone: others go on, and whoever waits is not left waiting.
fn guarded(run: &BatchRun, printer: &Printer, work: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(work)).is_err() {
        // The panic itself has said what and where.
        let message = "ftk panicked, which is a fault of its own".to_owned();
        printer.note(&format!("{}: {message}", run.name));
        run.fail(message);
    }
}

/// Writes the page of the runs that have begun.
fn page(runs: &[BatchRun], plan: &BatchPlan) -> Result<()> {
    let begun = runs.iter().map(|run| run.folder.path()).filter(|folder| folder.join(MANIFEST).exists());
    let told =
        begun.filter(|folder| folder.join(METRICS).exists()).map(ReportedRun::read).collect::<Result<Vec<_>>>()?;
    report::write(&told, &plan.out.join(PAGE))
}

/// Refuses what cannot follow a run of this recipe.
fn possible(then: &FollowUps, RunVariant { recipe, name, .. }: &RunVariant, plan: &Path) -> Result<()> {
    let rule = if then.commit && recipe.lora.is_none() {
        "then.commit: commitments are to adapters, and this recipe trains a base"
    } else if then.prove.is_some() && recipe.task == ftk_recipes::Task::Gnn {
        "then.prove: asks a prompt, and this recipe is of a graph"
    } else if then.sample.is_some() && recipe.task == ftk_recipes::Task::Gnn {
        "then.sample: asks a prompt, and this recipe is of a graph"
    } else if then.eval && recipe.data.held_out.is_none() && recipe.task != ftk_recipes::Task::Gnn {
        "then.eval: needs data.held_out"
    } else {
        return Ok(());
    };
    let hint = "put these recipes into a plan of their own, or take the stage out";
    Err(Advice::new(format!("{}: {name}: {rule}", plan.display()), hint).into())
}

/// One of so many parts of the variants. Equal ones are numbered as one, so that no two parts have a run in common, and
/// each is told by what is here: a part fetches nothing that another one needs.
fn part(variants: Vec<RunVariant>, (part, parts): (usize, usize), known: &mut Digests) -> Result<Vec<RunVariant>> {
    let (mut numbers, mut own) = (BTreeMap::new(), Vec::new());
    for variant in variants {
        let next = numbers.len();
        let run = (variant.name.clone(), *folder::content(&variant.recipe, known)?.as_bytes());
        if *numbers.entry(run).or_insert(next) % parts + 1 == part {
            own.push(variant);
        }
    }
    Ok(own)
}

/// The runs with their folders; what recipes name on the hub is fetched.
fn runs(
    plan: &BatchPlan,
    variants: Vec<RunVariant>,
    known: &mut Digests,
    settings: &Settings,
    printer: &Printer,
) -> Result<Vec<BatchRun>> {
    let (mut names, mut runs) = (BTreeSet::new(), Vec::new());
    for mut variant in variants {
        tasks::of(variant.recipe.task).fetch(&mut variant.recipe, settings.offline, printer)?;
        let content = folder::content(&variant.recipe, known)?;
        let name = format!("{}-{}", variant.name, &content.to_hex()[..12]);
        if !names.insert(name.clone()) {
            printer.note(&format!("{name}: two runs of the plan are the same, and one is made"));
            continue;
        }
        let folder = RunFolder::open(plan.out.join(&name))?;
        let stages = RunStage::all(&plan.then, &variant.recipe, folder.path(), &content);
        runs.push(BatchRun { name, variant, folder, stages, failure: Mutex::default() });
    }
    Ok(runs)
}

/// Trains and measures, as many at the same time as were asked for and memory allows.
fn train(runs: &[&BatchRun], others: Others, settings: &Settings, processes: &Processes, printer: &Printer) {
    let open = |run: &&&BatchRun| {
        run.failed().is_none() && run.stages.iter().any(|stage| stage.trains() && !run.folder.has(stage))
    };
    let runs: Vec<&&BatchRun> = runs.iter().filter(open).collect();
    let memory = SharedMemory::new(settings.max_memory.or_else(available_memory).unwrap_or(u64::MAX));
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..settings.jobs.min(runs.len()) {
            scope.spawn(|| {
                while let Some(run) = runs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    guarded(run, printer, || {
                        let needs = if settings.jobs > 1 { estimate(run, settings) } else { 0 };
                        memory.hold(needs, || {
                            let stages = run.stages.iter().filter(|stage| stage.trains());
                            follow(run, stages, others, processes, printer);
                        });
                    });
                }
            });
        }
    });
}

/// Bytes of memory of a run, as `ftk estimate` says them.
fn estimate(run: &BatchRun, settings: &Settings) -> u64 {
    run.estimated(0, settings.offline).get("bytes").and_then(|bytes| bytes["together"].as_u64()).unwrap_or(UNKNOWN)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two runs of one plan.
    fn two(folder: &Path) -> Vec<BatchRun> {
        let path = folder.join("plan.toml");
        std::fs::write(&path, "recipes = [\"sft\"]\nout = \"runs\"\n[grid]\n\"run.seed\" = [1, 2]\n").unwrap();
        let variants = BatchPlan::load(&path).unwrap().variants(&path).unwrap().into_iter();
        let run = |variant: RunVariant| {
            let name = variant.varied[0].1.clone();
            let folder = RunFolder::open(folder.join(&name)).unwrap();
            BatchRun { name, variant, folder, stages: Vec::new(), failure: Mutex::default() }
        };
        variants.map(run).collect()
    }

    #[test]
    fn a_panic_is_the_failure_of_its_run_and_gives_its_memory_back() {
        let folder = tempfile::tempdir().unwrap();
        let (runs, printer, memory) = (two(folder.path()), Printer::new(true, true), SharedMemory::new(10));
        let done = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for run in &runs {
                let (printer, memory, done) = (&printer, &memory, &done);
                scope.spawn(move || {
                    guarded(run, printer, || {
                        memory.hold(10, || {
                            assert!(run.name == "2", "this one panics");
                            done.fetch_add(1, Ordering::Relaxed);
                        });
                    });
                });
            }
        });
        let failed: Vec<Option<String>> = runs.iter().map(BatchRun::failed).collect();
        assert_eq!(failed, [Some("ftk panicked, which is a fault of its own".to_owned()), None]);
        assert_eq!(done.into_inner(), 1);
    }

    #[test]
    fn a_panic_ends_the_watch() {
        let processes = Processes::new(false, DeviceName::default(), 1);
        let panicked = catch_unwind(AssertUnwindSafe(|| processes.watched(&|| false, || panic!("in the work"))));
        assert!(panicked.is_err());
    }
}
