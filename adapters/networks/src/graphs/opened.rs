//! What was opened for a proof about a graph, whatever it is asked about: a part of the graph for nodes ([`super::neighbourhood`]),
//! a part of a state for pairs ([`super::state`]).

use super::neighbourhood::{self, Neighbourhood};
use super::part::PartError;
use super::state::{self, StatePart};
use super::stream::{OF_RATING, OF_USER};
use super::{GraphNetwork, MOST_CONVOLUTIONS, pairs};
use crate::ops::Ops;

/// What is asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GraphQuestion {
    /// Nodes of a graph by their numbers.
    Nodes(Vec<u32>),
    /// Pairs of users by their names: who rates, who is rated.
    Pairs(Vec<[String; 2]>),
}

/// What was opened.
#[derive(Clone, Debug, PartialEq)]
pub enum OpenedPart {
    /// Of a graph, for nodes.
    Graph(Neighbourhood),
    /// Of a state, for pairs.
    State(StatePart),
}

impl GraphQuestion {
    /// Reads what was opened for it; call [`OpenedPart::check`] before believing it.
    ///
    /// # Errors
    /// [`PartError::Encoding`].
    pub fn decode(&self, bytes: &[u8]) -> Result<OpenedPart, PartError> {
        Ok(match self {
            Self::Nodes(_) => OpenedPart::Graph(Neighbourhood::decode(bytes)?),
            Self::Pairs(_) => OpenedPart::State(StatePart::decode(bytes)?),
        })
    }

    /// How much more memory what was opened takes than bytes.
    pub fn expansion(&self) -> u64 {
        match self {
            Self::Nodes(_) => neighbourhood::EXPANSION,
            Self::Pairs(_) => state::EXPANSION,
        }
    }
}

impl OpenedPart {
    /// The canonical bytes.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Graph(part) => part.encode(),
            Self::State(part) => part.encode(),
        }
    }

    /// Bytes of memory it takes.
    pub fn memory(&self) -> u64 {
        let expansion = match self {
            Self::Graph(_) => neighbourhood::EXPANSION,
            Self::State(_) => state::EXPANSION,
        };
        expansion * self.encode().len() as u64
    }

    /// What it was opened for, in a word.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Graph(_) => "nodes",
            Self::State(_) => "pairs",
        }
    }

    /// Checks that this is what the answers to what is asked depend on, under this root.
    ///
    /// # Errors
    /// The first check that fails.
    pub fn check(&self, asked: &GraphQuestion, root: &[u8; 32]) -> Result<(), PartError> {
        match (self, asked) {
            (Self::Graph(part), GraphQuestion::Nodes(nodes)) => part.check(nodes, root),
            (Self::State(part), GraphQuestion::Pairs(pairs)) => part.check(pairs, root),
            _ => Err(PartError::Encoding("opened for something of another kind")),
        }
    }

    /// Checks that it was opened for this network, which takes what it was opened for.
    ///
    /// # Errors
    /// As [`Neighbourhood::fits`].
    pub fn fits(&self, network: &GraphNetwork) -> Result<(), PartError> {
        match self {
            Self::Graph(part) => part.fits(network),
            Self::State(_) => Ok(()),
        }
    }

    /// Name of a node that is opened, of a part of a graph.
    pub fn name(&self, node: u32) -> Option<&str> {
        if let Self::Graph(part) = self { part.name(node) } else { None }
    }

    /// Names and numbers of all nodes, of a part of a graph.
    pub fn names(&self) -> impl Iterator<Item = (&str, u32)> {
        let part = if let Self::Graph(part) = self { Some(part) } else { None };
        part.into_iter().flat_map(Neighbourhood::names)
    }

    /// Those of the ends of a pair of whom no rating is known, of a part of a state.
    pub fn strangers<'a>(&self, ends: [&'a str; 2]) -> Vec<&'a str> {
        let Self::State(part) = self else { return Vec::new() };
        ends.into_iter().filter(|name| !part.knows(name)).collect()
    }

    /// Nodes or users that are opened.
    pub fn members(&self) -> usize {
        match self {
            Self::Graph(part) => part.members(),
            Self::State(part) => part.members(),
        }
    }

    /// Most rows that a network runs on for so many nodes or pairs, and the features of each.
    pub fn most_rows(&self, count: usize) -> [usize; 2] {
        match self {
            Self::Graph(part) => [part.members(), part.width()],
            Self::State(_) => [pairs::MOST_USERS.saturating_mul(count), OF_USER + OF_RATING],
        }
    }

    /// Features that are not zero, where they are projected.
    pub fn projected(&self) -> usize {
        if let Self::Graph(part) = self { part.features() } else { 0 }
    }

    /// Receivers of each convolution, the first one first, for what it was checked for; of a state, of as many convolutions as
    /// there may be.
    pub fn receivers(&self, asked: &GraphQuestion) -> Vec<usize> {
        match (self, asked) {
            (Self::Graph(part), GraphQuestion::Nodes(nodes)) => part.receivers(nodes),
            (Self::State(part), GraphQuestion::Pairs(asked)) => {
                vec![part.pairs(asked).iter().map(pairs::KnownPair::users).sum(); MOST_CONVOLUTIONS]
            }
            _ => Vec::new(),
        }
    }

    /// Runs a network on what it was checked for: a row for each node or pair. `None` if it was opened for something of
    /// another kind.
    ///
    /// # Errors
    /// Those of the interpretation.
    pub fn run<O: Ops>(
        &self,
        network: &GraphNetwork,
        ops: &mut O,
        asked: &GraphQuestion,
    ) -> Result<Option<O::Value>, O::Error> {
        Ok(match (self, asked) {
            (Self::Graph(part), GraphQuestion::Nodes(nodes)) => {
                let pass = part.pass(network, nodes);
                Some(network.classify(ops, &pass.features, &pass.hops, &pass.rows)?)
            }
            (Self::State(part), GraphQuestion::Pairs(asked)) => {
                let known = part.pairs(asked);
                let (features, hops, pairs) = pairs::pass(network, &known.iter().collect::<Vec<_>>());
                Some(network.score(ops, &features, &hops, &pairs)?)
            }
            _ => None,
        })
    }
}
