//! One file a verb. Plain values in, an outcome out; here the parts that do not know each other meet.

pub mod audit;
pub mod average;
pub mod batch;
mod card;
pub mod chat;
pub mod commit;
pub mod convert;
pub mod data;
pub mod defi;
pub mod demo;
pub mod doctor;
pub mod estimate;
pub mod eval;
pub mod generate;
pub mod gnn;
pub mod inspect;
pub mod logits;
pub mod merge;
mod nodes;
pub mod open;
pub mod opened;
mod origin;
pub mod prove;
pub mod pull;
pub mod push;
pub mod questions;
pub mod recipes;
pub mod records;
pub mod report;
mod run;
mod stated;
mod stop;
mod task;
mod tasks;
mod text;
pub mod train;
pub mod verify;

use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result};
use candle_core::Device;
use ftk_adapters::foreign;
use ftk_adapters::hint::Hint;
use ftk_adapters::lora::Adapter;
use ftk_adapters::peft::{self, Saved};
use ftk_adapters::staged;
use ftk_adapters::train::LoraTensors;
use ftk_bases::{BaseModel, Date, LoadedModel, Message, stored_template, stored_tokens};
use ftk_networks::graphs::End;
use ftk_networks::sites::Role;
use ftk_recipes::{Base, Recipe};
use ftk_text::encode::Encoder;
use ftk_text::rows::{self, PlainText, SftRow};

use crate::prove::cost::available_memory;
use crate::prove::model;
use crate::prove::subject::ProvedBase;
use ftk_proofs::{FixedModel, Net};

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Done, or: yes.
    Done,
    /// The answer is no.
    No,
    /// It could not be told.
    Undecided,
    /// A signal ended it before its end, in good order; the exit code that names the signal.
    Stopped(u8),
}

/// An error that says what to do.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Advice {
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: String,
}

impl Hint for Advice {
    fn hint(&self) -> Option<String> {
        Some(self.hint.clone())
    }
}

impl Advice {
    pub(crate) fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { message: message.into(), hint: hint.into() }
    }
}

/// A prompt.
#[derive(Clone, Debug)]
pub struct Question {
    /// The text.
    pub prompt: String,
    /// Taken as it is, not as a user's message.
    pub raw: bool,
}

impl Question {
    /// The prompt's token ids.
    fn ids(&self, source: &BaseModel) -> Result<Vec<u32>> {
        let chat = !self.raw && source.chat_template().is_ok();
        let text = if chat {
            PlainText::Chat(vec![Message::new("user", &self.prompt)].into())
        } else {
            PlainText::Plain(self.prompt.clone())
        };
        let ids = Encoder::prompt(source, &text)?;
        if ids.is_empty() {
            return Err(Advice::new("the prompt has no tokens", "give --prompt some text").into());
        }
        Ok(ids)
    }
}

/// A cell of CSV.
fn csv_cell(cell: &str) -> String {
    if cell.contains([',', '"', '\n']) { format!("\"{}\"", cell.replace('"', "\"\"")) } else { cell.to_owned() }
}

/// What stands in for a recipe: nothing is trained, so `run.out` is never made.
const NO_RECIPE: &str =
    "task = \"sft\"\nbase = { model = \"\" }\ndata = { train = \"\" }\nlora = {}\nrun = { out = \"\" }\n";

/// The recipe at a path, or one that says nothing, with settings `key=value` and a base laid over it.
fn recipe(path: Option<&Path>, settings: &[String], base: Option<&Path>) -> Result<Recipe> {
    let mut recipe = match path {
        Some(path) => Recipe::load_with(path, settings)?,
        None => Recipe::parse_with(Path::new("recipe"), NO_RECIPE, settings)?,
    };
    if let Some(base) = base {
        recipe.base.model = base.to_owned();
    }
    Ok(recipe)
}

/// The base of a recipe: all but the weights, of which there may be none yet.
fn open(base: &Base) -> Result<BaseModel> {
    let source = match base.init_std {
        Some(_) => BaseModel::skeleton(&base.model)?,
        None => BaseModel::open(&base.model)?,
    };
    dated(source, base.date.as_deref(), "base.date")
}

/// What a proof is about, with the day that the base's chat template writes.
fn on_day(subject: ProvedBase, date: Option<&str>) -> Result<ProvedBase> {
    Ok(match subject {
        ProvedBase::Tokens(source) => ProvedBase::Tokens(Box::new(dated(*source, date, "--date")?)),
        graph => graph,
    })
}

