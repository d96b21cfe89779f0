//! `ftk defi backtest`: a plan walked forward. In every window rows are made, an adapter is trained as `ftk train`
//! trains, committed to, and run beside tuned baselines on bars that none of them has seen.

use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use candle_core::Device;
use ftk_adapters::foreign;
use ftk_adapters::{atomic, peft};
use ftk_bases::BaseModel;
use ftk_defi::advice::MakerAdvice;
use ftk_defi::evaluate::{BLOCK, PolicyRuns, WalkWindow, table, tune};
use ftk_defi::log::{DecisionLog, LogHeader};
use ftk_defi::plan::{MakerSimulation, Plan};
use ftk_defi::report::{Quality, Report, Series, Tested};
use ftk_defi::rows::{MarketRows, make};
use ftk_defi::simulation::liquidity::Liquidity;
use ftk_defi::simulation::{Passed, Simulation, run as work};
use ftk_defi::{self as defi, replay};
use ftk_recipes::Recipe;
use serde_json::json;

use super::super::{Advice, Outcome, commit, run, tasks, writable_folder};
use super::policy::Policy;
use super::report;
use super::report::{FIGURES, PAGE};
use crate::cli::printer::Printer;
use crate::train::Start;

/// What is needed.
pub struct Settings {
    /// The plan.
    pub plan: PathBuf,
    /// Settings laid over it, `key=value`.
    pub set: Vec<String>,
    /// Folder of the backtest, which must not hold one.
    pub out: PathBuf,
}

/// The decision log of a window.
pub const DECISIONS: &str = "decisions.jsonl";
/// The folder of the adapter that a window tests.
pub const ADAPTER: &str = "adapter";
/// Seed of the intervals' draws.
const SEED: u64 = 1;
/// Most points of the report's series.
const POINTS: usize = 1500;

/// Walks the plan, prints the table, writes figures, page, adapters, commitments and logs.
///
/// # Errors
/// A plan that cannot be walked; whatever training finds wrong.
pub fn run(settings: &Settings, printer: &Printer) -> Result<Outcome> {
    let Settings { plan: path, set, out } = settings;
    if out.join(FIGURES).exists() {
        let message = format!("{}: holds a backtest already", out.display());
        return Err(Advice::new(message, "choose another folder with --out").into());
    }
    writable_folder(out)?;
    let plan = Plan::load_with(path, set)?;
    let (opened, digest) = plan.open()?;
    let digest = digest.to_string();
    let report = match &opened {
        MakerSimulation::Book(simulation) => walk(simulation, &plan, &digest, out, printer, |_, _| Ok(None))?,
        MakerSimulation::Liquidity(simulation) => {
            let quality = |bars: Range<usize>, passed: &[Passed]| quality(simulation, bars, passed).map(Some);
            walk(simulation, &plan, &digest, out, printer, quality)?
        }
    };
    let figures = serde_json::to_string_pretty(&report).context("cannot write the figures down")?;
    let to = out.join(FIGURES);
    atomic::write(&to, figures.as_bytes()).with_context(|| format!("cannot write {}", to.display()))?;
    report::write(&report, &out.join(PAGE))?;
    printer.part(&report.text());
    report.notes.iter().for_each(|note| printer.note(note));
    printer.note(&format!("wrote {}", out.join(PAGE).display()));
    printer.object(&json!({ "out": out, "lines": report.lines, "windows": report.windows, "notes": report.notes }));
    Ok(Outcome::Done)
}

