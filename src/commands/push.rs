//! `ftk push`: an adapter, or a model, to the Hugging Face Hub, as one commit. Only files that are for everybody go there:
//! what else is in the folder is named, and stays.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use ftk_adapters::{foreign, peft};
use ftk_bases::{HubName, TEXT_FILES};
use serde_json::{Map, Value};

use self::remote::Destination;
use super::card::CARD;
use super::{Advice, Outcome};
use crate::cli::printer::Printer;

/// What is needed.
pub struct Settings {
    /// Folder of an adapter or a model.
    pub folder: PathBuf,
    /// `ORG/NAME`, with `hf://` or without.
    pub to: String,
    /// The repository, if it is made now, is for its owner alone.
    pub private: bool,
    /// The commit's first line.
    pub message: Option<String>,
    /// Only say what would be pushed.
    pub dry_run: bool,
    /// Never connect.
    pub offline: bool,
}

/// Files of adapters that are for everybody.
const ADAPTER: [&str; 2] = [peft::CONFIG, peft::FACTORS];
/// The file of models beside weights and what [`TEXT_FILES`] are.
const MODEL: &str = "config.json";

/// Pushes, and prints the commit.
///
/// # Errors
/// A folder that is neither; what is not a repository's name; offline; whatever keeps the files from arriving.
pub fn run(settings: &Settings, printer: &Printer) -> Result<Outcome> {
    let advice = || Advice::new(format!("not a repository's name: {}", settings.to), "give ORG/NAME");
    let name = HubName::parse(settings.to.strip_prefix("hf://").unwrap_or(&settings.to)).ok_or_else(advice)?;
    if name.revision.is_some() || name.file.is_some() {
        return Err(advice().into());
    }
    let (files, kept) = parted(&settings.folder)?;
    let destination = Destination::open(settings)?;
    for file in &files {
        printer.note(&format!("{} {file}", if settings.dry_run { "would push" } else { "pushing" }));
    }
    if !kept.is_empty() {
        printer.note(&format!("stays here: {}", kept.join(", ")));
    }
    let files: Vec<(String, PathBuf)> =
        files.into_iter().map(|file| (file.clone(), settings.folder.join(file))).collect();
    destination.push(&name, &files, settings, printer)
}

/// The names of files that are pushed, and of what stays.
fn parted(folder: &Path) -> Result<(Vec<String>, Vec<String>)> {
    let mut names = listed(folder)?;
    // Templates lie in a folder of their own.
    let holds_texts = |name: &str| TEXT_FILES.iter().any(|file| file.starts_with(&format!("{name}/")));
    for name in names.extract_if(.., |name| holds_texts(name)).collect::<Vec<_>>() {
        names.extend(listed(&folder.join(&name))?.into_iter().map(|file| format!("{name}/{file}")));
    }
    let has = |name: &str| names.iter().any(|own| own == name);
    let adapter = has(peft::CONFIG);
    if adapter {
        // What cannot be read here cannot be used elsewhere.
        nobodys(&peft::survey(folder)?.config, "base_model_name_or_path", &folder.join(peft::CONFIG))?;
    } else if has(MODEL) && names.iter().any(|name| is_weights(name)) {
        let path = folder.join(MODEL);
        let cannot = || format!("cannot read {}", path.display());
        let text = foreign::read_text(&path, foreign::DOCUMENT).with_context(cannot)?;
        nobodys(&serde_json::from_str(&text).with_context(cannot)?, "_name_or_path", &path)?;
    } else {
        let hint = "give a folder that holds adapter_config.json, or config.json and safetensors";
        return Err(Advice::new(format!("neither an adapter nor a model: {}", folder.display()), hint).into());
    }
    let public = |name: &String| {
        let own = if adapter { ADAPTER.contains(&&**name) } else { name == MODEL || is_weights(name) };
        (own || name == CARD || TEXT_FILES.contains(&&**name)) && folder.join(name).is_file()
    };
    Ok(names.into_iter().partition(public))
}

