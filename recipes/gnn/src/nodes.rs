//! The session that learns the class of nodes, from labels or from preferences between classes.

use std::sync::Arc;

use candle_core::Tensor;
use ftk_adapters::train::Train;
use ftk_networks::graphs::{End, GraphNetworkKind, Head, Hop, MessageKind};
use ftk_networks::ops::graph::Features;

use super::error::GraphError;
use super::feedback::{self, FeedbackChoice};
use super::graph::{Graph, NodeSplit};
use super::inputs;
use super::labels::Labels;
use super::learner::Learner;
use super::measures::{self, NamedFigures};
use super::model::GraphModel;
use super::rule::{self, GraphRule, JudgedOutputs};
use super::sample;
use super::settings::{Gnn, Objective};
use super::split;
use ftk_recipes::Recipe;
use ftk_recipes::preference::rule::{LossConstants, tensor};
use ftk_recipes::{BatchLoss, Metrics, Session, StepWindow, TaskError};

/// Nodes a pass that is not recorded draws the neighbourhoods of at once.
const AT_ONCE: usize = 1024;

/// A task on the nodes of a graph.
#[derive(Debug)]
pub struct NodeSession {
    /// What is trained.
    pub model: GraphModel,
    features: Arc<Features>,
    labels: Labels,
    rows: Vec<NodeExample>,
    held_out: Vec<NodeExample>,
    view: View,
    /// Of preferences.
    loss: LossConstants,
}

/// What is learnt from at once: a node and its class, or a class preferred over another.
#[derive(Clone, Copy, Debug)]
struct NodeExample {
    node: usize,
    chosen: u32,
    rejected: Option<u32>,
    /// Logit of the chosen above the rejected class without the adapter.
    reference: f64,
}

/// How nodes see each other.
#[derive(Debug)]
enum View {
    /// All at once.
    Whole(Vec<Hop>),
    /// Neighbourhoods drawn for each step.
    Drawn { lists: Vec<Vec<u32>>, times: Vec<f64>, most: Vec<usize> },
}

impl NodeSession {
    /// Opens the task.
    ///
    /// # Errors
    /// A graph without classes, features or such a split; a base that does not fit; feedback that is malformed.
    pub fn open(recipe: &Recipe, gnn: &Gnn, graph: &Graph) -> Result<Self, GraphError> {
        let parts = split::nodes(graph, gnn, recipe.run.seed)?;
        let features = inputs::features(graph, GraphModel::prepare(recipe, gnn)?)?;
        let classes = graph.classes.len();
        // A base knows what it ends in.
        let linear = match GraphModel::known(recipe)? {
            Some(network) => matches!(network.head, End::Linear(_) | End::Encoder),
            None => gnn.head == Head::Linear,
        };
        let end = if linear { End::Linear(classes) } else { End::Convolution(classes) };
        let model = GraphModel::open(recipe, gnn, features.width(), end)?;
        inputs::carries_weights(graph, recipe, gnn)?;
        let layers = model.network.layers;
        let heard = inputs::heard(graph, model.network.messages)?;
        let view = match &gnn.neighbours {
            None => View::Whole(inputs::hops_of(&model.network, &heard)),
            Some(most) => {
                if model.network.messages == MessageKind::Weighed {
                    let message = "neighbours cannot be drawn for a base that weighs messages";
                    return Err(GraphError::unfit(message, "leave out gnn.neighbours"));
                }
                if model.network.model_type != GraphNetworkKind::Sage || most.len() != layers {
                    let message = "neighbours can be drawn for gnn.network = \"sage\", so many for each convolution";
                    return Err(GraphError::unfit(
                        message,
                        "leave out gnn.neighbours, or give a number for each layer",
                    ));
                }
                View::Drawn { lists: inputs::whom(&heard), times: graph.times.clone(), most: most.clone() }
            }
        };
        let labels = Labels::new(graph.labels.clone(), parts);
        let labelled = |part: NodeSplit| -> Vec<NodeExample> {
            let row = |(node, chosen)| NodeExample { node, chosen, rejected: None, reference: 0.0 };
            labels.of(part).into_iter().map(row).collect()
        };
        let (rows, held_out) = (labelled(NodeSplit::Train), labelled(NodeSplit::Validation));
        let loss = LossConstants::from(&recipe.dpo);
        let mut session = Self { model, features, labels, rows, held_out, view, loss };
        if gnn.objective == Objective::Feedback {
            if recipe.dpo.supervised() > 0.0 {
                let hint = "leave out dpo.sft_weight: a preference between classes of a node names no target";
                return Err(GraphError::unfit("dpo.sft_weight is for preferences between targets", hint));
            }
            let choices = feedback::nodes(gnn, graph)?;
            let of = |part: NodeSplit| {
                let choices = choices.iter().filter(|choice| session.labels.part(choice.subject) == part);
                let row = |&FeedbackChoice { subject: node, chosen, rejected, .. }: &FeedbackChoice| NodeExample {
                    node,
                    chosen,
                    rejected: Some(rejected),
                    reference: 0.0,
                };
                choices.map(row).collect::<Vec<_>>()
            };
            let rows = [of(NodeSplit::Train), of(NodeSplit::Validation)];
            if rows[0].is_empty() {
                let hint = "feedback must name nodes that the split trains on";
                return Err(GraphError::unfit("no feedback is about a node to train on", hint));
            }
            [session.rows, session.held_out] = rows;
            if session.loss.cost().has_reference() {
                session.refer()?;
            }
        }
        Ok(session)
    }

