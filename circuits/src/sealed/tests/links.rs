//! Proofs about another adapter than the committed one, each at the adapter's own k and above it.

use group::CurveAffine;
use pasta_curves::{EqAffine, Fp};

use super::forger::Forger;
use super::network::Network;
use crate::commitment::{arrange, commit_columns};
use crate::conduct::HONEST;
use crate::sealed::SealError;
use crate::tests::support::key;
use crate::*;

const SEED: u64 = 4;
const BASE: Digest = Digest([7; 32]);

/// What a forger proves of a changed network, at the adapter's k and at the next.
fn verdicts(change: impl Fn(&mut Network)) -> Vec<Result<(), CheckFailed>> {
    let own = Network::without_curves(SEED).commitment.k();
    let verdict = |k: u32| {
        let mut network = Network::without_curves(SEED);
        change(&mut network);
        let forger = Forger::of(network).at(k);
        forger.verdict(&forger.seal(&forger.cells(), HONEST), None)
    };
    [own, own + 1].map(verdict).to_vec()
}

#[test]
fn an_adapter_of_fewer_rows_than_the_proof_is_sealed() {
    let own = Network::without_curves(SEED).commitment.k();
    for k in [own, own + 1, own + 3] {
        let forger = Forger::new().at(k);
        assert_eq!(forger.verdict(&forger.honest().unwrap(), None), Ok(()), "{k}");
    }
}

#[test]
fn a_proof_about_other_factors_is_refused_by_the_link() {
    assert_eq!(verdicts(|_| ()), vec![Ok(()); 2]);
    let refused = vec![Err(CheckFailed::SealedLink); 2];
    assert_eq!(verdicts(|network| network.factors[0].a[3] ^= 1), refused, "an entry of A");
    assert_eq!(verdicts(|network| network.factors[3].b[20] ^= 1), refused, "an entry of B");
    assert_eq!(
        verdicts(|network| network.factors = Network::without_curves(SEED + 1).factors),
        refused,
        "another adapter"
    );
    let mut network = Network::without_curves(SEED);
    network.factors[0].a[3] ^= 1;
    assert!(matches!(Forger::of(network).honest(), Err(SealError::Prove(ProveError::Opening))));
}

#[test]
fn a_changed_commitment_or_opening_is_refused_by_the_link() {
    let refused = vec![Err(CheckFailed::SealedLink); 2];
    for column in 0..Network::without_curves(SEED).commitment.points.len() {
        let moved = |network: &mut Network| {
            let point = &mut network.commitment.points[column];
            *point = (*point + EqAffine::generator()).into();
        };
        assert_eq!(verdicts(moved), refused, "{column}");
    }
    let other = |network: &mut Network| {
        network.opening = commit(key(network.commitment.k()), BASE, &network.factors).unwrap().1;
    };
    assert_eq!(verdicts(other), refused, "another opening");
}

/// What no site uses of a lane, past its rank, is no part of its product, and must be nothing.
#[test]
fn a_lane_past_the_rank_of_a_site_is_zero() {
    let mut network = Network::without_curves(SEED);
    let layout = network.commitment.layout.clone();
    let head = network.factors.iter().position(|site| site.shape.name == "head").unwrap();
    let honest = arrange(&layout, &network.factors);
    let shapes = network.commitment.shapes().to_vec();
    // An entry of A's place, and one of B's, in the last of three lanes.
    for entry in [2, shapes[head].d_in as usize + 2] {
        let mut columns = honest.clone();
        let (strip, row) = layout.cell(layout.starts[head] + entry);
        columns[strip * layout.lanes + 2][row] = Fp::from(1);
        (network.commitment, network.opening) = commit_columns(key(layout.k), BASE, shapes.clone(), &columns).unwrap();
        let forger = Forger::of(network);
        let proof = forger.seal_columns(&forger.cells(), &columns, HONEST);
        assert_eq!(forger.verdict(&proof, None), Err(CheckFailed::SealedProof), "{entry}");
        network = forger.network;
    }
}
