//! `ftk demo`: the whole line on the model that ships inside. Train an adapter on preferences, commit
//! to it, prove an answer, verify it, and see forgeries refused.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use candle_core::Device;
use ftk_adapters::foreign;
use ftk_adapters::lora::Adapter;
use ftk_adapters::staged::Temporary;
use ftk_bases::{BaseModel, LoadedModel, village};
use ftk_proofs::bundle::{Bundle, COMMITMENT};
use ftk_proofs::limits::Limits;
use ftk_proofs::{Kind, Output, Statement};
use ftk_recipes::Recipe;
use ftk_text::RowPlace;
use ftk_text::encode::{Encoder, Pair};
use ftk_text::preferred::preferred;
use ftk_text::rows::{self, Chat, Options, PairRow, PlainText};
use serde_json::json;

use super::prove::Mode;
use super::questions::{AskedOutput, InputSource};
use super::{Outcome, commit, fitting, frozen, prove, run, tasks, verify};
use crate::cli::printer::Printer;
use crate::prove::bundle;
use crate::train::Start;

/// What is needed.
pub struct Settings {
    /// Folder to work in; a temporary one without it.
    pub dir: Option<PathBuf>,
}

/// Longest answer, in tokens.
const ANSWER: usize = 32;

/// Runs the demonstration.
///
/// # Errors
/// Any step that does not end as it should.
pub fn run(settings: &Settings, printer: &Printer) -> Result<Outcome> {
    let temporary = Temporary::new(&std::env::temp_dir(), "ftk-demo-").context("cannot make a temporary folder")?;
    let folder = settings.dir.as_deref().unwrap_or(temporary.path());
    let began = Instant::now();
    village::unpack(folder)?;
    let recipe = {
        let mut recipe = Recipe::load(&folder.join("dpo.toml"))?;
        recipe.run.out = folder.join("adapter");
        recipe
    };
    let source = BaseModel::open(&recipe.base.model)?;
    let held_out = recipe.data.held_out.clone().context("the recipe names no held-out rows")?;
    let questions = rows::read::<PairRow>(&held_out, &Options::default())?.rows;
    let encoder = Encoder::new(&source, &held_out, recipe.data.loss, recipe.data.max_length);
    let encode = |(place, row): &(RowPlace, PairRow)| encoder.pair(*place, row.clone());
    let pairs = questions.iter().map(encode).collect::<Result<Vec<Pair>, _>>()?;

    let model = LoadedModel { weights: source.weights(&Device::Cpu)?, source };
    printer.line("1. train: an adapter by DPO on the village model, rows held out for the test");
    let before = rate(&model, None, &pairs)?;
    run::run(tasks::of(recipe.task), &recipe, Start::Fresh, run::RunControl::NONE, &Device::Cpu, printer)?;
    let adapter = fitting(&model.source, &recipe.run.out)?;
    let after = rate(&model, Some(&adapter), &pairs)?;
    let all = pairs.len();
    printer.line(&format!("   held-out preferred rate over {all} prompts: before {before}/{all}, after {after}/{all}"));
    ensure!(after > before, "training did not raise the preferred rate: {before} before, {after} after");

    let base = recipe.base.model.clone();
    let commitment = folder.join("commitment");
    printer.line("2. commit: hide the adapter behind a commitment, with a proof that its entries are 16-bit integers");
    let settings = commit::Settings {
        base: base.clone(),
        adapter: recipe.run.out.clone(),
        out: commitment.clone(),
        transcript: false,
        text: None,
        round: Vec::new(),
        max_memory: None,
    };
    commit::run(&settings, printer)?;
    let bytes = foreign::read(&commitment.join(COMMITMENT), foreign::DOCUMENT).context("cannot read the commitment")?;
    let digest = ftk_circuits::AdapterCommitment::decode(&bytes)?.digest().to_string();

    let prompt = question(&questions[0].1)?;
    let prove_as = |name: &str, mode: Mode| -> Result<PathBuf> {
        let settings = prove::Settings {
            base: base.clone(),
            adapter: recipe.run.out.clone(),
            commitment: commitment.clone(),
            claim: AskedOutput::Completion { max_tokens: ANSWER },
            inputs: InputSource::Typed { prompt: prompt.clone(), raw: false, continuations: Vec::new() },
            date: None,
            context: "ftk demo".to_owned(),
            mode,
            out: folder.join(name),
            max_memory: None,
        };
        prove::run(&settings, printer)?;
        Ok(settings.out)
    };
    printer.line(&format!(
        "3. prove: how the committed adapter answers {prompt:?}, sealed, which tells nothing else, and in the open"
    ));
    let (sealed, bundle) = (prove_as("sealed", Mode::Sealed)?, prove_as("open", Mode::Open { disclose: true })?);

    let check = |bundle: &Path| {
        let settings = verify::Settings {
            bundles: vec![bundle.to_owned()],
            limits: Limits::default(),
            base: base.clone(),
            expect_adapter: Some(digest.clone()),
            expect_transcript: None,
            expect_graph: None,
            expect_input: verify::Expected::Prompt { prompt: prompt.clone(), raw: false, question: None },
            date: None,
            expect_task: Some(Kind::Completion),
            expect_max_tokens: Some(ANSWER as u32),
            expect_context: Some("ftk demo".to_owned()),
        };
        verify::run(&settings, printer)
    };
    printer.line("4. verify: against the base, the commitment and the prompt, without the adapter");
    for bundle in [&sealed, &bundle] {
        ensure!(check(bundle)? == Outcome::Done, "an honest bundle was not accepted: {}", bundle.display());
    }

    printer.line("5. forge: the answer's first token, then what the adapter adds to one token at one site, all digests made anew");
    let forged = folder.join("forged-sealed");
    let mut content = bundle::packed(&sealed, &Limits::default())?;
    other_answer(&mut content.statement);
    bundle::write_packed(&content, &forged).with_context(|| format!("cannot write to {}", forged.display()))?;
    ensure!(check(&forged)? == Outcome::No, "a forged bundle was accepted: forged-sealed");
    for (name, forge) in [("forged-answer", forge_answer as fn(&mut Bundle)), ("forged-deltas", forge_deltas)] {
        let forged = folder.join(name);
        let mut content = bundle::read(&bundle, &Limits::default())?;
        forge(&mut content);
        bundle::write(&content, &forged).with_context(|| format!("cannot write to {}", forged.display()))?;
        ensure!(check(&forged)? == Outcome::No, "a forged bundle was accepted: {name}");
    }
    printer.line(&format!("done in {:.0} s", began.elapsed().as_secs_f64()));
    printer.object(&json!({ "prompts": all, "preferred_before": before, "preferred_after": after, "adapter": digest }));
    Ok(Outcome::Done)
}

