//! Cases of a statement in exact integers: one pass for all of them, and its proof.

use std::time::Instant;

use ftk_circuits::{AdapterCommitment, CommitmentKey, DeltaProof, Opening, SiteFactors, SiteRows, SiteShape};
use ftk_networks::graphs::convolution;
use ftk_networks::graphs::neighbourhood::Neighbourhood;
use ftk_networks::ops::Tokens;
use ftk_proofs::read::Row;
use ftk_proofs::{Case, Input, Output, Statement, StatementError};

use super::fixed::{self, Adaptation, Fixed, FixedAdapter, Record};
use super::model::{FixedModel, Net};

/// Why cases could not be computed.
#[derive(Debug, thiserror::Error)]
pub enum CasesError {
    /// Exact arithmetic.
    #[error(transparent)]
    Fixed(#[from] fixed::Error),
    /// More positions than the base was made for.
    #[error("case {case} needs {needed} positions, the base has {context}")]
    Context {
        /// Position of the case.
        case: usize,
        /// Positions needed.
        needed: usize,
        /// Positions of the base.
        context: usize,
    },
    /// The proposer failed.
    #[error("{0}")]
    Propose(ftk_adapters::Error),
}

/// What a pass over cases finds.
#[derive(Debug)]
pub struct Replayed {
    /// Of each case what the network yields: its output, with all that the network determines as the network has
    /// it. Of a completion that is the most likely id at each position that generated one.
    pub outputs: Vec<Output>,
    /// What every adapted site saw and added, in canonical order.
    pub records: Vec<Record>,
}

/// One pass over all cases, teacher-forced. What the base alone yields is taken from the cases as it stands. Cases of
/// nodes need the part of the graph that reaches them, checked for them and this base.
///
/// # Errors
/// Ids that the base has not, results out of range, [`fixed::Error::Time`] after the deadline, inputs that are not of
/// the base's kind.
pub fn replay(
    model: &FixedModel,
    adaptation: Adaptation<'_>,
    cases: &[Case],
    graph: Option<&Neighbourhood>,
    deadline: Option<Instant>,
) -> Result<Replayed, fixed::Error> {
    let of_nodes = |case: &Case| matches!(case.input, Input::Node { .. });
    let mut outputs: Vec<Output> = cases.iter().map(|case| case.output.clone()).collect();
    match (model.net(), graph) {
        (Net::Tokens(network), None) if !cases.iter().any(of_nodes) => {
            let (mut tokens, mut rows, mut reads) = (Tokens::default(), Vec::new(), Vec::new());
            for (case, content) in cases.iter().enumerate() {
                let sequences = content.sequences();
                let ids: Vec<&[u32]> = sequences.iter().map(|sequence| sequence.ids.as_slice()).collect();
                for (index, place) in tokens.push_alike(&ids).iter().enumerate() {
                    let read = sequences[index].read.clone();
                    rows.extend(read.clone().map(|position| place.row(position)));
                    reads.extend((0..read.len()).map(|step| (case, index, step)));
                }
            }
            let mut reader = |number: usize, row: Row<'_>| {
                let (case, sequence, step) = *reads.get(number).ok_or(fixed::Error::Row(number))?;
                Ok(outputs[case].read(sequence, step, row)?)
            };
            let mut ops = Fixed::reading(model.base(), adaptation, &mut reader).until(deadline);
            network.forward(&mut ops, &tokens, &rows)?;
            let records = ops.into_records()?;
            Ok(Replayed { outputs, records })
        }
        (Net::Graph(network), Some(graph)) if cases.iter().all(of_nodes) => {
            let node = |case: &Case| if let Input::Node { node, .. } = case.input { Some(node) } else { None };
            let pass = graph.pass(network, &cases.iter().filter_map(node).collect::<Vec<_>>());
            let mut ops = Fixed::new(model.base(), adaptation).until(deadline);
            let logits = network.classify(&mut ops, &pass.features, &pass.hops, &pass.rows)?;
            for (output, row) in outputs.iter_mut().zip(logits.entries.chunks_exact(logits.features.max(1))) {
                output.read(0, 0, Row { site: &logits.site, logits: row })?;
            }
            Ok(Replayed { outputs, records: ops.into_records()? })
        }
        _ => Err(fixed::Error::Kind),
    }
}

/// Fills in what the base alone yields, where a case states that.
///
/// # Errors
/// As [`replay`].
pub fn add_base(
    model: &FixedModel,
    outputs: &mut [Output],
    cases: &[Case],
    deadline: Option<Instant>,
) -> Result<(), fixed::Error> {
    let cases: Vec<Case> = cases.iter().filter(|case| case.output.is_compared()).cloned().collect();
    if cases.is_empty() {
        return Ok(());
    }
    let alone = replay(model, Adaptation::Base, &cases, None, deadline)?.outputs;
    for (output, alone) in outputs.iter_mut().filter(|output| output.is_compared()).zip(&alone) {
        output.compare(alone);
    }
    Ok(())
}

