//! A graph in memory: nodes by number, edges in one order, whatever file they came from.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

pub use ftk_networks::graphs::leaf::{Carries, Edge};
use ftk_networks::graphs::state::KnownRatings;
use ftk_networks::ops::graph::Features;

use super::error::GraphError;

/// What a node is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum NodeSplit {
    /// Nothing: it only passes messages.
    #[default]
    None,
    /// Learnt from.
    Train,
    /// The state that does best here is kept.
    Validation,
    /// Looked at last.
    Test,
}

/// Nodes and edges.
#[derive(Clone, Debug)]
pub struct Graph {
    /// What the nodes were called; their numbers if they had no other names.
    pub names: Option<Vec<String>>,
    /// Nodes.
    pub nodes: usize,
    /// `(nodes, width)`, where there are any.
    pub features: Option<Arc<Features>>,
    /// Class of each node; empty where the graph has none.
    pub labels: Vec<Option<u32>>,
    /// What the classes were called.
    pub classes: Vec<String>,
    /// Split, as the file gives it; empty where it gives none.
    pub parts: Vec<NodeSplit>,
    /// When each node came to be; empty where that is not known.
    pub times: Vec<f64>,
    /// In order of source, target and time; one direction of an undirected edge, that of the smaller source.
    pub edges: Vec<Edge>,
    /// What edges carry.
    pub carries: Carries,
    /// Pairs whose edges are validated or tested on, as the file says it, the smaller node first; empty where it says
    /// nothing of edges.
    pub held_out: BTreeMap<(u32, u32), NodeSplit>,
}

/// What an import found and did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ImportFindings {
    /// Edges that were there twice and are once. The other way round, an undirected edge may be written too.
    pub duplicates: usize,
    /// Edges that differed by a weight of more digits than 32 bits hold, and are the same as another now: they are among
    /// those that were there twice.
    pub merged: usize,
    /// Edges from a node to itself, which are left out: networks add their own.
    pub loops: usize,
    /// Edges that stood behind a later one, and were put in order.
    pub out_of_order: usize,
    /// Nodes without an edge.
    pub isolated: usize,
    /// Nodes without a class in a graph that has classes.
    pub unlabelled: usize,
    /// Edges to validate or test on whose nodes an edge of an earlier part joins: all of a pair are of that part.
    pub known: usize,
}

/// Seconds since 1970 of a moment after the year 5000: times from here on are in a smaller unit.
const NO_SECONDS: f64 = 1e11;

impl Graph {
    /// Without nodes.
    pub(super) fn empty() -> Self {
        Graph {
            names: None,
            nodes: 0,
            features: None,
            labels: Vec::new(),
            classes: Vec::new(),
            parts: Vec::new(),
            times: Vec::new(),
            edges: Vec::new(),
            carries: Carries::default(),
            held_out: BTreeMap::new(),
        }
    }

    /// Gives its edges, in their order, weights or else times; with either they have a direction.
    pub(super) fn carry(&mut self, weights: bool, values: &[f64]) {
        for (edge, &value) in self.edges.iter_mut().zip(values) {
            if weights { edge.weight = value as f32 } else { edge.time = value }
        }
        let Carries { weight, time, .. } = self.carries;
        self.carries = Carries { weight: weight || weights, time: time || !weights, direction: true };
    }

    /// Refuses edges that are no ratings with times in seconds.
    ///
    /// # Errors
    /// Edges without weights or times; a time that seconds do not reach.
    pub(super) fn are_ratings(&self) -> Result<(), GraphError> {
        let Carries { weight, time, direction } = self.carries;
        if !(weight && time && direction) {
            let message = "this task is about ratings with times, which the graph's edges do not carry";
            return Err(GraphError::unfit(message, "give edges the columns src, dst, rating and time"));
        }
        self.in_seconds()
    }

    /// Refuses times in another unit than seconds, where what is made of them depends on it.
    ///
    /// # Errors
    /// A time that seconds do not reach.
    pub(super) fn in_seconds(&self) -> Result<(), GraphError> {
        match self.edges.iter().find(|edge| edge.time.abs() >= NO_SECONDS) {
            None => Ok(()),
            Some(edge) => {
                let message = format!("ratings need their times in seconds, and this is no such time: {}", edge.time);
                Err(GraphError::unfit(message, "divide milliseconds by 1000, microseconds by 1000000"))
            }
        }
    }

    /// What edges carry beside what is used of it, in words.
    pub(super) fn unread(&self, used: Carries) -> Option<String> {
        let Carries { weight, time, direction } = self.carries;
        let names = [
            (weight && !used.weight, "weights"),
            (time && !used.time, "times"),
            (direction && !used.direction, "directions"),
        ];
        let names: Vec<&str> = names.into_iter().filter(|(there, _)| *there).map(|(_, name)| name).collect();
        (!names.is_empty()).then(|| format!("not used of the edges: {}", names.join(", ")))
    }

