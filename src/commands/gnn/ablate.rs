//! `ftk gnn ablate`: one table of all ways to learn a recipe's task, over several seeds.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use ftk_bases::graphs;
use ftk_gnn::graph::{Graph, ImportFindings, NodeSplit};
use ftk_gnn::import::{Origin, import};
use ftk_gnn::measures::{NamedFigures, mean_and_deviation};
use ftk_gnn::settings::{FRESH, Objective, Split};
use ftk_gnn::{OpenedTask, of};
use ftk_networks::graphs::{End, Head};
use ftk_recipes::{Recipe, Reference};
use serde_json::{Map, Value, json};

use super::super::{Advice, Outcome};
use super::task::train;
use crate::cli::printer::Printer;

/// What is needed.
pub struct Settings {
    /// Recipe of an adapter on a base, or of a base.
    pub recipe: PathBuf,
    /// Settings laid over it, `key=value`.
    pub set: Vec<String>,
    /// Recipe that goes on from each adapter with preferences.
    pub then: Option<PathBuf>,
    /// How many seeds, from 1.
    pub seeds: u64,
    /// Folder for the runs, which must not exist.
    pub out: PathBuf,
}

/// A row of the table.
struct AblationRow {
    name: String,
    trained: usize,
    /// Of each seed; one of what has none.
    figures: Vec<NamedFigures>,
}

/// Trains every way with every seed and prints the table, on the part of the split that is kept for testing.
///
/// # Errors
/// Whatever a training run would refuse.
pub fn run(settings: &Settings, printer: &Printer) -> Result<Outcome> {
    let recipe = Recipe::load_with(&settings.recipe, &settings.set)?;
    let gnn = of(&recipe)?;
    if settings.out.exists() {
        let message = format!("{}: is there already", settings.out.display());
        return Err(Advice::new(message, "choose another folder with --out").into());
    }
    let (graph, found) = import(&Origin::Path(recipe.data.train.clone()))?;
    let mut ways: Vec<(&str, Recipe)> = Vec::new();
    let table = AblationRuns { settings, graph: &graph, found, printer };
    let mut rows = table.without_network(&recipe)?;
    if recipe.lora.is_some() {
        rows.extend(table.as_it_is(&recipe)?);
        let mut whole = Recipe { lora: None, ..recipe.clone() };
        whole.base.train = true;
        if let Some(gnn) = &mut whole.gnn {
            gnn.train_head = false;
        }
        let network = graphs::network(&recipe.base.model)?;
        let mut fresh = whole.clone();
        fresh.base.model = FRESH.into();
        if let Some(gnn) = &mut fresh.gnn {
            (gnn.network, gnn.hidden, gnn.layers, gnn.heads) =
                (network.model_type, network.hidden, network.layers, network.heads);
            (gnn.normalise, gnn.project) = (network.prepare.normalise, network.prepare.project);
            gnn.messages = network.messages;
            if let End::Pair { scorer, .. } = network.head {
                gnn.scorer = scorer;
            }
            gnn.head = match network.head {
                End::Linear(_) | End::Encoder => Head::Linear,
                End::Convolution(_) | End::Comparer(_) | End::Pair { .. } => Head::Convolution,
            };
        }
        let mut head = recipe.clone();
        if let Some(gnn) = &mut head.gnn {
            gnn.train_head = true;
        }
        ways.extend([("head alone", head), ("LoRA", recipe.clone()), ("all weights", whole), ("from scratch", fresh)]);
    } else {
        ways.push(("network", recipe.clone()));
    }
    for (name, way) in ways {
        let row = table.over_seeds(name, &way)?;
        rows.push(row);
        if let (true, Some(then)) = (name == "LoRA" || name == "network", &settings.then) {
            rows.push(table.with_preferences(name, then)?);
        }
    }
    show(&rows, gnn.objective, printer);
    Ok(Outcome::Done)
}

/// What all runs share.
struct AblationRuns<'a> {
    settings: &'a Settings,
    graph: &'a Graph,
    found: ImportFindings,
    printer: &'a Printer,
}

