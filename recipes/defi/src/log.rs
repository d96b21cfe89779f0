//! The decision log: JSON lines chained by their digests, so that no decision can be dropped, put in or moved, and the
//! sample of decisions that are to be proved, drawn by the log's own last digest.
//!
//! The first line says which market, base, adapter and terms the log is about. Every other line is a decision: what
//! was held, the window's ids, the action's id, and the order that the public controller makes of it. Whoever has the
//! market recomputes everything but the actions; those are what proofs are about.

use serde_json::{Map, Value, json};

use super::DefiError;
use super::simulation::{Passed, Simulation};

/// Names of the checks, as failures begin with them.
pub mod check {
    /// A line is not spelt as ftk spells it.
    pub const FORM: &str = "log form";
    /// A digest is not that of its line, or not the one that the next line names.
    pub const CHAIN: &str = "log chain";
    /// A decision is missing, or stands at another place.
    pub const STEPS: &str = "log steps";
    /// The log is about another market.
    pub const MARKET: &str = "log market";
    /// The log is about other limits or rules than expected.
    pub const TERMS: &str = "log terms";
    /// What was held does not follow from the decisions before.
    pub const STATE: &str = "log state";
    /// The window is not that of the market at its time.
    pub const WINDOW: &str = "log window";
    /// The action is none of those listed.
    pub const ACTION: &str = "log action";
    /// The order is not what the controller makes of the action within its limits.
    pub const ORDER: &str = "log order";
    /// The last digest is not the one that was announced.
    pub const HEAD: &str = "log head";
}

/// What a log is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogHeader {
    /// Digest of the canonical market file, hexadecimal.
    pub market: String,
    /// What the plan states about controller, limits and rules ([`super::plan::Plan::terms_line`]).
    pub terms: String,
    /// Digest of the base.
    pub base: String,
    /// Digest of the adapter's commitment; empty for the base alone.
    pub adapter: String,
    /// Bars of the run: the first one, and the one behind the last.
    pub bars: [usize; 2],
    /// Bars between decisions.
    pub every: usize,
}

/// A decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// Bar that it saw last.
    pub bar: usize,
    /// Time of that bar.
    pub time: i64,
    /// What was held, as the simulation writes it.
    pub state: Value,
    /// Ids of the window.
    pub ids: Vec<u32>,
    /// Id of the action.
    pub action: u32,
    /// What the controller makes of it.
    pub order: Value,
}

/// A log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecisionLog {
    /// What it is about.
    pub header: LogHeader,
    /// Decisions in time order.
    pub entries: Vec<LogEntry>,
}

/// The first key of a header.
const KIND: &str = "ftk decision log";
/// Version of the form.
const VERSION: u64 = 1;
/// Separates digests of lines from all others.
const LINE: &str = "ftk decision log line 1";
/// Separates the draw of a sample from all other digests.
const DRAW: &str = "ftk decision log draw 1";

fn failed(check: &'static str, message: impl Into<String>) -> DefiError {
    DefiError::Log { check, message: message.into() }
}

/// A line with its digest, which covers the digest before it.
fn seal(mut fields: Map<String, Value>, previous: &str) -> (String, String) {
    fields.insert("previous".to_owned(), previous.into());
    let digest = blake3::derive_key(LINE, Value::Object(fields.clone()).to_string().as_bytes());
    let digest = hex(&digest);
    fields.insert("digest".to_owned(), digest.clone().into());
    (Value::Object(fields).to_string() + "\n", digest)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        _ => unreachable!("an object was written"),
    }
}

impl DecisionLog {
    /// The text, and its last digest: the log's head.
    pub fn write(&self) -> (String, String) {
        let LogHeader { market, terms, base, adapter, bars, every } = &self.header;
        let (mut text, mut head) = seal(
            object(json!({
                KIND: VERSION, "market": market, "terms": terms, "base": base, "adapter": adapter, "bars": bars,
                "every": every, "decisions": self.entries.len(),
            })),
            "",
        );
        for (step, entry) in self.entries.iter().enumerate() {
            let LogEntry { bar, time, state, ids, action, order } = entry;
            let fields = json!({
                "step": step, "bar": bar, "time": time, "state": state, "ids": ids, "action": action, "order": order,
            });
            let (line, digest) = seal(object(fields), &head);
            text.push_str(&line);
            head = digest;
        }
        (text, head)
    }

