//! The reference's log-probabilities of preference pairs, kept in a file between the parts of a run.
//!
//! A pair is found by what its figures depend on: the model and the pair's token ids, never by its
//! place among the rows. The file is replaced as a whole and ends with a digest of itself; what is
//! damaged or belongs to another model counts as absent and is computed anew.
//!
//! Layout: the text `ftk references 1`, the model's 32 bytes, the number of records (u64), the records in ascending
//! order of their key (32 bytes of key, two f64), BLAKE3 of all that. Numbers are little-endian.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use ftk_adapters::lora::Adapter;
use ftk_adapters::weights::bytes;
use ftk_adapters::{atomic, foreign};

use super::encode::{Pair, ScoredSequence};

/// File name in the run folder.
pub const FILE: &str = "references.bin";

/// First bytes of the file; a change of the layout changes them.
const HEAD: &[u8] = b"ftk references 1";
/// Bytes of a key, and of a digest.
const KEY: usize = 32;
/// Bytes of a record.
const RECORD: usize = KEY + 2 * 8;

/// Summed log-probabilities of the chosen and of the rejected completion.
pub type LogProbSums = [f64; 2];

/// What the reference's figures of a pair are found by.
type PairKey = [u8; KEY];

/// The figures of one model, by pair.
#[derive(Debug)]
pub struct References {
    path: PathBuf,
    model: [u8; KEY],
    known: BTreeMap<PairKey, LogProbSums>,
}

/// What was found at the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FoundReferences {
    /// No file.
    Nothing,
    /// Figures of this model.
    Whole,
    /// A file that cannot be used.
    Unusable,
}

impl References {
    /// The figures kept at `path` for this model.
    ///
    /// # Errors
    /// A file that is there and cannot be read.
    pub fn open(path: &Path, model: [u8; 32]) -> io::Result<(Self, FoundReferences)> {
        let (known, found) = match foreign::read(path, foreign::DATA) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => (BTreeMap::new(), FoundReferences::Nothing),
            Err(error) => return Err(error),
            Ok(bytes) => match parse(&bytes, &model) {
                Some(known) => (known, FoundReferences::Whole),
                None => (BTreeMap::new(), FoundReferences::Unusable),
            },
        };
        Ok((Self { path: path.to_owned(), model, known }, found))
    }

    /// The figures of a pair, if they are known.
    pub fn get(&self, pair: &Pair) -> Option<LogProbSums> {
        self.known.get(&key(pair)).copied()
    }

    /// Learns the figures of a pair.
    pub fn insert(&mut self, pair: &Pair, sums: LogProbSums) {
        self.known.insert(key(pair), sums);
    }

    /// Writes what is known.
    ///
    /// # Errors
    /// The file system's; the file is then as it was.
    pub fn write(&self) -> io::Result<()> {
        let mut bytes = [HEAD, &self.model, &(self.known.len() as u64).to_le_bytes()].concat();
        for (key, sums) in &self.known {
            bytes.extend(key);
            sums.iter().for_each(|sum| bytes.extend(sum.to_le_bytes()));
        }
        let digest = blake3::hash(&bytes);
        bytes.extend(digest.as_bytes());
        atomic::write(&self.path, &bytes)
    }
}

/// Names the reference model: the base, and the adapter on it if there is one.
pub fn model(base: &[u8; 32], adapter: Option<&Adapter>, arithmetic: &str) -> [u8; 32] {
    let mut hash = blake3::Hasher::new_derive_key("ftk reference model");
    hash.update(base).update(&(arithmetic.len() as u64).to_le_bytes()).update(arithmetic.as_bytes());
    for (site, factors) in adapter.iter().flat_map(|adapter| &adapter.sites) {
        hash.update(&(site.len() as u64).to_le_bytes()).update(site.as_bytes());
        for size in [factors.rank, factors.d_in, factors.d_out] {
            hash.update(&(size as u64).to_le_bytes());
        }
        hash.update(&factors.scale.to_le_bytes()).update(&bytes(&factors.a)).update(&bytes(&factors.b));
    }
    *hash.finalize().as_bytes()
}

fn key(pair: &Pair) -> PairKey {
    let mut hash = blake3::Hasher::new_derive_key("ftk reference row");
    for ScoredSequence { ids, scored, .. } in [&pair.chosen, &pair.rejected] {
        hash.update(&(ids.len() as u64).to_le_bytes());
        for (id, &scored) in ids.iter().zip(scored) {
            hash.update(&id.to_le_bytes()).update(&[u8::from(scored)]);
        }
    }
    *hash.finalize().as_bytes()
}

/// The records of a whole file of this model.
fn parse(bytes: &[u8], model: &[u8; KEY]) -> Option<BTreeMap<PairKey, LogProbSums>> {
    let (content, digest) = bytes.split_last_chunk::<KEY>()?;
    if blake3::hash(content).as_bytes() != digest {
        return None;
    }
    let rest = content.strip_prefix(HEAD)?.strip_prefix(model)?;
    let (count, records) = rest.split_first_chunk::<8>()?;
    let (records, odd) = records.as_chunks::<RECORD>();
    if !odd.is_empty() || u64::from_le_bytes(*count) != records.len() as u64 {
        return None;
    }
    let record = |record: &[u8; RECORD]| {
        let (key, sums) = record.split_first_chunk::<KEY>()?;
        let [chosen, rejected] = sums.as_chunks().0 else { return None };
        let sums = [chosen, rejected].map(|&sum| f64::from_le_bytes(sum));
        sums.iter().all(|sum| sum.is_finite()).then_some((*key, sums))
    };
    records.iter().map(record).collect()
}

