//! The bundle: the folder a verifier gets.
//!
//! | file | content |
//! |---|---|
//! | `statement.json` | the statement, canonical JSON ([`crate::text`]) |
//! | `deltas.bin` | exact deltas of all sites ([`ftk_circuits::encode_deltas`]), compressed with zstd |
//! | `proof.bin`, `link.bin` | the delta proof and its link to the commitment |
//! | `sealed.bin` | of a sealed bundle, its proof ([`ftk_circuits::sealed`]), in the place of the three before it |
//! | `logits.bin` | beside it, the logits whose digests are stated ([`mod@crate::digested`]) |
//! | `commitment.bin` | the adapter's commitment |
//! | `graph.bin` | of a statement about nodes, the part of the graph that reaches them, of one about pairs that of the state ([`OpenedPart`]) |
//! | `head.safetensors` | weights of a head that was trained beside the adapter; public, and part of what the statement calls the base |
//! | `registration.bin` | the proof that every committed entry is a 16-bit integer |
//!
//! [`PackedBundle`] is a bundle as it was sent, [`Bundle`] one whose deltas are expanded.
//!
//! A bundle is foreign input. Its files MUST be no longer together than the reader allows; `statement.json` MUST be
//! the canonical text of what it says; the decompressed deltas MUST fit sites and rows exactly and be
//! no more than their limit.

use std::collections::BTreeMap;

use ftk_circuits::{AdapterCommitment, DeltaProof};
use ftk_networks::graphs::opened::OpenedPart;

use crate::deadline::Deadline;
#[cfg(feature = "prove")]
use crate::digested::DigestedError;
use crate::digested::{Digested, digests};
#[cfg(feature = "prove")]
use crate::head::head_bytes;
use crate::head::{Tensors, parse_head};
use crate::limits::Limits;
use crate::open_mode;
#[cfg(feature = "prove")]
pub use crate::open_mode::PackError;
pub use crate::open_mode::{DELTAS, LINK, PROOF};
use crate::refusal::Refusal;
use crate::replay::rows_of;
use crate::statement::Statement;
use crate::statement::text::StatementTextError;

/// File of the commitment, in a bundle and beside an opening.
pub const COMMITMENT: &str = "commitment.bin";
/// File of the registration, in a bundle and beside an opening.
pub const REGISTRATION: &str = "registration.bin";
/// File of the statement.
pub const STATEMENT: &str = "statement.json";
/// The proof of a sealed bundle.
pub const SEALED: &str = "sealed.bin";
/// The logits whose digests a sealed bundle states.
pub const LOGITS: &str = "logits.bin";
/// File of the part of a graph.
pub const GRAPH: &str = "graph.bin";
/// File of a head, in a bundle and beside an opening.
pub const HEAD: &str = "head.safetensors";

/// Every file of a bundle; without the first there is none.
pub const FILES: [&str; 10] = [STATEMENT, COMMITMENT, GRAPH, HEAD, DELTAS, PROOF, LINK, SEALED, LOGITS, REGISTRATION];

/// Largest statement: four million ids of ten digits are more than any context.
const MAX_STATEMENT: u64 = 64 << 20;
/// Everything a verifier gets, undigested.
#[derive(Clone, Debug, PartialEq)]
pub struct Bundle {
    /// What is stated.
    pub statement: Statement,
    /// The adapter's commitment.
    pub commitment: AdapterCommitment,
    /// Exact deltas of each site, `(rows, d_out)`.
    pub deltas: Vec<Vec<i128>>,
    /// Proof and link.
    pub proof: DeltaProof,
    /// The registration, if it came along.
    pub registration: Option<Vec<u8>>,
    /// What reaches the nodes or pairs that it is about.
    pub graph: Option<OpenedPart>,
    /// The head, where it is not the base's.
    pub head: Option<Tensors>,
}

#[cfg(feature = "prove")]
impl Bundle {
    /// As it is sent.
    ///
    /// # Errors
    /// More deltas than a bundle may have, or other ones than its commitment says.
    pub fn pack(&self) -> Result<PackedBundle, PackError> {
        let Self { statement, commitment, deltas, proof, registration, graph, head } = self.clone();
        let proof = Proof::Open { deltas: open_mode::pack(&commitment, &deltas)?, proof };
        Ok(PackedBundle { statement, commitment, proof, registration, graph, head })
    }
}

