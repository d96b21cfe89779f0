//! `ftk audit --open` and `--opened`: rows of a run opened to whoever may not see the others, and what was opened held
//! against a transcript.

use std::path::Path;

use anyhow::{Context, Result};
use ftk_adapters::{atomic, foreign};
use ftk_text::opened::OpenedRow;
use serde_json::{Value, json};

use super::audit::{Settings, blamed, differs, digest as typed_root, open as open_run};
use super::{Advice, Outcome};
use crate::cli::printer::Printer;
use crate::train::audit::{self, AuditError, AuditedRun};
pub use crate::train::rows::RowChoice;
use crate::train::rows::{self, OpenedRows};

/// Opens rows of a run in a file.
///
/// # Errors
/// As an audit that computes nothing; rows that cannot be opened; a file that cannot be written.
pub fn open(settings: &Settings, choice: &RowChoice, out: &Path, printer: &Printer) -> Result<Outcome> {
    let opened = || -> Result<OpenedRows> {
        let run = open_run(settings, printer)?;
        let identity = &run.opened.inputs().identity;
        let (session, folder) = (run.opened.session(), settings.run.as_path());
        let subject = AuditedRun { session, optim: &run.recipe.optim, run: &run.recipe.run, identity, folder };
        let rows = rows::open(subject, &run.transcript, choice);
        rows.map_err(|error| blamed(error, &*run.opened, run.manifest.as_ref()))
    };
    let rows = match opened() {
        Ok(rows) => rows,
        Err(error) => {
            return match error.downcast::<AuditError>() {
                Ok(AuditError::Refused(refused)) => Ok(differs(&settings.run, &refused, printer)),
                Ok(AuditError::Undecided(error)) => Err(error.into()),
                Err(error) => Err(error),
            };
        }
    };
    atomic::replace_secret(out, rows.write().as_bytes()).with_context(|| format!("cannot write {}", out.display()))?;
    let numbers: Vec<u64> = rows.contents().map(|(row, _)| row).collect();
    let listed = numbers.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
    printer.line(&format!("opened in {}: row {listed}", out.display()));
    printer.object(&json!({ "run": settings.run, "opened": out, "row_numbers": numbers }));
    Ok(Outcome::Done)
}

/// Holds rows that were opened against the transcript of a run folder, or a transcript alone.
///
/// # Errors
/// Files that cannot be read.
pub fn check(run: &Path, file: &Path, expect_root: Option<&str>, printer: &Printer) -> Result<Outcome> {
    let transcript = match audit::open(&audit::file(run)) {
        Ok(transcript) => transcript,
        Err(AuditError::Refused(refused)) => return Ok(differs(run, &refused, printer)),
        Err(AuditError::Undecided(error)) => return Err(error.into()),
    };
    if let Err(refused) = audit::expected(&transcript, expect_root.map(typed_root).transpose()?) {
        return Ok(differs(run, &refused, printer));
    }
    let text = foreign::read_text(file, foreign::DATA).with_context(|| format!("cannot read {}", file.display()))?;
    let opened = OpenedRows::read(&text).map_err(|error| {
        let message = format!("{}: opens no rows: {error}", file.display());
        Advice::new(message, "give the file that `ftk audit --open` wrote")
    })?;
    let found = match opened.check(&transcript, digest) {
        Ok(found) => found,
        Err(refused) => return Ok(differs(run, &refused, printer)),
    };
    printer.line("follows");
    let mut rows = Vec::new();
    for (found, (_, content)) in found.iter().zip(opened.contents()) {
        let steps = match found.steps.as_slice() {
            [] => ", and none of the steps that were opened learnt from it".to_owned(),
            steps => format!(
                ", and was learnt from at step {}",
                steps.iter().map(u64::to_string).collect::<Vec<_>>().join(", ")
            ),
        };
        printer.line(&format!("  row {} is the run's{steps}", found.row));
        rows.push(json!({ "row": found.row, "learnt_at": found.steps, "content": content }));
    }
    printer.line(NOT_SHOWN);
    if expect_root.is_none() {
        printer.line("not expected: without --expect-root the transcript may be any run's, or none's");
    }
    let root = transcript.root().map(|root| root.to_hex().to_string());
    printer.object(&json!({
        "run": run, "verdict": "follows", "root": root, "opened_rows": rows, "not_shown": NOT_SHOWN,
    }));
    Ok(Outcome::Done)
}

/// What rows alone do not say: whoever opens them chooses which steps to open with them.
const NOT_SHOWN: &str = "not shown: that no other step learnt from these rows, and that steps were computed from them; an \
                         audit of all steps shows both";

/// The digest of a row of text.
fn digest(content: &Value) -> Option<[u8; 32]> {
    Some(serde_json::from_value::<OpenedRow>(content.clone()).ok()?.digest())
}
