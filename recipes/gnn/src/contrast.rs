//! The session that learns from a graph without labels: which node of one view of it is the same in another (GRACE,
//! Zhu et al. 2020). A view loses edges and features by lot; what is compared lies behind two layers that are left
//! behind afterwards. Labels are looked at in [`Learner::figures`] alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::{Device, Tensor};
use ftk_adapters::train::Gradients;
use ftk_networks::graphs::{End, Hop};
use ftk_networks::ops::graph::Features;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use super::baselines::LinearModel;
use super::error::GraphError;
use super::graph::{Graph, NodeSplit};
use super::info_nce::{info_nce, unit};
use super::inputs;
use super::labels::Labels;
use super::learner::Learner;
use super::measures::{self, NamedFigures};
use super::model::GraphModel;
use super::rule::{self, GraphRule};
use super::settings::{Contrast, Gnn, Split};
use super::split;
use ftk_recipes::Recipe;
use ftk_recipes::{BatchLoss, Metrics, Session, StepWindow, TaskError};

/// A task on the nodes of a graph, whatever they are.
#[derive(Debug)]
pub struct ContrastSession {
    /// What is trained.
    pub model: GraphModel,
    features: Arc<Features>,
    labels: Labels,
    /// Nodes that are learnt from.
    rows: Vec<usize>,
    whole: Vec<Hop>,
    /// Every edge once, the smaller node first, and how much each end hears of the other, if it does.
    pairs: Vec<([u32; 2], [Option<f64>; 2])>,
    views: Contrast,
    seed: u64,
}

impl ContrastSession {
    /// Opens the task.
    ///
    /// # Errors
    /// A graph without features or, where it has classes, such a split; a base that does not fit.
    pub fn open(recipe: &Recipe, gnn: &Gnn, graph: &Graph) -> Result<Self, GraphError> {
        let features = inputs::features(graph, GraphModel::prepare(recipe, gnn)?)?;
        let model = GraphModel::open(recipe, gnn, features.width(), End::Comparer(gnn.contrast.width))?;
        let known = !graph.labels.is_empty();
        let parts = if known { split::nodes(graph, gnn, recipe.run.seed)? } else { Vec::new() };
        // What is validated and tested on by time lies in the future.
        let rows = match gnn.split {
            Split::Temporal => split::past(graph, gnn, &parts)?,
            _ => (0..graph.nodes).collect(),
        };
        let labels = Labels::new(graph.labels.clone(), parts);
        inputs::carries_weights(graph, recipe, gnn)?;
        let heard = inputs::heard(graph, model.network.messages)?;
        let mut pairs: BTreeMap<[u32; 2], [Option<f64>; 2]> = BTreeMap::new();
        for (node, list) in heard.iter().enumerate() {
            for &(other, weight) in list {
                let (ends, side) =
                    if other < node as u32 { ([other, node as u32], 1) } else { ([node as u32, other], 0) };
                pairs.entry(ends).or_default()[side] = Some(weight);
            }
        }
        let whole = inputs::hops_of(&model.network, &heard);
        let pairs = pairs.into_iter().collect();
        Ok(Self { model, features, labels, rows, whole, pairs, views: gnn.contrast, seed: recipe.run.seed })
    }

    /// Features and messages of one of the two views of a step.
    fn view(&self, step: usize, view: usize) -> (Arc<Features>, Vec<Hop>) {
        let mut hash = blake3::Hasher::new_derive_key("ftk view of a graph");
        for number in [self.seed, step as u64, view as u64] {
            hash.update(&number.to_le_bytes());
        }
        let mut rng = ChaCha8Rng::from_seed(*hash.finalize().as_bytes());
        let mut drops = |share: f64| f64::from(rng.next_u32()) < share * 2f64.powi(32);
        let dropped: Vec<bool> = (0..self.features.width()).map(|_| drops(self.views.drop_features[view])).collect();
        let mut lists = vec![Vec::new(); self.features.rows()];
        // In the order of pairs every list rises.
        for &([a, b], [first, second]) in &self.pairs {
            if !drops(self.views.drop_edges[view]) {
                lists[a as usize].extend(first.map(|weight| (b, weight)));
                lists[b as usize].extend(second.map(|weight| (a, weight)));
            }
        }
        (Arc::new(self.features.without(&dropped)), inputs::hops_of(&self.model.network, &lists))
    }

