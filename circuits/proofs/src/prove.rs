//! Answers to questions, and their proof.

use ftk_circuits::sealed::{self, SealedPlan};
use ftk_circuits::{AdapterCommitment, CommitmentKey, DeltaProof, Opening, SiteFactors, SiteRows};
use ftk_networks::graphs::opened::OpenedPart;

use crate::deadline::Deadline;
use crate::digested::Digested;
use crate::fixed::{self, Adaptation, FixedAdapter, SiteRecord};
use crate::inputs::Input;
use crate::model::FixedModel;
use crate::outputs::Output;
use crate::replay::{Replayed, add_base, replay_looking};
use crate::statement::{Case, Statement, StatementError};

/// Why there is no proposal.
pub type Unable = Box<dyn std::error::Error + Send + Sync>;

/// Why cases could not be computed.
#[derive(Debug, thiserror::Error)]
pub enum CasesError {
    /// Exact arithmetic.
    #[error(transparent)]
    Fixed(#[from] fixed::PassError),
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
    Propose(Unable),
}

/// Computes the outputs of cases, whatever was in them: questions in, answers out, with the records of the pass.
///
/// `propose` continues ids by up to so many cheaply (in floating point), by one at least; its proposal is kept as far
/// as exact arithmetic agrees, so the result does not depend on it. `digested`, where it is given, becomes the logits whose
/// digests are among the answers.
///
/// # Errors
/// See [`CasesError`].
pub fn answer(
    model: &FixedModel,
    adapter: &FixedAdapter,
    mut cases: Vec<Case>,
    graph: Option<&OpenedPart>,
    mut digested: Option<&mut Digested>,
    mut propose: impl FnMut(&[u32], usize) -> Result<Vec<u32>, Unable>,
) -> Result<(Vec<Case>, Vec<SiteRecord>), CasesError> {
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
            let left = completion.left();
            if left > 0 {
                let so_far = [input.as_slice(), &completion.ids].concat();
                completion.ids.extend(propose(&so_far, left).map_err(CasesError::Propose)?);
            }
        }
        if let Some(digested) = &mut digested {
            digested.0.clear();
        }
        let mut look = |output: &Output, logits: &[i64]| {
            if let Some(digested) = &mut digested {
                digested.look(output, logits);
            }
        };
        let adaptation = Adaptation::Factors(adapter);
        let Replayed { mut outputs, records } =
            replay_looking(model, adaptation, &cases, graph, Deadline::NONE, &mut look)?;
        let mut agreed = true;
        for (case, output) in cases.iter_mut().zip(&outputs) {
            if let (Output::Completion(proposed), Output::Completion(exact)) = (&mut case.output, output) {
                agreed &= proposed.agrees(exact);
            }
        }
        if agreed {
            add_base(model, &mut outputs, &cases, Deadline::NONE)?;
            let answered = cases.into_iter().zip(outputs).map(|(case, output)| Case { output, ..case });
            return Ok((answered.collect(), records));
        }
    }
}

/// Why a statement could not be proved.
#[derive(Debug, thiserror::Error)]
pub enum StatementProveError {
    /// It contradicts itself.
    #[error("nothing to prove: statement: {0}")]
    Statement(#[from] StatementError),
    /// The proof could not be made.
    #[error(transparent)]
    Proof(#[from] ftk_circuits::ProveError),
    /// The sealed proof could not be made.
    #[error(transparent)]
    Seal(#[from] sealed::SealError),
}

/// Proves a statement about answered cases. Returns the exact deltas, which become public, and the proof.
///
/// # Errors
/// [`StatementProveError`].
pub fn prove(
    key: &CommitmentKey,
    statement: &Statement,
    (commitment, opening, factors): (&AdapterCommitment, &Opening, &[SiteFactors]),
    records: Vec<SiteRecord>,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<(Vec<Vec<i128>>, DeltaProof), StatementProveError> {
    let rows: Vec<SiteRows> = factors.iter().zip(records).map(site_rows).collect();
    statement.check()?;
    let proof = ftk_circuits::prove(key, &statement.bytes(), commitment, opening, factors, &rows, progress)?;
    Ok((rows.into_iter().map(|rows| rows.deltas).collect(), proof))
}

/// Seals a statement about answered cases, of which [`crate::plan`] made the plan.
///
/// # Errors
/// [`StatementProveError`].
pub fn seal(
    key: &CommitmentKey,
    statement: &Statement,
    (commitment, opening, factors): (&AdapterCommitment, &Opening, &[SiteFactors]),
    plan: &SealedPlan,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Vec<u8>, StatementProveError> {
    statement.check()?;
    Ok(sealed::seal(key, &statement.bytes(), commitment, opening, factors, plan, progress)?)
}

fn site_rows((site, record): (&SiteFactors, SiteRecord)) -> SiteRows {
    let rows = record.inputs.len() / site.shape.d_in as usize;
    SiteRows { rows, inputs: record.inputs.into_iter().map(i64::from).collect(), deltas: record.deltas }
}
