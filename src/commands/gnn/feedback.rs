//! `ftk gnn feedback`: ratings as they come, each scored before it is known and learnt from afterwards.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use candle_core::{DType, Device};
use ftk_adapters::{atomic, peft};
use ftk_gnn::measures::NamedFigures;
use ftk_gnn::online::{FeedbackStream, Foresight};
use ftk_recipes::{Recipe, Run, Schedule};
use serde_json::{Map, Value, json};

use super::super::card::Card;
use super::super::run::manifest::of_file;
use super::super::run::refuse_to_replace;
use super::super::stop::StopSignal;
use super::super::{Advice, Outcome, csv_cell};
use crate::arithmetic;
use crate::cli::printer::Printer;
use crate::train::{Follower, Lock, RunIdentity, Start};

/// What is needed.
pub struct Settings {
    /// Recipe of ratings as they come.
    pub recipe: PathBuf,
    /// Settings laid over it, `key=value`.
    pub set: Vec<String>,
    /// Tables of the ratings that came after what the recipe's graph holds.
    pub ratings: Vec<PathBuf>,
    /// Run folder, instead of the recipe's.
    pub out: Option<PathBuf>,
    /// Go on from what was learnt of the first of them.
    pub resume: bool,
}

/// What was said of each rating before it was known.
const SCORES: &str = "scores.csv";
/// All ratings that are known in the end.
const KNOWN: &str = "known.graph";
const HEADER: &str = "source,target,time,rating,predicted,log_odds,start_predicted,start_log_odds\n";

/// Scores every rating by what was known before it, takes it in, and learns from it, `run.batch` at a time.
///
/// # Errors
/// A recipe of something else; ratings out of order, or other ones than were learnt from; what training finds wrong.
pub fn run(settings: &Settings, printer: &Printer) -> Result<Outcome> {
    let mut recipe = Recipe::load_with(&settings.recipe, &settings.set)?;
    if let Some(out) = &settings.out {
        recipe.run.out.clone_from(out);
    }
    without_end(&recipe)?;
    let start = if settings.resume { Start::Resume } else { Start::Fresh };
    refuse_to_replace(&recipe, start)?;
    let out = &recipe.run.out;
    let _lock = Lock::take(out)?;
    let stream = FeedbackStream::open(&recipe, &settings.ratings)?;
    let identity = identity(&recipe, &stream)?;
    let session = stream.session();
    let (mut follower, written) =
        Follower::open(session, &recipe.optim, &recipe.run, &identity, (SCORES, settings.resume))?;
    let mut said = told_before(&stream, &written, &out.join(SCORES))?;
    if written.is_empty() {
        follower.write(HEADER)?;
    }
    let (began, steps_before) = (said.len(), follower.steps());
    let stop = StopSignal::listen().context("cannot listen for signals")?;
    learn(&stream, &mut follower, &recipe.run, &mut said, &stop, printer)?;
    follower.keep()?;
    if said.len() < stream.count() {
        let done = format!("stopped after {} of {} ratings", said.len(), stream.count());
        printer.note(&format!("{done}; go on with the same command and --resume"));
        return Ok(Outcome::Stopped(stop.code()));
    }
    let known = out.join(KNOWN);
    let bytes = stream.after().to_bytes();
    atomic::write(&known, &bytes).with_context(|| format!("cannot write {}", known.display()))?;
    let counts = [
        ("known", stream.known()),
        ("ratings", said.len()),
        ("new_ratings", said.len() - began),
        ("steps", follower.steps()),
        ("new_steps", follower.steps() - steps_before),
    ];
    let figures = |of: fn(&Foresight) -> [f64; 2]| stream.figures(&said.iter().map(of).collect::<Vec<_>>());
    let (learning, start) = (figures(|it| it.learning), figures(|it| it.start));
    export(&recipe, &stream, &learning)?;
    tell(out, &counts, [&learning, &start], &stream, printer);
    Ok(Outcome::Done)
}

/// Says of all ratings that are left what is foreseen, and learns from them, until it is asked to stop.
fn learn(
    stream: &FeedbackStream,
    follower: &mut Follower<'_>,
    run: &Run,
    said: &mut Vec<Foresight>,
    stop: &StopSignal,
    printer: &Printer,
) -> Result<()> {
    let began = said.len();
    let mut work = printer.advance("ratings");
    while said.len() < stream.count() {
        let moment = stream.moment(said.len());
        let foreseen = stream.foresee(moment.clone())?;
        let lines: String = moment.clone().zip(&foreseen).map(|(at, it)| line(stream, at, it)).collect();
        follower.write(&lines)?;
        // What is kept is what the file says, so that a run in two parts has the figures of one.
        said.extend(foreseen.iter().map(rounded));
        while (follower.steps() + 1) * run.batch <= said.len() {
            follower.learn(stream.rows(follower.steps(), run.batch))?;
            let kept = run.save_every > 0 && follower.steps().is_multiple_of(run.save_every);
            if kept && (follower.steps() + 1) * run.batch > said.len() {
                follower.keep()?;
            }
        }
        work.to(said.len() - began, stream.count() - began);
        if stop.asked(printer) {
            break;
        }
    }
    work.finish();
    Ok(())
}

