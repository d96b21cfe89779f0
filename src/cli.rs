//! The command line: what may be typed, and how an outcome becomes output and an exit code.
//! Data goes to stdout, everything else to stderr.

mod arguments;
mod defi;
mod exit;
mod foreign;
mod gnn;
mod help;
mod interrupt;
pub mod printer;
mod proofs;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use ftk_bases::Precision;
use ftk_kernels::float;

use self::arguments::{DeviceArgs, ModelArgs, PromptArgs, either};
use self::printer::Printer;
use self::proofs::{CommitArgs, OpenArgs, ProveArgs, VerifyArgs};
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
    /// Look at training rows
    #[command(subcommand)]
    Data(DataVerb),
    /// List, show, copy and check recipes
    #[command(subcommand)]
    Recipes(RecipesVerb),
    /// Print the JSON Schema of recipes, or of plans of markets
    #[command(after_help = help::SCHEMA)]
    Schema {
        /// Task whose files are meant: text, gnn or defi
        task: Option<String>,
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
    /// Answer a prompt, by greedy decoding
    #[command(after_help = help::GENERATE)]
    Generate(GenerateArgs),
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
}

#[derive(Args)]
struct TrainArgs {
    /// Recipe: a file (TOML), or a name in `ftk recipes ls`; --recipe RECIPE does the same
    #[arg(value_name = "RECIPE", conflicts_with = "recipe")]
    file: Option<PathBuf>,
    #[arg(long, hide = true, required_unless_present = "file")]
    recipe: Option<PathBuf>,
    /// Set a key of the recipe, for example optim.lr=1e-4; paths start at the current folder; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Folder for adapter, metrics and checkpoint, instead of the recipe's run.out
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Go on from the checkpoint in that folder, if there is one
    #[arg(long)]
    resume: bool,
    /// Check everything but the weights, show the recipe in full and what there is to do, and write nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    device: DeviceArgs,
}

#[derive(Args)]
struct AuditArgs {
    /// Run folder
    run: PathBuf,
    /// Your recipe (TOML), instead of the one in the run folder
    #[arg(long)]
    recipe: Option<PathBuf>,
    /// Set a key of the recipe, for example data.train=rows.jsonl; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Compute this step again and not all, from the last state before it that is kept; may be repeated
    #[arg(long, value_name = "STEP", value_parser = clap::value_parser!(u64).range(1..))]
    step: Vec<u64>,
    /// Compute so many steps again and not all, drawn by the transcript's root and --nonce
    #[arg(long, value_name = "COUNT", requires = "nonce", conflicts_with = "step")]
    sample: Option<u64>,
    /// A text of yours that nobody knew when the transcript was written
    #[arg(long, value_name = "TEXT", requires = "sample")]
    nonce: Option<String>,
    /// Compute no step again: check only what follows from recipe, rows and figures
    #[arg(long, conflicts_with_all = ["step", "sample"])]
    no_steps: bool,
    /// The transcript's root, as you knew it before you asked
    #[arg(long, value_name = "DIGEST")]
    expect_root: Option<String>,
    /// Record the operations of --step, each by digest, in this file
    #[arg(long, value_name = "FILE", requires = "step")]
    record: Option<PathBuf>,
    /// Find the first operation in which another's record of --step differs from yours
    #[arg(long, value_name = "RECORD", requires_all = ["step", "out"], group = "written")]
    dispute: Option<PathBuf>,
    /// Open this row of the run, counted from 1, in the file --out, to show it to somebody who may not see the others; may
    /// be repeated
    #[arg(long, value_name = "ROW", requires = "out", group = "written")]
    #[arg(conflicts_with_all = ["step", "sample", "no_steps", "record"])]
    open: Vec<u64>,
    /// Open the rows that this step learnt from
    #[arg(long, value_name = "STEP", requires = "out", group = "written")]
    #[arg(conflicts_with_all = ["step", "sample", "no_steps", "record"])]
    open_step: Option<u64>,
    /// Hold rows that were opened in this file against the transcript of the run folder, or this one, and nothing else
    #[arg(long, value_name = "FILE")]
    #[arg(conflicts_with_all = ["recipe", "set", "step", "sample", "no_steps", "record", "written"])]
    opened: Option<PathBuf>,
    /// File for what `ftk referee` needs to decide a --dispute, or for the rows that are opened
    #[arg(long, value_name = "FILE", requires = "written")]
    out: Option<PathBuf>,
    /// Compare with the transcript of this run folder, or with this one, and compute nothing
    #[arg(
        long,
        value_name = "RUN",
        conflicts_with_all = ["recipe", "set", "step", "sample", "no_steps", "expect_root", "record", "written", "opened"]
    )]
    against: Option<PathBuf>,
    #[command(flatten)]
    device: DeviceArgs,
}

