//! The session that learns whether there is an edge.
//!
//! Messages pass over the edges of the training part alone, in either direction; two nodes that are validated or tested
//! on pass none to each other, whichever way round and however many edges join them. What is drawn as no edge in training may turn out to be one that is tested: to know
//! better would be to know the test.

use std::collections::BTreeSet;
use std::sync::Arc;

use candle_core::Tensor;
use ftk_adapters::train::Train;
use ftk_networks::graphs::{End, Hop, Pairs};
use ftk_networks::ops::graph::Features;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use super::baselines::LinearModel;
use super::error::GraphError;
use super::graph::{Graph, NodeSplit, neighbours};
use super::inputs;
use super::learner::Learner;
use super::measures::{self, NamedFigures};
use super::model::GraphModel;
use super::rule::{self, GraphRule};
use super::settings::Gnn;
use super::split;
use ftk_recipes::Recipe;
use ftk_recipes::{BatchLoss, Metrics, Session, StepWindow, TaskError};

/// What is known of a pair: neighbours they share, counted and by rarity (Adamic and Adar 2003), and how alike their
/// features are.
pub(super) const KNOWN: usize = 3;
/// Other targets that each edge to test on is ranked among.
const CANDIDATES: usize = 50;

type Ends = (u32, u32);

/// A task on whether edges are there.
#[derive(Debug)]
pub struct LinkSession {
    /// What is trained.
    pub model: GraphModel,
    seen: LinkGraph,
    rows: Vec<Ends>,
    /// Of validation and of testing: edges, and as many pairs that are none.
    held_out: [(Vec<Ends>, Vec<Ends>); 2],
    seed: u64,
    directed: bool,
}

impl LinkSession {
    /// Opens the task.
    ///
    /// # Errors
    /// A graph without features or such a split; a base that does not fit.
    pub fn open(recipe: &Recipe, gnn: &Gnn, graph: &Graph) -> Result<Self, GraphError> {
        let seed = recipe.run.seed;
        let parts = split::pairs(graph, gnn, seed)?;
        let of = |part: NodeSplit| -> Vec<Ends> {
            let own = graph.edges.iter().zip(&parts).filter(|(_, of)| **of == part);
            let mut ends: Vec<Ends> = own.map(|(edge, _)| (edge.source, edge.target)).collect();
            // In the graph's order edges of the same two nodes stand together.
            ends.dedup();
            ends
        };
        let rows = of(NodeSplit::Train);
        let features = inputs::features(graph, GraphModel::prepare(recipe, gnn)?)?;
        // A base knows how it scores; the key is for a fresh one.
        let scorer = match GraphModel::known(recipe)?.map(|network| network.head) {
            Some(End::Pair { scorer, .. }) => scorer,
            _ => gnn.scorer,
        };
        let end = End::Pair { known: KNOWN, outputs: 1, scorer };
        let model = GraphModel::open(recipe, gnn, features.width(), end)?;
        let seen = LinkGraph::new(features, neighbours(graph.nodes, rows.iter().copied()), &model);
        let there: BTreeSet<Ends> = graph.edges.iter().map(|edge| (edge.source, edge.target)).collect();
        let held_out = [NodeSplit::Validation, NodeSplit::Test].map(|part| {
            let edges = of(part);
            let mut rng = stream(seed, part as u64);
            let directed = graph.carries.direction;
            let none =
                edges.iter().map(|_| draw(&mut rng, graph.nodes, directed, |ends| joined(&there, ends))).collect();
            (edges, none)
        });
        if rows.is_empty() || held_out[1].0.is_empty() {
            let hint = "look at gnn.shares, or at the split that the file gives";
            return Err(GraphError::unfit("too few edges to learn from or to test on", hint));
        }
        Ok(Self { model, seen, rows, held_out, seed, directed: graph.carries.direction })
    }

    fn known(&self, pair: Ends) -> [f32; KNOWN] {
        self.seen.known(pair)
    }

    fn score(&self, pass: &mut Train<'_>, pairs: &[Ends]) -> Result<Tensor, GraphError> {
        self.seen.score(&self.model, pass, pairs)
    }

    fn scores(&self, pairs: &[Ends]) -> Result<Vec<f64>, GraphError> {
        self.seen.scores(&self.model, pairs)
    }

    /// How messages pass.
    pub fn hops(&self) -> &[Hop] {
        &self.seen.hops
    }
}

/// What a network that looks for links gets of a graph.
#[derive(Debug)]
pub(super) struct LinkGraph {
    features: Arc<Features>,
    lengths: Vec<f32>,
    /// Neighbours in either direction.
    pub lists: Vec<Vec<u32>>,
    hops: Vec<Hop>,
}

