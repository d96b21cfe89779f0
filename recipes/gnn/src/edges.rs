//! The session that learns ratings, or preferences between those who are rated.
//!
//! What is known of a pair is what was known at a moment before it was rated. Training looks back from several moments
//! of the training part, each predicting what follows it as far ahead as the last moment does when it is tested: the
//! end of the training part is the last moment anything may be known of. Of a random split, the training part is all
//! that is known, and all ratings between two users are held out together.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use candle_core::{Device, Tensor};
use ftk_adapters::train::{Gradients, LoraTensors, Train};
use ftk_networks::graphs::{End, Hop, PairScorer, Pairs};
use ftk_networks::ops::graph::Features;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use super::baselines::{self, LinearModel};
use super::error::GraphError;
use super::feedback::{self, FeedbackChoice};
use super::graph::{Edge, Graph, NodeSplit};
use super::inputs;
use super::learner::Learner;
use super::measures::{self, NamedFigures};
use super::model::GraphModel;
use super::rule::{self, GraphRule, OUTPUTS};
use super::settings::{Gnn, Objective, Split};
use super::split;
use super::structure::{OF_NODE, OF_PAIR, SCALE, Snapshot};
use ftk_recipes::Recipe;
use ftk_recipes::preference::Reference;
use ftk_recipes::preference::rule::{LossConstants, tensor};
use ftk_recipes::{BatchLoss, Metrics, Session, StepWindow, TaskError};

/// Moments of the training part, as shares of all ratings.
const MOMENTS: [f64; 6] = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6];
/// How far ahead a moment predicts, as a share of all ratings: from the end of the training part to the end of the test.
const AHEAD: f64 = 0.3;
/// Most preferences that one user's ratings after one moment become: some users have thousands.
const CHOICES: usize = 32;

/// What a network of ratings ends in: who rates and who is rated play different parts.
pub(super) const END: End = End::Pair { known: OF_PAIR, outputs: OUTPUTS, scorer: PairScorer::Layers };

/// A task on the edges of a graph.
#[derive(Debug)]
pub struct EdgeSession {
    /// What is trained.
    pub model: GraphModel,
    moments: Vec<Moment>,
    /// The end of the training part, with the ratings to validate and to test on.
    held_out: [Moment; 2],
    /// The first moment that is not learnt from.
    end: f64,
    rows: Vec<(usize, usize)>,
    /// Of preferences: what one costs, weight of the ratings' own loss.
    preference: Option<(LossConstants, f64)>,
    /// Preferences that were given and are about pairs that are not looked at.
    unused: usize,
}

/// A moment, and pairs that are rated after it.
#[derive(Debug)]
pub struct Moment {
    snapshot: Arc<Snapshot>,
    hops: Vec<Hop>,
    /// Rated pairs.
    pub edges: Vec<Edge>,
    known: Arc<Features>,
    /// Preferences between two of the pairs: chosen, rejected, margin of the reference.
    choices: Vec<(usize, usize, f64)>,
}

impl Moment {
    /// What was known.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// What is known of a pair and of both its users: all that a network gets without messages.
    pub fn row(&self, at: usize) -> Vec<f32> {
        let (source, target) = (self.edges[at].source as usize, self.edges[at].target as usize);
        let features = &self.snapshot.features;
        [features.row(source), features.row(target), self.known.row(at)].concat()
    }

    fn new(snapshot: &Arc<Snapshot>, hops: &[Hop], edges: Vec<Edge>) -> Self {
        let known = edges.iter().flat_map(|edge| snapshot.pair(edge.source, edge.target)).collect();
        let known = Arc::new(Features::new(OF_PAIR, known));
        Self { snapshot: snapshot.clone(), hops: hops.to_vec(), edges, known, choices: Vec::new() }
    }

    fn pairs(&self, rows: &[usize]) -> Pairs {
        let end = |of: fn(&Edge) -> u32| rows.iter().map(|&row| of(&self.edges[row]) as usize).collect();
        let known = Arc::new(self.known.select(rows));
        Pairs { sources: end(|edge| edge.source), targets: end(|edge| edge.target), known }
    }

    fn truth(&self, row: usize) -> f64 {
        f64::from(self.edges[row].weight) / SCALE
    }
}

