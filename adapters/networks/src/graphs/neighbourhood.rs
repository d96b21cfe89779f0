//! The part of a graph that the logits of some nodes depend on, opened against the graph's root: what a proof about
//! nodes carries instead of the graph. `circuits/STATEMENT.md`, section 10, says what is checked and why that is enough.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::bytes::{BrokenBytes, ByteReader, ByteWriter};
use super::leaf::{Frame, NodeLeaf};
use super::messages::{joined, weighed_degree, weighed_row};
use super::part::{self, PartError};
use super::{GraphNetwork, GraphNetworkKind, Hop, MessageKind};
use crate::ops::graph::{Features, Propagation, Sparse, symmetric_coefficient, with_itself};

/// First bytes: a name and a version.
const MAGIC: &[u8; 16] = b"ftk graph part\0\x01";
/// Most hops and features: more than any network has.
const MAX_HOPS: u32 = 64;
const MAX_WIDTH: u32 = 1 << 24;
/// How much more memory a part takes than bytes: an edge of four bytes takes 24, a member of twenty some hundred.
pub const EXPANSION: u64 = 8;

/// Some nodes with everything that reaches them.
#[derive(Clone, Debug, PartialEq)]
pub struct Neighbourhood {
    frame: Frame,
    /// Convolutions that messages pass.
    hops: u32,
    /// In rising order of numbers.
    members: Vec<NodeLeaf>,
    /// What leads from the members to the root.
    partners: Vec<blake3::Hash>,
}

/// What a network runs on.
#[derive(Debug)]
pub struct Pass {
    /// Features of the senders of the first hop.
    pub features: Arc<Features>,
    /// A hop for each convolution.
    pub hops: Vec<Hop>,
    /// Row of each node that was asked for among the receivers of the last hop.
    pub rows: Vec<usize>,
}

impl Neighbourhood {
    /// Opens what the logits of `nodes` depend on through so many convolutions, from the leaves of all nodes in order.
    ///
    /// # Panics
    /// If an edge, or one of `nodes`, leads to no leaf.
    pub fn of_leaves(frame: Frame, leaves: &[NodeLeaf], nodes: &[u32], hops: usize) -> Self {
        let asked: BTreeSet<u32> = nodes.iter().copied().collect();
        let leaf = |node: u32| leaves.get(node as usize);
        let reached = reach(&asked, depth(hops as u32, &frame), leaf).expect("every edge leads to a leaf");
        let (members, partners) = part::open(&frame, leaves, reached.into_iter());
        Self { frame, hops: hops as u32, members, partners }
    }

