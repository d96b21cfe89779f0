//! Digests and challenges: BLAKE3 in derive-key mode, one context string per use.
//!
//! The byte strings that go in are listed in `circuits/STATEMENT.md`, section 7.

use std::fmt;

use ff::FromUniformBytes;
use group::GroupEncoding;
use pasta_curves::{EqAffine, Fp};

/// Version of everything that is hashed, committed to or proved here.
pub const PROTOCOL_VERSION: u32 = 3;

/// A BLAKE3 digest, printed as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(pub [u8; 32]);

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a hash is for; no two uses share a context string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tag {
    Commitment,
    Key,
    Statement,
    Logits,
    SiteRows,
    Rows,
    Fold,
    DeltaAnchor,
    Products,
    Crosses,
    FoldProof,
    RegistrationTable,
    Message,
    RegistrationMessages,
    RegistrationSums,
    RegistrationTree,
    SealedPlan,
    SealedAnchor,
    SealedCells,
    SealedTree,
    SealedSums,
    SealedScalars,
    SealedAdapter,
    SealedMessages,
    SealedEquation,
    Link,
    LinkWeight,
    LinkChallenge,
    Batch,
    BatchWeights,
}

impl Tag {
    #[cfg(test)]
    pub(crate) const ALL: [Tag; 30] = [
        Tag::Commitment,
        Tag::Key,
        Tag::Statement,
        Tag::Logits,
        Tag::SiteRows,
        Tag::Rows,
        Tag::Fold,
        Tag::DeltaAnchor,
        Tag::Products,
        Tag::Crosses,
        Tag::FoldProof,
        Tag::RegistrationTable,
        Tag::Message,
        Tag::RegistrationMessages,
        Tag::RegistrationSums,
        Tag::RegistrationTree,
        Tag::SealedPlan,
        Tag::SealedAnchor,
        Tag::SealedCells,
        Tag::SealedTree,
        Tag::SealedSums,
        Tag::SealedScalars,
        Tag::SealedAdapter,
        Tag::SealedMessages,
        Tag::SealedEquation,
        Tag::Link,
        Tag::LinkWeight,
        Tag::LinkChallenge,
        Tag::Batch,
        Tag::BatchWeights,
    ];

    fn context(self) -> &'static str {
        match self {
            Tag::Commitment => "ftk/3 adapter commitment",
            Tag::Key => "ftk/1 commitment key",
            Tag::Statement => "ftk/3 statement",
            Tag::Logits => "ftk/3 logits",
            Tag::SiteRows => "ftk/3 site rows",
            Tag::Rows => "ftk/3 rows",
            Tag::Fold => "ftk/3 fold",
            Tag::DeltaAnchor => "ftk/3 delta anchor",
            Tag::Products => "ftk/3 products",
            Tag::Crosses => "ftk/3 crosses",
            Tag::FoldProof => "ftk/3 fold proof",
            Tag::RegistrationTable => "ftk/3 registration table",
            Tag::Message => "ftk/3 message",
            Tag::RegistrationMessages => "ftk/3 registration messages",
            Tag::RegistrationSums => "ftk/3 registration sums",
            Tag::RegistrationTree => "ftk/3 registration tree",
            Tag::SealedPlan => "ftk/3 sealed plan",
            Tag::SealedAnchor => "ftk/3 sealed anchor",
            Tag::SealedCells => "ftk/3 sealed cells",
            Tag::SealedTree => "ftk/3 sealed tree",
            Tag::SealedSums => "ftk/3 sealed sums",
            Tag::SealedScalars => "ftk/3 sealed scalars",
            Tag::SealedAdapter => "ftk/3 sealed adapter",
            Tag::SealedMessages => "ftk/3 sealed messages",
            Tag::SealedEquation => "ftk/3 sealed equation",
            Tag::Link => "ftk/3 link",
            Tag::LinkWeight => "ftk/3 link weight",
            Tag::LinkChallenge => "ftk/3 link challenge",
            Tag::Batch => "ftk/3 batch",
            Tag::BatchWeights => "ftk/3 batch weights",
        }
    }
}

/// Bytes of integers that are hashed at a time.
const GATHERED: usize = 8 << 10;

/// A hash being fed; all its inputs have fixed length or carry their length.
pub(crate) struct Absorb(blake3::Hasher);

impl Absorb {
    pub(crate) fn new(tag: Tag) -> Self {
        Self(blake3::Hasher::new_derive_key(tag.context()))
    }

    pub(crate) fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.update(bytes);
        self
    }

    /// Integers, eight bytes each, of which not all are in memory at once.
    pub(crate) fn integers(mut self, integers: impl Iterator<Item = i64>) -> Self {
        let mut bytes = Vec::with_capacity(GATHERED);
        for integer in integers {
            bytes.extend(integer.to_le_bytes());
            if bytes.len() == GATHERED {
                self.0.update(&bytes);
                bytes.clear();
            }
        }
        self.bytes(&bytes)
    }

    pub(crate) fn digest(self, digest: &Digest) -> Self {
        self.bytes(&digest.0)
    }

    pub(crate) fn u32(self, value: u32) -> Self {
        self.bytes(&value.to_le_bytes())
    }

    pub(crate) fn finish(self) -> Digest {
        Digest(*self.0.finalize().as_bytes())
    }

    pub(crate) fn points(self, points: &[EqAffine]) -> Self {
        points.iter().fold(self, |hash, point| hash.bytes(&point.to_bytes()))
    }

    /// `N` field elements of 64 uniform bytes each.
    pub(crate) fn challenges<const N: usize>(self) -> [Fp; N] {
        let mut reader = self.0.finalize_xof();
        std::array::from_fn(|_| {
            let mut wide = [0; 64];
            reader.fill(&mut wide);
            Fp::from_uniform_bytes(&wide)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_tags_share_a_context() {
        let mut digests: Vec<_> = Tag::ALL.iter().map(|&tag| Absorb::new(tag).finish()).collect();
        digests.sort();
        digests.dedup();
        assert_eq!(digests.len(), Tag::ALL.len());
    }

    #[test]
    fn every_context_stands_in_the_statement() {
        let statement = include_str!("../STATEMENT.md");
        for tag in Tag::ALL {
            assert!(statement.contains(&format!("\"{}\"", tag.context())), "{tag:?}");
        }
    }

    #[test]
    fn integers_are_hashed_as_their_bytes_are() {
        for count in [0, 1, GATHERED / 8 - 1, GATHERED / 8, GATHERED / 8 + 1, GATHERED / 4] {
            let integers = || (0..count as i64).map(|at| at - 7);
            let bytes: Vec<u8> = integers().flat_map(i64::to_le_bytes).collect();
            let absorb = || Absorb::new(Tag::SealedPlan);
            assert_eq!(absorb().integers(integers()).finish(), absorb().bytes(&bytes).finish(), "{count}");
        }
    }

    #[test]
    fn challenges_of_one_hash_differ() {
        let [a, b] = Absorb::new(Tag::Fold).challenges();
        assert_ne!(a, b);
    }
}