/// Every rating in time's order, with its place in the split.
pub(super) fn ordered(graph: &Graph, gnn: &Gnn, seed: u64) -> Result<Vec<(Edge, NodeSplit)>, GraphError> {
    graph.are_ratings()?;
    let parts = match gnn.split {
        // Wherever in time they lie, a rating back and a later one of the same pair tell what is held out.
        Split::Random => split::pairs(graph, gnn, seed)?,
        _ => split::edges(graph, gnn, seed)?,
    };
    let mut all: Vec<(Edge, NodeSplit)> = graph.edges.iter().copied().zip(parts).collect();
    all.sort_by(|(a, _), (b, _)| a.time.total_cmp(&b.time).then((a.source, a.target).cmp(&(b.source, b.target))));
    Ok(all)
}

impl EdgeSession {
    /// Opens the task.
    ///
    /// # Errors
    /// A graph without ratings or times; a base that does not fit; feedback that is malformed.
    pub fn open(recipe: &Recipe, gnn: &Gnn, graph: &Graph) -> Result<Self, GraphError> {
        let all = ordered(graph, gnn, recipe.run.seed)?;
        let model = GraphModel::open(recipe, gnn, OF_NODE, END)?;
        let count = all.len();
        let network = &model.network;
        let look = |known: &[Edge], now: f64| {
            let snapshot = Arc::new(Snapshot::new(graph.nodes, known, now));
            let hops = inputs::hops(network.model_type, network.layers, &snapshot.lists);
            (snapshot, hops)
        };
        let of = |part: NodeSplit| all.iter().filter(move |(_, of)| *of == part).map(|(edge, _)| *edge);
        let train: Vec<Edge> = of(NodeSplit::Train).collect();
        // A rating of the same moment is no earlier one.
        let before = |now: f64| &train[..train.partition_point(|edge| edge.time < now)];
        if train.len() < 10 || of(NodeSplit::Test).count() == 0 {
            return Err(GraphError::unfit("too few ratings to learn from", "look at gnn.shares"));
        }
        let mut moments = Vec::new();
        for share in MOMENTS {
            let until = (count as f64 * share) as usize;
            let end = train.len().min(until + (count as f64 * AHEAD) as usize);
            if until < end {
                let now = train[until].time;
                let (snapshot, hops) = look(before(now), now);
                moments.push(Moment::new(&snapshot, &hops, train[until..end].to_vec()));
            }
        }
        let end = match gnn.split {
            Split::Random => f64::INFINITY,
            _ => all.get(train.len()).map_or(f64::INFINITY, |(edge, _)| edge.time),
        };
        let (snapshot, hops) = match gnn.split {
            // What is held out lies anywhere in time: all that is learnt from is known of it, and nothing else.
            Split::Random => look(&train, all.last().map_or(f64::INFINITY, |(edge, _)| edge.time)),
            _ => look(before(end), end),
        };
        let held_out =
            [NodeSplit::Validation, NodeSplit::Test].map(|part| Moment::new(&snapshot, &hops, of(part).collect()));
        let mut session = Self { model, moments, held_out, end, rows: Vec::new(), preference: None, unused: 0 };
        if gnn.objective == Objective::Feedback {
            session.prefer(recipe, gnn, graph)?;
        }
        let rows = |(at, moment): (usize, &Moment)| {
            let count = if session.preference.is_some() { moment.choices.len() } else { moment.edges.len() };
            (0..count).map(move |row| (at, row)).collect::<Vec<_>>()
        };
        session.rows = session.moments.iter().enumerate().flat_map(rows).collect();
        if session.rows.is_empty() {
            return Err(GraphError::unfit(
                "nothing to learn from",
                "feedback must be about pairs rated in the training part",
            ));
        }
        Ok(session)
    }

