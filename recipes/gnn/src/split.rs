//! Which nodes, or which edges, are learnt from, validated on and tested on.

use std::collections::{BTreeMap, BTreeSet};

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use super::error::GraphError;
use super::graph::{Edge, Graph, NodeSplit};
use super::settings::{Gnn, Split};

/// Share at the end of a temporal split that is tested on, whatever lies between validation and it.
const TESTED: f64 = 0.2;

/// A part for each labelled node.
///
/// # Errors
/// A split that the graph does not have or that would leak.
pub fn nodes(graph: &Graph, gnn: &Gnn, seed: u64) -> Result<Vec<NodeSplit>, GraphError> {
    let labelled: Vec<usize> =
        (0..graph.nodes).filter(|&node| graph.labels.get(node).is_some_and(Option::is_some)).collect();
    if labelled.is_empty() {
        return Err(GraphError::unfit(
            "the graph has no classes",
            "give nodes a column y, or choose another gnn.objective",
        ));
    }
    let mut parts = vec![NodeSplit::None; graph.nodes];
    match gnn.split {
        Split::Given if graph.parts.is_empty() => {
            let hint = "choose gnn.split = \"planetoid\", \"temporal\" or \"random\"";
            return Err(GraphError::unfit("the graph's file gives no split", hint));
        }
        Split::Given => parts.clone_from(&graph.parts),
        Split::Planetoid => {
            let mut left = vec![20usize; graph.classes.len()];
            let mut rest = Vec::new();
            for &node in &labelled {
                let left = &mut left[graph.labels[node].map_or(0, |label| label as usize)];
                if *left > 0 {
                    *left -= 1;
                    parts[node] = NodeSplit::Train;
                } else {
                    rest.push(node);
                }
            }
            if rest.len() < 1500 {
                let hint = "choose gnn.split = \"random\" or \"temporal\"";
                return Err(GraphError::unfit("too few nodes for 500 to validate and 1000 to test on", hint));
            }
            rest[..500].iter().for_each(|&node| parts[node] = NodeSplit::Validation);
            rest[rest.len() - 1000..].iter().for_each(|&node| parts[node] = NodeSplit::Test);
        }
        Split::Stream => {
            let hint = "choose gnn.split = \"temporal\"";
            return Err(GraphError::unfit("this split is one of ratings, not of nodes", hint));
        }
        Split::Temporal if graph.times.is_empty() => {
            let hint = "give nodes a column time, or choose another gnn.split";
            return Err(GraphError::unfit("the graph does not say when its nodes came to be", hint));
        }
        Split::Temporal => {
            let mut order = labelled;
            order.sort_by(|&a, &b| graph.times[a].total_cmp(&graph.times[b]).then(a.cmp(&b)));
            deal(&order, gnn.shares, |&node, part| parts[node] = part);
        }
        Split::Random => {
            refuse_leak(graph, gnn)?;
            let order = shuffled(labelled, seed);
            deal(&order, gnn.shares, |&node, part| parts[node] = part);
        }
    }
    if let Some(most) = gnn.labels {
        let mut left = vec![most; graph.classes.len()];
        let train = (0..graph.nodes).filter(|&node| parts[node] == NodeSplit::Train).collect();
        for node in shuffled(train, seed) {
            match graph.labels[node].map(|class| &mut left[class as usize]) {
                Some(left) if *left > 0 => *left -= 1,
                _ => parts[node] = NodeSplit::None,
            }
        }
    }
    let trains = labelled_in(graph, &parts, NodeSplit::Train);
    if trains == 0 {
        return Err(GraphError::unfit(
            "the split has no node to train on",
            "look at the graph's masks or at gnn.shares",
        ));
    }
    Ok(parts)
}

/// Nodes that a temporal split lets be learnt from whatever they are: those that came to be no later than the last one
/// that is labelled and to train on; where no node is labelled, the share of all that comes first.
///
/// # Errors
/// A graph without times of nodes.
pub fn past(graph: &Graph, gnn: &Gnn, parts: &[NodeSplit]) -> Result<Vec<usize>, GraphError> {
    if graph.times.is_empty() {
        let hint = "give nodes a column time, or choose another gnn.split";
        return Err(GraphError::unfit("the graph does not say when its nodes came to be", hint));
    }
    let mut order: Vec<usize> = (0..graph.nodes).collect();
    order.sort_by(|&a, &b| graph.times[a].total_cmp(&graph.times[b]).then(a.cmp(&b)));
    let last = order.iter().rposition(|&node| parts.get(node) == Some(&NodeSplit::Train));
    let count = last.map_or((gnn.shares[0] * order.len() as f64) as usize, |last| last + 1);
    let mut past = order[..count.min(order.len())].to_vec();
    past.sort_unstable();
    Ok(past)
}

