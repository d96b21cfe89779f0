//! The session that learns ratings as they come: each is scored by what was known right before it, and taken in
//! afterwards. Whatever part of the split it belongs to, it is known from then on: a stream is not deaf to what it has
//! just been told, only what is learnt ends with the training part.
//!
//! A user is what the state says of it ([`ftk_networks::graphs::stream`]), and has messages from those it had to do with
//! last, as they stood at that moment: messages are of the past, too.

use std::ops::Range;

use candle_core::Tensor;
use ftk_adapters::train::{Gradients, Train};
use ftk_networks::graphs::pairs::{self, END, KnownPair};
use ftk_networks::graphs::stream::{OF_USER, SCALE, StreamState};

use super::baselines::LinearModel;
use super::edges::{both, judge, ordered};
use super::error::GraphError;
use super::graph::{Edge, Graph, NodeSplit};
use super::learner::Learner;
use super::measures::NamedFigures;
use super::model::GraphModel;
use super::rule::{self, GraphRule, OUTPUTS};
use super::settings::Gnn;
use super::trees::BoostedTrees;
use ftk_recipes::preference::rule::tensor;
use ftk_recipes::{BatchLoss, Metrics, Recipe, Session, StepWindow, TaskError};

/// Share of the ratings at the beginning that nothing is learnt from: nothing is known there.
const BEGINNING: f64 = 0.02;
/// Ratings that are scored at a time, which bounds memory.
const AT_A_TIME: usize = 4096;

/// What was known right before a rating.
#[derive(Clone, Debug, PartialEq)]
struct BeforeRating {
    pair: KnownPair,
    /// The target's mean, and that with the source's.
    means: [f64; 2],
}

impl BeforeRating {
    fn new(state: &StreamState, source: u32, target: u32, now: f64) -> Self {
        let means = [state.target_mean(target), state.both_means(source, target)];
        Self { pair: KnownPair::new(state, source, target, now), means }
    }

    /// All that is known without messages.
    fn row(&self) -> Vec<f32> {
        self.pair.row()
    }
}

/// A task on ratings as they come.
#[derive(Debug)]
pub struct StreamSession {
    /// What is trained.
    pub model: GraphModel,
    /// All ratings, in the order of time.
    edges: Vec<Edge>,
    before: Vec<BeforeRating>,
    /// Places of the ratings to learn from, to validate and to test on.
    parts: [Range<usize>; 3],
}

impl StreamSession {
    /// Opens the task.
    ///
    /// # Errors
    /// A graph without ratings or times; a base that does not fit.
    pub fn open(recipe: &Recipe, gnn: &Gnn, graph: &Graph) -> Result<Self, GraphError> {
        let all = ordered(graph, gnn, recipe.run.seed)?;
        let model = GraphModel::open(recipe, gnn, OF_USER, END)?;
        let part = |part: NodeSplit| {
            let start = all.iter().position(|(_, of)| *of == part).unwrap_or(0);
            start..start + all.iter().filter(|(_, of)| *of == part).count()
        };
        let [train, validation, test] = [NodeSplit::Train, NodeSplit::Validation, NodeSplit::Test].map(part);
        let train = train.start.max((all.len() as f64 * BEGINNING) as usize)..train.end;
        if train.len() < 10 || test.is_empty() {
            return Err(GraphError::unfit("too few ratings to learn from", "look at gnn.shares"));
        }
        let edges: Vec<Edge> = all.into_iter().map(|(edge, _)| edge).collect();
        let before = before_each(graph.nodes, &edges);
        Ok(Self { model, edges, before, parts: [train, validation, test] })
    }

    /// A task that may learn from any of these ratings of so many users, which are in the order of time: whoever asks for
    /// rows says what has come by then.
    ///
    /// # Errors
    /// A base that does not fit.
    pub(super) fn following(recipe: &Recipe, gnn: &Gnn, users: usize, edges: Vec<Edge>) -> Result<Self, GraphError> {
        let model = GraphModel::open(recipe, gnn, OF_USER, END)?;
        let before = before_each(users, &edges);
        let (all, none) = (0..edges.len(), edges.len()..edges.len());
        Ok(Self { model, edges, before, parts: [all, none.clone(), none] })
    }

    /// All ratings, in the order of time.
    pub(super) fn edges(&self) -> &[Edge] {
        &self.edges
    }

