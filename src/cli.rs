//! The command line: what may be typed, and how an outcome becomes output and an exit code.
//! Data goes to stdout, everything else to stderr.

mod defi;
mod gnn;
pub mod printer;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::{Args, Parser, Subcommand, ValueEnum};

use self::printer::Printer;
use crate::commands::{self, Outcome};
use crate::device::Place;
use crate::models::Precision;
use crate::prove::limits as prove;
use crate::prove::verdict::ExpectedTask;

/// Verifiable LoRA and DPO fine-tuning.
#[derive(Parser)]
#[command(name = "ftk", version, arg_required_else_help = true)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Args)]
struct Global {
    /// Print one JSON object (for train: one about the rows, then one a step) on stdout
    #[arg(long, global = true)]
    json: bool,
    /// Print nothing on stderr but errors
    #[arg(long, global = true)]
    quiet: bool,
    /// Where to train, generate and take logits: cpu, cuda, cuda:N or metal; what is exact stays on the CPU
    #[arg(long, global = true, value_name = "DEVICE", default_value_t)]
    device: Place,
    /// Never connect: take what is named on the hub from the cache, as with HF_HUB_OFFLINE=1
    #[arg(long, global = true)]
    offline: bool,
}

#[derive(Subcommand)]
enum Verb {
    /// Train an adapter, or a base, from a recipe
    Train(Train),
    /// Fetch a model or data set from the Hugging Face Hub into the cache
    Pull(Pull),
    /// Look at rows
    #[command(subcommand)]
    Data(Data),
    /// Recipes to start from, and checks of one's own
    #[command(subcommand)]
    Recipes(Recipes),
    /// What a recipe may hold, as a JSON Schema
    Schema,
    /// Say what a run needs of memory, and what commitment and proofs cost, by arithmetic
    Estimate(Estimate),
    /// Measure a base, with or without an adapter, on held-out rows
    Eval(Eval),
    /// Say what a base, adapter, run, commitment or bundle holds
    Inspect(Inspect),
    /// Work an adapter into the weights of its base
    Merge(Merge),
    /// Continue a prompt greedily
    Generate(Generate),
    /// Logits of token ids, from and to safetensors files
    Logits(Logits),
    /// Commit to an adapter and register its range: commitment, registration, secret opening
    Commit(Commit),
    /// Say whether a delivered adapter is the one a commitment was made to
    Open(Open),
    /// Prove what a base with a committed adapter gives for a prompt, for rows or for nodes of a graph
    Prove(Box<Prove>),
    /// Check a bundle against the base and against what you expect
    Verify(Box<Verify>),
    /// Graphs: import them, score their nodes and edges, compare ways to learn them
    #[command(subcommand)]
    Gnn(gnn::Gnn),
    /// Market making: import, backtest, report, quote, audit
    #[command(subcommand)]
    Defi(Box<defi::Defi>),
    /// Train, commit, prove, verify and refuse a forgery, on the model that ships with ftk
    Demo(Demo),
}

