//! Cases of a statement in exact integers: one pass of the base for all of them.

use ftk_circuits::SiteShape;
use ftk_networks::graphs::convolution;
use ftk_networks::graphs::opened::OpenedPart;
use ftk_networks::ops::Tokens;

use crate::deadline::Deadline;
use crate::fixed::{self, Adaptation, Fixed, SiteRecord};
use crate::inputs::Input;
use crate::model::{FixedModel, Net};
use crate::outputs::Output;
use crate::read::LogitsRow;
use crate::statement::{Case, Statement, asked};

/// What a pass over cases finds.
#[derive(Debug)]
pub struct Replayed {
    /// Of each case what the network yields: its output, with all that the network determines as the network has
    /// it. Of a completion that is the most likely id at each position that generated one.
    pub outputs: Vec<Output>,
    /// What every adapted site saw and added, in canonical order.
    pub records: Vec<SiteRecord>,
}

/// One pass over all cases, teacher-forced. What the base alone yields is taken from the cases as it stands. Cases of
/// nodes or pairs need the part of the graph or state that reaches them, checked for them and this base.
///
/// # Errors
/// Ids that the base has not, results out of range, [`fixed::PassError::Time`] after the deadline, inputs that are not of
/// the base's kind.
pub fn replay(
    model: &FixedModel,
    adaptation: Adaptation<'_>,
    cases: &[Case],
    graph: Option<&OpenedPart>,
    deadline: Deadline,
) -> Result<Replayed, fixed::PassError> {
    replay_looking(model, adaptation, cases, graph, deadline, &mut |_, _| ())
}

/// The same; `look` sees each output with the row of logits that it was read from.
pub(crate) fn replay_looking(
    model: &FixedModel,
    adaptation: Adaptation<'_>,
    cases: &[Case],
    graph: Option<&OpenedPart>,
    deadline: Deadline,
    look: &mut dyn FnMut(&Output, &[i64]),
) -> Result<Replayed, fixed::PassError> {
    let of_tokens = |case: &Case| matches!(case.input, Input::Tokens(_));
    let mut outputs: Vec<Output> = cases.iter().map(|case| case.output.clone()).collect();
    match (model.net(), asked(cases), graph) {
        (Net::Tokens(network), _, None) if cases.iter().all(of_tokens) => {
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
            let mut reader = |number: usize, row: LogitsRow<'_>| {
                let (case, sequence, step) = *reads.get(number).ok_or(fixed::PassError::Row(number))?;
                outputs[case].read(sequence, step, row)?;
                look(&outputs[case], row.logits);
                Ok(())
            };
            let mut ops = Fixed::reading(model.base(), adaptation, &mut reader).until(deadline);
            network.forward(&mut ops, &tokens, &rows)?;
            let records = ops.into_records()?;
            Ok(Replayed { outputs, records })
        }
        (Net::Graph(network), Some(asked), Some(graph)) => {
            let mut ops = Fixed::new(model.base(), adaptation).until(deadline);
            let logits = graph.run(network, &mut ops, &asked)?.ok_or(fixed::PassError::Kind)?;
            for (output, row) in outputs.iter_mut().zip(logits.entries.chunks_exact(logits.features.max(1))) {
                output.read(0, 0, LogitsRow { site: &logits.site, logits: row })?;
                look(output, row);
            }
            Ok(Replayed { outputs, records: ops.into_records()? })
        }
        _ => Err(fixed::PassError::Kind),
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
    deadline: Deadline,
) -> Result<(), fixed::PassError> {
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

/// The first case whose output is not what the network yields, and how it differs.
pub(crate) fn difference(cases: &[Case], yields: &[Output]) -> Option<(usize, String)> {
    let differences = cases.iter().zip(yields).map(|(case, yields)| case.output.difference(yields));
    differences.enumerate().find_map(|(case, difference)| difference.map(|difference| (case, difference)))
}

/// The site that sees the positions alone whose logits matter: every architecture calls it so.
const HEAD: &str = "lm_head";

/// Rows of each site of an adapter. A verifier counts them again in the replay.
pub fn rows_of(statement: &Statement, graph: Option<&OpenedPart>, shapes: &[SiteShape]) -> Vec<usize> {
    match graph {
        None => {
            let (all, read) = (statement.rows(), statement.head_rows());
            shapes.iter().map(|shape| if shape.name == HEAD { read } else { all }).collect()
        }
        Some(graph) => {
            // The rows of a convolution are who receives in it; a head sees the node of each case, a scorer the pair.
            let receivers = statement.asked().map_or_else(Vec::new, |asked| graph.receivers(&asked));
            let of = |layer: usize| receivers.get(layer.wrapping_sub(1)).copied().unwrap_or(0);
            shapes.iter().map(|shape| convolution(&shape.name).map_or(statement.cases.len(), of)).collect()
        }
    }
}