fn walk<D: Simulation>(
    simulation: &D,
    plan: &Plan,
    market: &str,
    out: &Path,
    printer: &Printer,
    quality: impl Fn(Range<usize>, &[Passed]) -> Result<Option<Quality>>,
) -> Result<Report> {
    let every = plan.decisions.every;
    let windows = plan.walk.windows(simulation.bars(), plan.decisions.horizon)?;
    let source = BaseModel::open(&plan.base)?;
    let mut tested = Vec::with_capacity(windows.len());
    let name = |name: &str| PolicyRuns { name: name.to_owned(), details: Vec::new(), runs: Vec::new() };
    let mut all = vec![name("policy"), name("base, not adapted")];
    let mut learnt: Option<Learnt> = None;
    let mut tried = 0;
    for (index, WalkWindow { train, validation, test }) in windows.iter().enumerate() {
        let folder = out.join(format!("window-{}", index + 1));
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let which = format!("window {} of {}", index + 1, windows.len());
        let Learnt { trained, counts: rows, stages } =
            match learnt.take().filter(|_| !index.is_multiple_of(plan.walk.refit)) {
                Some(before) => learnt.insert(before),
                None => {
                    let [rows, held_out] =
                        [train, validation].map(|bars| make(simulation, bars.clone(), &plan.decisions));
                    let (rows, held_out) = (rows?, held_out?);
                    let MarketCounts { taught, pairs, dropped, decisions, .. } = MarketCounts::of(&rows);
                    let none = format!("{dropped} of {decisions} decisions have none");
                    printer.note(&format!("{which}: {taught} rows, {pairs} pairs; {none}"));
                    let _walking = printer.working(&which);
                    let stages = learn(plan, &folder, &rows, &held_out)?;
                    learnt.insert(Learnt { trained: train.clone(), counts: MarketCounts::of(&rows), stages })
                }
            };
        let _walking = printer.working(&which);
        let stage = choose(simulation, &source, stages, validation, every)?;
        let adapter = keep(&stages[stage], &folder)?;
        let stage = stages[stage].file_name().unwrap_or_default().to_string_lossy().into_owned();
        let quiet = Printer::new(false, true);
        let committed = folder.join("commitment");
        let settings = commit::Settings {
            base: plan.base.clone(),
            adapter: adapter.clone(),
            out: committed,
            transcript: false,
            text: None,
            round: Vec::new(),
            max_memory: None,
        };
        let committed = commit::make(&settings, &quiet)?;

        let policy = Policy::load(&source, Some(&adapter), simulation.ids())?;
        let header = LogHeader {
            market: market.to_owned(),
            terms: plan.terms_line(),
            base: policy.base(),
            adapter: committed.digest.clone(),
            bars: [test.start, test.end],
            every,
        };
        let (log, passed) = DecisionLog::keep(header, simulation, |ids| policy.choose(ids))?;
        let (text, head) = log.write();
        let file = folder.join(DECISIONS);
        atomic::write(&file, text.as_bytes()).with_context(|| format!("cannot write {}", file.display()))?;
        let span = |bars: &Range<usize>| [bars.start, bars.end - 1].map(|bar| defi::date(simulation.time(bar)));
        tested.push(Tested {
            times: [span(trained), span(validation), span(test)],
            taught: rows.taught,
            pairs: rows.pairs,
            dropped: share(rows.dropped, rows.decisions),
            close: share(rows.compared[1], rows.compared[0]),
            stage: stage.clone(),
            decisions: log.entries.len(),
            head,
            adapter: committed.digest,
        });
        all[0].details.push(stage);
        all[0].runs.push(passed);
        let alone = Policy::load(&source, None, simulation.ids())?;
        all[1].runs.push(follow(simulation, test, every, &alone)?);
        let families = simulation.baselines(train.clone());
        tried = families.iter().map(|family| family.settings.len()).sum();
        for tuned in tune(simulation, families, validation.clone(), every)? {
            let passed = work(simulation, test.clone(), every, |_, _| Ok(tuned.choice))?;
            let runs = match all.iter().position(|runs| runs.name == tuned.name) {
                Some(at) => &mut all[at],
                None => {
                    all.push(name(tuned.name));
                    all.last_mut().expect("one was pushed")
                }
            };
            runs.details.push(tuned.detail);
            runs.runs.push(passed);
        }
    }
    let (money, _) = simulation.money();
    let last = windows.last().map(|window| window.test.clone()).unwrap_or_default();
    let passed = all[0].runs.last().map(Vec::as_slice).unwrap_or_default();
    let series = series(simulation, last.start, passed, money);
    let quality = quality(last, passed)?;
    let mut advice = None;
    if all.len() > IDLE {
        // The base as it is, is nobody's maker.
        let makers: Vec<PolicyRuns> =
            all.iter().enumerate().filter(|(at, _)| *at != BARE).map(|(_, runs)| runs.clone()).collect();
        advice = MakerAdvice::after(&makers, IDLE - 1, windows.len(), money, SEED);
        all.extend(MakerAdvice::followed(&makers, IDLE - 1, money, SEED));
    }
    let stages = learnt.map_or(0, |learnt| learnt.stages.len());
    let step = step(simulation) as f64;
    let days = simulation.bars() as f64 * step / defi::DAY as f64;
    Ok(Report {
        title: format!("Backtest of {}", if plan.quoter.is_some() { "a quoter" } else { "a provider of liquidity" }),
        market: market.to_owned(),
        bars: simulation.bars(),
        days,
        block_hours: step * BLOCK as f64 / defi::HOUR as f64,
        windows: tested,
        series,
        quality,
        lines: table(&all, money, SEED),
        advice,
        tried: [tried, stages],
        notes: notes(plan, days),
    })
}