#[derive(Subcommand)]
enum RecipesVerb {
    /// List the recipes and market plans that ship with ftk
    #[command(after_help = help::RECIPES_LS)]
    Ls,
    /// Print a recipe
    #[command(after_help = help::RECIPES_SHOW)]
    Show {
        /// Its name in `ftk recipes ls`
        name: String,
    },
    /// Copy a recipe to a new file, and the rows it comes with to where it looks for them
    #[command(after_help = help::RECIPES_CP)]
    Cp {
        /// Its name in `ftk recipes ls`
        name: String,
        /// The file to write, which must not exist
        file: PathBuf,
    },
    /// Check a recipe without opening the files it names
    #[command(after_help = help::RECIPES_CHECK)]
    Check {
        /// Recipe: a file (TOML), or a name in `ftk recipes ls`
        file: PathBuf,
        /// Set a key of the recipe; may be repeated
        #[arg(long, value_name = "KEY=VALUE")]
        set: Vec<String>,
    },
}

#[derive(Args)]
struct EstimateArgs {
    /// Recipe (a file or a name) that says what the options here do not; --recipe RECIPE does the same
    #[arg(value_name = "RECIPE", conflicts_with = "recipe")]
    file: Option<PathBuf>,
    #[arg(long, hide = true, required_unless_present_any = ["file", "base"])]
    recipe: Option<PathBuf>,
    /// Set a key of the recipe, for example run.batch=1; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Base model; a folder that holds only its config.json is enough
    #[arg(long)]
    base: Option<PathBuf>,
    /// PEFT adapter folder to estimate commitment and proof for, instead of the recipe's adapter
    #[arg(long, value_name = "FOLDER")]
    adapter: Option<PathBuf>,
    /// Tokens to prove: prompt and answer together
    #[arg(long, value_name = "COUNT", default_value_t = 64)]
    tokens: u64,
}

#[derive(Args)]
struct EvalArgs {
    /// Recipe (a file or a name) that says what the options here do not: base, rows, task, lengths, batch; --recipe
    /// RECIPE does the same
    #[arg(value_name = "RECIPE", conflicts_with = "recipe")]
    file: Option<PathBuf>,
    #[arg(long, hide = true, required_unless_present_any = ["file"], required_unless_present_all = ["base", "data"])]
    recipe: Option<PathBuf>,
    /// Set a key of the recipe, for example data.max_length=512; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Base model: a Hugging Face folder, a GGUF file, ORG/NAME[@REVISION] on the hub, `village` or `market`
    #[arg(long)]
    base: Option<PathBuf>,
    /// PEFT adapter folder; without it, the base alone is measured
    #[arg(long, value_name = "FOLDER")]
    adapter: Option<PathBuf>,
    /// Rows to measure on, instead of the recipe's held-out ones
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    /// What the rows are: texts (sft) or preference pairs (dpo); without it, as the recipe says, or sft
    #[arg(long)]
    task: Option<RowsTask>,
    #[command(flatten)]
    device: DeviceArgs,
}

#[derive(Clone, Copy, ValueEnum)]
enum RowsTask {
    Sft,
    Dpo,
}

impl RowsTask {
    /// The same as a recipe's setting.
    fn setting(self) -> String {
        let name = match self {
            Self::Sft => "sft",
            Self::Dpo => "dpo",
        };
        format!("task={name}")
    }
}

#[derive(Args)]
struct InspectArgs {
    /// Base, adapter folder, run folder, commitment or bundle
    path: PathBuf,
    /// Base model that the adapter must fit
    #[arg(long)]
    base: Option<PathBuf>,
    /// Compute the digest by which a proof names the base; reads all weights
    #[arg(long)]
    digest: bool,
}

#[derive(Args)]
struct MergeArgs {
    /// Base model: a Hugging Face folder, a GGUF file, ORG/NAME[@REVISION] on the hub, `village` or `market`
    #[arg(long)]
    base: PathBuf,
    /// PEFT adapter folder
    #[arg(long, value_name = "FOLDER")]
    adapter: PathBuf,
    /// Folder for the merged model, which must not exist
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
    /// Number format of the merged weights
    #[arg(long, default_value = "f32")]
    dtype: Dtype,
    /// Text to compare the two models on, instead of a built-in sample
    #[arg(long, value_name = "FILE")]
    text: Option<PathBuf>,
    /// Largest difference of a logit that is accepted, as a share of what the adapter changes
    #[arg(long, value_name = "SHARE", default_value_t = 0.1)]
    tolerance: f64,
}

#[derive(Clone, Copy, ValueEnum)]
enum Dtype {
    F32,
    Bf16,
    F16,
}

