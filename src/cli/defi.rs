//! What may be typed after `ftk defi`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::arguments::either;
use super::help;
use super::printer::Printer;
use crate::commands::Outcome;
use crate::commands::defi::{audit, backtest, import, quote, replay, report};
use crate::commands::prove::Mode;

#[derive(Subcommand)]
pub enum DefiVerb {
    /// Read market data into one file, and report what is odd
    #[command(after_help = help::DEFI_IMPORT)]
    Import(DefiImportArgs),
    /// Train and test over time as a plan says, beside tuned baselines
    #[command(override_usage = "ftk defi backtest [OPTIONS] --out <FOLDER> <PLAN>", after_help = help::DEFI_BACKTEST)]
    Backtest(BacktestArgs),
    /// Make one HTML page of a backtest
    #[command(after_help = help::DEFI_REPORT)]
    Report(ReportArgs),
    /// Say what positions in a pool earned and lost, by every event of the pool
    #[command(after_help = help::DEFI_REPLAY)]
    Replay(ReplayArgs),
    /// Answer a state of the market with quotes, or with a range of prices
    #[command(after_help = help::DEFI_QUOTE)]
    Quote(QuoteArgs),
    /// Check a decision log against its market, and prove or verify a sample of it
    #[command(after_help = help::DEFI_AUDIT)]
    Audit(DefiAuditArgs),
}

#[derive(Args)]
pub struct DefiImportArgs {
    /// Files of one format, plain or gzip
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Their format, where it cannot be told: klines, bars, trades, agg-trades, prints, pool-minutes, pool-swaps,
    /// pool-events, orca-swaps
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// The market file to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

#[derive(Args)]
pub struct BacktestArgs {
    /// Plan (TOML), or the name of one that ships with ftk; --plan PLAN does the same. quoter and provider need no
    /// other file; the others in `ftk recipes ls` need the file of their market in the current folder
    #[arg(value_name = "PLAN", conflicts_with = "plan")]
    file: Option<PathBuf>,
    #[arg(long, hide = true, required_unless_present = "file")]
    plan: Option<PathBuf>,
    /// Set a key as if it stood in the plan, for example walk.windows=3; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Folder for figures, page, adapters, commitments and logs
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
}

#[derive(Args)]
pub struct ReportArgs {
    /// Folder of a backtest
    run: PathBuf,
    /// The page to write, instead of report.html in that folder
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Args)]
pub struct ReplayArgs {
    /// The pool's events: files as `ftk defi import` takes them, or what it wrote
    #[arg(required = true)]
    events: Vec<PathBuf>,
    /// Table of positions (.csv): tick_lower, tick_upper, liquidity, opened, and where known id, closed, and what was
    /// collected, fees0 and fees1; a moment is a time, or block:transaction:log
    #[arg(long, value_name = "FILE")]
    positions: PathBuf,
    /// The pool's fee, millionths
    #[arg(long, value_name = "MILLIONTHS", value_parser = clap::value_parser!(u32).range(1..1_000_000))]
    fee: u32,
    /// Decimals of both tokens, for example 6,18
    #[arg(long, value_name = "FIRST,SECOND", value_delimiter = ',', num_args = 1)]
    #[arg(value_parser = clap::value_parser!(u32).range(0..=24))]
    decimals: Vec<u32>,
    /// Which token is money: 0 or 1
    #[arg(long, value_name = "TOKEN", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=1))]
    money: u8,
    /// Distance of the ticks that may be used; without it Uniswap's for this fee
    #[arg(long, value_name = "TICKS", value_parser = clap::value_parser!(u16).range(1..=16_384))]
    spacing: Option<u16>,
    /// CSV file to write, instead of standard output
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Args)]
pub struct QuoteArgs {
    /// Plan (TOML), or the name of one that ships with ftk
    #[arg(long, value_name = "PLAN")]
    plan: PathBuf,
    /// Set a key as if it stood in the plan, for example walk.windows=3; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// State (JSON): the last rows of the market, and what is held
    #[arg(long, value_name = "FILE")]
    state: PathBuf,
    /// PEFT adapter folder; without it, the base alone answers
    #[arg(long, value_name = "FOLDER")]
    adapter: Option<PathBuf>,
}