    /// Reads a log and checks its chain; with its head.
    ///
    /// # Errors
    /// The check that fails.
    pub fn read(text: &str) -> Result<(Self, String), DefiError> {
        let mut lines = text.lines();
        let form = |step: Option<usize>, what: &str| {
            let place = step.map_or("the first line".to_owned(), |step| format!("decision {step}"));
            failed(check::FORM, format!("{place}: {what}"))
        };
        let first = open(lines.next().unwrap_or_default(), "").map_err(|error| error.at(None))?;
        let text_of = |key: &str| first.fields.get(key).and_then(Value::as_str).map(str::to_owned);
        let count_of = |value: &Value| value.as_u64().and_then(|value| usize::try_from(value).ok());
        if first.fields.get(KIND).and_then(Value::as_u64) != Some(VERSION) {
            return Err(form(None, "is not of a decision log of this version"));
        }
        let header = || {
            let bars = first.fields.get("bars")?.as_array()?;
            let [start, end] = bars.as_slice() else { return None };
            Some(LogHeader {
                market: text_of("market")?,
                terms: text_of("terms")?,
                base: text_of("base")?,
                adapter: text_of("adapter")?,
                bars: [count_of(start)?, count_of(end)?],
                every: first.fields.get("every").and_then(count_of).filter(|&every| every > 0)?,
            })
        };
        let header = header().ok_or_else(|| form(None, "lacks a field or has one of another kind"))?;
        let decisions = first.fields.get("decisions").and_then(count_of);
        let (mut head, mut entries) = (first.digest, Vec::new());
        for (step, line) in lines.enumerate() {
            let Sealed { fields, digest } = open(line, &head).map_err(|error| error.at(Some(step)))?;
            if fields.get("step").and_then(count_of) != Some(step) {
                return Err(failed(check::STEPS, format!("decision {step} is numbered otherwise")));
            }
            let ids = |value: &Value| -> Option<Vec<u32>> {
                value.as_array()?.iter().map(|id| u32::try_from(id.as_u64()?).ok()).collect()
            };
            let entry = || {
                Some(LogEntry {
                    bar: fields.get("bar").and_then(count_of)?,
                    time: fields.get("time")?.as_i64()?,
                    state: fields.get("state")?.clone(),
                    ids: ids(fields.get("ids")?)?,
                    action: u32::try_from(fields.get("action")?.as_u64()?).ok()?,
                    order: fields.get("order")?.clone(),
                })
            };
            entries.push(entry().ok_or_else(|| form(Some(step), "lacks a field or has one of another kind"))?);
            head = digest;
        }
        if decisions != Some(entries.len()) {
            let stated = decisions.map_or("none".to_owned(), |count| count.to_string());
            return Err(failed(check::STEPS, format!("{stated} were stated, there are {}", entries.len())));
        }
        let log = Self { header, entries };
        // Nothing beside what was read, and nothing spelt otherwise.
        if log.write() != (text.to_owned(), head.clone()) {
            return Err(failed(check::FORM, "the text is not the one that ftk writes"));
        }
        Ok((log, head))
    }

    /// Recomputes everything but the choice of actions: that the log is about this market and these terms, that no
    /// decision of the run is missing, and that states, windows and orders follow.
    ///
    /// # Errors
    /// The check that fails.
    pub fn follow<D: Simulation>(&self, simulation: &D, market: &str, terms: &str) -> Result<Vec<Passed>, DefiError> {
        let LogHeader { market: stated, terms: own, bars: [start, end], every, .. } = &self.header;
        if stated != market {
            return Err(failed(check::MARKET, format!("is about the market {stated}, this is {market}")));
        }
        if own != terms {
            return Err(failed(check::TERMS, format!("is about {own}, expected was {terms}")));
        }
        if *start == 0 || start >= end || *end > simulation.bars() {
            return Err(failed(check::STEPS, format!("bars {start} to {end} are not in the market")));
        }
        let (first, actions) = simulation.ids();
        let mut entries = self.entries.iter().enumerate();
        let passed = super::simulation::run(simulation, *start..*end, *every, |state, at| {
            let (step, entry) = entries
                .next()
                .ok_or_else(|| failed(check::STEPS, format!("the decision after bar {at} is missing")))?;
            if (entry.bar, entry.time) != (at, simulation.time(at)) {
                let message = format!("decision {step} is about bar {}, it is the turn of {at}", entry.bar);
                return Err(failed(check::STEPS, message));
            }
            let differs = |check, what: &str| failed(check, format!("decision {step}: {what}"));
            if entry.state != simulation.describe(state) {
                return Err(differs(check::STATE, "what is held does not follow from the decisions before"));
            }
            if simulation.window(state, at).as_ref() != Some(&entry.ids) {
                return Err(differs(check::WINDOW, "the ids are not the market's at this time"));
            }
            let action = entry.action.checked_sub(first).map(|action| action as usize).filter(|&it| it < actions);
            let action = action.ok_or_else(|| differs(check::ACTION, "the action is none of those listed"))?;
            if entry.order != simulation.ordered(state, at, simulation.action(action)) {
                let message = "the order is not what the controller makes of the action within its limits";
                return Err(differs(check::ORDER, message));
            }
            Ok(simulation.action(action))
        })?;
        match entries.next() {
            None => Ok(passed),
            Some((step, _)) => Err(failed(check::STEPS, format!("decision {step} is beyond the end of the run"))),
        }
    }

