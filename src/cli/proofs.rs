//! The verbs of commitments and proofs: `ftk commit`, `open`, `prove` and `verify`.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use ftk_proofs::{AtLeast, Choice, Kind, Logits, MAX_TOP, Output, Top, limits};

use super::printer::Printer;
use crate::commands::prove::Mode;
use crate::commands::questions::{AskedOutput, InputSource};
use crate::commands::{self, Outcome};

#[derive(Args)]
pub(super) struct CommitArgs {
    /// Base model that the adapter was trained on
    #[arg(long)]
    base: PathBuf,
    /// PEFT adapter folder; one that ftk did not write is rounded to 16-bit integers first
    #[arg(long, value_name = "FOLDER")]
    adapter: PathBuf,
    /// Folder to write to: commitment.bin and registration.bin, which are public, and opening.bin, which is secret
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
    /// Let the commitment name the training transcript that the adapter's file names: what proofs and `ftk verify` then
    /// say of it is your word, which `ftk audit` checks
    #[arg(long)]
    transcript: bool,
    /// Text to compare the integer network with the floating-point one on
    #[arg(long, value_name = "FILE")]
    text: Option<PathBuf>,
    /// Commitment of another, a file or a folder, with which this one is to be stacked (`ftk average --commitments`):
    /// rounds to the coarsest of their scales; may be repeated
    #[arg(long, value_name = "PATH", conflicts_with = "transcript")]
    round: Vec<PathBuf>,
    /// Bytes of memory that may be used, for example 8G, instead of what is free
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    max_memory: Option<u64>,
}

#[derive(Args)]
pub(super) struct OpenArgs {
    /// PEFT adapter folder that was delivered
    adapter: PathBuf,
    /// The commitment you know: a file, a folder that `ftk commit` wrote, or a bundle
    #[arg(long, value_name = "PATH")]
    commitment: PathBuf,
    /// The seller's opening.bin, if it is not beside the adapter or the commitment
    #[arg(long, value_name = "FILE")]
    opening: Option<PathBuf>,
}

#[derive(Args)]
pub(super) struct ProveArgs {
    /// Base model
    #[arg(long)]
    base: PathBuf,
    /// PEFT adapter folder that was committed
    #[arg(long, value_name = "FOLDER")]
    adapter: PathBuf,
    /// Folder that `ftk commit` wrote
    #[arg(long, value_name = "FOLDER")]
    commitment: PathBuf,
    #[command(flatten)]
    subject: StatementArgs,
    /// Text to bind into the proof: who it is for, or a nonce they gave
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    context: String,
    /// Prove in the open instead of sealed: the bundle publishes what the adapter adds at every site for every token, for
    /// adapters that may become public
    #[arg(long)]
    open: bool,
    /// With --open: prove even if all open proofs together publish enough to recover the adapter
    #[arg(long, requires = "open")]
    disclose: bool,
    /// Folder to write the bundle to
    #[arg(long, value_name = "FOLDER", required_unless_present = "dry_run")]
    out: Option<PathBuf>,
    /// Prove nothing, and say what the proof of the longest answers would take: memory, time, bytes
    #[arg(long)]
    dry_run: bool,
    /// Bytes of memory that may be used, for example 8G, instead of what is free
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    max_memory: Option<u64>,
}

