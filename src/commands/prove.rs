//! `ftk prove`: a bundle that shows what a base with a committed adapter gives for prompts, rows or nodes of a graph.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use candle_core::Device;
use ftk_adapters::foreign;
use ftk_adapters::lora::Adapter;
use ftk_adapters::peft::Saved;
use ftk_adapters::staged::{PREFIX, Undivided, sweep};
use ftk_bases::LoadedModel;
use ftk_circuits::{AdapterCommitment, SiteShape};
use ftk_networks::graphs::opened::OpenedPart;
use ftk_proofs::bundle::{Bundle, COMMITMENT, FILES, PackedBundle, Proof, REGISTRATION};
use ftk_proofs::digested::Digested;
use ftk_proofs::disclosure::{DISCLOSURE, disclosed};
use ftk_proofs::prove::{Unable, answer, prove, seal};
use ftk_proofs::{Case, FixedModel, Output, Statement, rows_of};
use ftk_text::generate::greedy;
use serde_json::json;

use super::commit::committed_form;
use super::questions::{self, AskedOutput, InputSource};
use super::stated::{StatedText, summary, summary_json};
use super::{Advice, Committable, Outcome, exact, fits_memory, frozen, nodes, on_day, unwritable};
use crate::cli::printer::Printer;
use crate::prove::bundle::StagedBundle;
use crate::prove::cost::{BaseCost, Costs, SealedCosts};
use crate::prove::keys::commitment_key;
use crate::prove::opening::{Disclosure, Ledger, OPENING, OpeningFile};
use crate::prove::sealing::{Answered, Length, rows_of_pass};
use crate::prove::subject::ProvedBase;

/// What is needed.
pub struct Settings {
    /// Base model.
    pub base: PathBuf,
    /// PEFT adapter folder.
    pub adapter: PathBuf,
    /// Folder that `ftk commit` wrote.
    pub commitment: PathBuf,
    /// What the proof is to show.
    pub claim: AskedOutput,
    /// Of which inputs.
    pub inputs: InputSource,
    /// The day that the chat template writes into them.
    pub date: Option<String>,
    /// Bound into the proof.
    pub context: String,
    /// What may become known.
    pub mode: Mode,
    /// Folder for the bundle.
    pub out: PathBuf,
    /// Bytes of memory that there are, if not what is free.
    pub max_memory: Option<u64>,
}

/// What a bundle may tell beside what it states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Nothing but the adapter's shapes.
    Sealed,
    /// The exact delta of every site on every row.
    Open {
        /// Even where all open proofs together tell the adapter.
        disclose: bool,
    },
}

impl Mode {
    /// As it is asked for: sealed, if not in the open.
    pub fn of(open: bool, disclose: bool) -> Self {
        if open { Self::Open { disclose } } else { Self::Sealed }
    }
}

/// Proves and writes the bundle.
///
/// # Errors
/// Files that do not belong together; disclosure that was not agreed to.
pub fn run(settings: &Settings, printer: &Printer) -> Result<Outcome> {
    let staged = place(&settings.out)?;
    let Asked { subject, adapter, secrets, questions } = Asked::read(settings)?;
    let costs = Costs::of(BaseCost::of(&subject.net()), secrets.commitment.shapes(), questions.most_rows())?;
    fits_memory("the proof", costs.prove_memory, settings.max_memory)?;
    let (fixed, model) = exact(subject)?;
    let adapter = (&adapter, settings.adapter.as_path());
    let (bundle, addition) = bundle(model.as_ref(), &fixed, adapter, &secrets, questions, settings, printer)?;
    // Everything that may fail comes before what is counted as disclosed, and that before anything can be seen.
    let io = || format!("cannot write to {}", settings.out.display());
    staged.write(&bundle.files()?).with_context(io)?;
    let whole = Undivided::begin();
    let disclosure = addition.map(|addition| disclose(settings, secrets.commitment.shapes(), addition)).transpose()?;
    staged.persist().with_context(io)?;
    drop(whole);
    let PackedBundle { statement, graph, proof, .. } = &bundle;
    let logits = if let Proof::Sealed { digested, .. } = proof { Some(digested.count()) } else { None };
    let (graph, shapes) = (graph.as_ref(), secrets.commitment.shapes());
    match &disclosure {
        None => printer.note(&format!("disclosed: {}", disclosed(statement, graph, shapes, logits))),
        Some(disclosure) => printer.note(&in_all(disclosure)),
    }
    let tokenizer = model.as_ref().and_then(|model| model.source.tokenizer().ok());
    let shown = StatedText::of(tokenizer, graph);
    answers(statement, &shown, printer);
    printer.note(&format!("wrote {}", settings.out.display()));
    let rows = rows_of(statement, graph, shapes);
    let disclosed = disclosure.as_ref().map(|disclosure| {
        json!({ "sites": disclosure.sites, "beyond_rank": disclosure.beyond, "rows_left": disclosure.left })
    });
    printer.object(&json!({
        "bundle": settings.out,
        "adapter": statement.adapter.to_string(),
        "base": statement.base.to_string(),
        "graph": statement.graph().map(|root| root.to_string()),
        "positions": rows.into_iter().max().unwrap_or(0),
        "cases": statement.cases.iter().map(|case| shown.json(case)).collect::<Vec<_>>(),
        "sealed": settings.mode == Mode::Sealed,
        "disclosure": disclosed,
        "preferences": summary_json(statement),
    }));
    Ok(Outcome::Done)
}

