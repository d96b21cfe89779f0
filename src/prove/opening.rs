//! The opening file: the secret that opens a commitment, and a ledger of what its proofs have disclosed.
//!
//! `"ftk opening file" 0x00 | version u32 | length u32, opening | sites u32 | per site: known u32, rows`, integers
//! little-endian. `known` is the rank of the inputs whose deltas are public; as long as it is no more than the
//! adapter's, that many rows of `d_in` residues follow, which span them, and otherwise the ledger has nothing more to
//! count. A delta is linear in its input, so a row in the span of those before it discloses nothing.

use std::io;
use std::path::{Path, PathBuf};

use ftk_adapters::{atomic, foreign};
use ftk_circuits::{CheckFailed, Opening, SiteShape};
use ftk_proofs::fixed::SiteRecord;
use rayon::prelude::*;

/// File of the secret.
pub const OPENING: &str = "opening.bin";
/// File that is locked while a ledger is changed.
const LOCK: &str = "opening.lock";
const TAG: &[u8] = b"ftk opening file\0";
const VERSION: u32 = 1;

/// Ranks are counted modulo this prime, `2^61 - 1`. They are never larger than over the integers, and smaller only for
/// rows that were made for it.
const PRIME: u64 = (1 << 61) - 1;

/// Why an opening file is of no use.
#[derive(Debug, thiserror::Error)]
pub enum OpeningError {
    /// The file system refused.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The refusal.
        error: io::Error,
    },
    /// Not an opening file of this version, or damaged.
    #[error("{}: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// An opening with its ledger.
#[derive(Clone, PartialEq, Eq)]
pub struct OpeningFile {
    /// The secret.
    pub opening: Opening,
    /// What was disclosed.
    pub ledger: Ledger,
}

impl std::fmt::Debug for OpeningFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpeningFile").field("opening", &self.opening).finish_non_exhaustive()
    }
}

/// What the proofs made with an opening have disclosed, site by site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ledger {
    sites: Vec<Disclosed>,
}

/// Inputs of one site whose deltas are public.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Disclosed {
    d_in: usize,
    rank: usize,
    /// Rank of the inputs, at most one more than the adapter's.
    known: usize,
    /// They span the inputs: each begins with a one, at which those after it are zero. Empty once `known > rank`.
    rows: Vec<Vec<u64>>,
}

/// How much is disclosed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disclosure {
    /// Sites of the adapter.
    pub sites: usize,
    /// Names of the sites at which more rows are disclosed than the adapter has ranks: a little beyond that,
    /// lattice reduction recovers its `B` (`circuits/STATEMENT.md`, section 1).
    pub beyond: Vec<String>,
    /// The least number of rows by which a site stays below its rank; none if some site is beyond.
    pub left: Option<usize>,
}

impl Disclosed {
    fn add(&mut self, input: &[i32]) {
        if self.known <= self.rank {
            self.add_row(input.iter().map(|x| i64::from(*x).rem_euclid(PRIME as i64) as u64).collect());
        }
    }

    fn add_row(&mut self, mut row: Vec<u64>) {
        for known in &self.rows {
            let pivot = known.iter().position(|x| *x != 0).unwrap_or(0);
            let factor = row[pivot];
            if factor != 0 {
                row.iter_mut()
                    .zip(known)
                    .for_each(|(x, y)| *x = reduce(u128::from(*x) + u128::from(PRIME - factor) * u128::from(*y)));
            }
        }
        let Some(first) = row.iter().copied().find(|x| *x != 0) else { return };
        let inverse = power(first, PRIME - 2);
        row.iter_mut().for_each(|x| *x = reduce(u128::from(*x) * u128::from(inverse)));
        self.known += 1;
        self.rows.push(row);
        if self.known > self.rank {
            self.rows.clear();
        }
    }
}

fn reduce(value: u128) -> u64 {
    (value % u128::from(PRIME)) as u64
}

fn power(base: u64, exponent: u64) -> u64 {
    let (mut result, mut square) = (1, base);
    for bit in 0..u64::BITS - exponent.leading_zeros() {
        if exponent >> bit & 1 == 1 {
            result = reduce(u128::from(result) * u128::from(square));
        }
        square = reduce(u128::from(square) * u128::from(square));
    }
    result
}

impl Ledger {
    /// Of a commitment nothing was proved with.
    pub fn new(shapes: &[SiteShape]) -> Self {
        let site = |shape: &SiteShape| {
            let (d_in, rank) = (shape.d_in as usize, shape.rank as usize);
            Disclosed { d_in, rank, known: 0, rows: Vec::new() }
        };
        Self { sites: shapes.iter().map(site).collect() }
    }

    /// Adds what one proof discloses; records in canonical order.
    pub fn add(&mut self, records: &[SiteRecord]) {
        self.sites.par_iter_mut().zip(records).for_each(|(site, record)| {
            record.inputs.chunks_exact(site.d_in).for_each(|input| site.add(input));
        });
    }

