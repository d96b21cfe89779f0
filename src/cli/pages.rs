//! What is made of all that may be typed: completions for shells, and pages of the manual.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use clap_complete::Shell;
use ftk_adapters::atomic;
use serde_json::json;

use super::printer::Printer;
use crate::commands::Outcome;

#[derive(Args)]
pub(super) struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

#[derive(Args)]
pub(super) struct ManArgs {
    /// Folder for the pages, one a verb
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
}

impl CompletionsArgs {
    /// Prints the script that a shell reads, of all that may be typed.
    pub(super) fn run(self, mut typed: clap::Command, printer: &Printer) -> anyhow::Result<Outcome> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut typed, "ftk", &mut script);
        let script = String::from_utf8(script).context("a script of completions is text")?;
        printer.part(&script);
        printer.object(&json!({ "shell": self.shell.to_string(), "script": script }));
        Ok(Outcome::Done)
    }
}

impl ManArgs {
    /// Writes a page for the command and for each verb.
    pub(super) fn run(self, mut typed: clap::Command, printer: &Printer) -> anyhow::Result<Outcome> {
        typed.build();
        std::fs::create_dir_all(&self.out).with_context(|| self.out.display().to_string())?;
        let mut pages = Vec::new();
        write(&typed, &self.out, &mut pages)?;
        for page in &pages {
            printer.line(page);
        }
        printer.object(&json!({ "out": self.out, "pages": pages }));
        Ok(Outcome::Done)
    }
}

fn write(command: &clap::Command, out: &Path, pages: &mut Vec<String>) -> anyhow::Result<()> {
    let name = format!("{}.1", command.get_display_name().unwrap_or_else(|| command.get_name()));
    let path = out.join(&name);
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone()).render(&mut page).with_context(|| path.display().to_string())?;
    atomic::write(&path, &page).with_context(|| path.display().to_string())?;
    pages.push(name);
    let verbs = command.get_subcommands().filter(|verb| !verb.is_hide_set() && verb.get_name() != "help");
    verbs.into_iter().try_for_each(|verb| write(verb, out, pages))
}