    /// Runs a policy and keeps the log of it. `choose` answers a window with the position of an action.
    ///
    /// # Errors
    /// The policy's; amounts beyond range.
    pub fn keep<D: Simulation>(
        header: LogHeader,
        simulation: &D,
        mut choose: impl FnMut(&[u32]) -> Result<usize, DefiError>,
    ) -> Result<(Self, Vec<Passed>), DefiError> {
        let mut entries = Vec::new();
        let [start, end] = header.bars;
        let passed = super::simulation::run(simulation, start..end, header.every, |state, at| {
            let ids = simulation
                .window(state, at)
                .ok_or_else(|| DefiError::setting("run", "begins before there is a window"))?;
            let action = choose(&ids)?;
            let choice = simulation.action(action);
            entries.push(LogEntry {
                bar: at,
                time: simulation.time(at),
                state: simulation.describe(state),
                ids,
                action: simulation.ids().0 + action as u32,
                order: simulation.ordered(state, at, choice),
            });
            Ok(choice)
        })?;
        Ok((Self { header, entries }, passed))
    }
}

/// A line that was opened: its fields but the digest.
struct Sealed {
    fields: Map<String, Value>,
    digest: String,
}

/// What is wrong with a line.
enum BrokenLine {
    Form(&'static str),
    Chain(&'static str),
}

impl BrokenLine {
    fn at(self, step: Option<usize>) -> DefiError {
        let place = step.map_or("the first line".to_owned(), |step| format!("decision {step}"));
        match self {
            Self::Form(what) => failed(check::FORM, format!("{place}: {what}")),
            Self::Chain(what) => failed(check::CHAIN, format!("{place}: {what}")),
        }
    }
}

fn open(line: &str, previous: &str) -> Result<Sealed, BrokenLine> {
    let Ok(Value::Object(mut fields)) = serde_json::from_str(line) else {
        return Err(BrokenLine::Form("is not a JSON object"));
    };
    let Some(Value::String(digest)) = fields.shift_remove("digest") else {
        return Err(BrokenLine::Form("has no digest"));
    };
    if fields.get("previous").and_then(Value::as_str) != Some(previous) {
        return Err(BrokenLine::Chain("does not follow the line before it"));
    }
    let own = blake3::derive_key(LINE, Value::Object(fields.clone()).to_string().as_bytes());
    if hex(&own) != digest {
        return Err(BrokenLine::Chain("has another digest than it says"));
    }
    Ok(Sealed { fields, digest })
}

/// Which decisions are to be proved: `count` of them, drawn without replacement by the head and by what the auditor
/// adds to it, in ascending order.
pub fn sample(head: &str, nonce: &str, decisions: usize, count: usize) -> Vec<usize> {
    let mut all: Vec<usize> = (0..decisions).collect();
    let mut drawn = Vec::new();
    for draw in 0..count.min(decisions) {
        let seed = format!("{}:{head}{}:{nonce}{draw}", head.len(), nonce.len());
        let digest = blake3::derive_key(DRAW, seed.as_bytes());
        let number = u64::from_le_bytes(digest[..8].try_into().expect("eight bytes"));
        // Off from even by less than a part in 2^40 for any log that fits in memory.
        let at = ((u128::from(number) * all.len() as u128) >> 64) as usize;
        drawn.push(all.swap_remove(at));
    }
    drawn.sort_unstable();
    drawn
}

#[cfg(test)]
mod tests;