/// What a proof is about.
#[derive(Args)]
#[command(next_help_heading = "What to prove")]
struct StatementArgs {
    /// What to prove about each input: the greedy answer (completion), the logits behind it (logits), the
    /// log-probability of a continuation (logprob), those of two answers (preference), which of some token ids is the
    /// likeliest (choice), whether one is at least so likely (at-least), or the likeliest ids (top). Of nodes: logits,
    /// choice, at-least or top. Of pairs: logits, which are the tenth of the rating and the log of the odds that it is
    /// positive. Without it: what its options are of, else completion, and of nodes and pairs logits
    #[arg(long, value_parser = kinds())]
    task: Option<Kind>,
    /// The prompt: a user's message where the base has a chat template, else plain text
    #[arg(long, value_name = "TEXT", required_unless_present_any = ["rows", "graph"])]
    prompt: Option<String>,
    /// Take the prompt and what follows it as plain text even where there is a chat template
    #[arg(long, requires = "prompt")]
    raw: bool,
    /// The day that the base's chat template writes where it asks for today's
    #[arg(long, value_name = "YYYY-MM-DD", conflicts_with = "graph")]
    date: Option<String>,
    /// For completion: most tokens of the answer
    #[arg(long, value_name = "COUNT", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    max_tokens: u32,
    /// For logprob: what follows the prompt
    #[arg(long, value_name = "TEXT", requires = "prompt", conflicts_with_all = ["chosen", "rejected"])]
    continuation: Option<String>,
    /// For preference: the better answer
    #[arg(long, value_name = "TEXT", requires_all = ["prompt", "rejected"])]
    chosen: Option<String>,
    /// For preference: the worse answer
    #[arg(long, value_name = "TEXT", requires_all = ["prompt", "chosen"])]
    rejected: Option<String>,
    /// For choice: the token ids, or the classes of a node, to choose among; of a node, all without it
    #[arg(long, value_name = "ID,ID", value_delimiter = ',')]
    among: Vec<u32>,
    /// For at-least: a token id, or a class of a node, and a probability
    #[arg(long, value_name = "ID=PROBABILITY", value_parser = likely, required_if_eq("task", "at-least"))]
    at_least: Option<AtLeast>,
    /// For top: how many of the likeliest token ids, or classes of a node
    #[arg(long, value_name = "COUNT", value_parser = count_of_top(), required_if_eq("task", "top"))]
    top: Option<u32>,
    /// Nodes, or pairs of users, instead of a prompt: a .graph file, or what `ftk gnn import` takes
    #[arg(long, value_name = "PATH", conflicts_with_all = ["prompt", "rows"])]
    graph: Option<PathBuf>,
    /// Name of a node of that graph; may be repeated
    #[arg(long, value_name = "NAME", requires = "graph")]
    node: Vec<String>,
    /// Table whose first column names nodes of that graph
    #[arg(long, value_name = "FILE", requires = "graph")]
    nodes: Option<PathBuf>,
    /// Who rates and who is rated, two users of that graph of ratings; may be repeated
    #[arg(long, num_args = 2, value_names = ["FROM", "TO"], requires = "graph", conflicts_with_all = ["node", "nodes"])]
    pair: Vec<String>,
    /// Table whose first two columns name such pairs
    #[arg(long, value_name = "FILE", requires = "graph", conflicts_with_all = ["node", "nodes"])]
    pairs: Option<PathBuf>,
    /// Use only edges and nodes from before this time, in the graph's unit of time
    #[arg(long, value_name = "TIME", requires = "graph", allow_negative_numbers = true)]
    before: Option<f64>,
    /// Rows instead of a prompt, in the columns that training reads: one proof about all of them
    #[arg(long, value_name = "FILE", conflicts_with = "prompt")]
    rows: Option<PathBuf>,
}

/// Kinds of outputs by name.
fn kinds() -> impl TypedValueParser<Value = Kind> {
    let names = Kind::ALL.iter().map(|kind| kind.name());
    PossibleValuesParser::new(names).map(|name| Kind::named(&name).expect("it is one of these"))
}

/// A number of bytes, also in units of 1024: `512M`, `8G`, `8GiB`.
pub(super) fn bytes(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kib" => 10,
        "m" | "mib" => 20,
        "g" | "gib" => 30,
        "t" | "tib" => 40,
        _ => return Err("a number of bytes has the unit K, M, G or T, or none".to_owned()),
    };
    let number: u64 = digits.parse().map_err(|_| "is no whole number of bytes".to_owned())?;
    number.checked_mul(1 << shift).ok_or_else(|| "more bytes than there are".to_owned())
}

fn count_of_top() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=i64::from(MAX_TOP))
}

/// Names two by two, as an option of two values has them.
fn in_pairs(names: &[String]) -> Vec<[String; 2]> {
    names.as_chunks().0.to_vec()
}

/// `ID=PROBABILITY`.
fn likely(text: &str) -> Result<AtLeast, String> {
    let (id, probability) = text.split_once('=').ok_or("is not ID=PROBABILITY")?;
    let id = id.parse().map_err(|_| format!("is no id: {id}"))?;
    match probability.parse::<f64>() {
        Ok(probability) if probability > 0.0 && probability <= 1.0 => Ok(AtLeast::likely(id, probability)),
        _ => Err(format!("is no probability above 0 and up to 1: {probability}")),
    }
}