/// Places in the table: the base as it is, and the first baseline, which does nothing.
const BARE: usize = 1;
const IDLE: usize = 2;

/// What one training made.
struct Learnt {
    /// The bars it is of.
    trained: Range<usize>,
    counts: MarketCounts,
    stages: Vec<PathBuf>,
}

/// How many rows there were.
#[derive(Clone, Copy)]
struct MarketCounts {
    taught: usize,
    pairs: usize,
    dropped: usize,
    decisions: usize,
    compared: [usize; 2],
}

impl MarketCounts {
    fn of(rows: &MarketRows) -> Self {
        let MarketRows { dropped, decisions, compared, .. } = *rows;
        Self { taught: rows.taught.len(), pairs: rows.pairs.len(), dropped, decisions, compared }
    }
}

/// What a reader must know, whatever the figures say.
fn notes(plan: &Plan, days: f64) -> Vec<String> {
    let mut notes = Vec::new();
    if days < 60.0 {
        let what = "that validates the simulator and shows how the policy behaves; it is no evidence of profit";
        notes.push(format!("The market is {days:.1} days: {what}."));
    }
    if plan.market == Path::new(defi::plan::GENERATED) {
        notes.push("The market is generated: whatever pays here need not pay anywhere else.".to_owned());
    }
    notes
}

fn share(part: usize, of: usize) -> f64 {
    part as f64 / of.max(1) as f64
}

fn follow<D: Simulation>(simulation: &D, bars: &Range<usize>, every: usize, policy: &Policy) -> Result<Vec<Passed>> {
    let choose = |state: &D::State, at| {
        let ids = simulation.window(state, at).unwrap_or_default();
        Ok(simulation.action(policy.choose(&ids)?))
    };
    Ok(work(simulation, bars.clone(), every, choose)?)
}

/// Trains on the teacher's actions, then on pairs from there; the folders of the adapters in that order.
fn learn(plan: &Plan, folder: &Path, rows: &MarketRows, held_out: &MarketRows) -> Result<Vec<PathBuf>> {
    let file = |name: &str, text: String| -> Result<PathBuf> {
        let path = folder.join(name);
        atomic::write(&path, text.as_bytes()).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    };
    let taught = folder.join("sft");
    let mut recipe = Recipe::parse(Path::new("sft.toml"), defi::SFT)?;
    recipe.base.model.clone_from(&plan.base);
    recipe.data.train = file("sft.jsonl", rows.taught_lines())?;
    recipe.data.held_out = Some(file("sft-held-out.jsonl", held_out.taught_lines())?);
    recipe.run.out.clone_from(&taught);
    let quiet = Printer::new(false, true);
    run::run(tasks::of(recipe.task), &recipe, Start::Fresh, run::RunControl::NONE, &Device::Cpu, &quiet)?;
    if rows.pairs.is_empty() {
        return Ok(vec![taught]);
    }
    let preferring = folder.join("dpo");
    let mut recipe = Recipe::parse(Path::new("dpo.toml"), defi::DPO)?;
    recipe.base.model.clone_from(&plan.base);
    recipe.data.train = file("dpo.jsonl", rows.pair_lines())?;
    if held_out.pairs.is_empty() {
        // Nothing tells its states apart: the last one stays.
        (recipe.data.held_out, recipe.run.best) = (None, None);
    } else {
        recipe.data.held_out = Some(file("dpo-held-out.jsonl", held_out.pair_lines())?);
    }
    recipe.lora.get_or_insert_default().start = Some(taught.clone());
    recipe.run.out.clone_from(&preferring);
    run::run(tasks::of(recipe.task), &recipe, Start::Fresh, run::RunControl::NONE, &Device::Cpu, &quiet)?;
    Ok(vec![taught, preferring])
}