    /// Puts edges in order and checks everything against everything else.
    ///
    /// # Errors
    /// Ends that are no nodes, numbers that are not finite, lengths that differ; `path` names the file.
    pub(super) fn new(path: &Path, mut graph: Self) -> Result<(Self, ImportFindings), GraphError> {
        let wrong = |message: String| Err(GraphError::malformed(path, message));
        let n = graph.nodes;
        if n == 0 || u32::try_from(n).is_err() {
            return wrong(format!("a graph has from 1 to {} nodes, not {n}", u32::MAX));
        }
        for (what, length) in [
            ("names", graph.names.as_ref().map_or(n, Vec::len)),
            ("rows of features", graph.features.as_ref().map_or(n, |features| features.rows())),
            ("labels", if graph.labels.is_empty() { n } else { graph.labels.len() }),
            ("parts of the split", if graph.parts.is_empty() { n } else { graph.parts.len() }),
            ("times", if graph.times.is_empty() { n } else { graph.times.len() }),
        ] {
            if length != n {
                return wrong(format!("{length} {what} for {n} nodes"));
            }
        }
        let told = graph.names.is_some() || graph.features.is_some();
        if !told && [graph.labels.len(), graph.parts.len(), graph.times.len()] == [0; 3] {
            are_believable(path, n, graph.edges.len())?;
        }
        if let Some(label) = graph.labels.iter().flatten().find(|&&label| label as usize >= graph.classes.len()) {
            return wrong(format!("{} classes, but a label: {label}", graph.classes.len()));
        }
        if let Some(edge) = graph.edges.iter().find(|edge| edge.source.max(edge.target) as usize >= n) {
            return wrong(format!("{n} nodes, but an edge: {} to {}", edge.source, edge.target));
        }
        let finite = graph.edges.iter().all(|edge| edge.weight.is_finite() && edge.time.is_finite());
        if !finite || graph.times.iter().any(|time| !time.is_finite()) {
            return wrong("a weight or time is not finite".to_owned());
        }
        if graph.features.as_ref().is_some_and(|features| !features.is_finite()) {
            return wrong("a feature is not finite".to_owned());
        }
        let names: BTreeSet<&String> = graph.names.iter().flatten().collect();
        if graph.names.is_some() && names.len() < n {
            return wrong("two nodes have one name".to_owned());
        }
        // There is one zero.
        graph.times.iter_mut().for_each(|time| *time += 0.0);
        for edge in &mut graph.edges {
            (edge.weight, edge.time) = (edge.weight + 0.0, edge.time + 0.0);
        }
        let mut found = ImportFindings::default();
        if graph.carries.time {
            found.out_of_order = graph.edges.windows(2).filter(|pair| pair[0].time > pair[1].time).count();
        }
        let all = graph.edges.len();
        graph.edges.retain(|edge| edge.source != edge.target);
        found.loops = all - graph.edges.len();
        found.duplicates = graph.put_in_order();
        if !graph.carries.direction {
            for edge in &mut graph.edges {
                if edge.source > edge.target {
                    (edge.source, edge.target) = (edge.target, edge.source);
                }
            }
            graph.put_in_order();
        }
        if !graph.held_out.is_empty() {
            let joined: BTreeSet<(u32, u32)> = graph.edges.iter().map(Edge::pair).collect();
            if let Some((a, b)) = graph.held_out.keys().find(|pair| !joined.contains(*pair)) {
                return wrong(format!("a pair is held out that no edge joins: {a} and {b}"));
            }
        }
        let mut met = vec![false; n];
        for edge in &graph.edges {
            (met[edge.source as usize], met[edge.target as usize]) = (true, true);
        }
        found.isolated = met.iter().filter(|&&met| !met).count();
        found.unlabelled = graph.labels.iter().filter(|label| label.is_none()).count();
        Ok((graph, found))
    }

    /// Sorts the edges and leaves each once; how many were there before.
    fn put_in_order(&mut self) -> usize {
        self.edges.sort_by(|a, b| {
            let ends = (a.source, a.target).cmp(&(b.source, b.target));
            ends.then(a.time.total_cmp(&b.time)).then(a.weight.total_cmp(&b.weight))
        });
        let all = self.edges.len();
        self.edges.dedup();
        all - self.edges.len()
    }

    /// The name of a node.
    pub fn name(&self, node: usize) -> String {
        self.names.as_ref().map_or_else(|| node.to_string(), |names| names[node].clone())
    }

