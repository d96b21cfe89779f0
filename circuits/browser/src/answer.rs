//! The verdict as JSON, in the keys of `ftk verify --json`.

use ftk_networks::graphs::opened::OpenedPart;
use ftk_networks::texts::TokenIds;
use ftk_proofs::archive::{ArchiveError, is_archive, unarchive};
use ftk_proofs::bundle::{FILES, Files, PackedBundle};
use ftk_proofs::limits::Limits;
use ftk_proofs::refusal::Refusal;
use ftk_proofs::verdict::Missing;
use ftk_proofs::{Case, Input, Words};
use serde_json::{Value, json};

use crate::asked::TypedExpectations;
use crate::base;
use crate::request::{NamedFiles, PageRequest};

/// Bytes of memory that a verification may take beside the base, by arithmetic: a page has at most 4 GiB.
const MEMORY: u64 = 2 << 30;

/// Judges what a request asks (`request.rs` says how it is laid out), and answers in JSON.
pub fn answer(request: &[u8]) -> Vec<u8> {
    let answer = match PageRequest::parse(request) {
        Ok(PageRequest { asked, base, bundle }) => judge(&asked, &base, &bundle),
        Err(reason) => Err(RefusedBundle::untold(reason)),
    };
    answer.unwrap_or_else(|refused| refused.json()).to_string().into_bytes()
}

/// Why there is no verdict, or a bad one.
struct RefusedBundle {
    verdict: &'static str,
    check: Option<&'static str>,
    reason: String,
}

impl RefusedBundle {
    /// Nothing is said of the bundle.
    fn untold(reason: String) -> Self {
        Self { verdict: "undecided", check: None, reason }
    }

    fn json(self) -> Value {
        json!({ "verdict": self.verdict, "check": self.check, "reason": self.reason })
    }
}

impl From<Refusal> for RefusedBundle {
    fn from(refusal: Refusal) -> Self {
        let verdict = if refusal.is_no() { "invalid" } else { "undecided" };
        Self { verdict, check: Some(refusal.check()), reason: refusal.to_string() }
    }
}

fn judge(asked: &TypedExpectations, base: &NamedFiles<'_>, bundle: &NamedFiles<'_>) -> Result<Value, RefusedBundle> {
    let limits = Limits { memory: MEMORY, ..Limits::default() };
    let files: Files = match bundle.first_key_value() {
        Some((name, bytes)) if bundle.len() == 1 && is_archive(bytes) => {
            unarchive(bytes).map_err(|error| match error {
                ArchiveError::Cut => RefusedBundle::untold(format!("{name}: {error}")),
                ArchiveError::Other(_) => {
                    RefusedBundle { verdict: "invalid", check: Some("archive"), reason: format!("{name}: {error}") }
                }
            })?
        }
        _ => bundle.iter().map(|(name, bytes)| (name.as_str(), *bytes)).collect(),
    };
    let (files, others): (Files, Files) = files.into_iter().partition(|(name, _)| FILES.contains(name));
    if files.is_empty() {
        return Err(RefusedBundle::untold(format!("none of the files is one of a bundle, such as {}", FILES[0])));
    }
    let sent = PackedBundle::parse(&files, &limits)?;
    let expectations = asked.expectations(&sent).map_err(RefusedBundle::untold)?;
    if let Some(other) = asked.other_answer(&sent.statement).map_err(RefusedBundle::untold)? {
        let (check, reason) = (Some("expected answer"), format!("expected answer: {other}"));
        return Err(RefusedBundle { verdict: "invalid", check, reason });
    }
    let (mut verifier, tokens) = base::verifier(base, limits).map_err(RefusedBundle::untold)?;
    let judged = verifier.verify(&files, &expectations)?;
    let case = |stated: &Case| case(stated, judged.graph.as_ref(), &tokens);
    Ok(Value::Object(judged.json(doubt, &case, &others.keys().collect::<Vec<_>>())))
}

/// What may be otherwise than whoever asks thinks.
fn doubt(missing: Missing) -> &'static str {
    match missing {
        Missing::Adapter => "no adapter was expected: it may have been made for this input",
        Missing::Graph => "no graph was expected: it may be another than you think",
        Missing::Input => "no input was expected: it may be another than yours",
        Missing::Question => "what is stated of the input may not be what you asked: compare it, and say that it is",
        Missing::Task => "no task was expected: it was the prover who chose what to state of the inputs",
        Missing::MaxTokens => "no length was expected: it was the prover who chose how many tokens an answer may have",
        Missing::Registration => "without a registration the committed entries may be no 16-bit integers",
        Missing::Context => "no context was expected: the proof may have been made for somebody else",
    }
}

/// A case: what it claims in words, ids with what the vocabulary has for them, exact numbers.
fn case(Case { input, output }: &Case, graph: Option<&OpenedPart>, tokens: &TokenIds) -> Value {
    let words = Words::new(&|_| None);
    let entries = |ids: &[u32]| ids.iter().map(|id| tokens.token(*id)).collect::<Vec<_>>();
    let (claim, input, stated) = match input {
        Input::Tokens(ids) => {
            let input = json!({ "kind": "tokens", "ids": ids, "tokens": entries(ids) });
            (output.claim(&words.words(ids), &words), input, output.json(&words))
        }
        Input::Node { graph: root, node } => {
            let name = graph.and_then(|graph| graph.name(*node));
            let input = json!({ "kind": "node", "graph": root.to_string(), "node": node, "name": name });
            let named = name.map_or_else(|| node.to_string(), |name| format!("{name:?}"));
            (output.node_claim(&named), input, output.json(&words))
        }
        Input::Pair { state, source, target } => {
            let strangers = graph.map_or_else(Vec::new, |graph| graph.strangers([source, target]));
            let input = json!({
                "kind": "pair", "state": state.to_string(), "source": source, "target": target, "strangers": strangers,
            });
            (output.pair_claim(source, target, &strangers), input, output.pair_json(&words))
        }
    };
    let continuations: Vec<_> = output.continuations().into_iter().map(entries).collect();
    json!({ "claim": claim, "input": input, "output": stated, "tokens": continuations })
}
