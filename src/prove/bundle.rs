//! The bundle: the folder a verifier gets.
//!
//! | file | content |
//! |---|---|
//! | `statement.json` | the statement, canonical JSON as [`Bundle::write`] writes it |
//! | `deltas.bin` | exact deltas of all sites ([`ftk_circuits::encode_deltas`]), compressed with zstd |
//! | `proof.bin`, `link.bin` | the delta proof and its link to the commitment |
//! | `commitment.bin` | the adapter's commitment |
//! | `graph.bin` | of a statement about nodes, the part of the graph that reaches them ([`Neighbourhood`]) |
//! | `head.safetensors` | weights of a head that was trained beside the adapter; public, and part of what the statement calls the base |
//! | `registration.bin` | the proof that every committed entry is a 16-bit integer |
//!
//! [`Packed`] is a bundle as it was sent, [`Bundle`] one whose deltas are expanded.
//!
//! A bundle is foreign input. Its files MUST be no longer together than the reader allows; `statement.json` MUST be
//! the canonical text of what it says; the decompressed deltas MUST fit sites and rows exactly and be
//! no more than their limit.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use ftk_adapters::foreign;
use ftk_adapters::peft::Saved;
use ftk_adapters::staged::{Staged, There};
use ftk_circuits::{AdapterCommitment, CheckFailed, DeltaProof, decode_deltas, deltas_limit, encode_deltas};

use ftk_networks::graphs::neighbourhood::Neighbourhood;
use ftk_proofs::{Deadline, Statement, TextError, rows_of};

use super::graph_base::{head_bytes, parse_head};
use super::limits::Limits;
use super::refusal::{Refusal, Stage};

/// File of the commitment, in a bundle and beside an opening.
pub const COMMITMENT: &str = "commitment.bin";
/// File of the registration, in a bundle and beside an opening.
pub const REGISTRATION: &str = "registration.bin";
/// File of the statement.
pub const STATEMENT: &str = "statement.json";
/// File of the deltas.
pub const DELTAS: &str = "deltas.bin";
/// File of the proof.
pub const PROOF: &str = "proof.bin";
/// File of the link.
pub const LINK: &str = "link.bin";

/// File of the part of a graph.
pub const GRAPH: &str = "graph.bin";
/// File of a head, in a bundle and beside an opening.
pub const HEAD: &str = "head.safetensors";

/// Every file of a bundle; without the first there is none.
pub const FILES: [&str; 8] = [STATEMENT, COMMITMENT, GRAPH, HEAD, DELTAS, PROOF, LINK, REGISTRATION];

/// Without these a folder is no bundle, or one of which not all has come.
const NEEDED: [&str; 5] = [STATEMENT, COMMITMENT, DELTAS, PROOF, LINK];

/// Largest statement: four million ids of ten digits are more than any context.
const MAX_STATEMENT: u64 = 64 << 20;
/// Most deltas of a bundle, sixteen bytes each in memory: a small file may claim and expand to any number.
const MAX_DELTAS: u64 = 1 << 28;
/// Level of compression; deltas are nearly random, more effort saves little.
const ZSTD_LEVEL: i32 = 3;

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
    /// What reaches the nodes, of a statement about nodes.
    pub graph: Option<Neighbourhood>,
    /// The head, where it is not the base's.
    pub head: Option<Saved>,
}

impl Bundle {
    /// Writes a bundle in the place of a folder: of the one that was there before, nothing stays.
    ///
    /// # Errors
    /// The file system's.
    pub fn write(&self, folder: &Path) -> io::Result<()> {
        let staged = Staged::new(folder, There::Goes)?;
        self.write_files(&staged.path())?;
        staged.persist(&FILES)
    }

    /// Writes the files into an empty folder.
    ///
    /// # Errors
    /// The file system's.
    pub fn write_files(&self, folder: &Path) -> io::Result<()> {
        let deltas: Vec<&[i128]> = self.deltas.iter().map(Vec::as_slice).collect();
        if deltas.iter().map(|deltas| deltas.len() as u64).sum::<u64>() > MAX_DELTAS {
            return Err(io::Error::other(format!("more than {MAX_DELTAS} deltas; prove a shorter answer")));
        }
        let deltas = encode_deltas(self.commitment.shapes(), &deltas).map_err(io::Error::other)?;
        let deltas = zstd::encode_all(deltas.as_slice(), ZSTD_LEVEL)?;
        let put = |name: &str, bytes: &[u8]| std::fs::write(folder.join(name), bytes);
        put(STATEMENT, ftk_proofs::text(&self.statement).as_bytes())?;
        put(DELTAS, &deltas)?;
        put(PROOF, &self.proof.proof)?;
        put(LINK, &self.proof.link)?;
        put(COMMITMENT, &self.commitment.encode())?;
        self.graph.iter().try_for_each(|graph| put(GRAPH, &graph.encode()))?;
        self.head.iter().try_for_each(|head| put(HEAD, &head_bytes(head)))?;
        self.registration.iter().try_for_each(|bytes| put(REGISTRATION, bytes))
    }

