//! Honest proofs, and statements that are not so.

use super::network::{Head, Network, VOCABULARY};
use super::plain::{first_of, holds_at};
use crate::sealed::{SealError, Work, seal, verify_sealed};
use crate::tests::support::key;
use crate::{CheckFailed, Digest, EncodingError, LINK_BYTES, SiteFactors, SiteShape, StatementBytes, commit};

/// Cells are those of the pass on integers, and everything that is said of them holds.
#[test]
fn what_is_said_of_honest_cells_holds() {
    for seed in 0..4 {
        let network = Network::new(seed);
        let pass = network.pass();
        for head in pass.heads() {
            let plan = network.plan(head);
            let cells = plan.fill(&network.factors).unwrap();
            assert!(holds_at(&plan, &cells, &network.factors, &first_of(seed)), "{seed}");
        }
    }
}

#[test]
fn a_pass_is_sealed_and_verified() {
    let network = Network::new(1);
    let pass = network.pass();
    for head in pass.heads() {
        let plan = network.plan(head);
        let key = key(plan.k());
        let (statement, commitment) = (network.statement(), &network.commitment);
        let proof =
            seal(key, &statement, commitment, &network.opening, &network.factors, &plan, &mut |_, _| {}).unwrap();
        assert_eq!(verify_sealed(key, &statement, commitment, &plan, &proof), Ok(()));
        let mut other = statement.clone();
        other.said.push(b'.');
        assert_eq!(verify_sealed(key, &other, commitment, &plan, &proof), Err(CheckFailed::SealedProof));
    }
}

/// Whoever commits chooses the scales, and the plan is made before anything is checked.
#[test]
fn scales_that_no_adapter_has_are_refused_before_anything_is_laid_out() {
    let mut network = Network::new(1);
    let mut shapes: Vec<SiteShape> = network.commitment.shapes().to_vec();
    for shift in [31, 63] {
        shapes[0].shift_a = shift;
        let factors: Vec<SiteFactors> = network
            .factors
            .iter()
            .zip(&shapes)
            .map(|(site, shape)| SiteFactors { shape: shape.clone(), ..site.clone() })
            .collect();
        (network.commitment, _) = commit(key(network.commitment.k()), Digest([7; 32]), &factors).unwrap();
        let refused = network.try_plan(Head::Outputs(network.pass().logits)).unwrap_err();
        assert_eq!(refused.to_string(), "adapter shift outside the supported range at site: q");
    }
}

/// A plan for other shapes than the commitment's is none for it.
#[test]
fn a_plan_for_another_adapter_is_refused() {
    let (network, other) = (Network::new(1), Network::new(2));
    let plan = network.plan(Head::Outputs(network.pass().logits));
    let mut shapes = other.factors.clone();
    shapes[0].shape.shift_b = 12;
    let (commitment, _) = commit(key(network.commitment.k()), Digest([7; 32]), &shapes).unwrap();
    let statement = StatementBytes { base: Digest([7; 32]), adapter: commitment.digest(), said: Vec::new() };
    let refused = verify_sealed(key(plan.k()), &statement, &commitment, &plan, &[0; 4096]);
    assert!(matches!(refused, Err(CheckFailed::Coverage(_))), "{refused:?}");
    let statement = network.statement();
    let refused = verify_sealed(key(plan.k()), &statement, &network.commitment, &plan, &[0; 300]);
    assert_eq!(refused, Err(CheckFailed::SealedProof), "shorter than its columns");
}

/// What names another key, adapter or base than the proof is under.
#[test]
fn keys_adapters_and_bases_are_told_apart() {
    let network = Network::new(1);
    let plan = network.plan(Head::Outputs(network.pass().logits));
    let (statement, commitment) = (network.statement(), &network.commitment);
    let refused = |k: u32, statement: &StatementBytes| {
        verify_sealed(key(k), statement, commitment, &plan, &[0; 4096]).unwrap_err()
    };
    assert_eq!(refused(plan.k() + 1, &statement), CheckFailed::Key(plan.k()));
    let adapter = StatementBytes { adapter: Digest([8; 32]), ..statement.clone() };
    assert_eq!(refused(plan.k(), &adapter), CheckFailed::Adapter(commitment.digest()));
    let base = StatementBytes { base: Digest([8; 32]), ..statement.clone() };
    assert_eq!(refused(plan.k(), &base), CheckFailed::Base(commitment.base()));
    let short = verify_sealed(key(plan.k()), &statement, commitment, &plan, &[0; LINK_BYTES - 1]);
    assert_eq!(short, Err(CheckFailed::SealedEncoding(EncodingError::Truncated)));
}

/// Weights of norms on grids as fine as there are.
#[test]
fn normed_and_rotated_heads_are_rounded_as_the_semantics_do() {
    for shift in [20, 23, 26, 27, 28, 30] {
        let network = Network::with_norms(5, shift);
        let plan = network.plan(Head::Outputs(network.pass().logits));
        let cells = plan.fill(&network.factors).unwrap();
        assert!(holds_at(&plan, &cells, &network.factors, &first_of(3)), "{shift}");
    }
}

#[test]
fn logits_that_are_not_so_are_not_sealed() {
    let network = Network::new(2);
    let mut logits = network.pass().logits;
    logits[3] += 1;
    let plan = network.plan(Head::Outputs(logits));
    let refused = plan.fill(&network.factors).err().map(|error| error.to_string());
    assert_eq!(refused.as_deref(), Some("stated output does not fit the shape of site: head"));
}

#[test]
fn what_is_not_so_is_not_sealed() {
    let network = Network::new(2);
    let pass = network.pass();
    let mut stated = pass.greedy();
    stated[1] = (stated[1] + 1) % VOCABULARY;
    let plan = network.plan(Head::Largest(stated));
    let error = seal(
        key(plan.k()),
        &network.statement(),
        &network.commitment,
        &network.opening,
        &network.factors,
        &plan,
        &mut |_, _| {},
    );
    assert!(matches!(error, Err(SealError::Fixed(_))));
}

/// What is counted of a plan is what a proof of it has.
#[test]
fn a_proof_is_as_long_as_its_plan_says() {
    let network = Network::new(1);
    let pass = network.pass();
    for head in [Head::Largest(pass.greedy()), Head::Outputs(pass.logits.clone())] {
        let plan = network.plan(head);
        let (statement, commitment) = (network.statement(), &network.commitment);
        let work = Work::of(&plan, commitment).unwrap();
        let key = key(plan.k());
        let mut parts = 0;
        let mut progress = |_, all: usize| parts = all;
        let proof =
            seal(key, &statement, commitment, &network.opening, &network.factors, &plan, &mut progress).unwrap();
        assert_eq!(work.bytes, proof.len() as u64, "{work:?} {plan:?}");
        assert_eq!(work.trees + 4, parts as u64);
        assert!(work.leaves > work.cells && work.memory > 4 * work.cells && work.products > 0, "{work:?}");
    }
}
