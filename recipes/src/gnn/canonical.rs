//! The one file every graph becomes: its bytes, its digest, and the Merkle root its nodes hang from.
//! The format is written down in `recipes/gnn/README.md`.

use std::path::Path;
use std::sync::Arc;

use blake3::Hasher;
use ftk_adapters::ops::graph::{Features, Sparse};

use super::error::GraphError;
use super::graph::{Carries, Edge, Graph, Part};

/// First bytes of the file: a name and a version.
const MAGIC: &[u8; 12] = b"ftk graph\0\0\x01";
/// What keeps the hashes of leaves, inner nodes and the root apart.
const LEAF: &str = "ftk graph 1 leaf";
const NODE: &str = "ftk graph 1 node";
const ROOT: &str = "ftk graph 1 root";
const FEATURES: &str = "ftk graph 1 features";

/// Appends numbers in little-endian order.
#[derive(Default)]
struct Writer(Vec<u8>);

impl Writer {
    fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    fn u32(&mut self, value: u32) {
        self.0.extend(value.to_le_bytes());
    }

    fn f32(&mut self, value: f32) {
        // One zero, so that equal numbers are equal bytes.
        self.u32(if value == 0.0 { 0 } else { value.to_bits() });
    }

    fn f64(&mut self, value: f64) {
        self.0.extend((if value == 0.0 { 0 } else { value.to_bits() }).to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.u32(text.len() as u32);
        self.0.extend(text.as_bytes());
    }
}

/// Reads what [`Writer`] wrote, looking at every length before anything is allocated.
struct Reader<'a> {
    bytes: &'a [u8],
    path: &'a Path,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], GraphError> {
        let Some((head, rest)) = self.bytes.split_at_checked(count) else { return Err(self.wrong("ends too early")) };
        self.bytes = rest;
        Ok(head)
    }

    fn wrong(&self, message: &str) -> GraphError {
        GraphError::malformed(self.path, format!("not a graph file: {message}"))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], GraphError> {
        Ok(self.take(N)?.try_into().expect("so many were taken"))
    }

    fn u8(&mut self) -> Result<u8, GraphError> {
        Ok(self.array::<1>()?[0])
    }

    fn u32(&mut self) -> Result<u32, GraphError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn f32(&mut self) -> Result<f32, GraphError> {
        Ok(f32::from_le_bytes(self.array()?))
    }

    fn f64(&mut self) -> Result<f64, GraphError> {
        Ok(f64::from_le_bytes(self.array()?))
    }

    /// A count of things that take at least `each` bytes.
    fn count(&mut self, each: usize) -> Result<usize, GraphError> {
        let count = self.u32()? as usize;
        if count.checked_mul(each).is_none_or(|bytes| bytes > self.bytes.len()) {
            return Err(self.wrong("ends too early"));
        }
        Ok(count)
    }

    fn text(&mut self) -> Result<String, GraphError> {
        let count = self.count(1)?;
        String::from_utf8(self.take(count)?.to_vec()).map_err(|_| self.wrong("a name is not text"))
    }
}

impl Graph {
    /// The canonical bytes: the same for the same graph, whatever it was read from.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Writer(MAGIC.to_vec());
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
            if self.features.is_some() {
                out.0.extend(self.feature_bytes(node));
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
        out.0
    }