    /// Rating and log-odds of its sign of some ratings, each by what was known right before it, as a model says.
    ///
    /// # Errors
    /// The device's.
    pub(super) fn said_by(&self, model: &GraphModel, places: Range<usize>) -> Result<Vec<[f64; OUTPUTS]>, GraphError> {
        let mut said = Vec::with_capacity(places.len());
        for before in self.before[places].chunks(AT_A_TIME) {
            let known: Vec<&KnownPair> = before.iter().map(|it| &it.pair).collect();
            let scores = both(&score(model, &mut model.applied(), &known)?)?;
            said.extend(scores.into_iter().map(|[rating, sign]| [rating * SCALE, sign]));
        }
        Ok(said)
    }

    fn score(&self, pass: &mut Train<'_>, places: &[usize]) -> Result<Tensor, GraphError> {
        let known: Vec<&KnownPair> = places.iter().map(|&place| &self.before[place].pair).collect();
        score(&self.model, pass, &known)
    }

    /// The loss of some ratings, its gradients if the pass records, and how many signs are told rightly.
    fn of(&self, places: &[usize], mut pass: Train<'_>, record: bool) -> Result<(f64, f64, Gradients), GraphError> {
        let outputs = self.score(&mut pass, places)?;
        let scores = outputs.flatten_all()?.to_vec1::<f32>()?;
        let truth: Vec<f64> = places.iter().map(|&place| f64::from(self.edges[place].weight) / SCALE).collect();
        let told = |&(scores, &truth): &(&[f32], &f64)| (f64::from(scores[1]) > 0.0) == (truth > 0.0);
        let right = scores.chunks_exact(OUTPUTS).zip(&truth).filter(told).count() as f64;
        let judged = rule::ratings(&scores, &truth);
        if !record {
            return Ok((judged.0, right, Gradients::default()));
        }
        let describe = || Ok((GraphRule::Ratings {}, vec![tensor(&truth)?]));
        let (sum, slopes) = GraphRule::shown(&outputs, judged, describe)?;
        Ok((sum, right, pass.backward(&outputs, slopes)?))
    }
}

/// What was known right before each rating, which are in the order of time; those of one moment do not know of each
/// other.
fn before_each(users: usize, edges: &[Edge]) -> Vec<BeforeRating> {
    let mut state = StreamState::new(users);
    let mut before = Vec::with_capacity(edges.len());
    for moment in edges.chunk_by(|a, b| a.time == b.time) {
        before.extend(moment.iter().map(|edge| BeforeRating::new(&state, edge.source, edge.target, edge.time)));
        moment.iter().for_each(|edge| state.take(edge));
    }
    before
}

/// Runs the network.
fn score(model: &GraphModel, pass: &mut Train<'_>, known: &[&KnownPair]) -> Result<Tensor, GraphError> {
    let network = &model.network;
    let (features, hops, pairs) = pairs::pass(network, known);
    Ok(network.score(pass, &features, &hops, &pairs)?)
}

/// Rating of every pair, and the log of the odds that it is positive, by what is known of each.
///
/// # Errors
/// The device's.
pub(super) fn score_pairs(model: &GraphModel, known: &[KnownPair]) -> Result<Vec<[f64; OUTPUTS]>, GraphError> {
    let scores = score(model, &mut model.applied(), &known.iter().collect::<Vec<_>>())?;
    Ok(both(&scores)?.into_iter().map(|[rating, sign]| [rating * SCALE, sign]).collect())
}

impl Learner for StreamSession {
    fn model(&self) -> &GraphModel {
        &self.model
    }

    fn model_mut(&mut self) -> &mut GraphModel {
        &mut self.model
    }

    fn figures(&self, part: NodeSplit) -> Result<NamedFigures, GraphError> {
        let part = match part {
            NodeSplit::Validation => &self.parts[1],
            NodeSplit::Test => &self.parts[2],
            NodeSplit::None | NodeSplit::Train => return Ok(Vec::new()),
        };
        let said = self.said_by(&self.model, part.clone())?;
        let (ratings, signs): (Vec<f64>, Vec<f64>) = said.into_iter().map(|[rating, sign]| (rating, sign)).unzip();
        let edges = &self.edges[part.clone()];
        Ok(if edges.is_empty() { Vec::new() } else { judge(edges, &ratings, &signs) })
    }

