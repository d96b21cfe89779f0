//! Scores of nodes and of pairs from a base and an adapter: what is deployed.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ftk_networks::graphs::state::KnownRatings;
use ftk_networks::graphs::{End, MessageKind, Pairs, pairs};
use ftk_networks::ops::graph::Features;

use super::edges;
use super::error::GraphError;
use super::graph::{Carries, Edge, Graph};
use super::inputs;
use super::links::{self, LinkGraph};
use super::measures;
use super::model::GraphModel;
use super::streaming;
use super::structure::{OF_PAIR, SCALE, Snapshot};
use super::table::{HeaderLine, Table};
use ftk_networks::graphs::name::spelt;

/// What is to be scored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScoreTargets {
    /// Every node of the graph, as far as it was there.
    AllNodes,
    /// The nodes in the first column of a table.
    Nodes(PathBuf),
    /// The pairs in the first two columns of a table.
    Pairs(PathBuf),
}

/// Scores, and what stands in them.
#[derive(Clone, Debug, PartialEq)]
pub struct Scores {
    /// Names of the columns: ends, class where there is one, values.
    pub columns: Vec<String>,
    /// One for each node or pair.
    pub rows: Vec<Score>,
    /// What of the graph was not used, in words.
    pub unread: Option<String>,
}

/// What is said of a node or a pair.
#[derive(Clone, Debug, PartialEq)]
pub struct Score {
    /// The node, or source and target.
    pub ends: Vec<String>,
    /// The class, where nodes are classified.
    pub class: Option<String>,
    /// Logits of all classes; or the rating, and the log of the odds that it is positive; or the log of the odds that
    /// there is an edge.
    pub values: Vec<f64>,
    /// Neighbours of each end.
    pub neighbours: Vec<usize>,
}

impl Score {
    /// Of a pair of nodes.
    fn of_pair(graph: &Graph, lists: &[Vec<u32>], pair: &[usize; 2], values: Vec<f64>) -> Self {
        let ends = pair.iter().map(|&node| graph.name(node)).collect();
        let neighbours = pair.iter().map(|&node| lists[node].len()).collect();
        Self { ends, class: None, values, neighbours }
    }
}

/// Scores what is asked with what the graph holds, or with what it held `before` a moment, in its own units of time:
/// what is later passes no message and enters no figure of a pair.
///
/// # Errors
/// Files that cannot be read or do not fit each other; a moment for a graph without times; a node that was not there.
pub fn run(
    (base, adapter): (&Path, Option<&Path>),
    graph: &Graph,
    asked: &ScoreTargets,
    before: Option<f64>,
) -> Result<Scores, GraphError> {
    let model = GraphModel::frozen(base, adapter)?;
    if matches!(model.network.head, End::Encoder | End::Comparer(_)) {
        let hint = "give --adapter: one that brings its head (gnn.train_head = true)";
        return Err(GraphError::unfit("the base was trained without classes and scores nothing by itself", hint));
    }
    let scores_pairs = matches!(model.network.head, End::Pair { .. });
    let (whole, past) = (graph, graph.as_of(before)?);
    let graph = &*past;
    match asked {
        ScoreTargets::Pairs(path) if scores_pairs => {
            let ends = ends::<2>(path, graph)?;
            graph.were_there(ends.as_flattened(), before)?;
            match &model.network.head {
                head if *head == edges::END => {
                    graph.in_seconds()?;
                    let rows = score_pairs(&model, graph, &ends, before)?;
                    Ok(columns(&["source", "target", "rating", "log_odds"], rows, None))
                }
                _ if pairs::takes_pairs(&model.network) => {
                    let rows = score_stream(&model, graph, &ends, &whole.known(before)?)?;
                    Ok(columns(&["source", "target", "rating", "log_odds"], rows, None))
                }
                End::Pair { known: links::KNOWN, outputs: 1, .. } => {
                    let unread = graph.unread(Carries { weight: false, time: before.is_some(), direction: false });
                    Ok(columns(&["source", "target", "log_odds"], score_links(&model, graph, &ends)?, unread))
                }
                other => {
                    let message = format!("the base scores pairs in a way that is not known: {other:?}");
                    Err(GraphError::unfit(message, "give a base of ratings or links"))
                }
            }
        }
        ScoreTargets::Pairs(_) => {
            Err(GraphError::unfit("the base does not score pairs", "give --nodes instead of --pairs"))
        }
        _ if scores_pairs => Err(GraphError::unfit("the base scores pairs", "give --pairs instead of --nodes")),
        ScoreTargets::AllNodes => {
            let moment = before.unwrap_or(f64::INFINITY);
            let nodes: Vec<usize> = (0..graph.nodes).filter(|&node| graph.was_there(node, moment)).collect();
            of_nodes(&model, graph, &nodes, before.is_some())
        }
        ScoreTargets::Nodes(path) => {
            let nodes: Vec<usize> = ends::<1>(path, graph)?.into_iter().map(|[node]| node).collect();
            graph.were_there(&nodes, before)?;
            of_nodes(&model, graph, &nodes, before.is_some())
        }
    }
}

