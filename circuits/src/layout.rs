//! Where each adapter entry stands in the committed columns: a function of the shapes alone.
//!
//! `STATEMENT.md`, section 3.

use std::ops::Range;

use crate::bytes::{EncodingError, Reader};

/// Rows at the end of every column that carry no meaning; a circuit's unusable rows must fit in here.
pub const RESERVED_ROWS: usize = 32;
/// Products of one accumulator step, and columns of one lane.
pub const PRODUCTS: usize = 16;
/// Adapter entries are offset by this in circuits, which makes them small non-negative scalars.
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

/// Smallest k: 2^6 - 32 rows.
pub const MIN_K: u32 = 6;
/// Adapters grow to several panels rather than beyond this k, unless one site alone needs more.
pub const PREFERRED_K: u32 = 11;
/// The k at which the largest site of [`MAX_DIM`] fits.
pub const MAX_K: u32 = 14;

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

/// Rows of one site within its panel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) panel: usize,
    pub(crate) start: usize,
    pub(crate) a_rows: usize,
    pub(crate) b_rows: usize,
}

impl Place {
    /// First row of B; the accumulators hold `A xbar` here.
    pub(crate) fn middle(&self) -> usize {
        self.start + self.a_rows
    }

    /// The row after B, where the result is read.
    pub(crate) fn end(&self) -> usize {
        self.middle() + self.b_rows
    }
}

/// The arrangement of a list of sites.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) k: u32,
    pub(crate) lanes: usize,
    pub(crate) panels: usize,
    /// One per site, in canonical order.
    pub(crate) places: Vec<Place>,
}

impl Layout {
    /// Arranges shapes that passed [`SiteShape::check`].
    pub(crate) fn new(shapes: &[SiteShape]) -> Self {
        let rows = |dim: u32| (dim as usize).div_ceil(PRODUCTS);
        let heights: Vec<_> = shapes.iter().map(|shape| (rows(shape.d_in), rows(shape.d_out))).collect();
        let total: usize = 1 + heights.iter().map(|(a, b)| a + b).sum::<usize>();
        let largest: usize = 1 + heights.iter().map(|(a, b)| a + b).max().unwrap_or(0);
        let fits = |needed: usize| (MIN_K..=MAX_K).find(|&k| useful_rows(k) >= needed).unwrap_or(MAX_K);
        let k = fits(total).min(PREFERRED_K.max(fits(largest)));

        let (mut panel, mut start) = (0, 0);
        let places = heights
            .into_iter()
            .map(|(a_rows, b_rows)| {
                if start + a_rows + b_rows >= useful_rows(k) {
                    (panel, start) = (panel + 1, 0);
                }
                let place = Place { panel, start, a_rows, b_rows };
                start = place.end();
                place
            })
            .collect();
        let lanes = shapes.iter().map(|shape| shape.rank as usize).max().unwrap_or(1);
        Self { k, lanes, panels: panel + 1, places }
    }

    pub(crate) fn columns_per_panel(&self) -> usize {
        self.lanes * PRODUCTS
    }

    pub(crate) fn columns(&self) -> usize {
        self.panels * self.columns_per_panel()
    }

    /// Panels of each proof when one proof may take `cells` committed cells (at least one panel).
    pub(crate) fn batches(&self, cells: usize) -> Vec<Range<usize>> {
        let panels = (cells / (self.columns_per_panel() << self.k)).max(1);
        (0..self.panels).step_by(panels).map(|first| first..(first + panels).min(self.panels)).collect()
    }

    /// Sites of a panel, in order.
    pub(crate) fn sites_of(&self, panel: usize) -> impl Iterator<Item = (usize, &Place)> {
        self.places.iter().enumerate().filter(move |(_, place)| place.panel == panel)
    }
}

/// Rows of a column that carry meaning.
pub(crate) fn useful_rows(k: u32) -> usize {
    (1 << k) - RESERVED_ROWS
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
    use proptest::prelude::*;

    use super::*;

    fn shape(rank: u32, d_in: u32, d_out: u32) -> SiteShape {
        SiteShape { name: "s".into(), rank, d_in, d_out, shift_a: 0, shift_b: 0 }
    }

    proptest! {
        #[test]
        fn no_two_sites_share_a_row_and_all_results_are_in_useful_rows(
            dims in prop::collection::vec((1u32..=MAX_RANK, 1u32..5000, 1u32..5000), 1..40),
        ) {
            let shapes: Vec<_> = dims.iter().map(|&(r, i, o)| shape(r, i, o)).collect();
            let layout = Layout::new(&shapes);
            let mut last = (0, 0);
            for (place, shape) in layout.places.iter().zip(&shapes) {
                prop_assert!((place.panel, place.start) >= last);
                prop_assert!(place.a_rows * PRODUCTS >= shape.d_in as usize);
                prop_assert!(place.b_rows * PRODUCTS >= shape.d_out as usize);
                prop_assert!(place.end() < useful_rows(layout.k));
                last = (place.panel, place.end());
            }
            prop_assert_eq!(layout.panels, last.0 + 1);
        }
    }

    #[test]
    fn the_largest_site_fits_the_largest_k() {
        let layout = Layout::new(&[shape(1, MAX_DIM, MAX_DIM)]);
        assert_eq!((layout.k, layout.panels), (MAX_K, 1));
        assert!(layout.places[0].end() < useful_rows(MAX_K));
    }
}