#[derive(Args)]
pub(super) struct VerifyArgs {
    /// Bundles, folders or files; of several, each gets a line, and the exit code is the worst
    #[arg(required_unless_present = "registry", value_name = "BUNDLE")]
    bundles: Vec<PathBuf>,
    /// JSON lines instead: for each bundle its `bundle` (a path from that file) and what is expected of it, `adapter`,
    /// `transcript`, `input` (with `raw`) or `any_input`, `task`, `max_tokens`, `context`
    #[arg(long, value_name = "FILE", conflicts_with_all = ["bundles", "ExpectationArgs"])]
    registry: Option<PathBuf>,
    /// Base model
    #[arg(long)]
    base: PathBuf,
    #[command(flatten)]
    expectations: ExpectationArgs,
    #[command(flatten)]
    limits: LimitArgs,
}

/// What the verifier knows. What is left unsaid, the prover has chosen.
#[derive(Args)]
#[command(next_help_heading = "Expectations")]
struct ExpectationArgs {
    /// Digest of the adapter's commitment, as `ftk commit` printed it; you need it from elsewhere than the bundle
    #[arg(long, value_name = "DIGEST")]
    expect_adapter: Option<String>,
    /// Root of the training transcript that the commitment must name; whether it is so, `ftk audit` tells
    #[arg(long, value_name = "ROOT")]
    expect_transcript: Option<String>,
    /// The prompt you asked
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["any_input", "expect_rows"])]
    expect_input: Option<String>,
    /// That prompt was plain text, as with `ftk prove --raw`
    #[arg(long, requires = "expect_input")]
    raw: bool,
    /// The day that the base's chat template wrote where it asks for today's
    #[arg(long, value_name = "YYYY-MM-DD")]
    date: Option<String>,
    /// The rows you asked about: prompts, continuations or pairs
    #[arg(long, value_name = "FILE", conflicts_with = "any_input")]
    expect_rows: Option<PathBuf>,
    /// For choice: the token ids, or the classes of a node, to choose among; of a node, all without it
    #[arg(long, value_name = "ID,ID", value_delimiter = ',', conflicts_with = "any_input")]
    expect_among: Vec<u32>,
    /// For at-least: the token id or class, and the probability it must reach
    #[arg(long, value_name = "ID=PROBABILITY", value_parser = likely)]
    #[arg(conflicts_with_all = ["any_input", "expect_among"])]
    expect_at_least: Option<AtLeast>,
    /// For top: how many of the likeliest token ids, or classes of a node
    #[arg(long, value_name = "COUNT", value_parser = count_of_top())]
    #[arg(conflicts_with_all = ["any_input", "expect_among", "expect_at_least"])]
    expect_top: Option<u32>,
    /// Merkle root of the graph, as `ftk gnn import` prints it; of pairs, the root of the state, which it prints beside it
    #[arg(long, value_name = "ROOT")]
    expect_graph: Option<String>,
    /// Name of a node you asked about; may be repeated
    #[arg(long, value_name = "NAME", conflicts_with_all = ["expect_input", "expect_rows", "any_input"])]
    expect_node: Vec<String>,
    /// Table whose first column names the nodes you asked about
    #[arg(long, value_name = "FILE", conflicts_with_all = ["expect_input", "expect_rows", "any_input"])]
    expect_nodes: Option<PathBuf>,
    /// Who rates and who is rated, of a pair you asked about; may be repeated
    #[arg(long, num_args = 2, value_names = ["FROM", "TO"])]
    #[arg(conflicts_with_all = ["expect_input", "expect_rows", "expect_node", "expect_nodes", "any_input"])]
    expect_pair: Vec<String>,
    /// Table whose first two columns name the pairs you asked about
    #[arg(long, value_name = "FILE")]
    #[arg(conflicts_with_all = ["expect_input", "expect_rows", "expect_node", "expect_nodes", "any_input"])]
    expect_pairs: Option<PathBuf>,
    /// Any input will do
    #[arg(long)]
    any_input: bool,
    /// What you asked of the inputs, as `ftk prove --task` has it
    #[arg(long, value_name = "TASK", value_parser = kinds())]
    expect_task: Option<Kind>,
    /// Most tokens you wanted of each completion
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    expect_max_tokens: Option<u32>,
    /// The context you gave
    #[arg(long, value_name = "TEXT")]
    expect_context: Option<String>,
}

