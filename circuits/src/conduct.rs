//! How a prover behaves: there is one honest way, and the others are for forgers in tests, who compute something else.

use pasta_curves::Fp;

/// What a value that the prover computes is; numbers are those of its column among its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Label {
    /// The running sum of the fold circuit.
    Accumulator,
    /// A factor of a product: first all u, then all v.
    Pair(usize),
    /// A cross term.
    Cross(usize),
    /// How often the table's entry occurs.
    Count(usize),
    /// A scalar of a message, where all are committed to once more.
    Scalar,
    /// Where sums of a sealed proof end: of the first stage, what the adapter adds, of the second.
    End(usize),
}

/// A message of a sumcheck.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    /// Numerator and denominator of a whole tree.
    Root { tree: usize },
    /// Linear and square coefficient of a round.
    Round { tree: usize, level: usize, round: usize },
    /// n0, n1, d0 and d1 where a level's sumcheck ends.
    Ends { tree: usize, level: usize },
    /// Coefficients of a round of all sums of a stage.
    Sum { stage: usize, round: usize },
}

/// A challenge, by its name in `STATEMENT.md`; each is drawn after something that must not depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Draw {
    /// X, after the counts.
    Table,
    /// After the root, or the ends of the level above.
    Lambda,
    /// r, after the message of its round.
    Round,
    /// After the ends of its level.
    Mu,
    /// After M, U and V, as the next three.
    Xi,
    Eta,
    Kappa,
    Zeta,
    /// gamma, after cells and counts.
    Equations,
    /// Where equations are looked at, after cells and counts.
    Coordinates,
    /// r, after the message of a round of sums.
    Sum,
    /// lambda of the adapter's lanes, after v and h.
    Lanes,
    /// gamma' of the second stage's sums, after v and h.
    SecondSums,
    /// beta, after the cross terms.
    Crosses,
}

impl Draw {
    /// Those of the equation that all of a registration, or of a sealed proof, comes to.
    pub(crate) const SUMS: [Self; 4] = [Self::Xi, Self::Eta, Self::Kappa, Self::Zeta];

    /// Whether this is the challenge that a forger knows too early: never outside tests.
    pub(crate) fn is_early(self, early: Option<Self>) -> bool {
        cfg!(test) && early == Some(self)
    }
}

/// What a prover does.
#[derive(Clone, Copy)]
pub(crate) struct Conduct<'a> {
    /// From a cell's label, row and right value to the value that is assigned.
    pub(crate) assign: &'a (dyn Fn(Label, usize, Fp) -> Fp + Sync),
    /// Changes a message before it is committed to.
    pub(crate) send: &'a (dyn Fn(Sent, &mut [Fp]) + Sync),
    /// Columns of a tree, where they are not the protocol's.
    pub(crate) width: Option<usize>,
    /// A challenge that does not wait for what must come before it.
    pub(crate) early: Option<Draw>,
    /// Whether to check the result before releasing it.
    pub(crate) check: bool,
    /// Whether to weigh the base, which takes a pass over it; who only counts what a proof has does not.
    pub(crate) weigh: bool,
}

impl Conduct<'_> {
    /// Passes the values of whole columns through `assign`.
    pub(crate) fn pass(&self, label: impl Fn(usize) -> Label, columns: &mut [Vec<Fp>]) {
        for (number, column) in columns.iter_mut().enumerate() {
            self.pass_one(label(number), column);
        }
    }

    /// The same for one.
    pub(crate) fn pass_one(&self, label: Label, column: &mut [Fp]) {
        for (row, value) in column.iter_mut().enumerate() {
            *value = (self.assign)(label, row, *value);
        }
    }
}

pub(crate) const HONEST: Conduct<'static> =
    Conduct { assign: &|_, _, value| value, send: &|_, _| (), width: None, early: None, check: true, weigh: true };