impl LinkGraph {
    /// Of features and of the edges that messages pass over.
    pub fn new(features: Arc<Features>, lists: Vec<Vec<u32>>, model: &GraphModel) -> Self {
        let hops = inputs::hops(model.network.model_type, model.network.layers, &lists);
        let length = |node: usize| features.row(node).iter().map(|value| value * value).sum::<f32>().sqrt();
        let lengths = (0..lists.len()).map(length).collect();
        Self { features, lengths, lists, hops }
    }

    fn known(&self, (a, b): Ends) -> [f32; KNOWN] {
        let (mine, theirs) = (&self.lists[a as usize], &self.lists[b as usize]);
        let shared = mine.iter().filter(|other| theirs.binary_search(other).is_ok());
        let (mut count, mut rare) = (0.0f32, 0.0f32);
        for &other in shared {
            count += 1.0;
            rare += 1.0 / libm::logf(1.0 + self.lists[other as usize].len() as f32);
        }
        let (x, y) = (self.features.row(a as usize), self.features.row(b as usize));
        let dot: f32 = x.iter().zip(&y).map(|(x, y)| x * y).sum();
        let alike = dot / (self.lengths[a as usize] * self.lengths[b as usize]).max(1e-9);
        [libm::log1pf(count), rare, alike]
    }

    fn score(&self, model: &GraphModel, pass: &mut Train<'_>, pairs: &[Ends]) -> Result<Tensor, GraphError> {
        let known = pairs.iter().flat_map(|&pair| self.known(pair)).collect();
        let pairs = Pairs {
            sources: pairs.iter().map(|pair| pair.0 as usize).collect(),
            targets: pairs.iter().map(|pair| pair.1 as usize).collect(),
            known: Arc::new(Features::new(KNOWN, known)),
        };
        Ok(model.network.score(pass, &self.features, &self.hops, &pairs)?)
    }

    /// Log of the odds that each pair is joined.
    ///
    /// # Errors
    /// The device's.
    pub fn scores(&self, model: &GraphModel, pairs: &[Ends]) -> Result<Vec<f64>, GraphError> {
        let scores = self.score(model, &mut model.applied(), pairs)?.flatten_all()?.to_vec1::<f32>()?;
        Ok(scores.into_iter().map(f64::from).collect())
    }
}

/// How many edges, and pairs behind them that are none, are told rightly.
fn rightly(scores: &[f32], edges: usize) -> f64 {
    scores.iter().enumerate().filter(|&(at, &score)| if at < edges { score > 0.0 } else { score < 0.0 }).count() as f64
}

fn joined(there: &BTreeSet<Ends>, (a, b): Ends) -> bool {
    there.contains(&(a, b)) || there.contains(&(b, a))
}

/// A pair of different nodes that is not `taken`, without direction the smaller first; after many attempts, any.
fn draw(rng: &mut ChaCha8Rng, nodes: usize, directed: bool, taken: impl Fn(Ends) -> bool) -> Ends {
    let mut node = || (rng.next_u64() % nodes as u64) as u32;
    for _ in 0..100 {
        let (a, b) = (node(), node());
        let ends = if directed { (a, b) } else { (a.min(b), a.max(b)) };
        if a != b && !taken(ends) {
            return ends;
        }
    }
    (0, (nodes as u32).saturating_sub(1))
}

fn stream(seed: u64, part: u64) -> ChaCha8Rng {
    let mut hash = blake3::Hasher::new_derive_key("ftk graph pairs");
    ChaCha8Rng::from_seed(*hash.update(&seed.to_le_bytes()).update(&part.to_le_bytes()).finalize().as_bytes())
}

impl Learner for LinkSession {
    fn model(&self) -> &GraphModel {
        &self.model
    }

    fn model_mut(&mut self) -> &mut GraphModel {
        &mut self.model
    }

    fn figures(&self, part: NodeSplit) -> Result<NamedFigures, GraphError> {
        let (edges, none) = match part {
            NodeSplit::Validation => &self.held_out[0],
            NodeSplit::Test => &self.held_out[1],
            NodeSplit::None | NodeSplit::Train => return Ok(Vec::new()),
        };
        if edges.is_empty() {
            return Ok(Vec::new());
        }
        let scores = self.scores(&[edges.as_slice(), none].concat())?;
        let positive: Vec<bool> = (0..scores.len()).map(|at| at < edges.len()).collect();
        let mut rng = stream(self.seed, 7);
        let list = |&(source, target): &Ends| {
            let other = |_| (source, (rng.next_u64() % self.seen.lists.len() as u64) as u32);
            std::iter::once((source, target)).chain((0..CANDIDATES).map(other)).collect::<Vec<Ends>>()
        };
        let lists: Vec<Vec<Ends>> = edges.iter().map(list).collect();
        let ranked = self.scores(&lists.concat())?;
        let ranked: Vec<Vec<f64>> = ranked.chunks(CANDIDATES + 1).map(<[f64]>::to_vec).collect();
        let mut figures = vec![
            ("roc_auc", measures::roc_auc(&scores, &positive)),
            ("average_precision", measures::average_precision(&scores, &positive)),
        ];
        figures.extend(measures::of_ranks(&ranked));
        Ok(figures)
    }

