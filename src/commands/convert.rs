//! `ftk convert`: an adapter between PEFT's folder and llama.cpp's GGUF file, values as they are.

use std::path::PathBuf;

use anyhow::{Context, Result};
use ftk_adapters::lora::{Adapter, Factors};
use ftk_adapters::peft;
use ftk_adapters::staged::{Staged, There};
use ftk_bases::{BaseModel, GgufAdapter, Precision, read_adapter, write_adapter};
use ftk_proofs::Net;
use serde_json::json;

use super::{Advice, Outcome, fits, unwritable, writable};
use crate::cli::printer::Printer;

/// What is needed.
pub struct Settings {
    /// A PEFT adapter folder, or a GGUF file.
    pub adapter: PathBuf,
    /// The base that it is for.
    pub base: PathBuf,
    /// How a GGUF file is to hold its values.
    pub precision: Precision,
    /// Where to write.
    pub out: PathBuf,
}

/// Converts.
///
/// # Errors
/// An adapter that cannot be read, does not fit the base, or has what the other format does not hold.
pub fn run(settings: &Settings, printer: &Printer) -> Result<Outcome> {
    let Settings { adapter, base, precision, out } = settings;
    if out.exists() {
        let message = format!("{}: is there already", out.display());
        return Err(Advice::new(message, "choose another place with --out").into());
    }
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
            write_adapter(out, &given, network, *precision)?;
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