impl AblationRuns<'_> {
    /// Predictors, over all seeds where the split is drawn by them.
    fn without_network(&self, recipe: &Recipe) -> Result<Vec<AblationRow>> {
        let gnn = of(recipe)?;
        let drawn = gnn.split == Split::Random || gnn.labels.is_some();
        let mut rows: Vec<AblationRow> = Vec::new();
        for seed in 1..=if drawn { self.settings.seeds } else { 1 } {
            let mut recipe = recipe.clone();
            recipe.run.seed = seed;
            let opened = OpenedTask::on(&recipe, self.graph, self.found)?;
            for (at, (name, trained, figures)) in opened.baselines(self.graph).into_iter().enumerate() {
                match rows.get_mut(at) {
                    Some(row) => row.figures.push(figures),
                    None => rows.push(AblationRow { name: name.to_owned(), trained, figures: vec![figures] }),
                }
            }
        }
        Ok(rows)
    }

    /// The base without any training, unless it ends in something else than what is learnt.
    fn as_it_is(&self, recipe: &Recipe) -> Result<Option<AblationRow>> {
        let opened = OpenedTask::on(recipe, self.graph, self.found)?;
        if graphs::network(&recipe.base.model)?.head != opened.model().network.head {
            return Ok(None);
        }
        // Fresh factors change nothing.
        let figures = opened.figures(NodeSplit::Test)?;
        Ok(Some(AblationRow { name: "base as it is".to_owned(), trained: 0, figures: vec![figures] }))
    }

    fn over_seeds(&self, name: &str, recipe: &Recipe) -> Result<AblationRow> {
        let mut row = AblationRow { name: name.to_owned(), trained: 0, figures: Vec::new() };
        for seed in 1..=self.settings.seeds {
            let mut recipe = recipe.clone();
            recipe.run.seed = seed;
            recipe.run.out = self.folder(name, seed);
            let mut opened = OpenedTask::on(&recipe, self.graph, self.found)?;
            if name == "head alone" {
                opened = opened.head_alone();
            }
            row.trained = opened.model().trained();
            row.figures.push(Self::train(&recipe, opened)?);
        }
        self.printer.note(&format!("{name}: {} runs", self.settings.seeds));
        Ok(row)
    }

    /// Goes on from the runs of a row.
    fn with_preferences(&self, name: &str, then: &Path) -> Result<AblationRow> {
        let mut row = AblationRow { name: format!("{name}, then preferences"), trained: 0, figures: Vec::new() };
        for seed in 1..=self.settings.seeds {
            let mut recipe = Recipe::load(then)?;
            recipe.data.train.clone_from(&Recipe::load_with(&self.settings.recipe, &self.settings.set)?.data.train);
            let from = self.folder(name, seed);
            let before = Recipe::load_with(&self.settings.recipe, &self.settings.set)?;
            let lora = recipe.lora.as_mut().context("the recipe of --then needs a section [lora]")?;
            if name == "LoRA" {
                lora.start = Some(from);
                recipe.base.model.clone_from(&before.base.model);
                recipe.dpo.reference = Reference::Start;
            } else {
                recipe.base.model = from.join("base");
                lora.start = None;
                recipe.dpo.reference = Reference::Base;
            }
            recipe.run.seed = seed;
            recipe.run.out = self.folder(&row.name, seed);
            let opened = OpenedTask::on(&recipe, self.graph, self.found)?;
            row.trained = opened.model().trained();
            row.figures.push(Self::train(&recipe, opened)?);
        }
        self.printer.note(&format!("{}: {} runs", row.name, self.settings.seeds));
        Ok(row)
    }

    fn train(recipe: &Recipe, opened: OpenedTask) -> Result<NamedFigures> {
        let ran = train(recipe, opened, &Printer::new(false, true))?;
        Ok(ran.test.expect("a graph keeps nodes or edges for testing, and nobody stops the run"))
    }

    fn folder(&self, name: &str, seed: u64) -> PathBuf {
        let name: String = name.chars().map(|c| if c.is_alphanumeric() { c } else { '-' }).collect();
        self.settings.out.join(name).join(seed.to_string())
    }
}

fn show(rows: &[AblationRow], objective: Objective, printer: &Printer) {
    let names: Vec<&str> = rows
        .iter()
        .flat_map(|row| &row.figures)
        .max_by_key(|figures| figures.len())
        .map_or_else(Vec::new, |figures| figures.iter().map(|(name, _)| *name).collect());
    printer.line(&format!("| | trained | {} |", names.join(" | ")));
    printer.line(&format!("|---|---|{}", "---|".repeat(names.len())));
    let mut objects = Vec::new();
    for AblationRow { name, trained, figures } in rows {
        let mut object = Map::new();
        let cells = names.iter().map(|wanted| {
            let of = |figures: &NamedFigures| figures.iter().find(|(name, _)| name == wanted).map(|(_, value)| *value);
            let values: Vec<f64> = figures.iter().filter_map(of).collect();
            if values.is_empty() {
                return String::new();
            }
            let (mean, deviation) = mean_and_deviation(&values);
            object.insert((*wanted).to_owned(), json!({ "mean": mean, "sd": deviation, "by_seed": values }));
            if values.len() > 1 { format!("{mean:.4} ± {deviation:.4}") } else { format!("{mean:.4}") }
        });
        let cells: Vec<String> = cells.collect();
        printer.line(&format!("| {name} | {trained} | {} |", cells.join(" | ")));
        objects.push(json!({ "name": name, "trained": trained, "figures": Value::Object(object) }));
    }
    printer.object(&json!({ "objective": objective, "ways": objects }));
}