    fn baselines(&self, _: &Graph) -> Vec<(&'static str, usize, NamedFigures)> {
        let (edges, none) = &self.held_out[1];
        let pairs = [edges.as_slice(), none].concat();
        let positive: Vec<bool> = (0..pairs.len()).map(|at| at < edges.len()).collect();
        let figures = |score: &dyn Fn(Ends) -> f64| {
            let scores: Vec<f64> = pairs.iter().map(|&pair| score(pair)).collect();
            let (auc, precision) =
                (measures::roc_auc(&scores, &positive), measures::average_precision(&scores, &positive));
            vec![("roc_auc", auc), ("average_precision", precision)]
        };
        let mut rng = stream(self.seed, 0);
        let taken = |(a, b): Ends| self.seen.lists[a as usize].binary_search(&b).is_ok();
        let others: Vec<Ends> =
            self.rows.iter().map(|_| draw(&mut rng, self.seen.lists.len(), self.directed, taken)).collect();
        let rows: Vec<Vec<f32>> = self.rows.iter().chain(&others).map(|&pair| self.known(pair).to_vec()).collect();
        let truth: Vec<bool> = (0..rows.len()).map(|at| at < self.rows.len()).collect();
        let linear = LinearModel::logistic(&rows, &truth);
        let column = |at: usize| figures(&|pair| f64::from(self.known(pair)[at]));
        vec![
            ("shared neighbours", 0, column(0)),
            ("rare shared neighbours", 0, column(1)),
            ("alike features", 0, column(2)),
            ("logistic regression", linear.parameters(), figures(&|pair| linear.score(&self.known(pair)))),
        ]
    }

    fn counts(&self) -> [usize; 3] {
        [self.rows.len(), self.held_out[0].0.len(), self.held_out[1].0.len()]
    }
}

impl Session for LinkSession {
    fn rows(&self) -> usize {
        self.rows.len()
    }

    fn parameters(&self) -> Vec<(String, Tensor)> {
        self.model.parameters()
    }

    fn loss(&self, rows: &[usize], window: StepWindow<'_>) -> Result<BatchLoss, TaskError> {
        let mut rng = stream(self.seed, (window.step as u64 + 1) << 32 | rows[0] as u64);
        let known = |(a, b): Ends| self.seen.lists[a as usize].binary_search(&b).is_ok();
        let mut pairs: Vec<Ends> = rows.iter().map(|&row| self.rows[row]).collect();
        pairs.extend(
            rows.iter().map(|_| draw(&mut rng, self.seen.lists.len(), self.directed, known)).collect::<Vec<_>>(),
        );
        let mut pass = self.model.learning(window.step, rows[0]);
        let tensor = self.score(&mut pass, &pairs)?;
        let (scores, edges) = (tensor.flatten_all()?.to_vec1::<f32>()?, rows.len());
        let right = rightly(&scores, edges);
        let judged = rule::links(&scores, edges);
        let (sum, slopes) = GraphRule::shown(&tensor, judged, || Ok((GraphRule::Links { edges }, Vec::new())))?;
        let (term, gradients) = self.model.regularise(pass.backward(&tensor, slopes)?, edges as f64)?;
        Ok(BatchLoss { sum: sum + term, gradients, metrics: vec![("accuracy", right / 2.0)] })
    }

    fn evaluate(&self) -> Result<Metrics, TaskError> {
        let (edges, none) = &self.held_out[0];
        if edges.is_empty() {
            return Ok(Metrics::new());
        }
        let pairs = [edges.as_slice(), none].concat();
        let scores = self.score(&mut self.model.applied(), &pairs)?.flatten_all()?.to_vec1::<f32>()?;
        let (sum, _) = rule::links(&scores, edges.len());
        let right = rightly(&scores, edges.len());
        let count = edges.len() as f64;
        Ok(vec![("eval_loss", sum / count), ("eval_accuracy", right / 2.0 / count)])
    }
}