/// Files by their names.
pub type Files<'a> = BTreeMap<&'a str, &'a [u8]>;

/// Why a statement is true, as it was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// In the open: exact deltas, compressed, and that they are the adapter's.
    Open {
        /// `deltas.bin`
        deltas: Vec<u8>,
        /// `proof.bin` and `link.bin`
        proof: DeltaProof,
    },
    /// Sealed.
    Sealed {
        /// `sealed.bin`
        proof: Vec<u8>,
        /// `logits.bin`
        digested: Digested,
    },
}

/// A bundle of which all is read but the deltas, which may be the work of seconds to expand. What can be refused without
/// them is refused before.
#[derive(Clone, Debug)]
pub struct PackedBundle {
    /// What is stated.
    pub statement: Statement,
    /// The adapter's commitment.
    pub commitment: AdapterCommitment,
    /// Why it is true.
    pub proof: Proof,
    /// That the committed entries are 16-bit integers.
    pub registration: Option<Vec<u8>>,
    /// What reaches the nodes or pairs that it is about.
    pub graph: Option<OpenedPart>,
    /// The head, where it is not the base's.
    pub head: Option<Tensors>,
}

#[cfg(feature = "prove")]
impl PackedBundle {
    /// Its files, by name.
    ///
    /// # Errors
    /// Logits that no verifier would read.
    pub fn files(&self) -> Result<BTreeMap<&'static str, Vec<u8>>, DigestedError> {
        let mut files = BTreeMap::from([
            (STATEMENT, crate::text(&self.statement).into_bytes()),
            (COMMITMENT, self.commitment.encode()),
        ]);
        match &self.proof {
            Proof::Open { deltas, proof } => {
                files.extend([(DELTAS, deltas.clone()), (PROOF, proof.proof.clone()), (LINK, proof.link.clone())]);
            }
            Proof::Sealed { proof, digested } => {
                files.insert(SEALED, proof.clone());
                files.extend(digested.encode()?.map(|bytes| (LOGITS, bytes)));
            }
        }
        files.extend(self.graph.as_ref().map(|graph| (GRAPH, graph.encode())));
        files.extend(self.head.as_ref().map(|head| (HEAD, head_bytes(head))));
        files.extend(self.registration.clone().map(|registration| (REGISTRATION, registration)));
        Ok(files)
    }
}

