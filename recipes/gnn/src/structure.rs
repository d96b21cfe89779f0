//! What can be said of users and of pairs of users from ratings alone, at a moment: counts, means, ages, and what they
//! have to do with each other. Only ratings before that moment are looked at, so that nothing of the future enters, and
//! everything is scaled alike for every graph, so that a network for one graph takes the features of another.

use std::collections::HashMap;
use std::sync::Arc;

use ftk_networks::ops::graph::Features;

use super::graph::{Edge, neighbours};

/// Features of a user.
pub const OF_NODE: usize = 13;
/// Features of a pair.
pub const OF_PAIR: usize = 14;
/// Ratings are divided by their largest magnitude in the data this was made for.
pub const SCALE: f64 = 10.0;
/// Ratings a mean is pulled towards the overall mean by.
const SHRINK: f64 = 3.0;
const DAY: f64 = 86_400.0;

/// Ratings in one direction at one user.
#[derive(Clone, Copy, Debug, Default)]
struct RatingSide {
    count: f64,
    /// Sum of differences from the overall mean.
    above: f64,
    negative: f64,
}

impl RatingSide {
    /// Mean difference from the overall mean, pulled towards 0.
    fn mean(&self) -> f64 {
        self.above / (self.count + SHRINK)
    }

    fn negative_share(&self) -> f64 {
        self.negative / (self.count + 1.0)
    }
}

/// What is known at a moment.
#[derive(Debug)]
pub struct Snapshot {
    /// Mean of all ratings.
    pub mean: f64,
    /// `(nodes, OF_NODE)`.
    pub features: Arc<Features>,
    /// Neighbours in either direction.
    pub lists: Vec<Vec<u32>>,
    received: Vec<RatingSide>,
    given: Vec<RatingSide>,
    ratings: HashMap<(u32, u32), f64>,
    /// Whom each user rated.
    rated: Vec<Vec<u32>>,
}

impl Snapshot {
    /// Of these ratings; `now` is the time of the moment, in seconds.
    pub fn new(nodes: usize, edges: &[Edge], now: f64) -> Self {
        let mean = edges.iter().map(|edge| f64::from(edge.weight)).sum::<f64>() / edges.len().max(1) as f64;
        let (mut received, mut given) = (vec![RatingSide::default(); nodes], vec![RatingSide::default(); nodes]);
        let mut met = vec![None::<(f64, f64)>; nodes];
        let mut rated = vec![Vec::new(); nodes];
        let mut ratings = HashMap::new();
        for edge in edges {
            let (source, target, rating) = (edge.source as usize, edge.target as usize, f64::from(edge.weight));
            for side in [&mut received[target], &mut given[source]] {
                side.count += 1.0;
                side.above += rating - mean;
                side.negative += f64::from(u8::from(rating < 0.0));
            }
            for node in [source, target] {
                let (first, last) = met[node].unwrap_or((edge.time, edge.time));
                met[node] = Some((first.min(edge.time), last.max(edge.time)));
            }
            // Of several ratings of one pair the last one in time counts.
            ratings.insert((edge.source, edge.target), rating);
            rated[source].push(edge.target);
        }
        let days = |since: f64| libm::log1p((now - since).max(0.0) / DAY) / 8.0;
        let mut values = Vec::with_capacity(nodes * OF_NODE);
        for node in 0..nodes {
            let (into, out) = (&received[node], &given[node]);
            let (first, last) = met[node].map_or((0.0, 0.0), |(first, last)| (days(first), days(last)));
            let row: [f64; OF_NODE] = [
                1.0,
                f64::from(u8::from(into.count > 0.0)),
                f64::from(u8::from(out.count > 0.0)),
                libm::log1p(into.count) / 4.0,
                libm::log1p(out.count) / 4.0,
                libm::log1p(into.negative) / 2.0,
                libm::log1p(out.negative) / 2.0,
                into.mean() / SCALE * 4.0,
                out.mean() / SCALE * 4.0,
                into.negative_share() * 2.0,
                out.negative_share() * 2.0,
                first,
                last,
            ];
            values.extend(row.map(|value| value as f32));
        }
        let lists = neighbours(nodes, edges.iter().map(|edge| (edge.source, edge.target)));
        Self { mean, features: Arc::new(Features::new(OF_NODE, values)), lists, received, given, ratings, rated }
    }

    /// The target's mean rating, pulled towards the overall mean.
    pub fn target_mean(&self, target: u32) -> f64 {
        self.mean + self.received[target as usize].mean()
    }

    /// That plus by how much the source's ratings lie above the overall mean.
    pub fn both_means(&self, source: u32, target: u32) -> f64 {
        self.target_mean(target) + self.given[source as usize].mean()
    }

    /// What is known of a pair.
    pub fn pair(&self, source: u32, target: u32) -> [f32; OF_PAIR] {
        let (given, received) = (&self.given[source as usize], &self.received[target as usize]);
        let flag = |set: bool| f64::from(u8::from(set));
        let back = self.ratings.get(&(target, source));
        // Whom the source rated and who rated the target.
        let between = self.rated[source as usize]
            .iter()
            .filter_map(|&middle| Some((self.ratings[&(source, middle)], *self.ratings.get(&(middle, target))?)));
        let (mut count, mut trust, mut said) = (0.0, 0.0, 0.0);
        for (first, second) in between {
            count += 1.0;
            trust += first * second / (SCALE * SCALE);
            said += second / SCALE;
        }
        let (mine, theirs) = (&self.lists[source as usize], &self.lists[target as usize]);
        let shared = mine.iter().filter(|other| theirs.binary_search(other).is_ok()).count() as f64;
        let row = [
            given.mean() / SCALE * 4.0,
            received.mean() / SCALE * 4.0,
            flag(back.is_some()),
            back.copied().unwrap_or(0.0) / SCALE * 2.0,
            flag(back.is_some_and(|&rating| rating < 0.0)),
            flag(received.count == 0.0),
            flag(given.count == 0.0),
            flag(received.count == 0.0 && given.count == 0.0),
            libm::log1p(count) / 2.0,
            trust / (count + 1.0) * 2.0,
            said / (count + 1.0) * 2.0,
            libm::log1p(shared) / 2.0,
            given.negative_share() * flag(received.count == 0.0) * 2.0,
            given.mean() / SCALE * 4.0 * flag(received.count == 0.0),
        ];
        row.map(|value| value as f32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edge(source: u32, target: u32, weight: f32, time: f64) -> Edge {
        Edge { source, target, weight, time }
    }

    #[test]
    fn a_snapshot_knows_means_and_who_rated_back() {
        let edges = [edge(0, 1, 4.0, 0.0), edge(2, 1, -8.0, DAY), edge(1, 0, 1.0, 2.0 * DAY)];
        let now = Snapshot::new(4, &edges, 3.0 * DAY);
        assert_eq!(now.mean, -1.0);
        assert!((now.target_mean(1) - (-1.0 + (5.0 - 7.0) / 5.0)).abs() < 1e-12);
        assert!((now.both_means(0, 1) - (now.target_mean(1) + 5.0 / 4.0)).abs() < 1e-12);
        assert_eq!(now.target_mean(3), -1.0);
        let pair = now.pair(0, 1);
        assert_eq!((pair[2], pair[3]), (1.0, 0.2));
        let stranger = now.pair(3, 3);
        assert_eq!(&stranger[5..8], [1.0; 3]);
        // 2 rated 1, who rated 0.
        assert!(now.pair(2, 0)[8] > 0.0 && now.pair(2, 0)[9] < 0.0);
    }
}