fn rate(model: &LoadedModel, adapter: Option<&Adapter>, pairs: &[Pair]) -> Result<usize> {
    let (network, stop) = (model.source.network(), &model.source.special().stop);
    Ok(preferred(network, &model.weights, frozen(adapter, &Device::Cpu)?.as_ref(), pairs, stop)?)
}

/// The question of a row, as one types it.
fn question(row: &PairRow) -> Result<String> {
    match row {
        PairRow::Text(PlainText::Chat(Chat { messages, .. }), _, _) if messages.len() == 1 => {
            Ok(messages[0].content().unwrap_or_default().to_owned())
        }
        _ => anyhow::bail!("the held-out rows are not single questions"),
    }
}

fn forge_answer(bundle: &mut Bundle) {
    other_answer(&mut bundle.statement);
}

fn other_answer(statement: &mut Statement) {
    if let Output::Completion(completion) = &mut statement.cases[0].output {
        completion.ids[0] ^= 1;
    }
}

/// The last token's deltas become those of the token before it: still rows that an adapter of this rank can have.
fn forge_deltas(bundle: &mut Bundle) {
    let width = bundle.commitment.shapes()[0].d_out as usize;
    let deltas = &mut bundle.deltas[0];
    let last = deltas.len() - width;
    deltas.copy_within(last - width..last, last);
}
