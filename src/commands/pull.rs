//! `ftk pull`: from the Hugging Face Hub into the cache on this machine; and the same, unasked, for what a recipe or
//! `--base` names on the hub.

use std::path::{Path, PathBuf};

use anyhow::Result;
use ftk_bases::HubName;
use ftk_recipes::Recipe;

use super::{Advice, Outcome};
use crate::cli::printer::Printer;

/// What is needed.
pub struct Settings {
    /// `ORG/NAME[@REVISION][/FILE]`, with `hf://` or without.
    pub name: String,
    /// It is a data set.
    pub dataset: bool,
    /// Only these files.
    pub files: Vec<String>,
    /// Never connect.
    pub offline: bool,
}

/// Pulls and says where it is.
///
/// # Errors
/// A malformed name; whatever keeps the files from coming. The cache then stays as it was.
pub fn run(settings: &Settings, printer: &Printer) -> Result<Outcome> {
    let text = settings.name.strip_prefix("hf://").unwrap_or(&settings.name);
    let advice =
        || Advice::new(format!("not a name on the hub: {}", settings.name), "give ORG/NAME or ORG/NAME@REVISION");
    let mut name = HubName::parse(text).ok_or_else(advice)?;
    let files: Vec<String> = settings.files.iter().cloned().chain(name.file.take()).collect();
    if let Some(file) = files.iter().find(|file| !ftk_bases::hub_name::is_inside(file)) {
        return Err(Advice::new(format!("not a file's name: {file}"), "give its path inside the repository").into());
    }
    source::pull(&name, settings.dataset, &files, settings.offline, printer)
}

/// The local path of a base as it was typed on the command line: fetched, if it names a model on the hub.
///
/// # Errors
/// As [`run`].
pub fn base(typed: &Path, offline: bool, printer: &Printer) -> Result<PathBuf> {
    let path = HubName::base(Path::new(""), typed);
    match HubName::of(&path) {
        Some(name) => source::model(&name, false, offline, printer),
        None if path.starts_with("hf:") => {
            let hint = "give hf://ORG/NAME[@REVISION], with the name of a .gguf file or without";
            Err(Advice::new(format!("not a name on the hub: {}", typed.display()), hint).into())
        }
        None => Ok(path),
    }
}

/// Puts local paths in the place of what a recipe names on the hub, fetching what is not there.
///
/// # Errors
/// As [`run`].
pub fn recipe(recipe: &mut Recipe, offline: bool, printer: &Printer) -> Result<()> {
    if let Some(name) = HubName::of(&recipe.base.model) {
        recipe.base.model = source::model(&name, recipe.base.init_std.is_some(), offline, printer)?;
    }
    for (_, path) in recipe.rows_mut() {
        if let Some(name) = HubName::of(path) {
            *path = source::rows(&name, offline, printer)?;
        }
    }
    Ok(())
}

#[cfg(feature = "hub")]
mod source {
    use std::path::PathBuf;

    use anyhow::{Context, Result};
    use ftk_bases::HubName;
    use serde_json::json;

    use crate::cli::printer::Printer;
    use crate::commands::Outcome;
    use ftk_bases::hub::{Hub, Pulled, RepoKind, Wanted};

    pub(super) fn pull(
        name: &HubName,
        dataset: bool,
        files: &[String],
        offline: bool,
        printer: &Printer,
    ) -> Result<Outcome> {
        let (kind, wanted) = match (dataset, files) {
            (_, [_, ..]) => (if dataset { RepoKind::Dataset } else { RepoKind::Model }, Wanted::Files(files)),
            (true, []) => (RepoKind::Dataset, Wanted::Rows),
            (false, []) => (RepoKind::Model, Wanted::Model),
        };
        let pulled = fetch((kind, name), wanted, true, offline, printer)?;
        let pinned = HubName { revision: Some(pulled.commit.clone()), ..name.clone() };
        printer.line(&pinned.to_string());
        printer.line(&pulled.folder.display().to_string());
        printer.object(&json!({
            "name": pinned.to_string(),
            "commit": pulled.commit,
            "path": pulled.folder,
            "files": pulled.files,
        }));
        Ok(Outcome::Done)
    }

    pub(super) fn model(name: &HubName, skeleton: bool, offline: bool, printer: &Printer) -> Result<PathBuf> {
        match &name.file {
            Some(_) => file(RepoKind::Model, name, offline, printer),
            None => {
                let wanted = if skeleton { Wanted::Skeleton } else { Wanted::Model };
                Ok(fetch((RepoKind::Model, name), wanted, false, offline, printer)?.folder)
            }
        }
    }

    pub(super) fn rows(name: &HubName, offline: bool, printer: &Printer) -> Result<PathBuf> {
        file(RepoKind::Dataset, name, offline, printer)
    }

    fn file(kind: RepoKind, name: &HubName, offline: bool, printer: &Printer) -> Result<PathBuf> {
        let file = name.file.clone().with_context(|| format!("{name}: names no file"))?;
        let pulled = fetch((kind, name), Wanted::Files(std::slice::from_ref(&file)), false, offline, printer)?;
        Ok(pulled.folder.join(file))
    }

    fn fetch(
        what: (RepoKind, &HubName),
        wanted: Wanted<'_>,
        refresh: bool,
        offline: bool,
        printer: &Printer,
    ) -> Result<Pulled> {
        let hub = Hub::from_env(offline)?;
        let bar = printer.transfer();
        let mut current = String::new();
        let tell = |waiting: &str| bar.suspend(|| printer.note(waiting));
        let mut report = |file: &str, done, size| {
            if current != file {
                file.clone_into(&mut current);
                bar.set_message(Printer::message(file));
                if bar.is_hidden() {
                    printer.note(&format!("pulling {file}: {size} bytes"));
                }
            }
            bar.set_length(size);
            bar.set_position(done);
        };
        let pulled = hub.pull(what, wanted, refresh, &mut report, &tell);
        bar.finish_and_clear();
        Ok(pulled?)
    }
}

/// A build that knows no hub.
#[cfg(not(feature = "hub"))]
mod source {
    use std::path::PathBuf;

    use anyhow::Result;
    use ftk_bases::HubName;

    use crate::cli::printer::Printer;
    use crate::commands::{Advice, Outcome};

    fn refused<T>(name: &HubName) -> Result<T> {
        let hint = "build it with --features hub, or give the path of a folder or file";
        Err(Advice::new(format!("this build of ftk fetches nothing from the hub: {name}"), hint).into())
    }

    pub(super) fn pull(name: &HubName, _: bool, _: &[String], _: bool, _: &Printer) -> Result<Outcome> {
        refused(name)
    }

    pub(super) fn model(name: &HubName, _: bool, _: bool, _: &Printer) -> Result<PathBuf> {
        refused(name)
    }

    pub(super) fn rows(name: &HubName, _: bool, _: &Printer) -> Result<PathBuf> {
        refused(name)
    }
}
