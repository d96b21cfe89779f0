//! `ftk prove`: a bundle that shows what a base with a committed adapter gives for prompts or rows.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use candle_core::Device;
use ftk_adapters::lora::Adapter;
use ftk_circuits::{AdapterCommitment, Case, Opening, Output, Statement};
use serde_json::json;

use super::commit::{OPENING, committed_form};
use super::questions::{self, Asked, Task};
use super::stated::{Shown, summary, summary_json};
use super::{Advice, Outcome, frozen, load};
use crate::cli::printer::Printer;
use crate::models::{Model, Source};
use crate::prove::FixedModel;
use crate::prove::bundle::{Bundle, COMMITMENT, REGISTRATION};
use crate::prove::cases::{discloses_adapter, prove, settle};
use crate::prove::keys::commitment_key;
use crate::text::generate::greedy;

/// What is needed.
pub struct Settings {
    /// Base model.
    pub base: PathBuf,
    /// PEFT adapter folder.
    pub adapter: PathBuf,
    /// Folder that `ftk commit` wrote.
    pub commitment: PathBuf,
    /// What the proof is to show.
    pub task: Task,
    /// Of which inputs.
    pub asked: Asked,
    /// Bound into the proof.
    pub context: String,
    /// The adapter may become known.
    pub disclose: bool,
    /// Folder for the bundle.
    pub out: PathBuf,
}

/// What every proof in open mode gives away.
pub const DISCLOSURE: &str = "open mode publishes the exact delta of every adapted site on every token; \
    from about rank + 2 tokens these give away B, and a longer prompt the whole adapter";

/// Proves and writes the bundle.
///
/// # Errors
/// Files that do not belong together; disclosure that was not agreed to.
pub fn run(settings: &Settings, printer: &Printer) -> Result<Outcome> {
    let (model, adapter) = load(&settings.base, Some(&settings.adapter), &Device::Cpu)?;
    let adapter = adapter.expect("a folder was given");
    let secrets = Secrets::read(&settings.commitment)?;
    let fixed = FixedModel::new(&model.source, &model.weights)?;
    let cases = questions::cases(&settings.task, &settings.asked, &model.source)?;
    let bundle = bundle(&model, &fixed, (&adapter, &settings.adapter), &secrets, cases, settings, printer)?;
    answers(&bundle.statement, &model.source, printer)?;
    bundle.write(&settings.out).with_context(|| format!("cannot write to {}", settings.out.display()))?;
    printer.note(&format!("wrote {}", settings.out.display()));
    let shown = Shown(model.source.tokenizer().ok());
    printer.object(&json!({
        "bundle": settings.out,
        "adapter": bundle.statement.adapter.to_string(),
        "base": bundle.statement.base.to_string(),
        "positions": bundle.statement.rows(),
        "cases": bundle.statement.cases.iter().map(|case| shown.json(case)).collect::<Vec<_>>(),
        "preferences": summary_json(&bundle.statement),
    }));
    Ok(Outcome::Done)
}

/// What `ftk commit` wrote.
struct Secrets {
    commitment: AdapterCommitment,
    opening: Opening,
    registration: Vec<u8>,
}

impl Secrets {
    fn read(folder: &Path) -> Result<Self> {
        let file = |name: &str| {
            let path = folder.join(name);
            std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
        };
        let place = || format!("in {}", folder.display());
        Ok(Self {
            commitment: AdapterCommitment::decode(&file(COMMITMENT)?).with_context(place)?,
            opening: Opening::decode(&file(OPENING)?).with_context(place)?,
            registration: file(REGISTRATION)?,
        })
    }
}

fn bundle(
    model: &Model,
    fixed: &FixedModel,
    (adapter, folder): (&Adapter, &Path),
    secrets: &Secrets,
    cases: Vec<Case>,
    settings: &Settings,
    printer: &Printer,
) -> Result<Bundle> {
    let Secrets { commitment, opening, registration } = secrets;
    if commitment.base() != fixed.digest() {
        let message = format!("{}: commits to an adapter of another base", settings.commitment.display());
        return Err(Advice::new(message, "give the base that `ftk commit` was given").into());
    }
    let (fixed_adapter, factors) = committed_form(fixed, adapter, folder)?;
    let tensors = frozen(Some(adapter), &Device::Cpu)?;
    let stop = &model.source.special().stop;
    let propose =
        |ids: &[u32], limit: usize| greedy(fixed.network(), &model.weights, tensors.as_ref(), ids, limit, stop, |_| {});
    let (cases, records) = settle(fixed, &fixed_adapter, cases, propose)?;
    if !settings.disclose && discloses_adapter(&factors, &records) {
        let message = format!("this proof would publish the adapter: {DISCLOSURE}");
        return Err(Advice::new(message, "pass --disclose if the adapter may become known").into());
    }
    printer.note(DISCLOSURE);
    let (base, adapter) = (fixed.digest(), commitment.digest());
    let statement = Statement { base, adapter, context: settings.context.clone().into_bytes(), cases };
    let key = commitment_key(commitment.k())?;
    let bar = printer.bar(0, "proving");
    let (deltas, proof) = prove(&key, &statement, (commitment, opening, &factors), records, &mut |done, all| {
        bar.set_length(all as u64);
        bar.set_position(done as u64);
    })?;
    bar.finish_and_clear();
    let (commitment, registration) = (commitment.clone(), Some(registration.clone()));
    Ok(Bundle { statement, commitment, deltas, proof, registration })
}

/// The answer of one completion as it is; of anything else, what it says.
fn answers(statement: &Statement, source: &Source, printer: &Printer) -> Result<()> {
    match statement.cases.as_slice() {
        [Case { output: Output::Completion { ids, .. }, .. }] => {
            printer.line(&source.tokenizer()?.decode(ids, true)?);
        }
        cases => {
            let shown = Shown(source.tokenizer().ok());
            cases.iter().for_each(|case| printer.line(&shown.claim(case)));
            summary(statement).iter().for_each(|line| printer.line(line));
        }
    }
    Ok(())
}