    /// Reads [`Graph::to_bytes`].
    ///
    /// # Errors
    /// Whatever those bytes are not.
    pub fn from_bytes(path: &Path, bytes: &[u8]) -> Result<Self, GraphError> {
        let mut input = Reader { bytes, path };
        if input.take(MAGIC.len()).ok() != Some(MAGIC) {
            return Err(GraphError::malformed(path, "not a graph file that this version reads"));
        }
        let flags = input.u8()?;
        let has = |bit: u8| flags >> bit & 1 == 1;
        if flags >> 7 != 0 {
            return Err(input.wrong("an unknown flag"));
        }
        let (nodes, width) = (input.u32()? as usize, input.u32()? as usize);
        let count = input.count(4)?;
        let classes = (0..count).map(|_| input.text()).collect::<Result<_, _>>()?;
        let each = 4 * usize::from(has(0)) + 4 * usize::from(has(1)) + usize::from(has(2)) + 8 * usize::from(has(3));
        if nodes.checked_mul(each + 4 * usize::from(width > 0)).is_none_or(|least| least > input.bytes.len()) {
            return Err(input.wrong("ends too early"));
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
                let known = [Part::None, Part::Train, Part::Validation, Part::Test];
                let part = known.get(usize::from(input.u8()?)).copied();
                parts.push(part.ok_or_else(|| input.wrong("an unknown part of the split"))?);
            }
            if has(3) {
                times.push(input.f64()?);
            }
            if width > 0 {
                let count = input.count(8)?;
                let mut row: Vec<(u32, f32)> = Vec::with_capacity(count);
                for _ in 0..count {
                    let (column, value) = (input.u32()?, input.f32()?);
                    let rises = row.last().is_none_or(|&(last, _)| last < column);
                    if !rises || column as usize >= width || !value.is_finite() || value == 0.0 {
                        return Err(input.wrong("a feature out of place"));
                    }
                    row.push((column, value));
                }
                rows.push(row);
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
        if !input.bytes.is_empty() {
            return Err(input.wrong("bytes behind its end"));
        }
        let read = Self { names, nodes, features, labels, classes, parts, times, edges, carries };
        let (graph, _) = Self::new(path, read)?;
        // Another order or a double edge would be other bytes for the same graph.
        if graph.to_bytes() != bytes {
            return Err(GraphError::malformed(path, "not a graph file: not in canonical order"));
        }
        Ok(graph)
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
        ];
        set.into_iter().enumerate().map(|(bit, set)| u8::from(set) << bit).sum()
    }

    fn width(&self) -> usize {
        self.features.as_ref().map_or(0, |features| features.width())
    }

    /// Number of features that are not zero, then each with its column.
    fn feature_bytes(&self, node: usize) -> Vec<u8> {
        let mut out = Writer::default();
        let row = self.features.as_ref().map_or_else(Vec::new, |features| features.row(node));
        let present: Vec<_> = row.iter().enumerate().filter(|(_, value)| **value != 0.0).collect();
        out.u32(present.len() as u32);
        for (column, &value) in present {
            out.u32(column as u32);
            out.f32(value);
        }
        out.0
    }

    /// The bytes of every node's leaf: number, name, degree, neighbours in rising order with direction, weight and
    /// time, and a hash of its features.
    pub fn leaves(&self) -> Vec<Vec<u8>> {
        // Of each node: the other end, whether it sends, weight, time.
        let mut lists: Vec<Vec<(u32, bool, f32, f64)>> = vec![Vec::new(); self.nodes];
        for edge in &self.edges {
            let (weight, time) = (edge.weight, edge.time);
            lists[edge.source as usize].push((edge.target, self.carries.direction, weight, time));
            lists[edge.target as usize].push((edge.source, false, weight, time));
        }
        let leaf = |(node, mut list): (usize, Vec<(u32, bool, f32, f64)>)| {
            list.sort_by(|a, b| (a.0, a.1).cmp(&(b.0, b.1)).then(a.3.total_cmp(&b.3)).then(a.2.total_cmp(&b.2)));
            let mut out = Writer::default();
            out.u32(node as u32);
            out.text(&self.name(node));
            out.u32(list.len() as u32);
            for (other, sends, weight, time) in list {
                out.u32(other);
                if self.carries.direction {
                    out.u8(u8::from(sends));
                }
                if self.carries.weight {
                    out.f32(weight);
                }
                if self.carries.time {
                    out.f64(time);
                }
            }
            let features = Hasher::new_derive_key(FEATURES).update(&self.feature_bytes(node)).finalize();
            out.0.extend(features.as_bytes());
            out.0
        };
        lists.into_iter().enumerate().map(leaf).collect()
    }

