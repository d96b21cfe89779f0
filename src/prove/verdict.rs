//! Judging a bundle.

use std::collections::{BTreeMap, BTreeSet};

use ftk_circuits::{
    CheckFailed, CommitmentKey, Digest, KeyError, Output, SiteRows, Statement, verify, verify_registration,
};

use super::FixedModel;
use super::bundle::Bundle;
use super::completion::replay;
use super::fixed::{self, Adaptation, SiteDeltas};

/// The check that refused a bundle.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// A file is missing or not what its format allows.
    #[error("{file}: {reason}")]
    Malformed {
        /// The file.
        file: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// Another version of the protocol.
    #[error("protocol version: {0}")]
    Protocol(u32),
    /// The statement is about another base.
    #[error("base: the statement is about {0}")]
    Base(Digest),
    /// The adapter is not the expected one.
    #[error("expected adapter: the statement is about {0}")]
    Adapter(Digest),
    /// The input is not the expected one.
    #[error("expected input: the statement is about another prompt")]
    Input,
    /// The context is not the expected one.
    #[error("expected context: the statement is bound to another")]
    Context,
    /// Generation ends by another rule than the base's.
    #[error("stop rule: the stop ids are not the base's")]
    StopRule,
    /// More positions than the base has.
    #[error("length: {0} positions are more than the base has")]
    Length(usize),
    /// The exact forward pass cannot be computed with these deltas.
    #[error("replay: {0}")]
    Replay(#[from] fixed::Error),
    /// The exact forward pass yields another output.
    #[error("output: position {position} yields {yields}, not {stated}")]
    Output {
        /// Position in the completion.
        position: usize,
        /// Id the replay yields.
        yields: u32,
        /// Id the statement claims.
        stated: u32,
    },
    /// A check of the proof system.
    #[error(transparent)]
    Check(#[from] CheckFailed),
}

impl Refusal {
    /// The name of the check: the first words of the message.
    pub fn check(&self) -> String {
        let message = self.to_string();
        message.split(": ").next().unwrap_or(&message).to_owned()
    }
}

/// What the verifier brought along.
#[derive(Clone, Debug, Default)]
pub struct Expectations {
    /// The adapter's commitment digest.
    pub adapter: Option<Digest>,
    /// The input.
    pub input: ExpectedInput,
    /// The context.
    pub context: Option<Vec<u8>>,
}

/// What the verifier knows of the input.
#[derive(Clone, Debug, Default)]
pub enum ExpectedInput {
    /// Nothing.
    #[default]
    Unknown,
    /// Any will do.
    Any,
    /// These ids.
    Ids(Vec<u32>),
}

/// A bundle that passed every check there was to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The committed adapter, which is the expected one, yields the output on the expected input.
    Valid,
    /// Nothing was found wrong, but without this the claim says little.
    Consistent(Missing),
}

/// What keeps a consistent bundle from being valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// No expected adapter.
    Adapter,
    /// No expected input.
    Input,
    /// No registration came with the bundle.
    Registration,
}

/// Judges a bundle against a base and expectations. `key` derives the commitment key of a size.
///
/// # Errors
/// The first check that fails.
pub fn judge(
    model: &FixedModel,
    stop_ids: &BTreeSet<u32>,
    bundle: &Bundle,
    expectations: &Expectations,
    key: impl FnOnce(u32) -> Result<CommitmentKey, KeyError>,
) -> Result<Verdict, Refusal> {
    let Bundle { statement, commitment, deltas, proof, registration } = bundle;
    if statement.base != model.digest() {
        return Err(Refusal::Base(statement.base));
    }
    expected(statement, expectations)?;
    let Output::Completion { ids, stop_ids: stated_stops, .. } = &statement.output;
    if !stated_stops.iter().eq(stop_ids) {
        return Err(Refusal::StopRule);
    }
    if statement.rows() + 1 > model.network().context() {
        return Err(Refusal::Length(statement.rows() + 1));
    }
    commitment.fits(model.sites())?;

    let given: BTreeMap<String, SiteDeltas> = commitment
        .shapes()
        .iter()
        .zip(deltas)
        .map(|(shape, deltas)| {
            let shift = u32::from(shape.shift_a) + u32::from(shape.shift_b);
            (shape.name.clone(), SiteDeltas { rank: shape.rank as usize, shift, deltas: deltas.clone() })
        })
        .collect();
    let (yields, records) = replay(model, Adaptation::Deltas(&given), &statement.input, ids)?;
    if let Some(position) = (0..ids.len()).find(|&position| yields.get(position) != Some(&ids[position])) {
        let yields = yields.get(position).copied().unwrap_or_default();
        return Err(Refusal::Output { position, yields, stated: ids[position] });
    }
    let rows: Vec<SiteRows> = records
        .into_iter()
        .zip(deltas)
        .map(|(record, deltas)| SiteRows {
            rows: statement.rows(),
            inputs: record.inputs.into_iter().map(i64::from).collect(),
            deltas: deltas.clone(),
        })
        .collect();
    let key = key(commitment.k()).map_err(CheckFailed::KeyBytes)?;
    verify(&key, statement, commitment, &rows, proof)?;
    match registration {
        Some(registration) => verify_registration(&key, commitment, registration)?,
        None => return Ok(Verdict::Consistent(Missing::Registration)),
    }
    Ok(match (&expectations.adapter, &expectations.input) {
        (None, _) => Verdict::Consistent(Missing::Adapter),
        (Some(_), ExpectedInput::Unknown) => Verdict::Consistent(Missing::Input),
        (Some(_), ExpectedInput::Any | ExpectedInput::Ids(_)) => Verdict::Valid,
    })
}

fn expected(statement: &Statement, expectations: &Expectations) -> Result<(), Refusal> {
    let Expectations { adapter, input, context } = expectations;
    if adapter.is_some_and(|adapter| adapter != statement.adapter) {
        return Err(Refusal::Adapter(statement.adapter));
    }
    if matches!(input, ExpectedInput::Ids(ids) if *ids != statement.input) {
        return Err(Refusal::Input);
    }
    if context.as_ref().is_some_and(|context| *context != statement.context) {
        return Err(Refusal::Context);
    }
    Ok(())
}
