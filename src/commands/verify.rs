//! `ftk verify`: bundles, a base and expectations in, a verdict on each out.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use ftk_adapters::foreign;
use ftk_circuits::Digest;
use ftk_gnn::score;
use ftk_networks::graphs::opened::OpenedPart;
use ftk_proofs::archive::ArchiveError;
use ftk_proofs::bundle::{PackedBundle, Proof};
use ftk_proofs::head::GraphBase;
use ftk_proofs::hex::parse_digest;
use ftk_proofs::limits::Limits;
use ftk_proofs::refusal::Refusal;
use ftk_proofs::verdict::{Expectations, ExpectedInput, Missing, NOT_PROVED};
use ftk_proofs::verifier::{Judged, Pending, Verifier};
use ftk_proofs::{Case, Input, Kind, Logits, Output, Statement, rows_of};
use serde_json::{Map, Value, json};

use super::questions::{self, AskedOutput, InputSource};
use super::stated::{StatedText, summary};
use super::{Advice, Outcome, Question, nodes, on_day};
use crate::cli::printer::Printer;
use crate::prove::bundle::{self, BundleError, strangers};
use crate::prove::cost::{BaseCost, Costs};
use crate::prove::keys::commitment_key;
use crate::prove::subject::ProvedBase;
use crate::prove::verifier;

/// What is needed.
#[derive(Clone)]
pub struct Settings {
    /// Bundles.
    pub bundles: Vec<PathBuf>,
    /// What may be spent on each.
    pub limits: Limits,
    /// Base model.
    pub base: PathBuf,
    /// Digest of the adapter's commitment.
    pub expect_adapter: Option<String>,
    /// What is known of the inputs.
    pub expect_input: Expected,
    /// The day that the chat template wrote into them.
    pub date: Option<String>,
    /// The root of the training transcript that the commitment names.
    pub expect_transcript: Option<String>,
    /// The root of the graph that nodes are of, or of the state that pairs are of.
    pub expect_graph: Option<String>,
    /// What was to be stated of them.
    pub expect_task: Option<Kind>,
    /// Most tokens that completions were to have.
    pub expect_max_tokens: Option<u32>,
    /// The context.
    pub expect_context: Option<String>,
}

/// What the verifier knows of the inputs, in their own words.
#[derive(Clone, Debug)]
pub enum Expected {
    /// Nothing.
    Unknown,
    /// Any will do.
    Any,
    /// This prompt.
    Prompt {
        /// The prompt.
        prompt: String,
        /// It is plain text.
        raw: bool,
        /// What was asked of it, where more than the kind of answer is to be said: an output without its answer.
        question: Option<Output>,
    },
    /// The rows of this file.
    Rows {
        /// The file.
        file: PathBuf,
        /// What was asked of every one, where more than the kind of answer is to be said: an output without its answer.
        question: Option<Output>,
    },
    /// These nodes of a graph.
    Nodes {
        /// Names of nodes.
        names: Vec<String>,
        /// A table whose first column names more.
        file: Option<PathBuf>,
        /// What was asked of every one, where more than the kind of answer is to be said: an output without its answer.
        question: Option<Output>,
    },
    /// These pairs of users.
    Pairs {
        /// Names of who rates and who is rated.
        names: Vec<[String; 2]>,
        /// A table whose first two columns name more.
        file: Option<PathBuf>,
    },
}

/// What is said of a folder that is no bundle, or not all of one, in the place of a check.
const INCOMPLETE: &str = "incomplete";
/// What is said of one file that ftk does not write, in the place of a check.
const ARCHIVE: &str = "archive";

/// Judges the bundles, one after another; the outcome is the worst of theirs.
///
/// # Errors
/// What keeps all questions from being answered: no base, an expectation that cannot be read.
pub fn run(settings: &Settings, printer: &Printer) -> Result<Outcome> {
    let jobs: Vec<(&Path, &Settings)> = settings.bundles.iter().map(|bundle| (bundle.as_path(), settings)).collect();
    judge(settings, &jobs, jobs.len() > 1, printer)
}

/// A line of a registry: a bundle, and what is expected of it.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Registered {
    bundle: PathBuf,
    adapter: Option<String>,
    transcript: Option<String>,
    input: Option<String>,
    #[serde(default)]
    raw: bool,
    #[serde(default)]
    any_input: bool,
    task: Option<String>,
    max_tokens: Option<u32>,
    context: Option<String>,
}