fn labelled_in(graph: &Graph, parts: &[NodeSplit], part: NodeSplit) -> usize {
    (0..graph.nodes).filter(|&node| parts[node] == part && graph.labels[node].is_some()).count()
}

/// A part for each edge, in the graph's order.
///
/// # Errors
/// As [`nodes`].
pub fn edges(graph: &Graph, gnn: &Gnn, seed: u64) -> Result<Vec<NodeSplit>, GraphError> {
    let mut parts = vec![NodeSplit::None; graph.edges.len()];
    deal(&order(graph, gnn, seed)?, gnn.shares, |&edge, part| parts[edge] = part);
    Ok(parts)
}

/// A part for each edge, in the graph's order, where all edges between two nodes have one part, whatever their
/// direction, weight or time: to know one of them is to know that the nodes are joined. A temporal split takes the
/// earliest of them for all, and so does that of a file.
///
/// # Errors
/// As [`nodes`].
pub fn pairs(graph: &Graph, gnn: &Gnn, seed: u64) -> Result<Vec<NodeSplit>, GraphError> {
    if gnn.split == Split::Given {
        if graph.held_out.is_empty() {
            let hint = "choose gnn.split = \"temporal\" or \"random\", or give edges a column split";
            return Err(GraphError::unfit("the graph's file gives no split of edges", hint));
        }
        let part = |edge: &Edge| graph.held_out.get(&edge.pair()).copied().unwrap_or(NodeSplit::Train);
        return Ok(graph.edges.iter().map(part).collect());
    }
    let pair = |edge: usize| graph.edges[edge].pair();
    let mut met = BTreeSet::new();
    let order: Vec<usize> = order(graph, gnn, seed)?.into_iter().filter(|&edge| met.insert(pair(edge))).collect();
    let mut parts = BTreeMap::new();
    deal(&order, gnn.shares, |&edge, part| {
        parts.insert(pair(edge), part);
    });
    Ok((0..graph.edges.len()).map(|edge| parts.get(&pair(edge)).copied().unwrap_or(NodeSplit::None)).collect())
}

/// The edges in the order in which they are dealt to the parts.
fn order(graph: &Graph, gnn: &Gnn, seed: u64) -> Result<Vec<usize>, GraphError> {
    let all: Vec<usize> = (0..graph.edges.len()).collect();
    Ok(match gnn.split {
        Split::Temporal | Split::Stream if graph.carries.time => {
            let mut order = all;
            let key = |edge: usize| &graph.edges[edge];
            // Of edges of one moment, the graph's order decides.
            order.sort_by(|&a, &b| key(a).time.total_cmp(&key(b).time).then(a.cmp(&b)));
            order
        }
        Split::Temporal | Split::Stream => {
            let hint = "give edges a column time, or choose gnn.split = \"random\"";
            return Err(GraphError::unfit("the graph does not say when its edges came to be", hint));
        }
        Split::Random => {
            refuse_leak(graph, gnn)?;
            shuffled(all, seed)
        }
        Split::Given | Split::Planetoid => {
            let hint = "choose gnn.split = \"temporal\", or \"random\" where edges carry no time";
            return Err(GraphError::unfit("this split is one of nodes, not of edges", hint));
        }
    })
}

fn refuse_leak(graph: &Graph, gnn: &Gnn) -> Result<(), GraphError> {
    if graph.is_timed() && !gnn.random_split_leaks_the_future {
        let hint = "choose gnn.split = \"temporal\", or say gnn.random_split_leaks_the_future = true";
        return Err(GraphError::unfit("a random split of a graph that carries time learns from the future", hint));
    }
    Ok(())
}

fn deal<T>(order: &[T], [train, validation]: [f64; 2], mut give: impl FnMut(&T, NodeSplit)) {
    let at = |share: f64| (order.len() as f64 * share) as usize;
    let test = at((1.0 - TESTED).max(train + validation));
    for (index, item) in order.iter().enumerate() {
        if index < at(train) {
            give(item, NodeSplit::Train);
        } else if index < at(train + validation) {
            give(item, NodeSplit::Validation);
        } else if index >= test {
            give(item, NodeSplit::Test);
        }
    }
}

/// Fisher and Yates, by a stream of its own.
pub(super) fn shuffled(mut order: Vec<usize>, seed: u64) -> Vec<usize> {
    let key = blake3::Hasher::new_derive_key("ftk graph split").update(&seed.to_le_bytes()).finalize();
    let mut rng = ChaCha8Rng::from_seed(*key.as_bytes());
    for last in (1..order.len()).rev() {
        order.swap(last, (rng.next_u64() % (last as u64 + 1)) as usize);
    }
    order
}
