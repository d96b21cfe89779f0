//! What a prover computes, by name, so that forgers in tests can compute something else.

use pasta_curves::Fp;

/// What a value that the prover computes is; numbers are those of its column among its kind, in a registration over all
/// its batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Label {
    /// The running sum of the fold circuit.
    Accumulator,
    /// A factor of a product: first all u, then all v.
    Pair(usize),
    /// A cross term.
    Cross(usize),
    /// An entry of the range circuit.
    Entry(usize),
    /// A reciprocal of the range circuit.
    Reciprocal(usize),
    /// The running sum of a batch's range circuit.
    Sum(usize),
    /// The same on its way into the equation over all batches.
    Total(usize),
    /// How often the table's entry occurs.
    Multiplicity(usize),
}

/// How a prover behaves; there is one honest way, the others are for forgers in tests.
#[derive(Clone, Copy)]
pub(crate) struct Conduct<'a> {
    /// From a cell's label, row and right value to the value that is assigned.
    pub(crate) assign: &'a (dyn Fn(Label, usize, Fp) -> Fp + Sync),
    /// Whether to check the result before releasing it.
    pub(crate) check: bool,
}

impl Conduct<'_> {
    /// Passes the values of whole columns through `assign`.
    pub(crate) fn pass(&self, label: impl Fn(usize) -> Label, columns: &mut [Vec<Fp>]) {
        for (number, column) in columns.iter_mut().enumerate() {
            for (row, value) in column.iter_mut().enumerate() {
                *value = (self.assign)(label(number), row, *value);
            }
        }
    }
}

pub(crate) const HONEST: Conduct<'static> = Conduct { assign: &|_, _, value| value, check: true };
