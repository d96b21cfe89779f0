//! A run that has been checked as far as can be without reading weights: what `--dry-run` shows and a run starts
//! from.

use std::path::Path;

use anyhow::Result;
use ftk_adapters::lora::Adapter;
use ftk_adapters::sites::Role;
use ftk_adapters::train::initial_factors;
use ftk_recipes::{Hold, Lora, Recipe, Task};
use serde_json::{Value, json};

use super::super::{Advice, fitting};
use crate::cli::printer::Printer;
use crate::models::Source;
use crate::text::encode::Encoder;
use crate::text::rows;
use crate::text::session::Rows;
use crate::train;

/// Rows, first adapter and counts of a run.
pub(super) struct Plan {
    pub(super) rows: Rows,
    pub(super) held_out: Option<Rows>,
    /// The adapter training starts from; `None` where the base is trained.
    pub(super) begin: Option<Adapter>,
    pub(super) counts: Counts,
}

/// How much there is to do.
pub(super) struct Counts {
    pub(super) train: RowCounts,
    pub(super) held_out: Option<RowCounts>,
    pub(super) steps: usize,
    /// Sites with an adapter.
    pub(super) sites: usize,
    /// Parameters of the base.
    pub(super) base: usize,
    /// Parameters that are trained.
    pub(super) trained: usize,
    /// How the base is held.
    hold: Hold,
}

/// What is in a file of rows.
pub(in super::super) struct RowCounts {
    pub(super) rows: usize,
    /// Rows from which nothing can be learnt.
    pub(super) left_out: usize,
    pub(super) tokens: usize,
    /// What the loss is a mean over: scored tokens (SFT) or pairs (DPO).
    pub(in super::super) items: usize,
}

/// Bytes of a number in memory.
const F32: usize = 4;
/// Numbers kept for each trained one: itself twice (on the device and in the optimiser), gradient, two moments.
const COPIES: usize = 5;

impl Plan {
    /// Reads rows and adapter and counts.
    ///
    /// # Errors
    /// Rows or adapter that are malformed or do not fit the base; nothing to learn from or to evaluate on.
    pub(super) fn new(recipe: &Recipe, source: &Source, printer: &Printer) -> Result<Self> {
        let rows = read_rows(recipe, source, &recipe.data.train, printer)?;
        let held_out = recipe.data.held_out.as_deref();
        let held_out = held_out.map(|path| read_rows(recipe, source, path, printer)).transpose()?;
        let begin = recipe.lora.as_ref().map(|lora| begin(lora, source, recipe.run.seed)).transpose()?;

        let counted = RowCounts::of(&rows);
        let learnt = counted.rows - counted.left_out;
        if learnt == 0 {
            return Err(train::TrainError::Empty.into());
        }
        let held_out_counted = held_out.as_ref().map(RowCounts::of);
        if let (Some(counts), Some(path)) = (&held_out_counted, &recipe.data.held_out)
            && counts.items == 0
        {
            let message = format!("no row has a scored token or pair: {}", path.display());
            let hint = "rows cut by data.max_length keep no answer; raise it, or look at the rows";
            return Err(Advice::new(message, hint).into());
        }
        let base = source.network().shapes().values().map(|shape| shape.iter().product::<usize>()).sum();
        let factors = begin.iter().flat_map(|begin| begin.sites.values());
        let counts = Counts {
            train: counted,
            held_out: held_out_counted,
            steps: train::steps(learnt, &recipe.run),
            sites: begin.as_ref().map_or(0, |begin| begin.sites.len()),
            base,
            hold: recipe.base.hold,
            trained: if begin.is_some() { factors.map(|f| f.a.len() + f.b.len()).sum() } else { base },
        };
        Ok(Self { rows, held_out, begin, counts })
    }
}

impl Counts {
    /// Memory below which the run cannot be held, in bytes: weights, gradients and optimiser, without what a batch
    /// needs on its way through the network. Unknown where the base is held as its files have it.
    fn memory(&self) -> Option<usize> {
        (self.hold == Hold::F32).then_some(F32 * (self.base + COPIES * self.trained))
    }