#[derive(Args)]
struct Train {
    /// Recipe file (TOML)
    #[arg(long)]
    recipe: PathBuf,
    /// Set a key as if it stood in the recipe, for example optim.lr=1e-4; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Folder for adapter, metrics and checkpoint, instead of the recipe's
    #[arg(long)]
    out: Option<PathBuf>,
    /// Go on from the checkpoint in the folder, if there is one
    #[arg(long)]
    resume: bool,
    /// Check everything but weights, show the resolved recipe and what there is to do, write nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Subcommand)]
enum Recipes {
    /// Name the recipes and the plans of market makers that come with ftk
    Ls,
    /// Print one
    Show {
        /// Its name
        name: String,
    },
    /// Write one to a new file
    Cp {
        /// Its name
        name: String,
        /// The file; never replaced
        file: PathBuf,
    },
    /// Read a recipe as `ftk train` would, without opening what it names
    Check {
        /// Recipe file (TOML)
        file: PathBuf,
        /// Set a key as if it stood in the recipe; may be repeated
        #[arg(long, value_name = "KEY=VALUE")]
        set: Vec<String>,
    },
}

#[derive(Args)]
struct Estimate {
    /// Recipe that says what is not said here
    #[arg(long, required_unless_present = "base")]
    recipe: Option<PathBuf>,
    /// Set a key as if it stood in the recipe, for example run.batch=1; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Base model; of a folder, config.json is enough
    #[arg(long)]
    base: Option<PathBuf>,
    /// PEFT adapter folder that commitment and proof are estimated for, instead of the recipe's
    #[arg(long)]
    adapter: Option<PathBuf>,
    /// Tokens of the proof that is estimated: prompt and answer
    #[arg(long, value_name = "COUNT", default_value_t = 64)]
    tokens: u64,
}

#[derive(Args)]
struct Eval {
    /// Recipe that says what is not said here: base, held-out rows, task, lengths, batch
    #[arg(long, required_unless_present_all = ["base", "data"])]
    recipe: Option<PathBuf>,
    /// Set a key as if it stood in the recipe, for example data.max_length=512; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Base model: a Hugging Face folder, a GGUF file, or `village` or `market`
    #[arg(long)]
    base: Option<PathBuf>,
    /// PEFT adapter folder; without it the base is measured
    #[arg(long)]
    adapter: Option<PathBuf>,
    /// Rows, instead of the recipe's held-out ones
    #[arg(long)]
    data: Option<PathBuf>,
    /// What the rows are: continuations (sft, where there is no recipe) or preferences
    #[arg(long)]
    task: Option<Task>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Task {
    Sft,
    Dpo,
}

#[derive(Args)]
struct Inspect {
    /// Model folder or GGUF file, adapter, run folder, commitment or bundle
    path: PathBuf,
    /// Check that the adapter fits this base
    #[arg(long)]
    base: Option<PathBuf>,
    /// Compute the digest a proof names the base by; reads all weights
    #[arg(long)]
    digest: bool,
}

#[derive(Args)]
struct Merge {
    /// Base model: a Hugging Face folder, a GGUF file, or `village` or `market`
    #[arg(long)]
    base: PathBuf,
    /// PEFT adapter folder
    #[arg(long)]
    adapter: PathBuf,
    /// Folder for the merged model, which must not exist
    #[arg(long)]
    out: PathBuf,
    /// Number format of the merged weights
    #[arg(long, default_value = "f32")]
    dtype: Dtype,
    /// Compare the two models on this text instead of a sample
    #[arg(long)]
    text: Option<PathBuf>,
    /// Refuse if a logit differs by more than this share of what the adapter changes in logits
    #[arg(long, default_value_t = 0.1)]
    tolerance: f64,
}

#[derive(Clone, Copy, ValueEnum)]
enum Dtype {
    F32,
    Bf16,
    F16,
}

#[derive(Subcommand)]
enum Data {
    /// Show rows as the model will see them, with what is scored marked, and count all
    Preview(Preview),
}

#[derive(Args)]
struct Preview {
    /// Recipe file (TOML) whose rows are shown
    #[arg(long, required_unless_present = "base")]
    recipe: Option<PathBuf>,
    /// Base model, instead of a recipe
    #[arg(long, requires = "data", conflicts_with = "recipe")]
    base: Option<PathBuf>,
    /// Rows for that base: a .jsonl, .json or .parquet file
    #[arg(long, requires = "base")]
    data: Option<PathBuf>,
    /// What those rows are for
    #[arg(long, requires = "base", default_value = "sft")]
    task: Task,
    /// How many rows to show
    #[arg(long, default_value_t = 3)]
    rows: usize,
}

#[derive(Args)]
struct Pull {
    /// ORG/NAME or ORG/NAME@REVISION (a branch, tag or commit; main without one)
    #[arg(value_name = "ID[@REVISION]")]
    name: String,
    /// It is a data set: fetch its .jsonl, .json and .parquet files
    #[arg(long)]
    dataset: bool,
    /// Fetch this file only, for example a .gguf; may be repeated
    #[arg(long = "file", value_name = "NAME")]
    files: Vec<String>,
}

#[derive(Args)]
struct Model {
    /// Base model: a Hugging Face folder, a GGUF file, `village`, `market`, or ORG/NAME[@REVISION] on the hub
    #[arg(long)]
    base: PathBuf,
    /// PEFT adapter folder
    #[arg(long)]
    adapter: Option<PathBuf>,
}

#[derive(Args)]
struct Prompt {
    /// What to continue: a user message where the base has a chat template, else plain text
    #[arg(long)]
    prompt: String,
    /// Take the prompt as plain text even where there is a chat template
    #[arg(long)]
    raw: bool,
    /// Most tokens to generate
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    max_tokens: u32,
}

#[derive(Args)]
struct Generate {
    #[command(flatten)]
    model: Model,
    #[command(flatten)]
    prompt: Prompt,
}

#[derive(Args)]
struct Logits {
    #[command(flatten)]
    model: Model,
    /// Safetensors file with `input_ids`, i64 (batch, seq)
    #[arg(long)]
    ids: PathBuf,
    /// Safetensors file to write: `logits`, f32 (batch, seq, vocab)
    #[arg(long)]
    out: PathBuf,
}

#[derive(Args)]
struct Commit {
    /// Base model the adapter is for
    #[arg(long)]
    base: PathBuf,
    /// PEFT adapter folder; one that ftk did not export is rounded to the 16-bit grid
    #[arg(long)]
    adapter: PathBuf,
    /// Folder for commitment.bin, registration.bin and the secret opening.bin, and for what is rounded
    #[arg(long)]
    out: PathBuf,
    /// Compare fixed-point and floating-point results on this text and report
    #[arg(long)]
    text: Option<PathBuf>,
    /// Bytes of memory that may be needed, by arithmetic, instead of what is free
    #[arg(long, value_name = "BYTES")]
    max_memory: Option<u64>,
}

#[derive(Args)]
struct Open {
    /// PEFT adapter folder that was delivered
    adapter: PathBuf,
    /// The commitment you know: a file, a folder of `ftk commit`, or a bundle
    #[arg(long)]
    commitment: PathBuf,
    /// The seller's opening.bin; without it, the one beside the adapter or the commitment
    #[arg(long)]
    opening: Option<PathBuf>,
}

#[derive(Args)]
struct Prove {
    /// Base model
    #[arg(long)]
    base: PathBuf,
    /// PEFT adapter folder that was committed
    #[arg(long)]
    adapter: PathBuf,
    /// Folder that `ftk commit` wrote
    #[arg(long)]
    commitment: PathBuf,
    #[command(flatten)]
    subject: Subject,
    /// Bound into the proof: who it is for, or a nonce they gave
    #[arg(long, default_value = "")]
    context: String,
    /// Go ahead although the proof publishes enough to recover the adapter
    #[arg(long)]
    disclose: bool,
    /// Folder for the bundle
    #[arg(long)]
    out: PathBuf,
    /// Bytes of memory that may be needed, by arithmetic, instead of what is free
    #[arg(long, value_name = "BYTES")]
    max_memory: Option<u64>,
}

/// What a proof is about.
#[derive(Args)]
struct Subject {
    /// What to show: the greedy answer, the logits behind the prompt, the log-probability of a continuation, those of
    /// a chosen and a rejected one, the likeliest of some token ids, or whether an id is at least so likely; of nodes,
    /// logits, choice or at-least. Without it, completion, and of nodes logits
    #[arg(long)]
    task: Option<ProofTask>,
    /// The prompt: a user message where the base has a chat template, else plain text
    #[arg(long, required_unless_present_any = ["rows", "graph"])]
    prompt: Option<String>,
    /// Take the prompt and what follows it as plain text even where there is a chat template
    #[arg(long, requires = "prompt")]
    raw: bool,
    /// Most tokens of a completion
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    max_tokens: u32,
    /// What follows the prompt, for logprob
    #[arg(long, value_name = "TEXT", requires = "prompt", conflicts_with_all = ["chosen", "rejected"])]
    continuation: Option<String>,
    /// The better answer, for preference
    #[arg(long, value_name = "TEXT", requires_all = ["prompt", "rejected"])]
    chosen: Option<String>,
    /// The worse answer, for preference
    #[arg(long, value_name = "TEXT", requires_all = ["prompt", "chosen"])]
    rejected: Option<String>,
    /// Token ids, or classes of a node, to choose among, for choice; of a node, all without it
    #[arg(long, value_name = "ID,ID", value_delimiter = ',')]
    among: Vec<u32>,
    /// A token id or class and a probability, for at-least
    #[arg(long, value_name = "ID=PROBABILITY", value_parser = likely, required_if_eq("task", "at-least"))]
    at_least: Option<commands::Likely>,
    /// A graph, canonical or what `ftk gnn import` takes, whose nodes are asked about
    #[arg(long, value_name = "PATH", conflicts_with_all = ["prompt", "rows"])]
    graph: Option<PathBuf>,
    /// Name of a node; may be repeated
    #[arg(long, value_name = "NAME", requires = "graph")]
    node: Vec<String>,
    /// Table whose first column names nodes
    #[arg(long, value_name = "FILE", requires = "graph")]
    nodes: Option<PathBuf>,
    /// Rows instead of a prompt, in the columns that training reads, all in one proof
    #[arg(long, value_name = "FILE", conflicts_with = "prompt")]
    rows: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum ProofTask {
    Completion,
    Logits,
    Logprob,
    Preference,
    Choice,
    AtLeast,
}

/// `ID=PROBABILITY`.
fn likely(text: &str) -> Result<commands::Likely, String> {
    let (id, probability) = text.split_once('=').ok_or("is not ID=PROBABILITY")?;
    let id = id.parse().map_err(|_| format!("is no id: {id}"))?;
    match probability.parse::<f64>() {
        Ok(probability) if probability > 0.0 && probability <= 1.0 => Ok(commands::Likely { id, probability }),
        _ => Err(format!("is no probability above 0: {probability}")),
    }
}

#[derive(Args)]
struct Verify {
    /// Bundle folders; of several, there is one line each and the exit code is the worst
    #[arg(required = true, value_name = "BUNDLE")]
    bundles: Vec<PathBuf>,
    /// Base model
    #[arg(long)]
    base: PathBuf,
    /// Digest of the adapter's commitment, as `ftk commit` prints it
    #[arg(long, value_name = "DIGEST")]
    expect_adapter: Option<String>,
    /// The prompt you asked
    #[arg(long, value_name = "PROMPT", conflicts_with_all = ["any_input", "expect_rows"])]
    expect_input: Option<String>,
    /// The prompt was plain text
    #[arg(long, requires = "expect_input")]
    raw: bool,
    /// The rows you asked about: prompts, continuations or pairs
    #[arg(long, value_name = "FILE", conflicts_with = "any_input")]
    expect_rows: Option<PathBuf>,
    /// The token ids, or classes of a node, to choose among; of a node, all without it
    #[arg(long, value_name = "ID,ID", value_delimiter = ',', conflicts_with_all = ["expect_input", "any_input"])]
    expect_among: Vec<u32>,
    /// The token id or class, and the probability it is to have at least
    #[arg(long, value_name = "ID=PROBABILITY", value_parser = likely)]
    #[arg(conflicts_with_all = ["expect_input", "any_input", "expect_among"])]
    expect_at_least: Option<commands::Likely>,
    /// Root of the graph, as `ftk gnn import` prints it
    #[arg(long, value_name = "ROOT")]
    expect_graph: Option<String>,
    /// Name of a node you asked about; may be repeated
    #[arg(long, value_name = "NAME", conflicts_with_all = ["expect_input", "expect_rows", "any_input"])]
    expect_node: Vec<String>,
    /// Table whose first column names the nodes you asked about
    #[arg(long, value_name = "FILE", conflicts_with_all = ["expect_input", "expect_rows", "any_input"])]
    expect_nodes: Option<PathBuf>,
    /// Any input will do
    #[arg(long)]
    any_input: bool,
    /// What you asked of the inputs, as `ftk prove --task` has it; without it the prover chose
    #[arg(long, value_name = "TASK")]
    expect_task: Option<ProofTask>,
    /// Most tokens you wanted of each completion; without it the prover chose
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    expect_max_tokens: Option<u32>,
    /// The context you gave
    #[arg(long, value_name = "CONTEXT")]
    expect_context: Option<String>,
    #[command(flatten)]
    limits: Limits,
}

/// What a bundle may cost; one that would take more is undecided.
#[derive(Args)]
struct Limits {
    /// Tokens the base may have to be run on
    #[arg(long, value_name = "COUNT", default_value_t = prove::Limits::default().tokens)]
    max_tokens: u64,
    /// Sites the adapter may have
    #[arg(long, value_name = "COUNT", default_value_t = prove::Limits::default().sites)]
    max_sites: u64,
    /// Bytes the files may have together
    #[arg(long, value_name = "BYTES", default_value_t = prove::Limits::default().bytes)]
    max_bytes: u64,
    /// Bytes of memory that may be needed beside the base, by arithmetic
    #[arg(long, value_name = "BYTES", default_value_t = prove::Limits::default().memory)]
    max_memory: u64,
    /// Seconds for each bundle, looked at before each row of deltas, layer of the base and part of a proof
    #[arg(long, value_name = "SECONDS", default_value_t = prove::Limits::default().time.as_secs())]
    max_seconds: u64,
}

#[derive(Args)]
struct Demo {
    /// Folder to work in, kept afterwards; a temporary one without it
    #[arg(long)]
    dir: Option<PathBuf>,
}

/// Runs the command that was typed.
pub fn main() -> ExitCode {
    let Cli { global, verb } = Cli::parse();
    let printer = Printer::new(global.json, global.quiet);
    match run(verb, &global, &printer) {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::No) => ExitCode::from(1),
        Ok(Outcome::Undecided) => ExitCode::from(2),
        Ok(Outcome::Stopped(code)) => ExitCode::from(code),
        Err(error) => {
            printer.error(&error);
            ExitCode::from(2)
        }
    }
}

fn run(verb: Verb, &Global { device, offline, .. }: &Global, printer: &Printer) -> anyhow::Result<Outcome> {
    let device = device.open()?;
    let local = |base: PathBuf| commands::pull::base(&base, offline, printer);
    match verb {
        Verb::Train(Train { recipe, set, out, resume, dry_run }) => {
            let settings = commands::train::Settings { recipe, set, out, resume, dry_run, device, offline };
            commands::train::run(&settings, printer)
        }
        Verb::Recipes(recipes) => {
            use commands::recipes::Settings;
            let settings = match recipes {
                Recipes::Ls => Settings::List,
                Recipes::Show { name } => Settings::Show { name },
                Recipes::Cp { name, file } => Settings::Copy { name, file },
                Recipes::Check { file, set } => Settings::Check { file, set },
            };
            commands::recipes::run(&settings, printer)
        }
        Verb::Schema => Ok(commands::recipes::schema(printer)),
        Verb::Estimate(Estimate { recipe, set, base, adapter, tokens }) => commands::estimate::run(
            &commands::estimate::Settings { recipe, set, base, adapter, tokens, offline },
            printer,
        ),
        Verb::Eval(Eval { recipe, mut set, base, adapter, data, task }) => {
            set.extend(task.map(|task| match task {
                Task::Sft => "task=sft".to_owned(),
                Task::Dpo => "task=dpo".to_owned(),
            }));
            let base = base.map(local).transpose()?;
            let settings = commands::eval::Settings { recipe, set, base, adapter, data, device, offline };
            commands::eval::run(&settings, printer)
        }
        Verb::Inspect(Inspect { path, base, digest }) => {
            let base = base.map(local).transpose()?;
            commands::inspect::run(&commands::inspect::Settings { path, base, digest }, printer)
        }
        Verb::Merge(Merge { base, adapter, out, dtype, text, tolerance }) => {
            let precision = match dtype {
                Dtype::F32 => Precision::F32,
                Dtype::Bf16 => Precision::Bf16,
                Dtype::F16 => Precision::F16,
            };
            let base = local(base)?;
            commands::merge::run(&commands::merge::Settings { base, adapter, out, precision, text, tolerance }, printer)
        }
        Verb::Data(Data::Preview(Preview { recipe, base, data, task, rows })) => {
            let task = match task {
                Task::Sft => ftk_recipes::Task::Sft,
                Task::Dpo => ftk_recipes::Task::Dpo,
            };
            let subject = match (recipe, base.zip(data)) {
                (Some(recipe), _) => commands::data::Subject::Recipe(recipe),
                (None, Some((base, data))) => commands::data::Subject::File { base: local(base)?, data, task },
                (None, None) => anyhow::bail!("give --recipe, or --base and --data"),
            };
            commands::data::preview(&commands::data::Settings { subject, rows, offline }, printer)
        }
        Verb::Pull(Pull { name, dataset, files }) => {
            commands::pull::run(&commands::pull::Settings { name, dataset, files, offline }, printer)
        }
        Verb::Generate(Generate { model: Model { base, adapter }, prompt }) => {
            let (base, question) = (local(base)?, question(prompt));
            commands::generate::run(&commands::generate::Settings { base, adapter, device, question }, printer)
        }
        Verb::Logits(Logits { model: Model { base, adapter }, ids, out }) => {
            let base = local(base)?;
            commands::logits::run(&commands::logits::Settings { base, adapter, device, ids, out }, printer)
        }
        Verb::Commit(Commit { base, adapter, out, text, max_memory }) => {
            let base = local(base)?;
            commands::commit::run(&commands::commit::Settings { base, adapter, out, text, max_memory }, printer)
        }
        Verb::Open(Open { adapter, commitment, opening }) => {
            commands::open::run(&commands::open::Settings { adapter, commitment, opening }, printer)
        }
        Verb::Prove(prove) => {
            let Prove { base, adapter, commitment, subject, context, disclose, out, max_memory } = *prove;
            let (base, (task, asked)) = (local(base)?, subject.into_parts());
            let settings = commands::prove::Settings {
                base,
                adapter,
                commitment,
                task,
                asked,
                context,
                disclose,
                out,
                max_memory,
            };
            commands::prove::run(&settings, printer)
        }
        Verb::Verify(verify) => {
            let base = local(verify.base.clone())?;
            commands::verify::run(&verify.settings(base)?, printer)
        }
        Verb::Gnn(verb) => gnn::run(verb, printer),
        Verb::Defi(defi) => defi.run(printer),
        Verb::Demo(Demo { dir }) => commands::demo::run(&commands::demo::Settings { dir }, printer),
    }
}

impl Subject {
    fn into_parts(self) -> (commands::Task, commands::Asked) {
        use commands::{Asked, Task};
        let Self { task, prompt, raw, max_tokens, continuation, chosen, rejected, among, rows, .. } = self;
        let usual = if self.graph.is_some() { ProofTask::Logits } else { ProofTask::Completion };
        let task = match task.unwrap_or(usual) {
            ProofTask::Completion => Task::Completion { max_tokens: max_tokens as usize },
            ProofTask::Logits => Task::Logits,
            ProofTask::Logprob => Task::LogProb,
            ProofTask::Preference => Task::Preference,
            ProofTask::Choice => Task::Choice { among },
            ProofTask::AtLeast => Task::AtLeast(self.at_least.expect("this task requires it")),
        };
        let continuations = [continuation, chosen, rejected].into_iter().flatten().collect();
        let asked = match (rows, self.graph) {
            (_, Some(graph)) => Asked::Nodes { graph, names: self.node, file: self.nodes },
            (Some(file), None) => Asked::Rows(file),
            (None, None) => Asked::Typed { prompt: prompt.unwrap_or_default(), raw, continuations },
        };
        (task, asked)
    }
}

impl Verify {
    fn settings(self, base: PathBuf) -> Result<commands::verify::Settings> {
        use commands::verify::{Expected, Settings};
        let (expect_task, among, likely) = (self.task()?, self.expect_among, self.expect_at_least);
        let expect_input = match (self.expect_input, self.expect_rows) {
            (Some(prompt), _) => Expected::Prompt { prompt, raw: self.raw },
            (None, Some(file)) => Expected::Rows { file, among, likely },
            (None, None) if self.expect_nodes.is_some() || !self.expect_node.is_empty() => {
                Expected::Nodes { names: self.expect_node, file: self.expect_nodes, among, likely }
            }
            (None, None) if self.any_input => Expected::Any,
            (None, None) => Expected::Unknown,
        };
        let Self { bundles, expect_adapter, expect_graph, expect_context, limits, .. } = self;
        let Limits { max_tokens, max_sites, max_bytes, max_memory, max_seconds } = limits;
        let limits = prove::Limits {
            tokens: max_tokens,
            sites: max_sites,
            bytes: max_bytes,
            memory: max_memory,
            time: Duration::from_secs(max_seconds),
        };
        Ok(Settings { bundles, limits, base, expect_adapter, expect_input, expect_graph, expect_task, expect_context })
    }