/// Judges the bundles that a file names, each against what is expected of it there.
///
/// # Errors
/// As [`run`]; a line that is malformed, before any bundle is looked at.
pub fn registered(settings: &Settings, file: &Path, printer: &Printer) -> Result<Outcome> {
    let text = foreign::read_text(file, foreign::DATA).with_context(|| format!("cannot read {}", file.display()))?;
    let beside = file.parent().unwrap_or(Path::new(""));
    let mut all = Vec::new();
    // Editors and spreadsheets begin files with it.
    let text = text.trim_start_matches('\u{feff}');
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let wrong = |message: String| {
            let message = format!("{}:{}: {message}", file.display(), index + 1);
            Advice::new(
                message,
                "a line is {\"bundle\": PATH, \"adapter\": DIGEST, \"input\": TEXT, \"context\": TEXT}",
            )
        };
        let line: Registered = serde_json::from_str(line).map_err(|error| wrong(error.to_string()))?;
        let Registered { bundle, adapter, transcript, input, raw, any_input, task, max_tokens, context } = line;
        let expect_input = match (input, any_input) {
            (Some(_), true) => return Err(wrong("input and any_input exclude each other".to_owned()).into()),
            (Some(prompt), false) => Expected::Prompt { prompt, raw, question: None },
            (None, true) => Expected::Any,
            (None, false) => Expected::Unknown,
        };
        let unknown = |name: &String| wrong(format!("no such task: {name}"));
        let expect_task = task.map(|name| Kind::named(&name).ok_or_else(|| unknown(&name))).transpose()?;
        for (key, text) in [("adapter", &adapter), ("transcript", &transcript)] {
            if text.as_deref().is_some_and(|text| parse_digest(text).is_none()) {
                return Err(wrong(format!("{key}: not a digest of 64 digits")).into());
            }
        }
        let bundles = vec![beside.join(bundle)];
        let (expect_adapter, expect_max_tokens, expect_context) = (adapter, max_tokens, context);
        let of = Settings {
            bundles,
            expect_adapter,
            expect_transcript: transcript,
            expect_input,
            expect_task,
            expect_max_tokens,
            expect_context,
            ..settings.clone()
        };
        all.push(of);
    }
    if all.is_empty() {
        return Err(Advice::new(format!("{}: names no bundle", file.display()), "give a line for each bundle").into());
    }
    let jobs: Vec<(&Path, &Settings)> = all.iter().map(|of| (of.bundles[0].as_path(), of)).collect();
    judge(settings, &jobs, true, printer)
}

/// Judges bundles, each against expectations of its own; a line each where there are `many`.
fn judge(settings: &Settings, jobs: &[(&Path, &Settings)], many: bool, printer: &Printer) -> Result<Outcome> {
    let subject = on_day(ProvedBase::open(&settings.base)?, settings.date.as_deref())?;
    let mut verifier = None;
    let mut worst = Outcome::Done;
    // Proofs are checked together, as many as there may be memory for.
    let (mut waiting, mut bytes) = (Vec::new(), 0u64);
    for (index, (bundle, settings)) in jobs.iter().enumerate() {
        let _verifying = printer.working(&format!("verifying {}", bundle.display()));
        let replayed = replayed(settings, bundle, &subject, &mut verifier, printer)?;
        bytes += replayed.as_ref().map_or(0, Pending::bytes);
        waiting.push((*bundle, replayed));
        if bytes <= settings.limits.memory && index + 1 < jobs.len() {
            continue;
        }
        bytes = 0;
        let waiting = std::mem::take(&mut waiting);
        for (bundle, judged) in settled(waiting, &mut verifier) {
            let outcome = match judged {
                Ok(judged) => {
                    let shown = StatedText::of(subject.tokenizer(), judged.graph.as_ref());
                    accepted(&judged, bundle, many, &shown, printer)
                }
                Err(turned) => refused(&turned, bundle, many, printer),
            };
            worst = match (worst, outcome) {
                (Outcome::No, _) | (_, Outcome::No) => Outcome::No,
                (Outcome::Done, outcome) => outcome,
                (worst, _) => worst,
            };
        }
    }
    Ok(worst)
}