    /// The canonical bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = ByteWriter(MAGIC.to_vec());
        self.frame.write(&mut out);
        out.u32(self.hops);
        part::write(&self.frame, &self.members, &self.partners, &mut out);
        out.0
    }

    /// Reads [`Neighbourhood::encode`]'s bytes, which takes at most [`EXPANSION`] times as much memory as they have; call
    /// [`Neighbourhood::check`] before believing them.
    ///
    /// # Errors
    /// [`PartError::Encoding`].
    pub fn decode(bytes: &[u8]) -> Result<Self, PartError> {
        let rest = bytes.strip_prefix(MAGIC).ok_or(BrokenBytes("not a part of a graph that this version reads"))?;
        let mut input = ByteReader::new(rest);
        let (frame, hops) = (Frame::read(&mut input)?, input.u32()?);
        if hops == 0 || hops > MAX_HOPS || frame.width > MAX_WIDTH {
            return Err(PartError::Encoding("numbers that no network has"));
        }
        let (members, partners) = part::read(&frame, &mut input)?;
        Ok(Self { frame, hops, members, partners })
    }

    /// Checks that this is what the logits of `nodes` depend on in the graph with this root: every member's whole list
    /// of edges, every node they lead to through all hops, and no other.
    ///
    /// # Errors
    /// The first check that fails.
    pub fn check(&self, nodes: &[u32], root: &[u8; 32]) -> Result<(), PartError> {
        use PartError::Coverage;
        let Self { frame, hops, members, .. } = self;
        part::check_lists(frame, members)?;
        let asked: BTreeSet<u32> = nodes.iter().copied().collect();
        let reached = reach(&asked, depth(*hops, frame), |node| self.member(node)).map_err(Coverage)?;
        let found: BTreeSet<u32> = members.iter().map(|leaf| leaf.node).collect();
        if let Some(node) = reached.symmetric_difference(&found).next() {
            return Err(Coverage(*node));
        }
        part::check_symmetry(frame, members)?;
        match self.root() {
            Some(found) if found.as_bytes() == root => Ok(()),
            _ => Err(PartError::Root),
        }
    }

    /// The root that its members hang from; `None` if they hang from none.
    pub fn root(&self) -> Option<blake3::Hash> {
        part::root(&self.frame, &self.members, &self.partners)
    }

    /// Checks that it was opened for this network.
    ///
    /// # Errors
    /// [`PartError::Hops`], [`PartError::Features`], [`PartError::Weight`].
    pub fn fits(&self, network: &GraphNetwork) -> Result<(), PartError> {
        let (found, wanted) = (self.hops, network.layers);
        if found as usize != wanted {
            return Err(PartError::Hops { found, wanted });
        }
        // What is projected is as wide as it is projected to.
        let width = network.prepare.project.unwrap_or(self.frame.width as usize);
        let (found, wanted) = (self.frame.width, network.inputs);
        if width != wanted || found == 0 {
            return Err(PartError::Features { found, wanted });
        }
        let negative = |leaf: &&NodeLeaf| leaf.edges.iter().any(|edge| edge.weight < 0.0);
        match self.members.iter().find(negative) {
            Some(leaf) if network.messages == MessageKind::Weighed => Err(PartError::Weight(leaf.node)),
            _ => Ok(()),
        }
    }

    /// Name of a member.
    pub fn name(&self, node: u32) -> Option<&str> {
        Some(&self.member(node)?.name)
    }

    /// Names and numbers of all members.
    pub fn names(&self) -> impl Iterator<Item = (&str, u32)> {
        self.members.iter().map(|leaf| (leaf.name.as_str(), leaf.node))
    }

    /// Members.
    pub fn members(&self) -> usize {
        self.members.len()
    }

    /// Features of all members that are not zero.
    pub fn features(&self) -> usize {
        self.members.iter().map(|leaf| leaf.features.len()).sum()
    }

    /// Features of a node.
    pub fn width(&self) -> usize {
        self.frame.width as usize
    }

    /// Receivers of each hop, the first one first, for nodes it was checked for.
    pub fn receivers(&self, nodes: &[u32]) -> Vec<usize> {
        let levels = self.levels(&self.incoming(), nodes);
        levels[1..].iter().map(Vec::len).collect()
    }

    /// What a network that it [`fits`](Neighbourhood::fits) runs on, for nodes it was [`check`](Neighbourhood::check)ed
    /// for: what the whole graph gives for them, from the part of it that reaches them.
    pub fn pass(&self, network: &GraphNetwork, nodes: &[u32]) -> Pass {
        let lists = self.incoming();
        let incoming = |node: u32| self.place(node).map_or(&[][..], |at| &lists[at]);
        let levels = self.levels(&lists, nodes);
        let place = |level: &[u32], node: u32| level.binary_search(&node).expect("every sender is on its level") as u32;
        let weighed = match network.messages {
            MessageKind::Alike => None,
            MessageKind::Weighed => Some(self.weighed(&lists)),
        };
        let hop = |pair: &[Vec<u32>]| {
            let (senders, receivers) = (&pair[0], &pair[1]);
            let places = |nodes: &[u32]| nodes.iter().map(|&node| place(senders, node)).collect::<Vec<_>>();
            let gather = match (&weighed, network.model_type) {
                (Some((heard, degrees)), kind) => {
                    let at = |node: u32| self.place(node).expect("whoever hears or is heard is a member");
                    let rows = receivers.iter().map(|&node| {
                        let row = weighed_row(kind, node, &heard[at(node)], |other| degrees[at(other)]);
                        row.into_iter().map(|(other, value)| (place(senders, other), value)).collect::<Vec<_>>()
                    });
                    Propagation::new(Sparse::from_rows(senders.len(), rows))
                }
                (None, GraphNetworkKind::Gcn) => Propagation::new(Sparse::from_rows(
                    senders.len(),
                    receivers.iter().map(|&node| {
                        let own = incoming(node).len() + 1;
                        let coefficient = |other: u32| symmetric_coefficient(incoming(other).len() + 1, own);
                        let all = with_itself(incoming(node), node);
                        all.into_iter().map(|other| (place(senders, other), coefficient(other))).collect::<Vec<_>>()
                    }),
                )),
                (None, GraphNetworkKind::Sage) => {
                    Propagation::means(receivers.iter().map(|&node| places(incoming(node))), senders.len())
                }
                // Attention asks who is heard, and not how much.
                (None, GraphNetworkKind::SageGcn | GraphNetworkKind::Gat) => {
                    let rows = receivers.iter().map(|&node| places(&with_itself(incoming(node), node)));
                    Propagation::means(rows, senders.len())
                }
            };
            let own: Vec<usize> = receivers.iter().map(|&node| place(senders, node) as usize).collect();
            Hop { gather: Arc::new(gather), own: Arc::new(Propagation::choosing(&own, senders.len())) }
        };
        let first = levels[0].iter().map(|&node| self.member(node).map_or(&[][..], |leaf| &leaf.features));
        let features = Features::sparse(Sparse::from_rows(self.width(), first.map(|row| row.iter().copied())));
        let last = &levels[levels.len() - 1];
        Pass {
            features: network.prepare.features(Arc::new(features)),
            hops: levels.windows(2).map(hop).collect(),
            rows: nodes.iter().map(|&node| place(last, node) as usize).collect(),
        }
    }

    fn place(&self, node: u32) -> Option<usize> {
        part::place(&self.members, node)
    }

    fn member(&self, node: u32) -> Option<&NodeLeaf> {
        self.place(node).map(|at| &self.members[at])
    }

    /// Whom each member hears: its neighbours, where nodes carry times the earlier ones; of those farthest away, as far as it is known.
    fn incoming(&self) -> Vec<Vec<u32>> {
        let incoming = |leaf: &NodeLeaf| {
            let mut others: Vec<u32> = leaf.edges.iter().map(|edge| edge.other).collect();
            others.dedup();
            if let Some(time) = leaf.time {
                let earlier = |other: u32| self.member(other)?.time.filter(|other| *other < time);
                others.retain(|&other| earlier(other).is_some());
            }
            others
        };
        self.members.iter().map(incoming).collect()
    }

    /// Whom each member hears, with weights, and what these come to.
    fn weighed(&self, incoming: &[Vec<u32>]) -> (Vec<Vec<(u32, f64)>>, Vec<f64>) {
        let heard = |(leaf, list): (&NodeLeaf, &Vec<u32>)| {
            let mut all = joined(&leaf.edges);
            all.retain(|(other, _)| list.binary_search(other).is_ok());
            all
        };
        let heard: Vec<_> = self.members.iter().zip(incoming).map(heard).collect();
        let degrees = heard.iter().map(|heard| weighed_degree(heard)).collect();
        (heard, degrees)
    }

    /// Senders of the first hop, then the receivers of each, in rising order.
    fn levels(&self, incoming: &[Vec<u32>], nodes: &[u32]) -> Vec<Vec<u32>> {
        let mut level: BTreeSet<u32> = nodes.iter().copied().collect();
        let (mut edge, mut levels) = (level.clone(), vec![level.iter().copied().collect::<Vec<_>>()]);
        for _ in 0..self.hops {
            let next: BTreeSet<u32> =
                edge.iter().filter_map(|&node| self.place(node)).flat_map(|at| &incoming[at]).copied().collect();
            edge = next.difference(&level).copied().collect();
            level.extend(&edge);
            levels.push(level.iter().copied().collect());
        }
        levels.reverse();
        levels
    }
}