    /// Adds what another ledger of the same commitment has.
    pub fn merge(&mut self, other: &Self) {
        for (site, other) in self.sites.iter_mut().zip(&other.sites) {
            if other.known > other.rank {
                (site.known, site.rows) = (other.known, Vec::new());
            }
            for row in &other.rows {
                if site.known <= site.rank {
                    site.add_row(row.clone());
                }
            }
        }
    }

    /// What it comes to; `shapes` are the commitment's.
    pub fn disclosure(&self, shapes: &[SiteShape]) -> Disclosure {
        let beyond = self.sites.iter().zip(shapes).filter(|(site, _)| site.known > site.rank);
        let left = self.sites.iter().map(|site| site.rank.checked_sub(site.known)).min().flatten();
        Disclosure { sites: self.sites.len(), beyond: beyond.map(|(_, shape)| shape.name.clone()).collect(), left }
    }
}

/// Bytes that an opening file of such a commitment has at most: the ledger's rows, and blinds, which are a document.
fn most(shapes: &[SiteShape]) -> u64 {
    let rows = |shape: &SiteShape| u64::from(shape.rank).saturating_mul(8 * u64::from(shape.d_in)).saturating_add(4);
    shapes.iter().map(rows).fold(foreign::DOCUMENT, u64::saturating_add)
}

impl OpeningFile {
    /// A new opening.
    pub fn new(opening: Opening, shapes: &[SiteShape]) -> Self {
        Self { opening, ledger: Ledger::new(shapes) }
    }

