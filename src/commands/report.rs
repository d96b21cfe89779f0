//! `ftk report`: runs side by side, as one page of HTML that needs nothing beside itself. A function of what is in the
//! run folders; readable on light and on dark paper.

mod tensorboard;

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use ftk_adapters::{atomic, foreign};
use ftk_recipes::plot::{self, Plot, escaped};
use serde_json::{Map, Value, json};

use super::run::done::{STAGES, stage_of};
use super::run::{MANIFEST, RECIPE};
use super::{Advice, Outcome};
use crate::cli::printer::Printer;
use crate::train::{FigureCurve, METRICS, curves};

/// What is needed.
pub struct Settings {
    /// Run folders.
    pub runs: Vec<PathBuf>,
    /// The page.
    pub out: PathBuf,
    /// Folder for event files of TensorBoard, if they are wanted.
    pub tensorboard: Option<PathBuf>,
}

/// Keys of recipes whose values are places, of this machine or of others.
const PLACES: [&str; 4] = ["run.out", "base.model", "data.train", "data.held_out"];
/// Size of a plot's lines.
const SIZE: (f64, f64) = (640.0, 180.0);

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:1100px;margin:2rem auto;padding:0 1rem;color:#222;\
                     background:#fff}table{border-collapse:collapse}th,td{padding:.25rem .7rem;border-bottom:1px solid \
                     #ddd;text-align:right;white-space:nowrap}th:first-child,td.text{text-align:left}div{overflow-x:auto}\
                     svg{max-width:100%;height:auto}td.text{white-space:pre-wrap;min-width:16rem}@media(prefers-color-scheme:dark){body{color:#ddd;background:#161616}th,td{\
                     border-color:#383838}}";

/// Writes the page.
///
/// # Errors
/// A folder that holds no run, a place that cannot be written to.
pub fn run(settings: &Settings, printer: &Printer) -> Result<Outcome> {
    super::writable_page(&settings.out)?;
    if let Some(folder) = &settings.tensorboard {
        super::writable_folder(folder)?;
    }
    let runs = settings.runs.iter().map(|folder| ReportedRun::read(folder)).collect::<Result<Vec<_>>>()?;
    let mut names: Vec<&str> = runs.iter().map(|run| run.name.as_str()).collect();
    names.sort_unstable();
    if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        let message = format!("two of these folders have one name: {}", pair[0]);
        return Err(Advice::new(message, "runs are told apart by the names of their folders: rename one").into());
    }
    write(&runs, &settings.out)?;
    printer.note(&format!("wrote {}", settings.out.display()));
    let events = |folder: &PathBuf| {
        let of = |run: &ReportedRun| tensorboard::write(&run.curves, &folder.join(&run.name));
        runs.iter().map(of).collect::<Result<Vec<_>>>()
    };
    let events = settings.tensorboard.as_ref().map(events).transpose()?;
    if let Some(folder) = &settings.tensorboard {
        printer.note(&format!("wrote event files: tensorboard --logdir {}", folder.display()));
    }
    printer.object(&json!({
        "page": settings.out, "names": runs.iter().map(|run| &run.name).collect::<Vec<_>>(), "events": events,
    }));
    Ok(Outcome::Done)
}

/// Writes the page of runs that were read.
///
/// # Errors
/// The file system's.
pub(super) fn write(runs: &[ReportedRun], out: &Path) -> Result<()> {
    atomic::write(out, html(runs).as_bytes()).with_context(|| format!("cannot write {}", out.display()))
}

/// What a run folder tells.
pub(super) struct ReportedRun {
    name: String,
    /// Values of the recipe by dotted key.
    recipe: Vec<(String, String)>,
    manifest: Value,
    curves: Vec<FigureCurve>,
    /// What came of the stages of a batch.
    stages: Map<String, Value>,
}

impl ReportedRun {
    /// Reads a run folder.
    ///
    /// # Errors
    /// A folder that holds no run.
    pub(super) fn read(folder: &Path) -> Result<Self> {
        let text = |name: &str, limit| {
            let path = folder.join(name);
            let none = |error: std::io::Error| {
                let message = format!("cannot read {}: {error}", path.display());
                Advice::new(message, "give folders in which `ftk train` has trained")
            };
            foreign::read_text(&path, limit).map_err(none)
        };
        let malformed = |name: &str| format!("cannot read {}", folder.join(name).display());
        let manifest = serde_json::from_str(&text(MANIFEST, foreign::DOCUMENT)?);
        let manifest = manifest.with_context(|| malformed(MANIFEST))?;
        let recipe: toml::Table = text(RECIPE, foreign::DOCUMENT)?.parse().with_context(|| malformed(RECIPE))?;
        let mut keys = Vec::new();
        flatten("", &recipe, &mut keys);
        let stages = match folder.join(STAGES).exists() {
            true => serde_json::from_str(&text(STAGES, foreign::DOCUMENT)?).with_context(|| malformed(STAGES))?,
            false => Map::new(),
        };
        let name = folder.file_name().unwrap_or(folder.as_os_str()).to_string_lossy().into_owned();
        Ok(Self { name, recipe: keys, manifest, curves: curves(&text(METRICS, foreign::DATA)?), stages })
    }

    fn value(&self, key: &str) -> &str {
        self.recipe.iter().find(|(known, _)| known == key).map_or("", |(_, value)| value)
    }

    /// How far it came.
    fn ended(&self) -> String {
        let ended = &self.manifest["ended"];
        match (ended["step"].as_u64(), ended["best"]["step"].as_u64()) {
            (Some(step), Some(best)) => format!("{step}, best {best}"),
            (Some(step), None) => step.to_string(),
            _ => "not at its end".to_owned(),
        }
    }

    /// The last value of each figure, in the order of first appearance, and what was kept for testing.
    fn figures(&self) -> Vec<(String, f64)> {
        let last = |curve: &FigureCurve| Some((curve.name.clone(), curve.points.last()?.1));
        let test = self.manifest["ended"]["test"].as_object().into_iter().flatten();
        let test = test.filter_map(|(name, value)| Some((format!("test_{name}"), value.as_f64()?)));
        let eval =
            stage_of(&self.stages, "eval").and_then(|result| result["figures"].as_object()).into_iter().flatten();
        let eval = eval.filter_map(|(name, value)| Some((format!("held-out {name}"), value.as_f64()?)));
        self.curves.iter().filter_map(last).chain(test).chain(eval).collect()
    }

    /// What the base, and what it with the adapter answers to the plan's prompt.
    fn samples(&self) -> Option<[String; 2]> {
        let said = |stage: &str| stage_of(&self.stages, stage)?["text"].as_str().map(str::to_owned);
        Some([said("before")?, said("after")?])
    }

    /// Digest of its commitment, and the verdict on its proof.
    fn proof(&self) -> [String; 2] {
        let said = |stage: &str, key: &str| {
            stage_of(&self.stages, stage).and_then(|result| result[key].as_str()).unwrap_or_default().to_owned()
        };
        [said("commit", "adapter"), said("verify", "verdict")]
    }
}

/// The values of a recipe by dotted key.
fn flatten(prefix: &str, table: &toml::Table, keys: &mut Vec<(String, String)>) {
    for (key, value) in table {
        match value {
            toml::Value::Table(inner) => flatten(&format!("{prefix}{key}."), inner, keys),
            toml::Value::String(text) => keys.push((format!("{prefix}{key}"), text.clone())),
            value => keys.push((format!("{prefix}{key}"), value.to_string())),
        }
    }
}

fn html(runs: &[ReportedRun]) -> String {
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Runs</title><style>{STYLE}{}</style></head>\
         <body>\n<h1>Runs</h1>\n",
        plot::style()
    );
    let mut head = vec!["run".to_owned(), "steps".to_owned()];
    let differing = differing(runs);
    head.extend(differing.iter().cloned());
    let figures = names(runs.iter().flat_map(ReportedRun::figures).map(|(name, _)| name));
    head.extend(figures.iter().cloned());
    let proofs: Vec<[String; 2]> = runs.iter().map(ReportedRun::proof).collect();
    let proved = proofs.iter().any(|proof| proof.iter().any(|said| !said.is_empty()));
    if proved {
        head.extend(["proof", "commitment"].map(str::to_owned));
    }
    let rows = runs.iter().zip(&proofs).map(|(run, [commitment, verdict])| {
        let mut row = vec![Cell::of(&run.name), Cell::of(run.ended())];
        row.extend(differing.iter().map(|key| Cell::of(run.value(key))));
        let measured = run.figures();
        let figure = |name: &String| measured.iter().rfind(|(known, _)| known == name);
        row.extend(
            figures.iter().map(|name| figure(name).map_or_else(Cell::default, |(_, value)| Cell::figure(*value))),
        );
        if proved {
            row.extend([Cell::of(verdict), Cell::of(commitment)]);
        }
        row
    });
    table(&mut out, &head, rows);
    out.push_str(
        "<p>A figure is that of the last step at which it was taken; to point at it shows all its digits.</p>\n",
    );
    let sampled: Vec<(&ReportedRun, [String; 2])> = runs.iter().filter_map(|run| Some((run, run.samples()?))).collect();
    if !sampled.is_empty() {
        out.push_str("<h2>Samples</h2>\n");
        let rows = sampled
            .iter()
            .map(|(run, [before, after])| vec![Cell::of(&run.name), Cell::text(before), Cell::text(after)]);
        table(&mut out, &["run", "before", "after"].map(str::to_owned), rows);
    }
    out.push_str("<h2>Curves</h2>\n");
    for name in names(runs.iter().flat_map(|run| &run.curves).map(|curve| curve.name.clone())) {
        let of = |run| -> Option<(&str, Vec<(f64, f64)>)> {
            let ReportedRun { name: run, curves, .. }: &ReportedRun = run;
            Some((run, curves.iter().find(|curve| curve.name == name)?.points.clone()))
        };
        let lines = runs.iter().filter_map(of).collect();
        out.push_str(&Plot { title: &name, lines, size: SIZE, ..Plot::default() }.html());
    }
    out.push_str("<h2>Made of</h2>\n");
    let head = ["run", "base", "rows", "held out", "run", "transcript"].map(str::to_owned);
    let short = |value: &Value| value.as_str().map_or_else(String::new, |digest| digest.chars().take(16).collect());
    table(
        &mut out,
        &head,
        runs.iter().map(|run| {
            let file = |key| run.value(key).rsplit('/').next().unwrap_or_default().to_owned();
            let places = [file("base.model"), file("data.train"), file("data.held_out")];
            let digests = [short(&run.manifest["run"]), short(&run.manifest["transcript"])];
            [run.name.clone()].into_iter().chain(places).chain(digests).map(Cell::of).collect()
        }),
    );
    out + "</body></html>\n"
}

