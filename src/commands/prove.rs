//! `ftk prove`: a bundle that shows how a committed adapter continues a prompt.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use ftk_adapters::lora::Adapter;
use ftk_circuits::{AdapterCommitment, Opening};
use serde_json::json;

use super::commit::{OPENING, committed_form};
use super::{Advice, Outcome, Question, frozen, load};
use crate::cli::printer::Printer;
use crate::models::Model;
use crate::prove::FixedModel;
use crate::prove::bundle::{Bundle, COMMITMENT, REGISTRATION};
use crate::prove::completion::{StopRule, complete, discloses_adapter, prove, statement};
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
    /// Prompt and length.
    pub question: Question,
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
    let (model, adapter) = load(&settings.base, Some(&settings.adapter))?;
    let adapter = adapter.expect("a folder was given");
    let secrets = Secrets::read(&settings.commitment)?;
    let fixed = FixedModel::new(&model.source, &model.weights)?;
    let prompt = settings.question.ids(&model.source)?;
    let bundle = bundle(&model, &fixed, (&adapter, &settings.adapter), &secrets, &prompt, settings, printer)?;
    bundle.write(&settings.out).with_context(|| format!("cannot write to {}", settings.out.display()))?;
    printer.note(&format!("wrote {}", settings.out.display()));
    printer.object(&json!({
        "bundle": settings.out,
        "adapter": bundle.statement.adapter.to_string(),
        "base": bundle.statement.base.to_string(),
        "positions": bundle.statement.rows(),
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
    prompt: &[u32],
    settings: &Settings,
    printer: &Printer,
) -> Result<Bundle> {
    let Secrets { commitment, opening, registration } = secrets;
    if commitment.base() != fixed.digest() {
        let message = format!("{}: commits to an adapter of another base", settings.commitment.display());
        return Err(Advice::new(message, "give the base that `ftk commit` was given").into());
    }
    let (fixed_adapter, factors) = committed_form(fixed, adapter, folder)?;
    let tensors = frozen(Some(adapter))?;
    let stop = &model.source.special().stop;
    let room = fixed.network().context().saturating_sub(prompt.len());
    if room == 0 {
        let message = format!("the prompt fills the base's {} positions", fixed.network().context());
        return Err(Advice::new(message, "give a shorter --prompt").into());
    }
    let rule = StopRule { ids: stop, max_tokens: settings.question.max_tokens.min(room) };
    let propose =
        |ids: &[u32], limit: usize| greedy(fixed.network(), &model.weights, tensors.as_ref(), ids, limit, stop, |_| {});
    let completion = complete(fixed, &fixed_adapter, prompt, rule, propose)?;
    if !settings.disclose && discloses_adapter(&factors, &completion) {
        let message = format!("this proof would publish the adapter: {DISCLOSURE}");
        return Err(Advice::new(message, "pass --disclose if the adapter may become known").into());
    }
    printer.note(DISCLOSURE);
    let text = model.source.tokenizer()?.decode(&completion.ids, true)?;
    printer.line(&text);

    let statement = statement(fixed, commitment, settings.context.as_bytes(), prompt, rule, &completion);
    let key = commitment_key(commitment.k())?;
    let bar = printer.bar(0, "proving");
    let (deltas, proof) = prove(&key, &statement, (commitment, opening, &factors), completion, &mut |done, all| {
        bar.set_length(all as u64);
        bar.set_position(done as u64);
    })?;
    bar.finish_and_clear();
    let (commitment, registration) = (commitment.clone(), Some(registration.clone()));
    Ok(Bundle { statement, commitment, deltas, proof, registration })
}
