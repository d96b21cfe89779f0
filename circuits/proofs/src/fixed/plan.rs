//! What a sealed proof is about, written down from the same networks: operations on tensors nobody is told.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use ftk_circuits::AdapterCommitment;
use ftk_circuits::fixed::gate::GateFunction;
use ftk_circuits::fixed::linear::Matrix;
use ftk_circuits::fixed::{attention, graph, words};
use ftk_circuits::sealed::{Bound, Builder, LogProbs, Ranking, SealedPlan, Tensor, TotalLogProb};
use ftk_networks::graphs::opened::OpenedPart;
use ftk_networks::ops::graph::Propagation;
use ftk_networks::ops::{Bias, Heads, Nodes, Ops, Rope, Segment, TableShape, Tokens};

use super::{Activations, FixedBase, PassError, PassLayout, fixed_eps, integers};
use crate::deadline::Deadline;
use crate::digested::Digested;
use crate::inputs::Input;
use crate::model::{FixedModel, Net};
use crate::outputs::{AtLeast, Likely, Logits, Output};
use crate::statement::{Case, asked};

/// The plan of a pass over cases that states their outputs, and the logits behind digests.
///
/// # Errors
/// As [`crate::replay`], [`PassError::Time`] among them; [`PassError::LogitsDigest`] of the first case whose digest is not that of
/// its logits.
pub fn plan(
    model: &FixedModel,
    commitment: &AdapterCommitment,
    (cases, digested): (&[Case], &Digested),
    graph: Option<&OpenedPart>,
    deadline: Deadline,
) -> Result<SealedPlan, PassError> {
    let of_tokens = |case: &Case| matches!(case.input, Input::Tokens(_));
    let mut planning = Planning::new(model.base(), commitment, deadline);
    let mut digested = digested.0.iter();
    match (model.net(), asked(cases), graph) {
        (Net::Tokens(network), _, None) if cases.iter().all(of_tokens) => {
            let (mut tokens, mut rows) = (Tokens::default(), Vec::new());
            for (at, case) in cases.iter().enumerate() {
                let sequences = case.sequences();
                let ids: Vec<&[u32]> = sequences.iter().map(|sequence| sequence.ids.as_slice()).collect();
                for (number, place) in tokens.push_alike(&ids).into_iter().enumerate() {
                    let sum = planning.sums.len();
                    planning.sums.extend(log_prob(&case.output, number));
                    for (step, position) in sequences[number].read.clone().enumerate() {
                        rows.push(place.row(position));
                        planning.stated.push(StatedRow::of((at, &case.output), [number, step], sum, &mut digested)?);
                    }
                }
            }
            network.forward(&mut planning, &tokens, &rows)?;
        }
        (Net::Graph(network), Some(asked), Some(graph)) => {
            for (at, case) in cases.iter().enumerate() {
                planning.stated.push(StatedRow::of((at, &case.output), [0, 0], 0, &mut digested)?);
            }
            let logits = graph.run(network, &mut planning, &asked)?.ok_or(PassError::Kind)?;
            // They are words of the network already: each is stated by itself.
            let own = identity(logits.tensor.width())?;
            planning.state("logits", &Arc::new(own), &logits.tensor)?;
        }
        _ => return Err(PassError::Kind),
    }
    // Of logits that no case has the digest of nothing is stated.
    if digested.next().is_some() { Err(PassError::LogitsDigest(cases.len())) } else { Ok(planning.builder.finish()?) }
}

/// Each input as an output.
fn identity(width: usize) -> Result<Matrix, PassError> {
    let weights = (0..width * width).map(|at| i16::from(at / width == at % width)).collect();
    Ok(Matrix::new("logits", width, weights, vec![0; width])?)
}

/// What is stated of the log-probability of one of an output's sequences as a whole.
fn log_prob(output: &Output, sequence: usize) -> Option<i64> {
    match output {
        Output::LogProb(output) => Some(output.log_prob),
        Output::Preference(output) => Some([&output.chosen, &output.rejected][sequence].log_prob),
        _ => None,
    }
}

/// What is stated of a row of logits.
#[derive(Clone, Debug, PartialEq, Eq)]
enum StatedRow {
    /// Which is the largest, of all or of those listed.
    Largest { among: Option<Vec<u32>>, id: u32 },
    /// What they are.
    Logits(Vec<i64>),
    /// An id whose log-probability is part of a sum.
    Summed { id: u32, sum: usize },
    /// Whether the log-probability of one is at least so much.
    Bounded(AtLeast),
    /// The likeliest.
    Likeliest(Vec<Likely>),
}