fn columns(names: &[&str], rows: Vec<Score>, unread: Option<String>) -> Scores {
    Scores { columns: names.iter().map(|name| (*name).to_owned()).collect(), rows, unread }
}

fn of_nodes(model: &GraphModel, graph: &Graph, nodes: &[usize], timed: bool) -> Result<Scores, GraphError> {
    let rows = score_nodes(model, graph, nodes)?;
    let classes = rows.first().map_or(graph.classes.len(), |row| row.values.len());
    let class = |class: usize| graph.classes.get(class).cloned().unwrap_or_else(|| class.to_string());
    let columns = ["node".to_owned(), "class".to_owned()].into_iter().chain((0..classes).map(class));
    let weight = model.network.messages == MessageKind::Weighed;
    let unread = graph.unread(Carries { weight, time: timed, direction: false });
    Ok(Scores { columns: columns.collect(), rows, unread })
}

/// Names in the first column of a table.
///
/// # Errors
/// A table that cannot be read.
pub fn names(path: &Path) -> Result<Vec<String>, GraphError> {
    let table = Table::read(path, HeaderLine::Names)?;
    table.rows().iter().map(|row| Ok(table.text(row, 0)?.to_owned())).collect()
}

/// Pairs of names in the first two columns of a table.
///
/// # Errors
/// A table that cannot be read.
pub fn pairs_of_names(path: &Path) -> Result<Vec<[String; 2]>, GraphError> {
    let table = Table::read(path, HeaderLine::Names)?;
    let name = |row, column| table.text(row, column).map(str::to_owned);
    table.rows().iter().map(|row| Ok([name(row, 0)?, name(row, 1)?])).collect()
}

/// Nodes by name in the first columns of a table.
fn ends<const N: usize>(path: &Path, graph: &Graph) -> Result<Vec<[usize; N]>, GraphError> {
    let table = Table::read(path, HeaderLine::Names)?;
    let numbers = graph.numbers();
    let row = |row| {
        let mut found = [0; N];
        for (column, found) in found.iter_mut().enumerate() {
            let name = table.text(row, column)?;
            let number = numbers.get(&*spelt(name));
            let number =
                number.ok_or_else(|| table.wrong(row, column, &format!("is not a node of the graph: {name}")))?;
            *found = *number as usize;
        }
        Ok(found)
    };
    table.rows().iter().map(row).collect()
}

