//! Who proves what is not so, and a verifier.

use pasta_curves::Fp;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use super::network::{Head, Network};
use crate::bytes::Reader;
use crate::check::never;
use crate::columns::read_points;
use crate::commitment::arrange;
use crate::conduct::{Conduct, Draw, HONEST};
use crate::hash::Digest;
use crate::sealed::cells::Cells;
use crate::sealed::plan::SealedPlan;
use crate::sealed::prove::{Secret, seal_cells};
use crate::sealed::said::anchor;
use crate::sealed::verify::Followed;
use crate::sealed::{SealError, begin, seal};
use crate::tests::support::key;
use crate::{CheckFailed, LINK_BYTES};

/// A network, and the plan of its pass.
pub(super) struct Forger {
    pub(super) network: Network,
    pub(super) plan: SealedPlan,
}

impl Forger {
    pub(super) fn new() -> Self {
        Self::of(Network::without_curves(4))
    }

    /// States what is so of a network.
    pub(super) fn of(network: Network) -> Self {
        let plan = network.plan(Head::Largest(network.pass().greedy()));
        Self { network, plan }
    }

    /// States things of every kind, with an adapter of the head that occurs in each.
    pub(super) fn of_several() -> Self {
        Self::of_several_in(Network::without_curves(4))
    }

    /// The same of another network.
    pub(super) fn of_several_in(network: Network) -> Self {
        let plan = network.plan(network.pass().several());
        Self { network, plan }
    }

    /// The same in columns of `2^k` rows.
    pub(super) fn at(self, k: u32) -> Self {
        Self { plan: SealedPlan { arrangement: self.plan.arrangement.at(k), ..self.plan }, ..self }
    }

    /// What the network yields.
    pub(super) fn cells(&self) -> Cells<'_> {
        self.plan.fill(&self.network.factors).unwrap()
    }

    /// The proof of who does as one should.
    pub(super) fn honest(&self) -> Result<Vec<u8>, SealError> {
        let Network { factors, commitment, opening, .. } = &self.network;
        seal(key(self.plan.k()), &self.network.statement(), commitment, opening, factors, &self.plan, &mut |_, _| {})
    }

    /// A proof of some cells, with the same randomness each time.
    pub(super) fn seal(&self, cells: &Cells<'_>, conduct: Conduct<'_>) -> Vec<u8> {
        self.seal_columns(cells, &arrange(&self.network.commitment.layout, &self.network.factors), conduct)
    }

    /// The same with an adapter in other columns.
    pub(super) fn seal_columns(&self, cells: &Cells<'_>, columns: &[Vec<Fp>], conduct: Conduct<'_>) -> Vec<u8> {
        let Network { factors, commitment, opening, .. } = &self.network;
        let secret = Secret { opening, factors, columns };
        let conduct = Conduct { check: false, ..conduct };
        let (statement, random) = (self.network.statement(), ChaCha20Rng::seed_from_u64(3));
        let key = key(self.plan.k());
        seal_cells(key, &statement, commitment, secret, (&self.plan, cells), &mut |_, _| {}, conduct, random).unwrap()
    }

    pub(super) fn verdict(&self, proof: &[u8], early: Option<Draw>) -> Result<(), CheckFailed> {
        self.judge(proof, Conduct { early, ..HONEST })
    }

    /// The verdict of a verifier that cuts trees and draws challenges as the prover did.
    pub(super) fn judge(&self, proof: &[u8], conduct: Conduct<'_>) -> Result<(), CheckFailed> {
        let Network { commitment, .. } = &self.network;
        let (key, statement) = (key(self.plan.k()), self.network.statement());
        begin(key, &statement, commitment, &self.plan, proof, &never, conduct)?.settle()
    }

    /// T0
    pub(super) fn anchor(&self) -> Digest {
        anchor(&self.network.statement(), &self.network.commitment, &self.plan)
    }

    /// What the points of a proof say.
    pub(super) fn follow(&self, proof: &[u8], early: Option<Draw>) -> Followed<'_> {
        let mut reader = Reader::new(&proof[LINK_BYTES..]);
        let mut read = |count: usize| read_points(&mut reader, count).ok_or(CheckFailed::SealedProof);
        let conduct = Conduct { early, ..HONEST };
        Followed::read(&self.anchor(), &self.network.commitment, &self.plan, &mut read, &never, conduct).unwrap()
    }
}
