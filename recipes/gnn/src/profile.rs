//! What the edges of a graph say of its nodes, as features of nodes that have none of their own: how many there are in
//! either direction, how much they carry, and when. The same columns for every graph, on scales that do not depend on it,
//! so that a base fits other graphs.

use std::collections::BTreeSet;
use std::sync::Arc;

use ftk_networks::ops::graph::Features;

use super::graph::Graph;

/// Columns.
pub const WIDTH: usize = 20;
const DAY: f64 = 86_400.0;

/// One direction of a node's edges.
#[derive(Clone, Debug, Default)]
struct Flow {
    others: BTreeSet<u32>,
    count: f64,
    sum: f64,
    largest: f64,
    negative: f64,
}

impl Flow {
    fn take(&mut self, other: u32, weight: f64) {
        self.others.insert(other);
        self.count += 1.0;
        self.sum += weight.abs();
        self.largest = self.largest.max(weight.abs());
        self.negative += f64::from(u8::from(weight < 0.0));
    }

    fn columns(&self) -> [f64; 6] {
        let count = self.count.max(1.0);
        [
            libm::log1p(self.others.len() as f64) / 4.0,
            libm::log1p(self.count) / 4.0,
            libm::log1p(self.sum) / 8.0,
            libm::log1p(self.sum / count) / 8.0,
            libm::log1p(self.largest) / 8.0,
            self.negative / count,
        ]
    }
}

/// Adds to a graph, behind the features that it has, those that its edges make. Times count back from its last edge and
/// are taken for seconds.
pub fn describe(graph: &mut Graph) {
    let mut flows: Vec<[Flow; 2]> = vec![Default::default(); graph.nodes];
    let mut spans: Vec<Option<[f64; 2]>> = vec![None; graph.nodes];
    // To say anything of an edge that is tested on is to say that it is there.
    let told = || graph.edges.iter().filter(|edge| !graph.holds_out(edge));
    for edge in told() {
        let weight = f64::from(edge.weight);
        flows[edge.source as usize][0].take(edge.target, weight);
        flows[edge.target as usize][1].take(edge.source, weight);
        if !graph.carries.direction {
            flows[edge.target as usize][0].take(edge.source, weight);
            flows[edge.source as usize][1].take(edge.target, weight);
        }
        for end in [edge.source, edge.target] {
            let span = spans[end as usize].get_or_insert([edge.time; 2]);
            *span = [span[0].min(edge.time), span[1].max(edge.time)];
        }
    }
    let last = told().map(|edge| edge.time).fold(f64::NEG_INFINITY, f64::max);
    let days = |seconds: f64| libm::log1p(seconds / DAY) / 4.0;
    let degree = |node: u32| {
        let [out, into] = &flows[node as usize];
        libm::log1p((out.others.len() + into.others.len()) as f64) / 4.0
    };
    let mut values = Vec::new();
    for (node, [out, into]) in flows.iter().enumerate() {
        if let Some(own) = &graph.features {
            values.extend(own.row(node));
        }
        let back = out.others.intersection(&into.others).count() as f64;
        let met: Vec<u32> = out.others.union(&into.others).copied().collect();
        let mean = met.iter().map(|&other| degree(other)).sum::<f64>() / met.len().max(1) as f64;
        let most = met.iter().map(|&other| degree(other)).fold(0.0, f64::max);
        let [first, latest] = spans[node].unwrap_or([last; 2]);
        let when = match spans[node] {
            Some(_) => [days(last - first), days(last - latest), days(latest - first), 1.0],
            None => [0.0; 4],
        };
        let columns = out.columns().into_iter().chain(into.columns());
        let between =
            [back / met.len().max(1) as f64, (out.sum - into.sum) / (out.sum + into.sum).max(1e-12), mean, most];
        values.extend(columns.chain(when).chain(between).map(|value| value as f32));
    }
    let own = graph.features.as_ref().map_or(0, |features| features.width());
    graph.features = Some(Arc::new(Features::new(own + WIDTH, values)));
}

#[cfg(test)]
mod tests {
    use super::super::graph::{Carries, Edge, tests::graph};
    use super::*;

    #[test]
    fn edges_describe_their_ends_by_hand() {
        let edge = |source, target, weight, days| Edge { source, target, weight, time: f64::from(days) * DAY };
        let mut wallets =
            graph(4, vec![edge(0, 1, 3.0, 0), edge(0, 1, 5.0, 2), edge(1, 0, 2.0, 4), edge(2, 0, -1.0, 10)]);
        wallets.carries = Carries { weight: true, time: true, direction: true };
        describe(&mut wallets);
        let log = |value: f64, scale: f64| (libm::log1p(value) / scale) as f32;
        let features = wallets.features.as_ref().unwrap();
        let first = features.row(0);
        assert_eq!(first[..6], [log(1.0, 4.0), log(2.0, 4.0), log(8.0, 8.0), log(4.0, 8.0), log(5.0, 8.0), 0.0]);
        assert_eq!(first[6..12], [log(2.0, 4.0), log(2.0, 4.0), log(3.0, 8.0), log(1.5, 8.0), log(2.0, 8.0), 0.5]);
        assert_eq!(first[12..16], [log(10.0, 4.0), 0.0, log(10.0, 4.0), 1.0]);
        // One of two goes both ways; 8 went out and 3 came in.
        assert_eq!(first[16..18], [0.5, 5.0 / 11.0]);
        assert_eq!(features.row(3), vec![0.0; WIDTH]);
        // Behind what is known of nodes already, and alike in both directions where there are none.
        let mut town = graph(2, vec![edge(0, 1, 1.0, 0)]);
        town.features = Some(Arc::new(Features::new(1, vec![7.0, 8.0])));
        describe(&mut town);
        let features = town.features.unwrap();
        let (first, second) = (features.row(0), features.row(1));
        assert_eq!((features.width(), first[0], second[0]), (1 + WIDTH, 7.0, 8.0));
        assert_eq!((first[1..7].to_vec(), first[1..].to_vec()), (first[7..13].to_vec(), second[1..].to_vec()));
    }
}
