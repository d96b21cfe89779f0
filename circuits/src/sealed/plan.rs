//! Everything that a sealed proof is about, but values.

use super::arrangement::Arrangement;
use super::cells::Cells;
use super::equations::{EquationPoint, SealedOperation, Sink};
use crate::bytes::EncodingError;
use crate::commitment::SiteFactors;
use crate::error::CheckFailed;
use crate::fixed::FixedError;
use crate::hash::Digest;
use crate::link::LINK_BYTES;

/// What a proof states: operations, and where their cells stand.
pub struct SealedPlan {
    pub(crate) arrangement: Arrangement,
    pub(crate) operations: Vec<Box<dyn SealedOperation>>,
    /// Of all that is public, but the base's weights.
    pub(crate) digest: Digest,
}

impl std::fmt::Debug for SealedPlan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Plan of {} operations, {} columns of 2^{}", self.operations.len(), self.columns(), self.k())
    }
}

impl SealedPlan {
    /// log2 of the rows of a column, which says what commitment key is needed.
    pub fn k(&self) -> u32 {
        self.arrangement.k
    }

    /// Columns of cells.
    pub fn columns(&self) -> usize {
        self.arrangement.columns()
    }

    /// Whether a proof is long enough to be one of this: what is shorter costs no more than to look.
    ///
    /// # Errors
    /// [`CheckFailed::SealedEncoding`] of one without its link, [`CheckFailed::SealedProof`] of one with fewer points than
    /// the plan has columns.
    pub fn may_be_of(&self, proof: &[u8]) -> Result<(), CheckFailed> {
        let truncated = CheckFailed::SealedEncoding(EncodingError::Truncated);
        let points = proof.len().checked_sub(LINK_BYTES).ok_or(truncated)? / 32;
        if points < self.columns() { Err(CheckFailed::SealedProof) } else { Ok(()) }
    }

    /// Values of all cells.
    pub(crate) fn fill(&self, factors: &[SiteFactors]) -> Result<Cells<'_>, FixedError> {
        let mut cells = Cells::new(&self.arrangement);
        self.operations.iter().try_for_each(|operation| operation.fill(&mut cells, factors))?;
        Ok(cells)
    }

    /// What must hold of cells.
    pub(crate) fn said(&self, first: &EquationPoint) -> Sink<'_> {
        self.said_weighing(first, true)
    }

    /// The same, with or without the base's part in it.
    pub(crate) fn said_weighing(&self, first: &EquationPoint, weigh: bool) -> Sink<'_> {
        let mut sink = Sink::new(&self.arrangement, first);
        sink.forms.weigh = weigh;
        self.operations.iter().for_each(|operation| operation.state(&mut sink));
        sink
    }
}