/// Says what the proof would take, if answers were as long as they may be.
///
/// # Errors
/// As [`run`], as far as it can be told without computing an answer.
pub fn foretell(settings: &Settings, printer: &Printer) -> Result<Outcome> {
    let Asked { subject, secrets, questions, .. } = Asked::read(settings)?;
    let (net, commitment, rows) = (subject.net(), &secrets.commitment, questions.most_rows());
    let (base, shapes) = (BaseCost::of(&net), commitment.shapes());
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let told = |memory: u64, seconds: [f64; 2], bytes: u64| {
        printer.line(&format!(
            "{:>10.1} MiB  prove: some {:.0} s, writes {:.1} MiB",
            mib(memory),
            seconds[0],
            mib(bytes)
        ));
        printer.line(&format!("{:>10}      verify: some {:.0} s", "", seconds[1]));
    };
    let costs = match settings.mode {
        Mode::Open { .. } => {
            let costs = Costs::of(base, shapes, rows)?;
            let bytes = costs.registered_bytes + costs.bundle_bytes;
            printer.line(&format!("open proof of {rows} rows: {} deltas", costs.deltas));
            told(costs.prove_memory, [costs.prove_seconds, costs.verify_seconds], bytes);
            json!(costs)
        }
        Mode::Sealed => {
            let ProofQuestions { cases, graph, .. } = questions;
            let answered = Answered::supposed(&cases, &net, Length::Longest)?;
            let (_, costs) = answered.plan(&subject.fixed()?, commitment, graph.as_ref())?;
            let SealedCosts { cells, leaves, products, points, .. } = costs;
            printer.line(&format!(
                "sealed proof of {rows} rows: {cells} cells, {leaves} leaves, {products} products, {points} points"
            ));
            told(costs.prove_memory, [costs.prove_seconds, costs.verify_seconds], costs.bundle_bytes);
            json!(costs)
        }
    };
    printer.object(&json!({ "sealed": settings.mode == Mode::Sealed, "rows": rows, "costs": costs }));
    Ok(Outcome::Done)
}

/// Everything that is read before anything is computed.
struct Asked {
    subject: ProvedBase,
    adapter: Adapter,
    secrets: Secrets,
    questions: ProofQuestions,
}

impl Asked {
    fn read(settings: &Settings) -> Result<Self> {
        let Committable { subject, adapter, head } = Committable::open(&settings.base, &settings.adapter)?;
        let subject = on_day(subject, settings.date.as_deref())?;
        let secrets = Secrets::read(&settings.commitment)?;
        let (cases, graph) = match &subject {
            ProvedBase::Tokens(source) => (questions::cases(&settings.claim, &settings.inputs, source)?, None),
            ProvedBase::Graph { base, .. } => {
                let (cases, graph) = nodes::cases(&settings.claim, &settings.inputs, base.network())?;
                (cases, Some(graph))
            }
        };
        Ok(Self { subject, adapter, secrets, questions: ProofQuestions { cases, graph, head } })
    }
}

