//! The one file every graph becomes: its bytes, its digest, and the Merkle root its nodes hang from.
//! The format is written down in `recipes/gnn/README.md`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use ftk_networks::graphs::bytes::{BrokenBytes, ByteReader, ByteWriter};
use ftk_networks::graphs::leaf::{Frame, Incident, NodeLeaf, present};
use ftk_networks::graphs::merkle::MerkleTree;
use ftk_networks::graphs::neighbourhood::Neighbourhood;
use ftk_networks::ops::graph::{Features, Sparse};

use super::error::GraphError;
use super::graph::{Carries, Edge, Graph, NodeSplit};

/// First bytes of the file: a name and a version.
const MAGIC: &[u8; 12] = b"ftk graph\0\0\x01";

impl Graph {
    /// The canonical bytes: the same for the same graph, whatever it was read from.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = ByteWriter(MAGIC.to_vec());
        out.u8(self.flags());
        out.u32(self.nodes as u32);
        out.u32(self.width() as u32);
        out.u32(self.classes.len() as u32);
        self.classes.iter().for_each(|class| out.text(class));
        self.names.iter().flatten().for_each(|name| out.text(name));
        for node in 0..self.nodes {
            if !self.labels.is_empty() {
                out.u32(self.labels[node].map_or(u32::MAX, |label| label));
            }
            if !self.parts.is_empty() {
                out.u8(self.parts[node] as u8);
            }
            if !self.times.is_empty() {
                out.f64(self.times[node]);
            }
            if let Some(features) = &self.features {
                out.row(&present(&features.row(node)));
            }
        }
        out.u32(self.edges.len() as u32);
        for edge in &self.edges {
            out.u32(edge.source);
            out.u32(edge.target);
            if self.carries.weight {
                out.f32(edge.weight);
            }
            if self.carries.time {
                out.f64(edge.time);
            }
        }
        if !self.held_out.is_empty() {
            out.u32(self.held_out.len() as u32);
            for (&(a, b), &part) in &self.held_out {
                out.u32(a);
                out.u32(b);
                out.u8(part as u8);
            }
        }
        out.0
    }

    /// Reads [`Graph::to_bytes`].
    ///
    /// # Errors
    /// Whatever those bytes are not.
    pub fn from_bytes(path: &Path, bytes: &[u8]) -> Result<Self, GraphError> {
        let Some(rest) = bytes.strip_prefix(MAGIC) else {
            return Err(GraphError::malformed(path, "not a graph file that this version reads"));
        };
        let wrong = |message: &str| GraphError::malformed(path, format!("not a graph file: {message}"));
        let read = Self::parse(ByteReader::new(rest)).map_err(|BrokenBytes(message)| wrong(message))?;
        let (graph, _) = Self::new(path, read)?;
        // Another order or a double edge would be other bytes for the same graph.
        if graph.to_bytes() == bytes { Ok(graph) } else { Err(wrong("not in canonical order")) }
    }

    fn parse(mut input: ByteReader<'_>) -> Result<Self, BrokenBytes> {
        let flags = input.u8()?;
        let has = |bit: u8| flags >> bit & 1 == 1;
        let (nodes, width) = (input.u32()? as usize, input.u32()? as usize);
        let count = input.count(4)?;
        let classes = (0..count).map(|_| input.text()).collect::<Result<_, _>>()?;
        let each = 4 * usize::from(has(0)) + 4 * usize::from(has(1)) + usize::from(has(2)) + 8 * usize::from(has(3));
        if nodes.checked_mul(each + 4 * usize::from(width > 0)).is_none_or(|least| least > input.left()) {
            return Err(BrokenBytes("ends too early"));
        }
        let names = has(0).then(|| (0..nodes).map(|_| input.text()).collect::<Result<_, _>>()).transpose()?;
        let (mut labels, mut parts, mut times, mut rows) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        // Of nodes that nothing is said of there is nothing to read, however many there may be.
        for _ in 0..if each > 0 || width > 0 { nodes } else { 0 } {
            if has(1) {
                let label = input.u32()?;
                labels.push((label != u32::MAX).then_some(label));
            }
            if has(2) {
                let known = [NodeSplit::None, NodeSplit::Train, NodeSplit::Validation, NodeSplit::Test];
                let part = known.get(usize::from(input.u8()?)).copied();
                parts.push(part.ok_or(BrokenBytes("an unknown part of the split"))?);
            }
            if has(3) {
                times.push(input.f64()?);
            }
            if width > 0 {
                rows.push(input.row(width)?);
            }
        }
        let features = (width > 0).then(|| Arc::new(dense_if_full(Sparse::from_rows(width, rows))));
        let carries = Carries { weight: has(4), time: has(5), direction: has(6) };
        let count = input.count(8 + 4 * usize::from(carries.weight) + 8 * usize::from(carries.time))?;
        let mut edges = Vec::with_capacity(count);
        for _ in 0..count {
            let (source, target) = (input.u32()?, input.u32()?);
            let weight = if carries.weight { input.f32()? } else { 1.0 };
            let time = if carries.time { input.f64()? } else { 0.0 };
            edges.push(Edge { source, target, weight, time });
        }
        let mut held_out = BTreeMap::new();
        for _ in 0..if has(7) { input.count(9)? } else { 0 } {
            let pair = (input.u32()?, input.u32()?);
            let part = [NodeSplit::Validation, NodeSplit::Test].get(usize::from(input.u8()?).wrapping_sub(2)).copied();
            held_out.insert(pair, part.ok_or(BrokenBytes("an unknown part of the split"))?);
        }
        input.end()?;
        Ok(Self { names, nodes, features, labels, classes, parts, times, edges, carries, held_out })
    }

    /// BLAKE3 of the canonical bytes.
    pub fn digest(&self) -> blake3::Hash {
        blake3::hash(&self.to_bytes())
    }

    fn flags(&self) -> u8 {
        let Carries { weight, time, direction } = self.carries;
        let set = [
            self.names.is_some(),
            !self.labels.is_empty(),
            !self.parts.is_empty(),
            !self.times.is_empty(),
            weight,
            time,
            direction,
            !self.held_out.is_empty(),
        ];
        set.into_iter().enumerate().map(|(bit, set)| u8::from(set) << bit).sum()
    }

    fn width(&self) -> usize {
        self.features.as_ref().map_or(0, |features| features.width())
    }

    /// The edges of every node as it sees them, in their order.
    pub(super) fn incident(&self) -> Vec<Vec<Incident>> {
        let mut lists: Vec<Vec<Incident>> = vec![Vec::new(); self.nodes];
        for &Edge { source, target, weight, time } in &self.edges {
            let sends = self.carries.direction;
            lists[source as usize].push(Incident { other: target, sends, weight, time });
            lists[target as usize].push(Incident { other: source, sends: false, weight, time });
        }
        lists.iter_mut().for_each(|edges| edges.sort_by(Incident::order));
        lists
    }

    /// The leaf of every node.
    pub fn leaves(&self) -> Vec<NodeLeaf> {
        let leaf = |(node, edges): (usize, Vec<Incident>)| {
            let (time, degree) = (self.times.get(node).copied(), edges.len() as u32);
            let features = self.features.as_ref().map_or_else(Vec::new, |features| present(&features.row(node)));
            NodeLeaf { node: node as u32, name: self.name(node), time, degree, edges, features }
        };
        self.incident().into_iter().enumerate().map(leaf).collect()
    }

    /// What is to be known of the graph to read its leaves.
    pub fn frame(&self) -> Frame {
        let Self { nodes, carries, times, .. } = self;
        Frame { nodes: *nodes as u32, width: self.width() as u32, carries: *carries, timed: !times.is_empty() }
    }

    /// The Merkle root over the leaves of all nodes.
    pub fn root(&self) -> blake3::Hash {
        let frame = self.frame();
        let hashes = self.leaves().iter().map(|leaf| leaf.hash(&frame)).collect();
        frame.root(&MerkleTree::new(hashes).top())
    }

    /// Opens what the logits of `nodes` depend on through so many convolutions.
    ///
    /// # Errors
    /// A node that is not in the graph.
    pub fn neighbourhood(&self, nodes: &[u32], hops: usize) -> Result<Neighbourhood, GraphError> {
        if let Some(node) = nodes.iter().find(|node| **node as usize >= self.nodes) {
            let message = format!("{} nodes, but asked for is number {node}", self.nodes);
            return Err(GraphError::unfit(message, "name nodes of this graph"));
        }
        Ok(Neighbourhood::of_leaves(self.frame(), &self.leaves(), nodes, hops))
    }
}