    /// The bytes of the file.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = TAG.to_vec();
        bytes.extend(VERSION.to_le_bytes());
        let opening = self.opening.encode();
        bytes.extend((opening.len() as u32).to_le_bytes());
        bytes.extend(opening);
        bytes.extend((self.ledger.sites.len() as u32).to_le_bytes());
        for site in &self.ledger.sites {
            bytes.extend((site.known as u32).to_le_bytes());
            bytes.extend(site.rows.iter().flatten().flat_map(|x| x.to_le_bytes()));
        }
        bytes
    }

    /// Reads an opening file of a commitment with these sites.
    ///
    /// # Errors
    /// See [`OpeningError`].
    pub fn read(path: &Path, shapes: &[SiteShape]) -> Result<Self, OpeningError> {
        let bytes =
            foreign::read(path, most(shapes)).map_err(|error| OpeningError::Io { path: path.to_owned(), error })?;
        Self::decode(&bytes, shapes).map_err(|reason| OpeningError::Malformed { path: path.to_owned(), reason })
    }

    fn decode(bytes: &[u8], shapes: &[SiteShape]) -> Result<Self, String> {
        let mut rest = bytes;
        let mut take = |count: usize| -> Result<&[u8], String> {
            let (head, tail) = rest.split_at_checked(count).ok_or("ends too early")?;
            rest = tail;
            Ok(head)
        };
        let u32 = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().unwrap_or_default());
        if take(TAG.len())? != TAG {
            return Err("is not an opening file".to_owned());
        }
        let version = u32(take(4)?);
        if version != VERSION {
            return Err(format!("opening file of an unknown version: {version}"));
        }
        let length = u32(take(4)?) as usize;
        let opening = Opening::decode(take(length)?).map_err(|error: CheckFailed| error.to_string())?;
        let count = u32(take(4)?) as usize;
        if count != shapes.len() {
            return Err(format!("ledger of {count} sites beside a commitment of {}", shapes.len()));
        }
        let mut ledger = Ledger::new(shapes);
        for (site, shape) in ledger.sites.iter_mut().zip(shapes) {
            site.known = u32(take(4)?) as usize;
            if site.known > site.rank + 1 {
                return Err(format!("ledger counts more than it can at site: {}", shape.name));
            }
            let rows = if site.known > site.rank { 0 } else { site.known };
            for _ in 0..rows {
                let (row, _) = take(8 * site.d_in)?.as_chunks::<8>();
                site.rows.push(row.iter().map(|x| u64::from_le_bytes(*x)).collect());
            }
            let pivoted = |row: &Vec<u64>| row.iter().all(|x| *x < PRIME) && row.iter().find(|x| **x != 0) == Some(&1);
            if !site.rows.iter().all(pivoted) {
                return Err(format!("ledger is damaged at site: {}", shape.name));
            }
        }
        if rest.is_empty() { Ok(Self { opening, ledger }) } else { Err("goes on behind its end".to_owned()) }
    }

    /// Adds what a proof discloses to the ledger of the file in a folder, on disk before anything is released. Others that prove
    /// with the same file are kept waiting.
    ///
    /// `agreed` sees what will be disclosed and may refuse.
    ///
    /// # Errors
    /// The file system's; `Ok(None)` if it was refused, and then nothing was written.
    pub fn disclose(
        folder: &Path,
        shapes: &[SiteShape],
        addition: &Ledger,
        agreed: impl FnOnce(&Disclosure) -> bool,
    ) -> Result<Option<Disclosure>, OpeningError> {
        let path = folder.join(OPENING);
        let io = |error| OpeningError::Io { path: path.clone(), error };
        // The file itself is replaced, and a lock on what is replaced locks nothing.
        let lock = foreign::open_to_write(&folder.join(LOCK)).map_err(io)?;
        lock.lock().map_err(io)?;
        let mut file = Self::read(&path, shapes)?;
        file.ledger.merge(addition);
        let disclosure = file.ledger.disclosure(shapes);
        if !agreed(&disclosure) {
            return Ok(None);
        }
        atomic::replace_secret(&path, &file.encode()).map_err(io)?;
        Ok(Some(disclosure))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shapes() -> Vec<SiteShape> {
        let shape = |(name, rank, d_in): (&str, u32, u32)| SiteShape {
            name: name.into(),
            rank,
            d_in,
            d_out: 5,
            shift_a: 0,
            shift_b: 0,
        };
        [("q", 2, 4), ("v", 1, 3)].map(shape).to_vec()
    }

    fn records(q: &[[i32; 4]], v: &[[i32; 3]]) -> Vec<SiteRecord> {
        let record = |site: &str, inputs: Vec<i32>| SiteRecord { site: site.to_owned(), inputs, deltas: Vec::new() };
        vec![record("q", q.concat()), record("v", v.concat())]
    }

    #[test]
    fn only_independent_rows_count() {
        let shapes = shapes();
        let mut ledger = Ledger::new(&shapes);
        let left = |ledger: &Ledger| ledger.disclosure(&shapes).left;
        ledger.add(&records(&[[1, 2, -3, 4], [2, 4, -6, 8], [0, 0, 0, 0]], &[[i32::MAX, -i32::MAX, 1]]));
        assert_eq!(left(&ledger), Some(0), "one row at each site, and v has rank 1");
        ledger.add(&records(&[[0, 7, 1, -1], [1, 9, -2, 3], [-1, -9, 2, -3]], &[[-i32::MAX, i32::MAX, -1]]));
        assert_eq!(left(&ledger), Some(0), "sums and multiples of rows disclose nothing");
        let mut other = Ledger::new(&shapes);
        other.add(&records(&[[5, 0, 0, 0], [3, 11, 0, 3]], &[[1, 0, 0]]));
        let mut both = ledger.clone();
        both.merge(&other);
        assert_eq!(both.disclosure(&shapes).beyond, ["q", "v"], "two ledgers know what both rows together span");
        both = other;
        both.merge(&ledger);
        assert_eq!(both.disclosure(&shapes).beyond, ["q", "v"]);
        ledger.add(&records(&[], &[[1, 0, 0]]));
        assert_eq!(ledger.disclosure(&shapes), Disclosure { sites: 2, beyond: vec!["v".into()], left: None });
        ledger.add(&records(&[[0, 0, 0, 1]], &[]));
        assert_eq!(ledger.disclosure(&shapes).beyond, ["q", "v"]);
    }

    #[test]
    fn files_come_back_and_damaged_ones_do_not() {
        let shapes = shapes();
        let factors: Vec<_> = shapes
            .iter()
            .map(|shape| ftk_circuits::SiteFactors {
                shape: shape.clone(),
                a: vec![1; (shape.rank * shape.d_in) as usize],
                b: vec![1; (shape.rank * shape.d_out) as usize],
            })
            .collect();
        let key = ftk_circuits::CommitmentKey::generate(ftk_circuits::required_k(&shapes).unwrap()).unwrap();
        let (_, opening) = ftk_circuits::commit(&key, ftk_circuits::Digest([0; 32]), &factors).unwrap();
        let mut file = OpeningFile::new(opening, &shapes);
        file.ledger.add(&records(&[[1, 2, 3, 4]], &[[1, 0, 0], [0, 1, 0]]));
        let bytes = file.encode();
        assert_eq!(OpeningFile::decode(&bytes, &shapes), Ok(file));
        for cut in 0..bytes.len() {
            assert!(OpeningFile::decode(&bytes[..cut], &shapes).is_err(), "{cut}");
        }
        let refused = |bytes: &[u8], shapes: &[SiteShape]| OpeningFile::decode(bytes, shapes).unwrap_err();
        assert_eq!(refused(&[&bytes[..], &[0]].concat(), &shapes), "goes on behind its end");
        assert_eq!(refused(&bytes, &shapes[..1]), "ledger of 2 sites beside a commitment of 1");
        let mut damaged = bytes.clone();
        let last_row = bytes.len() - 4 - 4 * 8;
        damaged[last_row] = 2;
        assert_eq!(refused(&damaged, &shapes), "ledger is damaged at site: q");
        let end = bytes.len() - 4;
        damaged = bytes.clone();
        damaged[end] = 3;
        assert_eq!(refused(&damaged, &shapes), "ledger counts more than it can at site: v");
        damaged = bytes;
        damaged[TAG.len()] = 9;
        assert_eq!(refused(&damaged, &shapes), "opening file of an unknown version: 9");
    }
}