/// How far from the nodes asked for leaves matter: who a node hears depends on the times of its neighbours.
fn depth(hops: u32, frame: &Frame) -> u32 {
    hops.saturating_add(u32::from(frame.timed))
}

/// Nodes within so many edges of those asked for.
///
/// # Errors
/// The first one that has no leaf.
fn reach<'a>(
    asked: &BTreeSet<u32>,
    depth: u32,
    leaf: impl Fn(u32) -> Option<&'a NodeLeaf>,
) -> Result<BTreeSet<u32>, u32> {
    let (mut all, mut edge) = (BTreeSet::new(), asked.clone());
    for _ in 0..=depth {
        let mut next = BTreeSet::new();
        for &node in &edge {
            let leaf = leaf(node).ok_or(node)?;
            all.insert(node);
            next.extend(leaf.edges.iter().map(|edge| edge.other));
        }
        edge = next.difference(&all).copied().collect();
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::super::Head;
    use super::super::leaf::{Carries, Incident};
    use super::super::merkle::MerkleTree;
    use super::*;

    /// All leaves of a graph.
    struct Whole {
        frame: Frame,
        leaves: Vec<NodeLeaf>,
    }

    impl Whole {
        fn new(nodes: u32, edges: impl IntoIterator<Item = (u32, u32)>) -> Self {
            let leaf = |node: u32| {
                let features = [0, 1].map(|column| (column, ((2 * node + column) % 5) as f32));
                let features = features.into_iter().filter(|(_, value)| *value != 0.0).collect();
                NodeLeaf { node, name: node.to_string(), time: None, degree: 0, edges: Vec::new(), features }
            };
            let mut leaves: Vec<NodeLeaf> = (0..nodes).map(leaf).collect();
            for (one, other) in edges {
                let edge = |other| Incident { other, sends: false, weight: 1.0, time: 0.0 };
                leaves[one as usize].edges.push(edge(other));
                leaves[other as usize].edges.push(edge(one));
            }
            for leaf in &mut leaves {
                leaf.edges.sort_by(Incident::order);
                leaf.degree = leaf.edges.len() as u32;
            }
            Self { frame: Frame { nodes, width: 2, carries: Carries::default(), timed: false }, leaves }
        }

        fn root(&self) -> [u8; 32] {
            let tree = MerkleTree::new(self.leaves.iter().map(|leaf| leaf.hash(&self.frame)).collect());
            *self.frame.root(&tree.top()).as_bytes()
        }

        fn opened(&self, nodes: &[u32], hops: usize) -> Neighbourhood {
            Neighbourhood::of_leaves(self.frame, &self.leaves, nodes, hops)
        }
    }

    /// A ring of seven nodes with two chords.
    fn ring() -> Whole {
        Whole::new(7, [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (5, 6), (0, 6), (1, 4), (2, 6)])
    }

    /// The same with times of nodes, and of directed and weighed edges.
    fn timed() -> Whole {
        let mut graph = ring();
        graph.frame.timed = true;
        graph.frame.carries = Carries { weight: true, time: true, direction: true };
        for leaf in &mut graph.leaves {
            leaf.time = Some(f64::from(leaf.node * 3 % 7));
            let node = leaf.node;
            // Every edge of the ring leads from the smaller number to the larger.
            leaf.edges.iter_mut().for_each(|edge| edge.sends = node < edge.other);
        }
        graph
    }

    fn network(kind: GraphNetworkKind) -> GraphNetwork {
        GraphNetwork::new(kind, [2, 3, 2, 1], Head::Convolution, 4)
    }

    #[test]
    fn a_part_is_read_as_it_was_written_and_checks() {
        for graph in [ring(), timed()] {
            let root = graph.root();
            for nodes in [&[3][..], &[5, 0], &[2, 2], &[0, 1, 2, 3, 4, 5, 6]] {
                for hops in 1..4 {
                    let part = graph.opened(nodes, hops);
                    let bytes = part.encode();
                    let read = Neighbourhood::decode(&bytes).unwrap();
                    assert_eq!(read, part);
                    assert_eq!(read.check(nodes, &root), Ok(()), "{nodes:?} {hops}");
                    for cut in 0..bytes.len() {
                        assert!(Neighbourhood::decode(&bytes[..cut]).is_err());
                    }
                    assert!(Neighbourhood::decode(&[&bytes[..], &[0]].concat()).is_err());
                }
            }
        }
    }

    #[test]
    fn forged_parts_are_refused_each_by_its_own_check() {
        use PartError::*;
        let graph = ring();
        let root = graph.root();
        let honest = graph.opened(&[3], 1);
        // 3 hears 2 and 4.
        assert_eq!(honest.members.iter().map(|leaf| leaf.node).collect::<Vec<_>>(), [2, 3, 4]);
        let refused = |change: &dyn Fn(&mut Neighbourhood)| {
            let mut part = honest.clone();
            change(&mut part);
            // What is sent is read first.
            Neighbourhood::decode(&part.encode()).unwrap().check(&[3], &root).unwrap_err()
        };
        let edge = |other| Incident { other, sends: false, weight: 1.0, time: 0.0 };
        let drop_one = |part: &mut Neighbourhood| part.members[1].edges.truncate(1);
        assert_eq!(refused(&drop_one), Degree { node: 3, degree: 2, listed: 1 });
        assert_eq!(refused(&|part| part.members[1].edges.push(edge(5))), Degree { node: 3, degree: 2, listed: 3 });
        assert_eq!(refused(&|part| part.members[1].edges.reverse()), Order(3));
        assert_eq!(refused(&|part| part.members[1].edges[0] = part.members[1].edges[1]), Order(3));
        assert_eq!(refused(&|part| part.members[1].edges[1].other = 7), Edge { node: 3, other: 7 });
        assert_eq!(refused(&|part| part.members[1].edges[1].other = 3), Edge { node: 3, other: 3 });
        assert_eq!(refused(&|part| part.members[1].edges[1].other = 5), Coverage(5));
        assert_eq!(refused(&|part| part.members.truncate(2)), Coverage(4));
        assert_eq!(refused(&|part| part.members.swap(0, 1)), Coverage(2));
        let more = graph.opened(&[3], 2);
        assert_eq!(refused(&|part| part.members = more.members.clone()), Coverage(1));
        assert_eq!(refused(&|part| part.hops = 2), Coverage(1));
        // 4 does not list 3 any more, as if it heard 6 instead.
        let exchange = |part: &mut Neighbourhood| {
            part.members[2].edges = vec![edge(1), edge(5), edge(6)];
        };
        assert_eq!(refused(&exchange), Symmetry { node: 3, other: 4 });
        for change in [
            &(|part: &mut Neighbourhood| part.members[0].features[0].1 = 9.0) as &dyn Fn(&mut Neighbourhood),
            &|part| part.members[0].name.push('x'),
            &|part| part.partners.truncate(1),
            &|part| part.partners.push(part.partners[0]),
            &|part| part.partners.swap(0, 1),
            &|part| part.frame.nodes += 1,
            // An edge far away, whose other end is not opened.
            &|part| part.members[0].edges[0].other = 0,
            // A neighbour that is dropped with the degree.
            &|part| {
                part.members[2].edges.pop();
                part.members[2].degree -= 1;
            },
        ] {
            assert_eq!(refused(change), Root);
        }
        let other = graph.opened(&[4], 1);
        assert!(matches!(other.check(&[3], &root), Err(Coverage(_))));
        let wide = GraphNetwork::new(GraphNetworkKind::Gcn, [3, 3, 1, 1], Head::Convolution, 4);
        assert_eq!(honest.fits(&wide), Err(Features { found: 2, wanted: 3 }));
        assert_eq!(honest.fits(&network(GraphNetworkKind::Gcn)), Err(Hops { found: 1, wanted: 2 }));
        let one = GraphNetwork { layers: 1, ..network(GraphNetworkKind::Gcn) };
        assert_eq!(honest.fits(&one), Ok(()));
        let weighed = GraphNetwork { messages: MessageKind::Weighed, ..one.clone() };
        assert_eq!(honest.fits(&weighed), Ok(()));
        let mut negative = honest.clone();
        negative.members[1].edges[0].weight = -0.5;
        assert_eq!(negative.fits(&one), Ok(()));
        assert_eq!(negative.fits(&weighed), Err(Weight(3)));
    }

    /// What an edge carries, and which way it leads, is the same at both ends.
    #[test]
    fn an_edge_is_the_same_from_both_ends() {
        let graph = timed();
        let honest = graph.opened(&[3], 1);
        let root = graph.root();
        assert_eq!(honest.check(&[3], &root), Ok(()));
        // Times of nodes make it two edges deep: 3 hears 2 and 4.
        let at = honest.place(3).unwrap();
        for change in [
            (|edge: &mut Incident| edge.weight = 2.0) as fn(&mut Incident),
            |edge| edge.time = 1.0,
            |edge| edge.sends = !edge.sends,
        ] {
            let mut part = honest.clone();
            change(&mut part.members[at].edges[0]);
            let refused = part.check(&[3], &root).unwrap_err();
            assert!(matches!(refused, PartError::Symmetry { .. }), "{refused}");
        }
    }

    /// Hops beyond the part cost next to nothing.
    #[test]
    fn no_node_is_walked_twice() {
        let edges = (0..300).flat_map(|a| (a + 1..300).map(move |b| (a, b)));
        let part = Whole::new(300, edges).opened(&[0], 64);
        let lookups = std::cell::Cell::new(0);
        let leaf = |node: u32| {
            lookups.set(lookups.get() + 1);
            part.member(node)
        };
        assert_eq!(reach(&[0].into(), 64, leaf).unwrap().len(), 300);
        assert_eq!(lookups.get(), 300);
        assert_eq!(part.receivers(&[0]), [vec![300; 63], vec![1]].concat());
    }

    #[test]
    fn numbers_that_no_part_has_are_refused() {
        let bytes = timed().opened(&[3], 1).encode();
        let put = |at: usize, with: &[u8]| {
            let mut edited = bytes.clone();
            edited[at..at + with.len()].copy_from_slice(with);
            Neighbourhood::decode(&edited).unwrap_err()
        };
        let wrong = PartError::Encoding;
        let number = "a number is not finite, or a zero has a sign";
        assert_eq!(put(0, b"F"), wrong("not a part of a graph that this version reads"));
        assert_eq!(put(16, &[16]), wrong("an unknown kind"));
        assert_eq!(put(21, &(1u32 << 25).to_le_bytes()), wrong("numbers that no network has"));
        assert_eq!(put(25, &[0; 4]), wrong("numbers that no network has"));
        assert_eq!(put(25, &65u32.to_le_bytes()), wrong("numbers that no network has"));
        assert_eq!(put(29, &[255; 4]), wrong("ends too early"));
        // The time of the first node, behind its number and its name of one letter.
        let time = 33 + 4 + 5;
        assert_eq!(put(time, &f64::NAN.to_le_bytes()), wrong(number));
        assert_eq!(put(time, &(-0.0f64).to_le_bytes()), wrong(number));
    }
}