impl PackedBundle {
    /// Reads the files of a bundle as far as they can be read without the base.
    ///
    /// # Errors
    /// Content that no honest prover writes, or that is beyond the limits, which are held against what the deltas may
    /// come to.
    pub fn parse(files: &Files<'_>, limits: &Limits) -> Result<Self, Refusal> {
        if files.values().map(|bytes| bytes.len() as u64).sum::<u64>() > limits.bytes {
            return Err(limits.too_long());
        }
        let need = |name: &'static str| {
            let missing = || Refusal::Malformed { file: name, reason: "is missing".into() };
            files.get(name).copied().ok_or_else(missing)
        };
        let statement = need(STATEMENT)?;
        if statement.len() as u64 > MAX_STATEMENT {
            return Err(Refusal::Malformed { file: STATEMENT, reason: format!("longer than {MAX_STATEMENT} bytes") });
        }
        let statement = crate::parse(statement).map_err(|error| match error {
            StatementTextError::Protocol(version) => Refusal::Protocol(version),
            StatementTextError::Malformed(reason) => Refusal::Malformed { file: STATEMENT, reason },
        })?;
        statement.check()?;
        limits.statement(&statement)?;
        let graph = graph(&statement, files.get(GRAPH).copied(), limits)?;
        let malformed = |reason| Refusal::Malformed { file: HEAD, reason };
        let head = files.get(HEAD).map(|bytes| {
            limits.head_file(bytes)?;
            parse_head(bytes).map_err(malformed)
        });
        let head = head.transpose()?;
        let commitment = AdapterCommitment::decode(need(COMMITMENT)?)?;
        limits.sites(&commitment)?;
        let proof = match files.get(SEALED) {
            None => {
                if files.contains_key(LOGITS) {
                    return Err(Refusal::Malformed { file: LOGITS, reason: format!("is not beside {SEALED}") });
                }
                let rows = rows_of(&statement, graph.as_ref(), commitment.shapes());
                let most = open_mode::limit(&commitment, &rows)?;
                limits.commitment(&commitment, &rows, most)?;
                let proof = DeltaProof { proof: need(PROOF)?.to_vec(), link: need(LINK)?.to_vec() };
                Proof::Open { deltas: need(DELTAS)?.to_vec(), proof }
            }
            Some(proof) => {
                if let Some(file) = [DELTAS, PROOF, LINK].into_iter().find(|file| files.contains_key(file)) {
                    return Err(Refusal::Malformed { file, reason: format!("is beside {SEALED}") });
                }
                // Of an adapter that is not registered it says nothing.
                need(REGISTRATION)?;
                Proof::Sealed { proof: proof.to_vec(), digested: digested(&statement, files, limits)? }
            }
        };
        let registration = files.get(REGISTRATION).map(|bytes| bytes.to_vec());
        Ok(Self { statement, commitment, proof, registration, graph, head })
    }

    /// The deltas, expanded; `None` if it is sealed, and has none.
    ///
    /// # Errors
    /// Bytes that no honest prover writes; [`Refusal::Time`] after the deadline.
    pub fn deltas(&self, deadline: Deadline) -> Result<Option<Vec<Vec<i128>>>, Refusal> {
        let Proof::Open { deltas, .. } = &self.proof else { return Ok(None) };
        let rows = rows_of(&self.statement, self.graph.as_ref(), self.commitment.shapes());
        open_mode::expand(deltas, &self.commitment, &rows, deadline).map(Some)
    }

    /// Expands the deltas.
    ///
    /// # Errors
    /// As [`PackedBundle::deltas`]; a sealed bundle.
    pub fn expand(self, deadline: Deadline) -> Result<Bundle, Refusal> {
        let deltas = self.deltas(deadline)?;
        let Self { statement, commitment, proof, registration, graph, head } = self;
        match (proof, deltas) {
            (Proof::Open { proof, .. }, Some(deltas)) => {
                Ok(Bundle { statement, commitment, deltas, proof, registration, graph, head })
            }
            _ => Err(Refusal::Malformed { file: SEALED, reason: "has no deltas".into() }),
        }
    }
}

/// The logits that a sealed statement has the digests of.
fn digested(statement: &Statement, files: &Files<'_>, limits: &Limits) -> Result<Digested, Refusal> {
    let malformed = |reason: String| Refusal::Malformed { file: LOGITS, reason };
    match (digests(&statement.cases), files.get(LOGITS)) {
        (0, None) => Ok(Digested::default()),
        (0, Some(_)) => Err(malformed("the statement has no digest of logits".to_owned())),
        (_, None) => Err(malformed("is missing".to_owned())),
        (digests, Some(bytes)) => {
            limits.logits_file(bytes)?;
            Digested::decode(bytes, digests).map_err(|error| malformed(error.to_string()))
        }
    }
}

/// The part of the graph or state that a statement is about, checked; `None` where it is about tokens.
fn graph(statement: &Statement, bytes: Option<&[u8]>, limits: &Limits) -> Result<Option<OpenedPart>, Refusal> {
    match (statement.graph().zip(statement.asked()), bytes) {
        (None, None) => Ok(None),
        (None, Some(_)) => Err(Refusal::Malformed { file: GRAPH, reason: "the statement is about no graph".into() }),
        (Some(_), None) => Err(Refusal::Malformed { file: GRAPH, reason: "is missing".into() }),
        (Some((root, asked)), Some(bytes)) => {
            limits.graph_file(&asked, bytes)?;
            let graph = asked.decode(bytes)?;
            limits.graph(&graph, statement.cases.len())?;
            graph.check(&asked, &root.0)?;
            Ok(Some(graph))
        }
    }
}
