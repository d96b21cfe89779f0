//! What may be typed after `ftk defi`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::printer::Printer;
use crate::commands::Outcome;
use crate::commands::defi::{audit, backtest, import, quote, report};

#[derive(Subcommand)]
pub enum Defi {
    /// Read market files into one canonical file, and report what is odd
    Import(Import),
    /// Walk a plan forward: rows, adapters, decision logs, a table against tuned baselines
    Backtest(Backtest),
    /// Make one page of a backtest
    Report(Report),
    /// Answer a state with quotes or a range
    Quote(Quote),
    /// Follow a decision log through its market, and prove or verify a sample that the log itself draws
    Audit(Audit),
}

#[derive(Args)]
pub struct Import {
    /// Files of one format, plain or .gz
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Format, where it cannot be told: klines, bars, trades, agg-trades, prints, pool-minutes, pool-events
    #[arg(long)]
    format: Option<String>,
    /// The canonical file
    #[arg(long)]
    out: PathBuf,
}

#[derive(Args)]
pub struct Backtest {
    /// Plan (TOML), or the name of one that ships with ftk: quoter and provider run as they are, the others of
    /// `ftk recipes ls` need their market's file in the current folder
    #[arg(long)]
    plan: PathBuf,
    /// Folder for figures, page, adapters, commitments and logs
    #[arg(long)]
    out: PathBuf,
}

#[derive(Args)]
pub struct Report {
    /// Folder of a backtest
    run: PathBuf,
    /// The page, instead of report.html in that folder
    #[arg(long)]
    out: Option<PathBuf>,
}

#[derive(Args)]
pub struct Quote {
    /// Plan (TOML), or one that ships with ftk
    #[arg(long)]
    plan: PathBuf,
    /// State (JSON): the last rows of the market, and what is held
    #[arg(long)]
    state: PathBuf,
    /// PEFT adapter folder; the base alone without it
    #[arg(long)]
    adapter: Option<PathBuf>,
}

#[derive(Args)]
pub struct Audit {
    /// Plan whose market, limits and rules the log is to follow
    #[arg(long)]
    plan: PathBuf,
    /// Decision log
    #[arg(long)]
    log: PathBuf,
    /// Decisions to draw
    #[arg(long, default_value_t = 1)]
    sample: usize,
    /// What the auditor adds to the draw, so that no log was made to fit it
    #[arg(long, default_value = "")]
    nonce: String,
    /// The last digest that was announced
    #[arg(long, value_name = "DIGEST")]
    expect_head: Option<String>,
    /// Prove the sample: PEFT adapter folder that was committed
    #[arg(long, requires_all = ["commitment", "out"], conflicts_with = "bundle")]
    adapter: Option<PathBuf>,
    /// Folder that `ftk commit` wrote
    #[arg(long, requires = "adapter")]
    commitment: Option<PathBuf>,
    /// Go ahead although the proof publishes enough to recover the adapter
    #[arg(long, requires = "adapter")]
    disclose: bool,
    /// Folder for the bundle
    #[arg(long, requires = "adapter")]
    out: Option<PathBuf>,
    /// Verify this bundle about the sample
    #[arg(long)]
    bundle: Option<PathBuf>,
    /// Digest of the adapter's commitment, as `ftk commit` prints it
    #[arg(long, value_name = "DIGEST", requires = "bundle")]
    expect_adapter: Option<String>,
}

impl Defi {
    /// Runs what was typed.
    pub fn run(self, printer: &Printer) -> anyhow::Result<Outcome> {
        match self {
            Self::Import(Import { files, format, out }) => {
                import::run(&import::Settings { files, format, out }, printer)
            }
            Self::Backtest(Backtest { plan, out }) => backtest::run(&backtest::Settings { plan, out }, printer),
            Self::Report(Report { run, out }) => report::run(&report::Settings { run, out }, printer),
            Self::Quote(Quote { plan, state, adapter }) => {
                quote::run(&quote::Settings { plan, state, adapter }, printer)
            }
            Self::Audit(typed) => {
                let Audit { plan, log, sample, nonce, expect_head, .. } = typed;
                let part = match (typed.adapter, typed.commitment, typed.out, typed.bundle) {
                    (Some(adapter), Some(commitment), Some(out), _) => {
                        audit::Part::Prove { adapter, commitment, disclose: typed.disclose, out }
                    }
                    (_, _, _, Some(bundle)) => audit::Part::Verify { bundle, expect_adapter: typed.expect_adapter },
                    _ => audit::Part::Follow,
                };
                audit::run(&audit::Settings { plan, log, sample, nonce, expect_head, part }, printer)
            }
        }
    }
}
