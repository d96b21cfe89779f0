//! Reading canonical encodings: every read is bounded by what is left.

use thiserror::Error;

/// Why foreign bytes are not a canonical encoding.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum EncodingError {
    /// The bytes end before the value does.
    #[error("ends too early")]
    Truncated,
    /// The value ends before the bytes do.
    #[error("bytes after the end: {0}")]
    TrailingBytes(usize),
    /// The first bytes are not those of this kind of file.
    #[error("wrong file tag")]
    Tag,
    /// Made for another protocol version.
    #[error("protocol version not supported: {0}")]
    Version(u32),
    /// A count or a dimension is out of its bounds.
    #[error("{what} out of bounds: {value}")]
    Bounds {
        /// The field.
        what: &'static str,
        /// Its value.
        value: u64,
    },
    /// A site name is empty, too long, or has characters outside `[A-Za-z0-9._-]`.
    #[error("bad site name")]
    Name,
    /// Two sites have one name.
    #[error("site appears twice: {0}")]
    RepeatedSite(String),
    /// Not the canonical encoding of a point of the curve.
    #[error("not a curve point: number {0}")]
    Point(usize),
    /// The identity, which commits to nothing.
    #[error("identity point: number {0}")]
    IdentityPoint(usize),
    /// One point stands for two columns.
    #[error("repeated point")]
    RepeatedPoint,
    /// Not the canonical encoding of a scalar.
    #[error("not a canonical scalar: number {0}")]
    Scalar(usize),
    /// A row is given as independent of those before it, and is not, or rows are out of order.
    #[error("not the next independent row: {0}")]
    Pivot(usize),
    /// A coefficient is no canonical number.
    #[error("not a canonical coefficient in row: {0}")]
    Coefficient(usize),
    /// A row has an entry that no adapter of the site's shape adds.
    #[error("entry out of bounds in row: {0}")]
    Entry(usize),
    /// Integers are wider than they need to be, or of no width.
    #[error("integer width is not the least one: {0}")]
    Width(u8),
}

/// A cursor over foreign bytes.
#[derive(Debug)]
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Over these bytes.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Bytes that are left.
    pub fn remaining(&self) -> usize {
        self.0.len()
    }

    /// So many bytes.
    ///
    /// # Errors
    /// [`EncodingError::Truncated`].
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], EncodingError> {
        let (head, tail) = self.0.split_at_checked(count).ok_or(EncodingError::Truncated)?;
        self.0 = tail;
        Ok(head)
    }

    /// Everything that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    /// An array.
    ///
    /// # Errors
    /// [`EncodingError::Truncated`].
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], EncodingError> {
        let (head, tail) = self.0.split_first_chunk().ok_or(EncodingError::Truncated)?;
        self.0 = tail;
        Ok(*head)
    }

    /// One byte.
    ///
    /// # Errors
    /// [`EncodingError::Truncated`].
    pub fn u8(&mut self) -> Result<u8, EncodingError> {
        Ok(self.array::<1>()?[0])
    }

    /// Two bytes, little-endian.
    ///
    /// # Errors
    /// [`EncodingError::Truncated`].
    pub fn u16(&mut self) -> Result<u16, EncodingError> {
        self.array().map(u16::from_le_bytes)
    }

    /// Four bytes, little-endian.
    ///
    /// # Errors
    /// [`EncodingError::Truncated`].
    pub fn u32(&mut self) -> Result<u32, EncodingError> {
        self.array().map(u32::from_le_bytes)
    }

    /// A count followed later by that many items of at least `item` bytes each.
    ///
    /// # Errors
    /// More than `max`, or than there may be in what is left.
    pub fn count(&mut self, what: &'static str, max: u32, item: usize) -> Result<usize, EncodingError> {
        let value = self.u32()?;
        if value > max {
            return Err(EncodingError::Bounds { what, value: value.into() });
        }
        let count = value as usize;
        if count.checked_mul(item).is_none_or(|bytes| bytes > self.remaining()) {
            return Err(EncodingError::Truncated);
        }
        Ok(count)
    }

    /// The tag and version every file starts with.
    ///
    /// # Errors
    /// Another tag or version.
    pub fn header(&mut self, tag: &[u8]) -> Result<(), EncodingError> {
        if self.take(tag.len())? != tag {
            return Err(EncodingError::Tag);
        }
        match self.u32()? {
            crate::hash::PROTOCOL_VERSION => Ok(()),
            other => Err(EncodingError::Version(other)),
        }
    }

    /// Whether this is the end.
    ///
    /// # Errors
    /// [`EncodingError::TrailingBytes`].
    pub fn end(&self) -> Result<(), EncodingError> {
        match self.remaining() {
            0 => Ok(()),
            more => Err(EncodingError::TrailingBytes(more)),
        }
    }
}

/// The tag and version every file starts with.
pub(crate) fn header(tag: &[u8]) -> Vec<u8> {
    let mut bytes = tag.to_vec();
    bytes.extend(crate::hash::PROTOCOL_VERSION.to_le_bytes());
    bytes
}
