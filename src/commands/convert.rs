//! `ftk convert`: an adapter between PEFT's folder and llama.cpp's GGUF file, values as they are; a bundle between its
//! folder and one file.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use ftk_adapters::lora::{Adapter, Factors};
use ftk_adapters::peft;
use ftk_adapters::staged::{Staged, There};
use ftk_bases::{BaseModel, GgufAdapter, Precision, read_adapter, write_adapter};
use ftk_proofs::Net;
use ftk_proofs::archive::ENDING;
use ftk_proofs::bundle::STATEMENT;
use ftk_proofs::limits::Limits;
use serde_json::json;

use super::{Advice, Outcome, fits, unwritable, writable};
use crate::cli::printer::Printer;
use crate::prove::bundle::{StagedBundle, files, is_single, strangers};

/// What is needed.
pub struct Settings {
    /// A PEFT adapter folder, or a GGUF file; or a bundle.
    pub path: PathBuf,
    /// The base that an adapter is for.
    pub base: Option<PathBuf>,
    /// How a GGUF file is to hold its values.
    pub precision: Precision,
    /// Where to write.
    pub out: PathBuf,
}

/// Converts.
///
/// # Errors
/// An adapter that cannot be read, does not fit the base, or has what the other format does not hold; a bundle of which not
/// all is there.
pub fn run(settings: &Settings, printer: &Printer) -> Result<Outcome> {
    let Settings { path, base, precision, out } = settings;
    if out.exists() {
        let message = format!("{}: is there already", out.display());
        return Err(Advice::new(message, "choose another place with --out").into());
    }
    let single = is_single(path).unwrap_or(false);
    match base {
        None if single || path.join(STATEMENT).exists() => bundle(path, single, out, printer),
        Some(base) => adapter(path, base, *precision, out, printer),
        None => {
            let message = format!("{}: is no bundle, and of an adapter --base is needed", path.display());
            Err(Advice::new(message, "--base BASE is the base model that the adapter is for").into())
        }
    }
}

/// A bundle, as it is: what it is worth, `ftk verify` says.
fn bundle(path: &Path, single: bool, out: &Path, printer: &Printer) -> Result<Outcome> {
    if single == out.extension().is_some_and(|ending| ending == ENDING) {
        let message =
            format!("{}: a bundle's folder becomes a file named .ftk, and such a file a folder", out.display());
        return Err(Advice::new(message, "choose another name with --out").into());
    }
    let files = files(path, &Limits::NONE)?;
    let staged = StagedBundle::new(out).map_err(|error| unwritable(out, &error))?;
    staged
        .write(&files)
        .and_then(|()| staged.persist())
        .with_context(|| format!("cannot write to {}", out.display()))?;
    strangers(path).iter().for_each(|stranger| printer.note(&format!("left out: {stranger}")));
    printer.line(&format!("wrote {}", out.display()));
    let format = if single { "folder" } else { ENDING };
    printer.object(&json!({ "out": out, "format": format, "files": files.keys().collect::<Vec<_>>() }));
    Ok(Outcome::Done)
}

fn adapter(adapter: &Path, base: &Path, precision: Precision, out: &Path, printer: &Printer) -> Result<Outcome> {
    let to_gguf = adapter.is_dir();
    if to_gguf {
        writable(out)?;
    }
    let staged = (!to_gguf).then(|| Staged::new(out, There::Stays)).transpose();
    let staged = staged.map_err(|error| unwritable(out, &error))?;
    let source = BaseModel::open(base)?;
    let network = source.network();
    let (sites, rank) = match staged {
        None => {
            let loaded = peft::load(adapter)?;
            fits(&Net::Tokens(network.clone()), &loaded, adapter)?;
            let given = one_alpha(loaded);
            write_adapter(out, &given, network, precision)?;
            counts(&given)
        }
        Some(staged) => {
            let given = read_adapter(adapter, network)?;
            let linear: Vec<String> = network.shapes_of_sites().into_iter().map(|(name, _)| name).collect();
            let (name, transposed) = (source.name(), network.fan_in_fan_out());
            peft::save_as_given(&staged.path(), &given.adapter, given.alpha, &name, &linear, transposed)?;
            staged.persist(&[peft::FACTORS]).with_context(|| format!("cannot write to {}", out.display()))?;
            counts(&given)
        }
    };
    printer.line(&format!("wrote {}", out.display()));
    printer
        .object(&json!({ "out": out, "format": if to_gguf { "gguf" } else { "peft" }, "sites": sites, "rank": rank }));
    Ok(Outcome::Done)
}

fn counts(given: &GgufAdapter) -> (usize, usize) {
    let ranks = given.adapter.sites.values().map(|factors| factors.rank);
    (given.adapter.sites.len(), ranks.max().unwrap_or(0))
}

/// The adapter with one alpha over each rank: as it is where it has one, else of one rank, which zeros fill up, and with
/// scales that differ worked into B.
fn one_alpha(mut adapter: Adapter) -> GgufAdapter {
    let alpha = |factors: &Factors| factors.scale * factors.rank as f32;
    let first = adapter.sites.values().next().map_or(1.0, alpha);
    if adapter.sites.values().all(|factors| first / factors.rank as f32 == factors.scale) {
        return GgufAdapter { adapter, alpha: first };
    }
    let rank = adapter.sites.values().map(|factors| factors.rank).max().unwrap_or(1) as f32;
    let scale = adapter.sites.values().next().map_or(1.0, |factors| factors.scale);
    // A scale that falls with the root of the rank need not be a quotient of any alpha by it.
    if adapter.sites.values().any(|factors| factors.scale != scale) || scale * rank / rank != scale {
        for factors in adapter.sites.values_mut() {
            factors.b.iter_mut().for_each(|b| *b *= factors.scale);
            factors.scale = 1.0;
        }
    }
    let adapter = peft::padded(adapter);
    let alpha = adapter.sites.values().next().map_or(1.0, alpha);
    GgufAdapter { adapter, alpha }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of roots of ranks some are no quotient in 32 bits.
    #[test]
    fn whatever_the_scale_one_alpha_gives_it() {
        for alpha in 1..=64 {
            let scale = (f64::from(alpha) / 3f64.sqrt()) as f32;
            let factors = Factors { rank: 3, d_in: 1, d_out: 1, a: vec![1.0; 3], b: vec![1.0; 3], scale };
            let GgufAdapter { adapter, alpha } = one_alpha(Adapter { sites: [("q".to_owned(), factors)].into() });
            let factors = &adapter.sites["q"];
            assert_eq!(alpha / factors.rank as f32, factors.scale);
            assert_eq!(factors.scale * factors.b[0], scale);
        }
    }
}