/// Names in the order of first appearance.
fn names(all: impl Iterator<Item = String>) -> Vec<String> {
    let mut seen = BTreeSet::new();
    all.filter(|name| seen.insert(name.clone())).collect()
}

/// Keys of recipes in which runs differ.
fn differing(runs: &[ReportedRun]) -> Vec<String> {
    let keys = names(runs.iter().flat_map(|run| &run.recipe).map(|(key, _)| key.clone()));
    let differs = |key: &String| runs.iter().any(|run| run.value(key) != runs[0].value(key));
    keys.into_iter().filter(|key| !PLACES.contains(&key.as_str()) && differs(key)).collect()
}

fn figure(value: f64) -> String {
    if value == 0.0 || (1e-3..1e6).contains(&value.abs()) { format!("{value:.4}") } else { format!("{value:.3e}") }
}

/// What stands in a table.
#[derive(Default)]
struct Cell {
    shown: String,
    /// Shown when pointed at.
    exact: Option<String>,
    /// It has lines of its own.
    prose: bool,
}

impl Cell {
    fn of(text: impl Into<String>) -> Self {
        Self { shown: text.into(), ..Self::default() }
    }

    fn text(text: impl Into<String>) -> Self {
        Self { prose: true, ..Self::of(text) }
    }

    fn figure(value: f64) -> Self {
        Self { exact: Some(value.to_string()), ..Self::of(figure(value)) }
    }
}