    /// What the convolutions say of nodes in the whole graph, each at unit length.
    fn embeddings(&self, nodes: &[usize]) -> Result<Vec<Vec<f32>>, GraphError> {
        let mut pass = self.model.applied();
        let x = self.model.network.encode(&mut pass, &self.features, &self.whole)?;
        let nodes: Vec<u32> = nodes.iter().map(|&node| node as u32).collect();
        let x = x.index_select(&Tensor::from_slice(&nodes, nodes.len(), &Device::Cpu)?, 0)?.relu()?;
        Ok(unit(&x)?.0.to_vec2()?)
    }
}

impl Learner for ContrastSession {
    fn model(&self) -> &GraphModel {
        &self.model
    }

    fn model_mut(&mut self) -> &mut GraphModel {
        &mut self.model
    }

    /// Of logistic regression, one class against the rest, on what the convolutions say of the nodes to train on.
    fn figures(&self, part: NodeSplit) -> Result<NamedFigures, GraphError> {
        let (nodes, truth): (Vec<usize>, Vec<u32>) = self.labels.of(part).into_iter().unzip();
        if nodes.is_empty() {
            return Ok(Vec::new());
        }
        let (known, classes): (Vec<usize>, Vec<u32>) = self.labels.of(NodeSplit::Train).into_iter().unzip();
        let (known, rows) = (self.embeddings(&known)?, self.embeddings(&nodes)?);
        let of = |class: u32| classes.iter().map(|&label| label == class).collect::<Vec<_>>();
        let models: Vec<LinearModel> =
            (0..self.labels.classes() as u32).map(|class| LinearModel::logistic(&known, &of(class))).collect();
        let predict = |row: &Vec<f32>| {
            measures::largest(&models.iter().map(|model| model.score(row) as f32).collect::<Vec<_>>()) as u32
        };
        Ok(measures::of_classes(&rows.iter().map(predict).collect::<Vec<_>>(), &truth))
    }

    fn baselines(&self, graph: &Graph) -> Vec<(&'static str, usize, NamedFigures)> {
        if self.labels.counts()[2] == 0 {
            return Vec::new();
        }
        self.labels.baselines(&self.features, &inputs::incoming(graph))
    }

    fn counts(&self) -> [usize; 3] {
        let [_, validation, test] = self.labels.counts();
        [self.rows.len(), validation, test]
    }
}

impl Session for ContrastSession {
    fn rows(&self) -> usize {
        self.rows.len()
    }

    fn parameters(&self) -> Vec<(String, Tensor)> {
        self.model.parameters()
    }

    /// Every row is told from the other rows of its step.
    fn loss(&self, rows: &[usize], window: StepWindow<'_>) -> Result<BatchLoss, TaskError> {
        let nodes: Vec<usize> = window.rows.iter().map(|&row| self.rows[row]).collect();
        let places: BTreeMap<usize, usize> = window.rows.iter().enumerate().map(|(at, &row)| (row, at)).collect();
        let anchors: Vec<usize> = rows.iter().map(|row| places[row]).collect();
        let mut passes = Vec::new();
        for view in 0..2 {
            let (features, hops) = self.view(window.step, view);
            let mut pass = self.model.learning(window.step, view);
            let compared = self.model.network.classify(&mut pass, &features, &hops, &nodes)?;
            passes.push((pass, compared));
        }
        let (views, temperature) = ([&passes[0].1, &passes[1].1], self.views.temperature);
        let (sum, hits, slopes) = info_nce(views, &anchors, temperature)?;
        let (slopes, sum) = GraphRule::shown_of(views, sum, slopes, || {
            let anchors: Vec<u32> = anchors.iter().map(|&anchor| anchor as u32).collect();
            Ok((GraphRule::Contrast { temperature: temperature.into() }, vec![rule::numbers(&anchors)?]))
        })?;
        let mut all = Gradients::default();
        for ((pass, compared), slopes) in passes.into_iter().zip(slopes) {
            all.add_all(pass.backward(&compared, slopes)?)?;
        }
        let (term, gradients) = self.model.regularise(all, rows.len() as f64)?;
        Ok(BatchLoss { sum: sum + term, gradients, metrics: vec![("accuracy", hits)] })
    }

    fn evaluate(&self) -> Result<Metrics, TaskError> {
        Ok(Metrics::new())
    }
}
