//! Where each adapter entry stands in the committed columns: a function of the shapes alone.
//!
//! `STATEMENT.md`, section 3.

use crate::bytes::{EncodingError, Reader};

/// Rows at the end of every column that carry no meaning; a circuit's unusable rows must fit in here.
pub const RESERVED_ROWS: usize = 32;
/// Adapter entries lie between minus this and this, which is none of them.
pub(crate) const OFFSET: u64 = 1 << 15;

/// Most sites of one adapter.
pub const MAX_SITES: u32 = 4096;
/// Longest site name in bytes.
pub const MAX_NAME: usize = 200;
/// Highest rank.
pub const MAX_RANK: u32 = 128;
/// Largest input or output dimension.
pub const MAX_DIM: u32 = 1 << 16;
/// Largest scale: weights are `q * 2^-shift`.
pub const MAX_SHIFT: u8 = 63;

/// Smallest k of a commitment key: 2^6 - 32 rows.
pub const MIN_K: u32 = 6;
/// Smallest k of a layout: below it the table of registration takes more columns than a proof saves rows.
pub(crate) const LEAST_K: u32 = 8;
/// Largest k of a commitment key.
pub const MAX_K: u32 = 14;
/// Time of a row of a proof, in units of 50 us of one core: opening, and some ten columns of full-size values.
const ROW_COST: usize = 7;
/// Time of a committed column in the same unit: its share of commitment, folding, registration and file.
const COLUMN_COST: usize = 2;

/// Name, dimensions and scales of an adapted linear layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteShape {
    /// The layer's name, such as `model.layers.3.self_attn.q_proj`.
    pub name: String,
    /// Rank r.
    pub rank: u32,
    /// Columns of A.
    pub d_in: u32,
    /// Rows of B.
    pub d_out: u32,
    /// A's weights are `a * 2^-shift_a`.
    pub shift_a: u8,
    /// B's weights are `b * 2^-shift_b`.
    pub shift_b: u8,
}

impl SiteShape {
    /// Checks the bounds of the encoding.
    ///
    /// # Errors
    /// The first field out of bounds.
    pub fn check(&self) -> Result<(), EncodingError> {
        let name = self.name.as_bytes();
        let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"._-".contains(byte);
        if name.is_empty() || name.len() > MAX_NAME || !name.iter().all(allowed) {
            return Err(EncodingError::Name);
        }
        for (what, value, max) in
            [("rank", self.rank, MAX_RANK), ("d_in", self.d_in, MAX_DIM), ("d_out", self.d_out, MAX_DIM)]
        {
            if value == 0 || value > max {
                return Err(EncodingError::Bounds { what, value: value.into() });
            }
        }
        for (what, value) in [("shift_a", self.shift_a), ("shift_b", self.shift_b)] {
            if value > MAX_SHIFT {
                return Err(EncodingError::Bounds { what, value: value.into() });
            }
        }
        Ok(())
    }

    /// `r * d_in * 2^61`: no product of a registered adapter with inputs below 2^31 is larger.
    pub fn delta_bound(&self) -> i128 {
        (i128::from(self.rank) * i128::from(self.d_in)) << 61
    }

    pub(crate) fn encode(&self, bytes: &mut Vec<u8>) {
        bytes.extend((self.name.len() as u16).to_le_bytes());
        bytes.extend(self.name.as_bytes());
        for value in [self.rank, self.d_in, self.d_out] {
            bytes.extend(value.to_le_bytes());
        }
        bytes.extend([self.shift_a, self.shift_b]);
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, EncodingError> {
        let len = usize::from(reader.u16()?);
        if len > MAX_NAME {
            return Err(EncodingError::Name);
        }
        let name = String::from_utf8(reader.take(len)?.to_vec()).map_err(|_| EncodingError::Name)?;
        let (rank, d_in, d_out) = (reader.u32()?, reader.u32()?, reader.u32()?);
        let shape = Self { name, rank, d_in, d_out, shift_a: reader.u8()?, shift_b: reader.u8()? };
        shape.check()?;
        Ok(shape)
    }
}

/// The arrangement of a list of sites: one vector per lane, cut into strips of the useful rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) k: u32,
    pub(crate) lanes: usize,
    pub(crate) strips: usize,
    /// Where each site begins in the vector of a lane: first A, then B.
    pub(crate) starts: Vec<usize>,
}