/// The adapter with the greatest utility on validation, by which baselines are tuned, too; the later among equals.
fn choose<D: Simulation>(
    simulation: &D,
    source: &BaseModel,
    stages: &[PathBuf],
    validation: &Range<usize>,
    every: usize,
) -> Result<usize> {
    let mut best = (i128::MIN, 0);
    for (stage, folder) in stages.iter().enumerate() {
        let policy = Policy::load(source, Some(folder), simulation.ids())?;
        let passed = follow(simulation, validation, every, &policy)?;
        let utility = passed.iter().map(|bar| bar.tally.utility()).sum();
        if utility >= best.0 {
            best = (utility, stage);
        }
    }
    Ok(best.1)
}

/// Puts the chosen adapter where it is looked for, whichever it is.
fn keep(stage: &Path, folder: &Path) -> Result<PathBuf> {
    let to = folder.join(ADAPTER);
    std::fs::create_dir_all(&to).with_context(|| format!("cannot make {}", to.display()))?;
    for name in [peft::CONFIG, peft::FACTORS] {
        let bytes = foreign::read(&stage.join(name), foreign::DATA)
            .with_context(|| format!("cannot read {}", stage.display()))?;
        atomic::write(&to.join(name), &bytes).with_context(|| format!("cannot write {}", to.display()))?;
    }
    Ok(to)
}

/// The commonest distance between bars, microseconds.
fn step<D: Simulation>(simulation: &D) -> i64 {
    let times: Vec<i64> = (0..simulation.bars()).map(|bar| simulation.time(bar)).collect();
    defi::gaps(&times).map_or(defi::MINUTE, |gaps| gaps.step)
}

/// Bars of a run from `start` for plots.
fn series<D: Simulation>(simulation: &D, start: usize, passed: &[Passed], money: f64) -> Series {
    let every = passed.len().div_ceil(POINTS).max(1);
    let kept = || passed.iter().step_by(every);
    let price = |price: u64| price as f64 / defi::PRICE_ONE as f64;
    let hours = |bar: usize| (simulation.time(start + bar) - simulation.time(start)) as f64 / defi::HOUR as f64;
    Series {
        hours: (0..passed.len()).step_by(every).map(hours).collect(),
        price: kept().map(|bar| price(bar.price)).collect(),
        bounds: kept().map(|bar| bar.bounds.map(|bounds| bounds.map(price))).collect(),
        inventory: kept().map(|bar| bar.inventory as f64 / money).collect(),
    }
}

/// Sizes of swaps whose cost is reported, whole units of money.
const SWAPS: [u128; 4] = [1000, 10_000, 100_000, 1_000_000];
/// Width within which depth is counted, millionths.
const DEPTH: u32 = 20_000;

/// Depth and slippage of the pool in a test, medians over its hours.
fn quality(simulation: &Liquidity, bars: Range<usize>, passed: &[Passed]) -> Result<Quality> {
    let (minutes, terms) = simulation.pool();
    let one = 10u128.pow(terms.decimals[terms.money]);
    let whole = |amount: u128| amount as f64 / one as f64;
    let mut depths: [[Vec<f64>; 2]; 2] = Default::default();
    let mut costs: Vec<[Vec<Option<f64>>; 2]> = vec![Default::default(); SWAPS.len()];
    for (minute, bar) in minutes[bars].iter().zip(passed).step_by(60) {
        let at = defi::pool::sqrt_at(minute.close);
        let share = u128::try_from(bar.share).unwrap_or(0).min(999_999);
        let with = minute.liquidity.saturating_mul(1_000_000) / (1_000_000 - share);
        for (which, liquidity) in [minute.liquidity, with].into_iter().enumerate() {
            let depth = replay::depth(terms, at, liquidity, DEPTH)?;
            (0..2).for_each(|side| depths[which][side].push(whole(depth[side])));
            for (swap, costs) in SWAPS.iter().zip(&mut costs) {
                let cost = replay::slippage(terms, at, liquidity, swap * one)?;
                costs[which].push(cost.map(|parts| parts as f64 / 100.0));
            }
        }
    }
    let median = |values: &mut Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or(0.0)
    };
    let middle = |values: &[Option<f64>]| {
        let mut known: Vec<f64> = values.iter().copied().map(|it| it.unwrap_or(f64::INFINITY)).collect();
        Some(median(&mut known)).filter(|value| value.is_finite())
    };
    let depth = depths.map(|mut sides| [0, 1].map(|side| median(&mut sides[side])));
    let cost = |(swap, costs): (&u128, &[Vec<Option<f64>>; 2])| (*swap as f64, middle(&costs[0]), middle(&costs[1]));
    Ok(Quality { depth, slippage: SWAPS.iter().zip(&costs).map(cost).collect() })
}