/// Computes the outputs of cases, whatever was in them: questions in, answers out, with the records of the pass.
///
/// `propose` continues ids by up to so many cheaply (in floating point), by one at least; its proposal is kept as far
/// as exact arithmetic agrees, so the result does not depend on it.
///
/// # Errors
/// See [`CasesError`].
pub fn settle(
    model: &FixedModel,
    adapter: &FixedAdapter,
    mut cases: Vec<Case>,
    graph: Option<&Neighbourhood>,
    mut propose: impl FnMut(&[u32], usize) -> Result<Vec<u32>, ftk_adapters::Error>,
) -> Result<(Vec<Case>, Vec<Record>), CasesError> {
    let context = model.net().context();
    for (case, content) in cases.iter_mut().enumerate() {
        let needed = match (&content.input, &content.output) {
            (Input::Tokens(input), Output::Completion(completion)) => input.len() + completion.max_tokens as usize,
            _ => content.sequences().iter().map(|sequence| sequence.ids.len()).max().unwrap_or(0),
        };
        if needed > context {
            return Err(CasesError::Context { case, needed, context });
        }
        if let Output::Completion(completion) = &mut content.output {
            completion.ids.clear();
        }
    }
    loop {
        for case in &mut cases {
            let (Input::Tokens(input), Output::Completion(completion)) = (&case.input, &mut case.output) else {
                continue;
            };
            let room = completion.room();
            if room > 0 {
                let so_far = [input.as_slice(), &completion.ids].concat();
                completion.ids.extend(propose(&so_far, room).map_err(CasesError::Propose)?);
            }
        }
        let Replayed { mut outputs, records } = replay(model, Adaptation::Factors(adapter), &cases, graph, None)?;
        let mut agreed = true;
        for (case, output) in cases.iter_mut().zip(&outputs) {
            if let (Output::Completion(proposed), Output::Completion(exact)) = (&mut case.output, output) {
                agreed &= proposed.agrees(exact);
            }
        }
        if agreed {
            add_base(model, &mut outputs, &cases, None)?;
            let settled = cases.into_iter().zip(outputs).map(|(case, output)| Case { output, ..case });
            return Ok((settled.collect(), records));
        }
    }
}

/// Why a statement could not be proved.
#[derive(Debug, thiserror::Error)]
pub enum ProveError {
    /// It contradicts itself.
    #[error("nothing to prove: statement: {0}")]
    Statement(#[from] StatementError),
    /// The proof could not be made.
    #[error(transparent)]
    Proof(#[from] ftk_circuits::ProveError),
}

/// Proves a statement about settled cases. Returns the exact deltas, which become public, and the proof.
///
/// # Errors
/// [`ProveError`].
pub fn prove(
    key: &CommitmentKey,
    statement: &Statement,
    (commitment, opening, factors): (&AdapterCommitment, &Opening, &[SiteFactors]),
    records: Vec<Record>,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<(Vec<Vec<i128>>, DeltaProof), ProveError> {
    let rows: Vec<SiteRows> = factors.iter().zip(records).map(site_rows).collect();
    statement.check()?;
    let proof = ftk_circuits::prove(key, &statement.bytes(), commitment, opening, factors, &rows, progress)?;
    Ok((rows.into_iter().map(|rows| rows.deltas).collect(), proof))
}

fn site_rows((site, record): (&SiteFactors, Record)) -> SiteRows {
    let rows = record.inputs.len() / site.shape.d_in as usize;
    SiteRows { rows, inputs: record.inputs.into_iter().map(i64::from).collect(), deltas: record.deltas }
}

/// The site that sees the positions alone whose logits matter: every architecture calls it so.
const HEAD: &str = "lm_head";

/// Rows of each site of an adapter. A verifier counts them again in the replay.
pub fn rows_of(statement: &Statement, graph: Option<&Neighbourhood>, shapes: &[SiteShape]) -> Vec<usize> {
    match graph {
        None => {
            let (all, read) = (statement.rows(), statement.head_rows());
            shapes.iter().map(|shape| if shape.name == HEAD { read } else { all }).collect()
        }
        Some(graph) => {
            // The rows of a convolution are who receives in it; a head sees the node of each case.
            let nodes = statement.nodes();
            let receivers = graph.receivers(&nodes);
            let of = |layer: usize| receivers.get(layer.wrapping_sub(1)).copied().unwrap_or(0);
            shapes.iter().map(|shape| convolution(&shape.name).map_or(nodes.len(), of)).collect()
        }
    }
}
