//! The task of graphs at the door of tasks.

use std::path::Path;

use anyhow::Result;
use candle_core::{DType, Device, Tensor};
use ftk_gnn as gnn;
use ftk_gnn::graph::NodeSplit;
use ftk_gnn::rule::GraphRule;
use ftk_recipes::{BUILTIN, Metrics, Recipe, Session};
use serde_json::{Map, Value, json};

use super::super::run::manifest::{RunInputs, hex, of_file};
use super::super::run::{Ran, RunControl, in_folder, refuse_to_replace};
use super::super::task::{self, Estimation, Evaluation, OpenedRun, PreviewOptions, StartFile, Telling, Trainer};
use super::super::{Advice, Outcome};
use crate::arithmetic;
use crate::cli::printer::Printer;
use crate::prove::cost::beyond_rank;
use crate::train::{self, RunIdentity};

/// The task of graphs.
pub(in super::super) struct Graphs;

impl task::TaskCommands for Graphs {
    fn name(&self) -> &'static str {
        "gnn"
    }

    fn starts(&self) -> Result<Vec<StartFile>> {
        Ok(BUILTIN.iter().filter(|file| file.name.starts_with("gnn/")).map(StartFile::recipe).collect())
    }

    fn loss(&self, rule: &Value, inputs: &[Tensor]) -> Option<candle_core::Result<Vec<Tensor>>> {
        Some(serde_json::from_value::<GraphRule>(rule.clone()).ok()?.compute(inputs))
    }

    fn trainer(&self) -> Option<&dyn Trainer> {
        Some(self)
    }
}

impl Trainer for Graphs {
    fn takes(&self) -> &'static [ftk_recipes::Task] {
        &[ftk_recipes::Task::Gnn]
    }

    fn fetch(&self, _: &mut Recipe, _: bool, _: &Printer) -> Result<()> {
        // Graphs and their bases are files.
        Ok(())
    }

    fn plan(&self, recipe: &Recipe) -> Result<Box<dyn task::RunPlan>> {
        Ok(Box::new(GnnRun::new(recipe, gnn::OpenedTask::new(recipe)?)?))
    }

    fn eval(&self, mut recipe: Recipe, settings: &Evaluation, printer: &Printer) -> Result<Outcome> {
        if let Some(graph) = &settings.data {
            recipe.data.train.clone_from(graph);
        }
        super::eval(recipe, settings.adapter.as_deref(), printer)
    }

    fn estimate(&self, _: Recipe, _: &Estimation, _: &Printer) -> Result<Outcome> {
        no_rows("ftk train --dry-run counts what a run on a graph learns from and trains")
    }

    fn preview(&self, _: Recipe, _: &PreviewOptions, _: &Printer) -> Result<Outcome> {
        no_rows("ftk gnn import GRAPH checks a graph and says what it holds")
    }
}

fn no_rows(instead: &str) -> Result<Outcome> {
    Err(Advice::new("task \"gnn\" has no rows of text", instead).into())
}

/// Trains what is open already, in the run folder of the recipe, to its end.
pub(super) fn train(recipe: &Recipe, opened: gnn::OpenedTask, printer: &Printer) -> Result<Ran> {
    let start = train::Start::Fresh;
    refuse_to_replace(recipe, start)?;
    in_folder(recipe, &mut GnnRun::new(recipe, opened)?, start, RunControl::NONE, printer)
}

/// A run whose graph and base are read.
struct GnnRun {
    recipe: Recipe,
    opened: gnn::OpenedTask,
    inputs: RunInputs,
}

impl GnnRun {
    fn new(recipe: &Recipe, opened: gnn::OpenedTask) -> Result<Self> {
        let inputs = inputs(recipe, &opened)?;
        Ok(Self { recipe: recipe.clone(), opened, inputs })
    }

    /// What is to be said before training.
    fn notes(&self) -> Vec<String> {
        let lora = self.recipe.lora.as_ref().filter(|lora| lora.start.is_none());
        let rank = lora.and_then(|lora| lora.rank_pattern.values().copied().chain([lora.rank]).max());
        let beyond = rank.and_then(beyond_rank);
        self.opened.notes().into_iter().chain(beyond).collect()
    }

    fn counted(&self) -> Value {
        let named = self.opened.counts().into_iter().map(|(name, value)| (name.to_owned(), json!(value)));
        Value::Object(named.collect())
    }
}

impl task::RunPlan for GnnRun {
    fn show(&self, printer: &Printer) -> Result<()> {
        self.notes().iter().for_each(|note| printer.note(note));
        printer.text(&toml::to_string(&self.recipe.resolved())?);
        for (name, value) in self.opened.counts() {
            printer.line(&format!("# {name}: {value}"));
        }
        printer.object(&json!({ "recipe": self.recipe.resolved(), "counts": self.counted() }));
        Ok(())
    }

    fn open(self: Box<Self>, _: &Device) -> Result<Box<dyn OpenedRun>> {
        Ok(self)
    }
}

impl OpenedRun for GnnRun {
    fn session(&self) -> &dyn Session {
        self.opened.session()
    }

    fn inputs(&self) -> &RunInputs {
        &self.inputs
    }

    fn counts(&self) -> Value {
        self.counted()
    }

    fn announce(&self, printer: &Printer) {
        self.notes().iter().for_each(|note| printer.note(note));
        printer.object(&json!({ "data": [self.counted()] }));
    }

    fn telling(&self, _: &Path) -> Telling {
        Telling { rate: false, figures: &["eval_accuracy"], signs: Box::new(|_, _| Vec::new()) }
    }

    fn export(&self, folder: &Path) -> Result<Vec<&'static str>> {
        Ok(self.opened.export(folder, &self.recipe.base.model.to_string_lossy())?)
    }

    fn test(&self) -> Result<Option<Metrics>> {
        Ok(Some(self.opened.figures(NodeSplit::Test)?))
    }
}

/// What goes into a run: recipe (but for the places it names), graph, base and feedback.
fn inputs(recipe: &Recipe, opened: &gnn::OpenedTask) -> Result<RunInputs> {
    let feedback = recipe.gnn.as_ref().and_then(|gnn| gnn.feedback.as_ref());
    let feedback = feedback.map(|path| of_file(path)).transpose()?;
    let recipe = recipe.without_places();
    let text = recipe.to_string();
    // Graphs are computed on the host.
    let arithmetic = arithmetic::name(&Device::Cpu, DType::F32, false);
    let mut hash = blake3::Hasher::new_derive_key("ftk training run on a graph");
    hash.update(&(arithmetic.len() as u64).to_le_bytes()).update(arithmetic.as_bytes());
    hash.update(opened.digest.as_bytes()).update(opened.base.as_bytes());
    hash.update(&(text.len() as u64).to_le_bytes()).update(text.as_bytes());
    if let Some(feedback) = &feedback {
        hash.update(feedback.as_bytes());
    }
    let data = json!({
        "graph": hex(&opened.digest), "root": hex(&opened.root), "feedback": feedback.as_ref().map(hex),
    });
    let mut said = Map::new();
    said.insert("base".to_owned(), json!(hex(&opened.base)));
    said.insert("data".to_owned(), data);
    Ok(RunInputs::new(recipe, said, RunIdentity { digest: *hash.finalize().as_bytes(), arithmetic }))
}
