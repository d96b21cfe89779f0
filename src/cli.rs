//! The command line: what may be typed, and how an outcome becomes output and an exit code.
//! Data goes to stdout, everything else to stderr.

mod arguments;
mod average;
mod batch;
mod defi;
mod exit;
mod foreign;
mod gnn;
mod help;
mod interrupt;
mod models;
mod outputs;
mod pages;
pub mod printer;
mod proofs;
mod threads;
mod training;
mod working;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, CommandFactory, Parser, Subcommand};
use ftk_kernels::float;

use self::average::AverageArgs;
use self::batch::BatchArgs;
use self::models::{ChatArgs, ConvertArgs, GenerateArgs, InspectArgs, LogitsArgs, MergeArgs, PullArgs, PushArgs};
use self::pages::{CompletionsArgs, ManArgs};
use self::printer::Printer;
use self::proofs::{CommitArgs, OpenArgs, ProveArgs, VerifyArgs};
use self::training::{AuditArgs, DataVerb, EstimateArgs, EvalArgs, RecipesVerb, TrainArgs};
use crate::commands::{self, Advice, Outcome};

/// Fine-tune language models with LoRA and DPO, and prove what the result answers.
#[derive(Parser)]
#[command(name = "ftk", version, arg_required_else_help = true, max_term_width = WIDTH, after_help = help::FTK)]
struct Cli {
    #[command(flatten)]
    global: GlobalArgs,
    #[command(subcommand)]
    verb: Verb,
}

/// Columns of help on a wide terminal: longer lines are hard to read.
const WIDTH: usize = 120;

#[derive(Args)]
#[command(next_help_heading = "Global options")]
struct GlobalArgs {
    /// Print JSON on standard output: one object, or one a line
    #[arg(long, global = true)]
    json: bool,
    /// Print only errors on standard error
    #[arg(long, global = true)]
    quiet: bool,
    /// Make no connection: what is named on the hub comes from the cache (as with HF_HUB_OFFLINE=1)
    #[arg(long, global = true)]
    offline: bool,
}

#[derive(Subcommand)]
enum Verb {
    /// Train an adapter, or all weights of a base, as a recipe says
    #[command(override_usage = "ftk train [OPTIONS] <RECIPE>", after_help = help::TRAIN)]
    Train(TrainArgs),
    /// Make the runs of a plan, and what follows each: evaluation, commitment, proof, verification
    #[command(after_help = help::BATCH)]
    Batch(BatchArgs),
    /// Put runs side by side on one page of HTML: figures, curves, verdicts
    #[command(after_help = help::REPORT)]
    Report {
        /// Run folders
        #[arg(required = true, value_name = "RUN")]
        runs: Vec<PathBuf>,
        /// The page to write
        #[arg(long, value_name = "FILE", default_value = "report.html")]
        out: PathBuf,
        /// Write event files of TensorBoard into this folder, too, a folder a run
        #[arg(long, value_name = "FOLDER")]
        tensorboard: Option<PathBuf>,
    },
    /// Check a run against its transcript: compute its steps again, or find where two runs part
    #[command(after_help = help::AUDIT)]
    Audit(AuditArgs),
    /// Decide between two records of a training step
    #[command(after_help = help::REFEREE)]
    Referee {
        /// File that `ftk audit --dispute` wrote
        file: PathBuf,
    },
    /// Download a model or data set from the Hugging Face Hub into the cache
    #[command(after_help = help::PULL)]
    Pull(PullArgs),
    /// Upload an adapter or a model to the Hugging Face Hub
    #[command(after_help = help::PUSH)]
    Push(PushArgs),
    /// Look at training rows
    #[command(subcommand)]
    Data(DataVerb),
    /// List, show, copy and check recipes
    #[command(subcommand)]
    Recipes(RecipesVerb),
    /// Print the JSON Schema of recipes, of plans of markets, or of what a verb prints with --json
    #[command(after_help = help::SCHEMA)]
    Schema {
        /// Task whose files are meant: text, gnn or defi
        task: Option<String>,
        /// Verb whose objects are meant, such as: recipes ls
        #[arg(long, value_name = "VERB", num_args = 1..=2, conflicts_with = "task")]
        output: Vec<String>,
    },
    /// Estimate the memory of training, and the cost of commitment and proof
    #[command(override_usage = "ftk estimate [OPTIONS] <RECIPE|--base <BASE>>", after_help = help::ESTIMATE)]
    Estimate(EstimateArgs),
    /// Measure a base, with or without an adapter, on held-out rows
    #[command(override_usage = "ftk eval [OPTIONS] <RECIPE|--base <BASE> --data <FILE>>", after_help = help::EVAL)]
    Eval(EvalArgs),
    /// Show what a base, adapter, run, commitment or bundle holds
    #[command(after_help = help::INSPECT)]
    Inspect(InspectArgs),
    /// Merge an adapter into the weights of its base
    #[command(after_help = help::MERGE)]
    Merge(MergeArgs),
    /// Make one adapter of several, and of their commitments the commitment to it
    #[command(after_help = help::AVERAGE)]
    Average(AverageArgs),
    /// Convert an adapter to llama.cpp's GGUF format, or from it; a bundle to one file, or from it
    #[command(after_help = help::CONVERT)]
    Convert(ConvertArgs),
    /// Answer a prompt or rows of them, with the most likely tokens or drawn ones
    #[command(after_help = help::GENERATE)]
    Generate(GenerateArgs),
    /// Talk to a base, with or without an adapter, or with both side by side
    #[command(after_help = help::CHAT)]
    Chat(ChatArgs),
    /// Compute the logits of token ids, from and to safetensors files
    #[command(after_help = help::LOGITS)]
    Logits(LogitsArgs),
    /// Commit to an adapter: write a public commitment and a secret opening
    #[command(after_help = help::COMMIT)]
    Commit(CommitArgs),
    /// Check that an adapter that was delivered is the committed one
    #[command(after_help = help::OPEN)]
    Open(OpenArgs),
    /// Prove what a base with a committed adapter answers
    #[command(after_help = help::PROVE)]
    Prove(Box<ProveArgs>),
    /// Verify bundles against the base and against what you expect
    #[command(after_help = help::VERIFY)]
    Verify(Box<VerifyArgs>),
    /// Graphs: import them, score nodes and edges, compare ways to train
    #[command(subcommand)]
    Gnn(gnn::GnnVerb),
    /// Market making: import, backtest, report, quote, audit
    #[command(subcommand)]
    Defi(Box<defi::DefiVerb>),
    /// Train, commit, prove, verify and refuse forgeries, on the small model that ships with ftk
    #[command(after_help = help::DEMO)]
    Demo(DemoArgs),
    /// Look at this machine: processor, memory, devices, folders, the hub; and say what to do about what is wrong
    #[command(after_help = help::DOCTOR)]
    Doctor,
    /// Print a script that completes verbs and options in a shell
    #[command(after_help = help::COMPLETIONS)]
    Completions(CompletionsArgs),
    /// Write pages of the manual
    #[command(after_help = help::MAN)]
    Man(ManArgs),
}

