//! The verbs of training: recipes, rows, what a run costs and did.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Subcommand, ValueEnum};

use super::arguments::{DeviceArgs, either};
use super::batch::shard;
use super::help;
use super::printer::Printer;
use crate::commands::audit::Selection;
use crate::commands::data::{PreviewOptions, Previewed};
use crate::commands::estimate::Estimation;
use crate::commands::eval::Evaluation;
use crate::commands::opened::RowChoice;
use crate::commands::records::Recording;
use crate::commands::{self, Advice, Outcome, audit, data, estimate, eval, recipes, records, train};

#[derive(Args)]
pub(super) struct TrainArgs {
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
    /// Train as this one of so many workers, for example 2/4, which train apart and meet every run.sync_every steps; files
    /// go to worker-I in the run folder
    #[arg(long, value_name = "I/N", value_parser = shard)]
    worker: Option<(usize, usize)>,
    /// Folder in which the workers of a run meet, which all of them see; without it, `exchange` in the run folder
    #[arg(long, value_name = "FOLDER", requires = "worker")]
    exchange: Option<PathBuf>,
    /// Check everything but the weights, show the recipe in full and what there is to do, and write nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    device: DeviceArgs,
}

#[derive(Args)]
pub(super) struct AuditArgs {
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
pub(super) enum RecipesVerb {
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
pub(super) struct EstimateArgs {
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
pub(super) struct EvalArgs {
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

#[derive(Subcommand)]
pub(super) enum DataVerb {
    /// Show rows as the model will see them, with what is scored marked, and count all
    #[command(
        override_usage = "ftk data preview [OPTIONS] <RECIPE|--base <BASE> --data <FILE>>",
        after_help = help::PREVIEW
    )]
    Preview(PreviewArgs),
}

#[derive(Args)]
pub(super) struct PreviewArgs {
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

impl TrainArgs {
    pub(super) fn run(self, offline: bool, printer: &Printer) -> Result<Outcome> {
        let Self { file, recipe, set, out, resume, worker, exchange, dry_run, device } = self;
        let (recipe, device) = (either(file, recipe)?, device.open()?);
        let settings = train::Settings { recipe, set, out, resume, worker, exchange, dry_run, device, offline };
        train::run(&settings, printer)
    }
}

impl AuditArgs {
    pub(super) fn run(self, offline: bool, printer: &Printer) -> Result<Outcome> {
        let Self {
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
            opened,
            out,
            against,
            device,
        } = self;
        if let Some(other) = against {
            return audit::against(&run, &other, printer);
        }
        if let Some(file) = opened {
            return commands::opened::check(&run, &file, expect_root.as_deref(), printer);
        }
        let rows = open_step.map(RowChoice::Step).or_else(|| (!open.is_empty()).then_some(RowChoice::Rows(open)));
        let opening = rows.zip(out.clone());
        let recording = if record.is_some() || dispute.is_some() {
            let &[step] = step.as_slice() else {
                let hint = "give one --step with --record or --dispute".to_owned();
                return Err(Advice { message: "records are of one step".to_owned(), hint }.into());
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
        let settings = audit::Settings { run, recipe, set, asked, expect_root, device, offline };
        match (recording, opening) {
            (Some(recording), _) => records::record(&settings, &recording, printer),
            (None, Some((rows, out))) => commands::opened::open(&settings, &rows, &out, printer),
            (None, None) => audit::run(&settings, printer),
        }
    }
}

impl RecipesVerb {
    pub(super) fn run(self, printer: &Printer) -> Result<Outcome> {
        let settings = match self {
            Self::Ls => recipes::Settings::List,
            Self::Show { name } => recipes::Settings::Show { name },
            Self::Cp { name, file } => recipes::Settings::Copy { name, file },
            Self::Check { file, set } => recipes::Settings::Check { file, set },
        };
        recipes::run(&settings, printer)
    }
}

impl EstimateArgs {
    pub(super) fn run(self, offline: bool, printer: &Printer) -> Result<Outcome> {
        let Self { file, recipe, set, base, adapter, tokens } = self;
        let estimation = Estimation { adapter, tokens, offline };
        estimate::run(&estimate::Settings { recipe: file.or(recipe), set, base, estimation }, printer)
    }
}

impl EvalArgs {
    /// Runs it; `local` finds a base.
    pub(super) fn run(
        self,
        local: impl Fn(PathBuf) -> Result<PathBuf>,
        offline: bool,
        printer: &Printer,
    ) -> Result<Outcome> {
        let Self { file, recipe, mut set, base, adapter, data, task, device } = self;
        let device = device.open()?;
        set.extend(task.map(RowsTask::setting));
        let base = base.map(local).transpose()?;
        let evaluation = Evaluation { adapter, data, device, offline };
        eval::run(&eval::Settings { recipe: file.or(recipe), set, base, evaluation }, printer)
    }
}

impl PreviewArgs {
    /// Runs it; `local` finds a base.
    pub(super) fn run(
        self,
        local: impl Fn(PathBuf) -> Result<PathBuf>,
        offline: bool,
        printer: &Printer,
    ) -> Result<Outcome> {
        let Self { file, recipe, base, data, mut set, task, rows, date } = self;
        let subject = match (file.or(recipe), base.zip(data)) {
            (Some(file), _) => Previewed::Recipe { file, set },
            (None, Some((base, data))) => {
                set.insert(0, task.setting());
                Previewed::File { base: local(base)?, data, set, date }
            }
            (None, None) => anyhow::bail!("give --recipe, or --base and --data"),
        };
        data::preview(&data::Settings { subject, preview: PreviewOptions { rows, offline } }, printer)
    }
}
