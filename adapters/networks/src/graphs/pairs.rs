//! What a network runs on that scores pairs of users by a state of a stream ([`super::stream`]): both users, those they
//! had to do with last, and what is known of the pair. Every pair has users of its own, since it may have a moment of its
//! own. The same where it is trained and where it is proved.

use std::sync::Arc;

use super::messages::{alike, on_all};
use super::stream::{OF_RATING, OF_USER, StreamState};
use super::{End, GraphNetwork, Hop, PairScorer, Pairs};
use crate::ops::graph::Features;

/// Numbers that are said of a pair: the rating, divided by [`super::stream::SCALE`], and the log of the odds that it is positive.
pub const OUTPUTS: usize = 2;
/// What such a network ends in.
pub const END: End = End::Pair { known: OF_RATING, outputs: OUTPUTS, scorer: PairScorer::Layers };
/// How many a user has messages from: those it had to do with last.
const RECENT: usize = 8;
/// Most users that a pair brings along.
pub const MOST_USERS: usize = 2 + 2 * RECENT;

/// Whether a network scores pairs by a state of a stream.
pub fn takes_pairs(network: &GraphNetwork) -> bool {
    network.head == END && network.inputs == OF_USER
}

/// Whom a user has messages from.
pub fn neighbours(state: &StreamState, user: u32) -> Vec<u32> {
    state.recent_neighbours(user, RECENT)
}

/// What is known of one user rating another.
#[derive(Clone, Debug, PartialEq)]
pub struct KnownPair {
    /// `(users, OF_USER)`: the source, the target, the source's neighbours, the target's neighbours.
    users: Vec<f32>,
    /// How many neighbours each of them has.
    neighbours: [usize; 2],
    known: [f32; OF_RATING],
}

impl KnownPair {
    /// By a state at a moment.
    pub fn new(state: &StreamState, source: u32, target: u32, now: f64) -> Self {
        let neighbours = [source, target].map(|user| neighbours(state, user));
        let users = [source, target].into_iter().chain(neighbours.iter().flatten().copied());
        let users = users.flat_map(|user| state.user(user, now)).collect();
        Self { users, neighbours: neighbours.map(|found| found.len()), known: state.pair(source, target, now) }
    }

    /// All that is known without messages.
    pub fn row(&self) -> Vec<f32> {
        [&self.users[..2 * OF_USER], &self.known].concat()
    }

    /// Users that it brings along.
    pub fn users(&self) -> usize {
        self.users.len() / OF_USER
    }

    /// Neighbours of the source and of the target.
    pub fn neighbours(&self) -> [usize; 2] {
        self.neighbours
    }
}

/// What [`GraphNetwork::score`] takes of pairs.
pub fn pass(network: &GraphNetwork, pairs: &[&KnownPair]) -> (Arc<Features>, Vec<Hop>, Pairs) {
    let mut lists: Vec<Vec<u32>> = Vec::new();
    let (mut sources, mut targets) = (Vec::new(), Vec::new());
    for it in pairs {
        let first = lists.len() as u32;
        let ends = [first, first + 1];
        let mut next = first + 2;
        let neighbours = it.neighbours.map(|count| {
            let own: Vec<u32> = (next..next + count as u32).collect();
            next += count as u32;
            own
        });
        sources.push(ends[0] as usize);
        targets.push(ends[1] as usize);
        let back = |end: usize| std::iter::repeat_n(vec![ends[end]], it.neighbours[end]);
        let backs = back(0).chain(back(1)).collect::<Vec<_>>();
        lists.extend(neighbours);
        lists.extend(backs);
    }
    let users = Arc::new(Features::new(OF_USER, pairs.iter().flat_map(|it| it.users.iter().copied()).collect()));
    let known = Arc::new(Features::new(OF_RATING, pairs.iter().flat_map(|it| it.known).collect()));
    let hops = on_all(network.layers, alike(network.model_type, &lists));
    (users, hops, Pairs { sources, targets, known })
}
