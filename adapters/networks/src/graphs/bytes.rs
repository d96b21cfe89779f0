//! Bytes of graphs: numbers in little-endian order, one way to write each.

/// Why bytes are not what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BrokenBytes(
    /// What is wrong.
    pub &'static str,
);

/// Appends.
#[derive(Debug, Default)]
pub struct ByteWriter(
    /// What was written so far.
    pub Vec<u8>,
);

impl ByteWriter {
    /// A byte.
    pub fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    /// Four bytes.
    pub fn u32(&mut self, value: u32) {
        self.0.extend(value.to_le_bytes());
    }

    /// A number of 32 bits.
    pub fn f32(&mut self, value: f32) {
        // One zero, so that equal numbers are equal bytes.
        self.u32(if value == 0.0 { 0 } else { value.to_bits() });
    }

    /// One of 64 bits.
    pub fn f64(&mut self, value: f64) {
        self.0.extend((if value == 0.0 { 0 } else { value.to_bits() }).to_le_bytes());
    }

    /// Its length, then the text.
    pub fn text(&mut self, text: &str) {
        self.u32(text.len() as u32);
        self.0.extend(text.as_bytes());
    }

    /// A sparse row: the number of its entries, then each with its column.
    pub fn row(&mut self, row: &[(u32, f32)]) {
        self.u32(row.len() as u32);
        for &(column, value) in row {
            self.u32(column);
            self.f32(value);
        }
    }
}

/// Reads what [`ByteWriter`] wrote, looking at every length before anything is allocated. Every function says what is wrong as
/// [`BrokenBytes`].
#[derive(Debug)]
pub struct ByteReader<'a>(&'a [u8]);

impl<'a> ByteReader<'a> {
    /// At the beginning of these bytes.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Bytes that are left.
    pub fn left(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing is left.
    ///
    /// # Errors
    /// [`BrokenBytes`].
    pub fn end(&self) -> Result<(), BrokenBytes> {
        if self.0.is_empty() { Ok(()) } else { Err(BrokenBytes("bytes behind its end")) }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], BrokenBytes> {
        let (head, rest) = self.0.split_at_checked(count).ok_or(BrokenBytes("ends too early"))?;
        self.0 = rest;
        Ok(head)
    }

    /// So many bytes.
    ///
    /// # Errors
    /// [`BrokenBytes`].
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], BrokenBytes> {
        Ok(self.take(N)?.try_into().expect("so many were taken"))
    }

    /// A byte.
    ///
    /// # Errors
    /// [`BrokenBytes`].
    pub fn u8(&mut self) -> Result<u8, BrokenBytes> {
        Ok(self.array::<1>()?[0])
    }

    /// Four bytes.
    ///
    /// # Errors
    /// [`BrokenBytes`].
    pub fn u32(&mut self) -> Result<u32, BrokenBytes> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    /// A finite number of 32 bits.
    ///
    /// # Errors
    /// [`BrokenBytes`].
    pub fn f32(&mut self) -> Result<f32, BrokenBytes> {
        let value = f32::from_le_bytes(self.array()?);
        one_way(value, value.is_finite() && (value != 0.0 || value.is_sign_positive()))
    }

    /// One of 64 bits.
    ///
    /// # Errors
    /// [`BrokenBytes`].
    pub fn f64(&mut self) -> Result<f64, BrokenBytes> {
        let value = f64::from_le_bytes(self.array()?);
        one_way(value, value.is_finite() && (value != 0.0 || value.is_sign_positive()))
    }

    /// A count of things that take at least `each` bytes.
    ///
    /// # Errors
    /// [`BrokenBytes`].
    pub fn count(&mut self, each: usize) -> Result<usize, BrokenBytes> {
        let count = self.u32()? as usize;
        let fits = count.checked_mul(each).is_some_and(|bytes| bytes <= self.0.len());
        if fits { Ok(count) } else { Err(BrokenBytes("ends too early")) }
    }

    /// What [`ByteWriter::text`] wrote.
    ///
    /// # Errors
    /// [`BrokenBytes`].
    pub fn text(&mut self) -> Result<String, BrokenBytes> {
        let count = self.count(1)?;
        String::from_utf8(self.take(count)?.to_vec()).map_err(|_| BrokenBytes("a name is not text"))
    }

    /// A sparse row of so many columns, which rise; no value is zero or not finite.
    ///
    /// # Errors
    /// [`BrokenBytes`].
    pub fn row(&mut self, width: usize) -> Result<Vec<(u32, f32)>, BrokenBytes> {
        let count = self.count(8)?;
        let mut row: Vec<(u32, f32)> = Vec::with_capacity(count);
        for _ in 0..count {
            let (column, value) = (self.u32()?, self.f32()?);
            let rises = row.last().is_none_or(|&(last, _)| last < column);
            if !rises || column as usize >= width || value == 0.0 {
                return Err(BrokenBytes("a feature out of place"));
            }
            row.push((column, value));
        }
        Ok(row)
    }
}

/// Zero has two signs, of which one is written; what is not finite never is.
fn one_way<T>(value: T, is: bool) -> Result<T, BrokenBytes> {
    if is { Ok(value) } else { Err(BrokenBytes("a number is not finite, or a zero has a sign")) }
}