/// Why a bundle is turned away.
struct TurnedAway {
    error: BundleError,
    /// What more there is to say, behind the error.
    more: String,
}

impl From<BundleError> for TurnedAway {
    fn from(error: BundleError) -> Self {
        let more = match &error {
            BundleError::Refused(Refusal::Protocol(_)) => "; verify it with the release of ftk that made it",
            BundleError::Refused(Refusal::Limit { .. } | Refusal::Time(_)) => "; limits are set by --max-... options",
            BundleError::Io { error, .. } if error.kind() == ErrorKind::NotADirectory => {
                "; a bundle is a folder, or a file of its own (.ftk): name its folder and not a file in it, and unpack another archive"
            }
            _ => "",
        };
        Self { more: more.to_owned(), error }
    }
}

impl From<Refusal> for TurnedAway {
    fn from(refusal: Refusal) -> Self {
        BundleError::Refused(refusal).into()
    }
}

/// Another input than was expected, both as text: the most frequent slip is white space, and no fraud.
fn both(refusal: &Refusal, statement: &Statement, expected: &ExpectedInput, subject: &ProvedBase) -> Option<String> {
    let Refusal::Input(case) = *refusal else { return None };
    let expected = match expected {
        ExpectedInput::Inputs(inputs) => inputs.get(case),
        ExpectedInput::Questions(cases) => cases.get(case).map(|case| &case.input),
        ExpectedInput::Unknown | ExpectedInput::Any => None,
    };
    let text = |input: &Input| match input {
        Input::Tokens(ids) => subject.tokenizer()?.decode(ids, false).ok(),
        Input::Node { .. } | Input::Pair { .. } => None,
    };
    let (yours, its) = (text(expected?)?, text(&statement.cases.get(case)?.input)?);
    let bare = |text: &str| text.split_whitespace().collect::<String>();
    let alike = if bare(&yours) == bare(&its) { ", which differ in white space alone" } else { "" };
    Some(format!(": {its:?} instead of {yours:?}{alike}"))
}

/// One bundle up to its proofs. The base is read for the first that can be read, and kept.
fn replayed(
    settings: &Settings,
    bundle: &Path,
    subject: &ProvedBase,
    verifier: &mut Option<Verifier>,
    printer: &Printer,
) -> Result<Result<Pending, TurnedAway>> {
    let content = match bundle::packed(bundle, &settings.limits) {
        Ok(content) => content,
        Err(error) => return Ok(Err(error.into())),
    };
    let expectations = match expectations(settings, &content, subject)? {
        Ok(expectations) => expectations,
        Err(refusal) => return Ok(Err(refusal.into())),
    };
    let verifier = match verifier {
        Some(verifier) => verifier,
        None => verifier.insert(verifier::of(subject, settings.limits, commitment_key)?),
    };
    let seconds = seconds(&content, subject);
    if let Some(refusal) = too_long(seconds, &settings.limits) {
        return Ok(Err(refusal.into()));
    }
    if seconds >= WORTH_A_WORD {
        let allowed = settings.limits.time.as_secs();
        printer.note(&format!("{}: to be verified in some {seconds:.0} s, and at most {allowed}", bundle.display()));
    }
    // Reading the base is nobody's fault.
    let deadline = settings.limits.deadline();
    let statement = content.statement.clone();
    Ok(verifier.replay(content, &expectations, deadline).map_err(|refusal| {
        let both = both(&refusal, &statement, &expectations.input, subject);
        let turned = TurnedAway::from(refusal);
        TurnedAway { more: both.unwrap_or(turned.more), error: turned.error }
    }))
}

/// A verification that takes so many seconds is announced.
const WORTH_A_WORD: f64 = 10.0;
/// By how much the time of a verification may be less than arithmetic says.
const SLACK: f64 = 4.0;

/// Seconds that the replay and the proofs of an open bundle take, by arithmetic; of a sealed one nothing is replayed.
fn seconds(bundle: &PackedBundle, subject: &ProvedBase) -> f64 {
    if matches!(bundle.proof, Proof::Sealed { .. }) {
        return 0.0;
    }
    let shapes = bundle.commitment.shapes();
    let rows = rows_of(&bundle.statement, bundle.graph.as_ref(), shapes).into_iter().max().unwrap_or(0);
    Costs::of(BaseCost::of(&subject.net()), shapes, rows as u64).map_or(0.0, |costs| costs.verify_seconds)
}

