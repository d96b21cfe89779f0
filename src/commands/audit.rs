//! `ftk audit`: whether a run is the one that its recipe, rows and base give, by its transcript; and where two
//! transcripts part. What the checks are, `src/train/TRANSCRIPT.md` says.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use blake3::Hash;
use candle_core::Device;
use ftk_adapters::staged::Temporary;
use ftk_adapters::{foreign, notes, peft};
use ftk_recipes::Recipe;
use serde_json::{Value, json};

use super::run::manifest::hex;
use super::run::{MANIFEST, NOTE, RECIPE, exported};
use super::task::OpenedRun;
use super::{Advice, Outcome, tasks};
use crate::cli::printer::Printer;
use crate::train::audit::{self, AuditError, Audited, AuditedRun, Parting, Refused, TranscriptCheck, Which};
use crate::train::transcript::Transcript;

/// What is needed.
pub struct Settings {
    /// Run folder.
    pub run: PathBuf,
    /// The recipe, instead of the one in the run folder.
    pub recipe: Option<PathBuf>,
    /// Settings laid over it, `key=value`.
    pub set: Vec<String>,
    /// What is to be computed again.
    pub asked: Selection,
    /// The root that is known.
    pub expect_root: Option<String>,
    /// Where it is computed.
    pub device: Device,
    /// Fetch nothing that the recipe names on the hub.
    pub offline: bool,
}

/// Which steps are to be computed again.
#[derive(Clone, Debug)]
pub enum Selection {
    /// All.
    All,
    /// These, from 1.
    Steps(Vec<u64>),
    /// So many, drawn by the root and a text.
    Drawn {
        /// How many.
        count: u64,
        /// The text.
        nonce: String,
    },
    /// None.
    None,
}

/// What no audit says.
const NOT_SHOWN: &str = "not shown: that rows and seed were not chosen to please, or that the result is any good";

/// Audits a run.
///
/// # Errors
/// What keeps it from being told: recipe, rows, base, arithmetic.
pub fn run(settings: &Settings, printer: &Printer) -> Result<Outcome> {
    match judged(settings, printer) {
        Ok(found) => Ok(follows(settings, &found, printer)),
        Err(error) => match error.downcast::<AuditError>() {
            Ok(AuditError::Refused(refused)) => Ok(differs(&settings.run, &refused, printer)),
            Ok(AuditError::Undecided(error)) => Err(error.into()),
            Err(error) => Err(error),
        },
    }
}

/// What an audit found.
struct AuditFindings {
    audited: Audited,
    /// Files of the result that were compared.
    files: Vec<String>,
}

/// A run that is open for an audit.
pub(super) struct Under {
    pub(super) transcript: Transcript,
    pub(super) manifest: Option<Value>,
    pub(super) recipe: Recipe,
    pub(super) opened: Box<dyn OpenedRun>,
}

/// Opens a run; its root is the one that is known.
///
/// # Errors
/// What keeps it from being told; a transcript that is none, or has another root.
pub(super) fn open(settings: &Settings, printer: &Printer) -> Result<Under> {
    let folder = &settings.run;
    let transcript = audit::open(&audit::file(folder))?;
    let manifest = manifest(folder)?;
    roots(settings, &transcript, manifest.as_ref())?;
    let recipe = recipe(settings, printer)?;
    let opened = tasks::of(recipe.task).plan(&recipe)?.open(&settings.device)?;
    Ok(Under { transcript, manifest, recipe, opened })
}