    fn task(&self) -> Result<Option<ExpectedTask>> {
        let max_tokens = self.expect_max_tokens;
        // Who says what a choice or a threshold is of expects one.
        let implied = match (&self.expect_at_least, self.expect_among.is_empty()) {
            (Some(_), _) => Some(ProofTask::AtLeast),
            (None, false) => Some(ProofTask::Choice),
            (None, true) => None,
        };
        let task = match self.expect_task.or(implied) {
            Some(ProofTask::Completion) => ExpectedTask::Completion { max_tokens },
            None if max_tokens.is_some() => ExpectedTask::Completion { max_tokens },
            None => return Ok(None),
            Some(_) if max_tokens.is_some() => {
                let [message, hint] =
                    ["--expect-max-tokens is about completions", "leave it away, or expect a completion"]
                        .map(String::from);
                return Err(commands::Advice { message, hint }.into());
            }
            Some(ProofTask::Logits) => ExpectedTask::Logits,
            Some(ProofTask::Logprob) => ExpectedTask::LogProb,
            Some(ProofTask::Preference) => ExpectedTask::Preference,
            Some(ProofTask::Choice) => ExpectedTask::Choice,
            Some(ProofTask::AtLeast) => ExpectedTask::AtLeast,
        };
        Ok(Some(task))
    }
}

fn question(prompt: Prompt) -> commands::Question {
    let Prompt { prompt, raw, max_tokens } = prompt;
    commands::Question { prompt, raw, max_tokens: max_tokens as usize }
}
