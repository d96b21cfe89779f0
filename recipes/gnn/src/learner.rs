//! What the tasks on a graph have in common beside the loop that trains them.

use super::error::GraphError;
use super::graph::{Graph, NodeSplit};
use super::measures::NamedFigures;
use super::model::GraphModel;
use ftk_recipes::Session;

/// A task on a graph: what is trained, and how well it does.
pub trait Learner: Session + std::fmt::Debug {
    /// What is trained.
    fn model(&self) -> &GraphModel;

    /// The same, to be changed.
    fn model_mut(&mut self) -> &mut GraphModel;

    /// How the model does on a part of the split; nothing where there is nothing to measure.
    ///
    /// # Errors
    /// The device's.
    fn figures(&self, part: NodeSplit) -> Result<NamedFigures, GraphError>;

    /// What predictors without a network do on what is tested: name, parameters, figures. Of the graph it was opened on.
    fn baselines(&self, graph: &Graph) -> Vec<(&'static str, usize, NamedFigures)>;

    /// What the task was given and makes no use of.
    fn notes(&self) -> Vec<String> {
        Vec::new()
    }

    /// Whether there is anything to choose a state by.
    fn validates(&self) -> bool {
        self.counts()[1] > 0
    }

    /// How much there is to train, validate and test on.
    fn counts(&self) -> [usize; 3];
}
