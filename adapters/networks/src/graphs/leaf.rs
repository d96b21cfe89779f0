//! What the root of a graph binds of each node.

use std::cmp::Ordering;

use blake3::{Hash, Hasher};

use super::bytes::{BrokenBytes, ByteReader, ByteWriter};

const LEAF: &str = "ftk graph 1 leaf";
const ROOT: &str = "ftk graph 1 root";
const FEATURES: &str = "ftk graph 1 features";

/// What an edge carries beside its ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Carries {
    /// Weights.
    pub weight: bool,
    /// Times.
    pub time: bool,
    /// A direction: `(a, b)` is not `(b, a)`.
    pub direction: bool,
}

/// An edge, from who sends to who receives.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Edge {
    /// Sender: who rates.
    pub source: u32,
    /// Receiver: who is rated.
    pub target: u32,
    /// Weight or rating; 1 where a graph has none.
    pub weight: f32,
    /// When it came to be; 0 where a graph has no time.
    pub time: f64,
}

impl Edge {
    /// Its nodes, the smaller first: to know one edge between two nodes is to know that they are joined.
    pub fn pair(&self) -> (u32, u32) {
        (self.source.min(self.target), self.source.max(self.target))
    }
}

/// What is to be known of a graph to read its leaves; the root binds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Nodes.
    pub nodes: u32,
    /// Features of one.
    pub width: u32,
    /// What edges carry.
    pub carries: Carries,
    /// Nodes carry times.
    pub timed: bool,
}

/// An edge as one of its ends sees it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Incident {
    /// The other end.
    pub other: u32,
    /// Whether it leads there, in a graph whose edges have a direction.
    pub sends: bool,
    /// Its weight; 1 where a graph has none.
    pub weight: f32,
    /// Its time; 0 where a graph has none.
    pub time: f64,
}

/// One node.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeLeaf {
    /// Its number.
    pub node: u32,
    /// Its name.
    pub name: String,
    /// When it came to be, where nodes carry times.
    pub time: Option<f64>,
    /// Number of its edges, as it is bound; that of [`NodeLeaf::edges`] in every honest leaf.
    pub degree: u32,
    /// Its edges, in order.
    pub edges: Vec<Incident>,
    /// Its features that are not zero.
    pub features: Vec<(u32, f32)>,
}

impl Incident {
    /// How the edges of a node follow each other.
    pub fn order(&self, next: &Self) -> Ordering {
        let ends = (self.other, self.sends).cmp(&(next.other, next.sends));
        ends.then(self.time.total_cmp(&next.time)).then(self.weight.total_cmp(&next.weight))
    }

    /// The same edge as its other end sees it.
    pub fn from_there(&self, here: u32, carries: Carries) -> Self {
        Self { other: here, sends: carries.direction && !self.sends, ..*self }
    }
}

impl Frame {
    /// What edges and nodes carry, one bit each: times of nodes, weights, times of edges, directions.
    fn kinds(&self) -> u8 {
        let Carries { weight, time, direction } = self.carries;
        let set = [self.timed, weight, time, direction];
        set.into_iter().enumerate().map(|(bit, set)| u8::from(set) << bit).sum()
    }

    pub(super) fn write(&self, out: &mut ByteWriter) {
        out.u8(self.kinds());
        out.u32(self.nodes);
        out.u32(self.width);
    }

    pub(super) fn read(input: &mut ByteReader<'_>) -> Result<Self, BrokenBytes> {
        let kinds = input.u8()?;
        if kinds >> 4 != 0 {
            return Err(BrokenBytes("an unknown kind"));
        }
        let has = |bit: u8| kinds >> bit & 1 == 1;
        let carries = Carries { weight: has(1), time: has(2), direction: has(3) };
        Ok(Self { nodes: input.u32()?, width: input.u32()?, carries, timed: has(0) })
    }

    /// The root over the topmost hash.
    pub fn root(&self, top: &Hash) -> Hash {
        let mut out = ByteWriter::default();
        self.write(&mut out);
        Hasher::new_derive_key(ROOT).update(&out.0).update(top.as_bytes()).finalize()
    }

    /// Least bytes of an edge.
    fn edge_bytes(&self) -> usize {
        let Carries { weight, time, direction } = self.carries;
        4 + usize::from(direction) + 4 * usize::from(weight) + 8 * usize::from(time)
    }
}

impl NodeLeaf {
    /// What comes before the edges.
    fn write_head(&self, out: &mut ByteWriter) {
        out.u32(self.node);
        out.text(&self.name);
        self.time.iter().for_each(|time| out.f64(*time));
        out.u32(self.degree);
    }

    fn write_edges(&self, frame: &Frame, out: &mut ByteWriter) {
        for edge in &self.edges {
            out.u32(edge.other);
            if frame.carries.direction {
                out.u8(u8::from(edge.sends));
            }
            if frame.carries.weight {
                out.f32(edge.weight);
            }
            if frame.carries.time {
                out.f64(edge.time);
            }
        }
    }

    /// The hash that stands in the tree.
    pub fn hash(&self, frame: &Frame) -> Hash {
        let (mut out, mut features) = (ByteWriter::default(), ByteWriter::default());
        self.write_head(&mut out);
        self.write_edges(frame, &mut out);
        features.row(&self.features);
        let features = Hasher::new_derive_key(FEATURES).update(&features.0).finalize();
        Hasher::new_derive_key(LEAF).update(&out.0).update(features.as_bytes()).finalize()
    }

    /// The leaf with its features themselves, and how many edges are listed.
    pub(super) fn write(&self, frame: &Frame, out: &mut ByteWriter) {
        self.write_head(out);
        out.u32(self.edges.len() as u32);
        self.write_edges(frame, out);
        out.row(&self.features);
    }

    pub(super) fn read(frame: &Frame, input: &mut ByteReader<'_>) -> Result<Self, BrokenBytes> {
        let (node, name) = (input.u32()?, input.text()?);
        let time = frame.timed.then(|| input.f64()).transpose()?;
        let degree = input.u32()?;
        let listed = input.count(frame.edge_bytes())?;
        let mut edges = Vec::with_capacity(listed);
        for _ in 0..listed {
            let other = input.u32()?;
            let sends = match frame.carries.direction {
                true => match input.u8()? {
                    byte @ 0..=1 => byte == 1,
                    _ => return Err(BrokenBytes("an unknown direction")),
                },
                false => false,
            };
            let weight = if frame.carries.weight { input.f32()? } else { 1.0 };
            let time = if frame.carries.time { input.f64()? } else { 0.0 };
            edges.push(Incident { other, sends, weight, time });
        }
        let features = input.row(frame.width as usize)?;
        Ok(Self { node, name, time, degree, edges, features })
    }
}

/// Entries of a row that are not zero, each with its column.
pub fn present(row: &[f32]) -> Vec<(u32, f32)> {
    let entries = row.iter().enumerate().filter(|(_, value)| **value != 0.0);
    entries.map(|(column, &value)| (column as u32, value)).collect()
}
