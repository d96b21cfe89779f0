//! The logits that a statement has the digests of: a sealed bundle brings them along, since its proof is about numbers and
//! not about what they hash to. An open one needs none; its replay yields them.
//!
//! `logits.bin` is canonical: tag, protocol version, how many digests, how many logits each is of, then the logits, 32-bit
//! integers, in the order of cases.

use ftk_circuits::{EncodingError, PROTOCOL_VERSION, Reader};

use crate::outputs::{Logits, Output};
use crate::statement::Case;

/// The first bytes of the file.
const TAG: &[u8] = b"ftk logits\0";
/// Most logits of a bundle: half of the bytes that a verifier reads, if nobody tells it otherwise.
pub const MAX_DIGESTED: u64 = 1 << 27;

/// Logits of every case that states their digest, in the order of cases.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Digested(pub Vec<Vec<i64>>);

/// Why there is no file of logits.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DigestedError {
    /// Too many.
    #[error("more than {MAX_DIGESTED} logits in one sealed bundle; prove fewer inputs at once")]
    TooMany,
    /// Logits that no pass has.
    #[error("no 32-bit integer is the logit: {0}")]
    Range(i64),
    /// Not as many of one digest as of the others.
    #[error("digests of logits of several vocabularies")]
    Uneven,
}

/// How many cases state the digest of logits.
pub fn digests(cases: &[Case]) -> usize {
    cases.iter().filter(|case| matches!(case.output, Output::Logits(Logits::Digest(_)))).count()
}

/// Refuses more logits than a bundle may have: of so many digests of so many outputs.
///
/// # Errors
/// [`DigestedError::TooMany`].
pub fn may_be_sent(digests: usize, outputs: usize) -> Result<(), DigestedError> {
    let all = (digests as u64).saturating_mul(outputs as u64);
    if all > MAX_DIGESTED { Err(DigestedError::TooMany) } else { Ok(()) }
}

impl Digested {
    /// How many logits there are.
    pub fn count(&self) -> u64 {
        self.0.iter().map(|logits| logits.len() as u64).sum()
    }

    /// Takes them in as a pass finds them.
    #[cfg(feature = "prove")]
    pub(crate) fn look(&mut self, output: &Output, logits: &[i64]) {
        if let Output::Logits(Logits::Digest(_)) = output {
            self.0.push(logits.to_vec());
        }
    }

    /// The file; `None` where there are none, and is none.
    ///
    /// # Errors
    /// [`DigestedError`].
    pub fn encode(&self) -> Result<Option<Vec<u8>>, DigestedError> {
        let Some(outputs) = self.0.first().map(Vec::len) else { return Ok(None) };
        may_be_sent(self.0.len(), outputs)?;
        if self.0.iter().any(|logits| logits.len() != outputs) {
            return Err(DigestedError::Uneven);
        }
        let mut bytes = TAG.to_vec();
        for number in [PROTOCOL_VERSION, self.0.len() as u32, outputs as u32] {
            bytes.extend(number.to_le_bytes());
        }
        for logit in self.0.iter().flatten() {
            bytes.extend(i32::try_from(*logit).map_err(|_| DigestedError::Range(*logit))?.to_le_bytes());
        }
        Ok(Some(bytes))
    }

    /// Those of a file, for so many digests; one that is of none is no file.
    ///
    /// # Errors
    /// What no honest prover writes. Whether they are what the digests are of is not asked here.
    pub fn decode(bytes: &[u8], digests: usize) -> Result<Self, EncodingError> {
        let mut reader = Reader::new(bytes);
        reader.header(TAG)?;
        let [stated, outputs] = [reader.u32()?, reader.u32()?];
        if stated as usize != digests || stated == 0 {
            return Err(EncodingError::Bounds { what: "digests of logits", value: stated.into() });
        }
        if outputs == 0 || may_be_sent(digests, outputs as usize).is_err() {
            return Err(EncodingError::Bounds { what: "logits of a digest", value: outputs.into() });
        }
        // At most 2^29 bytes.
        let all = reader.take(4 * digests * outputs as usize)?;
        reader.end()?;
        let logit = |bytes: &[u8]| i64::from(i32::from_le_bytes(bytes.try_into().expect("four of them")));
        let of_digest = |bytes: &[u8]| bytes.chunks_exact(4).map(logit).collect();
        Ok(Self(all.chunks_exact(4 * outputs as usize).map(of_digest).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_says_one_thing_and_nothing_else_is_one() {
        let digested = Digested(vec![vec![1, -2, i64::from(i32::MIN)], vec![0, 7, i64::from(i32::MAX)]]);
        let bytes = digested.encode().unwrap().unwrap();
        assert_eq!(bytes.len(), TAG.len() + 12 + 4 * 6);
        assert_eq!(Digested::decode(&bytes, 2), Ok(digested));
        let refused = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut bytes = bytes.clone();
            change(&mut bytes);
            Digested::decode(&bytes, 2).unwrap_err()
        };
        let number = |at: usize, number: u32| {
            move |bytes: &mut Vec<u8>| bytes[TAG.len() + 4 * at..][..4].copy_from_slice(&number.to_le_bytes())
        };
        let bounds = |what, value| EncodingError::Bounds { what, value };
        assert_eq!(refused(&|bytes| bytes[3] ^= 1), EncodingError::Tag);
        assert_eq!(refused(&number(0, 2)), EncodingError::Version(2));
        assert_eq!(refused(&number(1, 1)), bounds("digests of logits", 1));
        assert_eq!(refused(&number(2, 0)), bounds("logits of a digest", 0));
        assert_eq!(refused(&number(2, (1 << 26) + 1)), bounds("logits of a digest", (1 << 26) + 1));
        assert_eq!(refused(&number(2, 4)), EncodingError::Truncated);
        assert_eq!(refused(&number(2, 2)), EncodingError::TrailingBytes(8));
        assert_eq!(refused(&|bytes| bytes.truncate(20)), EncodingError::Truncated);
        assert_eq!(refused(&|bytes| bytes.push(0)), EncodingError::TrailingBytes(1));
        let none = [TAG, &PROTOCOL_VERSION.to_le_bytes(), &[0; 8]].concat();
        assert_eq!(Digested::decode(&none, 0), Err(bounds("digests of logits", 0)));
    }

    #[test]
    fn what_no_verifier_reads_is_not_written() {
        assert_eq!(Digested::default().encode(), Ok(None));
        assert_eq!(Digested(vec![vec![1, 2], vec![3]]).encode(), Err(DigestedError::Uneven));
        assert_eq!(Digested(vec![vec![1 << 31]]).encode(), Err(DigestedError::Range(1 << 31)));
        assert_eq!(may_be_sent(1 << 10, 1 << 17), Ok(()));
        assert_eq!(may_be_sent((1 << 10) + 1, 1 << 17), Err(DigestedError::TooMany));
        assert_eq!(may_be_sent(usize::MAX, usize::MAX), Err(DigestedError::TooMany));
    }
}