#[cfg(test)]
mod tests {
    use ftk_kernels::float::ARITHMETIC;

    use super::*;

    const MODEL: [u8; 32] = [7; 32];

    fn pair(chosen: &[u32], rejected: &[u32]) -> Pair {
        let sequence = |ids: &[u32]| ScoredSequence::new(ids.to_vec(), |position| ids[position] > 4);
        Pair { prompt: 1, chosen: sequence(chosen), rejected: sequence(rejected) }
    }

    /// A file with two pairs, and the pairs.
    fn written(folder: &Path) -> (PathBuf, [Pair; 2]) {
        let path = folder.join("references.bin");
        let pairs = [pair(&[1, 5, 6], &[1, 7]), pair(&[1, 5], &[6, 1, 7])];
        let (mut references, found) = References::open(&path, MODEL).unwrap();
        assert_eq!((found, references.get(&pairs[0])), (FoundReferences::Nothing, None));
        references.insert(&pairs[0], [-1.5, -2.25]);
        references.insert(&pairs[1], [0.0, -1e9]);
        references.write().unwrap();
        (path, pairs)
    }

    #[test]
    fn what_was_written_is_found_by_content() {
        let folder = tempfile::tempdir().unwrap();
        let (path, pairs) = written(folder.path());
        let (mut references, found) = References::open(&path, MODEL).unwrap();
        assert_eq!(found, FoundReferences::Whole);
        assert_eq!(references.get(&pairs[0]), Some([-1.5, -2.25]));
        assert_eq!(references.get(&pairs[1]), Some([0.0, -1e9]));
        // One id to the other side, one id changed, one id no longer scored.
        for other in [pair(&[1, 5, 6, 1], &[7]), pair(&[1, 5, 6], &[1, 8])] {
            assert_eq!(references.get(&other), None);
        }
        let mut unscored = pairs[0].clone();
        unscored.rejected.scored[1] = false;
        assert_eq!(references.get(&unscored), None);
        // More is learnt; the file does not depend on the order.
        let before = std::fs::read(&path).unwrap();
        references.insert(&pairs[0], [-1.5, -2.25]);
        references.write().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), before);
    }

    #[test]
    fn a_damaged_file_is_never_used() {
        let folder = tempfile::tempdir().unwrap();
        let (path, pairs) = written(folder.path());
        let whole = std::fs::read(&path).unwrap();
        let unusable = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            let (references, found) = References::open(&path, MODEL).unwrap();
            assert_eq!((found, references.get(&pairs[0])), (FoundReferences::Unusable, None));
        };
        for length in [0, 1, HEAD.len(), whole.len() - RECORD, whole.len() - 1] {
            unusable(&whole[..length]);
        }
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            unusable(&bytes);
        }
        // A digest that fits, of content that does not: a wrong count, a figure that is no number.
        let sealed = |mut content: Vec<u8>| {
            let digest = blake3::hash(&content);
            content.extend(digest.as_bytes());
            content
        };
        let content = &whole[..whole.len() - KEY];
        let mut miscounted = content.to_vec();
        miscounted[HEAD.len() + KEY] = 200;
        unusable(&sealed(miscounted));
        let mut infinite = content.to_vec();
        let end = infinite.len();
        infinite[end - 8..].copy_from_slice(&f64::INFINITY.to_le_bytes());
        unusable(&sealed(infinite));
        std::fs::write(&path, sealed(content.to_vec())).unwrap();
        assert_eq!(References::open(&path, MODEL).unwrap().1, FoundReferences::Whole);
    }

    #[test]
    fn figures_of_another_model_or_arithmetic_are_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let (path, _) = written(folder.path());
        assert_eq!(References::open(&path, [8; 32]).unwrap().1, FoundReferences::Unusable);

        let factors = |b: f32, scale: f32| {
            let factors =
                ftk_adapters::lora::Factors { rank: 1, d_in: 2, d_out: 1, a: vec![1.0, 2.0], b: vec![b], scale };
            Adapter { sites: [("q_proj".to_owned(), factors)].into() }
        };
        let names = [
            model(&MODEL, None, ARITHMETIC),
            model(&[8; 32], None, ARITHMETIC),
            model(&MODEL, Some(&factors(0.0, 1.0)), ARITHMETIC),
            model(&MODEL, Some(&factors(1.0, 1.0)), ARITHMETIC),
            model(&MODEL, Some(&factors(1.0, 2.0)), ARITHMETIC),
            model(&MODEL, None, "cuda-f32"),
        ];
        let different: std::collections::BTreeSet<_> = names.iter().collect();
        assert_eq!(different.len(), names.len());
    }
}
