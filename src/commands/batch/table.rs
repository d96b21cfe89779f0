//! All runs of a batch in one table.

use std::collections::BTreeSet;

use serde_json::json;

use super::member::BatchRun;
use super::stage::figures;
use crate::cli::printer::Printer;

/// Prints a row a run: what varies, what is done, figures, and what went wrong.
pub(super) fn show(runs: &[BatchRun], printer: &Printer) {
    let keys = varied(runs);
    let mut rows = vec![vec!["run".to_owned()]];
    rows[0].extend(keys.iter().cloned());
    rows[0].extend(["state", "figures"].map(str::to_owned));
    for run in runs {
        let value = |key: &String| {
            let found = run.variant.varied.iter().find(|(known, _)| known == key);
            found.map_or_else(String::new, |(_, value)| value.trim_matches('"').to_owned())
        };
        let mut row = vec![run.name.clone()];
        row.extend(keys.iter().map(value));
        row.extend([state(run), said(run)]);
        rows.push(row);
    }
    let count = rows[0].len();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..count).map(width).collect();
    for row in &rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        printer.line(cells.collect::<Vec<_>>().join("  ").trim_end());
    }
    printer.object(&json!({ "runs": runs.iter().map(BatchRun::summary).collect::<Vec<_>>() }));
}

/// The keys that vary, in order of first appearance.
fn varied(runs: &[BatchRun]) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let keys = runs.iter().flat_map(|run| &run.variant.varied).map(|(key, _)| key);
    keys.filter(|key| seen.insert((*key).clone())).cloned().collect()
}

/// How far a run is.
fn state(run: &BatchRun) -> String {
    if let Some(failure) = run.failed() {
        return format!("failed: {failure}");
    }
    let left = run.stages.iter().filter(|stage| !run.folder.has(stage)).map(|stage| stage.name);
    match left.collect::<Vec<_>>().as_slice() {
        [] => "done".to_owned(),
        left => format!("to do: {}", left.join(", ")),
    }
}

/// Figures of held-out rows where there are any, else of training, and the verdict.
fn said(run: &BatchRun) -> String {
    let result = |name: &str| {
        let stage = run.stages.iter().find(|stage| stage.name == name)?;
        run.folder.result(stage)
    };
    let measured = result("eval").or_else(|| result("train"));
    let told = figures(measured.as_ref().and_then(|result| result.get("figures")));
    let verdict = result("verify").and_then(|result| result["verdict"].as_str().map(|verdict| format!(", {verdict}")));
    (told + &verdict.unwrap_or_default()).trim_start_matches(", ").to_owned()
}
