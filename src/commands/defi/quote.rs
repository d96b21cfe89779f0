//! `ftk defi quote`: from a state to what the controller makes of the policy's action.

use std::path::PathBuf;

use anyhow::{Context, Result};
use ftk_adapters::foreign;
use ftk_bases::BaseModel;
use ftk_defi::plan::{MakerSimulation, Plan};
use ftk_defi::simulation::Simulation;
use ftk_defi::{canonical_rows, window};
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::{Advice, Outcome};
use super::policy::Policy;
use crate::cli::printer::Printer;

/// What is needed.
pub struct Settings {
    /// The plan.
    pub plan: PathBuf,
    /// Settings laid over it, `key=value`.
    pub set: Vec<String>,
    /// The state, JSON.
    pub state: PathBuf,
    /// PEFT adapter folder; the base alone without it.
    pub adapter: Option<PathBuf>,
}

/// What the maker knows and holds.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MakerState {
    /// The last rows of the market, spelt as in its canonical file.
    rows: Vec<String>,
    /// What is held, spelt as in a decision log; absent for a maker that begins.
    held: Option<Value>,
}

/// Prints the order.
///
/// # Errors
/// A plan, state or model that cannot be read.
pub fn run(settings: &Settings, printer: &Printer) -> Result<Outcome> {
    let plan = Plan::load_with(&settings.plan, &settings.set)?;
    let place = settings.state.display().to_string();
    let text =
        foreign::read_text(&settings.state, foreign::DOCUMENT).with_context(|| format!("cannot read {place}"))?;
    let state: MakerState = serde_json::from_str(&text).map_err(|error| {
        let message = format!("{place}:{}: {error}", error.line());
        Advice::new(message, "a state is {\"rows\": [canonical rows], \"held\": what a decision log calls state}")
    })?;
    let market = canonical_rows(&format!("{place}: rows"), plan.provider.is_some(), &state.rows)?;
    let (action, order) = match plan.sit(market)? {
        MakerSimulation::Book(simulation) => answer(&simulation, &plan, &state, settings)?,
        MakerSimulation::Liquidity(simulation) => answer(&simulation, &plan, &state, settings)?,
    };
    printer.line(&order.to_string());
    printer.object(&json!({ "action": action, "order": order }));
    Ok(Outcome::Done)
}

fn answer<D: Simulation>(simulation: &D, plan: &Plan, state: &MakerState, settings: &Settings) -> Result<(u32, Value)> {
    let few = || {
        let message = format!("{}: has {} rows", settings.state.display(), state.rows.len());
        Advice::new(message, format!("give at least the last {}", window::warm_up()))
    };
    let at = simulation.bars().checked_sub(1).ok_or_else(few)?;
    let held = match &state.held {
        Some(held) => simulation.restore(held),
        None => simulation.start(at),
    };
    let held = held?;
    let ids = simulation.window(&held, at).ok_or_else(few)?;
    let source = BaseModel::open(&plan.base)?;
    let policy = Policy::load(&source, settings.adapter.as_deref(), simulation.ids())?;
    let action = policy.choose(&ids)?;
    Ok((simulation.ids().0 + action as u32, simulation.ordered(&held, at, simulation.action(action))))
}
