//! The task of text at the door of tasks: supervised fine-tuning and preferences on rows.

mod estimate;
mod eval;
mod open;
mod plan;
mod preview;

use std::path::Path;

use anyhow::Result;
use candle_core::{Device, Tensor};
use ftk_adapters::lora::Adapter;
use ftk_adapters::peft;
use ftk_adapters::train::LoraTensors;
use ftk_adapters::weights::bytes;
use ftk_bases::BaseModel;
use ftk_networks::digest::BaseDigest;
use ftk_recipes::preference::rule::Rule;
use ftk_recipes::{BUILTIN, Recipe, Reference, Session};
use ftk_text::health::{Sign, Watch};
use ftk_text::references;
use ftk_text::session::{TextSession, Trained};
use serde_json::{Map, Value, json};

use self::plan::{RunCounts, TextPlan};
use super::origin::other_bases;
use super::run::manifest::{RunInputs, hex, of_file};
use super::task::{self, Estimation, Evaluation, OpenedRun, PreviewOptions, StartFile, Telling, Trainer};
use super::{Outcome, pull};
use crate::arithmetic;
use crate::cli::printer::Printer;
use crate::train::{METRICS, RunIdentity, StepReport};

/// The task of text.
pub(super) struct TextTask;

impl task::TaskCommands for TextTask {
    fn name(&self) -> &'static str {
        "text"
    }

    fn starts(&self) -> Result<Vec<StartFile>> {
        Ok(BUILTIN.iter().filter(|file| !file.name.contains('/')).map(StartFile::recipe).collect())
    }

    fn loss(&self, rule: &Value, inputs: &[Tensor]) -> Option<candle_core::Result<Vec<Tensor>>> {
        Some(serde_json::from_value::<Rule>(rule.clone()).ok()?.compute(inputs))
    }

    fn trainer(&self) -> Option<&dyn Trainer> {
        Some(self)
    }
}

impl Trainer for TextTask {
    fn takes(&self) -> &'static [ftk_recipes::Task] {
        &[ftk_recipes::Task::Sft, ftk_recipes::Task::Dpo]
    }

    fn fetch(&self, recipe: &mut Recipe, offline: bool, printer: &Printer) -> Result<()> {
        pull::recipe(recipe, offline, printer)
    }

    fn plan(&self, recipe: &Recipe) -> Result<Box<dyn task::RunPlan>> {
        let source = super::open(&recipe.base)?;
        let plan = TextPlan::new(recipe, &source)?;
        Ok(Box::new(PlannedText { recipe: recipe.clone(), source, plan }))
    }

    fn eval(&self, recipe: Recipe, settings: &Evaluation, printer: &Printer) -> Result<Outcome> {
        eval::run(recipe, settings, printer)
    }

    fn estimate(&self, recipe: Recipe, settings: &Estimation, printer: &Printer) -> Result<Outcome> {
        estimate::run(recipe, settings, printer)
    }

    fn preview(&self, recipe: Recipe, settings: &PreviewOptions, printer: &Printer) -> Result<Outcome> {
        preview::run(recipe, settings, printer)
    }
}

/// A run whose rows are read.
struct PlannedText {
    recipe: Recipe,
    source: BaseModel,
    plan: TextPlan,
}

impl task::RunPlan for PlannedText {
    fn show(&self, printer: &Printer) -> Result<()> {
        self.plan.counts.show(&self.recipe, printer)
    }

    fn open(self: Box<Self>, device: &Device) -> Result<Box<dyn OpenedRun>> {
        let Self { recipe, source, plan: TextPlan { rows, held_out, begin, counts } } = *self;
        open::allow_tf32(&recipe, device)?;
        let weights = match recipe.base.init_std {
            Some(std) => open::random_weights(&source, std, recipe.run.seed, device)?,
            None => source.weights_held(device, open::reading(&recipe))?,
        };
        let base = source.digest(&weights)?;
        let start = recipe.lora.as_ref().and_then(|lora| lora.start.as_deref());
        let others = other_bases(start, || Some(base.0));
        let arithmetic = arithmetic::name(device, open::products(&recipe), recipe.run.tf32);
        let inputs = inputs(&recipe, &base, begin.as_ref(), arithmetic)?;
        let (weights, trained) = match &begin {
            None => (open::variables(&weights)?, Trained::Base),
            Some(begin) => (open::held(&recipe, weights)?, Trained::Adapter(LoraTensors::trained(begin, device)?)),
        };
        let session = open::open(&recipe, &source, (weights, trained), begin.as_ref(), (rows, held_out), device)?;
        Ok(Box::new(TextRun { recipe, source, session, base, begin, others, counts, inputs }))
    }
}

