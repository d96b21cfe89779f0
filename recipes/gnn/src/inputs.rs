//! What enters a network: the features of a graph's nodes as a recipe wants them, and how messages pass.

use std::sync::Arc;

use ftk_networks::graphs::messages::{alike, joined, on_all, weighed_degree, weighed_row};
use ftk_networks::graphs::{GraphNetwork, GraphNetworkKind, Hop, MessageKind, Prepare};
use ftk_networks::ops::graph::{Features, Propagation, Sparse};

use super::error::GraphError;
use super::graph::Graph;
use super::settings::{FRESH, Gnn};
use ftk_recipes::Recipe;

/// The features of a graph, normalised and projected.
///
/// # Errors
/// A graph without features.
pub fn features(graph: &Graph, prepare: Prepare) -> Result<Arc<Features>, GraphError> {
    let Some(features) = &graph.features else {
        return Err(GraphError::unfit(
            "the graph has no features",
            "give nodes columns of numbers, or make some of its edges: ftk gnn import --structure",
        ));
    };
    Ok(prepare.features(features.clone()))
}

/// Who hears whom among all nodes: neighbours in either direction; where nodes carry times, earlier ones only.
pub fn incoming(graph: &Graph) -> Vec<Vec<u32>> {
    let mut lists = graph.neighbours();
    if !graph.times.is_empty() {
        for (node, list) in lists.iter_mut().enumerate() {
            list.retain(|&other| graph.times[other as usize] < graph.times[node]);
        }
    }
    lists
}

/// Refuses messages that a recipe wants weighed by what edges do not carry.
///
/// # Errors
/// Edges without weights.
pub fn carries_weights(graph: &Graph, recipe: &Recipe, gnn: &Gnn) -> Result<(), GraphError> {
    let asked = gnn.messages == MessageKind::Weighed && recipe.base.model.as_os_str() == FRESH;
    if asked && !graph.carries.weight {
        let hint = "give edges a column weight, or leave out gnn.messages";
        return Err(GraphError::unfit("gnn.messages = \"weighed\" goes by weights, and the edges carry none", hint));
    }
    Ok(())
}

/// Whom every node hears, as [`incoming`] has it, and how much of each: as much as all edges between the two, if messages
/// are weighed.
///
/// # Errors
/// A negative weight, where messages are weighed.
pub fn heard(graph: &Graph, messages: MessageKind) -> Result<Vec<Vec<(u32, f64)>>, GraphError> {
    let lists = incoming(graph);
    if messages == MessageKind::Alike {
        return Ok(lists.into_iter().map(|list| list.into_iter().map(|other| (other, 1.0)).collect()).collect());
    }
    if let Some(edge) = graph.edges.iter().find(|edge| edge.weight < 0.0) {
        let [source, target] = [edge.source, edge.target].map(|end| graph.name(end as usize));
        let message = format!("messages cannot weigh less than nothing: {source} to {target}, {}", edge.weight);
        return Err(GraphError::unfit(message, "leave out gnn.messages, or give weights from 0 on"));
    }
    let of = |(edges, list): (_, &Vec<u32>)| {
        let mut all = joined(edges);
        all.retain(|(other, _)| list.binary_search(other).is_ok());
        all
    };
    Ok(graph.incident().iter().map(Vec::as_slice).zip(&lists).map(of).collect())
}

/// The same without how much.
pub fn whom(heard: &[Vec<(u32, f64)>]) -> Vec<Vec<u32>> {
    heard.iter().map(|list| list.iter().map(|(other, _)| *other).collect()).collect()
}

/// The same hop for every convolution of a network, over all nodes.
pub fn hops_of(network: &GraphNetwork, heard: &[Vec<(u32, f64)>]) -> Vec<Hop> {
    let (kind, layers) = (network.model_type, network.layers);
    if network.messages == MessageKind::Alike {
        return hops(kind, layers, &whom(heard));
    }
    let degrees: Vec<f64> = heard.iter().map(|list| weighed_degree(list)).collect();
    let degree = |other: u32| degrees[other as usize];
    let rows = heard.iter().enumerate().map(|(node, list)| weighed_row(kind, node as u32, list, degree));
    on_all(layers, Propagation::new(Sparse::from_rows(heard.len(), rows)))
}

