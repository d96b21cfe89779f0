//! Inputs and deltas of the sites, as integers: what may be stated of them, and their digest.

use rayon::prelude::*;

use crate::check::{Stop, go_on};
use crate::error::CheckFailed;
use crate::hash::{Absorb, Digest, Tag};
use crate::layout::SiteShape;

/// Inputs are below this in absolute value: a signed 32-bit integer on the 2^-16 grid.
pub const INPUT_BOUND: u64 = 1 << 31;

/// What goes into one site and what its adapter adds, for all rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteRows {
    /// How many rows the site has; a verifier counts them itself.
    pub rows: usize,
    /// x_t, `(rows, d_in)` row-major on the 2^-16 grid.
    pub inputs: Vec<i64>,
    /// `B (A x_t)`, `(rows, d_out)` row-major, exact.
    pub deltas: Vec<i128>,
}

/// Checks that there are the rows of every site, at least one, with its dimensions and within the bounds.
pub(crate) fn check_rows(shapes: &[SiteShape], sites: &[SiteRows]) -> Result<(), CheckFailed> {
    if sites.len() != shapes.len() {
        return Err(CheckFailed::Coverage(format!("sites: {} of {}", sites.len(), shapes.len())));
    }
    for (shape, site) in shapes.iter().zip(sites) {
        for (what, len, dim) in [("inputs", site.inputs.len(), shape.d_in), ("deltas", site.deltas.len(), shape.d_out)]
        {
            if site.rows == 0 || site.rows.checked_mul(dim as usize) != Some(len) {
                return Err(CheckFailed::Coverage(format!(
                    "{what} of {} are not {} rows of {dim}: {len}",
                    shape.name, site.rows
                )));
            }
        }
    }
    for (index, (shape, site)) in shapes.iter().zip(sites).enumerate() {
        if let Some(entry) = site.inputs.iter().position(|x| x.unsigned_abs() >= INPUT_BOUND) {
            return Err(CheckFailed::InputBound { site: index, entry });
        }
        let bound = shape.delta_bound().unsigned_abs();
        if let Some(entry) = site.deltas.iter().position(|delta| delta.unsigned_abs() > bound) {
            return Err(CheckFailed::DeltaBound { site: index, entry });
        }
    }
    Ok(())
}

/// `D_rows`: all inputs and all deltas with their dimensions.
///
/// # Errors
/// [`CheckFailed::Stopped`], asked for before each site.
pub(crate) fn rows_digest(shapes: &[SiteShape], sites: &[SiteRows], stop: &Stop<'_>) -> Result<Digest, CheckFailed> {
    let digest = |(shape, site): (&SiteShape, &SiteRows)| {
        go_on(stop)?;
        let inputs: Vec<u8> = site.inputs.iter().flat_map(|x| x.to_le_bytes()).collect();
        let deltas: Vec<u8> = site.deltas.iter().flat_map(|delta| delta.to_le_bytes()).collect();
        let hash = Absorb::new(Tag::SiteRows).u32(site.rows as u32).u32(shape.d_in).u32(shape.d_out);
        Ok(hash.bytes(&inputs).bytes(&deltas).finish())
    };
    let digests: Vec<Digest> = shapes.par_iter().zip(sites).map(digest).collect::<Result<_, CheckFailed>>()?;
    let hash = Absorb::new(Tag::Rows).u32(sites.len() as u32);
    Ok(digests.iter().fold(hash, |hash, digest| hash.digest(digest)).finish())
}
