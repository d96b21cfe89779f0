//! Every task at one door: what the verbs need of a task, and which tasks there are. No verb names one.

use std::path::Path;

use anyhow::Result;
use candle_core::Device;
use ftk_recipes::{Builtin, Metrics, Recipe, Session};
use serde_json::Value;

use super::train::manifest::Inputs;
use super::{Outcome, data, defi, estimate, eval, gnn, text};
use crate::cli::printer::Printer;
use crate::train::Step;

/// A task.
pub(super) trait Task: Sync {
    /// The folder of what it ships, and the name of its own verbs if it has any.
    fn name(&self) -> &'static str;

    /// What there is to start from.
    ///
    /// # Errors
    /// None but those of a file that ships broken.
    fn starts(&self) -> Result<Vec<Start>>;

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

    /// What it does with recipes; nothing where it takes none.
    fn trainer(&self) -> Option<&dyn Trainer>;
}

/// A file to start from.
pub(super) struct Start {
    pub(super) file: &'static Builtin,
    /// The command that takes it.
    pub(super) taker: &'static str,
    /// A file it needs that does not ship with it.
    pub(super) needs: Option<std::path::PathBuf>,
}

impl Start {
    /// A recipe.
    pub(super) fn recipe(file: &'static Builtin) -> Self {
        Self { file, taker: "ftk train --recipe", needs: None }
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
    fn plan(&self, recipe: &Recipe) -> Result<Box<dyn Plan>>;

    /// Measures a base, with or without an adapter, on what it was not trained on.
    ///
    /// # Errors
    /// As [`Trainer::plan`].
    fn eval(&self, recipe: Recipe, settings: &eval::Settings, printer: &Printer) -> Result<Outcome>;

    /// Says what a run needs of memory.
    ///
    /// # Errors
    /// As [`Trainer::plan`].
    fn estimate(&self, recipe: Recipe, settings: &estimate::Settings, printer: &Printer) -> Result<Outcome>;

    /// Shows so many of the rows of a recipe as the model will see them.
    ///
    /// # Errors
    /// As [`Trainer::plan`].
    fn preview(&self, recipe: Recipe, settings: &data::Settings, printer: &Printer) -> Result<Outcome>;
}

/// A run of which everything is known that can be known without training.
pub(super) trait Plan {
    /// Shows the resolved recipe and what there is to do.
    ///
    /// # Errors
    /// A recipe that cannot be written down.
    fn show(&self, printer: &Printer) -> Result<()>;

    /// Opens what is trained.
    ///
    /// # Errors
    /// The device's; weights that cannot be read.
    fn open(self: Box<Self>, device: &Device) -> Result<Box<dyn Opened>>;
}

/// A run that can begin.
pub(super) trait Opened {
    /// What the host trains.
    fn session(&self) -> &dyn Session;

    /// What goes into the run.
    fn inputs(&self) -> &Inputs;

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

/// What is said of a step beside its loss.
pub(super) struct Telling {
    /// How many tokens a second there were.
    pub(super) rate: bool,
    /// Figures, where a step has them.
    pub(super) figures: &'static [&'static str],
    /// Looks at every step and, when asked, gives the signs it has seen since it was asked last.
    pub(super) signs: Box<dyn FnMut(&Step, bool) -> Vec<String>>,
}

/// Every task, in the order in which what they ship is listed.
pub(super) static TASKS: [&dyn Task; 3] = [&text::Text, &gnn::task::Graphs, &defi::Markets];

/// The one that takes recipes of this task.
pub(super) fn of(task: ftk_recipes::Task) -> &'static dyn Trainer {
    let mut trainers = TASKS.iter().filter_map(|it| it.trainer());
    trainers.find(|trainer| trainer.takes().contains(&task)).expect("a test finds a taker for every task of recipes")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use ftk_recipes::{BUILTIN, PLANS};

    use super::*;

    #[test]
    fn every_task_of_recipes_has_one_taker_and_every_name_one_task() {
        for task in ftk_recipes::Task::ALL {
            let takers = TASKS.iter().filter_map(|it| it.trainer()).filter(|trainer| trainer.takes().contains(&task));
            assert_eq!(takers.count(), 1, "{}", task.name());
        }
        let names: BTreeSet<&str> = TASKS.iter().map(|task| task.name()).collect();
        assert_eq!(names.len(), TASKS.len());
    }

    #[test]
    fn every_shipped_file_is_started_from_by_one_task_and_read_as_its_own() {
        let mut shipped = Vec::new();
        for task in TASKS {
            let starts = task.starts().unwrap();
            assert!(!starts.is_empty(), "{}", task.name());
            for Start { file, .. } in starts {
                shipped.push(file.name);
                let Some(trainer) = task.trainer() else { continue };
                let recipe = Recipe::parse(Path::new(file.name), file.text).unwrap();
                assert!(trainer.takes().contains(&recipe.task), "{}", file.name);
            }
        }
        shipped.sort_unstable();
        let mut all: Vec<&str> = BUILTIN.iter().chain(PLANS).map(|file| file.name).collect();
        all.sort_unstable();
        assert_eq!(shipped, all);
    }
}
