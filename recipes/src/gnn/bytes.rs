//! Bytes of graphs: numbers in little-endian order, one way to write each.

/// Why bytes are not what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Broken(pub(super) &'static str);

/// Appends.
#[derive(Default)]
pub(super) struct Writer(pub(super) Vec<u8>);

impl Writer {
    pub(super) fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    pub(super) fn u32(&mut self, value: u32) {
        self.0.extend(value.to_le_bytes());
    }

    pub(super) fn f32(&mut self, value: f32) {
        // One zero, so that equal numbers are equal bytes.
        self.u32(if value == 0.0 { 0 } else { value.to_bits() });
    }

    pub(super) fn f64(&mut self, value: f64) {
        self.0.extend((if value == 0.0 { 0 } else { value.to_bits() }).to_le_bytes());
    }

    pub(super) fn text(&mut self, text: &str) {
        self.u32(text.len() as u32);
        self.0.extend(text.as_bytes());
    }

    /// A sparse row: the number of its entries, then each with its column.
    pub(super) fn row(&mut self, row: &[(u32, f32)]) {
        self.u32(row.len() as u32);
        for &(column, value) in row {
            self.u32(column);
            self.f32(value);
        }
    }
}

/// Reads what [`Writer`] wrote, looking at every length before anything is allocated.
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Bytes that are left.
    pub(super) fn left(&self) -> usize {
        self.0.len()
    }

    pub(super) fn end(&self) -> Result<(), Broken> {
        if self.0.is_empty() { Ok(()) } else { Err(Broken("bytes behind its end")) }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Broken> {
        let (head, rest) = self.0.split_at_checked(count).ok_or(Broken("ends too early"))?;
        self.0 = rest;
        Ok(head)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Broken> {
        Ok(self.take(N)?.try_into().expect("so many were taken"))
    }

    pub(super) fn u8(&mut self) -> Result<u8, Broken> {
        Ok(self.array::<1>()?[0])
    }

    pub(super) fn u32(&mut self) -> Result<u32, Broken> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(super) fn f32(&mut self) -> Result<f32, Broken> {
        let value = f32::from_le_bytes(self.array()?);
        one_way(value, value.is_finite() && (value != 0.0 || value.is_sign_positive()))
    }

    pub(super) fn f64(&mut self) -> Result<f64, Broken> {
        let value = f64::from_le_bytes(self.array()?);
        one_way(value, value.is_finite() && (value != 0.0 || value.is_sign_positive()))
    }

    /// A count of things that take at least `each` bytes.
    pub(super) fn count(&mut self, each: usize) -> Result<usize, Broken> {
        let count = self.u32()? as usize;
        let fits = count.checked_mul(each).is_some_and(|bytes| bytes <= self.0.len());
        if fits { Ok(count) } else { Err(Broken("ends too early")) }
    }

    pub(super) fn text(&mut self) -> Result<String, Broken> {
        let count = self.count(1)?;
        String::from_utf8(self.take(count)?.to_vec()).map_err(|_| Broken("a name is not text"))
    }

    /// A sparse row of so many columns, which rise; no value is zero or not finite.
    pub(super) fn row(&mut self, width: usize) -> Result<Vec<(u32, f32)>, Broken> {
        let count = self.count(8)?;
        let mut row: Vec<(u32, f32)> = Vec::with_capacity(count);
        for _ in 0..count {
            let (column, value) = (self.u32()?, self.f32()?);
            let rises = row.last().is_none_or(|&(last, _)| last < column);
            if !rises || column as usize >= width || value == 0.0 {
                return Err(Broken("a feature out of place"));
            }
            row.push((column, value));
        }
        Ok(row)
    }
}

/// Zero has two signs, of which one is written; what is not finite never is.
fn one_way<T>(value: T, is: bool) -> Result<T, Broken> {
    if is { Ok(value) } else { Err(Broken("a number is not finite, or a zero has a sign")) }
}