    fn baselines(&self, _: &Graph) -> Vec<(&'static str, usize, NamedFigures)> {
        let [train, _, test] = &self.parts;
        let edges = &self.edges[test.clone()];
        let by = |score: &dyn Fn(&BeforeRating) -> f64| -> NamedFigures {
            let scores: Vec<f64> = self.before[test.clone()].iter().map(score).collect();
            judge(edges, &scores, &scores)
        };
        let rows: Vec<Vec<f32>> = self.before[train.clone()].iter().map(BeforeRating::row).collect();
        let truth: Vec<f64> = self.edges[train.clone()].iter().map(|edge| f64::from(edge.weight)).collect();
        let positive: Vec<bool> = truth.iter().map(|&rating| rating > 0.0).collect();
        let (squares, logistic) = (LinearModel::squares(&rows, &truth), LinearModel::logistic(&rows, &positive));
        let trees = BoostedTrees::logistic(&rows, &positive);
        // The odds of a sign are no rating.
        let odds = |figures: NamedFigures| figures.into_iter().filter(|(name, _)| *name != "rmse").collect();
        vec![
            ("target's mean", 0, by(&|it| it.means[0])),
            ("in-mean + out-mean", 0, by(&|it| it.means[1])),
            ("logistic regression", logistic.parameters(), odds(by(&|it| logistic.score(&it.row())))),
            ("boosted trees", trees.parameters(), odds(by(&|it| trees.score(&it.row())))),
            ("ridge regression", squares.parameters(), by(&|it| squares.score(&it.row()))),
        ]
    }

    fn counts(&self) -> [usize; 3] {
        self.parts.each_ref().map(|part| part.len())
    }
}

impl Session for StreamSession {
    fn rows(&self) -> usize {
        self.parts[0].len()
    }

    fn parameters(&self) -> Vec<(String, Tensor)> {
        self.model.parameters()
    }

    fn loss(&self, rows: &[usize], window: StepWindow<'_>) -> Result<BatchLoss, TaskError> {
        let places: Vec<usize> = rows.iter().map(|row| self.parts[0].start + row).collect();
        let pass = self.model.learning(window.step, rows[0]);
        let (sum, right, gradients) = self.of(&places, pass, true)?;
        let (term, gradients) = self.model.regularise(gradients, rows.len() as f64)?;
        Ok(BatchLoss { sum: sum + term, gradients, metrics: vec![("accuracy", right)] })
    }

    fn evaluate(&self) -> Result<Metrics, TaskError> {
        let places: Vec<usize> = self.parts[1].clone().collect();
        if places.is_empty() {
            return Ok(Metrics::new());
        }
        let (mut sum, mut right) = (0.0, 0.0);
        for places in places.chunks(AT_A_TIME) {
            let (part, hits, _) = self.of(places, self.model.applied(), false)?;
            sum += part;
            right += hits;
        }
        let count = places.len() as f64;
        Ok(vec![("eval_loss", sum / count), ("eval_accuracy", right / count)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_before_a_rating_is_of_earlier_moments() {
        let edge = |at: u32| Edge {
            source: at * 7 % 20,
            target: (at * 11 + 3) % 20,
            weight: if at.is_multiple_of(4) { -5.0 } else { 3.0 },
            // Three of each moment.
            time: f64::from(at / 3 * 1000),
        };
        let edges: Vec<Edge> = (0..120).map(edge).filter(|edge| edge.source != edge.target).collect();
        let ours = before_each(20, &edges);
        for at in [40, 61, 90] {
            let mut other = edges.clone();
            // The rating itself, those of its moment and all that follow say the opposite, of others.
            let now = edges[at].time;
            for edge in other.iter_mut().filter(|edge| edge.time >= now) {
                (edge.weight, edge.target) = (-edge.weight, (edge.target + 1) % 20);
            }
            (other[at].source, other[at].target) = (edges[at].source, edges[at].target);
            assert_eq!(before_each(20, &other)[at], ours[at], "{at}");
            // And what came before is known.
            let mut earlier = edges.clone();
            earlier.iter_mut().filter(|edge| edge.time < now).for_each(|edge| edge.weight = -edge.weight);
            assert_ne!(before_each(20, &earlier)[at], ours[at], "{at}");
        }
        assert!(ours.iter().any(|it| it.pair.neighbours().into_iter().all(|count| count > 1)));
    }
}