/// What a bundle may cost; one that would take more is undecided.
#[derive(Args)]
#[command(next_help_heading = "Limits (a bundle that would take more is undecided)")]
struct LimitArgs {
    /// Tokens, or nodes of a graph, to run the base on
    #[arg(long, value_name = "COUNT", default_value_t = limits::Limits::default().tokens)]
    max_tokens: u64,
    /// Adapted layers
    #[arg(long, value_name = "COUNT", default_value_t = limits::Limits::default().sites)]
    max_sites: u64,
    /// Bytes of all files of the bundle, for example 64M
    #[arg(long, value_name = "BYTES", value_parser = bytes, default_value_t = limits::Limits::default().bytes)]
    max_bytes: u64,
    /// Bytes of memory beside the base, by arithmetic, for example 8G
    #[arg(long, value_name = "BYTES", value_parser = bytes, default_value_t = limits::Limits::default().memory)]
    max_memory: u64,
    /// Seconds for each bundle
    #[arg(long, value_name = "SECONDS", default_value_t = limits::Limits::default().time.as_secs())]
    max_seconds: u64,
}

impl StatementArgs {
    /// The task that was named, or that the options are of: one that does nothing is refused.
    fn kind(&self) -> Result<Kind> {
        let options = [
            (self.continuation.is_some(), "--continuation", Kind::LogProb),
            (self.chosen.is_some(), "--chosen and --rejected", Kind::Preference),
            (!self.among.is_empty(), "--among", Kind::Choice),
            (self.at_least.is_some(), "--at-least", Kind::AtLeast),
            (self.top.is_some(), "--top", Kind::Top),
        ];
        let mut given = options.iter().filter(|(given, ..)| *given);
        let usual = if self.graph.is_some() { Kind::Logits } else { Kind::Completion };
        let task = self.task.or(given.clone().next().map(|(.., kind)| *kind)).unwrap_or(usual);
        match given.find(|(.., kind)| *kind != task) {
            None => Ok(task),
            Some((_, option, kind)) => {
                let message = format!("{option} is of the task {}, and {} was asked for", kind.name(), task.name());
                Err(commands::Advice { message, hint: "give one --task with its own options".to_owned() }.into())
            }
        }
    }

    fn into_parts(self) -> Result<(AskedOutput, InputSource)> {
        let kind = self.kind()?;
        let Self { prompt, raw, max_tokens, continuation, chosen, rejected, among, rows, .. } = self;
        if kind == Kind::Choice && among.is_empty() && self.graph.is_none() {
            let message = "a choice needs the ids that it is among".to_owned();
            return Err(commands::Advice { message, hint: "give them: --among ID,ID".to_owned() }.into());
        }
        let claim = match kind {
            Kind::Completion => AskedOutput::Completion { max_tokens: max_tokens as usize },
            Kind::Logits => AskedOutput::Same(Logits::asked().into()),
            Kind::LogProb => AskedOutput::LogProb,
            Kind::Preference => AskedOutput::Preference,
            Kind::Choice => AskedOutput::Same(Choice::among(among).into()),
            Kind::AtLeast => AskedOutput::Same(self.at_least.expect("this task requires it").into()),
            Kind::Top => AskedOutput::Same(Top::of(self.top.expect("this task requires it")).into()),
        };
        let continuations = [continuation, chosen, rejected].into_iter().flatten().collect();
        let before = self.before;
        let inputs = match (rows, self.graph) {
            (_, Some(graph)) if !self.pair.is_empty() || self.pairs.is_some() => {
                InputSource::Pairs { graph, names: in_pairs(&self.pair), file: self.pairs, before }
            }
            (_, Some(graph)) => InputSource::Nodes { graph, names: self.node, file: self.nodes, before },
            (Some(file), None) => InputSource::Rows(file),
            (None, None) => InputSource::Typed { prompt: prompt.unwrap_or_default(), raw, continuations },
        };
        Ok((claim, inputs))
    }
}

impl CommitArgs {
    /// Runs it; `local` finds a base.
    pub(super) fn run(self, local: impl Fn(PathBuf) -> Result<PathBuf>, printer: &Printer) -> Result<Outcome> {
        let Self { base, adapter, out, transcript, text, round, max_memory } = self;
        let base = local(base)?;
        let settings = commands::commit::Settings { base, adapter, out, transcript, text, round, max_memory };
        commands::commit::run(&settings, printer)
    }
}

impl OpenArgs {
    /// Runs it.
    pub(super) fn run(self, printer: &Printer) -> Result<Outcome> {
        let Self { adapter, commitment, opening } = self;
        commands::open::run(&commands::open::Settings { adapter, commitment, opening }, printer)
    }
}