/// The text of a file: as it is, or of rows that have nothing but text, one after another.
fn plain_text(path: &Path) -> Result<String> {
    let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default().to_ascii_lowercase();
    if !["jsonl", "ndjson", "json", "parquet", "csv", "gz", "zst"].contains(&ending.as_str()) {
        return foreign::read_text(path, foreign::DATA).with_context(|| format!("cannot read {}", path.display()));
    }
    let only = || {
        let message = format!("{}: holds rows, not text", path.display());
        Advice::new(message, "give --text a file of plain text, as the model will meet it, or rows with text alone")
    };
    let file = rows::read::<SftRow>(path, &rows::Options::default()).map_err(|_| only())?;
    let text = |(_, row)| match row {
        SftRow::Whole(PlainText::Plain(text)) => Some(text),
        _ => None,
    };
    let texts: Option<Vec<String>> = file.rows.into_iter().map(text).collect();
    Ok(texts.ok_or_else(only)?.join("\n"))
}

/// A base whose chat template writes this day; `key` is where it was given.
fn dated(mut source: BaseModel, date: Option<&str>, key: &str) -> Result<BaseModel> {
    if let Some(date) = date {
        source.set_date(day(date, key)?);
    }
    Ok(source)
}

/// The day that was given as `key`.
fn day(date: &str, key: &str) -> Result<Date> {
    let hint = "the chat template writes it where it asks for the day";
    Ok(date.parse().map_err(|wrong| Advice::new(format!("{key}: {wrong}"), hint))?)
}

/// A base with its weights on a device, and an adapter if one was named.
fn load(base: &Path, adapter: Option<&Path>, device: &Device) -> Result<(LoadedModel, Option<Adapter>)> {
    let source = BaseModel::open(base)?;
    let adapter = adapter.map(|folder| fitting(&source, folder)).transpose()?;
    let weights = source.weights(device)?;
    Ok((LoadedModel { source, weights }, adapter))
}

/// The adapter in a folder, if it fits the base.
fn fitting(source: &BaseModel, folder: &Path) -> Result<Adapter> {
    let (adapter, copies) = peft::load_with_copies(folder)?;
    let net = Net::Tokens(source.network().clone());
    fits(&net, &adapter, folder)?;
    for (site, (shape, values)) in &copies {
        let weight =
            net.sites().into_iter().find(|known| known.name == *site).map(|site| format!("{}.weight", site.weight));
        let weight = weight.map(|name| source.weight(&name)).transpose()?;
        let same = weight.map(|weight| {
            Ok::<_, anyhow::Error>(weight.dims() == shape && weight.flatten_all()?.to_vec1::<f32>()? == *values)
        });
        if !same.transpose()?.unwrap_or(false) {
            let message =
                format!("{}: holds a weight of the base that differs from the base's own: {site}", folder.display());
            return Err(Advice::new(
                message,
                "give the base this adapter was trained on, or merge the adapter with PEFT",
            )
            .into());
        }
    }
    Ok(adapter)
}

/// What to say of an adapter that is used otherwise than its folder may let one think: a chat template or a tokenizer of
/// its own, which nothing reads, so that the adapter is asked otherwise than it was trained; sites that only one of its files speaks of.
fn adapter_notes(source: &BaseModel, folder: Option<&Path>) -> Vec<String> {
    let Some(folder) = folder else { return Vec::new() };
    let mut notes = Vec::new();
    if let Some(own) = stored_template(folder).ok().flatten()
        && source.chat_template().map_or(true, |template| template.source() != own)
    {
        let message = "has a chat template of its own, which differs from the base's and is not used; to use it, put it \
                       beside the base's config.json";
        notes.push(message.to_owned());
    }
    if let (Ok((added, end)), Ok(tokenizer)) = (stored_tokens(folder), source.tokenizer()) {
        let lacking: Vec<String> = added.into_iter().filter(|token| tokenizer.id(token).is_none()).collect();
        if !lacking.is_empty() {
            let tokens = lacking.join(", ");
            notes.push(format!(
                "has a tokenizer of its own, which is not used, with tokens that the base lacks: {tokens}"
            ));
        }
        let stops: Vec<String> = source.special().stop.iter().filter_map(|&id| tokenizer.token(id)).collect();
        if let Some(end) = end.filter(|end| !stops.is_empty() && !stops.contains(end)) {
            let message = "has a tokenizer of its own, which is not used and ends answers otherwise than the base";
            notes.push(format!("{message}: with {end}, and not {}", stops.join(" or ")));
        }
    }
    let sites = source.network().sites().into_iter();
    let sites: Vec<String> =
        sites.filter(|site| matches!(site.role, Role::Linear | Role::Head)).map(|site| site.name).collect();
    notes.extend(peft::survey(folder).iter().flat_map(|survey| survey.unlike(&sites)));
    notes.into_iter().map(|note| format!("{}: {note}", folder.display())).collect()
}

