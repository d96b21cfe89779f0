//! The coefficients of a convolution: those of messages that weigh as much as the edges they pass over, the same over a
//! whole graph and over a part of it, and those of messages that all weigh alike over a whole graph.

use std::sync::Arc;

use super::leaf::Incident;
use super::{GraphNetworkKind, Hop};
use crate::ops::graph::{
    ONE, Propagation, Sparse, symmetric_coefficient, weighed_coefficient, weighed_share, with_itself,
};

/// Whom the edges of a node, in their order, join it to, in rising order, with the weights of all edges between the two
/// together.
pub fn joined(edges: &[Incident]) -> Vec<(u32, f64)> {
    let mut all: Vec<(u32, f64)> = Vec::new();
    for edge in edges {
        let weight = f64::from(edge.weight);
        match all.last_mut() {
            Some((other, sum)) if *other == edge.other => *sum += weight,
            _ => all.push((edge.other, weight)),
        }
    }
    all
}

/// One more than the weights of all that a node hears together, in their order.
pub fn weighed_degree(heard: &[(u32, f64)]) -> f64 {
    heard.iter().fold(1.0, |sum, (_, weight)| sum + weight)
}

/// What a node gathers of whom, at scale `2^-30` and in rising order, from those it hears, in rising order; `degree` is
/// [`weighed_degree`] of each of these. A node hears itself with the weight 1, where a kind has it hear itself.
pub fn weighed_row(
    kind: GraphNetworkKind,
    node: u32,
    heard: &[(u32, f64)],
    degree: impl Fn(u32) -> f64,
) -> Vec<(u32, u32)> {
    let mut all = heard.to_vec();
    if kind != GraphNetworkKind::Sage {
        all.insert(all.partition_point(|(other, _)| *other < node), (node, 1.0));
    }
    let own = weighed_degree(heard);
    let total = all.iter().fold(0.0, |sum, (_, weight)| sum + weight);
    let coefficient = |(other, weight): (u32, f64)| match kind {
        GraphNetworkKind::Gcn if other == node => (other, weighed_coefficient(weight, own, own)),
        GraphNetworkKind::Gcn => (other, weighed_coefficient(weight, degree(other), own)),
        // Attention asks who is heard, and not how much.
        GraphNetworkKind::Sage | GraphNetworkKind::SageGcn | GraphNetworkKind::Gat => {
            (other, weighed_share(weight, total))
        }
    };
    all.into_iter().map(coefficient).collect()
}

/// What every node gathers from the nodes of its list, which rise, where all messages weigh alike.
pub fn alike(kind: GraphNetworkKind, lists: &[Vec<u32>]) -> Propagation {
    match kind {
        GraphNetworkKind::Gcn => symmetric(lists),
        GraphNetworkKind::Sage => Propagation::means(lists, lists.len()),
        GraphNetworkKind::SageGcn => closed_means(lists),
        GraphNetworkKind::Gat => attended(lists),
    }
}

/// The same hop for every convolution, over all nodes.
pub fn on_all(layers: usize, gather: Propagation) -> Vec<Hop> {
    let all: Vec<usize> = (0..gather.rows()).collect();
    let hop = Hop { gather: Arc::new(gather), own: Arc::new(Propagation::choosing(&all, all.len())) };
    vec![hop; layers]
}

/// Messages of a graph convolution: every node and its neighbours, weighed by both degrees (Kipf and Welling 2017).
pub fn symmetric(lists: &[Vec<u32>]) -> Propagation {
    let degree = |node: usize| lists[node].len() + 1;
    let rows = (0..lists.len()).map(|node| {
        with_itself(&lists[node], node as u32).into_iter().map(move |sender| {
            let coefficient = symmetric_coefficient(degree(sender as usize), degree(node));
            (sender, coefficient)
        })
    });
    Propagation::new(Sparse::from_rows(lists.len(), rows))
}

/// The means over every node and its neighbours.
fn closed_means(lists: &[Vec<u32>]) -> Propagation {
    Propagation::means(lists.iter().enumerate().map(|(node, list)| with_itself(list, node as u32)), lists.len())
}

