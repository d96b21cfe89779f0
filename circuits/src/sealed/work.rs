//! What sealing a plan takes, counted before anything is computed.

use group::CurveAffine;
use pasta_curves::EqAffine;

use super::lookups::Lookups;
use super::plan::SealedPlan;
use super::sums::Sum;
use super::verify::Followed;
use crate::check::never;
use crate::commitment::AdapterCommitment;
use crate::conduct::{Conduct, HONEST};
use crate::error::CheckFailed;
use crate::hash::Digest;
use crate::layout::useful_rows;
use crate::link::LINK_BYTES;

/// Points and scalars of the circuit's proof, whatever its shape. Two columns are committed to and opened twice; the rest is
/// what halo2 has of any such circuit: its quotient, fixed columns, instances, and the argument that opens them.
const CIRCUIT: u64 = 21;
/// The same for each pair of columns of factors: two columns and an instance.
const PAIR: u64 = 5;
/// For each column of cross terms: a column and an instance.
const CROSS: u64 = 3;
/// For each time that the rows double.
const HALVING: u64 = 2;

/// Nanoseconds of one core that a prover takes, fitted to phases of three proofs: `cargo bench --bench prove -- sealed`.
/// To commit to a cell, and to fold it;
const COMMITTED: u64 = 450;
const FOLDED: u64 = 550;
/// for a leaf of a tree of fractions;
const LEAF: u64 = 750;
/// for a product of field elements in the sums of the first stage;
const PRODUCT: u64 = 45;
/// and for a point that it sends.
const POINT: u64 = 150_000;

/// What takes a prover's time and memory, and a proof's length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Work {
    /// Cells: small integers that are committed to.
    pub cells: u64,
    /// Leaves of the trees of fractions, by which cells are looked up.
    pub leaves: u64,
    /// Trees.
    pub trees: u64,
    /// Products of field elements that the sums of the first stage take; those of the second are few.
    pub products: u64,
    /// Points that the proof sends.
    pub points: u64,
    /// Bytes of the proof.
    pub bytes: u64,
    /// Bytes of memory that a prover takes beside the base and what is small: cells, and the larger of a tree of
    /// fractions and the sums.
    pub memory: u64,
}

impl Work {
    /// Of a plan. No adapter is needed, and none is looked at.
    ///
    /// # Errors
    /// None that a plan for this commitment has.
    pub fn of(plan: &SealedPlan, commitment: &AdapterCommitment) -> Result<Self, CheckFailed> {
        let lookups = Lookups::new(&plan.arrangement, None);
        // Whatever challenges are, as many follow from them, and whatever the base's weights are, as many strips.
        let conduct = Conduct { weigh: false, ..HONEST };
        let mut points = 0;
        let mut send = |count: usize| {
            points += count as u64;
            Ok(vec![EqAffine::generator(); count])
        };
        let followed = Followed::read(&Digest([0; 32]), commitment, plan, &mut send, &never, conduct)?;
        let (folding, _) = followed.folding(commitment, plan, &mut send, conduct)?;
        let sums = followed.ended.sums();
        let shape = folding.shape();
        points += shape.crosses as u64;
        let cells = (plan.columns() * useful_rows(plan.k())) as u64;
        let (pairs, crosses) = (shape.pairs as u64, shape.crosses as u64);
        let circuit = CIRCUIT + PAIR * pairs + CROSS * crosses + HALVING * u64::from(plan.k());
        Ok(Self {
            cells,
            leaves: lookups.trees.iter().map(|tree| tree.active as u64).sum(),
            trees: lookups.trees.len() as u64,
            products: sums.iter().map(Sum::multiplications).sum(),
            points,
            bytes: LINK_BYTES as u64 + 32 * (points + circuit),
            memory: size_of::<i32>() as u64 * cells + sums.iter().map(Sum::bytes).sum::<u64>().max(lookups.bytes()),
        })
    }

    /// Nanoseconds of one core that a proof takes, once the base is weighed.
    pub fn nanoseconds(&self) -> u64 {
        self.before_equation() + self.equation()
    }

    fn before_equation(&self) -> u64 {
        COMMITTED * self.cells + LEAF * self.leaves + PRODUCT * self.products
    }

    fn equation(&self) -> u64 {
        FOLDED * self.cells + POINT * self.points
    }
}

/// How far a prover has got, in the time that its parts take.
pub(crate) struct SealProgress<'a> {
    progress: &'a mut dyn FnMut(usize, usize),
    work: Work,
    done: u64,
}

/// Nanoseconds of a unit of progress.
const UNIT: u64 = 1_000_000;

impl<'a> SealProgress<'a> {
    /// At the beginning.
    pub(crate) fn begin(work: Work, progress: &'a mut dyn FnMut(usize, usize)) -> Self {
        let mut told = Self { progress, work, done: 0 };
        told.go(0);
        told
    }

    fn go(&mut self, nanoseconds: u64) {
        self.done += nanoseconds;
        let all = (self.work.nanoseconds() / UNIT + 1) as usize;
        // Trees that are not the protocol's, in tests, may have more leaves.
        (self.progress)(((self.done / UNIT) as usize).min(all), all);
    }

    /// Cells are committed to.
    pub(crate) fn committed(&mut self) {
        self.go(COMMITTED * self.work.cells);
    }

    /// A tree of so many leaves is proved.
    pub(crate) fn tree(&mut self, leaves: usize) {
        self.go(LEAF * leaves as u64);
    }

    /// The first stage is.
    pub(crate) fn sums(&mut self) {
        self.go(PRODUCT * self.work.products);
    }

    /// All is.
    pub(crate) fn end(&mut self) {
        let left = self.work.nanoseconds().saturating_sub(self.done);
        self.go(left + UNIT);
    }
}
