//! Judging a bundle.

use ftk_circuits::{CheckFailed, Digest};
use ftk_networks::graphs::opened::OpenedPart;

use crate::bundle::PackedBundle;
use crate::inputs::Input;
use crate::model::{FixedModel, Net};
use crate::outputs::{Kind, Output};
use crate::refusal::Refusal;
use crate::statement::{Case, Statement};

/// What no proof here says.
pub const NOT_PROVED: &str = "not proved: how the adapter was trained, on what, or that it is any good";

/// What the verifier brought along.
#[derive(Clone, Debug, Default)]
pub struct Expectations {
    /// The adapter's commitment digest.
    pub adapter: Option<Digest>,
    /// The root of the training transcript that the commitment names.
    pub transcript: Option<Digest>,
    /// The root of the graph that nodes are of, or of the state that pairs are of.
    pub graph: Option<Digest>,
    /// The input.
    pub input: ExpectedInput,
    /// What was to be stated of every input; where the verifier does not say, the prover has chosen.
    pub task: Option<Kind>,
    /// Most tokens of a completion; of an input that leaves room for fewer, as many as the base has positions left.
    pub max_tokens: Option<u32>,
    /// The context.
    pub context: Option<Vec<u8>>,
}

/// What the verifier knows of the inputs.
#[derive(Clone, Debug, Default)]
pub enum ExpectedInput {
    /// Nothing.
    #[default]
    Unknown,
    /// Any will do.
    Any,
    /// These, in this order, whatever is asked about them.
    Inputs(Vec<Input>),
    /// These cases, but for their answers ([`Case::question`]).
    Questions(Vec<Case>),
}

/// A bundle that passed every check there was to make: the committed adapter yields the outputs on the inputs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What was not expected, and so may be other than the verifier thinks.
    pub missing: Vec<Missing>,
}

/// Something a verifier could have brought along, or a prover could have sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// No expected adapter.
    Adapter,
    /// No expected graph, where the statement is about nodes of one, or about pairs of a state.
    Graph,
    /// No expected input.
    Input,
    /// The input was expected, but not what is asked about it.
    Question,
    /// No expected task: the prover chose what to state.
    Task,
    /// No expected length: the prover chose how many tokens an answer may have.
    MaxTokens,
    /// No registration came with the bundle.
    Registration,
    /// The statement is bound to a context, and none was expected.
    Context,
}

impl Missing {
    /// Whether a bundle is no more than consistent without it.
    pub fn decides(self) -> bool {
        !matches!(self, Self::Context | Self::Task | Self::MaxTokens)
    }
}

impl Verdict {
    /// Whether the answer is yes, rather than that nothing was found wrong.
    pub fn is_valid(&self) -> bool {
        !self.missing.iter().any(|missing| missing.decides())
    }
}

/// Everything that needs neither the deltas nor a proof.
///
/// # Errors
/// The first check that fails.
pub(crate) fn expected(
    model: &FixedModel,
    PackedBundle { statement, commitment, graph, .. }: &PackedBundle,
    expectations: &Expectations,
) -> Result<(), Refusal> {
    // Whoever has it in memory may have changed it since it was read.
    statement.check()?;
    if statement.base != model.digest() {
        return Err(Refusal::Base { stated: statement.base, own: model.digest() });
    }
    as_expected(statement, expectations, model.net().context())?;
    // Both are looked at again beside the proof, which they are part of.
    if statement.base != commitment.base() {
        return Err(CheckFailed::Base(commitment.base()).into());
    }
    let adapter = commitment.digest();
    if statement.adapter != adapter {
        return Err(CheckFailed::Adapter(adapter).into());
    }
    // The adapter's digest is of the root, too.
    if expectations.transcript.is_some() && expectations.transcript != commitment.transcript() {
        return Err(Refusal::Transcript(commitment.transcript()));
    }
    for (index, case) in statement.cases.iter().enumerate() {
        if matches!(&case.output, Output::Completion(stated) if !stated.stop_ids.iter().eq(model.stop_ids())) {
            return Err(Refusal::StopRule(index));
        }
        if case.sequences().iter().any(|sequence| sequence.ids.len() > model.net().context()) {
            return Err(Refusal::Length(index));
        }
    }
    let (stated, taken) = (graph.as_ref().map_or("tokens", OpenedPart::kind), model.net().takes());
    if stated != taken {
        return Err(Refusal::Kind { stated, taken });
    }
    if let (Net::Graph(network), Some(graph)) = (model.net(), graph) {
        graph.fits(network)?;
    }
    Ok(commitment.fits(model.sites())?)
}

/// The verdict on a bundle that no check refused.
pub(crate) fn undoubted(statement: &Statement, expectations: &Expectations, registered: bool) -> Verdict {
    Verdict { missing: missing(statement, expectations, registered) }
}