/// Prints what came of it: counts, figures of what was learnt and of what it began with.
fn tell(
    out: &Path,
    counts: &[(&str, usize)],
    [learning, start]: [&NamedFigures; 2],
    stream: &FeedbackStream,
    printer: &Printer,
) {
    counts.iter().for_each(|(name, value)| printer.line(&format!("{name}\t{value}")));
    for (name, figures) in [("", learning), ("start_", start)] {
        figures.iter().for_each(|(figure, value)| printer.line(&format!("{name}{figure}\t{value:.4}")));
    }
    let digest = stream.after().digest().to_hex().to_string();
    printer.line(&format!("digest\t{digest}"));
    printer.note(&format!("wrote {}", out.display()));
    let named = |figures: &NamedFigures| -> Value {
        Value::Object(figures.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect())
    };
    let counts: Map<String, Value> = counts.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
    printer.object(&json!({
        "out": out, "counts": counts, "figures": named(learning), "start_figures": named(start), "digest": digest,
    }));
}

/// Refuses what only a run with an end looks at.
fn without_end(recipe: &Recipe) -> Result<()> {
    let run = &recipe.run;
    let asked = [
        ("optim.schedule", recipe.optim.schedule != Schedule::Constant, "write optim.schedule = \"constant\""),
        ("optim.warmup_steps", recipe.optim.warmup_steps > 0, "leave it out"),
        ("run.steps", run.steps.is_some(), "leave it out: there is a step for every run.batch ratings"),
        ("run.accumulate", run.accumulate != 1, "leave it out"),
        ("run.eval_every", run.eval_every > 0, "leave it out: every rating is scored before it is learnt from"),
        ("run.best", run.best.is_some(), "leave it out: the latest state is kept"),
        ("run.patience", run.patience.is_some(), "leave it out"),
        ("run.sync_every", run.sync_every.is_some(), "leave it out"),
    ];
    match asked.into_iter().find(|(_, asked, _)| *asked) {
        None => Ok(()),
        Some((key, _, instead)) => {
            Err(Advice::new(format!("{key}: what comes as it comes has no end to go by"), instead).into())
        }
    }
}

/// What the run is of: everything but the ratings, which its file of scores names.
fn identity(recipe: &Recipe, stream: &FeedbackStream) -> Result<RunIdentity> {
    let arithmetic = arithmetic::name(&Device::Cpu, DType::F32, false);
    let mut hash = blake3::Hasher::new_derive_key("ftk feedback on a graph");
    hash.update(&(arithmetic.len() as u64).to_le_bytes()).update(arithmetic.as_bytes());
    hash.update(stream.digest.as_bytes()).update(stream.base.as_bytes());
    if let Some(start) = recipe.lora.as_ref().and_then(|lora| lora.start.as_ref()) {
        hash.update(of_file(&start.join(peft::FACTORS))?.as_bytes());
    }
    hash.update(recipe.without_places().to_string().as_bytes());
    Ok(RunIdentity { digest: *hash.finalize().as_bytes(), arithmetic })
}

/// Who rated whom, when and how, as the file of scores has it.
fn prefix(stream: &FeedbackStream, at: usize) -> String {
    let ([source, target], time, rating) = stream.rating(at);
    format!("{},{},{time},{rating},", csv_cell(&source), csv_cell(&target))
}

fn line(stream: &FeedbackStream, at: usize, foreseen: &Foresight) -> String {
    let [rating, sign] = foreseen.learning;
    let [first, odds] = foreseen.start;
    prefix(stream, at) + &format!("{rating:.6},{sign:.6},{first:.6},{odds:.6}\n")
}

/// As it reads in the file.
fn rounded(foreseen: &Foresight) -> Foresight {
    let read = |value: f64| format!("{value:.6}").parse().expect("digits make a number");
    Foresight { learning: foreseen.learning.map(read), start: foreseen.start.map(read) }
}

/// What was said of ratings before this call, which must be the first of those that are given now.
fn told_before(stream: &FeedbackStream, written: &str, path: &Path) -> Result<Vec<Foresight>> {
    if written.is_empty() {
        return Ok(Vec::new());
    }
    let other = |message: String| {
        let hint = "give all ratings of the stream in every call, those of earlier calls first, and each moment whole";
        Advice::new(format!("{}: {message}", path.display()), hint)
    };
    let lines: Vec<&str> = written.lines().skip(1).collect();
    if lines.len() > stream.count() {
        let message = format!("{} ratings were learnt from, and {} are given", lines.len(), stream.count());
        return Err(other(message).into());
    }
    let mut said = Vec::with_capacity(lines.len());
    for (at, line) in lines.iter().enumerate() {
        let numbers = line.strip_prefix(&prefix(stream, at));
        let numbers = numbers.and_then(|rest| rest.split(',').map(|cell| cell.parse().ok()).collect());
        let numbers: Option<Vec<f64>> = numbers;
        match numbers.as_deref() {
            Some(&[rating, sign, first, odds]) => {
                said.push(Foresight { learning: [rating, sign], start: [first, odds] });
            }
            _ => return Err(other(format!("line {} is of another rating than is given", at + 2)).into()),
        }
    }
    let last = said.len().checked_sub(1).filter(|_| said.len() < stream.count());
    if last.is_some_and(|last| stream.moment(last).end > said.len()) {
        return Err(other("a rating is of the moment of the last one that was learnt from".to_owned()).into());
    }
    Ok(said)
}

/// Writes what was learnt, and a card beside an adapter.
fn export(recipe: &Recipe, stream: &FeedbackStream, figures: &NamedFigures) -> Result<()> {
    let out = &recipe.run.out;
    let files = stream.export(out, &recipe.base.model.to_string_lossy())?;
    if files.contains(&peft::FACTORS) {
        let figures = figures.iter().map(|(name, value)| (format!("stream_{name}"), format!("{value:.4}"))).collect();
        Card { recipe: Some(recipe), figures, commitment: None }.rewrite(out)?;
    }
    Ok(())
}