/// Refuses an adapter with a site that the network has not, or not of this shape.
fn fits(net: &Net, adapter: &Adapter, folder: &Path) -> Result<()> {
    let (shapes, sites) = (net.shapes(), net.sites());
    for (name, factors) in &adapter.sites {
        let site = sites.iter().find(|site| site.name == *name && matches!(site.role, Role::Linear | Role::Head));
        let shape = site.and_then(|site| shapes.get(&format!("{}.weight", site.weight)));
        if shape.is_none_or(|shape| *shape != [factors.d_out, factors.d_in]) {
            let message = format!("{}: does not fit the base: {name}", folder.display());
            return Err(Advice::new(message, "give the base this adapter was trained on").into());
        }
    }
    Ok(())
}

/// The exact form of a base, and of one of tokens its floats, too.
fn exact(subject: ProvedBase) -> Result<(FixedModel, Option<LoadedModel>)> {
    Ok(match subject {
        ProvedBase::Graph { base, .. } => (base.fixed()?, None),
        ProvedBase::Tokens(source) => {
            let weights = source.weights(&Device::Cpu)?;
            (model::of(&source, &weights)?, Some(LoadedModel { source: *source, weights }))
        }
    })
}

/// What commitments and proofs are about: a base, with the head that was trained beside the adapter if there is one,
/// and the adapter.
struct Committable {
    subject: ProvedBase,
    adapter: Adapter,
    head: Option<Saved>,
}

impl Committable {
    fn open(base: &Path, folder: &Path) -> Result<Self> {
        match ProvedBase::open(base)? {
            ProvedBase::Tokens(source) => {
                let adapter = fitting(&source, folder)?;
                Ok(Self { subject: ProvedBase::Tokens(source), adapter, head: None })
            }
            ProvedBase::Graph { path, base } => {
                let (adapter, head) = peft::load_with_saved(folder)?;
                let own = base.has_head(&head);
                let base = base.with_head(&head).map_err(|name| {
                    let message = format!("{}: does not fit the base: {name}", folder.display());
                    Advice::new(message, "give the base this adapter was trained on")
                })?;
                if base.network().head == End::Encoder {
                    let message = format!("{}: brings no head, and the base has none", folder.display());
                    return Err(Advice::new(message, "train it with gnn.train_head = true").into());
                }
                let subject = ProvedBase::Graph { path, base };
                fits(&subject.net(), &adapter, folder)?;
                Ok(Self { subject, adapter, head: (!own).then_some(head) })
            }
        }
    }
}

/// Refuses a file that could not be written, before any work for it is done.
fn writable(path: &Path) -> Result<()> {
    staged::probe_file(path).map_err(|error| unwritable(path, &error))
}

/// The same of a page, and refuses to put one in the place of a file that is none.
fn writable_page(path: &Path) -> Result<()> {
    writable(path)?;
    let mut begins = Vec::new();
    if path.is_file() {
        let read = foreign::open(path).and_then(|file| file.take(PAGE.len() as u64).read_to_end(&mut begins));
        read.map_err(|error| unwritable(path, &error))?;
    }
    if !begins.is_empty() && begins != PAGE.as_bytes() {
        let message = format!("{}: is there already, and is no page of HTML", path.display());
        return Err(Advice::new(message, "choose another place with --out").into());
    }
    Ok(())
}

/// How the pages begin that ftk writes.
const PAGE: &str = "<!doctype html>";

/// The same of a folder that is or will be made.
fn writable_folder(path: &Path) -> Result<()> {
    staged::probe_folder(path).map_err(|error| unwritable(path, &error))
}

fn unwritable(path: &Path, error: &std::io::Error) -> anyhow::Error {
    Advice::new(format!("cannot write to {}: {error}", path.display()), "choose another place with --out").into()
}

/// Refuses what would take more memory than there may be: what the caller says, or what is free.
fn fits_memory(what: &str, needs: u64, allowed: Option<u64>) -> Result<()> {
    let allowed = allowed.or_else(available_memory).unwrap_or(u64::MAX);
    if needs <= allowed {
        return Ok(());
    }
    let mib = |bytes: u64| bytes >> 20;
    let message = format!("{what} needs some {} MiB of memory, and there are: {}", mib(needs), mib(allowed));
    let hint = "`ftk estimate` and `ftk prove --dry-run` say what needs how much; with fewer tokens or a smaller rank it is less, and \
                --max-memory says that there is more";
    Err(Advice::new(message, hint).into())
}

fn frozen(adapter: Option<&Adapter>, device: &Device) -> Result<Option<LoraTensors>> {
    adapter.map(|adapter| LoraTensors::frozen(adapter, device)).transpose().context("cannot place the adapter")
}
