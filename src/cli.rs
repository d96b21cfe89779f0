//! The command line: what may be typed, and how an outcome becomes output and an exit code.
//! Data goes to stdout, everything else to stderr.

mod defi;
mod exit;
mod foreign;
mod gnn;
pub mod printer;
mod proofs;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};

use self::printer::Printer;
use self::proofs::{Commit, Open, Prove, Verify};
use crate::commands::{self, Outcome};
use crate::device::Place;
use crate::models::Precision;

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
    /// The day that the base's chat template writes where it asks for today's
    #[arg(long, value_name = "YYYY-MM-DD", requires = "base")]
    date: Option<String>,
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
    /// The day that the base's chat template writes where it asks for today's
    #[arg(long, value_name = "YYYY-MM-DD")]
    date: Option<String>,
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
struct Demo {
    /// Folder to work in, kept afterwards; a temporary one without it
    #[arg(long)]
    dir: Option<PathBuf>,
}

/// All that may be typed, with its help.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Runs the command that was typed. Only here does what it came to turn into an exit code.
pub fn main() -> ExitCode {
    let Cli { global, verb } = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(usage) => return ExitCode::from(told(&usage)),
    };
    let printer = Printer::new(global.json, global.quiet);
    let came_to = run(verb, &global, &printer);
    if let Err(error) = &came_to {
        printer.error(error);
    }
    if let Some(error) = printer.lost().filter(|error| !exit::is_closed(error)) {
        printer.error(&anyhow::anyhow!("cannot write to standard output: {error}"));
    }
    ExitCode::from(exit::code(&came_to, printer.lost()))
}

/// Prints help, version or what is wrong with what was typed, and gives the exit code.
fn told(usage: &clap::Error) -> u8 {
    let came_to = if usage.use_stderr() { Outcome::Undecided } else { Outcome::Done };
    exit::code(&Ok(came_to), usage.print().err().as_ref())
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
        Verb::Data(Data::Preview(Preview { recipe, base, data, task, rows, date })) => {
            let kind = match task {
                Task::Sft => commands::data::Kind::Sft,
                Task::Dpo => commands::data::Kind::Pairs,
            };
            let subject = match (recipe, base.zip(data)) {
                (Some(recipe), _) => commands::data::Subject::Recipe(recipe),
                (None, Some((base, data))) => commands::data::Subject::File { base: local(base)?, data, kind, date },
                (None, None) => anyhow::bail!("give --recipe, or --base and --data"),
            };
            commands::data::preview(&commands::data::Settings { subject, rows, offline }, printer)
        }
        Verb::Pull(Pull { name, dataset, files }) => {
            commands::pull::run(&commands::pull::Settings { name, dataset, files, offline }, printer)
        }
        Verb::Generate(Generate { model: Model { base, adapter }, prompt, date }) => {
            let (base, question) = (local(base)?, question(prompt));
            commands::generate::run(&commands::generate::Settings { base, adapter, device, question, date }, printer)
        }
        Verb::Logits(Logits { model: Model { base, adapter }, ids, out }) => {
            let base = local(base)?;
            commands::logits::run(&commands::logits::Settings { base, adapter, device, ids, out }, printer)
        }
        Verb::Commit(commit) => commit.run(local, printer),
        Verb::Open(open) => open.run(printer),
        Verb::Prove(prove) => prove.run(local, printer),
        Verb::Verify(verify) => verify.run(local, printer),
        Verb::Gnn(verb) => gnn::run(verb, printer),
        Verb::Defi(defi) => defi.run(printer),
        Verb::Demo(Demo { dir }) => commands::demo::run(&commands::demo::Settings { dir }, printer),
    }
}

fn question(prompt: Prompt) -> commands::Question {
    let Prompt { prompt, raw, max_tokens } = prompt;
    commands::Question { prompt, raw, max_tokens: max_tokens as usize }
}