/// Refuses a configuration that calls a model by a place on this machine, which tells others about it and means nothing
/// to them.
fn nobodys(config: &Map<String, Value>, key: &str, path: &Path) -> Result<()> {
    let base = config.get(key).and_then(Value::as_str).unwrap_or_default();
    let named = HubName::parse(base.strip_prefix("hf://").unwrap_or(base)).is_some();
    if !base.contains(['/', '\\']) || (named && !Path::new(base).exists()) {
        return Ok(());
    }
    let message = format!("{}:{key}: is a place on this machine: {base}", path.display());
    let hint = "write the model's name on the hub there, ORG/NAME, or any word; recipes give it as base.name";
    Err(Advice::new(message, hint).into())
}

/// What is in a folder, in the order of names.
fn listed(folder: &Path) -> Result<Vec<String>> {
    let entries = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    let mut names: Vec<String> = names.collect::<std::io::Result<_>>().with_context(|| folder.display().to_string())?;
    names.sort();
    Ok(names)
}

/// Whether a file is of a model's weights, or says in which files they are.
fn is_weights(name: &str) -> bool {
    name.starts_with("model") && (name.ends_with(".safetensors") || name.ends_with(".safetensors.index.json"))
}

#[cfg(feature = "hub")]
mod remote {
    use std::path::PathBuf;

    use anyhow::Result;
    use ftk_bases::HubName;
    use ftk_bases::hub::{Hub, Push};
    use serde_json::json;

    use super::{Advice, Outcome, Settings};
    use crate::cli::printer::Printer;

    /// Where files go; nowhere in a dry run.
    pub(super) struct Destination(Option<Hub>);

    impl Destination {
        pub(super) fn open(settings: &Settings) -> Result<Self> {
            if settings.dry_run {
                return Ok(Self(None));
            }
            let hub = Hub::from_env(settings.offline)?;
            if hub.is_offline() {
                let hint = "leave --offline and HF_HUB_OFFLINE out, or look with --dry-run";
                return Err(Advice::new("offline, and a push is a connection", hint).into());
            }
            Ok(Self(Some(hub)))
        }

        pub(super) fn push(
            self,
            name: &HubName,
            files: &[(String, PathBuf)],
            settings: &Settings,
            printer: &Printer,
        ) -> Result<Outcome> {
            let names: Vec<&str> = files.iter().map(|(file, _)| &**file).collect();
            let Some(hub) = self.0 else {
                printer.object(&json!({ "name": name.to_string(), "files": names }));
                return Ok(Outcome::Done);
            };
            let bar = printer.transfer();
            let tell = |waiting: &str| bar.suspend(|| printer.note(waiting));
            let mut report = |file: &str, done, size| {
                bar.set_message(Printer::message(file));
                bar.set_length(size);
                bar.set_position(done);
            };
            let summary = settings.message.as_deref().unwrap_or("Upload with ftk");
            let push = Push { id: &name.id, private: settings.private, summary, files };
            let pushed = hub.push(&push, &mut report, &tell)?;
            bar.finish_and_clear();
            let pinned = HubName { revision: Some(pushed.commit.clone()), ..name.clone() };
            printer.line(&pinned.to_string());
            printer.object(&json!({
                "name": pinned.to_string(),
                "commit": pushed.commit,
                "files": names,
                "sent": pushed.sent,
            }));
            Ok(Outcome::Done)
        }
    }
}

#[cfg(not(feature = "hub"))]
mod remote {
    use std::path::PathBuf;

    use anyhow::Result;
    use ftk_bases::HubName;

    use super::{Advice, Outcome, Settings};
    use crate::cli::printer::Printer;

    /// Nowhere.
    pub(super) enum Destination {}

    impl Destination {
        pub(super) fn open(_: &Settings) -> Result<Self> {
            Err(Advice::new("this build of ftk knows no hub", "build it with --features hub").into())
        }

        pub(super) fn push(self, _: &HubName, _: &[(String, PathBuf)], _: &Settings, _: &Printer) -> Result<Outcome> {
            match self {}
        }
    }
}