/// Refuses before it is begun what will not be done in time.
fn too_long(seconds: f64, limits: &Limits) -> Option<Refusal> {
    let allowed = limits.time.as_secs();
    let refusal = || Refusal::Limit { what: "seconds, by arithmetic,", needs: seconds as u64, allowed };
    (seconds >= WORTH_A_WORD && seconds > SLACK * limits.time.as_secs_f64()).then(refusal)
}

/// Checks the proofs of those that got so far; bundles in their order.
fn settled<'a>(
    waiting: Vec<(&'a Path, Result<Pending, TurnedAway>)>,
    verifier: &mut Option<Verifier>,
) -> Vec<(&'a Path, Result<Judged, TurnedAway>)> {
    let (mut replayed, mut order) = (Vec::new(), Vec::new());
    for (bundle, result) in waiting {
        order.push((bundle, result.map(|bundle| replayed.push(bundle)).err()));
    }
    let mut verdicts = verifier.as_mut().map(|verifier| verifier.settle(replayed)).unwrap_or_default().into_iter();
    let mut judged = Vec::with_capacity(order.len());
    for (bundle, error) in order {
        match error {
            Some(error) => judged.push((bundle, Err(error))),
            None => judged.extend(verdicts.next().map(|verdict| (bundle, verdict.map_err(TurnedAway::from)))),
        }
    }
    judged
}

/// What is expected of a bundle, in its terms where the verifier has not said in which; refused, if it is about
/// something that nobody can have asked.
fn expectations(
    settings: &Settings,
    bundle: &PackedBundle,
    subject: &ProvedBase,
) -> Result<Result<Expectations, Refusal>> {
    let digest = |text: &Option<String>, hint: &str| {
        let advice = |text: &str| Advice::new(format!("not a digest: {text}"), hint);
        text.as_deref().map(|text| parse_digest(text).ok_or_else(|| advice(text))).transpose()
    };
    let adapter = digest(&settings.expect_adapter, "give the 64 digits that `ftk commit` printed")?;
    let transcript = digest(&settings.expect_transcript, "give the root that `ftk train` printed")?;
    let graph = digest(&settings.expect_graph, "give the root that `ftk gnn import` printed")?;
    let statement = &bundle.statement;
    let kind = settings.expect_task.unwrap_or_else(|| stated(statement));
    let of_kind = |question: &Option<Output>| question.clone().filter(|question| question.kind() == kind);
    let tokens = || match subject {
        ProvedBase::Tokens(source) => Ok(source),
        ProvedBase::Graph { .. } => {
            Err(Advice::new("the base is one of graphs", "give --expect-node, or --expect-pair"))
        }
    };
    let input = match &settings.expect_input {
        Expected::Nodes { names, file, question } => {
            let ProvedBase::Graph { base, .. } = subject else {
                return Err(Advice::new("the base is one of tokens", "give --expect-input, or --expect-rows").into());
            };
            let mut names = names.clone();
            if let Some(file) = file {
                names.extend(score::names(file)?);
            }
            // A head of its own may tell other classes apart.
            let base = bundle.head.as_ref().and_then(|head| base.with_head(head).ok()).unwrap_or_else(|| base.clone());
            let question = of_kind(question).or_else(|| nodes::usual(kind));
            expected_nodes(bundle, &names, question.as_ref(), &base)
        }
        Expected::Pairs { names, file } => {
            let ProvedBase::Graph { .. } = subject else {
                return Err(Advice::new("the base is one of tokens", "give --expect-input, or --expect-rows").into());
            };
            let mut names = names.clone();
            if let Some(file) = file {
                names.extend(score::pairs_of_names(file)?);
            }
            // Whatever else a statement is about is another input.
            let state = statement.graph().unwrap_or(Digest([0; 32]));
            let cases = nodes::spelt_alike(names).iter().map(|pair| nodes::about_pair(state, pair)).collect();
            ExpectedInput::Questions(cases)
        }
        Expected::Unknown => ExpectedInput::Unknown,
        Expected::Any => ExpectedInput::Any,
        Expected::Prompt { prompt, raw, question } => {
            let asked = Question { prompt: prompt.clone(), raw: *raw };
            let input = Input::Tokens(asked.ids(tokens()?)?);
            match of_kind(question) {
                None => ExpectedInput::Inputs(vec![input]),
                Some(output) => ExpectedInput::Questions(vec![Case { input, output }]),
            }
        }
        Expected::Rows { file, question } => {
            let inputs = InputSource::Rows(file.clone());
            let task = match kind {
                Kind::Completion => Some(AskedOutput::Completion { max_tokens: 1 }),
                Kind::Logits => Some(AskedOutput::Same(Logits::asked().into())),
                Kind::LogProb => Some(AskedOutput::LogProb),
                Kind::Preference => Some(AskedOutput::Preference),
                _ => of_kind(question).map(AskedOutput::Same),
            };
            let source = tokens()?;
            match task {
                // What the ids are is not known: the inputs alone are.
                None => {
                    let cases = questions::cases(&AskedOutput::Same(Logits::asked().into()), &inputs, source)?;
                    ExpectedInput::Inputs(cases.into_iter().map(|case| case.input).collect())
                }
                Some(claim) => match questions::cases(&claim, &inputs, source) {
                    Ok(cases) => ExpectedInput::Questions(cases),
                    // Rows that ask nothing of this kind are no fault of the verifier, who has not named the kind.
                    Err(_) if settings.expect_task.is_none() && file.is_file() => {
                        return Ok(Err(Refusal::Question(0)));
                    }
                    Err(error) => return Err(error),
                },
            }
        }
    };
    let context = settings.expect_context.as_ref().map(|context| context.clone().into_bytes());
    let (task, max_tokens) = (settings.expect_task, settings.expect_max_tokens);
    Ok(Ok(Expectations { adapter, transcript, graph, input, task, max_tokens, context }))
}

