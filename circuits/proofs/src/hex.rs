//! Bytes and digests as lower-case hexadecimal digits.

use ftk_circuits::Digest;

/// A digest from its 64 lower-case hexadecimal digits.
pub fn parse_digest(text: &str) -> Option<Digest> {
    Some(Digest(decode(text)?.try_into().ok()?))
}

pub(crate) fn encode(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    rest.is_empty().then_some(())?;
    pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect()
}

/// For fields of JSON.
pub(crate) mod digest {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    use super::{Digest, parse_digest};

    pub(crate) fn serialize<S: Serializer>(digest: &Digest, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(digest)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Digest, D::Error> {
        let text = String::deserialize(from)?;
        parse_digest(&text).ok_or_else(|| D::Error::custom(format!("not a digest: {text}")))
    }
}
