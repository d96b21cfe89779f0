//! `adapter_config.json`: which rank and scale it gives each site, and how it is written so that
//! every reader since PEFT 0.11, and every one that takes one rank and one alpha for all, finds the same sites with the
//! same scale.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::files::{PeftError, malformed};
use crate::lora::Adapter;
use crate::names::{self, PathPattern};

/// What the rank and scale of a site follow from.
pub(super) struct ScaleRule {
    rank: f64,
    alpha: f64,
    rescaled: bool,
    /// The first that matches a site replaces the rank.
    ranks: Vec<(PathPattern, f64)>,
    /// The first that matches a site replaces alpha.
    alphas: Vec<(PathPattern, f64)>,
}

impl ScaleRule {
    /// Reads the keys that matter; `path` only names the file in errors.
    pub(super) fn read(config: &Map<String, Value>, path: &Path) -> Result<Self, PeftError> {
        let number = |key: &str, default: f64| match config.get(key) {
            None => Ok(default),
            Some(value) => value.as_f64().ok_or_else(|| malformed(path, format!("{key} must be a number: {value}"))),
        };
        let patterns = |key: &str| match config.get(key) {
            None | Some(Value::Null) => Ok(Vec::new()),
            Some(Value::Object(entries)) => entries.iter().map(|(name, value)| entry(path, key, name, value)).collect(),
            Some(value) => Err(malformed(path, format!("{key} must map names to numbers: {value}"))),
        };
        let scaling = Self {
            // What PEFT assumes where the file is silent.
            rank: number("r", 8.0)?,
            alpha: number("lora_alpha", 8.0)?,
            rescaled: match config.get("use_rslora") {
                None | Some(Value::Null) => false,
                Some(Value::Bool(rescaled)) => *rescaled,
                // Python takes any text that is not empty for true.
                Some(value) => return Err(malformed(path, format!("use_rslora must be true or false: {value}"))),
            },
            ranks: patterns("rank_pattern")?,
            alphas: patterns("alpha_pattern")?,
        };
        // The defaults must hold by themselves, even where every site has a pattern.
        let all = [(scaling.rank, scaling.alpha)].into_iter();
        let all = all.chain(scaling.ranks.iter().map(|(_, rank)| (*rank, scaling.alpha)));
        for (rank, alpha) in all.chain(scaling.alphas.iter().map(|(_, alpha)| (scaling.rank, *alpha))) {
            let scale = scaling.scale(rank, alpha);
            if !(scale.is_finite() && rank >= 1.0 && rank.fract() == 0.0) {
                return Err(malformed(path, format!("r and lora_alpha give no scale: {rank}, {alpha}")));
            }
        }
        Ok(scaling)
    }

    /// Rank and scale of a site.
    pub(super) fn at(&self, site: &str) -> (usize, f32) {
        let first = |patterns: &[(PathPattern, f64)]| {
            patterns.iter().find(|(pattern, _)| pattern.matches(site)).map(|(_, value)| *value)
        };
        let (rank, alpha) = (first(&self.ranks).unwrap_or(self.rank), first(&self.alphas).unwrap_or(self.alpha));
        (rank as usize, self.scale(rank, alpha))
    }

    fn scale(&self, rank: f64, alpha: f64) -> f32 {
        (alpha / if self.rescaled { rank.sqrt() } else { rank }) as f32
    }
}

fn entry(path: &Path, key: &str, name: &str, value: &Value) -> Result<(PathPattern, f64), PeftError> {
    let pattern = PathPattern::ending(name).map_err(|error| malformed(path, format!("{key}: {error}")))?;
    let value = value.as_f64().ok_or_else(|| malformed(path, format!("{key}.{name} must be a number: {value}")))?;
    Ok((pattern, value))
}

/// The configuration of an adapter of one rank, whose scale is absorbed into `B`, so that alpha is that rank. Only the keys
/// that PEFT 0.11 knew: an older reader warns about any it does not.
/// Nothing says how the sites were chosen, only which they are.
pub(super) fn describe(adapter: &Adapter, base: &str, linear: &[String], fan_in_fan_out: bool) -> Value {
    let rank = adapter.sites.values().map(|factors| factors.rank).max().unwrap_or(0);
    let (targets, layers) = targets(adapter, linear);
    json!({
        "alpha_pattern": {},
        "auto_mapping": null,
        "base_model_name_or_path": base,
        "bias": "none",
        "fan_in_fan_out": fan_in_fan_out,
        "inference_mode": true,
        "init_lora_weights": true,
        "layer_replication": null,
        "layers_pattern": null,
        "layers_to_transform": layers,
        "loftq_config": {},
        "lora_alpha": rank,
        "lora_dropout": 0.0,
        "megatron_config": null,
        "megatron_core": "megatron.core",
        "modules_to_save": null,
        "peft_type": "LORA",
        "r": rank,
        "rank_pattern": {},
        "revision": null,
        "target_modules": targets,
        "task_type": "CAUSAL_LM",
        "use_dora": false,
        "use_rslora": false,
    })
}

/// `target_modules` and `layers_to_transform`: last parts of the sites' names where these name
/// exactly the adapted sites, or do so in some layers; else full names, also where the other sites are not known.
fn targets(adapter: &Adapter, linear: &[String]) -> (Vec<String>, Option<BTreeSet<usize>>) {
    let adapted = |site: &String| adapter.sites.contains_key(site);
    let short: BTreeSet<&str> = adapter.sites.keys().map(|site| names::last(site)).collect();
    let named = |site: &String| short.contains(names::last(site));
    let owned = || short.iter().map(|&name| name.to_owned()).collect();
    if linear.is_empty() {
        return (adapter.sites.keys().cloned().collect(), None);
    }
    if linear.iter().all(|site| adapted(site) || !named(site)) {
        return (owned(), None);
    }
    let layers: Option<BTreeSet<usize>> = adapter.sites.keys().map(|site| names::layer(site)).collect();
    match layers {
        Some(layers)
            if linear.iter().all(|site| {
                adapted(site) || !named(site) || names::layer(site).is_none_or(|layer| !layers.contains(&layer))
            }) =>
        {
            (owned(), Some(layers))
        }
        _ => (adapter.sites.keys().cloned().collect(), None),
    }
}
