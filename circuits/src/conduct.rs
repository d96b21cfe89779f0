//! What a prover computes, by name, so that forgers in tests can compute something else.

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