fn score_nodes(model: &GraphModel, graph: &Graph, nodes: &[usize]) -> Result<Vec<Score>, GraphError> {
    let network = &model.network;
    let features = features(model, graph)?;
    let heard = inputs::heard(graph, network.messages)?;
    let hops = inputs::hops_of(network, &heard);
    let logits = network.classify(&mut model.applied(), &features, &hops, nodes)?.to_vec2::<f32>()?;
    let score = |(&node, logits): (&usize, Vec<f32>)| {
        let class = measures::largest(&logits);
        let class = graph.classes.get(class).cloned().unwrap_or_else(|| class.to_string());
        let values = logits.into_iter().map(f64::from).collect();
        Score { ends: vec![graph.name(node)], class: Some(class), values, neighbours: vec![heard[node].len()] }
    };
    Ok(nodes.iter().zip(logits).map(score).collect())
}

/// The features that the base takes.
fn features(model: &GraphModel, graph: &Graph) -> Result<Arc<Features>, GraphError> {
    let features = inputs::features(graph, model.network.prepare)?;
    if features.width() != model.network.inputs {
        let message = format!("the base takes {} features, the graph has {}", model.network.inputs, features.width());
        return Err(GraphError::unfit(message, "give the graph the base was made for"));
    }
    Ok(features)
}

fn score_stream(
    model: &GraphModel,
    graph: &Graph,
    asked: &[[usize; 2]],
    known: &KnownRatings,
) -> Result<Vec<Score>, GraphError> {
    if asked.is_empty() {
        return Ok(Vec::new());
    }
    let lists = graph.neighbours();
    let names: Vec<[String; 2]> = asked.iter().map(|pair| pair.map(|end| graph.name(end))).collect();
    let scores = streaming::score_pairs(model, &known.pairs(&names))?;
    Ok(asked.iter().zip(scores).map(|(pair, score)| Score::of_pair(graph, &lists, pair, score.to_vec())).collect())
}

/// Ratings in the order of time, and the moment at which they are looked at: the last one's where none is given.
fn by_time(graph: &Graph, before: Option<f64>) -> (Vec<Edge>, f64) {
    let mut edges = graph.edges.clone();
    edges.sort_by(|a, b| a.time.total_cmp(&b.time).then((a.source, a.target).cmp(&(b.source, b.target))));
    let now = before.unwrap_or_else(|| edges.last().map_or(0.0, |edge| edge.time));
    (edges, now)
}

fn score_links(model: &GraphModel, graph: &Graph, asked: &[[usize; 2]]) -> Result<Vec<Score>, GraphError> {
    let seen = LinkGraph::new(features(model, graph)?, graph.neighbours(), model);
    let pairs: Vec<(u32, u32)> = asked.iter().map(|&[source, target]| (source as u32, target as u32)).collect();
    let scores = if pairs.is_empty() { Vec::new() } else { seen.scores(model, &pairs)? };
    Ok(asked.iter().zip(scores).map(|(pair, score)| Score::of_pair(graph, &seen.lists, pair, vec![score])).collect())
}

fn score_pairs(
    model: &GraphModel,
    graph: &Graph,
    asked: &[[usize; 2]],
    before: Option<f64>,
) -> Result<Vec<Score>, GraphError> {
    if asked.is_empty() {
        return Ok(Vec::new());
    }
    let (edges, now) = by_time(graph, before);
    let snapshot = Snapshot::new(graph.nodes, &edges, now);
    let network = &model.network;
    let hops = inputs::hops(network.model_type, network.layers, &snapshot.lists);
    let known = asked.iter().flat_map(|&[source, target]| snapshot.pair(source as u32, target as u32)).collect();
    let pairs = Pairs {
        sources: asked.iter().map(|pair| pair[0]).collect(),
        targets: asked.iter().map(|pair| pair[1]).collect(),
        known: Arc::new(Features::new(OF_PAIR, known)),
    };
    let scores = network.score(&mut model.applied(), &snapshot.features, &hops, &pairs)?;
    let scores = scores.to_vec2::<f32>()?;
    let values = |score: Vec<f32>| vec![f64::from(score[0]) * SCALE, f64::from(score[1])];
    let score = |(pair, score)| Score::of_pair(graph, &snapshot.lists, pair, values(score));
    Ok(asked.iter().zip(scores).map(score).collect())
}