fn dense_if_full(entries: Sparse<f32>) -> Features {
    let full = entries.entries() * 4 > entries.rows() * entries.width();
    let sparse = Features::sparse(entries);
    if !full {
        return sparse;
    }
    Features::new(sparse.width(), (0..sparse.rows()).flat_map(|row| sparse.row(row)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Five nodes with everything a graph can have.
    fn full() -> Graph {
        let edge = |source, target, weight, time| Edge { source, target, weight, time };
        let features =
            Features::new(3, vec![0.0, 1.5, 0.0, 0.0, 0.0, 0.0, -2.0, 0.0, 0.0, 0.0, 0.0, 0.25, 0.0, 0.0, 0.0]);
        let graph = Graph {
            names: Some(["a", "b", "ü", "d", ""].map(str::to_owned).into()),
            nodes: 5,
            features: Some(Arc::new(features)),
            labels: vec![Some(1), None, Some(0), Some(1), None],
            classes: vec!["no".to_owned(), "yes".to_owned()],
            parts: vec![NodeSplit::Train, NodeSplit::None, NodeSplit::Validation, NodeSplit::Test, NodeSplit::None],
            times: vec![1.0, 2.5, 3.0, 4.0, 5.0],
            edges: vec![edge(0, 1, -3.0, 7.0), edge(1, 0, 2.0, 1.0), edge(1, 2, 0.5, 2.0), edge(1, 2, 0.5, 9.0)],
            carries: Carries { weight: true, time: true, direction: true },
            held_out: [((0, 1), NodeSplit::Test), ((1, 2), NodeSplit::Validation)].into(),
        };
        Graph::new(Path::new("g"), graph).unwrap().0
    }

    fn plain() -> Graph {
        let edges = vec![Edge { source: 0, target: 1, weight: 1.0, time: 0.0 }];
        Graph { nodes: 2, edges, ..Graph::empty() }
    }

    #[test]
    fn bytes_round_trip_and_are_read_to_the_last() {
        for graph in [full(), plain()] {
            let bytes = graph.to_bytes();
            let path = Path::new("g");
            let read = Graph::from_bytes(path, &bytes).unwrap();
            assert_eq!(read.to_bytes(), bytes);
            assert_eq!(read.root(), graph.root());
            for cut in 0..bytes.len() {
                let error = Graph::from_bytes(path, &bytes[..cut]).unwrap_err().to_string();
                assert!(error.starts_with("g: not a graph file"), "{cut}: {error}");
            }
            let longer = [bytes.clone(), vec![0]].concat();
            let error = Graph::from_bytes(path, &longer).unwrap_err().to_string();
            assert_eq!(error, "g: not a graph file: bytes behind its end");
            // No byte may be changed into another graph that reads as itself and hashes alike.
            for at in MAGIC.len()..bytes.len() {
                let mut other = bytes.clone();
                other[at] ^= 1;
                if let Ok(read) = Graph::from_bytes(path, &other) {
                    assert_ne!(read.digest(), graph.digest(), "{at}");
                }
            }
        }
    }

    #[test]
    fn another_order_is_no_canonical_file() {
        let mut graph = plain();
        graph.edges = vec![graph.edges[0], graph.edges[0]];
        let error = Graph::from_bytes(Path::new("g"), &graph.to_bytes()).unwrap_err().to_string();
        assert_eq!(error, "g: not a graph file: not in canonical order");
    }

    #[test]
    fn the_root_binds_names_neighbours_weights_times_and_features() {
        let root = full().root();
        let changed = |change: fn(&mut Graph)| {
            let mut graph = full();
            change(&mut graph);
            graph.root()
        };
        let others = [
            changed(|graph| graph.edges[0].weight = 3.0),
            changed(|graph| graph.edges[0].time = 8.0),
            changed(|graph| graph.edges[3].target = 3),
            changed(|graph| graph.edges.truncate(3)),
            changed(|graph| graph.names = None),
            changed(|graph| graph.carries.direction = false),
            changed(|graph| graph.features = None),
        ];
        for (at, other) in others.iter().enumerate() {
            assert!(*other != root && !others[..at].contains(other), "{at}");
        }
    }
}
