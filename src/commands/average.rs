//! `ftk average`: several adapters made one, side by side or factor by factor, and what either costs; of parts that were
//! committed to, the commitment that follows from theirs.

pub mod stack;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use ftk_adapters::average::{averaged, distance, stacked};
use ftk_adapters::foreign;
use ftk_adapters::lora::Adapter;
use ftk_adapters::peft;
use ftk_adapters::staged::{Staged, There};
use serde_json::{Value, json};

use super::card::Card;
use super::run::MANIFEST;
use super::{Advice, Outcome, unwritable};
use crate::cli::printer::Printer;

/// How adapters are made one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AverageMethod {
    /// Side by side: the weighted sum of their products, of the summed rank.
    Stack,
    /// Factor by factor: of the rank they have.
    Factors,
}

impl AverageMethod {
    fn name(self) -> &'static str {
        if self == Self::Stack { "stack" } else { "factors" }
    }

    fn words(self) -> &'static str {
        if self == Self::Stack { "stacked" } else { "factor by factor" }
    }

    fn other(self) -> Self {
        if self == Self::Stack { Self::Factors } else { Self::Stack }
    }
}

/// What is needed.
pub struct Settings {
    /// PEFT adapter folders.
    pub adapters: Vec<PathBuf>,
    /// A weight for each; all the same without.
    pub weights: Vec<f64>,
    /// How.
    pub method: AverageMethod,
    /// Folder for the result.
    pub out: PathBuf,
}

/// Averages, says how far either way is from the average of products, and writes.
///
/// # Errors
/// Adapters of different bases, sites or arithmetic; a folder that is there already.
pub fn run(settings: &Settings, printer: &Printer) -> Result<Outcome> {
    let Settings { adapters: folders, weights, method, out } = settings;
    absent(out)?;
    let staged = Staged::new(out, There::Stays).map_err(|error| unwritable(out, &error))?;
    let Parts { adapters, base, transposed } = Parts::read(folders)?;
    let weights = weights_of(weights, adapters.len())?;
    let sum: f64 = weights.iter().sum();
    let is_average = (sum - 1.0).abs() < 1e-6;
    if !is_average && *method == AverageMethod::Factors {
        let message = format!("weights of averaged factors must sum to 1, and sum to {sum}");
        return Err(Advice::new(message, "a sum of products is what --method stack makes").into());
    }
    if !is_average {
        printer.note(&format!("the weights sum to {sum}: the result is a sum, not an average"));
    }
    let parts: Vec<&Adapter> = adapters.iter().collect();
    // What is written is on the grid.
    let made = |method: AverageMethod| -> Result<(Adapter, f64)> {
        let adapter = match method {
            AverageMethod::Stack => stacked(&parts, &weights)?,
            AverageMethod::Factors => averaged(&parts, &weights)?,
        };
        let on_grid = adapter.on_grid().context("the average does not fit the 16-bit grid")?;
        let error = distance(&parts, &weights, &on_grid)?;
        Ok((adapter, error))
    };
    let (result, error) = made(*method)?;
    // The other way is measured where it can be gone, and said why where not.
    let other = made(method.other());
    peft::save(&staged.path(), &result, &base, &[], transposed)?;
    Card::default().write(&staged.path())?;
    staged.persist(&[peft::FACTORS]).with_context(|| format!("cannot write to {}", out.display()))?;
    let ways = [AverageMethod::Stack, AverageMethod::Factors].map(|way| {
        let made =
            if way == *method { Ok((&result, error)) } else { other.as_ref().map(|(other, error)| (other, *error)) };
        printer.line(&match &made {
            Ok((adapter, error)) => {
                let rank = rank(adapter);
                format!("{}, rank {rank}: {error:.1e} of the update away from the average of products", way.words())
            }
            Err(error) => format!("{}: not possible: {error:#}", way.words()),
        });
        made.ok().map(|(_, error)| error)
    });
    printer.line(&format!("wrote {}", out.display()));
    let [stack, factors] = ways;
    printer.object(&json!({
        "out": out, "method": method.name(), "weights": weights, "sites": result.sites.len(), "rank": rank(&result),
        "errors": { "stack": stack, "factors": factors },
    }));
    Ok(Outcome::Done)
}

/// Refuses a place where something is.
fn absent(out: &Path) -> Result<()> {
    if out.exists() {
        let message = format!("{}: is there already", out.display());
        return Err(Advice::new(message, "choose another folder with --out").into());
    }
    Ok(())
}

/// Adapters that may be added up.
struct Parts {
    adapters: Vec<Adapter>,
    /// What they call their base.
    base: String,
    /// Whether its files hold matrices as `(d_in, d_out)`.
    transposed: bool,
}

impl Parts {
    /// Reads them.
    ///
    /// # Errors
    /// One that cannot be read, or is of another base or arithmetic than the first.
    fn read(folders: &[PathBuf]) -> Result<Self> {
        let adapters = folders.iter().map(|folder| Ok(peft::load(folder)?)).collect::<Result<Vec<_>>>()?;
        let of = |key: &str, read: &dyn Fn(&Path) -> Result<Option<String>>| -> Result<Option<String>> {
            let mut known: Option<(&PathBuf, String)> = None;
            for folder in folders {
                match (read(folder)?, &known) {
                    (Some(own), Some((first, theirs))) if own != *theirs => {
                        let message =
                            format!("{}: {key} is {own}, and of {}: {theirs}", folder.display(), first.display());
                        let hint = "products of adapters add up where base and arithmetic are the same";
                        return Err(Advice::new(message, hint).into());
                    }
                    (Some(own), None) => known = Some((folder, own)),
                    _ => {}
                }
            }
            Ok(known.map(|(_, value)| value))
        };
        let base = of("its base", &|folder| Ok(peft::base_name(folder)?))?.unwrap_or_default();
        of("its arithmetic", &arithmetic)?;
        let transposed = of("fan_in_fan_out", &|folder| {
            Ok(peft::survey(folder)?.config.get("fan_in_fan_out").and_then(Value::as_bool).map(|it| it.to_string()))
        })?;
        Ok(Self { adapters, base, transposed: transposed.as_deref() == Some("true") })
    }
}

/// The arithmetic that an adapter was trained in, where its folder is a run's.
fn arithmetic(folder: &Path) -> Result<Option<String>> {
    let path = folder.join(MANIFEST);
    if !path.exists() {
        return Ok(None);
    }
    let cannot = || format!("cannot read {}", path.display());
    let text = foreign::read_text(&path, foreign::DOCUMENT).with_context(cannot)?;
    let manifest: Value = serde_json::from_str(&text).with_context(cannot)?;
    Ok(manifest["arithmetic"].as_str().map(str::to_owned))
}

/// One weight for each of so many adapters.
fn weights_of(given: &[f64], count: usize) -> Result<Vec<f64>> {
    if given.is_empty() {
        return Ok(vec![1.0 / count as f64; count]);
    }
    if given.len() != count {
        let message = format!("--weights: {} for {count} adapters", given.len());
        return Err(Advice::new(message, "give one for each, in their order: --weights 0.5,0.25,0.25").into());
    }
    Ok(given.to_vec())
}

/// The largest rank of a site.
fn rank(adapter: &Adapter) -> usize {
    adapter.sites.values().map(|factors| factors.rank).max().unwrap_or(0)
}