/// The same hop for every convolution, over all nodes, with messages that all weigh alike.
pub fn hops(kind: GraphNetworkKind, layers: usize, lists: &[Vec<u32>]) -> Vec<Hop> {
    on_all(layers, alike(kind, lists))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use ftk_networks::graphs::{GraphNetwork, Head};

    use super::super::graph::{Carries, Edge, tests::graph};
    use super::*;

    /// A ring of seven nodes with two chords.
    fn ring() -> Graph {
        let edge = |(source, target)| Edge { source, target, weight: 1.0, time: 0.0 };
        let edges = [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (5, 6), (0, 6), (1, 4), (2, 6)].map(edge).to_vec();
        let features = Features::new(2, (0..14).map(|at| (at % 5) as f32).collect());
        Graph { features: Some(Arc::new(features)), ..graph(7, edges) }
    }

    /// The same with times of nodes, and of directed and weighed edges.
    fn timed() -> Graph {
        let mut graph = Graph { times: (0..7).map(|node| f64::from(node * 3 % 7)).collect(), ..ring() };
        graph.carries = Carries { weight: true, time: true, direction: true };
        graph
    }

    fn network(kind: GraphNetworkKind) -> GraphNetwork {
        GraphNetwork::new(kind, [2, 3, 2, 1], Head::Convolution, 4)
    }

    /// The same with weights, several edges between two nodes, and one of no weight.
    fn weighed() -> Graph {
        let mut graph = timed();
        let more = [(4, 1), (1, 4), (6, 5)].map(|(source, target)| Edge { source, target, weight: 1.0, time: 2.0 });
        graph.edges.extend(more);
        for (at, edge) in graph.edges.iter_mut().enumerate() {
            edge.weight = [0.1, 7.5, 0.0, 1e6][at % 4];
        }
        graph
    }

    /// Senders of the first hop, then the receivers of each, in rising order.
    fn levels(lists: &[Vec<u32>], nodes: &[u32], hops: usize) -> Vec<Vec<u32>> {
        let mut levels = vec![nodes.iter().copied().collect::<BTreeSet<u32>>()];
        for hop in 0..hops {
            let reached = levels[hop].iter().flat_map(|&node| [node].into_iter().chain(lists[node as usize].clone()));
            levels.push(reached.collect());
        }
        levels.into_iter().rev().map(|level| level.into_iter().collect()).collect()
    }

    /// What the whole graph gives, row by row: coefficients, senders and features.
    #[test]
    fn a_part_passes_what_the_whole_graph_passes() {
        let untimed = Graph { times: Vec::new(), ..weighed() };
        let messages = [MessageKind::Alike, MessageKind::Alike, MessageKind::Weighed, MessageKind::Weighed];
        for (graph, messages) in [ring(), timed(), weighed(), untimed].into_iter().zip(messages) {
            let lists = incoming(&graph);
            for kind in
                [GraphNetworkKind::Gcn, GraphNetworkKind::Sage, GraphNetworkKind::SageGcn, GraphNetworkKind::Gat]
            {
                let network = GraphNetwork { messages, ..network(kind) };
                let whole = &hops_of(&network, &heard(&graph, messages).unwrap())[0];
                let nodes = [4, 1, 4];
                let part = graph.neighbourhood(&nodes, network.layers).unwrap();
                let pass = part.pass(&network, &nodes);
                let levels = levels(&lists, &nodes, network.layers);
                assert_eq!(part.receivers(&nodes), [levels[1].len(), levels[2].len()]);
                assert_eq!(levels[2], [1, 4]);
                assert_eq!(pass.rows, [1, 0, 1]);
                for (row, node) in levels[0].iter().enumerate() {
                    let features = graph.features.as_ref().unwrap().row(*node as usize);
                    assert_eq!(pass.features.row(row), features);
                }
                for (hop, level) in pass.hops.iter().zip(levels.windows(2)) {
                    for (row, node) in level[1].iter().enumerate() {
                        let named = |part: &Propagation, row: usize| -> Vec<(u32, u32)> {
                            part.coefficients().row(row).map(|(at, value)| (level[0][at as usize], value)).collect()
                        };
                        let all = |whole: &Propagation| -> Vec<(u32, u32)> {
                            whole.coefficients().row(*node as usize).collect()
                        };
                        if kind == GraphNetworkKind::Gat {
                            let senders = |row: Vec<(u32, u32)>| row.into_iter().map(|(at, _)| at).collect::<Vec<_>>();
                            assert_eq!(senders(named(&hop.gather, row)), senders(all(&whole.gather)));
                        } else {
                            assert_eq!(named(&hop.gather, row), all(&whole.gather), "{kind:?}");
                        }
                        assert_eq!(named(&hop.own, row), all(&whole.own));
                    }
                }
            }
        }
    }

    #[test]
    fn features_are_prepared_as_those_of_the_whole_graph() {
        let graph = ring();
        for prepare in [
            Prepare { normalise: true, project: None },
            Prepare { normalise: false, project: Some(3) },
            Prepare { normalise: true, project: Some(3) },
        ] {
            let inputs = prepare.project.unwrap_or(2);
            let network = GraphNetwork { inputs, prepare, ..network(GraphNetworkKind::Sage) };
            let part = graph.neighbourhood(&[3], 2).unwrap();
            part.fits(&network).unwrap();
            let whole = features(&graph, prepare).unwrap();
            let pass = part.pass(&network, &[3]);
            for (row, node) in levels(&incoming(&graph), &[3], 2)[0].iter().enumerate() {
                assert_eq!(pass.features.row(row), whole.row(*node as usize), "{prepare:?}");
            }
            let raw = graph.features.as_ref().unwrap();
            assert!((0..7).any(|node| whole.row(node) != raw.row(node)), "something is prepared");
        }
    }
}