    /// Reads a bundle's files from a folder as far as they can be read without the base.
    ///
    /// # Errors
    /// [`ReadError::Io`] for what the file system refuses, [`ReadError::Refused`] for content that no honest
    /// prover writes, or that is beyond the limits.
    pub fn read(folder: &Path, limits: &Limits) -> Result<Self, ReadError> {
        let deadline = limits.deadline();
        Ok(Packed::read(folder, limits)?.expand(deadline)?)
    }
}

/// A bundle of which all is read but the deltas, which may be the work of seconds to expand. What can be refused without
/// them is refused before.
#[derive(Clone, Debug)]
pub struct Packed {
    /// What is stated.
    pub statement: Statement,
    /// The adapter's commitment.
    pub commitment: AdapterCommitment,
    /// `deltas.bin`
    deltas: Vec<u8>,
    pub(super) proof: DeltaProof,
    registration: Option<Vec<u8>>,
    /// What reaches the nodes, of a statement about nodes.
    pub graph: Option<Neighbourhood>,
    /// The head, where it is not the base's.
    pub head: Option<Saved>,
}

impl Packed {
    /// Reads all files of a folder.
    ///
    /// # Errors
    /// As [`Bundle::read`], but for the deltas.
    pub fn read(folder: &Path, limits: &Limits) -> Result<Self, ReadError> {
        let mut left = limits.bytes;
        let mut files = BTreeMap::new();
        for name in FILES {
            if let Some(bytes) = file(folder, name, left)? {
                left = left.checked_sub(bytes.len() as u64).ok_or_else(|| too_long(limits))?;
                files.insert(name.to_owned(), bytes);
            } else if NEEDED.contains(&name) {
                return Err(ReadError::Half { folder: folder.to_owned(), missing: name });
            }
        }
        Ok(Self::parse(&files, limits)?)
    }

    /// The same from memory: files by name.
    ///
    /// # Errors
    /// Content that no honest prover writes, or that is beyond the limits, which are held against what the deltas may
    /// come to.
    pub fn parse(files: &BTreeMap<String, Vec<u8>>, limits: &Limits) -> Result<Self, Refusal> {
        if files.values().map(|bytes| bytes.len() as u64).sum::<u64>() > limits.bytes {
            return Err(too_long(limits));
        }
        let need = |name: &'static str| {
            let missing = || Refusal::Malformed { file: name, reason: "is missing".into() };
            files.get(name).map(Vec::as_slice).ok_or_else(missing)
        };
        let statement = need(STATEMENT)?;
        if statement.len() as u64 > MAX_STATEMENT {
            return Err(Refusal::Malformed { file: STATEMENT, reason: format!("longer than {MAX_STATEMENT} bytes") });
        }
        let statement = ftk_proofs::parse(statement).map_err(|error| match error {
            TextError::Protocol(version) => Refusal::Protocol(version),
            TextError::Malformed(reason) => Refusal::Malformed { file: STATEMENT, reason },
        })?;
        statement.check()?;
        limits.statement(&statement)?;
        let graph = graph(&statement, files.get(GRAPH).map(Vec::as_slice), limits)?;
        let malformed = |reason| Refusal::Malformed { file: HEAD, reason };
        let head = files.get(HEAD).map(|bytes| {
            limits.head_file(bytes)?;
            parse_head(bytes).map_err(malformed)
        });
        let head = head.transpose()?;
        let commitment = AdapterCommitment::decode(need(COMMITMENT)?)?;
        let rows = rows_of(&statement, graph.as_ref(), commitment.shapes());
        let most = limit(&commitment, &rows)?;
        limits.commitment(&commitment, &rows, most)?;
        let deltas = need(DELTAS)?.to_vec();
        let proof = DeltaProof { proof: need(PROOF)?.to_vec(), link: need(LINK)?.to_vec() };
        let registration = files.get(REGISTRATION).cloned();
        Ok(Self { statement, commitment, deltas, proof, registration, graph, head })
    }

    /// Expands the deltas.
    ///
    /// # Errors
    /// Bytes that no honest prover writes; [`Refusal::Time`] after the deadline.
    pub fn expand(self, deadline: Deadline) -> Result<Bundle, Refusal> {
        let Self { statement, commitment, deltas, proof, registration, graph, head } = self;
        let rows = rows_of(&statement, graph.as_ref(), commitment.shapes());
        let deltas = decompress(&deltas, limit(&commitment, &rows)?)?;
        let deltas = decode_deltas(&deltas, commitment.shapes(), &rows, &|| deadline.is_past());
        let deltas = deltas.map_err(|error| match error {
            CheckFailed::Stopped => Refusal::Time(Stage::Deltas),
            error => Refusal::Check(error),
        })?;
        Ok(Bundle { statement, commitment, deltas, proof, registration, graph, head })
    }
}