    /// The node of each name; names are spelt as [`ftk_networks::graphs::name::spelt`] has them.
    pub fn numbers(&self) -> BTreeMap<String, u32> {
        (0..self.nodes).map(|node| (self.name(node), node as u32)).collect()
    }

    /// Says of its edges, in their order, what they are for. All edges between two nodes are of one part, the earliest
    /// that one of them has; of how many that is another than theirs.
    pub(super) fn hold_out(&mut self, parts: &[NodeSplit]) -> usize {
        let mut of: BTreeMap<(u32, u32), NodeSplit> = BTreeMap::new();
        for (edge, &part) in self.edges.iter().zip(parts) {
            let first = of.entry(edge.pair()).or_insert(part);
            *first = part.min(*first);
        }
        let other = self.edges.iter().zip(parts).filter(|(edge, part)| of[&edge.pair()] != **part).count();
        of.retain(|(a, b), part| a != b && *part > NodeSplit::Train);
        self.held_out = of;
        other
    }

    /// Whether an edge is one to validate or test on, as the file says it.
    pub(super) fn holds_out(&self, edge: &Edge) -> bool {
        self.held_out.contains_key(&edge.pair())
    }

    /// Whether anything in it says when it came to be.
    pub fn is_timed(&self) -> bool {
        self.carries.time || !self.times.is_empty()
    }

    /// What was there before a moment: edges that are not earlier are gone, and with them every edge of a node that is
    /// not; such nodes keep their numbers.
    ///
    /// # Errors
    /// A graph without times; a moment that is no number.
    pub fn before(&self, moment: f64) -> Result<Self, GraphError> {
        if !moment.is_finite() {
            return Err(GraphError::unfit(format!("no moment: {moment}"), "give --before a number"));
        }
        if !self.is_timed() {
            let hint = "import it with a column time of edges or nodes, or leave out --before";
            return Err(GraphError::unfit("the graph does not say when anything came to be", hint));
        }
        let mut past = self.clone();
        past.edges.retain(|edge| {
            let ends = [edge.source, edge.target].into_iter().all(|node| self.was_there(node as usize, moment));
            ends && !(self.carries.time && edge.time >= moment)
        });
        if !past.held_out.is_empty() {
            let joined: BTreeSet<(u32, u32)> = past.edges.iter().map(Edge::pair).collect();
            past.held_out.retain(|pair, _| joined.contains(pair));
        }
        Ok(past)
    }

    /// The same, or all of it where no moment is given.
    ///
    /// # Errors
    /// As [`Graph::before`].
    pub fn as_of(&self, before: Option<f64>) -> Result<Cow<'_, Self>, GraphError> {
        Ok(match before {
            None => Cow::Borrowed(self),
            Some(moment) => Cow::Owned(self.before(moment)?),
        })
    }

    /// Refuses nodes that were not there before a moment.
    ///
    /// # Errors
    /// The name of the first one.
    pub fn were_there(&self, nodes: &[usize], before: Option<f64>) -> Result<(), GraphError> {
        let moment = before.unwrap_or(f64::INFINITY);
        match nodes.iter().find(|&&node| !self.was_there(node, moment)) {
            None => Ok(()),
            Some(&node) => {
                let message = format!("a node was not there before the moment of --before: {}", self.name(node));
                Err(GraphError::unfit(message, "ask for earlier nodes, or give a later moment"))
            }
        }
    }

    /// All its ratings, as they are known before a moment, or at that of the last one where none is given.
    ///
    /// # Errors
    /// Edges that are no ratings; none that is known then.
    pub fn known(&self, before: Option<f64>) -> Result<KnownRatings, GraphError> {
        self.are_ratings()?;
        if !self.times.is_empty() {
            let message = "a state is of ratings alone, and here nodes have times";
            return Err(GraphError::unfit(message, "import the ratings without them"));
        }
        let past = self.as_of(before)?;
        let last = past.edges.iter().map(|edge| edge.time).fold(f64::NEG_INFINITY, f64::max);
        let known = KnownRatings::new(before.unwrap_or(last), &past.edges, |node| self.name(node as usize));
        known.ok_or_else(|| GraphError::unfit("no rating is known by then", "give --before a later moment"))
    }

    /// Whether a node came to be before a moment, as far as that is known.
    pub fn was_there(&self, node: usize, moment: f64) -> bool {
        self.times.get(node).is_none_or(|&time| time < moment)
    }

    /// Neighbours of every node in rising order, over edges in either direction.
    pub fn neighbours(&self) -> Vec<Vec<u32>> {
        neighbours(self.nodes, self.edges.iter().map(|edge| (edge.source, edge.target)))
    }
}

/// Most nodes for each edge where a file says nothing else of them.
const NODES_PER_EDGE: usize = 64;
/// So many nodes are no burden, however few edges there are.
const FEW_NODES: usize = 1 << 20;