fn as_expected(statement: &Statement, expectations: &Expectations, positions: usize) -> Result<(), Refusal> {
    let Expectations { adapter, transcript: _, graph, input, task, max_tokens, context } = expectations;
    if adapter.is_some_and(|adapter| adapter != statement.adapter) {
        return Err(Refusal::Adapter(statement.adapter));
    }
    if graph.is_some() && *graph != statement.graph() {
        return Err(Refusal::Graph(statement.graph()));
    }
    if let Some(case) = task.and_then(|task| statement.cases.iter().position(|case| case.output.kind() != task)) {
        return Err(Refusal::Task(case));
    }
    if let Some(expected) = max_tokens {
        has_room(statement, *expected, positions)?;
    }
    let cases = &statement.cases;
    let inputs: Option<Vec<&Input>> = match input {
        ExpectedInput::Inputs(inputs) => Some(inputs.iter().collect()),
        ExpectedInput::Questions(questions) => Some(questions.iter().map(|case| &case.input).collect()),
        ExpectedInput::Unknown | ExpectedInput::Any => None,
    };
    if let Some(inputs) = inputs {
        if inputs.len() != cases.len() {
            return Err(Refusal::Cases { stated: cases.len(), expected: inputs.len() });
        }
        if let Some(index) = inputs.iter().zip(cases).position(|(input, case)| **input != case.input) {
            return Err(Refusal::Input(index));
        }
    }
    if let ExpectedInput::Questions(questions) = input
        && let Some(index) = questions.iter().zip(cases).position(|(ours, theirs)| ours.question() != theirs.question())
    {
        return Err(Refusal::Question(index));
    }
    if let ExpectedInput::Questions(_) = input
        && let Some(index) = cases.iter().position(|case| !case.output.is_yes())
    {
        return Err(Refusal::Answer(index));
    }
    if context.as_ref().is_some_and(|context| *context != statement.context) {
        return Err(Refusal::Context);
    }
    Ok(())
}

/// Refuses completions of another length than was asked for; `positions` is how many the base has.
fn has_room(statement: &Statement, expected: u32, positions: usize) -> Result<(), Refusal> {
    for (case, Case { input, output }) in statement.cases.iter().enumerate() {
        let Output::Completion(completion) = output else { continue };
        let left = positions.saturating_sub(input.tokens().len());
        let (stated, expected) = (completion.max_tokens, expected.min(u32::try_from(left).unwrap_or(u32::MAX)));
        if stated != expected {
            return Err(Refusal::MaxTokens { case, stated, expected });
        }
    }
    Ok(())
}

fn missing(statement: &Statement, expectations: &Expectations, registered: bool) -> Vec<Missing> {
    let asks_more = |case: &Case| case.output.asks_more();
    let input = match &expectations.input {
        ExpectedInput::Unknown => Some(Missing::Input),
        ExpectedInput::Inputs(_) if statement.cases.iter().any(asks_more) => Some(Missing::Question),
        _ => None,
    };
    let graph = (statement.graph().is_some() && expectations.graph.is_none()).then_some(Missing::Graph);
    let registration = (!registered).then_some(Missing::Registration);
    let adapter = expectations.adapter.is_none().then_some(Missing::Adapter);
    let context = (expectations.context.is_none() && !statement.context.is_empty()).then_some(Missing::Context);
    let completes = |case: &Case| case.output.kind() == Kind::Completion;
    let task = expectations.task.is_none().then_some(Missing::Task);
    let length = expectations.max_tokens.is_none() && statement.cases.iter().any(completes);
    let length = length.then_some(Missing::MaxTokens);
    [registration, adapter, graph, input, task, length, context].into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use crate::outputs::{Completion, LogProb};

    use super::*;

    #[test]
    fn an_answer_has_the_room_that_was_asked_for_or_is_left() {
        let asked = |max_tokens| Expectations { task: Some(Kind::Completion), max_tokens, ..Expectations::default() };
        let completion = |max_tokens: u32| {
            let output = Completion { ids: vec![7], max_tokens, stop_ids: vec![7] }.into();
            Case { input: Input::Tokens(vec![5; 20]), output }
        };
        let statement =
            |cases| Statement { base: Digest([0; 32]), adapter: Digest([0; 32]), context: Vec::new(), cases };
        let check = |expected: u32, positions: usize, stated: &[u32]| {
            let statement = statement(stated.iter().copied().map(completion).collect());
            let checked = as_expected(&statement, &asked(Some(expected)), positions);
            checked.map_err(|refusal| refusal.to_string())
        };
        assert_eq!(check(6, 100, &[6, 6]), Ok(()));
        let says = |case, stated, expected| {
            Err(format!("expected max tokens: case {case} ends after at most {stated}, not {expected}"))
        };
        assert_eq!(check(6, 100, &[6, 5]), says(1, 5, 6));
        assert_eq!(check(6, 100, &[7, 6]), says(0, 7, 6));
        // Twenty positions are the input's.
        assert_eq!(check(100, 100, &[80]), Ok(()));
        assert_eq!(check(100, 100, &[79]), says(0, 79, 80));
        assert_eq!(check(100, 100, &[100]), says(0, 100, 80));
        assert_eq!(check(u32::MAX, usize::MAX, &[u32::MAX]), Ok(()));
        assert!(as_expected(&statement(vec![completion(3), completion(9)]), &asked(None), 100).is_ok());
        let mixed = statement(vec![
            completion(6),
            Case { input: Input::Tokens(vec![5]), output: LogProb { ids: vec![7], log_prob: -1 }.into() },
        ]);
        assert_eq!(
            as_expected(&mixed, &asked(None), 100).unwrap_err().to_string(),
            "expected task: case 1 states something of another kind"
        );
        assert_eq!(
            as_expected(&mixed, &Expectations { task: Some(Kind::LogProb), ..asked(None) }, 100).unwrap_err().check(),
            "expected task"
        );
    }
}
