//! `ftk defi`: markets in, decisions of market makers out. What markets and decisions are is known to
//! [`ftk_defi`]; here it meets models, training and proofs.

pub mod audit;
pub mod backtest;
pub mod import;
mod policy;
pub mod quote;
pub mod replay;
pub mod report;

use std::path::Path;

use anyhow::Result;
use ftk_adapters::foreign;
use ftk_defi::PLANS;
use ftk_defi::plan::{GENERATED, Plan, named};
use serde_json::{Value, json};

use super::task::{StartFile, TaskCommands, Trainer};

/// The task of markets: it has plans and no recipes, and trains on text that it makes of them.
pub(super) struct Markets;

impl TaskCommands for Markets {
    fn name(&self) -> &'static str {
        "defi"
    }

    fn starts(&self) -> Result<Vec<StartFile>> {
        let start = |file: &'static ftk_recipes::Builtin| -> Result<StartFile> {
            let market = Plan::parse(file.name, file.text)?.market;
            let needs = (market != Path::new(GENERATED)).then_some(market);
            Ok(StartFile { file, taker: "ftk defi backtest", needs })
        };
        PLANS.iter().map(start).collect()
    }

    fn schema(&self) -> Value {
        Plan::schema()
    }

    fn check(&self, file: &Path, set: &[String]) -> Result<Option<Value>> {
        // A recipe says its task, a plan its market.
        let text = match named(file) {
            Some(plan) => Some(plan.text.to_owned()),
            None => foreign::read_text(file, foreign::DOCUMENT).ok(),
        };
        let table: Option<toml::Table> = text.and_then(|text| text.parse().ok());
        if !table.is_some_and(|table| table.contains_key("market") && !table.contains_key("task")) {
            return Ok(None);
        }
        Ok(Some(json!({ "file": file, "plan": Plan::load_with(file, set)? })))
    }

    fn trainer(&self) -> Option<&dyn Trainer> {
        None
    }
}