/// A table whose first column names its rows.
fn table(out: &mut String, head: &[String], rows: impl Iterator<Item = Vec<Cell>>) {
    let mut push = |arguments: std::fmt::Arguments<'_>| out.write_fmt(arguments).expect("a string takes any text");
    push(format_args!("<div><table><tr>"));
    head.iter().for_each(|name| push(format_args!("<th>{}</th>", escaped(name))));
    push(format_args!("</tr>\n"));
    for row in rows {
        push(format_args!("<tr>"));
        for (index, cell) in row.iter().enumerate() {
            let tag = if index == 0 { "th" } else { "td" };
            let title = cell.exact.as_ref().map_or_else(String::new, |exact| format!(" title=\"{exact}\""));
            let class = if cell.prose { " class=\"text\"" } else { "" };
            push(format_args!("<{tag}{class}{title}>{}</{tag}>", escaped(&cell.shown)));
        }
        push(format_args!("</tr>\n"));
    }
    push(format_args!("</table></div>\n"));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(name: &str, lr: &str, metrics: &str) -> ReportedRun {
        let recipe = vec![("optim.lr".to_owned(), lr.to_owned()), ("run.seed".to_owned(), "1".to_owned())];
        let manifest = json!({ "ended": { "step": 2, "best": null }, "run": "ab" });
        ReportedRun { name: name.to_owned(), recipe, manifest, curves: curves(metrics), stages: Map::new() }
    }

    #[test]
    fn runs_stand_side_by_side_with_what_differs_and_nothing_leaves_its_place() {
        let metrics = "{\"step\":1,\"loss\":2.5}\n{\"step\":2,\"loss\":1.5,\"eval_loss\":0.25}\n";
        let page = html(&[told("one", "1e-3", metrics), told("<script>", "1e-4", metrics)]);
        assert!(page.contains("<th>optim.lr</th>") && !page.contains("run.seed"), "{page}");
        assert!(page.contains("<td>1e-3</td><td title=\"1.5\">1.5000</td><td title=\"0.25\">0.2500</td>"), "{page}");
        assert_eq!(page.matches("<polyline").count(), 2);
        assert!(page.contains("prefers-color-scheme:dark") && page.contains("&lt;script&gt;"));
        for forbidden in ["<script", "http:", "https:", "src="] {
            assert!(!page.contains(forbidden), "{forbidden}");
        }
    }
}
