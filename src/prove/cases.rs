//! Cases of a statement in exact integers: one pass for all of them, and its proof.

use std::time::Instant;

use ftk_circuits::{
    AdapterCommitment, Case, CommitmentKey, DeltaProof, Input, Logits, Opening, Output, ProveError, Scored,
    SiteFactors, SiteRows, SiteShape, Statement,
};
use ftk_networks::graphs::convolution;
use ftk_networks::ops::Tokens;
use ftk_recipes::gnn::neighbourhood::Neighbourhood;

use super::fixed::{self, Adaptation, Fixed, FixedAdapter, Record};
use super::read::{Read, Reading};
use super::{FixedModel, Net};

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
    match (model.net(), graph) {
        (Net::Tokens(network), None) if !cases.iter().any(of_nodes) => {
            let (mut tokens, mut rows, mut reads) = (Tokens::default(), Vec::new(), Vec::new());
            for case in cases {
                let sequences = case.sequences();
                let ids: Vec<&[u32]> = sequences.iter().map(|sequence| sequence.ids.as_slice()).collect();
                for (index, place) in tokens.push_alike(&ids).iter().enumerate() {
                    let read = sequences[index].read.clone();
                    rows.extend(read.clone().map(|position| place.row(position)));
                    reads.extend((0..read.len()).map(|step| wanted(&case.output, index, step)));
                }
            }
            let mut ops = Fixed::reading(model.base(), adaptation, &reads).until(deadline);
            network.forward(&mut ops, &tokens, &rows)?;
            let readings = ops.take_readings();
            replayed(cases, readings, ops)
        }
        (Net::Graph(network), Some(graph)) if cases.iter().all(of_nodes) => {
            let node = |case: &Case| if let Input::Node { node, .. } = case.input { Some(node) } else { None };
            let pass = graph.pass(network, &cases.iter().filter_map(node).collect::<Vec<_>>());
            let mut ops = Fixed::new(model.base(), adaptation).until(deadline);
            let logits = network.classify(&mut ops, &pass.features, &pass.hops, &pass.rows)?;
            let rows = logits.entries.chunks_exact(logits.features.max(1));
            let read = |(case, row): (&Case, &[i64])| wanted(&case.output, 0, 0).of(&logits.site, row);
            let readings = cases.iter().zip(rows).map(read).collect::<Result<_, _>>()?;
            replayed(cases, readings, ops)
        }
        _ => Err(fixed::Error::Kind),
    }
}

fn replayed(cases: &[Case], readings: Vec<Reading>, ops: Fixed<'_>) -> Result<Replayed, fixed::Error> {
    let mut readings = readings.into_iter();
    let outputs = cases.iter().map(|case| yielded(&case.output, &mut readings)).collect();
    Ok(Replayed { outputs, records: ops.into_records()? })
}

/// What a case wants of the row at a step of one of its sequences.
fn wanted(output: &Output, sequence: usize, step: usize) -> Read {
    match output {
        Output::Completion { .. } => Read::Greedy,
        Output::Logits(_) => Read::Logits,
        Output::LogProb { ids, .. } => Read::LogProb(ids[step]),
        Output::Preference { chosen, rejected } => Read::LogProb([chosen, rejected][sequence].ids[step]),
        Output::Choice { among, .. } => Read::Choice(among.clone()),
        Output::AtLeast { id, .. } => Read::LogProb(*id),
    }
}

/// The output with what was read in place of what was stated. Readings come as [`wanted`] asked for them.
fn yielded(stated: &Output, readings: &mut impl Iterator<Item = Reading>) -> Output {
    fn id(readings: &mut impl Iterator<Item = Reading>) -> u32 {
        match readings.next() {
            Some(Reading::Id(id)) => id,
            _ => unreachable!("an id was asked for"),
        }
    }
    fn log_prob(readings: &mut impl Iterator<Item = Reading>) -> i64 {
        match readings.next() {
            Some(Reading::LogProb(log_prob)) => log_prob,
            _ => unreachable!("a log-probability was asked for"),
        }
    }
    // At most 2^20 log-probabilities below 2^42.
    let mut sum = |ids: &[u32]| -> i64 { ids.iter().map(|_| log_prob(readings)).sum() };
    match stated.clone() {
        Output::LogProb { ids, .. } => Output::LogProb { log_prob: sum(&ids), ids },
        Output::Preference { chosen, rejected } => {
            let [chosen, rejected] = [chosen, rejected].map(|scored| Scored { log_prob: sum(&scored.ids), ..scored });
            Output::Preference { chosen, rejected }
        }
        Output::Completion { ids, max_tokens, stop_ids } => {
            Output::Completion { ids: ids.iter().map(|_| id(readings)).collect(), max_tokens, stop_ids }
        }
        Output::Logits(_) => match readings.next() {
            Some(Reading::Logits(values)) => Output::Logits(Logits::of(&values)),
            _ => unreachable!("logits were asked for"),
        },
        Output::Choice { among, .. } => Output::Choice { among, chosen: id(readings) },
        Output::AtLeast { id, bound, .. } => Output::AtLeast { id, bound, holds: log_prob(readings) >= bound },
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
    let compared = |case: &&Case| matches!(case.output, Output::Preference { .. });
    let cases: Vec<Case> = cases.iter().filter(compared).cloned().collect();
    if cases.is_empty() {
        return Ok(());
    }
    let mut alone = replay(model, Adaptation::Base, &cases, None, deadline)?.outputs.into_iter();
    for output in outputs {
        let Output::Preference { chosen, rejected } = output else { continue };
        if let Some(Output::Preference { chosen: base_chosen, rejected: base_rejected }) = alone.next() {
            chosen.base_log_prob = base_chosen.log_prob;
            rejected.base_log_prob = base_rejected.log_prob;
        }
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
            (Input::Tokens(input), Output::Completion { max_tokens, .. }) => input.len() + *max_tokens as usize,
            _ => content.sequences().iter().map(|sequence| sequence.ids.len()).max().unwrap_or(0),
        };
        if needed > context {
            return Err(CasesError::Context { case, needed, context });
        }
        if let Output::Completion { ids, .. } = &mut content.output {
            ids.clear();
        }
    }
    loop {
        for case in &mut cases {
            let (Input::Tokens(input), Output::Completion { ids, max_tokens, stop_ids }) =
                (&case.input, &mut case.output)
            else {
                continue;
            };
            let room = *max_tokens as usize - ids.len();
            let ended = room == 0 || ids.last().is_some_and(|id| stop_ids.contains(id));
            if !ended {
                let so_far = [input.as_slice(), ids].concat();
                ids.extend(propose(&so_far, room).map_err(CasesError::Propose)?);
            }
        }
        let Replayed { mut outputs, records } = replay(model, Adaptation::Factors(adapter), &cases, graph, None)?;
        let mut agreed = true;
        for (case, output) in cases.iter_mut().zip(&outputs) {
            let (Output::Completion { ids, .. }, Output::Completion { ids: exact, .. }) = (&mut case.output, output)
            else {
                continue;
            };
            if let Some(first) = exact.iter().zip(ids.iter()).position(|(exact, proposed)| exact != proposed) {
                ids.truncate(first);
                ids.push(exact[first]);
                agreed = false;
            }
        }
        if agreed {
            add_base(model, &mut outputs, &cases, None)?;
            let settled = cases.into_iter().zip(outputs).map(|(case, output)| Case { output, ..case });
            return Ok((settled.collect(), records));
        }
    }
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
    let proof = ftk_circuits::prove(key, statement, commitment, opening, factors, &rows, progress)?;
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
