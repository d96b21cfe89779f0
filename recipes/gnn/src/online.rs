//! Ratings that come after a graph was learnt from: each is scored by what was known right before it, then it is known,
//! then it is learnt from. The host makes the steps and says when; what each of them learns from is said here.
//!
//! Nothing is kept of a state beside the ratings themselves: it is computed again from them, so that whoever goes on with
//! more ratings has what one would have who took them all at once.

use std::ops::Range;
use std::path::{Path, PathBuf};

use ftk_bases::graphs;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use super::edges::judge;
use super::error::GraphError;
use super::graph::{Edge, Graph};
use super::import::{self, Origin};
use super::measures::NamedFigures;
use super::model::GraphModel;
use super::opened::of;
use super::rule::OUTPUTS;
use super::settings::{Objective, Split};
use super::streaming::StreamSession;
use ftk_recipes::{Recipe, Session};

/// Ratings as they come, with the model that is to learn from them.
#[derive(Debug)]
pub struct FeedbackStream {
    session: StreamSession,
    /// The model as it was before any of them.
    start: GraphModel,
    /// All that is known after the last of them.
    all: Graph,
    /// Ratings that were known before the first of them.
    known: usize,
    replay: usize,
    seed: u64,
    /// Digest of the graph that was known.
    pub digest: blake3::Hash,
    /// Digest of the weights of the base.
    pub base: blake3::Hash,
}

/// What two models said of a rating before it was known: rating, and the log of the odds that it is positive.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Foresight {
    /// The model that learns.
    pub learning: [f64; OUTPUTS],
    /// The model as it was before the first rating of the stream.
    pub start: [f64; OUTPUTS],
}

impl FeedbackStream {
    /// Reads what a recipe knows and the tables of ratings that came after it.
    ///
    /// # Errors
    /// A recipe of something else; tables that are malformed; a rating that is no later than what was known; a base that
    /// does not fit.
    pub fn open(recipe: &Recipe, files: &[PathBuf]) -> Result<Self, GraphError> {
        let gnn = of(recipe)?;
        if gnn.objective != Objective::Ratings || gnn.split != Split::Stream {
            let hint = "write gnn.objective = \"ratings\" and gnn.split = \"stream\"";
            return Err(GraphError::unfit("feedback is learnt by what scores ratings as they come", hint));
        }
        let (graph, _) = import::import(&Origin::Path(recipe.data.train.clone()))?;
        if !graph.carries.weight || !graph.carries.time {
            let hint = "give its edges the columns src, dst, rating and time";
            return Err(GraphError::unfit("what is known must be ratings with times", hint));
        }
        let all = import::with_later(&graph, files)?;
        all.in_seconds()?;
        let mut edges = all.edges.clone();
        edges.sort_by(|a, b| a.time.total_cmp(&b.time).then((a.source, a.target).cmp(&(b.source, b.target))));
        let known = graph.edges.len();
        let session = StreamSession::following(recipe, gnn, all.nodes, edges)?;
        // Before anything is trained, the session's weights are those of the start.
        let start = StreamSession::following(recipe, gnn, 1, Vec::new())?.model;
        let base = graphs::digest(&start.network, &start.weights)?;
        let (replay, seed, digest) = (gnn.replay, recipe.run.seed, graph.digest());
        Ok(Self { session, start, all, known, replay, seed, digest, base })
    }

    /// What the host trains.
    pub fn session(&self) -> &dyn Session {
        &self.session
    }

    /// Ratings that were known before the stream.
    pub fn known(&self) -> usize {
        self.known
    }

    /// Ratings of the stream.
    pub fn count(&self) -> usize {
        self.session.edges().len() - self.known
    }

    /// All that is known in the end.
    pub fn after(&self) -> &Graph {
        &self.all
    }

    fn edge(&self, at: usize) -> &Edge {
        &self.session.edges()[self.known + at]
    }

    /// A rating of the stream: who rates whom, when, and how.
    pub fn rating(&self, at: usize) -> ([String; 2], f64, f32) {
        let Edge { source, target, weight, time } = *self.edge(at);
        ([source, target].map(|end| self.all.name(end as usize)), time, weight)
    }

    /// The ratings of one moment, from the first of them on: they do not know of each other.
    pub fn moment(&self, from: usize) -> Range<usize> {
        let now = self.edge(from).time;
        from..(from..self.count()).find(|&at| self.edge(at).time != now).unwrap_or(self.count())
    }

    /// What is said of ratings of the stream by what was known right before each of them.
    ///
    /// # Errors
    /// The device's.
    pub fn foresee(&self, ratings: Range<usize>) -> Result<Vec<Foresight>, GraphError> {
        let places = self.known + ratings.start..self.known + ratings.end;
        let learning = self.session.said_by(&self.session.model, places.clone())?;
        let start = self.session.said_by(&self.start, places)?;
        Ok(learning.into_iter().zip(start).map(|(learning, start)| Foresight { learning, start }).collect())
    }

    /// The rows of the session that a step, counted from 0, learns from: so many of the stream, and `gnn.replay` drawn
    /// from all that came before them.
    pub fn rows(&self, step: usize, batch: usize) -> Vec<usize> {
        let first = self.known + step * batch;
        let key = blake3::Hasher::new_derive_key("ftk replayed ratings")
            .update(&self.seed.to_le_bytes())
            .update(&(step as u64).to_le_bytes())
            .finalize();
        let mut rng = ChaCha8Rng::from_seed(*key.as_bytes());
        let replayed = if first == 0 { 0 } else { self.replay };
        let drawn = (0..replayed).map(|_| (rng.next_u64() % first as u64) as usize);
        (first..first + batch).chain(drawn).collect()
    }

    /// How well ratings from the first of the stream on were told.
    pub fn figures(&self, said: &[[f64; OUTPUTS]]) -> NamedFigures {
        let edges = &self.session.edges()[self.known..self.known + said.len()];
        let (ratings, signs): (Vec<f64>, Vec<f64>) = said.iter().map(|&[rating, sign]| (rating, sign)).unzip();
        if edges.is_empty() { Vec::new() } else { judge(edges, &ratings, &signs) }
    }

    /// Writes what was trained; names the files with weights.
    ///
    /// # Errors
    /// The file system's; an adapter that does not fit the grid.
    pub fn export(&self, out: &Path, base: &str) -> Result<Vec<&'static str>, GraphError> {
        self.session.model.export(out, base)
    }
}