    /// Computes the reference's figures of every preference.
    fn refer(&mut self) -> Result<(), GraphError> {
        let nodes: Vec<usize> = self.rows.iter().chain(&self.held_out).map(|row| row.node).collect();
        let logits = self.logits_with(&nodes, |model| model.bare())?;
        let classes = logits.len() / nodes.len().max(1);
        for (row, logits) in self.rows.iter_mut().chain(&mut self.held_out).zip(logits.chunks_exact(classes)) {
            row.reference = row.margin(logits);
        }
        Ok(())
    }

    /// Logits `(nodes.len(), classes)` as the model stands.
    ///
    /// # Errors
    /// The device's.
    pub fn logits(&self, nodes: &[usize]) -> Result<Vec<f32>, GraphError> {
        self.logits_with(nodes, GraphModel::applied)
    }

    fn logits_with<'a>(
        &'a self,
        nodes: &[usize],
        pass: impl Fn(&'a GraphModel) -> Train<'a>,
    ) -> Result<Vec<f32>, GraphError> {
        let network = &self.model.network;
        let values = |logits: Tensor| -> Result<Vec<f32>, GraphError> { Ok(logits.flatten_all()?.to_vec1::<f32>()?) };
        match &self.view {
            View::Whole(hops) => values(network.classify(&mut pass(&self.model), &self.features, hops, nodes)?),
            View::Drawn { lists, times, .. } => {
                let mut all = Vec::new();
                for nodes in nodes.chunks(AT_ONCE) {
                    let sample = sample::draw(lists, times, nodes, &vec![usize::MAX; network.layers], 0);
                    let features = Arc::new(self.features.select(&sample.nodes));
                    let rows: Vec<usize> = (0..nodes.len()).collect();
                    all.extend(values(network.classify(&mut pass(&self.model), &features, &sample.hops, &rows)?)?);
                }
                Ok(all)
            }
        }
    }

    /// Sum of losses over rows, its gradient with respect to their logits, and how many are told rightly.
    fn judge(&self, rows: &[&NodeExample], logits: &[f32]) -> (JudgedOutputs, f64) {
        let width = logits.len() / rows.len();
        let hit = |(row, logits): (&&NodeExample, &[f32])| match row.preferred() {
            Some(_) => row.margin(logits) > 0.0,
            None => measures::largest(logits) == row.chosen as usize,
        };
        let right = rows.iter().zip(logits.chunks_exact(width)).filter(|&row| hit(row)).count();
        let judged = match preferences(rows) {
            Some((classes, references)) => rule::preferred_classes(&*self.loss.cost(), logits, &classes, &references),
            None => rule::classes(logits, &chosen(rows)),
        };
        (judged, right as f64)
    }

    /// What [`NodeSession::judge`] judges by, and what it compares logits with.
    fn described(&self, rows: &[&NodeExample]) -> candle_core::Result<(GraphRule, Vec<Tensor>)> {
        let Some((classes, references)) = preferences(rows) else {
            return Ok((GraphRule::Classes {}, vec![rule::numbers(&chosen(rows))?]));
        };
        let [chosen, rejected] = [0, 1].map(|at| classes.iter().map(|pair| pair[at]).collect::<Vec<u32>>());
        let beside = vec![rule::numbers(&chosen)?, rule::numbers(&rejected)?, tensor(&references)?];
        Ok((GraphRule::PreferredClasses { loss: self.loss }, beside))
    }
}

