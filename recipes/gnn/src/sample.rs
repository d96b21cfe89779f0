//! Neighbourhoods drawn for some nodes, for graphs that do not fit into one pass (Hamilton et al. 2017).
//!
//! Where nodes carry times, whatever reaches a node through however many hops came to be before it: every copy of a
//! neighbour remembers for whom it was drawn.

use std::collections::BTreeMap;
use std::sync::Arc;

use ftk_networks::graphs::Hop;
use ftk_networks::ops::graph::Propagation;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

/// Nodes of the first hop's senders, and the hops that lead from them to the nodes asked for.
#[derive(Debug)]
pub struct Sample {
    /// Numbers of the nodes whose features enter.
    pub nodes: Vec<usize>,
    /// One hop for each convolution, the first one first.
    pub hops: Vec<Hop>,
}

/// Draws at most `most[i]` neighbours of every node that the `i`-th convolution from the end receives at, all where
/// there are no more. `key` says which.
pub fn draw(lists: &[Vec<u32>], times: &[f64], seeds: &[usize], most: &[usize], key: u64) -> Sample {
    let mut hash = blake3::Hasher::new_derive_key("ftk graph sample");
    let mut rng = ChaCha8Rng::from_seed(*hash.update(&key.to_le_bytes()).finalize().as_bytes());
    // A node, and the time before which everything that reaches it must lie, as bits that order like the number.
    let bound = |node: usize| times.get(node).map_or(u64::MAX, |time| ordered(*time));
    let mut receivers: Vec<(usize, u64)> = seeds.iter().map(|&node| (node, bound(node))).collect();
    let mut hops = Vec::new();
    for &most in most {
        let mut senders = receivers.clone();
        let mut places: BTreeMap<(usize, u64), usize> = BTreeMap::new();
        for (at, sender) in senders.iter().enumerate() {
            places.entry(*sender).or_insert(at);
        }
        let mut rows = Vec::with_capacity(receivers.len());
        for &(node, until) in &receivers {
            let earlier = |&&other: &&u32| times.get(other as usize).is_none_or(|&time| ordered(time) < until);
            let mut open: Vec<u32> = lists[node].iter().filter(earlier).copied().collect();
            // The first steps of Fisher and Yates.
            let count = open.len().min(most);
            for at in 0..count {
                let left = (open.len() - at) as u64;
                if left > (count - at) as u64 {
                    open.swap(at, at + (rng.next_u64() % left) as usize);
                }
            }
            let mut row: Vec<u32> = open[..count]
                .iter()
                .map(|&other| {
                    let sender = (other as usize, until);
                    let next = senders.len();
                    let place = *places.entry(sender).or_insert(next);
                    if place == next {
                        senders.push(sender);
                    }
                    place as u32
                })
                .collect();
            row.sort_unstable();
            row.dedup();
            rows.push(row);
        }
        let own: Vec<usize> = (0..receivers.len()).collect();
        let gather = Arc::new(Propagation::means(rows, senders.len()));
        hops.push(Hop { gather, own: Arc::new(Propagation::choosing(&own, senders.len())) });
        receivers = senders;
    }
    hops.reverse();
    Sample { nodes: receivers.into_iter().map(|(node, _)| node).collect(), hops }
}

/// Bits of a finite number that order as the numbers do.
fn ordered(value: f64) -> u64 {
    let bits = (value + 0.0).to_bits();
    if bits >> 63 == 1 { !bits } else { bits | 1 << 63 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_neighbours_give_the_means_over_the_whole_graph() {
        let lists = [vec![1, 2], vec![0], vec![0, 3], vec![2]];
        let sample = draw(&lists, &[], &[0, 3], &[9, 9], 1);
        assert_eq!(sample.hops.len(), 2);
        assert_eq!(sample.hops[1].gather.rows(), 2);
        // Node 0 hears 1 and 2, node 3 hears 2; one hop earlier all four nodes send.
        let middle = sample.hops[0].gather.rows();
        assert_eq!((middle, sample.hops[1].gather.senders()), (4, 4));
        let mut nodes = sample.nodes.clone();
        nodes.sort_unstable();
        assert_eq!(nodes, [0, 1, 2, 3]);
        assert_eq!(sample.hops[1].gather.coefficients().row(0).count(), 2);
    }

    #[test]
    fn no_more_neighbours_are_drawn_than_asked_for_and_the_same_for_the_same_key() {
        let lists: Vec<Vec<u32>> = (0..40u32).map(|node| (0..40).filter(|&other| other != node).collect()).collect();
        let rows = |key| {
            let sample = draw(&lists, &[], &[5, 7], &[3], key);
            let row = |row| {
                sample.hops[0]
                    .gather
                    .coefficients()
                    .row(row)
                    .map(|(at, _)| sample.nodes[at as usize])
                    .collect::<Vec<_>>()
            };
            [row(0), row(1)]
        };
        assert!(rows(1).iter().all(|row| row.len() == 3));
        assert_eq!(rows(1), rows(1));
        assert_ne!(rows(1), rows(2));
    }

    #[test]
    fn nothing_reaches_a_node_that_is_not_earlier_than_it_through_any_hop() {
        // A path 0 - 1 - 2 - 3 and an edge 1 - 3; node 1 is older than 0, node 2 is younger than 0 but older than 3.
        let lists = [vec![1], vec![0, 2, 3], vec![1, 3], vec![1, 2]];
        let times = [5.0, 1.0, 6.0, 9.0];
        for seed in 0..4 {
            let sample = draw(&lists, &times, &[seed], &[9, 9, 9], 0);
            let incoming: Vec<usize> = sample.nodes.iter().copied().filter(|&node| node != seed).collect();
            assert!(incoming.iter().all(|&node| times[node] < times[seed]), "{seed} hears {incoming:?}");
        }
        assert_eq!(draw(&lists, &times, &[3], &[9, 9], 0).nodes.iter().filter(|&&node| node == 2).count(), 1);
        assert!([-1.0, -0.5, 0.0, 0.25, 7.0].map(ordered).is_sorted());
    }
}
