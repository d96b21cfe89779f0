//! Where the tokens of a pass stand.

use std::sync::Arc;

use ftk_circuits::fixed::elementary::Dyadic;
use ftk_circuits::fixed::rope::{self, Rotations};
use ftk_kernels::grid::{self, GridError};
use ftk_networks::ops::{Rope, Segment, Tokens};

use super::error::PassError;

/// Where the tokens of a pass stand: in their sequences, and how they are rotated there.
#[derive(Debug, Default)]
pub(super) struct PassLayout {
    pub(super) segments: Vec<Segment>,
    pub(super) positions: Vec<u32>,
    /// By kind of rotation, each made when it is first needed.
    rotations: Vec<(Rope, Arc<Rotations>)>,
}

impl PassLayout {
    pub(super) fn of(tokens: &Tokens) -> Self {
        let (segments, positions) = (tokens.segments().to_vec(), tokens.positions().collect());
        Self { segments, positions, rotations: Vec::new() }
    }

    /// Positions of the longest sequence.
    fn longest(&self) -> usize {
        self.positions.iter().max().map_or(0, |last| *last as usize + 1)
    }

    /// Refuses sequences that are longer than a window.
    pub(super) fn within(&self, site: &str, window: Option<usize>) -> Result<(), PassError> {
        let positions = self.longest();
        match window.filter(|&window| window < positions) {
            Some(window) => Err(PassError::Window { site: site.to_owned(), window, positions }),
            None => Ok(()),
        }
    }

    /// The rotations of all tokens.
    pub(super) fn rotations(&mut self, site: &str, rope: &Rope) -> Result<Arc<Rotations>, PassError> {
        if let Some((_, table)) = self.rotations.iter().find(|(known, _)| known == rope) {
            return Ok(table.clone());
        }
        let scaling = rope.scaling.as_ref().map(|scaling| {
            Ok::<_, PassError>(rope::FrequencyScaling {
                factor: dyadic("rope scaling factor", scaling.factor)?,
                low: dyadic("rope scaling low frequency factor", scaling.low_freq_factor)?,
                high: dyadic("rope scaling high frequency factor", scaling.high_freq_factor)?,
                original_context: scaling.original_context,
            })
        });
        let exact =
            rope::FixedRope { dim: rope.dim, theta: dyadic("rope theta", rope.theta)?, scaling: scaling.transpose()? };
        let table = Arc::new(Rotations::new(site, &exact, self.longest())?.at(&self.positions));
        self.rotations.push((rope.clone(), table.clone()));
        Ok(table)
    }
}

/// A constant of the network, exactly.
fn dyadic(name: &str, value: f64) -> Result<Dyadic, PassError> {
    let (mantissa, exponent) = grid::decompose(value)
        .ok_or_else(|| PassError::Grid { name: name.to_owned(), error: GridError::NotFinite(0) })?;
    Ok(Dyadic { mantissa, exponent })
}
