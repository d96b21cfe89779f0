//! A recipe's task on its graph, opened: what the host runs, and what it writes down about it.

use std::path::Path;

use ftk_bases::graphs;
use ftk_networks::graphs::MessageKind;

use super::contrast::ContrastSession;
use super::edges::EdgeSession;
use super::error::GraphError;
use super::graph::{Carries, Graph, ImportFindings, NodeSplit};
use super::import::{Origin, import};
use super::learner::Learner;
use super::links::LinkSession;
use super::measures::NamedFigures;
use super::model::GraphModel;
use super::nodes::NodeSession;
use super::settings::{Gnn, Objective, Split};
use super::streaming::StreamSession;
use ftk_recipes::Recipe;
use ftk_recipes::Session;

/// A task that is ready to run.
#[derive(Debug)]
pub struct OpenedTask {
    task: Box<dyn Learner>,
    /// Digest of the graph.
    pub digest: blake3::Hash,
    /// Root its nodes hang from.
    pub root: blake3::Hash,
    /// Digest of the weights training starts from.
    pub base: blake3::Hash,
    found: ImportFindings,
    /// What the task does not look at.
    unread: Option<String>,
    size: [usize; 2],
}

impl OpenedTask {
    /// Reads the graph and opens the task.
    ///
    /// # Errors
    /// Whatever is wrong with the graph, the base or what is asked of them.
    pub fn new(recipe: &Recipe) -> Result<Self, GraphError> {
        let (graph, found) = import(&Origin::Path(recipe.data.train.clone()))?;
        Self::on(recipe, &graph, found)
    }

    /// Opens the task on a graph that was read already.
    ///
    /// # Errors
    /// As [`OpenedTask::new`].
    pub fn on(recipe: &Recipe, graph: &Graph, found: ImportFindings) -> Result<Self, GraphError> {
        let gnn = of(recipe)?;
        let task: Box<dyn Learner> = match gnn.objective {
            Objective::Classes => Box::new(NodeSession::open(recipe, gnn, graph)?),
            Objective::Feedback if !graph.carries.direction => Box::new(NodeSession::open(recipe, gnn, graph)?),
            Objective::Ratings if gnn.split == Split::Stream => Box::new(StreamSession::open(recipe, gnn, graph)?),
            Objective::Ratings | Objective::Feedback => Box::new(EdgeSession::open(recipe, gnn, graph)?),
            Objective::Links => Box::new(LinkSession::open(recipe, gnn, graph)?),
            Objective::Contrast => Box::new(ContrastSession::open(recipe, gnn, graph)?),
        };
        if recipe.run.best.is_some() && !task.validates() {
            let hint = "give some of the validation part, or leave out run.best: the last state is kept then";
            return Err(GraphError::unfit("run.best chooses by what is validated on, and there is nothing", hint));
        }
        let used = match gnn.objective {
            Objective::Classes | Objective::Contrast => {
                let weight = task.model().network.messages == MessageKind::Weighed;
                Carries { weight, ..Carries::default() }
            }
            Objective::Links => Carries { weight: false, time: gnn.split == Split::Temporal, direction: true },
            Objective::Ratings | Objective::Feedback => Carries { weight: true, time: true, direction: true },
        };
        let model = task.model();
        let base = graphs::digest(&model.network, &model.weights)?;
        let size = [graph.nodes, graph.edges.len()];
        Ok(Self { digest: graph.digest(), root: graph.root(), base, found, unread: graph.unread(used), size, task })
    }

    /// What the host runs.
    pub fn session(&self) -> &dyn Session {
        &*self.task
    }

    /// The model as it stands.
    pub fn model(&self) -> &GraphModel {
        self.task.model()
    }

    /// How the model does on a part of the split.
    ///
    /// # Errors
    /// The device's.
    pub fn figures(&self, part: NodeSplit) -> Result<NamedFigures, GraphError> {
        self.task.figures(part)
    }

    /// What predictors without a network do on what is tested: name, parameters, figures.
    pub fn baselines(&self, graph: &Graph) -> Vec<(&'static str, usize, NamedFigures)> {
        self.task.baselines(graph)
    }

    /// The same with nothing trained but the head.
    #[must_use]
    pub fn head_alone(mut self) -> Self {
        self.task.model_mut().train_head_alone();
        self
    }

    /// Writes what was trained; names the files with weights.
    ///
    /// # Errors
    /// The file system's; an adapter that does not fit the grid.
    pub fn export(&self, out: &Path, base: &str) -> Result<Vec<&'static str>, GraphError> {
        self.model().export(out, base)
    }

    /// What is worth a word about the graph, and what of it is not used.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = self.found.notes();
        notes.extend(self.unread.clone());
        notes.extend(self.task.notes());
        notes
    }

    /// How much there is of what.
    pub fn counts(&self) -> Vec<(&'static str, usize)> {
        let [train, validation, test] = self.task.counts();
        let model = self.model();
        vec![
            ("nodes", self.size[0]),
            ("edges", self.size[1]),
            ("train", train),
            ("validation", validation),
            ("test", test),
            ("base_parameters", model.network.parameters()),
            ("trained_parameters", model.trained()),
        ]
    }
}

impl ImportFindings {
    /// What is worth a word.
    pub fn notes(&self) -> Vec<String> {
        let Self { duplicates, merged, loops, out_of_order, isolated, unlabelled, known } = self;
        [
            (duplicates, "edges that were there twice are once"),
            (merged, "of them differed by digits of their weight beyond the 32 bits that are kept"),
            (loops, "edges from a node to itself are left out"),
            (out_of_order, "edges stood behind a later one and are put in order"),
            (isolated, "nodes have no edge"),
            (unlabelled, "nodes have no class"),
            (known, "edges held out join nodes that an edge of an earlier part joins, and are of that part"),
        ]
        .into_iter()
        .filter(|(count, _)| **count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect()
    }
}

/// The recipe's table for graphs.
///
/// # Errors
/// A recipe of another task.
pub fn of(recipe: &Recipe) -> Result<&Gnn, GraphError> {
    let missing = || GraphError::unfit("the recipe is not one for a graph", "write task = \"gnn\" and a section [gnn]");
    recipe.gnn.as_ref().ok_or_else(missing)
}