#[derive(Args)]
pub struct DefiAuditArgs {
    /// Plan whose market, limits and rules the log must follow
    #[arg(long, value_name = "PLAN")]
    plan: PathBuf,
    /// Set a key as if it stood in the plan, for example walk.windows=3; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Decision log (decisions.jsonl)
    #[arg(long, value_name = "FILE")]
    log: PathBuf,
    /// How many decisions to draw
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    sample: usize,
    /// A text of the auditor's that decides the draw, so that no log was made to fit it
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    nonce: String,
    /// The log's last digest, as it was announced
    #[arg(long, value_name = "DIGEST")]
    expect_head: Option<String>,
    /// PEFT adapter folder that was committed
    #[arg(long, help_heading = "To prove the sample", value_name = "FOLDER")]
    #[arg(requires_all = ["commitment", "out"], conflicts_with = "bundle")]
    adapter: Option<PathBuf>,
    /// Folder that `ftk commit` wrote
    #[arg(long, help_heading = "To prove the sample", value_name = "FOLDER", requires = "adapter")]
    commitment: Option<PathBuf>,
    /// Prove in the open instead of sealed: the bundle publishes what the adapter adds, as with `ftk prove --open`
    #[arg(long, help_heading = "To prove the sample", requires = "adapter")]
    open: bool,
    /// With --open: prove even if all open proofs together publish enough to recover the adapter
    #[arg(long, help_heading = "To prove the sample", requires = "open")]
    disclose: bool,
    /// Folder to write the bundle to
    #[arg(long, help_heading = "To prove the sample", value_name = "FOLDER", requires = "adapter")]
    out: Option<PathBuf>,
    /// Bundle about the sample
    #[arg(long, help_heading = "To verify a proof of the sample", value_name = "FOLDER")]
    bundle: Option<PathBuf>,
    /// Digest of the adapter's commitment, as `ftk commit` prints it
    #[arg(long, help_heading = "To verify a proof of the sample", value_name = "DIGEST", requires = "bundle")]
    expect_adapter: Option<String>,
}

impl DefiVerb {
    /// Runs what was typed.
    pub fn run(self, printer: &Printer) -> anyhow::Result<Outcome> {
        match self {
            Self::Import(DefiImportArgs { files, format, out }) => {
                import::run(&import::Settings { files, format, out }, printer)
            }
            Self::Backtest(BacktestArgs { file, plan, set, out }) => {
                backtest::run(&backtest::Settings { plan: either(file, plan)?, set, out }, printer)
            }
            Self::Report(ReportArgs { run, out }) => report::run(&report::Settings { run, out }, printer),
            Self::Replay(ReplayArgs { events, positions, fee, decimals, money, spacing, out }) => {
                let money = usize::from(money);
                let spacing = spacing.map(i32::from);
                replay::run(&replay::Settings { events, positions, fee, decimals, money, spacing, out }, printer)
            }
            Self::Quote(QuoteArgs { plan, set, state, adapter }) => {
                quote::run(&quote::Settings { plan, set, state, adapter }, printer)
            }
            Self::Audit(typed) => {
                let DefiAuditArgs { plan, set, log, sample, nonce, expect_head, .. } = typed;
                let part = match (typed.adapter, typed.commitment, typed.out, typed.bundle) {
                    (Some(adapter), Some(commitment), Some(out), _) => {
                        let mode = Mode::of(typed.open, typed.disclose);
                        audit::SampleAction::Prove { adapter, commitment, mode, out }
                    }
                    (_, _, _, Some(bundle)) => {
                        audit::SampleAction::Verify { bundle, expect_adapter: typed.expect_adapter }
                    }
                    _ => audit::SampleAction::Follow,
                };
                audit::run(&audit::Settings { plan, set, log, sample, nonce, expect_head, part }, printer)
            }
        }
    }
}