/// Who a node attends to: itself and its neighbours. The coefficients say nothing.
fn attended(lists: &[Vec<u32>]) -> Propagation {
    let rows =
        (0..lists.len()).map(|node| with_itself(&lists[node], node as u32).into_iter().map(|sender| (sender, ONE)));
    Propagation::new(Sparse::from_rows(lists.len(), rows))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges_between_two_nodes_weigh_together() {
        let edge = |other, sends, weight| Incident { other, sends, weight, time: 0.0 };
        let edges = [edge(1, false, 0.5), edge(1, true, 2.0), edge(4, false, 0.25)];
        assert_eq!(joined(&edges), [(1, 2.5), (4, 0.25)]);
        assert_eq!(weighed_degree(&joined(&edges)), 3.75);
    }

    #[test]
    fn weights_enter_and_equal_ones_change_nothing() {
        let third = |value: f64| (value * f64::from(ONE)).round() as u32;
        let heard = [(1, 3.0), (4, 0.0)];
        let row = |kind| weighed_row(kind, 2, &heard, |_| 9.0);
        assert_eq!(row(GraphNetworkKind::Gcn), [(1, third(3.0 / 6.0)), (2, third(1.0 / 4.0)), (4, 0)]);
        assert_eq!(row(GraphNetworkKind::Sage), [(1, ONE), (4, 0)]);
        assert_eq!(row(GraphNetworkKind::SageGcn), [(1, third(0.75)), (2, third(0.25)), (4, 0)]);
        for (mine, theirs) in [(1usize, 1usize), (2, 5), (169, 3), (4000, 12_345)] {
            let heard: Vec<(u32, f64)> = (1..=mine as u32).map(|other| (other, 1.0)).collect();
            let row = weighed_row(GraphNetworkKind::Gcn, 0, &heard, |_| theirs as f64 + 1.0);
            assert!(row[1].1.abs_diff(symmetric_coefficient(mine + 1, theirs + 1)) <= 1, "{mine} {theirs}");
        }
    }

    /// Weights come from files of others, where they are looked at before this; no sum of them may break anything.
    #[test]
    fn no_weight_breaks_a_coefficient() {
        for weight in [f64::from(f32::MAX), -3.0, f64::NAN, 1e-300] {
            for kind in [GraphNetworkKind::Gcn, GraphNetworkKind::Sage, GraphNetworkKind::SageGcn] {
                let row = weighed_row(kind, 0, &[(1, weight), (2, weight)], |_| weighed_degree(&[(0, weight)]));
                assert!(row.iter().all(|(_, value)| *value <= ONE), "{weight} {row:?}");
            }
        }
        assert_eq!(weighed_row(GraphNetworkKind::Sage, 0, &[(1, 0.0)], |_| 1.0), [(1, 0)]);
    }

    #[test]
    fn a_convolution_weighs_by_both_degrees_itself_among_them() {
        let lists = [vec![1], vec![0, 2], vec![1]];
        let over = alike(GraphNetworkKind::Gcn, &lists);
        let row: Vec<(u32, u32)> = over.coefficients().row(1).collect();
        let side = symmetric_coefficient(2, 3);
        assert_eq!(row, [(0, side), (1, symmetric_coefficient(3, 3)), (2, side)]);
        let third = Propagation::means([[0, 1, 2]], 3).coefficients().values()[0];
        assert_eq!(
            alike(GraphNetworkKind::SageGcn, &lists).coefficients().row(1).collect::<Vec<_>>(),
            [(0, third), (1, third), (2, third)]
        );
        assert_eq!(
            alike(GraphNetworkKind::SageGcn, &lists).coefficients().row(0).collect::<Vec<_>>(),
            [(0, ONE / 2), (1, ONE / 2)]
        );
        assert_eq!(
            alike(GraphNetworkKind::Gat, &lists).coefficients().row(0).collect::<Vec<_>>(),
            [(0, ONE), (1, ONE)]
        );
    }
}