/// What a statement states, going by its first case.
fn stated(statement: &Statement) -> Kind {
    statement.cases.first().map_or(Kind::Completion, |case| case.output.kind())
}

/// Nodes by the names that the bundle's part of the graph gives them, which its root binds.
fn expected_nodes(
    bundle: &PackedBundle,
    names: &[String],
    question: Option<&Output>,
    base: &GraphBase,
) -> ExpectedInput {
    let root = bundle.statement.graph().unwrap_or(Digest([0; 32]));
    let mut known: BTreeMap<&str, Option<u32>> = BTreeMap::new();
    for (name, node) in bundle.graph.iter().flat_map(OpenedPart::names) {
        // A name of two nodes is none.
        known.entry(name).and_modify(|other| *other = None).or_insert(Some(node));
    }
    // A node that nothing is opened of is in no case.
    let numbers = names.iter().map(|name| known.get(name.as_str()).copied().flatten().unwrap_or(u32::MAX));
    match question {
        None => ExpectedInput::Inputs(numbers.map(|node| Input::Node { graph: root, node }).collect()),
        Some(question) => {
            ExpectedInput::Questions(numbers.map(|node| nodes::about(question, root, node, base.network())).collect())
        }
    }
}

fn refused(TurnedAway { error, more }: &TurnedAway, bundle: &Path, many: bool, printer: &Printer) -> Outcome {
    let (word, check, outcome) = match error {
        BundleError::Refused(refusal) if refusal.is_no() => ("invalid", Some(refusal.check()), Outcome::No),
        BundleError::Refused(refusal) => ("undecided", Some(refusal.check()), Outcome::Undecided),
        BundleError::Half { .. } | BundleError::Single { error: ArchiveError::Cut, .. } => {
            ("undecided", Some(INCOMPLETE), Outcome::Undecided)
        }
        BundleError::Single { .. } => ("invalid", Some(ARCHIVE), Outcome::No),
        BundleError::Io { .. } => ("undecided", None, Outcome::Undecided),
    };
    let place = if many { format!("{}: ", bundle.display()) } else { String::new() };
    printer.line(&format!("{place}{word}: {error}{more}"));
    printer.object(&json!({ "bundle": bundle, "verdict": word, "check": check, "reason": format!("{error}{more}") }));
    outcome
}

