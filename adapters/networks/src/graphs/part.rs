//! Leaves of a graph that somebody opened against its root: how they are written, and what holds of them whatever they
//! were opened for.

use blake3::Hash;

use super::bytes::{BrokenBytes, ByteReader, ByteWriter};
use super::leaf::{Frame, NodeLeaf};
use super::merkle::{MerkleTree, climb};

/// Least bytes of a leaf: five numbers.
const LEAF: usize = 20;

/// What is wrong with a part of a graph, or of a state, that somebody opened: the check that failed comes first.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PartError {
    /// Not the canonical bytes of any.
    #[error("graph encoding: {0}")]
    Encoding(&'static str),
    /// More or fewer edges are listed than the node has.
    #[error("graph degree: node {node} has {degree} edges, listed are {listed}")]
    Degree {
        /// The node.
        node: u32,
        /// Edges it has, as its leaf says.
        degree: u32,
        /// Edges that are listed.
        listed: usize,
    },
    /// Edges that do not rise.
    #[error("graph order: the edges of node {0} do not follow each other")]
    Order(u32),
    /// An edge that leads nowhere, or back.
    #[error("graph edge: node {node} has none to {other}")]
    Edge {
        /// The node.
        node: u32,
        /// The other end.
        other: u32,
    },
    /// An edge that only one of its ends has.
    #[error("graph symmetry: node {other} has no edge to node {node}, which has one to it")]
    Symmetry {
        /// The node that lists the edge.
        node: u32,
        /// The one that does not.
        other: u32,
    },
    /// Not the nodes that the statement depends on.
    #[error("graph coverage: node {0} is missing, or not asked for")]
    Coverage(u32),
    /// The leaves hang from another root.
    #[error("graph root: these nodes do not hang from the stated root")]
    Root,
    /// A network of other features.
    #[error("graph features: nodes have {found}, the base takes {wanted}")]
    Features {
        /// Features of a node.
        found: u32,
        /// Features the network takes.
        wanted: usize,
    },
    /// A network of another number of convolutions.
    #[error("graph hops: {found} are opened, the base has {wanted} convolutions")]
    Hops {
        /// Hops that are opened.
        found: u32,
        /// Convolutions of the network.
        wanted: usize,
    },
    /// An edge whose messages would weigh less than nothing.
    #[error("graph weight: the base weighs messages, and node {0} has an edge of negative weight")]
    Weight(u32),
    /// Users that are not in the order of their names.
    #[error("graph name: user {0} is not in the order of names")]
    Names(u32),
    /// A user that is not opened, and nothing opened shows that there is no such user.
    #[error("graph name: user {0:?} is not opened, and may be there")]
    Stranger(String),
    /// Fewer ratings, or negative ones, than are opened, or more negative ones than ratings.
    #[error("state totals: of no ratings that are opened here")]
    Totals,
    /// A rating from after the moment of a state.
    #[error("state time: user {0} has a rating that is later than the state")]
    Later(u32),
}

impl PartError {
    /// The name of the check, with which the message begins.
    pub fn check(&self) -> &'static str {
        match self {
            Self::Encoding(_) => "graph encoding",
            Self::Degree { .. } => "graph degree",
            Self::Order(_) => "graph order",
            Self::Edge { .. } => "graph edge",
            Self::Symmetry { .. } => "graph symmetry",
            Self::Coverage(_) => "graph coverage",
            Self::Root => "graph root",
            Self::Features { .. } => "graph features",
            Self::Hops { .. } => "graph hops",
            Self::Weight(_) => "graph weight",
            Self::Names(_) | Self::Stranger(_) => "graph name",
            Self::Totals => "state totals",
            Self::Later(_) => "state time",
        }
    }
}

impl From<BrokenBytes> for PartError {
    fn from(BrokenBytes(message): BrokenBytes) -> Self {
        Self::Encoding(message)
    }
}

/// Opens the leaves of these nodes, which rise: them, and what leads from them to the root.
pub(super) fn open(frame: &Frame, leaves: &[NodeLeaf], nodes: impl Iterator<Item = u32>) -> (Vec<NodeLeaf>, Vec<Hash>) {
    let places: Vec<usize> = nodes.map(|node| node as usize).collect();
    let tree = MerkleTree::new(leaves.iter().map(|leaf| leaf.hash(frame)).collect());
    (places.iter().map(|&place| leaves[place].clone()).collect(), tree.partners(&places))
}

/// Appends the leaves and what leads from them to the root.
pub(super) fn write(frame: &Frame, members: &[NodeLeaf], partners: &[Hash], out: &mut ByteWriter) {
    out.u32(members.len() as u32);
    members.iter().for_each(|leaf| leaf.write(frame, out));
    out.u32(partners.len() as u32);
    partners.iter().for_each(|partner| out.0.extend(partner.as_bytes()));
}

/// Reads what [`write()`] wrote, to the end.
pub(super) fn read(frame: &Frame, input: &mut ByteReader<'_>) -> Result<(Vec<NodeLeaf>, Vec<Hash>), PartError> {
    let count = input.count(LEAF)?;
    let members = (0..count).map(|_| NodeLeaf::read(frame, input)).collect::<Result<_, _>>()?;
    let count = input.count(32)?;
    let partners = (0..count).map(|_| input.array().map(Hash::from)).collect::<Result<_, _>>()?;
    input.end()?;
    Ok((members, partners))
}

/// Checks that the leaves rise, and that each lists all its edges, in order, to other nodes that there are.
pub(super) fn check_lists(frame: &Frame, members: &[NodeLeaf]) -> Result<(), PartError> {
    use PartError::{Coverage, Degree, Edge, Order};
    if let Some(pair) = members.windows(2).find(|pair| pair[0].node >= pair[1].node) {
        return Err(Coverage(pair[1].node));
    }
    for NodeLeaf { node, degree, edges, .. } in members {
        let (node, degree, listed) = (*node, *degree, edges.len());
        if degree as usize != listed {
            return Err(Degree { node, degree, listed });
        }
        if edges.windows(2).any(|pair| pair[0].order(&pair[1]).is_ge()) {
            return Err(Order(node));
        }
        if let Some(edge) = edges.iter().find(|edge| edge.other >= frame.nodes || edge.other == node) {
            return Err(Edge { node, other: edge.other });
        }
    }
    Ok(())
}

/// Checks that an edge between two of the leaves is in both their lists.
pub(super) fn check_symmetry(frame: &Frame, members: &[NodeLeaf]) -> Result<(), PartError> {
    for NodeLeaf { node, edges, .. } in members {
        for edge in edges {
            let Some(at) = place(members, edge.other) else { continue };
            let (other, there) = (&members[at], edge.from_there(*node, frame.carries));
            if other.edges.binary_search_by(|edge| edge.order(&there)).is_err() {
                return Err(PartError::Symmetry { node: *node, other: other.node });
            }
        }
    }
    Ok(())
}

/// The root that the leaves hang from; `None` if they hang from none.
pub(super) fn root(frame: &Frame, members: &[NodeLeaf], partners: &[Hash]) -> Option<Hash> {
    let leaves: Vec<_> = members.iter().map(|leaf| (leaf.node as usize, leaf.hash(frame))).collect();
    Some(frame.root(&climb(frame.nodes as usize, &leaves, partners)?))
}

/// Where the leaf of a node stands among leaves that rise.
pub(super) fn place(members: &[NodeLeaf], node: u32) -> Option<usize> {
    members.binary_search_by_key(&node, |leaf| leaf.node).ok()
}