#[derive(Subcommand)]
enum DataVerb {
    /// Show rows as the model will see them, with what is scored marked, and count all
    #[command(
        override_usage = "ftk data preview [OPTIONS] <RECIPE|--base <BASE> --data <FILE>>",
        after_help = help::PREVIEW
    )]
    Preview(PreviewArgs),
}

#[derive(Args)]
struct PreviewArgs {
    /// Recipe (a file or a name) whose rows are shown; --recipe RECIPE does the same
    #[arg(value_name = "RECIPE", conflicts_with_all = ["recipe", "base"])]
    file: Option<PathBuf>,
    #[arg(long, hide = true, required_unless_present_any = ["file", "base"])]
    recipe: Option<PathBuf>,
    /// Base model, instead of a recipe
    #[arg(long, requires = "data", conflicts_with = "recipe")]
    base: Option<PathBuf>,
    /// Rows for that base: a .jsonl, .json (both also .gz, .zst) or .parquet file
    #[arg(long, value_name = "FILE", requires = "base")]
    data: Option<PathBuf>,
    /// Set a key of the recipe, for example data.loss=assistant; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// What those rows are: texts (sft) or preference pairs (dpo)
    #[arg(long, requires = "base", default_value = "sft")]
    task: RowsTask,
    /// How many rows to show
    #[arg(long, value_name = "COUNT", default_value_t = 3)]
    rows: usize,
    /// The day that the base's chat template writes where it asks for today's
    #[arg(long, value_name = "YYYY-MM-DD", requires = "base")]
    date: Option<String>,
}

#[derive(Args)]
struct PullArgs {
    /// ORG/NAME, with @REVISION for a branch, tag or commit other than main
    #[arg(value_name = "ORG/NAME[@REVISION]")]
    name: String,
    /// It is a data set: fetch its files of rows (.jsonl, .ndjson, .json, also .gz and .zst; .parquet)
    #[arg(long)]
    dataset: bool,
    /// Fetch only this file, for example a .gguf; may be repeated
    #[arg(long = "file", value_name = "NAME")]
    files: Vec<String>,
}

#[derive(Args)]
struct GenerateArgs {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    prompt: PromptArgs,
    /// The day that the base's chat template writes where it asks for today's
    #[arg(long, value_name = "YYYY-MM-DD")]
    date: Option<String>,
    #[command(flatten)]
    device: DeviceArgs,
}

#[derive(Args)]
struct LogitsArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// File to read: a safetensors file with `input_ids`, i64 (batch, seq)
    #[arg(long, value_name = "FILE")]
    ids: PathBuf,
    /// File to write: a safetensors file with `logits`, f32 (batch, seq, vocab)
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    device: DeviceArgs,
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
    exit::code(&Ok(came_to), usage.print().err().as_ref())
}

