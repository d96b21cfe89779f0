//! What a verifier is willing to spend on a bundle that somebody sent.

use std::collections::BTreeSet;
use std::time::Duration;

use ftk_circuits::{AdapterCommitment, SiteShape};
use ftk_networks::graphs::opened::{GraphQuestion, OpenedPart};

use crate::deadline::Deadline;
use crate::outputs::Output;
use crate::refusal::Refusal;
use crate::statement::{Case, Statement};

/// Limits of one verification. What goes beyond one is not wrong; it is not looked at.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Tokens the network is run on, over all cases, or nodes.
    pub tokens: u64,
    /// Sites of the adapter.
    pub sites: u64,
    /// Bytes of the bundle's files together.
    pub bytes: u64,
    /// Bytes of memory for inputs and deltas, the part of a graph, its features and a head, by arithmetic, beside the
    /// base.
    pub memory: u64,
    /// Wall time of reading a bundle, of the replay and of the check of its proofs, one after the other; looked at
    /// before each row of deltas, each linear layer of the network, each attention of a plan, and each part of a proof
    /// ([`ftk_circuits::verify_all`]). What was begun goes to its end. It needs the feature `clock`.
    pub time: Duration,
}

impl Default for Limits {
    /// More than the models that ftk reads need on a machine that trains them.
    fn default() -> Self {
        Self { tokens: 1 << 16, sites: 1 << 10, bytes: 1 << 30, memory: 8 << 30, time: Duration::from_secs(600) }
    }
}

/// Bytes of one exact delta in memory.
pub const DELTA: u64 = 16;
/// Bytes of one input: as the replay records it, and as it is folded.
pub const INPUT: u64 = 4 + 8;

/// Bytes that a verifier needs beside the base, for so many rows of each site.
pub fn expanded(shapes: &[SiteShape], rows: &[usize]) -> u64 {
    let row = |shape: &SiteShape| DELTA * u64::from(shape.d_out) + INPUT * u64::from(shape.d_in);
    shapes.iter().zip(rows).map(|(shape, rows)| row(shape).saturating_mul(*rows as u64)).fold(0, u64::saturating_add)
}

/// Bytes of a feature of what an adapter adds: four field elements.
const ADDED: u64 = 4 * 32;
/// Bytes of a row of a list: a field element in what is said of cells, and one in what the adapter adds.
const SELECTED: u64 = 2 * 32;
/// Bytes of a lane of an adapter that occurs once more: its terms, products and ends.
const LANE: u64 = 300;

/// How often the logits behind digests are in memory: as they were sent; as integers of 64 bits that are read, stated of a
/// row, and stated of all rows; and as bytes that are hashed, which are gathered.
const STATED: u64 = 1 + 2 + 2 + 2 + 4;

/// How often a head is in memory: as it was sent, read, written again, twice in place, and as integers.
const COPIES: u64 = 8;

impl Limits {
    /// No limits but the protocol's own.
    pub const NONE: Self =
        Self { tokens: u64::MAX, sites: u64::MAX, bytes: u64::MAX, memory: u64::MAX, time: Duration::MAX };

    /// When the time is up, if it ever is.
    pub fn deadline(&self) -> Deadline {
        Deadline::after(self.time)
    }

    /// The refusal of files that are longer together than they may be.
    pub fn too_long(&self) -> Refusal {
        Refusal::Limit { what: "bytes of files", needs: self.bytes.saturating_add(1), allowed: self.bytes }
    }

    /// Refuses a statement of too many tokens.
    pub(crate) fn statement(&self, statement: &Statement) -> Result<(), Refusal> {
        within("tokens", statement.rows() as u64, self.tokens)
    }

    /// Refuses a file of a part of a graph that takes too much memory to read.
    pub(crate) fn graph_file(&self, asked: &GraphQuestion, bytes: &[u8]) -> Result<(), Refusal> {
        within("bytes of memory", asked.expansion() * bytes.len() as u64, self.memory)
    }

    /// Refuses features that take too much memory to project to so many.
    pub(crate) fn projection(&self, graph: &OpenedPart, width: usize) -> Result<(), Refusal> {
        within("bytes of memory", (graph.projected() as u64).saturating_mul(4 * width as u64), self.memory)
    }