impl StatedRow {
    /// Of an output of a case at a step of one of its sequences; logits behind digests are taken as they come.
    fn of(
        (case, output): (usize, &Output),
        [sequence, step]: [usize; 2],
        sum: usize,
        digested: &mut std::slice::Iter<'_, Vec<i64>>,
    ) -> Result<Self, PassError> {
        let at_step = |ids: &[u32]| ids.get(step).copied().ok_or(PassError::Row(step));
        Ok(match output {
            Output::Completion(completion) => Self::Largest { among: None, id: at_step(&completion.ids)? },
            Output::Choice(choice) => Self::Largest { among: Some(choice.among.clone()), id: choice.chosen },
            Output::Logits(Logits::Values(values)) => Self::Logits(values.clone()),
            Output::Logits(stated @ Logits::Digest(_)) => {
                let values = digested.next().filter(|values| Logits::of(values) == *stated);
                Self::Logits(values.ok_or(PassError::LogitsDigest(case))?.clone())
            }
            Output::LogProb(output) => Self::Summed { id: at_step(&output.ids)?, sum },
            Output::Preference(output) => {
                Self::Summed { id: at_step(&[&output.chosen, &output.rejected][sequence].ids)?, sum }
            }
            Output::AtLeast(output) => Self::Bounded(output.clone()),
            Output::Top(top) => Self::Likeliest(top.likeliest.clone()),
        })
    }

    /// What rows are stated together by.
    fn kind(&self) -> StatedRows {
        match self {
            Self::Largest { among, .. } => StatedRows::Largest(among.clone()),
            Self::Logits(_) => StatedRows::Logits,
            Self::Summed { .. } | Self::Bounded(_) | Self::Likeliest(_) => StatedRows::LogProbs,
        }
    }

    fn logits(&self) -> &[i64] {
        if let Self::Logits(values) = self { values } else { &[] }
    }

    fn id(&self) -> Option<u32> {
        if let Self::Largest { id, .. } = self { Some(*id) } else { None }
    }
}

/// Rows that one operation states.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum StatedRows {
    Largest(Option<Vec<u32>>),
    Logits,
    LogProbs,
}

/// A tensor of the plan, and the site it comes from.
#[derive(Clone, Debug)]
pub(crate) struct PlannedTensor {
    tensor: Tensor,
    site: String,
}

/// The interpretation that writes a plan down.
struct Planning<'a> {
    base: &'a FixedBase,
    builder: Builder,
    place: PassLayout,
    sees: Arc<[bool]>,
    deadline: Deadline,
    /// Of each row of logits.
    stated: Vec<StatedRow>,
    /// What log-probabilities of rows add up to.
    sums: Vec<i64>,
}

impl<'a> Planning<'a> {
    fn new(base: &'a FixedBase, commitment: &AdapterCommitment, deadline: Deadline) -> Self {
        Self {
            base,
            builder: Builder::new(commitment),
            place: PassLayout::default(),
            sees: Arc::new([]),
            deadline,
            stated: Vec::new(),
            sums: Vec::new(),
        }
    }

    fn public(&mut self, known: Activations) -> PlannedTensor {
        let space = self.builder.space(known.rows);
        let tensor = self.builder.public(space, known.features, known.entries);
        PlannedTensor { tensor, site: known.site }
    }

    fn in_time(&self) -> Result<(), PassError> {
        if self.deadline.is_past() { Err(PassError::Time) } else { Ok(()) }
    }

    fn matrix(&self, site: &str, bias: Bias) -> Result<Arc<Matrix>, PassError> {
        self.in_time()?;
        self.base.biased(site, site, bias).cloned()
    }

    /// States what is said of the outputs of a linear site, one row for each.
    fn state(&mut self, site: &str, matrix: &Arc<Matrix>, x: &Tensor) -> Result<(), PassError> {
        let rows = self.builder.rows_of(x);
        if rows != self.stated.len() {
            return Err(PassError::Stated { rows, stated: self.stated.len() });
        }
        let mut together: BTreeMap<StatedRows, Vec<usize>> = BTreeMap::new();
        for (row, stated) in self.stated.iter().enumerate() {
            together.entry(stated.kind()).or_default().push(row);
        }
        for (kind, own) in together {
            self.in_time()?;
            let x = if own.len() == rows { x.clone() } else { self.builder.select(site, x, &own)? };
            match kind {
                StatedRows::Logits => {
                    let values: Vec<&[i64]> = own.iter().map(|row| self.stated[*row].logits()).collect();
                    self.builder.outputs(site, matrix.clone(), &x, &values)?;
                }
                StatedRows::Largest(among) => {
                    let ids = own.iter().filter_map(|row| self.stated[*row].id());
                    let stated: Vec<usize> = match &among {
                        None => ids.map(|id| id as usize).collect(),
                        Some(among) => {
                            // They ascend: if one is none of the outputs, the last is not.
                            if let Some(last) = among.last().filter(|last| **last as usize >= matrix.d_out()) {
                                return Err(PassError::Token(*last));
                            }
                            let place = |id: u32| among.binary_search(&id).map_err(|_| PassError::Token(id));
                            ids.map(place).collect::<Result<_, _>>()?
                        }
                    };
                    self.builder.largest(site, matrix.clone(), among.as_deref(), &x, stated)?;
                }
                StatedRows::LogProbs => {
                    let log_probs = self.builder.log_probs(site, matrix.clone(), &x)?;
                    self.state_log_probs(site, &log_probs, &own)?;
                }
            }
        }
        Ok(())
    }

