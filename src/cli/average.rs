//! `ftk average`.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, ValueEnum};

use super::printer::Printer;
use crate::commands::average::stack;
use crate::commands::{Outcome, average};

#[derive(Args)]
pub(super) struct AverageArgs {
    /// PEFT adapter folders of one base
    #[arg(value_name = "ADAPTER", required_unless_present_any = ["commitments", "verify"])]
    adapters: Vec<PathBuf>,
    /// A weight for each, in their order; all the same without
    #[arg(long, value_name = "WEIGHT,WEIGHT", value_delimiter = ',', value_parser = weight)]
    weights: Vec<f64>,
    /// Side by side, which is exact and adds up ranks, or factor by factor, which keeps the rank and is another update
    #[arg(long, default_value = "stack")]
    method: MethodName,
    /// Folders that `ftk commit` wrote, one for each adapter: makes the commitment to the stack, too, for which nothing
    /// secret is needed; without adapters, it alone
    #[arg(long, value_name = "FOLDER,FOLDER", value_delimiter = ',', conflicts_with = "method")]
    commitments: Vec<PathBuf>,
    /// Check instead that what stands here, or a bundle, is of a stack, and say of which parts with which weights
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["adapters", "weights", "commitments", "method", "out"])]
    verify: Option<PathBuf>,
    /// Folder for the result, which must not exist
    #[arg(long, value_name = "FOLDER", required_unless_present = "verify")]
    out: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum MethodName {
    Stack,
    Factors,
}

/// A finite number above zero.
fn weight(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|weight: &f64| weight.is_finite() && *weight > 0.0);
    number.ok_or_else(|| "must be a number above 0".to_owned())
}

impl AverageArgs {
    /// Runs it.
    pub(super) fn run(self, printer: &Printer) -> Result<Outcome> {
        let Self { adapters, weights, method, commitments, verify, out } = self;
        if let Some(folder) = verify {
            return stack::verify(&folder, printer);
        }
        let out = out.ok_or_else(|| anyhow::anyhow!("give --out"))?;
        if !commitments.is_empty() {
            return stack::make(&stack::Settings { adapters, commitments, weights, out }, printer);
        }
        let method = match method {
            MethodName::Stack => average::AverageMethod::Stack,
            MethodName::Factors => average::AverageMethod::Factors,
        };
        average::run(&average::Settings { adapters, weights, method, out }, printer)
    }
}
