//! Why a bundle is refused, or not judged.

use ftk_circuits::{CheckFailed, Digest};
use ftk_networks::graphs::part::PartError;

use crate::fixed;
use crate::statement::StatementError;

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
    /// The statement contradicts itself.
    #[error("statement: {0}")]
    Statement(#[from] StatementError),
    /// The statement is about another base.
    #[error("base: the statement is about {stated}, and the base here is {own}")]
    Base {
        /// What it is about.
        stated: Digest,
        /// The verifier's.
        own: Digest,
    },
    /// The adapter is not the expected one.
    #[error("expected adapter: the statement is about {0}")]
    Adapter(Digest),
    /// The commitment names another training than the expected one.
    #[error("expected transcript: the commitment names {}", .0.map_or_else(|| "none".to_owned(), |root| root.to_string()))]
    Transcript(Option<Digest>),
    /// The nodes are of another graph, or the pairs of another state, than the expected one.
    #[error("expected graph: the statement is about {}", .0.map_or_else(|| "no graph".to_owned(), |root| root.to_string()))]
    Graph(Option<Digest>),
    /// The part of the graph or state that came with the bundle is not what the statement is about.
    #[error(transparent)]
    Part(#[from] PartError),
    /// A statement about something else than the base takes: tokens, nodes or pairs.
    #[error("kind of input: the statement is about {stated}, the base takes {taken}")]
    Kind {
        /// What it is about.
        stated: &'static str,
        /// What the base takes.
        taken: &'static str,
    },
    /// Not as many cases as inputs were expected.
    #[error("expected input: {stated} cases instead of {expected}")]
    Cases {
        /// Cases of the statement.
        stated: usize,
        /// Inputs that were expected.
        expected: usize,
    },
    /// The input of a case is not the expected one.
    #[error("expected input: case {0} is about another")]
    Input(usize),
    /// A case has the expected input and asks something else about it.
    #[error("expected question: case {0} states something else about its input")]
    Question(usize),
    /// A case is of another kind than was asked for.
    #[error("expected task: case {0} states something of another kind")]
    Task(usize),
    /// An answer was to have room for another number of tokens.
    #[error("expected max tokens: case {case} ends after at most {stated}, not {expected}")]
    MaxTokens {
        /// Position of the case.
        case: usize,
        /// Most tokens by the statement.
        stated: u32,
        /// Most tokens as the verifier has it, no more than the base has positions left.
        expected: u32,
    },
    /// It is the expected question, and the answer is less than was expected.
    #[error("expected answer: case {0} is less likely than that")]
    Answer(usize),
    /// The context is not the expected one.
    #[error("expected context: the statement is bound to another")]
    Context,
    /// Generation ends by another rule than the base's.
    #[error("stop rule: case {0} has other stop ids than the base")]
    StopRule(usize),
    /// More positions than the base has.
    #[error("length: case {0} has more positions than the base")]
    Length(usize),
    /// The logits that came with a bundle are not those whose digest a case states, or there are more.
    #[error("logits digest: case {0} states that of others")]
    LogitsDigest(usize),
    /// The exact forward pass cannot be computed with these deltas.
    #[error("replay: {0}")]
    Replay(#[source] fixed::PassError),
    /// The exact forward pass yields another output.
    #[error("output: case {case}: {difference}")]
    Output {
        /// Position of the case.
        case: usize,
        /// What is yielded instead of what.
        difference: String,
    },
    /// More than the verifier is willing to spend; nothing is said about the bundle.
    #[error("limit: {needs} {what} are more than {allowed}")]
    Limit {
        /// Of what.
        what: &'static str,
        /// How much it would take.
        needs: u64,
        /// How much there may be.
        allowed: u64,
    },
    /// The time is up; nothing is said about the bundle.
    #[error("limit: the time is up while {0}")]
    Time(Stage),
    /// A check of the proof system.
    #[error(transparent)]
    Check(#[from] CheckFailed),
}

/// What stopped a pass, or the writing down of one.
pub(crate) fn timed(error: fixed::PassError) -> Refusal {
    match error {
        fixed::PassError::Time => Refusal::Time(Stage::Replay),
        fixed::PassError::LogitsDigest(case) => Refusal::LogitsDigest(case),
        error => Refusal::Replay(error),
    }
}

impl Refusal {
    /// Whether the bundle is wrong, rather than too expensive or of another time.
    pub fn is_no(&self) -> bool {
        !matches!(self, Self::Limit { .. } | Self::Time(_) | Self::Protocol(_))
    }

    /// The name of the check, with which the message begins; of what is malformed, the file.
    pub fn check(&self) -> &'static str {
        match self {
            Self::Malformed { file, .. } => file,
            Self::Protocol(_) => "protocol version",
            Self::Statement(_) => "statement",
            Self::Base { .. } => "base",
            Self::Adapter(_) => "expected adapter",
            Self::Transcript(_) => "expected transcript",
            Self::Graph(_) => "expected graph",
            Self::Part(refused) => refused.check(),
            Self::Kind { .. } => "kind of input",
            Self::Cases { .. } | Self::Input(_) => "expected input",
            Self::Question(_) => "expected question",
            Self::Task(_) => "expected task",
            Self::MaxTokens { .. } => "expected max tokens",
            Self::Answer(_) => "expected answer",
            Self::Context => "expected context",
            Self::StopRule(_) => "stop rule",
            Self::Length(_) => "length",
            Self::LogitsDigest(_) => "logits digest",
            Self::Replay(_) => "replay",
            Self::Output { .. } => "output",
            Self::Limit { .. } | Self::Time(_) => "limit",
            Self::Check(refused) => refused.check(),
        }
    }
}

/// What a verifier was at when its time was up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The deltas are expanded.
    Deltas,
    /// The network is run.
    Replay,
    /// The proofs are checked.
    Proofs,
}

impl std::fmt::Display for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Deltas => "expanding the deltas",
            Self::Replay => "running the base",
            Self::Proofs => "checking the proofs",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_begins_with_the_name_of_its_check() {
        let digest = Digest([0; 32]);
        for refused in [
            Refusal::Malformed { file: "statement.json", reason: "is no JSON".to_owned() },
            Refusal::Protocol(9),
            StatementError::Cases(0).into(),
            Refusal::Base { stated: digest, own: digest },
            Refusal::Adapter(digest),
            Refusal::Transcript(None),
            Refusal::Graph(None),
            PartError::Encoding("ends").into(),
            PartError::Degree { node: 0, degree: 1, listed: 2 }.into(),
            PartError::Order(0).into(),
            PartError::Edge { node: 0, other: 1 }.into(),
            PartError::Symmetry { node: 0, other: 1 }.into(),
            PartError::Coverage(0).into(),
            PartError::Root.into(),
            PartError::Features { found: 1, wanted: 2 }.into(),
            PartError::Hops { found: 1, wanted: 2 }.into(),
            PartError::Weight(0).into(),
            PartError::Names(0).into(),
            PartError::Stranger("x".to_owned()).into(),
            PartError::Later(0).into(),
            Refusal::Kind { stated: "tokens", taken: "nodes" },
            Refusal::Cases { stated: 1, expected: 2 },
            Refusal::Input(0),
            Refusal::Question(0),
            Refusal::Task(0),
            Refusal::MaxTokens { case: 0, stated: 1, expected: 2 },
            Refusal::Answer(0),
            Refusal::Context,
            Refusal::StopRule(0),
            Refusal::Length(0),
            Refusal::LogitsDigest(0),
            Refusal::Output { case: 0, difference: "another".to_owned() },
            Refusal::Limit { what: "tokens", needs: 2, allowed: 1 },
            Refusal::Time(Stage::Proofs),
            CheckFailed::Link.into(),
        ] {
            let message = refused.to_string();
            assert_eq!(message.split(": ").next(), Some(refused.check()), "{message}");
        }
    }
}
