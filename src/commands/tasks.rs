//! Which tasks there are: the one place that names them all.

use candle_core::Tensor;
use serde_json::Value;

use super::task::{TaskCommands, Trainer};
use super::{defi, gnn, text};

/// Every task, in the order in which what they ship is listed.
pub(super) static TASKS: [&dyn TaskCommands; 3] = [&text::TextTask, &gnn::task::Graphs, &defi::Markets];

/// The one that takes recipes of this task.
pub(super) fn of(task: ftk_recipes::Task) -> &'static dyn Trainer {
    let mut trainers = TASKS.iter().filter_map(|it| it.trainer());
    trainers.find(|trainer| trainer.takes().contains(&task)).expect("a test finds a taker for every task of recipes")
}

/// What a loss gives of these inputs, by a rule in the words of whichever task it is of. All of it may be foreign.
///
/// # Errors
/// A rule of no task; inputs that do not fit.
pub(super) fn loss(rule: &Value, inputs: &[Tensor]) -> candle_core::Result<Vec<Tensor>> {
    let unknown = || Err(candle_core::Error::Msg("names a loss that no task has".to_owned()));
    TASKS.iter().find_map(|task| task.loss(rule, inputs)).unwrap_or_else(unknown)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use ftk_recipes::Recipe;

    use super::super::task::StartFile;
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
    fn every_shipped_file_has_a_name_of_its_own_and_is_read_by_the_task_that_ships_it() {
        let mut names = BTreeSet::new();
        for task in TASKS {
            let starts = task.starts().unwrap();
            assert!(!starts.is_empty(), "{}", task.name());
            for StartFile { file, .. } in starts {
                assert!(names.insert(file.name), "{}", file.name);
                let Some(trainer) = task.trainer() else { continue };
                let recipe = Recipe::parse(Path::new(file.name), file.text).unwrap();
                assert!(trainer.takes().contains(&recipe.task), "{}", file.name);
            }
        }
    }
}
