//! `ftk defi report`: a backtest as one page.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use ftk_adapters::{atomic, foreign};
use ftk_defi::report::Report;
use serde_json::json;

use super::super::{Advice, Outcome, writable_page};
use crate::cli::printer::Printer;

/// The figures of a backtest, in its folder.
pub const FIGURES: &str = "backtest.json";
/// The page.
pub const PAGE: &str = "report.html";

/// What is needed.
pub struct Settings {
    /// Folder of a backtest.
    pub run: PathBuf,
    /// The page; `report.html` in that folder without it.
    pub out: Option<PathBuf>,
}

/// Writes the page and prints the table.
///
/// # Errors
/// A folder that holds no backtest.
pub fn run(settings: &Settings, printer: &Printer) -> Result<Outcome> {
    let path = settings.run.join(FIGURES);
    let text = foreign::read_text(&path, foreign::DATA).with_context(|| format!("cannot read {}", path.display()))?;
    let report: Report = serde_json::from_str(&text).map_err(|error| {
        let message = format!("{}:{}: {error}", path.display(), error.line());
        Advice::new(message, "give the folder that `ftk defi backtest` wrote")
    })?;
    let page = settings.out.clone().unwrap_or_else(|| settings.run.join(PAGE));
    writable_page(&page)?;
    write(&report, &page)?;
    printer.part(&report.text());
    printer.note(&format!("wrote {}", page.display()));
    printer.object(&json!({ "page": page, "lines": report.lines }));
    Ok(Outcome::Done)
}

/// Writes the page of a report.
pub(super) fn write(report: &Report, page: &Path) -> Result<()> {
    atomic::write(page, report.html().as_bytes()).with_context(|| format!("cannot write {}", page.display()))
}
