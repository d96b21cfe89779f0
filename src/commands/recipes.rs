//! `ftk recipes` and `ftk schema`: recipes and plans to start from, and what a recipe may hold.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use ftk_adapters::{atomic, foreign};
use ftk_recipes::shipped::{ShippedRows, near};
use ftk_recipes::{Builtin, Recipe};
use serde_json::json;

use super::task::StartFile;
use super::tasks::TASKS;
use super::{Advice, Outcome};
use crate::cli::printer::Printer;

/// What is to be done with recipes.
pub enum Settings {
    /// Name the built-in ones, and the plans of market makers.
    List,
    /// Print one.
    Show {
        /// Its name.
        name: String,
    },
    /// Write one to a file, and its rows beside it.
    Copy {
        /// Its name.
        name: String,
        /// The file, which must not exist.
        file: PathBuf,
    },
    /// Read one as `ftk train` or `ftk defi backtest` would.
    Check {
        /// The file, or its name.
        file: PathBuf,
        /// Settings laid over it.
        set: Vec<String>,
    },
}

/// Lists, shows, copies or checks.
///
/// # Errors
/// A name that no recipe has, a file that is there already, a recipe that cannot be run.
pub fn run(settings: &Settings, printer: &Printer) -> Result<Outcome> {
    match settings {
        Settings::List => {
            for task in TASKS {
                for StartFile { file, taker, needs } in task.starts()? {
                    let (name, about) = (file.name, file.about());
                    let mut object = json!({ "name": name, "about": about, "for": taker });
                    if task.trainer().is_some() {
                        printer.line(&format!("{name}\t{about}"));
                    } else {
                        let file = needs.as_ref().map_or(String::new(), |it| format!(", which needs {}", it.display()));
                        printer.line(&format!("{name}\t{about} For {taker}{file}."));
                        object["needs"] = json!(needs);
                    }
                    printer.object(&object);
                }
            }
        }
        Settings::Show { name } => {
            let Builtin { name, text } = named(name)?;
            printer.part(text);
            printer.object(&json!({ "name": name, "text": text }));
        }
        Settings::Copy { name, file } => {
            let written = copy(named(name)?, file)?;
            let names: Vec<String> = written.iter().map(|path| path.display().to_string()).collect();
            let all = [&[file.display().to_string()], names.as_slice()].concat().join(", ");
            printer.note(&format!("wrote {all}; paths in it start at its folder: make them yours"));
            printer.object(&json!({ "file": file, "row_files": written }));
        }
        Settings::Check { file, set } => {
            for task in TASKS {
                if let Some(object) = task.check(file, set)? {
                    printer.line(&format!("{}: is a plan", file.display()));
                    printer.object(&object);
                    return Ok(Outcome::Done);
                }
            }
            let recipe = Recipe::load_with(file, set)?;
            printer.line(&format!("{}: is a recipe", file.display()));
            printer.object(&json!({ "file": file, "recipe": recipe.resolved() }));
        }
    }
    Ok(Outcome::Done)
}

/// Prints the JSON Schema of recipes, or of what the task of this name starts from.
///
/// # Errors
/// A name that no task has.
pub fn schema(task: Option<&str>, printer: &Printer) -> Result<Outcome> {
    let schema = match task {
        None => Recipe::schema(),
        Some(name) => {
            let found = TASKS.iter().find(|task| task.name() == name);
            let names: Vec<&str> = TASKS.iter().map(|task| task.name()).collect();
            let unknown =
                || Advice::new(format!("no task has this name: {name}"), format!("there are: {}", names.join(", ")));
            found.ok_or_else(unknown)?.schema()
        }
    };
    printer.text(&format!("{schema:#}"));
    printer.object(&schema);
    Ok(Outcome::Done)
}

/// Writes a recipe to a file that must not exist, and the rows it comes with beside it, where they may be as they are;
/// names those.
fn copy(builtin: &Builtin, file: &Path) -> Result<Vec<PathBuf>> {
    let folder = file.parent().unwrap_or(Path::new(""));
    let rows = builtin.rows();
    let places: Vec<PathBuf> = rows.iter().map(|rows| folder.join(rows.path)).collect();
    let other = |(place, rows): &(&PathBuf, &ShippedRows)| place.exists() && !equal(place, rows.bytes);
    let taken = places.iter().zip(&rows).find(other).map(|(place, _)| place.as_path());
    if let Some(taken) = file.exists().then_some(file).or(taken) {
        let message = format!("{}: is there already", taken.display());
        return Err(Advice::new(message, "choose another file").into());
    }
    for (place, rows) in places.iter().zip(&rows).filter(|(place, _)| !place.exists()) {
        let failed = || format!("cannot write {}", place.display());
        std::fs::create_dir_all(place.parent().unwrap_or(folder)).with_context(failed)?;
        atomic::write_new(place, rows.bytes).with_context(failed)?;
    }
    atomic::write_new(file, builtin.text.as_bytes()).with_context(|| format!("cannot write {}", file.display()))?;
    Ok(places)
}

fn equal(path: &Path, bytes: &[u8]) -> bool {
    foreign::read(path, foreign::DOCUMENT).is_ok_and(|found| found == bytes)
}

/// What ships under a name, which may leave out its folder.
fn named(name: &str) -> Result<&'static Builtin> {
    let mut all: Vec<&Builtin> = Vec::new();
    for task in TASKS {
        all.extend(task.starts()?.into_iter().map(|start| start.file));
    }
    let bare = |file: &&&Builtin| file.name.rsplit('/').next() == Some(name);
    all.iter().find(|file| file.name == name).or_else(|| all.iter().find(bare)).copied().ok_or_else(|| {
        let known: Vec<&str> = all.iter().map(|file| file.name).collect();
        let meant = near(name, &known).map_or(String::new(), |meant| format!("did you mean {meant}? "));
        let hint = format!("{meant}there are: {}", known.join(", "));
        Advice::new(format!("no recipe has this name: {name}"), hint).into()
    })
}