/// Rows of a case whose answer is as long as it may be.
fn most_rows(case: &Case) -> u64 {
    let more = match &case.output {
        Output::Completion(completion) => u64::from(completion.max_tokens.saturating_sub(1)),
        _ => 0,
    };
    case.rows() as u64 + more
}

/// What `ftk commit` wrote.
struct Secrets {
    commitment: AdapterCommitment,
    opening: OpeningFile,
    registration: Vec<u8>,
}

impl Secrets {
    fn read(folder: &Path) -> Result<Self> {
        // Copies of the opening that a killed process left.
        sweep(folder, PREFIX);
        let file = |name: &str| {
            let path = folder.join(name);
            foreign::read(&path, foreign::DOCUMENT).with_context(|| format!("cannot read {}", path.display()))
        };
        let commitment =
            AdapterCommitment::decode(&file(COMMITMENT)?).with_context(|| format!("in {}", folder.display()))?;
        let path = folder.join(OPENING);
        if !path.exists() {
            let hint = "without its opening nothing can be proved of a commitment, and it cannot be made again: commit anew, \
                        which gives another digest";
            return Err(Advice::new(format!("{}: is not there", path.display()), hint).into());
        }
        let opening = OpeningFile::read(&path, commitment.shapes())?;
        Ok(Self { commitment, opening, registration: file(REGISTRATION)? })
    }
}

/// What is asked: cases without answers, what reaches their nodes, and the head the answers come from.
struct ProofQuestions {
    cases: Vec<Case>,
    graph: Option<OpenedPart>,
    head: Option<Saved>,
}

impl ProofQuestions {
    /// Rows of a pass, if answers are as long as they may be.
    fn most_rows(&self) -> u64 {
        rows_of_pass(&self.cases, self.graph.as_ref(), most_rows)
    }
}

/// The bundle, and what it discloses if it is open, with whether that may be the adapter.
fn bundle(
    model: Option<&LoadedModel>,
    fixed: &FixedModel,
    (adapter, folder): (&Adapter, &Path),
    secrets: &Secrets,
    ProofQuestions { cases, graph, head }: ProofQuestions,
    settings: &Settings,
    printer: &Printer,
) -> Result<(PackedBundle, Option<(Ledger, bool)>)> {
    let Secrets { commitment, opening, registration } = secrets;
    if commitment.base() != fixed.digest() {
        let message = format!("{}: commits to an adapter of another base", settings.commitment.display());
        return Err(Advice::new(message, "give the base that `ftk commit` was given").into());
    }
    let (fixed_adapter, factors) = committed_form(fixed, adapter, commitment.shapes(), folder)?;
    let tensors = frozen(Some(adapter), &Device::Cpu)?;
    let propose = |ids: &[u32], limit: usize| -> Result<Vec<u32>, Unable> {
        let LoadedModel { source, weights } = model.expect("nodes have no continuation");
        greedy(source.network(), weights, tensors.as_ref(), ids, limit, &source.special().stop, |_| true)
            .map_err(Unable::from)
    };
    // What cannot be sealed whatever the answers are is refused before they are computed.
    if settings.mode == Mode::Sealed {
        let shortest = Answered::supposed(&cases, fixed.net(), Length::Shortest)?;
        let (_, costs) = shortest.plan(fixed, commitment, graph.as_ref())?;
        fits_sealed(&costs, settings)?;
    }
    let mut digested = Digested::default();
    let stated = (settings.mode == Mode::Sealed).then_some(&mut digested);
    let (cases, records) = answer(fixed, &fixed_adapter, cases, graph.as_ref(), stated, propose)?;
    let (base, digest) = (fixed.digest(), commitment.digest());
    let context = settings.context.clone().into_bytes();
    let secret = (commitment, &opening.opening, factors.as_slice());
    let (commitment, registration) = (commitment.clone(), Some(registration.clone()));
    let Mode::Open { disclose } = settings.mode else {
        // What an open proof would be of.
        drop(records);
        let answered = Answered { cases, digested };
        let (plan, costs) = answered.plan(fixed, &commitment, graph.as_ref())?;
        fits_sealed(&costs, settings)?;
        let Answered { cases, digested } = answered;
        let key = commitment_key(plan.k())?;
        let statement = Statement { base, adapter: digest, context, cases };
        let mut advance = printer.advance("proving");
        let proof = seal(&key, &statement, secret, &plan, &mut |done, all| advance.to(done, all))?;
        advance.finish();
        let proof = Proof::Sealed { proof, digested };
        return Ok((PackedBundle { statement, commitment, proof, registration, graph, head }, None));
    };
    // Looked at before the work of proving, and again when it is written down.
    let mut addition = Ledger::new(commitment.shapes());
    addition.add(&records);
    let mut ledger = opening.ledger.clone();
    ledger.merge(&addition);
    agreed(&ledger.disclosure(commitment.shapes()), disclose)?;
    let statement = Statement { base, adapter: digest, context, cases };
    let key = commitment_key(commitment.k())?;
    let mut advance = printer.advance("proving");
    let (deltas, proof) = prove(&key, &statement, secret, records, &mut |done, all| advance.to(done, all))?;
    advance.finish();
    let bundle = Bundle { statement, commitment, deltas, proof, registration, graph, head };
    Ok((bundle.pack()?, Some((addition, disclose))))
}

