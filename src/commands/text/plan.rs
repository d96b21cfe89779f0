//! A run that has been checked as far as can be without reading weights: what `--dry-run` shows and a run starts
//! from.

use std::path::Path;

use anyhow::Result;
use ftk_adapters::lora::Adapter;
use ftk_adapters::train::initial_factors;
use ftk_bases::BaseModel;
use ftk_circuits::required_k;
use ftk_proofs::Net;
use ftk_recipes::{Lora, Recipe};
use ftk_text::counts;
use ftk_text::examples::Examples;
use ftk_text::load::{DatasetKind, load};
use ftk_text::memory::Memory;
use serde_json::{Value, json};

use super::super::{Advice, fitting};
use crate::cli::printer::Printer;
use crate::prove::cost;
use crate::train;

/// Rows, first adapter and counts of a run.
pub(super) struct TextPlan {
    pub(super) rows: Examples,
    pub(super) held_out: Option<Examples>,
    /// The adapter training starts from; `None` where the base is trained.
    pub(super) begin: Option<Adapter>,
    pub(super) counts: RunCounts,
}

/// How much there is to do.
pub(super) struct RunCounts {
    train: counts::RowCounts,
    held_out: Option<counts::RowCounts>,
    steps: usize,
    /// Sites with an adapter.
    sites: usize,
    /// Parameters of the base.
    base: usize,
    /// Parameters that are trained.
    trained: usize,
    /// Tokens of the longest batch there can be.
    longest: usize,
    /// Memory of the run, with that batch.
    memory: Memory,
    /// Why no commitment can be made to the adapter, if none can.
    uncommittable: Option<String>,
}

impl TextPlan {
    /// Reads rows and adapter and counts.
    ///
    /// # Errors
    /// Rows or adapter that are malformed or do not fit the base; nothing to learn from or to evaluate on.
    pub(super) fn new(recipe: &Recipe, source: &BaseModel) -> Result<Self> {
        let load = |path: &Path| load(source, &recipe.data, DatasetKind::of(recipe), path);
        let rows = load(&recipe.data.train)?;
        let rows = if recipe.data.packing { rows.pack() } else { rows };
        let held_out = recipe.data.held_out.as_deref().map(load).transpose()?;
        let begin = recipe.lora.as_ref().map(|lora| begin(lora, source, recipe.run.seed)).transpose()?;
        let mut tokens: Vec<usize> = (0..rows.rows.len()).map(|row| rows.rows.tokens(row)).collect();
        tokens.sort_unstable();
        let longest = tokens.iter().rev().take(recipe.run.batch).sum();
        let base = source.network().shapes().values().map(|shape| shape.iter().product::<usize>()).sum();
        let factors = begin.iter().flat_map(|begin| begin.sites.values());
        let counts = RunCounts {
            train: rows.counts,
            held_out: held_out.as_ref().map(|held_out| held_out.counts.clone()),
            steps: train::steps(rows.rows.len(), &recipe.run),
            sites: begin.as_ref().map_or(0, |begin| begin.sites.len()),
            base,
            longest,
            memory: Memory::of(source, recipe, begin.as_ref(), longest),
            uncommittable: begin.as_ref().and_then(|begin| {
                let shapes = cost::shapes(&Net::Tokens(source.network().clone()), begin);
                required_k(&shapes).err().map(|error| cost::uncommittable(&error))
            }),
            trained: if begin.is_some() { factors.map(|f| f.a.len() + f.b.len()).sum() } else { base },
        };
        Ok(Self { rows: rows.rows, held_out: held_out.map(|held_out| held_out.rows), begin, counts })
    }

    /// Tokens of the longest batch there can be.
    pub(super) fn longest(&self) -> usize {
        self.counts.longest
    }
}

impl RunCounts {
    /// What became of the rows of each file, for a person.
    pub(super) fn notes(&self) -> Vec<String> {
        let rows = [&self.train].into_iter().chain(&self.held_out).flat_map(counts::RowCounts::notes);
        rows.chain(self.uncommittable.clone()).collect()
    }

    /// The same for a program.
    pub(super) fn data(&self) -> Vec<Value> {
        [&self.train].into_iter().chain(&self.held_out).map(counts::RowCounts::json).collect()
    }

    /// All counts by name; files are not named, so that a run elsewhere has the same.
    pub(super) fn json(&self) -> Value {
        let rows = |counts: &counts::RowCounts| {
            let mut counts = counts.json();
            counts.as_object_mut().map(|counts| counts.remove("file"));
            counts
        };
        json!({
            "train": rows(&self.train),
            "held_out": self.held_out.as_ref().map(rows),
            "steps": self.steps,
            "adapted_sites": self.sites,
            "base_parameters": self.base,
            "trained_parameters": self.trained,
        })
    }

    /// Shows the resolved recipe with the counts behind it as comments.
    pub(super) fn show(&self, recipe: &Recipe, printer: &Printer) -> Result<()> {
        printer.text(&toml::to_string(&recipe.resolved())?);
        self.notes().iter().for_each(|note| printer.line(&format!("# {note}")));
        let Self { steps, sites, base, trained, .. } = self;
        printer.line(&format!("# steps: {steps}"));
        printer.line(&format!("# trained parameters: {trained} at {sites} adapted sites; the base has {base}"));
        let mebibytes = self.memory.total().div_ceil(1 << 20);
        printer.line(&format!("# memory by arithmetic: {mebibytes} MiB (see ftk estimate)"));
        let mut object = self.json();
        object["memory"] = json!(self.memory.total());
        printer.object(&json!({ "recipe": recipe.resolved(), "counts": object }));
        Ok(())
    }
}

/// The adapter training starts from.
pub(super) fn begin(lora: &Lora, source: &BaseModel, seed: u64) -> Result<Adapter> {
    if let Some(folder) = &lora.start {
        return fitting(source, folder);
    }
    let (shapes, sites) = (source.network().shapes(), source.network().sites());
    let sizes = lora.choose(&sites).map_err(|error| Advice::new(error.message, error.hint))?;
    let mut adapter = Adapter::default();
    for site in sites {
        if let Some(size) = sizes.get(&site.name) {
            let shape = &shapes[&format!("{}.weight", site.weight)];
            let factors = initial_factors(&site.name, size.rank, (shape[0], shape[1]), size.scale as f32, seed);
            adapter.sites.insert(site.name, factors);
        }
    }
    Ok(adapter)
}