    /// Makes preferences of ratings, or reads them, and computes the reference's figures.
    fn prefer(&mut self, recipe: &Recipe, gnn: &Gnn, graph: &Graph) -> Result<(), GraphError> {
        let given = gnn.feedback.as_deref().map(|path| feedback::targets(path, graph)).transpose()?;
        // What was said after the training part is over is not learnt from.
        let end = self.end;
        let mut used = BTreeSet::new();
        let training = self.moments.len();
        for (at, moment) in self.moments.iter_mut().chain(self.held_out.iter_mut().take(1)).enumerate() {
            let pairs = match &given {
                Some(choices) => {
                    let in_time = |time: Option<f64>| time.is_none_or(|time| (time < end) == (at < training));
                    let found = stated(moment, choices, in_time);
                    used.extend(found.iter().map(|(choice, _)| *choice));
                    found.into_iter().map(|(_, pair)| pair).collect()
                }
                None => implied(moment, recipe.run.seed, at as u64),
            };
            moment.choices = pairs.into_iter().map(|(chosen, rejected)| (chosen, rejected, 0.0)).collect();
        }
        self.unused = given.map_or(0, |given| given.len() - used.len());
        self.preference = Some((LossConstants::from(&recipe.dpo), recipe.dpo.supervised()));
        if !recipe.dpo.cost().has_reference() {
            return Ok(());
        }
        let start = match (recipe.dpo.reference, &self.model.adapter) {
            (Reference::Start, Some(adapter)) => Some(LoraTensors::frozen(&adapter.to_adapter()?, &Device::Cpu)?),
            _ => None,
        };
        let moments = self.moments.iter().chain(self.held_out.iter().take(1));
        let margins = moments.map(|moment: &Moment| -> Result<Vec<f64>, GraphError> {
            let mut pass = Train::new(&self.model.weights, start.as_ref());
            let scores = self.scores_with(&mut pass, moment)?;
            let margin = |&(chosen, rejected, _): &(usize, usize, f64)| scores[chosen][0] - scores[rejected][0];
            Ok(moment.choices.iter().map(margin).collect())
        });
        let margins: Vec<Vec<f64>> = margins.collect::<Result<_, _>>()?;
        for (moment, margins) in self.moments.iter_mut().chain(self.held_out.iter_mut().take(1)).zip(margins) {
            moment.choices.iter_mut().zip(margins).for_each(|(choice, margin)| choice.2 = margin);
        }
        Ok(())
    }

    fn scores_with(&self, pass: &mut Train<'_>, moment: &Moment) -> Result<Vec<[f64; OUTPUTS]>, GraphError> {
        let rows: Vec<usize> = (0..moment.edges.len()).collect();
        let features = &moment.snapshot.features;
        let scores = self.model.network.score(pass, features, &moment.hops, &moment.pairs(&rows))?;
        both(&scores)
    }

    /// Rating of every pair of a moment, and the log of the odds that it is positive.
    ///
    /// # Errors
    /// The device's.
    pub fn scores(&self, moment: &Moment) -> Result<Vec<[f64; OUTPUTS]>, GraphError> {
        let scores = self.scores_with(&mut self.model.applied(), moment)?;
        Ok(scores.into_iter().map(|[rating, sign]| [rating * SCALE, sign]).collect())
    }

    /// The moments that are learnt from.
    pub fn moments(&self) -> &[Moment] {
        &self.moments
    }

    /// The pairs of a part, with what is known at the end of the training part.
    pub fn held_out(&self, part: NodeSplit) -> Option<&Moment> {
        match part {
            NodeSplit::Validation => Some(&self.held_out[0]),
            NodeSplit::Test => Some(&self.held_out[1]),
            NodeSplit::None | NodeSplit::Train => None,
        }
    }

    /// The loss of some pairs or preferences of one moment, and its gradients if the pass records.
    fn moment_loss(
        &self,
        moment: &Moment,
        rows: &[usize],
        mut pass: Train<'_>,
        record: bool,
    ) -> Result<(f64, f64, Gradients), GraphError> {
        let edges: Vec<usize> = match self.preference {
            None => rows.to_vec(),
            Some(_) => rows.iter().flat_map(|&row| [moment.choices[row].0, moment.choices[row].1]).collect(),
        };
        let features = &moment.snapshot.features;
        let outputs = self.model.network.score(&mut pass, features, &moment.hops, &moment.pairs(&edges))?;
        let scores = outputs.flatten_all()?.to_vec1::<f32>()?;
        let score = |at: usize, output: usize| f64::from(scores[OUTPUTS * at + output]);
        let truth: Vec<f64> = edges.iter().map(|&edge| moment.truth(edge)).collect();
        let references: Vec<f64> = match self.preference {
            None => Vec::new(),
            Some(_) => rows.iter().map(|&row| moment.choices[row].2).collect(),
        };
        let (judged, right) = match &self.preference {
            None => {
                let right = (0..edges.len()).filter(|&at| (score(at, 1) > 0.0) == (truth[at] > 0.0)).count();
                (rule::ratings(&scores, &truth), right)
            }
            Some((loss, weight)) => {
                let right = (0..rows.len()).filter(|&at| score(2 * at, 0) - score(2 * at + 1, 0) > 0.0).count();
                (rule::preferred_ratings(&*loss.cost(), &scores, &truth, &references, *weight), right)
            }
        };
        if !record {
            return Ok((judged.0, right as f64, Gradients::default()));
        }
        let (sum, slopes) = GraphRule::shown(&outputs, judged, || match self.preference {
            None => Ok((GraphRule::Ratings {}, vec![tensor(&truth)?])),
            Some((loss, weight)) => {
                let rule = GraphRule::PreferredRatings { loss, supervised: weight.into() };
                Ok((rule, vec![tensor(&truth)?, tensor(&references)?]))
            }
        })?;
        Ok((sum, right as f64, pass.backward(&outputs, slopes)?))
    }
}