fn run(verb: Verb, &GlobalArgs { offline, .. }: &GlobalArgs, printer: &Printer) -> anyhow::Result<Outcome> {
    float::check().map_err(|error| {
        let hint = "a library loaded into it has set that (LD_PRELOAD?); start ftk without it".to_owned();
        Advice { message: error.to_string(), hint }
    })?;
    let local = |base: PathBuf| commands::pull::base(&base, offline, printer);
    if !matches!(verb, Verb::Train(_)) {
        interrupt::listen().context("cannot listen for signals")?;
    }
    match verb {
        Verb::Train(TrainArgs { file, recipe, set, out, resume, dry_run, device }) => {
            let recipe = either(file, recipe)?;
            let device = device.open()?;
            let settings = commands::train::Settings { recipe, set, out, resume, dry_run, device, offline };
            commands::train::run(&settings, printer)
        }
        Verb::Audit(AuditArgs { run, against: Some(other), .. }) => commands::audit::against(&run, &other, printer),
        Verb::Audit(AuditArgs { run, opened: Some(file), expect_root, .. }) => {
            commands::opened::check(&run, &file, expect_root.as_deref(), printer)
        }
        Verb::Referee { file } => commands::records::decide(&file, printer),
        Verb::Audit(audit) => {
            use commands::audit::Selection;
            use commands::opened::RowChoice;
            use commands::records::Recording;
            let AuditArgs {
                run,
                recipe,
                set,
                step,
                sample,
                nonce,
                no_steps,
                expect_root,
                record,
                dispute,
                open,
                open_step,
                out,
                device,
                ..
            } = audit;
            let rows = open_step.map(RowChoice::Step).or_else(|| (!open.is_empty()).then_some(RowChoice::Rows(open)));
            let opening = rows.zip(out.clone());
            let recording = if record.is_some() || dispute.is_some() {
                let &[step] = step.as_slice() else {
                    let hint = "give one --step with --record or --dispute".to_owned();
                    return Err(commands::Advice { message: "records are of one step".to_owned(), hint }.into());
                };
                Some(Recording { step, record, dispute: dispute.zip(out) })
            } else {
                None
            };
            let asked = match sample.zip(nonce) {
                Some((count, nonce)) => Selection::Drawn { count, nonce },
                None if no_steps => Selection::None,
                None if step.is_empty() => Selection::All,
                None => Selection::Steps(step),
            };
            let device = device.open()?;
            let settings = commands::audit::Settings { run, recipe, set, asked, expect_root, device, offline };
            match (recording, opening) {
                (Some(recording), _) => commands::records::record(&settings, &recording, printer),
                (None, Some((rows, out))) => commands::opened::open(&settings, &rows, &out, printer),
                (None, None) => commands::audit::run(&settings, printer),
            }
        }
        Verb::Recipes(recipes) => {
            use commands::recipes::Settings;
            let settings = match recipes {
                RecipesVerb::Ls => Settings::List,
                RecipesVerb::Show { name } => Settings::Show { name },
                RecipesVerb::Cp { name, file } => Settings::Copy { name, file },
                RecipesVerb::Check { file, set } => Settings::Check { file, set },
            };
            commands::recipes::run(&settings, printer)
        }
        Verb::Schema { task } => commands::recipes::schema(task.as_deref(), printer),
        Verb::Estimate(EstimateArgs { file, recipe, set, base, adapter, tokens }) => commands::estimate::run(
            &commands::estimate::Settings {
                recipe: file.or(recipe),
                set,
                base,
                estimation: commands::estimate::Estimation { adapter, tokens, offline },
            },
            printer,
        ),
        Verb::Eval(EvalArgs { file, recipe, mut set, base, adapter, data, task, device }) => {
            let (recipe, device) = (file.or(recipe), device.open()?);
            set.extend(task.map(RowsTask::setting));
            let base = base.map(local).transpose()?;
            let settings = commands::eval::Settings {
                recipe,
                set,
                base,
                evaluation: commands::eval::Evaluation { adapter, data, device, offline },
            };
            commands::eval::run(&settings, printer)
        }
        Verb::Inspect(InspectArgs { path, base, digest }) => {
            let base = base.map(local).transpose()?;
            commands::inspect::run(&commands::inspect::Settings { path, base, digest }, printer)
        }
        Verb::Merge(MergeArgs { base, adapter, out, dtype, text, tolerance }) => {
            let precision = match dtype {
                Dtype::F32 => Precision::F32,
                Dtype::Bf16 => Precision::Bf16,
                Dtype::F16 => Precision::F16,
            };
            let base = local(base)?;
            commands::merge::run(&commands::merge::Settings { base, adapter, out, precision, text, tolerance }, printer)
        }
        Verb::Data(DataVerb::Preview(PreviewArgs { file, recipe, base, data, mut set, task, rows, date })) => {
            let subject = match (file.or(recipe), base.zip(data)) {
                (Some(file), _) => commands::data::Previewed::Recipe { file, set },
                (None, Some((base, data))) => {
                    set.insert(0, task.setting());
                    commands::data::Previewed::File { base: local(base)?, data, set, date }
                }
                (None, None) => anyhow::bail!("give --recipe, or --base and --data"),
            };
            commands::data::preview(
                &commands::data::Settings { subject, preview: commands::data::PreviewOptions { rows, offline } },
                printer,
            )
        }
        Verb::Pull(PullArgs { name, dataset, files }) => {
            commands::pull::run(&commands::pull::Settings { name, dataset, files, offline }, printer)
        }
        Verb::Generate(GenerateArgs { model: ModelArgs { base, adapter }, prompt, date, device }) => {
            let device = device.open()?;
            let (base, question) = (local(base)?, prompt.question());
            commands::generate::run(&commands::generate::Settings { base, adapter, device, question, date }, printer)
        }
        Verb::Logits(LogitsArgs { model: ModelArgs { base, adapter }, ids, out, device }) => {
            let device = device.open()?;
            let base = local(base)?;
            commands::logits::run(&commands::logits::Settings { base, adapter, device, ids, out }, printer)
        }
        Verb::Commit(commit) => commit.run(local, printer),
        Verb::Open(open) => open.run(printer),
        Verb::Prove(prove) => prove.run(local, printer),
        Verb::Verify(verify) => verify.run(local, printer),
        Verb::Gnn(verb) => gnn::run(verb, printer),
        Verb::Defi(defi) => defi.run(printer),
        Verb::Demo(DemoArgs { dir }) => commands::demo::run(&commands::demo::Settings { dir }, printer),
    }
}