fn judged(settings: &Settings, printer: &Printer) -> Result<AuditFindings> {
    let Settings { run: folder, asked, .. } = settings;
    let Under { transcript, manifest, recipe, mut opened } = open(settings, printer)?;
    let scratch = Temporary::new(&std::env::temp_dir(), "ftk-audit-").context("cannot make a temporary folder")?;
    let parts = otherwise(&*opened, manifest.as_ref());
    let which = match asked {
        // Refused in any case: the transcript is looked at first, and no step is computed for it.
        _ if !parts.is_empty() => Which::Steps([].into()),
        Selection::All => {
            // What the run computed once is computed once here too, and nothing of the run's own is believed.
            opened.begin(scratch.path(), printer)?;
            Which::All
        }
        Selection::None => Which::Steps([].into()),
        Selection::Steps(steps) => {
            let last = transcript.steps.len() as u64;
            if let Some(step) = steps.iter().find(|&&step| step > last) {
                return Err(Advice::new(format!("there is no step {step}"), format!("the run has {last}")).into());
            }
            Which::Steps(steps.iter().copied().collect())
        }
        Selection::Drawn { count, nonce } => match transcript.root() {
            Some(root) => Which::Steps(audit::draw(&root, nonce, *count, transcript.steps.len() as u64)),
            None => Which::Steps([].into()),
        },
    };
    let bar = printer.bar(0, "audit");
    let mut see = |done: u64, of: u64| {
        bar.set_length(of);
        bar.set_position(done);
    };
    let identity = &opened.inputs().identity;
    let subject = AuditedRun { session: opened.session(), optim: &recipe.optim, run: &recipe.run, identity, folder };
    let audited = audit::audit(subject, &transcript, &which, &mut see);
    bar.finish_and_clear();
    let audited = audited.map_err(|error| blamed(error, &*opened, manifest.as_ref()))?;
    if !parts.is_empty() {
        let what = format!("{MANIFEST} says of them otherwise: {}", parts.join(", "));
        return Err(AuditError::from(Refused::new(TranscriptCheck::Run, what)).into());
    }
    let files = if audited.shown {
        compare(&*opened, folder, manifest.as_ref(), &audited.root, &scratch.path().join("result"))?
    } else {
        absent(&*opened, folder, &audited, &scratch.path().join("result"))?;
        Vec::new()
    };
    Ok(AuditFindings { audited, files })
}

/// The recipe, with what it names brought here.
fn recipe(settings: &Settings, printer: &Printer) -> Result<Recipe> {
    let Settings { run, recipe, set, offline, .. } = settings;
    let mut recipe = match recipe {
        Some(recipe) => Recipe::load_with(recipe, set)?,
        None => {
            // Its paths are as they were typed, and start where the run was started.
            let path = run.join(RECIPE);
            let text = foreign::read_text(&path, foreign::DOCUMENT)
                .with_context(|| format!("cannot read {}", path.display()))?;
            Recipe::parse_with(&path, &text, set)?
        }
    };
    tasks::of(recipe.task).fetch(&mut recipe, *offline, printer)?;
    Ok(recipe)
}

/// A root that somebody typed.
///
/// # Errors
/// A text that is none.
pub(super) fn digest(text: &str) -> Result<Hash> {
    let hint = "give the 64 digits that `ftk train` printed";
    Ok(Hash::from_hex(text).map_err(|_| Advice::new(format!("not a digest: {text}"), hint))?)
}

/// Whether the root is the one that is expected, and the one that manifest and adapter name.
fn roots(settings: &Settings, transcript: &Transcript, manifest: Option<&Value>) -> Result<()> {
    let Some(root) = transcript.root() else { return Ok(()) };
    audit::expected(transcript, settings.expect_root.as_deref().map(digest).transpose()?).map_err(AuditError::from)?;
    let wrong = |whose: &str, said: &str| {
        let what = format!("the transcript's is {}, {whose}: {said}", root.to_hex());
        Err(AuditError::from(Refused::new(TranscriptCheck::Root, what)).into())
    };
    if !settings.run.is_dir() {
        return Ok(());
    }
    if let Some(manifest) = manifest {
        match &manifest["transcript"] {
            Value::String(said) if *said == *root.to_hex() => {}
            said => return wrong("the manifest's", &said.to_string()),
        }
    }
    if settings.run.join(peft::FACTORS).exists() {
        match notes::noted(&settings.run, NOTE)? {
            Some(said) if *said == *root.to_hex() => {}
            said => return wrong("the adapter's", &said.unwrap_or_else(|| "none".to_owned())),
        }
    }
    Ok(())
}

/// The manifest in a run folder, if there is one.
fn manifest(folder: &Path) -> Result<Option<Value>> {
    let path = folder.join(MANIFEST);
    if !path.is_file() {
        return Ok(None);
    }
    let text =
        foreign::read_text(&path, foreign::DOCUMENT).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(Some(serde_json::from_str(&text).with_context(|| format!("{}: is no manifest", path.display()))?))
}