/// The part of the graph that a statement is about, checked; `None` where it is about tokens.
fn graph(statement: &Statement, bytes: Option<&[u8]>, limits: &Limits) -> Result<Option<Neighbourhood>, Refusal> {
    match (statement.graph(), bytes) {
        (None, None) => Ok(None),
        (None, Some(_)) => Err(Refusal::Malformed { file: GRAPH, reason: "the statement is about no graph".into() }),
        (Some(_), None) => Err(Refusal::Malformed { file: GRAPH, reason: "is missing".into() }),
        (Some(root), Some(bytes)) => {
            limits.graph_file(bytes)?;
            let graph = Neighbourhood::decode(bytes)?;
            limits.graph(&graph, statement.cases.len())?;
            graph.check(&statement.nodes(), &root.0)?;
            Ok(Some(graph))
        }
    }
}

fn too_long(limits: &Limits) -> Refusal {
    Refusal::Limit { what: "bytes of files", needs: limits.bytes.saturating_add(1), allowed: limits.bytes }
}

/// Why a bundle could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file system refused.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The refusal.
        error: io::Error,
    },
    /// Not all of it is there.
    #[error("{}: no bundle, or not all of it: {missing} is missing", folder.display())]
    Half {
        /// The folder.
        folder: PathBuf,
        /// A file that every bundle has.
        missing: &'static str,
    },
    /// The content is refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// Bytes that the deltas of this commitment take at most.
fn limit(commitment: &AdapterCommitment, rows: &[usize]) -> Result<u64, Refusal> {
    // 4096 sites of 65536 outputs and 2^21 rows stay far below 2^64.
    let entries: u64 =
        commitment.shapes().iter().zip(rows).map(|(shape, rows)| u64::from(shape.d_out) * *rows as u64).sum();
    if entries > MAX_DELTAS {
        return Err(Refusal::Malformed { file: DELTAS, reason: format!("claims more than {MAX_DELTAS} deltas") });
    }
    Ok(deltas_limit(commitment.shapes(), rows))
}

fn decompress(bytes: &[u8], limit: u64) -> Result<Vec<u8>, Refusal> {
    let malformed =
        || Refusal::Malformed { file: DELTAS, reason: "not a zstd frame of the length it must have".into() };
    let mut out = Vec::new();
    let mut decoder = zstd::Decoder::with_buffer(bytes).map_err(|_| malformed())?.single_frame();
    decoder.by_ref().take(limit + 1).read_to_end(&mut out).map_err(|_| malformed())?;
    let rest = decoder.finish();
    if out.len() as u64 > limit || !rest.is_empty() { Err(malformed()) } else { Ok(out) }
}

/// What is in a bundle's folder and is none of its files, or leads out of it: as whoever passes the folder on should know.
pub fn strangers(folder: &Path) -> Vec<String> {
    let whole = folder.canonicalize().unwrap_or_default();
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut strangers: Vec<String> = entries
        .filter_map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            if !FILES.contains(&name.as_str()) {
                return Some(format!("{name} is no file of a bundle, and no verdict is about it"));
            }
            let to = entry.path().canonicalize().ok().filter(|to| !to.starts_with(&whole))?;
            Some(format!("{name} leads out of the folder, to {}", to.display()))
        })
        .collect();
    strangers.sort();
    strangers
}

/// Content of a file of at most `limit` bytes, or one byte more of a longer one; `None` where there is none.
fn file(folder: &Path, name: &'static str, limit: u64) -> Result<Option<Vec<u8>>, ReadError> {
    let path = folder.join(name);
    let io = |error| ReadError::Io { path: path.clone(), error };
    let mut bytes = Vec::new();
    match foreign::open(&path) {
        // A folder without a bundle is a mistake of the caller's, not a bundle that lies.
        Err(error) if error.kind() == io::ErrorKind::NotFound && folder.is_dir() => return Ok(None),
        Err(error) => return Err(io(error)),
        Ok(file) => file.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(io)?,
    };
    Ok(Some(bytes))
}