    /// All counts by name.
    pub(super) fn json(&self) -> Value {
        json!({
            "train": self.train.json(),
            "held_out": self.held_out.as_ref().map(RowCounts::json),
            "steps": self.steps,
            "adapted_sites": self.sites,
            "base_parameters": self.base,
            "trained_parameters": self.trained,
        })
    }

    /// Shows the resolved recipe with the counts behind it as comments.
    pub(super) fn show(&self, recipe: &Recipe, printer: &Printer) -> Result<()> {
        printer.line(&toml::to_string(recipe)?);
        let rows = |counts: &RowCounts| {
            let RowCounts { rows, left_out, tokens, items } = counts;
            let what = if recipe.task == Task::Sft { "scored tokens" } else { "pairs" };
            format!("{rows} rows ({left_out} left out), {tokens} tokens, {items} {what}")
        };
        printer.line(&format!("# train: {}", rows(&self.train)));
        if let Some(held_out) = &self.held_out {
            printer.line(&format!("# held out: {}", rows(held_out)));
        }
        let Self { steps, sites, base, trained, .. } = self;
        printer.line(&format!("# steps: {steps}"));
        printer.line(&format!("# trained parameters: {trained} at {sites} adapted sites; the base has {base}"));
        if let Some(bytes) = self.memory() {
            let mebibytes = bytes.div_ceil(1 << 20);
            printer.line(&format!("# memory: {mebibytes} MiB for weights, gradients, optimiser; more for a batch"));
        }
        let mut object = self.json();
        object["memory_at_least"] = json!(self.memory());
        printer.object(&json!({ "recipe": recipe, "counts": object }));
        Ok(())
    }
}

impl RowCounts {
    pub(in super::super) fn of(rows: &Rows) -> Self {
        let all = || 0..rows.len();
        Self {
            rows: rows.len(),
            left_out: all().filter(|&row| rows.items(row) == 0).count(),
            tokens: all().map(|row| rows.tokens(row)).sum(),
            items: all().map(|row| rows.items(row)).sum(),
        }
    }

    /// All counts by name.
    pub(in super::super) fn json(&self) -> Value {
        let Self { rows, left_out, tokens, items } = self;
        json!({ "rows": rows, "left_out": left_out, "tokens": tokens, "items": items })
    }
}

/// Rows of the recipe's task, as ids.
///
/// # Errors
/// An unreadable file, a malformed row; the tokenizer's and the template's.
pub(in super::super) fn read_rows(recipe: &Recipe, source: &Source, path: &Path, printer: &Printer) -> Result<Rows> {
    let positions = source.network().learned_positions().unwrap_or(usize::MAX);
    let longest = recipe.data.max_length.min(positions);
    let mut encoder = Encoder::new(source, path, longest);
    let rows = match recipe.task {
        Task::Sft => Rows::Sft(
            rows::read(path)?.into_iter().map(|(line, row)| encoder.sft(line, row)).collect::<Result<_, _>>()?,
        ),
        Task::Dpo => Rows::Dpo(
            rows::read(path)?.into_iter().map(|(line, row)| encoder.pair(line, row)).collect::<Result<_, _>>()?,
        ),
    };
    let empty = (0..rows.len()).filter(|&row| rows.items(row) == 0).count();
    let name = path.display();
    if encoder.cut > 0 {
        printer.note(&format!("{name}: {} sequences cut to {longest} tokens", encoder.cut));
    }
    if empty > 0 {
        printer.note(&format!("{name}: {empty} rows left out, nothing in them is scored"));
    }
    Ok(rows)
}

pub(super) fn linear_sites(source: &Source) -> Vec<String> {
    let sites = source.network().sites().into_iter();
    sites.filter(|site| site.role == Role::Linear).map(|site| site.name).collect()
}

/// The adapter training starts from.
fn begin(lora: &Lora, source: &Source, seed: u64) -> Result<Adapter> {
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