    /// States what is said of log-probabilities of rows, which have these numbers among all of the head's.
    fn state_log_probs(&mut self, site: &str, log_probs: &LogProbs, own: &[usize]) -> Result<(), PassError> {
        let mut sums: BTreeMap<usize, Vec<(usize, usize)>> = BTreeMap::new();
        let (mut bounds, mut rankings) = (Vec::new(), Vec::new());
        for (row, number) in own.iter().enumerate() {
            match &self.stated[*number] {
                StatedRow::Summed { id, sum } => sums.entry(*sum).or_default().push((row, *id as usize)),
                StatedRow::Bounded(AtLeast { id, bound, holds }) => {
                    bounds.push(Bound { row, output: *id as usize, bound: *bound, holds: *holds });
                }
                StatedRow::Likeliest(likeliest) => {
                    let likeliest = likeliest.iter().map(|likely| (likely.id as usize, likely.log_prob)).collect();
                    rankings.push(Ranking { row, likeliest });
                }
                StatedRow::Largest { .. } | StatedRow::Logits(_) => {}
            }
        }
        let together = |(sum, of): (usize, Vec<(usize, usize)>)| TotalLogProb { of, log_prob: self.sums[sum] };
        let sums: Vec<TotalLogProb> = sums.into_iter().map(together).collect();
        if !sums.is_empty() {
            self.builder.add_up(site, log_probs, sums)?;
        }
        if !bounds.is_empty() {
            self.builder.at_least(site, log_probs, bounds)?;
        }
        if !rankings.is_empty() {
            self.builder.likeliest(site, log_probs, rankings)?;
        }
        Ok(())
    }
}

