//! `statement.json`: the statement as canonical JSON, for people and programs to read.

use ftk_circuits::{Case, Input, Logits, Output, Scored, Statement};
use serde::{Deserialize, Serialize};

use super::{Refusal, STATEMENT, hex, parse_digest, unhex};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StatementJson {
    protocol: u32,
    base: String,
    adapter: String,
    context: String,
    cases: Vec<CaseJson>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CaseJson {
    input: InputJson,
    output: OutputJson,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
enum InputJson {
    Tokens { ids: Vec<u32> },
    Node { graph: String, node: u32 },
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
enum OutputJson {
    Completion {
        ids: Vec<u32>,
        max_tokens: u32,
        stop_ids: Vec<u32>,
    },
    Logits {
        #[serde(skip_serializing_if = "Option::is_none")]
        values: Option<Vec<i64>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        digest: Option<String>,
    },
    LogProb {
        ids: Vec<u32>,
        log_prob: i64,
    },
    Preference {
        chosen: ScoredJson,
        rejected: ScoredJson,
    },
    Choice {
        among: Vec<u32>,
        chosen: u32,
    },
    AtLeast {
        id: u32,
        bound: i64,
        holds: bool,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ScoredJson {
    ids: Vec<u32>,
    log_prob: i64,
    base_log_prob: i64,
}

/// The canonical text of a statement.
pub(super) fn statement_text(statement: &Statement) -> String {
    let json = StatementJson {
        protocol: ftk_circuits::PROTOCOL_VERSION,
        base: statement.base.to_string(),
        adapter: statement.adapter.to_string(),
        context: hex(&statement.context),
        cases: statement.cases.iter().map(case_json).collect(),
    };
    serde_json::to_string_pretty(&json).expect("numbers and text serialise") + "\n"
}

/// Reads [`statement_text`]'s bytes and refuses all others.
pub(super) fn parse_statement(bytes: &[u8]) -> Result<Statement, Refusal> {
    let malformed = |reason: String| Refusal::Malformed { file: STATEMENT, reason };
    // The version first: another one's statement has other fields.
    let version: Version = serde_json::from_slice(bytes).map_err(|error| malformed(error.to_string()))?;
    if version.protocol != ftk_circuits::PROTOCOL_VERSION {
        return Err(Refusal::Protocol(version.protocol));
    }
    let json: StatementJson = serde_json::from_slice(bytes).map_err(|error| malformed(error.to_string()))?;
    let digest = |text: &str| parse_digest(text).ok_or_else(|| malformed(format!("not a digest: {text}")));
    let statement =
        Statement {
            base: digest(&json.base)?,
            adapter: digest(&json.adapter)?,
            context: unhex(&json.context).ok_or_else(|| malformed("context is not hexadecimal".into()))?,
            cases: json.cases.into_iter().map(case).collect::<Option<_>>().ok_or_else(|| {
                malformed("a digest that is none, or logits that are neither values nor a digest".into())
            })?,
        };
    if statement_text(&statement).as_bytes() == bytes {
        Ok(statement)
    } else {
        Err(malformed("not the canonical text of what it says".into()))
    }
}

#[derive(Deserialize)]
struct Version {
    protocol: u32,
}

fn case_json(case: &Case) -> CaseJson {
    let input = match &case.input {
        Input::Tokens(ids) => InputJson::Tokens { ids: ids.clone() },
        Input::Node { graph, node } => InputJson::Node { graph: graph.to_string(), node: *node },
    };
    let scored = |Scored { ids, log_prob, base_log_prob }: &Scored| ScoredJson {
        ids: ids.clone(),
        log_prob: *log_prob,
        base_log_prob: *base_log_prob,
    };
    let output = match &case.output {
        Output::Completion { ids, max_tokens, stop_ids } => {
            OutputJson::Completion { ids: ids.clone(), max_tokens: *max_tokens, stop_ids: stop_ids.clone() }
        }
        Output::Logits(Logits::Values(values)) => OutputJson::Logits { values: Some(values.clone()), digest: None },
        Output::Logits(Logits::Digest(digest)) => OutputJson::Logits { values: None, digest: Some(digest.to_string()) },
        Output::LogProb { ids, log_prob } => OutputJson::LogProb { ids: ids.clone(), log_prob: *log_prob },
        Output::Preference { chosen, rejected } => {
            OutputJson::Preference { chosen: scored(chosen), rejected: scored(rejected) }
        }
        Output::Choice { among, chosen } => OutputJson::Choice { among: among.clone(), chosen: *chosen },
        Output::AtLeast { id, bound, holds } => OutputJson::AtLeast { id: *id, bound: *bound, holds: *holds },
    };
    CaseJson { input, output }
}

/// `None` for what is no digest, and for logits that are neither values nor a digest, or both.
fn case(json: CaseJson) -> Option<Case> {
    let input = match json.input {
        InputJson::Tokens { ids } => Input::Tokens(ids),
        InputJson::Node { graph, node } => Input::Node { graph: parse_digest(&graph)?, node },
    };
    let scored = |ScoredJson { ids, log_prob, base_log_prob }: ScoredJson| Scored { ids, log_prob, base_log_prob };
    let output = match json.output {
        OutputJson::Completion { ids, max_tokens, stop_ids } => Output::Completion { ids, max_tokens, stop_ids },
        OutputJson::Logits { values: Some(values), digest: None } => Output::Logits(Logits::Values(values)),
        OutputJson::Logits { values: None, digest: Some(digest) } => {
            Output::Logits(Logits::Digest(parse_digest(&digest)?))
        }
        OutputJson::Logits { .. } => return None,
        OutputJson::LogProb { ids, log_prob } => Output::LogProb { ids, log_prob },
        OutputJson::Preference { chosen, rejected } => {
            Output::Preference { chosen: scored(chosen), rejected: scored(rejected) }
        }
        OutputJson::Choice { among, chosen } => Output::Choice { among, chosen },
        OutputJson::AtLeast { id, bound, holds } => Output::AtLeast { id, bound, holds },
    };
    Some(Case { input, output })
}