/// The class of each row.
fn chosen(rows: &[&NodeExample]) -> Vec<u32> {
    rows.iter().map(|row| row.chosen).collect()
}

/// Of rows that are preferences: which class is preferred over which, and the reference's margins.
fn preferences(rows: &[&NodeExample]) -> Option<(Vec<[u32; 2]>, Vec<f64>)> {
    rows.iter().map(|row| Some((row.preferred()?, row.reference))).collect()
}

impl NodeExample {
    /// The class that is preferred over another, of a preference.
    fn preferred(&self) -> Option<[u32; 2]> {
        Some([self.chosen, self.rejected?])
    }

    /// By how much the chosen class' logit lies above the rejected one's.
    fn margin(&self, logits: &[f32]) -> f64 {
        self.preferred().map_or_else(|| f64::from(logits[self.chosen as usize]), |pair| rule::margin(logits, pair))
    }
}

impl Learner for NodeSession {
    fn model(&self) -> &GraphModel {
        &self.model
    }

    fn model_mut(&mut self) -> &mut GraphModel {
        &mut self.model
    }

    fn figures(&self, part: NodeSplit) -> Result<NamedFigures, GraphError> {
        let (nodes, truth): (Vec<usize>, Vec<u32>) = self.labels.of(part).into_iter().unzip();
        if nodes.is_empty() {
            return Ok(Vec::new());
        }
        let logits = self.logits(&nodes)?;
        let classes = logits.len() / nodes.len();
        let predicted: Vec<u32> = logits.chunks_exact(classes).map(|row| measures::largest(row) as u32).collect();
        let mut figures = measures::of_classes(&predicted, &truth);
        if classes == 2 {
            let scores: Vec<f64> = logits.chunks_exact(2).map(|row| f64::from(row[1] - row[0])).collect();
            let positive: Vec<bool> = truth.iter().map(|&label| label == 1).collect();
            figures.push(("roc_auc", measures::roc_auc(&scores, &positive)));
            figures.push(("average_precision", measures::average_precision(&scores, &positive)));
        }
        Ok(figures)
    }

    fn baselines(&self, graph: &Graph) -> Vec<(&'static str, usize, NamedFigures)> {
        self.labels.baselines(&self.features, &inputs::incoming(graph))
    }

    fn validates(&self) -> bool {
        !self.held_out.is_empty()
    }

    fn counts(&self) -> [usize; 3] {
        self.labels.counts()
    }
}

impl Session for NodeSession {
    fn rows(&self) -> usize {
        self.rows.len()
    }

    fn parameters(&self) -> Vec<(String, Tensor)> {
        self.model.parameters()
    }

    fn loss(&self, rows: &[usize], window: StepWindow<'_>) -> Result<BatchLoss, TaskError> {
        let rows: Vec<&NodeExample> = rows.iter().map(|&row| &self.rows[row]).collect();
        let nodes: Vec<usize> = rows.iter().map(|row| row.node).collect();
        let first = nodes[0];
        let mut pass = self.model.learning(window.step, first);
        let network = &self.model.network;
        let logits = match &self.view {
            View::Whole(hops) => network.classify(&mut pass, &self.features, hops, &nodes)?,
            View::Drawn { lists, times, most } => {
                let key = (window.step as u64) << 32 | first as u64;
                let sample = sample::draw(lists, times, &nodes, most, key);
                let features = Arc::new(self.features.select(&sample.nodes));
                let all: Vec<usize> = (0..nodes.len()).collect();
                network.classify(&mut pass, &features, &sample.hops, &all)?
            }
        };
        let (judged, right) = self.judge(&rows, &logits.flatten_all()?.to_vec1::<f32>()?);
        let (sum, slopes) = GraphRule::shown(&logits, judged, || self.described(&rows))?;
        let (term, gradients) = self.model.regularise(pass.backward(&logits, slopes)?, rows.len() as f64)?;
        Ok(BatchLoss { sum: sum + term, gradients, metrics: vec![("accuracy", right)] })
    }

    fn evaluate(&self) -> Result<Metrics, TaskError> {
        if self.held_out.is_empty() {
            return Ok(Metrics::new());
        }
        let rows: Vec<&NodeExample> = self.held_out.iter().collect();
        let nodes: Vec<usize> = rows.iter().map(|row| row.node).collect();
        let ((sum, _), right) = self.judge(&rows, &self.logits(&nodes)?);
        let count = rows.len() as f64;
        Ok(vec![("eval_loss", sum / count), ("eval_accuracy", right / count)])
    }
}
