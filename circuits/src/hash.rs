//! Digests and challenges: BLAKE3 in derive-key mode, one context string per use.
//!
//! The byte strings that go in are listed in `circuits/STATEMENT.md`, section 7.

use std::fmt;

use ff::FromUniformBytes;
use pasta_curves::Fp;

/// Version of everything that is hashed, committed to or proved here.
pub const PROTOCOL_VERSION: u32 = 2;

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
    Rows,
    Fold,
    DeltaAnchor,
    DeltaProof,
    RegistrationProof,
    Link,
    LinkWeight,
    LinkChallenge,
}

impl Tag {
    #[cfg(test)]
    pub(crate) const ALL: [Tag; 12] = [
        Tag::Commitment,
        Tag::Key,
        Tag::Statement,
        Tag::Logits,
        Tag::Rows,
        Tag::Fold,
        Tag::DeltaAnchor,
        Tag::DeltaProof,
        Tag::RegistrationProof,
        Tag::Link,
        Tag::LinkWeight,
        Tag::LinkChallenge,
    ];

    fn context(self) -> &'static str {
        match self {
            Tag::Commitment => "ftk/1 adapter commitment",
            Tag::Key => "ftk/1 commitment key",
            Tag::Statement => "ftk/1 statement",
            Tag::Logits => "ftk/1 logits",
            Tag::Rows => "ftk/1 site rows",
            Tag::Fold => "ftk/1 fold",
            Tag::DeltaAnchor => "ftk/1 delta anchor",
            Tag::DeltaProof => "ftk/1 delta proof",
            Tag::RegistrationProof => "ftk/1 registration proof",
            Tag::Link => "ftk/1 link",
            Tag::LinkWeight => "ftk/1 link weight",
            Tag::LinkChallenge => "ftk/1 link challenge",
        }
    }
}

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

    pub(crate) fn digest(self, digest: &Digest) -> Self {
        self.bytes(&digest.0)
    }

    pub(crate) fn u32(self, value: u32) -> Self {
        self.bytes(&value.to_le_bytes())
    }

    pub(crate) fn finish(self) -> Digest {
        Digest(*self.0.finalize().as_bytes())
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
    fn challenges_of_one_hash_differ() {
        let [a, b] = Absorb::new(Tag::Fold).challenges();
        assert_ne!(a, b);
    }
}