impl Ops for Planning<'_> {
    type Value = PlannedTensor;
    type Error = PassError;

    fn embed(&mut self, site: &str, _: TableShape, tokens: &Tokens) -> Result<PlannedTensor, PassError> {
        self.place = PassLayout::of(tokens);
        let count = tokens.ids().len();
        let mut sees = vec![false; count * count];
        for Segment { tokens, after } in &self.place.segments {
            for row in tokens.clone() {
                self.in_time()?;
                for seen in after.clone().chain(tokens.start..=row) {
                    sees[row * count + seen] = true;
                }
            }
        }
        self.sees = sees.into();
        let entries = self.base.embedded(site, tokens.ids())?;
        Ok(self.public(Activations::new(site, count, entries)))
    }

    fn add_positions(&mut self, site: &str, _: usize, x: &PlannedTensor) -> Result<PlannedTensor, PassError> {
        let entries = self.base.positioned(site, &self.place.positions)?;
        let known = self.public(Activations::new(site, self.place.positions.len(), entries));
        self.add(x, &known)
    }

    fn linear(&mut self, site: &str, _: usize, bias: Bias, x: &PlannedTensor) -> Result<PlannedTensor, PassError> {
        let matrix = self.matrix(site, bias)?;
        Ok(planned(site, self.builder.project(site, matrix, &x.tensor)?))
    }

    fn linear_rope(
        &mut self,
        site: &str,
        _: usize,
        bias: Bias,
        x: &PlannedTensor,
        rope: &Rope,
    ) -> Result<PlannedTensor, PassError> {
        let (matrix, rotations) = (self.matrix(site, bias)?, self.place.rotations(site, rope)?);
        Ok(planned(site, self.builder.project_rotated(site, matrix, &x.tensor, rotations)?))
    }

    fn rms_norm(&mut self, site: &str, x: &PlannedTensor, eps: f64) -> Result<PlannedTensor, PassError> {
        let norm = self.base.norm(site)?.clone();
        Ok(planned(site, self.builder.rms_norm(site, norm, fixed_eps(site, eps)?, &x.tensor)?))
    }

    fn norm_rope(&mut self, site: &str, x: &PlannedTensor, eps: f64, rope: &Rope) -> Result<PlannedTensor, PassError> {
        let (norm, rotations) = (self.base.norm(site)?.clone(), self.place.rotations(site, rope)?);
        Ok(planned(site, self.builder.norm_rotated(site, norm, fixed_eps(site, eps)?, &x.tensor, rotations)?))
    }

    fn layer_norm(&mut self, site: &str, x: &PlannedTensor, eps: f64) -> Result<PlannedTensor, PassError> {
        let norm = self.base.norm(site)?.clone();
        Ok(planned(site, self.builder.layer_norm(site, norm, fixed_eps(site, eps)?, &x.tensor)?))
    }

    fn part(&mut self, x: &PlannedTensor, features: Range<usize>) -> Result<PlannedTensor, PassError> {
        Ok(planned(&x.site, self.builder.part(&x.site, &x.tensor, features)?))
    }

    fn rope(&mut self, x: &PlannedTensor, rope: &Rope) -> Result<PlannedTensor, PassError> {
        let rotations = self.place.rotations(&x.site, rope)?;
        Ok(planned(&x.site, self.builder.rotate(&x.site, &x.tensor, rotations)?))
    }

    fn attention(
        &mut self,
        site: &str,
        q: &PlannedTensor,
        k: &PlannedTensor,
        v: &PlannedTensor,
        heads: Heads,
        window: Option<usize>,
    ) -> Result<PlannedTensor, PassError> {
        // Who sees whom goes into the plan's digest, each time.
        self.in_time()?;
        self.place.within(site, window)?;
        let heads = attention::HeadCounts { query: heads.query, key_value: heads.key_value, dim: heads.dim };
        let tensors = [&q.tensor, &k.tensor, &v.tensor];
        Ok(planned(site, self.builder.attention(site, heads, self.sees.clone(), tensors)?))
    }

    fn swiglu(&mut self, gate: &PlannedTensor, up: &PlannedTensor) -> Result<PlannedTensor, PassError> {
        Ok(planned(&gate.site, self.builder.gate(&gate.site, GateFunction::Silu, &gate.tensor, &up.tensor)?))
    }

    fn geglu(&mut self, gate: &PlannedTensor, up: &PlannedTensor) -> Result<PlannedTensor, PassError> {
        Ok(planned(&gate.site, self.builder.gate(&gate.site, GateFunction::Gelu, &gate.tensor, &up.tensor)?))
    }

    fn gelu(&mut self, x: &PlannedTensor) -> Result<PlannedTensor, PassError> {
        Ok(planned(&x.site, self.builder.gelu(&x.site, &x.tensor)?))
    }

    fn add(&mut self, x: &PlannedTensor, y: &PlannedTensor) -> Result<PlannedTensor, PassError> {
        Ok(planned(&y.site, self.builder.sum(&y.site, &x.tensor, &y.tensor)?))
    }

    fn select(&mut self, x: &PlannedTensor, rows: &[usize]) -> Result<PlannedTensor, PassError> {
        Ok(planned(&x.site, self.builder.select(&x.site, &x.tensor, rows)?))
    }

    fn convolve(
        &mut self,
        site: &str,
        _: usize,
        bias: Bias,
        x: Nodes<'_, PlannedTensor>,
        over: &Arc<Propagation>,
    ) -> Result<PlannedTensor, PassError> {
        let coefficients = over.coefficients();
        let over = graph::SparseRows {
            starts: coefficients.starts(),
            senders: coefficients.columns(),
            coefficients: coefficients.values(),
        };
        let gathered = match x {
            Nodes::Value(x) => self.builder.aggregate(site, &x.tensor, over)?,
            // Sums of what everybody knows are known.
            Nodes::Features(features) => {
                let given = integers(site, features)?;
                let sums = graph::aggregate(site, over, &words(site, &given.entries)?, given.features)?;
                self.public(Activations::new(site, coefficients.rows(), sums)).tensor
            }
        };
        let matrix = self.matrix(site, bias)?;
        Ok(planned(site, self.builder.project(site, matrix, &gathered)?))
    }

    fn attend_neighbours(
        &mut self,
        site: &str,
        _: &PlannedTensor,
        _: usize,
        _: &Arc<Propagation>,
    ) -> Result<PlannedTensor, PassError> {
        Err(PassError::Neighbours(site.to_owned()))
    }

    fn relu(&mut self, x: &PlannedTensor) -> Result<PlannedTensor, PassError> {
        Ok(planned(&x.site, self.builder.relu(&x.tensor)))
    }

    fn dropout(&mut self, x: &PlannedTensor) -> Result<PlannedTensor, PassError> {
        Ok(x.clone())
    }

    /// Logits are stated and not made: the result has the head's input in their place, and nothing may follow it.
    fn head(&mut self, site: &str, weight: &str, _: usize, x: &PlannedTensor) -> Result<PlannedTensor, PassError> {
        let matrix = self.base.matrix(weight)?.clone();
        self.state(site, &matrix, &x.tensor)?;
        Ok(x.clone())
    }
}

fn planned(site: &str, tensor: Tensor) -> PlannedTensor {
    PlannedTensor { tensor, site: site.to_owned() }
}