/// Refuses what has no room: what is free is so beside what this process has by now.
fn fits_sealed(costs: &SealedCosts, settings: &Settings) -> Result<()> {
    let needs = if settings.max_memory.is_some() { costs.prove_memory } else { costs.seal_memory };
    fits_memory("the sealed proof", needs, settings.max_memory)
}

/// Writes down what the proof discloses, with what others have disclosed meanwhile.
fn disclose(settings: &Settings, shapes: &[SiteShape], (addition, agreed_to): (Ledger, bool)) -> Result<Disclosure> {
    let mut refusal = Ok(());
    let disclosed = OpeningFile::disclose(&settings.commitment, shapes, &addition, |disclosure| {
        refusal = agreed(disclosure, agreed_to);
        refusal.is_ok()
    })?;
    refusal?;
    disclosed.context("nothing was refused")
}

/// The place for the bundle, where there may be another bundle, which is replaced, and nothing else.
fn place(out: &Path) -> Result<StagedBundle> {
    let other = |name: &OsStr| !name.to_str().is_some_and(|name| FILES.contains(&name) || name.starts_with(PREFIX));
    let mut names = std::fs::read_dir(out).into_iter().flatten().flatten().map(|entry| entry.file_name());
    if let Some(name) = names.find(|name| other(name)) {
        let message = format!("{}: holds what is no file of a bundle: {}", out.display(), name.to_string_lossy());
        return Err(Advice::new(message, "choose another folder with --out; a bundle's is replaced as a whole").into());
    }
    StagedBundle::new(out).map_err(|error| unwritable(out, &error))
}

/// Refuses what would publish the adapter, unless that was agreed to.
fn agreed(disclosure: &Disclosure, disclose: bool) -> Result<()> {
    let Disclosure { sites, beyond, .. } = disclosure;
    match beyond.first() {
        Some(first) if !disclose => {
            let message = format!(
                "with the open proofs before it, this one would disclose more rows than ranks at {} of {sites} sites, among \
                 them {first}: {DISCLOSURE}",
                beyond.len()
            );
            let hint = "leave --open away and nothing is disclosed, or pass --disclose if the adapter may become known";
            Err(Advice::new(message, hint).into())
        }
        _ => Ok(()),
    }
}

/// What is public of the adapter by now.
fn in_all(disclosure: &Disclosure) -> String {
    match disclosure {
        Disclosure { left: Some(left), .. } => {
            format!("all open proofs made with this opening disclose no more rows than ranks; {left} more may be")
        }
        Disclosure { sites, beyond, .. } => format!(
            "all open proofs made with this opening disclose more rows than ranks at {} of {sites} sites: {DISCLOSURE}",
            beyond.len()
        ),
    }
}

/// The answer of one completion as it is; of anything else, what it says.
fn answers(statement: &Statement, shown: &StatedText, printer: &Printer) {
    match statement.cases.as_slice() {
        [Case { output: Output::Completion(completion), .. }] => printer.text(&shown.answer(&completion.ids)),
        cases => {
            cases.iter().for_each(|case| printer.text(&shown.claim(case)));
            summary(statement).iter().for_each(|line| printer.line(line));
        }
    }
}