    /// The Merkle root over the leaves of all nodes.
    pub fn root(&self) -> blake3::Hash {
        let tree = Tree::new(&self.leaves());
        let mut out = Writer::default();
        out.u8(self.flags() >> 4);
        out.u32(self.nodes as u32);
        out.u32(self.width() as u32);
        Hasher::new_derive_key(ROOT).update(&out.0).update(tree.top().as_bytes()).finalize()
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

/// Hashes from leaves to the top, level by level. A node without a partner goes up as it is.
#[derive(Debug)]
pub struct Tree(Vec<Vec<blake3::Hash>>);

impl Tree {
    /// Over the bytes of leaves, of which there is at least one.
    pub fn new(leaves: &[Vec<u8>]) -> Self {
        let hash = |leaf: &Vec<u8>| Hasher::new_derive_key(LEAF).update(leaf).finalize();
        let mut levels: Vec<Vec<blake3::Hash>> = vec![leaves.iter().map(hash).collect()];
        while levels[levels.len() - 1].len() > 1 {
            let up = levels[levels.len() - 1].chunks(2).map(|pair| match pair {
                [left, right] => join(left, right),
                [alone] => *alone,
                _ => unreachable!("chunks of two"),
            });
            let up = up.collect();
            levels.push(up);
        }
        Self(levels)
    }

    /// The hash everything goes up to.
    pub fn top(&self) -> blake3::Hash {
        self.0[self.0.len() - 1][0]
    }

    /// The partners of a leaf on its way up, lowest first; where it has none, nothing is listed.
    pub fn path(&self, leaf: usize) -> Vec<blake3::Hash> {
        let levels = &self.0[..self.0.len() - 1];
        levels.iter().enumerate().filter_map(|(level, hashes)| hashes.get((leaf >> level) ^ 1).copied()).collect()
    }

    /// Where the bytes of one of `count` leaves go up to with these partners; `None` if there are more or fewer of them
    /// than its place asks for.
    pub fn climb((mut leaf, mut count): (usize, usize), bytes: &[u8], path: &[blake3::Hash]) -> Option<blake3::Hash> {
        let mut hash = Hasher::new_derive_key(LEAF).update(bytes).finalize();
        let mut partners = path.iter();
        if leaf >= count {
            return None;
        }
        while count > 1 {
            if leaf ^ 1 < count {
                let partner = partners.next()?;
                hash = if leaf & 1 == 0 { join(&hash, partner) } else { join(partner, &hash) };
            }
            (leaf, count) = (leaf / 2, count.div_ceil(2));
        }
        partners.next().is_none().then_some(hash)
    }
}

fn join(left: &blake3::Hash, right: &blake3::Hash) -> blake3::Hash {
    Hasher::new_derive_key(NODE).update(left.as_bytes()).update(right.as_bytes()).finalize()
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
            parts: vec![Part::Train, Part::None, Part::Validation, Part::Test, Part::None],
            times: vec![1.0, 2.5, 3.0, 4.0, 5.0],
            edges: vec![edge(0, 1, -3.0, 7.0), edge(1, 0, 2.0, 1.0), edge(1, 2, 0.5, 2.0), edge(1, 2, 0.5, 9.0)],
            carries: Carries { weight: true, time: true, direction: true },
        };
        Graph::new(Path::new("g"), graph).unwrap().0
    }

    fn plain() -> Graph {
        let edges = vec![Edge { source: 0, target: 1, weight: 1.0, time: 0.0 }];
        let (features, carries) = (None, Carries::default());
        let (labels, classes, parts, times) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Graph { names: None, nodes: 2, features, labels, classes, parts, times, edges, carries }
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

    #[test]
    fn paths_lead_to_the_top_from_their_own_leaf_alone() {
        for count in 1..10usize {
            let leaves: Vec<Vec<u8>> = (0..count).map(|leaf| vec![leaf as u8]).collect();
            let tree = Tree::new(&leaves);
            for leaf in 0..count {
                let path = tree.path(leaf);
                let climb = |leaf, bytes: &[u8], path: &[_]| Tree::climb((leaf, count), bytes, path);
                assert_eq!(climb(leaf, &leaves[leaf], &path), Some(tree.top()), "{leaf} of {count}");
                assert_ne!(climb(leaf, b"other", &path), Some(tree.top()));
                assert_eq!(climb(count, &leaves[leaf], &path), None);
                assert_eq!(climb(leaf, &leaves[leaf], &[path.clone(), vec![tree.top()]].concat()), None);
                if count > 1 {
                    assert_ne!(climb(leaf, &leaves[(leaf + 1) % count], &path), Some(tree.top()));
                    assert_eq!(climb(leaf, &leaves[leaf], &path[1..]), None);
                }
            }
        }
    }
}