/// Says of another run which of what goes into it is different, and of one in another arithmetic that what was computed
/// for it cannot be told.
pub(super) fn blamed(error: AuditError, opened: &dyn OpenedRun, manifest: Option<&Value>) -> anyhow::Error {
    let AuditError::Refused(mut refused) = error else { return error.into() };
    let arithmetic = &opened.inputs().identity.arithmetic;
    if refused.computed && !arithmetic.starts_with("ftk-") {
        let message = format!("{arithmetic} is promised to be the same nowhere, and here it is not: {refused}");
        return Advice::new(message, "audit it on the machine that trained it").into();
    }
    let parts = otherwise(opened, manifest);
    if refused.check == TranscriptCheck::Run && !parts.is_empty() {
        refused.what += &format!("; by its manifest: {}", parts.join(", "));
    }
    AuditError::from(refused).into()
}

/// What of what goes into a run its manifest says otherwise.
fn otherwise(opened: &dyn OpenedRun, manifest: Option<&Value>) -> Vec<&'static str> {
    let Some(said) = manifest else { return Vec::new() };
    let own = opened.inputs().manifest(&opened.counts());
    let other = |part: &&str| own.get(*part).unwrap_or(&Value::Null) != &said[*part];
    ["recipe", "base", "data", "start", "arithmetic"].into_iter().filter(other).collect()
}

/// Exports the state that the session shows and compares it with the result's files and with what the manifest says of
/// them. Names the files, those with weights first.
fn compare(
    opened: &dyn OpenedRun,
    folder: &Path,
    manifest: Option<&Value>,
    root: &Hash,
    scratch: &Path,
) -> Result<Vec<String>> {
    let refuse = |what: String| Err(AuditError::from(Refused::new(TranscriptCheck::Result, what)).into());
    let weights = exported(opened, scratch, Some(root))?;
    let mut files = Vec::new();
    written(scratch, Path::new(""), &mut files).with_context(|| format!("cannot read {}", scratch.display()))?;
    files.sort_by_key(|file| (!weights.contains(&file.as_str()), file.clone()));
    for file in &files {
        let read = |folder: &Path| {
            let path = folder.join(file);
            foreign::read(&path, foreign::DATA).with_context(|| format!("cannot read {}", path.display()))
        };
        let own = read(scratch)?;
        if !folder.join(file).exists() {
            return refuse(format!("{file} is not there"));
        }
        let said = read(folder)?;
        if own != said && (file != peft::CONFIG || placeless(&own) != placeless(&said)) {
            return refuse(format!("{file} is not what the state of the result is exported to"));
        }
        let digest = manifest.and_then(|manifest| manifest["result"].get(file));
        if digest.is_some_and(|digest| *digest != json!(hex(&blake3::hash(&said)))) {
            return refuse(format!("{file} is another one than {MANIFEST} says"));
        }
    }
    Ok(files)
}

/// Whether there is no result in the run folder, where no state is known that it could be compared with.
///
/// # Errors
/// A result that is there: of that nothing can be told.
fn absent(opened: &dyn OpenedRun, folder: &Path, audited: &Audited, scratch: &Path) -> Result<()> {
    // Of some state or other, for the names of its files.
    let weights = exported(opened, scratch, None)?;
    let Some(there) = weights.into_iter().find(|file| folder.join(file).exists()) else { return Ok(()) };
    let step = audited.result;
    let message = format!("{there} cannot be told: no state after step {step} is kept, which it is said to be");
    Err(Advice::new(message, format!("have that step computed again, too: --step {step}")).into())
}

/// The files below a folder, by their paths in it.
fn written(folder: &Path, within: &Path, files: &mut Vec<String>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder.join(within))? {
        let entry = entry?;
        let path = within.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            written(folder, &path, files)?;
        } else {
            files.push(path.to_string_lossy().replace('\\', "/"));
        }
    }
    Ok(())
}

