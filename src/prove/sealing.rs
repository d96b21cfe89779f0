//! What a sealed proof is of and takes, whether its answers are known yet or not.

use ftk_adapters::lora::Adapter;
use ftk_circuits::sealed::{SealedPlan, Work};
use ftk_circuits::{AdapterCommitment, SiteShape};
use ftk_networks::graphs::opened::OpenedPart;
use ftk_proofs::digested::{Digested, DigestedError, digests, may_be_sent};
use ftk_proofs::{Case, Deadline, FixedModel, Net, plan};

use super::cost::{BaseCost, SealedCosts};
use super::fixed::of_adapter;

/// How long answers are supposed to be that are not known yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// One id.
    Shortest,
    /// As many ids as they may have.
    Longest,
}

/// Cases with answers, and the logits whose digests are among them.
#[derive(Clone, Debug)]
pub struct Answered {
    /// The cases.
    pub cases: Vec<Case>,
    /// The logits.
    pub digested: Digested,
}

impl Answered {
    /// Cases with some answer of so many ids: which it is does not matter to what is counted.
    ///
    /// # Errors
    /// More logits than a bundle may have.
    pub fn supposed(cases: &[Case], net: &Net, length: Length) -> Result<Self, DigestedError> {
        let outputs = match net {
            Net::Tokens(network) => network.vocab(),
            Net::Graph(network) => network.outputs(),
        };
        let ids = if length == Length::Shortest { 1 } else { usize::MAX };
        let supposed = |Case { input, output }: &Case| Case {
            input: input.clone(),
            output: output.clone().supposed(ids, outputs),
        };
        let cases: Vec<Case> = cases.iter().map(supposed).collect();
        may_be_sent(digests(&cases), outputs)?;
        let digested = Digested(vec![vec![0; outputs]; digests(&cases)]);
        Ok(Self { cases, digested })
    }

    /// What is proved of them, and what the proof takes.
    ///
    /// # Errors
    /// As [`plan`].
    pub fn plan(
        &self,
        model: &FixedModel,
        commitment: &AdapterCommitment,
        graph: Option<&OpenedPart>,
    ) -> anyhow::Result<(SealedPlan, SealedCosts)> {
        let stated = (self.cases.as_slice(), &self.digested);
        let plan = plan(model, commitment, stated, graph, Deadline::NONE)?;
        let work = Work::of(&plan, commitment)?;
        let (base, rows) = (BaseCost::of(model.net()), rows_of_pass(&self.cases, graph, |case| case.rows() as u64));
        let costs = SealedCosts::of(base, commitment.shapes(), rows, &work, self.digested.count())?;
        Ok((plan, costs))
    }
}

/// Most rows that a network runs on: nodes that are opened, users of pairs, or tokens of all cases, of which each has so
/// many.
pub fn rows_of_pass(cases: &[Case], graph: Option<&OpenedPart>, rows: impl Fn(&Case) -> u64) -> u64 {
    graph.map_or_else(|| cases.iter().map(rows).sum(), |graph| graph.most_rows(cases.len())[0] as u64)
}

/// What the sites of an adapter look like once it is committed to, scales included. Where B is nothing yet, they are those of
/// an adapter as it is mostly committed to.
///
/// # Errors
/// Factors that have no place on the grid.
pub fn shapes(model: &FixedModel, adapter: &Adapter) -> anyhow::Result<Vec<SiteShape>> {
    let mut shapes: Vec<SiteShape> =
        model.factors(&of_adapter(&adapter.on_grid()?)?).into_iter().map(|site| site.shape).collect();
    for shape in &mut shapes {
        if adapter.sites.get(&shape.name).is_some_and(|factors| factors.b.iter().all(|entry| *entry == 0.0)) {
            (shape.shift_a, shape.shift_b) = USUAL_SHIFTS;
        }
    }
    Ok(shapes)
}

/// Fractional bits of A and of B that have together what is rounded away in two limbs.
const USUAL_SHIFTS: (u8, u8) = (16, 16);