/// A run whose weights are read, too.
struct TextRun {
    recipe: Recipe,
    source: BaseModel,
    session: TextSession,
    base: BaseDigest,
    /// The adapter training starts from; `None` where the base is trained.
    begin: Option<Adapter>,
    /// What to say of it, if it was trained on another base.
    others: Vec<String>,
    counts: RunCounts,
    inputs: RunInputs,
}

impl OpenedRun for TextRun {
    fn session(&self) -> &dyn Session {
        &self.session
    }

    fn inputs(&self) -> &RunInputs {
        &self.inputs
    }

    fn counts(&self) -> Value {
        self.counts.json()
    }

    fn announce(&self, printer: &Printer) {
        self.counts.notes().iter().chain(&self.others).for_each(|note| printer.note(note));
        printer.object(&json!({ "data": self.counts.data() }));
    }

    fn begin(&mut self, out: &Path, printer: &Printer) -> Result<()> {
        let dpo = &self.recipe.dpo;
        if self.recipe.task != ftk_recipes::Task::Dpo || !dpo.cache || !dpo.cost().has_reference() {
            return Ok(());
        }
        let adapter = self.begin.as_ref().filter(|_| dpo.reference == Reference::Start);
        let model = references::model(&self.base.0, adapter, &self.inputs.identity.arithmetic);
        open::refer(&mut self.session, &out.join(references::FILE), model, printer)
    }

    fn telling(&self, out: &Path) -> Telling {
        let dpo = &self.recipe.dpo;
        let mut watch = Watch::new(&out.join(METRICS), dpo.cost().has_reference().then_some(dpo.beta));
        let signs = move |step: &StepReport, asked: bool| {
            watch.see(&step.record);
            let told = |sign: &Sign| (sign.to_string(), matches!(sign, Sign::Diverged { .. }));
            watch.news(step.steps, asked).iter().map(told).collect()
        };
        Telling { rate: true, figures: &[], signs: Box::new(signs) }
    }

    fn beyond(&self) -> Option<String> {
        self.session.adapter().and_then(open::beyond)
    }

    fn export(&self, folder: &Path) -> Result<Vec<&'static str>> {
        open::export(&self.recipe, &self.source, &self.session, folder).map(<[_]>::to_vec)
    }
}

/// What goes into a run: recipe (but for the places it names), rows, base and first adapter.
fn inputs(recipe: &Recipe, base: &BaseDigest, begin: Option<&Adapter>, arithmetic: String) -> Result<RunInputs> {
    let train = of_file(&recipe.data.train)?;
    let held_out = recipe.data.held_out.as_deref().map(of_file).transpose()?;
    let start = recipe.lora.as_ref().and_then(|lora| lora.start.as_ref());
    let start = start.map(|folder| of_file(&folder.join(peft::FACTORS))).transpose()?;

    let mut hash = blake3::Hasher::new_derive_key("ftk training run");
    hash.update(&(arithmetic.len() as u64).to_le_bytes()).update(arithmetic.as_bytes());
    hash.update(train.as_bytes());
    if let Some(digest) = &held_out {
        hash.update(digest.as_bytes());
    }
    let recipe = recipe.without_places();
    let text = recipe.to_string();
    hash.update(&(text.len() as u64).to_le_bytes()).update(text.as_bytes()).update(&base.0);
    for (site, factors) in begin.iter().flat_map(|begin| &begin.sites) {
        hash.update(site.as_bytes()).update(&factors.scale.to_le_bytes());
        hash.update(&bytes(&factors.a)).update(&bytes(&factors.b));
    }
    let mut said = Map::new();
    said.insert("base".to_owned(), json!(base.to_string()));
    said.insert("data".to_owned(), json!({ "train": hex(&train), "held_out": held_out.as_ref().map(hex) }));
    said.insert("start".to_owned(), json!(start.as_ref().map(hex)));
    Ok(RunInputs::new(recipe, said, RunIdentity { digest: *hash.finalize().as_bytes(), arithmetic }))
}