/// Both outputs of every pair.
pub(super) fn both(scores: &Tensor) -> Result<Vec<[f64; OUTPUTS]>, GraphError> {
    let rows = scores.to_vec2::<f32>()?;
    Ok(rows.into_iter().map(|row| [f64::from(row[0]), f64::from(row[1])]).collect())
}

/// Figures of rated pairs from ratings and from what their signs are told by.
pub fn judge(edges: &[Edge], ratings: &[f64], signs: &[f64]) -> NamedFigures {
    let truth: Vec<f64> = edges.iter().map(|edge| f64::from(edge.weight)).collect();
    let positive: Vec<bool> = truth.iter().map(|&rating| rating > 0.0).collect();
    let sources: Vec<u32> = edges.iter().map(|edge| edge.source).collect();
    let (pairs, _) = measures::pair_accuracy(&sources, ratings, &truth);
    let against: Vec<f64> = signs.iter().map(|score| -score).collect();
    let negative: Vec<bool> = positive.iter().map(|positive| !positive).collect();
    vec![
        ("sign_auc", measures::roc_auc(signs, &positive)),
        ("pair_accuracy", pairs),
        ("rmse", measures::rmse(ratings, &truth)),
        ("negative_ap", measures::average_precision(&against, &negative)),
    ]
}

/// Preferences that ratings imply: of two that one user gave after a moment, the higher one.
fn implied(moment: &Moment, seed: u64, part: u64) -> Vec<(usize, usize)> {
    let mut by_source: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    moment.edges.iter().enumerate().for_each(|(at, edge)| by_source.entry(edge.source).or_default().push(at));
    let mut hash = blake3::Hasher::new_derive_key("ftk graph preferences");
    let key = hash.update(&seed.to_le_bytes()).update(&part.to_le_bytes()).finalize();
    let mut rng = ChaCha8Rng::from_seed(*key.as_bytes());
    let mut all = Vec::new();
    for items in by_source.values() {
        let mut own: Vec<(usize, usize)> = Vec::new();
        for &chosen in items {
            let worse = |&&rejected: &&usize| moment.edges[rejected].weight < moment.edges[chosen].weight;
            own.extend(items.iter().filter(worse).map(|&rejected| (chosen, rejected)));
        }
        let count = own.len().min(CHOICES);
        for at in 0..count {
            let other = at + (rng.next_u64() % (own.len() - at) as u64) as usize;
            own.swap(at, other);
        }
        all.extend(&own[..count]);
    }
    all
}

/// Preferences of a file whose two pairs are both rated after a moment and whose time is one that counts there, by
/// their places in the file.
fn stated(
    moment: &Moment,
    choices: &[FeedbackChoice],
    in_time: impl Fn(Option<f64>) -> bool,
) -> Vec<(usize, (usize, usize))> {
    let places: BTreeMap<(u32, u32), usize> =
        moment.edges.iter().enumerate().map(|(at, edge)| ((edge.source, edge.target), at)).collect();
    let find = |source: usize, target: u32| places.get(&(source as u32, target)).copied();
    let pair =
        |choice: &FeedbackChoice| Some((find(choice.subject, choice.chosen)?, find(choice.subject, choice.rejected)?));
    let timely = choices.iter().enumerate().filter(|(_, choice)| in_time(choice.time));
    timely.filter_map(|(at, choice)| Some((at, pair(choice)?))).collect()
}

impl Learner for EdgeSession {
    fn notes(&self) -> Vec<String> {
        let note = |count| {
            format!(
                "{count} preferences are not used: both of their pairs must be rated, where they are learnt from or validated \
                 on, and their time, if they have one, must be of that part"
            )
        };
        Some(self.unused).filter(|&count| count > 0).map(note).into_iter().collect()
    }

