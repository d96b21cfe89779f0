//! Who proves what is not so, and a verifier.

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use super::network::{Head, Network};
use crate::bytes::Reader;
use crate::check::never;
use crate::columns::read_points;
use crate::commitment::arrange;
use crate::conduct::{Conduct, Draw};
use crate::sealed::begin;
use crate::sealed::cells::Cells;
use crate::sealed::lookups::Lookups;
use crate::sealed::plan::Plan;
use crate::sealed::prove::{Secret, seal_cells};
use crate::sealed::said::{Opened, anchor};
use crate::tests::support::key;
use crate::{CheckFailed, LINK_BYTES};

/// A network, and the plan of its pass.
pub(super) struct Forger {
    pub(super) network: Network,
    pub(super) plan: Plan,
}

impl Forger {
    pub(super) fn new() -> Self {
        let network = Network::new(4);
        let plan = network.plan(Head::Largest(network.pass().greedy()));
        Self { network, plan }
    }

    /// A proof of some cells, with the same randomness each time.
    pub(super) fn seal(&self, cells: &Cells<'_>, conduct: Conduct<'_>) -> Vec<u8> {
        let Network { factors, commitment, opening, .. } = &self.network;
        let columns = arrange(&commitment.layout, factors);
        let secret = Secret { opening, factors, columns: &columns };
        let conduct = Conduct { check: false, ..conduct };
        let (statement, random) = (self.network.statement(), ChaCha20Rng::seed_from_u64(3));
        let key = key(self.plan.k());
        seal_cells(key, &statement, commitment, secret, (&self.plan, cells), &mut |_, _| {}, conduct, random).unwrap()
    }

    pub(super) fn verdict(&self, proof: &[u8], early: Option<Draw>) -> Result<(), CheckFailed> {
        let Network { commitment, .. } = &self.network;
        let (key, statement) = (key(self.plan.k()), self.network.statement());
        begin(key, &statement, commitment, &self.plan, proof, &never, early)?.settle()
    }

    /// The first challenges of a proof.
    pub(super) fn opened(&self, proof: &[u8], early: Option<Draw>) -> Opened {
        let lookups = Lookups::new(&self.plan.arrangement);
        let count = self.plan.columns() + lookups.counts();
        let points = read_points(&mut Reader::new(&proof[LINK_BYTES..]), count).unwrap();
        let anchor = anchor(&self.network.statement(), &self.network.commitment, &self.plan);
        Opened::draw(&anchor, &points, early)
    }
}