/// An adapter's configuration, but for where its base lies, which an auditor has elsewhere.
fn placeless(bytes: &[u8]) -> Option<Value> {
    let mut config: Value = serde_json::from_slice(bytes).ok()?;
    config.as_object_mut()?.remove("base_model_name_or_path");
    Some(config)
}

fn follows(settings: &Settings, found: &AuditFindings, printer: &Printer) -> Outcome {
    let AuditFindings { audited: Audited { root, steps, computed, kept, moved, result, .. }, files } = found;
    let all = computed.len() as u64 == *steps;
    printer.line("follows");
    printer.line(&format!("the run is that of its recipe, rows and base, by transcript {}", root.to_hex()));
    let which = match &settings.asked {
        Selection::Drawn { .. } if !all => " (drawn, and those before them back to a kept state)",
        _ => "",
    };
    printer.line(&format!("  computed again: {} of {steps} steps{which}", computed.len()));
    if let Some(moved) = moved {
        let share = moved * 100.0;
        printer.line(&format!(
            "  states that are kept: {}; no entry moved further than AdamW can ({share:.0} % of that)",
            kept.len()
        ));
    }
    match files.as_slice() {
        [] => printer.line(&format!("  not compared: the result, of which no state is kept (step {result})")),
        [file] => printer.line(&format!("  {file} is the state after step {result}")),
        files => printer.line(&format!("  {} are the state after step {result}", files.join(", "))),
    }
    printer.line(NOT_SHOWN);
    if settings.expect_root.is_none() {
        printer.line("not expected: without --expect-root the transcript may have been made after you asked");
    }
    printer.object(&json!({
        "run": settings.run,
        "verdict": "follows",
        "root": root.to_hex().as_str(),
        "steps": steps,
        "computed": computed,
        "kept": kept,
        "moved": moved,
        "result": { "step": result, "compared": files },
        "not_shown": NOT_SHOWN,
    }));
    Outcome::Done
}

pub(super) fn differs(run: &Path, refused: &Refused, printer: &Printer) -> Outcome {
    printer.line(&format!("does not follow: {refused}"));
    printer.object(&json!({
        "run": run,
        "verdict": "does not follow",
        "check": refused.check.name(),
        "step": refused.step,
        "reason": refused.to_string(),
    }));
    Outcome::No
}

/// Compares the transcripts of two runs, each a run folder or a file.
///
/// # Errors
/// Files that cannot be read.
pub fn against(ours: &Path, theirs: &Path, printer: &Printer) -> Result<Outcome> {
    let mut both = Vec::new();
    for path in [ours, theirs] {
        match audit::open(&audit::file(path)) {
            Ok(transcript) => both.push(transcript),
            Err(AuditError::Refused(refused)) => {
                printer.note(&format!("{}: is no transcript whose chain holds", path.display()));
                return Ok(differs(path, &refused, printer));
            }
            Err(AuditError::Undecided(error)) => return Err(error.into()),
        }
    }
    let (parting, compared) = audit::bisect(&both[0], &both[1]);
    let (outcome, step, what, text) = match &parting {
        Parting::Nowhere => (Outcome::Done, None, vec![], "the same transcript".to_owned()),
        Parting::Head(what) => {
            (Outcome::No, None, what.clone(), format!("other runs from the start: {}", what.join(", ")))
        }
        Parting::Step(step, what) => {
            (Outcome::No, Some(*step), what.clone(), format!("part at step {step}: {}", what.join(", ")))
        }
        Parting::Length(step) => (Outcome::No, Some(step + 1), vec![], format!("one ends after step {step}")),
        Parting::Result => (Outcome::No, None, vec!["result"], "the results are the states of other steps".to_owned()),
    };
    printer.line(&text);
    if let Parting::Step(step, _) = parting {
        let run = ours.display();
        printer.line(&format!("whose step is the recipe's: ftk audit {run} --step {step}"));
        printer
            .line(&format!("in which operation: ftk audit {run} --step {step} --record FILE, and so the other side"));
    }
    printer.object(&json!({
        "folders": [ours, theirs],
        "verdict": if step.is_none() && what.is_empty() { "same" } else { "differ" },
        "step": step,
        "differs": what,
        "steps_compared": compared,
    }));
    Ok(outcome)
}
