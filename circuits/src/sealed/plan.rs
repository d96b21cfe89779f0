//! Everything that a sealed proof is about, but values.

use super::arrangement::Arrangement;
use super::cells::Cells;
use super::equations::{EquationPoint, SealedOperation, Sink};
use crate::commitment::SiteFactors;
use crate::fixed::FixedError;
use crate::hash::Digest;

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