impl Layout {
    /// Arranges shapes that passed [`SiteShape::check`], in columns of the length that costs least.
    pub(crate) fn new(shapes: &[SiteShape]) -> Self {
        let (lanes, length) = (lanes(shapes), length(shapes));
        let cost = |k: &u32| (ROW_COST << *k) + COLUMN_COST * lanes * strips(length, *k);
        Self::with(shapes, (LEAST_K..=MAX_K).min_by_key(cost).unwrap_or(MAX_K))
    }

    /// The same in columns of 2^k rows.
    pub(crate) fn with(shapes: &[SiteShape], k: u32) -> Self {
        let mut length = 0;
        let starts = shapes.iter().map(|shape| {
            let start = length;
            length += entries(shape);
            start
        });
        let starts = starts.collect();
        Self { k, lanes: lanes(shapes), strips: strips(length, k), starts }
    }

    /// Columns of the commitment; column `strip * lanes + lane` is that strip of that lane.
    pub(crate) fn columns(&self) -> usize {
        self.strips * self.lanes
    }

    /// Strip and row of an entry of a lane's vector.
    pub(crate) fn cell(&self, entry: usize) -> (usize, usize) {
        let rows = useful_rows(self.k);
        (entry / rows, entry % rows)
    }
}

/// Vectors that the factors make up.
fn lanes(shapes: &[SiteShape]) -> usize {
    shapes.iter().map(|shape| shape.rank as usize).max().unwrap_or(1)
}

/// Entries of a site in one lane.
fn entries(shape: &SiteShape) -> usize {
    shape.d_in as usize + shape.d_out as usize
}

/// Entries of a lane.
fn length(shapes: &[SiteShape]) -> usize {
    shapes.iter().map(entries).sum()
}

/// Columns of a lane.
fn strips(length: usize, k: u32) -> usize {
    length.div_ceil(useful_rows(k)).max(1)
}

/// Rows of a column that carry meaning.
pub(crate) fn useful_rows(k: u32) -> usize {
    (1 << k) - RESERVED_ROWS
}

/// Rows that a linear equation is folded over: one more than carry entries, in which no strip has a coefficient.
pub(crate) fn fold_rows(k: u32) -> usize {
    useful_rows(k) + 1
}

/// The k whose commitment key an adapter of these shapes needs.
///
/// # Errors
/// The first shape out of bounds.
pub fn required_k(shapes: &[SiteShape]) -> Result<u32, EncodingError> {
    shapes.iter().try_for_each(SiteShape::check)?;
    Ok(Layout::new(shapes).k)
}

/// Columns that a commitment to these sites has.
///
/// # Errors
/// As [`required_k`].
pub fn required_columns(shapes: &[SiteShape]) -> Result<usize, EncodingError> {
    required_k(shapes)?;
    Ok(Layout::new(shapes).columns())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(rank: u32, d_in: u32, d_out: u32) -> SiteShape {
        SiteShape { name: "s".into(), rank, d_in, d_out, shift_a: 0, shift_b: 0 }
    }

    #[test]
    fn the_layout_is_the_specified_function_of_the_shapes() {
        let layout = |shapes: &[SiteShape]| {
            let layout = Layout::new(shapes);
            (layout.k, layout.lanes, layout.strips)
        };
        assert_eq!(layout(&[shape(1, 1, 1)]), (8, 1, 1));
        assert_eq!(layout(&[shape(2, 150, 75), shape(1, 7, 33)]), (8, 2, 2));
        assert_eq!(layout(&[shape(4, 768, 2304)]), (8, 4, 14));
        assert_eq!(layout(&vec![shape(8, 2048, 2048); 32]), (9, 8, 274));
        let layout = Layout::new(&[shape(2, 150, 75), shape(1, 7, 33)]);
        assert_eq!(layout.starts, [0, 225]);
        assert_eq!([layout.cell(223), layout.cell(224)], [(0, 223), (1, 0)]);
    }
}
