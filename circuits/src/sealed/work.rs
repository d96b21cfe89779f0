//! What sealing a plan takes, counted before anything is computed.

use group::CurveAffine;
use pasta_curves::EqAffine;

use super::lookups::Lookups;
use super::plan::SealedPlan;
use super::said::OpeningChallenges;
use super::sums::Sum;
use super::verify::equation;
use crate::check::never;
use crate::commitment::AdapterCommitment;
use crate::conduct::HONEST;
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
        // Whatever challenges are, as many follow from them.
        let anchor = Digest([0; 32]);
        let opened = OpeningChallenges::draw(&anchor, &[], None);
        let sums = plan.said(&opened.first).sums;
        let mut points = 0;
        let mut send = |count: usize| {
            points += count as u64;
            Ok(vec![EqAffine::generator(); count])
        };
        let (folding, _) = equation(&anchor, commitment, plan, &mut send, &never, HONEST)?;
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
}