/// Refuses a number of nodes that is a mere number: a few bytes may claim four thousand million.
///
/// # Errors
/// Many more nodes than edges; `path` names the file.
pub(super) fn are_believable(path: &Path, nodes: usize, edges: usize) -> Result<(), GraphError> {
    if nodes <= FEW_NODES || nodes / NODES_PER_EDGE <= edges {
        return Ok(());
    }
    let error =
        GraphError::malformed(path, format!("{nodes} nodes for {edges} edges, and nothing else is said of them"));
    Err(error.hinted("number nodes from 0 without gaps, or give their features or labels"))
}

/// Neighbours of every node in rising order, each once, over pairs taken both ways.
pub(super) fn neighbours(nodes: usize, pairs: impl IntoIterator<Item = (u32, u32)>) -> Vec<Vec<u32>> {
    let mut lists = vec![Vec::new(); nodes];
    for (a, b) in pairs {
        lists[a as usize].push(b);
        lists[b as usize].push(a);
    }
    for list in &mut lists {
        list.sort_unstable();
        list.dedup();
    }
    lists
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    fn edge(source: u32, target: u32) -> Edge {
        Edge { source, target, weight: 1.0, time: 0.0 }
    }

    pub(in super::super) fn graph(nodes: usize, edges: Vec<Edge>) -> Graph {
        Graph { nodes, edges, ..Graph::empty() }
    }

    fn new(graph: Graph) -> Result<(Graph, ImportFindings), String> {
        Graph::new(Path::new("g"), graph).map_err(|error| error.to_string())
    }

    #[test]
    fn an_undirected_edge_is_one_edge_and_loops_are_left_out() {
        let (graph, found) = new(graph(4, vec![edge(2, 1), edge(1, 2), edge(2, 1), edge(0, 0), edge(0, 1)])).unwrap();
        assert_eq!(graph.edges, [edge(0, 1), edge(1, 2)]);
        assert_eq!(found, ImportFindings { duplicates: 1, loops: 1, isolated: 1, ..ImportFindings::default() });
        assert_eq!(graph.neighbours(), [vec![1], vec![0, 2], vec![1], vec![]]);
    }

    #[test]
    fn a_direction_makes_two_edges_and_time_puts_them_in_order() {
        let at = |source, target, time| Edge { time, ..edge(source, target) };
        let mut timed = graph(2, vec![at(1, 0, 5.0), at(0, 1, 7.0), at(0, 1, 6.0), at(0, 1, 6.0)]);
        timed.carries = Carries { direction: true, time: true, weight: false };
        let (graph, found) = new(timed).unwrap();
        assert_eq!(graph.edges, [at(0, 1, 6.0), at(0, 1, 7.0), at(1, 0, 5.0)]);
        assert_eq!((found.duplicates, found.out_of_order), (1, 1));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        assert_eq!(new(graph(0, vec![])).unwrap_err(), "g: a graph has from 1 to 4294967295 nodes, not 0");
        assert_eq!(new(graph(2, vec![edge(0, 2)])).unwrap_err(), "g: 2 nodes, but an edge: 0 to 2");
        let nan = Edge { weight: f32::NAN, ..edge(0, 1) };
        assert_eq!(new(graph(2, vec![nan])).unwrap_err(), "g: a weight or time is not finite");
        let labelled = Graph { labels: vec![Some(1), None], classes: vec!["a".to_owned()], ..graph(2, vec![]) };
        assert_eq!(new(labelled).unwrap_err(), "g: 1 classes, but a label: 1");
        let claimed = |nodes| new(graph(nodes, vec![edge(0, 1)])).map(|(graph, _)| graph.nodes);
        assert_eq!(claimed(1 << 20), Ok(1 << 20));
        let refused = "g: 1048577 nodes for 1 edges, and nothing else is said of them";
        assert_eq!(claimed((1 << 20) + 1), Err(refused.to_owned()));
        let short = Graph { labels: vec![None], ..graph(2, vec![]) };
        assert_eq!(new(short).unwrap_err(), "g: 1 labels for 2 nodes");
    }

    #[test]
    fn a_state_is_of_directed_ratings_among_nodes_without_times() {
        let mut all = graph(2, vec![edge(0, 1)]);
        let refused = |graph: &Graph| graph.known(None).unwrap_err().to_string();
        all.carries = Carries { weight: true, time: true, direction: false };
        assert!(
            refused(&all).contains("ratings with times, which the graph's edges do not carry"),
            "{}",
            refused(&all)
        );
        all.carries.direction = true;
        assert!(all.known(None).is_ok());
        all.times = vec![0.0; 2];
        assert!(refused(&all).contains("a state is of ratings alone, and here nodes have times"), "{}", refused(&all));
    }
}