    fn model(&self) -> &GraphModel {
        &self.model
    }

    fn model_mut(&mut self) -> &mut GraphModel {
        &mut self.model
    }

    fn figures(&self, part: NodeSplit) -> Result<NamedFigures, GraphError> {
        match self.held_out(part) {
            Some(moment) if !moment.edges.is_empty() => {
                let (ratings, signs): (Vec<f64>, Vec<f64>) =
                    self.scores(moment)?.into_iter().map(|[rating, sign]| (rating, sign)).unzip();
                Ok(judge(&moment.edges, &ratings, &signs))
            }
            _ => Ok(Vec::new()),
        }
    }

    fn baselines(&self, _: &Graph) -> Vec<(&'static str, usize, NamedFigures)> {
        let test = &self.held_out[1];
        let alike = |scores: Vec<f64>| judge(&test.edges, &scores, &scores);
        let by = |score: &dyn Fn(&Edge) -> f64| alike(test.edges.iter().map(score).collect());
        let all = || self.moments.iter().flat_map(|moment| (0..moment.edges.len()).map(move |at| (moment, at)));
        let rows: Vec<Vec<f32>> = all().map(|(moment, at)| moment.row(at)).collect();
        let truth: Vec<f64> = all().map(|(moment, at)| f64::from(moment.edges[at].weight)).collect();
        let positive: Vec<bool> = truth.iter().map(|&rating| rating > 0.0).collect();
        let (squares, logistic) = (LinearModel::squares(&rows, &truth), LinearModel::logistic(&rows, &positive));
        let linear = |model: &LinearModel| alike((0..test.edges.len()).map(|at| model.score(&test.row(at))).collect());
        let snapshot = test.snapshot();
        // The odds of a sign are no rating.
        let signs = linear(&logistic).into_iter().filter(|(name, _)| *name != "rmse").collect();
        vec![
            ("overall mean", 0, by(&|_| snapshot.mean)),
            ("target's mean", 0, by(&|edge| snapshot.target_mean(edge.target))),
            ("in-mean + out-mean", 0, by(&|edge| snapshot.both_means(edge.source, edge.target))),
            ("label propagation", 0, alike(baselines::spread_ratings(test.snapshot(), &test.edges))),
            ("logistic regression", logistic.parameters(), signs),
            ("ridge regression", squares.parameters(), linear(&squares)),
        ]
    }

    fn validates(&self) -> bool {
        let [validation, _] = &self.held_out;
        if self.preference.is_some() { !validation.choices.is_empty() } else { !validation.edges.is_empty() }
    }

    fn counts(&self) -> [usize; 3] {
        [self.rows.len(), self.held_out[0].edges.len(), self.held_out[1].edges.len()]
    }
}

impl Session for EdgeSession {
    fn rows(&self) -> usize {
        self.rows.len()
    }

    fn parameters(&self) -> Vec<(String, Tensor)> {
        self.model.parameters()
    }

    fn loss(&self, rows: &[usize], window: StepWindow<'_>) -> Result<BatchLoss, TaskError> {
        let mut by_moment: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for &row in rows {
            let (moment, row) = self.rows[row];
            by_moment.entry(moment).or_default().push(row);
        }
        let (mut sum, mut right, mut gradients) = (0.0, 0.0, Gradients::default());
        for (moment, own) in by_moment {
            let pass = self.model.learning(window.step, moment << 32 | own[0]);
            let (part, hits, of_part) = self.moment_loss(&self.moments[moment], &own, pass, true)?;
            sum += part;
            right += hits;
            gradients.add_all(of_part)?;
        }
        let (term, gradients) = self.model.regularise(gradients, rows.len() as f64)?;
        Ok(BatchLoss { sum: sum + term, gradients, metrics: vec![("accuracy", right)] })
    }

    fn evaluate(&self) -> Result<Metrics, TaskError> {
        let moment = &self.held_out[0];
        let count = if self.preference.is_some() { moment.choices.len() } else { moment.edges.len() };
        if count == 0 {
            return Ok(Metrics::new());
        }
        let rows: Vec<usize> = (0..count).collect();
        let (sum, right, _) = self.moment_loss(moment, &rows, self.model.applied(), false)?;
        Ok(vec![("eval_loss", sum / count as f64), ("eval_accuracy", right / count as f64)])
    }
}
