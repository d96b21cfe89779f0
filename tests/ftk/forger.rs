//! What whoever forges a part of a graph or of a state makes of it: all that follows, by the prover's own tools.

use std::path::Path;

use ftk::prove::fixed::of_adapter;
use ftk::prove::keys::commitment_key;
use ftk::prove::opening::{OPENING, OpeningFile};
use ftk_adapters::lora::Adapter;
use ftk_circuits::AdapterCommitment;
use ftk_networks::graphs::opened::OpenedPart;
use ftk_proofs::bundle::{Bundle, COMMITMENT};
use ftk_proofs::prove::{answer, prove};
use ftk_proofs::{Case, FixedModel, Statement};

/// A bundle in the open about these cases, with outputs, statement and proof by the part and the commitment in a folder;
/// without a registration and a head.
pub fn proved(commitment: &Path, model: &FixedModel, adapter: &Adapter, cases: Vec<Case>, part: OpenedPart) -> Bundle {
    let fixed = of_adapter(adapter).unwrap();
    let factors = model.factors(&fixed);
    let (cases, records) = answer(model, &fixed, cases, Some(&part), None, |_, _| unreachable!()).unwrap();
    let opening = commitment.join(OPENING);
    let commitment = AdapterCommitment::decode(&std::fs::read(commitment.join(COMMITMENT)).unwrap()).unwrap();
    let opening = OpeningFile::read(&opening, commitment.shapes()).unwrap().opening;
    let (base, adapter) = (model.digest(), commitment.digest());
    let statement = Statement { base, adapter, context: Vec::new(), cases };
    let key = commitment_key(commitment.k()).unwrap();
    let (deltas, proof) = prove(&key, &statement, (&commitment, &opening, &factors), records, &mut |_, _| {}).unwrap();
    Bundle { statement, commitment, deltas, proof, registration: None, graph: Some(part), head: None }
}
