//! What the verbs need of a task, and what it needs of them. Which tasks there are stands in `tasks`; what a run does
//! with one that is open, in `run`.

use std::path::{Path, PathBuf};

use anyhow::Result;
use candle_core::{Device, Tensor};
use ftk_recipes::{Builtin, Metrics, Recipe, Session};
use serde_json::Value;

use super::Outcome;
use super::run::manifest::RunInputs;
use crate::cli::printer::Printer;
use crate::train::StepReport;

/// A task.
pub(super) trait TaskCommands: Sync {
    /// The folder of what it ships, and the name of its own verbs if it has any.
    fn name(&self) -> &'static str;

    /// What there is to start from.
    ///
    /// # Errors
    /// None but those of a file that ships broken.
    fn starts(&self) -> Result<Vec<StartFile>>;

    /// What the files may hold that it starts from, as a JSON Schema.
    fn schema(&self) -> Value {
        Recipe::schema()
    }

    /// Reads a file of its own kind, with settings laid over it, if it is one; none of a recipe, which says its task.
    ///
    /// # Errors
    /// A file of its kind that is wrong.
    fn check(&self, _file: &Path, _set: &[String]) -> Result<Option<Value>> {
        Ok(None)
    }

    /// What a loss of its own gives of these inputs, by a rule that a record of a step names; nothing of another rule.
    fn loss(&self, _rule: &Value, _inputs: &[Tensor]) -> Option<candle_core::Result<Vec<Tensor>>> {
        None
    }

    /// What it does with recipes; nothing where it takes none.
    fn trainer(&self) -> Option<&dyn Trainer>;
}

/// A file to start from.
pub(super) struct StartFile {
    pub(super) file: &'static Builtin,
    /// The command that takes it.
    pub(super) taker: &'static str,
    /// A file it needs that does not ship with it.
    pub(super) needs: Option<PathBuf>,
}

impl StartFile {
    /// A recipe.
    pub(super) fn recipe(file: &'static Builtin) -> Self {
        Self { file, taker: "ftk train", needs: None }
    }
}

/// What a task does with recipes of its own.
pub(super) trait Trainer: Sync {
    /// What those recipes call it.
    fn takes(&self) -> &'static [ftk_recipes::Task];

    /// Brings here what a recipe names elsewhere.
    ///
    /// # Errors
    /// What cannot be had.
    fn fetch(&self, recipe: &mut Recipe, offline: bool, printer: &Printer) -> Result<()>;

    /// Reads what a run learns from, and checks all that can be checked before it is trained on.
    ///
    /// # Errors
    /// Rows, base or adapter: whatever is wrong with them.
    fn plan(&self, recipe: &Recipe) -> Result<Box<dyn RunPlan>>;

    /// Measures a base, with or without an adapter, on what it was not trained on.
    ///
    /// # Errors
    /// As [`Trainer::plan`].
    fn eval(&self, recipe: Recipe, settings: &Evaluation, printer: &Printer) -> Result<Outcome>;

    /// Says what a run needs of memory.
    ///
    /// # Errors
    /// As [`Trainer::plan`].
    fn estimate(&self, recipe: Recipe, settings: &Estimation, printer: &Printer) -> Result<Outcome>;

    /// Shows rows of a recipe as the model will see them.
    ///
    /// # Errors
    /// As [`Trainer::plan`].
    fn preview(&self, recipe: Recipe, settings: &PreviewOptions, printer: &Printer) -> Result<Outcome>;
}

/// What a measurement is told beside its recipe.
pub struct Evaluation {
    /// PEFT adapter folder.
    pub adapter: Option<PathBuf>,
    /// What to measure on, instead of what the recipe names.
    pub data: Option<PathBuf>,
    /// Where it is computed.
    pub device: Device,
    /// Fetch nothing that the recipe names on the hub.
    pub offline: bool,
}

/// What an estimate is told beside its recipe.
pub struct Estimation {
    /// Adapter that commitment and proof are estimated for, instead of the recipe's.
    pub adapter: Option<PathBuf>,
    /// Tokens that a proof runs the base on; none of one that is not asked about.
    pub tokens: u64,
    /// Fetch nothing that the recipe names on the hub.
    pub offline: bool,
}

/// What a look at rows is told beside its recipe.
pub struct PreviewOptions {
    /// How many to show.
    pub rows: usize,
    /// Fetch nothing that the recipe names on the hub.
    pub offline: bool,
}

/// A run of which everything is known that can be known without training.
pub(super) trait RunPlan {
    /// Shows the resolved recipe and what there is to do.
    ///
    /// # Errors
    /// A recipe that cannot be written down.
    fn show(&self, printer: &Printer) -> Result<()>;

    /// Opens what is trained.
    ///
    /// # Errors
    /// The device's; weights that cannot be read.
    fn open(self: Box<Self>, device: &Device) -> Result<Box<dyn OpenedRun>>;
}

/// A run that can begin.
pub(super) trait OpenedRun {
    /// What the host trains.
    fn session(&self) -> &dyn Session;

    /// What goes into the run.
    fn inputs(&self) -> &RunInputs;

    /// How much there is of what, by name; files are not named, so that a run elsewhere has the same.
    fn counts(&self) -> Value;

    /// Says what is worth a word before the run, and what became of the rows.
    fn announce(&self, printer: &Printer);

    /// Computes what is computed once, into the run folder, which is the run's already.
    ///
    /// # Errors
    /// The device's and the file system's.
    fn begin(&mut self, _out: &Path, _printer: &Printer) -> Result<()> {
        Ok(())
    }

    /// What is said of the steps, of which some may be written down at `out` already.
    fn telling(&self, out: &Path) -> Telling;

    /// The first value that has grown beyond what can be written, which no run that learns comes near.
    fn beyond(&self) -> Option<String> {
        None
    }

    /// Writes what is trained, as it stands, into a folder, and names its files with weights.
    ///
    /// # Errors
    /// The file system's; what the format does not hold.
    fn export(&self, folder: &Path) -> Result<Vec<&'static str>>;

    /// Figures on what was kept for testing; `None` of a task that keeps nothing.
    ///
    /// # Errors
    /// The device's.
    fn test(&self) -> Result<Option<Metrics>> {
        Ok(None)
    }
}

/// Looks at every step and, when asked, gives the signs it has seen since it was asked last; unasked, one that ends the
/// run. Each comes with whether it does.
pub(super) type Signs = Box<dyn FnMut(&StepReport, bool) -> Vec<(String, bool)>>;

/// What is said of a step beside its loss.
pub(super) struct Telling {
    /// How many tokens a second there were.
    pub(super) rate: bool,
    /// Figures, where a step has them.
    pub(super) figures: &'static [&'static str],
    /// That something is wrong.
    pub(super) signs: Signs,
}