#[derive(Args)]
struct DemoArgs {
    /// Folder to work in, which is kept; without it, a temporary one
    #[arg(long, value_name = "FOLDER")]
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
    let typed = || std::env::args_os().skip(1).take_while(|word| word != "--");
    if usage.use_stderr() && typed().any(|word| word == "--json") {
        Printer::new(true, true).object(&outputs::usage(usage));
    }
    exit::code(&Ok(came_to), usage.print().err().as_ref())
}

fn run(verb: Verb, &GlobalArgs { offline, .. }: &GlobalArgs, printer: &Printer) -> anyhow::Result<Outcome> {
    float::check().map_err(|error| {
        let hint = "a library loaded into it has set that (LD_PRELOAD?); start ftk without it".to_owned();
        Advice { message: error.to_string(), hint }
    })?;
    threads::join()?;
    let local = |base: PathBuf| commands::pull::base(&base, offline, printer);
    if !matches!(verb, Verb::Train(_) | Verb::Batch(_)) {
        interrupt::listen().context("cannot listen for signals")?;
    }
    match verb {
        Verb::Train(train) => train.run(offline, printer),
        Verb::Batch(batch) => batch.run(offline, printer),
        Verb::Report { runs, out, tensorboard } => {
            commands::report::run(&commands::report::Settings { runs, out, tensorboard }, printer)
        }
        Verb::Audit(audit) => audit.run(offline, printer),
        Verb::Referee { file } => commands::records::decide(&file, printer),
        Verb::Pull(pull) => pull.run(offline, printer),
        Verb::Push(push) => push.run(offline, printer),
        Verb::Data(DataVerb::Preview(preview)) => preview.run(local, offline, printer),
        Verb::Recipes(recipes) => recipes.run(printer),
        Verb::Schema { task, output } if output.is_empty() => commands::recipes::schema(task.as_deref(), printer),
        Verb::Schema { output, .. } => outputs::print(&output, printer),
        Verb::Estimate(estimate) => estimate.run(offline, printer),
        Verb::Eval(eval) => eval.run(local, offline, printer),
        Verb::Inspect(inspect) => inspect.run(local, printer),
        Verb::Merge(merge) => merge.run(local, printer),
        Verb::Average(average) => average.run(printer),
        Verb::Convert(convert) => convert.run(local, printer),
        Verb::Generate(generate) => generate.run(local, printer),
        Verb::Chat(chat) => chat.run(local, printer),
        Verb::Logits(logits) => logits.run(local, printer),
        Verb::Commit(commit) => commit.run(local, printer),
        Verb::Open(open) => open.run(printer),
        Verb::Prove(prove) => prove.run(local, printer),
        Verb::Verify(verify) => verify.run(local, printer),
        Verb::Gnn(verb) => gnn::run(verb, printer),
        Verb::Defi(defi) => defi.run(printer),
        Verb::Doctor => commands::doctor::run(offline, printer),
        Verb::Completions(completions) => completions.run(command(), printer),
        Verb::Man(man) => man.run(command(), printer),
        Verb::Demo(DemoArgs { dir }) => commands::demo::run(&commands::demo::Settings { dir }, printer),
    }
}
