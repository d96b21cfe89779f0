//! `ftk recipes` and `ftk schema`: recipes and plans to start from, and what a recipe may hold.

use std::path::PathBuf;

use anyhow::{Context, Result};
use ftk_adapters::atomic;
use ftk_recipes::{BUILTIN, Builtin, PLANS, Recipe};
use serde_json::json;

use super::task::Start;
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
    /// Write one to a file.
    Copy {
        /// Its name.
        name: String,
        /// The file, which must not exist.
        file: PathBuf,
    },
    /// Read a file as `ftk train` would.
    Check {
        /// The file.
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
                for Start { file, taker, needs } in task.starts()? {
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
            let text = named(name)?.text;
            if file.exists() {
                let message = format!("{}: is there already", file.display());
                return Err(Advice::new(message, "choose another file").into());
            }
            atomic::write_new(file, text.as_bytes()).with_context(|| format!("cannot write {}", file.display()))?;
            printer.note(&format!("wrote {}; its paths start at its folder: make them yours", file.display()));
            printer.object(&json!({ "file": file }));
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

fn named(name: &str) -> Result<&'static Builtin> {
    let all = || BUILTIN.iter().chain(PLANS);
    all().find(|builtin| builtin.name == name).ok_or_else(|| {
        let known: Vec<&str> = all().map(|builtin| builtin.name).collect();
        Advice::new(format!("no recipe has this name: {name}"), format!("there are: {}", known.join(", "))).into()
    })
}