    /// Refuses a head that takes too much memory to read and to put in place.
    pub(crate) fn head_file(&self, bytes: &[u8]) -> Result<(), Refusal> {
        within("bytes of memory", COPIES * bytes.len() as u64, self.memory)
    }

    /// Refuses logits behind digests that take too much memory to be stated.
    pub(crate) fn logits_file(&self, bytes: &[u8]) -> Result<(), Refusal> {
        within("bytes of memory", STATED * bytes.len() as u64, self.memory)
    }

    /// Refuses logits of nodes that take too much memory: as activations, and of every case.
    pub(crate) fn logits(&self, cases: usize, outputs: usize) -> Result<(), Refusal> {
        within("bytes of memory", (cases as u64).saturating_mul(3 * 8 * outputs as u64), self.memory)
    }

    /// Refuses a part of a graph of too many nodes, or asked about too often, or of features that take too much memory.
    pub(crate) fn graph(&self, graph: &OpenedPart, cases: usize) -> Result<(), Refusal> {
        let [rows, width] = graph.most_rows(cases);
        within("nodes", rows.max(cases).max(graph.members()) as u64, self.tokens)?;
        // As floats, as activations and as words.
        let features = rows as u64 * width as u64 * (4 + 8 + 4);
        within("bytes of memory", features, self.memory)
    }

    /// Of any bundle, before its proof is read.
    pub(crate) fn sites(&self, commitment: &AdapterCommitment) -> Result<(), Refusal> {
        within("sites", commitment.shapes().len() as u64, self.sites)
    }

    /// Of the plan of a sealed bundle, beside the base: who sees whom, as it is made and as it is kept; inputs of so many
    /// features, twice; weights of what is chosen among, and what an adapter of the head adds to each list of it; of each list
    /// that differs from the others, weights of all rows and lanes; and the outputs of a network of graphs as themselves. So many
    /// bytes are within the limit.
    pub(crate) fn plan(
        &self,
        statement: &Statement,
        shapes: &[SiteShape],
        features: usize,
        outputs: Option<usize>,
    ) -> Result<u64, Refusal> {
        let (rows, features) = (statement.rows() as u64, features as u64);
        let among =
            |case: &'_ Case| if let Output::Choice(choice) = &case.output { choice.among.len() as u64 } else { 0 };
        let lists = statement.cases.iter().map(among).filter(|listed| *listed > 0);
        let (lists, listed) = lists.fold((0, 0), |(lists, all), listed| (lists + 1, all + listed));
        let outputs = outputs.unwrap_or(0) as u64;
        // The same list is stated once, of all its rows.
        let mut others = BTreeSet::new();
        for case in &statement.cases {
            if let Output::Choice(choice) = &case.output {
                others.insert(choice.among.as_slice());
            }
        }
        let others = others.len() as u64;
        let ranks: u64 = shapes.iter().map(|shape| u64::from(shape.rank)).sum();
        let needs = [
            [2, rows, rows],
            [16, rows, features],
            [2, listed, features.max(outputs)],
            [ADDED, lists, features],
            [SELECTED, others, rows],
            [LANE, others, ranks],
            [2, outputs, outputs],
        ];
        let product = |factors: [u64; 3]| factors.into_iter().fold(1, u64::saturating_mul);
        let needs = needs.into_iter().map(product).fold(0, u64::saturating_add);
        within("bytes of memory", needs, self.memory).map(|()| needs)
    }

    /// Refuses an adapter of too many sites, or one that needs too much memory for so many rows of each, whose deltas
    /// take at most `encoded` bytes before they are expanded.
    pub(crate) fn commitment(
        &self,
        commitment: &AdapterCommitment,
        rows: &[usize],
        encoded: u64,
    ) -> Result<(), Refusal> {
        let expanded = expanded(commitment.shapes(), rows);
        within("bytes of memory", expanded.saturating_add(encoded), self.memory)
    }
}

/// Refuses what is beyond a limit.
pub(crate) fn within(what: &'static str, needs: u64, allowed: u64) -> Result<(), Refusal> {
    if needs > allowed { Err(Refusal::Limit { what, needs, allowed }) } else { Ok(()) }
}
