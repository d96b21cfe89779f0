//! What is added to a base at adapted sites, and what happened there.

use std::collections::BTreeMap;

use ftk_circuits::fixed::linear::FixedFactors;
use ftk_kernels::grid;

use super::error::PassError;

/// An adapter as integers, by site in name order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FixedAdapter {
    /// Factors by site.
    pub sites: BTreeMap<String, FixedFactors>,
}

impl FixedAdapter {
    /// Adds the factors of a site as they were exported: scale one and every value on its 16-bit grid.
    ///
    /// # Errors
    /// [`PassError::Scale`], [`PassError::OffGrid`], [`PassError::Grid`], [`PassError::Fixed`] for shapes.
    pub fn insert(&mut self, site: &str, exported: &Exported<'_>) -> Result<(), PassError> {
        self.put(site, exported, [None; 2])
    }

    /// The same at scales `2^-shift` of A and B that somebody has chosen, such as those of a commitment.
    ///
    /// # Errors
    /// As [`FixedAdapter::insert`]; [`PassError::OffGrid`] where a value is none at its scale.
    pub fn insert_at(&mut self, site: &str, exported: &Exported<'_>, shifts: [u8; 2]) -> Result<(), PassError> {
        self.put(site, exported, shifts.map(|shift| Some(shift.into())))
    }

    fn put(&mut self, site: &str, exported: &Exported<'_>, [a_at, b_at]: [Option<u32>; 2]) -> Result<(), PassError> {
        let Exported { rank, d_in, d_out, a, b, scale } = *exported;
        if scale != 1.0 {
            return Err(PassError::Scale { site: site.to_owned(), scale });
        }
        let (a, a_shift) = on_grid(site, 'A', a, a_at)?;
        let (b, b_shift) = on_grid(site, 'B', b, b_at)?;
        let factors = FixedFactors::new(site, rank, [d_in, d_out], a, b, [a_shift as u8, b_shift as u8])?;
        self.sites.insert(site.to_owned(), factors);
        Ok(())
    }
}

/// The factors of a site as they were exported.
#[derive(Clone, Copy, Debug)]
pub struct Exported<'a> {
    /// Rank.
    pub rank: usize,
    /// Width of inputs.
    pub d_in: usize,
    /// Width of outputs.
    pub d_out: usize,
    /// `A`, `(rank, d_in)`.
    pub a: &'a [f32],
    /// `B`, `(d_out, rank)`.
    pub b: &'a [f32],
    /// What their product is multiplied with.
    pub scale: f32,
}

/// Integers and shift of values that lie exactly on the finest grid there is for them, or on one of this shift.
fn on_grid(site: &str, factor: char, values: &[f32], at: Option<u32>) -> Result<(Vec<i16>, u32), PassError> {
    let quantised = match at.filter(|shift| *shift <= grid::MAX_SHIFT) {
        Some(shift) => grid::quantise_16_at(values, shift).map(|entries| (entries, shift)),
        None => grid::quantise_16(values),
    };
    let name = || format!("adapter factor {factor} of {site}");
    let (entries, shift) = quantised.map_err(|error| PassError::Grid { name: name(), error })?;
    let off = |(&entry, &value): (&i16, &f32)| grid::value_16(entry, shift) != value;
    match entries.iter().zip(values).position(off) {
        Some(index) => Err(PassError::OffGrid { site: site.to_owned(), factor, index }),
        None => Ok((entries, shift)),
    }
}

/// The exact deltas of one site as a bundle gives them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteDeltas<'a> {
    /// Rank of the committed adapter at this site.
    pub rank: usize,
    /// Fractional bits of its `B A`.
    pub shift: u32,
    /// `(rows, d_out)`.
    pub deltas: &'a [i128],
}

/// What is added to the base at adapted sites.
#[derive(Clone, Copy, Debug)]
pub enum Adaptation<'a> {
    /// Nothing.
    Base,
    /// `B A x`, computed.
    Factors(&'a FixedAdapter),
    /// Given deltas.
    Deltas(&'a BTreeMap<String, SiteDeltas<'a>>),
}

/// What went in and what was added at an adapted site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteRecord {
    /// Module path.
    pub site: String,
    /// Inputs `x_t`, `(rows, d_in)` at scale `2^-16`.
    pub inputs: Vec<i32>,
    /// Exact deltas `(rows, d_out)` if they were computed; empty if they were given.
    pub deltas: Vec<i128>,
}