impl ProveArgs {
    /// Runs it; `local` finds a base.
    pub(super) fn run(self, local: impl Fn(PathBuf) -> Result<PathBuf>, printer: &Printer) -> Result<Outcome> {
        let Self { base, adapter, commitment, subject, context, open, disclose, out, dry_run, max_memory } = self;
        let date = subject.date.clone();
        let (base, (claim, inputs)) = (local(base)?, subject.into_parts()?);
        let settings = commands::prove::Settings {
            base,
            adapter,
            commitment,
            claim,
            inputs,
            date,
            context,
            mode: Mode::of(open, disclose),
            out: out.unwrap_or_default(),
            max_memory,
        };
        match dry_run {
            true => commands::prove::foretell(&settings, printer),
            false => commands::prove::run(&settings, printer),
        }
    }
}

impl VerifyArgs {
    /// Runs it; `local` finds a base.
    pub(super) fn run(self, local: impl Fn(PathBuf) -> Result<PathBuf>, printer: &Printer) -> Result<Outcome> {
        let base = local(self.base.clone())?;
        let registry = self.registry.clone();
        let settings = self.settings(base)?;
        match registry {
            Some(file) => commands::verify::registered(&settings, &file, printer),
            None => commands::verify::run(&settings, printer),
        }
    }

    fn settings(self, base: PathBuf) -> Result<commands::verify::Settings> {
        use commands::verify::{Expected, Settings};
        let Self { bundles, expectations, limits, .. } = self;
        let question = expectations.question()?;
        let expect_task = expectations.task(question.as_ref())?;
        let ExpectationArgs {
            expect_adapter,
            expect_transcript,
            expect_graph,
            expect_context,
            expect_max_tokens,
            date,
            ..
        } = expectations;
        let expect_input = match (expectations.expect_input, expectations.expect_rows) {
            (Some(prompt), _) => Expected::Prompt { prompt, raw: expectations.raw, question },
            (None, Some(file)) => Expected::Rows { file, question },
            (None, None) if expectations.expect_nodes.is_some() || !expectations.expect_node.is_empty() => {
                Expected::Nodes { names: expectations.expect_node, file: expectations.expect_nodes, question }
            }
            (None, None) if expectations.expect_pairs.is_some() || !expectations.expect_pair.is_empty() => {
                Expected::Pairs { names: in_pairs(&expectations.expect_pair), file: expectations.expect_pairs }
            }
            (None, None) if expectations.any_input => Expected::Any,
            (None, None) => Expected::Unknown,
        };
        let LimitArgs { max_tokens, max_sites, max_bytes, max_memory, max_seconds } = limits;
        let limits = limits::Limits {
            tokens: max_tokens,
            sites: max_sites,
            bytes: max_bytes,
            memory: max_memory,
            time: Duration::from_secs(max_seconds),
        };
        Ok(Settings {
            bundles,
            limits,
            base,
            expect_adapter,
            expect_transcript,
            expect_input,
            date,
            expect_graph,
            expect_task,
            expect_max_tokens,
            expect_context,
        })
    }
}

impl ExpectationArgs {
    /// What was asked of every input, where an option says more than the kind of answer.
    fn question(&self) -> Result<Option<Output>> {
        let (option, question) = match (&self.expect_at_least, self.expect_top, self.expect_among.is_empty()) {
            (Some(likely), ..) => ("--expect-at-least", Output::from(likely.clone())),
            (None, Some(count), _) => ("--expect-top", Top::of(count).into()),
            (None, None, false) => ("--expect-among", Choice::among(self.expect_among.clone()).into()),
            (None, None, true) => return Ok(None),
        };
        let of_tokens = self.expect_input.is_some() || self.expect_rows.is_some();
        if !of_tokens && self.expect_nodes.is_none() && self.expect_node.is_empty() {
            let hint = "give --expect-input, --expect-rows, --expect-node or --expect-nodes";
            return refused(format!("{option} is about inputs"), hint);
        }
        if self.expect_task.is_some_and(|expected| expected != question.kind()) || self.expect_max_tokens.is_some() {
            return refused(format!("{option} is about another task"), "leave it away, or the other one");
        }
        Ok(Some(question))
    }

    /// Who says what a choice or a threshold is of expects one; whoever says how long, a completion.
    fn task(&self, question: Option<&Output>) -> Result<Option<Kind>> {
        let implied = question.map(Output::kind).or(self.expect_max_tokens.map(|_| Kind::Completion));
        let task = self.expect_task.or(implied);
        if self.expect_max_tokens.is_some() && task != Some(Kind::Completion) {
            let message = "--expect-max-tokens is about completions".to_owned();
            return refused(message, "leave it away, or expect a completion");
        }
        Ok(task)
    }
}

fn refused<T>(message: String, hint: &str) -> Result<T> {
    Err(commands::Advice { message, hint: hint.to_owned() }.into())
}