/// What may be otherwise than the verifier thinks.
fn doubt(missing: Missing) -> &'static str {
    match missing {
        Missing::Adapter => "without --expect-adapter the adapter may have been made for this input",
        Missing::Graph => "without --expect-graph the graph may be another than you think",
        Missing::Input => {
            "without --expect-input, --expect-rows, --expect-node, --expect-pair or --any-input the inputs may be others than yours"
        }
        Missing::Question => {
            "what is stated of the input may not be what you asked: give --expect-rows, --expect-among, --expect-at-least or --any-input"
        }
        Missing::Task => "without --expect-task it was the prover who chose what to state of the inputs",
        Missing::MaxTokens => {
            "without --expect-max-tokens it was the prover who chose how many tokens an answer may have"
        }
        Missing::Registration => "without a registration the committed entries may be no 16-bit integers",
        Missing::Context => "without --expect-context the proof may have been made for somebody else",
    }
}

fn accepted(judged: &Judged, bundle: &Path, many: bool, shown: &StatedText, printer: &Printer) -> Outcome {
    let strangers = strangers(bundle);
    if many {
        let why = judged.missing(true).next().map_or_else(String::new, |missing| format!(": {}", doubt(missing)));
        let summary = summary(&judged.statement).map_or_else(String::new, |summary| format!("; {summary}"));
        let others = strangers.iter().map(|stranger| format!("; also there: {stranger}")).collect::<String>();
        let mode = if judged.sealed { "sealed" } else { "open" };
        printer.line(&format!("{}: {}, {mode}{why}{summary}{others}", bundle.display(), judged.word()));
    } else {
        tell(judged, &strangers, shown, printer);
    }
    let mut object = Map::from_iter([("bundle".to_owned(), json!(bundle))]);
    object.extend(judged.json(doubt, &|case| shown.json(case), &strangers));
    printer.object(&Value::Object(object));
    if judged.verdict.is_valid() { Outcome::Done } else { Outcome::Undecided }
}

/// Says what a bundle proves, and what not.
fn tell(judged: &Judged, strangers: &[String], shown: &StatedText, printer: &Printer) {
    let Judged { statement, transcript, graph, head, .. } = judged;
    printer.line(judged.word());
    printer.line(&format!("proved: whoever made this knows adapter {}", statement.adapter));
    printer.line(&format!("  which, applied to base {},", statement.base));
    if *head {
        printer.line("  whose head is the one in the bundle,");
    }
    if let (Some(root), Some(graph)) = (statement.graph(), graph) {
        printer.line(&match graph {
            OpenedPart::Graph(part) => {
                format!("  on the graph of root {root}, of which {} nodes are opened,", part.members())
            }
            OpenedPart::State(part) => {
                let (time, ratings, users) = (part.time(), part.ratings(), part.members());
                format!(
                    "  by the state of root {root} at the time {time}, of {ratings} ratings, of which those of {users} \
                     users are opened,"
                )
            }
        });
    }
    for case in &statement.cases {
        printer.text(&format!("  {}", shown.claim(case)));
    }
    if let Some(summary) = summary(statement) {
        printer.line(&format!("  over all pairs: {summary}"));
    }
    if !statement.context.is_empty() {
        printer.line(&format!("  for context {:?}", String::from_utf8_lossy(&statement.context)));
    }
    if let Some(root) = transcript {
        printer.line(&format!("said by whoever committed: its training transcript has root {root}"));
    }
    printer.line(NOT_PROVED);
    printer.line(&format!("disclosed: {}", judged.disclosed()));
    judged.missing(true).for_each(|missing| printer.line(&format!("undecided: {}", doubt(missing))));
    judged.missing(false).for_each(|missing| printer.line(&format!("not expected: {}", doubt(missing))));
    strangers.iter().for_each(|stranger| printer.line(&format!("also there: {stranger}")));
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_takes_far_longer_than_it_may_is_not_begun() {
        let limits = |seconds| Limits { time: Duration::from_secs(seconds), ..Limits::default() };
        assert!(too_long(9.0, &limits(0)).is_none(), "the deadline itself ends what is short");
        assert!(too_long(399.0, &limits(100)).is_none() && too_long(1e9, &Limits::NONE).is_none());
        let refusal = too_long(401.0, &limits(100)).unwrap();
        assert_eq!(refusal.to_string(), "limit: 401 seconds, by arithmetic, are more than 100");
        assert!(!refusal.is_no(), "nothing is said of the bundle");
    }
}
